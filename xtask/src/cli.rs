//! The command line of `cargo xtask`: what may be typed, and the help text.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use crate::{fuzz::Plan, test::Scope};

/// Printed by `cargo xtask`, `cargo xtask help` and after a command line that was not understood.
pub(crate) const HELP: &str = "\
Portcullis' own commands

Usage: cargo xtask <command>

  demo [--check] [..]   real Traefik, the plugin, the sidecar and sample services; prints what to try
                        --check  proves every printed line and ends; further arguments go to the demo
                        --full   two real Kubernetes API servers, Consul with ACLs and TLS, an agent on a machine
  test [--fast]         every check there is, the real parts included; what CI runs
                        --fast         only formatting, lints, unit tests and the built plugin in wasmtime
                        --only <step>  one step by its name
                        --bless        rewrites xtask/policy-dependencies.txt instead of comparing with it
  fuzz [targets..]      hostile input at every border, by libFuzzer; all targets or the named ones
                        --seconds <n>  how long each is run [60]
                        --jobs <n>     targets at once [one for each processor]
  bench [..]            the cost of a decision, then of a request on real Traefik; further arguments go to the latter
                        --only <what>  one alone: `policy`, `request`, `sync`, which keeps up to 10,000 services in
                                       a real Consul, or `limits`, the attacks on limits, ours and Traefik's own;
                                       PORTCULLIS_CLOCK=1 lets those set the machine's clock
  oracle [options]      the policy engine beside real Consul and Envoy on generated policies and requests
                        --requests <n> at least so many [100000]
                        --seed <n>     another run than the last one
  wasm                  builds the plugin into dist/plugin.wasm and holds it to its size budget
  dist                  packs dist/portcullis-plugin.zip for Traefik's plugin catalog
  tools                 provides the real parts and says where each is
  tidy                  the project's own rules on its files (part of `test`)
  help                  this text

Environment:
  TRAEFIK               the Traefik to use (3.6 or newer) instead of `traefik` on PATH or the downloaded one
  CONSUL, ENVOY         the same for the differential test: Consul 1.20 and Envoy 1.32 or newer
  PORTCULLIS_CACHE      where fetched parts are kept; else $XDG_CACHE_HOME/portcullis, else $HOME/.cache/portcullis
  PORTCULLIS_WASM_STD   where the standard library for wasm32-wasip1 comes from: `target` (rustup) or `source`
                        (Debian's source package); by default the first that works";

/// How many requests `oracle` makes when it is not told.
const ORACLE_REQUESTS: u64 = 100_000;

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Build the plugin.
    Wasm,
    /// Pack the plugin for the catalog.
    Dist,
    /// Provide the real parts.
    Tools,
    /// Run the demo with these arguments.
    Demo(Vec<OsString>),
    /// Run the benchmark with these arguments.
    Bench(Vec<OsString>),
    /// Fuzz.
    Fuzz(Plan),
    /// Compare the engine with Consul and Envoy: how many requests, and the seed.
    Oracle(u64, Option<u64>),
    /// Run the checks.
    Test(Scope),
    /// Only the rules of `tidy`.
    Tidy,
}

/// Reads a command line; the error is a sentence for the user.
pub(crate) fn parse(mut arguments: Parser) -> Result<Command, lexopt::Error> {
    let name = match arguments.next()? {
        None | Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Command::Help),
        Some(Arg::Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
    };
    // What follows belongs to the program that is started, options included.
    match name.as_str() {
        "demo" => return Ok(Command::Demo(arguments.raw_args()?.collect())),
        "bench" => return Ok(Command::Bench(arguments.raw_args()?.collect())),
        _ => {}
    }
    let (mut scope, mut plan) = (Scope::default(), Plan::default());
    let (mut requests, mut seed) = (ORACLE_REQUESTS, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("fast") if name == "test" => scope.fast = true,
            Arg::Long("bless") if name == "test" => scope.bless = true,
            Arg::Long("only") if name == "test" => scope.only = Some(arguments.value()?.string()?),
            Arg::Long("seconds") if name == "fuzz" => plan.seconds = arguments.value()?.parse()?,
            Arg::Long("jobs") if name == "fuzz" => plan.jobs = arguments.value()?.parse()?,
            Arg::Value(target) if name == "fuzz" => plan.targets.push(target.string()?),
            Arg::Long("requests") if name == "oracle" => requests = arguments.value()?.parse()?,
            Arg::Long("seed") if name == "oracle" => seed = Some(arguments.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    match name.as_str() {
        "help" => Ok(Command::Help),
        "wasm" => Ok(Command::Wasm),
        "dist" => Ok(Command::Dist),
        "tools" => Ok(Command::Tools),
        "fuzz" => Ok(Command::Fuzz(plan)),
        "oracle" => Ok(Command::Oracle(requests, seed)),
        "test" => Ok(Command::Test(scope)),
        "tidy" => Ok(Command::Tidy),
        _ => Err(format!("unknown command `{name}`").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_print_the_help() {
        assert_eq!(parsed(&[]), Ok(Command::Help));
        assert_eq!(parsed(&["test", "--help"]), Ok(Command::Help));
    }

    #[test]
    fn options_after_demo_and_bench_go_to_the_program() {
        assert_eq!(parsed(&["demo", "--check", "-h"]), Ok(Command::Demo(vec!["--check".into(), "-h".into()])));
        assert_eq!(parsed(&["bench", "plain", "gate"]), Ok(Command::Bench(vec!["plain".into(), "gate".into()])));
    }

    #[test]
    fn an_option_of_another_command_is_refused() {
        assert_eq!(parsed(&["test", "--fast"]), Ok(Command::Test(Scope { fast: true, ..Scope::default() })));
        assert_eq!(parsed(&["oracle", "--seed", "7"]), Ok(Command::Oracle(ORACLE_REQUESTS, Some(7))));
        assert_eq!(parsed(&["wasm", "--fast"]), Err("invalid option '--fast'".to_owned()));
        assert_eq!(parsed(&["wsam"]), Err("unknown command `wsam`".to_owned()));
        assert_eq!(parsed(&["wasm", "extra"]), Err("unexpected argument \"extra\"".to_owned()));
    }

    #[test]
    fn fuzz_takes_targets_and_a_time() {
        let plan = Plan { targets: vec!["path".to_owned()], seconds: 5, jobs: 1 };
        assert_eq!(parsed(&["fuzz", "path", "--seconds", "5", "--jobs=1"]), Ok(Command::Fuzz(plan)));
        assert!(parsed(&["fuzz", "--seconds", "x"]).is_err());
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in ["demo", "test", "fuzz", "oracle", "bench", "wasm", "dist", "tools", "tidy", "help"] {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
    }
}
