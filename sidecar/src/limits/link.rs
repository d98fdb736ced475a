//! The connection to Redis: messages out, messages in, and nobody who waits for either.
//!
//! Two connections, since one that listens cannot publish. Nothing is kept in the store, so one that is wiped, restarted or
//! replaced is as good as the last. What cannot be sent within [`OLDEST`] is dropped: by then it is worth nothing.

mod stream;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use redis::{
    ConnectionInfo, IntoConnectionInfo as _,
    aio::{MultiplexedConnection, PubSub, PubSubStream},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{config::RedisConfig, message::MAX_LEN};

/// A connection that is not there after this long will not be.
const CONNECT: Duration = Duration::from_secs(2);
/// The server has so long to take a message.
const ANSWER: Duration = Duration::from_secs(1);
/// A host hears itself four times a second; after this long without a message the connection is dead, whatever TCP says.
const SILENCE: Duration = Duration::from_secs(3);
/// Messages that waited longer are not sent.
const OLDEST: Duration = Duration::from_secs(1);
/// Waits between attempts to connect: doubling, each made up to a half longer by chance.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Messages that may wait in either direction.
const QUEUE: usize = 256;
/// Messages that are sent in one go.
const BATCH: usize = 64;

/// The connection, kept by a task of its own until this is dropped.
pub(super) struct Link {
    outgoing: mpsc::Sender<(Instant, Vec<u8>)>,
    incoming: mpsc::Receiver<Incoming>,
    health: Arc<Health>,
    task: JoinHandle<()>,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message, whoever sent it.
    Message(Vec<u8>),
    /// One above [`MAX_LEN`], which was thrown away.
    TooLong,
}

/// How the connection does.
#[derive(Debug, Default)]
pub(super) struct Health {
    connected: AtomicBool,
    connections: AtomicU64,
    unsent: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no answer in time")]
    Slow,
    #[error("the connection was closed")]
    Closed,
    #[error("nothing was heard for {} s, not even from this host", SILENCE.as_secs())]
    Silent,
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0}")]
    Transport(#[from] io::Error),
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    #[error("`#insecure` is not supported: name the authority in caFile")]
    Insecure,
}

struct Worker {
    config: RedisConfig,
    outgoing: mpsc::Receiver<(Instant, Vec<u8>)>,
    incoming: mpsc::Sender<Incoming>,
    health: Arc<Health>,
}

// === impl Link ===

impl Link {
    /// Starts the task; must be called in a tokio runtime. Never fails: a server that is not there is waited for.
    pub(super) fn start(config: RedisConfig, health: Arc<Health>) -> Self {
        let (outgoing, taken) = mpsc::channel(QUEUE);
        let (given, incoming) = mpsc::channel(QUEUE);
        let worker = Worker { config, outgoing: taken, incoming: given, health: health.clone() };
        Self { outgoing, incoming, health, task: tokio::spawn(worker.run()) }
    }

    /// Sends a message as soon as may be, or drops it when too many wait already.
    pub(super) fn send(&self, message: Vec<u8>) {
        if self.outgoing.try_send((Instant::now(), message)).is_err() {
            self.health.unsent.fetch_add(1, Relaxed);
        }
    }

    /// Adds what came in, at least one and at most `limit`; waits for the first. Returns how many; 0 is the end.
    pub(super) async fn receive(&mut self, messages: &mut Vec<Incoming>, limit: usize) -> usize {
        self.incoming.recv_many(messages, limit).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Health ===

impl Health {
    /// Whether both connections stand.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// How often they were made.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Messages that were dropped before they were sent.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent.load(Relaxed)
    }
}

// === impl Worker ===

impl Worker {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        let mut complaint = None;
        loop {
            let before = self.health.connections();
            let Err(error) = self.session(&mut complaint).await;
            self.health.connected.store(false, Relaxed);
            if self.health.connections() > before {
                wait = FIRST_WAIT;
            }
            let text = error.to_string();
            if complaint.as_ref() != Some(&text) {
                tracing::warn!(error = %text, "the store of global limits cannot be used; hosts count for themselves");
                complaint = Some(text);
            }
            tokio::time::sleep(wait + wait.mul_f64(chance() / 2.0)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Until the connection ends, which is always an error.
    async fn session(&mut self, complaint: &mut Option<String>) -> Result<std::convert::Infallible, LinkError> {
        let Self { config, outgoing, incoming, health } = self;
        let target = config.target()?;
        let (heard, connection, driver) =
            timeout(CONNECT, connect(config, &target)).await.map_err(|_| LinkError::Slow)??;
        health.connections.fetch_add(1, Relaxed);
        health.connected.store(true, Relaxed);
        *complaint = None;
        tracing::info!(channel = config.channel, "usage of global limits goes round");
        tokio::select! {
            error = listen(heard, incoming) => Err(error),
            error = publish(connection, &config.channel, outgoing, health) => Err(error),
            () = driver => Err(LinkError::Closed),
        }
    }
}

// === impl RedisConfig ===

impl RedisConfig {
    /// Where to, as the configuration and its files say now.
    fn target(&self) -> Result<ConnectionInfo, LinkError> {
        let read = |path: &std::path::Path| {
            let text = std::fs::read_to_string(path);
            text.map(|text| text.trim().to_owned()).map_err(|error| LinkError::File(path.display().to_string(), error))
        };
        let Self { url, url_file, password_file, .. } = self;
        let from_file = url_file.as_deref().map(read).transpose()?;
        let url = from_file.or_else(|| url.clone()).unwrap_or_default();
        let target = url.as_str().into_connection_info()?;
        if matches!(target.addr(), redis::ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(LinkError::Insecure);
        }
        // Who we are is of no use to the server, and would be one command more that its user must be allowed.
        let mut settings = target.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = password_file.as_deref().map(read).transpose()? {
            settings = settings.set_password(password);
        }
        Ok(target.set_redis_settings(settings))
    }
}

/// Both connections, and what must be polled for the second to work.
async fn connect<'a>(
    config: &'a RedisConfig,
    target: &'a ConnectionInfo,
) -> Result<(PubSubStream, MultiplexedConnection, impl Future<Output = ()> + 'a), LinkError> {
    let (settings, roots) = (target.redis_settings(), config.ca_file.as_deref());
    let mut listener = PubSub::new(settings, stream::open(target.addr(), roots).await?).await?;
    listener.subscribe(&config.channel).await?;
    let stream = stream::open(target.addr(), roots).await?;
    let (connection, driver) = MultiplexedConnection::new(settings, stream).await?;
    Ok((listener.into_on_message(), connection, driver))
}

async fn listen(mut heard: PubSubStream, incoming: &mpsc::Sender<Incoming>) -> LinkError {
    loop {
        let message = match timeout(SILENCE, heard.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return LinkError::Closed,
            Err(_) => return LinkError::Silent,
        };
        let bytes = message.get_payload_bytes();
        let read = if bytes.len() > MAX_LEN { Incoming::TooLong } else { Incoming::Message(bytes.to_vec()) };
        // Not dropped: whoever floods the channel must not silence a host. What the server may send is bounded below.
        if incoming.send(read).await.is_err() {
            return LinkError::Closed;
        }
    }
}

async fn publish(
    mut connection: MultiplexedConnection,
    channel: &str,
    outgoing: &mut mpsc::Receiver<(Instant, Vec<u8>)>,
    health: &Health,
) -> LinkError {
    connection.set_response_timeout(ANSWER);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if outgoing.recv_many(&mut batch, BATCH).await == 0 {
            return LinkError::Closed;
        }
        let mut pipeline = redis::pipe();
        for (since, message) in batch.drain(..) {
            if since.elapsed() > OLDEST {
                health.unsent.fetch_add(1, Relaxed);
            } else {
                pipeline.publish(channel, message).ignore();
            }
        }
        if !pipeline.is_empty()
            && let Err(error) = pipeline.query_async::<()>(&mut connection).await
        {
            return error.into();
        }
    }
}

/// From 0 to 1, so that hosts that lost the store together do not come back together.
fn chance() -> f64 {
    let mut byte = [0];
    // Without chance they do; that is no fault worth a word.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
