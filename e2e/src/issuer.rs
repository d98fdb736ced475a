//! An issuer's key sets over https, good and with every fault that an issuer, or whoever is between, can have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Identity};

/// The name in its certificate.
const HOST: &str = "localhost";
/// How much a huge answer has, in bytes.
const HUGE: usize = 4 << 20;

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// With this body.
    With(String),
    /// With megabytes.
    Huge,
    /// Never to its end.
    Slowly,
    /// With this, and with a certificate of an authority that nobody knows.
    AsAStranger(String),
    /// It hangs up.
    Down,
}

/// A running issuer. Dropping it ends it.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    authority: Authority,
    answers: watch::Sender<Answers>,
    asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts it on a port of the kernel's choice.
    pub async fn start(answers: Answers) -> Result<Issuer> {
        let (authority, stranger) = (Authority::new("issuer")?, Authority::new("stranger")?);
        let own = acceptor(&authority.server(&[HOST])?)?;
        let strange = acceptor(&stranger.server(&[HOST])?)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding an issuer")?;
        let address = listener.local_addr()?;
        let (answers, given) = watch::channel(answers);
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = given.borrow().clone();
                let acceptor = if matches!(answers, Answers::AsAStranger(_)) { &strange } else { &own };
                let (acceptor, counter) = (acceptor.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    // A client that breaks off has seen what it was to see.
                    let _ = answer(stream, &acceptor, &answers).await;
                    counter.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Issuer { address, authority, answers, asked, task })
    }

    /// Where its key set is.
    pub fn uri(&self) -> String {
        format!("https://{HOST}:{}/jwks.json", self.address.port())
    }

    /// Who signed its certificate, in PEM.
    pub fn authority(&self) -> &str {
        self.authority.pem()
    }

    /// From now on it answers so.
    pub fn answer(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }

    /// How many connections have ended.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(identity: &Identity) -> Result<TlsAcceptor> {
    let configuration = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())?;
    Ok(TlsAcceptor::from(Arc::new(configuration)))
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor, answers: &Answers) -> Result<()> {
    if *answers == Answers::Down {
        return Ok(());
    }
    let mut stream = acceptor.accept(stream).await?;
    let mut request = vec![0; 8192];
    let _ = stream.read(&mut request).await?;
    match answers {
        Answers::With(body) | Answers::AsAStranger(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
        }
        Answers::Huge => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\": []}").await?;
            stream.write_all(&vec![b' '; HUGE]).await?;
        }
        Answers::Slowly => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await?;
            // Until the client has had enough.
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Answers::Down => {}
    }
    stream.shutdown().await?;
    Ok(())
}
