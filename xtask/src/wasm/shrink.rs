//! The last step of the module: `wasm-opt` of binaryen, which takes a tenth off what LLVM leaves.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{project::Project, run, tools};

/// What LLVM uses for this target, and the plugin's runtime knows.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// The shrunk module, beside the one that was built. Where there is no `wasm-opt` the built one will do for who tries
/// something out; CI and releases (`PORTCULLIS_REQUIRE`) insist.
pub(super) fn shrink(project: &Project, built: &Path) -> Result<PathBuf> {
    let Some(wasm_opt) = wasm_opt() else {
        let hint = "wasm-opt is needed (Debian: `apt-get install binaryen`; or set WASM_OPT to its path)";
        if env::var("PORTCULLIS_REQUIRE").is_ok_and(|value| value == "1") {
            bail!("{hint}");
        }
        run::say(&format!("note: {hint}; without it the module is a tenth larger"));
        return Ok(built.to_owned());
    };
    let shrunk = built.with_extension("shrunk.wasm");
    let mut command = Command::new(&wasm_opt);
    command.current_dir(&project.root).arg("-Oz").args(FEATURES).arg(built).arg("-o").arg(&shrunk);
    run::output(&mut command).with_context(|| format!("{} failed", wasm_opt.display()))?;
    Ok(shrunk)
}

fn wasm_opt() -> Option<PathBuf> {
    let named = env::var_os("WASM_OPT").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| tools::on_path("wasm-opt")).or_else(|| {
        tools::apt_install("binaryen").ok()?;
        tools::on_path("wasm-opt")
    })
}
