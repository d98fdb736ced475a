//! `Key`: what tells the buckets of a limit apart.

use portcullis_policy::{headers, limit::rule::KeyPart};

use super::Reader;
use crate::read::node::{Node, Object, fold};

/// Headers that hold secrets, which a key would show to whoever looks at the buckets.
const SECRETS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Headers that are for the next neighbour on the way, and the one that names the destination in letters of any case.
const NOT_END_TO_END: [&str; 8] =
    ["host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

impl Reader<'_> {
    /// The parts; none is one bucket for all.
    pub(super) fn key(&mut self, object: &Object<'_>) -> Vec<KeyPart> {
        let list = self.list(object, "key");
        list.iter().filter_map(|it| self.key_part(it)).collect()
    }

    fn key_part(&mut self, node: &Node<'_>) -> Option<KeyPart> {
        if let Some(word) = node.text() {
            let part = match fold(word).as_str() {
                "source" => Some(KeyPart::Source),
                "destination" => Some(KeyPart::Destination),
                "route" => Some(KeyPart::Route),
                "clientaddress" => Some(KeyPart::ClientAddress { v4: 32, v6: 64 }),
                _ => None,
            };
            if part.is_none() {
                self.no_part(node);
            }
            return part;
        }
        let object = self.object(node)?;
        self.only(&object, &["claim", "header", "clientaddress"]);
        match (object.filled("claim"), object.filled("header"), object.filled("clientaddress")) {
            (Some(claim), None, None) => {
                let fields = self.object(&claim)?;
                self.only(&fields, &["provider", "path"]);
                let (provider, path) = self.claim(&fields, &claim)?;
                Some(KeyPart::Claim { provider, path })
            }
            (None, Some(header), None) => self.header_part(&header),
            (None, None, Some(address)) => {
                let fields = self.object(&address)?;
                self.only(&fields, &["ipv4prefix", "ipv6prefix"]);
                Some(KeyPart::ClientAddress {
                    v4: self.prefix_len(&fields, "ipv4prefix", 32, 32)?,
                    v6: self.prefix_len(&fields, "ipv6prefix", 64, 128)?,
                })
            }
            _ => {
                self.no_part(node);
                None
            }
        }
    }

    fn no_part(&mut self, node: &Node<'_>) {
        let hint =
            "known are source, destination, route, client-address, {Claim: …}, {Header: …} and {ClientAddress: …}";
        self.fault(node, "this is no part of a key", hint);
    }

    fn header_part(&mut self, node: &Node<'_>) -> Option<KeyPart> {
        let name = node.text().map(str::to_ascii_lowercase).filter(|name| headers::is_token(name));
        match name {
            None => self.fault(node, "this is no name of a header", ""),
            Some(name) if SECRETS.contains(&name.as_str()) => {
                self.fault(node, "this header holds secrets, and keys are shown", "use `source` or a claim");
            }
            Some(name) if NOT_END_TO_END.contains(&name.as_str()) => {
                self.fault(node, "this header cannot tell callers apart", "");
            }
            Some(name) => return Some(KeyPart::Header(name)),
        }
        None
    }

    fn prefix_len(&mut self, fields: &Object<'_>, key: &str, otherwise: u8, most: u8) -> Option<u8> {
        let Some(node) = fields.filled(key) else { return Some(otherwise) };
        let len = node.value().as_u64().and_then(|it| u8::try_from(it).ok()).filter(|it| *it <= most);
        if len.is_none() {
            self.fault(&node, &format!("the length of a prefix is from 0 to {most}"), "");
        }
        len
    }
}
