//! How fast one list is asked for, and when it is asked again after a failure.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// Between two questions, on the average; so that a list that changes all the time is not all that Consul sends.
const SPACE: Duration = Duration::from_millis(100);
/// Questions that may come at once after a pause.
const BURST: u32 = 2;
/// After failures, doubled each time, and shortened by up to a half so that not all gateways come at once.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A token bucket of questions, and the back-off.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the bucket would be full.
    full_at: Instant,
    backoff: Duration,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new() -> Self {
        Self { full_at: Instant::now(), backoff: FIRST_BACKOFF }
    }

    /// Waits until the next question may be asked.
    pub(super) async fn turn(&mut self) {
        let now = Instant::now();
        let full_at = self.full_at.max(now) + SPACE;
        self.full_at = full_at;
        let depth = SPACE * BURST;
        if full_at > now + depth {
            sleep_until(full_at - depth).await;
        }
    }

    /// An answer could be used.
    pub(super) fn succeeded(&mut self) {
        self.backoff = FIRST_BACKOFF;
    }

    /// Waits after one that could not.
    pub(super) async fn back_off(&mut self) {
        // Without entropy all come at once, which is no fault.
        let share = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        sleep(self.backoff.mul_f64(1.0 - share / 2.0)).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_questions_may_come_at_once_and_then_ten_a_second() {
        let (start, mut pace) = (Instant::now(), Pace::new());
        for _ in 0..2 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed().as_millis(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_up_to_ten_seconds() {
        let mut pace = Pace::new();
        for _ in 0..9 {
            pace.back_off().await;
        }
        let start = Instant::now();
        pace.back_off().await;
        assert!((5.0..=10.01).contains(&start.elapsed().as_secs_f64()));
        pace.succeeded();
        let start = Instant::now();
        pace.back_off().await;
        assert!(start.elapsed() <= Duration::from_millis(251));
    }
}
