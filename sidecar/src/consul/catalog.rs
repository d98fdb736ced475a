//! What others have registered: watched as a whole, read service by service, told when it is something else.
//!
//! Two blocking queries whose lists are filtered away say that instances or checks have moved (`wake`). Then the names are read,
//! and all checks in one list, and of the services that carry routing tags those instances that differ by these. What they do not
//! show, such as another port, is seen when all are read, which takes a bounded part of the time, whatever moves how often.
//! All or nothing: a service that could not be read would look like one that is gone.

mod config;
mod entry;
mod reader;
mod wake;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use self::{reader::Reader, wake::Wake};
use super::{client::Client, config::ConsulConfig, error::ConsulError, live::Scope};
use crate::{
    input::{Input, Inputs},
    sync::Registration,
};

pub use self::config::CatalogConfig;

/// Between two looks at least this long; and this many times what the last one took, so that reading a large catalog never
/// becomes the main thing that Consul does. Never longer than the last: on a machine that is busy with other things a read
/// takes long without being much work, and who waits for a route does not wait for minutes.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_PER_READ: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Everything is read again after this long, whatever the watch says.
const SAFETY: Duration = Duration::from_secs(300);
/// While a loss is doubted.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After failures, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// So many services may always go at once; of more, at most half. A Consul that came back without its data looks like
/// services that were deregistered, until their agents have registered them again.
const FREE: usize = 3;
/// How long a greater loss is not believed.
const DOUBT: Duration = Duration::from_secs(300);

/// What the source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catalog {
    /// They replace what was known.
    Whole {
        /// All instances of others that carry routing tags or stand beside such, as they are.
        registrations: Vec<Registration>,
        /// Services with routing tags that can have no route because of their names.
        unusable: Vec<String>,
    },
    /// It cannot be read at the moment, and why: what is known stays in force.
    Broken(String),
}

/// The source.
#[derive(Debug)]
pub struct Watcher {
    reader: Reader,
    wake: Wake,
    /// The services of the last whole that was told, and since when most of them are gone.
    known: BTreeSet<String>,
    doubted: Option<Instant>,
}

// === impl Watcher ===

impl Watcher {
    /// A watcher of the catalog that the section `consul` leads to. Nothing is asked yet. `ours` is what is known from elsewhere.
    pub fn new(consul: &ConsulConfig, config: &CatalogConfig, ours: Vec<Scope>) -> Result<Self, ConsulError> {
        let client = Client::new(consul)?;
        let (reader, wake) = (Reader::new(client.clone(), config.clone(), ours), Wake::new(client));
        Ok(Self { reader, wake, known: BTreeSet::new(), doubted: None })
    }

    /// Tells what the catalog holds, now and after every change, until nobody listens.
    pub async fn follow(mut self, inputs: Inputs) {
        let (mut backoff, mut said) = (FIRST_BACKOFF, None);
        // All services are read when this time has come and something may differ; at the latest at the other one.
        let (mut all_after, mut all_at) = (Instant::now(), Instant::now());
        loop {
            let start = Instant::now();
            let all = start >= all_at;
            let read = self.reader.read(all).await;
            let pause = (start.elapsed() * PAUSE_PER_READ).clamp(PAUSE, LONGEST_PAUSE);
            if all {
                (all_after, all_at) = (Instant::now() + pause, Instant::now() + SAFETY);
            }
            let failed = read.is_err();
            let says =
                read.map_or_else(|error| Catalog::Broken(error.to_string()), |whole| self.believed(whole, start));
            let is_doubted = matches!(says, Catalog::Broken(_));
            if said.as_ref() != Some(&says) {
                if inputs.send(Input::Catalog(says.clone())).await.is_err() {
                    return;
                }
                said = Some(says);
            }
            if failed {
                all_at = Instant::now();
                sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                continue;
            }
            backoff = FIRST_BACKOFF;
            // After all of them, a look at few of them need not wait as long.
            sleep(if all { PAUSE } else { pause }).await;
            let latest = if is_doubted { all_at.min(start + LOOK_AGAIN) } else { all_at };
            tokio::select! {
                instances = self.wake.moved() => if instances { all_at = all_at.min(all_after) },
                () = sleep_until(latest) => {}
            }
        }
    }

    /// What was read, unless too much of it is gone.
    fn believed(&mut self, whole: Catalog, now: Instant) -> Catalog {
        let Catalog::Whole { registrations, .. } = &whole else { return whole };
        let present: BTreeSet<_> = registrations.iter().map(|it| it.service.service.clone()).collect();
        match loss(&self.known, &present) {
            Some(gone) if self.doubted.get_or_insert(now).elapsed() < DOUBT => {
                let (n_known, minutes) = (self.known.len(), DOUBT.as_secs() / 60);
                Catalog::Broken(format!(
                    "{gone} of {n_known} services that others registered are gone at once: not believed before it is so for \
                     {minutes} minutes"
                ))
            }
            _ => {
                (self.known, self.doubted) = (present, None);
                whole
            }
        }
    }
}

/// How many services are gone, if that is more than may be.
fn loss(known: &BTreeSet<String>, present: &BTreeSet<String>) -> Option<usize> {
    let gone = known.difference(present).count();
    (gone > FREE && gone * 2 > known.len()).then_some(gone)
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn a_loss_of_most_services_at_once_is_doubted_and_a_few_may_always_go() {
        let services = |numbers: std::ops::Range<usize>| numbers.map(|number| number.to_string()).collect();
        for (before, after, doubted) in [
            (0..3, 0..0, None),
            (0..4, 0..0, Some(4)),
            (0..10, 0..5, None),
            (0..10, 0..4, Some(6)),
            // Others have come meanwhile.
            (0..10, 8..30, Some(8)),
            (0..0, 0..9, None),
        ] {
            assert_eq!(loss(&services(before.clone()), &services(after.clone())), doubted, "{before:?} to {after:?}");
        }
    }
}
