//! The sidecar: what operators write and what runs, turned into what Consul and the gateway are given.
//!
//! ```text
//!  manifests ──► kube::Cluster ──► sync::desired ──► registrations ──► sync::routes ──► gate ──► Traefik's file
//!  policy dir ─► documents ──► portcullis_authoring::{read, compile} ───────────────► publish ─► the snapshot
//! ```
//!
//! Pure modules (`sync`, `gate`) hold the decisions; `documents`, `publish` and `run` do the reading, writing and waiting.
//! Every command in [`cli`] is a thin use of the same modules, so what `plan` or `explain` shows is what `run` does.

pub mod cli;
pub mod config;
pub mod documents;
pub mod gate;
pub mod http;
pub mod kube;
pub mod limits;
pub mod policy;
pub mod publish;
pub mod run;
pub mod sources;
pub mod sync;
pub mod watch;
