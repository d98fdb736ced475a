//! Following a bucket's log from outside: for the live view, and for telling other hosts.

use crate::{
    charge::{Rule, Standing},
    clock::UNKNOWN,
    fold::{At, Effect, Fold},
    log::{LONG, Log, Observe, Scratch},
    rotation,
    slot::{self, GLOBAL, MAX_T, Slot, class, kind},
    state::{self, State},
    store::Directory,
    unavailable::Unavailable,
};

/// Every so many polls it is asked whether a log that nobody sealed is still the newest one.
const CHECK_POLLS: u32 = 16;
/// How often an append is tried that lands behind a seal.
const ATTEMPTS: usize = 16;

/// Follows one bucket. Nothing is made on the disk but by [`Tail::add_foreign`].
pub struct Tail<D: Directory> {
    bucket: u16,
    log: Option<Log<D::File>>,
    scratch: Scratch,
    pending: Vec<Seen>,
    polls: u32,
}

/// A charge that was folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The charge's key.
    pub key: u64,
    /// The limit's tag.
    pub tag: u32,
    /// What was allowed.
    pub rule: Rule,
    /// Units.
    pub cost: u32,
    /// Whether the bucket admitted it.
    pub admitted: bool,
    /// Other hosts are to be told.
    pub global: bool,
    /// When, by the writer's clock; 0 where several charges are told as one.
    pub t_ns: u64,
    /// It was charged on another host.
    pub foreign: bool,
}

/// How a key stands.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key, or the limit's tag where keys are counted together ([`Entry::shared`]).
    pub key: u64,
    /// The limit's tag.
    pub tag: u32,
    /// The key's parts, as far as they were kept.
    pub label: Option<String>,
    /// What is allowed, by the last charge.
    pub rule: Rule,
    /// Other hosts are told.
    pub global: bool,
    /// It counts all keys of the limit for which the bucket had no room.
    pub shared: bool,
    /// Units that were admitted on this host as long as the entry is there; only for rates.
    pub total: u64,
    state: State,
    now: u64,
    shift: i64,
}

/// Units that were admitted elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The key that they were charged to; of the tail's bucket.
    pub key: u64,
    /// The limit's tag.
    pub tag: u32,
    /// What is allowed. Units of concurrency are not told to others: with such a rule nothing is written.
    pub rule: Rule,
    /// Units; 0 writes nothing.
    pub cost: u32,
    /// How far a rate may go into debt by what others did, beyond its burst, in nanoseconds.
    pub debt_ns: u64,
}

struct Collect<'a>(&'a mut Vec<Seen>);

// === impl Collect ===

impl Observe for Collect<'_> {
    fn see(&mut self, slot: &Slot, effect: &Effect, _: &Fold) {
        let admitted = match effect {
            Effect::Admitted { .. } | Effect::Foreign => true,
            Effect::Refused => false,
            Effect::Void | Effect::Other => return,
        };
        let Some((rule, cost)) = slot.rule() else { return };
        self.0.push(Seen {
            key: slot.key,
            tag: slot.tag,
            rule,
            cost,
            admitted,
            global: slot.flags & GLOBAL != 0,
            t_ns: slot.t,
            foreign: *effect == Effect::Foreign,
        });
    }
}

// === impl Tail ===

impl<D: Directory> Tail<D> {
    /// Nothing is read yet.
    pub fn new(bucket: u16) -> Self {
        Self { bucket, log: None, scratch: Scratch::new(), pending: Vec::new(), polls: 0 }
    }

    /// What was charged since the last poll, each record once; the first poll begins at the newest checkpoint. Charges of
    /// generations that came and went between two polls are told in sum, as far as they were rates. Refunds are not told.
    pub fn poll(&mut self, directory: &D) -> Result<Vec<Seen>, Unavailable> {
        let mut seen = core::mem::take(&mut self.pending);
        match self.read(directory, &mut seen) {
            Ok(()) => Ok(seen),
            Err(error) => {
                self.pending = seen;
                Err(error)
            }
        }
    }

    fn read(&mut self, directory: &D, seen: &mut Vec<Seen>) -> Result<(), Unavailable> {
        self.polls = self.polls.wrapping_add(1);
        for _ in 0..ATTEMPTS {
            if let Some(log) = &mut self.log {
                let is_newest = !self.polls.is_multiple_of(CHECK_POLLS) || log.is_newest(directory)?;
                log.sync(&mut self.scratch, &mut Collect(seen))?;
                if !log.fold.is_sealed() {
                    if is_newest {
                        return Ok(());
                    }
                    // The directory was emptied under us.
                    self.log = None;
                }
            }
            let least = self.log.as_ref().map_or(0, |log| log.generation + 1);
            let newest = directory.newest(self.bucket)?.filter(|newest| *newest >= least);
            let Some(generation) = newest else { return Ok(()) };
            let file = match directory.open(self.bucket, generation, false) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let mut next = Log::new(self.bucket, generation, file);
            let mut of_next = Vec::new();
            next.sync(&mut self.scratch, &mut Collect(&mut of_next))?;
            if !next.fold.is_open() {
                // Somebody is about to write its checkpoint.
                return Ok(());
            }
            self.replace(next, of_next, seen);
        }
        Ok(())
    }

    /// Goes on with another generation, of which this was seen.
    fn replace(&mut self, next: Log<D::File>, of_next: Vec<Seen>, seen: &mut Vec<Seen>) {
        match self.log.replace(next) {
            Some(old) if self.log.as_ref().is_some_and(|log| log.generation > old.generation + 1) => {
                let is_rate = |seen: &Seen| matches!(seen.rule, Rule::Rate { .. }) && !seen.foreign && seen.admitted;
                seen.extend(of_next.into_iter().filter(|seen| !is_rate(seen)));
                seen.extend(self.log.iter().flat_map(|log| missed(&old.fold, &log.fold)));
            }
            _ => seen.extend(of_next),
        }
    }

    /// How all keys stand that are known, live or not.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.log.iter().flat_map(|log| log.fold.entries().iter().map(|entry| Entry::new(entry, &log.fold)))
    }

    /// Charges units that were admitted on other hosts, whatever is left, in one write. The next poll tells them.
    pub fn add_foreign(&mut self, directory: &D, foreign: &[Foreign], steady_ns: u64) -> Result<(), Unavailable> {
        if steady_ns == UNKNOWN || steady_ns >= MAX_T {
            return Err(Unavailable::Clock);
        }
        let records: Vec<_> = foreign
            .iter()
            .filter(|one| one.cost > 0 && crate::limiter::bucket_of(one.key) == self.bucket)
            .filter_map(|one| one.record(steady_ns))
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut seen = core::mem::take(&mut self.pending);
        let result = self.append(directory, &records, steady_ns, &mut seen);
        self.pending = seen;
        result
    }

    fn append(&mut self, directory: &D, records: &[Slot], t: u64, seen: &mut Vec<Seen>) -> Result<(), Unavailable> {
        self.read(directory, seen)?;
        for _ in 0..ATTEMPTS {
            if self.log.as_ref().is_none_or(|log| log.fold.is_sealed()) {
                let (sealed, mut of_next) = (self.log.as_ref(), Vec::new());
                let observe = &mut Collect(&mut of_next);
                let next = rotation::open(directory, self.bucket, sealed, &mut self.scratch, observe)?;
                self.replace(next, of_next, seen);
            }
            let Some(log) = &mut self.log else { break };
            let observe = &mut Collect(seen);
            if log.fold.went_back(t) {
                let step = Slot { kind: kind::STEP, t, ..Slot::default() };
                log.append(&[step], &mut self.scratch, observe)?;
            }
            log.append(records, &mut self.scratch, observe)?;
            if self.scratch.effects.first() != Some(&Effect::Void) {
                if log.fold.is_long(LONG) {
                    let _ = log.seal(&mut self.scratch, observe);
                }
                return Ok(());
            }
        }
        Err(Unavailable::Busy)
    }
}

/// What was admitted between two states of a bucket, by rates.
fn missed(old: &Fold, new: &Fold) -> Vec<Seen> {
    let mut seen = Vec::new();
    for entry in new.entries() {
        let State::Rate(rate) = &entry.state else { continue };
        let before = match old.entry(At { key: entry.key, class: entry.class }).map(|entry| &entry.state) {
            // An entry that was forgotten and came again counts from nothing.
            Some(State::Rate(before)) if before.total <= rate.total => before.total,
            _ => 0,
        };
        let cost = u32::try_from(rate.total - before).unwrap_or(u32::MAX);
        if cost > 0 {
            seen.push(Seen {
                key: entry.key,
                tag: entry.tag,
                rule: Rule::Rate { interval_ns: rate.interval_ns, burst: rate.burst },
                cost,
                admitted: true,
                global: entry.flags & GLOBAL != 0,
                t_ns: 0,
                foreign: false,
            });
        }
    }
    seen
}

// === impl Foreign ===

impl Foreign {
    fn record(&self, t: u64) -> Option<Slot> {
        let head = Slot { kind: kind::FOREIGN, flags: GLOBAL, tag: self.tag, key: self.key, t, ..Slot::default() };
        let mut record = head.with_rule(&self.rule, self.cost);
        match (record.class, &mut record.words) {
            (class::RATE, [.., debt]) => *debt = self.debt_ns,
            (class::QUOTA, _) => {}
            _ => return None,
        }
        Some(record)
    }
}

// === impl Entry ===

impl Entry {
    fn new(entry: &state::Entry, fold: &Fold) -> Self {
        let text =
            entry.label.as_ref().map(|text| String::from_utf8_lossy(&text[..]).trim_end_matches('\0').to_owned());
        let (rule, total) = match &entry.state {
            State::Rate(rate) => (Rule::Rate { interval_ns: rate.interval_ns, burst: rate.burst }, rate.total),
            State::Quota(quota) => {
                let (begin_ns, end_ns) = (quota.begin_ns, quota.end_ns());
                (Rule::Quota { units: quota.units, begin_ns, end_ns }, 0)
            }
            State::Held(held) => (Rule::Concurrency { units: held.units, lease_ns: held.lease_ns }, 0),
        };
        Self {
            key: entry.key,
            tag: entry.tag,
            label: text,
            rule,
            global: entry.flags & GLOBAL != 0,
            shared: entry.class & class::SHARED != 0,
            total,
            state: entry.state.clone(),
            now: fold.time(0),
            shift: fold.shift(),
        }
    }

    /// How the key stands at a time: what is left, and when it will be as if nobody had asked.
    pub fn standing(&self, steady_ns: u64, wall_ns: u64) -> Standing {
        let now = slot::log_time(steady_ns, self.shift).max(self.now);
        let mut standing = self.state.standing(&self.rule, self.state.admits(&self.rule, 1, now), now, wall_ns);
        if !standing.admitted {
            standing.retry_ns = self.state.retry_ns(&self.rule, 1, now, wall_ns);
        }
        standing
    }

    /// It is not as if nobody had asked.
    pub fn is_live(&self, steady_ns: u64) -> bool {
        self.state.expiry() > slot::log_time(steady_ns, self.shift).max(self.now)
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
