//! Measuring on a machine that does other things as well.
//!
//! Time is the processor time of this thread, which leaves out what others get of the processor. They still take caches
//! and clock rate, which only ever adds to a figure: so many short rounds, everything takes its turn in each round, and
//! the lower quartile is what is shown and held to a budget. A ratio is the median of the rounds' own ratios.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Times of one thing, one for each round, in nanoseconds for each operation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Adds a round: `run` does `operations` of them.
    pub(crate) fn round(&mut self, operations: usize, run: impl FnOnce()) {
        let before = processor_time();
        run();
        let spent = processor_time().saturating_sub(before);
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        self.0.push(spent.as_secs_f64() * 1e9 / operations as f64);
    }

    /// The lower quartile, in nanoseconds.
    pub(crate) fn quartile(&self) -> f64 {
        quantile(self.0.clone(), 4)
    }

    /// The median of the rounds' ratios to another series of the same rounds.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        quantile(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect(), 2)
    }
}

/// The value below which one in `part` lies.
fn quantile(mut values: Vec<f64>, part: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / part).copied().unwrap_or(f64::NAN)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// The same numbers in every run (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_rounds_lies_below_the_quartile() {
        assert!((Series((1..=9).map(f64::from).collect()).quartile() - 3.0).abs() < f64::EPSILON);
        assert!(Series::default().quartile().is_nan());
    }

    #[test]
    fn a_ratio_is_formed_within_rounds() {
        let (one, other) = (Series(vec![10.0, 200.0, 30.0]), Series(vec![5.0, 100.0, 15.0]));
        assert!((one.ratio_to(&other) - 2.0).abs() < f64::EPSILON);
    }
}
