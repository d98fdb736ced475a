//! The gateway as the guard sees it: one narrow trait, and its one implementation on the http-wasm interface.
//!
//! Names and values cross the border by copy, so each method is one host call (two where the answer is longer than the
//! binding's 2 KB buffer) and the guard asks for nothing that it does not need. No method reads a body or enables a
//! feature: buffering would break streams and WebSockets (traefik §3.6).

use crate::config::Level;

/// What the guard wants from the gateway for one request.
pub trait Host {
    /// The names of the request's headers: in lower case, `host` included, each once.
    fn header_names(&self) -> Vec<Vec<u8>>;
    /// The values of a request header, one by one and not joined.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>>;
    /// Sets a request header to one value: it reaches the access log and, when the request is forwarded, the backend.
    fn set_header(&self, name: &str, value: &str);
    /// Removes a request header.
    fn remove_header(&self, name: &[u8]);
    /// The request's method.
    fn method(&self) -> Vec<u8>;
    /// The escaped path, and `?` and the query where there is one.
    fn uri(&self) -> Vec<u8>;
    /// Answers the request: headers, status, then the body, in the order in which the host sends them.
    fn reply(&self, headers: &[(&str, &str)], status: u16, body: &[u8]);
    /// Writes one line to the gateway's log.
    fn log(&self, level: Level, line: &str);
    /// Unix time in milliseconds. Wall time is the only real clock here (traefik §3.5).
    fn now_ms(&self) -> u64;
}

#[cfg(target_os = "wasi")]
pub use self::http_wasm::{HttpWasm, configuration};

#[cfg(target_os = "wasi")]
mod http_wasm {
    use super::{Host, Level};
    use http_wasm_guest::host::{Bytes, Request, Response, admin, log};
    use std::time::{SystemTime, UNIX_EPOCH};

    /// The middleware's configuration as JSON.
    pub fn configuration() -> Vec<u8> {
        admin::config().into()
    }

    /// The http-wasm host, for one request.
    pub struct HttpWasm<'a> {
        /// The request.
        pub request: &'a Request,
        /// The response.
        pub response: &'a Response,
    }

    impl Host for HttpWasm<'_> {
        fn header_names(&self) -> Vec<Vec<u8>> {
            self.request.header.names_iter().map(Bytes::into).collect()
        }

        fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
            self.request.header.values_iter(name.as_bytes()).map(Bytes::into).collect()
        }

        fn set_header(&self, name: &str, value: &str) {
            self.request.header.set(name.as_bytes(), value.as_bytes());
        }

        fn remove_header(&self, name: &[u8]) {
            self.request.header.remove(name);
        }

        fn method(&self) -> Vec<u8> {
            self.request.method().into()
        }

        fn uri(&self) -> Vec<u8> {
            self.request.uri().into()
        }

        fn reply(&self, headers: &[(&str, &str)], status: u16, body: &[u8]) {
            for (name, value) in headers {
                self.response.header.set(name.as_bytes(), value.as_bytes());
            }
            self.response.set_status(i32::from(status));
            if !body.is_empty() {
                self.response.body.write(body);
            }
        }

        fn log(&self, level: Level, line: &str) {
            // The interface's numbers (traefik §3.6).
            let level = match level {
                Level::Debug => -1,
                Level::Info => 0,
                Level::Warn => 1,
            };
            log::write(level, line.as_bytes());
        }

        fn now_ms(&self) -> u64 {
            // A clock before 1970 counts as 1970: every certificate and key is then judged as not yet valid.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        }
    }
}
