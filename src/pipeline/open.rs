//! Opens a site for work: tokens, certificates, ledger, lanes, threads - checked against each other before the first record.

use std::path::Path;

use super::fan_out::FanOut;
use super::work::{DppbKey, Engine, Keys};
use crate::certs::{DpChains, Trust};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::lanes::{Lanes, Rules};
use crate::hsm::pkcs11::Token;
use crate::hsm::{Hsm, HsmError, HsmSession, KeyRef, Role, own_points};
use crate::secret::SubscriberKey;
use crate::store::sealed::{OP_AAD, TOP_AAD};
use crate::store::sqlite::Ledger;

/// What goes on while signatures are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Not much: a group of records waits for its signatures before the next one begins.
    Little,
    /// Work on other chunks, on all cores.
    Chunks,
}

/// Opens everything, lets `work` run, closes in order: lanes before the tokens.
pub fn with_engine<R>(
    site: &Site,
    beside: Beside,
    work: impl FnOnce(&Engine<'_, Lanes>) -> Result<R, Fault>,
) -> Result<R, Fault> {
    let tokens = Token::open_all(site)?;
    let lanes_of = |token: &Token| match beside {
        Beside::Little => token.lanes(),
        Beside::Chunks => token.lanes_beside(),
    };
    let seats = tokens.iter().map(|token| (token.clone(), lanes_of(token))).collect();
    let lanes = Lanes::over(seats, Rules::of(&site.config.hsm))?;
    let chains = load_chains(site, &lanes)?;
    let ledger = Ledger::open(&site.state_db())?;
    let threads = site.config.run.threads;
    let cpu = match beside {
        Beside::Little => FanOut::new(threads)?,
        Beside::Chunks => FanOut::on_cores(threads)?,
    };
    let dppb = chains.curves().into_iter().map(|curve| {
        let key = lanes.key(&Role::DpPb(curve))?;
        Ok(DppbKey { curve, key, point: lanes.public_point(key)? })
    });
    let keys = Keys {
        dppb: dppb.collect::<Result<_, HsmError>>()?,
        kek: lanes.key(&Role::SiteKek)?,
        manifest: lanes.key(&Role::Manifest)?,
    };
    let files = &site.config.credentials;
    let op = open_op(site, &lanes, &keys, files.op_file.as_deref(), (OP_AAD, 16))?;
    let top = open_op(site, &lanes, &keys, files.top_file.as_deref(), (TOP_AAD, 32))?;
    let engine = Engine { site, hsm: &lanes, store: &ledger, lanes: &lanes, cpu: &cpu, keys, chains, op, top };
    work(&engine)
}

/// Our certificates: chained to a trusted CI, in date, and over the keys that the token really holds.
pub fn load_chains<H: Hsm>(site: &Site, hsm: &H) -> Result<DpChains, Fault> {
    let chains = DpChains::load(site)?;
    let trust = Trust::load(&site.path("certs/ci"))?;
    chains.check(&trust, jiff::Timestamp::now(), &own_points(hsm)?)?;
    Ok(chains)
}

/// OP or TOP of the operator, where the site has one: sealed under the KEK, opened in the token.
fn open_op<H: Hsm>(
    site: &Site,
    hsm: &H,
    keys: &Keys,
    file: Option<&Path>,
    (aad, octets): (&[u8], usize),
) -> Result<Option<SubscriberKey>, Fault> {
    let Some(file) = file else { return Ok(None) };
    open_sealed_op(&mut hsm.open_session()?, keys.kek, &site.path(file), aad, octets).map(Some)
}

/// OP (16 octets) or TOP (32) out of a sealed file.
pub(super) fn open_sealed_op(
    session: &mut impl HsmSession,
    kek: KeyRef,
    path: &Path,
    aad: &[u8],
    octets: usize,
) -> Result<SubscriberKey, Fault> {
    let sealed = std::fs::read(path).map_err(|e| {
        Fault::file(path, &e)
            .hint("restore the file, seal the operator's OP again, or take its name out of bindery.toml")
    })?;
    let plain = session.open(kek, aad, &sealed)?;
    match SubscriberKey::copy_of(&plain) {
        Some(op) if plain.len() == octets => Ok(op),
        _ => Err(Fault::new(Exit::IntegrityFailure, format!("{}: does not hold {octets} octets", path.display()))
            .hint("seal the operator's OP (16 octets, with TUAK TOP of 32) again")),
    }
}
