//! The automaton of a pattern, within bounds of time and space.

use regex_automata::{
    MatchKind,
    dfa::{StartKind, dense, sparse::DFA},
    nfa::thompson::{self, NFA, WhichCaptures},
};
use regex_syntax::hir::Hir;

use super::{BadPattern, MAX_AUTOMATON_LEN};

/// Of the NFA, in bytes.
const NFA_LIMIT: usize = 2 << 20;
/// Of the dense DFA, in bytes; its sparse form is a fraction.
const DENSE_LIMIT: usize = 4 << 20;
/// Of what is remembered while states are found, in bytes.
const DETERMINIZE_LIMIT: usize = 8 << 20;
/// Most states of a DFA that is minimized. Many alternatives that end alike become a tenth of their size, but the time it takes
/// grows with the square, to a minute for 16,000.
const MINIMIZE_LIMIT: usize = 1_000;

type Dense = dense::DFA<Vec<u32>>;

/// Compiles. Every failure past the parser is one of size.
pub(super) fn automaton(pattern: &Hir) -> Result<DFA<Vec<u8>>, BadPattern> {
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(NFA_LIMIT)))
        .build_from_hir(pattern)
        .map_err(|_| BadPattern::TooLarge)?;
    let mut dense = determinize(&nfa, false)?;
    if states(&dense) <= MINIMIZE_LIMIT {
        dense = determinize(&nfa, true)?;
    }
    let sparse = dense.to_sparse().map_err(|_| BadPattern::TooLarge)?;
    if sparse.write_to_len() > MAX_AUTOMATON_LEN {
        return Err(BadPattern::TooLarge);
    }
    Ok(sparse)
}

fn determinize(nfa: &NFA, minimize: bool) -> Result<Dense, BadPattern> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        // All of them are followed to the end of the text: which one a search would prefer is never asked.
        .match_kind(MatchKind::All)
        .accelerate(false)
        .minimize(minimize)
        .dfa_size_limit(Some(DENSE_LIMIT))
        .determinize_size_limit(Some(DETERMINIZE_LIMIT));
    dense::Builder::new().configure(config).build_from_nfa(nfa).map_err(|_| BadPattern::TooLarge)
}

/// Roughly how many states there are: the table has a row of four-byte entries for each.
fn states(dfa: &Dense) -> usize {
    dfa.memory_usage() >> (dfa.stride2() + 2)
}
