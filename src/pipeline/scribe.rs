//! Writes a bundle's row files while its chunks are still worked on: cores that wait for disk and token have the time, and when the
//! last chunk is done little is left to write.
//!
//! In: chunks as they are done. Out: row files of all rows up to some chunk. Rule: chunk after chunk in the order of the rows, each
//! once the ledger holds it as done, and as the ledger holds it. No row of such a chunk is accepted or held any more, and those are
//! all that somebody else may change beside a runner; every other change wants the run lock, which is ours
//! (`store/sqlite/states.rs`). So what is written once is right, and the rows that a driver hands on behind its commit are those that
//! the ledger would give ([`super::hand_on`]); chunks of earlier runs, and those that there was no room for, are read from the ledger.
//! From the first chunk on that does not come, because its rows are held, the rest is the closing's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;

use super::batch::Marks;
use super::hand_on::{ChunkRows, Done};
use super::row_files::{RowFiles, export_fault};
use super::work::{Engine, OrderWork};
use crate::error::Fault;
use crate::export::bundle::Bundle;
use crate::hsm::Hsm;
use crate::store::{Chunk, Device, DeviceState, StoredOrder};

/// Row files as far as they are written.
#[derive(Default)]
pub(super) struct Begun<'w> {
    /// None when no row is.
    pub(super) rows: Option<RowFiles<'w>>,
    /// The last chunk that they tell of; 0: none.
    pub(super) last: u32,
}

/// Writes the chunks of an order's next bundle as they are `done`, until nobody tells of another one, or somebody asked to stop or
/// failed. `chunks`: as planned.
pub(super) fn follow<'w, H: Hsm>(
    engine: &Engine<'_, H>,
    (stored, work): (&StoredOrder, &'w OrderWork),
    chunks: &[Chunk],
    done: Receiver<Done>,
    marks: Marks<'_>,
) -> Result<Begun<'w>, Fault> {
    let mut begun = Begun::default();
    let mut ahead: VecDeque<&Chunk> = rest(chunks, stored.part, begun.last).collect();
    let before = ahead.iter().filter(|chunk| chunk.done);
    let mut known: BTreeMap<u32, Option<ChunkRows>> = before.map(|chunk| (chunk.number, None)).collect();
    loop {
        while let Some(&chunk) = ahead.front()
            && let Some(rows) = known.remove(&chunk.number)
        {
            ahead.pop_front();
            if marks.are_set() {
                return Ok(begun);
            }
            begun.write(engine, (stored, work), (chunk, rows))?;
        }
        match done.recv() {
            Ok(Done { chunk, rows }) => known.insert(chunk, rows),
            Err(_) => return Ok(begun),
        };
    }
}

/// The chunks that the bundle of this part tells of or may come to tell of, behind chunk `last`: the order's own tells of all rows, a
/// later one of those that were worked on for it.
pub(super) fn rest(chunks: &[Chunk], part: u32, last: u32) -> impl Iterator<Item = &Chunk> {
    chunks.iter().filter(move |chunk| chunk.number > last && (part == 0 || !chunk.done || chunk.part == part))
}

/// Shows the devices of a chunk that a bundle tells of, out of the ledger.
pub(super) fn walk_chunk<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    chunk: &Chunk,
    visit: &mut dyn FnMut(Device) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for (first, last) in chunk.pages() {
        let devices = engine.store.devices(stored.pk, first, last)?.into_iter();
        devices.filter(|device| is_told(stored, device)).try_for_each(&mut *visit)?;
    }
    Ok(())
}

/// Rows refused at acceptance stand in the order's own bundle.
fn is_told(stored: &StoredOrder, device: &Device) -> bool {
    stored.part == 0 || device.state != DeviceState::Rejected
}

impl<'w> Begun<'w> {
    fn write<H: Hsm>(
        &mut self,
        engine: &Engine<'_, H>,
        (stored, work): (&StoredOrder, &'w OrderWork),
        (chunk, handed_on): (&Chunk, Option<ChunkRows>),
    ) -> Result<(), Fault> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => {
                let begun = Bundle::create(&work.bundle_dir).and_then(|bundle| RowFiles::start(&bundle, work));
                none.insert(begun.map_err(|e| export_fault(&work.bundle_dir, &e))?)
            }
        };
        match &handed_on {
            Some(ChunkRows { devices, curves, .. }) => {
                rows.add_worked(devices.iter().filter(|device| is_told(stored, device)), curves)?;
            }
            None => walk_chunk(engine, stored, chunk, &mut |device| rows.add(&device))?,
        }
        self.last = chunk.number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DevicePk;

    #[test]
    fn the_own_bundle_tells_of_every_chunk_a_later_one_of_its_own() {
        let chunk = |number, done, part| Chunk {
            number,
            line: 1,
            first: DevicePk(0),
            last: DevicePk(0),
            done,
            part,
            object: None,
        };
        let chunks = [chunk(1, true, 0), chunk(2, true, 1), chunk(3, false, 0), chunk(4, true, 2), chunk(5, true, 1)];
        let numbers = |part, last| rest(&chunks, part, last).map(|chunk| chunk.number).collect::<Vec<_>>();
        assert_eq!(numbers(0, 0), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(0, 3), [4, 5]);
        // What is not done yet may come to be of the part that is being filled.
        assert_eq!((numbers(1, 0), numbers(2, 3)), (vec![2, 3, 5], vec![4]));
    }
}
