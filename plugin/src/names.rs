//! The names of a request's headers, found once and then asked about again and again.

use crate::list::List;
use portcullis_policy::headers::{same, shape};

/// See the module.
#[derive(Debug, Default)]
pub struct Names<'l> {
    /// Each with its shape.
    names: Vec<(u64, &'l [u8])>,
    /// All shapes.
    shapes: u64,
}

impl<'l> Names<'l> {
    /// All of a list, whose length its owner has bounded.
    pub fn new(list: &'l List) -> Self {
        let mut names = Self { names: Vec::with_capacity(list.len()), shapes: 0 };
        for name in list.iter() {
            let shape = shape(name);
            names.names.push((shape, name));
            names.shapes |= shape;
        }
        names
    }

    /// Each in turn, in the host's order.
    pub fn iter(&self) -> impl Iterator<Item = &'l [u8]> {
        self.names.iter().map(|(_, name)| *name)
    }

    /// Each in turn with its shape.
    pub fn shaped(&self) -> impl Iterator<Item = (u64, &'l [u8])> {
        self.names.iter().copied()
    }

    /// Forgets those that hold an underscore.
    pub fn drop_underscores(&mut self) {
        self.names.retain(|(_, name)| !name.contains(&b'_'));
    }

    /// Whether there is a header of exactly this name.
    pub fn has(&self, name: &str) -> bool {
        self.alike(name).any(|it| it == name.as_bytes())
    }

    /// Whether there is one that a lenient backend takes for it, but is spelled otherwise.
    pub fn has_alias(&self, name: &str) -> bool {
        self.alike(name).any(|it| same(it, name) && it != name.as_bytes())
    }

    /// Those that may be the same as this one to a lenient backend.
    fn alike(&self, name: &str) -> impl Iterator<Item = &'l [u8]> {
        let wanted = shape(name);
        let names = if self.shapes & wanted == 0 { &[] } else { self.names.as_slice() };
        names.iter().filter(move |(shape, _)| *shape == wanted).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_aliases_are_told_apart() {
        let list = List::new(b"host\0x_team\0x-role\0".to_vec(), 3);
        let mut names = Names::new(&list);
        assert!(names.has("host") && names.has("x-role") && names.has("x_team"));
        assert!(!names.has("x-team") && !names.has("accept"));
        assert!(names.has_alias("x-team") && !names.has_alias("x-role") && !names.has_alias("accept"));
        names.drop_underscores();
        assert!(!names.has("x_team") && !names.has_alias("x-team"));
        assert_eq!(names.iter().collect::<Vec<_>>(), [b"host".as_slice(), b"x-role"]);
    }
}
