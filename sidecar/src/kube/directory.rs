//! Finding manifest files below a directory: bounded, sorted, each file once, never outside the directory.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use super::manifests::{MAX_FILE_BYTES, ManifestError};

/// Folders inside folders; more is a mistake, or a link that leads back.
const MAX_DEPTH: usize = 16;
/// Most files in one tree.
const MAX_FILES: usize = 20_000;

/// One file to read.
#[derive(Debug)]
pub(super) struct ManifestFile {
    /// Path relative to the directory, for messages.
    pub(super) name: String,
    path: PathBuf,
}

/// The manifest files below `root` in sorted order; `root` may also be one file.
pub(super) fn files(root: &Path) -> Result<Vec<ManifestFile>, Vec<ManifestError>> {
    let at = root.display().to_string();
    let real = root.canonicalize().map_err(|error| vec![unreadable(&at, &error)])?;
    if real.is_file() {
        return Ok(vec![ManifestFile { name: at, path: real }]);
    }
    let mut walk = Walk { root: real.clone(), seen: BTreeSet::new(), files: Vec::new(), errors: Vec::new() };
    walk.enter(&real, Path::new(""), 0);
    if walk.errors.is_empty() { Ok(walk.files) } else { Err(walk.errors) }
}

struct Walk {
    root: PathBuf,
    /// Real paths of files and folders already taken: two links to one file are one file.
    seen: BTreeSet<PathBuf>,
    files: Vec<ManifestFile>,
    errors: Vec<ManifestError>,
}

impl Walk {
    /// `real` is the folder to list, `shown` its path as the user sees it.
    fn enter(&mut self, real: &Path, shown: &Path, depth: usize) {
        let at = if depth == 0 { self.root.clone() } else { shown.to_owned() }.display().to_string();
        if depth > MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} folders deep");
            return self.errors.push(ManifestError::new(&at, what, "look for a link that leads back, or flatten"));
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
            let hint = "keep manifests inside the directory, or name the other one";
            return self.errors.push(ManifestError::new(&at, "a link that leads out of the directory", hint));
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
            self.errors.push(ManifestError::new(
                &at,
                format!("more than {MAX_FILES} files"),
                "use fewer, larger files",
            ));
        }
        self.files.push(ManifestFile { name: at, path: real });
    }
}

impl ManifestFile {
    /// The file's text; stops reading behind the size limit.
    pub(super) fn read(&self) -> Result<String, ManifestError> {
        let limit = MAX_FILE_BYTES as u64 + 1;
        let mut text = String::new();
        fs::File::open(&self.path)
            .and_then(|file| file.take(limit).read_to_string(&mut text))
            .map_err(|error| unreadable(&self.name, &error))?;
        Ok(text)
    }
}

fn unreadable(at: &str, error: &io::Error) -> ManifestError {
    ManifestError::new(at, format!("cannot be read: {error}"), "check the path, its rights and that it is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::super::Cluster;
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
