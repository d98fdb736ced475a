//! `cargo xtask fuzz`: libFuzzer on the targets of `portcullis-fuzz`, with the stable toolchain.
//!
//! The instrumentation is compiler flags that stable has too; sanitizers are not, and would find little in code without
//! `unsafe`. Findings are written where the ordinary test of `portcullis-fuzz` replays them from then on.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{project::Project, run};

/// Seconds of each target when nothing is said.
const SECONDS: u32 = 60;
/// One input may take this many seconds. Most take microseconds; the worst regex takes a second to compile, without
/// instrumentation and on a machine of its own.
const TIMEOUT_SECONDS: u32 = 60;
/// Memory of one process, in MiB.
const MEMORY_MIB: u32 = 1024;

/// The flags by which `cargo fuzz` instruments for libFuzzer.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Targets by name; none is all.
    pub(crate) targets: Vec<String>,
    /// How long each is run.
    pub(crate) seconds: u32,
    /// Targets at once.
    pub(crate) jobs: usize,
}

impl Default for Plan {
    fn default() -> Self {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        Self { targets: Vec::new(), seconds: SECONDS, jobs }
    }
}

/// A target as its library names it.
struct Target {
    name: String,
    max_len: String,
}

/// Builds the programs, gives each its seeds and what earlier runs found interesting, and runs them.
pub(crate) fn fuzz(project: &Project, plan: &Plan) -> Result<()> {
    let corpora = project.target.join("fuzz").join("corpus");
    let targets = chosen(seeds(project, &corpora)?, &plan.targets)?;
    let programs = build(project)?;
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    run::say(&format!("{} targets, {} s each, {} at once", targets.len(), plan.seconds, plan.jobs));
    thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, targets.len()) {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run_target(project, target, &programs, &corpora, plan.seconds);
                    let text = match &outcome {
                        Ok(line) => format!("{}: {line}", target.name),
                        Err(error) => format!("{}: {error:#}", target.name),
                    };
                    run::say(&text);
                    // Only a panic of another thread poisons the lock, and that ends the scope anyway.
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((target.name.clone(), outcome.is_ok()));
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let failed: Vec<&str> = outcomes.iter().filter(|(_, good)| !good).map(|(name, _)| name.as_str()).collect();
    ensure!(outcomes.len() == targets.len(), "not every target was run");
    ensure!(failed.is_empty(), "findings in: {}", failed.join(", "));
    Ok(())
}

/// Writes the seeds and learns which targets there are.
fn seeds(project: &Project, corpora: &Path) -> Result<Vec<Target>> {
    let mut program = run::cargo(project);
    program.args(["run", "--quiet", "--package", "portcullis-fuzz", "--example", "seeds", "--"]).arg(corpora);
    let text = run::output(&mut program).context("writing the seeds")?;
    let target = |line: &str| {
        let (name, max_len) = line.split_once(' ')?;
        Some(Target { name: name.to_owned(), max_len: max_len.to_owned() })
    };
    text.lines().map(target).collect::<Option<_>>().context("the seeds' program names no targets")
}

fn chosen(targets: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    let known: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(targets.into_iter().filter(|target| names.is_empty() || names.contains(&target.name)).collect())
}

/// Builds all programs; the folder in which they are.
fn build(project: &Project) -> Result<PathBuf> {
    let folder = project.root.join("fuzz").join("libfuzzer");
    // The versions that are shipped are the ones to fuzz; cargo adds libFuzzer and drops what is not used.
    fs::copy(project.root.join("Cargo.lock"), folder.join("Cargo.lock")).context("copying Cargo.lock")?;
    let (host, target) = (host(project)?, project.target.join("fuzz"));
    let mut cargo = run::cargo(project);
    // With `--target`, so that build scripts and macros are not instrumented.
    cargo.args(["build", "--release", "--bins", "--target", &host]).current_dir(&folder);
    cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\x1f"));
    run::check(&mut cargo)?;
    Ok(target.join(host).join("release"))
}

fn host(project: &Project) -> Result<String> {
    let mut command = run::program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = run::output(command.current_dir(&project.root).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Runs one target; a line about what it did. An error names the finding and how to see it again.
fn run_target(project: &Project, target: &Target, programs: &Path, corpora: &Path, seconds: u32) -> Result<String> {
    let name = &target.name;
    let findings = project.root.join("testdata").join("fuzz").join(name);
    fs::create_dir_all(&findings)?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(findings.join(""));
    let log = corpora.join(format!("{name}.log"));
    let mut program = Command::new(programs.join(name));
    program.arg(prefix).arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={}", target.max_len));
    program.args([format!("-timeout={TIMEOUT_SECONDS}"), format!("-rss_limit_mb={MEMORY_MIB}")]);
    program.args(["-print_final_stats=1"]).env("RUST_BACKTRACE", "0");
    let dictionary = project.root.join("fuzz/libfuzzer/dictionaries").join(format!("{name}.dict"));
    if dictionary.is_file() {
        program.arg(format!("-dict={}", dictionary.display()));
    }
    program.arg(corpora.join(name)).arg(&findings);
    let status = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?).status();
    let status = status.with_context(|| format!("cannot run the fuzz target `{name}`"))?;
    // Empty unless something was found now or before.
    let _ = fs::remove_dir(&findings);
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!(
            "FINDING ({status})\n{}\nthe input is in testdata/fuzz/{name}/; again, without libFuzzer: \
             cargo test --package portcullis-fuzz -- --nocapture\nthe whole log: {}",
            complaint(&text),
            log.display()
        );
    }
    let executed = statistic(&text, "number_of_executed_units").context("libFuzzer says nothing of its runs")?;
    // A target that dies early or hangs in its seeds must not pass for one that found nothing.
    ensure!(executed >= u64::from(seconds), "only {executed} inputs were tried");
    let rate = executed / u64::from(seconds.max(1));
    let covered = text.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next());
    Ok(format!("{executed} inputs, {rate}/s, {} edges, no finding", covered.unwrap_or("?")))
}

/// What the target said when it failed: from the panic to the artefact.
fn complaint(log: &str) -> String {
    let interesting = |line: &&str| {
        ["panicked at", "ERROR:", "SUMMARY", "Test unit written", "assertion"].iter().any(|word| line.contains(word))
    };
    let mut lines: Vec<&str> = Vec::new();
    let mut after_panic = 0;
    for line in log.lines() {
        if line.contains("panicked at") {
            after_panic = 5;
        }
        if after_panic > 0 || interesting(&line) {
            lines.push(line);
        }
        after_panic = usize::saturating_sub(after_panic, 1);
    }
    lines.join("\n")
}

/// A number of libFuzzer's final statistics, such as `stat::number_of_executed_units: 123`.
fn statistic(log: &str, name: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name))?;
    line.trim_start_matches(':').trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Seed: 1\n#2\tINITED cov: 81 ft: 95 corp: 1/1b\n#9\tDONE   cov: 99 ft: 95 corp: 1/1b\n\
        stat::number_of_executed_units: 123456\nstat::peak_rss_mb:              41\n";

    #[test]
    fn a_statistic_is_found_by_its_name() {
        assert_eq!(statistic(LOG, "number_of_executed_units"), Some(123_456));
        assert_eq!(statistic(LOG, "peak_rss_mb"), Some(41));
        assert_eq!(statistic(LOG, "new_units_added"), None);
    }

    #[test]
    fn a_complaint_is_the_panic_with_its_message() {
        let log =
            "#1 x\nthread panicked at a.rs:1:\nleft: 1\nright: 2\na\nb\nc\n==1== ERROR: libFuzzer: deadly signal\n";
        let said = "thread panicked at a.rs:1:\nleft: 1\nright: 2\na\nb\n==1== ERROR: libFuzzer: deadly signal";
        assert_eq!(complaint(log), said);
    }

    #[test]
    fn an_unknown_target_is_refused() {
        let targets = || vec![Target { name: "path".to_owned(), max_len: "1".to_owned() }];
        assert_eq!(chosen(targets(), &[]).unwrap().len(), 1);
        assert!(chosen(targets(), &["pth".to_owned()]).err().unwrap().to_string().contains("there are: path"));
    }
}
