//! JSON that can be read in one way only: an object with the same key twice is none, at any depth. Of two readers, one
//! takes the first and the other the last.

use serde_json::{Map, Value};

/// Most objects and lists inside each other. Tokens have a handful.
const MAX_DEPTH: usize = 16;

/// Reads an object; `None` when the text is none, is ambiguous, too deep, or holds a number beyond an `f64`.
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    // First, for the reader descends into whatever it is given, and the stack of the plugin is small.
    let n_written = n_members(text)?;
    let value = crate::json::parse(text).ok()?;
    // Of a repeated key the reader keeps the last value only.
    if n_kept(&value) != n_written {
        return None;
    }
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// How many members the objects in a JSON text have: the colons outside of texts. `None` when it is too deep. Means nothing
/// of what is no JSON.
fn n_members(json: &[u8]) -> Option<usize> {
    let (mut n, mut depth, mut in_text, mut escaped) = (0, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b':' => n += 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
    }
    Some(n)
}

fn n_kept(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(n_kept).sum::<usize>(),
        Value::Array(list) => list.iter().map(n_kept).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            "{}",
            r#" { "a" : [1,-2,1.5,true,null,"\u0061\n",{"b":{}}],"c":18446744073709551615}"#,
            r#"{"a:b":":::","\"":"\":\\","c":["\\",":"],"\\":{":":1}}"#,
        ] {
            assert_eq!(object(text.as_bytes()).map(Value::Object), serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_object_or_can_be_read_in_two_ways() {
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{} {}",
            "{}x",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"a":1,"b":2,"a":3}]}"#,
            r#"{"x":{"a":{},"a":{}}}"#,
            r#"{"a:\\":1,"a:\\":1}"#,
            r#"{"":1,"":1}"#,
            r#"{"a":1e999999}"#,
            r#"{"a":-1e400}"#,
            r#"{"a":NaN}"#,
            r#"{"a":01}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{0}\"}",
        ] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
        assert!(object(b"\xef\xbb\xbf{}").is_none());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(object(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(object("{\"a\":".repeat(5000).as_bytes()).is_none());
    }

    #[test]
    fn a_number_of_thousands_of_digits_costs_no_more_than_its_length() {
        for text in [format!("{{\"a\":{}}}", "9".repeat(16_000)), format!("{{\"a\":1e{}}}", "9".repeat(16_000))] {
            assert!(object(text.as_bytes()).is_none());
        }
        assert!(object(format!("{{\"a\":0.{}}}", "9".repeat(16_000)).as_bytes()).is_some());
    }

    fn values() -> impl Strategy<Value = String> {
        let text = proptest::collection::vec(prop_oneof![Just(':'), Just('"'), Just('\\'), Just('a')], 0..4);
        let text = text.prop_map(|it| Value::String(it.into_iter().collect()).to_string());
        text.clone().prop_recursive(4, 24, 4, move |inner| {
            let member = (text.clone(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(","))),
                proptest::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(" , "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_is_read_unless_its_text_is_longer_than_what_it_keeps(text in values()) {
            // Written without spaces, what was read is as long as what was written, or a member was lost.
            let read = serde_json::from_str::<Value>(&text).unwrap();
            let lost = read.to_string().len() != text.replace(" , ", ",").len();
            prop_assert_eq!(object(text.as_bytes()).is_some(), read.is_object() && !lost);
        }
    }
}
