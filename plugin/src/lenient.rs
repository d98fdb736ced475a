//! Values of the middleware's configuration as Traefik's providers deliver them.
//!
//! A tag, a label or a KV entry makes every leaf a string; the file provider turns scalars into strings and has leaked
//! its internal list form `║24║a║b` (traefik/traefik issue 9818); a Kubernetes resource keeps JSON's types. So each
//! reader here takes every form that means the same, and answers `None` to everything else.

use serde_json::Value;

/// What the file provider's internal list form begins and separates with.
const LIST_MARK: char = '\u{2551}';

/// A scalar as text. A number with a fraction means nothing in any setting.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Some(number.to_string()),
            (None, Some(number)) => Some(number.to_string()),
            (None, None) => None,
        },
        Value::Bool(on) => Some((if *on { "true" } else { "false" }).to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number; the file provider may write `200` as `"200.000000"`.
pub fn whole(value: &Value) -> Option<u64> {
    let text = text(value)?;
    let digits = match text.split_once('.') {
        Some((digits, zeros)) if zeros.bytes().all(|b| b == b'0') => digits,
        Some(_) => return None,
        None => &text,
    };
    // `u64::from_str` also takes a leading `+`, which nothing writes.
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// A switch, in the spellings of Go's `ParseBool`, which Traefik uses everywhere.
pub fn switch(value: &Value) -> Option<bool> {
    match text(value)?.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A list of texts: an array of scalars, one text with commas, or the internal form. Empty items are dropped.
pub fn list(value: &Value) -> Option<Vec<String>> {
    if let Value::Array(items) = value {
        return items.iter().map(text).collect();
    }
    let text = text(value)?;
    let items = marked(&text).unwrap_or_else(|| text.split(',').map(str::trim).map(str::to_owned).collect());
    Some(items.into_iter().filter(|item| !item.is_empty()).collect())
}

/// Undoes the internal list form everywhere inside a structure.
pub fn restore(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(items) = marked(text) {
                *value = Value::Array(items.into_iter().map(Value::String).collect());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(restore),
        Value::Object(fields) => fields.values_mut().for_each(restore),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The items of `║<kind>║a║b`, where the kind is Go's number of the element type.
fn marked(text: &str) -> Option<Vec<String>> {
    let (kind, items) = text.strip_prefix(LIST_MARK)?.split_once(LIST_MARK)?;
    kind.bytes().all(|b| b.is_ascii_digit()).then(|| items.split(LIST_MARK).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_read_in_every_form() {
        assert_eq!(text(&json!(" a ")).as_deref(), Some("a"));
        assert_eq!(text(&json!(3)).as_deref(), Some("3"));
        assert_eq!(text(&json!(-3)).as_deref(), Some("-3"));
        assert_eq!(text(&json!({})), None);
        assert_eq!(text(&json!(1.5)), None);
        assert_eq!(whole(&json!(200)), Some(200));
        assert_eq!(whole(&json!("200")), Some(200));
        assert_eq!(whole(&json!("200.000000")), Some(200));
        assert_eq!(switch(&json!(true)), Some(true));
        assert_eq!(switch(&json!("F")), Some(false));
    }

    #[test]
    fn doubtful_scalars_are_refused() {
        for bad in [json!("1.5"), json!("-1"), json!("+1"), json!(""), json!("ten"), json!(null), json!("1e3")] {
            assert_eq!(whole(&bad), None, "{bad}");
        }
        assert_eq!(switch(&json!("yes")), None);
        assert_eq!(switch(&json!([])), None);
    }

    #[test]
    fn lists_are_read_in_every_form() {
        let expected = Some(vec!["a".to_owned(), "b".to_owned()]);
        for form in [json!(["a", "b"]), json!("a, b,"), json!("║24║a║b")] {
            assert_eq!(list(&form), expected, "{form}");
        }
        assert_eq!(list(&json!("")), Some(Vec::new()));
        assert_eq!(list(&json!([[]])), None);
    }

    #[test]
    fn the_leaked_list_form_is_undone_inside_a_structure() {
        for (mut given, wanted) in [
            (json!({"http": [{"methods": "║24║GET║POST"}]}), json!({"http": [{"methods": ["GET", "POST"]}]})),
            (json!("║x║a"), json!("║x║a")),
        ] {
            restore(&mut given);
            assert_eq!(given, wanted);
        }
    }
}
