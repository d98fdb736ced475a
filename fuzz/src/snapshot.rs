//! Snapshots. The first byte chooses what the others are:
//!
//! * any bytes at all;
//! * a whole file, with its checksums made good again, so that what is behind them is reached;
//! * edits of a good file, with its checksums made good again;
//! * edits of a good file as they are: every answer is the good file's or an error, never another.

use std::sync::OnceLock;

use portcullis_authoring::compile;
use portcullis_policy::{
    Action, Decision, HEADER_LEN, Mode, Policy, PolicySettings, Snapshot, Verdict, api_key,
    model::{ApiKey, Intention, PathMatch, Permission, ServiceName, Source, SourceRule},
    peek,
    snapshot::layout::FORMAT,
};
use xxhash_rust::xxh64::xxh64;

use crate::ask;

const DESTINATIONS: [&str; 4] = ["db", "broken", "other", "*"];
const CALLERS: [&str; 3] = ["web", "reader", "stranger"];

/// Bytes of one edit: where (two bytes), and what to exclusive-or.
const EDIT: usize = 3;
/// Edits that are left as they are. Fewer bytes than a checksum has, so that none can be forged.
const MAX_EDITS: usize = 7;

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => open(data),
        1 => open(&mended(data.to_vec())),
        2 => open(&mended(edited(data))),
        _ => unmended(&data[..data.len().min(MAX_EDITS * EDIT)]),
    }
}

fn open(bytes: &[u8]) {
    let generation = bytes.get(..HEADER_LEN).and_then(|header| peek(header).ok());
    let Ok(snapshot) = Snapshot::open(bytes) else { return };
    assert_eq!(generation, Some(snapshot.generation()));
    // A file that does not verify may still be asked: only what is read is checked then.
    let _ = snapshot.verify();
    ask::all(&snapshot, &DESTINATIONS, &CALLERS);
}

fn unmended(edits: &[u8]) {
    let (good, answers) = good();
    let bytes = edited(edits);
    let Ok(snapshot) = Snapshot::open(bytes.as_slice()) else { return };
    if bytes != *good {
        assert!(snapshot.verify().is_err(), "an edit goes unseen");
    }
    for (answer, wanted) in ask::all(&snapshot, &DESTINATIONS, &CALLERS).iter().zip(answers) {
        let refused = (answer.verdict, answer.status, answer.rule.as_str()) == (Verdict::Deny, 503, "snapshot");
        assert!(answer == wanted || refused, "{answer:?} instead of {wanted:?}");
    }
}

/// A policy with one of everything, and what it answers.
fn good() -> &'static (Vec<u8>, Vec<Decision>) {
    static GOOD: OnceLock<(Vec<u8>, Vec<Decision>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let (bytes, problems) = compile(&policy(), 42, 1000);
        assert!(problems.is_empty(), "{problems:?}");
        let snapshot = Snapshot::open(bytes.as_slice()).unwrap_or_else(|error| panic!("{error}"));
        let answers = ask::all(&snapshot, &DESTINATIONS, &CALLERS);
        assert!(answers.iter().any(|it| it.verdict == Verdict::Allow), "{answers:?}");
        assert!(answers.iter().any(|it| it.verdict == Verdict::Deny), "{answers:?}");
        (bytes, answers)
    })
}

fn policy() -> Policy {
    let source = |name: &str, rule| Source { source: ServiceName::in_default(name), rule, mode: Mode::Enforce };
    let permission = |action, path, methods: &[&str]| Permission {
        action,
        path: Some(path),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        headers: Vec::new(),
        jwt: None,
        mode: Mode::Enforce,
    };
    let to = |name: &str, sources, broken| Intention {
        destination: ServiceName::in_default(name),
        sources,
        jwt: None,
        mode: Mode::Enforce,
        broken,
    };
    let reads = vec![
        permission(Action::Deny, PathMatch::Prefix("/admin".to_owned()), &[]),
        permission(Action::Allow, PathMatch::Prefix("/v1/".to_owned()), &["GET"]),
        permission(Action::Allow, PathMatch::Exact("/".to_owned()), &[]),
    ];
    Policy {
        settings: PolicySettings { trust_domains: vec![ask::TRUST_DOMAIN.to_owned()], ..PolicySettings::default() },
        intentions: vec![
            to(
                "db",
                vec![
                    source("web", SourceRule::Action(Action::Allow)),
                    source("reader", SourceRule::Permissions(reads)),
                    source("partner", SourceRule::Action(Action::Allow)),
                    source("*", SourceRule::Action(Action::Deny)),
                ],
                false,
            ),
            to("broken", vec![source("web", SourceRule::Action(Action::Allow))], true),
            to("*", vec![source("web", SourceRule::Action(Action::Deny))], false),
        ],
        api_keys: vec![ApiKey {
            id: "k1".to_owned(),
            source: ServiceName::in_default("partner"),
            salt: b"salt".to_vec(),
            hash: api_key::hash(b"salt", "s3cret"),
        }],
        ..Policy::default()
    }
}

fn edited(edits: &[u8]) -> Vec<u8> {
    let mut bytes = good().0.clone();
    for edit in edits.chunks_exact(EDIT) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] ^= edit[2];
    }
    bytes
}

// === checksums, by docs/reference/snapshot.md and not by the code under test ===

const PAGE: usize = 64;

/// The file with every checksum made good that its lengths and offsets lead to.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER_LEN {
        bytes.resize(HEADER_LEN, 0);
    }
    bytes[..8].copy_from_slice(b"PORTCLLS");
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    let generation = number(&bytes, 16, 8);
    let (n_pages, settings, settings_len) = (place(&bytes, 32, 4), place(&bytes, 40, 8), place(&bytes, 48, 4));
    if let Some(sum) = sum(&bytes, generation, settings, settings_len) {
        bytes[56..64].copy_from_slice(&sum);
    }
    let len = bytes.len();
    let n_pages = n_pages.min(len / PAGE);
    let mut records = Vec::new();
    for page in (0..n_pages).map(|index| HEADER_LEN + index * PAGE).take_while(|page| page + PAGE <= len) {
        records.extend([0, 12, 24].map(|slot| place(&bytes, page + slot + 4, 8)));
        if let Some(sum) = sum(&bytes, generation, page, PAGE - 8) {
            bytes[page + PAGE - 8..page + PAGE].copy_from_slice(&sum);
        }
    }
    // In the order of the file, as far as it goes, then wherever slots point.
    let mut at = HEADER_LEN + n_pages * PAGE;
    while at < settings
        && let Some(len) = mend_record(&mut bytes, generation, at)
    {
        at += len;
    }
    for at in records {
        mend_record(&mut bytes, generation, at);
    }
    let sum = xxh64(&bytes[..HEADER_LEN - 8], 0).to_le_bytes();
    bytes[HEADER_LEN - 8..HEADER_LEN].copy_from_slice(&sum);
    bytes
}

/// Mends the record at a place behind the header; its length, when it lies within the file.
fn mend_record(bytes: &mut [u8], generation: u64, at: usize) -> Option<usize> {
    bytes.get(at..at.checked_add(16)?).filter(|_| at >= HEADER_LEN)?;
    let len = place(bytes, at + 8, 4) + place(bytes, at + 12, 2) + 16;
    let covered = bytes.get(at + 8..at.checked_add(len)?)?;
    let sum = xxh64(covered, seed(generation, at)).to_le_bytes();
    bytes[at..at + 8].copy_from_slice(&sum);
    Some(len)
}

fn sum(bytes: &[u8], generation: u64, at: usize, len: usize) -> Option<[u8; 8]> {
    Some(xxh64(bytes.get(at..at.checked_add(len)?)?, seed(generation, at)).to_le_bytes())
}

fn seed(generation: u64, at: usize) -> u64 {
    generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at as u64
}

/// A little-endian number of some bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let bytes = bytes.get(at..at + len).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn place(bytes: &[u8], at: usize, len: usize) -> usize {
    usize::try_from(number(bytes, at, len)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mending_a_good_file_changes_nothing() {
        assert_eq!(mended(good().0.clone()), good().0);
    }

    #[test]
    fn a_mended_edit_is_read_as_if_it_had_been_written() {
        // The last byte of the settings: whether a destination is broken.
        let at = u16::try_from(good().0.len() - 1).unwrap().to_le_bytes();
        let bytes = mended(edited(&[at[0], at[1], 1]));
        assert_ne!(bytes, good().0);
        Snapshot::open(bytes.as_slice()).unwrap().verify().unwrap();
    }
}
