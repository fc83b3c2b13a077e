//! What stands around the tokens: certificates, clock, store, disks, memory, targets.

use jiff::Timestamp;

use super::report::{Report, State};
use crate::certs::chain::days_left;
use crate::certs::{Curve, DpChain, DpChains, Trust};
use crate::cli::harden::Hardening;
use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::KeyPolicy;
use crate::hsm::{Hsm, Role, own_points};
use crate::pipeline;
use crate::store::StoreError;
use crate::store::sqlite::{self, Ledger};

/// Days of validity below which a certificate is worth a warning.
const WARN_DAYS: i64 = 30;
/// Free space below which a batch may not fit: 20,000 packages of 16 KiB and their PPPs, twice.
const WARN_DISK_MIB: u64 = 1_024;
const FAIL_DISK_MIB: u64 = 64;

impl Report {
    pub(super) fn certificates(&mut self, site: &Site, token: Option<&Token>, now: Timestamp) {
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
    pub(super) fn clock(&mut self, site: &Site, now: Timestamp) {
        let written = std::fs::metadata(site.path("bindery.toml")).and_then(|m| m.modified()).ok();
        let written = written.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        let text = now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        // A day of grace: file systems and time zones of other machines.
        if now.as_second() + 86_400 < written.as_second() {
            self.add("clock", State::Fail(Exit::Config), format!("{text} is before this site was configured"))
                .hint("set the clock (NTP) before anything is issued: dates of certificates depend on it");
            return;
        }
        // The site's own orders are its past, too. What is wrong with the ledger itself stands under "store".
        let newest = sqlite::newest_acceptance(&site.state_db()).ok().flatten();
        match newest.map_or(Ok(()), |newest| pipeline::check_clock(site, newest, now)) {
            Ok(()) => {
                self.add("clock", State::Ok, text);
            }
            Err(fault) => self.fault("clock", &fault),
        }
    }

    pub(super) fn store(&mut self, site: &Site) {
        let path = site.state_db();
        if let Err(lost) = sqlite::lost(&path) {
            return self.fault("store", &lost.into());
        }
        if !path.exists() {
            self.add("store", State::Ok, "empty, no order yet");
            return;
        }
        match sqlite::quick_check(&path) {
            Ok(answer) if answer == "ok" => self.outbox(site),
            Ok(answer) => {
                let text = format!("state.db is not fit: {answer}");
                self.add("store", State::Fail(Exit::IntegrityFailure), text).hint(
                    "check its owner and permissions; if it is damaged, stop, keep it and restore the last backup",
                );
            }
            Err(e @ StoreError::Newer) => self.fault("store", &e.into()),
            Err(e) => {
                let text = format!("state.db cannot be read: {e}");
                self.add("store", State::Fail(Exit::IntegrityFailure), text)
                    .hint("check owner and permissions; if it is damaged, keep it and restore the last backup");
            }
        }
    }

    /// What the outbox speaks of and the ledger does not know: an older one was put in its place.
    fn outbox(&mut self, site: &Site) {
        let ledger = Ledger::open(&site.state_db()).map_err(Fault::from);
        match ledger.and_then(|ledger| pipeline::outbox::agrees(site, &ledger)) {
            Ok(()) => _ = self.add("store", State::Ok, "state.db is sound"),
            Err(fault) => self.fault("store", &fault),
        }
    }

    /// Free space where packages go, which may be other disks than the site's, and whether a file can be made there.
    pub(super) fn disk(&mut self, site: &Site) {
        let mut least_mib = u64::MAX;
        for dir in [site.root().to_owned(), site.outbox(), site.vault()].iter().filter(|dir| dir.exists()) {
            if !dir.is_dir() {
                let fault = Fault::new(Exit::Config, format!("{} is no directory", dir.display()));
                return self.fault("disk", &fault.hint("move away what stands there, and put the directory back"));
            }
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
    pub(super) fn memory(&mut self, state: &Hardening) {
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

    pub(super) fn targets(&mut self, site: &Site, token: Option<&Token>) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
