//! `portcullis.io/*` on a Service: a limit, and the gate's place among its middlewares.

use super::{
    annotations::{self, OWN, OWN_PREFIX},
    exposure::{PLACE_KEY, Pair, Problems},
    options::Exposure,
    subject::Subject,
};
use crate::traefik::{normalize, value::is_duration};

/// Adds what the service's own annotations ask for; one that nobody knows closes the service, like any other key.
pub(super) fn apply(
    subject: &Subject<'_>,
    name: &str,
    exposure: Exposure,
    pairs: &mut Vec<Pair>,
    problems: &mut Problems,
) {
    for key in subject.annotations.keys().filter(|key| key.starts_with(OWN_PREFIX) && !OWN.contains(&key.as_str())) {
        problems.error(key, "there is no such annotation", &format!("write one of {}", OWN.join(", ")));
    }
    if let Some(text) = subject.annotation(annotations::RATE_LIMIT) {
        match read_limit(text) {
            Some(limit) => add_limit(limit, name, pairs, problems),
            None => {
                let what = format!("{text:?} is no limit");
                problems.error(annotations::RATE_LIMIT, &what, "write 100/1s, or 20/1m burst 40");
            }
        }
    }
    match (subject.annotation(annotations::PLACE).map(str::trim), exposure) {
        (None, _) => {}
        (Some(place @ ("first" | "last")), Exposure::Gate) => {
            pairs.push(Pair::made(PLACE_KEY.to_owned(), place, annotations::PLACE));
        }
        (Some("first" | "last"), _) => {
            problems.error(annotations::PLACE, "there is no gate with tags for Traefik itself", "remove it");
        }
        (Some(other), _) => {
            problems.error(annotations::PLACE, &format!("{other:?} is no place"), "write first or last");
        }
    }
}

/// `average/period`, and `burst` behind it.
fn read_limit(text: &str) -> Option<(u32, &str, u32)> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (rate, burst) = match words.as_slice() {
        [rate] => (rate, None),
        [rate, "burst", burst] => (rate, Some(*burst)),
        _ => return None,
    };
    let (average, period) = rate.split_once('/')?;
    let average = average.parse().ok().filter(|average| *average > 0)?;
    let burst = burst.map_or(Some(average), |burst| burst.parse().ok().filter(|burst| *burst > 0))?;
    is_duration(period).then_some((average, period, burst))
}

/// For each address that calls, in front of every router's other middlewares.
fn add_limit((average, period, burst): (u32, &str, u32), name: &str, pairs: &mut Vec<Pair>, problems: &mut Problems) {
    let from = annotations::RATE_LIMIT;
    let limit = format!("{}-limit", normalize(name));
    let routers: std::collections::BTreeSet<_> =
        pairs.iter().filter_map(|pair| router(&pair.key)).map(str::to_owned).collect();
    if routers.is_empty() {
        problems.error(from, "the service has no router to limit", "add traefik.http.routers.<name>.rule");
    }
    for router in routers {
        let list = format!("http.routers.{router}.middlewares");
        match pairs.iter_mut().find(|pair| pair.key.eq_ignore_ascii_case(&list)) {
            Some(pair) => pair.value = format!("{limit},{}", pair.value),
            None => pairs.push(Pair::made(list, &limit, from)),
        }
    }
    let option = |option: &str| format!("http.middlewares.{limit}.ratelimit.{option}");
    pairs.push(Pair::made(option("average"), average, from));
    pairs.push(Pair::made(option("period"), period, from));
    pairs.push(Pair::made(option("burst"), burst, from));
    pairs.push(Pair::made(option("sourcecriterion.ipstrategy.depth"), 0, from));
}

fn router(key: &str) -> Option<&str> {
    const ROUTERS: &str = "http.routers.";
    let (start, rest) = key.split_at_checked(ROUTERS.len())?;
    start.eq_ignore_ascii_case(ROUTERS).then(|| rest.split('.').next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::read_limit;

    #[test]
    fn a_limit_is_a_rate_and_perhaps_a_burst() {
        assert_eq!(read_limit(" 100/1s "), Some((100, "1s", 100)));
        assert_eq!(read_limit("20/1m burst 40"), Some((20, "1m", 40)));
        for text in ["", "100", "100/", "0/1s", "-1/1s", "10/1s burst", "10/1s burst 0", "10/1s burst 1 2", "1/1x"] {
            assert_eq!(read_limit(text), None, "{text}");
        }
    }
}
