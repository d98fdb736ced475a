//! The way to one API server, made again from its files whenever it has failed: certificates and tokens are replaced there.

use std::time::Duration;

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Mutex;

use super::{config::ClusterConfig, fault::Fault};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A way to one API server, shared by all that read from it.
pub(super) struct Connection {
    config: ClusterConfig,
    client: Mutex<Option<Client>>,
}

// === impl Connection ===

impl Connection {
    /// Nothing is read yet.
    pub(super) fn new(config: ClusterConfig) -> Self {
        Self { config, client: Mutex::new(None) }
    }

    /// The client, made from the files if there is none.
    pub(super) async fn client(&self) -> Result<Client, Fault> {
        let mut present = self.client.lock().await;
        if let Some(client) = &*present {
            return Ok(client.clone());
        }
        let client = connect(&self.config).await?;
        *present = Some(client.clone());
        Ok(client)
    }

    /// The next client is a new one.
    pub(super) async fn renew(&self) {
        *self.client.lock().await = None;
    }
}

async fn connect(config: &ClusterConfig) -> Result<Client, Fault> {
    // The one TLS cryptography of the process; an error means that it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    let mut access = if config.in_cluster {
        Config::incluster().map_err(|error| Fault::configuration(&error))?
    } else if let Some(file) = &config.kubeconfig {
        let file = Kubeconfig::read_from(file).map_err(|error| Fault::configuration(&error))?;
        Config::from_custom_kubeconfig(file, &options).await.map_err(|error| Fault::configuration(&error))?
    } else {
        Config::from_kubeconfig(&options).await.map_err(|error| Fault::configuration(&error))?
    };
    if access.accept_invalid_certs {
        let hint = "name the authority in certificate-authority instead: whoever answers would be given the token";
        return Err(Fault::refused("the kubeconfig's insecure-skip-tls-verify is not supported", hint));
    }
    access.connect_timeout = Some(CONNECT);
    // As with Consul: the token goes to the configured address and nowhere else.
    access.proxy_url = None;
    // Waiting is ours to do, with a word about why.
    access.default_retry = false;
    // A credential plugin is a program that may take its time.
    let built = tokio::task::spawn_blocking(move || ClientBuilder::try_from(access).map(ClientBuilder::build)).await;
    built.map_err(|error| Fault::configuration(&error))?.map_err(|error| Fault::configuration(&error))
}
