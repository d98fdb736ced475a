//! Registrations that are not ours: what they may ask of the gate, and how far their word goes beside ours.
//!
//! Whoever may write a service in Consul may claim any router and any rule. So ours come first: a registration of others never
//! changes, closes or joins a route of ours unless it says the same (ADR 14). Among others, whom nobody ranks, a contradiction
//! closes both.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    exposure::{self, GATE_PREFIX, TRAEFIK_PREFIX, key_below},
    note::{Note, Notes},
    options::{Exposure, SyncOptions},
    registration::Registration,
    routes::{self, Route, RouterSpec},
    tags::{Tag, unique},
};
use crate::traefik::value::go_bool;

/// Tag that says what becomes of a service's routing tags: `portcullis.exposure=gate`, `tags` or `none`.
const EXPOSURE: &str = "exposure";

/// Registrations of others, judged: what the gate can do with them, whatever else there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// By Consul name, with tags below the gate's prefix alone.
    registrations: BTreeMap<String, Vec<Registration>>,
    notes: Vec<Note>,
    /// Services that Traefik's own catalog provider would route past the gate; see [`Foreign::bypasses`].
    bypasses: BTreeMap<String, Bypass>,
}

/// A way around the gate that the catalog shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bypass {
    /// The service says `portcullis.exposure=tags`: its author means it.
    Declared,
    /// Nobody has said so.
    Undeclared,
}

// === impl Foreign ===

impl Foreign {
    /// Judges them. `traefik_prefix` is what Traefik's catalog provider reads, `None` if it reads nothing.
    pub fn new(registrations: &[Registration], options: &SyncOptions, traefik_prefix: Option<&str>) -> Self {
        let mut judged = Judge { options, known: BTreeMap::new(), found: Self::default() };
        for registration in registrations {
            let service = &registration.service;
            let tags = judged.tags(&service.service, &service.tags);
            if let Some(prefix) = traefik_prefix
                && is_routed(&service.tags, prefix)
            {
                let is_meant = matches!(declared(&service.tags).as_slice(), [word] if word.trim() == "tags");
                let way = if is_meant { Bypass::Declared } else { Bypass::Undeclared };
                let worst = judged.found.bypasses.entry(service.service.clone()).or_insert(way);
                *worst = way.max(*worst);
            }
            let mut registration = registration.clone();
            registration.service.tags = tags;
            judged.found.registrations.entry(service.service.clone()).or_default().push(registration);
        }
        if let Some(prefix) = traefik_prefix {
            judged.report(prefix);
        }
        judged.found
    }

    /// How many services there are.
    pub fn n_services(&self) -> usize {
        self.registrations.len()
    }

    /// Services with a way around the gate, by name.
    pub fn bypasses(&self) -> &BTreeMap<String, Bypass> {
        &self.bypasses
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.registrations.keys().map(String::as_str)
    }

    /// What is wrong with their tags.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The routes of those whose names, in any case, are none of ours, sorted by destination, and why some have none. What is
    /// a rival of ours is still among them: see [`without_rivals`]. `ours` gives the spellings that ours have of a name in
    /// lower case.
    pub fn apart<'o, S>(&self, ours: impl Fn(&str) -> S) -> (Vec<Route>, Vec<Note>)
    where
        S: IntoIterator<Item = &'o str>,
    {
        let (mut theirs, mut notes) = (Vec::new(), Vec::new());
        for (name, registrations) in &self.registrations {
            let mut spellings = ours(&name.to_lowercase()).into_iter().peekable();
            match spellings.peek().copied() {
                None => theirs.extend(registrations.iter().cloned()),
                // Under the very name of ours they are servers more of its route: see [`Foreign::beside`].
                Some(_) if spellings.any(|spelling| spelling == name) => {}
                Some(other) => {
                    let mut noted = Notes::new(name);
                    let what = format!("Consul answers for it and {other}, which is ours, as one; it is not exposed");
                    noted.error("service name", what, "rename it");
                    notes.extend(noted.into_list());
                }
            }
        }
        let (routes, more) = routes::routes(&theirs);
        notes.extend(more);
        (routes, notes)
    }

    /// The routes of ours and of these together, and why some services have none: what the parts above say of all at once.
    #[cfg(test)]
    pub fn routes(&self, ours: &[Registration]) -> (Vec<Route>, Vec<Note>) {
        let mut names: BTreeMap<&str, Vec<&Registration>> = BTreeMap::new();
        for registration in ours {
            names.entry(&registration.service.service).or_default().push(registration);
        }
        let (mut together, mut notes) = (ours.to_vec(), self.notes.clone());
        for (name, ours) in &names {
            let (beside, note) = self.beside(name, ours);
            together.extend(beside.into_iter().cloned());
            notes.extend(note);
        }
        let (mut all, more) = routes::routes(&together);
        notes.extend(more);
        let spellings =
            |lower: &str| -> Vec<&str> { names.keys().copied().filter(|name| name.to_lowercase() == lower).collect() };
        let (theirs, more) = self.apart(spellings);
        notes.extend(more);
        let (kept, more) = without_rivals(theirs, all.iter());
        notes.extend(more);
        all.extend(kept);
        all.sort_by(|a, b| a.destination.cmp(&b.destination));
        notes.sort();
        (all, notes)
    }

    /// The instances of others that are servers more for a service of ours, which they are only if they say the same; and what
    /// is to be said of the rest. `ours` are our instances under that name, at least one.
    pub fn beside(&self, name: &str, ours: &[&Registration]) -> (Vec<&Registration>, Option<Note>) {
        let theirs = self.registrations.get(name).map(Vec::as_slice).unwrap_or_default();
        // Ours that contradict each other are closed anyway.
        let tags = ours.first().map(|it| routing(it));
        let (same, different): (Vec<_>, Vec<_>) = theirs.iter().partition(|it| Some(routing(it)) == tags);
        let note = (!different.is_empty()).then(|| {
            let what = "an instance that others registered carries other routing tags than ours, it gets no requests";
            let mut notes = Notes::new(&name);
            notes.error("tags", what, "give it the same tags, or a name of its own");
            notes.into_list().pop()
        });
        (same, note.flatten())
    }
}

/// Its tags for the gate, but for those of a single instance.
fn routing(registration: &Registration) -> BTreeSet<&str> {
    let tags = registration.service.tags.iter().map(String::as_str);
    tags.filter(|tag| key_below(tag, GATE_PREFIX).is_some() && !routes::is_weight(tag)).collect()
}

/// Routes of others without those that claim a router or a rule of ours.
pub fn without_rivals<'o>(theirs: Vec<Route>, ours: impl Iterator<Item = &'o Route>) -> (Vec<Route>, Vec<Note>) {
    type Claims<'a> = Vec<(&'a str, &'a RouterSpec)>;
    let (mut by_name, mut by_rank) = (BTreeMap::<String, &str>::new(), BTreeMap::<_, Claims<'_>>::new());
    for route in ours {
        for router in &route.routers {
            // The key-value provider does not tell apart what differs in case only.
            by_name.insert(router.name.to_lowercase(), &route.destination);
            by_rank.entry(routes::rank(router)).or_default().push((&route.destination, router));
        }
    }
    let (mut kept, mut notes) = (Vec::new(), Vec::new());
    for route in theirs {
        let rival = |router: &RouterSpec| {
            if let Some(owner) = by_name.get(&router.name.to_lowercase()) {
                return Some((String::new(), format!("router {} is defined by {owner}", router.name)));
            }
            let claims = by_rank.get(&routes::rank(router)).into_iter().flatten();
            let (owner, _) = claims.clone().find(|(_, its)| routes::meet(router, its))?;
            Some((".rule".to_owned(), format!("router {} has the same rule and rank as one of {owner}", router.name)))
        };
        let found = route.routers.iter().find_map(|router| Some((router.name.as_str(), rival(router)?)));
        let Some((router, (option, what))) = found else {
            kept.push(route);
            continue;
        };
        let mut noted = Notes::new(&route.destination);
        let what = format!("{what}, which is ours; the service is not exposed");
        noted.error(&format!("{GATE_PREFIX}http.routers.{router}{option}"), what, "choose another name and rule");
        notes.extend(noted.into_list());
    }
    (kept, notes)
}

/// Tags are judged once for each set of them: a service of a hundred instances mostly has one.
struct Judge<'a> {
    options: &'a SyncOptions,
    known: BTreeMap<(String, Vec<String>), Vec<String>>,
    found: Foreign,
}

impl Judge<'_> {
    /// The tags of an instance as the gate reads them.
    fn tags(&mut self, name: &str, tags: &[String]) -> Vec<String> {
        let key = (name.to_owned(), tags.to_vec());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let (mut judged, notes) = routing_tags(name, tags, self.options);
        // What is left for Traefik's own provider is not the gate's.
        judged.retain(|tag| key_below(tag, GATE_PREFIX).is_some());
        let new: Vec<_> = notes.into_iter().filter(|note| !self.found.notes.contains(note)).collect();
        self.found.notes.extend(new);
        self.known.insert(key, judged.clone());
        judged
    }

    fn report(&mut self, prefix: &str) {
        for (name, _) in self.found.bypasses.iter().filter(|(_, way)| **way == Bypass::Undeclared) {
            let mut notes = Notes::new(name);
            let what = format!(
                "Traefik's catalog provider reads its {prefix}. tags and makes a second router, which nothing guards"
            );
            let hint = "give that provider a prefix of its own and say so in catalog.traefikPrefix, or tag the service \
                        portcullis.exposure=tags if it is meant";
            notes.error(&format!("{prefix}.*"), what, hint);
            self.found.notes.extend(notes.into_list());
        }
    }
}

fn is_exposure(tag: &str) -> bool {
    key_below(tag, GATE_PREFIX).is_some_and(|key| key.eq_ignore_ascii_case(EXPOSURE))
}

/// What the tags say of the exposure, each word once.
fn declared(tags: &[String]) -> Vec<String> {
    let values =
        tags.iter().filter(|tag| is_exposure(tag)).map(|tag| tag.split_once('=').map_or("", |(_, value)| value));
    values.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether Traefik's provider with this prefix would make a router of its own.
fn is_routed(tags: &[String], prefix: &str) -> bool {
    let mut is_wanted = false;
    for tag in tags {
        // A tag takes part that begins with the prefix, in this very spelling.
        let Some((key, value)) = tag.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')?.split_once('='))
        else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        if key == "enable" {
            match go_bool(value.trim()) {
                Some(false) => return false,
                _ => is_wanted = true,
            }
        }
        is_wanted |= ["http.routers.", "tcp.routers.", "udp.routers."].iter().any(|start| key.starts_with(start));
    }
    is_wanted
}

/// Tags as the gate reads them, and whatever else is there; of a service whose author wrote them for Traefik or for the gate.
pub(crate) fn routing_tags(name: &str, tags: &[String], options: &SyncOptions) -> (Vec<String>, Vec<Note>) {
    let mut notes = Notes::new(&name);
    let exposure = exposure(tags, &mut notes);
    let tags = tags.iter().filter(|tag| !is_exposure(tag)).map(|tag| Tag::new(tag, tag)).collect();
    let judged = exposure::judge(exposure, name, options, tags, &mut notes, |_, _| {});
    (unique(judged).into_iter().map(|tag| tag.text).collect(), notes.into_list())
}

/// The tag's word, or gated. One that cannot be read hides the service: it may have been meant to.
fn exposure(tags: &[String], notes: &mut Notes) -> Exposure {
    let words = declared(tags);
    match words.iter().map(|word| word.trim()).collect::<Vec<_>>().as_slice() {
        [] | ["gate"] => Exposure::Gate,
        ["tags"] => Exposure::Tags,
        ["none"] => Exposure::None,
        words => {
            let what = format!("{:?} is no exposure, the service is not exposed", words.join(", "));
            notes.error(&format!("{GATE_PREFIX}{EXPOSURE}"), what, "write gate, tags or none, once");
            Exposure::None
        }
    }
}

/// Whether one of a service's tags says anything about routing.
pub fn is_routing(tag: &str) -> bool {
    key_below(tag, GATE_PREFIX).or_else(|| key_below(tag, TRAEFIK_PREFIX)).is_some()
}

#[cfg(test)]
mod tests;
