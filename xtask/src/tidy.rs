//! The project's own rules on its files: what neither the compiler nor clippy looks at.
//!
//! Every file that git knows, or would take, is read; all findings are printed, not only the first. Generated files are
//! compared with their source by the step that makes them ([`crate::policy_dependencies`]), not here.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{project::Project, run};

/// A module above this is asked for its reason in review; it is printed.
const LONG_LINES: usize = 400;

/// A module above this is an error: it has more than one concern.
const TOO_LONG_LINES: usize = 600;

/// Folders that exist on one machine only. In pieces, so that this file keeps its own rule.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

/// Names that say "whoever you are": `<one of the folders above>you/` names no machine.
const ANYONE: [&str; 4] = ["you", "user", "me", "<"];

/// Package clients know their servers and users configure others: no file names one.
const REGISTRY_HOSTS: [&str; 9] = [
    concat!("deb.debian", ".org"),
    concat!("snapshot.debian", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("static.rust-lang", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("registry.npmjs", ".org"),
];

/// Code that was left for later.
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Checks every file.
pub(crate) fn check(project: &Project) -> Result<()> {
    // `safe.directory`: in a container the clone often belongs to another user than the one that runs this.
    let mut git = run::program("git");
    git.current_dir(&project.root).arg("-c").arg(format!("safe.directory={}", project.root.display()));
    let names = run::output(git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))
        .context("listing the project's files (a clone with git is needed)")?;
    let (mut n_files, mut long, mut findings) = (0, Vec::new(), Vec::new());
    for name in names.split_terminator('\0') {
        let path = project.root.join(name);
        // A file that is removed but not yet staged, or a link to a folder.
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {name}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        n_files += 1;
        findings.extend(findings_in(name, &text));
        if is_rust(name) && text.lines().count() > LONG_LINES {
            long.push(format!("note: {name} has {} lines", text.lines().count()));
        }
    }
    for line in long.iter().chain(&findings) {
        run::say(line);
    }
    ensure!(n_files > 0, "git lists no files");
    ensure!(findings.is_empty(), "in {n_files} files, findings: {}", findings.len());
    run::say(&format!("{n_files} files are tidy"));
    Ok(())
}

/// Everything that is wrong with one file, as `name:line: what`.
fn findings_in(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let is_rust = is_rust(name);
    for (index, line) in text.lines().enumerate() {
        let mut found = |what: String| findings.push(format!("{name}:{}: {what}", index + 1));
        if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| names_machine_folder(line, folder)) {
            found(format!("a folder of one machine (`{folder}`)"));
        }
        // Cargo writes the lock file, the registry's index included.
        if name != "Cargo.lock"
            && let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host))
        {
            found(format!("a package registry's host (`{host}`)"));
        }
        if is_rust && let Some(left) = UNFINISHED.iter().find(|left| line.contains(**left)) {
            found(format!("unfinished code (`{left}`)"));
        }
    }
    if is_rust {
        let n_lines = text.lines().count();
        if n_lines > TOO_LONG_LINES {
            findings.push(format!("{name}: {n_lines} lines, more than {TOO_LONG_LINES}: split it"));
        }
        if !text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!")) {
            findings.push(format!("{name}:1: the module does not say what it is for (`//!`)"));
        }
    }
    findings
}

fn is_rust(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extension == "rs")
}

/// Whether the line holds the folder as an absolute path, followed by a particular name.
fn names_machine_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + folder.len()..]);
        // `https://example.com/…` and `a/…/b` are no absolute paths.
        let absolute = !before.ends_with(|c: char| c.is_alphanumeric() || "_-.}$*".contains(c));
        let anyone = ANYONE.iter().any(|name| {
            after.strip_prefix(name).is_some_and(|rest| *name == "<" || !rest.starts_with(char::is_alphanumeric))
        });
        absolute && !anyone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with the pieces of a forbidden word joined, which this file may not hold.
    fn joined(text: &str) -> String {
        text.replace('~', "")
    }

    fn found(name: &str, text: &str) -> Vec<String> {
        findings_in(name, &joined(text))
    }

    #[test]
    fn a_folder_of_one_machine_is_found_with_its_line() {
        assert_eq!(found("a.md", "one\nsee /ho~me/joe/x"), [joined("a.md:2: a folder of one machine (`/ho~me/`)")]);
        assert_eq!(found("a.toml", "\"/ro~ot/.cargo\"").len(), 1);
        assert_eq!(found("a.md", "cat /wo~rk/shared/x").len(), 1);
    }

    #[test]
    fn a_folder_of_anyone_and_a_part_of_an_address_are_fine() {
        for text in
            ["/ho~me/you/x", "/ho~me/<name>", "https://example.com/ho~me/x", "$HOME/x", "./ho~me/x", "a/ro~ot/b"]
        {
            assert_eq!(found("a.md", text), [""; 0], "{text}");
        }
        assert_eq!(found("a.md", "/ho~me/youri/x").len(), 1, "a name that only begins like one");
    }

    #[test]
    fn a_registry_host_is_found_except_in_the_lock_file() {
        assert_eq!(found("a.sh", "curl https://py~pi.org/simple").len(), 1);
        assert_eq!(found("Cargo.lock", "https://index.cra~tes.io").len(), 0);
    }

    #[test]
    fn unfinished_and_undescribed_and_endless_modules_are_found() {
        assert_eq!(found("a.rs", "//! For x.\nfn x() { to~do!() }"), [joined("a.rs:2: unfinished code (`to~do!(`)")]);
        assert_eq!(found("a.rs", "fn x() {}"), ["a.rs:1: the module does not say what it is for (`//!`)"]);
        assert_eq!(found("a.rs", "\n//! For x.\nfn x() {}"), [""; 0]);
        let endless = format!("//! For x.\n{}", "\n".repeat(TOO_LONG_LINES));
        assert_eq!(found("a.rs", &endless), ["a.rs: 601 lines, more than 600: split it"]);
        assert_eq!(found("a.md", &endless), [""; 0]);
    }
}
