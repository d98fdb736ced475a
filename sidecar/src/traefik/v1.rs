//! Traefik v1's keys as pairs of v3, with the same effect on the same requests, or not at all.
//!
//! A service's keys make one frontend, and one more for each `frontends.<name>`; each becomes a router with its middlewares
//! in the order v1 ran them. What a backend says goes to the service. Every pair remembers the key it comes from.
//!
//! Nothing is dropped silently: a key without an equal closes the service ([`Translation::errors`]); one that v1 did not
//! look at either, or whose effect differs in a detail, is said ([`Translation::warnings`]).

mod auth;
mod backend;
mod fields;
mod frontend;
mod headers;
mod pattern;
mod rule;

use super::{Problem, normalize, value::go_bool};
use fields::{Field, Fields};

/// What the translation has to know beside the keys.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The service's name in Consul.
    pub service: &'a str,
    /// v1's `domain`, for the default rule; empty if nobody has said.
    pub domain: &'a str,
    /// v1's entry points by their names in v3.
    pub entry_points: &'a [EntryPoint],
    /// Keys of v3 that the service has itself.
    pub native: &'a [String],
}

/// What became of one entry point of v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its name in v1.
    pub old: String,
    /// Its name in v3.
    pub name: String,
    /// Whether v1 ended TLS there.
    pub is_tls: bool,
}

/// One pair of v3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Below the prefix.
    pub key: String,
    /// As a tag holds it.
    pub value: String,
    /// The key of v1 that it comes from; several are separated by `, `.
    pub from: String,
}

/// The keys of v1 in v3's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Tags of v3.
    pub pairs: Vec<Pair>,
    /// Plain tags, for constraints, with the key they come from.
    pub tags: Vec<(String, String)>,
    /// What is translated or left out with a difference that its author may notice.
    pub warnings: Vec<Problem>,
    /// What closes the service.
    pub errors: Vec<Problem>,
}

/// Keys that v1's catalog provider did not look at, and why nothing is lost.
const IGNORED: [&str; 6] = ["port", "portname", "portindex", "domain", "backend", "backend.id"];

/// Whether the key (below the prefix) is one of v1. `enable` is of both.
pub fn is_v1(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let first = key.split('.').next().unwrap_or_default();
    ["frontend", "frontends", "backend", "protocol", "weight", "tags"].contains(&first)
        || IGNORED.contains(&key.as_str())
}

/// Translates the keys of v1 among `pairs` (below the prefix), and makes v1's default rule where it counted.
pub fn translate(pairs: &[(&str, &str)], context: Context<'_>) -> Translation {
    let mut out = Translation::default();
    let mut fields = Fields::default();
    let mut enabled = None;
    for (key, value) in pairs {
        let field = Field { key, value: value.trim() };
        if key.eq_ignore_ascii_case("enable") {
            enabled = go_bool(field.value);
        } else if is_v1(key) && !fields.add(key, field) {
            out.error(key, "the key stands there twice", "keep one of them");
        }
    }
    for name in IGNORED {
        if let Some(field) = fields.take(name) {
            let hint = "remove it; the port is the NodePort, or portcullis's own annotations choose it";
            out.warn(field.key, "Traefik v1 did not look at this key in Consul's catalog", hint);
        }
    }
    plain_tags(&mut fields, &mut out);
    let router = normalize(context.service);
    let shared = backend::translate(&mut fields, &router, context, &mut out);
    let mut segments = fields.below("frontends.");
    let main = fields.below("frontend.");
    let names = segments.groups();
    let has_routers = context.has("http.routers.");
    let mut built =
        frontend::Builder { context, shared: &shared, service: backend::service_name(context, &router), out: &mut out };
    if !main.is_empty() || enabled == Some(true) && !has_routers && names.is_empty() {
        // A service that is only switched on has v1's default rule, if there is one, and says so elsewhere if not.
        if !main.is_empty() || !context.domain.is_empty() {
            built.frontend(context.service, main);
        }
    } else if !names.is_empty() {
        built.default_beside_segments();
    } else if let Some(middleware) = shared.first() {
        let what = "no frontend of v1 is there that could use it".to_owned();
        built.out.error(&middleware.1, what, "add traefik.frontend.rule, or write a v3 middleware");
    }
    for name in names {
        let fields = segments.below(&format!("{name}."));
        built.frontend(&format!("{}-{name}", context.service), fields);
    }
    segments.finish(&mut out);
    fields.finish(&mut out);
    out
}

/// The values that v1's constraints looked at: v3's look at plain tags.
fn plain_tags(fields: &mut Fields<'_>, out: &mut Translation) {
    let Some(field) = fields.take("tags") else { return };
    for tag in super::value::list(field.value) {
        // They would go round every check, and round the gate.
        if ["traefik.", "portcullis."].iter().any(|prefix| tag.to_ascii_lowercase().starts_with(prefix)) {
            out.error(field.key, format!("{tag:?} is a key, not a tag for constraints"), "write it as an annotation");
        } else {
            out.tags.push((tag, field.key.to_owned()));
        }
    }
}

impl Context<'_> {
    /// Whether a key of v3 begins so.
    fn has(&self, prefix: &str) -> bool {
        let begins = |key: &String| key.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        self.native.iter().any(begins)
    }
}

impl Translation {
    #[allow(clippy::needless_pass_by_value)] // numbers, booleans and texts alike, without a sign at every call
    fn pair(&mut self, key: String, value: impl ToString, from: &str) {
        self.pairs.push(Pair { key, value: value.to_string(), from: from.to_owned() });
    }

    fn warn(&mut self, key: &str, what: impl Into<String>, hint: &str) {
        self.warnings.push(Problem::new(key, what, hint));
    }

    fn error(&mut self, key: &str, what: impl Into<String>, hint: &str) {
        self.errors.push(Problem::new(key, what, hint));
    }
}

impl EntryPoint {
    /// `http=web`, or `https=websecure/tls` where v1 ended TLS.
    pub fn read(text: &str) -> Option<Self> {
        let (old, rest) = text.split_once('=')?;
        let (name, is_tls) = rest.strip_suffix("/tls").map_or((rest, false), |name| (name, true));
        let fits = |name: &str| super::is_name(name);
        (fits(old) && fits(name)).then(|| Self { old: old.to_owned(), name: name.to_owned(), is_tls })
    }
}
