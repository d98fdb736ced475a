//! `portcullis limits`: how the limits stand on this host, read from the state folder and never written.

mod table;
mod top;
mod view;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Outcome, policy_source::of_configuration};
use crate::{
    config::Config,
    limits::{Follower, Names, StateFolder},
    policy,
};
use view::View;

/// Subcommands of `portcullis limits`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch the keys that are nearest to their limits
    Top(top::Args),
    /// Show how one key stands
    Show(ShowArgs),
}

/// Where the logs are, and what the limits in them are called.
#[derive(Debug, Args)]
struct Place {
    /// Take the state folder and the policy that this configuration file names
    #[arg(short, long, value_name = "FILE", required_unless_present = "state")]
    config: Option<PathBuf>,
    /// The state folder
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Take the limits' names from this policy file or directory; without, limits are shown by the tag of their name
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
}

/// Options of `portcullis limits show`.
#[derive(Debug, Parser)]
pub(super) struct ShowArgs {
    /// The key: as `top` shows it, a part of that, or its 16 hex digits
    key: String,
    #[command(flatten)]
    place: Place,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Top(args) => top::run(args),
        Command::Show(args) => show(args),
    }
}

impl Place {
    fn open(&self) -> anyhow::Result<(Follower, Names)> {
        let config = self.config.as_deref().map(Config::load).transpose()?;
        let limits = config.as_ref().and_then(|config| config.limits.as_ref());
        let Some(state) = self.state.as_ref().or(limits.map(|limits| &limits.state)) else {
            anyhow::bail!("the configuration file has no `limits.state`; name the folder by --state");
        };
        if !state.is_dir() {
            anyhow::bail!("{}: there is no such folder", state.display());
        }
        let names = Names::default();
        // What is wrong with the policy is for `check` to say; here it is only asked for names.
        let settings = || config.as_ref().map(|config| config.policy.settings()).unwrap_or_default();
        let loaded = match (&self.policy, &config) {
            (Some(directory), _) => Some(policy::load(directory, settings())?),
            (None, Some(config)) => Some(of_configuration(config)?.1),
            (None, None) => None,
        };
        if let Some(loaded) = loaded {
            names.set(policy::limit_names(&loaded.policy));
        }
        Ok((Follower::new(StateFolder::new(state)), names))
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let (mut follower, names) = args.place.open()?;
    follower.look(|_| {});
    let mut view = View::of(&follower, &names);
    view.rows.retain(|row| row.id() == args.key || row.label().contains(&args.key));
    if args.json {
        super::print_json(&view.rows)?;
    } else {
        table::details(&view)?;
    }
    Ok(if view.rows.is_empty() { Outcome::DoesNotHold } else { Outcome::Holds })
}
