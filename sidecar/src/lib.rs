//! The sidecar: what operators write and what runs, turned into what Consul and the gateway are given.
//!
//! ```text
//!  manifests ──► kube::Cluster ──► sync::desired ──► registrations ──► sync::routes ──► gate ──► Traefik's file
//!                                                   └─────────► consul ──────────► Consul's catalog
//!  what others registered ─► consul::catalog ─┐        ▲
//!  external services ─► external ─────────────┴─► others, joined by sync::foreign
//!  consul::catalog ─► imports ──────────────────────────────► Services and EndpointSlices in Kubernetes
//!  JWT issuers ──► jwks ──► key sets, as if they were in files
//!  files, resources, Consul ─► control ─► portcullis_authoring::{read, compile} ────► publish ─► the snapshot
//!  the state folder ◄─► limits ◄─► Redis: its clock, usage of other hosts, metrics
//! ```
//!
//! Pure modules (`sync`, `gate`, most of `consul`) hold the decisions; `documents`, `publish`, `consul::follow`, `policies` and `run` do the reading, writing and waiting.
//! Every command in [`cli`] is a thin use of the same modules, so what `plan` or `explain` shows is what `run` does.

pub mod cli;
pub mod config;
pub mod consul;
pub mod control;
pub mod doctor;
pub mod documents;
pub mod external;
pub mod gate;
pub mod gate_writer;
pub mod history;
pub mod http;
pub mod imports;
pub mod input;
pub mod jwks;
pub mod kube;
pub mod limits;
pub mod numbers;
pub mod others;
pub mod policies;
pub mod policy;
pub mod publish;
pub mod run;
pub mod services;
pub mod sources;
pub mod sync;
pub mod terraform;
pub mod traefik;
pub mod watch;
