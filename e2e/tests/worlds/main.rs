//! Random worlds: whatever happens in a cluster, in Consul and to the processes in between, once it is quiet the catalog is
//! what `plan` says of the API server's objects, nothing of others was touched, and another look writes nothing.
//!
//! ```text
//!  a round:  things happen ─► disaster ─► things happen ─► quiet ─► catalog = plan ─► a whole look ─► nothing was written
//! ```
//! Two sidecars on one real API server and one real Consul. One service and its nodes are left alone all the time: a reader
//! looks at it throughout, and it must never be touched. `PORTCULLIS_WORLDS_SEED` repeats the choices (not the timing), and
//! `PORTCULLIS_WORLDS_ROUNDS` is how many rounds there are.

mod catalog;
mod chaos;
mod events;
mod reader;

use std::env;
use std::str::FromStr;

use portcullis_e2e::report::say;

use crate::chaos::{Chaos, Disaster};

/// Rounds without the variable: each takes two to five seconds.
const ROUNDS: usize = 10;

/// A variable's number, or `default` without one.
fn number<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_that_happens_the_catalog_is_what_plan_says_and_another_look_writes_nothing() {
    let seed = number("PORTCULLIS_WORLDS_SEED", fastrand::u64(..));
    let rounds = number("PORTCULLIS_WORLDS_ROUNDS", ROUNDS);
    say(&format!("PORTCULLIS_WORLDS_SEED={seed} PORTCULLIS_WORLDS_ROUNDS={rounds}"));
    let Some(mut chaos) = Chaos::start(seed).await else { return };
    // Every disaster has its turn, in an order of the seed.
    let mut disasters = Vec::new();
    for round in 0..rounds {
        if disasters.is_empty() {
            disasters = Disaster::ALL.to_vec();
            chaos.random.shuffle(&mut disasters);
        }
        let disaster = disasters.pop().unwrap_or(Disaster::None);
        chaos.round(round, disaster).await;
    }
    chaos.end().await;
}
