//! What becomes of routing tags: rewritten for the gate, given to Traefik as they are, or left out.
//!
//! All tags with Traefik's prefix are judged alike, whether an annotation or a tag list brought them: in gate mode a
//! `traefik.http.routers…` tag left in the catalog would make a second router, and that one unguarded.

use super::{
    annotations,
    note::Notes,
    options::{Exposure, SyncOptions},
    subject::Subject,
};

/// Prefix that Traefik's catalog provider reads.
pub const TRAEFIK_PREFIX: &str = "traefik.";
/// Prefix of the same tags where only the gate reads them.
pub const GATE_PREFIX: &str = "portcullis.";

/// Keys of Traefik v2 and later below the prefix, lower case. Whatever else stands there is of v1 or unknown, which
/// Traefik would ignore without a word.
const NATIVE: [&str; 5] = ["http.", "tcp.", "udp.", "tls.stores.default.", "consulcatalog."];

/// The service's tags as they are registered.
pub(super) fn apply(subject: &Subject<'_>, options: &SyncOptions, tags: Vec<String>, notes: &mut Notes) -> Vec<String> {
    let exposure = exposure(subject, options, notes);
    let hidden = |tag: &String| key_below(tag, GATE_PREFIX).is_none() && key_below(tag, TRAEFIK_PREFIX).is_none();
    if exposure == Exposure::None {
        return tags.into_iter().filter(hidden).collect();
    }
    let prefix = if exposure == Exposure::Gate { GATE_PREFIX } else { TRAEFIK_PREFIX };
    let below = |tag: &String| key_below(tag, TRAEFIK_PREFIX).map(str::to_owned);
    let mut foreign: Vec<_> = tags.iter().filter_map(below).filter(|key| !native(key)).collect();
    if !foreign.is_empty() {
        foreign.sort();
        let keys: Vec<_> = foreign.iter().map(|key| format!("{TRAEFIK_PREFIX}{key}")).collect();
        let what = format!("{} cannot be translated to Traefik v3 yet, the service is not exposed", keys.join(", "));
        // A service that is switched off anyway loses nothing.
        if !tags.iter().any(|tag| is_switched_off(tag)) {
            notes.error(&keys[0], what, "write v3 keys: traefik.http.routers.<name>.rule and so on");
        }
        let mut kept: Vec<_> = tags.into_iter().filter(hidden).collect();
        kept.push(format!("{prefix}enable=false"));
        return kept;
    }
    if exposure == Exposure::Tags {
        return tags;
    }
    let rewrite = |tag: String| match tag.get(TRAEFIK_PREFIX.len()..) {
        Some(rest) if key_below(&tag, TRAEFIK_PREFIX).is_some() => format!("{GATE_PREFIX}{rest}"),
        _ => tag,
    };
    tags.into_iter().map(rewrite).collect()
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

fn native(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "enable" || NATIVE.iter().any(|prefix| key.starts_with(prefix))
}

fn is_switched_off(tag: &str) -> bool {
    let value = tag.split_once('=').map(|(_, value)| value.trim());
    let is_enable = key_below(tag, TRAEFIK_PREFIX).is_some_and(|key| key.eq_ignore_ascii_case("enable"));
    is_enable && value.and_then(annotations::go_bool) == Some(false)
}

/// The key of a tag that begins with `prefix` in any case, without prefix and value.
pub(super) fn key_below<'a>(tag: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = tag.split_at_checked(prefix.len())?;
    let key = rest.split_once('=').map_or(rest, |(key, _)| key);
    start.eq_ignore_ascii_case(prefix).then_some(key)
}
