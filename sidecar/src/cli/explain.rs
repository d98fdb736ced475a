//! `portcullis explain`: one request through the same walk that the gateway makes, with every step shown.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::IpAddr,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Parser;
use portcullis_authoring::cases::charge_json;
use portcullis_policy::{
    Certified, Decision, HeaderList, PresentedKey, Request, Verdict, decide_observed,
    explain::{Transcript, alternatives},
    headers::is_token,
    model::Underscores,
};

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
    /// The service that is called, as [partition/][namespace/]name
    #[arg(long, value_name = "SERVICE")]
    destination: String,
    /// The method
    #[arg(long, default_value = "GET", value_name = "METHOD")]
    method: String,
    /// The path as it is sent, with the query if any
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
    /// A request header; may be given several times. A token in it is verified as at the gateway
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Claims of a token that counts as verified; then no token is read from headers
    #[arg(long, value_name = "PROVIDER=JSON", value_parser = parse_claims)]
    claims: Vec<(String, serde_json::Value)>,
    /// Host and port as the caller sends them
    #[arg(long, default_value = "", value_name = "HOST")]
    host: String,
    /// The address that the connection comes from
    #[arg(long, value_name = "ADDRESS")]
    source_address: Option<IpAddr>,
    /// The entry point, as the middleware's `entryPoint` names it
    #[arg(long, default_value = "", value_name = "NAME")]
    entry_point: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (snapshot, _) = args.policy.open()?;
    let settings = snapshot.settings();
    let local = settings.trust_domains.iter().find(|it| it.peer.is_none()).map(|it| it.name.as_str());
    let source = args.source.as_ref().map(|source| spiffe_id(source, local));
    let key = args.api_key_file.as_ref().map(read_key).transpose()?;
    let mut headers = HeaderList::new(args.headers.iter().cloned());
    if settings.underscores == Underscores::DropHeader {
        headers = headers.without_underscores();
    }
    let claims: BTreeMap<_, _> = args.claims.iter().cloned().collect();
    let request = Request {
        destination: &args.destination,
        method: &args.method,
        uri: &args.path,
        host: &args.host,
        headers: &headers,
        certificate: source.as_deref().map_or(Certified::Absent, Certified::Spiffe),
        api_key: key.as_deref().map_or(PresentedKey::Absent, PresentedKey::Text),
        source_address: args.source_address,
        entry_point: &args.entry_point,
        claims: (!claims.is_empty()).then_some(&claims),
        memory: &(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let mut transcript = Transcript::default();
    let decision = decide_observed(&snapshot, &request, &mut transcript);
    let alternatives = alternatives(&snapshot, &request, &decision)?;
    print(args, &decision, &transcript, &alternatives)?;
    Ok(if decision.verdict == Verdict::Allow { Outcome::Holds } else { Outcome::DoesNotHold })
}

fn print(args: &Args, decision: &Decision, transcript: &Transcript, alternatives: &[String]) -> anyhow::Result<()> {
    let Decision { verdict, status, rule, source, reason, shadow, charges, .. } = decision;
    if args.json {
        return super::print_json(&serde_json::json!({
            "verdict": verdict.as_str(), "status": status, "rule": rule, "source": source, "reason": reason,
            "shadow": shadow, "limits": charges.iter().map(charge_json).collect::<Vec<_>>(), "steps": transcript.lines, "alternatives": alternatives,
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
    if !alternatives.is_empty() {
        writeln!(stdout, "  it would be otherwise")?;
    }
    for line in alternatives {
        writeln!(stdout, "    {line}")?;
    }
    Ok(())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim();
    if !is_token(name) {
        return Err(format!("`{name}` is not the name of a header"));
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn parse_claims(text: &str) -> Result<(String, serde_json::Value), String> {
    let (provider, claims) = text.split_once('=').ok_or("write it as `provider={\"sub\":\"joe\"}`")?;
    let claims: serde_json::Value = serde_json::from_str(claims).map_err(|error| error.to_string())?;
    if !claims.is_object() {
        return Err("claims are a JSON object".to_owned());
    }
    Ok((provider.to_owned(), claims))
}

/// A plain name is short for a service of the local trust domain, in the default namespace.
fn spiffe_id(source: &str, trust_domain: Option<&str>) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    let trust_domain = trust_domain.unwrap_or("unknown");
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
