//! The headers of the request at hand, as policy asks for them: a host call only for a header that is there.

use crate::{host::Host, names::Names};
use portcullis_policy::Headers;
use std::borrow::Cow;

/// See the module.
pub struct RequestHeaders<'a, H> {
    host: &'a H,
    /// Those that count.
    names: &'a Names<'a>,
}

impl<'a, H: Host> RequestHeaders<'a, H> {
    /// The headers with these names.
    pub fn new(host: &'a H, names: &'a Names<'a>) -> Self {
        Self { host, names }
    }
}

impl<H: Host> Headers for RequestHeaders<'_, H> {
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        if !self.names.has(name) {
            return Vec::new();
        }
        self.host.header_values(name).iter().map(|value| Cow::Owned(value.to_vec())).collect()
    }

    fn has_alias(&self, name: &str) -> bool {
        self.names.has_alias(name)
    }

    fn has_underscores(&self) -> bool {
        self.names.iter().any(|it| it.contains(&b'_'))
    }
}
