//! The machine's wall clock, really set: only where that is asked for, and always put right again.
//!
//! Steps are told from the passing of time by `CLOCK_BOOTTIME`, which nobody can set: however long a step lasts, the clock
//! ends where it would have been.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// The variable that allows it: whatever else runs on the machine sees the wrong time meanwhile.
const VARIABLE: &str = "PORTCULLIS_CLOCK";

/// The right to set the clock. Dropping it puts the clock right.
#[derive(Debug)]
pub struct Clock {
    /// Wall time minus time since boot, in nanoseconds.
    right: i128,
}

impl Clock {
    /// None unless `PORTCULLIS_CLOCK=1` is set and the process may set the clock.
    pub fn allowed() -> Option<Clock> {
        let asked = std::env::var_os(VARIABLE).is_some_and(|value| value == "1");
        let clock = Clock { right: now(ClockId::Realtime) - now(ClockId::Boottime) };
        (asked && clock.step(0).is_ok()).then_some(clock)
    }

    /// Sets the clock so many seconds off the right time.
    pub fn step(&self, seconds: i64) -> Result<()> {
        let wall = now(ClockId::Boottime) + self.right + i128::from(seconds) * 1_000_000_000;
        let time = Timespec {
            tv_sec: i64::try_from(wall.div_euclid(1_000_000_000))?,
            tv_nsec: i64::try_from(wall.rem_euclid(1_000_000_000))?,
        };
        clock_settime(ClockId::Realtime, time).context("setting the clock")
    }

    /// Sets it that far off for a while.
    pub async fn off(&self, seconds: i64, lasting: Duration) -> Result<()> {
        self.step(seconds)?;
        tokio::time::sleep(lasting).await;
        self.step(0)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // It could be set a moment ago.
        let _ = self.step(0);
    }
}

fn now(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
