//! The answers' fields about limits, read by a parser of structured fields (RFC 9651) that is not ours, and held to what
//! draft-ietf-httpapi-ratelimit-headers demands of them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hyper::header::HeaderMap;
use sfv::{BareItem, List, ListEntry, Parser};

/// A member of `RateLimit-Policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What `RateLimit` calls it, too.
    pub name: String,
    /// The quota, `q`.
    pub quota: u64,
    /// Its unit, `qu`; `requests` if it is not there.
    pub unit: String,
    /// The window in seconds, `w`.
    pub window: Option<u64>,
}

/// A member of `RateLimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The policy that it is about.
    pub name: String,
    /// What is left, `r`.
    pub remaining: u64,
    /// The seconds after which more is there, `t`.
    pub after: Option<u64>,
}

/// What one answer says of limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// `RateLimit-Policy`.
    pub policies: Vec<Policy>,
    /// `RateLimit`.
    pub left: Vec<Left>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Fields {
    /// Of an answer. Fields that are not there are empty.
    pub fn read(headers: &HeaderMap) -> Result<Fields> {
        let mut fields = Fields::default();
        for (name, mut parameters) in members(headers, "ratelimit-policy")? {
            let quota = parameters.number("q")?.with_context(|| format!("{name}: no quota"))?;
            let unit = parameters.text("qu")?.unwrap_or_else(|| "requests".to_owned());
            let window = parameters.number("w")?;
            parameters.bytes("pk")?;
            parameters.over()?;
            fields.policies.push(Policy { name, quota, unit, window });
        }
        for (name, mut parameters) in members(headers, "ratelimit")? {
            let remaining = parameters.number("r")?.with_context(|| format!("{name}: nothing about what remains"))?;
            let after = parameters.number("t")?;
            parameters.bytes("pk")?;
            parameters.over()?;
            ensure!(fields.policies.iter().any(|policy| policy.name == name), "{name} is no policy");
            fields.left.push(Left { name, remaining, after });
        }
        if let Some(value) = headers.get("retry-after") {
            let seconds: u64 = value.to_str()?.parse().context("Retry-After")?;
            ensure!(seconds >= 1, "Retry-After: {seconds}");
            fields.retry_after = Some(Duration::from_secs(seconds));
        }
        Ok(fields)
    }

    /// How long a client that obeys has to wait before the next request of one unit.
    pub fn wait(&self) -> Duration {
        let empty = self.left.iter().filter(|left| left.remaining == 0);
        let wait = empty.map(|left| Duration::from_secs(left.after.unwrap_or(1))).max().unwrap_or_default();
        wait.max(self.retry_after.unwrap_or_default())
    }
}

/// The parameters of a member that were not looked at yet.
struct Parameters(Vec<(String, BareItem)>);

impl Parameters {
    fn take(&mut self, name: &str) -> Option<BareItem> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(BareItem::Integer(number)) => Ok(Some(i64::from(number).try_into().context("a negative number")?)),
            Some(other) => bail!("{name} is no integer: {other:?}"),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(BareItem::String(text)) => Ok(Some(text.as_str().to_owned())),
            Some(other) => bail!("{name} is no string: {other:?}"),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<()> {
        match self.take(name) {
            None | Some(BareItem::ByteSequence(_)) => Ok(()),
            Some(other) => bail!("{name} is no byte sequence: {other:?}"),
        }
    }

    /// What is left is an implementation's own, which the draft wants to begin with its name.
    fn over(self) -> Result<()> {
        let known = |(name, _): &(String, BareItem)| name.starts_with("portcullis-");
        ensure!(self.0.iter().all(known), "parameters that the draft does not know: {:?}", self.0);
        Ok(())
    }
}

/// The members of a field, each a string with parameters, no name twice.
fn members(headers: &HeaderMap, field: &str) -> Result<Vec<(String, Parameters)>> {
    let lines = headers.get_all(field).iter().map(|line| Ok(line.to_str()?)).collect::<Result<Vec<&str>>>()?;
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let text = lines.join(", ");
    let list: List = Parser::new(&text).parse().with_context(|| format!("{field}: {text}"))?;
    ensure!(!list.is_empty(), "{field} is there and empty");
    let mut members: Vec<(String, Parameters)> = Vec::new();
    for entry in list {
        let ListEntry::Item(item) = entry else { bail!("{field}: an inner list: {text}") };
        let BareItem::String(name) = item.bare_item else { bail!("{field}: not a string: {text}") };
        let name = name.as_str().to_owned();
        ensure!(members.iter().all(|(known, _)| *known != name), "{field}: {name} twice: {text}");
        let parameters = item.params.into_iter().map(|(key, value)| (key.as_str().to_owned(), value)).collect();
        members.push((name, Parameters(parameters)));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &'static str)]) -> Result<Fields> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Fields::read(&headers)
    }

    #[test]
    fn fields_as_in_the_draft_are_understood() {
        let fields = read(&[
            ("ratelimit-policy", r#""burst";q=100;w=60, "daily";q=1000;w=86400"#),
            ("ratelimit", r#""burst";r=0;t=5;pk=:dHJpYWwxMjEzMjM=:"#),
        ])
        .unwrap();
        assert_eq!(fields.policies[1].window, Some(86_400));
        assert_eq!(fields.wait(), Duration::from_secs(5));
        assert_eq!(read(&[]).unwrap(), Fields::default());
    }

    #[test]
    fn fields_that_are_not_as_in_the_draft_are_errors() {
        for (name, value) in [
            ("ratelimit-policy", r#""burst";w=60"#),
            ("ratelimit-policy", r#""burst";q=1.5"#),
            ("ratelimit-policy", r"burst;q=1"),
            ("ratelimit-policy", r#""burst";q=1, "burst";q=2"#),
            ("ratelimit-policy", r#""burst";q=1;"#),
            ("ratelimit", r#""unknown";r=1"#),
            ("retry-after", "0"),
            ("retry-after", "1.5"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}: {value}");
        }
    }
}
