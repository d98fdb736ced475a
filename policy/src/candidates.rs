//! Consul's precedence of intentions, in one table.
//!
//! An intention's weight is 9, 6 or 3 by how exact its destination is, less 0, 1 or 2 by how exact its source is
//! (`computeIntentionPrecedence`, consul-policy §2.2). For one caller and one destination at most one intention exists at
//! each weight, so "the first in order whose source covers the caller" is "the first of these nine names that exists":
//! a lookup, however many intentions there are.

use crate::model::{DEFAULT_TENANCY, ServiceName, WILDCARD};

/// Longest part of a name, in bytes (Consul's own bound on names that DNS can show is 63).
pub const MAX_NAME_LEN: usize = 255;

/// One place to look for an intention, with its weight in Consul's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Consul's precedence, 9 (both exact) to 1 (both wild).
    pub precedence: u8,
    /// Partition, namespace and name of the destination as the intention would spell it.
    pub destination: Name<'a>,
    /// The same for the source.
    pub source: Name<'a>,
}

/// A borrowed [`ServiceName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// Peer of a source; empty for what is local.
    pub peer: &'a str,
    /// Admin partition.
    pub partition: &'a str,
    /// Namespace or `*`.
    pub namespace: &'a str,
    /// Name or `*`.
    pub name: &'a str,
}

impl<'a> From<&'a ServiceName> for Name<'a> {
    fn from(name: &'a ServiceName) -> Self {
        Self { peer: &name.peer, partition: &name.partition, namespace: &name.namespace, name: &name.name }
    }
}

impl<'a> Name<'a> {
    /// Reads Consul's spelling of a destination: `[partition/][namespace/]name`. Nothing that is a pattern or cannot be a
    /// name: a wildcard, NUL (it separates the parts of a key), an empty or over-long part.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.rsplit('/');
        let (name, namespace, partition) = (parts.next()?, parts.next(), parts.next());
        let (namespace, partition) = (namespace.unwrap_or(DEFAULT_TENANCY), partition.unwrap_or(DEFAULT_TENANCY));
        let is_name =
            |part: &str| !part.is_empty() && part.len() <= MAX_NAME_LEN && part != WILDCARD && !part.contains('\0');
        let whole = parts.next().is_none() && [name, namespace, partition].into_iter().all(is_name);
        whole.then_some(Self { peer: "", partition, namespace, name })
    }

    /// The name with texts of its own.
    pub fn to_owned(self) -> ServiceName {
        let Self { peer, partition, namespace, name } = self;
        ServiceName {
            peer: peer.to_owned(),
            partition: partition.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The patterns that cover this name, most exact first.
    pub(crate) fn patterns(self) -> [Self; 3] {
        [self, Self { name: WILDCARD, ..self }, Self { namespace: WILDCARD, name: WILDCARD, ..self }]
    }
}

/// The places where an intention from `source` to `destination` can be, in the order in which Consul asks them.
///
/// With `namespace_wildcards` false (Community Edition has none) the five places that need one are left out.
pub fn candidates<'a>(
    source: Name<'a>,
    destination: Name<'a>,
    namespace_wildcards: bool,
) -> impl Iterator<Item = Candidate<'a>> {
    let weighed = |patterns: [Name<'a>; 3], weights: [u8; 3]| patterns.into_iter().zip(weights);
    weighed(destination.patterns(), [9, 6, 3])
        .flat_map(move |(destination, base)| {
            weighed(source.patterns(), [0, 1, 2]).map(move |(source, less)| Candidate {
                precedence: base - less,
                destination,
                source,
            })
        })
        .filter(move |it| {
            namespace_wildcards || (it.destination.namespace != WILDCARD && it.source.namespace != WILDCARD)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn community_edition_has_four_weights_and_the_destination_outranks_the_source() {
        let (source, destination) = (ServiceName::in_default("web"), ServiceName::in_default("db"));
        let seen: Vec<_> = candidates((&source).into(), (&destination).into(), false)
            .map(|it| (it.precedence, it.destination.name.to_owned(), it.source.name.to_owned()))
            .collect();
        let want = [(9, "db", "web"), (8, "db", "*"), (6, "*", "web"), (5, "*", "*")];
        assert_eq!(seen, want.map(|(weight, destination, source)| (weight, destination.to_owned(), source.to_owned())));
    }

    #[test]
    fn destinations_are_spelled_as_consul_spells_them() {
        let parts = |text| Name::parse(text).map(|it| (it.partition, it.namespace, it.name));
        assert_eq!(parts("db"), Some(("default", "default", "db")));
        assert_eq!(parts("team/db"), Some(("default", "team", "db")));
        assert_eq!(parts("blue/team/db"), Some(("blue", "team", "db")));
        for bad in ["", "*", "team/*", "/db", "team/", "a/b/c/d", "a\0b"] {
            assert_eq!(parts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn with_namespace_wildcards_all_nine_come_in_descending_order() {
        let (source, destination) = (ServiceName::in_default("web"), ServiceName::in_default("db"));
        let weights: Vec<_> =
            candidates((&source).into(), (&destination).into(), true).map(|candidate| candidate.precedence).collect();
        assert_eq!(weights, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    }
}
