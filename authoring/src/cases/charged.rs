//! The limits that a request must be charged to.

use serde::Deserialize;

use portcullis_policy::{
    limit::{Charge, Scope},
    model::Mode,
};

/// One limit: its rule alone, or what of its charge matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Charged {
    /// The rule's full name.
    Rule(String),
    /// The rule, and some of the rest.
    Charge(Expectation),
}

/// What of a charge must be so; what is not given may be as it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// The rule's full name.
    pub rule: String,
    /// The bucket's label.
    #[serde(default)]
    pub label: Option<String>,
    /// Units that the request takes.
    #[serde(default)]
    pub cost: Option<u32>,
    /// What is allowed, in the words of `explain`.
    #[serde(default)]
    pub amount: Option<String>,
    /// `enforce` or `shadow`.
    #[serde(default)]
    pub mode: Option<String>,
    /// `host` or `global`.
    #[serde(default)]
    pub scope: Option<String>,
}

/// What differs between the limits that are expected and those that are charged; empty when nothing does.
pub(super) fn differences(expected: &[Charged], charges: &[Charge]) -> Vec<String> {
    let rules: Vec<_> = expected.iter().map(Charged::rule).collect();
    let found: Vec<_> = charges.iter().map(|charge| charge.rule.as_str()).collect();
    if rules != found {
        return vec![format!("expected limits [{}], got [{}]", rules.join(", "), found.join(", "))];
    }
    expected.iter().zip(charges).flat_map(|(expected, charge)| expected.differences(charge)).collect()
}

impl Charged {
    fn rule(&self) -> &str {
        match self {
            Self::Rule(rule) | Self::Charge(Expectation { rule, .. }) => rule,
        }
    }

    fn differences(&self, charge: &Charge) -> Vec<String> {
        let Self::Charge(Expectation { rule, label, cost, amount, mode, scope }) = self else { return Vec::new() };
        let pairs = [
            ("label", label.clone(), charge.label.clone()),
            ("cost", cost.map(|it| it.to_string()), charge.cost.to_string()),
            ("amount", amount.clone(), charge.amount.to_string()),
            ("mode", mode.clone(), mode_word(charge.mode).to_owned()),
            ("scope", scope.clone(), scope_word(charge.scope).to_owned()),
        ];
        let differs = |(what, expected, found): (&str, Option<String>, String)| {
            let expected = expected.filter(|it| *it != found)?;
            Some(format!("expected {rule} with {what} {expected:?}, got {found:?}"))
        };
        pairs.into_iter().filter_map(differs).collect()
    }
}

/// A mode as it is written.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
        Mode::Off => "off",
    }
}

/// A scope as it is written.
pub fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Host => "host",
        Scope::Global => "global",
    }
}

/// A charge as commands and engines print it.
pub fn charge_json(charge: &Charge) -> serde_json::Value {
    serde_json::json!({
        "rule": charge.rule, "label": charge.label, "key": format!("{:016x}", charge.key), "cost": charge.cost,
        "amount": charge.amount.to_string(), "mode": mode_word(charge.mode), "scope": scope_word(charge.scope),
    })
}
