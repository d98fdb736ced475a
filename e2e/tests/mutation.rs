//! Tens of thousands of hostile spellings through real Traefik and the real plugin, to backends that understand them all.
//!
//! `PORTCULLIS_SEED` repeats a run, `PORTCULLIS_VARIANTS` makes it longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use portcullis_e2e::guarded::ENTRIES;
use portcullis_e2e::mutation::run::{Course, Outcome};
use portcullis_e2e::mutation::scenario;
use portcullis_e2e::parts::Parts;
use portcullis_e2e::report;
use portcullis_e2e::wire2::RESET;

/// Variants through the plugin.
const VARIANTS: u64 = 50_000;
/// Variants through Traefik's own rules: far more than it takes to get around them.
const UNGUARDED_VARIANTS: u64 = 3_000;
/// How many different failures are made small and printed.
const SHOWN: usize = 5;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    setting("PORTCULLIS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_secs() << 10 | u64::from(now.subsec_millis())
    })
}

fn say(what: &str, seed: u64, outcome: &Outcome) {
    report::say(&format!(
        "{what}: seed {seed}, {} variants in {:.1} s, {} arrived, {} refused by the plugin, {} without an answer, \
         statuses {:?}, forbidden {}",
        outcome.sent(),
        outcome.elapsed.as_secs_f64(),
        outcome.arrived,
        outcome.refused,
        outcome.unanswered,
        outcome.statuses,
        outcome.found.len(),
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_forbidden_request_reaches_a_backend_that_understands_it() {
    let Some(parts) = Parts::for_test() else { return };
    let course = Arc::new(Course::start(&parts, scenario::guarded()).await.unwrap());
    // The scenarios mean what they say, or nothing below would be worth anything.
    for (index, scenario) in course.scenarios().iter().enumerate() {
        for entry in ENTRIES {
            for head in &scenario.harmless {
                let (status, reading) = course.send(index, entry, head).await.unwrap();
                assert_eq!((status, reading), (Some(200), None), "{} {entry:?}: {head:?}", scenario.name);
            }
            for head in &scenario.targets {
                let (status, reading) = course.send(index, entry, head).await.unwrap();
                assert!(matches!(status, Some(400..500)), "{} {entry:?}: {status:?} for {head:?}", scenario.name);
                assert_eq!(reading, None, "{} {entry:?}: {head:?}", scenario.name);
            }
        }
    }

    let (seed, count) = (seed(), setting("PORTCULLIS_VARIANTS").unwrap_or(VARIANTS));
    let outcome = course.run(seed, count).await.unwrap();
    say("guarded", seed, &outcome);
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    for found in &outcome.found {
        let scenario = &course.scenarios()[found.scenario];
        if shown.len() < SHOWN && !shown.contains_key(scenario.name) {
            let small = course.shrink(found).await.unwrap();
            let (head, reading) = small.unwrap_or_else(|| (found.arrived.clone(), found.reading.clone()));
            let case = scenario.case(&head, &reading, seed);
            shown.insert(scenario.name, format!("{case}# by {:?}, arrived as {:?}\n", found.entry, found.arrived));
        }
    }
    let shown: Vec<String> = shown.into_values().collect();
    assert!(outcome.found.is_empty(), "{} got through:\n{}", outcome.found.len(), shown.join("\n"));

    // Neither a gateway that lets nothing through nor one that is not there would have shown anything.
    assert_eq!(outcome.sent(), count);
    assert!(outcome.arrived > count / 20, "only {} of {count} arrived", outcome.arrived);
    assert!(outcome.refused > count / 10, "only {} of {count} were refused by the plugin", outcome.refused);
    assert!(outcome.unanswered < count / 20, "{} of {count} had no answer", outcome.unanswered);
    assert!(outcome.statuses.get(&RESET).is_some_and(|reset| *reset < count / 4), "{:?}", outcome.statuses);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_spellings_get_around_every_router_without_the_plugin() {
    let Some(parts) = Parts::for_test() else { return };
    let course = Arc::new(Course::start(&parts, scenario::unguarded()).await.unwrap());
    let seed = seed();
    let outcome = course.run(seed, UNGUARDED_VARIANTS).await.unwrap();
    say("unguarded", seed, &outcome);
    for (index, scenario) in course.scenarios().iter().enumerate() {
        let found = outcome.found.iter().find(|found| found.scenario == index);
        let found = found.unwrap_or_else(|| panic!("nothing got around {} with seed {seed}", scenario.name));
        let (head, reading) = course.shrink(found).await.unwrap().expect("what got through once gets through again");
        report::say(&format!("{}: {head:?} is read as {reading}", scenario.name));
    }
}
