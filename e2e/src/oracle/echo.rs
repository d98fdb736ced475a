//! The service behind a sidecar: answers with the bytes of the head that reached it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wire::{Lines, Reply, end_of_head, owned, value};

/// A header that only the service's answers have: tells them from the proxy's own.
const MARK: &str = "x-oracle-echo";

/// Where the service puts the head that it saw when the answer must not have a body.
const SEEN: &str = "x-oracle-seen";

/// A running service; dropping it ends it.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// What reached the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The method.
    pub method: String,
    /// The request target, as in the request line.
    pub target: String,
    /// The header lines.
    pub headers: Lines,
}

impl Echo {
    /// Starts it on a port of the kernel's choice.
    pub async fn start() -> Result<Echo> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding an echo")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                    // Out of descriptors, or the like: give others the time to close some.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Echo { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Arrived {
    /// What an answer says of the request, if it is the service's answer.
    pub fn of(reply: &Reply) -> Result<Option<Arrived>> {
        if value(&reply.headers, MARK).is_none() {
            return Ok(None);
        }
        let head = if reply.body.is_empty() {
            unhex(value(&reply.headers, SEEN).context("an answer without the head that was seen")?)?
        } else {
            reply.body.clone()
        };
        let mut lines = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Request::new(&mut lines);
        parsed.parse(&head).with_context(|| format!("reading {:?}", String::from_utf8_lossy(&head)))?;
        let (method, target) = (parsed.method.context("no method")?, parsed.path.context("no target")?);
        Ok(Some(Arrived { method: method.to_owned(), target: target.to_owned(), headers: owned(parsed.headers) }))
    }
}

/// Answers heads until the other side closes. The requests of the test have no bodies.
async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        while let Some(end) = end_of_head(&buffer) {
            let head: Vec<u8> = buffer.drain(..end).collect();
            let answer = answer(&head);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => buffer.extend_from_slice(&piece[..read]),
        }
    }
}

fn answer(head: &[u8]) -> Vec<u8> {
    if head.starts_with(b"HEAD ") {
        return format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\n{SEEN}: {}\r\ncontent-length: 0\r\n\r\n", hex(head)).into();
    }
    let mut answer = format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\ncontent-length: {}\r\n\r\n", head.len()).into_bytes();
    answer.extend_from_slice(head);
    answer
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &[u8]) -> Result<Vec<u8>> {
    let pairs = std::str::from_utf8(text)?.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::wire::Wire;

    #[tokio::test]
    async fn tells_what_reached_it_with_and_without_a_body() {
        let echo = Echo::start().await.unwrap();
        let mut wire = Wire::new(Box::new(TcpStream::connect(echo.address()).await.unwrap()));
        for method in ["GET", "HEAD"] {
            let request = format!("{method} /a%2fb?c HTTP/1.1\r\nX-A: 1\r\nx-a: \u{e9}\r\n\r\n");
            let reply = wire.ask(request.as_bytes()).await.unwrap().unwrap();
            let arrived = Arrived::of(&reply).unwrap().unwrap();
            assert_eq!((arrived.method.as_str(), arrived.target.as_str()), (method, "/a%2fb?c"));
            let headers = [("X-A".to_owned(), b"1".to_vec()), ("x-a".to_owned(), "\u{e9}".into())];
            assert_eq!(arrived.headers, headers);
        }
    }

    #[test]
    fn a_proxys_own_answer_is_not_the_services() {
        let reply = Reply { status: 403, headers: Lines::new(), body: b"RBAC: access denied".to_vec(), last: false };
        assert_eq!(Arrived::of(&reply).unwrap(), None);
    }
}
