//! The mass-removal brake: a broken source looks like services that were deleted. Pure.

use std::fmt;

use super::{diff::Difference, told::Source};

/// So many instances may always go: a brake that people meet every day is one they learn to release unread.
const FREE: usize = 10;

/// Why removals wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The source holds neither a Service nor a Node.
    EmptySource {
        /// How many instances would go.
        removals: usize,
    },
    /// Keys would go that no removal of instances accounts for.
    Keys {
        /// How many keys would go.
        removals: usize,
        /// How many are ours.
        owned: usize,
    },
    /// Too many at once.
    TooMany {
        /// How many instances would go.
        removals: usize,
        /// How many are ours.
        owned: usize,
        /// The limit in per cent.
        percent: u8,
    },
    /// The source cannot be read for too long: what it told last may be over (G3).
    BrokenSource {
        /// How many instances would go.
        removals: usize,
    },
}

/// Whether removals have to wait. Counted is what the catalog loses: instances that move to other nodes are no loss.
/// `owned` counts the instances that are ours; it is asked only when it matters.
pub fn brake(difference: &Difference, owned: impl FnOnce() -> usize, source: Source, percent: u8) -> Option<Hold> {
    let (added, removals) = difference.n_added_and_removed();
    if removals == 0 {
        return None;
    }
    if source.is_broken {
        return Some(Hold::BrokenSource { removals });
    }
    if source.is_empty {
        return Some(Hold::EmptySource { removals });
    }
    let lost = removals.saturating_sub(added);
    if lost <= FREE {
        return None;
    }
    let owned = owned();
    (lost * 100 > owned * usize::from(percent)).then_some(Hold::TooMany { removals, owned, percent })
}

/// The same for keys whose services are not in the catalog, though nothing was taken out of it just now.
pub fn hold_keys(removals: usize, owned: usize, source_is_empty: bool, percent: u8) -> Option<Hold> {
    let too_many = removals > FREE && removals * 100 > owned * usize::from(percent);
    (removals > 0 && (source_is_empty || too_many)).then_some(Hold::Keys { removals, owned })
}

// === impl Hold ===

impl Hold {
    /// How many instances or keys would go.
    pub fn removals(self) -> usize {
        match self {
            Self::EmptySource { removals }
            | Self::TooMany { removals, .. }
            | Self::Keys { removals, .. }
            | Self::BrokenSource { removals } => removals,
        }
    }

    /// Whether a person can let them pass. Nobody knows what a source holds that cannot be read.
    pub fn can_be_released(self) -> bool {
        !matches!(self, Self::BrokenSource { .. })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySource { removals } => {
                write!(f, "the source holds neither a Service nor a Node, which would remove {removals} instances")
            }
            Self::Keys { removals, owned } => {
                write!(f, "{removals} of {owned} keys of the KV import belong to services that nobody knows")
            }
            Self::TooMany { removals, owned, percent } => {
                write!(f, "{removals} of {owned} instances would be removed, more than maxRemovalPercent {percent}")
            }
            Self::BrokenSource { removals } => {
                write!(f, "{removals} instances would be removed, but their source cannot be read at the moment")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::diff::{InstanceChange, Kind, ServiceChange};
    use crate::consul::live::LiveService;

    fn difference(added: usize, removed: usize) -> Difference {
        let change = |kind| InstanceChange { node: "n".to_owned(), service: LiveService::default(), check: None, kind };
        let instances =
            std::iter::repeat_n(change(Kind::Add), added).chain(std::iter::repeat_n(change(Kind::Remove), removed));
        let service = ServiceChange { service: "web".to_owned(), instances: instances.collect() };
        Difference { services: vec![service], ..Difference::default() }
    }

    #[test]
    fn holds_only_what_is_a_large_loss_or_comes_from_nothing() {
        let cases = [
            // added, removed, owned, empty source, held
            (0, 0, 100, true, false),
            (0, 1, 1, true, true),
            (0, 1, 1, false, false),
            (0, 10, 10, false, false),
            (0, 11, 11, false, true),
            (0, 50, 100, false, false),
            (0, 51, 100, false, true),
            (100, 100, 100, false, false),
            (40, 95, 100, false, true),
        ];
        for (added, removed, owned, empty, held) in cases {
            let source = Source { is_empty: empty, is_broken: false };
            let found = brake(&difference(added, removed), || owned, source, 50);
            assert_eq!(found.is_some(), held, "{added} added, {removed} of {owned} removed, empty: {empty}");
        }
        let all = |source, percent| brake(&difference(0, 100), || 100, source, percent);
        assert_eq!(all(Source::default(), 100), None, "a limit of 100 % is no brake");
        let held = all(Source { is_empty: true, is_broken: true }, 100).unwrap();
        assert_eq!((held, held.can_be_released()), (Hold::BrokenSource { removals: 100 }, false));
    }
}
