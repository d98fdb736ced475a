//! HTTP/1.1 as bytes: requests that no client library would send, and heads that are read whole.
//!
//! Paths with raw quotes, headers twice or in UTF-8, methods in lower case: the proxy must see them as generated.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Stream;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest head that is read, in bytes, and the most headers in it.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// Header lines: name as sent, and value.
pub type Lines = Vec<(String, Vec<u8>)>;

/// An open connection for one request after the other.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub headers: Lines,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection cannot be used again.
    pub last: bool,
}

impl Wire {
    /// Takes over a stream on which nothing was sent yet.
    pub fn new(stream: Box<dyn Stream>) -> Wire {
        Wire { stream, buffer: Vec::new() }
    }

    /// Sends a request's bytes and reads the answer, or `None` if the other side closed without one.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Option<Reply>> {
        let work = async {
            // The other side may have closed after an earlier answer; then nothing can be read either.
            let sent = self.stream.write_all(request).await.is_ok() && self.stream.flush().await.is_ok();
            let without_body = request.starts_with(b"HEAD ");
            let Some(length) = self.head().await? else { return Ok(None) };
            if !sent {
                self.buffer.clear();
            }
            self.reply(length, without_body).await.map(Some)
        };
        tokio::time::timeout(PATIENCE, work).await.context("no answer")?
    }

    /// Reads until a head is whole; its length. `None` if the stream ends before its first byte.
    async fn head(&mut self) -> Result<Option<usize>> {
        loop {
            if let Some(end) = end_of_head(&self.buffer) {
                return Ok(Some(end));
            }
            if self.buffer.len() > MAX_HEAD {
                bail!("an endless head");
            }
            if !self.more().await {
                return if self.buffer.is_empty() { Ok(None) } else { bail!("the answer breaks off in its head") };
            }
        }
    }

    async fn reply(&mut self, head: usize, without_body: bool) -> Result<Reply> {
        let (status, headers) = {
            let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut lines);
            parsed.parse(&self.buffer[..head]).context("reading an answer's head")?;
            (parsed.code.context("an answer without a status")?, owned(parsed.headers))
        };
        self.buffer.drain(..head);
        let body = if without_body || matches!(status, 100..=199 | 204 | 304) {
            Vec::new()
        } else if value(&headers, "transfer-encoding").is_some() {
            self.chunks().await?
        } else {
            let length = value(&headers, "content-length").context("an answer of unknown length")?;
            let length = std::str::from_utf8(length)?.parse().context("reading a length")?;
            self.take(length).await?
        };
        let last = value(&headers, "connection").is_some_and(|it| it.eq_ignore_ascii_case(b"close"));
        Ok(Reply { status, headers, body, last })
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                bail!("a chunk of another size than announced");
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|it| it == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8(line)?);
            }
            if !self.more().await {
                bail!("the answer breaks off in a line");
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more().await {
                bail!("the answer breaks off in its body");
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads some bytes; false at the end. A stream that breaks has ended: what came before it counts.
    async fn more(&mut self) -> bool {
        let mut piece = [0; 8192];
        match self.stream.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                true
            }
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// Where the body begins, if the head is whole.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|it| it == b"\r\n\r\n").map(|at| at + 4)
}

/// The last value of a header.
pub(super) fn value<'a>(lines: &'a Lines, name: &str) -> Option<&'a [u8]> {
    lines.iter().rev().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

/// Parsed lines, kept.
pub(super) fn owned(headers: &[httparse::Header<'_>]) -> Lines {
    headers.iter().map(|it| (it.name.to_owned(), it.value.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn replies(answers: &'static [u8], requests: &[&[u8]]) -> Vec<Option<Reply>> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(answers).await.unwrap();
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            theirs.shutdown().await.unwrap();
            theirs.read_to_end(&mut seen).await.unwrap();
        });
        let mut wire = Wire::new(Box::new(ours));
        let mut found = Vec::new();
        for request in requests {
            found.push(wire.ask(request).await.unwrap());
        }
        drop(wire);
        server.await.unwrap();
        found
    }

    #[tokio::test]
    async fn answers_of_known_length_in_chunks_and_without_a_body_follow_each_other() {
        let answers = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\
            HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\
            HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let found =
            replies(answers, &[b"GET / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n", b"GET /", b"GET /"]).await;
        let seen: Vec<_> =
            found.iter().map(|it| it.as_ref().map(|it| (it.status, it.body.as_slice(), it.last))).collect();
        assert_eq!(
            seen,
            [Some((200, b"ok".as_slice(), false)), Some((200, b"", false)), Some((403, b"abc", true)), None]
        );
    }
}
