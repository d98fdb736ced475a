//! What a token bucket allows, held against what was seen from outside.
//!
//! A limiter judges a request at some moment between its sending and its answer, which moment nobody outside knows. So
//! there are two bounds: [`worst`] is above 1 only when the limiter has certainly let too much through, whenever it
//! judged; [`Tally::due`] is what it must have let through, whenever it judged.

use std::time::Duration;

/// A pause of a key's requests after which its bucket is taken to fill up unseen.
const PAUSE: Duration = Duration::from_millis(50);

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Units that come back in a second.
    pub rate: f64,
    /// Units that the full bucket holds.
    pub burst: f64,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Which bucket it belongs to.
    pub key: usize,
    /// When it was sent, from the start of the attack.
    pub sent: Duration,
    /// When its whole answer was there.
    pub answered: Duration,
    /// The answer's status.
    pub status: u16,
}

impl Shot {
    /// Whether it was let through.
    pub fn admitted(&self) -> bool {
        self.status == 200
    }

    /// How long it took.
    pub fn latency(&self) -> Duration {
        self.answered.saturating_sub(self.sent)
    }
}

/// Admitted over allowed in the worst of all windows: of the requests that were sent and answered inside a window, the
/// admitted ones, over `burst + rate * length`. All requests are of one bucket.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
pub fn worst(bucket: Bucket, shots: &[Shot]) -> f64 {
    let mut admitted: Vec<&Shot> = shots.iter().filter(|shot| shot.admitted()).collect();
    admitted.sort_by_key(|shot| shot.answered);
    let mut worst: f64 = 0.0;
    // A window that is the worst begins with the sending of a request and ends with the answer to one.
    for begin in &admitted {
        let mut inside = 0_u32;
        for shot in admitted.iter().filter(|shot| shot.sent >= begin.sent) {
            inside += 1;
            let length = shot.answered.saturating_sub(begin.sent).as_secs_f64();
            worst = worst.max(f64::from(inside) / (bucket.burst + bucket.rate * length));
        }
    }
    worst
}

/// What a whole attack comes to, over all its buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Requests that were let through.
    pub admitted: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// What full buckets may give to this demand at most, in whole units.
    pub allowed: f64,
    /// What they must have given, as far as the demand sufficed.
    pub due: f64,
    /// [`worst`] of the buckets.
    pub worst: f64,
}

impl Tally {
    /// Of all shots, each key with a bucket of its own.
    pub fn new(bucket: Bucket, shots: &[Shot]) -> Tally {
        let mut shots = shots.to_vec();
        shots.sort_by_key(|shot| (shot.key, shot.sent));
        let mut total = Tally::default();
        for one in shots.chunk_by(|a, b| a.key == b.key) {
            let (allowed, due) = expected(bucket, one);
            total.admitted += one.iter().filter(|shot| shot.admitted()).count() as u64;
            total.answered += one.len() as u64;
            total.allowed += allowed;
            total.due += due;
            total.worst = total.worst.max(worst(bucket, one));
        }
        total
    }

    /// Admitted over allowed.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    pub fn ratio(&self) -> f64 {
        self.admitted as f64 / self.allowed
    }

    /// Never too much, in any window.
    pub fn holds(&self) -> bool {
        self.worst <= 1.0
    }

    /// Nobody was refused what was due.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    pub fn suffices(&self) -> bool {
        self.admitted as f64 >= 0.999 * self.due
    }
}

/// At most and at least what one bucket gives, full at first. The shots are in the order of their sending.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn expected(bucket: Bucket, shots: &[Shot]) -> (f64, f64) {
    let (mut allowed, mut due) = (bucket.burst, 0.0);
    // The most and the least that the bucket can hold.
    let (mut most, mut least) = (bucket.burst, bucket.burst);
    let mut ended: Option<Duration> = None;
    for pulse in pulses(shots) {
        let Some(begin) = pulse.first().map(|shot| shot.sent) else { continue };
        let end = pulse.iter().map(|shot| shot.answered).max().unwrap_or(begin);
        if let Some(ended) = ended {
            let refill = bucket.rate * begin.saturating_sub(ended).as_secs_f64();
            // What a full bucket cannot take is lost.
            allowed += refill.min(bucket.burst - most);
            most = (most + refill).min(bucket.burst);
            least = (least + refill).min(bucket.burst);
        }
        let admitted = pulse.iter().filter(|shot| shot.admitted()).count() as f64;
        let refill = bucket.rate * end.saturating_sub(begin).as_secs_f64();
        let first = pulse.iter().filter(|shot| shot.admitted()).map(|shot| shot.answered).min();
        let refused = pulse.iter().filter(|shot| !shot.admitted()).map(|shot| shot.sent).max();
        if let Some(refused) = refused {
            // When a request was refused, less than one unit was left.
            let first = first.unwrap_or(refused);
            due += (least + bucket.rate * refused.saturating_sub(first).as_secs_f64() - 1.0).max(0.0);
            least = 0.0;
        } else {
            due += admitted;
            least = (least - admitted).max(0.0);
        }
        let full = (most + refill - admitted).clamp(0.0, bucket.burst);
        allowed += if refused.is_some() { refill } else { refill.min(full + admitted - most) };
        most = full;
        ended = Some(end);
        if refused.is_none() && ended == shots.iter().map(|shot| shot.answered).max() {
            // Nobody asked for the rest.
            allowed -= most;
        }
    }
    // A whole unit stays one whatever the sums above have rounded.
    ((allowed + 1e-6).floor(), due.floor())
}

/// The shots cut where nothing was under way for [`PAUSE`].
fn pulses(mut shots: &[Shot]) -> Vec<&[Shot]> {
    let mut pulses = Vec::new();
    let mut busy = Duration::ZERO;
    let mut index = 0;
    while let Some(shot) = shots.get(index) {
        if index > 0 && shot.sent > busy + PAUSE {
            let (pulse, rest) = shots.split_at(index);
            pulses.push(pulse);
            (shots, index) = (rest, 0);
            continue;
        }
        busy = busy.max(shot.answered);
        index += 1;
    }
    pulses.push(shots);
    pulses
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket { rate: 10.0, burst: 5.0 };

    fn shot(sent: u64, answered: u64, status: u16) -> Shot {
        Shot { key: 0, sent: Duration::from_millis(sent), answered: Duration::from_millis(answered), status }
    }

    #[test]
    fn a_full_bucket_at_once_is_allowed_and_one_more_is_not() {
        let mut shots = vec![shot(0, 0, 200); 5];
        assert!((worst(BUCKET, &shots) - 1.0).abs() < 1e-9);
        shots.push(shot(99, 99, 200));
        assert!(worst(BUCKET, &shots) > 1.0);
        shots[5] = shot(100, 100, 200);
        assert!((worst(BUCKET, &shots) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_request_counts_for_the_windows_that_hold_all_of_it() {
        // Six that were all under way from 0 to 100 ms may have been judged when there were six.
        assert!(worst(BUCKET, &[shot(0, 100, 200); 6]) <= 1.0);
        assert!(worst(BUCKET, &[shot(0, 100, 200); 7]) > 1.0);
        assert!(worst(BUCKET, &[shot(0, 100, 429); 7]) < 1e-9);
    }

    #[test]
    fn the_worst_window_need_not_be_the_longest() {
        let mut shots: Vec<Shot> = (0..10).map(|second| shot(second * 1000, second * 1000, 200)).collect();
        assert!(worst(BUCKET, &shots) < 1.0);
        shots.extend([shot(5000, 5000, 200); 5]);
        assert!(worst(BUCKET, &shots) > 1.0);
    }

    #[test]
    fn what_is_due_and_what_is_allowed_enclose_an_exact_limiter() {
        // Demand every 10 ms for two seconds, judged at once; a pause in which the bucket fills up; the same again.
        let mut shots = Vec::new();
        let mut tat = 0.0_f64;
        for begin in [0, 10_000] {
            for at in (begin..begin + 2000).step_by(10) {
                #[allow(clippy::cast_precision_loss)]
                let now = at as f64 / 1e3;
                let base = tat.max(now);
                let admitted = base + 0.1 - now <= 0.5 + 1e-9;
                tat = if admitted { base + 0.1 } else { tat };
                shots.push(shot(at, at + 1, if admitted { 200 } else { 429 }));
            }
        }
        let tally = Tally::new(BUCKET, &shots);
        assert!(tally.holds() && tally.suffices(), "{tally:?}");
        assert!((47.0..=49.0).contains(&tally.allowed) && tally.due >= 45.0, "{tally:?}");
        // A limiter that is twice as strict is found, and so is one that starts anew in the middle.
        let mut strict = shots.clone();
        for shot in strict.iter_mut().filter(|shot| shot.admitted()).step_by(2) {
            shot.status = 429;
        }
        assert!(!Tally::new(BUCKET, &strict).suffices());
        shots.extend([shot(1500, 1501, 200); 5]);
        assert!(!Tally::new(BUCKET, &shots).holds());
    }

    #[test]
    fn every_key_has_its_bucket() {
        let shots: Vec<Shot> = (0..10).flat_map(|key| vec![Shot { key, ..shot(0, 1, 200) }; 5]).collect();
        let tally = Tally::new(BUCKET, &shots);
        assert!(tally.holds());
        assert_eq!(tally.admitted, 50);
    }
}
