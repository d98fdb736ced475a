//! `portcullis export`: what Consul holds, for other tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Outcome;
use crate::{
    config::Config,
    consul::Client,
    terraform::{HealthEntry, Variables},
};

/// What is exported.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print `services` and `catalog_services` as `terraform.tfvars.json`, for modules of Consul-Terraform-Sync
    Terraform(TerraformArgs),
}

/// Options of `portcullis export terraform`.
#[derive(Debug, Parser)]
pub(super) struct TerraformArgs {
    /// A configuration file, for its `consul` section (default: CONSUL_HTTP_ADDR and the like)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A service to export; may be repeated (default: all)
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Consul's filter on health entries, e.g. `"red" in Service.Tags` (default: instances that pass)
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Leave out `catalog_services`, for modules that do not declare it
    #[arg(long)]
    services_only: bool,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Outcome> {
    let Command::Terraform(args) = command;
    let config = args.config.as_deref().map(Config::load).transpose()?;
    let client = Client::new(&config.and_then(|config| config.consul).unwrap_or_default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    super::print_json(&runtime.block_on(read(&client, args))?)?;
    Ok(Outcome::Holds)
}

/// All or nothing: what lacks in a list would be taken out of a firewall.
async fn read(client: &Client, args: &TerraformArgs) -> anyhow::Result<Variables> {
    let catalog = client.get::<BTreeMap<String, BTreeSet<String>>>("/v1/catalog/services", &[]).await?;
    let catalog = catalog.value.unwrap_or_default();
    let names: BTreeSet<&String> =
        if args.services.is_empty() { catalog.keys().collect() } else { args.services.iter().collect() };
    let query = args.filter.as_deref().map_or(("passing", ""), |filter| ("filter", filter));
    let mut variables = Variables::default();
    for name in names {
        // As a path, Consul would read these as other calls.
        if matches!(name.as_str(), "" | "." | "..") {
            anyhow::bail!("a service called {name:?} cannot be asked for; name the others with --service");
        }
        let path = format!("/v1/health/service/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        variables.add(client.get::<Vec<HealthEntry>>(&path, &[query]).await?.value.into_iter().flatten());
    }
    variables.catalog_services = (!args.services_only).then_some(catalog);
    Ok(variables)
}
