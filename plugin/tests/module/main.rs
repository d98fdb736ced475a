//! The built plugin in wasmtime, on a scripted host: what it asks of the gateway, in which order, and what it answers.
//!
//! Each test lists the host calls that it expects; any other call fails it. The module is the one that is shipped:
//! `PORTCULLIS_WASM`, else `dist/plugin.wasm`, else it is built on the spot (never when `PORTCULLIS_REQUIRE=1`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends its test, in the helpers as well"
)]

mod allow;
mod chains;
mod configuration;
mod credentials;
mod decisions;
mod deny;
mod forged;
mod host;
mod hostile;
mod identities;
mod inline;
mod lifecycle;
mod limits;
mod limits_broken;
mod normalization;
mod shadow;
mod snapshot;
mod state;
mod support;
mod tokens;
