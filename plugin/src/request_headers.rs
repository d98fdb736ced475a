//! The headers of the request at hand, as policy asks for them: a host call only for a header that is there.

use crate::{host::Host, list::List};
use portcullis_policy::{Headers, headers::same};
use std::borrow::Cow;

/// See the module.
pub struct RequestHeaders<'a, H> {
    host: &'a H,
    names: &'a List,
    /// Names with an underscore do not count: they are taken out.
    drops_underscores: bool,
}

impl<'a, H: Host> RequestHeaders<'a, H> {
    /// The headers with these names.
    pub fn new(host: &'a H, names: &'a List, drops_underscores: bool) -> Self {
        Self { host, names, drops_underscores }
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().filter(|name| !(self.drops_underscores && name.contains(&b'_')))
    }
}

impl<H: Host> Headers for RequestHeaders<'_, H> {
    fn values(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        if !self.names().any(|it| it == name.as_bytes()) {
            return Vec::new();
        }
        self.host.header_values(name).iter().map(|value| Cow::Owned(value.to_vec())).collect()
    }

    fn has_alias(&self, name: &str) -> bool {
        self.names().any(|it| same(it, name) && it != name.as_bytes())
    }

    fn has_underscores(&self) -> bool {
        self.names().any(|it| it.contains(&b'_'))
    }
}
