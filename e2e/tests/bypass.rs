//! Every published bypass in `testdata/bypass`, through real Traefik with the real plugin, and natively.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_authoring::cases::Expected;
use portcullis_e2e::bypass::{self, BypassFile};
use portcullis_e2e::echo::Echo;
use portcullis_e2e::guarded::{Compiled, Entry, Gateway, Guarded, HTTP1};
use portcullis_e2e::mutation::readings;
use portcullis_e2e::parts::{self, Parts};
use portcullis_e2e::report;
use portcullis_e2e::wire::{Head, Wire};
use portcullis_policy::Verdict;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a second request may take to arrive.
const LATER: Duration = Duration::from_millis(50);

/// A file with the backend behind it.
struct Ward {
    file: BypassFile,
    echo: Echo,
    arrived: Arc<Mutex<Vec<Head>>>,
}

async fn ward(file: BypassFile) -> Ward {
    let arrived: Arc<Mutex<Vec<Head>>> = Arc::default();
    let list = Arc::clone(&arrived);
    let echo = Echo::start(Arc::new(move |head: &Head| list.lock().unwrap().push(head.clone()))).await.unwrap();
    Ward { file, echo, arrived }
}

/// Sends every case on both ways in: the number of requests, and what went wrong by file.
async fn everything(parts: &Parts, with_plugin: bool) -> (usize, BTreeMap<String, Vec<String>>) {
    let mut wards = Vec::new();
    for file in bypass::files().unwrap() {
        wards.push(ward(file).await);
    }
    let policy = |file: &BypassFile| Compiled::new(&file.name, &file.file).unwrap();
    let services: Vec<Guarded> = wards
        .iter()
        .map(|ward| Guarded {
            name: ward.file.name.clone(),
            rule: String::new(),
            policy: with_plugin.then(|| policy(&ward.file)),
            strip_prefix: ward.file.strip_prefix.clone(),
            url: ward.echo.url(),
        })
        .collect();
    let gateway = Gateway::start(parts, &services).await.unwrap();
    let (mut n_requests, mut failures) = (0, BTreeMap::new());
    for ward in &wards {
        let failures: &mut Vec<String> = failures.entry(ward.file.name.clone()).or_default();
        for entry in HTTP1 {
            for index in 0..ward.file.wires.len() {
                n_requests += 1;
                let wrong = through_traefik(&gateway, ward, entry, index).await;
                failures.extend(wrong.map(|wrong| format!("{} requests[{index}] {entry:?}: {wrong}", ward.file.name)));
            }
        }
    }
    (n_requests, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_published_bypass_reaches_the_backend_in_a_dangerous_form() {
    let Some(parts) = Parts::for_test() else { return };
    let (n_requests, failures) = everything(&parts, true).await;
    report::say(&format!("{} files, {n_requests} requests through Traefik", failures.len()));
    let failures: Vec<String> = failures.into_values().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_requests > 150, "only {n_requests} requests were found");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_plugin_something_of_every_file_does() {
    let Some(parts) = Parts::for_test() else { return };
    let (n_requests, failures) = everything(&parts, false).await;
    let n_failures: usize = failures.values().map(Vec::len).sum();
    report::say(&format!("without the plugin {n_failures} of {n_requests} requests are not as they should be"));
    for (file, failures) in failures {
        assert!(!failures.is_empty(), "{file} tests nothing that Traefik alone does not do");
    }
}

/// Sends one case and says what is wrong with what came of it.
async fn through_traefik(gateway: &Gateway, ward: &Ward, entry: Entry, index: usize) -> Option<String> {
    let (file, case) = (&ward.file.file, &ward.file.file.requests[index]);
    let wired = &ward.file.wires[index];
    let host = format!("{}.localhost", ward.file.name);
    let head = wired.head(case, &host);
    let mut wire = Wire::new(gateway.client(entry, &wired.uris(case)).unwrap(), &host);
    ward.arrived.lock().unwrap().clear();
    // A connection that is closed without an answer is a refusal, too.
    let body = wired.body();
    let reply = tokio::time::timeout(PATIENCE, wire.send_with(&head, &body)).await.ok().and_then(Result::ok);
    let status = reply.as_ref().map(|reply| reply.status);
    if wired.any {
        // What came out of the request would come after its answer.
        tokio::time::sleep(LATER).await;
    }
    let arrived = std::mem::take(&mut *ward.arrived.lock().unwrap());
    if arrived.len() > 1 {
        return Some(format!("several requests have arrived: {arrived:?}"));
    }
    if wired.any {
        let other = arrived.first().filter(|received| received.target != case.path.as_bytes())?;
        return Some(format!("another request has arrived: {other:?}"));
    }
    let Some(received) = arrived.first() else {
        return match (case.expect, status) {
            (Expected::Deny, None | Some(400..600)) => None,
            _ => Some(format!("answered {status:?}, and nothing has arrived: {reply:?}")),
        };
    };
    let text = received.bytes().escape_ascii().to_string();
    if let Some(missing) = wired.arrives.iter().find(|wanted| !text.contains(wanted.as_str())) {
        return Some(format!("{missing:?} has not arrived: {text}"));
    }
    if let Some(forged) = wired.never.iter().find(|unwanted| text.contains(unwanted.as_str())) {
        return Some(format!("{forged:?} has arrived: {text}"));
    }
    if case.expect == Expected::Allow {
        return (status != Some(200)).then(|| format!("answered {status:?}: {reply:?}"));
    }
    // Traefik has made something else of it. Whatever a server may read there has to be allowed on its own.
    if received.target == head.target || ward.file.strip_prefix.is_some() {
        return Some(format!("it has arrived: {text}"));
    }
    let runner = file.runner(&ward.file.name).unwrap();
    readings::paths(&received.target).iter().find_map(|path| {
        let decision = file.run(&runner, &bypass::arrived(case, received, path));
        let denied = decision.verdict == Verdict::Deny;
        denied.then(|| format!("what has arrived may be read as {}: {text}", path.escape_ascii()))
    })
}

#[test]
fn the_policy_core_denies_the_same_requests() {
    let (mut n_requests, mut failures) = (0, Vec::new());
    for file in bypass::files().unwrap() {
        let runner = file.file.runner(&file.name).unwrap();
        failures.extend(runner.problems.iter().map(|problem| format!("{}: {problem}", file.name)));
        for (index, (case, wired)) in file.file.requests.iter().zip(&file.wires).enumerate() {
            if wired.is_wire_only() {
                continue;
            }
            n_requests += 1;
            let differences = case.differences(&file.file.run(&runner, case));
            failures.extend(differences.into_iter().map(|it| format!("{} requests[{index}]: {it}", file.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_requests > 80, "only {n_requests} requests were found");
}

#[test]
fn the_security_page_names_every_advisory_and_no_other() {
    let page = std::fs::read_to_string(parts::root().join("docs/security.md")).unwrap();
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| CVE-") || line.starts_with("| CWE-")).collect();
    let mut n_advisories = 0;
    for file in bypass::files().unwrap() {
        assert!(!file.advisories.is_empty(), "{}", file.name);
        // What the fuzzer has found is nobody's advisory.
        for id in file.advisories.keys().filter(|id| id.starts_with("CVE-") || id.starts_with("CWE-")) {
            n_advisories += 1;
            let found = rows.iter().any(|row| row.contains(id.as_str()) && row.contains(&file.name));
            assert!(found, "{id} of {} is not in docs/security.md", file.name);
        }
    }
    assert!(n_advisories >= rows.len(), "the page names {} advisories, the files {n_advisories}", rows.len());
}
