//! Exact limits on one host, shared by any number of instances that have nothing in common but a directory.
//!
//! An append to a file is an atomic fetch-and-add that the kernel gives: the order of the records is the order of the
//! charges, and every decision is a pure function of the records before it.
//!
//! ```text
//!  Charge ─► Limiter ─► Log (one bucket of keys) ─► fold of its records ─► Standing
//!              │ checks all, then charges all or none
//!              └ Directory, LogFile: the only way to the disk
//! ```

pub mod charge;
pub mod clock;
#[cfg(unix)]
pub mod disk;
mod fold;
mod limiter;
mod log;
mod rotation;
mod slot;
mod state;
pub mod store;
mod tail;
mod unavailable;

pub use self::{
    charge::{Charge, Rule, Standing},
    limiter::{Limiter, Outcome, Slot},
    store::{Directory, LogFile},
    tail::{Entry, Foreign, Seen, Tail},
    unavailable::Unavailable,
};
