//! Reading YAML and JSON documents of policy from files, directories and standard input.
//!
//! One broken file fails the whole read: a policy with a part missing could be more permissive than the one before, so the
//! caller keeps what it has.

use std::{
    io::{self, Read as _},
    path::Path,
};

use serde_json::Value;

use crate::sources::{self, MAX_FILE_BYTES, SourceError, SourceErrors};

/// A document and its place: `<file>` or `<file>#<number>` where a file holds several.
pub type Document = (String, Value);

/// Reads a file, every `*.yaml`, `*.yml` and `*.json` below a directory in the order of their names, or standard input (`-`).
pub fn read(path: &Path) -> Result<Vec<Document>, SourceErrors> {
    if path == Path::new("-") {
        return stdin().and_then(|text| parse("<stdin>", &text)).map_err(|error| SourceErrors(vec![error]));
    }
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for file in sources::files(path).map_err(SourceErrors)? {
        match file.read().and_then(|text| parse(&file.name, &text)) {
            Ok(mut found) => documents.append(&mut found),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(SourceErrors(errors)) }
}

/// Parses the documents of one text; `file` only names it.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, SourceError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(SourceError::new(file, format!("larger than {} MiB", MAX_FILE_BYTES >> 20), "split it"));
    }
    if text.trim().is_empty() {
        // An editor or copier is probably in the middle of writing it.
        return Err(SourceError::new(file, "the file is empty", "delete it if nothing is meant to be in it"));
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| SourceError::new(file, error.to_string(), "correct the syntax"))?;
    let several = documents.len() > 1;
    let place = |index: usize| if several { format!("{file}#{}", index + 1) } else { file.to_owned() };
    Ok(documents.into_iter().enumerate().map(|(index, value)| (place(index), value)).collect())
}

fn stdin() -> Result<String, SourceError> {
    let mut text = String::new();
    let read = io::stdin().take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| SourceError::new("<stdin>", error.to_string(), "is it UTF-8 text?"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_are_told_apart_by_number() {
        let places: Vec<_> = parse("f", "a: 1\n---\nb: 2\n").unwrap().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["f#1", "f#2"]);
        assert_eq!(parse("f", "{\"a\": 1}").unwrap()[0].0, "f");
    }

    #[test]
    fn an_empty_file_is_an_error_since_it_may_be_half_written() {
        assert!(parse("f", " \n").is_err());
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(parse("f", "a: 1\na: 2\n").is_err());
    }

    #[test]
    fn every_broken_file_of_a_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in
            [("a.yaml", "a: ["), ("b.yaml", ""), ("c.yaml", "c: 1"), (".hidden.yaml", "x: ["), ("notes.txt", "x: [")]
        {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let SourceErrors(errors) = read(directory.path()).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.at.as_str()).collect::<Vec<_>>(), ["a.yaml", "b.yaml"]);
    }
}
