//! Chains of certificates up to a root. The first byte chooses what the others are:
//!
//! * the text of a header;
//! * certificates, each behind its length in two bytes;
//! * edits of a chain that holds;
//! * a root, in DER or PEM.
//!
//! The keys of the chain here are gone (`chain/make.sh`), so whatever is sent, a header that is accepted begins with its
//! one leaf; nothing is remembered of any other; and no certificate that is made up becomes a root of that leaf's.

use std::sync::OnceLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_policy::certificate::{CaRoot, verify_chain};

use crate::jwt::{NOW, Remembering};

const ROOT: &[u8] = include_bytes!("chain/root.der");
const INTERMEDIATE: &[u8] = include_bytes!("chain/intermediate.der");
const LEAF: &[u8] = include_bytes!("chain/leaf.der");

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => checked(data),
        1 => checked(&header(&split(data))),
        2 => {
            let mut chain = [LEAF.to_vec(), INTERMEDIATE.to_vec(), ROOT.to_vec()];
            for edit in data.chunks_exact(4).take(8) {
                let certificate = &mut chain[usize::from(edit[0]) % 3];
                let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % certificate.len();
                certificate[at] ^= edit[3];
            }
            checked(&header(&chain));
            let [leaf, intermediate, _] = chain;
            let holds = verify_chain(&header(&[leaf.clone(), intermediate.clone()]), roots(), NOW, &()).is_ok();
            assert_eq!(holds, leaf == LEAF && intermediate == INTERMEDIATE, "an edit goes unseen");
        }
        _ => root(data),
    }
}

/// The chain that holds, certificate by certificate.
pub fn good() -> [&'static [u8]; 2] {
    [LEAF, INTERMEDIATE]
}

fn checked(header: &[u8]) {
    let memory = Remembering::default();
    let answer = verify_chain(header, roots(), NOW, &memory);
    let leaf = header.split(|byte| *byte == b',').next().unwrap_or_default();
    let is_ours = BASE64_STANDARD.decode(leaf).is_ok_and(|leaf| leaf == LEAF);
    assert!(answer.is_err() || is_ours, "accepted: {}", String::from_utf8_lossy(header));
    let remembered = memory.0.borrow().len();
    assert!(remembered == 0 || answer.is_ok(), "a chain that does not hold is remembered");
    assert_eq!(verify_chain(header, roots(), NOW, &memory), answer, "asked again");
    assert_eq!(memory.0.borrow().len(), remembered, "what is remembered is not verified again");
    // Without a root nothing holds, whatever is remembered of another time.
    assert!(verify_chain(header, &[], NOW, &memory).is_err(), "no root, no chain");
}

fn root(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = CaRoot::from_pem(text);
    }
    let Ok(read) = CaRoot::from_der(data) else { return };
    let stored = postcard::to_allocvec(&read).unwrap_or_else(|error| panic!("{error}"));
    let again: CaRoot = postcard::from_bytes(&stored).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, read, "stored");
    assert!(stored.len() <= 1024 + 2 * data.len(), "{} bytes for {}", stored.len(), data.len());
    let chain = header(&[LEAF.to_vec(), INTERMEDIATE.to_vec()]);
    let holds = verify_chain(&chain, std::slice::from_ref(&read), NOW, &()).is_ok();
    assert!(!holds || has_our_key(data), "another root vouches for our leaf");
}

/// Whether the bytes hold the key of one of our CAs: then they may well be a root of the chain (nobody looks at who signed
/// a root, so any flip beside the key is another root with the same key).
fn has_our_key(data: &[u8]) -> bool {
    // An uncompressed point of P-256: behind the header of its bit string, 65 bytes beginning with 4.
    const POINT: [u8; 4] = [0x03, 0x42, 0x00, 0x04];
    [ROOT, INTERMEDIATE].iter().any(|ca| {
        let at = ca.windows(POINT.len()).position(|window| window == POINT);
        let point = at.and_then(|at| ca.get(at..at + 68));
        point.is_some_and(|point| data.windows(point.len()).any(|window| window == point))
    })
}

fn roots() -> &'static [CaRoot] {
    static ROOTS: OnceLock<Vec<CaRoot>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let root = CaRoot::from_der(ROOT).unwrap_or_else(|error| panic!("{error}"));
        let roots = vec![root];
        let chain = header(&good().map(<[u8]>::to_vec));
        verify_chain(&chain, &roots, NOW, &()).unwrap_or_else(|error| panic!("the good chain: {error}"));
        roots
    })
}

fn header(certificates: &[Vec<u8>]) -> Vec<u8> {
    let encoded: Vec<_> = certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
    encoded.join(",").into()
}

fn split(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut certificates = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (one, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        certificates.push(one.to_vec());
        data = rest;
    }
    certificates
}
