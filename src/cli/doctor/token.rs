//! The tokens: reachable, their keys as the policy says, as many sessions as the site wants.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::report::{Report, State};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::lanes::{Health, Lanes, Rules};
use crate::hsm::pkcs11::{Token, objects};
use crate::hsm::policy::KeyPolicy;
use crate::hsm::{Hsm, HsmSession, Role};
use crate::store::sealed::OP_AAD;

impl Report {
    pub(super) fn tokens(&mut self, site: &Site, tokens: &[Arc<Token>]) -> Option<Health> {
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
        let health = self.sessions(site, tokens);
        if let (Some(op_file), Some(token)) = (&site.config.credentials.op_file, tokens.first()) {
            match opens_op(&site.path(op_file), token) {
                Ok(()) => _ = self.add("OP", State::Ok, "opens under the site KEK"),
                Err(fault) => self.fault("OP", &fault),
            }
        }
        health
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
        self.add("key policy", State::Ok, format!("{} keys as declared, known answers right", facts.keys));
        // Of keys in use the token would not have opened: what is left is a pair that was cut off while it was made.
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy));
        for rule in policy.and_then(|policy| objects::half_made(site, &policy)).unwrap_or_default() {
            self.add("key policy", State::Warn, format!("{}: half a key", rule.label))
                .hint(format!("`bindery keys rotate {}` or the ceremony that began it makes it whole", rule.role));
        }
    }

    /// All lanes at once, as a run opens them; what each token granted.
    fn sessions(&mut self, site: &Site, tokens: &[Arc<Token>]) -> Option<Health> {
        let seats = tokens.iter().map(|token| (Arc::clone(token), token.lanes())).collect();
        match Lanes::over(seats, Rules::of(&site.config.hsm)) {
            Ok(lanes) => Some(lanes.health()),
            Err(e) => {
                self.add("sessions", State::Fail(Exit::HsmUnusable), e.to_string()).hint(e.hint);
                None
            }
        }
    }
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
