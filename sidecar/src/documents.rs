//! Reading YAML and JSON documents from files, directories and standard input, with the bounds that hostile input needs.
//!
//! One broken file fails the whole read: a policy with a part missing could be more permissive than the one before, so the
//! caller keeps what it has.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A document and its place: `<file>` or `<file>#<number>` where a file holds several.
pub type Document = (String, Value);

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Most files below one directory.
pub const MAX_FILES: usize = 20_000;
/// Deepest folder below one directory.
const MAX_DEPTH: usize = 16;

/// Why documents could not be read. The message names the place and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Not YAML or JSON.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        message: String,
    },
    /// An editor or copier is probably in the middle of writing it.
    #[error("{path}: the file is empty; delete it if nothing is meant to be in it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Larger, deeper or more than is read.
    #[error("{path}: {what}")]
    TooMuch {
        /// The file or directory.
        path: PathBuf,
        /// The bound.
        what: String,
    },
}

/// Reads a file, every `*.yaml`, `*.yml` and `*.json` below a directory in the order of their names, or standard input (`-`).
pub fn read(path: &Path) -> Result<Vec<Document>, DocumentError> {
    if path == Path::new("-") {
        let mut text = String::new();
        let path = PathBuf::from("<stdin>");
        let read = io::stdin().take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
        read.map_err(|source| DocumentError::Io { path: path.clone(), source })?;
        return parse(&path, &text);
    }
    let mut documents = Vec::new();
    for file in files(path)? {
        documents.append(&mut parse(&file, &read_text(&file)?)?);
    }
    Ok(documents)
}

/// The files that [`read`] would read, sorted.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let metadata = fs::metadata(path).map_err(|source| DocumentError::Io { path: path.to_owned(), source })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, 0, &mut found)?;
    found.sort();
    Ok(found)
}

/// Reads one file as text.
pub fn read_text(path: &Path) -> Result<String, DocumentError> {
    let io = |source| DocumentError::Io { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(io)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Parses the documents of one text.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Document>, DocumentError> {
    if text.len() as u64 > MAX_FILE_BYTES {
        let what = format!("the file is larger than {} MiB; split it", MAX_FILE_BYTES / 1024 / 1024);
        return Err(DocumentError::TooMuch { path: path.to_owned(), what });
    }
    if text.trim().is_empty() {
        return Err(DocumentError::Empty { path: path.to_owned() });
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| DocumentError::Syntax { path: path.to_owned(), message: error.to_string() })?;
    let several = documents.len() > 1;
    let place = |index: usize| {
        if several { format!("{}#{}", path.display(), index + 1) } else { path.display().to_string() }
    };
    Ok(documents.into_iter().enumerate().map(|(index, value)| (place(index), value)).collect())
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DocumentError> {
    let io = |source| DocumentError::Io { path: directory.to_owned(), source };
    let too_much = |what: String| DocumentError::TooMuch { path: directory.to_owned(), what };
    if depth > MAX_DEPTH {
        return Err(too_much(format!("more than {MAX_DEPTH} folders deep; is there a link to a parent?")));
    }
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        // Hidden names are editors' and Kubernetes' own (`..data` of a mounted ConfigMap).
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        // Follows links: a mounted ConfigMap is made of them.
        let metadata = fs::metadata(&path).map_err(|source| DocumentError::Io { path: path.clone(), source })?;
        if metadata.is_dir() {
            collect(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json") {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(too_much(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Document>, DocumentError> {
        parse(Path::new("f.yaml"), text)
    }

    #[test]
    fn several_documents_are_told_apart_by_number() {
        let places: Vec<_> = parse_text("a: 1\n---\nb: 2\n").unwrap().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["f.yaml#1", "f.yaml#2"]);
        assert_eq!(parse_text("{\"a\": 1}").unwrap()[0].0, "f.yaml");
    }

    #[test]
    fn an_empty_file_is_an_error_since_it_may_be_half_written() {
        assert!(matches!(parse_text(" \n"), Err(DocumentError::Empty { .. })));
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(matches!(parse_text("a: 1\na: 2\n"), Err(DocumentError::Syntax { .. })));
    }

    #[test]
    fn directories_are_read_in_order_and_hidden_and_other_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.yaml", "b: 1"), ("a.json", "{\"a\": 1}"), (".hidden.yaml", "x: ["), ("notes.txt", "x: [")]
        {
            fs::write(directory.path().join(name), text).unwrap();
        }
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/c.yml"), "c: 1").unwrap();
        let values: Vec<_> = read(directory.path()).unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [serde_json::json!({"a": 1}), serde_json::json!({"b": 1}), serde_json::json!({"c": 1})]);
    }
}
