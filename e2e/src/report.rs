//! What a run has measured, on standard error for whoever reads along.

use std::io::Write as _;

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
