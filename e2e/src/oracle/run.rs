//! A whole run: policy after policy, request after request, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use futures_util::future::try_join_all;
use portcullis_policy::{Action, Verdict};

use super::ask::Ask;
use super::callers::SERVICES;
use super::case_file;
use super::classes::Class;
use super::compare::{Case, Difference};
use super::generate::{self, Placed};
use super::keys;
use super::mesh::Mesh;
use super::order;
use super::ours::{Engine, seconds};
use super::policy::{Normalization, World};
use super::shrink::{Failure, shrink};
use crate::parts;

/// The services of a mesh. Each costs an Envoy, and saves waiting: policies for all of them take effect together.
const DESTINATIONS: [&str; 3] = ["api", "db", "files"];

/// How many callers ask each service under one policy, and how many requests each of them makes.
const CALLERS: usize = 5;
const REQUESTS: usize = 24;

/// How many policies go by one request normalization.
const WORLDS_PER_NORMALIZATION: usize = 4;

/// A run on a mesh is over after so many differences that nothing explains, or one in so many requests if that is more: they
/// are mostly one and the same.
const MAX_FAILURES: usize = 8;
const REQUESTS_PER_FAILURE: usize = 500;

/// So many of them are made smaller.
const SHRUNK: usize = 4;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// At least so many requests.
    pub requests: usize,
    /// Everything random comes from it.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// See [`Options::seed`].
    pub seed: u64,
    /// How many policies were in force.
    pub worlds: usize,
    /// How many requests both sides decided.
    pub requests: usize,
    /// How many of them both let pass, and both refused.
    pub agreed: (usize, usize),
    /// How many answers of Consul's API on order and connections were compared; all were ours.
    pub order: usize,
    /// How many differences each class explains, by direction.
    pub classes: BTreeMap<(&'static str, Difference), usize>,
    /// Differences that nothing explains, as policy tests, the first ones as small as they could be made.
    pub failures: Vec<String>,
    /// How long it took, the start of the parts included.
    pub time: Duration,
}

/// Runs with real parts; their files go into `folder`.
pub async fn run(parts: &parts::Mesh, folder: &Path, options: Options) -> Result<Report> {
    let started = Instant::now();
    // Two meshes, for the default belongs to Consul's agent. While one waits for its policy, the other works.
    let one = |default| async move {
        let mut mesh = Mesh::start(parts, folder, default, &DESTINATIONS).await?;
        let options = Options { requests: options.requests.div_ceil(2), ..options };
        run_on(&mut mesh, options).await
    };
    let (deny, allow) = tokio::try_join!(one(Action::Deny), one(Action::Allow))?;
    let mut report = deny.joined(allow);
    report.seed = options.seed;
    report.time = started.elapsed();
    Ok(report)
}

async fn run_on(mesh: &mut Mesh, options: Options) -> Result<Report> {
    let mut report = Report::default();
    let mut failures = Vec::new();
    let mut random = Rng::with_seed(options.seed ^ u64::from(mesh.default == Action::Allow));
    let keys = keys::ring(&mut random)?;
    let mut normalization = Normalization::default();
    let max_failures = MAX_FAILURES.max(options.requests / REQUESTS_PER_FAILURE);
    while report.requests < options.requests && failures.len() < max_failures {
        // A change of this costs an extra wait.
        if report.worlds % WORLDS_PER_NORMALIZATION == 0 {
            normalization = generate::normalization(&mut random);
        }
        let world = generate::world(&mut random, mesh.default, normalization, &mesh.services, &keys);
        let tokens = generate::tokens(&mut random, &world, &keys, seconds());
        let groups = asks(&mut random, &world, &tokens, mesh);
        mesh.take(&world).await?;
        let seen = try_join_all(groups.iter().map(|group| mesh.ask(group))).await?;
        report.worlds += 1;
        let engine = Engine::of(&world, mesh.trust_domain())?;
        report.order += order::check(mesh, &world, &engine).await?;
        for (ask, seen) in groups.iter().flatten().zip(seen.iter().flatten()) {
            let caller = &mesh.callers[ask.caller];
            let ours = engine.decide(ask, caller);
            let case = Case { world: &world, trust_domain: mesh.trust_domain(), ask, caller, ours: &ours, seen };
            report.requests += 1;
            let Some(difference) = case.difference() else {
                match ours.verdict {
                    Verdict::Allow => report.agreed.0 += 1,
                    Verdict::Deny => report.agreed.1 += 1,
                }
                continue;
            };
            match Class::of(&case, difference) {
                Some(class) => *report.classes.entry((class.name, difference)).or_default() += 1,
                None => failures.push(Failure {
                    difference,
                    world: world.clone(),
                    ask: ask.clone(),
                    ours: ours.clone(),
                    seen: seen.clone(),
                }),
            }
        }
    }
    for (index, mut failure) in failures.into_iter().enumerate() {
        if index < SHRUNK {
            failure = shrink(mesh, failure).await?;
        }
        let Failure { difference, world, ask, ours, seen } = &failure;
        let caller = &mesh.callers[ask.caller];
        let text = case_file::text(&Case { world, trust_domain: mesh.trust_domain(), ask, caller, ours, seen });
        report.failures.push(format!("# {}\n{text}", difference.as_str()));
    }
    Ok(report)
}

/// Requests to each service, grouped by caller.
fn asks(random: &mut Rng, world: &World, tokens: &[Placed], mesh: &Mesh) -> Vec<Vec<Ask>> {
    let mut groups = Vec::new();
    for destination in &mesh.services {
        // Mostly ordinary services, and one of the others.
        let mut callers: Vec<usize> = (0..SERVICES.len()).collect();
        random.shuffle(&mut callers);
        callers.truncate(CALLERS - 1);
        callers.push(random.usize(SERVICES.len()..mesh.callers.len()));
        for caller in callers {
            groups.push((0..REQUESTS).map(|_| generate::ask(random, world, tokens, destination, caller)).collect());
        }
    }
    groups
}

impl Report {
    fn joined(mut self, other: Report) -> Report {
        self.worlds += other.worlds;
        self.requests += other.requests;
        self.agreed.0 += other.agreed.0;
        self.agreed.1 += other.agreed.1;
        self.order += other.order;
        for (key, count) in other.classes {
            *self.classes.entry(key).or_default() += count;
        }
        self.failures.extend(other.failures);
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} policies, {} requests in {:.1} s",
            self.seed,
            self.worlds,
            self.requests,
            self.time.as_secs_f64()
        )?;
        writeln!(f, "  agreed     {:>7} allowed, {} refused", self.agreed.0, self.agreed.1)?;
        writeln!(f, "  agreed     {:>7} answers of Consul's API on order and connections", self.order)?;
        for ((name, difference), count) in &self.classes {
            writeln!(f, "  documented {count:>7} {name}, {}", difference.as_str())?;
        }
        writeln!(f, "  unexplained {:>6}", self.failures.len())?;
        for failure in &self.failures {
            writeln!(f, "---\n{failure}")?;
        }
        Ok(())
    }
}
