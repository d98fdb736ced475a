//! Starting other programs: what is run is shown, and what fails is named.

use std::{
    env,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::project::Project;

/// Tells the user something. Everything that is not a result goes to stderr.
pub(crate) fn say(text: &str) {
    // A closed stderr is no reason to stop a build.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Cargo, in the work tree and with one target folder whatever folder the user is in.
pub(crate) fn cargo(project: &Project) -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&project.root).env("CARGO_TARGET_DIR", &project.target);
    command
}

/// A program without the variables that `cargo run` set for *us*: build scripts that watch them (`ring`'s does) would
/// run again each time cargo is started from here after it was started by hand, or the other way round.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    const OURS: [&str; 4] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
    let mut command = Command::new(name);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// The command as one could type it, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args()).map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_=./:,+%@".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Shows the command, runs it with our own terminal and demands success.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let status = command.status().with_context(|| cannot_run(command))?;
    ensure!(status.success(), "`{}` failed ({status})", shown(command));
    Ok(())
}

/// Runs the command unseen and returns what it wrote to stdout; its stderr is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_run(command))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", shown(command), output.status, complaint.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading the output of `{}`", shown(command)))
}

/// Runs the command unseen for at most `limit`; whether it succeeded in that time.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = quiet.spawn() else { return false };
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => sleep(Duration::from_millis(50)),
            _ => {
                // It may have ended by itself in the meantime; there is nothing to do about a failure here.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Becomes the program: it takes over our process, so that Ctrl-C and every other signal reach it directly and its exit
/// code is ours. Returns only when it could not be started.
#[cfg(unix)]
pub(crate) fn become_program(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    say(&format!("$ {}", shown(command)));
    Err(command.exec()).with_context(|| cannot_run(command))
}

/// Runs the program and waits for its end: the next best thing to taking over the process.
#[cfg(not(unix))]
pub(crate) fn become_program(command: &mut Command) -> Result<()> {
    check(command)
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run `{}`", command.get_program().to_string_lossy())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error = output(program("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(text, "`sh -c 'echo no such thing >&2; exit 3'` failed (exit status: 3): no such thing");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = output(&mut program("portcullis-no-such-program")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot run `portcullis-no-such-program`"));
    }

    #[test]
    fn a_program_that_hangs_is_ended_at_the_limit() {
        let started = Instant::now();
        assert!(!succeeds_within(program("sleep").arg("60"), Duration::from_millis(100)));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(succeeds_within(&mut program("true"), Duration::from_secs(30)));
    }

    #[test]
    fn what_cargo_set_for_us_is_not_passed_on() {
        let removed: Vec<_> =
            program("true").get_envs().filter(|(_, value)| value.is_none()).map(|(n, _)| n.to_owned()).collect();
        assert!(removed.iter().any(|name| name == "CARGO_PKG_NAME"), "{removed:?}");
    }
}
