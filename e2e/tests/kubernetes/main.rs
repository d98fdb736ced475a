//! The real sidecar between a real API server and a real Consul.

mod cases;
mod changes;
mod credentials;
mod events;
mod faults;
mod idle;
mod rights;
mod setup;
mod several;
mod streaming;
