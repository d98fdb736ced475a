//! `jwt-provider`: Consul's entry or the resource `JWTProvider` (consul-policy §4.6).
//!
//! A fault anywhere breaks the provider as a whole: no token of it passes. It is kept all the same, because its forwarding
//! header stays nobody's to send, and because intentions that name it must find it wanting rather than unknown.

mod keys;

use super::{
    duration,
    node::{Node, Object},
};
use portcullis_policy::{
    headers::is_token,
    jwt::{DEFAULT_CLOCK_SKEW, Forwarding, JwtProvider, KeySource, Location},
    model::DEFAULT_TENANCY,
    problem::{Problem, Severity},
};

const ENTRY_KEYS: [&str; 15] = [
    "kind",
    "name",
    "namespace",
    "partition",
    "meta",
    "createindex",
    "modifyindex",
    "hash",
    "issuer",
    "audiences",
    "jsonwebkeyset",
    "locations",
    "forwarding",
    "clockskewseconds",
    "cacheconfig",
];
const RESOURCE_KEYS: [&str; 5] = ["kind", "apiversion", "metadata", "spec", "status"];
/// Longest name or text, in bytes.
const MAX_TEXT: usize = 4096;
/// Most locations and audiences: each is looked at for every request.
const MAX_LIST: usize = 32;
/// Largest accepted clock skew, in seconds: a day. Beyond it, times would mean nothing.
const MAX_CLOCK_SKEW: u64 = 24 * 3600;

/// Reads one entry or resource; `None` when it has no name.
pub(super) fn read(object: &Object<'_>, entry: &Node<'_>, problems: &mut Vec<Problem>) -> Option<JwtProvider> {
    let spec = object.filled("spec").filter(|_| object.get("metadata").is_some());
    let metadata = object.get("metadata").and_then(|it| it.try_object());
    let named = if spec.is_some() { metadata.as_ref() } else { Some(object) };
    let name = named.and_then(|it| it.filled("name"));
    let name = name.as_ref().and_then(Node::text).filter(|name| name.len() <= MAX_TEXT && *name != "*");
    let Some(name) = name else {
        problems.push(entry.problem(
            Severity::Error,
            "the provider has no Name; it is not used",
            "intentions refer to it by name",
        ));
        return None;
    };
    let mut reader = Reader { problems, broken: false };
    let provider = match &spec {
        None => reader.provider(name, object, entry),
        Some(spec) => {
            reader.only(object, &RESOURCE_KEYS);
            match reader.object(spec) {
                Some(fields) => reader.provider(name, &fields, spec),
                None => reader.provider(name, object, spec),
            }
        }
    };
    Some(provider)
}

/// Collects problems, each of which breaks the provider.
struct Reader<'p> {
    problems: &'p mut Vec<Problem>,
    broken: bool,
}

impl Reader<'_> {
    fn provider(&mut self, name: &str, fields: &Object<'_>, entry: &Node<'_>) -> JwtProvider {
        self.only(fields, &ENTRY_KEYS);
        for tenancy in ["namespace", "partition"] {
            if let Some(node) = fields.filled(tenancy)
                && node.text() != Some(DEFAULT_TENANCY)
            {
                self.fault(&node, "a provider is in the default namespace and partition", "");
            }
        }
        let issuer = self.text(fields, "issuer").unwrap_or_default();
        if issuer.is_empty() {
            // Consul accepts it, and no token ever passes (consul-policy §4.1).
            self.fault(
                entry,
                "the provider has no Issuer, so no token of it passes",
                "set Issuer to the tokens' `iss`",
            );
        }
        let locations = self.list(fields, "locations");
        let provider = JwtProvider {
            name: name.to_owned(),
            issuer,
            audiences: self.audiences(fields),
            keys: self.keys(fields, entry),
            locations: locations.iter().filter_map(|location| self.location(location)).collect(),
            forwarding: fields.filled("forwarding").and_then(|node| self.forwarding(&node)),
            clock_skew: self.clock_skew(fields),
            cache_size: self.cache_size(fields),
            broken: false,
        };
        JwtProvider { broken: self.broken, ..provider }
    }

    fn audiences(&mut self, fields: &Object<'_>) -> Vec<String> {
        let Some(node) = fields.filled("audiences") else { return Vec::new() };
        let texts = node.try_list().and_then(|list| list.iter().map(Node::text).collect::<Option<Vec<_>>>());
        match texts {
            Some(texts) if texts.len() <= MAX_LIST => texts.into_iter().map(str::to_owned).collect(),
            _ => {
                self.fault(&node, "Audiences must be a list of at most 32 texts", "");
                Vec::new()
            }
        }
    }

    fn clock_skew(&mut self, fields: &Object<'_>) -> u64 {
        // Consul fills in 30 when an entry is written with 0 or none.
        match self.number(fields, "clockskewseconds") {
            0 => DEFAULT_CLOCK_SKEW,
            seconds if seconds <= MAX_CLOCK_SKEW => seconds,
            _ => {
                if let Some(node) = fields.get("clockskewseconds") {
                    self.fault(&node, "the clock skew is above a day", "");
                }
                DEFAULT_CLOCK_SKEW
            }
        }
    }

    fn cache_size(&mut self, fields: &Object<'_>) -> u64 {
        let Some(cache) = self.inner(fields, "cacheconfig") else { return 0 };
        self.only(&cache, &["size"]);
        self.number(&cache, "size")
    }

    fn location(&mut self, node: &Node<'_>) -> Option<Location> {
        let location = self.object(node)?;
        let parts = ["header", "queryparam", "cookie"];
        self.only(&location, &parts);
        let mut found = parts.into_iter().filter_map(|part| Some((part, location.filled(part)?)));
        let (Some((kind, part)), None) = (found.next(), found.next()) else {
            self.fault(node, "a location is exactly one of Header, QueryParam and Cookie", "");
            return None;
        };
        let fields = self.object(&part)?;
        self.only(&fields, if kind == "header" { &["name", "valueprefix", "forward"] } else { &["name"] });
        let name = self.text(&fields, "name").unwrap_or_default();
        if name.is_empty() || (kind != "queryparam" && !is_token(&name)) {
            self.fault(&part, "the location has no Name, or one that cannot be a header's or a cookie's", "");
            return None;
        }
        Some(match kind {
            "header" => Location::Header {
                name: name.to_ascii_lowercase(),
                prefix: self.text(&fields, "valueprefix").unwrap_or_default(),
                forward: self.truth(&fields, "forward"),
            },
            "queryparam" => Location::Query(name),
            _ => Location::Cookie(name),
        })
    }

    fn forwarding(&mut self, node: &Node<'_>) -> Option<Forwarding> {
        let fields = self.object(node)?;
        self.only(&fields, &["headername", "padforwardpayloadheader"]);
        let header = self.text(&fields, "headername").filter(|name| is_token(name));
        if header.is_none() {
            self.fault(node, "Forwarding needs a HeaderName that can be a header's", "");
        }
        Some(Forwarding {
            header: header?.to_ascii_lowercase(),
            padded: self.truth(&fields, "padforwardpayloadheader"),
        })
    }

    // === parts of any kind ===

    fn fault(&mut self, node: &Node<'_>, what: &str, hint: &str) {
        self.broken = true;
        self.problems.push(node.problem(Severity::Error, &format!("{what}; the provider is not used"), hint));
    }

    /// Keys that are not known may narrow what passes.
    fn only(&mut self, object: &Object<'_>, known: &[&str]) {
        for node in object.unknown(known) {
            self.fault(&node, "this field is not known, or stands there twice", "remove it, or upgrade Portcullis");
        }
    }

    fn object<'a>(&mut self, node: &Node<'a>) -> Option<Object<'a>> {
        let object = node.try_object();
        if object.is_none() {
            self.fault(node, "an object was expected here", "");
        }
        object
    }

    /// The object under a key, if there is one.
    fn inner<'a>(&mut self, object: &Object<'a>, key: &str) -> Option<Object<'a>> {
        object.filled(key).and_then(|node| self.object(&node))
    }

    fn list<'a>(&mut self, object: &Object<'a>, key: &str) -> Vec<Node<'a>> {
        let Some(node) = object.filled(key) else { return Vec::new() };
        let list = node.try_list().filter(|list| list.len() <= MAX_LIST);
        if list.is_none() {
            self.fault(&node, "a list of at most 32 elements was expected here", "");
        }
        list.unwrap_or_default()
    }

    /// The text under a key; `None` when it is absent, empty or none.
    fn text(&mut self, object: &Object<'_>, key: &str) -> Option<String> {
        let node = object.filled(key)?;
        let text = node.text().filter(|text| text.len() <= MAX_TEXT);
        if text.is_none() {
            self.fault(&node, "a text of at most 4096 bytes was expected here", "");
        }
        text.map(str::to_owned)
    }

    fn number(&mut self, object: &Object<'_>, key: &str) -> u64 {
        let Some(node) = object.filled(key) else { return 0 };
        node.value().as_u64().unwrap_or_else(|| {
            self.fault(&node, "a whole number from 0 on was expected here", "");
            0
        })
    }

    fn truth(&mut self, object: &Object<'_>, key: &str) -> bool {
        let Some(node) = object.filled(key) else { return false };
        node.value().as_bool().unwrap_or_else(|| {
            self.fault(&node, "`true` or `false` was expected here", "");
            false
        })
    }

    /// A duration in nanoseconds: Consul's API writes the number, people write `30m`.
    fn duration(&mut self, object: &Object<'_>, key: &str) -> u64 {
        let Some(node) = object.filled(key) else { return 0 };
        node.value().as_u64().or_else(|| node.text().and_then(duration::nanoseconds)).unwrap_or_else(|| {
            self.fault(&node, "a duration such as `5m` or a number of nanoseconds was expected here", "");
            0
        })
    }

    fn keys(&mut self, fields: &Object<'_>, entry: &Node<'_>) -> KeySource {
        keys::read(self, fields, entry)
    }
}

#[cfg(test)]
mod tests;
