//! Files that people and tools write: found below a directory, bounded, sorted, each once, never outside the directory.
//!
//! Reading is all or nothing for whoever asks, and every fault is told at once: half of what was meant could be more
//! permissive, or look like services that were deleted.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

/// Largest file that is read, in bytes: a dump of some ten thousand services with their slices.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Why a text or a directory was not taken; `Display` is one line that says where, what and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}; {hint}")]
pub struct SourceError {
    /// File, document and item, or the directory.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// All that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SourceErrors(pub Vec<SourceError>);

/// Folders inside folders; more is a mistake, or a link that leads back.
const MAX_DEPTH: usize = 16;
/// Most files in one tree.
const MAX_FILES: usize = 20_000;

/// One file to read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path relative to the directory, for messages.
    pub(crate) name: String,
    path: PathBuf,
}

/// The YAML and JSON files below `root` in sorted order; `root` may also be one file.
pub(crate) fn files(root: &Path) -> Result<Vec<SourceFile>, Vec<SourceError>> {
    let at = root.display().to_string();
    let real = root.canonicalize().map_err(|error| vec![unreadable(&at, &error)])?;
    if real.is_file() {
        return Ok(vec![SourceFile { name: at, path: real }]);
    }
    let mut walk = Walk { root: real.clone(), seen: BTreeSet::new(), files: Vec::new(), errors: Vec::new() };
    walk.enter(&real, Path::new(""), 0);
    if walk.errors.is_empty() { Ok(walk.files) } else { Err(walk.errors) }
}

struct Walk {
    root: PathBuf,
    /// Real paths of files and folders already taken: two links to one file are one file.
    seen: BTreeSet<PathBuf>,
    files: Vec<SourceFile>,
    errors: Vec<SourceError>,
}

impl Walk {
    /// `real` is the folder to list, `shown` its path as the user sees it.
    fn enter(&mut self, real: &Path, shown: &Path, depth: usize) {
        let at = if depth == 0 { self.root.clone() } else { shown.to_owned() }.display().to_string();
        if depth > MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} folders deep");
            return self.errors.push(SourceError::new(&at, what, "look for a link that leads back, or flatten"));
        }
        let listed = fs::read_dir(real).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = match listed {
            Ok(names) => names,
            Err(error) => return self.errors.push(unreadable(&at, &error)),
        };
        names.sort();
        for name in names {
            if self.files.len() > MAX_FILES {
                return;
            }
            if !name.as_encoded_bytes().starts_with(b".") {
                self.visit(&real.join(&name), &shown.join(&name), depth);
            }
        }
    }

    fn visit(&mut self, path: &Path, shown: &Path, depth: usize) {
        let at = shown.display().to_string();
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return self.errors.push(unreadable(&at, &error)),
        };
        if !real.starts_with(&self.root) {
            let hint = "keep the files inside the directory, or name the other one";
            return self.errors.push(SourceError::new(&at, "a link that leads out of the directory", hint));
        }
        let is_folder = real.is_dir();
        if !is_folder && !shown.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        {
            return;
        }
        if !self.seen.insert(real.clone()) {
            return;
        }
        if is_folder {
            return self.enter(&real, shown, depth + 1);
        }
        if self.files.len() == MAX_FILES {
            self.errors.push(SourceError::new(&at, format!("more than {MAX_FILES} files"), "use fewer, larger files"));
        }
        self.files.push(SourceFile { name: at, path: real });
    }
}

impl SourceFile {
    /// The file's text; stops reading behind the size limit.
    pub(crate) fn read(&self) -> Result<String, SourceError> {
        let limit = MAX_FILE_BYTES as u64 + 1;
        let mut text = String::new();
        fs::File::open(&self.path)
            .and_then(|file| file.take(limit).read_to_string(&mut text))
            .map_err(|error| unreadable(&self.name, &error))?;
        Ok(text)
    }
}

fn unreadable(at: &str, error: &io::Error) -> SourceError {
    SourceError::new(at, format!("cannot be read: {error}"), "check the path, its rights and that it is UTF-8")
}

// === impl SourceError ===

impl SourceError {
    /// An error at `at`.
    pub fn new(at: &str, what: impl Into<String>, hint: &str) -> Self {
        Self { at: at.to_owned(), what: what.into(), hint: hint.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use crate::kube::Cluster;
    use std::{fs, os::unix::fs::symlink};

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";

    #[test]
    fn reads_nested_files_and_a_mounted_config_map_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("..2026_11_21")).unwrap();
        fs::create_dir_all(root.join("more/deep")).unwrap();
        fs::write(root.join("..2026_11_21/a.yaml"), SERVICE).unwrap();
        symlink("..2026_11_21", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        symlink("a.yaml", root.join("b.yaml")).unwrap();
        fs::write(root.join("more/deep/n.json"), r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#)
            .unwrap();
        fs::write(root.join("more/readme.md"), "not a manifest").unwrap();
        symlink("..", root.join("more/loop")).unwrap();
        let cluster = Cluster::load_directory(root).unwrap();
        assert_eq!((cluster.services.len(), cluster.nodes.len()), (1, 1));
    }

    #[test]
    fn refuses_duplicates_links_that_lead_out_and_unreadable_files_all_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let root = directory.path();
        fs::write(root.join("a.yaml"), SERVICE).unwrap();
        fs::write(root.join("b.yaml"), format!("{SERVICE}---\n{SERVICE}")).unwrap();
        let errors = Cluster::load_directory(root).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert_eq!(errors[0].what, "Service default/a is defined twice, first at a.yaml: document 1");
        assert_eq!(errors[1].at, "b.yaml: document 2");

        symlink(outside.path(), root.join("c.yaml")).unwrap();
        symlink("nowhere", root.join("d.yaml")).unwrap();
        let errors = Cluster::load_directory(root).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.at.as_str()).collect::<Vec<_>>(), ["c.yaml", "d.yaml"]);

        assert!(Cluster::load_directory(&root.join("missing")).is_err());
    }
}
