//! Services of Consul inside of Kubernetes: as Services without a selector and `EndpointSlice`s, or as names in Consul's DNS.
//!
//! ```text
//!  consul::catalog ─► desired ─┐
//!                              ├─► diff ─► keeper ─► kube::objects ─► the API server
//!  kube::objects ─► present ───┘                           │
//!                     ▲────────────────────────────────────┘ what was written, with its version
//! ```
//! Pure: `desired`, `slices`, `object`, `diff`, `state`. `keeper` is the task that runs them while this sidecar leads for the
//! cluster, `apply` its writes. Nothing is touched that does not carry both our labels, and nothing is removed because of something
//! that could not be read.

mod apply;
mod config;
mod desired;
mod diff;
mod keeper;
mod numbers;
mod object;
mod permission;
#[cfg(test)]
mod properties;
mod slices;
mod state;
#[cfg(test)]
mod testing;

pub use self::{
    config::{Kind, ToKubernetes},
    keeper::Importer,
    numbers::{Numbers, Status},
};
