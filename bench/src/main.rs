//! `policy-bench [--rounds N] [--write PATH]`: what a decision costs, as a Markdown table beside its budget. Ends with 0 if
//! every budget holds, 1 if one does not, 2 if it could not be measured. The plugin is the one that `PORTCULLIS_WASM` names.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]

mod built;
mod credentials;
mod guest;
mod measure;
mod native;
mod report;
mod subject;

use std::{env, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use built::{Built, Cold, Headers};
use guest::Plugin;
use native::Native;
use report::Report;
use subject::Layer;

/// Sizes of policies, in intentions.
const SIZES: [usize; 4] = [10, 1000, 10_000, 100_000];
/// Different requests that fit into the processor's own caches, as those of a second do.
const FEW: usize = 1024;
/// So many that nearly every one waits for memory.
const MANY: usize = 65_536;

/// Budgets, in nanoseconds, of issue 4.
mod budget {
    pub(crate) const NATIVE: f64 = 1000.0;
    pub(crate) const FLAT: f64 = 1.3;
    pub(crate) const BUILT: f64 = 10_000.0;
    pub(crate) const TOKEN_AGAIN: f64 = 25_000.0;
    pub(crate) const COLD: f64 = 300_000.0;
    pub(crate) const PLUGIN_BYTES: u64 = 400_000;
}

/// Where the table stands in the file that `--write` names.
const BEGIN: &str = "<!-- policy-bench: begin -->";
const END: &str = "<!-- policy-bench: end -->";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("policy-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let (mut rounds, mut write) = (40, None);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => rounds = value()?.parse::<usize>().context("--rounds")?.max(1),
            "--write" => write = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {word}"),
        }
    }
    ensure!(!cfg!(debug_assertions), "built without optimization, the figures would say nothing");
    let report = measure(rounds)?;
    let text = format!(
        "{rounds} rounds, everything in turn; processor time of one thread, lower quartiles; ratios are medians of the \
         rounds' own.\n\n{report}"
    );
    print!("{text}");
    if let Some(path) = write {
        write_section(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.holds())
}

fn measure(rounds: usize) -> Result<Report> {
    let plugin = env::var_os("PORTCULLIS_WASM").context("PORTCULLIS_WASM names no plugin")?;
    let plugin = Plugin::load(&PathBuf::from(plugin))?;
    let headers = Headers::new()?;
    let mut report = Report::default();
    for layer in [Layer::L4, Layer::L7] {
        eprintln!("{}…", layer.name());
        // Few and many are not measured in one round: the many would empty the caches for the few.
        let few = native(layer, FEW, rounds)?;
        let many = native(layer, MANY, rounds)?;
        let (built, again, cold) = built(&plugin, &headers, layer, rounds)?;
        let name = layer.name();
        for (size, it) in SIZES.into_iter().zip(&few) {
            let most = (size == 10_000).then_some(budget::NATIVE);
            report.time(format!("native {name}, {size} intentions"), it.series.quartile(), most);
        }
        let flat = |of: &[Native]| of[SIZES.len() - 1].series.ratio_to(&of[0].series);
        let [smallest, .., largest] = SIZES;
        report.ratio(format!("native {name}, {largest} over {smallest} intentions"), flat(&few), Some(budget::FLAT));
        let far = format!("out of the processor's caches ({MANY} different requests)");
        report.time(
            format!("native {name}, {largest} intentions, {far}"),
            many[SIZES.len() - 1].series.quartile(),
            None,
        );
        report.ratio(format!("native {name}, {largest} over {smallest} intentions, {far}"), flat(&many), None);
        for (size, it) in SIZES.into_iter().zip(&built) {
            let most = (size == 10_000).then_some(budget::BUILT);
            report.time(format!("plugin {name}, {size} intentions, answer not remembered"), it.series.quartile(), most);
        }
        report.time(format!("plugin {name}, {largest} intentions, answer remembered"), again.series.quartile(), None);
        let what = format!("plugin {name}, cold instance with its first request, {largest} intentions");
        report.time(what, cold.series.quartile(), Some(budget::COLD));
    }
    eprintln!("credentials…");
    let mut credentials = credentials::all()?;
    for _ in 0..rounds {
        for it in &mut credentials {
            it.turn(&plugin)?;
        }
    }
    for it in &credentials {
        report.time(format!("plugin, {}, first seen", it.name), it.first.quartile(), None);
        let most = it.is_token.then_some(budget::TOKEN_AGAIN);
        report.time(format!("plugin, {}, remembered", it.name), it.again.quartile(), most);
    }
    report.size("plugin", plugin.bytes, budget::PLUGIN_BYTES);
    Ok(report)
}

fn native(layer: Layer, n_requests: usize, rounds: usize) -> Result<Vec<Native>> {
    let mut all = SIZES.map(|size| Native::new(layer, size, n_requests)).into_iter().collect::<Result<Vec<_>>>()?;
    for _ in 0..rounds {
        all.iter_mut().for_each(Native::turn);
    }
    Ok(all)
}

fn built(plugin: &Plugin, headers: &Headers, layer: Layer, rounds: usize) -> Result<(Vec<Built>, Built, Cold)> {
    let all = SIZES.map(|size| Built::new(plugin, headers, layer, size));
    let mut all = all.into_iter().collect::<Result<Vec<_>>>()?;
    let largest = SIZES[SIZES.len() - 1];
    let (mut again, mut cold) = (Built::again(plugin, headers, layer, largest)?, Cold::new(headers, layer, largest));
    for _ in 0..rounds {
        for it in &mut all {
            it.turn()?;
        }
        again.turn()?;
        cold.turn(plugin)?;
    }
    Ok((all, again, cold))
}

/// Replaces what stands between the marks, or adds it at the end.
fn write_section(path: &std::path::Path, text: &str) -> Result<()> {
    let old = if path.exists() { fs::read_to_string(path)? } else { "# Benchmark\n".to_owned() };
    let section = format!("{BEGIN}\n{text}{END}");
    let new = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => format!("{}{section}{}", &old[..begin], &old[end + END.len()..]),
        _ => format!("{}\n\n{section}\n", old.trim_end()),
    };
    fs::write(path, new)?;
    Ok(())
}
