//! Guests that decide nothing: what Traefik's wasm host costs by itself, and what a guest cannot do without.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::traefik::Plugin;

/// The guests by the names that middlewares give them.
const GUESTS: [(&str, &str); 3] = [("nothing", NOTHING), ("calls", CALLS), ("refuses", REFUSES)];

/// Lets every request pass: the least that the http-wasm host accepts is a memory and both handlers. 1 means "go on to the
/// next handler".
const NOTHING: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "handle_request") (result i64) (i64.const 1))
  (func (export "handle_response") (param i32 i32)))"#;

/// Makes the host calls of an allowed request as Portcullis makes them (method, target, names of headers, destination,
/// certificate, which is taken out, time, three stamps), looks at none of the answers and lets every request pass.
const CALLS: &str = r#"(module
  (import "http_handler" "get_method" (func $method (param i32 i32) (result i32)))
  (import "http_handler" "get_uri" (func $uri (param i32 i32) (result i32)))
  (import "http_handler" "get_header_names" (func $names (param i32 i32 i32) (result i64)))
  (import "http_handler" "get_header_values" (func $values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "remove_header" (func $remove (param i32 i32 i32)))
  (import "http_handler" "set_header_value" (func $set (param i32 i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "x-portcullis-destination")
  (data (i32.const 1056) "x-forwarded-tls-client-cert")
  (data (i32.const 1088) "X-Portcullis-Source")
  (data (i32.const 1120) "X-Portcullis-Decision")
  (data (i32.const 1152) "X-Portcullis-Rule")
  (data (i32.const 1184) "default/default/web")
  (data (i32.const 1216) "allow")
  (data (i32.const 1248) "service-intentions/limited/sources/web/permissions/1")
  (func (export "handle_request") (result i64)
    (drop (call $method (i32.const 4096) (i32.const 2048)))
    (drop (call $uri (i32.const 8192) (i32.const 2048)))
    (drop (call $names (i32.const 0) (i32.const 12288) (i32.const 2048)))
    (drop (call $values (i32.const 0) (i32.const 1024) (i32.const 24) (i32.const 16384) (i32.const 2048)))
    (drop (call $values (i32.const 0) (i32.const 1056) (i32.const 27) (i32.const 20480) (i32.const 2048)))
    (call $remove (i32.const 0) (i32.const 1056) (i32.const 27))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 64)))
    (call $set (i32.const 0) (i32.const 1088) (i32.const 19) (i32.const 1184) (i32.const 19))
    (call $set (i32.const 0) (i32.const 1120) (i32.const 21) (i32.const 1216) (i32.const 5))
    (call $set (i32.const 0) (i32.const 1152) (i32.const 17) (i32.const 1248) (i32.const 52))
    (i64.const 1))
  (func (export "handle_response") (param i32 i32)))"#;

/// Refuses every request with 429, a length and a body of one byte, without a look at it.
const REFUSES: &str = r#"(module
  (import "http_handler" "set_header_value" (func $set (param i32 i32 i32 i32 i32)))
  (import "http_handler" "set_status_code" (func $status (param i32)))
  (import "http_handler" "write_body" (func $body (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "Content-Length")
  (data (i32.const 1056) "1")
  (func (export "handle_request") (result i64)
    (call $set (i32.const 1) (i32.const 1024) (i32.const 14) (i32.const 1056) (i32.const 1))
    (call $status (i32.const 429))
    (call $body (i32.const 1) (i32.const 1056) (i32.const 1))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))"#;

/// Assembles the guests into `folder`.
pub fn plugins(folder: &Path) -> Result<Vec<Plugin>> {
    let plugin = |(name, text): (&str, &str)| {
        let wasm = folder.join(format!("{name}.wasm"));
        fs::write(&wasm, wat::parse_str(text).with_context(|| format!("assembling the guest {name}"))?)?;
        Ok(Plugin {
            name: name.to_owned(),
            module: format!("example.test/{name}"),
            wasm,
            manifest: None,
            policy: None,
            state: None,
        })
    };
    GUESTS.into_iter().map(plugin).collect()
}
