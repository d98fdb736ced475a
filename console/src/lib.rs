//! The policy core for browsers, `wasm32-unknown-unknown`: the text of a policy test file (JSON) in, the decisions out.
//! It is the same function that the plugin and `portcullis test` call, so a page that uses it cannot disagree with them.
//!
//! Plain exports (`exports`) and no wasm-bindgen yet: its command line takes five minutes of processor time to install,
//! which every clean check would pay, and text in and text out needs no glue. The module is run as it is, by wasmtime.

use portcullis_authoring::cases::{CaseFile, charge_json};
use serde_json::{Value, json};

#[cfg(target_arch = "wasm32")]
pub mod exports;

/// Longest text that is read, in bytes; a page that holds more has more than a test file.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// Decides every request of a policy test file (`docs/reference/policy-tests.md`, as JSON; `policyFrom` is refused, there are
/// no files here).
///
/// Answers a JSON array with one object for each request, in order: `{"index","verdict","rule","status","source",
/// "limits"}` (the charges, with rule, label, key, cost, amount, mode and scope); or, when the text is no such file, an object `{"error"}` with a sentence. Expectations are not looked at.
pub fn decisions(text: &str) -> String {
    decide_all(text).unwrap_or_else(|error| json!({"error": error})).to_string()
}

fn decide_all(text: &str) -> Result<Value, String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("the text is longer than {MAX_TEXT_BYTES} bytes"));
    }
    let file: CaseFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.policy_from.is_some() {
        return Err("`policyFrom` names a file, and there are none here".to_owned());
    }
    let runner = file.runner("console").map_err(|error| error.to_string())?;
    let answers = file.requests.iter().enumerate().map(|(index, case)| {
        let decision = file.run(&runner, case);
        let limits: Vec<_> = decision.charges.iter().map(charge_json).collect();
        json!({"index": index, "verdict": decision.verdict.as_str(), "rule": decision.rule, "status": decision.status,
            "source": decision.source, "limits": limits})
    });
    Ok(answers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_comes_for_each_request() {
        let text = r#"{"trustDomain": "td.consul",
            "policy": [{"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "web", "Action": "allow"}]}],
            "requests": [
                {"source": "spiffe://td.consul/ns/default/dc/dc1/svc/web", "destination": "db", "expect": "deny"},
                {"destination": "db", "expect": "deny"}]}"#;
        let want = json!([
            {"index": 0, "verdict": "allow", "rule": "service-intentions/db/sources/web", "status": 200, "source": "web",
                "limits": []},
            {"index": 1, "verdict": "deny", "rule": "default", "status": 401, "source": "anonymous",
                "limits": []}]);
        assert_eq!(serde_json::from_str::<Value>(&decisions(text)).unwrap(), want);
    }

    #[test]
    fn what_is_no_test_file_is_an_error_and_not_an_empty_answer() {
        for text in ["", "[]", "{}", r#"{"requests": [], "polcy": []}"#, r#"{"requests": [], "policyFrom": "x"}"#] {
            let answer: Value = serde_json::from_str(&decisions(text)).unwrap();
            assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{text}: {answer}");
        }
        assert!(decisions(&" ".repeat(MAX_TEXT_BYTES + 1)).contains("longer than"));
    }
}
