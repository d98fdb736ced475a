//! JSON Web Tokens (consul-policy §4): providers as Consul's `jwt-provider` describes them, and the check of a request
//! against one.
//!
//! ```text
//!  JwtProvider (authored) ──compile──► ProviderRecord (in the snapshot: keys parsed)
//!                             ▲                │
//!       JWK set, fetched ─────┘   request ─► check: locate ─► token ─► registered claims ─► memory or signature
//! ```
//!
//! What a forger may send is decided by the key, never by the token: the algorithm is the key's, and a header that asks
//! for anything that is not understood makes the token invalid. A requirement whose provider has no keys, no issuer, or
//! could not be read is never satisfied.

mod check;
mod claims;
mod json;
mod jwk;
mod locate;
mod provider;
mod token;

pub use self::{
    check::{Checked, Rejected, TokenRequest, Verified, check},
    claims::Claims,
    jwk::{Algorithm, KeyRecord},
    provider::{
        DEFAULT_CLOCK_SKEW, Forwarding, JwksCluster, JwtProvider, KeySource, Location, ProviderRecord, RemoteKeys,
        RetryPolicy, TrustedCa, compile,
    },
};

#[cfg(test)]
mod tests;
