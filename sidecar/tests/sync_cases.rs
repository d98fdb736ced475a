//! Runs `testdata/sync/*.yaml`: options and Kubernetes objects in, registrations and notes out.
//!
//! A file is `{shared?, cases: [{name, options?, manifests, expect?, notes?, routes?}]}`; `shared` only holds YAML anchors. `expect` lists
//! all registrations in order, each as the part of it that matters: maps may leave keys out, lists are whole, and `null`
//! means that a key must be absent. `notes` lists all notes in order in the same way, those about routes last; their `what` is a piece of the text.
//! `routes`, where it stands, is what the gate's file must hold: a part of its `http` section.

use std::{collections::BTreeSet, fs, path::Path};

use portcullis::{
    config::{Config, GateConfig},
    gate,
    kube::{Cluster, Manifests},
    sync::{SyncOptions, desired, routes},
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "shared")]
    _shared: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    options: SyncOptions,
    manifests: Vec<Value>,
    #[serde(default)]
    expect: Vec<Value>,
    #[serde(default)]
    notes: Vec<Value>,
    #[serde(default)]
    routes: Option<Value>,
}

/// The gate that `routes` are written for.
const CONFIG: &str = "manifests: k\npolicy: {directory: p}\nsnapshot: {file: s/policy.snapshot}\ngate: {file: g.yml}\n";

/// The rules of the contract that are about desired state; each must be a word of some case's name.
const RULES: &str = "A1 A2 A3 A4 A5 A6 A7 A8 A9 B1 B2 B3 B4 B5 B6 C1 C2 C3 C4 C5 C6 D1 D2 D3 D4 E1 E2 E3 E4 E5 \
                     F1 F2 F3 F4 G1 X1 X2 X3";

/// Where `found` differs from what `wanted` says of it.
fn differences(at: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, wanted) in wanted {
                let at = format!("{at}.{key}");
                differences(&at, wanted, found.get(key).unwrap_or(&Value::Null), out);
            }
        }
        (Value::String(wanted), Value::String(found)) if at.rsplit('.').next() == Some("what") => {
            if !found.contains(wanted.as_str()) {
                out.push(format!("{at}: {found:?} does not contain {wanted:?}"));
            }
        }
        _ if wanted == found => {}
        _ => out.push(format!("{at}: wanted {wanted}, found {found}")),
    }
}

fn compare<T: serde::Serialize>(kind: &str, wanted: &[Value], found: &[T], out: &mut Vec<String>) {
    let found: Vec<Value> = found.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    for (index, wanted) in wanted.iter().enumerate() {
        assert!(wanted.as_object().is_some_and(|map| !map.is_empty()), "{kind}[{index}] says nothing");
        differences(&format!("{kind}[{index}]"), wanted, found.get(index).unwrap_or(&Value::Null), out);
    }
    if wanted.len() != found.len() {
        let found = serde_json::to_string_pretty(&found).unwrap();
        out.push(format!("{kind}: wanted {}, found {found}", wanted.len()));
    }
}

fn gate_config() -> GateConfig {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.yaml");
    fs::write(&path, CONFIG).unwrap();
    Config::load(&path).unwrap().gate
}

fn run(case: &Case) -> Vec<String> {
    if let Err(error) = case.options.validate() {
        return vec![error.to_string()];
    }
    let read = Manifests::from_values("case", case.manifests.clone());
    let cluster = match read.and_then(|manifests| Cluster::from_manifests([manifests])) {
        Ok(cluster) => cluster,
        Err(errors) => return errors.iter().map(ToString::to_string).collect(),
    };
    let got = desired(&cluster, &case.options);
    let mut out = Vec::new();
    let (routes, noted) = routes(&got.registrations);
    let mut notes = got.notes;
    if let Some(wanted) = &case.routes {
        let found = gate::configuration(&routes, &gate_config());
        differences("routes", wanted, &found["http"], &mut out);
        // Elsewhere only what the registrations say is of interest.
        notes.extend(noted);
    }
    if case.routes.is_none() || !case.expect.is_empty() {
        compare("expect", &case.expect, &got.registrations, &mut out);
    }
    compare("notes", &case.notes, &notes, &mut out);
    out
}

#[test]
fn every_case_gives_the_registrations_and_notes_it_names() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sync");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    let (mut failures, mut names) = (Vec::new(), BTreeSet::new());
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with('#'), "{} does not say why it exists", path.display());
        let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in &file.cases {
            assert!(names.insert(case.name.clone()), "two cases are called {}", case.name);
            for difference in run(case) {
                failures.push(format!("{}: {}: {difference}", path.display(), case.name));
            }
        }
    }
    for rule in RULES.split_whitespace() {
        let tells = |name: &String| name.split([' ', ',']).any(|word| word == rule);
        assert!(names.iter().any(tells), "no case is named after rule {rule}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
