//! STUB
#![allow(missing_docs)]
use crate::{change::Change, headers::Headers, memory::Memory, problem::Problem};
use serde_json::Value;
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProviderRecord {}
impl ProviderRecord {
    pub fn stripped_header(&self) -> Option<&str> {
        None
    }
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtProvider {
    pub name: String,
}
pub fn compile(_: &JwtProvider, _: Option<&[u8]>, _: &mut Vec<Problem>) -> ProviderRecord {
    ProviderRecord {}
}
#[derive(Debug)]
pub enum Checked {
    Missing,
    Invalid(Rejected),
    Valid(Verified),
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Rejected;
#[derive(Debug)]
pub struct Verified {
    pub claims: Claims,
    pub changes: Vec<Change>,
}
#[derive(Debug, Clone)]
pub struct Claims(Value);
impl Claims {
    pub fn from_value(value: Value) -> Option<Self> {
        value.is_object().then_some(Self(value))
    }
    pub fn get(&self, path: &[String]) -> Option<&Value> {
        let mut v = &self.0;
        if path.is_empty() {
            return None;
        }
        for k in path {
            v = v.as_object()?.get(k)?;
        }
        Some(v)
    }
    pub fn holds(&self, path: &[String], value: &str) -> bool {
        match self.get(path) {
            Some(Value::String(s)) => s == value,
            Some(Value::Array(l)) => l.iter().any(|it| it.as_str() == Some(value)),
            _ => false,
        }
    }
}
pub struct TokenRequest<'a> {
    pub headers: &'a dyn Headers,
    pub uri: &'a str,
    pub now: u64,
}
pub fn check(_: &ProviderRecord, _: &TokenRequest<'_>, _: &dyn Memory) -> Checked {
    Checked::Missing
}
