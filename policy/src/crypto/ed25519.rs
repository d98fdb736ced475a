//! Ed25519, by `ed25519-dalek`.

use ed25519_dalek::{Signature, VerifyingKey};

/// The key, unless the bytes are none or its point is of small order, to which many messages fit.
#[inline(never)]
pub(super) fn key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

/// Whether the signature holds. Strict: `s` is reduced, and neither the key nor `R` is of small order, so that there is
/// one signature of a message and not a family of them.
#[inline(never)]
pub(super) fn verifies(bytes: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let signature = signature.try_into().map(|bytes| Signature::from_bytes(&bytes));
    key(bytes).zip(signature.ok()).is_some_and(|(key, signature)| key.verify_strict(message, &signature).is_ok())
}
