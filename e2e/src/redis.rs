//! Real Redis as a child process, without persistence.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::ports;
use crate::process::{Process, Start};

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A running Redis. It can be stopped and started at the same address.
#[derive(Debug)]
pub struct Redis {
    binary: PathBuf,
    folder: tempfile::TempDir,
    address: SocketAddr,
    process: Option<Process>,
}

impl Redis {
    /// Starts it, empty.
    pub async fn start(binary: &Path) -> Result<Redis> {
        let folder = tempfile::Builder::new().prefix("portcullis-redis-").tempdir()?;
        let mut redis = Redis { binary: binary.to_owned(), folder, address: ports::free()?, process: None };
        redis.resume().await?;
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it; what it knew is gone.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, empty.
    pub async fn resume(&mut self) -> Result<()> {
        let port = self.address.port().to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let process = self.process.insert(Process::start(&Start {
            name: "redis".to_owned(),
            program: self.binary.clone(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            directory: self.folder.path().to_owned(),
            log: self.folder.path().join("redis.log"),
        })?);
        let deadline = Instant::now() + PATIENCE;
        while ping(self.address).await.is_err() {
            process.must_run()?;
            if Instant::now() > deadline {
                bail!("redis is not ready after {PATIENCE:?}:\n{}", process.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

async fn ping(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    if &answer != b"+PONG" {
        bail!("not Redis: {answer:?}");
    }
    Ok(())
}
