//! Which rows are exported. A bundle is sealed for whole chunks at once, so a chunk says it for its rows, which go on saying prepared or
//! bound: written into each of them, it took as long as a tenth of a second for 100,000, and a log as big as the table.
//!
//! Who reads the states of many rows, reads them with [`Exported`]; the view `device_states` says the same row by row. Who changes rows
//! by their state lets the rows themselves say it first: [`settle`].

use std::cmp::Ordering;

use rusqlite::{Connection, params};

use super::batch::{STRETCH, WHOLE};
use crate::store::{DevicePk, DeviceState, OrderPk, StoreError};

/// The exported chunks of one order, by their first and last device.
pub(super) struct Exported(Vec<(i64, i64)>);

impl Exported {
    /// Those of an order that have a device between these two, both included.
    pub(super) fn between(
        connection: &Connection,
        order: OrderPk,
        (first, last): (i64, i64),
    ) -> Result<Self, StoreError> {
        let mut chunks = connection.prepare_cached(
            "SELECT first_device, last_device FROM chunks INDEXED BY exported_chunks
             WHERE exported = 1 AND order_pk = ?1 AND first_device <= ?3 AND last_device >= ?2 ORDER BY first_device",
        )?;
        let chunks = chunks.query_map(params![order.0, first, last], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self(chunks.collect::<Result<_, _>>()?))
    }

    /// Where a device stands whose row says `state`.
    pub(super) fn state(&self, DevicePk(device): DevicePk, state: DeviceState) -> DeviceState {
        let side = |(first, last): &(i64, i64)| match (device < *first, device > *last) {
            (true, _) => Ordering::Greater,
            (_, true) => Ordering::Less,
            _ => Ordering::Equal,
        };
        match state {
            DeviceState::Prepared | DeviceState::Bound if self.0.binary_search_by(side).is_ok() => {
                DeviceState::Exported
            }
            state => state,
        }
    }
}

/// All that is done of an order is exported.
pub(super) fn mark(connection: &Connection, order: OrderPk) -> Result<(), StoreError> {
    connection.execute("UPDATE chunks SET exported = 1 WHERE order_pk = ?1 AND done = 1", [order.0])?;
    Ok(())
}

/// From here on the rows of an order say themselves that they are exported.
pub(super) fn settle(connection: &Connection, order: OrderPk) -> Result<(), StoreError> {
    let Exported(chunks) = Exported::between(connection, order, (i64::MIN, i64::MAX))?;
    let sql = format!(
        "UPDATE {WHOLE} devices AS d SET state = 'exported' WHERE {STRETCH} AND state IN ('prepared', 'bound')"
    );
    for (first, last) in chunks {
        connection.prepare_cached(&sql)?.execute(params![order.0, first, last])?;
    }
    connection.execute("UPDATE chunks SET exported = 0 WHERE order_pk = ?1 AND exported = 1", [order.0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use DeviceState::{Bound, Exported as IsExported, Held, Prepared, Rejected, Revoked};

    use super::*;
    use crate::error::ErrorClass;
    use crate::ids::{Iccid, OrderKey, Tenant};
    use crate::store::sqlite::{AcceptedOrder, Ledger};
    use crate::store::{Chunk, ChunkStart, Issue, NewDevice, Outcome, Store};

    fn tenant() -> Tenant {
        "acme".parse().unwrap()
    }

    fn accept(ledger: &Ledger, lines: &[(u32, bool)]) -> OrderPk {
        let mut acceptance = ledger.acceptance().unwrap();
        for (row, (line, is_rejected)) in (1..).zip(lines) {
            let device = NewDevice {
                line: *line,
                row,
                eid: None,
                iccid: Some("89000123456789012341".parse::<Iccid>().unwrap().plus(u64::from(row)).unwrap()),
                imsi: None,
                msisdn: None,
                vars: Vec::new(),
                matching_id: None,
                euicc_otpk: None,
                wrapped: None,
                rejected: is_rejected.then_some(ErrorClass::Input),
            };
            acceptance.add_device(&tenant(), &device).unwrap();
        }
        let accepted = AcceptedOrder {
            key: &OrderKey { tenant: tenant(), order_id: "PO-1".parse().unwrap(), rev: 1 },
            body_sha256: "00",
            body: b"{}",
            ack: b"ack",
            templates: &std::collections::BTreeMap::new(),
            rows: lines.len() as u64,
            refused: 1,
            accepted_at: "2026-11-21T00:00:00Z",
            change: None,
        };
        acceptance.commit(&accepted).unwrap()
    }

    fn work(ledger: &Ledger, order: OrderPk, (number, devices, state): (u32, &[i64], DeviceState)) {
        assert_eq!(ledger.start_chunk(order, number).unwrap(), ChunkStart::Work);
        let issued = |device: &i64| {
            let (matching_id, transaction_id) = (format!("MATCHING-ID-{device}"), (state == Bound).then_some([1; 16]));
            let issue = Issue { matching_id, transaction_id, ..Issue::default() };
            (DevicePk(*device), Outcome::Issued { state, issue: Box::new(issue) })
        };
        let outcomes: Vec<_> = devices.iter().map(issued).collect();
        ledger.commit_chunk(order, number, &outcomes, None).unwrap();
    }

    /// Every way to ask gives the same.
    fn stand(ledger: &Ledger, order: OrderPk, states: &[DeviceState]) {
        let devices = ledger.devices(order, DevicePk(1), DevicePk(states.len() as i64)).unwrap();
        assert_eq!(devices.iter().map(|device| device.state).collect::<Vec<_>>(), states);
        for device in &devices {
            assert_eq!(ledger.devices(order, device.pk, device.pk).unwrap()[0].state, device.state, "alone");
        }
        let mut counts = std::collections::BTreeMap::new();
        states.iter().for_each(|state| *counts.entry(*state).or_insert(0) += 1);
        assert_eq!(ledger.counts(order).unwrap(), counts.into_iter().collect::<Vec<_>>());
        let connection = ledger.lock();
        let mut view = connection.prepare("SELECT state FROM device_states WHERE order_pk = ?1 ORDER BY pk").unwrap();
        let view = view.query_map([order.0], |row| row.get::<_, String>(0)).unwrap();
        assert!(view.map(Result::unwrap).eq(states.iter().map(|state| state.as_str())));
    }

    #[test]
    fn rows_are_exported_with_their_chunk_and_say_so_themselves_before_somebody_changes_the_order() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
        // The second line has the smaller number; the rejected row belongs to the stretch of its chunk.
        let order = accept(&ledger, &[(2, false), (2, true), (2, false), (1, false), (1, false)]);
        let chunk = |number, line, (first, last)| Chunk {
            number,
            line,
            first: DevicePk(first),
            last: DevicePk(last),
            done: false,
            part: 0,
            object: None,
        };
        ledger.plan_chunks(order, &[chunk(1, 2, (1, 3)), chunk(2, 1, (4, 4)), chunk(3, 1, (5, 5))]).unwrap();
        work(&ledger, order, (1, &[1, 3], Bound));
        work(&ledger, order, (2, &[4], Prepared));
        assert_eq!(ledger.hold(order, true).unwrap().changed, 1);
        stand(&ledger, order, &[Bound, Rejected, Bound, Prepared, Held]);
        ledger.close_order(order, &[0; 32]).unwrap();
        stand(&ledger, order, &[IsExported, Rejected, IsExported, IsExported, Held]);
        assert_eq!(ledger.stored_count(order).unwrap(), 1);

        // The held row comes later, in a bundle of its own: what is bound for it is not exported with the others.
        assert_eq!(ledger.release(order, true).unwrap().changed, 1);
        work(&ledger, order, (3, &[5], Bound));
        stand(&ledger, order, &[IsExported, Rejected, IsExported, IsExported, Bound]);
        assert_eq!(ledger.part_counts(order, 1).unwrap(), [(Bound, 1)]);
        assert_eq!(ledger.part_counts(order, 0).unwrap(), [(IsExported, 3)]);
        assert_eq!(ledger.claimed().view().open_rows(&tenant()).unwrap(), 1);
        let revoked = ledger.revoke(order).unwrap();
        assert_eq!((revoked.revoked, revoked.exported, revoked.there), (1, 3, 1));
        stand(&ledger, order, &[IsExported, Rejected, IsExported, IsExported, Revoked]);
        let settled = "SELECT count(*) FROM devices WHERE state = 'exported'";
        assert_eq!(ledger.lock().query_row(settled, [], |row| row.get::<_, i64>(0)), Ok(3));
        let marked = "SELECT count(*) FROM chunks WHERE exported = 1";
        assert_eq!(ledger.lock().query_row(marked, [], |row| row.get::<_, i64>(0)), Ok(0));
    }

    #[test]
    fn what_is_exported_is_not_cancelled_when_its_order_is_purged() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
        let order = accept(&ledger, &[(1, false), (1, false)]);
        let span = (DevicePk(1), DevicePk(2));
        let chunk = Chunk { number: 1, line: 1, first: span.0, last: span.1, done: false, part: 0, object: None };
        ledger.plan_chunks(order, &[chunk]).unwrap();
        work(&ledger, order, (1, &[1, 2], Bound));
        ledger.close_order(order, &[0; 32]).unwrap();
        assert_eq!(ledger.shred(order, b"{}", "2026-11-21T00:00:00Z").unwrap().cancelled, 0);
        stand(&ledger, order, &[IsExported, IsExported]);
    }
}
