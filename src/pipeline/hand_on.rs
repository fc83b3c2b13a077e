//! What a driver hands on to the scribe when a chunk is done: its number and, where there is room, its rows, which the scribe then need
//! not read back from the ledger.
//!
//! In: a chunk's devices as they were read when it was started, and its outcomes, committed. Out: the devices as the ledger holds them
//! from that commit on. Rule: an outcome changes a device here as `commit_chunk` changes its row; nobody else changes a row of a
//! started chunk (`store/sqlite/states.rs`). Nothing is in the clear that is not in the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::formats::curve::Curve;
use crate::store::{Device, DevicePk, DeviceState, Outcome};

/// Chunks whose rows are in memory at most, behind their commit: one that is written, and one of each driver. An order's last rows
/// are to be made in the same memory as its first, however far the scribe is behind.
const CHUNKS_AHEAD: usize = 4;

/// A chunk is done, and the ledger says so.
pub(super) struct Done {
    /// Its number.
    pub(super) chunk: u32,
    /// None where there was no room: they are in the ledger.
    pub(super) rows: Option<ChunkRows>,
}

/// The rows of a chunk that was worked on in this run, as the ledger holds them.
pub(super) struct ChunkRows {
    /// All of them, in their order; those too that had their outcome before.
    pub(super) devices: Vec<Device>,
    /// Curves of the eUICCs that the chunk agreed keys with: a bound device is on one of them.
    pub(super) curves: BTreeSet<Curve>,
    _room: Room,
}

/// The drivers' end.
pub(super) struct HandOn {
    done: Sender<Done>,
    rooms: Arc<AtomicUsize>,
}

/// Room for the rows of one chunk, free again with them.
struct Room(Arc<AtomicUsize>);

/// From the drivers to the scribe.
pub(super) fn channel() -> (HandOn, Receiver<Done>) {
    let (done, taken) = mpsc::channel();
    (HandOn { done, rooms: Arc::new(AtomicUsize::new(CHUNKS_AHEAD)) }, taken)
}

impl HandOn {
    /// To be called behind the commit of these outcomes. `devices`: all of the chunk, as they were before.
    pub(super) fn done(
        &self,
        chunk: u32,
        (devices, outcomes): (Vec<Device>, Vec<(DevicePk, Outcome)>),
        curves: BTreeSet<Curve>,
    ) {
        let rows = self.room().map(|room| ChunkRows { devices: behind(devices, outcomes), curves, _room: room });
        let _ = self.done.send(Done { chunk, rows }); // a scribe that failed tells so itself
    }

    fn room(&self) -> Option<Room> {
        let taken = self.rooms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1));
        taken.is_ok().then(|| Room(Arc::clone(&self.rooms)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The devices with their outcomes, as `commit_chunk` writes them.
fn behind(mut devices: Vec<Device>, mut outcomes: Vec<(DevicePk, Outcome)>) -> Vec<Device> {
    outcomes.sort_unstable_by_key(|(device, _)| *device); // failed ones come first, each as it failed
    let mut outcomes = outcomes.into_iter().peekable();
    for device in &mut devices {
        let Some((_, outcome)) = outcomes.next_if(|(pk, _)| *pk == device.pk) else { continue };
        match outcome {
            Outcome::Issued { state, issue } => {
                (device.state, device.error_class, device.issue) = (state, None, Some(*issue));
            }
            Outcome::Failed { class, .. } => {
                (device.state, device.error_class) = (DeviceState::Failed, Some(class.as_str().to_owned()));
            }
        }
    }
    devices
}
