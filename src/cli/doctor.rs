//! `bindery doctor`: one screen that says whether the site is fit to work, and what to do if not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::harden::{self, Hardening};
use crate::certs::chain::days_left;
use crate::certs::{Curve, DpChain, DpChains, Trust};
use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::hsm::lanes::{Lanes, Rules};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::KeyPolicy;
use crate::hsm::{Hsm, HsmSession, Role, own_points};
use crate::store::sealed::OP_AAD;
use crate::store::sqlite;

/// Columns and lines of the screen.
const COLUMNS: usize = 80;
const LINES: usize = 24;
/// Columns before a line's text.
const MARGIN: usize = 16;
/// Days of validity below which a certificate is worth a warning.
const WARN_DAYS: i64 = 30;
/// Free space below which a batch may not fit: 20,000 packages of 16 KiB and their PPPs, twice.
const WARN_DISK_MIB: u64 = 1_024;
const FAIL_DISK_MIB: u64 = 64;

/// Check token, keys, certificates, store and disk: one screen, and what to do
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    /// Ends with 0, or with the code of the gravest failure: 7 token, 11 certificates, 8 store, 3 the rest.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let mut report = examine(&site, Timestamp::now());
        // Of this process, as of every other command's; not of the site.
        report.memory(&harden::state());
        if json {
            say!("{}", report.to_json());
        } else {
            print!("{}", report.to_screen());
        }
        Ok(report.exit())
    }
}

/// All findings, in the order of the screen.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    name: &'static str,
    state: State,
    text: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail(Exit),
}

/// Examines a site at a point in time.
pub fn examine(site: &Site, now: Timestamp) -> Report {
    let mut report = Report::default();
    // The token first: SoftHSM wants to be opened before any thread runs.
    let tokens = Token::open_all(site);
    let token = tokens.as_ref().ok().and_then(|tokens| tokens.first()).map(|token| &**token);
    match &tokens {
        Ok(tokens) => report.tokens(site, tokens),
        Err(fault) => report.fault("token", fault),
    }
    report.certificates(site, token, now);
    report.clock(site, now);
    report.store(site);
    report.disk(site);
    report.targets(site, token);
    report
}

impl Report {
    /// The code of the gravest failure.
    pub fn exit(&self) -> Exit {
        let failed = |exit| self.findings.iter().any(|f| f.state == State::Fail(exit));
        [Exit::HsmUnusable, Exit::CertificateExpired, Exit::IntegrityFailure, Exit::Config]
            .into_iter()
            .find(|exit| failed(*exit))
            .unwrap_or(Exit::Done)
    }

    /// For programs: nothing is cut.
    pub fn to_json(&self) -> serde_json::Value {
        let checks: Vec<_> = self
            .findings
            .iter()
            .map(|f| json!({ "name": f.name, "state": f.state.as_str(), "text": f.text, "hint": f.hint }))
            .collect();
        json!({ "checks": checks, "exit": self.exit() as u8 })
    }

    /// For people: at most 24 lines of 80 columns, however much is wrong.
    pub fn to_screen(&self) -> String {
        let mut lines = Vec::new();
        for lines_each in [3, 2, 1] {
            lines = self.findings.iter().flat_map(|finding| finding.lines(lines_each)).collect();
            if lines.len() < LINES {
                break;
            }
        }
        lines.truncate(LINES - 1);
        lines.push(match self.exit() {
            Exit::Done => "fit to work".to_owned(),
            exit => format!("not fit to work (exit {})", exit as u8),
        });
        lines.join("\n") + "\n"
    }

    fn add(&mut self, name: &'static str, state: State, text: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding { name, state, text: text.into(), hint: None });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn fault(&mut self, name: &'static str, fault: &Fault) {
        self.add(name, State::Fail(fault.exit), &fault.what).hint.clone_from(&fault.hint);
    }

    fn tokens(&mut self, site: &Site, tokens: &[Arc<Token>]) {
        for token in tokens {
            let facts = token.facts();
            let about = format!("{:?}, {} ({}), serial {}", facts.label, facts.model, facts.firmware, facts.serial);
            self.add("token", State::Ok, about);
        }
        let hsm = &site.config.hsm;
        let named = std::iter::once(&hsm.token_label).chain(hsm.slot.iter().map(|slot| &slot.token_label));
        for label in named.filter(|label| !tokens.iter().any(|token| token.facts().label == **label)) {
            self.add("token", State::Warn, format!("{label:?} is away; the others would do its work"))
                .hint("connect it, or remove its [[hsm.slot]] from bindery.toml");
        }
        if let Some(first) = tokens.first() {
            self.login(site, first);
        }
        self.sessions(site, tokens);
        if let (Some(op_file), Some(token)) = (&site.config.credentials.op_file, tokens.first()) {
            match opens_op(&site.path(op_file), token) {
                Ok(()) => _ = self.add("OP", State::Ok, "opens under the site KEK"),
                Err(fault) => self.fault("OP", &fault),
            }
        }
    }

    fn login(&mut self, site: &Site, token: &Token) {
        let facts = token.facts();
        let pin_file = site.path(&site.config.hsm.pin_file);
        match std::fs::metadata(&pin_file).map(|m| m.permissions().mode() & 0o077) {
            Ok(0) | Err(_) => self.add("login", State::Ok, "user PIN taken, one attempt"),
            Ok(_) => self
                .add("login", State::Warn, "user PIN taken, but its file can be read by others")
                .hint(format!("chmod 600 {}", pin_file.display())),
        };
        let names: Vec<_> = facts.mechanisms.iter().map(|m| m.as_str().trim_start_matches("CKM_")).collect();
        self.add("mechanisms", State::Ok, names.join(", "));
        self.add("key policy", State::Ok, format!("{} keys as declared, known answers right", facts.keys));
    }

    fn sessions(&mut self, site: &Site, tokens: &[Arc<Token>]) {
        let wanted: usize = tokens.iter().map(|token| token.lanes()).sum();
        let seats = tokens.iter().map(|token| (Arc::clone(token), token.lanes())).collect();
        match Lanes::over(seats, Rules::of(&site.config.hsm)) {
            Ok(lanes) if lanes.count() == wanted => self.add("sessions", State::Ok, format!("{wanted} opened at once")),
            Ok(lanes) => self
                .add("sessions", State::Warn, format!("{} opened, {wanted} wanted", lanes.count()))
                .hint("lower hsm.lanes, or end what else holds sessions"),
            Err(e) => self.add("sessions", State::Fail(Exit::HsmUnusable), e.to_string()).hint(e.hint),
        };
    }

    fn certificates(&mut self, site: &Site, token: Option<&Token>, now: Timestamp) {
        let trust = match Trust::load(&site.path("certs/ci")) {
            Ok(trust) => trust,
            Err(fault) => return self.fault("CI", &fault),
        };
        for root in trust.roots() {
            self.days("CI", root.title(), root.not_after(), now);
        }
        let chains = match DpChains::load(site) {
            Ok(chains) => chains,
            Err(fault) => return self.fault("chains", &fault),
        };
        let about =
            |chain: &DpChain| format!("{}, OID {}, chain of {}", chain.curve(), chain.oid(), chain.chain_der().len());
        for (name, chain) in chains.pairs().iter().flat_map(|pair| [("DPauth", &pair.auth), ("DPpb", &pair.pb)]) {
            match chain.check_path(&trust, now) {
                Ok(()) => self.days(name, &about(chain), chain.not_after(), now),
                Err(fault) => self.fault(name, &fault),
            }
        }
        self.curves(site, &chains.curves());
        match chains.check_manifest_date(now) {
            Ok(()) => {
                let text = format!("SHA-256 {}", chains.manifest.fingerprint());
                self.days("manifest", &text, chains.manifest.not_after(), now);
            }
            Err(fault) => self.fault("manifest", &fault),
        }
        let all_in_date = !self.findings.iter().any(|f| f.state == State::Fail(Exit::CertificateExpired));
        if let Some(token) = token.filter(|_| all_in_date)
            && let Err(fault) =
                own_points(token).map_err(Fault::from).and_then(|points| chains.check(&trust, now, &points))
        {
            self.fault("key match", &fault);
        }
    }

    /// Which eUICCs can be served, and a second curve that was begun and not finished.
    fn curves(&mut self, site: &Site, served: &[Curve]) {
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy)).ok();
        let has_keys = |curve: &Curve| policy.as_ref().is_some_and(|p| p.rule(&Role::DpPb(*curve)).is_some());
        if let Some(curve) = Curve::ALL.iter().find(|curve| has_keys(curve) && !served.contains(curve)) {
            self.add("curves", State::Warn, format!("keys on {curve}, but no chains: its eUICCs are refused"))
                .hint("install the DPauth and DPpb chains of these keys");
            return;
        }
        let names: Vec<_> = served.iter().map(|curve| curve.as_str()).collect();
        let unserved = Curve::ALL.iter().find(|curve| !served.contains(curve));
        let only = unserved.map(|curve| format!(" only; eUICCs on {curve} are refused")).unwrap_or_default();
        self.add("curves", State::Ok, format!("{}{only}", names.join(", ")));
    }

    fn days(&mut self, name: &'static str, about: &str, not_after: Timestamp, now: Timestamp) {
        let days = days_left(not_after, now);
        let text = format!("{days} days left; {about}");
        let order = "order the next certificate now";
        match days {
            ..0 => self.add(name, State::Fail(Exit::CertificateExpired), format!("expired; {about}")).hint(order),
            0..WARN_DAYS => self.add(name, State::Warn, text).hint(order),
            _ => self.add(name, State::Ok, text),
        };
    }

    /// A clock behind the site's own past is wrong; nothing here can tell whether one ahead is.
    fn clock(&mut self, site: &Site, now: Timestamp) {
        let written = std::fs::metadata(site.path("bindery.toml")).and_then(|m| m.modified()).ok();
        let written = written.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        let text = now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        // A day of grace: file systems and time zones of other machines.
        if now.as_second() + 86_400 < written.as_second() {
            self.add("clock", State::Fail(Exit::Config), format!("{text} is before this site was configured"))
                .hint("set the clock (NTP) before anything is issued: dates of certificates depend on it");
        } else {
            self.add("clock", State::Ok, text);
        }
    }

    fn store(&mut self, site: &Site) {
        let path = site.state_db();
        if !path.exists() {
            self.add("store", State::Ok, "empty, no order yet");
            return;
        }
        match sqlite::quick_check(&path) {
            Ok(answer) if answer == "ok" => self.add("store", State::Ok, "state.db is sound"),
            Ok(answer) => self
                .add("store", State::Fail(Exit::IntegrityFailure), format!("state.db is not fit: {answer}"))
                .hint("check its owner and permissions; if it is damaged, stop, keep it and restore the last backup"),
            Err(e) => self
                .add("store", State::Fail(Exit::IntegrityFailure), format!("state.db cannot be read: {e}"))
                .hint("check owner and permissions; if it is damaged, keep it and restore the last backup"),
        };
    }

    /// Free space where packages go, which may be other disks than the site's, and whether a file can be made there.
    fn disk(&mut self, site: &Site) {
        let mut least_mib = u64::MAX;
        for dir in [site.root().to_owned(), site.outbox(), site.vault()].iter().filter(|dir| dir.is_dir()) {
            match nix::sys::statvfs::statvfs(dir) {
                Ok(space) => {
                    least_mib = least_mib.min(space.blocks_available().saturating_mul(space.fragment_size()) >> 20);
                }
                Err(e) => return self.fault("disk", &Fault::new(Exit::Config, format!("free space unknown: {e}"))),
            }
            let probe = dir.join(".doctor");
            if let Err(e) =
                durable::write(&probe, b"can be written\n", 0o600).and_then(|()| std::fs::remove_file(&probe))
            {
                let fault = Fault::new(Exit::Config, format!("{} cannot be written: {e}", dir.display()));
                return self
                    .fault("disk", &fault.hint("give the directory back to this user, or mount it for writing"));
            }
        }
        let text = format!("{least_mib} MiB free, outbox and vault can be written");
        let free_some = "free some space, or move outbox/ and vault/ to a larger disk";
        match least_mib {
            mib if mib < FAIL_DISK_MIB => self.add("disk", State::Fail(Exit::Config), text).hint(free_some),
            mib if mib < WARN_DISK_MIB => self.add("disk", State::Warn, text).hint(free_some),
            _ => self.add("disk", State::Ok, text),
        };
    }

    /// What a crash or a full memory could carry out of this process.
    fn memory(&mut self, state: &Hardening) {
        let mib = |octets: u64| octets >> 20;
        let dumps = if state.are_dumps_off { "core dumps off" } else { "core dumps on" };
        let locked = match (state.locked_octets, state.lock_limit) {
            (1.., _) => "memory locked".to_owned(),
            (0, None) => "memory not locked".to_owned(),
            (0, Some(limit)) => format!("memory not locked (limit {} MiB)", mib(limit)),
        };
        let swap = match state.swap_octets {
            0 => "no swap".to_owned(),
            octets => format!("{} MiB of swap", mib(octets)),
        };
        let text = [dumps, &locked, &swap].join(", ");
        match (state.are_dumps_off, state.locked_octets, state.swap_octets) {
            (true, 1.., _) | (true, 0, 0) => self.add("memory", State::Ok, text),
            (true, 0, _) => self.add("memory", State::Warn, text).hint(
                "set the limit of locked memory (memlock) to unlimited, or run without swap or with encrypted swap",
            ),
            (false, ..) => self.add("memory", State::Warn, text).hint("end what set this process dumpable again"),
        };
    }

    fn targets(&mut self, site: &Site, token: Option<&Token>) {
        let export = &site.config.export;
        let names = |names: Vec<&String>| names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
        if export.eim.is_empty() {
            self.add("eIM", State::Warn, "no target").hint("add [export.eim.NAME] to bindery.toml");
        } else {
            self.add("eIM", State::Ok, format!("bundles for {}", names(export.eim.keys().collect())));
        }
        if export.core.is_empty() {
            self.add("core", State::Warn, "no target").hint("add [export.core.NAME] to bindery.toml");
            return;
        }
        // Without the token the policy still says which transport keys there are.
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy)).ok();
        let known = |name: &str| {
            let role = Role::Transport(name.to_owned());
            token.is_some_and(|t| t.key(&role).is_ok()) || policy.as_ref().is_some_and(|p| p.rule(&role).is_some())
        };
        match export.core.iter().find(|(_, target)| !known(&target.transport_key)) {
            None => self.add("core", State::Ok, format!("core.csv for {}", names(export.core.keys().collect()))),
            Some((name, target)) => self
                .add("core", State::Fail(Exit::Config), format!("{name}: no transport key {:?}", target.transport_key))
                .hint("correct export.core in bindery.toml, or import the key and add it to the key policy"),
        };
    }
}

impl Finding {
    fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Text and hint, each on `most` lines at most.
    fn lines(&self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (i, part) in wrapped(&self.text, COLUMNS - MARGIN, most).into_iter().enumerate() {
            let head = if i == 0 { format!("{:<4} {}", self.state.as_str(), self.name) } else { String::new() };
            lines.push(format!("{head:<MARGIN$}{part}"));
        }
        if self.state != State::Ok
            && let Some(hint) = &self.hint
        {
            let parts = wrapped(&format!("-> {hint}"), COLUMNS - MARGIN, most);
            lines.extend(parts.into_iter().map(|part| format!("{:MARGIN$}{part}", "")));
        }
        lines
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail(_) => "FAIL",
        }
    }
}

/// Breaks at blanks, and inside words that are longer than a line; what does not fit into `most` lines ends in `...`.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width) {
            let piece: String = piece.iter().collect();
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            if used == 0 {
                lines[last] = piece;
            } else if used + 1 + piece.chars().count() <= width {
                lines[last] = format!("{} {piece}", lines[last]);
            } else {
                lines.push(piece);
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(width - 3).chain("...".chars()).collect();
        }
    }
    lines
}

fn opens_op(path: &Path, token: &Token) -> Result<(), Fault> {
    const HINT: &str = "restore the file: it was sealed under another key, or is damaged";
    let sealed = std::fs::read(path).map_err(|e| Fault::file(path, &e).hint(HINT))?;
    let op = token.open_session()?.open(token.key(&Role::SiteKek)?, OP_AAD, &sealed);
    match op {
        Ok(op) if op.len() == 16 => Ok(()),
        _ => Err(Fault::new(Exit::Config, format!("{} does not open to 16 octets", path.display())).hint(HINT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_never_grows_past_24_lines_of_80_columns() {
        let mut report = Report::default();
        for _ in 0..18 {
            let fault =
                Fault::new(Exit::Config, "something long is wrong ".repeat(20)).hint("do this or that ".repeat(20));
            report.fault("mechanisms", &fault);
        }
        let screen = report.to_screen();
        assert!(screen.lines().count() <= LINES);
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS));
        assert!(screen.ends_with("not fit to work (exit 3)\n"));
    }

    #[test]
    fn a_fingerprint_stays_whole_and_a_remedy_is_on_its_own_line() {
        let mut report = Report::default();
        let fingerprint = "0123456789abcdef".repeat(4);
        report.days(
            "manifest",
            &format!("SHA-256 {fingerprint}"),
            Timestamp::from_second(86_400 * 10).unwrap(),
            Timestamp::UNIX_EPOCH,
        );
        let screen = report.to_screen();
        assert!(screen.lines().any(|line| line.ends_with(&fingerprint)));
        assert!(screen.lines().any(|line| line.trim_start().starts_with("-> order the next certificate")));
    }

    #[test]
    fn unlocked_memory_is_worth_a_warning_only_where_it_can_be_swapped_out() {
        let sound = Hardening { are_dumps_off: true, locked_octets: 0, lock_limit: Some(8 << 20), swap_octets: 0 };
        let swapping = Hardening { swap_octets: 1 << 30, ..sound };
        for (state, expected) in [
            (sound, State::Ok),
            (swapping, State::Warn),
            (Hardening { locked_octets: 1, ..swapping }, State::Ok),
            (Hardening { are_dumps_off: false, ..sound }, State::Warn),
        ] {
            let mut report = Report::default();
            report.memory(&state);
            assert_eq!(report.findings[0].state, expected, "{state:?}");
        }
    }

    #[test]
    fn the_gravest_failure_gives_the_exit_code() {
        let mut report = Report::default();
        assert_eq!(report.exit(), Exit::Done);
        report.add("disk", State::Warn, "");
        assert_eq!(report.exit(), Exit::Done);
        for (exit, expected) in [
            (Exit::Config, Exit::Config),
            (Exit::CertificateExpired, Exit::CertificateExpired),
            (Exit::IntegrityFailure, Exit::CertificateExpired),
            (Exit::HsmUnusable, Exit::HsmUnusable),
        ] {
            report.add("x", State::Fail(exit), "");
            assert_eq!(report.exit(), expected);
        }
    }
}
