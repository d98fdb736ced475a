//! Claims, and when one holds (consul-policy §4.1).

use serde_json::Value;

/// The verified claims of a request, by one provider. Where a request carries several tokens of the provider, a claim is
/// what all of them say: who holds two tokens may not pick the better half of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    first: Value,
    others: Vec<Value>,
}

impl Claims {
    /// Claims that somebody else verified; `None` unless it is an object.
    pub fn from_value(claims: Value) -> Option<Self> {
        claims.is_object().then_some(Self { first: claims, others: Vec::new() })
    }

    /// Claims that one more token of the same provider makes.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.others.push(other.first);
        self.others.extend(other.others);
        self
    }

    /// The claim at this path: one key of nested objects for each element, taken whole, dots and slashes included. `None`
    /// when there is none, or when several tokens disagree.
    pub fn get(&self, path: &[String]) -> Option<&Value> {
        let found = at(&self.first, path)?;
        self.others.iter().all(|other| at(other, path) == Some(found)).then_some(found)
    }

    /// Whether the claim at this path is this text or a list that contains it, in every token. Case-sensitive; numbers,
    /// truth values, null and objects never are.
    pub fn holds(&self, path: &[String], value: &str) -> bool {
        [&self.first].into_iter().chain(&self.others).all(|claims| match at(claims, path) {
            Some(Value::String(text)) => text == value,
            Some(Value::Array(list)) => list.iter().any(|it| it.as_str() == Some(value)),
            _ => false,
        })
    }
}

fn at<'a>(claims: &'a Value, path: &[String]) -> Option<&'a Value> {
    // No path: no claim, and not all of them.
    path.first()?;
    path.iter().try_fold(claims, |value, key| value.as_object()?.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn a_claim_holds_when_it_is_the_text_or_a_list_with_it() {
        let claims = json!({
            "role": "admin", "perms": {"role": ["a", "b", 1, null], "deep": {"x": "y"}}, "n": 1, "t": true, "none": null,
            "https://corp.example/role": "r", "a.b": "dots", "empty": "", "list": [["admin"]],
        });
        let claims = Claims::from_value(claims).unwrap();
        for (keys, value) in [
            (&["role"][..], "admin"),
            (&["perms", "role"], "b"),
            (&["perms", "deep", "x"], "y"),
            (&["https://corp.example/role"], "r"),
            (&["a.b"], "dots"),
            (&["empty"], ""),
        ] {
            assert!(claims.holds(&path(keys), value), "{keys:?}");
        }
        for (keys, value) in [
            (&["role"][..], "Admin"),
            (&["role"], "adm"),
            (&["role"], ""),
            (&["perms", "role"], "c"),
            (&["perms", "role"], "1"),
            (&["perms", "role"], "null"),
            (&["perms", "role", "0"], "a"),
            (&["perms"], "role"),
            (&["n"], "1"),
            (&["t"], "true"),
            (&["none"], "null"),
            (&["none"], ""),
            (&["missing"], ""),
            (&["a", "b"], "dots"),
            (&["list"], "admin"),
            (&[], ""),
            (&[""], ""),
        ] {
            assert!(!claims.holds(&path(keys), value), "{keys:?} {value}");
        }
    }

    #[test]
    fn only_an_object_is_claims() {
        for value in [json!(null), json!([]), json!("a"), json!(1)] {
            assert!(Claims::from_value(value).is_none());
        }
    }

    #[test]
    fn of_several_tokens_a_claim_is_what_all_say() {
        let one = Claims::from_value(json!({"sub": "joe", "role": ["a", "b"], "x": "1"})).unwrap();
        let other = Claims::from_value(json!({"sub": "joe", "role": ["b", "c"]})).unwrap();
        let both = one.and(other);
        assert_eq!(both.get(&path(&["sub"])), Some(&json!("joe")));
        assert_eq!(both.get(&path(&["role"])), None);
        assert!(both.holds(&path(&["role"]), "b"));
        assert!(!both.holds(&path(&["role"]), "a"));
        assert!(!both.holds(&path(&["x"]), "1"));
    }
}
