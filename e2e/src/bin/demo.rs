//! `demo [--full] [--check]`: the whole product on this machine, and what to try on it; with `--full`, the topology that it is
//! made for: two Kubernetes clusters, a machine, Consul with ACLs and TLS.
//!
//! Without `--check` it runs until Ctrl-C. With `--check` it tries every printed line itself and ends: 0 if each answered
//! as printed, 1 if one did not, 2 if the demo could not run.

// What it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portcullis_e2e::access::{self, Access, Seen, Stop};
use portcullis_e2e::parts::{KubernetesParts, Parts};
use portcullis_e2e::topology::{self, Topology};
use portcullis_e2e::tour::{DB_AFTER, DB_BEFORE, STOPS, Tour};
use portcullis_e2e::world::{SERVICES, World};
use tokio::signal::unix::{SignalKind, signal};

/// How fast a changed file must change the verdict.
const CHANGE_PATIENCE: Duration = Duration::from_secs(1);
/// How long what happened may take to be seen in numbers and logs.
const TOLD_PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool> {
    let (mut full, mut check) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--full" => full = true,
            "--check" => check = true,
            _ => bail!("usage: demo [--full] [--check]"),
        }
    }
    // From here on a signal ends the demo in order: every process ended, the folder removed.
    let mut ended = Signals::new()?;
    let paint = Paint { on: std::io::stdout().is_terminal() };
    let shown = async { if full { show_topology(&paint, check).await } else { show(&paint, check).await } };
    tokio::select! {
        () = ended.any() => {
            if check {
                bail!("interrupted");
            }
            println!("\nended");
            Ok(true)
        }
        held = shown => held,
    }
}

/// The small world; without `check` until it is dropped.
async fn show(paint: &Paint, check: bool) -> Result<bool> {
    let started = Instant::now();
    let world = World::start(&Parts::find()?).await.context("starting the demo")?;
    let tour = Tour::new(&world)?;
    print_running(&world, paint, started.elapsed());
    if check {
        return prove(&tour, paint).await;
    }
    print_tour(&world, &tour, paint);
    std::future::pending().await
}

/// The whole topology; without `check` until it is dropped.
async fn show_topology(paint: &Paint, check: bool) -> Result<bool> {
    let started = Instant::now();
    println!("starting two API servers, Consul, an agent, Traefik and the sidecar");
    let topology =
        Topology::start(&Parts::find()?, &KubernetesParts::find()?).await.context("starting the topology")?;
    let access = topology.access()?;
    println!("{} (started in {:.1} s)", paint.bold("The whole topology is running"), started.elapsed().as_secs_f64());
    println!("  gateway    Traefik on https://127.0.0.1:{}", topology.traefik.secure().port());
    for ((cluster, service), server) in topology::CLUSTERS.iter().zip(&topology.clusters) {
        println!("  cluster    {cluster} at {}, with the service {service}", server.url());
    }
    println!("  machine    vm-1, with the service {}", topology::MACHINE);
    println!("  registry   Consul at {}", topology.registry.tls_address());
    println!("  policy     {}", topology.layout.policy().display());
    let lines = [
        (
            "what Consul should hold, and why",
            format!("{} plan -c {}", topology.binary.display(), topology.layout.configuration().display()),
        ),
        (
            "whether it does",
            format!("{} plan --diff -c {}", topology.binary.display(), topology.layout.configuration().display()),
        ),
        ("numbers for Prometheus", format!("curl -sS http://{}/metrics | grep -v ^#", topology.metrics)),
        (
            "who asked for what, and what was decided",
            format!("tail -n 1 {}", topology.traefik.access_log_path().display()),
        ),
    ];
    if check {
        let curl = begin_check();
        let mut held = true;
        for stop in &topology::stops::STOPS {
            held &= print_result(stop, access.ask(stop, curl).await, "", paint);
        }
        for ((title, line), wanted) in
            lines.iter().zip(["shop", "", "portcullis_limit_admitted_units_total", "X-Portcullis-Decision"])
        {
            let (asked, mut seen) = (Instant::now(), access::shell(line));
            // Numbers and logs follow what they tell of.
            while asked.elapsed() < TOLD_PATIENCE && !seen.as_ref().is_ok_and(|text| text.contains(wanted)) {
                tokio::time::sleep(Duration::from_millis(200)).await;
                seen = access::shell(line);
            }
            held &= print_words(title, seen, wanted, paint);
        }
        return Ok(end_check(held));
    }
    println!("\n{}", paint.bold("Try"));
    for stop in &topology::stops::STOPS {
        print_stop(&access, stop, paint);
    }
    println!("\n{}", paint.bold("Look"));
    for (title, line) in &lines {
        println!("\n  # {title}\n  {line}");
    }
    println!("\nCtrl-C ends everything and removes {}", topology.folder().display());
    std::future::pending().await
}

fn print_running(world: &World, paint: &Paint, took: Duration) {
    println!("{} (started in {:.1} s)", paint.bold("Portcullis is running"), took.as_secs_f64());
    println!("  gateway    Traefik on https://127.0.0.1:{}", world.traefik.secure().port());
    for (name, _) in SERVICES {
        println!("  service    {name:<3} on node port {}", world.backends.get(name).address().port());
    }
    println!("  policy     {}", world.layout.policy().display());
    println!("  cluster    {}", world.layout.manifests().display());
    println!("  gate file  {}", world.layout.gate().display());
    println!("  snapshot   {}", world.layout.snapshot().display());
}

fn print_tour(world: &World, tour: &Tour<'_>, paint: &Paint) {
    println!("\n{}", paint.bold("Try"));
    for stop in &STOPS {
        print_stop(&tour.access, stop, paint);
    }
    println!("\n{}", paint.bold("Change a file and see the verdict change within a second"));
    println!("  {}", tour.edit());
    print_stop(&tour.access, &DB_AFTER, paint);
    println!("  and back: {}", tour.edit_back());
    println!("\n{}", paint.bold("Why was a request denied?"));
    println!("  # the plugin's lines in Traefik's log, one for each refusal\n  {}", tour.denials());
    println!("  # the access log's records\n  tail -n 1 {}", world.traefik.access_log_path().display());
    println!("  # the same decision on the policy files, without a gateway\n  {}", tour.explain());
    println!("\nCtrl-C ends everything and removes {}", world.folder().display());
}

fn print_stop(access: &Access<'_>, stop: &Stop, paint: &Paint) {
    println!("\n  # {}: {} ({})", stop.title, paint.verdict(stop.status, &stop.expected().to_string()), stop.why);
    println!("  {}", access.line(stop));
}

/// Runs every line and says whether all held.
async fn prove(tour: &Tour<'_>, paint: &Paint) -> Result<bool> {
    let curl = begin_check();
    let mut held = true;
    for stop in &STOPS {
        let seen = tour.access.ask(stop, curl).await;
        held &= print_result(stop, seen, "", paint);
    }
    for (edit, stop) in [(tour.edit(), &DB_AFTER), (tour.edit_back(), &DB_BEFORE)] {
        access::shell(&edit)?;
        let changed = Instant::now();
        let mut seen = tour.access.ask(stop, curl).await;
        while changed.elapsed() < CHANGE_PATIENCE && seen.as_ref().is_ok_and(|seen| *seen != stop.expected()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen = tour.access.ask(stop, curl).await;
        }
        held &= print_result(stop, seen, &format!(", {} ms after the change", changed.elapsed().as_millis()), paint);
    }
    held &= print_words("the log says why", access::shell(&tour.denials()), "destination=api source=web rule=", paint);
    // `explain` ends with 1 for a request that is denied.
    let explained = access::shell(&format!("{} || test $? -eq 1", tour.explain()));
    held &= print_words("explain says the same", explained, "deny 403", paint);
    Ok(end_check(held))
}

/// Says how it is checked; whether there is a `curl`.
fn begin_check() -> bool {
    let curl = access::has_curl();
    println!("\nchecking every line with {}", if curl { "curl" } else { "the built-in client (no curl found)" });
    curl
}

fn end_check(held: bool) -> bool {
    println!("{}", if held { "every line answered as printed" } else { "NOT every line answered as printed" });
    held
}

fn print_result(stop: &Stop, seen: Result<Seen>, more: &str, paint: &Paint) -> bool {
    let expected = stop.expected();
    match seen {
        Ok(seen) if seen == expected => {
            println!("  {}    {}: {seen}{more}", paint.good("ok"), stop.title);
            true
        }
        Ok(seen) => {
            println!("  {}  {}: {seen}{more}, expected {expected}", paint.bad("FAIL"), stop.title);
            false
        }
        Err(error) => {
            println!("  {}  {}: {error:#}, expected {expected}", paint.bad("FAIL"), stop.title);
            false
        }
    }
}

fn print_words(title: &str, output: Result<String>, wanted: &str, paint: &Paint) -> bool {
    let (worked, output) = match output {
        Ok(output) => (true, output),
        Err(error) => (false, format!("{error:#}")),
    };
    match worked && output.contains(wanted) {
        true if wanted.is_empty() => println!("  {}    {title}", paint.good("ok")),
        true => println!("  {}    {title}: found `{wanted}`", paint.good("ok")),
        false => {
            println!("  {}  {title}: no `{wanted}` in\n{output}", paint.bad("FAIL"));
            return false;
        }
    }
    true
}

/// Colours, on a terminal only.
struct Paint {
    on: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn verdict(&self, status: u16, text: &str) -> String {
        if status < 400 { self.good(text) } else { self.bad(text) }
    }
}

/// The signals that end the demo.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
