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
mod claims;
mod conflicts;
pub mod desired;
mod endpoints;
mod exposure;
pub mod foreign;
#[cfg(test)]
mod hostile;
mod meta;
pub(crate) mod naming;
mod note;
pub mod options;
mod own;
mod ports;
#[cfg(test)]
mod properties;
mod registration;
pub mod routes;
mod select;
pub(crate) use foreign::routing_tags;
mod subject;
mod synced;
mod tags;
mod world;

pub(crate) use desired::ZONE_LABEL;
pub use desired::{Desired, Reason, desired};
pub(crate) use endpoints::SERVICE_LABEL;
pub use exposure::{GATE_PREFIX, TRAEFIK_PREFIX};
pub use foreign::{Bypass, Foreign, is_routing};
pub(crate) use meta::{
    CLUSTER as CLUSTER_MARK, EXTERNAL_CLUSTER as EXTERNAL_MARK, EXTERNAL_SOURCE, NAMESPACE as NAMESPACE_MARK,
    NODE_NAME as NODE_NAME_MARK, SOURCE as SOURCE_MARK, ZONE as ZONE_MARK, accepted_key,
    is_reserved as is_reserved_meta,
};
pub use note::{Note, Severity};
pub use options::{ConsulNodes, OptionsError, SyncOptions};
pub use registration::{Check, Definition, RegisteredService, Registration, Weights};
pub use routes::{Middleware, Route, RouteTable, RouterSpec, Server, routes};
pub(crate) use select::FROM_CONSUL;
pub(crate) use tags::LAST_APPLIED;
pub use world::{Changed, Group, World};
