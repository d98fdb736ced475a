//! Registrations in a real Consul: what `plan` says is there, changes arrive, and nothing that lives is ever taken out.

mod catalog;
mod faults;
mod rights;
mod secured;
mod setup;
