//! Consul: the registrations into its catalog, by one leader, in fenced transactions.
//!
//! ```text
//!  registrations ─► diff ─► brake ─► transactions ─► client ─► /v1/txn [lock held? | operations]
//!                    ▲                                 │
//!        live ◄──── read ◄── drift (something moved)   └─► live, carried on
//!                                                     └─► kv: the same as keys
//! ```
//! Pure: [`live`], `known`, [`mod@diff`], [`mod@brake`], [`operation`], [`transactions`], `told`, [`kv`]. [`follow`] is the task that runs them.
//! Only Community Edition's fields are sent; a namespace or a partition would be refused.

pub mod brake;
pub mod catalog;
pub mod client;
pub mod config;
pub mod diff;
mod drift;
mod error;
pub mod follow;
mod heartbeat;
mod known;
pub mod kv;
pub mod live;
pub(crate) mod lock;
pub mod operation;
pub(crate) mod pairs;
mod permission;
mod progress;
#[cfg(test)]
mod properties;
pub mod read;
mod said;
pub mod status;
mod told;
pub mod transactions;

pub use brake::brake;
pub use catalog::{Catalog, CatalogConfig};
pub use client::Client;
pub use config::ConsulConfig;
pub use diff::{Difference, diff};
pub use error::ConsulError;
pub use follow::Follower;
pub use kv::KvImport;
pub use live::{Live, Origin, Scope};
pub use told::{Source, Wanted};
