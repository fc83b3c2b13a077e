//! The rules in force: read anew when the control file changes, asked before every call.
//! A rule's counters and engines live as long as its id stays in the file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cryptoki_sys::CK_RV;

use super::control::{Control, Effect, Face, Rule};
use super::counts::Counts;
use super::functions::{COUNT, NAMES, number};
use super::slots::Slots;

/// The control file is looked at this often at most: a look costs a system call, a call through the shim must not.
const LOOK_EVERY_US: u64 = 1_000;

/// How often a hanging call looks whether it may go on.
const HANG_STEP: Duration = Duration::from_millis(1);

/// Without this, the kernel may let a sleep take 50 us longer than asked.
const TIMER_SLACK_NS: libc::c_ulong = 1;

/// All faults of this process.
pub(crate) struct Faults {
    path: Option<PathBuf>,
    start: Instant,
    looked_us: AtomicU64,
    seen: Mutex<Option<Stamp>>,
    armed: RwLock<Arc<Vec<Arc<Armed>>>>,
    quiet: AtomicBool,
}

/// What is to be done with one call.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Answered so, the module does not see it.
    pub(crate) instead: Option<CK_RV>,
    /// Answered so after the module did it.
    pub(crate) after: Option<CK_RV>,
    /// Not before this moment.
    not_before: Option<Instant>,
}

/// The identity of a file's content: replaced by renaming, so its inode changes.
type Stamp = (u64, i64, i64);

struct Armed {
    rule: Rule,
    /// The counts row of its token.
    row: Option<usize>,
    functions: [bool; COUNT],
    matched: AtomicU64,
    /// When each engine will be free.
    engines: Mutex<Vec<Instant>>,
}

impl Faults {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            start: Instant::now(),
            looked_us: AtomicU64::new(0),
            seen: Mutex::default(),
            armed: RwLock::default(),
            quiet: AtomicBool::new(true),
        }
    }

    /// Reads the control file if it changed since the last look. `now` does not wait for the next look to be due.
    pub(crate) fn refresh(&self, counts: &Counts, slots: &Slots, now: bool) {
        let Some(path) = &self.path else { return };
        let at_us = self.start.elapsed().as_micros() as u64;
        let looked_us = self.looked_us.load(SeqCst);
        if !now && at_us.saturating_sub(looked_us) < LOOK_EVERY_US {
            return;
        }
        let mine = self.looked_us.compare_exchange(looked_us, at_us, SeqCst, SeqCst).is_ok();
        if !mine && !now {
            return; // another thread looks
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if *seen != stamp {
            *seen = stamp;
            match self.read() {
                Ok(control) => self.arm(control.rules, counts, slots),
                // The faults of before stay; a test that wrote this must hear of it.
                Err(why) => eprintln!("pkcs11_shim: {}: {why}", path.display()),
            }
        }
    }

    /// The tokens to show.
    pub(crate) fn faces(&self) -> Result<Vec<Face>, String> {
        self.read().map(|control| control.slots)
    }

    /// Waits out what holds the call, and says what to do with it. `row`: the counts row of its token, if it has one.
    pub(crate) fn judge(&self, row: Option<usize>, function: usize, look: impl Fn()) -> Verdict {
        let mut verdict = Verdict::default();
        if self.quiet.load(SeqCst) {
            return verdict;
        }
        let (mut round_trip, mut served) = (Duration::ZERO, None::<Instant>);
        for armed in self.all().iter().filter(|armed| armed.strikes(row, function)) {
            match armed.rule.effect {
                Effect::Answer { code, after: false } => verdict.instead = verdict.instead.or(Some(code as CK_RV)),
                Effect::Answer { code, after: true } => verdict.after = verdict.after.or(Some(code as CK_RV)),
                Effect::RoundTrip { us } => round_trip += Duration::from_micros(us),
                Effect::Engines { .. } => served = armed.queue(Instant::now() + round_trip / 2),
                Effect::Hang => {
                    while self.all().iter().any(|other| other.rule.id == armed.rule.id && other.rule.lasts()) {
                        thread::sleep(HANG_STEP);
                        look();
                    }
                }
                Effect::Vanish { .. } | Effect::PinLock { .. } | Effect::SessionLimit { .. } => {}
                Effect::HideMechanisms { .. } => {}
            }
        }
        verdict.not_before = match served {
            Some(served) => Some(served + round_trip / 2),
            None => (!round_trip.is_zero()).then(|| Instant::now() + round_trip),
        };
        verdict
    }

    /// The code of an absent token, and whether it needs a new C_Initialize to be seen again.
    pub(crate) fn vanished(&self, row: usize) -> Option<(CK_RV, bool)> {
        self.state(row, |effect| match *effect {
            Effect::Vanish { code, reinitialise, .. } => Some((code as CK_RV, reinitialise)),
            _ => None,
        })
    }

    /// An absent token that the slot list still shows.
    pub(crate) fn is_listed(&self, row: usize) -> bool {
        self.state(row, |effect| matches!(effect, Effect::Vanish { listed: true, .. }).then_some(())).is_some()
    }

    /// Wrong PINs that lock, and those made by others.
    pub(crate) fn pin_lock(&self, row: usize) -> Option<(u64, u64)> {
        self.state(row, |effect| match *effect {
            Effect::PinLock { after, already } => Some((after, already)),
            _ => None,
        })
    }

    /// Sessions at most.
    pub(crate) fn session_limit(&self, row: usize) -> Option<u64> {
        self.state(row, |effect| match *effect {
            Effect::SessionLimit { max } => Some(max),
            _ => None,
        })
    }

    /// Mechanisms that the token is to lack.
    pub(crate) fn hidden_mechanisms(&self, row: usize) -> Vec<u64> {
        let hidden = self.state(row, |effect| match effect {
            Effect::HideMechanisms { numbers } => Some(numbers.clone()),
            _ => None,
        });
        hidden.unwrap_or_default()
    }

    fn state<T>(&self, row: usize, of: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        if self.quiet.load(SeqCst) {
            return None;
        }
        let here = |armed: &&Arc<Armed>| armed.row.is_none_or(|own| own == row) && armed.rule.lasts();
        self.all().iter().filter(here).find_map(|armed| of(&armed.rule.effect))
    }

    fn all(&self) -> Arc<Vec<Arc<Armed>>> {
        Arc::clone(&self.armed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self) -> Result<Control, String> {
        let Some(path) = &self.path else { return Ok(Control::default()) };
        match fs::read(path) {
            Ok(text) if text.is_empty() => Ok(Control::default()),
            Ok(text) => serde_json::from_slice(&text).map_err(|e| e.to_string()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Control::default()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn arm(&self, rules: Vec<Rule>, counts: &Counts, slots: &Slots) {
        let before = self.all();
        let known = |id| before.iter().find(|armed| armed.rule.id == id);
        let armed = rules.into_iter().map(|rule| match known(rule.id) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Armed::new(rule, counts)),
        });
        let armed: Vec<_> = armed.collect();
        self.quiet.store(armed.is_empty(), SeqCst);
        let new: Vec<_> = armed.iter().filter(|armed| known(armed.rule.id).is_none()).map(Arc::clone).collect();
        *self.armed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(armed);
        for armed in new {
            if let Effect::Vanish { reinitialise, .. } = armed.rule.effect
                && armed.rule.lasts()
            {
                slots.lose(armed.row, reinitialise);
            }
        }
    }
}

impl Verdict {
    /// Lets the simulated time pass: what the module needed itself is part of it.
    pub(crate) fn wait(&self) {
        thread_local! {
            static SLACK: () = {
                // SAFETY: PR_SET_TIMERSLACK takes a number and changes nothing but this thread's timers.
                unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) };
            };
        }
        if let Some(until) = self.not_before {
            SLACK.with(|()| thread::sleep(until.saturating_duration_since(Instant::now())));
        }
    }
}

impl Rule {
    fn lasts(&self) -> bool {
        let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        self.until_unix_ms.is_none_or(|until| now_ms() < until)
    }
}

impl Armed {
    fn new(rule: Rule, counts: &Counts) -> Self {
        let mut functions = [rule.functions.is_empty(); COUNT];
        // A storm on every call is one on slots and sessions: these must be named.
        for name in ["C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList", "C_WaitForSlotEvent"] {
            functions[number(name)] = false;
        }
        for name in &rule.functions {
            match NAMES.iter().position(|known| known == name) {
                Some(at) => functions[at] = true,
                None => eprintln!("pkcs11_shim: rule {}: no function is called {name:?}", rule.id),
            }
        }
        let row = rule.token.as_ref().map(|label| counts.claim(label));
        let count = if let Effect::Engines { count, .. } = rule.effect { count.max(1) } else { 0 };
        let engines = Mutex::new(vec![Instant::now(); count]);
        Self { rule, row, functions, matched: AtomicU64::new(0), engines }
    }

    /// Whether this call is struck; counts the calls that could be.
    fn strikes(&self, row: Option<usize>, function: usize) -> bool {
        if !self.functions[function] || self.row.is_some_and(|own| row != Some(own)) || !self.rule.lasts() {
            return false;
        }
        let call = self.matched.fetch_add(1, SeqCst) + 1;
        self.rule.calls.is_none_or(|(first, last)| (first..=last).contains(&call))
            && self.rule.probability.is_none_or(|share| share_of(self.rule.id, call) < share)
    }

    /// Takes the engine that is free first; gives the moment it will be done.
    fn queue(&self, arrives: Instant) -> Option<Instant> {
        let Effect::Engines { service_us, .. } = self.rule.effect else { return None };
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        let free = engines.iter_mut().min()?;
        *free = arrives.max(*free) + Duration::from_micros(service_us);
        Some(*free)
    }
}

/// A number in 0..1 that depends on rule and call alone (SplitMix64), so that a storm comes back the same.
fn share_of(rule: u64, call: u64) -> f64 {
    let mut z = rule.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(call.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}
