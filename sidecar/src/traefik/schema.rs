//! Which keys v3 knows, and what each takes: `v3.txt` as a tree.
//!
//! The list is what Traefik 3.7 reads from tags of its catalog provider, as `e2e/tests/tags.rs` holds it to. A key per line in
//! the spelling of the file provider, below its parent by one blank more; `*` is a name of the author's choice, `[]` an index.

use std::sync::LazyLock;

const TEXT: &str = include_str!("v3.txt");

static ROOT: LazyLock<Node> = LazyLock::new(|| {
    let mut lines = TEXT.lines().peekable();
    let children = children(&mut lines, 0);
    Node { name: "", kind: Kind::Group, is_indexed: false, children }
});

/// One key, or one level of keys.
#[derive(Debug)]
pub(super) struct Node {
    /// As the file provider spells it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it is written with an index, `name[0]`.
    pub(super) is_indexed: bool,
    children: Vec<Node>,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only keys below it.
    Group,
    /// Keys below it, or a boolean.
    Open,
    /// Anything, with anything below it: a plugin's own settings.
    Any,
    Text,
    Bool,
    Int,
    /// An integer that is not negative.
    Count,
    Duration,
    List,
    /// Entry points.
    Names,
    Reference,
    References,
    Regex,
    Regexes,
    Networks,
    Path,
    Header,
    Headers,
    /// A text below a header's name.
    HeaderText,
    /// Status codes and ranges of them.
    Statuses,
    HttpRule,
    TcpRule,
    /// One of these words, separated by blanks.
    One(&'static str),
}

/// The whole tree.
pub(super) fn root() -> &'static Node {
    &ROOT
}

impl Node {
    /// The node for a segment of a key, in any case.
    pub(super) fn child(&self, segment: &str) -> Option<&Node> {
        let named = self.children.iter().find(|child| child.name.eq_ignore_ascii_case(segment));
        named.or_else(|| self.children.iter().find(|child| child.name == "*"))
    }

    /// Whether the segment that led here is a name of the author's choice.
    pub(super) fn is_chosen(&self) -> bool {
        self.name == "*"
    }

    /// Whether something can stand below it.
    pub(super) fn is_level(&self) -> bool {
        !self.children.is_empty()
    }
}

fn children(lines: &mut std::iter::Peekable<std::str::Lines<'static>>, depth: usize) -> Vec<Node> {
    let mut found = Vec::new();
    while let Some(line) = lines.peek().copied() {
        let text = line.trim_start();
        if line.len() - text.len() != depth {
            break;
        }
        lines.next();
        let (name, kind) = text.split_once(' ').unwrap_or((text, ""));
        let (name, is_indexed) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        found.push(Node { name, kind: read_kind(kind), is_indexed, children: children(lines, depth + 1) });
    }
    found
}

fn read_kind(text: &'static str) -> Kind {
    if let Some(words) = text.strip_prefix("one(").and_then(|rest| rest.strip_suffix(')')) {
        return Kind::One(words);
    }
    match text {
        "" => Kind::Group,
        "open" => Kind::Open,
        "any" => Kind::Any,
        "text" => Kind::Text,
        "bool" => Kind::Bool,
        "int" => Kind::Int,
        "count" => Kind::Count,
        "duration" => Kind::Duration,
        "list" => Kind::List,
        "names" => Kind::Names,
        "reference" => Kind::Reference,
        "references" => Kind::References,
        "regex" => Kind::Regex,
        "regexes" => Kind::Regexes,
        "networks" => Kind::Networks,
        "path" => Kind::Path,
        "header" => Kind::Header,
        "headers" => Kind::Headers,
        "header-text" => Kind::HeaderText,
        "statuses" => Kind::Statuses,
        "http-rule" => Kind::HttpRule,
        "tcp-rule" => Kind::TcpRule,
        // The list is part of the program; a test reads all of it.
        other => unreachable!("{other:?} is no kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_list_is_read_and_keys_are_found_in_any_case() {
        fn count(node: &Node) -> usize {
            1 + node.children.iter().map(count).sum::<usize>()
        }
        assert_eq!(count(root()), TEXT.lines().count() + 1);
        let find = |key: &str| key.split('.').try_fold(root(), |node, segment| node.child(segment));
        assert_eq!(find("HTTP.Routers.x.RULE").map(|node| node.kind), Some(Kind::HttpRule));
        assert_eq!(find("http.middlewares.m.headers.customrequestheaders.X-A").unwrap().kind, Kind::HeaderText);
        assert!(find("http.routers.x.rul").is_none());
        // A service cannot choose its parents: that would be a way past the gate, and tags do not have the key.
        assert!(find("http.routers.x.parentrefs").is_none());
    }
}
