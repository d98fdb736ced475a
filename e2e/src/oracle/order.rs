//! The order of intentions, as Consul's own API tells it, beside ours; and what its API says of a connection.

use anyhow::{Context as _, Result, ensure};
use portcullis_policy::candidates::candidates;
use portcullis_policy::model::ServiceName;
use portcullis_policy::snapshot::record::Key;
use portcullis_policy::{Snapshot, Verdict};
use serde_json::Value;

use super::ask::Ask;
use super::callers::SERVICES;
use super::mesh::Mesh;
use super::ours::Engine;
use super::policy::{Rule, World};

/// An intention's place in the order: precedence, destination, source.
type Place = (u8, String, String);

/// Asks Consul for the order of intentions and for its verdicts on connections, and counts the answers that were compared.
/// An answer that is not ours is an error: there is no documented difference here.
pub async fn check(mesh: &Mesh, world: &World, engine: &Engine) -> Result<usize> {
    let mut compared = 0;
    for service in &mesh.services {
        let path = format!("/v1/connect/intentions/match?by=destination&name={service}");
        let matches = mesh.consul().get(&path).await?;
        let theirs = matches[service].as_array().with_context(|| format!("no list in {matches}"))?;
        for (index, caller) in SERVICES.iter().enumerate() {
            let covering = |it: &&Value| it["SourceName"] == *caller || it["SourceName"] == "*";
            let theirs: Vec<Place> = theirs.iter().filter(covering).map(place).collect::<Result<_>>()?;
            let ours = places(engine.snapshot(), caller, service)?;
            ensure!(ours == theirs, "{caller} to {service}: we ask {ours:?}, Consul {theirs:?}, under {world:?}");
            compared += 1;
            // Of permissions and tokens this part of its API knows nothing: it calls all of the former a deny. And where no
            // intention covers the caller it takes the default of ACLs, not that of intentions.
            if theirs.is_empty() || has_token_or_permissions(world, caller, service) {
                continue;
            }
            let path = format!("/v1/connect/intentions/check?source={caller}&destination={service}");
            let allowed = mesh.consul().get(&path).await?["Allowed"].as_bool().context("no verdict")?;
            let ask = Ask {
                caller: index,
                destination: service.clone(),
                method: "GET".to_owned(),
                target: b"/".to_vec(),
                headers: Vec::new(),
            };
            let ours = engine.decide(&ask, &mesh.callers[index]);
            ensure!(
                (ours.verdict == Verdict::Allow) == allowed,
                "{caller} to {service}: Consul's API says {allowed}, we {ours:?}, under {world:?}"
            );
            compared += 1;
        }
    }
    Ok(compared)
}

fn place(intention: &Value) -> Result<Place> {
    let text = |name: &str| intention[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
    let precedence = intention["Precedence"].as_u64().context("no precedence")?;
    Ok((u8::try_from(precedence)?, text("DestinationName")?, text("SourceName")?))
}

/// Where the engine looks and finds something, in its order.
fn places(snapshot: &Snapshot<Vec<u8>>, caller: &str, service: &str) -> Result<Vec<Place>> {
    let (caller, service) = (ServiceName::in_default(caller), ServiceName::in_default(service));
    let mut places = Vec::new();
    for it in candidates((&caller).into(), (&service).into(), snapshot.settings().namespace_wildcards) {
        let key = Key::Intention { destination: it.destination, source: it.source };
        if snapshot.intention(key)?.is_some() {
            places.push((it.precedence, it.destination.name.to_owned(), it.source.name.to_owned()));
        }
    }
    Ok(places)
}

/// Whether an intention that covers the caller speaks of more than the connection.
fn has_token_or_permissions(world: &World, caller: &str, service: &str) -> bool {
    [service, "*"].into_iter().filter_map(|name| world.entry(name)).any(|entry| {
        let rules = [caller, "*"].into_iter().filter_map(|name| entry.source(name)).map(|it| &it.rule);
        entry.jwt.is_some() || rules.into_iter().any(|it| matches!(it, Rule::Permissions(_)))
    })
}
