//! Limits under attack: what gets through a gateway, measured by whoever attacks it, against what its bucket allows.
//!
//! ```text
//!  attack ─► stand: Traefik with our plugin, or with its own rateLimit ─► a sample service
//!    └ shots: when each request was sent and answered, and how
//!        └ bound: the most that was admitted in any window, and what should have been
//! ```
//!
//! Nothing here believes the limiter: a request counts for a window when it was sent and answered inside it, by the
//! clock of the client, which no clock step moves. What the limiter wrote down is folded by a reader of its own
//! ([`fold`]) and compared with what the clients saw.

pub mod attack;
pub mod bound;
pub mod clock;
pub mod fields;
pub mod fold;
pub mod keys;
pub mod scenarios;
pub mod stand;
pub mod table;

/// Whether tests take the time that the issue asks for, not only the time that shows something.
pub fn is_long() -> bool {
    std::env::var_os("PORTCULLIS_LONG").is_some_and(|value| value == "1")
}
