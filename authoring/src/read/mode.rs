//! `mode: enforce | shadow | off` of an entry, a source, a permission or a JWT requirement.
//!
//! Files and our own callers write it beside what it is about (`Mode`). Consul and its CRDs have no such field, so there
//! it stands in the entry's `Meta` or the resource's annotations: `portcullis.io/mode` for the entry, and
//! `portcullis.io/modes` for its parts, such as `sources/web=shadow, sources/*/permissions/0=off, jwt=shadow`.

use std::cell::Cell;

use super::node::{Node, Object};
use portcullis_policy::{
    model::Mode,
    problem::{Problem, Severity},
};

/// The key of an entry's mode in `Meta` or annotations.
pub(super) const ENTRY_KEY: &str = "portcullis.io/mode";
const PARTS_KEY: &str = "portcullis.io/modes";

/// The modes that `Meta` or annotations give.
pub(super) struct Modes<'a> {
    entry: Option<Node<'a>>,
    parts: Option<Node<'a>>,
    /// Part, mode if it is one, and whether the part was found.
    by_part: Vec<(&'a str, Option<Mode>, Cell<bool>)>,
}

impl<'a> Modes<'a> {
    /// Reads them from the map that holds them.
    pub(super) fn new(meta: Option<Node<'a>>) -> Self {
        let meta = meta.and_then(|it| it.try_object());
        let of = |key: &str| meta.as_ref().and_then(|it| it.filled(key));
        let (entry, parts) = (of(ENTRY_KEY), of(PARTS_KEY));
        let texts = parts.as_ref().and_then(Node::text).unwrap_or_default();
        let by_part = texts
            .split([',', '\n'])
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .map(|it| {
                let (part, word) = it.split_once('=').unwrap_or((it, ""));
                (part.trim(), mode(word.trim()), Cell::new(false))
            })
            .collect();
        Self { entry, parts, by_part }
    }

    /// The mode of the whole entry; `None` (with a problem) when something about modes cannot be read.
    pub(super) fn of_entry(&self, object: &Object<'_>, problems: &mut Vec<Problem>) -> Option<Mode> {
        let own = object.filled("mode");
        let node = own.as_ref().or(self.entry.as_ref());
        let mode = node.map_or(Some(Mode::Enforce), |node| read(node, "the whole destination is denied", problems));
        let readable = self.parts.as_ref().is_none_or(|it| it.text().is_some())
            && self.by_part.iter().all(|(_, mode, _)| mode.is_some());
        if let (false, Some(parts)) = (readable, &self.parts) {
            let what = "the modes cannot be read; the whole destination is denied";
            problems.push(parts.problem(Severity::Error, what, "write PART=MODE, separated by commas"));
        }
        mode.filter(|_| readable)
    }

    /// The mode of a part of the entry, named as in its rule; `None` (with a problem) when it cannot be read.
    pub(super) fn of(
        &self,
        object: &Object<'_>,
        part: &str,
        otherwise: Mode,
        problems: &mut Vec<Problem>,
    ) -> Option<Mode> {
        let listed = self.by_part.iter().find(|(it, ..)| *it == part);
        if let Some((.., found)) = listed {
            found.set(true);
        }
        match (object.filled("mode"), listed) {
            (Some(own), _) => read(&own, "the rule is enforced as a deny", problems),
            (None, Some((_, mode, _))) => *mode,
            (None, None) => Some(otherwise),
        }
    }

    /// Reports parts that are listed and do not exist.
    pub(super) fn report_unused(&self, problems: &mut Vec<Problem>) {
        let Some(parts) = &self.parts else { return };
        for (part, ..) in self.by_part.iter().filter(|(.., found)| !found.get()) {
            problems.push(parts.problem(
                Severity::Warning,
                &format!("there is no part `{part}`; its mode says nothing"),
                "parts are named as in rules, such as sources/web/permissions/0",
            ));
        }
    }
}

/// Reads a mode; `None` (with a problem that names the consequence) when it is none.
pub(super) fn read(node: &Node<'_>, consequence: &str, problems: &mut Vec<Problem>) -> Option<Mode> {
    // Unquoted, `off` is a truth value in YAML 1.1.
    let mode = node.text().and_then(mode).or_else(|| (node.truth() == Some(false)).then_some(Mode::Off));
    if mode.is_none() {
        let what = format!("the mode is none of `enforce`, `shadow` and `off`; {consequence}");
        problems.push(node.problem(Severity::Error, &what, ""));
    }
    mode
}

fn mode(word: &str) -> Option<Mode> {
    match word {
        "enforce" => Some(Mode::Enforce),
        "shadow" => Some(Mode::Shadow),
        "off" => Some(Mode::Off),
        _ => None,
    }
}
