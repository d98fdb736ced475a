//! Kubernetes as Portcullis sees it: Services, Nodes and EndpointSlices; and our own resources ([`rate_limits`]).
//!
//! [`manifests`] turns text into objects, [`cluster`] keeps them keyed, [`directory`] follows a directory of them. Neither judges what it reads: that is
//! [`crate::sync`]'s work. Objects are the types of `k8s-openapi`, so a watch on an API server and a directory of
//! files end in the same [`Cluster`].

pub mod cluster;
pub mod directory;
pub mod manifests;
pub mod rate_limits;

pub use cluster::{Cluster, ObjectKey};
pub use manifests::Manifests;
