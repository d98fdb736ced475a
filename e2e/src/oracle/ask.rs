//! A generated request, and its bytes on the wire.

use super::wire::Lines;

/// The authority that requests are sent to, unless they say otherwise.
pub const HOST: &str = "shop.example:8443";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The place of the caller in the list of callers.
    pub caller: usize,
    /// The service that is called.
    pub destination: String,
    /// The method as sent.
    pub method: String,
    /// The request target as sent: any bytes but those that end a request line.
    pub target: Vec<u8>,
    /// The header lines after `Host`.
    pub headers: Lines,
}

impl Ask {
    /// The request as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        bytes.extend_from_slice(HOST.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE") {
            bytes.extend_from_slice(b"Content-Length: 0\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}
