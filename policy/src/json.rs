//! JSON, read in one place.

/// Reads any JSON. The plugin uses this too instead of `serde_json` itself: the compiler makes a reader for each crate that
/// asks for one, and a second one is 10 KB of WebAssembly.
#[inline(never)]
pub fn parse(text: &[u8]) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_slice(text)
}
