//! JWK sets. Whatever a set holds, a token by a key that is in none of them is never accepted, and what is stored of a set
//! is the same every time and when it is read again.

use std::sync::OnceLock;

use portcullis_policy::jwt::{Checked, ProviderRecord};
use serde_json::json;

use crate::jwt::{ISSUER, NOW, ask, foreign_key, good_token, provider, sign};

/// The target's body.
pub fn run(data: &[u8]) {
    let (record, problems) = provider(data.to_vec());
    for problem in &problems {
        assert!(!problem.what.is_empty(), "{problem:?}");
    }
    assert_eq!(provider(data.to_vec()).0, record, "compiled twice");
    let stored = postcard::to_allocvec(&record).unwrap_or_else(|error| panic!("{error}"));
    assert!(stored.len() <= 1024 + 2 * data.len(), "{} bytes for {}", stored.len(), data.len());
    let read: ProviderRecord = postcard::from_bytes(&stored).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, record, "stored");
    for token in foreign_tokens() {
        assert!(!matches!(ask(&record, token.as_bytes(), &()), Checked::Valid(_)), "a foreign key's token");
    }
    // No key, no token.
    if data.is_empty() || !problems.is_empty() && data.first() != Some(&b'{') {
        assert!(!matches!(ask(&record, good_token().as_bytes(), &()), Checked::Valid(_)), "a set of nothing");
    }
}

/// Tokens that are in order but for their key.
fn foreign_tokens() -> &'static [String] {
    static TOKENS: OnceLock<Vec<String>> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let claims = json!({"iss": ISSUER, "aud": "api", "exp": NOW + 600}).to_string();
        let headers = [r#"{"alg":"EdDSA","kid":"k1"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"ES256"}"#];
        headers.map(|header| sign(&foreign_key(), header.as_bytes(), claims.as_bytes())).to_vec()
    })
}
