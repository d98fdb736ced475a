//! Judging and charging requests: what one instance does.
//!
//! ```text
//!  charge ─► read on in each bucket ─► all admitted? ─no─► refused, nothing was appended
//!                                         └yes─► append to each ─► all admitted at their place? ─yes─► admitted
//!                                                                     └no, others were faster─► refunds ─► refused
//! ```

use crate::{
    charge::{Charge, Rule, Standing},
    clock::UNKNOWN,
    fold::{At, Effect, MAX_LABELLED},
    log::{LONG, Log, Scratch},
    rotation,
    slot::{ENFORCED, GLOBAL, MAX_T, Slot as Record, class, class_of, kind},
    store::{BUCKETS, Directory},
    unavailable::Unavailable,
};

/// Logs that an instance keeps open.
const MAX_LOGS: usize = 32;
/// Entries and holders that an instance keeps in memory, as far as they are not all of one bucket.
const MAX_KEPT: usize = 8192;
/// Units that a bucket holds at least when a look can be spared as long as half of them are there.
const PLENTY: u32 = 16;
/// How often it is asked whether a log is still the newest one of its bucket, in nanoseconds: a state directory that was
/// emptied under us would otherwise go unseen.
const CHECK_NS: u64 = 10_000_000_000;
/// How often a record is tried that lands behind a seal.
const ATTEMPTS: usize = 16;

/// One instance's limiter; for one thread. Cheap to make, and any number of them may share a directory.
pub struct Limiter<D: Directory> {
    directory: D,
    logs: Vec<Log<D::File>>,
    scratch: Scratch,
    /// What is about to be appended.
    records: Vec<Record>,
    /// What was counted for each charge of the request.
    counted: Vec<Option<Counted>>,
    turn: u64,
    long: usize,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Every limit that decides admits it, and all of them have been charged.
    pub admitted: bool,
    /// How each limit stands, in the order of the charges.
    pub standings: Vec<Standing>,
    /// What is to be given back when the request is over: [`Limiter::release`].
    pub slots: Vec<Slot>,
}

/// Units of a concurrency limit that a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The bucket of keys.
    pub bucket: u16,
    /// What it was counted for: the charge's key, or what stands for many.
    pub key: u64,
    /// Which holder, among all that the bucket ever has.
    pub id: u64,
    /// What is counted for the key.
    pub class: u16,
}

/// A charge that was admitted at its place.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: At,
    now: u64,
    id: u64,
}

// === impl Limiter ===

impl<D: Directory> Limiter<D> {
    /// A limiter on the logs of a directory. Touches nothing yet.
    pub fn new(directory: D) -> Self {
        Self {
            directory,
            logs: Vec::new(),
            scratch: Scratch::new(),
            records: Vec::new(),
            counted: Vec::new(),
            turn: 0,
            long: LONG,
        }
    }

    /// Seals logs after so many records. For tests, which otherwise would hardly ever see it; it is of no use else.
    #[doc(hidden)]
    #[must_use]
    pub fn with_long(mut self, long: usize) -> Self {
        self.long = long;
        self
    }

    /// Judges all, then charges all or none. The time is [`clock::steady`](crate::clock::steady)'s.
    pub fn charge(&mut self, charges: &[Charge], steady_ns: u64) -> Result<Outcome, Unavailable> {
        self.charge_at(charges, steady_ns, steady_ns)
    }

    /// As [`Limiter::charge`], with the wall clock beside it, which only `reset_ns` and `retry_ns` of quotas are counted
    /// from.
    pub fn charge_at(&mut self, charges: &[Charge], steady_ns: u64, wall_ns: u64) -> Result<Outcome, Unavailable> {
        if steady_ns == UNKNOWN || steady_ns >= MAX_T {
            return Err(Unavailable::Clock);
        }
        self.turn += 1;
        let outcome = self.judge(charges, steady_ns, wall_ns).and_then(|mut outcome| {
            if outcome.admitted {
                self.take(charges, steady_ns, wall_ns, &mut outcome)?;
            }
            Ok(outcome)
        });
        if outcome.is_err() {
            // Whatever was wrong with them, they are opened anew.
            self.logs.retain(|log| charges.iter().all(|charge| bucket_of(charge.key) != log.bucket));
        }
        self.forget();
        outcome
    }

    /// Gives slots of concurrency limits back; failures are left to the lease.
    pub fn release(&mut self, slots: &[Slot], steady_ns: u64) {
        self.turn += 1;
        for slot in slots {
            let record = Record {
                kind: kind::RELEASE,
                class: slot.class,
                key: slot.key,
                t: steady_ns.min(MAX_T - 1),
                words: [slot.id, 0, 0, 0],
                ..Record::default()
            };
            let is_there = self.log(slot.bucket, record.t, false).is_ok();
            let _ = is_there.then(|| self.append(slot.bucket, &[record]));
        }
        self.forget();
    }

    /// How all of them stand, with nothing charged.
    fn judge(&mut self, charges: &[Charge], t: u64, wall: u64) -> Result<Outcome, Unavailable> {
        let mut outcome = Outcome { admitted: true, standings: Vec::with_capacity(charges.len()), slots: Vec::new() };
        for charge in charges {
            let bucket = bucket_of(charge.key);
            let reads_on = !self.has_plenty(bucket, charges, t);
            let standing = match self.log(bucket, t, reads_on) {
                Ok(log) => {
                    let (now, class) = (log.fold.time(t), class_of(&charge.rule));
                    let at = log.fold.resolve(charge.key, class, charge.tag, now);
                    let admitted = log.fold.admits(at, &charge.rule, charge.cost.max(1), now);
                    log.fold.standing(at, &charge.rule, charge.cost.max(1), admitted, now, wall)
                }
                Err(error) if charge.enforced => return Err(error),
                Err(_) => UNCOUNTED,
            };
            outcome.admitted &= standing.admitted || !charge.enforced;
            outcome.standings.push(standing);
        }
        Ok(outcome)
    }

    /// Charges all, or none if one is lost to others.
    fn take(&mut self, charges: &[Charge], t: u64, wall: u64, outcome: &mut Outcome) -> Result<(), Unavailable> {
        self.counted.clear();
        self.counted.resize(charges.len(), None);
        let mut failed = None;
        for (index, first) in charges.iter().enumerate() {
            let bucket = bucket_of(first.key);
            let is_done = charges.iter().take(index).any(|charge| bucket_of(charge.key) == bucket);
            if is_done {
                continue;
            }
            match self.take_in(bucket, charges, t, wall, outcome) {
                Ok(()) if outcome.admitted => {}
                Ok(()) => break,
                // Of what only shows, nobody has to know.
                Err(_) if charges.iter().all(|charge| !charge.enforced || bucket_of(charge.key) != bucket) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_some() || !outcome.admitted {
            self.take_back(charges, t, wall, outcome);
        } else {
            for (charge, counted) in charges.iter().zip(&self.counted) {
                if let Some(Counted { at: At { key, class }, id, .. }) = *counted
                    && class & !class::SHARED == class::HELD
                {
                    outcome.slots.push(Slot { bucket: bucket_of(charge.key), key, id, class });
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Charges those of one bucket, in one write.
    fn take_in(
        &mut self,
        bucket: u16,
        charges: &[Charge],
        t: u64,
        wall: u64,
        outcome: &mut Outcome,
    ) -> Result<(), Unavailable> {
        let mut records = core::mem::take(&mut self.records);
        records.clear();
        let log = self.log(bucket, t, true)?;
        let is_here = |(charge, standing): &(&Charge, &Standing)| {
            bucket_of(charge.key) == bucket && standing.admitted && **standing != UNCOUNTED
        };
        for (charge, _) in charges.iter().zip(&outcome.standings).filter(is_here) {
            records.push(record(charge, t));
        }
        let n_charges = records.len();
        for (charge, _) in charges.iter().zip(&outcome.standings).filter(is_here) {
            let at = At { key: charge.key, class: class_of(&charge.rule) };
            if !charge.label.is_empty() && log.fold.entries().len() < MAX_LABELLED && log.fold.entry(at).is_none() {
                records.push(Record::label(charge.key, at.class, &charge.label));
            }
        }
        let result = if n_charges == 0 { Ok(()) } else { self.append(bucket, &records) };
        self.records = records;
        result?;
        let Some(log) = self.logs.iter().find(|log| log.bucket == bucket) else { return Err(Unavailable::Busy) };
        let mut effects = self.scratch.effects.iter().take(n_charges);
        for ((charge, standing), counted) in charges.iter().zip(&mut outcome.standings).zip(&mut self.counted) {
            if !is_here(&(charge, standing)) {
                continue;
            }
            let cost = charge.cost.max(1);
            match effects.next() {
                Some(&Effect::Admitted { at, now, id }) => {
                    *counted = Some(Counted { at, now, id });
                    *standing = log.fold.standing(at, &charge.rule, cost, true, now, wall);
                }
                _ => {
                    let now = log.fold.time(t);
                    let at = log.fold.resolve(charge.key, class_of(&charge.rule), charge.tag, now);
                    *standing = log.fold.standing(at, &charge.rule, cost, false, now, wall);
                    outcome.admitted &= !charge.enforced;
                }
            }
        }
        Ok(())
    }

    /// Takes back what was counted of a request that is refused. What cannot be taken back stays counted, which is
    /// stricter.
    fn take_back(&mut self, charges: &[Charge], t: u64, wall: u64, outcome: &mut Outcome) {
        for (index, charge) in charges.iter().enumerate() {
            let Some(Some(Counted { at, now, id })) = self.counted.get(index).copied() else { continue };
            let bucket = bucket_of(charge.key);
            let record = Record {
                tag: charge.tag,
                key: at.key,
                class: at.class,
                kind: kind::REFUND,
                words: refund(charge, now, id),
                t,
                ..Record::default()
            };
            let _ = self.append(bucket, &[record]);
            let log = self.logs.iter().find(|log| log.bucket == bucket);
            if let (Some(log), Some(standing)) = (log, outcome.standings.get_mut(index)) {
                let now = log.fold.time(t);
                *standing = log.fold.standing(at, &charge.rule, charge.cost.max(1), true, now, wall);
            }
        }
    }

    // --- Logs ---

    /// Whether a bucket had so much left for all of these when it was last read that a look at what others took meanwhile
    /// can be spared: the charge is judged where it lands, whatever was expected before. Where that was wrong, a record
    /// without effect is in the log, and the next look is not spared.
    fn has_plenty(&self, bucket: u16, charges: &[Charge], t: u64) -> bool {
        let Some(log) = self.logs.iter().find(|log| log.bucket == bucket) else { return false };
        let now = log.fold.time(t);
        charges.iter().filter(|charge| bucket_of(charge.key) == bucket).all(|charge| {
            let Rule::Rate { burst: burst @ PLENTY.., .. } = charge.rule else { return false };
            let at = log.fold.resolve(charge.key, class_of(&charge.rule), charge.tag, now);
            log.fold.entry(at).is_some() && log.fold.admits(at, &charge.rule, charge.cost.max(1).max(burst / 2), now)
        })
    }

    /// The log of a bucket, read to its end if that is asked for and was not done in this turn, and on the clock of today.
    fn log(&mut self, bucket: u16, t: u64, reads_on: bool) -> Result<&mut Log<D::File>, Unavailable> {
        let index = match self.logs.iter().position(|log| log.bucket == bucket) {
            Some(index) => index,
            None => {
                let mut log = rotation::open(&self.directory, bucket, None, &mut self.scratch, &mut ())?;
                log.checked_ns = t;
                self.logs.push(log);
                self.logs.len() - 1
            }
        };
        let log = self.logs.get_mut(index).ok_or(Unavailable::Busy)?;
        // Once in a turn is often enough: what comes in meanwhile is seen when the charge lands.
        if log.turn != self.turn {
            log.turn = self.turn;
            let is_due = log.checked_ns.abs_diff(t) >= CHECK_NS;
            let is_newest = !is_due || log.is_newest(&self.directory)?;
            log.checked_ns = if is_due { t } else { log.checked_ns };
            if reads_on || is_due {
                log.sync(&mut self.scratch, &mut ())?;
            }
            if !log.fold.is_sealed() && !is_newest {
                // The directory was emptied under us. All who still have this log go on together.
                log.seal(&mut self.scratch, &mut ())?;
            }
            if log.fold.is_sealed() {
                move_on(&self.directory, log, &mut self.scratch)?;
            }
            if log.fold.went_back(t) {
                let step = Record { kind: kind::STEP, t, ..Record::default() };
                append(&self.directory, log, &[step], &mut self.scratch)?;
            }
        }
        Ok(log)
    }

    /// Appends to a log that was read in this turn.
    fn append(&mut self, bucket: u16, records: &[Record]) -> Result<(), Unavailable> {
        let log = self.logs.iter_mut().find(|log| log.bucket == bucket).ok_or(Unavailable::Busy)?;
        append(&self.directory, log, records, &mut self.scratch)?;
        if log.fold.is_long(self.long) {
            // The records stand, whatever becomes of this; who comes next tries again.
            let effects = core::mem::take(&mut self.scratch.effects);
            let _ = log.seal(&mut self.scratch, &mut ());
            self.scratch.effects = effects;
        }
        Ok(())
    }

    /// Keeps no more than is good, oldest used first.
    fn forget(&mut self) {
        loop {
            let n_kept: usize = self.logs.iter().map(|log| log.fold.weight()).sum();
            if self.logs.len() <= MAX_LOGS && (n_kept <= MAX_KEPT || self.logs.len() < 2) {
                break;
            }
            let oldest = self.logs.iter().enumerate().min_by_key(|(_, log)| log.turn);
            let Some((index, _)) = oldest else { break };
            self.logs.swap_remove(index);
        }
    }
}

/// What stands for a limit that only shows and cannot be counted.
const UNCOUNTED: Standing = Standing { admitted: true, remaining: 0, reset_ns: 0, retry_ns: u64::MAX };

/// The bucket of a key.
pub(crate) fn bucket_of(key: u64) -> u16 {
    u16::try_from(key % u64::from(BUCKETS)).unwrap_or_default()
}

fn record(charge: &Charge, t: u64) -> Record {
    let enforced = if charge.enforced { ENFORCED } else { 0 };
    let global = if charge.global { GLOBAL } else { 0 };
    Record { kind: kind::CHARGE, flags: enforced | global, tag: charge.tag, key: charge.key, t, ..Record::default() }
        .with_rule(&charge.rule, charge.cost)
}

/// What a refund has to say of the charge.
fn refund(charge: &Charge, now: u64, id: u64) -> [u64; 4] {
    let cost = u64::from(charge.cost.max(1));
    match charge.rule {
        Rule::Rate { interval_ns, .. } => [now, interval_ns.saturating_mul(cost), 0, 0],
        Rule::Quota { begin_ns, .. } => [begin_ns, cost, 0, 0],
        Rule::Concurrency { .. } => [id, cost, 0, 0],
    }
}

/// Appends to a log, or to the generation that comes after it.
fn append<D: Directory>(
    directory: &D,
    log: &mut Log<D::File>,
    records: &[Record],
    scratch: &mut Scratch,
) -> Result<(), Unavailable> {
    for _ in 0..ATTEMPTS {
        log.append(records, scratch, &mut ())?;
        if scratch.effects.first() != Some(&Effect::Void) {
            return Ok(());
        }
        move_on(directory, log, scratch)?;
    }
    Err(Unavailable::Busy)
}

/// From a log that is sealed to the newest.
fn move_on<D: Directory>(directory: &D, log: &mut Log<D::File>, scratch: &mut Scratch) -> Result<(), Unavailable> {
    for _ in 0..ATTEMPTS {
        let next = rotation::open(directory, log.bucket, Some(log), scratch, &mut ())?;
        let (checked_ns, turn) = (log.checked_ns, log.turn);
        *log = next;
        (log.checked_ns, log.turn) = (checked_ns, turn);
        if !log.fold.is_sealed() {
            return Ok(());
        }
    }
    Err(Unavailable::Busy)
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
