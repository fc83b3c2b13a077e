//! The fault shim as tests use it: typed faults, written while a batch runs; counts, exact whatever killed the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

#[path = "../shim/control.rs"]
mod control;
#[path = "../shim/counts.rs"]
mod counts;
#[path = "../shim/functions.rs"]
mod functions;

use control::{Control, Effect, Face, Rule};
use counts::Counts;

/// After this, every new call sees a new control file.
const SEEN_AFTER: Duration = Duration::from_millis(5);

/// A shim before a module, with a control file and counts of its own.
pub(crate) struct Shim {
    dir: TempDir,
    behind: PathBuf,
    control: Control,
    counts: Counts,
}

/// A fault: [`on`] or [`everywhere`], narrowed, then what happens.
#[derive(Clone, Debug)]
pub(crate) struct Fault(Rule);

/// Names a fault that was set, to clear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultId(u64);

/// A fault of these functions.
pub(crate) fn on(functions: &[&str]) -> Fault {
    let known = |name: &&str| functions::NAMES[functions::number(name)].to_owned(); // a wrong name stops the test
    let functions = functions.iter().map(known).collect();
    // Never used twice, also not by two handles of one process: the shim keeps a rule's counters by its id.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, SeqCst);
    let effect = Effect::Hang; // until one is named
    Fault(Rule { id, token: None, functions, calls: None, probability: None, until_unix_ms: None, effect })
}

/// A fault of every function that names a slot or a session.
pub(crate) fn everywhere() -> Fault {
    on(&[])
}

impl Fault {
    /// Only of the token with this label.
    pub(crate) fn of(mut self, token: &str) -> Self {
        self.0.token = Some(token.to_owned());
        self
    }

    /// Only the calls FIRST to LAST of each process, counted from 1.
    pub(crate) fn calls(mut self, first: u64, last: u64) -> Self {
        self.0.calls = Some((first, last));
        self
    }

    /// Only this share of the calls.
    pub(crate) fn share(mut self, probability: f64) -> Self {
        self.0.probability = Some(probability);
        self
    }

    /// Ends by itself.
    pub(crate) fn lasting(mut self, time: Duration) -> Self {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        self.0.until_unix_ms = Some(until.as_millis() as u64);
        self
    }

    /// This CKR code comes back; the module does not see the call.
    pub(crate) fn answers(self, code: u64) -> Self {
        self.with(Effect::Answer { code, after: false })
    }

    /// This CKR code comes back although the module did the work.
    pub(crate) fn loses_answers(self, code: u64) -> Self {
        self.with(Effect::Answer { code, after: true })
    }

    /// Each call takes at least this long.
    pub(crate) fn round_trip(self, time: Duration) -> Self {
        self.with(Effect::RoundTrip { us: time.as_micros() as u64 })
    }

    /// The token serves so many calls at once, each for so long.
    pub(crate) fn engines(self, count: usize, service: Duration) -> Self {
        self.with(Effect::Engines { count, service_us: service.as_micros() as u64 })
    }

    /// Calls do not come back before the fault is cleared.
    pub(crate) fn hangs(self) -> Self {
        self.with(Effect::Hang)
    }

    /// The token is away: every call answers `code`, all handles are stale for ever.
    pub(crate) fn vanishes(self, code: u64) -> Self {
        self.with(Effect::Vanish { code, reinitialise: false, listed: false })
    }

    /// The same, but the slot list goes on to show it.
    pub(crate) fn dies_in_the_slot_list(self, code: u64) -> Self {
        self.with(Effect::Vanish { code, reinitialise: false, listed: true })
    }

    /// As [`Self::vanishes`], and it comes back only for a process that finalises and initialises.
    pub(crate) fn vanishes_until_initialised(self, code: u64) -> Self {
        self.with(Effect::Vanish { code, reinitialise: true, listed: false })
    }

    /// The user PIN locks after so many wrong ones, of which `already` were made before.
    pub(crate) fn locks_pin(self, after: u64, already: u64) -> Self {
        self.with(Effect::PinLock { after, already })
    }

    /// Sessions at most.
    pub(crate) fn limits_sessions(self, max: u64) -> Self {
        self.with(Effect::SessionLimit { max })
    }

    /// The token does not list these mechanisms.
    pub(crate) fn hides_mechanisms(self, numbers: &[u64]) -> Self {
        self.with(Effect::HideMechanisms { numbers: numbers.to_vec() })
    }

    fn with(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }
}

impl Shim {
    /// A shim before this module, without faults.
    pub(crate) fn before(module: impl Into<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let counts = Counts::open(Some(&dir.path().join("counts"))).unwrap();
        let shim = Self { dir, behind: module.into(), control: Control::default(), counts };
        shim.write();
        shim
    }

    /// The shim's own shared object, which `cargo test` built as an example; `cargo test --test NAME` alone builds none.
    pub(crate) fn module() -> PathBuf {
        let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let module = profile.join("examples/libpkcs11_shim.so");
        assert!(module.is_file(), "{}: `cargo build --examples` builds it", module.display());
        module
    }

    /// What the process that loads the shim needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("BINDERY_SHIM_MODULE", text(&self.behind)),
            ("BINDERY_SHIM_CONTROL", text(&self.dir.path().join("control.json"))),
            ("BINDERY_SHIM_COUNTS", text(&self.dir.path().join("counts"))),
        ]
    }

    /// Shows `(label, serial)` tokens that are all the module's token `of`. Seen at the next C_Initialize.
    pub(crate) fn show(&mut self, of: &str, faces: &[(&str, &str)]) {
        let face = |(label, serial): &(&str, &str)| Face {
            label: (*label).to_owned(),
            serial: (*serial).to_owned(),
            of: of.to_owned(),
        };
        self.control.slots = faces.iter().map(face).collect();
        self.write();
    }

    /// Sets a fault beside those that are; when this returns, new calls meet it.
    pub(crate) fn set(&mut self, fault: Fault) -> FaultId {
        let id = fault.0.id;
        self.control.rules.push(fault.0);
        self.write();
        FaultId(id)
    }

    /// Clears one fault; hanging calls go on.
    pub(crate) fn clear(&mut self, id: FaultId) {
        self.control.rules.retain(|rule| rule.id != id.0);
        self.write();
    }

    /// Clears all faults.
    pub(crate) fn clear_all(&mut self) {
        self.control.rules.clear();
        self.write();
    }

    /// Calls of a function on the token of this label ("" for calls that name no token), in all processes so far.
    pub(crate) fn calls(&self, token: &str, function: &str) -> u64 {
        let number = functions::number(function);
        self.counts.find(token).map_or(0, |row| self.counts.row(row).calls[number].load(SeqCst))
    }

    /// Of those, answered by a fault.
    pub(crate) fn injected(&self, token: &str, function: &str) -> u64 {
        let number = functions::number(function);
        self.counts.find(token).map_or(0, |row| self.counts.row(row).injected[number].load(SeqCst))
    }

    /// The most calls of one process that the token had at once.
    pub(crate) fn most_in_flight(&self, token: &str) -> u64 {
        self.counts.find(token).map_or(0, |row| self.counts.row(row).most_in_flight.load(SeqCst))
    }

    /// Wrong user PINs since the last right one.
    pub(crate) fn wrong_pins(&self, token: &str) -> u64 {
        self.counts.find(token).map_or(0, |row| self.counts.row(row).wrong_pins.load(SeqCst))
    }

    /// Sessions that a fault has answered on, in all processes together.
    pub(crate) fn struck_sessions(&self, token: &str) -> u64 {
        self.counts.find(token).map_or(0, |row| self.counts.row(row).struck_sessions.load(SeqCst))
    }

    /// How often C_Finalize and another call met.
    pub(crate) fn finalize_overlaps(&self) -> u64 {
        self.counts.table().finalize_overlaps.load(SeqCst)
    }

    /// What met, a line each.
    pub(crate) fn overlaps_told(&self) -> String {
        fs::read_to_string(self.dir.path().join("counts.overlaps")).unwrap_or_default()
    }

    fn write(&self) {
        let file = self.dir.path().join("control.json");
        let beside = self.dir.path().join("control.json.new");
        fs::write(&beside, serde_json::to_vec_pretty(&self.control).unwrap()).unwrap();
        fs::rename(&beside, &file).unwrap();
        std::thread::sleep(SEEN_AFTER);
    }
}
