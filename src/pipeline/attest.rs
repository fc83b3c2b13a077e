//! What a run and the key commands tell the audit log around their work, and the signature on its head.
//!
//! A head is signed by the audit key in the token over a text of four lines ([`Statement`]). The signature is a line of the log
//! itself, so that the chain carries it; the newest also lies beside the log as `head.txt` and `head.sig`, to be taken away and
//! kept elsewhere: only a copy out of reach proves that the end of a log was not cut together with its ledger.

use std::fs::File;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;

use crate::audit::{Event, Statement, Word};
use crate::certs::{self, point};
use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::export::manifest::signature_der;
use crate::formats::digest::sha256;
use crate::hsm::lanes::{Breaker, Health};
use crate::hsm::policy::KeyPolicy;
use crate::hsm::{Hsm, HsmSession, Role};
use crate::store::Store;
use crate::store::sqlite::Ledger;

/// The public half of an audit key, as it lies in `audit/keys/` and `keys status` names it.
pub struct AuditKey {
    /// SubjectPublicKeyInfo, PEM.
    pub pem: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo in DER, lower-case hex.
    pub sha256: String,
}

impl AuditKey {
    /// Of an uncompressed point.
    pub fn of(octets: &[u8; 65]) -> Result<Self, Fault> {
        let key = point::public_key(octets).and_then(PKey::from_ec_key);
        let (pem, der) = key.and_then(|key| Ok((key.public_key_to_pem()?, key.public_key_to_der()?))).map_err(bug)?;
        Ok(Self { pem, sha256: HEXLOWER.encode(&sha256(&der)) })
    }
}

/// Signs the log's head with the active audit key and writes that down.
pub fn sign_head<H: Hsm>(site: &Site, store: &dyn Store, hsm: &H) -> Result<(), Fault> {
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
    let Some(rule) = policy.rule(&Role::Audit) else {
        return Err(Fault::new(Exit::HsmUnusable, "the key policy has no active audit key")
            .hint("declare one and make it: docs/keys.md"));
    };
    let key = hsm.key(&Role::Audit)?;
    let octets = hsm.public_point(key)?;
    let public = AuditKey::of(&octets)?;
    let keys = store.audit_log().dir().join("keys");
    let failed = |path: &Path, e: &std::io::Error| {
        Fault::file(path, e).hint("make the site's directory audit/ writable, then run again: it signs")
    };
    durable::make_dirs(&keys, 0o750).map_err(|e| failed(&keys, &e))?;
    // One writer of these files at a time: what is unfinished here was left by one that was killed.
    let lock = store.audit_log().dir().join("heads.lock");
    let held = File::options().create(true).append(true).open(&lock).and_then(|file| file.lock().map(|()| file));
    let _held = held.map_err(|e| failed(&lock, &e))?;
    for dir in [store.audit_log().dir(), &keys] {
        durable::sweep(dir).map_err(|e| failed(dir, &e))?;
    }
    // Before the first signature that needs it.
    let pem = keys.join(format!("{}.pub.pem", public.sha256));
    if !pem.is_file() {
        durable::write(&pem, &public.pem, 0o644).map_err(|e| failed(&pem, &e))?;
    }
    let text = Statement { head: store.audit_head()?, at: whole_ms(jiff::Timestamp::now()) }.text();
    let digest = sha256(text.as_bytes());
    let raw = hsm.open_session()?.sign(key, &digest)?;
    if !certs::signature_fits(&octets, &digest, &raw) {
        return Err(Fault::new(Exit::HsmUnusable, "the token's signature of the audit log's head does not verify")
            .hint("run `bindery doctor`"));
    }
    let der = signature_der(&raw).map_err(bug)?;
    let event = Event::new(Word::HeadSigned).name("statement", text.as_str()).name("signature", BASE64.encode(&der));
    store.record(&event.name("key_sha256", public.sha256.as_str()).number("epoch", rule.epoch.into()))?;
    // Copies of what the log holds: two files cannot change at once, and nothing but their reader depends on them.
    for (name, content) in [("head.txt", text.as_bytes()), ("head.sig", &der), ("head.pub.pem", &public.pem)] {
        let path = store.audit_log().dir().join(name);
        durable::write(&path, content, 0o644).map_err(|e| failed(&path, &e))?;
    }
    Ok(())
}

/// Tells the log that work begins: first what changed since the last time in the files that rule it.
pub(super) fn begun(site: &Site, ledger: &Ledger, event: Event) -> Result<(), Fault> {
    for file in [Path::new("bindery.toml"), &site.config.hsm.policy] {
        let path = site.path(file);
        let content = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
        ledger.note_file(&file.display().to_string(), &sha256(&content))?;
    }
    ledger.record(&event)?;
    Ok(())
}

/// Tells the log which tokens failed, were stuck or were left out.
pub(super) fn note_tokens(store: &dyn Store, health: &Health) -> Result<(), Fault> {
    for pool in &health.pools {
        if pool.opened == 0 && pool.late == 0 && pool.faults.is_empty() && pool.breaker == Breaker::Closed {
            continue;
        }
        let event = Event::new(Word::TokenTrouble).name("token", pool.name.as_str());
        let event =
            event.name("breaker", pool.breaker.as_str()).number("opened", pool.opened).number("late", pool.late);
        store.record(&event.number("signatures", pool.signatures).counts("faults", pool.faults.clone()))?;
    }
    Ok(())
}

fn whole_ms(at: jiff::Timestamp) -> jiff::Timestamp {
    at.round(jiff::Unit::Millisecond).unwrap_or(at)
}

fn bug(error: ErrorStack) -> Fault {
    Fault::new(Exit::Bug, format!("OpenSSL: {error}"))
}
