//! Tokens. The first byte chooses what the others are:
//!
//! * any text of a token;
//! * a header and, behind a line's end, a payload, rightly signed, so that what is behind the signature is reached;
//! * the same, signed by somebody else;
//! * edits of a good token.
//!
//! A token is accepted only if it holds by another way of looking at it, is remembered only then, and says the same when
//! it is remembered.

use std::sync::OnceLock;

use portcullis_policy::jwt::{Checked, ProviderRecord};

use crate::jwt::{Remembering, ask, foreign_key, good_token, key_set, provider, sign, signing_key, verified_again};

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => checked(data),
        1 => checked(signed(&signing_key(), data).as_bytes()),
        2 => {
            let token = signed(&foreign_key(), data);
            checked(token.as_bytes());
            let answer = ask(known(), token.as_bytes(), &());
            assert!(!matches!(answer, Checked::Valid(_)), "somebody else's signature: {token}");
        }
        _ => {
            let mut token = good_token().as_bytes().to_vec();
            let len = token.len();
            for edit in data.chunks_exact(3).take(8) {
                token[usize::from(u16::from_le_bytes([edit[0], edit[1]])) % len] ^= edit[2];
            }
            checked(&token);
        }
    }
}

fn signed(key: &ed25519_dalek::SigningKey, data: &[u8]) -> String {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, payload) = data.split_at(at);
    sign(key, header, payload.get(1..).unwrap_or_default())
}

fn checked(token: &[u8]) {
    let memory = Remembering::default();
    let answer = ask(known(), token, &memory);
    let holds = verified_again(token.trim_ascii());
    if let Checked::Valid(verified) = &answer {
        let claims = holds.as_ref().unwrap_or_else(|| panic!("accepted: {}", String::from_utf8_lossy(token)));
        assert_eq!(verified.claims.get(&["iss".to_owned()]), claims.get("iss"));
        assert_eq!(verified.claims.get(&["sub".to_owned()]), claims.get("sub"));
    }
    let remembered = memory.0.borrow().len();
    assert!(remembered == 0 || holds.is_some(), "remembered: {}", String::from_utf8_lossy(token));
    assert_eq!(ask(known(), token, &memory), answer, "asked again");
    assert_eq!(memory.0.borrow().len(), remembered, "what is remembered is not verified again");
}

fn known() -> &'static ProviderRecord {
    static KNOWN: OnceLock<ProviderRecord> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let (provider, problems) = provider(key_set());
        assert!(problems.is_empty(), "{problems:?}");
        assert!(matches!(ask(&provider, good_token().as_bytes(), &()), Checked::Valid(_)), "the good token");
        provider
    })
}
