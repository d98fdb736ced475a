//! `testdata/bypass`: published bypasses of other gateways as cases.
//!
//! A file is a policy test file (`docs/reference/policy-tests.md`) with a few fields more, for what only happens on the wire:
//!
//! | field | where | meaning |
//! |---|---|---|
//! | `advisories` | file | `{id: what was bypassed}` |
//! | `stripPrefix` | file | Traefik strips this prefix after the decision |
//! | `uris` | request | the URI names of the client's certificate, instead of `source`; such a case is not run natively |
//! | `target` | request | the request target on the wire, where it is not `path`; `path` may then be left out |
//! | `lines` | request | header lines as they are on the wire, beside `headers`; natively they are read as headers |
//! | `body` | request | what follows the head on the wire |
//! | `expect: any` | request | nothing is expected of the answer, but no second request may arrive; never native |
//! | `arrives`, `never` | request | texts that must, and must not, be in what the backend receives, if it receives anything |
//!
//! Every character up to U+00FF in `target`, `lines` and `body` is the byte of that number.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use portcullis_authoring::cases::{Case, CaseFile, Values};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::parts;
use crate::wire::Head;

/// One file of cases.
#[derive(Debug)]
pub struct BypassFile {
    /// The file's name without its extension; a DNS label.
    pub name: String,
    /// What has been published, by its id.
    pub advisories: BTreeMap<String, String>,
    /// The prefix that Traefik strips after the decision.
    pub strip_prefix: Option<String>,
    /// The policy and the requests as every engine knows them.
    pub file: CaseFile,
    /// What the requests have beyond that, in the same order.
    pub wires: Vec<Wired>,
}

/// What only a request on the wire has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wired {
    /// See the table above.
    pub uris: Option<Vec<String>>,
    /// See the table above.
    pub target: Option<String>,
    /// See the table above.
    pub lines: Vec<String>,
    /// See the table above.
    pub body: String,
    /// Whether `expect` is `any`.
    #[serde(skip)]
    pub any: bool,
    /// See the table above.
    pub arrives: Vec<String>,
    /// See the table above.
    pub never: Vec<String>,
}

/// The names of [`Wired`]'s fields in a file.
const WIRED: [&str; 6] = ["uris", "target", "lines", "body", "arrives", "never"];

/// Every file of `testdata/bypass`, by name.
pub fn files() -> Result<Vec<BypassFile>> {
    let folder = parts::root().join("testdata/bypass");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).context("a file without a name")?;
            let file = BypassFile::parse(name, &fs::read_to_string(&path)?);
            files.push(file.with_context(|| format!("reading {}", path.display()))?);
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

impl BypassFile {
    /// Reads the text of one file.
    pub fn parse(name: &str, text: &str) -> Result<BypassFile> {
        let mut value: Value = serde_saphyr::from_str(text)?;
        let fields = value.as_object_mut().context("the file is no mapping")?;
        let advisories = fields.remove("advisories").context("`advisories` is missing")?;
        let advisories = serde_json::from_value(advisories).context("reading `advisories`")?;
        let strip_prefix = fields.remove("stripPrefix").and_then(|prefix| prefix.as_str().map(str::to_owned));
        let requests = fields.get_mut("requests").and_then(Value::as_array_mut).context("`requests` is missing")?;
        let mut wires = Vec::new();
        for request in requests {
            let request = request.as_object_mut().context("a request is no mapping")?;
            let taken = WIRED.iter().filter_map(|field| request.remove_entry(*field)).collect();
            let mut wired: Wired = serde_json::from_value(Value::Object(taken)).context("reading a request")?;
            wired.any = request.get("expect").is_some_and(|expect| expect == "any");
            if wired.any {
                request.insert("expect".to_owned(), json!("deny"));
            }
            if let (Some(target), None) = (&wired.target, request.get("path")) {
                request.insert("path".to_owned(), json!(target));
            }
            wires.push(wired);
        }
        let mut file: CaseFile = serde_json::from_value(value).context("reading the policy tests")?;
        for (case, wired) in file.requests.iter_mut().zip(&mut wires) {
            let ordinary = case
                .headers
                .iter()
                .flat_map(|(name, values)| values.as_slice().iter().map(move |value| format!("{name}: {value}")));
            wired.lines = ordinary.chain(wired.lines.drain(..)).collect();
            case.headers = headers(&wired.head(case, "host"));
        }
        Ok(BypassFile { name: name.to_owned(), advisories, strip_prefix, file, wires })
    }
}

impl Wired {
    /// The URI names of the client's certificate; empty: no certificate.
    pub fn uris(&self, case: &Case) -> Vec<String> {
        self.uris.clone().unwrap_or_else(|| case.source.iter().cloned().collect())
    }

    /// Whether only the wire can show what comes of it.
    pub fn is_wire_only(&self) -> bool {
        self.uris.is_some() || self.any
    }

    /// What follows the head on the wire.
    pub fn body(&self) -> Vec<u8> {
        bytes(&self.body)
    }

    /// The request on the wire.
    pub fn head(&self, case: &Case, host: &str) -> Head {
        let mut head = Head::new(bytes(&case.method), bytes(self.target.as_ref().unwrap_or(&case.path)));
        if !self.lines.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            head = head.line(format!("Host: {host}"));
        }
        self.lines.iter().fold(head, |head, line| head.line(bytes(line)))
    }
}

/// A request that has arrived at the backend, as a case: what the policy says of its plain meaning.
pub fn arrived(case: &Case, head: &Head, path: &[u8]) -> Case {
    let mut case = case.clone();
    case.method = text(&head.method);
    case.path = escaped(path);
    case.headers = headers(head);
    case
}

/// Headers as a policy test has them, without the host.
fn headers(head: &Head) -> BTreeMap<String, Values> {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in head.unfolded() {
        if !name.eq_ignore_ascii_case(b"host") {
            headers.entry(text(&name).to_lowercase()).or_default().push(text(&value));
        }
    }
    headers.into_iter().map(|(name, values)| (name, Values::Many(values))).collect()
}

/// The bytes that a text in a file stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut buffer = [0; 4];
    text.chars()
        .flat_map(|c| {
            u8::try_from(c).map_or_else(|_| c.encode_utf8(&mut buffer).as_bytes().to_vec(), |byte| vec![byte])
        })
        .collect()
}

/// The other way round.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A decoded path in its plainest spelling.
fn escaped(path: &[u8]) -> String {
    let mut out = String::new();
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    out
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase()
}
