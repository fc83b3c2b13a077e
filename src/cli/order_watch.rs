//! `bindery order watch [DIR]`: wiring, one line an order, signals. What an inbox is, stands in `order::inbox`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Voice;
use super::intake::with_intake;
use super::order::refusal_text;
use super::run::stop_on_signal;
use super::screen::print_json;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::order::inbox::{Desk, Event, Inbox, Patience};
use crate::order::{Answer, Verdict};
use crate::pipeline::fan_out::FanOut;
use crate::pipeline::lock::WatchLock;
use crate::pipeline::{check_clock_now, outbox};
use crate::store::Store;
use crate::store::sqlite::Ledger;

/// `order watch`.
#[derive(Debug, clap::Args)]
pub struct OrderWatch {
    /// The directory [default: the site's inbox]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Take what is there, then end
    #[arg(long)]
    once: bool,
    /// Run `bindery run ORDER` for each accepted order
    #[arg(long)]
    run: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    every: f64,
    /// A file is read once it stayed the same for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    settle: f64,
    /// An order cut short, or with a file that has another SHA-256, is refused once it stayed so for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    grace: f64,
    /// An order that names a file which is not there is refused after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = seconds)]
    missing: f64,
}

/// A week at most: a typing error must not look like patience.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "is no number of seconds".to_owned())?;
    let fits = (0.0..=604_800.0).contains(&seconds);
    fits.then_some(seconds).ok_or_else(|| "is not between 0 and 604800 seconds".to_owned())
}

impl OrderWatch {
    pub(super) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        // Said now and not with the first order.
        Ledger::open(&site.state_db())?;
        let directory = self.directory.clone().unwrap_or_else(|| site.path("inbox"));
        if !directory.is_dir() {
            let what = format!("{} is no directory", directory.display());
            return Err(Fault::new(Exit::Config, what).hint("make it, and give it to whoever brings the orders"));
        }
        let stop = stop_on_signal()?;
        let _lock = WatchLock::take(&directory, jiff::Timestamp::now())?;
        let [settle, grace, missing] = [self.settle, self.grace, self.missing].map(Duration::from_secs_f64);
        let mut inbox = Inbox::open(&directory, Patience { settle, grace, missing })?;
        let cpu = FanOut::new(site.config.run.threads)?;
        let desk = Desk {
            knows: &|key| Ok(Ledger::open(&site.state_db())?.find_order(key)?.is_some()),
            // Opened for every order: certificates, templates and the ledger may be others than an hour ago.
            submit: &|file| {
                let site = Site::open(site_dir)?;
                let ledger = Ledger::open(&site.state_db())?;
                check_clock_now(&site)?;
                outbox::agrees(&site, &ledger)?;
                with_intake(&site, &ledger, &cpu, |intake| intake.submit_read(file))
            },
            today: &|| jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            stop: &stop,
        };
        let mut said = Said { json: voice.json, worst: Exit::Done, accepted: Vec::new(), failed: None };
        loop {
            let swept = inbox.sweep(&desk, Instant::now(), &mut |event| said.say(event))?;
            for order in std::mem::take(&mut said.accepted).into_iter().filter(|_| self.run) {
                said.note(run_order(site.root(), &order, &stop)?);
            }
            if let Some(fault) = said.failed.take() {
                return Err(fault);
            }
            let is_over = self.once && swept.settling == 0;
            if stop.load(Ordering::Relaxed) || is_over {
                let end = if swept.left == 0 { Exit::Done } else { Exit::Stopped };
                // A watcher that was told to end has done its work; only what it leaves behind is worth a code.
                return Ok(if self.once { worse(said.worst, end) } else { end });
            }
            pause(Duration::from_secs_f64(self.every), &stop);
        }
    }
}

/// Sleeps, but not through a signal.
fn pause(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// What was said so far, and the worst of it.
struct Said {
    json: bool,
    worst: Exit,
    /// Orders that were accepted since the last look here.
    accepted: Vec<String>,
    failed: Option<Fault>,
}

impl Said {
    fn say(&mut self, event: Event) {
        match event {
            Event::Answered { file, answer, filed } => self.answered(&file, &answer, &filed),
            Event::Refused { file, refusals, filed } => {
                self.note(Exit::OrderRejected);
                if self.json {
                    let codes: Vec<_> = refusals.iter().map(|refusal| refusal.code).collect();
                    self.line(
                        &json!({"event": "refused", "file": file, "exit": Exit::OrderRejected as u8, "codes": codes,
                                      "filed": filed}),
                    );
                    return;
                }
                say!("{file}: no order, refused -> {}", filed.display());
                refusals.iter().take(10).for_each(|refusal| tell!("{}", refusal_text(refusal).trim_end()));
            }
            Event::Waiting { file, what } => {
                if self.json {
                    self.line(&json!({"event": "waiting", "file": file, "what": what}));
                } else {
                    tell!("{file}: waiting, {what}");
                }
            }
            Event::Trouble { file, fault } => {
                self.note(fault.exit);
                if self.json {
                    self.line(&json!({"event": "error", "file": file, "exit": fault.exit as u8, "error": fault.what,
                                      "hint": fault.hint}));
                }
                tell!("error: {file}: {}", fault.what);
                fault.hint.iter().for_each(|hint| tell!("  hint: {hint}"));
                // A ledger that is not the site's own gets no better by waiting.
                if fault.exit == Exit::IntegrityFailure {
                    self.failed = Some(fault);
                }
            }
        }
    }

    fn answered(&mut self, file: &str, answer: &Answer, filed: &Path) {
        let Answer { key, verdict, exit, counts, outbox, repeated, .. } = answer;
        self.note(*exit);
        let key = key.as_ref().map(ToString::to_string).unwrap_or_default();
        if matches!(verdict, Verdict::Accepted | Verdict::AcceptedPartial) {
            self.accepted.push(key.clone());
        }
        if self.json {
            self.line(&json!({
                "event": "answered", "file": file, "order": key, "verdict": verdict.as_str(), "repeated": repeated,
                "exit": *exit as u8, "counts": counts, "outbox": outbox, "filed": filed,
            }));
            return;
        }
        let before = if *repeated { " (before)" } else { "" };
        say!(
            "{file}: {key} {}{before}, {} rows, {} accepted, {} refused -> {}",
            verdict.as_str(),
            counts.rows,
            counts.accepted,
            counts.refused,
            outbox.as_deref().unwrap_or(filed).display()
        );
        answer.warnings.iter().take(10).for_each(|warning| tell!("warning: {}", refusal_text(warning).trim_end()));
        answer.first_refusals.iter().for_each(|refusal| tell!("{}", refusal_text(refusal).trim_end()));
    }

    fn line(&mut self, value: &serde_json::Value) {
        self.failed = print_json(value).err().or(self.failed.take());
    }

    fn note(&mut self, exit: Exit) {
        self.worst = worse(self.worst, exit);
    }
}

/// The one that needs a person sooner: first what is wrong with the site, then with an order, then with its rows.
fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Stopped => 1,
        Exit::RowErrors => 2,
        Exit::OrderRejected => 3,
        Exit::DuplicateConflict => 4,
        Exit::Exhausted => 5,
        Exit::Locked => 6,
        _ => 7,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// `bindery run ORDER` as a process of its own: a token that fails there leaves the watcher alive.
fn run_order(site: &Path, order: &str, stop: &Arc<AtomicBool>) -> Result<Exit, Fault> {
    let failed = |e: std::io::Error| Fault::new(Exit::Bug, format!("`bindery run {order}` cannot be started: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("--site").arg(site).args(["--progress", "off", "run", order]);
    // Its table is no line of ours; what goes wrong it says on stderr.
    // Ctrl-C goes to a whole process group: it must reach the run once, from us.
    let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status.code().map_or(Exit::Stopped, exit_of));
        }
        if stop.load(Ordering::Relaxed) && !is_told {
            is_told = true;
            drain(&child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn drain(child: &Child) {
    // A child that has ended meanwhile is no error; its id is ours until it is waited for.
    let _ = i32::try_from(child.id()).map(|id| kill(Pid::from_raw(id), Signal::SIGTERM));
}

fn exit_of(code: i32) -> Exit {
    let all = [
        Exit::Done,
        Exit::Usage,
        Exit::Config,
        Exit::OrderRejected,
        Exit::RowErrors,
        Exit::DuplicateConflict,
        Exit::HsmUnusable,
        Exit::IntegrityFailure,
        Exit::Stopped,
        Exit::Locked,
        Exit::CertificateExpired,
        Exit::Exhausted,
        Exit::ApprovalMissing,
    ];
    all.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Exit::Bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_many_answers_is_the_one_that_ends_the_command() {
        let worst = |exits: &[Exit]| exits.iter().fold(Exit::Done, |worst, exit| worse(worst, *exit));
        assert_eq!(worst(&[Exit::Done, Exit::RowErrors, Exit::Done]), Exit::RowErrors);
        assert_eq!(worst(&[Exit::OrderRejected, Exit::Stopped]), Exit::OrderRejected);
        assert_eq!(worst(&[Exit::Config, Exit::DuplicateConflict]), Exit::Config);
    }

    #[test]
    fn seconds_are_numbers_of_a_week_at_most() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for text in ["-1", "NaN", "1e9", "inf", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
