//! A reader that asks one thing again and again, a thousand times a second and more: one connection that is kept, on a thread
//! of its own, and an answer is bytes to look at, not objects to build.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes taken from the connection at once.
const PIECE: usize = 64 << 10;
/// Most headers of an answer.
const HEADERS: usize = 64;

/// A connection on which the same request is sent again and again, several at once: each is answered at a time of its own, and
/// on a busy machine waiting for a turn of the processor is most of the time.
#[derive(Debug)]
pub struct Asker {
    stream: TcpStream,
    requests: Vec<u8>,
    /// Answers that are still to come.
    open: usize,
    at_once: usize,
    /// What came and was not used yet.
    raw: Vec<u8>,
    body: Vec<u8>,
}

/// A thread that reads until it is told to stop. What its judge does not like ends it.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Outcome>>,
}

/// What a reader has seen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How often it has read.
    pub reads: usize,
    /// How many of its answers differed from the one before.
    pub changes: usize,
    /// The longest time from one answer to the next.
    pub longest: Duration,
}

// === impl Asker ===

impl Asker {
    /// Connects for GETs of this path, so many of them under way at once.
    pub fn connect(address: SocketAddr, path: &str, at_once: usize) -> Result<Asker> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let requests = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(at_once).into_bytes();
        Ok(Asker { stream, requests, open: 0, at_once, raw: Vec::new(), body: Vec::new() })
    }

    /// The body of the next answer, which must be a 200. Asks first where no answer is to come.
    pub fn ask(&mut self) -> Result<&[u8]> {
        if self.open == 0 {
            self.stream.write_all(&self.requests).context("asking")?;
            self.open = self.at_once;
        }
        self.open -= 1;
        let (status, length, head) = loop {
            if let Some(head) = head(&self.raw)? {
                break head;
            }
            self.more()?;
        };
        self.raw.drain(..head);
        self.body.clear();
        match length {
            Some(length) => self.take(length)?,
            None => loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                    .with_context(|| format!("no size of a chunk: {size:?}"))?;
                self.take(size)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
                if size == 0 {
                    break;
                }
            },
        }
        ensure!(status == 200, "answered {status}: {}", String::from_utf8_lossy(&self.body));
        Ok(&self.body)
    }

    fn more(&mut self) -> Result<()> {
        let before = self.raw.len();
        self.raw.resize(before + PIECE, 0);
        let n = self.stream.read(&mut self.raw[before..]).context("reading an answer")?;
        self.raw.truncate(before + n);
        ensure!(n > 0, "the connection was closed");
        Ok(())
    }

    /// Moves so many bytes to the body.
    fn take(&mut self, length: usize) -> Result<()> {
        while self.raw.len() < length {
            self.more()?;
        }
        self.body.extend(self.raw.drain(..length));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.raw.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.raw[..end]).into_owned();
                self.raw.drain(..end + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }
}

/// The status, the body's length (none: in chunks) and the head's length, once the head is whole.
fn head(raw: &[u8]) -> Result<Option<(u16, Option<usize>, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(raw).context("reading a head")? else { return Ok(None) };
    let value = |name: &str| response.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value);
    let body = match (value("Content-Length"), value("Transfer-Encoding")) {
        (Some(text), None) => Some(std::str::from_utf8(text)?.trim().parse()?),
        (None, Some(text)) if text.eq_ignore_ascii_case(b"chunked") => None,
        _ => bail!("an answer without a length"),
    };
    Ok(Some((response.code.context("no status")?, body, length)))
}

// === impl Reader ===

impl Reader {
    /// Starts one that reads at most every `pace`, so many answers from one asking. `judge` is shown every answer that differs
    /// from the one before.
    pub fn start(
        address: SocketAddr,
        path: &str,
        (pace, at_once): (Duration, usize),
        mut judge: impl FnMut(&[u8]) -> Result<()> + Send + 'static,
    ) -> Result<Reader> {
        let mut asker = Asker::connect(address, path, at_once)?;
        let (stop, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&reads));
        let thread = std::thread::spawn(move || {
            let (mut last, mut changes, mut longest) = (Vec::new(), 0, Duration::ZERO);
            let (mut before, mut read) = (Instant::now(), 0_u32);
            let start = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let answer = asker.ask()?;
                if *answer != last {
                    judge(answer)?;
                    answer.clone_into(&mut last);
                    changes += 1;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(before.elapsed());
                before = Instant::now();
                read += 1;
                // What was missed is not made up for.
                std::thread::sleep((pace * read).saturating_sub(start.elapsed()).min(pace));
            }
            Ok(Outcome { reads: counter.load(Ordering::Relaxed), changes, longest })
        });
        Ok(Reader { stop, reads, thread })
    }

    /// How often it has read so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Ends it; an error is what its judge did not like.
    pub fn finish(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("the reader panicked"),
        }
    }
}
