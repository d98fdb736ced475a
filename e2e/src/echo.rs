//! A backend that takes whatever comes, byte for byte, and lets somebody look at it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::wire::{Head, end_of_head};

/// The largest head or body that is taken.
const MAX_MESSAGE: usize = 1 << 20;

/// Looks at every request that arrives, before it is answered.
pub type Observer = Arc<dyn Fn(&Head) + Send + Sync>;

/// A running echo backend: answers 200 with the received head as its body. Dropping it ends it.
pub struct Echo {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Echo {
    /// Starts it on a port of the kernel's choice.
    pub async fn start(observer: Observer) -> Result<Echo> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding an echo backend")?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, or the like: give others the time to close some.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                // A broken connection is the other side's matter.
                tokio::spawn(serve(stream, Arc::clone(&observer), Arc::clone(&counter)));
            }
        });
        Ok(Echo { address, received, task })
    }

    /// The URL that Traefik reaches it by.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echo").field("address", &self.address).field("received", &self.received).finish_non_exhaustive()
    }
}

async fn serve(mut stream: TcpStream, observer: Observer, counter: Arc<AtomicU64>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_head(&buffer) {
                break end;
            }
            if buffer.len() > MAX_MESSAGE || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        counter.fetch_add(1, Ordering::SeqCst);
        let raw = buffer[..end].to_vec();
        let head = Head::parse(&raw);
        if let Some(head) = &head {
            observer(head);
        }
        let body = end_of_body(&mut stream, &mut buffer, end, head.as_ref()).await?;
        buffer.drain(..body);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", raw.len());
        let bodiless = head.is_some_and(|head| head.method == b"HEAD");
        stream.write_all(answer.as_bytes()).await?;
        stream.write_all(if bodiless { b"" } else { &raw }).await?;
    }
}

/// Reads the body that belongs to a head; where it ends in the buffer.
async fn end_of_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, from: usize, head: Option<&Head>) -> Result<usize> {
    let field = |name: &str| {
        head?.headers().find(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.to_vec())
    };
    let chunked = field("transfer-encoding").is_some();
    let length = field("content-length").and_then(|value| String::from_utf8(value).ok()?.parse::<usize>().ok());
    let length = length.unwrap_or(0).min(MAX_MESSAGE);
    loop {
        if chunked {
            if let Some(at) = buffer[from..].windows(5).position(|window| window == b"0\r\n\r\n") {
                return Ok(from + at + 5);
            }
        } else if buffer.len() >= from + length {
            return Ok(from + length);
        }
        if buffer.len() > from + MAX_MESSAGE || stream.read_buf(buffer).await? == 0 {
            anyhow::bail!("a body without its end");
        }
    }
}
