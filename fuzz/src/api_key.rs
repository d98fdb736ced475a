//! API keys: a key's text, and the stored form of its secret. A key has one reading, and no other secret verifies.

use portcullis_policy::api_key::{KeyText, PREFIX, format_hash, hash, parse_hash, verify};

/// The target's body.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Some(key) = KeyText::parse(text) {
        assert_eq!(format!("{PREFIX}{}_{}", key.id, key.secret), text);
        assert!(!key.id.is_empty() && !key.secret.is_empty() && !key.id.contains('\0'));
        let stored = hash(key.id.as_bytes(), key.secret);
        assert!(verify(key.id.as_bytes(), &stored, key.secret));
        assert!(!verify(key.id.as_bytes(), &stored, &key.secret[1..]));
    }
    if let Some((salt, hash)) = parse_hash(text) {
        let written = format_hash(&salt, &hash);
        assert!(written.eq_ignore_ascii_case(text), "{written} for {text}");
        assert_eq!(parse_hash(&written), Some((salt.clone(), hash)));
        // Nobody knows a secret for a hash out of the air.
        assert!(!verify(&salt, &hash, text));
    }
}
