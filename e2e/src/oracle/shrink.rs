//! Makes a case that differs smaller while it still differs in the same way, asking the real sidecar each time.

use anyhow::Result;

use super::ask::Ask;
use super::classes::Class;
use super::compare::{Case, Difference};
use super::mesh::{Mesh, Seen};
use super::ours::Engine;
use super::policy::{Rule, World};
use portcullis_policy::Decision;

/// How many smaller cases are tried at most: each takes the sidecar some tenths of a second.
const MAX_TRIALS: usize = 80;

/// A case that no class explains, as small as it was made.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How the verdicts differ.
    pub difference: Difference,
    /// The policy.
    pub world: World,
    /// The request.
    pub ask: Ask,
    /// What we decided.
    pub ours: Decision,
    /// What the sidecar did.
    pub seen: Seen,
}

/// Asks both sides; the failure if they differ and no class explains it.
pub async fn try_case(mesh: &mut Mesh, world: &World, ask: &Ask) -> Result<Option<Failure>> {
    mesh.take(world).await?;
    let seen = mesh.ask(std::slice::from_ref(ask)).await?.remove(0);
    judge(mesh, world, ask, &seen)
}

/// Compares what was seen with what we decide.
pub fn judge(mesh: &Mesh, world: &World, ask: &Ask, seen: &Seen) -> Result<Option<Failure>> {
    let caller = &mesh.callers[ask.caller];
    let ours = Engine::of(world, mesh.trust_domain())?.decide(ask, caller);
    let case = Case { world, trust_domain: mesh.trust_domain(), ask, caller, ours: &ours, seen };
    let unexplained = case.difference().filter(|it| Class::of(&case, *it).is_none());
    Ok(unexplained.map(|difference| Failure {
        difference,
        world: world.clone(),
        ask: ask.clone(),
        ours,
        seen: seen.clone(),
    }))
}

/// Makes a failure smaller.
pub async fn shrink(mesh: &mut Mesh, mut failure: Failure) -> Result<Failure> {
    let mut trials = 0;
    'smaller: loop {
        for (world, ask) in smaller(&failure.world, &failure.ask) {
            if trials == MAX_TRIALS {
                return Ok(failure);
            }
            trials += 1;
            // A policy that Consul refuses is no smaller case.
            if let Ok(Some(found)) = try_case(mesh, &world, &ask).await
                && found.difference == failure.difference
            {
                failure = found;
                continue 'smaller;
            }
        }
        return Ok(failure);
    }
}

/// Every case that is one step smaller, the largest steps first.
fn smaller(world: &World, ask: &Ask) -> Vec<(World, Ask)> {
    let mut worlds = Vec::new();
    for normalization in world.normalization.smaller() {
        worlds.push(World { normalization, ..world.clone() });
    }
    for (at, entry) in world.entries.iter().enumerate() {
        let mut change = |change: &mut dyn FnMut(&mut World)| {
            let mut world = world.clone();
            change(&mut world);
            worlds.push(world);
        };
        change(&mut |world| drop(world.entries.remove(at)));
        change(&mut |world| world.entries[at].jwt = None);
        for source in 0..entry.sources.len() {
            if entry.sources.len() > 1 {
                change(&mut |world| drop(world.entries[at].sources.remove(source)));
            }
            let Rule::Permissions(permissions) = &entry.sources[source].rule else { continue };
            for permission in 0..permissions.len() {
                let mut alter = |alter: &mut dyn FnMut(&mut Vec<super::policy::Permission>)| {
                    change(&mut |world| {
                        if let Rule::Permissions(list) = &mut world.entries[at].sources[source].rule {
                            alter(list);
                        }
                    });
                };
                if permissions.len() > 1 {
                    alter(&mut |list| drop(list.remove(permission)));
                }
                alter(&mut |list| list[permission].path = None);
                alter(&mut |list| list[permission].methods.clear());
                alter(&mut |list| list[permission].jwt = None);
                for header in 0..permissions[permission].headers.len() {
                    alter(&mut |list| drop(list[permission].headers.remove(header)));
                }
            }
        }
    }
    let named = |world: &World, name: &str| {
        world.clone().requirements_mut().any(|it| it.0.iter().any(|(provider, _)| provider == name))
    };
    for (at, provider) in world.providers.iter().enumerate() {
        if !named(world, &provider.name) {
            let mut world = world.clone();
            world.providers.remove(at);
            worlds.push(world);
        }
    }
    let valid = |world: &World| {
        world.entries.iter().flat_map(|it| &it.sources).all(|source| match &source.rule {
            Rule::Action(_) => true,
            Rule::Permissions(list) => list.iter().all(super::policy::Permission::has_criterion),
        })
    };
    let mut cases: Vec<_> =
        worlds.into_iter().filter(|it| it != world && valid(it)).map(|world| (world, ask.clone())).collect();
    cases.extend(smaller_asks(ask).into_iter().map(|ask| (world.clone(), ask)));
    cases
}

fn smaller_asks(ask: &Ask) -> Vec<Ask> {
    let mut asks = Vec::new();
    for header in 0..ask.headers.len() {
        let mut ask = ask.clone();
        ask.headers.remove(header);
        asks.push(ask);
    }
    if ask.method != "GET" {
        asks.push(Ask { method: "GET".to_owned(), ..ask.clone() });
    }
    if let Some(at) = ask.target.iter().position(|byte| *byte == b'?') {
        asks.push(Ask { target: ask.target[..at].to_vec(), ..ask.clone() });
    }
    if ask.target.len() > 1 {
        asks.push(Ask { target: b"/".to_vec(), ..ask.clone() });
        for at in 1..ask.target.len().min(40) {
            let mut ask = ask.clone();
            ask.target.remove(at);
            asks.push(ask);
        }
    }
    asks
}
