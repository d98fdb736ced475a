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
pub mod store;

pub use self::{
    charge::{Charge, Rule, Standing},
    store::{Directory, LogFile},
};
