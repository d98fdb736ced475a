//! Services that others registered in a real Consul, and external ones, behind the gate of a real Traefik.

mod external;
mod gated;
mod keys;
mod setup;
