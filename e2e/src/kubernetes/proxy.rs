//! What may stand between a sidecar and its API server, and lie.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ApiServer;
use crate::client::{Body, Client};

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It hands it on.
    Honest,
    /// It is a server that has lost everything: lists are empty, watches from before are too old, new ones see nothing.
    Empty,
    /// Everything is answered by a page for people.
    Garbage,
    /// Watches are too old, and lists break off in the middle.
    Torn,
    /// Connections are taken and nothing is ever answered.
    Silent,
    /// Connections are closed at once.
    Closed,
}

/// How an API server ends a watch from a version that it has forgotten.
const TOO_OLD: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version","reason":"Expired","code":410}}"#,
    "\n"
);

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts it, honest, in front of an API server.
    pub async fn start(server: &ApiServer) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the proxy")?;
        let address = listener.local_addr()?;
        let (manner, present) = watch::channel(Manner::Honest);
        let client = server.client()?;
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let (client, mut present) = (client.clone(), present.clone());
                tokio::spawn(async move {
                    let manner = *present.borrow_and_update();
                    if manner == Manner::Closed {
                        return;
                    }
                    let answer = service_fn(move |request| answer(request, client.clone(), manner));
                    let serve =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // Another manner is for new connections: the present ones end.
                    tokio::select! {
                        _ = serve => {}
                        _ = present.changed() => {}
                    }
                });
            }
        });
        Ok(Proxy { address, manner, task })
    }

    /// Its address, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it behaves so; what was open is closed.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(request: Request<Incoming>, client: Client, manner: Manner) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let is_list = !query.split('&').any(|pair| pair == "watch=true");
    let answered = match manner {
        Manner::Honest | Manner::Closed => hand_on(request, &client).await,
        Manner::Torn if !is_list => Ok(Response::new(text(TOO_OLD))),
        Manner::Empty if is_list => Ok(Response::new(text(&empty_list(request.uri().path())))),
        Manner::Empty if query.split('&').any(|pair| pair == "resourceVersion=1") => {
            Ok(Response::new(StreamBody::new(stream::pending()).boxed_unsync()))
        }
        Manner::Empty => Ok(Response::new(text(TOO_OLD))),
        Manner::Garbage => Ok(Response::new(text("<html><body>Please log in</body></html>\n"))),
        Manner::Torn => torn(request, &client).await,
        Manner::Silent => std::future::pending().await,
    };
    Ok(answered.unwrap_or_else(|error| {
        let mut failed = Response::new(text(&format!("{error:#}")));
        *failed.status_mut() = StatusCode::BAD_GATEWAY;
        failed
    }))
}

async fn hand_on(request: Request<Incoming>, client: &Client) -> Result<Response<Body>> {
    let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
    let response = client.connect("localhost").await?.start(request).await?;
    Ok(response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
}

/// The first half of the true answer, as if that were all.
async fn torn(request: Request<Incoming>, client: &Client) -> Result<Response<Body>> {
    let (mut head, body) = hand_on(request, client).await?.into_parts();
    let whole = body.collect().await?.to_bytes();
    head.headers.remove(hyper::header::CONTENT_LENGTH);
    let half: Bytes = whole.slice(..whole.len() / 2);
    Ok(Response::from_parts(head, Full::from(half).map_err(|never| match never {}).boxed_unsync()))
}

fn empty_list(path: &str) -> String {
    let kind = match path.rsplit('/').next() {
        Some("services") => "ServiceList",
        Some("nodes") => "NodeList",
        _ => "EndpointSliceList",
    };
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}).to_string()
}

fn text(text: &str) -> Body {
    Full::from(text.to_owned()).map_err(|never| match never {}).boxed_unsync()
}
