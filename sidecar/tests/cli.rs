//! The commands as a person or a script meets them: output, errors and exit codes of the built binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn policy_tests_pass_fail_and_refuse_with_0_1_and_2() {
    let good = testdata("decisions/precedence.yaml");
    let output = portcullis(&["test", good.to_str().unwrap()]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, ""));
    assert_eq!(stderr(&output), "tested: 8 passed, 0 failed\n");

    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.yaml");
    fs::write(&bad, fs::read_to_string(&good).unwrap().replace("expect: allow", "expect: deny")).unwrap();
    let output = portcullis(&["test", bad.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("expected deny, got allow"), "{}", stdout(&output));

    fs::write(&bad, "requests: 3\n").unwrap();
    assert_eq!(code(&portcullis(&["test", bad.to_str().unwrap()])), 2);
    assert_eq!(code(&portcullis(&["test", "no-such-file.yaml"])), 2);
    assert_eq!(code(&portcullis(&["test"])), 2);
}

#[test]
fn test_json_prints_one_object_a_request() {
    let file = testdata("decisions/default-deny.yaml");
    let output = portcullis(&["test", "--json", file.to_str().unwrap()]);
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[1]["index"], 1);
    assert_eq!((lines[1]["expect"].as_str(), lines[1]["verdict"].as_str()), (Some("deny"), Some("deny")));
    assert_eq!((lines[1]["rule"].as_str(), lines[1]["status"].as_u64()), (Some("default"), Some(401)));
}

#[test]
fn policy_from_is_relative_to_the_test_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("policy")).unwrap();
    fs::write(
        directory.path().join("policy/db.yaml"),
        "{Kind: service-intentions, Name: db, Sources: [{Name: web, Action: allow}]}",
    )
    .unwrap();
    let file = directory.path().join("tests.yaml");
    fs::write(
        &file,
        "trustDomain: td.consul\npolicyFrom: policy\nrequests: [{source: spiffe://td.consul/ns/default/dc/d/svc/web, destination: db, expect: allow}]\n",
    )
    .unwrap();
    let output = portcullis(&["test", file.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn check_reports_all_problems_at_once_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.yaml");
    fs::write(
        &path,
        "Kind: service-intentions\nName: db\nSources:\n  - {Name: a, Action: alow}\n  - {Name: b, Permissions: [{Action: allow, HTTP: {PathPrefix: x}}]}\n",
    )
    .unwrap();
    let output = portcullis(&["check", path.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    let text = stderr(&output);
    assert!(text.contains("Sources[0].Action: the action is neither `allow` nor `deny`"), "{text}");
    assert!(text.contains("Sources[1].Permissions[0].HTTP.PathPrefix: the path must begin with `/`"), "{text}");
    let output = portcullis(&["check", "--json", path.to_str().unwrap()]);
    let problems: Vec<serde_json::Value> = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(problems.len(), 2);
    fs::write(&path, "Kind: service-intention\nName: db\n").unwrap();
    assert_eq!(code(&portcullis(&["check", path.to_str().unwrap()])), 1, "a misspelt kind may be a deny");
    fs::write(&path, "Kind: [\n").unwrap();
    assert_eq!(code(&portcullis(&["check", path.to_str().unwrap()])), 2);
}

#[test]
fn explain_shows_the_steps_and_its_exit_code_is_the_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("db.yaml");
    fs::write(
        &policy,
        "Kind: service-intentions\nName: db\nSources: [{Name: web, Permissions: [{Action: allow, HTTP: {PathPrefix: /v1, Methods: [GET]}}]}]\n",
    )
    .unwrap();
    let explain = |more: &[&str]| {
        let fixed =
            ["explain", "--policy", policy.to_str().unwrap(), "--trust-domain", "td.consul", "--destination", "db"];
        portcullis(&[&fixed[..], more].concat())
    };
    let output = explain(&["--source", "web", "--path", "/v1/x"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("allow 200: GET /v1/x to db from web"), "{}", stdout(&output));
    let output = explain(&["--source", "web", "--path", "/v2", "--json"]);
    assert_eq!(code(&output), 1);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((json["rule"].as_str(), json["status"].as_u64()), (Some("default"), Some(403)));
    assert!(json["steps"].as_array().unwrap().iter().any(|step| step.as_str().unwrap().contains("no, another path")));
    assert_eq!(code(&portcullis(&["explain", "--destination", "db"])), 2, "a policy must be named");
}

#[test]
fn a_new_key_works_and_its_entry_does_not_hold_its_secret() {
    let output = portcullis(&["key", "new", "--source", "partner", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let key = made["key"].as_str().unwrap();
    let secret = key.rsplit('_').next().unwrap();
    assert!(secret.len() >= 43 && !made["entry"].to_string().contains(secret));

    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.json");
    let intention = serde_json::json!({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "partner", "Action": "allow"}]});
    fs::write(&policy, serde_json::json!([intention, made["entry"]]).to_string()).unwrap();
    let key_file = directory.path().join("key");
    fs::write(&key_file, format!("{key}\n")).unwrap();
    let explain = || {
        portcullis(&[
            "explain",
            "--policy",
            policy.to_str().unwrap(),
            "--destination",
            "api",
            "--api-key-file",
            key_file.to_str().unwrap(),
        ])
    };
    assert_eq!(code(&explain()), 0, "{}", stdout(&explain()));
    fs::write(&key_file, format!("{key}x")).unwrap();
    assert_eq!(code(&explain()), 1);
}

#[test]
fn plan_prints_registrations_and_takes_options() {
    let manifests = testdata("demo/kubernetes");
    let output =
        portcullis(&["plan", "--manifests", manifests.to_str().unwrap(), "--json", "--set", "k8sTag=cluster-a"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let registrations: Vec<serde_json::Value> = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(!registrations.is_empty());
    for registration in &registrations {
        assert!(registration["Service"]["Tags"].as_array().unwrap().contains(&"cluster-a".into()));
        assert_eq!(registration["Check"]["ServiceID"], registration["Service"]["ID"]);
    }
    let output = portcullis(&["plan", "--manifests", manifests.to_str().unwrap(), "--set", "nodePortSync=Sideways"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("nodePortSync"), "{}", stderr(&output));
    assert_eq!(code(&portcullis(&["plan"])), 2);
}

#[test]
fn colour_is_for_terminals_only_and_wrong_usage_is_2() {
    assert!(!stderr(&portcullis(&["test", "no-such-file"])).contains('\x1b'));
    assert_eq!(code(&portcullis(&["no-such-command"])), 2);
    assert_eq!(code(&portcullis(&["--version"])), 0);
    assert!(stdout(&portcullis(&["completions", "bash"])).contains("portcullis"));
    assert!(stdout(&portcullis(&["man"])).contains(".TH"));
}

#[test]
fn explain_shows_which_limits_are_charged_and_why_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("limits.yaml");
    fs::write(
        &policy,
        "Kind: rate-limits\nName: db\nLimits:\n  - {Name: per-caller, Key: [source], Rate: {Requests: 100, Burst: 20}, Costs: [{PathPrefix: /v1, Cost: 3}]}\n  - {Name: reports, Match: [{PathPrefix: /reports}], Quota: {Requests: 5, Window: day}}\n  - {Name: others, Exempt: [{Name: web}], Concurrency: {Requests: 5}, Mode: shadow}\n",
    )
    .unwrap();
    let fixed = ["explain", "--policy", policy.to_str().unwrap(), "--trust-domain", "td.consul", "--default", "allow"];
    let asked = ["--destination", "db", "--source", "web", "--path", "/v1/x"];
    let text = stdout(&portcullis(&[&fixed[..], &asked].concat()));
    for line in [
        "limit rate-limits/db/per-caller: charged 3 units of 100 in 1000 ms, burst 20, bucket web (",
        "limit rate-limits/db/reports: not charged, it is for other requests",
        "limit rate-limits/db/others in shadow: not charged, the caller is exempt",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&portcullis(&[&fixed[..], &asked, &["--json"]].concat()))).unwrap();
    assert_eq!(json["limits"].as_array().unwrap().len(), 1);
    assert_eq!((json["limits"][0]["label"].as_str(), json["limits"][0]["cost"].as_u64()), (Some("web"), Some(3)));
}
