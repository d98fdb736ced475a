//! Windows of the calendar, from seconds since the Unix epoch. UTC has no summer time, and leap seconds are not counted
//! here, as nowhere in Unix time.

use super::rule::Window;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Days from the first of March of the year 0 to the epoch. Years that begin in March end with the leap day.
const EPOCH: u64 = 719_468;
/// Days of 400 years.
const CYCLE: u64 = 146_097;

impl Window {
    /// When the window with this moment begins, and when it ends, in seconds since the Unix epoch.
    pub fn around(self, now: u64) -> (u64, u64) {
        let (begin, len) = match self {
            Self::Hour => (now - now % HOUR, HOUR),
            Self::Day => (now - now % DAY, DAY),
            Self::Month => {
                let days = now / DAY;
                let (before, len) = month(days);
                // Nothing before the epoch: it began a month.
                (days.saturating_sub(before) * DAY, len * DAY)
            }
        };
        (begin, begin.saturating_add(len))
    }
}

/// How many days of its month were over on a day, and how many the month has.
fn month(days: u64) -> (u64, u64) {
    let day_of_cycle = (days + EPOCH) % CYCLE;
    let year = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year + year / 4 - year / 100);
    let begins = |month: u64| (153 * month + 2) / 5;
    let month = (5 * day_of_year + 2) / 153;
    let len = if month == 11 {
        // February, which is in the next year as people count them.
        let year = year + 1;
        28 + u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
    } else {
        begins(month + 1) - begins(month)
    };
    (day_of_year - begins(month), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A calendar that only counts.
    #[test]
    fn months_are_those_of_the_calendar_for_eight_hundred_years() {
        let mut day = 0;
        for year in 1970_u64..2770 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for len in [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                for inside in [0, len / 2, len - 1] {
                    let now = (day + inside) * DAY + 4711;
                    assert_eq!(Window::Month.around(now), (day * DAY, (day + len) * DAY), "{year} {day}");
                }
                day += len;
            }
        }
    }

    #[test]
    fn hours_and_days_begin_on_the_stroke() {
        let now = 1_763_757_777; // 2025-11-21T20:42:57Z
        assert_eq!(Window::Hour.around(now), (1_763_755_200, 1_763_758_800));
        assert_eq!(Window::Day.around(now), (1_763_683_200, 1_763_769_600));
        assert_eq!(Window::Month.around(now), (1_761_955_200, 1_764_547_200));
        let (begin, _) = Window::Day.around(1_763_683_200);
        assert_eq!(begin, 1_763_683_200, "the first second is inside");
    }

    #[test]
    fn the_end_of_time_is_no_fault() {
        for window in [Window::Hour, Window::Day, Window::Month] {
            let (begin, end) = window.around(u64::MAX);
            assert!(begin <= end);
        }
    }
}
