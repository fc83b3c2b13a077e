//! What people see while work goes on: a progress bar on a terminal, a plain line elsewhere, a log on stderr.
//! Result goes to stdout, everything here to stderr. No identifiers but masked ones, no secrets ever.

mod progress;

pub use progress::{Progress, ProgressMode};

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts the log: human lines on stderr, or JSON lines with `json`. Level by BINDERY_LOG, default `warn`.
/// Only our own events: libraries log what they like, and not everything they like may be written down.
pub fn start_log(json: bool) {
    let level = std::env::var("BINDERY_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::WARN);
    let filter = EnvFilter::new(format!("off,bindery={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start (tests in one process) keeps the first log.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
