//! `cargo xtask test`: every check, in the order in which they are cheap to fail. CI runs exactly this.
//!
//! Each step has a name and can be run alone by `--only`; a step that needs something built builds it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{deny, edge, fuzz, policy_dependencies, project::Project, run, tidy, tools, wasm};

/// What is to be run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Leave out what needs real parts, or takes long to install.
    pub(crate) fast: bool,
    /// Rewrite recorded files instead of comparing with them.
    pub(crate) bless: bool,
    /// Only the step of this name.
    pub(crate) only: Option<String>,
}

/// The crate whose tests run real parts; its folder too.
const END_TO_END: &str = "e2e";

/// The test that needs the module for browsers; it has a step of its own.
const CONSOLE_TEST: &str = "browser";

/// End-to-end tests that wait most of the time, for locks, watches and what nobody may do meanwhile, and whose cases share
/// nothing: these run two at a time. All others have the machine to themselves.
const WAITING: [&str; 5] = ["catalog", "consul", "control_planes", "imports", "kubernetes"];

/// The end-to-end tests that run a second time, with the oldest Consul that registrations are promised for.
const WITH_OLD_CONSUL: [&str; 4] = ["consul", "kv_import", "per_node", "terraform"];

/// How long the step `fuzz` runs each target.
const SMOKE_SECONDS: u32 = 20;

/// A check.
struct Step {
    /// The name for `--only`.
    name: &'static str,
    /// One line for people.
    title: &'static str,
    /// Whether `--fast` runs it.
    fast: bool,
    run: fn(&Project, &Scope) -> Result<()>,
}

const STEPS: [Step; 12] = [
    Step { name: "format", title: "formatting", fast: true, run: format },
    Step {
        name: "tidy",
        title: "the project's rules on its files",
        fast: true,
        run: |project, _| tidy::check(project),
    },
    Step {
        name: "policy",
        title: "what the policy core depends on",
        fast: true,
        run: |project, scope| policy_dependencies::check(project, scope.bless),
    },
    Step { name: "lint", title: "clippy", fast: true, run: lint },
    Step { name: "lint-wasm", title: "clippy on the plugin for WebAssembly", fast: true, run: lint_wasm },
    Step {
        name: "wasm",
        title: "the plugin and its size",
        fast: true,
        run: |project, _| wasm::build_within_budget(project).map(drop),
    },
    Step { name: "unit", title: "unit tests, and the built plugin in wasmtime", fast: true, run: unit },
    Step { name: "console", title: "the core for browsers on every policy test file", fast: true, run: console },
    Step { name: "fuzz", title: "a first look at every fuzz target", fast: false, run: smoke },
    Step { name: "doc", title: "documentation", fast: false, run: doc },
    Step { name: "deny", title: "licences and sources of crates", fast: false, run: |project, _| deny::check(project) },
    Step { name: "e2e", title: "end to end with real parts", fast: false, run: end_to_end },
];

/// Runs the steps; the first that fails ends it. A table of times closes it either way.
pub(crate) fn run(project: &Project, scope: &Scope) -> Result<()> {
    let wanted = |step: &&Step| scope.only.as_ref().map_or(step.fast || !scope.fast, |only| only == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    if steps.is_empty() {
        bail!("there is no such step; there are: {}", STEPS.map(|step| step.name).join(", "));
    }
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for (index, step) in steps.iter().enumerate() {
        run::say(&format!("\n== {}/{} {}: {}", index + 1, steps.len(), step.name, step.title));
        let started = Instant::now();
        let result = (step.run)(project, scope);
        times.push((step.name, started.elapsed(), result.is_ok()));
        if let Err(error) = result {
            outcome = Err(error.context(format!("step `{0}`; again: cargo xtask test --only {0}", step.name)));
            break;
        }
    }
    run::say(&table(&times));
    outcome
}

/// The steps with their times, and their sum.
fn table(times: &[(&str, Duration, bool)]) -> String {
    let row = |name: &str, time: Duration, note: &str| format!("\n{name:<10} {:>7.1} s{note}", time.as_secs_f64());
    let rows = times.iter().map(|(name, time, passed)| row(name, *time, if *passed { "" } else { "  FAILED" }));
    let total = row("total", times.iter().map(|(_, time, _)| *time).sum(), "");
    rows.chain([total]).collect()
}

fn format(project: &Project, _: &Scope) -> Result<()> {
    run::check(run::cargo(project).args(["fmt", "--all", "--check"]))
}

fn lint(project: &Project, _: &Scope) -> Result<()> {
    run::check(run::cargo(project).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn lint_wasm(project: &Project, _: &Scope) -> Result<()> {
    if !wasm::clippy(project)? {
        run::say("skipped: the standard library is built from source here, and clippy would check that too");
    }
    Ok(())
}

fn doc(project: &Project, _: &Scope) -> Result<()> {
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    let mut doc = run::cargo(project);
    run::check(doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", format!("{flags} -Dwarnings")))
}

/// Everything but the end-to-end tests. The crates' tests are chosen by target, not by package: cargo unites the
/// features of the packages it is asked for, and another choice would compile most dependencies a second time.
fn unit(project: &Project, scope: &Scope) -> Result<()> {
    let mut test = cargo_test(project, scope.fast)?;
    test.args(["--lib", "--bins"]);
    for name in integration_tests(project)?.others.into_iter().filter(|name| name != CONSOLE_TEST) {
        test.args(["--test", &name]);
    }
    run::check(&mut test)?;
    run::check(cargo_test(project, scope.fast)?.arg("--doc"))
}

/// The module for browsers, run by wasmtime beside the native engine.
fn console(project: &Project, _: &Scope) -> Result<()> {
    let module = wasm::build_console(project)?;
    let mut test = run::cargo(project);
    // As in [`unit`]: chosen by target, so that nothing is compiled twice.
    test.args(["test", "--workspace", "--test", CONSOLE_TEST]).env("PORTCULLIS_REQUIRE", "1");
    run::check(test.env("PORTCULLIS_CONSOLE", module))
}

/// Long enough to meet what a change broke on the way to the seeds; `cargo xtask fuzz` is for more.
fn smoke(project: &Project, _: &Scope) -> Result<()> {
    fuzz::fuzz(project, &fuzz::Plan { seconds: SMOKE_SECONDS, ..fuzz::Plan::default() })
}

/// The end-to-end tests, one at a time: each measures or loads real processes on the same few processors.
fn end_to_end(project: &Project, _: &Scope) -> Result<()> {
    let names = integration_tests(project)?.end_to_end;
    ensure!(!names.is_empty(), "there are no end-to-end tests in `{END_TO_END}/tests`");
    let present = tools::consul(project)?;
    run_end_to_end(project, &present, &names)?;
    run_end_to_end(project, &tools::old_consul(project)?, &WITH_OLD_CONSUL.map(str::to_owned))
}

/// Runs these end-to-end tests with this Consul.
fn run_end_to_end(project: &Project, consul: &Path, names: &[String]) -> Result<()> {
    let (waiting, alone): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| WAITING.contains(&name.as_str()));
    for (names, threads) in [(alone, 1), (waiting, 2)].into_iter().filter(|(names, _)| !names.is_empty()) {
        let mut test = cargo_test(project, false)?;
        test.env("CONSUL", consul);
        for name in names {
            test.args(["--test", name]);
        }
        run::check(test.args(["--", &format!("--test-threads={threads}")]))?;
    }
    Ok(())
}

/// The differential test alone, longer than among the checks, and optimized: most of the time is ours to compile.
pub(crate) fn oracle(project: &Project, requests: u64, seed: Option<u64>) -> Result<()> {
    let mut test = run::cargo(project);
    test.args(["test", "--release", "--package", "portcullis-e2e", "--test", "oracle", "--", "--nocapture"]);
    test.env("PORTCULLIS_REQUIRE", "1").env("PORTCULLIS_ORACLE_REQUESTS", requests.to_string());
    if let Some(seed) = seed {
        test.env("PORTCULLIS_ORACLE_SEED", seed.to_string());
    }
    run::check(test.env("CONSUL", tools::consul(project)?).env("ENVOY", tools::envoy(project)?))
}

/// `cargo test` with the real parts in the environment. Under `PORTCULLIS_REQUIRE` a test that misses one fails.
fn cargo_test(project: &Project, fast: bool) -> Result<std::process::Command> {
    let module = wasm::build(project)?;
    // With the tests, so that the sidecar is built with the same features of its dependencies as they are.
    run::check(run::cargo(project).args(["build", "--workspace", "--tests", "--bin", "portcullis"]))?;
    let mut test = run::cargo(project);
    test.args(["test", "--workspace"]).env("PORTCULLIS_REQUIRE", "1");
    test.env("PORTCULLIS_WASM", module).env("PORTCULLIS_BIN", edge::sidecar(project, "debug")?);
    if fast {
        // The one real part that the sidecar's own tests run; they say that they are left out.
        test.env("REDIS_SERVER", "none");
    } else {
        test.env("TRAEFIK", tools::traefik(project)?).env("REDIS_SERVER", tools::redis(project)?);
        test.env("CONSUL", tools::consul(project)?).env("ENVOY", tools::envoy(project)?);
        test.env("KUBE_APISERVER", tools::kube_apiserver(project)?).env("ETCD", tools::etcd(project)?);
        test.env("CONSUL_TEMPLATE", tools::consul_template(project)?).env("NGINX_BINARY", tools::nginx(project)?);
    }
    Ok(test)
}

/// The names of integration tests.
#[derive(Debug, Default)]
struct IntegrationTests {
    end_to_end: Vec<String>,
    others: Vec<String>,
}

/// Finds them where cargo does: `<crate>/tests/<name>.rs` and `<crate>/tests/<name>/main.rs`.
fn integration_tests(project: &Project) -> Result<IntegrationTests> {
    let mut tests = IntegrationTests::default();
    for member in std::fs::read_dir(&project.root)? {
        let member = member?.path();
        if !member.join("Cargo.toml").is_file() {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(member.join("tests")) else { continue };
        let names = if member.ends_with(END_TO_END) { &mut tests.end_to_end } else { &mut tests.others };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file() {
                let name = path.file_stem().and_then(|name| name.to_str());
                names.push(name.with_context(|| format!("the name of {}", path.display()))?.to_owned());
            }
        }
    }
    tests.end_to_end.sort();
    tests.others.sort();
    // Cargo chooses by name alone, so that a shared one would run an end-to-end test among the others.
    match tests.others.iter().find(|name| tests.end_to_end.contains(name)) {
        Some(name) => Err(anyhow!("two integration tests are called `{name}`: rename the one in `{END_TO_END}`")),
        None => Ok(tests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_failed_step_and_sums_up() {
        let times = [("format", Duration::from_millis(1240), true), ("lint", Duration::from_secs(100), false)];
        let expected = "\nformat         1.2 s\nlint         100.0 s  FAILED\ntotal        101.2 s";
        assert_eq!(table(&times), expected);
    }

    #[test]
    fn an_unknown_step_is_refused_before_anything_runs() {
        let scope = Scope { only: Some("lnit".to_owned()), ..Scope::default() };
        let error = run(&Project::find().unwrap(), &scope).unwrap_err().to_string();
        assert!(error.contains("format, tidy, policy, lint"), "{error}");
    }

    #[test]
    fn end_to_end_tests_are_told_from_the_others() {
        let folder = std::env::temp_dir().join(format!("portcullis-xtask-tests-{}", std::process::id()));
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for name in ["e2e/Cargo.toml", "e2e/tests/gate.rs", "plugin/Cargo.toml", "plugin/tests/module/main.rs"] {
            file(name);
        }
        file("plugin/tests/cases.json");
        let project = Project { root: folder.clone(), target: folder.clone(), cache: folder.clone() };
        let tests = integration_tests(&project).unwrap();
        assert_eq!((tests.end_to_end, tests.others), (vec!["gate".to_owned()], vec!["module".to_owned()]));
        file("plugin/tests/gate.rs");
        assert!(integration_tests(&project).unwrap_err().to_string().contains("`gate`"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
