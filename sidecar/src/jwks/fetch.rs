//! One fetch: bounded in time and size, verified, and to nowhere else than the provider's own address.

use std::{
    env,
    fs::File,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portcullis_policy::jwt::{RemoteKeys, TrustedCa};
use reqwest::{
    Certificate, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, CACHE_CONTROL},
    redirect::{Attempt, Policy},
};
use tokio::{net::lookup_host, time::timeout};

use super::{config::JwksConfig, schedule};

/// Largest answer that is read, in bytes: no larger set is taken (`policy::jwt`).
const MAX_ANSWER: usize = 256 * 1024;
/// Largest file of certificates.
const MAX_CERTIFICATES: u64 = 1 << 20;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// What all fetches have in common.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    ca_file: Option<PathBuf>,
    allow_http: bool,
}

/// An answer, not looked into yet.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) set: Vec<u8>,
    /// How long the issuer says that it may be kept.
    pub(super) max_age: Option<Duration>,
}

/// Why an address is never asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the URI cannot be read")]
    Unreadable,
    #[error("the URI is not https")]
    Plain,
    #[error("the URI holds credentials, which logs would show")]
    Credentials,
    #[error("the URI leads to an address that no issuer has")]
    Place,
    #[error("a CaCertificateProviderInstance belongs to Consul's proxies and is not known here")]
    Instance,
}

/// Why a fetch gave nothing. Texts name neither the query of the URI nor anything of the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the certificates to trust cannot be used: {0}")]
    Trust(String),
    #[error("{0}")]
    Connection(String),
    #[error("no whole answer in time")]
    TimedOut,
    #[error("the answer is a redirect that is not followed")]
    Redirected,
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("{0}")]
    NoKeys(String),
}

/// Resolves names, and leaves out addresses that no issuer has.
#[derive(Debug)]
struct Bounded;

// === impl Refused ===

impl Refused {
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Unreadable | Self::Credentials => "write it like https://issuer.example/jwks.json",
            Self::Plain => "whoever is between could sign for everybody; jwks.allowHttp lets it pass",
            Self::Place => "link-local, multicast and unspecified addresses are never asked",
            Self::Instance => "give TrustedCA, or nothing for the system's authorities",
        }
    }
}

// === impl Fetcher ===

impl Fetcher {
    pub(super) fn new(config: &JwksConfig) -> Self {
        Self { ca_file: config.ca_file.clone(), allow_http: config.allow_http }
    }

    /// Whether a provider's address is one that may be asked.
    pub(super) fn may_ask(&self, remote: &RemoteKeys) -> Result<(), Refused> {
        let trusted = remote.cluster.as_ref().and_then(|cluster| cluster.trusted.as_ref());
        if matches!(trusted, Some(TrustedCa::Instance { .. })) {
            return Err(Refused::Instance);
        }
        self.address(remote).map(|_| ())
    }

    fn address(&self, remote: &RemoteKeys) -> Result<Url, Refused> {
        let url = Url::parse(&remote.uri).map_err(|_| Refused::Unreadable)?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(Refused::Plain),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let host = url.host_str().ok_or(Refused::Unreadable)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if literal.is_ok_and(is_no_place) { Err(Refused::Place) } else { Ok(url) }
    }

    /// Fetches once.
    pub(super) async fn fetch(&self, remote: &RemoteKeys) -> Result<Fetched, Fault> {
        self.may_ask(remote)?;
        let url = self.address(remote)?;
        let client = self.client(remote)?;
        let all = async {
            let response =
                client.get(url).header(ACCEPT, "application/json").send().await.map_err(|it| connection(&it))?;
            match response.status() {
                StatusCode::OK => read(response).await,
                status if status.is_redirection() => Err(Fault::Redirected),
                status => Err(Fault::Status(status)),
            }
        };
        timeout(schedule::request_timeout(remote.request_timeout_ms), all).await.map_err(|_| Fault::TimedOut)?
    }

    /// A client of its own for each fetch: certificates may be others by now, and no connection is kept for minutes.
    fn client(&self, remote: &RemoteKeys) -> Result<reqwest::Client, Fault> {
        // The one TLS cryptography of the process; an error means that it is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = remote.cluster.as_ref();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(schedule::connect_timeout(cluster.map_or(0, |it| it.connect_timeout)))
            .redirect(Policy::custom(same_origin))
            .dns_resolver(Arc::new(Bounded))
            .referer(false)
            .no_proxy();
        let trust = |what: String| Fault::Trust(what);
        if let Some(pem) = self.authorities(cluster.and_then(|it| it.trusted.as_ref())).map_err(trust)? {
            // Its error could show what is in a file or a variable that holds no certificate.
            let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|it| !it.is_empty());
            let certificates = certificates.ok_or_else(|| trust("there is no certificate in PEM form".to_owned()))?;
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(|error| trust(reason(&error)))
    }

    /// Certificates in PEM form; `None` for the system's.
    fn authorities(&self, trusted: Option<&TrustedCa>) -> Result<Option<Vec<u8>>, String> {
        match trusted {
            None => self.ca_file.as_deref().map(file).transpose(),
            Some(TrustedCa::Inline(pem)) => Ok(Some(pem.clone())),
            Some(TrustedCa::File(path)) if Path::new(path).is_absolute() => file(Path::new(path)).map(Some),
            Some(TrustedCa::File(_)) => Err("the path is relative".to_owned()),
            Some(TrustedCa::Environment(name)) => match env::var(name) {
                Ok(pem) => Ok(Some(pem.into_bytes())),
                Err(_) => Err("the environment variable is not set".to_owned()),
            },
            Some(TrustedCa::Instance { .. }) => Err("no such provider is known here".to_owned()),
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(fault)?.take(MAX_CERTIFICATES).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// Follows a few redirects that stay at the same scheme, host and port: nobody else is asked for keys.
fn same_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
    if is_same && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// Addresses that no issuer has: metadata services of clouds, among others.
fn is_no_place(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(it) => it.is_link_local() || it.is_multicast() || it.is_unspecified() || it.is_broadcast(),
        IpAddr::V6(it) => it.is_unicast_link_local() || it.is_multicast() || it.is_unspecified(),
    }
}

async fn read(mut response: Response) -> Result<Fetched, Fault> {
    let values = response.headers().get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let max_age = schedule::max_age(values);
    let mut set = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|it| connection(&it))? {
        if set.len() + chunk.len() > MAX_ANSWER {
            return Err(Fault::TooLarge);
        }
        set.extend_from_slice(&chunk);
    }
    Ok(Fetched { set, max_age })
}

fn connection(error: &reqwest::Error) -> Fault {
    if error.is_timeout() { Fault::TimedOut } else { Fault::Connection(reason(error)) }
}

/// The innermost reason: reqwest's own text names the whole address.
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

// === impl Bounded ===

impl Resolve for Bounded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                lookup_host((name.as_str(), 0)).await?.filter(|address| !is_no_place(address.ip())).collect();
            if found.is_empty() {
                return Err("the name leads to no address that may be asked".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(uri: &str) -> RemoteKeys {
        RemoteKeys { uri: uri.to_owned(), ..RemoteKeys::default() }
    }

    #[test]
    fn only_addresses_that_an_issuer_may_have_are_asked() {
        let fetcher = Fetcher::new(&JwksConfig::default());
        for (uri, wanted) in [
            ("https://issuer.example/jwks.json?tenant=1", Ok(())),
            ("https://127.0.0.1:8443/keys", Ok(())),
            ("http://issuer.example/jwks.json", Err(Refused::Plain)),
            ("ftp://issuer.example/jwks.json", Err(Refused::Plain)),
            ("https://user:word@issuer.example/", Err(Refused::Credentials)),
            ("https://169.254.169.254/latest/meta-data", Err(Refused::Place)),
            ("https://[::ffff:169.254.169.254]/", Err(Refused::Place)),
            ("https://2852039166/", Err(Refused::Place)),
            ("https://[fe80::1]/", Err(Refused::Place)),
            ("https://0.0.0.0/", Err(Refused::Place)),
            ("https://", Err(Refused::Unreadable)),
        ] {
            assert_eq!(fetcher.may_ask(&remote(uri)), wanted, "{uri}");
        }
        let lax = Fetcher::new(&JwksConfig { allow_http: true, ..JwksConfig::default() });
        assert_eq!(lax.may_ask(&remote("http://issuer.example/jwks.json")), Ok(()));
        let instance = TrustedCa::Instance { instance: String::new(), certificate: String::new() };
        let cluster = portcullis_policy::jwt::JwksCluster { trusted: Some(instance), ..Default::default() };
        let remote = RemoteKeys { cluster: Some(cluster), ..remote("https://a/") };
        assert_eq!(fetcher.may_ask(&remote), Err(Refused::Instance));
    }

    #[test]
    fn authorities_that_cannot_be_had_are_no_reason_to_trust_everybody() {
        let fetcher = Fetcher::new(&JwksConfig::default());
        for trusted in [
            TrustedCa::File("ca.pem".to_owned()),
            TrustedCa::File("/nowhere/ca.pem".to_owned()),
            TrustedCa::Environment("PORTCULLIS_NO_SUCH_VARIABLE".to_owned()),
            TrustedCa::Inline(b"top secret".to_vec()),
            TrustedCa::Inline(Vec::new()),
        ] {
            let cluster = portcullis_policy::jwt::JwksCluster { trusted: Some(trusted), ..Default::default() };
            let fault = fetcher.client(&RemoteKeys { cluster: Some(cluster), ..remote("https://a/") }).unwrap_err();
            assert!(matches!(fault, Fault::Trust(_)) && !fault.to_string().contains("secret"), "{fault}");
        }
    }
}
