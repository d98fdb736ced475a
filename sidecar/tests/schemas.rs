//! The committed schema and definition of `rate-limits` are those of the types, and hold what the reader holds: examples of
//! the documentation and of the policy tests.
//!
//! `PORTCULLIS_BLESS=1` writes the files anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use portcullis::kube::rate_limits;
use portcullis_authoring::read;
use portcullis_policy::{PolicySettings, Severity};
use serde_json::{Value, json};

const SCHEMA: &str = "docs/reference/schemas/rate-limits.schema.json";
const DEFINITION: &str = "deploy/crds/ratelimits.portcullis.io.yaml";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn check(path: &str, want: &str) {
    if env::var("PORTCULLIS_BLESS").is_ok_and(|it| it == "1") {
        fs::write(project(path), want).unwrap();
    }
    let found = fs::read_to_string(project(path)).unwrap_or_default();
    assert!(
        found == want,
        "{path} is not what the types say; write it by PORTCULLIS_BLESS=1 cargo test -p portcullis --test schemas"
    );
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    check(SCHEMA, &format!("{}\n", serde_json::to_string_pretty(&rate_limits::schema()).unwrap()));
}

#[test]
fn the_committed_definition_is_that_of_the_types() {
    let definition = rate_limits::definition();
    assert_eq!(definition["metadata"]["name"], "ratelimits.portcullis.io");
    let yaml = serde_saphyr::to_string(&definition).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), definition);
    check(DEFINITION, &format!("# Made from sidecar/src/kube/rate_limits.rs; see sidecar/tests/schemas.rs.\n{yaml}"));
}

/// Every entry of the kind in the policy tests, and in the documentation's examples.
fn examples() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for path in ["limits", "limit-keys", "limits-instance-level"] {
        let text = fs::read_to_string(project(&format!("testdata/decisions/{path}.yaml"))).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        found.extend(file["policy"].as_array().unwrap().iter().map(|it| (path.to_owned(), it.clone())));
    }
    for path in ["docs/reference/rate-limits.md", "docs/guide/rate-limits.md"] {
        let text = fs::read_to_string(project(path)).unwrap();
        for block in text.split("```yaml\n").skip(1).map(|it| it.split("```").next().unwrap()) {
            let document: Value =
                serde_saphyr::from_str(block).unwrap_or_else(|error| panic!("{path}: {error}\n{block}"));
            match document {
                Value::Array(list) => found.extend(list.into_iter().map(|it| (path.to_owned(), it))),
                entry => found.push((path.to_owned(), entry)),
            }
        }
    }
    found
}

fn problems(entry: &Value) -> Vec<String> {
    let provider = json!({"Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "JSONWebKeySet": {"Local": {"JWKS": "eyJrZXlzIjpbXX0="}}});
    let settings = PolicySettings { trust_domains: vec!["td.consul".to_owned()], ..PolicySettings::default() };
    let (_, problems) = read::entries(&[("it".to_owned(), json!([entry, provider]))], settings);
    problems.into_iter().filter(|it| it.severity >= Severity::Error).map(|it| it.to_string()).collect()
}

#[test]
fn examples_are_read_without_a_problem_and_hold_to_the_schema() {
    let schema = rate_limits::schema();
    let resource = rate_limits::definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let (mut entries, mut resources) = (0, 0);
    for (place, entry) in examples() {
        assert_eq!(problems(&entry), Vec::<String>::new(), "{place}: {entry}");
        if entry["Kind"] == "rate-limits" {
            entries += 1;
            assert_eq!(faults(&schema, &schema, &entry, ""), Vec::<String>::new(), "{place}");
        } else if entry["kind"] == "RateLimits" {
            resources += 1;
            assert_eq!(faults(&resource, &resource, &entry, ""), Vec::<String>::new(), "{place}");
        }
    }
    assert!(entries >= 8 && resources >= 1, "{entries} entries and {resources} resources were found");
}

#[test]
fn what_the_reader_refuses_the_schema_refuses() {
    let schema = rate_limits::schema();
    let limit = |limit: Value| json!({"Kind": "rate-limits", "Name": "api", "Limits": [limit]});
    for bad in [
        json!({"Kind": "rate-limits", "Name": "api", "Limit": [{"Name": "a", "Rate": {"Requests": 1}}]}),
        limit(json!({"Rate": {"Requests": 1}})),
        limit(json!({"Name": "a b", "Rate": {"Requests": 1}})),
        limit(json!({"Name": "a"})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Quota": {"Requests": 1, "Window": "day"}})),
        limit(json!({"Name": "a", "Rate": {"Requests": 0}})),
        limit(json!({"Name": "a", "Quota": {"Requests": 1, "Window": "week"}})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Key": ["sauce"]})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Key": [{"ClientAddress": {"IPv4Prefix": 33}}]})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Match": [{"PathPrefix": "api"}]})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Costs": [{"PathPrefix": "/a", "Cost": -1}]})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Tiers": [{"Sources": [{"Name": "a"}]}]})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Mode": "maybe"})),
        limit(json!({"Name": "a", "Rate": {"Requests": 1}, "Scope": "world"})),
    ] {
        assert!(!faults(&schema, &schema, &bad, "").is_empty(), "the schema takes {bad}");
        assert!(!problems(&bad).is_empty(), "the reader takes {bad}");
    }
}

/// What of a value breaks a schema, as far as ours go: a validator of its own would be forty crates.
fn faults(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return faults(root, root.pointer(&reference[1..]).unwrap(), value, place);
    }
    let mut found = Vec::new();
    let mut fault = |what: &str| found.push(format!("{place}: {what}"));
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    match &schema["type"] {
        Value::String(kind) if !is(kind) => fault(&format!("no {kind}")),
        Value::Array(kinds) if !kinds.iter().any(|it| is(it.as_str().unwrap())) => fault("of no such type"),
        _ => {}
    }
    if schema.get("const").is_some_and(|it| it != value)
        || schema["enum"].as_array().is_some_and(|it| !it.contains(value))
    {
        fault("another word");
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        fault("too small");
    }
    if let (Some(most), Some(number)) = (schema["maximum"].as_f64(), value.as_f64())
        && number > most
    {
        fault("too large");
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        let holds = match pattern {
            "^/" => text.starts_with('/'),
            "^[A-Za-z0-9._-]+$" => text.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it)),
            other => panic!("{other}"),
        };
        if !holds {
            fault("another text");
        }
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                fault(&format!("{name} is missing"));
            }
        }
        for (name, inner) in object {
            let place = format!("{place}.{name}");
            match schema["properties"].get(name) {
                Some(property) => found.extend(faults(root, property, inner, &place)),
                None if schema["additionalProperties"] == false => found.push(format!("{place}: not known")),
                None => {}
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(root, &schema["items"], item, &format!("{place}[{index}]")));
    }
    for (kind, alternatives) in [("oneOf", &schema["oneOf"]), ("anyOf", &schema["anyOf"])] {
        let Some(alternatives) = alternatives.as_array() else { continue };
        let held = alternatives.iter().filter(|it| faults(root, it, value, place).is_empty()).count();
        if held == 0 || (kind == "oneOf" && held != 1) {
            found.push(format!("{place}: {held} of {kind} hold"));
        }
    }
    found
}
