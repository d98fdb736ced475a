//! `demo [--check]`: the whole product on this machine, and what to try on it.
//!
//! Without arguments it runs until Ctrl-C. With `--check` it tries every printed line itself and ends: 0 if each answered
//! as printed, 1 if one did not, 2 if the demo could not run.

// What it prints is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::tour::{self, DB_AFTER, DB_BEFORE, STOPS, Stop, Tour};
use portcullis_e2e::world::{SERVICES, World};
use tokio::signal::unix::{SignalKind, signal};

/// How fast a changed file must change the verdict.
const CHANGE_PATIENCE: Duration = Duration::from_secs(1);

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => bail!("usage: demo [--check]"),
    };
    // From here on a signal ends the demo in order: every process ended, the folder removed.
    let mut ended = Signals::new()?;
    let started = Instant::now();
    tokio::select! {
        () = ended.any() => bail!("interrupted"),
        world = start() => {
            let world = world?;
            let tour = Tour::new(&world)?;
            let paint = Paint { on: std::io::stdout().is_terminal() };
            print_running(&world, &paint, started.elapsed());
            if check {
                tokio::select! {
                    () = ended.any() => bail!("interrupted"),
                    held = prove(&tour, &paint) => held,
                }
            } else {
                print_tour(&world, &tour, &paint);
                ended.any().await;
                println!("\nended");
                Ok(true)
            }
        }
    }
}

async fn start() -> Result<World> {
    World::start(&Parts::find()?).await.context("starting the demo")
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
        print_stop(tour, stop, paint);
    }
    println!("\n{}", paint.bold("Change a file and see the verdict change within a second"));
    println!("  {}", tour.edit());
    print_stop(tour, &DB_AFTER, paint);
    println!("  and back: {}", tour.edit_back());
    println!("\n{}", paint.bold("Why was a request denied?"));
    println!("  # the plugin's lines in Traefik's log, one for each refusal\n  {}", tour.denials());
    println!("  # the access log's records\n  tail -n 1 {}", world.traefik.access_log_path().display());
    println!("  # the same decision on the policy files, without a gateway\n  {}", tour.explain());
    println!("\nCtrl-C ends everything and removes {}", world.folder().display());
}

fn print_stop(tour: &Tour<'_>, stop: &Stop, paint: &Paint) {
    println!("\n  # {}: {} ({})", stop.title, paint.verdict(stop.status, &stop.expected().to_string()), stop.why);
    println!("  {}", tour.line(stop));
}

/// Runs every line and says whether all held.
async fn prove(tour: &Tour<'_>, paint: &Paint) -> Result<bool> {
    let curl = tour::has_curl();
    println!("\nchecking every line with {}", if curl { "curl" } else { "the built-in client (no curl found)" });
    let mut held = true;
    for stop in &STOPS {
        let seen = tour.ask(stop, curl).await;
        held &= print_result(stop, seen, "", paint);
    }
    for (edit, stop) in [(tour.edit(), &DB_AFTER), (tour.edit_back(), &DB_BEFORE)] {
        tour::shell(&edit)?;
        let changed = Instant::now();
        let mut seen = tour.ask(stop, curl).await;
        while changed.elapsed() < CHANGE_PATIENCE && seen.as_ref().is_ok_and(|seen| *seen != stop.expected()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen = tour.ask(stop, curl).await;
        }
        held &= print_result(stop, seen, &format!(", {} ms after the change", changed.elapsed().as_millis()), paint);
    }
    held &= print_words("the log says why", tour::shell(&tour.denials()), "destination=api source=web rule=", paint);
    // `explain` ends with 1 for a request that is denied.
    let explained = tour::shell(&format!("{} || test $? -eq 1", tour.explain()));
    held &= print_words("explain says the same", explained, "deny 403", paint);
    println!("{}", if held { "every line answered as printed" } else { "NOT every line answered as printed" });
    Ok(held)
}

fn print_result(stop: &Stop, seen: Result<tour::Seen>, more: &str, paint: &Paint) -> bool {
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
    let output = output.unwrap_or_else(|error| format!("{error:#}"));
    let held = output.contains(wanted);
    if held {
        println!("  {}    {title}: found `{wanted}`", paint.good("ok"));
    } else {
        println!("  {}  {title}: no `{wanted}` in\n{output}", paint.bad("FAIL"));
    }
    held
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
