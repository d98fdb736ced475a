//! Where the gate's routers go: to a file, to Consul's key-value store, or to both.

use std::{path::Path, sync::Arc};

use super::{kv, kv::Keeper, render};
use crate::{
    config::{Config, GateConfig},
    consul::ConsulError,
    publish::{self, PublishError},
    sync::{Note, Route},
};

/// The places that are configured.
#[derive(Debug)]
pub struct Output {
    gate: GateConfig,
    keeper: Option<Keeper>,
}

// === impl Output ===

impl Output {
    /// Nothing is written yet.
    pub fn start(config: &Config) -> Result<Self, ConsulError> {
        let keeper = match (&config.consul, &config.gate.kv) {
            (Some(consul), Some(kv)) => Some(Keeper::start(consul, kv)?),
            // Without Consul there is no such section: the configuration was refused.
            _ => None,
        };
        Ok(Self { gate: config.gate.clone(), keeper })
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.gate.file.as_deref()
    }

    /// The routes that can be written, and why others cannot.
    pub fn fit(&self, routes: Vec<Arc<Route>>) -> (Vec<Arc<Route>>, Vec<Note>) {
        if self.gate.kv.is_some() { kv::fit(routes, &self.gate) } else { (routes, Vec::new()) }
    }

    /// Writes what differs; whether the file was another one.
    pub fn write(&self, routes: &[Arc<Route>]) -> Result<bool, PublishError> {
        if let Some(keeper) = &self.keeper {
            match kv::tree(routes, &self.gate) {
                Ok(tree) => keeper.want(tree),
                // Only the gate's own settings are left to be at fault.
                Err(what) => tracing::error!("gate: {what}: it cannot be written to Consul; see gate.pluginSettings"),
            }
        }
        match &self.gate.file {
            Some(file) => publish::text(file, &render(routes.iter().map(AsRef::as_ref), &self.gate)),
            None => Ok(false),
        }
    }

    /// Gives back the lock.
    pub async fn stop(self) {
        if let Some(keeper) = self.keeper {
            keeper.stop().await;
        }
    }
}
