//! A sample service: says what reached it, and streams in every way a gateway can break.
//!
//! It runs inside our own process, so that a test can ask it directly how many requests it has seen.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::pattern;

/// Pause between the events of `/events`.
pub const EVENT_PAUSE: Duration = Duration::from_millis(200);
/// How many events `/events` sends.
pub const EVENTS: u32 = 3;
/// The largest piece a streamed body is sent in.
const PIECE_BYTES: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running sample service; dropping it ends it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Starts the service on a port of the kernel's choice. `instance` tells several of one service apart.
    pub async fn start(service: &str, instance: &str) -> Result<Backend> {
        Backend::start_at((Ipv4Addr::LOCALHOST, 0).into(), service, instance).await
    }

    /// The same at this address.
    pub async fn start_at(address: SocketAddr, service: &str, instance: &str) -> Result<Backend> {
        let listener = TcpListener::bind(address).await.context("binding a backend")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let me = Arc::new(Me { service: service.into(), instance: instance.into(), requests: Arc::clone(&requests) });
        let task = tokio::spawn(accept(listener, me));
        Ok(Backend { address, requests, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have reached it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Me {
    service: String,
    instance: String,
    requests: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, me: Arc<Me>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the like: give others the time to close some.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let me = Arc::clone(&me);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let me = Arc::clone(&me);
                async move { Ok::<_, Infallible>(answer(&me, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A broken connection is the other side's matter; the tests look at what the client saw.
            let _ = connection.await;
        });
    }
}

async fn answer(me: &Me, request: Request<Incoming>) -> Response<Body> {
    me.requests.fetch_add(1, Ordering::Relaxed);
    match request.uri().path() {
        "/v1/small" => status(StatusCode::OK, "ok"),
        "/ws" => web_socket(request),
        "/events" => events(),
        "/stream" => streamed(query_number(&request, "bytes")),
        "/truncated" => truncated(),
        "/upload" => upload(request).await,
        path if path.starts_with("/status/") => coded(path),
        _ => echo(me, request).await,
    }
}

async fn echo(me: &Me, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Read to the end, or the connection could not be used again.
    let bytes = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let headers: Vec<Value> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json_answer(&json!({
        "service": me.service,
        "instance": me.instance,
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "headers": headers,
        "body": bytes,
    }))
}

/// Answers with the status that the path ends in, and names it in a header too.
fn coded(path: &str) -> Response<Body> {
    let code = path.rsplit('/').next().and_then(|code| code.parse().ok()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = status(code, code.as_str());
    if let Ok(value) = hyper::header::HeaderValue::from_str(code.as_str()) {
        response.headers_mut().insert("x-status", value);
    }
    response
}

async fn upload(request: Request<Incoming>) -> Response<Body> {
    let mut check = pattern::Check::default();
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => check.take(frame.data_ref().map_or(&[], |data| data.as_ref())),
            Err(error) => return status(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    json_answer(&json!({"bytes": check.bytes(), "exact": check.exact()}))
}

fn streamed(bytes: u64) -> Response<Body> {
    let pieces = stream::iter(Pieces { offset: 0, end: bytes }.map(|data| Ok(Frame::data(data))));
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

fn events() -> Response<Body> {
    let events = stream::unfold(0, |sent| async move {
        if sent == EVENTS {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(EVENT_PAUSE).await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("data: {sent}\n\n")))), sent + 1))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/event-stream"));
    response
}

/// Sends one piece of a chunked body and breaks the connection without the last chunk.
fn truncated() -> Response<Body> {
    let pieces = stream::unfold(0, |sent| async move {
        match sent {
            0 => Some((Ok(Frame::data(pattern::piece(0, 4096))), 1)),
            1 => {
                // The first piece has to be on the wire, or there would be no half answer to break.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Err(io::Error::other("broken on purpose")), 2))
            }
            _ => None,
        }
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

fn web_socket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes())) else {
        return status(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, key)
        .body(full(Bytes::new()))
        .unwrap_or_default()
}

/// The pattern cut into pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) offset: u64,
    pub(crate) end: u64,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let data = pattern::piece(self.offset, left.min(PIECE_BYTES));
        self.offset += data.len() as u64;
        (!data.is_empty()).then_some(data)
    }
}

fn query_number(request: &Request<Incoming>, name: &str) -> u64 {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

fn json_answer(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(value.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
