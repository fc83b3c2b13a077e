//! The one-time keys of a key file that comes after an order: which lines are believed.
//!
//! In: a key file. Out: its believed keys, one after the other, and why the others are not. A group of lines is in memory at a time.

use std::collections::HashSet;

use super::fan_out::FanOut;
use super::stored::GROUP;
use super::work::Engine;
use crate::certs::{EuiccJudge, Trust};
use crate::config::Site;
use crate::error::Fault;
use crate::formats::curve::Curve;
use crate::hsm::Hsm;
use crate::ids::Eid;
use crate::order::KeyLine;
use crate::order::key_file::{BadLine, KeyFile};
use crate::store::Store;
use crate::store::sqlite::one_time_key_x;

const NEW_KEY: &str = "ask the eUICC's maker for another one-time key";

/// A key line that was not believed.
#[derive(Clone, Debug)]
pub struct RefusedKey {
    /// 1-based.
    pub line_no: u64,
    /// Why, identifiers masked.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What a small key file is good for, as a whole.
pub(super) struct Believed {
    /// eUICCs and one-time keys that are believed and were never used, in the order of the file.
    pub(super) keys: Vec<(Eid, [u8; 65])>,
    /// Every eUICC that a line names, used or refused keys too.
    pub(super) named: HashSet<Eid>,
    /// Lines that are not believed.
    pub(super) refused: Vec<RefusedKey>,
}

/// Who judges keys.
pub(super) struct Judging<'a> {
    pub(super) site: &'a Site,
    /// Those that we have chains on.
    pub(super) curves: Vec<Curve>,
    pub(super) cpu: &'a FanOut,
    pub(super) store: &'a dyn Store,
}

impl<'a> Judging<'a> {
    /// The engine of a run.
    pub(super) fn of<H: Hsm>(engine: &Engine<'a, H>) -> Self {
        Self { site: engine.site, curves: engine.chains.curves(), cpu: engine.cpu, store: engine.store }
    }
}

/// Who takes the keys in.
pub(super) trait TakesKeys {
    /// An eUICC that a line names.
    fn named(&mut self, _eid: Eid) {}
    /// A believed key, and whether a profile has it already. False when it stood in an earlier line.
    fn key(&mut self, eid: Eid, point: &[u8; 65], is_used: bool) -> Result<bool, Fault>;
}

/// Reads a key file line by line; its keys are checked on all cores. Gives the lines that are not believed.
pub(super) fn read_keys(
    judging: &Judging<'_>,
    lines: KeyFile<'_>,
    taker: &mut impl TakesKeys,
) -> Result<Vec<RefusedKey>, Fault> {
    let judge = EuiccJudge::new(Trust::load(&judging.site.path("certs/ci"))?.into(), jiff::Timestamp::now())
        .serving(&judging.curves);
    let mut refused = Vec::new();
    let mut lines = lines.peekable();
    while lines.peek().is_some() {
        let mut group: Vec<KeyLine> = Vec::with_capacity(GROUP);
        for line in lines.by_ref().take(GROUP) {
            match line? {
                Ok(line) => group.push(line),
                Err(BadLine { line_no, refusal }) => {
                    refused.push(RefusedKey { line_no, message: refusal.message, hint: refusal.hint });
                }
            }
        }
        let verdicts = judging.cpu.map(&group, |line| {
            let KeyLine { eid, euicc_otpk, signature, euicc_certificate, eum_certificate, .. } = line;
            judge.check(eid, euicc_otpk, signature, euicc_certificate, eum_certificate)
        });
        for (KeyLine { line_no, eid, .. }, verdict) in group.into_iter().zip(verdicts) {
            taker.named(eid);
            let mut refuse =
                |message: String, hint: &str| refused.push(RefusedKey { line_no, message, hint: hint.to_owned() });
            match verdict {
                Err(no) => refuse(no.message, no.hint),
                // A key serves one profile, ever; of two lines with one key the first that is believed stands. One that is spent
                // on another profile is of a fleet's key file nothing unusual.
                Ok(point) => {
                    let is_used = judging.store.one_time_key_used(&point.octets)?;
                    if !taker.key(eid, &point.octets, is_used)? {
                        refuse("the one-time key stands in an earlier line too".to_owned(), NEW_KEY);
                    }
                }
            }
        }
    }
    Ok(refused)
}

/// Reads a key file as a whole.
pub(super) fn believed_keys(judging: &Judging<'_>, lines: KeyFile<'_>) -> Result<Believed, Fault> {
    let mut held = Held::default();
    let refused = read_keys(judging, lines, &mut held)?;
    Ok(Believed { keys: held.keys, named: held.named, refused })
}

#[derive(Default)]
struct Held {
    keys: Vec<(Eid, [u8; 65])>,
    named: HashSet<Eid>,
    seen: HashSet<[u8; 32]>,
}

impl TakesKeys for Held {
    fn named(&mut self, eid: Eid) {
        self.named.insert(eid);
    }

    fn key(&mut self, eid: Eid, point: &[u8; 65], is_used: bool) -> Result<bool, Fault> {
        let is_new = self.seen.insert(one_time_key_x(point));
        if is_new && !is_used {
            self.keys.push((eid, *point));
        }
        Ok(is_new)
    }
}
