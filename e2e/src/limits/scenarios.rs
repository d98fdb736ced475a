//! The attacks, each on a service of its own, and what limits the service.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::attack::{Attack, Pattern, Report, Target, run};
use super::bound::{Bucket, Tally};
use super::clock::Clock;
use super::stand::{Setup, Stand, TENANT, everybody, guard, host};
use crate::parts::Parts;

/// Connections of every attack.
pub const CONNECTIONS: usize = 64;
/// Makes Go's collector run all the time: each run empties the pool of plugin instances a little further.
const COLLECTOR: (&str, &str) = ("GOGC", "5");
/// Callers of the attack with many keys, and tenants of each.
const CALLERS: usize = 8;
const TENANTS: usize = 16;

/// Who limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limiter {
    /// Our plugin, with the sidecar's clock beating.
    Portcullis,
    /// The same without a sidecar.
    Alone,
    /// Traefik's `rateLimit` in memory.
    Memory,
    /// Traefik's `rateLimit` with the Redis at this address.
    Redis(SocketAddr),
}

/// An attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// All connections as fast as they go.
    Flood,
    /// Idle until the bucket is long full, then everybody at once, and again.
    Pulse,
    /// Many callers with many tenants each, every pair with a limit of its own.
    Keys,
    /// Traefik is killed and started in the middle.
    Restart,
    /// The wall clock is set forward and back, and back and forward.
    ClockStep,
}

/// All attacks.
pub const SCENARIOS: [Scenario; 5] =
    [Scenario::Flood, Scenario::Pulse, Scenario::Keys, Scenario::Restart, Scenario::ClockStep];

/// What came of one attack.
#[derive(Debug)]
pub struct Outcome {
    /// The attack.
    pub scenario: Scenario,
    /// Admitted and allowed.
    pub tally: Tally,
    /// Every request.
    pub report: Report,
    /// How long it lasted.
    pub lasted: Duration,
    /// How often Go's collector ran meanwhile; unknown when Traefik was started in between.
    pub collections: Option<u64>,
}

/// A token bucket as people write it.
#[derive(Debug, Clone, Copy)]
struct Rate {
    requests: u32,
    burst: u32,
    keyed: bool,
}

impl Limiter {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Limiter::Portcullis => "Portcullis",
            Limiter::Alone => "Portcullis, no sidecar",
            Limiter::Memory => "`rateLimit`, memory",
            Limiter::Redis(_) => "`rateLimit`, Redis",
        }
    }

    fn middleware(self, scenario: Scenario) -> Value {
        let Rate { requests, burst, keyed } = scenario.rate();
        let criterion = if keyed { json!({"requestHeaderName": TENANT}) } else { json!({"requestHost": true}) };
        let mut built_in = json!({"average": requests, "burst": burst, "sourceCriterion": criterion});
        match self {
            Limiter::Portcullis | Limiter::Alone => return guard(scenario.name()),
            Limiter::Memory => {}
            Limiter::Redis(address) => built_in["redis"] = json!({"endpoints": [address]}),
        }
        json!({"rateLimit": built_in})
    }
}

impl Scenario {
    /// Its name, a DNS label.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Flood => "flood",
            Scenario::Pulse => "pulse",
            Scenario::Keys => "keys",
            Scenario::Restart => "restart",
            Scenario::ClockStep => "clock",
        }
    }

    fn rate(self) -> Rate {
        let (requests, burst, keyed) = match self {
            Scenario::Flood | Scenario::ClockStep => (100, 20, false),
            // Slow and deep: what is forgotten while nobody asks, or over a restart, shows.
            Scenario::Pulse | Scenario::Restart => (10, 100, false),
            Scenario::Keys => (1, 3, true),
        };
        Rate { requests, burst, keyed }
    }

    /// The bucket, or each key's.
    pub fn bucket(self) -> Bucket {
        let rate = self.rate();
        Bucket { rate: f64::from(rate.requests), burst: f64::from(rate.burst) }
    }

    /// As a policy.
    pub fn policy(self) -> [Value; 2] {
        let Rate { requests, burst, keyed } = self.rate();
        let key = if keyed { json!(["source", {"Header": TENANT}]) } else { json!([]) };
        let limit = json!({"Name": "attacked", "Key": key,
            "Rate": {"Requests": requests, "Period": "1s", "Burst": burst}});
        [everybody(self.name()), json!({"Kind": "rate-limits", "Name": self.name(), "Limits": [limit]})]
    }

    /// The attack; short: as long as it needs to show anything.
    fn attack(self, long: bool) -> Attack {
        let seconds = |short: u64, full: u64| Duration::from_secs(if long { full } else { short });
        let (pattern, lasting) = match self {
            Scenario::Flood => (Pattern::Flood, seconds(4, 10)),
            // Traefik forgets a bucket that nobody has asked for two seconds.
            Scenario::Pulse => (
                Pattern::Pulse { every: Duration::from_millis(3200), lasting: Duration::from_millis(400) },
                Duration::from_millis(if long { 8 * 3200 } else { 2 * 3200 + 400 }),
            ),
            // Half a second more, so that no unit comes in at the very end.
            Scenario::Keys => (Pattern::Flood, seconds(3, 10) + Duration::from_millis(500)),
            Scenario::Restart => (Pattern::Flood, seconds(5, 10)),
            Scenario::ClockStep => (Pattern::Flood, Duration::from_secs(12)),
        };
        Attack { connections: CONNECTIONS, pattern, lasting }
    }

    fn keys(self, stand: &Stand) -> Result<Vec<Vec<(String, String)>>> {
        if !self.rate().keyed {
            return Ok(vec![stand.caller("web")?]);
        }
        let mut keys = Vec::new();
        for caller in 0..CALLERS {
            let caller = stand.caller(&format!("caller-{caller}"))?;
            for _ in 0..TENANTS {
                // Traefik's limiter knows no callers, so that tenants are told apart by name alone there.
                let tenant = (TENANT.to_owned(), format!("tenant-{}", keys.len()));
                keys.push([caller.clone(), vec![tenant]].concat());
            }
        }
        Ok(keys)
    }
}

/// A gateway with a service for each scenario.
pub async fn stand(parts: &Parts, limiter: Limiter) -> Result<Stand> {
    let ours = matches!(limiter, Limiter::Portcullis | Limiter::Alone);
    Stand::start(
        parts,
        Setup {
            policy: if ours { SCENARIOS.iter().flat_map(|it| it.policy()).collect() } else { Vec::new() },
            hosts: SCENARIOS.map(|it| (it.name().to_owned(), vec![limiter.middleware(it)])).to_vec(),
            sidecar: (limiter == Limiter::Portcullis).then(|| json!({})),
            environment: vec![(COLLECTOR.0, COLLECTOR.1.to_owned())],
            ..Setup::default()
        },
    )
    .await
}

/// Makes the attack. The clock is needed for [`Scenario::ClockStep`] alone.
pub async fn attack(stand: &mut Stand, scenario: Scenario, long: bool, clock: Option<&Clock>) -> Result<Outcome> {
    let attack = scenario.attack(long);
    let target = Target {
        address: stand.traefik.plain(),
        host: host(scenario.name()),
        path: "/v1/small".to_owned(),
        keys: scenario.keys(stand)?,
    };
    let before = collections(stand).await?;
    let running = tokio::spawn(run(attack, target));
    match scenario {
        Scenario::Restart => {
            tokio::time::sleep(attack.lasting / 3).await;
            stand.crash().await?;
        }
        Scenario::ClockStep => {
            let clock = clock.context("the clock may not be set")?;
            for seconds in [STEP_SECONDS, -STEP_SECONDS] {
                tokio::time::sleep(Duration::from_secs(2)).await;
                clock.off(seconds, Duration::from_secs(2)).await?;
            }
        }
        Scenario::Flood | Scenario::Pulse | Scenario::Keys => {}
    }
    let report = running.await.context("the attack panicked")??;
    let collections = (scenario != Scenario::Restart).then_some(collections(stand).await?.saturating_sub(before));
    let tally = Tally::new(scenario.bucket(), &report.shots);
    Ok(Outcome { scenario, tally, report, lasted: attack.lasting, collections })
}

/// How far the clock is set off: far more than fills the bucket, and little for whatever else runs on the machine.
const STEP_SECONDS: i64 = 5;

/// How often Go's collector has run.
async fn collections(stand: &Stand) -> Result<u64> {
    let metrics = stand.traefik.internal("/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("go_gc_duration_seconds_count "));
    line.context("no count of collections in the metrics")?.trim().parse().context("reading a metric")
}
