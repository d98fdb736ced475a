//! The one list of policy test files, for every engine that runs them (included by `#[path]`): `decisions` and whatever
//! folders of the same format stand beside it.

use std::path::{Path, PathBuf};

/// Folders of policy test files, by their names in `testdata`. The first must be there; the others are run when they are.
const FOLDERS: [&str; 3] = ["decisions", "bypass", "jwt"];

/// Every file with its name (`decisions/api-keys.yaml`), sorted.
pub(crate) fn all() -> Vec<(String, PathBuf)> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut files = Vec::new();
    for folder in FOLDERS {
        let entries = match std::fs::read_dir(testdata.join(folder)) {
            Ok(entries) => entries,
            Err(_) if folder != FOLDERS[0] => continue,
            Err(error) => panic!("testdata/{folder}: {error}"),
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".yaml") || name.ends_with(".json") {
                files.push((format!("{folder}/{name}"), path));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there are no policy test files");
    files
}
