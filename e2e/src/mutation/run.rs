//! Variants through real Traefik, and what of them arrives.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::certificates::spiffe;
use crate::echo::Echo;
use crate::guarded::{Compiled, ENTRIES, Entry, Gateway, Guarded};
use crate::mutation::scenario::{CALLER, Scenario};
use crate::mutation::vary;
use crate::parts::Parts;
use crate::wire::{Head, Reply, Wire};
use crate::wire2::Wire2;

/// Connections that send at the same time.
const SENDERS: usize = 12;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most requests that are sent to make one failing request smaller.
const SHRINK_REQUESTS: usize = 300;
/// What only the plugin answers with.
const REFUSAL: &str = "application/problem+json";
/// The header that tells requests apart.
const NUMBER: &str = "X-Variant";

/// The gateway with a router and a backend for each scenario.
#[derive(Debug)]
pub struct Course {
    gateway: Gateway,
    scenarios: Vec<Scenario>,
    echoes: Vec<Echo>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    next: AtomicU64,
}

/// A forbidden request at a backend.
#[derive(Debug, Clone)]
struct Arrival {
    /// The number that it carried; none: nobody has sent it, it came out of another one.
    number: Option<u64>,
    head: Head,
    reading: String,
}

/// What a run has done and found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests with an answer, by its status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that the plugin has refused; Traefik refuses some before.
    pub refused: u64,
    /// Requests whose connection was closed without an answer.
    pub unanswered: u64,
    /// Requests that have arrived at a backend.
    pub arrived: u64,
    /// The time it took.
    pub elapsed: Duration,
    /// Forbidden requests that arrived.
    pub found: Vec<Found>,
}

/// A forbidden request that arrived.
#[derive(Debug, Clone)]
pub struct Found {
    /// The scenario, by its place.
    pub scenario: usize,
    /// The way in.
    pub entry: Entry,
    /// What was sent, if it is known.
    pub sent: Option<Head>,
    /// What arrived.
    pub arrived: Head,
    /// The reading of it that is forbidden.
    pub reading: String,
}

impl Outcome {
    /// How many requests were sent.
    pub fn sent(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.unanswered
    }
}

impl Course {
    /// Starts everything.
    ///
    /// # Panics
    /// The backends, if another thread has panicked in here.
    pub async fn start(parts: &Parts, scenarios: Vec<Scenario>) -> Result<Course> {
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let (mut echoes, mut services) = (Vec::new(), Vec::new());
        for scenario in &scenarios {
            let (forbidden, arrivals) = (scenario.forbidden, Arc::clone(&arrivals));
            let echo = Echo::start(Arc::new(move |head: &Head| {
                let number = number(head);
                let reading = match number {
                    Some(_) => forbidden.reading(head),
                    None => Some("a request that nobody has sent".to_owned()),
                };
                if let Some(reading) = reading {
                    arrivals.lock().unwrap().push(Arrival { number, head: head.clone(), reading });
                }
            }))
            .await?;
            services.push(Guarded {
                name: scenario.name.to_owned(),
                rule: scenario.rule().to_owned(),
                policy: scenario.policy()?.map(|file| Compiled::new(scenario.name, &file)).transpose()?,
                strip_prefix: None,
                url: echo.url(),
            });
            echoes.push(echo);
        }
        let gateway = Gateway::start(parts, &services).await?;
        Ok(Course { gateway, scenarios, echoes, arrivals, next: AtomicU64::new(0) })
    }

    /// The scenarios, in the order in which they were given.
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// Sends this many variants, spread over the scenarios and ways in.
    ///
    /// # Panics
    /// If another thread has panicked in here.
    pub async fn run(self: &Arc<Course>, seed: u64, count: u64) -> Result<Outcome> {
        let started = Instant::now();
        let before = self.received();
        let turn = Arc::new(AtomicU64::new(0));
        let senders: Vec<_> =
            (0..SENDERS).map(|_| tokio::spawn(send_some(Arc::clone(self), Arc::clone(&turn), seed, count))).collect();
        let (mut outcome, mut sent) = (Outcome::default(), HashMap::new());
        for sender in senders {
            let (part, numbers) = sender.await.context("a sender")??;
            for (status, times) in part.statuses {
                *outcome.statuses.entry(status).or_default() += times;
            }
            outcome.refused += part.refused;
            outcome.unanswered += part.unanswered;
            sent.extend(numbers);
        }
        outcome.elapsed = started.elapsed();
        outcome.arrived = self.received() - before;
        for arrival in std::mem::take(&mut *self.arrivals.lock().unwrap()) {
            // What nobody has sent is shown with the first scenario: its bytes tell more than its place.
            let turn = arrival.number.and_then(|number| sent.get(&number)).copied();
            let (scenario, entry) = self.place(turn.unwrap_or(0));
            let sent = turn.map(|turn| vary::variant(&self.scenarios[scenario], seed, turn));
            outcome.found.push(Found { scenario, entry, sent, arrived: arrival.head, reading: arrival.reading });
        }
        Ok(outcome)
    }

    /// Sends one request of a scenario: the status, none for a closed connection, and the forbidden reading if it arrived.
    ///
    /// # Panics
    /// If another thread has panicked in here.
    pub async fn send(&self, scenario: usize, entry: Entry, head: &Head) -> Result<(Option<u16>, Option<String>)> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let reply = exchange(&mut self.wire(scenario, entry)?, &self.numbered(scenario, head, number)).await;
        let mut arrivals = self.arrivals.lock().unwrap();
        let found = arrivals.iter().find(|arrival| arrival.number.is_none_or(|it| it == number)).cloned();
        arrivals.clear();
        Ok((reply.map(|reply| reply.status), found.map(|arrival| arrival.reading)))
    }

    /// Takes away from a failing request whatever it does not need to fail.
    pub async fn shrink(&self, found: &Found) -> Result<Option<(Head, String)>> {
        let Some(sent) = &found.sent else { return Ok(None) };
        let Some(reading) = self.send(found.scenario, found.entry, sent).await?.1 else { return Ok(None) };
        let (mut smallest, mut left) = ((sent.clone(), reading), SHRINK_REQUESTS);
        'again: loop {
            for candidate in smaller(&smallest.0) {
                if left == 0 {
                    return Ok(Some(smallest));
                }
                left -= 1;
                if let Some(reading) = self.send(found.scenario, found.entry, &candidate).await?.1 {
                    smallest = (candidate, reading);
                    continue 'again;
                }
            }
            return Ok(Some(smallest));
        }
    }

    fn place(&self, turn: u64) -> (usize, Entry) {
        let count = self.scenarios.len() as u64;
        let at = |turn: u64| usize::try_from(turn).unwrap_or(0);
        (at(turn % count), ENTRIES[at(turn / count % ENTRIES.len() as u64)])
    }

    fn wire(&self, scenario: usize, entry: Entry) -> Result<AnyWire> {
        let client = self.gateway.client(entry, &[spiffe(CALLER)])?;
        let host = format!("{}.localhost", self.scenarios[scenario].name);
        Ok(match entry {
            Entry::Default | Entry::Lenient => AnyWire::One(Wire::new(client, &host)),
            Entry::Http2 => AnyWire::Two(Wire2::new(&client, &host)),
        })
    }

    /// The request with its host and number before its own lines: a folded first line then spoils nothing but the number's end.
    fn numbered(&self, scenario: usize, head: &Head, number: u64) -> Head {
        let mut lines = vec![
            format!("Host: {}.localhost", self.scenarios[scenario].name).into_bytes(),
            format!("{NUMBER}: {number}").into_bytes(),
        ];
        lines.extend(head.lines.iter().cloned());
        Head { lines, ..head.clone() }
    }

    fn received(&self) -> u64 {
        self.echoes.iter().map(Echo::received).sum()
    }
}

/// What one sender has seen, and the turn of each request's number.
type Sent = (Outcome, Vec<(u64, u64)>);

async fn send_some(course: Arc<Course>, turn: Arc<AtomicU64>, seed: u64, count: u64) -> Result<Sent> {
    let mut wires: HashMap<(usize, Entry), AnyWire> = HashMap::new();
    let (mut outcome, mut numbers) = (Outcome::default(), Vec::new());
    loop {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        if turn >= count {
            return Ok((outcome, numbers));
        }
        let (scenario, entry) = course.place(turn);
        let number = course.next.fetch_add(1, Ordering::SeqCst);
        numbers.push((number, turn));
        let head = vary::variant(&course.scenarios[scenario], seed, turn);
        let head = course.numbered(scenario, &head, number);
        let wire = match wires.entry((scenario, entry)) {
            std::collections::hash_map::Entry::Occupied(wire) => wire.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(course.wire(scenario, entry)?),
        };
        match exchange(wire, &head).await {
            Some(reply) => {
                *outcome.statuses.entry(reply.status).or_default() += 1;
                outcome.refused += u64::from(reply.text.contains(REFUSAL));
            }
            None => outcome.unanswered += 1,
        }
    }
}

/// A connection of either version of the protocol.
enum AnyWire {
    One(Wire),
    Two(Wire2),
}

async fn exchange(wire: &mut AnyWire, head: &Head) -> Option<Reply> {
    let answer = async {
        match wire {
            AnyWire::One(wire) => wire.send(head).await,
            AnyWire::Two(wire) => wire.send(head).await,
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

fn number(head: &Head) -> Option<u64> {
    let value = head.headers().find(|(name, _)| name.eq_ignore_ascii_case(NUMBER.as_bytes()))?.1;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).copied().collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

/// Requests with a little less: without a line, without a piece of the target.
fn smaller(head: &Head) -> Vec<Head> {
    let mut smaller: Vec<Head> = Vec::new();
    for index in 0..head.lines.len() {
        let mut head = head.clone();
        head.lines.remove(index);
        smaller.push(head);
    }
    let mut length = head.target.len() / 2;
    while length > 0 {
        for from in (0..=head.target.len().saturating_sub(length)).step_by(length) {
            let mut head = head.clone();
            head.target.drain(from..from + length);
            if !head.target.is_empty() {
                smaller.push(head);
            }
        }
        length /= 2;
    }
    smaller
}
