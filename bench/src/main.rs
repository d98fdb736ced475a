//! `policy-bench`: what a decision costs, as a Markdown table beside its budget.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]

mod measure;
mod native;
mod subject;

use native::Native;
use subject::Layer;

fn main() -> anyhow::Result<()> {
    let mut all = Vec::new();
    for layer in [Layer::L4, Layer::L7] {
        for n in [10, 1000, 10_000, 100_000] {
            all.push(Native::new(layer, n)?);
        }
    }
    for _ in 0..60 {
        for it in &mut all {
            it.round();
        }
    }
    for it in &all {
        let base = all.iter().find(|other| other.layer == it.layer).unwrap();
        println!(
            "{} {} {:.0} ns {:.2}",
            it.layer.name(),
            it.n_intentions,
            it.series.quartile(),
            it.series.ratio_to(&base.series)
        );
    }
    Ok(())
}
