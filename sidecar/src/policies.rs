//! Policy from its sources to the snapshot: loaded, compared with what is in force, published.
//!
//! What cannot be read leaves the last good snapshot in force; a standing fault is logged once, and its end too.

use std::sync::Arc;

use portcullis_policy::{Policy, Severity};

use crate::{
    config::Config,
    history::{self, History, Published},
    jwks::{self, Jwks},
    limits::Names,
    policy,
    publish::PublishError,
    watch::{Watch, look_again},
};

/// What is in force and what was said about it.
pub struct Policies {
    config: Config,
    policy: Option<Policy>,
    /// What was logged last, so that a standing fault is logged once and its end too.
    said: Vec<String>,
    /// What the limits in force are called, for the metrics.
    names: Arc<Names>,
    /// Keys of JWT providers that are fetched.
    jwks: Jwks,
    /// The snapshot, and those before it.
    history: History,
    /// Whether a person holds an older one in force.
    pinned: bool,
}

// === impl Policies ===

impl Policies {
    /// Nothing is in force yet; `names` is told what limits are, `fetching` how fetching of keys stands, and
    /// `publishing` what is in force.
    pub fn new(config: Config, names: Arc<Names>, fetching: jwks::Numbers, publishing: history::Numbers) -> Self {
        let jwks = Jwks::new(&config.jwks, fetching);
        let history = History::new(&config.snapshot, publishing);
        Self { config, policy: None, said: Vec::new(), names, jwks, history, pinned: false }
    }

    /// Keeps the snapshot in step, for ever.
    pub async fn follow(mut self) {
        let wake = self.jwks.wake();
        let mut watches = [Watch::start(&self.config.policy.directory, &wake)];
        loop {
            if let Err(error) = self.publish() {
                tracing::error!(%error, "the snapshot cannot be written; the last good policy stays in force");
            }
            look_again(&wake, &mut watches).await;
        }
    }

    fn publish(&mut self) -> Result<(), PublishError> {
        let (directory, settings) = (&self.config.policy.directory, self.config.policy.settings());
        let mut keys = |policy: &mut Policy, problems: &mut Vec<_>| self.jwks.fill(policy, problems);
        let loaded = match policy::load_with(directory, settings, &mut keys) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.say(vec![(Severity::Fatal, error.to_string())]);
                return Ok(());
            }
        };
        self.say(loaded.problems.iter().map(|it| (it.severity, it.to_string())).collect());
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

    fn say(&mut self, problems: Vec<(Severity, String)>) {
        let texts: Vec<_> = problems.iter().map(|(_, text)| text.clone()).collect();
        if texts == self.said {
            return;
        }
        for (severity, text) in problems {
            match severity {
                Severity::Fatal => tracing::error!("{text}; the last good policy stays in force"),
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
            }
        }
        if texts.is_empty() && !self.said.is_empty() {
            tracing::info!("the policy has no problems any more");
        }
        self.said = texts;
    }
}
