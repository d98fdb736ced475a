//! The Traefik middleware: every request is decided on a policy snapshot before it may go on.
//!
//! ```text
//!  start ──► state (per instance: config, source, certificates, limits)
//!    │
//!    └─ each request ─► guard ─ headers ─ credential ─ source.decide ─► limits ─► stamp ─► forward
//!                         │                            (policy crate)  (limiter)    └────► respond + one log line
//!                         └ host: the only way to the gateway      file: the only way to the disk
//! ```
//!
//! Invariants: nothing fallible runs in start code; no path ends in "forward" but an explicit allow; no request body is
//! read and nothing is buffered; an instance that trapped starts afresh. Read on in [`guard`].

pub mod certificates;
pub mod config;
pub mod file;
pub mod guard;
pub mod headers;
pub mod host;
pub mod inline;
pub mod lenient;
pub mod limits;
pub mod list;
pub mod logs;
pub mod names;
pub mod request_headers;
pub mod respond;
pub mod source;
pub mod state;
pub mod text;
pub mod verified;

#[cfg(target_os = "wasi")]
mod start;
