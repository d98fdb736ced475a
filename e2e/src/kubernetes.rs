//! A real kube-apiserver on a real etcd: no kubelet and no controllers, so that tests write Nodes and EndpointSlices themselves.

pub mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certificates::Authority;
use crate::client::{self, Client, Connection};
use crate::parts::KubernetesParts;
use crate::ports;
use crate::process::{Process, Start};

/// The token that may do everything.
pub const ADMINISTRATOR: &str = "administrators-token";
/// Tokens of users without any right of their own, each called as its token: tests bind roles to them.
pub const USERS: [&str; 3] = ["sidecar", "sidecar-two", "stranger"];

/// How long the server may take to be ready: it makes its own roles first.
const START_PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// A running API server with its etcd.
#[derive(Debug)]
pub struct ApiServer {
    etcd: Start,
    server: Start,
    etcd_address: SocketAddr,
    address: SocketAddr,
    authority: Authority,
    authority_file: PathBuf,
    processes: Option<(Process, Process)>,
}

impl ApiServer {
    /// Starts both with their files below `folder`.
    pub async fn start(parts: &KubernetesParts, folder: &Path) -> Result<ApiServer> {
        Self::start_with(parts, folder, &[]).await
    }

    /// The same with more arguments for the API server.
    pub async fn start_with(parts: &KubernetesParts, folder: &Path, more: &[&str]) -> Result<ApiServer> {
        std::fs::create_dir_all(folder).context("making the API server's folder")?;
        let (etcd_address, peer, address) = (ports::free()?, ports::free()?, ports::free()?);
        let authority = Authority::new("kubernetes")?;
        let certificate = authority.server(&["127.0.0.1", "localhost"])?.write(folder, "apiserver")?;
        let authority_file = folder.join("ca.pem");
        std::fs::write(&authority_file, authority.pem()).context("writing the authority's certificate")?;
        let users = USERS.map(|user| format!("{user},{user},{user}\n")).concat();
        let tokens = format!("{ADMINISTRATOR},admin,admin,\"system:masters\"\n{users}");
        std::fs::write(folder.join("tokens.csv"), tokens).context("writing the tokens")?;
        let path = |file: &Path| file.display().to_string();
        let start = |name: &str, program: &Path, arguments: Vec<String>| Start {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
        };
        let etcd = start(
            "etcd",
            &parts.etcd,
            vec![
                format!("--data-dir={}", path(&folder.join("etcd"))),
                format!("--listen-client-urls=http://{etcd_address}"),
                format!("--advertise-client-urls=http://{etcd_address}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster=default=http://{peer}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        let mut server = start(
            "kube-apiserver",
            &parts.kube_apiserver,
            vec![
                format!("--etcd-servers=http://{etcd_address}"),
                format!("--secure-port={}", address.port()),
                "--bind-address=127.0.0.1".to_owned(),
                // Its own address in `default/kubernetes`; the loopback is refused there.
                "--advertise-address=192.0.2.250".to_owned(),
                format!("--tls-cert-file={}", path(&certificate)),
                format!("--tls-private-key-file={}", path(&certificate)),
                format!("--cert-dir={}", path(&folder.join("certs"))),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-signing-key-file={}", path(&certificate)),
                format!("--service-account-key-file={}", path(&certificate)),
                format!("--token-auth-file={}", path(&folder.join("tokens.csv"))),
                "--authorization-mode=RBAC".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112".to_owned(),
                "--service-node-port-range=1000-65535".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                // Whatever is asked for, at once: the tests write much.
                "--max-requests-inflight=0".to_owned(),
                "--max-mutating-requests-inflight=0".to_owned(),
                "--enable-priority-and-fairness=false".to_owned(),
            ],
        );
        server.arguments.extend(more.iter().map(Into::into));
        let mut running = ApiServer { etcd, server, etcd_address, address, authority, authority_file, processes: None };
        running.resume().await?;
        Ok(running)
    }

    /// Kills both; their data stays.
    pub fn kill(&mut self) {
        self.processes = None;
    }

    /// Starts both again and waits until the server says that it is ready.
    pub async fn resume(&mut self) -> Result<()> {
        let etcd = Process::start(&self.etcd)?;
        self.processes = Some((etcd, Process::start(&self.server)?));
        let end = Instant::now() + START_PATIENCE;
        while !self.call("GET", "/readyz", None).await.is_ok_and(|(status, _)| status == 200) {
            if let Some((etcd, server)) = &mut self.processes {
                etcd.must_run()?;
                server.must_run()?;
            }
            if Instant::now() > end {
                bail!("the API server is not ready");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<Connection> {
        Client::tls(self.address, &self.authority, None)?.connect("localhost").await
    }

    /// Where it is, to reach it by another way.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::tls(self.address, &self.authority, None)
    }

    /// A kubeconfig for a user, by a file with the token, so that the token can be exchanged.
    pub fn kubeconfig(&self, file: &Path, url: &str, token_file: &Path) -> Result<()> {
        let cluster = json!({"server": url, "certificate-authority": self.authority_file});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"tokenFile": token_file}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(file, config.to_string()).context("writing a kubeconfig")
    }

    /// Makes an object, or makes it as it is given; its status too.
    pub async fn put(&self, object: &Value) -> Result<()> {
        let (collection, one) = paths(object)?;
        let mut present = match self.call("GET", &one, None).await? {
            (404, _) => expect(&collection, self.call("POST", &collection, Some(object)).await?)?,
            (_, present) => {
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
                expect(&one, self.call("PUT", &one, Some(&object)).await?)?
            }
        };
        if let Some(status) = object.get("status")
            && present["status"] != *status
        {
            present["status"] = status.clone();
            let path = format!("{one}/status");
            expect(&path, self.call("PUT", &path, Some(&present)).await?)?;
        }
        Ok(())
    }

    /// Removes an object if it is there.
    pub async fn delete(&self, object: &Value) -> Result<()> {
        let (_, one) = paths(object)?;
        match self.call("DELETE", &one, None).await? {
            (404, _) => Ok(()),
            other => expect(&one, other).map(drop),
        }
    }

    /// The JSON at a path of the API.
    pub async fn get(&self, path: &str) -> Result<Value> {
        expect(path, self.call("GET", path, None).await?)
    }

    /// Everything that the sync reads, as one list: a manifest.
    pub async fn dump(&self) -> Result<Value> {
        let mut items = Vec::new();
        for (path, version, kind) in [
            ("/api/v1/services", "v1", "Service"),
            ("/api/v1/nodes", "v1", "Node"),
            ("/apis/discovery.k8s.io/v1/endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
        ] {
            for item in self.get(path).await?["items"].as_array().into_iter().flatten() {
                let mut item = item.clone();
                item["apiVersion"] = version.into();
                item["kind"] = kind.into();
                items.push(item);
            }
        }
        Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
    }

    /// Lets etcd forget every version but the present one, so that a watch from an older one is answered by 410.
    pub async fn compact(&self) -> Result<()> {
        let post = async |path: &str, body: Value| -> Result<Value> {
            let body = Full::from(body.to_string()).map_err(|never| match never {}).boxed_unsync();
            let request = client::request("POST", "localhost", path, &[], body)?;
            let answer = Client::plain(self.etcd_address).connect("localhost").await?.send(request).await?;
            // Forgotten already is fine.
            if answer.status != 200 && !answer.text().contains("has been compacted") {
                bail!("etcd answers {} to {path}: {}", answer.status, answer.text());
            }
            answer.json()
        };
        let found = post("/v3/kv/range", json!({"key": "AA=="})).await?;
        let revision = found["header"]["revision"].clone();
        post("/v3/kv/compaction", json!({"revision": revision, "physical": true})).await.map(drop)
    }

    /// One call with all rights; the status and the JSON, or null.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let authorization = format!("Bearer {ADMINISTRATOR}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body =
            Full::from(body.map(Value::to_string).unwrap_or_default()).map_err(|never| match never {}).boxed_unsync();
        let answer = self.connect().await?.send(client::request(method, "localhost", path, &headers, body)?).await?;
        Ok((answer.status, answer.json().unwrap_or_default()))
    }
}

/// The objects of a file in `deploy/kubernetes`, bound to a user.
pub fn shipped(file: &str, user: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(crate::parts::root().join("deploy/kubernetes").join(file))
        .context("reading a manifest")?;
    let objects = text.split("\n---\n").map(|text| {
        let mut object: Value = serde_saphyr::from_str(text).context("parsing a manifest")?;
        if let Some(subjects) = object.get_mut("subjects") {
            *subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]);
        }
        Ok(object)
    });
    objects.collect()
}

fn expect(path: &str, (status, answer): (u16, Value)) -> Result<Value> {
    if !(200..300).contains(&status) {
        bail!("the API server answers {status} at {path}: {}", answer["message"].as_str().unwrap_or_default());
    }
    Ok(answer)
}

/// Where objects of its kind are, and the object itself.
fn paths(object: &Value) -> Result<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&object["kind"]).context("an object without a kind")?;
    let version = text(&object["apiVersion"]).context("an object without a version")?;
    let name = text(&object["metadata"]["name"]).context("an object without a name")?;
    let namespace = text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let plural = format!("{}s", kind.to_lowercase());
    let collection = match kind.as_str() {
        "Node" | "Namespace" | "ClusterRole" | "ClusterRoleBinding" => format!("{root}/{plural}"),
        _ => format!("{root}/namespaces/{namespace}/{plural}"),
    };
    let one = format!("{collection}/{name}");
    Ok((collection, one))
}
