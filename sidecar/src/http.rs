//! The sidecar's own endpoint: `GET /metrics` for Prometheus, `GET /healthz` for whoever watches the process, `GET /readyz` for
//! whoever wants to know whether it has done its first work and goes on with it.
//!
//! Plain HTTP without credentials, so it listens only where it is told to. Requests are bounded in number and in time; a
//! scraper that hangs costs a place and nothing else.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// A connection is over after this long, whatever is on it.
const LONGEST: Duration = Duration::from_secs(30);
/// A request's head is there by then.
const HEAD: Duration = Duration::from_secs(5);
/// A pause when no connection can be taken: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);
/// What Prometheus takes as its text format, version 1.0 of `OpenMetrics`.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What the endpoint tells.
pub trait Report: Send + Sync + 'static {
    /// All metrics, as text.
    fn metrics(&self) -> String;

    /// Whether everything that is followed was read and is kept; else why not, in one line.
    fn ready(&self) -> Result<(), String>;
}

/// A place to listen at, taken at once so that a wrong address is an error at the start.
pub struct Endpoint {
    listener: std::net::TcpListener,
}

// === impl Endpoint ===

impl Endpoint {
    /// Takes the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Where it listens: with the port that the system chose, if it was to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever; an error is one of the start.
    pub async fn serve(self, report: Arc<dyn Report>) -> io::Result<Infallible> {
        let listener = TcpListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed, so always granted.
            let place = places.clone().acquire_owned().await;
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let report = report.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(&request, &*report);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(true);
                // A client that breaks off is its own business.
                let _ = timeout(LONGEST, server.serve_connection(TokioIo::new(stream), service)).await;
                drop(place);
            });
        }
    }
}

fn answer(request: &Request<Incoming>, report: &dyn Report) -> Response<Full<Bytes>> {
    let text = |status, kind, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => text(StatusCode::OK, METRICS, report.metrics()),
        (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match report.ready() {
            Ok(()) => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
        (_, "/metrics" | "/healthz" | "/readyz") => {
            text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned())
        }
        _ => text(StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    struct Fixed;

    impl Report for Fixed {
        fn metrics(&self) -> String {
            "a 1\n# EOF\n".to_owned()
        }

        fn ready(&self) -> Result<(), String> {
            Err("not yet".to_owned())
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_what_it_has_and_says_what_it_has_not() {
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.address().unwrap();
        tokio::spawn(endpoint.serve(Arc::new(Fixed)));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let metrics = ask(address, &get("/metrics")).await;
        assert!(metrics.starts_with("HTTP/1.1 200 ") && metrics.ends_with("a 1\n# EOF\n"), "{metrics}");
        assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200 "));
        let ready = ask(address, &get("/readyz")).await;
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("not yet\n"), "{ready}");
        assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
        assert!(ask(address, &get("/metrics").replace("GET", "POST")).await.starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "\u{1}\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    }
}
