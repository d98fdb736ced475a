//! The automaton of a pattern, within bounds of time and space.

use regex_automata::{
    MatchKind,
    dfa::{StartKind, dense, sparse::DFA},
    nfa::thompson::{self, WhichCaptures},
};
use regex_syntax::hir::Hir;

use super::{BadPattern, MAX_AUTOMATON_LEN};

/// Of the NFA, in bytes.
const NFA_LIMIT: usize = 2 << 20;
/// Of the dense DFA, in bytes; its sparse form is a fraction.
const DENSE_LIMIT: usize = 4 << 20;
/// Of what is remembered while states are found, in bytes.
const DETERMINIZE_LIMIT: usize = 8 << 20;

/// Compiles. Every failure past the parser is one of size.
pub(super) fn automaton(pattern: &Hir) -> Result<DFA<Vec<u8>>, BadPattern> {
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(NFA_LIMIT)))
        .build_from_hir(pattern)
        .map_err(|_| BadPattern::TooLarge)?;
    let dense = dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                // All of them are followed to the end of the text: which one a search would prefer is never asked.
                .match_kind(MatchKind::All)
                .accelerate(false)
                .dfa_size_limit(Some(DENSE_LIMIT))
                .determinize_size_limit(Some(DETERMINIZE_LIMIT)),
        )
        .build_from_nfa(&nfa)
        .map_err(|_| BadPattern::TooLarge)?;
    let sparse = dense.to_sparse().map_err(|_| BadPattern::TooLarge)?;
    if sparse.write_to_len() > MAX_AUTOMATON_LEN {
        return Err(BadPattern::TooLarge);
    }
    Ok(sparse)
}
