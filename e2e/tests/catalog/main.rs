//! Services that others registered in a real Consul, and external ones, behind the gate of a real Traefik.

mod external;
mod gated;
mod https;
mod keys;
mod setup;
