//! A host: a state folder, the sidecar's part, and guests.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use portcullis::{
    config::{LimitsConfig, MetricsConfig, RedisConfig, StoreDown},
    limits::Limits,
    numbers::Numbers,
};
use portcullis_limiter::{Charge, Limiter, Rule, clock, disk::Disk};

/// Units a second.
pub(crate) const RATE: f64 = 100.0;
/// Units at once.
pub(crate) const BURST: f64 = 20.0;

/// Guests on each host.
const GUESTS: usize = 2;
/// Between two charges of one guest: far more than the limit allows.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct Host {
    state: tempfile::TempDir,
    metrics: SocketAddr,
    /// Ends with the host.
    _limits: Limits,
}

impl Host {
    pub(crate) fn start(url: &str, store_down: StoreDown) -> Self {
        Self::start_with(|redis| {
            redis.url = Some(url.to_owned());
            redis.store_down = store_down;
        })
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut RedisConfig)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut redis: RedisConfig = serde_json::from_str("{}").unwrap();
        change(&mut redis);
        let limits = LimitsConfig { state: state.path().to_owned(), redis: Some(redis) };
        let metrics = MetricsConfig { listen: ([127, 0, 0, 1], 0).into() };
        let limits = Limits::start(Some(&limits), Some(&metrics), Arc::default(), Numbers::default(), None).unwrap();
        Self { state, metrics: limits.metrics_address().unwrap(), _limits: limits }
    }

    /// One of its numbers, without the prefix; 0 while it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix("portcullis_")?.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn wait_for(&self, name: &str, holds: impl Fn(u64) -> bool) {
        let start = Instant::now();
        while !holds(self.metric(name)) {
            assert!(start.elapsed() < Duration::from_secs(10), "waited for {name}, which is {}", self.metric(name));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn state(&self) -> PathBuf {
        self.state.path().to_owned()
    }
}

/// All guests of all hosts ask without end for `length`, while `meanwhile` runs. When each was admitted, in order.
pub(crate) fn flood(hosts: &[Host], length: Duration, meanwhile: impl FnOnce()) -> Vec<Instant> {
    let until = Instant::now() + length;
    let states: Vec<PathBuf> = hosts.iter().flat_map(|host| (0..GUESTS).map(|_| host.state())).collect();
    let guests: Vec<_> = states.into_iter().map(|state| thread::spawn(move || guest(&state, until))).collect();
    meanwhile();
    let mut admitted: Vec<Instant> = guests.into_iter().flat_map(|guest| guest.join().unwrap()).collect();
    admitted.sort();
    admitted
}

fn guest(state: &Path, until: Instant) -> Vec<Instant> {
    let mut limiter = Limiter::new(Disk::new(state));
    let charge = Charge {
        key: 0x1234_5678_9abc_def0,
        tag: 7,
        label: "web".to_owned(),
        rule: Rule::Rate { interval_ns: 10_000_000, burst: 20 },
        cost: 1,
        enforced: true,
        global: true,
    };
    let mut admitted = Vec::new();
    loop {
        let before = Instant::now();
        if before >= until {
            return admitted;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let file = fs::read(state.join("limits/clock")).unwrap_or_default();
        let reading = clock::steady(u64::try_from(wall.as_nanos()).unwrap(), &file);
        // No request ever fails, whatever becomes of the store.
        if limiter.charge(std::slice::from_ref(&charge), reading.steady_ns).unwrap().admitted {
            admitted.push(before);
        }
        thread::sleep(PAUSE);
    }
}

/// No window holds more than `burst + rate·w + (n - 1)·(burst + rate·lag)`.
pub(crate) fn bound_is_kept(admitted: &[Instant], n_hosts: u32, lag: Duration) {
    let more = f64::from(n_hosts - 1) * (BURST + RATE * lag.as_secs_f64());
    // What was admitted and has not come back yet is what the worst window until now holds above `rate·w`.
    let (mut level, mut last, mut worst) = (0.0_f64, None::<Instant>, 0.0_f64);
    for at in admitted {
        let since = last.map_or(0.0, |last| (*at - last).as_secs_f64());
        level = (level - RATE * since).max(0.0) + 1.0;
        worst = worst.max(level);
        last = Some(*at);
    }
    eprintln!("{} admitted; at most {worst:.0} above the rate, where {:.0} are declared", admitted.len(), BURST + more);
    assert!(worst <= BURST + more, "{worst} in a window above its rate, more than {}", BURST + more);
}
