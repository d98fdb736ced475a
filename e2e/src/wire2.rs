//! HTTP/2 as bytes: header fields that no client library would send. Go's server does not trim them, folds nothing, and has
//! its own checks.
//!
//! Only what a fuzzer needs (RFC 9113, RFC 7541): one stream at a time, header blocks of literals without any table, and of
//! the answer that it has ended, and its status where that is one of the static table's.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Client, Stream};
use crate::wire::{Head, Reply};

/// What a client begins with, and its empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A stream has a window of 64 KiB, and so has the connection: a new one is opened long before.
const MAX_STREAMS: u32 = 50;
/// The largest frame that a server may send without being asked for more.
const MAX_FRAME: usize = 1 << 14;

/// The status of a request that was reset.
pub const RESET: u16 = 0;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Flag of DATA and HEADERS.
const END_STREAM: u8 = 1;
/// Flag of HEADERS.
const END_HEADERS: u8 = 4;
/// Flag of SETTINGS and PING.
const ACK: u8 = 1;

/// A connection that is kept open for as long as the gateway keeps it.
pub struct Wire2 {
    client: Client,
    server_name: String,
    open: Option<(Box<dyn Stream>, u32)>,
}

impl Wire2 {
    /// Nothing is opened yet. `server_name` is what TLS asks for, and the authority of the requests.
    pub fn new(client: &Client, server_name: &str) -> Wire2 {
        Wire2 { client: client.with_protocol(b"h2"), server_name: server_name.to_owned(), open: None }
    }

    /// Sends a request and waits for the end of its answer. A request that the server resets, or closes the connection for, has
    /// the status [`RESET`]; what breaks in any other way is an error. The next request has a new connection where it must.
    pub async fn send(&mut self, head: &Head) -> Result<Reply> {
        let (mut stream, id) = match self.open.take() {
            Some((stream, id)) => (stream, id),
            None => {
                let mut stream = self.client.open(&self.server_name).await?;
                stream.write_all(PREFACE).await.context("sending the preface")?;
                (stream, 1)
            }
        };
        let block = self.block(head);
        if block.len() > MAX_FRAME {
            bail!("too large for one frame");
        }
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &block)).await.context("sending")?;
        stream.flush().await.context("sending")?;
        let (reply, stays) = answer(&mut *stream, id).await?;
        if stays && id < 2 * MAX_STREAMS {
            self.open = Some((stream, id + 2));
        }
        Ok(reply)
    }

    fn block(&self, head: &Head) -> Vec<u8> {
        let mut block = Vec::new();
        let mut field = |name: &[u8], value: &[u8]| {
            // A literal that is never indexed, with a new name (RFC 7541 §6.2.3).
            block.push(0x10);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text);
            }
        };
        field(b":method", &head.method);
        field(b":scheme", b"https");
        field(b":authority", self.server_name.as_bytes());
        field(b":path", &head.target);
        for line in &head.lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let name = line[..colon].to_ascii_lowercase();
            if name != b"host" {
                let value = line.get(colon + 1..).unwrap_or_default();
                // The one space that is written behind a colon; any other white space is the value's.
                field(&name, value.strip_prefix(b" ").unwrap_or(value));
            }
        }
        block
    }
}

impl fmt::Debug for Wire2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire2")
            .field("client", &self.client)
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

/// Reads frames until the stream ends: its answer, and whether the connection stays.
async fn answer(stream: &mut dyn Stream, id: u32) -> Result<(Reply, bool)> {
    let mut reply = Reply { status: 0, text: String::new() };
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.context("reading a frame")?;
        let [a, b, c, kind, flags, number @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await.context("reading a frame's content")?;
        let mine = u32::from_be_bytes(number) & 0x7FFF_FFFF == id;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let echoed: &[u8] = if kind == PING { &payload } else { &[] };
                stream.write_all(&frame(kind, ACK, 0, echoed)).await.context("acknowledging")?;
                stream.flush().await.context("acknowledging")?;
            }
            HEADERS if mine => reply.status = status(payload.first().copied().unwrap_or(0)),
            DATA if mine => reply.text.push_str(&String::from_utf8_lossy(&payload)),
            RST_STREAM if mine => return Ok((Reply { status: RESET, ..reply }, true)),
            GOAWAY => return Ok((Reply { status: RESET, ..reply }, false)),
            _ => {}
        }
        if mine && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Ok((reply, true));
        }
    }
}

/// The first field of an answer is its status: 200, 400 and 404 are in the static table (RFC 7541, appendix A), the others
/// are not told apart.
fn status(first: u8) -> u16 {
    match first {
        0x88 => 200,
        0x8C => 400,
        0x8D => 404,
        _ => 499,
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1); the bit before it is 0: no Huffman coding.
fn push_length(out: &mut Vec<u8>, length: usize) {
    let low = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if length < 0x7F {
        out.push(low(length));
        return;
    }
    out.push(0x7F);
    let mut rest = length - 0x7F;
    while rest >= 0x80 {
        out.push(low(rest & 0x7F) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_hpack_wants_them() {
        let written = |length| {
            let mut out = Vec::new();
            push_length(&mut out, length);
            out
        };
        assert_eq!(written(10), [10]);
        assert_eq!(written(0x7F), [0x7F, 0]);
        // RFC 7541, C.1.2 has 1337 with five bits; this is the same with seven.
        assert_eq!(written(1337), [0x7F, 0xBA, 0x09]);
    }
}
