//! `cargo xtask`: everything that is done to this project, in one program.
//!
//! It builds the plugin for WebAssembly, provides the real parts that tests and demo run against, packs the plugin for
//! Traefik's catalog and runs all checks. Nobody needs to know a step that is not written here, CI included.
//! Read [`cli`] for the commands; each has a module of its own.
//!
//! Exit codes: 0 done, 1 a step failed, 2 the command line was not understood.

mod cli;
mod deny;
mod dist;
mod edge;
mod fuzz;
mod policy_dependencies;
mod project;
mod run;
mod test;
mod tidy;
mod tools;
mod wasm;

use std::{io::Write, process::ExitCode};

use cli::Command;
use project::Project;

fn main() -> ExitCode {
    let command = match cli::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            run::say(&format!("error: {error}\n\n{}", cli::HELP));
            return ExitCode::from(2);
        }
    };
    match perform(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asked for. The demo replaces this process, so it never returns `Ok`.
fn perform(command: Command) -> anyhow::Result<()> {
    if matches!(command, Command::Help) {
        writeln!(std::io::stdout(), "{}", cli::HELP)?;
        return Ok(());
    }
    let project = Project::find()?;
    match command {
        Command::Help => Ok(()),
        Command::Wasm => wasm::build_within_budget(&project).map(drop),
        Command::Dist => dist::pack(&project),
        Command::Tools => tools::provide(&project),
        Command::Demo(arguments) => edge::demo(&project, &arguments),
        Command::Bench(arguments) => edge::bench(&project, &arguments),
        Command::Fuzz(plan) => fuzz::fuzz(&project, &plan),
        Command::Oracle(requests, seed) => test::oracle(&project, requests, seed),
        Command::Test(scope) => test::run(&project, &scope),
        Command::Tidy => tidy::check(&project),
    }
}
