//! Request targets. A canonical path is canonical once and for all, is no longer than what was sent, and holds nothing that
//! two servers could read differently.

use portcullis_policy::path::canonical;

/// The target's body.
pub fn run(data: &[u8]) {
    let Ok(target) = core::str::from_utf8(data) else { return };
    let Ok(path) = canonical(target) else { return };
    assert_eq!(canonical(&path).as_deref(), Ok(&*path), "canonical once, canonical always");
    assert!(path.len() <= target.len() && path.starts_with('/'), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\;?#".contains(&byte)), "{path}");
    assert!(!path.contains("//") && path.split('/').all(|segment| segment != "." && segment != ".."), "{path}");
    // What follows `?` is no part of the path, whatever it is.
    let plain = target.split('?').next().unwrap_or_default();
    assert_eq!(canonical(&format!("{plain}?/../;#%00")).as_deref(), Ok(&*path));
}
