//! A client of the gateway: HTTP/1.1, plain or TLS, with or without a client certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::Pieces;
use crate::certificates::{Authority, Identity, client_configuration};

/// How long one ordinary request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one request with a large body may take.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// A request's body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Something to read from and write to: a TCP connection or TLS on it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One way to reach the gateway. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Body>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The response headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Client {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Client {
        Client { address, tls: None }
    }

    /// With TLS: trusts the authority and shows the identity, if any.
    pub fn tls(address: SocketAddr, authority: &Authority, identity: Option<&Identity>) -> Result<Client> {
        let connector = TlsConnector::from(client_configuration(authority, identity)?);
        Ok(Client { address, tls: Some(connector) })
    }

    /// The same way with TLS asking for this protocol (ALPN), such as `h2`; without TLS nothing is asked.
    #[must_use]
    pub fn with_protocol(&self, protocol: &[u8]) -> Client {
        let tls = self.tls.as_ref().map(|connector| {
            let mut configuration = ClientConfig::clone(connector.config());
            configuration.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(configuration))
        });
        Client { address: self.address, tls }
    }

    /// An open byte stream to `host`.
    pub async fn open(&self, host: &str) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(connector) => {
                let name = ServerName::try_from(host.to_owned())?;
                Ok(Box::new(connector.connect(name, stream).await.context("TLS handshake")?))
            }
        }
    }

    /// A connection for several requests to `host`.
    pub async fn connect(&self, host: &str) -> Result<Connection> {
        let stream = TokioIo::new(self.open(host).await?);
        let (sender, connection) = http1::Builder::new().preserve_header_case(true).handshake(stream).await?;
        // What breaks the connection is seen by the requests on it.
        tokio::spawn(connection);
        Ok(Connection { sender })
    }

    /// One request on a connection of its own, with an empty body.
    pub async fn send(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let work = async { self.connect(host).await?.send(request(method, host, path, headers, empty())?).await };
        tokio::time::timeout(PATIENCE, work).await.with_context(|| format!("no answer to {method} {host}{path}"))?
    }

    /// `send` with GET.
    pub async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send("GET", host, path, headers).await
    }

    /// Sends these bytes and returns the status of the answer and its whole text, for requests no client library would
    /// make. The text has to ask for `Connection: close`.
    pub async fn raw(&self, host: &str, text: &str) -> Result<(u16, String)> {
        let work = async {
            let mut stream = self.open(host).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            // Some servers close without TLS's goodbye: what came before counts.
            if let Err(error) = stream.read_to_end(&mut answer).await
                && answer.is_empty()
            {
                return Err(error.into());
            }
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
            Ok((status.with_context(|| format!("no status in {answer:?}"))?, answer))
        };
        tokio::time::timeout(PATIENCE, work).await.context("no answer to a raw request")?
    }
}

impl Connection {
    /// Sends one request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer> {
        let work = async {
            let (head, body) = self.start(request).await?.into_parts();
            let body = body.collect().await.context("reading the body")?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(LONG_PATIENCE, work).await.context("no whole answer")?
    }

    /// Sends one request and leaves the body to the caller.
    pub async fn start(&mut self, request: Request<Body>) -> Result<Response<Incoming>> {
        let work = async {
            self.sender.ready().await.context("connection closed")?;
            self.sender.send_request(request).await.context("sending a request")
        };
        tokio::time::timeout(LONG_PATIENCE, work).await.context("no answer")?
    }
}

/// The next piece of a body; none at its end.
pub async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.context("the body stands still")?;
    let data = frame.transpose().context("reading a body")?.map(|frame| frame.into_data().unwrap_or_default());
    Ok(data)
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The headers that the sample service saw (names in lower case), when it is its answer.
    pub fn seen_headers(&self) -> Result<Vec<(String, String)>> {
        let json = self.json()?;
        let headers = json.get("headers").context("no answer of a sample service")?;
        serde_json::from_value(headers.clone()).context("reading the headers of an answer")
    }

    /// Which sample service answered, if one did.
    pub fn service(&self) -> Option<String> {
        Some(self.json().ok()?.get("service")?.as_str()?.to_owned())
    }
}

/// A request for a host of the gateway.
pub fn request(method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Result<Request<Body>> {
    if !path.starts_with('/') {
        bail!("not a path: {path}");
    }
    let mut builder = Request::builder().method(method).uri(path).header(HOST, host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body).context("building a request")
}

/// No body.
pub fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// The test pattern, `bytes` long, sent in pieces with chunked encoding.
pub fn patterned(bytes: u64) -> Body {
    let pieces = stream::iter(Pieces { offset: 0, end: bytes }.map(|data| Ok(Frame::data(data))));
    StreamBody::new(pieces).boxed_unsync()
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).field("tls", &self.tls.is_some()).finish()
    }
}
