//! The few calls to Consul's HTTP API that the sync needs, each bounded in time and size.

use std::{collections::VecDeque, io, time::Duration};

use bytes::{Buf as _, Bytes};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap, redirect};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    config::{Access, ConsulConfig, Token},
    error::ConsulError,
    operation::Operation,
};

/// How long a connection may take, and an ordinary call.
const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);
/// How long Consul may keep a blocking query; it adds up to a sixteenth, so that not all end at once.
const WAIT: Duration = Duration::from_secs(300);
/// Largest answer that is read: some fifty thousand instances on one node. And largest error text.
const MAX_ANSWER: usize = 64 << 20;
const MAX_ERROR: usize = 2 << 10;

/// A way to one Consul.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: reqwest::Url,
    token: Token,
    datacenter: Option<String>,
}

/// A list or object with the index to wait on for its next change.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// For the next blocking query; at least 1.
    pub index: u64,
    /// Whether Consul named it, as it does for everything that can be waited for: whoever does not is no Consul.
    pub is_indexed: bool,
    /// `None` when there is no such thing (404).
    pub value: Option<T>,
}

/// The session that holds the lock, and the lock: what every transaction is fenced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Key of the lock.
    pub key: String,
    /// Session that must still hold it.
    pub session: String,
}

/// Why a transaction changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnError {
    /// Somebody else has the lock, or nobody.
    NotLeader,
    /// Something is not as it was read: read again.
    Stale(String),
    /// Consul does not take these operations; the same again would be refused again.
    Refused(String),
    /// It may or may not have been applied: read again.
    Failed(ConsulError),
}

/// A right that is asked for: of `Resource`, the `Access` to `Segment`, in the words of ACL rules.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Asked {
    /// `node`, `service`, `key`, `session` …
    pub resource: &'static str,
    /// `read` or `write`.
    pub access: &'static str,
    /// The name.
    pub segment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Allowed {
    allow: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnAnswer {
    #[serde(default)]
    results: Option<Vec<Value>>,
    #[serde(default)]
    errors: Option<Vec<TxnFault>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnFault {
    op_index: usize,
    what: String,
}

// === impl Client ===

impl Client {
    /// A client for the configuration's section, with the environment's help. Nothing is asked yet.
    pub fn new(config: &ConsulConfig) -> Result<Self, ConsulError> {
        let Access { base, token, authorities, datacenter } = config.access()?;
        // The one TLS cryptography of the process; an error means that it is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // The token goes to the configured address and nowhere else.
            .redirect(redirect::Policy::none())
            .no_proxy();
        let fault = |error: reqwest::Error| {
            ConsulError::standing("consul.caFile", error.to_string(), "give certificates in PEM form")
        };
        if let Some(pem) = authorities {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(fault)?;
            if certificates.is_empty() {
                let hint = "give certificates in PEM form";
                return Err(ConsulError::standing("consul.caFile", "no certificate in it", hint));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(fault)?;
        Ok(Self { http, base, token, datacenter })
    }

    /// Reads something whole; an answer that the token may not see as a whole is an error.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer<T>, ConsulError> {
        self.read(path, self.request(Method::GET, path)?.query(query).timeout(PATIENCE)).await
    }

    /// The same once its index is no longer `index` (0: at once), or after some minutes. An index that goes backwards,
    /// as after a restored snapshot, is followed.
    pub async fn get_after<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        index: u64,
    ) -> Result<Answer<T>, ConsulError> {
        self.get_within(path, query, index, WAIT).await
    }

    /// The same with another longest wait.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        index: u64,
        wait: Duration,
    ) -> Result<Answer<T>, ConsulError> {
        let (wait_text, index_text) = (format!("{}s", wait.as_secs()), index.to_string());
        let request = self.request(Method::GET, path)?.query(query);
        let request = request.query(&[("wait", &wait_text), ("index", &index_text)]);
        self.read(path, request.timeout(wait + wait / 16 + PATIENCE)).await
    }

    /// A writing call outside of transactions: sessions and locks.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Option<T>, ConsulError> {
        let request = self.request(Method::PUT, path)?.query(query).body(body).timeout(PATIENCE);
        let response = request.send().await.map_err(|error| ConsulError::connection(path, &error))?;
        decode(path, response).await
    }

    /// Which of these the token allows, in their order, and the `Date` of Consul's clock. Where ACLs are off, all are. The call is the one
    /// by which Consul's own pages know what to show; it changes nothing.
    pub async fn authorize(&self, asked: &[Asked]) -> Result<(Vec<bool>, Option<String>), ConsulError> {
        const AT: &str = "/v1/internal/acl/authorize";
        let request = self.request(Method::POST, AT)?.json(asked).timeout(PATIENCE);
        let response = request.send().await.map_err(|error| ConsulError::connection(AT, &error))?;
        let date = header(response.headers(), "Date").map(str::to_owned);
        let given: Option<Vec<Allowed>> = decode(AT, response).await?;
        let given: Vec<bool> = given.unwrap_or_default().into_iter().map(|it| it.allow).collect();
        if given.len() == asked.len() {
            return Ok((given, date));
        }
        Err(ConsulError::garbage(AT, format!("{} answers to {} questions", given.len(), asked.len())))
    }

    /// Applies operations together, if the fence still holds. Returns the Raft index, 0 if Consul names none.
    pub async fn txn(&self, fence: &Fence, operations: &[Operation]) -> Result<u64, TxnError> {
        const AT: &str = "/v1/txn";
        let mut body = vec![json!({"KV": {"Verb": "check-session", "Key": fence.key, "Session": fence.session}})];
        body.extend(operations.iter().map(Operation::to_json));
        let request = self.request(Method::PUT, AT).map_err(TxnError::Failed)?.json(&body).timeout(PATIENCE);
        let lost = |error: reqwest::Error| TxnError::Failed(ConsulError::connection(AT, &error));
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        match status {
            StatusCode::OK | StatusCode::CONFLICT => {}
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(TxnError::Refused(format!("{status}: {}", error_text(response).await)));
            }
            _ => return Err(TxnError::Failed(ConsulError::status(AT, status, &error_text(response).await))),
        }
        let pieces = bounded(AT, response, MAX_ANSWER).await.map_err(TxnError::Failed)?;
        let garbage = |error: serde_json::Error| TxnError::Failed(ConsulError::garbage(AT, error.to_string()));
        let answer: TxnAnswer = parse(pieces).map_err(garbage)?;
        let faults = answer.errors.unwrap_or_default();
        if status == StatusCode::OK && faults.is_empty() {
            let indexes = answer.results.iter().flatten().filter_map(Value::as_object).flat_map(|it| it.values());
            return Ok(indexes.filter_map(|it| it.get("ModifyIndex")?.as_u64()).max().unwrap_or(0));
        }
        Err(judge(&faults))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ConsulError> {
        let url =
            self.base.join(path).map_err(|error| ConsulError::standing(path, error.to_string(), "a fault of ours"))?;
        let mut request = self.http.request(method, url);
        if let Some(datacenter) = &self.datacenter {
            request = request.query(&[("dc", datacenter)]);
        }
        let token = self.token.read()?;
        Ok(if token.0.is_empty() { request } else { request.header("X-Consul-Token", token.0) })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<Answer<T>, ConsulError> {
        let response = request.send().await.map_err(|error| ConsulError::connection(path, &error))?;
        let filtered = header(response.headers(), "X-Consul-Results-Filtered-By-ACLs") == Some("true");
        let index = header(response.headers(), "X-Consul-Index").and_then(|text| text.parse().ok());
        let value = decode(path, response).await?;
        if filtered {
            return Err(ConsulError::filtered(path));
        }
        // An index of 0 would make the next query one that does not wait.
        Ok(Answer { index: index.unwrap_or(0).max(1), is_indexed: index.is_some(), value })
    }
}

/// What Consul's reasons mean. It gives them as texts only.
fn judge(faults: &[TxnFault]) -> TxnError {
    let mut texts: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
    // A right that lacks is told for each operation.
    texts.dedup();
    let text = if texts.is_empty() { "no reason given".to_owned() } else { texts.join(", ") };
    let any = |piece: &str| texts.iter().any(|text| text.contains(piece));
    if any("Permission denied") || any("ACL not found") {
        return TxnError::Failed(ConsulError::status("/v1/txn", StatusCode::FORBIDDEN, &text));
    }
    if faults.iter().any(|fault| fault.op_index == 0) {
        return TxnError::NotLeader;
    }
    if any("index is stale") || any("Missing node registration") || any("Missing service registration") {
        return TxnError::Stale(text);
    }
    TxnError::Refused(text)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn decode<T: DeserializeOwned>(path: &str, response: Response) -> Result<Option<T>, ConsulError> {
    match response.status() {
        StatusCode::OK => {
            let pieces = bounded(path, response, MAX_ANSWER).await?;
            parse(pieces).map(Some).map_err(|error| ConsulError::garbage(path, error.to_string()))
        }
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(ConsulError::status(path, status, &error_text(response).await)),
    }
}

async fn bounded(path: &str, mut response: Response, limit: usize) -> Result<Pieces, ConsulError> {
    let mut pieces = Pieces::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| ConsulError::connection(path, &error))? {
        pieces.length += chunk.len();
        if pieces.length > limit {
            return Err(ConsulError::garbage(path, format!("an answer of more than {limit} bytes")));
        }
        pieces.waiting.push_back(chunk);
    }
    Ok(pieces)
}

/// An answer in the pieces in which it came, each given back once it is read: a catalog of many services in one piece, beside
/// what is made of it, would be the most memory that we ever take.
#[derive(Default)]
struct Pieces {
    waiting: VecDeque<Bytes>,
    length: usize,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(first) = self.waiting.front_mut() {
            if !first.is_empty() {
                let n = first.len().min(buffer.len());
                first.copy_to_slice(buffer.get_mut(..n).unwrap_or_default());
                return Ok(n);
            }
            self.waiting.pop_front();
        }
        Ok(0)
    }
}

fn parse<T: DeserializeOwned>(mut pieces: Pieces) -> serde_json::Result<T> {
    match pieces.waiting.make_contiguous() {
        [only] => serde_json::from_slice(only),
        _ => serde_json::from_reader(io::BufReader::new(pieces)),
    }
}

/// The beginning of an error's text, on one line. What cannot be read is not worth another error.
async fn error_text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_ERROR {
            bytes.truncate(MAX_ERROR);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of Consul 1.22.0.
    #[test]
    fn what_consul_says_of_a_transaction_is_told_apart() {
        let judged = |op_index, what: &str| judge(&[TxnFault { op_index, what: what.to_owned() }]);
        let lock = "failed session check for key \"portcullis/l\", current session \"791d\" != \"zzz\"";
        assert_eq!(judged(0, lock), TxnError::NotLeader);
        assert_eq!(judged(0, "failed session check for key \"portcullis/l\", doesn't exist"), TxnError::NotLeader);
        for text in ["failed to set node \"k8s-sync\", index is stale", "Missing node registration"] {
            assert_eq!(judged(1, text), TxnError::Stale(text.to_owned()));
        }
        assert_eq!(judged(1, "Invalid service meta"), TxnError::Refused("Invalid service meta".to_owned()));
        let denied =
            judged(1, "Permission denied: token with AccessorID 'x' lacks permission 'service:write' on \"web\"");
        assert!(matches!(denied, TxnError::Failed(error) if !error.transient && error.hint.contains("token")));
    }
}
