//! The pure half of the sync: Kubernetes objects → the registrations that Consul should hold.
//!
//! ```text
//! Cluster + SyncOptions ──desired()──► Registrations + Notes ──routes()──► Routes of the gate + Notes
//! ```
//! No clock, no files, no network: the same input gives the same output, in the same order. Rule numbers in comments
//! (A1 … X3) are those of the sync contract; `testdata/sync` holds a case for each.
//!
//! Nothing that is doubtful is exposed: a service whose routing cannot be understood keeps its registration (it is the
//! truth about what runs) but loses its routes, with a [`Note`] that says why.

mod addresses;
mod annotations;
mod conflicts;
pub mod desired;
mod endpoints;
mod exposure;
#[cfg(test)]
mod hostile;
mod meta;
mod naming;
mod note;
pub mod options;
mod own;
mod ports;
#[cfg(test)]
mod properties;
mod registration;
pub mod routes;
mod select;
mod subject;
mod tags;

pub use desired::{Desired, Reason, desired};
pub use exposure::{GATE_PREFIX, TRAEFIK_PREFIX};
pub(crate) use meta::{
    CLUSTER as CLUSTER_MARK, NAMESPACE as NAMESPACE_MARK, NODE_NAME as NODE_NAME_MARK, SOURCE as SOURCE_MARK,
    ZONE as ZONE_MARK, is_reserved as is_reserved_meta,
};
pub use note::{Note, Severity};
pub use options::{ConsulNodes, OptionsError, SyncOptions};
pub use registration::{Check, RegisteredService, Registration, Weights};
pub use routes::{Middleware, Route, RouterSpec, Server, routes};
