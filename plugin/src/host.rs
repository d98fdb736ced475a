//! The gateway as the guard sees it: one narrow trait, and its one implementation on the http-wasm interface.
//!
//! Names and values cross the border by copy, so each method is one host call (two where the answer is longer than is
//! usual) and the guard asks for nothing that it does not need. No method reads a body or enables a
//! feature: buffering would break streams and WebSockets (traefik §3.6).

use crate::{config::Level, list::List};

/// What the guard wants from the gateway for one request.
pub trait Host {
    /// The names of the request's headers: in lower case, `host` included, each once.
    fn header_names(&self) -> List;
    /// The values of a request header, one by one and not joined.
    fn header_values(&self, name: &str) -> List;
    /// Sets a request header to one value: it reaches the access log and, when the request is forwarded, the backend.
    fn set_header(&self, name: &str, value: &str);
    /// Removes a request header.
    fn remove_header(&self, name: &[u8]);
    /// Replaces path and query of the request.
    fn set_uri(&self, uri: &str);
    /// Address and port of the connection's other end.
    fn source_address(&self) -> Vec<u8>;
    /// The request's method.
    fn method(&self) -> Vec<u8>;
    /// The escaped path, and `?` and the query where there is one.
    fn uri(&self) -> Vec<u8>;
    /// Answers the request: headers, status, then the body, in the order in which the host sends them.
    fn reply(&self, headers: &[(&str, &str)], status: u16, body: &[u8]);
    /// Writes one line to the gateway's log.
    fn log(&self, level: Level, line: &str);
    /// Sets a header of the answer to a request that goes on. What the backend answers comes behind it: a field of the
    /// same name is added to, not replaced.
    fn set_answer_header(&self, name: &str, value: &str);
    /// Unix time in nanoseconds. Wall time is the only real clock here (traefik §3.5).
    fn now_ns(&self) -> u64;
}

#[cfg(target_os = "wasi")]
pub use self::http_wasm::{HttpWasm, configuration};

#[cfg(target_os = "wasi")]
mod http_wasm {
    use super::{Host, Level, List};
    use http_wasm_guest::host::{Request, Response, admin, log};
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
        fn header_names(&self) -> List {
            lists::header_names()
        }

        fn header_values(&self, name: &str) -> List {
            lists::header_values(name.as_bytes())
        }

        fn set_header(&self, name: &str, value: &str) {
            self.request.header.set(name.as_bytes(), value.as_bytes());
        }

        fn remove_header(&self, name: &[u8]) {
            self.request.header.remove(name);
        }

        fn set_uri(&self, uri: &str) {
            self.request.set_uri(uri.as_bytes());
        }

        fn source_address(&self) -> Vec<u8> {
            self.request.source_addr().into()
        }

        fn method(&self) -> Vec<u8> {
            self.request.method().into()
        }

        fn uri(&self) -> Vec<u8> {
            self.request.uri().into()
        }

        fn reply(&self, headers: &[(&str, &str)], status: u16, body: &[u8]) {
            for (name, value) in headers {
                self.set_answer_header(name, value);
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

        fn set_answer_header(&self, name: &str, value: &str) {
            self.response.header.set(name.as_bytes(), value.as_bytes());
        }

        fn now_ns(&self) -> u64 {
            // A clock before 1970 counts as 1970: every certificate and key is then judged as not yet valid.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }
    }

    /// Lists of headers in one piece. The binding makes an allocation of each name and each value, which is a third of
    /// what a request costs inside the guest.
    #[allow(unsafe_code, reason = "the host's functions have no safe spelling")]
    mod lists {
        use super::List;

        /// The request's headers, to the host (traefik §3.6).
        const REQUEST: i32 = 0;
        /// Enough for most requests' names, and for the certificate of a workload.
        const USUAL_BYTES: usize = 2048;
        /// More than Go's server reads of all headers together (1 MiB).
        const MAX_BYTES: usize = 1 << 21;

        #[link(wasm_import_module = "http_handler")]
        unsafe extern "C" {
            fn get_header_names(kind: i32, buf: *mut u8, limit: i32) -> i64;
            fn get_header_values(kind: i32, name: *const u8, name_len: i32, buf: *mut u8, limit: i32) -> i64;
        }

        pub(super) fn header_names() -> List {
            // SAFETY: the host writes at most `limit` bytes to `buf`, which `filled` owns and has made that long.
            filled(|buf, limit| unsafe { get_header_names(REQUEST, buf, limit) })
        }

        pub(super) fn header_values(name: &[u8]) -> List {
            let Ok(name_len) = i32::try_from(name.len()) else { return List::default() };
            // SAFETY: as above; the host reads `name_len` bytes at `name`, which the caller lends for the call.
            filled(|buf, limit| unsafe { get_header_values(REQUEST, name.as_ptr(), name_len, buf, limit) })
        }

        /// Calls the host once, or once more when the answer did not fit: then it has written nothing.
        fn filled(call: impl Fn(*mut u8, i32) -> i64) -> List {
            let mut capacity = USUAL_BYTES;
            loop {
                let mut bytes = Vec::with_capacity(capacity);
                let answer = call(bytes.as_mut_ptr(), i32::try_from(capacity).unwrap_or(0));
                // The upper half counts, the lower half is the length in bytes.
                let half = |bits: i64| usize::try_from(bits & i64::from(u32::MAX)).unwrap_or(usize::MAX);
                let (count, len) = (half(answer >> 32), half(answer));
                if len <= capacity {
                    // SAFETY: the host has written `len` bytes, and there is room for `capacity`.
                    unsafe { bytes.set_len(len) };
                    return List::new(bytes, count);
                }
                if len > MAX_BYTES {
                    // As if there were several values of everything: nothing is taken from such a list.
                    return List::new(Vec::new(), usize::MAX);
                }
                capacity = len;
            }
        }
    }
}
