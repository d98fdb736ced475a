//! When to fetch. Pure: chance comes in as a number.

use std::time::Duration;

use portcullis_policy::jwt::RetryPolicy;

/// `CacheDuration` where none is written.
const CACHE_DURATION: Duration = Duration::from_secs(300);
/// What a written one may be.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(86_400);
/// An issuer that says less is not asked more often.
const LEAST_TOLD: Duration = Duration::from_secs(60);
/// `BaseInterval` where none is written.
const BASE_INTERVAL: Duration = Duration::from_secs(1);
/// What the pauses between failures may be.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// `RequestTimeoutMs` and `ConnectTimeout` where none is written, and the longest that is waited.
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after a fetch the next one comes: ahead of the end of `CacheDuration` (in nanoseconds, 0 is not set) and of what the
/// issuer's `Cache-Control` says, whichever is first. `dice` is any number.
pub(super) fn due(cache_duration: u64, max_age: Option<Duration>, dice: u32) -> Duration {
    let written =
        if cache_duration == 0 { CACHE_DURATION } else { Duration::from_nanos(cache_duration).clamp(LEAST, MOST) };
    let told = max_age.map_or(MOST, |told| told.max(LEAST_TOLD));
    // Between 60 and 80 of a hundred.
    part(written.min(told), 60, 20, dice)
}

/// How long after the `failures`-th failure in a row (from 1) the next attempt comes: doubled each time up to
/// `MaxInterval`, and less by chance. `dice` is any number.
pub(super) fn pause(retry: RetryPolicy, failures: u32, dice: u32) -> Duration {
    let base = if retry.base_interval == 0 { BASE_INTERVAL } else { Duration::from_nanos(retry.base_interval) };
    let base = base.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let most = if retry.max_interval == 0 { base * 10 } else { Duration::from_nanos(retry.max_interval) };
    let most = most.clamp(base, LONGEST_PAUSE);
    let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).and_then(|factor| base.checked_mul(factor));
    part(doubled.unwrap_or(most).min(most), 50, 50, dice)
}

/// `RequestTimeoutMs`, in milliseconds: for all of a fetch.
pub(super) fn request_timeout(milliseconds: u64) -> Duration {
    timeout(Duration::from_millis(milliseconds))
}

/// `ConnectTimeout`, in nanoseconds.
pub(super) fn connect_timeout(nanoseconds: u64) -> Duration {
    timeout(Duration::from_nanos(nanoseconds))
}

fn timeout(written: Duration) -> Duration {
    if written.is_zero() { TIMEOUT } else { written.min(LONGEST_TIMEOUT) }
}

/// `from` of a hundred, and up to `span` more by chance.
fn part(whole: Duration, from: u32, span: u32, dice: u32) -> Duration {
    whole * (from + dice % (span + 1)) / 100
}

/// What `Cache-Control` allows: how long the answer may be kept. `None` where it says nothing.
pub(super) fn max_age<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Duration> {
    let directives = values.into_iter().flat_map(|value| value.split(',')).map(str::trim);
    let mut least = None;
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(0),
            // More than fits is as good as for ever.
            "max-age" => value.trim().trim_matches('"').parse().ok(),
            _ => None,
        };
        least = least.into_iter().chain(seconds).min();
    }
    least.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn seconds(duration: Duration) -> u64 {
        duration.as_secs()
    }

    #[test]
    fn a_set_is_fetched_before_its_time_is_over() {
        assert_eq!((seconds(due(0, None, 0)), seconds(due(0, None, 20))), (180, 240));
        assert_eq!(seconds(due(1000 * SECOND, None, 0)), 600);
        assert_eq!(seconds(due(1000 * SECOND, Some(Duration::from_secs(100)), 0)), 60, "the issuer says less");
        assert_eq!(seconds(due(50 * SECOND, Some(Duration::from_secs(100)), 0)), 30, "the provider says less");
        assert_eq!(seconds(due(0, Some(Duration::ZERO), 0)), 36, "nobody is asked all the time");
        assert_eq!(due(1, None, 0), Duration::from_millis(600));
        assert!(due(u64::MAX, None, u32::MAX) <= MOST);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let all = |retry, dice| [1, 2, 3, 4, 5, 99, u32::MAX].map(|it| seconds(pause(retry, it, dice)));
        assert_eq!(all(RetryPolicy::default(), 50), [1, 2, 4, 8, 10, 10, 10]);
        let written = RetryPolicy { retries: 0, base_interval: 2 * SECOND, max_interval: 5 * SECOND };
        assert_eq!(all(written, 50), [2, 4, 5, 5, 5, 5, 5]);
        assert_eq!(all(written, 0), [1, 2, 2, 2, 2, 2, 2], "half of it at least");
        let hostile = RetryPolicy { retries: u64::MAX, base_interval: 1, max_interval: u64::MAX };
        assert!(pause(hostile, 1, 0) >= Duration::from_millis(50) && pause(hostile, 99, u32::MAX) <= LONGEST_PAUSE);
    }

    #[test]
    fn cache_control_is_read_as_strictly_as_it_can_be() {
        for (values, wanted) in [
            (vec![], None),
            (vec!["public"], None),
            (vec!["public, max-age=600"], Some(600)),
            (vec!["max-age=600", "Max-Age = \"60\""], Some(60)),
            (vec!["max-age=600, no-cache"], Some(0)),
            (vec!["max-age=x"], None),
        ] {
            assert_eq!(max_age(values.clone()).map(seconds), wanted, "{values:?}");
        }
    }

    #[test]
    fn waiting_is_bounded() {
        assert_eq!(request_timeout(0), TIMEOUT);
        assert_eq!(request_timeout(250), Duration::from_millis(250));
        assert_eq!(connect_timeout(u64::MAX), LONGEST_TIMEOUT);
    }
}
