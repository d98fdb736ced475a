//! What the gate costs: the gateway's processor time for each request, beside throughput and latency, in one run.
//!
//! Every row is a route of the same Traefik to the same backend. Rows are compared with a plain router that is reached in
//! the same way: behind a front that has ended TLS, or by mTLS. The rows take turns in short rounds, so that whatever else
//! the machine does hits all of them alike. Processor time is the process's own (`/proc/<pid>/stat`), which load generator
//! and backend do not touch.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::certificates::Caller;
use crate::client::Client;
use crate::load::{Bound, Load, Target, run};
use crate::world::World;

mod rows;
mod table;

pub use rows::{Beside, ROWS, Row, Way, setup};
pub use table::{Budget, Table};

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often each row has its turn.
    pub rounds: usize,
    /// How long a turn lasts.
    pub turn: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Requests per second; none: as fast as they go.
    pub rate: Option<f64>,
}

/// One turn of one row.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The gateway's processor time for one request, in microseconds.
    pub cpu_microseconds: f64,
    /// Requests per second.
    pub throughput: f64,
    /// Median latency.
    pub p50: Duration,
    /// The latency that 99 of 100 requests do not exceed.
    pub p99: Duration,
}

/// All turns: for each round one turn of every row, in the order of [`ROWS`].
pub type Rounds = Vec<Vec<Turn>>;

/// Who asks, by each way.
struct Clients {
    front: Client,
    /// What the front hands on.
    certificate: String,
    mtls: Client,
}

/// Measures. One round before the first is thrown away: it makes guests, connections and caches warm.
pub async fn measure(world: &World, plan: Plan, mut progress: impl FnMut(usize, &[Turn])) -> Result<Rounds> {
    let identity = world.authority.client(&Caller::named("web"))?;
    let clients = Clients {
        front: Client::plain(world.traefik.plain()),
        certificate: identity.header(),
        mtls: world.client(&identity)?,
    };
    let mut rounds = Vec::new();
    for round in 0..=plan.rounds {
        // There and back again: what a row leaves behind (garbage, open connections) falls on another row each time.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..ROWS.len()).collect() } else { (0..ROWS.len()).rev().collect() };
        let mut turns = Vec::new();
        for index in order {
            turns.push((index, turn(world, &clients, &ROWS[index], plan).await?));
        }
        turns.sort_by_key(|(index, _)| *index);
        let turns: Vec<Turn> = turns.into_iter().map(|(_, turn)| turn).collect();
        progress(round, &turns);
        if round > 0 {
            rounds.push(turns);
        }
    }
    Ok(rounds)
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
async fn turn(world: &World, clients: &Clients, row: &Row, plan: Plan) -> Result<Turn> {
    let load = Load { connections: plan.connections, rate: plan.rate, bound: Bound::Time(plan.turn) };
    let target = match row.way {
        Way::Mtls => Target::get(&clients.mtls, row.host, row.path),
        Way::Front => Target {
            headers: vec![("X-Forwarded-Tls-Client-Cert".to_owned(), clients.certificate.clone())],
            ..Target::get(&clients.front, row.host, row.path)
        },
    };
    let before = world.traefik.usage()?.cpu;
    let outcome = run(load, &target).await?;
    let cpu = world.traefik.usage()?.cpu.saturating_sub(before);
    let answered = outcome.answered();
    if outcome.failures > 0 || outcome.with_status(row.status) != answered || answered == 0 {
        bail!(
            "{}: every answer must be {}, not {:?}, {} failures ({:?})",
            row.name,
            row.status,
            outcome.statuses,
            outcome.failures,
            outcome.first_failure
        );
    }
    Ok(Turn {
        cpu_microseconds: cpu.as_secs_f64() * 1e6 / answered as f64,
        throughput: outcome.throughput(),
        p50: outcome.quantile(0.5),
        p99: outcome.quantile(0.99),
    })
}
