//! A Redis of the test's own, on a socket in a folder of its own, so that no port can be taken.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A running server; killed when dropped.
pub(crate) struct RedisServer {
    program: PathBuf,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// One for a test, or `None` after a printed skip where it may be missing.
    pub(crate) fn for_test() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!(
                "SKIPPED, nothing was tested: missing: redis-server (variable REDIS_SERVER, or `cargo xtask tools`)"
            );
            return None;
        };
        let mut server = Self { program, folder: tempfile::tempdir().unwrap(), child: None };
        server.start();
        Some(server)
    }

    /// Starts it, empty, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let child = Command::new(&self.program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while self.connect().and_then(|mut it| redis::cmd("PING").query::<()>(&mut it)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once, like a power failure.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It takes connections and answers nobody.
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// The end of [`RedisServer::pause`].
    pub(crate) fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where it is, for a user.
    pub(crate) fn url_as(&self, user: &str) -> String {
        format!("unix://{}?user={user}", self.socket().display())
    }

    /// Runs a command and demands success.
    pub(crate) fn command(&self, words: &[&str]) {
        redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut self.connect().unwrap()).unwrap();
    }

    /// Publishes bytes on the hosts' channel.
    pub(crate) fn publish(&self, bytes: &[u8]) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg("portcullis:limits").arg(bytes).query::<i64>(&mut self.connect().unwrap()).unwrap();
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(1))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// # Panics
/// Under `PORTCULLIS_REQUIRE=1` when there is none.
fn program() -> Option<PathBuf> {
    let named = env::var_os("REDIS_SERVER").filter(|value| !value.is_empty());
    if named.as_ref().is_some_and(|value| value == "none") {
        return None;
    }
    let found = named.map(PathBuf::from).or_else(|| {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders).map(|folder| folder.join("redis-server")).find(|path| Path::is_file(path))
    });
    assert!(found.is_some() || env::var("PORTCULLIS_REQUIRE").as_deref() != Ok("1"), "missing: redis-server");
    found
}
