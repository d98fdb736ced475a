//! Runs `testdata/sync/diff/*.yaml`: desired registrations and a live catalog in, changes and conflicts out. The file says
//! how its cases are written.

use std::{collections::BTreeMap, fs, path::Path};

use portcullis::{
    consul::{
        Live, Origin, Scope, diff,
        live::{LiveCheck, LiveNode, LiveService},
        transactions::transactions,
    },
    sync::Registration,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Instances are repeated so often, with a number behind their IDs.
    #[serde(default)]
    repeat: Option<usize>,
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    wanted: Vec<Instance>,
    #[serde(default)]
    live: Vec<Instance>,
    #[serde(default)]
    expect: Vec<String>,
    /// How each begins.
    #[serde(default)]
    conflicts: Vec<String>,
    #[serde(default)]
    transactions: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Node {
    by: Option<String>,
    agent: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    #[serde(default = "synthetic")]
    on: String,
    id: String,
    name: String,
    #[serde(default = "east")]
    by: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default = "port")]
    port: u16,
    #[serde(default = "passing")]
    status: String,
    #[serde(default = "one")]
    weight: u16,
    #[serde(default, rename = "override")]
    overridable: bool,
}

fn synthetic() -> String {
    "k8s-sync".to_owned()
}

fn east() -> String {
    "east".to_owned()
}

fn port() -> u16 {
    30080
}

fn passing() -> String {
    "passing".to_owned()
}

fn one() -> u16 {
    1
}

fn marks(by: &str) -> Value {
    if by == "-" { json!({}) } else { json!({"external-source": "kubernetes", "external-k8s-cluster": by}) }
}

impl Instance {
    fn parts(&self) -> (Value, Value) {
        let Self { on, id, name, by, tags, port, status, weight, overridable } = self;
        let service = json!({"ID": id, "Service": name, "Tags": tags, "Address": "192.0.2.1", "Meta": marks(by),
            "Port": port, "Weights": {"Passing": weight, "Warning": 1}, "EnableTagOverride": overridable, "ModifyIndex": 7});
        let check = json!({"CheckID": format!("ns/{id}"), "Name": "Readiness", "Type": "kubernetes-readiness", "Node": on,
            "Status": status, "Output": "", "ServiceID": id, "ServiceName": name});
        (service, check)
    }

    fn registration(&self) -> Registration {
        let (service, check) = self.parts();
        let meta = if self.on == "k8s-sync" { json!({}) } else { marks("east") };
        let whole = json!({"Node": self.on, "Address": "127.0.0.1", "NodeMeta": meta, "Service": service, "Check": check,
            "SkipNodeUpdate": self.on == "k8s-sync"});
        serde_json::from_value(whole).unwrap()
    }
}

fn repeated(instances: &[Instance], times: Option<usize>) -> Vec<Instance> {
    let Some(times) = times else { return instances.to_vec() };
    let numbered = |it: &Instance, number: usize| Instance { id: format!("{}-{number:03}", it.id), ..it.clone() };
    (0..times).flat_map(|number| instances.iter().map(move |it| numbered(it, number))).collect()
}

fn live(case: &Case) -> Live {
    let mut live = Live::default();
    for (name, node) in &case.nodes {
        let meta = serde_json::from_value(marks(node.by.as_deref().unwrap_or("-"))).unwrap();
        let mut made = LiveNode { address: "127.0.0.1".to_owned(), meta, modify_index: 5, ..LiveNode::default() };
        if node.agent {
            made.checks.insert("serfHealth".into(), LiveCheck::default());
        }
        live.nodes.insert(name.clone(), made);
    }
    for instance in repeated(&case.live, case.repeat) {
        let (service, check) = instance.parts();
        let node = live.nodes.entry(instance.on.clone()).or_default();
        let (service, check): (LiveService, LiveCheck) =
            (serde_json::from_value(service).unwrap(), serde_json::from_value(check).unwrap());
        node.services.insert(service.id.clone(), service);
        node.checks.insert(check.check_id.clone(), check);
    }
    live
}

fn run(case: &Case) -> Vec<String> {
    let scope =
        Scope { origin: Origin::Kubernetes, cluster: "east".to_owned(), node: "k8s-sync".to_owned(), per_node: true };
    let wanted: Vec<_> = repeated(&case.wanted, case.repeat).iter().map(Instance::registration).collect();
    let found = diff(&wanted, &live(case), &scope);
    let nodes = found.nodes.iter().chain(&found.empty_nodes).map(ToString::to_string);
    let lines: Vec<_> = nodes.chain(found.instances().map(ToString::to_string)).collect();
    let mut out = Vec::new();
    if case.repeat.is_none() && lines != case.expect {
        out.push(format!("wanted {:#?}, found {lines:#?}", case.expect));
    }
    let conflicts: Vec<_> = found.conflicts.iter().map(ToString::to_string).collect();
    let fits = conflicts.iter().zip(&case.conflicts).all(|(found, wanted)| found.starts_with(wanted));
    if conflicts.len() != case.conflicts.len() || !fits {
        out.push(format!("wanted conflicts {:?}, found {conflicts:?}", case.conflicts));
    }
    let n_transactions = transactions(&found).len();
    if case.transactions.is_some_and(|wanted| wanted != n_transactions) {
        out.push(format!("wanted {:?} transactions, found {n_transactions}", case.transactions));
    }
    out
}

#[test]
fn every_case_gives_the_changes_and_conflicts_it_names() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sync/diff");
    let mut failures = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in &file.cases {
            failures.extend(run(case).into_iter().map(|it| format!("{}: {}: {it}", path.display(), case.name)));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
