//! From what people write to what the gateway reads: config entries in, a snapshot out.
//!
//! ```text
//!  config entries, API keys ──read──► portcullis_policy::Policy ──compile──► the bytes of a snapshot
//!  (Consul JSON, HCL, CRDs)    │                                    │
//!                              └───────────── Problems ─────────────┘
//! ```
//!
//! A crate of its own, because the plugin needs it for inline policies only: there it is built for size, and without the
//! feature `full`, whose kinds need a sidecar's snapshot. Like the core it has no clock, no files, no environment and no
//! `unsafe`.

#[cfg(feature = "full")]
pub mod cases;
pub mod compile;
pub mod read;

pub use compile::compile;
