//! E1, E2: tags from annotations, before [`super::exposure`] decides what becomes of the routing ones.

use super::{annotations, options::SyncOptions, subject::Subject};

/// kubectl's copy of the whole manifest: never a tag, whatever prefix is asked for, and not kept.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A tag and what put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) text: String,
    /// An annotation's key, or an option.
    pub(super) from: String,
}

impl Tag {
    pub(super) fn new(text: impl Into<String>, from: impl Into<String>) -> Self {
        Self { text: text.into(), from: from.into() }
    }
}

/// Base tag, lists, then `key=value` of prefixed annotations in the order of their keys; no empties. Duplicates go
/// later, since the exposure can make two tags one.
pub(super) fn collect(subject: &Subject<'_>, options: &SyncOptions) -> Vec<Tag> {
    let mut tags = vec![Tag::new(&options.k8s_tag, "option k8sTag")];
    for list in options.annotation_tag_lists.iter().filter(|list| *list != LAST_APPLIED) {
        let items = subject.annotation(list).into_iter().flat_map(parse);
        tags.extend(items.map(|text| Tag::new(text, list)));
    }
    let lines = subject.annotation(annotations::TAGS).unwrap_or_default().lines().map(str::trim);
    tags.extend(lines.filter(|line| !line.starts_with('#')).map(|line| Tag::new(line, annotations::TAGS)));
    for (key, value) in subject.annotations.iter().filter(|(key, _)| *key != LAST_APPLIED) {
        let is_list = options.annotation_tag_lists.contains(key);
        if !is_list && options.annotation_tag_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())) {
            tags.push(Tag::new(format!("{key}={}", value.trim_end()), key));
        }
    }
    tags.retain(|tag| !tag.text.is_empty());
    tags
}

/// Removes duplicates, keeping the first of each.
pub(super) fn unique(tags: Vec<Tag>) -> Vec<Tag> {
    let mut seen = std::collections::BTreeSet::new();
    tags.into_iter().filter(|tag| seen.insert(tag.text.clone())).collect()
}

/// consul-k8s's list: commas separate, `\,` is a comma, any other backslash stays; each tag is trimmed.
fn parse(text: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut tag = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ',' => tags.push(std::mem::take(&mut tag)),
            '\\' if characters.next_if_eq(&',').is_some() => tag.push(','),
            other => tag.push(other),
        }
    }
    tags.push(tag);
    tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// The test table of consul-k8s's parsetags, and its quirk: blanks alone give no tag here.
    #[test]
    fn reads_tag_lists_as_consul_k8s_does() {
        let table: [(&str, &[&str]); 11] = [
            ("tag", &["tag"]),
            (",,removes,,empty,elems,,", &["removes", "empty", "elems"]),
            ("removes , white  ,space ", &["removes", "white", "space"]),
            ("\\,leading,comma", &[",leading", "comma"]),
            ("trailing,comma\\,", &["trailing", "comma,"]),
            ("mid\\,dle,com\\,ma", &["mid,dle", "com,ma"]),
            ("\\,\\,multi\\,\\,,\\,com\\,\\,ma", &[",,multi,,", ",com,,ma"]),
            ("a\\\\,b", &["a\\,b"]),
            ("a\\b", &["a\\b"]),
            ("a, ,b", &["a", "b"]),
            ("", &[]),
        ];
        for (text, tags) in table {
            assert_eq!(parse(text), tags, "{text}");
        }
    }
}
