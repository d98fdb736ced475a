//! Names or values of headers as the host hands them over: one piece of memory, each element ended by a NUL.

use std::ffi::CStr;

/// A list of byte texts without NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    bytes: Vec<u8>,
    count: usize,
}

impl List {
    /// A list of `count` elements, as the host counts them. The bytes are not looked at.
    pub fn new(bytes: Vec<u8>, count: usize) -> Self {
        Self { bytes, count }
    }

    /// How many elements the host says there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements, in the host's order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            // Finds the NUL some bytes at a time.
            let element = CStr::from_bytes_until_nul(rest).ok()?.to_bytes();
            rest = rest.get(element.len() + 1..)?;
            Some(element)
        })
    }

    /// The only element; `None` when there are none or several.
    pub fn only(&self) -> Option<&[u8]> {
        if self.count == 1 { self.bytes.strip_suffix(&[0]) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_one_by_one_and_empty_ones_count() {
        let list = List::new(b"a\0\0bc\0".to_vec(), 3);
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        assert_eq!(list.only(), None);
        assert_eq!(List::default().iter().count(), 0);
    }

    #[test]
    fn one_element_is_the_only_one_even_when_it_is_empty() {
        assert_eq!(List::new(b"a\0".to_vec(), 1).only(), Some(&b"a"[..]));
        assert_eq!(List::new(b"\0".to_vec(), 1).only(), Some(&b""[..]));
        assert_eq!(List::new(Vec::new(), usize::MAX).only(), None);
        assert_eq!(List::default().only(), None);
    }
}
