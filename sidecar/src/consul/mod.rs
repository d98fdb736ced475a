//! Consul: the registrations into its catalog, by one leader, in fenced transactions.
//!
//! ```text
//!  registrations ─► diff ─► brake ─► transactions ─► client ─► /v1/txn [lock held? | operations]
//!                    ▲                                 │
//!        live ◄──── read ◄── drift (something moved)   └─► live, carried on
//!                                                     └─► kv: the same as keys
//! ```
//! Pure: [`live`], [`mod@diff`], [`mod@brake`], [`operation`], [`transactions`], [`kv`]. [`follow`] is the task that runs them.
//! Only Community Edition's fields are sent; a namespace or a partition would be refused.

pub mod brake;
pub mod client;
pub mod config;
pub mod diff;
mod drift;
mod error;
pub mod follow;
mod heartbeat;
pub mod kv;
pub mod live;
mod lock;
pub mod operation;
mod permission;
#[cfg(test)]
mod properties;
pub mod read;
mod said;
pub mod transactions;

pub use brake::brake;
pub use client::Client;
pub use config::ConsulConfig;
pub use diff::{Difference, diff};
pub use error::ConsulError;
pub use follow::{Follower, Wanted};
pub use kv::KvImport;
pub use live::{Live, Scope};
