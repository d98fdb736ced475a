//! The archive for Traefik's plugin catalog: `dist/portcullis-plugin.zip`.
//!
//! The catalog wants one `.zip` with the module and its manifest at the root as the release's only asset.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, Result};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{project::Project, run, wasm};

/// The module's name in the archive; the manifest's `wasmPath`.
const MODULE: &str = "plugin.wasm";

/// The catalog's manifest, at the root of the repository and of the archive.
const MANIFEST: &str = ".traefik.yml";

/// Builds the module, packs it and prints what the archive holds.
pub(crate) fn pack(project: &Project) -> Result<()> {
    let module = wasm::build_within_budget(project)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let bytes = archive(&[(MANIFEST, read(&project.root.join(MANIFEST))?), (MODULE, read(&module)?)])?;
    let path = project.dist().join("portcullis-plugin.zip");
    fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    run::say(&format!("{}: {} bytes", project.shown(&path), bytes.len()));
    for (name, content) in unpacked(bytes)? {
        run::say(&format!("  {name}: {} bytes", content.len()));
    }
    Ok(())
}

/// The archive of these files. Its bytes depend on nothing else, the time of day included.
fn archive(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        // The format's first day: a date that says nothing.
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    for (name, content) in files {
        writer.start_file(*name, options)?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The files of an archive.
fn unpacked(archive: Vec<u8>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut archive = ZipArchive::new(std::io::Cursor::new(archive))?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        files.push((file.name()?.into_owned(), content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn manifest() -> Value {
        let path = Project::find().unwrap().root.join(MANIFEST);
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_archive_is_the_same_every_time_and_holds_its_files_at_the_root() {
        let files = [(MANIFEST, b"displayName: x".to_vec()), (MODULE, b"\0asm".repeat(1000))];
        let bytes = archive(&files).unwrap();
        assert_eq!(bytes, archive(&files).unwrap());
        let expected = files.map(|(name, content)| (name.to_owned(), content));
        assert_eq!(unpacked(bytes).unwrap(), expected);
    }

    #[test]
    fn the_manifest_has_what_the_catalog_demands() {
        let manifest = manifest();
        for key in ["displayName", "summary"] {
            assert!(manifest[key].as_str().is_some_and(|text| !text.trim().is_empty()), "{key}");
        }
        assert_eq!(manifest["type"], "middleware");
        assert_eq!(manifest["runtime"], "wasm");
        // Both are for plugins in Go.
        assert_eq!((manifest.get("import"), manifest.get("basePkg")), (None, None));
    }

    #[test]
    fn the_manifests_module_is_a_local_path_and_in_the_archive() {
        let manifest = manifest();
        let path = Path::new(manifest["wasmPath"].as_str().unwrap());
        assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{}", path.display());
        assert_eq!(path, Path::new(MODULE));
    }

    #[test]
    fn the_test_data_is_an_inline_policy_that_denies_by_default() {
        let data = &manifest()["testData"];
        assert_eq!(data["policy"]["default"], "deny");
        assert!(data["policy"]["entries"].as_array().is_some_and(|entries| !entries.is_empty()));
        assert_eq!(data.get("snapshot"), None, "either a snapshot or an inline policy");
        assert!(data["destination"].as_str().is_some_and(|name| !name.is_empty()));
    }
}
