//! What the key commands tell the audit log. A key is made, switched or taken out of use only behind a line that says so: the line
//! of the beginning comes first, and without it nothing is done. A beginning without its end was interrupted.

use std::path::Path;

use openssl::sha::sha256;

use crate::audit::{Event, Word};
use crate::config::Site;
use crate::error::Fault;
use crate::hsm::pkcs11::Token;
use crate::hsm::{Hsm, Role};
use crate::pipeline::{AuditKey, sign_head};
use crate::store::sqlite::Ledger;

/// Of a role's epoch.
pub(super) fn of_key(word: Word, role: &Role, epoch: u32) -> Event {
    Event::new(word).name("role", role.to_string()).number("epoch", epoch.into())
}

/// Writes one line; `state`: begun, done, or where it stands.
pub(super) fn note(site: &Site, event: &Event, state: &str) -> Result<(), Fault> {
    Ledger::open(&site.state_db())?.record(&event.clone().name("state", state))?;
    Ok(())
}

/// Runs a ceremony between two lines; the second has the transcript as far as it came, whether it is done or waits.
pub(super) fn ceremony<R>(
    site: &Site,
    (plan_sha256, dir): (&str, &Path),
    conduct: impl FnOnce() -> Result<R, Fault>,
) -> Result<R, Fault> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let event = Event::new(Word::KeyCeremony).name("ceremony", name).name("plan_sha256", plan_sha256);
    note(site, &event, "begun")?;
    let result = conduct();
    let transcript = std::fs::read(dir.join("transcript.jsonl")).unwrap_or_default();
    let steps = transcript.iter().filter(|octet| **octet == b'\n').count() as u64;
    let event = event.number("steps", steps).sha256("transcript_sha256", &sha256(&transcript));
    match &result {
        Ok(_) => {
            note(site, &event, "done")?;
            sign(site);
        }
        // What stopped it is what is told.
        Err(_) => {
            if let Err(fault) = note(site, &event, "waiting") {
                tracing::warn!(error = %fault, "the ceremony's line is not in the audit log");
            }
        }
    }
    result
}

/// The key that takes the place of the audit key, told in a line that the key in use signs: who knows the old one can believe the
/// new one.
pub(super) fn endorse(site: &Site, token: &Token, epoch: u32) -> Result<(), Fault> {
    let next = AuditKey::of(&token.public_point(token.key_of(&Role::Audit, epoch)?)?)?;
    let event = of_key(Word::KeyRotated, &Role::Audit, epoch).name("key_sha256", next.sha256);
    note(site, &event, "made")?;
    sign_head(site, &Ledger::open(&site.state_db())?, &Token::open(site)?)
}

/// Signs the head, if this site has an audit key yet; if it cannot be done now, the next run does it.
pub(super) fn sign(site: &Site) {
    let signed = Token::open_present(site).and_then(|token| match token.key(&Role::Audit) {
        Ok(_) => sign_head(site, &Ledger::open(&site.state_db())?, &token),
        Err(_) => Ok(()),
    });
    if let Err(fault) = signed {
        tracing::warn!(error = %fault, "the audit log's head is not signed; the next run signs it");
    }
}
