//! The one list of policy test files, for every engine that runs them (included by `#[path]`): `decisions`.

use std::path::{Path, PathBuf};

/// Folders of policy test files, by their names in `testdata`. (`bypass` and `jwt` hold more than this format can say, and
/// have tests of their own.)
const FOLDERS: [&str; 1] = ["decisions"];

/// Every file with its name (`decisions/api-keys.yaml`), sorted.
pub(crate) fn all() -> Vec<(String, PathBuf)> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut files = Vec::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(testdata.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|it| it == "yaml" || it == "json") {
                files.push((format!("{folder}/{name}"), path));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there are no policy test files");
    files
}
