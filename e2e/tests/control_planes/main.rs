//! Policy from real control planes: Consul with ACLs, and a real API server; what it is worth at the gate of a real Traefik, and what is left of
//! it while they fail.

mod consul;
mod gate;
mod resources;
mod setup;
