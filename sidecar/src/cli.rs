//! The command line: one module a command, and the manners they share.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 it holds, 1 it does not hold, 2 it could not be run.

mod check;
mod clusters;
mod doctor;
mod explain;
mod export;
mod key;
mod limits;
mod plan;
mod policy_source;
mod render;
mod snapshots;
mod start;
mod test;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use portcullis_policy::{Problem, Severity};

/// Zero trust at the edge: Consul intentions on Traefik, per request, by the real caller's identity.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_help = EXIT_CODES, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 it holds, 1 it does not hold, 2 it could not be run.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the gateway in step with manifests and policy until told to stop
    Run(start::Args),
    /// Show the registrations that manifests and live clusters lead to
    Plan(plan::Args),
    /// Check policy files and report every problem
    Check(check::Args),
    /// Run policy tests
    Test(test::Args),
    /// Explain the verdict on one request
    Explain(Box<explain::Args>),
    /// Look at the set-up as it runs, and say what is wrong and how to mend it
    Doctor(doctor::Args),
    /// Print the gate's routers as a Traefik file
    Render(render::Args),
    /// Print what Consul holds for other tools
    #[command(subcommand)]
    Export(export::Command),
    /// Manage API keys
    #[command(subcommand)]
    Key(key::Command),
    /// List the snapshots that were in force and are kept
    Snapshots(snapshots::ListArgs),
    /// Put an older snapshot in force, and hold it there
    Rollback(snapshots::RollbackArgs),
    /// Show how limits stand on this host
    #[command(subcommand)]
    Limits(limits::Command),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// How a command ended when it could be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Holds,
    DoesNotHold,
}

impl Outcome {
    /// Holds if both do.
    fn and(self, other: Self) -> Self {
        if self == Self::Holds { other } else { self }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // clap answers wrong arguments itself, with exit code 2.
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(Outcome::Holds) => ExitCode::SUCCESS,
        Ok(Outcome::DoesNotHold) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            message("error", &format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Run(args) => start::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Export(command) => export::run(&command),
        Command::Key(command) => key::run(&command),
        Command::Snapshots(args) => snapshots::list(&args),
        Command::Rollback(args) => snapshots::roll_back(&args),
        Command::Limits(command) => limits::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
            io::stdout().write_all(&script)?;
            Ok(Outcome::Holds)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            io::stdout().write_all(&page)?;
            Ok(Outcome::Holds)
        }
    }
}

/// A reader that went away (`portcullis plan | head`) is no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// One line to stderr; its label coloured on terminals only, and never with `NO_COLOR`.
fn message(label: &str, text: &str) {
    let mut stderr = io::stderr().lock();
    let colour = match label {
        "error" | "fatal" => "1;31",
        "warning" => "1;33",
        _ => "1",
    };
    let plain = !stderr.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    // Nobody is left to tell when stderr itself is gone.
    let _ = if plain {
        writeln!(stderr, "{label}: {text}")
    } else {
        writeln!(stderr, "\x1b[{colour}m{label}\x1b[0m: {text}")
    };
}

/// All problems, to stderr.
fn report(problems: &[Problem]) {
    for problem in problems {
        let text = problem.to_string();
        let label = problem.severity.label();
        message(label, text.strip_prefix(label).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text));
    }
}

/// The problems as JSON, one object each.
fn problem_json(problem: &Problem) -> serde_json::Value {
    let Problem { severity, at, what, hint } = problem;
    serde_json::json!({ "severity": severity.label(), "at": at, "what": what, "hint": hint })
}

/// How many problems of at least error severity there are.
fn n_errors(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.severity >= Severity::Error).count()
}

/// Prints a value as indented JSON, with a line end.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
    writeln!(stdout)?;
    Ok(())
}
