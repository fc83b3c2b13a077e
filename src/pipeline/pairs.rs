//! Which stored profile gets which one-time key: its own eUICC's where the order names one, else that of the next eUICC of the key
//! file that has no profile of the order yet.
//!
//! In: the ledger's devices, a key file. Out: groups of pairs. Rule: memory holds two groups, whatever the order's size; keys and
//! eUICCs rest in a table on disk.

use std::path::Path;

use super::key_file::{Judging, RefusedKey, TakesKeys, read_keys};
use super::stored::GROUP;
use super::work::{Engine, OrderWork};
use crate::error::Fault;
use crate::hsm::Hsm;
use crate::ids::Eid;
use crate::order::key_file::KeyFile;
use crate::store::sqlite::Bindings;
use crate::store::{self, Device, DeviceState, Store, Stretch};

/// A stored profile and the one-time key it is bound with.
pub(super) struct Pair {
    pub(super) device: Device,
    pub(super) eid: Eid,
    pub(super) otpk: [u8; 65],
}

/// The pairs that are still to be made.
pub(super) struct Pairs<'a> {
    store: &'a dyn Store,
    work: &'a OrderWork,
    /// At most [`GROUP`] devices of a line each.
    stretches: std::vec::IntoIter<Stretch>,
    /// Made, and of a later group.
    made: Vec<Pair>,
}

impl<'a> Pairs<'a> {
    /// Takes the keys in, and the eUICCs that have a profile of the order. Gives the lines that are not believed, too.
    pub(super) fn with_keys<H: Hsm>(
        engine: &'a Engine<'_, H>,
        work: &'a OrderWork,
        key_file: &Path,
        bindings: &mut Bindings,
    ) -> Result<(Self, Vec<RefusedKey>), Fault> {
        let refused = read_keys(&Judging::of(engine), KeyFile::open(key_file)?, bindings)?;
        let store = engine.store;
        let stretches = stretches(store, work)?;
        for (first, last) in &stretches {
            for eid in store.devices(work.pk, *first, *last)?.into_iter().filter_map(|device| device.eid) {
                bindings.take(&eid)?;
            }
        }
        Ok((Self { store, work, stretches: stretches.into_iter(), made: Vec::new() }, refused))
    }

    /// The next [`GROUP`] pairs; fewer at the end, then none.
    pub(super) fn next_group(&mut self, bindings: &mut Bindings) -> Result<Vec<Pair>, Fault> {
        while self.made.len() < GROUP {
            let Some((first, last)) = self.stretches.next() else { break };
            for device in self.store.devices(self.work.pk, first, last)?.into_iter().filter(is_stored) {
                let eid = match device.eid {
                    Some(own) => Some(own),
                    None => bindings.take_next()?,
                };
                let Some(eid) = eid else { continue };
                self.made.extend(bindings.spend(&eid)?.map(|otpk| Pair { device, eid, otpk }));
            }
        }
        let later = self.made.split_off(self.made.len().min(GROUP));
        Ok(std::mem::replace(&mut self.made, later))
    }
}

/// The devices of an order, in pieces that fit into memory.
pub(super) fn stretches(store: &dyn Store, work: &OrderWork) -> Result<Vec<Stretch>, Fault> {
    let mut stretches = Vec::new();
    for line in &work.lines {
        let span = store.device_span(work.pk, line.number)?;
        stretches.extend(span.into_iter().flat_map(|span| store::stretches(span, GROUP)));
    }
    Ok(stretches)
}

/// Its PPP is stored and was never bound.
fn is_stored(device: &Device) -> bool {
    matches!(device.state, DeviceState::Prepared | DeviceState::Exported)
        && device.issue.as_ref().is_some_and(|issue| issue.transaction_id.is_none())
}

impl TakesKeys for Bindings {
    fn key(&mut self, eid: Eid, point: &[u8; 65], is_used: bool) -> Result<bool, Fault> {
        Ok(self.add_key(&eid, point, is_used)?)
    }
}
