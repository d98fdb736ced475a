//! What becomes of routing tags: translated, checked, rewritten for the gate, given to Traefik, or left out.
//!
//! All tags with Traefik's prefix are judged alike, whether an annotation or a tag list brought them: in gate mode a
//! `traefik.http.routers…` tag left in the catalog would make a second router, and that one unguarded. One key that cannot
//! be used closes the service: half of what its author wrote may be the half that protected it.

use std::collections::BTreeMap;

use super::{
    annotations,
    note::Notes,
    options::{Exposure, SyncOptions},
    own,
    subject::Subject,
    tags::Tag,
};
use crate::traefik::{
    Problem, tree,
    v1::{self, Context},
    value::go_bool,
};

/// Prefix that Traefik's catalog provider reads.
pub const TRAEFIK_PREFIX: &str = "traefik.";
/// Prefix of the same tags where only the gate reads them.
pub const GATE_PREFIX: &str = "portcullis.";

/// Below the gate's prefix: `first` or `last`, where the gate decides among the service's middlewares.
pub(super) const PLACE_KEY: &str = "place";

/// How much routing text one service may have. Consul takes 512 KiB in one transaction, which holds many instances.
const MAX_BYTES: usize = 64 * 1024;

/// One routing tag on its way: key and value below the prefix.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// What put it there.
    pub(super) from: String,
    /// As the author's own tag began, for messages; empty if it was made here.
    prefix: String,
}

/// The service's tags as they are registered; `name` is its name in Consul.
pub(super) fn apply(
    subject: &Subject<'_>,
    name: &str,
    options: &SyncOptions,
    tags: Vec<Tag>,
    notes: &mut Notes,
) -> Vec<Tag> {
    let exposure = exposure(subject, options, notes);
    let own = |pairs: &mut Vec<Pair>, problems: &mut Problems| own::apply(subject, name, exposure, pairs, problems);
    judge(exposure, name, options, tags, notes, own)
}

/// Whoever wrote the tags; `own` adds what stands elsewhere than in them.
pub(super) fn judge(
    exposure: Exposure,
    name: &str,
    options: &SyncOptions,
    tags: Vec<Tag>,
    notes: &mut Notes,
    own: impl FnOnce(&mut Vec<Pair>, &mut Problems),
) -> Vec<Tag> {
    let prefixes: &[&str] = match exposure {
        // A list may hold what the gate itself reads.
        Exposure::Gate | Exposure::None => &[TRAEFIK_PREFIX, GATE_PREFIX],
        Exposure::Tags => &[TRAEFIK_PREFIX],
    };
    let (mut kept, mut routing) = (Vec::new(), Vec::new());
    for tag in tags {
        match prefixes.iter().find(|prefix| key_below(&tag.text, prefix).is_some()) {
            Some(prefix) => routing.push(Pair::read(&tag, prefix.len())),
            None => kept.push(tag),
        }
    }
    if exposure == Exposure::None {
        return kept;
    }
    let prefix = if exposure == Exposure::Gate { GATE_PREFIX } else { TRAEFIK_PREFIX };
    let enable = |pair: &&Pair| pair.key.eq_ignore_ascii_case("enable");
    // A service that is switched off anyway loses nothing, and nothing needs to be said.
    if let Some(off) = routing.iter().filter(enable).find(|pair| go_bool(pair.value.trim()) == Some(false)) {
        kept.push(Tag::new(format!("{prefix}enable=false"), &off.from));
        return kept;
    }
    let mut problems = Problems::default();
    let (mut pairs, plain) = translated(routing, name, options, &mut problems);
    own(&mut pairs, &mut problems);
    let carries = |wanted: &str| kept.iter().chain(&plain).any(|tag| tag.text == wanted);
    if let (Some(missing), Some(pair)) = (options.required_tags.iter().find(|tag| !carries(tag)), pairs.first()) {
        let what = format!("the gateway takes only services with the tag {missing}");
        problems.error(&pair.shown(), &what, "add it to traefik.tags or tags, or remove the routing annotations");
    }
    check(&pairs, &mut problems);
    let from = problems.errors.keys().next().cloned();
    problems.report(notes);
    if let Some(from) = from {
        kept.push(Tag::new(format!("{prefix}enable=false"), format!("closed by {from}")));
        return kept;
    }
    kept.extend(plain);
    kept.extend(pairs.into_iter().map(|pair| Tag::new(format!("{prefix}{}={}", pair.key, pair.value), pair.from)));
    kept
}

/// The option, or the service's own annotation. One that cannot be read hides the service: it may have been meant to.
fn exposure(subject: &Subject<'_>, options: &SyncOptions, notes: &mut Notes) -> Exposure {
    let Some(text) = subject.annotation(annotations::EXPOSURE) else { return options.exposure };
    match text.trim() {
        "gate" => Exposure::Gate,
        "tags" => Exposure::Tags,
        "none" => Exposure::None,
        other => {
            let what = format!("{other:?} is no exposure, the service is not exposed");
            notes.error(annotations::EXPOSURE, what, "write gate, tags or none");
            Exposure::None
        }
    }
}

/// Pairs of v3 alone, the author's own first, and plain tags.
fn translated(routing: Vec<Pair>, name: &str, options: &SyncOptions, problems: &mut Problems) -> (Vec<Pair>, Vec<Tag>) {
    let (old, mut pairs): (Vec<_>, Vec<_>) = routing.into_iter().partition(|pair| v1::is_v1(&pair.key));
    let native: Vec<_> = pairs.iter().map(|pair| pair.key.clone()).collect();
    let enabled = pairs.iter().filter(|pair| pair.key.eq_ignore_ascii_case("enable"));
    let spoken: Vec<_> = old.iter().chain(enabled).cloned().collect();
    let entry_points = options.entry_points();
    let context =
        Context { service: name, domain: &options.traefik_domain, entry_points: &entry_points, native: &native };
    let borrowed: Vec<_> = spoken.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
    let found = v1::translate(&borrowed, context);
    let shown = |key: &str| spoken.iter().find(|pair| pair.key == key).map_or_else(|| key.to_owned(), Pair::shown);
    problems.warnings.extend(found.warnings.into_iter().map(|it| Problem { key: shown(&it.key), ..it }));
    for problem in found.errors {
        problems.error(&shown(&problem.key), &problem.what, &problem.hint);
    }
    let mut added = Vec::new();
    for pair in found.pairs {
        let from = pair.from.split(", ").map(shown).collect::<Vec<_>>().join(", ");
        let Some(own) = pairs.iter_mut().find(|own| own.key.eq_ignore_ascii_case(&pair.key)) else {
            added.push(Pair { key: pair.key, value: pair.value, from, prefix: String::new() });
            continue;
        };
        // Neither list may lose what protects the service.
        let key = own.key.to_ascii_lowercase();
        if key.starts_with("http.routers.") && key.ends_with(".middlewares") {
            own.value = format!("{},{}", pair.value, own.value);
            own.from = format!("{from} and {}", own.from);
        } else if own.value.trim() != pair.value {
            let what = format!("{} says otherwise, and the key of v3 counts", own.shown());
            problems.warnings.push(Problem::new(from, what, "remove one of them"));
        }
    }
    pairs.extend(added);
    for pair in pairs.iter_mut().filter(|pair| pair.key.eq_ignore_ascii_case("enable")) {
        // Consul compares this one literally when it filters for Traefik.
        if go_bool(pair.value.trim()) == Some(true) {
            (pair.key, pair.value) = ("enable".to_owned(), "true".to_owned());
        }
    }
    let tags = found.tags.into_iter().map(|(text, from)| Tag::new(text, shown(&from)));
    (pairs, tags.collect())
}

/// Whether Traefik can read all of it, whoever wrote it.
fn check(pairs: &[Pair], problems: &mut Problems) {
    let length: usize = pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
    if length > MAX_BYTES {
        let what = format!("the routing tags are {length} bytes long, more than {MAX_BYTES}");
        return problems.error("tags", &what, "say less, or move middlewares to the gateway's own file");
    }
    let origin = |key: &str| {
        let pair = pairs.iter().find(|pair| pair.key.trim_end_matches('=') == key || pair.key == key);
        pair.map_or_else(|| key.to_owned(), Pair::shown)
    };
    // The gate's own key, which Traefik never sees.
    let for_traefik =
        pairs.iter().filter(|pair| pair.key != PLACE_KEY || pair.prefix.eq_ignore_ascii_case(TRAEFIK_PREFIX));
    let tree = match tree::read(for_traefik.map(|pair| (pair.key.as_str(), pair.value.as_str()))) {
        Ok(tree) => tree,
        Err(found) => {
            for problem in found {
                problems.error(&origin(&problem.key), &problem.what, &problem.hint);
            }
            return;
        }
    };
    let section = |path: [&str; 2]| tree.get(path[0]).and_then(|it| it.get(path[1])?.as_object());
    for (name, middleware) in section(["http", "middlewares"]).into_iter().flatten() {
        if middleware.as_object().is_none_or(|kinds| kinds.len() != 1) {
            let key = format!("http.middlewares.{name}.");
            let first = pairs.iter().find(|pair| pair.key.starts_with(&key)).map_or(key.clone(), Pair::shown);
            problems.error(&first, "the middleware does not have exactly one type", "give each its own name");
        }
    }
    for (name, router) in section(["tcp", "routers"]).into_iter().flatten() {
        let takes_all = router.get("rule").is_some_and(|rule| rule.as_str().is_some_and(|rule| rule.contains("`*`")));
        if takes_all && router.get("tls").is_none() && router.get("entryPoints").is_none() {
            let key = format!("{TRAEFIK_PREFIX}tcp.routers.{name}.rule");
            problems.error(&key, "it would take every plain connection, and HTTP with it", "name its entry points");
        }
    }
}

/// The key of a tag that begins with `prefix` in any case, without prefix and value.
pub(super) fn key_below<'a>(tag: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = tag.split_at_checked(prefix.len())?;
    let key = rest.split_once('=').map_or(rest, |(key, _)| key);
    start.eq_ignore_ascii_case(prefix).then_some(key)
}

// === impl Pair ===

impl Pair {
    /// Made here, for the annotation `from`.
    #[allow(clippy::needless_pass_by_value)] // numbers and texts alike, without a sign at every call
    pub(super) fn made(key: String, value: impl ToString, from: &str) -> Self {
        Self { key, value: value.to_string(), from: from.to_owned(), prefix: String::new() }
    }

    fn read(tag: &Tag, prefix: usize) -> Self {
        let (prefix, rest) = tag.text.split_at(prefix);
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        let owned = str::to_owned;
        Self { key: owned(key), value: owned(value), from: tag.from.clone(), prefix: owned(prefix) }
    }

    /// What its author can look for.
    fn shown(&self) -> String {
        if self.prefix.is_empty() { self.from.clone() } else { format!("{}{}", self.prefix, self.key) }
    }
}

/// Findings about one service, each key once.
#[derive(Debug, Default)]
pub(super) struct Problems {
    warnings: Vec<Problem>,
    errors: BTreeMap<String, (String, String)>,
}

impl Problems {
    /// The first one about a key stays.
    pub(super) fn error(&mut self, key: &str, what: &str, hint: &str) {
        self.errors.entry(key.to_owned()).or_insert_with(|| (what.to_owned(), hint.to_owned()));
    }

    fn report(self, notes: &mut Notes) {
        for (key, (what, hint)) in &self.errors {
            notes.error(key, format!("{what}, the service is not exposed"), hint);
        }
        // Several findings about one key are one note, and beside an error they do not matter.
        let mut warnings: BTreeMap<String, (String, String)> = BTreeMap::new();
        for Problem { key, what, hint } in self.warnings {
            let said = warnings.entry(key).or_insert_with(|| (String::new(), hint));
            said.0 = if said.0.is_empty() { what } else { format!("{}; {what}", said.0) };
        }
        warnings.retain(|key, _| !self.errors.contains_key(key));
        for (key, (what, hint)) in &warnings {
            notes.warn(key, what, hint);
        }
    }
}
