//! `portcullis explain`: one request through the same walk that the gateway makes, with every step shown.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Parser;
use portcullis_policy::{Credential, Decision, Request, Verdict, decide_observed, explain::Transcript};

use super::{Outcome, policy_source::PolicyArgs};

/// Options of `portcullis explain`.
#[derive(Debug, Parser)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// The caller: a SPIFFE ID, or the name of a service in the first trust domain; absent for a caller without credential
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// A file with the API key that the caller presents (`-` reads stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    api_key_file: Option<PathBuf>,
    /// The service that is called
    #[arg(long, value_name = "SERVICE")]
    destination: String,
    /// The method
    #[arg(long, default_value = "GET", value_name = "METHOD")]
    method: String,
    /// The path as it is sent, with the query if any
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (snapshot, _) = args.policy.open()?;
    let source = args.source.as_ref().map(|source| spiffe_id(source, &snapshot.settings().trust_domains));
    let key = args.api_key_file.as_ref().map(read_key).transpose()?;
    let credential = match (&source, &key) {
        (Some(id), _) => Credential::Spiffe(id),
        (None, Some(key)) => Credential::ApiKey(key),
        (None, None) => Credential::None,
    };
    let request = Request {
        destination: &args.destination,
        method: &args.method,
        uri: &args.path,
        credential,
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let mut transcript = Transcript::default();
    let decision = decide_observed(&snapshot, &request, &mut transcript);
    print(args, &decision, &transcript)?;
    Ok(if decision.verdict == Verdict::Allow { Outcome::Holds } else { Outcome::DoesNotHold })
}

fn print(args: &Args, decision: &Decision, transcript: &Transcript) -> anyhow::Result<()> {
    let Decision { verdict, status, rule, source, reason } = decision;
    if args.json {
        return super::print_json(&serde_json::json!({
            "verdict": verdict.as_str(), "status": status, "rule": rule, "source": source, "reason": reason,
            "steps": transcript.lines,
        }));
    }
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "{} {status}: {} {} to {} from {source}",
        verdict.as_str(),
        args.method,
        args.path,
        args.destination
    )?;
    writeln!(stdout, "  rule    {rule}\n  reason  {reason}\n  steps")?;
    for line in &transcript.lines {
        writeln!(stdout, "    {line}")?;
    }
    Ok(())
}

/// A plain name is short for a service of the first trust domain, in the default namespace.
fn spiffe_id(source: &str, trust_domains: &[String]) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    let trust_domain = trust_domains.first().map_or("unknown", String::as_str);
    format!("spiffe://{trust_domain}/ns/default/dc/any/svc/{source}")
}

fn read_key(path: &PathBuf) -> anyhow::Result<String> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().take(4096).read_to_string(&mut text)?;
        text
    } else {
        fs::read_to_string(path).with_context(|| path.display().to_string())?
    };
    Ok(text.trim().to_owned())
}
