//! A Consul with ACLs, its tokens, and a sidecar whose snapshot is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_e2e::certificates::spiffe;
use portcullis_e2e::parts::{RegistryParts, root};
use portcullis_e2e::registry::Registry;
use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Layout, Sidecar};
use portcullis_e2e::synced::wait_for;
use portcullis_policy::{Certified, Request, Snapshot, Verdict, decide};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The management token.
const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";

/// The rules of the policy that ships for reading, one a line.
pub(crate) fn shipped() -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/consul/policy-read.hcl")).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// A Consul and the file with the token that reads policy.
pub(crate) struct Ground {
    pub(crate) registry: Registry,
    pub(crate) token_file: PathBuf,
    pub(crate) folder: TempDir,
    pub(crate) sidecar: PathBuf,
}

impl Ground {
    /// `None` after a printed skip.
    pub(crate) async fn start() -> Option<Ground> {
        let parts = RegistryParts::for_test()?;
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().unwrap();
        let registry = Registry::start(&parts.consul, folder.path(), Some(MANAGEMENT)).await.unwrap();
        let ground =
            Ground { registry, token_file: folder.path().join("policy-token"), folder, sidecar: parts.sidecar };
        ground.grant("shipped", &shipped()).await;
        Some(ground)
    }

    /// Puts a new token with these rules into the file; its accessor.
    pub(crate) async fn grant(&self, name: &str, rules: &[String]) -> String {
        let policy = json!({"Name": name, "Rules": rules.join("\n")});
        // Names are for once.
        let _ = self.registry.put("/v1/acl/policy", &policy).await;
        let token = self.registry.put("/v1/acl/token", &json!({"Policies": [{"Name": name}]})).await.unwrap();
        let beside = self.token_file.with_extension("new");
        fs::write(&beside, token["SecretID"].as_str().unwrap()).unwrap();
        fs::rename(beside, &self.token_file).unwrap();
        token["AccessorID"].as_str().unwrap().to_owned()
    }

    /// The section `policy` with this Consul alone.
    pub(crate) fn policy(&self) -> Value {
        json!({
            "default": "deny", "trustDomains": [portcullis_e2e::certificates::TRUST_DOMAIN],
            "consul": {"address": self.registry.address(), "tokenFile": self.token_file, "keys": "portcullis/policy/"},
        })
    }

    pub(crate) async fn write(&self, entry: &Value) {
        // A Consul that has just begun does not take intentions at once.
        wait_for("Consul to take an entry", PATIENCE, async || self.registry.put("/v1/config", entry).await.is_ok())
            .await;
    }

    pub(crate) async fn intend(&self, destination: &str, source: &str, action: &str) {
        self.write(&intention(destination, source, action)).await;
    }

    /// A sidecar with nothing to register, in a folder of this name.
    pub(crate) fn layout(&self, name: &str, sections: &Value) -> Layout {
        let layout = Layout::new(&self.folder.path().join(name)).unwrap();
        layout.write_configuration_with(sections).unwrap();
        layout
    }
}

pub(crate) fn intention(destination: &str, source: &str, action: &str) -> Value {
    json!({"Kind": "service-intentions", "Name": destination, "Sources": [{"Name": source, "Action": action}]})
}

/// What the snapshot decides for a caller of the sample trust domain; `None` without a snapshot.
pub(crate) fn verdict(snapshot: &Path, source: &str, destination: &str) -> Option<Verdict> {
    let snapshot = Snapshot::open(fs::read(snapshot).ok()?).ok()?;
    let id = spiffe(source);
    let certificate = Certified::Spiffe(&id);
    Some(decide(&snapshot, &Request { destination, certificate, ..Request::default() }).verdict)
}

/// Waits for a text in the sidecar's log; the line.
pub(crate) async fn line(sidecar: &Sidecar, text: &str) -> String {
    let took = wait_for(&format!("the line {text:?}"), PATIENCE, async || sidecar.log().unwrap().contains(text)).await;
    let log = sidecar.log().unwrap();
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_default();
    let line = line.split_once("Z ").map_or(line, |(_, line)| line).trim().to_owned();
    say(&format!("after {took:?}: {line:.300}"));
    line
}
