//! Real Traefik, the real plugin and the real sidecar as child processes, with sample services behind them.
//!
//! ```text
//! load / client ──TLS──► traefik (child) ──► backend (task in this process)
//!                          ▲ plugin, mounted snapshot, gate.yml
//!                        portcullis run (child) ◄── kubernetes/ policy/ (copied from testdata/demo)
//! ```
//!
//! [`world`] puts it together; `tests/` prove what the product promises, `src/bin/demo.rs` shows it to a newcomer and
//! `src/bin/bench.rs` measures its cost. The verdicts come from the real parts; [`mutation`] and [`bypass`] put the same
//! requests to the policy core as well.

pub mod access;
pub mod agent;
pub mod annotated;
pub mod backend;
pub mod bench;
pub mod bypass;
pub mod certificates;
pub mod client;
pub mod dns;
pub mod echo;
pub mod guarded;
pub mod issuer;
pub mod keen;
pub mod kubernetes;
pub mod limits;
pub mod load;
pub mod mutation;
pub mod nothing;
pub mod oracle;
pub mod parts;
pub mod pattern;
pub mod pods;
pub mod ports;
pub mod process;
pub mod redis;
pub mod registry;
pub mod report;
pub mod sidecar;
pub mod solo;
pub mod sync;
pub mod synced;
pub mod templating;
pub mod topology;
pub mod tour;
pub mod traefik;
pub mod wire;
pub mod wire2;
pub mod world;
