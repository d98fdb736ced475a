//! Policy from its sources to the snapshot: joined, loaded, compared with what is in force, published.
//!
//! What cannot be read leaves the last good documents in force, and nothing is published before every source was read once; a
//! standing fault is logged once, and its end too.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use portcullis_policy::{Policy, PolicySettings, Severity};
use tokio::time::timeout;

use crate::{
    config::Config,
    consul::ConsulError,
    control::{Joined, Reading},
    history::{History, Published},
    jwks::Jwks,
    limits::Names,
    numbers::{self, Numbers},
    policy,
    publish::PublishError,
};

/// A look even without an event: files that the policy names may have changed.
const PERIOD: Duration = Duration::from_secs(10);

/// What is in force and what was said about it.
pub struct Policies {
    reading: Reading,
    settings: PolicySettings,
    policy: Option<Policy>,
    /// What was logged and still holds, so that a standing fault is logged once and its end too.
    said: BTreeSet<(Severity, String)>,
    /// What the limits in force are called, for the metrics.
    names: Arc<Names>,
    numbers: Numbers,
    /// Keys of JWT providers that are fetched.
    jwks: Jwks,
    /// The snapshot, and those before it.
    history: History,
    /// Whether a person holds an older one in force.
    pinned: bool,
}

// === impl Policies ===

impl Policies {
    /// Starts reading; nothing is in force yet. `names` is told what limits are.
    pub fn start(config: &Config, names: Arc<Names>, numbers: Numbers) -> Result<Self, ConsulError> {
        Ok(Self {
            reading: Reading::start(config)?,
            settings: config.policy.settings(),
            policy: None,
            said: BTreeSet::new(),
            names,
            jwks: Jwks::new(&config.jwks, numbers.jwks()),
            history: History::new(&config.snapshot, numbers.publishing()),
            pinned: false,
            numbers,
        })
    }

    /// What is read, by name.
    pub fn sources(&self) -> Vec<String> {
        self.reading.sources.standing().into_iter().map(|(name, _)| name).collect()
    }

    /// Keeps the snapshot in step, for ever.
    pub async fn follow(mut self) {
        let keys = self.jwks.wake();
        loop {
            // Whatever woke us: what did not change is not written.
            tokio::select! {
                _ = timeout(PERIOD, self.reading.changed()) => {}
                () = keys.notified() => {}
            }
            if let Err(error) = self.publish() {
                tracing::error!(%error, "the snapshot cannot be written; the last good policy stays in force");
            }
        }
    }

    fn publish(&mut self) -> Result<(), PublishError> {
        let faults = self.reading.sources.faults();
        let mut said: BTreeSet<_> =
            faults.iter().map(|(name, fault)| (Severity::Fatal, format!("{name}: {fault}"))).collect();
        if !self.reading.sources.missing().is_empty() {
            self.tell(said, None);
            return Ok(());
        }
        let joined = self.reading.sources.join();
        let loaded = policy::from_documents_with(&joined.documents, self.settings.clone(), &mut |policy, problems| {
            self.jwks.fill(policy, problems);
        });
        let problems = joined.all_problems();
        said.extend(problems.iter().chain(&loaded.problems).map(|it| (it.severity, it.to_string())));
        self.tell(said, Some(&joined));
        let pinned = self.history.is_pinned();
        if loaded.is_fatal() || (pinned == self.pinned && self.policy.as_ref() == Some(&loaded.policy)) {
            return Ok(());
        }
        let published = self.history.publish(&loaded.policy)?;
        self.pinned = published == Published::Held;
        if let Published::As(generation) = published {
            tracing::info!(generation, intentions = loaded.policy.intentions.len(), "policy published");
        }
        self.names.set(policy::limit_names(&loaded.policy));
        self.policy = Some(loaded.policy);
        Ok(())
    }

    /// Logs what is new and what is over, and counts.
    fn tell(&mut self, said: BTreeSet<(Severity, String)>, joined: Option<&Joined>) {
        for (severity, text) in said.difference(&self.said) {
            match severity {
                Severity::Fatal => tracing::error!("{text}; the last good policy stays in force"),
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
            }
        }
        for (_, text) in self.said.difference(&said) {
            tracing::info!("no longer: {text}");
        }
        if said.is_empty() && !self.said.is_empty() {
            tracing::info!("the policy has no problems any more");
        }
        self.said = said;
        let conflicts = joined.map(|joined| joined.conflicts.as_slice()).unwrap_or_default();
        let stricter = conflicts.iter().filter(|it| it.hides.is_stricter()).count();
        self.numbers.set_policy(numbers::PolicyCounts {
            sources: self.reading.sources.standing(),
            is_whole: joined.is_some(),
            conflicts: conflicts.len() - stricter,
            stricter,
        });
    }
}
