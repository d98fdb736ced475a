//! HTTP/1.1 as bytes: requests that no client library would send, and what of them arrives at a backend.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Client, Stream};

/// The largest message head that is read, in bytes. Traefik's own limit is far above anything sent here.
const MAX_HEAD: usize = 64 * 1024;

/// The head of a request, in pieces that are put on the wire as they are, or as they came from there.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Head {
    /// The method.
    pub method: Vec<u8>,
    /// The request target.
    pub target: Vec<u8>,
    /// The header lines without their line ends.
    pub lines: Vec<Vec<u8>>,
}

impl Head {
    /// A request without header lines.
    pub fn new(method: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Head {
        Head { method: method.into(), target: target.into(), lines: Vec::new() }
    }

    /// With one more header line.
    #[must_use]
    pub fn line(mut self, line: impl Into<Vec<u8>>) -> Head {
        self.lines.push(line.into());
        self
    }

    /// What is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.method, b" ".as_slice(), &self.target, b" HTTP/1.1\r\n"].concat();
        for line in &self.lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Takes a received head apart, leniently: everything between the first and the last space of the first line is the
    /// target. Nothing for what has no such line.
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let text = bytes.strip_suffix(b"\r\n\r\n").unwrap_or(bytes);
        let mut lines = split_lines(text);
        let first = lines.next()?;
        let start = first.iter().position(|byte| *byte == b' ')?;
        let end = first.iter().rposition(|byte| *byte == b' ').filter(|end| *end > start)?;
        Some(Head {
            method: first[..start].to_vec(),
            target: first[start + 1..end].to_vec(),
            lines: lines.map(<[u8]>::to_vec).collect(),
        })
    }

    /// The headers as Go's server, and so the plugin, has them: a line that begins with white space is a part of the one before,
    /// after a space; white space is cut off at the ends of lines, but not of what they make together.
    pub fn unfolded(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for line in &self.lines {
            match (headers.last_mut(), line.first()) {
                (Some((_, value)), Some(b' ' | b'\t')) => {
                    value.push(b' ');
                    value.extend_from_slice(line.trim_ascii());
                }
                _ => {
                    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                    let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
                    headers.push((line[..colon].to_vec(), value.to_vec()));
                }
            }
        }
        headers
    }

    /// The header lines as name and value, the value without the space around it. A line without a colon is all name.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            (line[..colon].trim_ascii(), line.get(colon + 1..).unwrap_or_default().trim_ascii())
        })
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// An answer, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Head and body as text.
    pub text: String,
}

/// A connection that is kept open for as long as the gateway keeps it.
pub struct Wire {
    client: Client,
    server_name: String,
    open: Option<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

impl Wire {
    /// Nothing is opened yet. `server_name` is what TLS asks for.
    pub fn new(client: Client, server_name: &str) -> Wire {
        Wire { client, server_name: server_name.to_owned(), open: None, buffer: Vec::new() }
    }

    /// Sends a request and reads the whole answer. A connection that breaks is an error, and the next request has a new one.
    pub async fn send(&mut self, head: &Head) -> Result<Reply> {
        self.send_with(head, &[]).await
    }

    /// `send` with something behind the head.
    pub async fn send_with(&mut self, head: &Head, body: &[u8]) -> Result<Reply> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => {
                self.buffer.clear();
                self.client.open(&self.server_name).await?
            }
        };
        stream.write_all(&[&head.bytes(), body].concat()).await.context("sending")?;
        stream.flush().await.context("sending")?;
        let (reply, stays) = self.reply(&mut *stream, head.method == b"HEAD").await?;
        // More than one answer to one request: nothing that follows could be told apart.
        if stays && self.buffer.is_empty() {
            self.open = Some(stream);
        }
        Ok(reply)
    }

    async fn reply(&mut self, stream: &mut dyn Stream, bodiless: bool) -> Result<(Reply, bool)> {
        let end = loop {
            if let Some(end) = end_of_head(&self.buffer) {
                break end;
            }
            if self.buffer.len() > MAX_HEAD || stream.read_buf(&mut self.buffer).await.context("reading")? == 0 {
                bail!("no answer: {}", self.buffer.escape_ascii());
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        let field = |name: &str| {
            head.lines().filter_map(|line| line.split_once(':')).find(|(it, _)| it.eq_ignore_ascii_case(name))
        };
        let length = field("content-length").and_then(|(_, value)| value.trim().parse::<usize>().ok());
        let closes = field("connection").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("close"));
        let chunked = field("transfer-encoding").is_some();
        let whole = |buffer: &[u8]| match length {
            _ if bodiless => Some(end),
            Some(length) => Some(end + length).filter(|whole| buffer.len() >= *whole),
            None if chunked => end_of_chunks(buffer, end),
            None => None,
        };
        let framed = bodiless || chunked || length.is_some();
        let used = loop {
            if let Some(used) = whole(&self.buffer) {
                break used;
            }
            match stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                // Some servers close without TLS's goodbye: what came before counts.
                Ok(0) | Err(_) if !framed => break self.buffer.len(),
                Ok(0) => bail!("half a body"),
                Err(error) => return Err(error).context("reading a body"),
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..used]).into_owned();
        self.buffer.drain(..used);
        Ok((Reply { status, text }, framed && !closes))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("client", &self.client).field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

/// Where the first message head in the bytes ends, its empty line included.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Where a chunked body that begins at `from` ends, if all of it is there. Nobody sends trailers here.
fn end_of_chunks(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let digits = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&rest[..digits]).ok()?, 16).ok()?;
        at = at.checked_add(digits + 4)?.checked_add(size)?;
        if size == 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_with_the_empty_one() {
        let body = b"head3\r\nabc\r\n0\r\n\r\nnext";
        assert_eq!(end_of_chunks(body, 4), Some(17));
        assert_eq!(end_of_chunks(&body[..16], 4), None);
        assert_eq!(end_of_chunks(&body[..9], 4), None);
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head::new("GET", "/a b%").line("Host: x").line(b"X_\xff : \t1 ".as_slice());
        assert_eq!(Head::parse(&head.bytes()).as_ref(), Some(&head));
        assert_eq!(head.headers().nth(1), Some((b"X_\xff".as_slice(), b"1".as_slice())));
        assert_eq!(Head::parse(b"GET\r\n\r\n"), None);
        let folded = Head::new("GET", "/").line("A: b").line("\t ").line(" c").line("D:");
        let unfolded = [(b"A".to_vec(), b"b  c".to_vec()), (b"D".to_vec(), Vec::new())];
        assert_eq!(folded.unfolded(), unfolded);
    }
}
