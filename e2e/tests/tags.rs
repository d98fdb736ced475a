//! Annotations as real Traefik understands them: v1's keys by requests (`testdata/traefik/v1.yaml`), v3's by a configuration that
//! holds every one.

use std::collections::BTreeSet;
use std::fs;

use portcullis_e2e::annotated::{Annotated, PATIENCE, cases, options};
use portcullis_e2e::parts::{self, Mesh, Parts};
use portcullis_e2e::sidecar::Layout;
use portcullis_e2e::traefik::{self, Traefik};
use serde_json::{Map, Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_gate_requests_meet_v1_s_annotations_as_v1_would_have_had_it() {
    let Some(parts) = Parts::for_test() else { return };
    let cases = cases().unwrap();
    let gateway = Annotated::behind_the_gate(&parts, &cases).await.unwrap();
    let failures = gateway.judge(&cases).await.unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_annotations_as_tags_in_consul_s_catalog_mean_the_same() {
    let (Some(parts), Some(mesh)) = (Parts::for_test(), Mesh::for_test()) else { return };
    let mut cases = cases().unwrap();
    cases.retain(|case| !case.gate_only);
    let gateway = Annotated::in_the_catalog(&parts, &mesh, &cases).await.unwrap();
    let failures = gateway.judge(&cases).await.unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_documented_key_of_v1_has_a_request() {
    let cases = cases().unwrap();
    let used: BTreeSet<String> =
        cases.iter().flat_map(|case| case.annotations.keys()).map(|key| key.to_ascii_lowercase()).collect();
    let rules: String =
        cases.iter().filter_map(|case| case.annotations.get("traefik.frontend.rule")).cloned().collect();
    let text = fs::read_to_string(parts::root().join("docs/reference/annotations.md")).unwrap();
    let text = text.split("## Traefik v1").nth(1).unwrap();
    let mut missing = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split(" | ").next().unwrap_or_default();
        for name in cell.split('`').skip(1).step_by(2) {
            let pieces: Vec<String> = name.to_ascii_lowercase().split("<name>").map(str::to_owned).collect();
            let is_used = match name.strip_suffix(':') {
                Some(_) => rules.contains(name),
                None => used.iter().any(|key| key.starts_with(&pieces[0]) && key.ends_with(&pieces[pieces.len() - 1])),
            };
            if !is_used {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "no case for {}", missing.join(", "));
}

/// Every key that the sidecar lets through, in one configuration: with one that Traefik does not know it takes none of it.
#[tokio::test(flavor = "multi_thread")]
async fn traefik_knows_every_key_of_v3_that_is_let_through() {
    let Some(parts) = Parts::for_test() else { return };
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    let text = fs::read_to_string(parts::root().join("sidecar/src/traefik/v3.txt")).unwrap();
    let mut lines = text.lines().peekable();
    let mut http = sample(&mut lines, 0)["http"].clone();
    http["routers"]["own-api"] = traefik::api_router();
    fs::write(layout.dynamic().join("own.yml"), json!({"http": http}).to_string()).unwrap();
    let mut traefik = Traefik::start(options(&parts, folder.path(), &layout, Vec::new())).await.unwrap();
    let taken = traefik.router("own-api@file", PATIENCE).await;
    taken.unwrap_or_else(|error| panic!("{error}\n{:?}", traefik.log()));
}

/// One value for each key. Middlewares have a type each, and servers are a list in a file.
fn sample(lines: &mut std::iter::Peekable<std::str::Lines<'_>>, depth: usize) -> Value {
    let mut map = Map::new();
    while let Some(line) = lines.peek() {
        let text = line.trim_start();
        if line.len() - text.len() != depth {
            break;
        }
        lines.next();
        let (name, kind) = text.split_once(' ').unwrap_or((text, ""));
        let below = sample(lines, depth + 1);
        let value = match kind {
            "" | "open" => below,
            "bool" => json!(true),
            "int" | "count" => json!(42),
            "duration" => json!("42s"),
            "any" => json!({}),
            "list" | "names" | "references" | "regexes" | "networks" | "headers" | "statuses" => json!(["404"]),
            _ => json!("x"),
        };
        match name {
            "middlewares" if depth == 1 => {
                let kinds = value["x"].as_object().cloned().unwrap_or_default();
                // A plugin that is not installed is no key that is not known.
                let kinds = kinds.into_iter().filter(|(kind, _)| kind != "plugin");
                map.insert(
                    name.to_owned(),
                    kinds.map(|(kind, options)| (kind.clone(), json!({kind: options}))).collect(),
                );
            }
            "server" => {
                let only =
                    json!({"url": value["url"], "weight": value["weight"], "preservePath": value["preservePath"]});
                map.insert("servers".to_owned(), json!([only]));
            }
            _ => {
                let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
                let name = if name == "*" { "x" } else { name };
                map.insert(name.to_owned(), if is_list { json!([value]) } else { value });
            }
        }
    }
    Value::Object(map)
}
