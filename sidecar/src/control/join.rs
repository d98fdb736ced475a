//! Several sources as one policy (ADR 15). Pure: what each source holds goes in, documents and what is to be said about them come out.
//!
//! Sources have an order. Where two speak of the same thing, the first one's entry counts whole, and the other's is a conflict
//! that is told, with what it would have refused; that both say the same is none. What a source tells that cannot be read as a
//! whole is not taken: the documents that it had before stay.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_authoring::read::{self, Subject, entries_of, subject};
use portcullis_policy::{PolicySettings, Problem, Severity};

use super::conflict::{Conflict, Hides};
use crate::documents::Document;

/// One of the places in which policy is kept, with the lists that it is read by.
#[derive(Debug)]
pub struct Source {
    /// What people call it.
    name: String,
    /// Whether several entries for one destination are one, as in files.
    merges: bool,
    parts: Vec<Part>,
}

/// A list of a source, which is read and fails by itself.
#[derive(Debug)]
struct Part {
    name: String,
    /// What it held when it could last be read; `None` before.
    documents: Option<Vec<Document>>,
    fault: Option<String>,
}

/// The place of a part: its source's number and its own.
pub type PartId = (usize, usize);

/// All sources, those that go before others first.
#[derive(Debug)]
pub struct Sources(Vec<Source>);

/// What all sources together hold.
#[derive(Debug, Default)]
pub struct Joined {
    /// What counts.
    pub documents: Vec<Document>,
    /// What of it does not, and why.
    pub conflicts: Vec<Conflict>,
    /// What contradicts itself.
    pub problems: Vec<Problem>,
}

/// Something that stands in a source.
struct Claim {
    source: usize,
    documents: Vec<Document>,
}

// === impl Source ===

impl Source {
    /// A source with the names of its lists.
    pub fn new(name: &str, merges: bool, parts: impl IntoIterator<Item = String>) -> Self {
        let parts = parts.into_iter().map(|name| Part { name, documents: None, fault: None }).collect();
        Self { name: name.to_owned(), merges, parts }
    }
}

// === impl Sources ===

impl Sources {
    /// In the order of precedence.
    pub fn new(sources: Vec<Source>) -> Self {
        Self(sources)
    }

    /// Takes what a part says. Returns whether the policy may be another one now.
    pub fn take(&mut self, id: PartId, says: Result<Vec<Document>, String>) -> bool {
        let Some(part) = self.0.get_mut(id.0).and_then(|source| source.parts.get_mut(id.1)) else { return false };
        let documents = match says {
            Ok(documents) if part.documents.as_ref() == Some(&documents) => {
                part.fault = None;
                return false;
            }
            Ok(documents) => documents,
            Err(fault) => {
                part.fault = Some(fault);
                return false;
            }
        };
        // What is fatal where it stands alone would be fatal for all: nobody else's policy waits for its author.
        let (_, problems) = read::entries(&documents, PolicySettings::default());
        let fatal: Vec<_> =
            problems.iter().filter(|it| it.severity == Severity::Fatal).map(ToString::to_string).collect();
        if fatal.is_empty() {
            (part.documents, part.fault) = (Some(documents), None);
            return true;
        }
        part.fault = Some(fatal.join("\n"));
        false
    }

    /// The parts that were never read: while there is one, nothing can be published.
    pub fn missing(&self) -> Vec<&str> {
        self.parts().filter(|part| part.documents.is_none()).map(|part| part.name.as_str()).collect()
    }

    /// What cannot be read at the moment, and why.
    pub fn faults(&self) -> Vec<(&str, &str)> {
        self.parts().filter_map(|part| Some((part.name.as_str(), part.fault.as_deref()?))).collect()
    }

    /// Every part's name, and whether it was read and can be.
    pub fn standing(&self) -> Vec<(String, bool)> {
        self.parts().map(|part| (part.name.clone(), part.documents.is_some() && part.fault.is_none())).collect()
    }

    /// Whether every part has said something, be it that it cannot be read.
    pub fn have_spoken(&self) -> bool {
        self.parts().all(|part| part.documents.is_some() || part.fault.is_some())
    }

    /// All sources as one.
    pub fn join(&self) -> Joined {
        if let [only] = &self.0[..]
            && only.merges
        {
            return Joined { documents: only.documents(), ..Joined::default() };
        }
        let mut joined = Joined::default();
        let mut claims: BTreeMap<Subject, Claim> = BTreeMap::new();
        for (number, source) in self.0.iter().enumerate() {
            let mut own: BTreeMap<Subject, Vec<Document>> = BTreeMap::new();
            for (place, entry) in entries_of(&source.documents()) {
                match subject(&entry) {
                    Some(about) => own.entry(about).or_default().push((place, entry)),
                    None => joined.documents.push((place, entry)),
                }
            }
            for (about, mut documents) in own {
                if documents.len() > 1 && !source.merges {
                    joined.close(&about, &mut documents);
                }
                match claims.get(&about) {
                    Some(first) => {
                        let hides = Hides::of(&first.documents, &documents);
                        joined.conflicts.extend(hides.map(|hides| Conflict {
                            about: about.to_string(),
                            winner: self.0.get(first.source).map(|it| it.name.clone()).unwrap_or_default(),
                            loser: source.name.clone(),
                            hides,
                        }));
                    }
                    None => drop(claims.insert(about, Claim { source: number, documents })),
                }
            }
        }
        joined.documents.extend(claims.into_values().flat_map(|claim| claim.documents));
        joined
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.0.iter().flat_map(|source| &source.parts)
    }
}

impl Source {
    fn documents(&self) -> Vec<Document> {
        self.parts.iter().flat_map(|part| part.documents.iter().flatten().cloned()).collect()
    }
}

// === impl Joined ===

impl Joined {
    /// Several objects of one source about one thing: which is meant is not known, so what they are about is denied.
    fn close(&mut self, about: &Subject, documents: &mut Vec<Document>) {
        let Some(closed) = about.closed() else { return };
        let places: BTreeSet<_> = documents.iter().map(|(place, _)| place.as_str()).collect();
        let places = places.into_iter().collect::<Vec<_>>().join(" and ");
        self.problems.push(Problem {
            severity: Severity::Error,
            at: about.to_string(),
            what: format!("{places} are about the same; the whole destination is denied"),
            hint: "keep one of them".to_owned(),
        });
        *documents = vec![(places, closed)];
    }

    /// Everything that is to be said about it: the conflicts as warnings, because what counts is in force.
    pub fn all_problems(&self) -> Vec<Problem> {
        self.problems.iter().cloned().chain(self.conflicts.iter().map(Conflict::problem)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn allow(name: &str, source: &str) -> Value {
        json!({"Kind": "service-intentions", "Name": name, "Sources": [{"Name": source, "Action": "allow"}]})
    }

    fn deny(name: &str, source: &str) -> Value {
        json!({"Kind": "service-intentions", "Name": name, "Sources": [{"Name": source, "Action": "deny"}]})
    }

    fn sources() -> Sources {
        Sources::new(vec![
            Source::new("files", true, ["files".to_owned()]),
            Source::new("cluster east", false, ["east: intentions".to_owned(), "east: more".to_owned()]),
            Source::new("consul", false, ["consul: service-intentions".to_owned()]),
        ])
    }

    fn holds(place: &str, entries: &[Value]) -> Vec<Document> {
        entries.iter().enumerate().map(|(index, entry)| (format!("{place}{index}"), entry.clone())).collect()
    }

    fn filled(files: &[Value], east: &[Value], more: &[Value], consul: &[Value]) -> Joined {
        let mut sources = sources();
        assert!(sources.take((0, 0), Ok(holds("f", files))));
        assert!(sources.take((1, 0), Ok(holds("e", east))));
        assert!(sources.take((1, 1), Ok(holds("m", more))));
        assert_eq!(sources.missing(), ["consul: service-intentions"]);
        assert!(sources.take((2, 0), Ok(holds("c", consul))));
        assert!(sources.missing().is_empty());
        sources.join()
    }

    fn places(joined: &Joined) -> Vec<&str> {
        joined.documents.iter().map(|(place, _)| place.as_str()).collect()
    }

    fn said(joined: &Joined) -> String {
        joined.all_problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn entries_about_different_things_stand_beside_each_other() {
        let joined = filled(&[allow("a", "x")], &[allow("b", "x")], &[], &[allow("*", "x")]);
        assert_eq!(places(&joined).len(), 3);
        assert!(joined.conflicts.is_empty() && joined.problems.is_empty());
    }

    #[test]
    fn the_first_source_counts_and_a_deny_that_it_hides_is_told() {
        let joined = filled(&[allow("a", "x")], &[], &[], &[deny("a", "y")]);
        assert_eq!(places(&joined), ["f0"]);
        let text = said(&joined);
        assert!(text.contains("service-intentions/a") && text.contains("hides a deny of `y`"), "{text}");
        assert!(text.starts_with("warning: "), "{text}");
    }

    #[test]
    fn the_same_in_two_sources_is_no_conflict() {
        // As consul-k8s writes a resource into Consul.
        let resource = json!({"kind": "ServiceIntentions", "metadata": {"name": "a"},
            "spec": {"destination": {"name": "a"}, "sources": [{"name": "x", "action": "allow"}]}});
        let joined = filled(&[], &[resource], &[], &[allow("a", "x")]);
        assert_eq!((places(&joined), said(&joined).as_str()), (vec!["e0"], ""));
    }

    #[test]
    fn two_objects_of_one_cluster_deny_their_destination_whoever_else_allows_it() {
        let joined = filled(&[], &[allow("a", "x")], &[allow("a", "y")], &[allow("a", "x")]);
        let (policy, _) = read::entries(&joined.documents, PolicySettings::default());
        assert_eq!(policy.intentions.len(), 1);
        assert!(policy.intentions[0].broken);
        assert!(
            said(&joined).contains("error: service-intentions/a: e0 and m0 are about the same"),
            "{}",
            said(&joined)
        );
        // In files two entries are one, as they always were.
        let joined = filled(&[allow("a", "x"), allow("a", "y")], &[], &[], &[]);
        assert_eq!((places(&joined).len(), said(&joined).as_str()), (2, ""));
    }

    #[test]
    fn what_fails_keeps_what_it_held_and_what_cannot_be_read_as_a_whole_fails() {
        let mut sources = sources();
        assert!(sources.take((0, 0), Ok(holds("f", &[deny("a", "x")]))));
        assert!(!sources.take((0, 0), Ok(holds("f", &[deny("a", "x")]))), "the same again changes nothing");
        assert!(!sources.take((0, 0), Err("gone".to_owned())));
        assert_eq!(sources.faults(), [("files", "gone")]);
        assert!(!sources.take((0, 0), Ok(holds("f", &[json!({"Kind": "service-intention", "Name": "a"})]))));
        assert!(sources.faults()[0].1.contains("unknown Kind"), "{:?}", sources.faults());
        assert_eq!(places(&sources.join()), ["f0"]);
        assert!(!sources.take((0, 0), Ok(holds("f", &[deny("a", "x")]))));
        assert!(sources.faults().is_empty());
        assert!(!sources.take((7, 7), Ok(holds("f", &[]))), "nobody's");
    }

    #[test]
    fn documents_of_files_alone_are_as_they_were_written() {
        let mut sources = Sources::new(vec![Source::new("files", true, ["files".to_owned()])]);
        let written = vec![("f".to_owned(), json!([allow("a", "x"), allow("b", "x")]))];
        assert!(sources.take((0, 0), Ok(written.clone())));
        assert_eq!(sources.join().documents, written);
    }
}
