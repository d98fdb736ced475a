//! The process that is measured, and how it is told what to do: one line a command over a connection, one line back.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portcullis::config::Config;
use portcullis::gate::Output;
use portcullis::gate_writer::{self, Table};
use portcullis::input::{self, Change, Input, Said};
use portcullis::numbers::Numbers;
use portcullis::services::Services;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::objects;
use crate::ports;
use crate::process::{Process, Start, Usage};

const START_PATIENCE: Duration = Duration::from_secs(60);

/// The child, as the one who measures has it.
pub(super) struct Child {
    process: Process,
    connection: BufReader<TcpStream>,
}

impl Child {
    pub(super) async fn start(folder: &Path, consul: &str, services: usize) -> Result<Self> {
        let address = ports::free()?;
        let mut process = Process::start(&Start {
            name: "sync".to_owned(),
            program: std::env::current_exe().context("who am I")?,
            arguments: vec![
                "--child".into(),
                address.to_string().into(),
                consul.into(),
                services.to_string().into(),
                folder.join("gate.yml").into(),
            ],
            environment: Vec::new(),
            directory: folder.to_owned(),
            log: folder.join("sync.log"),
        })?;
        let end = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                stream.set_nodelay(true)?;
                return Ok(Self { process, connection: BufReader::new(stream) });
            }
            process.must_run()?;
            if Instant::now() > end {
                bail!("the child does not listen:\n{}", process.log_end());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells it something; what it answers.
    pub(super) async fn ask(&mut self, command: &str) -> Result<String> {
        self.connection.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        self.connection.read_line(&mut answer).await?;
        if answer.is_empty() {
            bail!("the child is gone:\n{}", self.log_end());
        }
        Ok(answer.trim().to_owned())
    }

    /// How many transactions Consul took; `None` before everything was in step for the first time.
    pub(super) async fn transactions(&mut self) -> Result<Option<u64>> {
        Ok(self.ask("transactions").await?.parse().ok())
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// The most memory that was ever resident, in bytes.
    pub(super) fn most_resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
        Ok(kilobytes * 1024)
    }

    pub(super) fn log_end(&self) -> String {
        self.process.log_end()
    }
}

/// What the child does, until the connection ends.
pub async fn serve(address: SocketAddr, consul: String, n_services: usize, gate: &Path) -> Result<()> {
    // The objects come by the connection; the rest is as `portcullis run` would read it.
    let config: Config = serde_json::from_value(json!({
        "manifests": "none", "policy": {"directory": "none"}, "snapshot": {"file": "none"}, "gate": {"file": gate},
        "consul": {"address": consul}, "catalog": {"watch": false},
    }))?;
    let (table, numbers, output) = (Table::new(), Numbers::default(), Arc::new(Output::start(&config)?));
    let cluster = config.sync.cluster_name.clone();
    let mut services = Services::start(&config, table.clone(), numbers.clone())?;
    let (inputs, mut said) = mpsc::channel(input::WAITING);
    tokio::spawn(async move { services.follow(&mut said).await });
    let mut objects = Some(Box::new(objects::cluster(n_services)));
    let (stream, _) = TcpListener::bind(address).await?.accept().await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<_> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["whole"] => {
                let whole = Said::Whole(objects.take().context("there is one whole")?);
                inputs.send(Input::Cluster(cluster.clone(), whole)).await?;
                String::new()
            }
            ["change", service, is_ready] => {
                let service = service.parse()?;
                let slice = objects::changed(service, is_ready.parse()?).context("no slice")?;
                let change = Change::Slice(Arc::new(objects::key(service)), Some(slice));
                inputs.send(Input::Cluster(cluster.clone(), Said::Changes(vec![change]))).await?;
                String::new()
            }
            ["transactions"] => match numbers.consul(&cluster) {
                Some(status) if status.in_step.is_some() => status.transactions.to_string(),
                _ => "-".to_owned(),
            },
            ["gate"] => {
                tokio::spawn(gate_writer::follow(table.clone(), Arc::clone(&output)));
                String::new()
            }
            _ => bail!("no such command: {line}"),
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}
