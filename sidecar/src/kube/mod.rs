//! Kubernetes as Portcullis sees it: Services, Nodes and EndpointSlices; and our own resources ([`rate_limits`]).
//!
//! [`manifests`] turns text into objects, [`cluster`] keeps them keyed, [`directory`] follows a directory of them.
//! [`follow`] does the same with an API server: a `watch` for each kind in each scope, made of two bounded calls (`call`)
//! over a connection that is renewed after faults (`connection`, `fault`), keeping of each object what `kinds` leaves of it;
//! [`live`] looks once; [`resources`] follows those that are policy; `objects` is what [`crate::imports`] writes by. None of them judges what it reads: that is [`crate::sync`]'s work. Objects are read as the types of
//! `k8s-openapi` and kept [`Packed`], so a watch on an API server and a directory of files end in the same [`Cluster`].

mod call;
pub mod cluster;
pub mod config;
mod connection;
pub mod directory;
pub mod events;
pub mod fault;
pub mod follow;
mod kinds;
pub mod live;
pub mod manifests;
pub(crate) mod objects;
mod packed;
pub mod rate_limits;
pub mod resources;
mod watch;

pub use cluster::{Cluster, ObjectKey};
pub use config::ClusterConfig;
pub use kinds::Kind;
pub use manifests::Manifests;
pub use packed::Packed;
