//! Probing one place: a GET, or a connection, at an interval; never many at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use super::{desired::Probe, health::Outcome};

/// Probes under way at once.
const AT_ONCE: usize = 64;

/// What all probes share.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    http: reqwest::Client,
    places: Arc<Semaphore>,
}

/// Why nothing can be probed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The file of `caFile` cannot be read.
    #[error("external.caFile: {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no certificate that can be used.
    #[error("external.caFile: {}: {what}; give certificates in PEM form", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no HTTP client.
    #[error("preparing to probe external services: {0}")]
    Client(#[from] reqwest::Error),
}

// === impl Prober ===

impl Prober {
    /// Without proxies and redirects: what is probed is the place itself, by a new connection each time. Certificates are
    /// verified by the authorities of `ca_file`, and by them alone, or by the system's.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, ProbeError> {
        // The one TLS cryptography of the process; an error means that it is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent("portcullis");
        if let Some(file) = ca_file {
            let bad = |what: String| ProbeError::NoCertificate { file: file.to_owned(), what };
            let pem = fs::read(file).map_err(|source| ProbeError::Unreadable { file: file.to_owned(), source })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
            if certificates.is_empty() {
                return Err(bad("no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        Ok(Self { http: builder.build()?, places: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Probes for as long as somebody listens.
    pub(super) async fn follow(self, probe: Probe, outcomes: mpsc::Sender<(Probe, Outcome)>) {
        loop {
            let outcome = self.once(&probe).await;
            if outcomes.send((probe.clone(), outcome)).await.is_err() {
                return;
            }
            sleep(jittered(Duration::from_secs(probe.check.interval_seconds.into()))).await;
        }
    }

    async fn once(&self, probe: &Probe) -> Outcome {
        // Never closed, so always granted. Waiting for a place is not the target's fault.
        let _place = self.places.acquire().await;
        let patience = Duration::from_secs(probe.check.timeout_seconds.into());
        let tried = async {
            if probe.check.tcp {
                let connected = TcpStream::connect((probe.address.as_str(), probe.port)).await;
                return connected.map(drop).map_err(|error| error.kind().to_string());
            }
            match self.http.get(probe.target()).send().await {
                Ok(response) if response.status().is_success() => Ok(()),
                Ok(response) => Err(format!("HTTP {}", response.status().as_u16())),
                Err(error) => Err(reason(&error)),
            }
        };
        timeout(patience, tried).await.unwrap_or_else(|_| Err(format!("no answer in {} s", patience.as_secs())))
    }
}

/// The innermost reason: reqwest's own text names the address only.
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// Give or take a tenth, so that probes that began together do not stay together.
fn jittered(interval: Duration) -> Duration {
    // Without randomness they stay together, which is no harm.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    interval.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_that_holds_none_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let refused = || Prober::new(Some(&file)).unwrap_err().to_string();
        assert!(refused().contains("ca.pem"), "{}", refused());
        fs::write(&file, "no certificate").unwrap();
        assert!(refused().contains("no certificate in it; give certificates in PEM form"), "{}", refused());
    }
}
