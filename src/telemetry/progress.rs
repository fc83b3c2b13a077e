//! Progress of long work: done/total, rate, time left.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// A bar when stderr is a terminal, else plain lines
    #[default]
    Auto,
    /// A bar
    Bar,
    /// One line every 10 seconds
    Plain,
    /// One JSON object a line every second
    Json,
    /// Nothing
    Off,
}

/// Seconds between two lines of [`ProgressMode::Plain`].
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// Counts finished records; any thread may [`Self::add`].
pub struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { json: bool, interval: Duration, last: Mutex<Instant> },
    Nothing,
}

impl Progress {
    /// Starts counting; `what` is a verb in progress ("binding"), `done` of `total` records are finished already.
    pub fn start(mode: ProgressMode, what: &'static str, total: u64, done: u64) -> Self {
        let lines = |json, interval| Shown::Lines { json, interval, last: Mutex::new(Instant::now()) };
        let shown = match mode {
            ProgressMode::Bar => Shown::Bar(bar(what, total, done)),
            ProgressMode::Auto if std::io::stderr().is_terminal() => Shown::Bar(bar(what, total, done)),
            ProgressMode::Auto | ProgressMode::Plain => lines(false, PLAIN_INTERVAL),
            ProgressMode::Json => lines(true, JSON_INTERVAL),
            ProgressMode::Off => Shown::Nothing,
        };
        Self { what, total, done: AtomicU64::new(done), started: Instant::now(), shown }
    }

    /// `records` more are finished.
    pub fn add(&self, records: u64) {
        let done = self.done.fetch_add(records, Ordering::Relaxed) + records;
        match &self.shown {
            Shown::Bar(bar) => bar.inc(records),
            Shown::Lines { json, interval, last } => {
                // A poisoned clock only means that another thread panicked while printing: go on counting.
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= *interval {
                    *last = Instant::now();
                    self.line(*json, done);
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Takes the bar away (the summary follows on stdout); with lines, prints the last one.
    pub fn finish(&self) {
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines { json, .. } => self.line(*json, self.done.load(Ordering::Relaxed)),
            Shown::Nothing => {}
        }
    }

    fn line(&self, json: bool, done: u64) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let rate = done as f64 / seconds;
        let left_s = if rate > 0.0 { self.total.saturating_sub(done) as f64 / rate } else { 0.0 };
        let (what, total) = (self.what, self.total);
        let line = if json {
            let line =
                serde_json::json!({"progress": what, "done": done, "total": total, "per_s": rate, "eta_s": left_s});
            line.to_string()
        } else {
            format!("{what}: {done}/{total}, {rate:.0}/s, {left_s:.0} s left")
        };
        // Nobody may listen any more, as behind a terminal that was closed; the work goes on.
        let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{line}\n"));
    }
}

fn bar(what: &'static str, total: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
    let style = "{msg} [{bar:32}] {pos}/{len}  {rate}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        let rate = |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{:.0}/s", state.per_sec()); // a bar that cannot be drawn stops no work
        };
        bar.set_style(style.progress_chars("=> ").with_key("rate", rate));
    }
    bar.set_message(what);
    bar.set_position(done);
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_is_shared_between_threads() {
        let progress = Progress::start(ProgressMode::Off, "counting", 1_000, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|_| progress.add(1)));
            }
        });
        assert_eq!(progress.done.load(Ordering::Relaxed), 1_000);
        progress.finish();
    }
}
