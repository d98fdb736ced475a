//! One Consul with several services behind sidecars, and everybody who calls them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use portcullis_policy::Action;
use tokio::time::Instant;

use super::ask::Ask;
use super::callers::{CANARY, Caller};
use super::consul::Consul;
use super::echo::Arrived;
use super::envoy::Sidecar;
use super::policy::{Normalization, World, canary_path};
use super::provider::Provider;
use super::wire::value;
use crate::certificates::Authority;
use crate::parts::Mesh as Parts;

/// How long a policy may take from Consul's API to a sidecar's worker.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    /// `default_intention_policy` of its agent.
    pub default: Action,
    /// Everybody who can call, [`super::callers::SERVICES`] first.
    pub callers: Vec<Caller>,
    /// The services that can be called.
    pub services: Vec<String>,
    consul: Consul,
    sidecars: Vec<Sidecar>,
    canary: Caller,
    generation: u64,
    normalization: Normalization,
    /// Those that Consul has, under the names that they have there.
    providers: Vec<Provider>,
}

/// What became of a request at a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It reached the service.
    Passed(Arrived),
    /// It was sent to another path.
    Redirected(String),
    /// It was answered with this status; 0 when the connection was closed instead.
    Refused(u16),
}

impl Mesh {
    /// Starts Consul, the services and their sidecars, and waits until each of them answers.
    pub async fn start(parts: &Parts, folder: &Path, default: Action, services: &[&str]) -> Result<Mesh> {
        let authority = Authority::new("oracle")?;
        let consul = Consul::start(&parts.consul, folder, default, &authority).await?;
        let mut sidecars = Vec::new();
        for service in services {
            let name = format!("{}-{service}", default.as_str());
            sidecars.push(Sidecar::start(&parts.envoy, folder, &consul, &name, service).await?);
        }
        let callers = Caller::all(&consul, &authority).await?;
        let canary = Caller::service(&consul, CANARY).await?;
        let services = services.iter().map(ToString::to_string).collect();
        let normalization = Normalization::default();
        let mut mesh = Mesh {
            default,
            callers,
            services,
            consul,
            sidecars,
            canary,
            generation: 0,
            normalization,
            providers: Vec::new(),
        };
        mesh.take(&World { default, normalization, providers: Vec::new(), entries: Vec::new() })
            .await
            .context("the first policy")?;
        Ok(mesh)
    }

    /// The trust domain of its services.
    pub fn trust_domain(&self) -> &str {
        self.consul.trust_domain()
    }

    /// Its Consul.
    pub fn consul(&self) -> &Consul {
        &self.consul
    }

    /// Puts a policy in force in place of the one before, and returns when every sidecar works by it.
    pub async fn take(&mut self, world: &World) -> Result<()> {
        self.generation += 1;
        let world = world.with_canaries(&self.services, self.generation);
        self.normalize(world.normalization).await?;
        if world.entry("*").is_none() {
            self.consul.delete_entry("service-intentions", "*").await?;
        }
        for document in world.documents().iter().filter(|it| it["Kind"] != "mesh") {
            self.consul.write_entry(document).await?;
        }
        // An entry of a service holds the canary, and was written last: a sidecar that shows it knows all the others.
        let path = canary_path(self.generation);
        let (canary, default) = (&self.canary, self.default);
        try_join_all(self.sidecars.iter_mut().map(|sidecar| async {
            // Where the entry demands a token, the canary has none.
            if world.entry(&sidecar.service).is_some_and(|it| it.jwt.is_some()) {
                wait_for_rule(sidecar, canary, &path).await
            } else {
                wait_for_canary(sidecar, canary, default, &path).await
            }
        }))
        .await?;
        // No intention refers to the providers of before any more.
        for provider in std::mem::replace(&mut self.providers, world.providers) {
            self.consul.delete_entry("jwt-provider", &provider.name).await?;
        }
        Ok(())
    }

    /// Sets how requests are normalised. Not seen by the canary: sidecars watch the mesh entry apart from intentions.
    async fn normalize(&mut self, wanted: Normalization) -> Result<()> {
        if wanted == self.normalization {
            return Ok(());
        }
        match wanted.document() {
            Some(document) => self.consul.write_entry(&document).await?,
            None => self.consul.delete_entry("mesh", "mesh").await?,
        }
        let waits = self.sidecars.iter_mut().map(|it| it.wait_for_listener(|listener| wanted.is_in_force(listener)));
        try_join_all(waits).await?;
        self.normalization = wanted;
        Ok(())
    }

    /// Sends requests of one caller to one service, one after the other on one connection, and says what became of each.
    pub async fn ask(&self, asks: &[Ask]) -> Result<Vec<Seen>> {
        let mut seen = Vec::with_capacity(asks.len());
        let Some(first) = asks.first() else { return Ok(seen) };
        let caller = self.callers.get(first.caller).context("no such caller")?;
        let sidecar = self.sidecars.iter().find(|it| it.service == first.destination).context("no such service")?;
        let mut wire = None;
        for ask in asks {
            let bytes = ask.bytes();
            let mut outcome = None;
            // A connection that was closed after the last answer is found out by the next request only; on a new one,
            // to be closed without an answer is the answer.
            for _ in 0..2 {
                let fresh = wire.is_none();
                let mut open = match wire.take() {
                    Some(open) => open,
                    None => caller.connect(sidecar.public()).await?,
                };
                match open.ask(&bytes).await.with_context(|| format!("{ask:?}"))? {
                    Some(reply) => {
                        let last = reply.last;
                        outcome = Some(match Arrived::of(&reply)? {
                            Some(arrived) => Seen::Passed(arrived),
                            None if reply.status >= 500 => bail!("{} to {ask:?}: {}", reply.status, sidecar.log_end()),
                            None => match value(&reply.headers, "location") {
                                Some(to) => Seen::Redirected(String::from_utf8_lossy(to).into_owned()),
                                None => Seen::Refused(reply.status),
                            },
                        });
                        wire = if last { None } else { Some(open) };
                        break;
                    }
                    None if fresh => {
                        outcome = Some(Seen::Refused(0));
                        break;
                    }
                    None => {}
                }
            }
            seen.push(outcome.context("no outcome")?);
        }
        Ok(seen)
    }
}

/// Asks as the canary until the sidecar answers it with the opposite of the default. On a new connection each time: an open
/// one stays under the policy that it began with.
async fn wait_for_canary(sidecar: &mut Sidecar, canary: &Caller, default: Action, path: &str) -> Result<()> {
    let wanted = if default == Action::Allow { 403 } else { 200 };
    let request = format!("GET {path} HTTP/1.1\r\nHost: canary\r\n\r\n");
    let end = Instant::now() + PATIENCE;
    loop {
        sidecar.must_run()?;
        // Refused connections and broken ones are what a sidecar that starts looks like.
        if let Ok(mut wire) = canary.connect(sidecar.public()).await
            && let Ok(Some(reply)) = wire.ask(request.as_bytes()).await
            && reply.status == wanted
        {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{} does not work by {path}:\n{}", sidecar.service, sidecar.log_end());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the sidecar's configuration holds the canary's rule, and for two answers on new connections after that: the
/// worker has taken the configuration before it serves the second.
async fn wait_for_rule(sidecar: &mut Sidecar, canary: &Caller, path: &str) -> Result<()> {
    let quoted = format!("\"{path}\"");
    sidecar.wait_for_listener(|listener| listener.to_string().contains(&quoted)).await?;
    for _ in 0..2 {
        let mut wire = canary.connect(sidecar.public()).await?;
        wire.ask(b"GET / HTTP/1.1\r\nHost: canary\r\n\r\n").await?.context("the canary got no answer")?;
    }
    Ok(())
}
