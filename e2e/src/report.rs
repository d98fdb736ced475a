//! What a run has measured: on standard error for whoever reads along, and in a document for everybody else.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

/// Prints one line. It goes past the test harness's capture: figures are wanted from tests that pass, too.
pub fn say(line: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A number of bytes in MiB with one decimal.
#[allow(clippy::cast_precision_loss)] // for people, far below 2^52
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Replaces what stands between the section's marks in a document, or adds it at the end.
pub fn write_section(path: &Path, name: &str, text: &str) -> Result<()> {
    let (begin_mark, end_mark) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let old = if path.exists() { fs::read_to_string(path)? } else { "# Benchmark\n".to_owned() };
    let section = format!("{begin_mark}\n{text}{end_mark}");
    let new = match (old.find(&begin_mark), old.find(&end_mark)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{section}{}", &old[..begin], &old[end + end_mark.len()..])
        }
        _ => format!("{}\n\n{section}\n", old.trim_end()),
    };
    fs::write(path, new)?;
    Ok(())
}
