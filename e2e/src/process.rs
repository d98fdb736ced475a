//! Child processes that never outlive us: killed on drop, and by the kernel if we are killed ourselves.
//!
//! Output goes to a file. When a test panics, the end of that file is printed while the process is dropped, so that a
//! failure shows what the real part said.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

/// How many bytes of a log are shown when a test fails.
const SHOWN_LOG_BYTES: usize = 6_000;

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// A short name for messages and the log file.
    pub name: String,
    /// The program file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside the inherited ones.
    pub environment: Vec<(&'static str, String)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Where standard output and standard error go, appended.
    pub log: PathBuf,
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes (`VmRSS`).
    pub resident_bytes: u64,
    /// User plus system time of all its threads, in steps of the kernel's clock tick (10 ms).
    pub cpu: Duration,
}

impl Process {
    /// Starts it.
    pub fn start(start: &Start) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&start.log)
            .with_context(|| format!("opening {}", start.log.display()))?;
        let mut command = command(&start.program);
        command
            .args(&start.arguments)
            .envs(start.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&start.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log file")?)
            .stderr(log);
        let child = spawn(command).with_context(|| format!("starting {}", start.program.display()))?;
        Ok(Process { name: start.name.clone(), child, log: start.log.clone() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        // Either call only fails if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything it has written so far.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The file with its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// An error with the end of its log if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking for the state of a child")? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended ({status}):\n{}", self.name, self.log_end())),
        }
    }

    /// Memory and processor time, from `/proc`.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.id()).with_context(|| format!("reading the usage of {}", self.name))
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = self.log().unwrap_or_default();
        let mut from = log.len().saturating_sub(SHOWN_LOG_BYTES);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        log[from..].to_owned()
    }
}

impl Drop for Process {
    // A failing test must show what the real parts said; standard error is where the test harness shows it.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- end of the log of {}\n{}", self.name, self.log_end());
        }
    }
}

/// A command that the kernel kills when we die.
///
/// The signal is set by `setpriv` (util-linux, part of every Debian), since setting it between fork and exec needs
/// `unsafe` here. Where `setpriv` lacks, drop and signal handling still end the children in all ordinary cases.
fn command(program: &Path) -> Command {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let available = *AVAILABLE.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    if available {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Spawns on one thread that lives as long as we do: the kernel sends the parent-death signal when the *thread* that
/// spawned ends, and a thread of an asynchronous runtime or of a test may end early.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                // The asker waits for the answer; if it is gone, the child is dropped with the message.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (sender, answer) = mpsc::channel();
    let gone = || io::Error::other("the spawning thread is gone");
    spawner.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn usage(process: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; the fields after the last ')' are state, ppid, … (proc(5): utime is
    // field 14, stime field 15; state is field 3).
    let (_, fields) = stat.rsplit_once(')').context("no name in the stat line")?;
    let mut ticks = fields.split_ascii_whitespace().skip(11);
    let mut next = || -> Result<u64> { Ok(ticks.next().context("short stat line")?.parse()?) };
    let total = next()? + next()?;
    let cpu = Duration::from_millis(total * 1_000 / rustix::param::clock_ticks_per_second());

    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(Usage { resident_bytes: kilobytes * 1024, cpu })
}
