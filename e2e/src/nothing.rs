//! A guest that lets every request pass and does nothing else: what Traefik's wasm host costs by itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::traefik::Plugin;

/// The least that the http-wasm host accepts: a memory and both handlers. 1 means "go on to the next handler".
const TEXT: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "handle_request") (result i64) (i64.const 1))
  (func (export "handle_response") (param i32 i32)))"#;

/// Assembles the guest into `folder`; middlewares name it `nothing`.
pub fn plugin(folder: &Path) -> Result<Plugin> {
    let wasm: PathBuf = folder.join("nothing.wasm");
    fs::write(&wasm, wat::parse_str(TEXT).context("assembling the do-nothing guest")?)?;
    Ok(Plugin {
        name: "nothing".to_owned(),
        module: "example.test/nothing".to_owned(),
        wasm,
        manifest: None,
        policy: None,
        state: None,
    })
}
