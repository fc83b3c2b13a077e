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

/// Chunks whose rows are in memory at most, behind their commit, the one that is written among them. However far the scribe is behind,
/// a big order takes no more memory than a small one.
const CHUNKS_AHEAD: usize = 4;
/// From so many octets on a package is a big one: beside it its row, somewhat more than a kilobyte, does not count. Rows of smaller
/// packages would be a good part of all that a run holds, the more of it the longer it runs; they are read from the ledger.
pub(super) const PACKAGE_OCTETS: u64 = 8 << 10;

/// A chunk is done, and the ledger says so.
pub(super) struct Done {
    /// Its number.
    pub(super) chunk: u32,
    /// None where there was no room or their packages are small: they are in the ledger.
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
    /// To be called behind the commit of these outcomes. `devices`: all of the chunk, as they were before; `octets`: of its packages.
    pub(super) fn done(
        &self,
        (chunk, octets): (u32, u64),
        (devices, outcomes): (Vec<Device>, Vec<(DevicePk, Outcome)>),
        curves: BTreeSet<Curve>,
    ) {
        let room = if octets >= PACKAGE_OCTETS * devices.len() as u64 { self.room() } else { None };
        let rows = room.map(|room| ChunkRows { devices: behind(devices, outcomes), curves, _room: room });
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
                (device.state, device.error_class, device.issue) = (state, None, Some(issue));
            }
            Outcome::Failed { class, .. } => {
                (device.state, device.error_class) = (DeviceState::Failed, Some(class.as_str().to_owned()));
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorClass;
    use crate::ids::{Iccid, Imsi, OrderKey, Tenant};
    use crate::store::sqlite::{AcceptedOrder, Ledger};
    use crate::store::{Chunk, ChunkStart, Issue, NewDevice, OrderPk, Store, Wrapped};

    #[test]
    fn handed_on_rows_are_those_that_the_ledger_gives() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
        let rejected = |row| NewDevice { rejected: Some(ErrorClass::Input), ..device(row) };
        let rows = [device(1), device(2), rejected(3), device(4), device(5), device(6), rejected(7), device(8)];
        let order = accept(&ledger, &rows);
        let (first, _) = ledger.device_span(order, 1).unwrap().unwrap();
        let pk = |row: i64| DevicePk(first.0 + row - 1);
        let chunk = |number, (from, to)| Chunk {
            number,
            line: 1,
            first: pk(from),
            last: pk(to),
            done: false,
            part: 0,
            object: None,
        };
        let chunks = [chunk(1, (1, 4)), chunk(2, (5, 5)), chunk(3, (6, 8))];
        ledger.plan_chunks(order, &chunks).unwrap();

        let (hand_on, done) = channel();
        let works = |chunk: &Chunk, outcomes: Vec<(DevicePk, Outcome)>| {
            assert_eq!(ledger.start_chunk(order, chunk.number).unwrap(), ChunkStart::Work);
            let devices = ledger.devices(order, chunk.first, chunk.last).unwrap();
            ledger.commit_chunk(order, chunk.number, &outcomes, None).unwrap();
            hand_on.done((chunk.number, 8 * PACKAGE_OCTETS), (devices, outcomes), BTreeSet::from([Curve::P256]));
            let Done { chunk: number, rows } = done.recv().unwrap();
            let (rows, held) = (rows.unwrap(), ledger.devices(order, chunk.first, chunk.last).unwrap());
            assert_eq!((number, &rows.curves), (chunk.number, &BTreeSet::from([Curve::P256])));
            assert_eq!(format!("{:#?}", rows.devices), format!("{held:#?}"));
            rows.devices.iter().map(|device| device.state).collect::<Vec<_>>()
        };
        use DeviceState::{Bound, Cancelled, Failed, Prepared, Rejected};
        // As the chunk tells them: the failed ones first, each as it failed.
        let outcomes = vec![(pk(4), failed()), (pk(1), failed()), (pk(2), issued(Bound))];
        assert_eq!(works(&chunks[0], outcomes), [Failed, Bound, Rejected, Failed]);
        assert_eq!(works(&chunks[1], vec![(pk(5), issued(Prepared))]), [Prepared]);
        assert_eq!(ledger.cancel(order, true).unwrap().changed, 2);
        assert_eq!(works(&chunks[2], Vec::new()), [Cancelled, Rejected, Cancelled]);
    }

    #[test]
    fn a_scribe_that_is_behind_gets_numbers_alone_until_it_has_written_a_chunk() {
        let (hand_on, done) = channel();
        let hand_on = |chunk| hand_on.done((chunk, 0), (Vec::new(), Vec::new()), BTreeSet::new());
        let taken = || done.recv().map(|Done { chunk, rows }| (chunk, rows)).unwrap();
        (1..=6).for_each(hand_on);
        // Taken is not written: a chunk may wait for one before it.
        let mut held: Vec<(u32, Option<ChunkRows>)> = (1..=5).map(|_| taken()).collect();
        let with_rows: Vec<(u32, bool)> = held.iter().map(|(chunk, rows)| (*chunk, rows.is_some())).collect();
        assert_eq!(with_rows, [(1, true), (2, true), (3, true), (4, true), (5, false)]);
        drop(held.remove(0));
        (7..=8).for_each(hand_on);
        let then = [taken(), taken(), taken()].map(|(chunk, rows)| (chunk, rows.is_some()));
        assert_eq!(then, [(6, false), (7, true), (8, false)]);
    }

    #[test]
    fn rows_of_small_packages_stay_in_the_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
        let order = accept(&ledger, &[device(1), device(2)]);
        let (first, last) = ledger.device_span(order, 1).unwrap().unwrap();
        let (hand_on, done) = channel();
        for (octets, is_handed_on) in [(2 * PACKAGE_OCTETS, true), (2 * PACKAGE_OCTETS - 1, false)] {
            let devices = ledger.devices(order, first, last).unwrap();
            hand_on.done((1, octets), (devices, Vec::new()), BTreeSet::new());
            assert_eq!(done.recv().unwrap().rows.is_some(), is_handed_on, "{octets}");
        }
    }

    fn accept(ledger: &Ledger, rows: &[NewDevice]) -> OrderPk {
        let tenant: Tenant = "acme".parse().unwrap();
        let mut acceptance = ledger.acceptance().unwrap();
        rows.iter().for_each(|row| acceptance.add_device(&tenant, row).unwrap());
        let accepted = AcceptedOrder {
            key: &OrderKey { tenant, order_id: "PO-1".parse().unwrap(), rev: 1 },
            body_sha256: "00",
            body: b"{}",
            ack: b"ack",
            templates: &std::collections::BTreeMap::new(),
            rows: rows.len() as u64,
            refused: 2,
            accepted_at: "2026-11-21T00:00:00Z",
            change: None,
        };
        acceptance.commit(&accepted).unwrap()
    }

    fn device(row: u32) -> NewDevice {
        NewDevice {
            line: 1,
            row,
            eid: Some("89049032123451234512345678901235".parse().unwrap()),
            iccid: Some("89000123456789012341".parse::<Iccid>().unwrap().plus(u64::from(row)).unwrap()),
            imsi: Some("001010123456063".parse::<Imsi>().unwrap().plus(u64::from(row)).unwrap()),
            msisdn: Some("4915112345678".to_owned()),
            vars: vec![("apn".to_owned(), format!("net-{row}"))],
            matching_id: Some(format!("ORDERED-MATCHING-ID-{row}").parse().unwrap()),
            euicc_otpk: Some(std::array::from_fn(|at| if at == 1 { row as u8 } else { 4 })),
            wrapped: Some(Wrapped { ki: vec![row as u8; 24], opc: Some(vec![7; 24]) }),
            rejected: None,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed { class: ErrorClass::Eligibility, what: "on no curve that we serve".to_owned() }
    }

    fn issued(state: DeviceState) -> Outcome {
        let issue = Issue {
            matching_id: format!("MADE-{}", state.as_str()),
            transaction_id: (state == DeviceState::Bound).then_some([1; 16]),
            object: Some("packages-00001.bpp".to_owned()),
            offset: 40,
            length: 50,
            sha256: [2; 32],
            upp_sha256: [3; 32],
            metadata_sha256: [4; 32],
            ki_enc: vec![5; 16],
            opc_enc: vec![6; 16],
            sealed_ppk: (state == DeviceState::Prepared).then(|| vec![7; 76]),
            sealed_credentials: Some(vec![8; 200]),
        };
        Outcome::Issued { state, issue: Box::new(issue) }
    }
}
