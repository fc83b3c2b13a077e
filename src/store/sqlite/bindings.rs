//! What a binding of stored profiles works with: the keys of a key file, the eUICCs that have a profile, and what was bound.
//!
//! A database of its own, without a name and without a journal, like that of the key slots: it lives as long as the command, rests
//! in a temporary file and takes the same little memory for ten profiles and a million.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::claims::claim_one_time_key;
use super::claims::one_time_key_x;
use super::{Ledger, audit, nameless, write};
use crate::audit::{Event, Word};
use crate::ids::Eid;
use crate::store::{DevicePk, NewBinding, OrderPk, StoreError};

/// Page cache. Devices and keys mostly come in their own order, but the keys' own index is met at random.
const CACHE_KIB: i32 = 2_048;
/// Bound profiles read at once.
const PAGE: u32 = 1_000;

/// Keys that wait for profiles, and profiles that got one.
pub struct Bindings {
    connection: Connection,
    /// Key up to which eUICCs were looked for that have no profile.
    looked_up_to: i64,
    usable: u64,
    bound: u64,
}

impl Bindings {
    /// None yet.
    pub fn open() -> Result<Self, StoreError> {
        let connection = nameless(
            CACHE_KIB,
            "CREATE TABLE keys (number INTEGER PRIMARY KEY, eid BLOB NOT NULL, x BLOB NOT NULL UNIQUE, point BLOB NOT NULL,
             spent INTEGER NOT NULL) STRICT;
             CREATE INDEX keys_of_eid ON keys (eid, number);
             CREATE TABLE taken (eid BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
             CREATE TABLE bound (device INTEGER PRIMARY KEY, eid BLOB NOT NULL, point BLOB NOT NULL,
             transaction_id BLOB NOT NULL, object TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
             sha256 BLOB NOT NULL) STRICT",
        )?;
        Ok(Self { connection, looked_up_to: 0, usable: 0, bound: 0 })
    }

    /// A believed key of an eUICC, in the order of the file; `spent`: a profile has it. False when the key came before.
    pub fn add_key(&mut self, eid: &Eid, point: &[u8; 65], spent: bool) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO keys (eid, x, point, spent) VALUES (?1, ?2, ?3, ?4)";
        let values = params![&eid.packed()[..], &one_time_key_x(point)[..], &point[..], spent];
        let is_new = self.connection.prepare_cached(sql)?.execute(values)? == 1;
        self.usable += u64::from(is_new && !spent);
        Ok(is_new)
    }

    /// Keys that were added unspent.
    pub fn usable(&self) -> u64 {
        self.usable
    }

    /// Notes that an eUICC has a profile; false when that was known.
    pub fn take(&mut self, eid: &Eid) -> Result<bool, StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO taken VALUES (?1)")?;
        Ok(insert.execute([&eid.packed()[..]])? == 1)
    }

    /// The first key of an eUICC that is not spent; it is now.
    pub fn spend(&mut self, eid: &Eid) -> Result<Option<[u8; 65]>, StoreError> {
        let sql = "SELECT number, point FROM keys WHERE eid = ?1 AND spent = 0 ORDER BY number LIMIT 1";
        let mut select = self.connection.prepare_cached(sql)?;
        let first = select.query_row([&eid.packed()[..]], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).optional()?;
        let Some((number, point)) = first else { return Ok(None) };
        self.connection.prepare_cached("UPDATE keys SET spent = 1 WHERE number = ?1")?.execute([number])?;
        Ok(Some(point))
    }

    /// The next eUICC of the file that has no profile; it is taken now.
    pub fn take_next(&mut self) -> Result<Option<Eid>, StoreError> {
        loop {
            let sql = "SELECT eid, number FROM keys WHERE number > ?1 AND spent = 0 ORDER BY number LIMIT 1";
            let mut select = self.connection.prepare_cached(sql)?;
            let next = select.query_row([self.looked_up_to], |row| Ok((read_eid(row, 0)?, row.get(1)?))).optional()?;
            drop(select);
            let Some((eid, number)) = next else { return Ok(None) };
            self.looked_up_to = number;
            if self.take(&eid)? {
                return Ok(Some(eid));
            }
        }
    }

    /// Notes what was bound.
    pub fn keep(&mut self, binding: &NewBinding) -> Result<(), StoreError> {
        let sql = "INSERT INTO bound VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let NewBinding { device, eid, euicc_otpk, transaction_id, object, offset, length, sha256 } = binding;
        self.connection.prepare_cached(sql)?.execute(params![
            device.0,
            &eid.packed()[..],
            &euicc_otpk[..],
            transaction_id,
            object,
            offset,
            length,
            sha256
        ])?;
        self.bound += 1;
        Ok(())
    }

    /// How many were.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// What was bound of these devices, in their order.
    pub fn between(&self, first: DevicePk, last: DevicePk) -> Result<Vec<NewBinding>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT * FROM bound WHERE device BETWEEN ?1 AND ?2 ORDER BY device")?;
        Ok(select.query_map([first.0, last.0], read_binding)?.collect::<Result<_, _>>()?)
    }

    /// All that was bound, in the order of the devices.
    pub fn all(&self) -> impl Iterator<Item = Result<NewBinding, StoreError>> + '_ {
        let mut behind = Some(i64::MIN);
        let page = move || {
            let page = self.page(behind?);
            behind = page.as_ref().ok().and_then(|page| page.last()).map(|last| last.device.0);
            Some(page).filter(|page| !page.as_ref().is_ok_and(Vec::is_empty))
        };
        std::iter::from_fn(page).flat_map(|page| match page {
            Ok(page) => page.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    fn page(&self, behind: i64) -> Result<Vec<NewBinding>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT * FROM bound WHERE device > ?1 ORDER BY device LIMIT ?2")?;
        Ok(select.query_map(params![behind, PAGE], read_binding)?.collect::<Result<_, _>>()?)
    }
}

/// Claims the keys of what was bound and moves its devices, in one transaction with its audit line.
pub(super) fn record(
    ledger: &Ledger,
    order: OrderPk,
    bound: &mut dyn Iterator<Item = Result<NewBinding, StoreError>>,
    manifest_sha256: &[u8; 32],
) -> Result<(), StoreError> {
    let mut connection = ledger.lock();
    let transaction = write(&mut connection)?;
    let mut records = 0;
    for binding in bound {
        record_bound(&transaction, order, &binding?)?;
        records += 1;
    }
    let event = Event::new(Word::StoredBound).order(&audit::order_key(&transaction, order)?);
    let event = event.number("bound", records).sha256("manifest_sha256", manifest_sha256);
    audit::commit(transaction, &ledger.log, &event).map(drop)
}

fn record_bound(transaction: &Transaction<'_>, order: OrderPk, binding: &NewBinding) -> Result<(), StoreError> {
    let NewBinding { device, eid, euicc_otpk, transaction_id, object, offset, length, sha256 } = binding;
    claim_one_time_key(transaction, *device, euicc_otpk)?;
    let sql = "UPDATE devices SET state = 'exported', euicc_otpk = ?3, eid = ?4 WHERE pk = ?1 AND order_pk = ?2
         AND state IN ('prepared', 'exported')";
    let values = params![device.0, order.0, &euicc_otpk[..], &eid.packed()[..]];
    let devices = transaction.prepare_cached(sql)?.execute(values)?;
    let sql = "UPDATE issues SET transaction_id = ?2, object = ?3, offset = ?4, length = ?5, sha256 = ?6
         WHERE device = ?1 AND transaction_id IS NULL";
    let values = params![device.0, transaction_id, object, offset, length, sha256];
    let issues = transaction.prepare_cached(sql)?.execute(values)?;
    if (devices, issues) != (1, 1) {
        return Err(StoreError::State(format!("device {} has no stored PPP to bind", device.0)));
    }
    Ok(())
}

fn read_eid(row: &Row<'_>, at: usize) -> rusqlite::Result<Eid> {
    super::batch::read_eid(row, at)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn read_binding(row: &Row<'_>) -> rusqlite::Result<NewBinding> {
    Ok(NewBinding {
        device: DevicePk(row.get(0)?),
        eid: read_eid(row, 1)?,
        euicc_otpk: row.get(2)?,
        transaction_id: row.get(3)?,
        object: row.get(4)?,
        offset: row.get(5)?,
        length: row.get(6)?,
        sha256: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u32) -> Eid {
        Eid::from_body(&format!("89049032{n:022}")).unwrap()
    }

    fn point(n: u8) -> [u8; 65] {
        std::array::from_fn(|at| if at == 0 { 4 } else { n })
    }

    #[test]
    fn a_key_is_taken_in_once_and_spent_once_in_the_order_of_the_file() {
        let mut bindings = Bindings::open().unwrap();
        let mirrored = std::array::from_fn(|at| if at > 32 { 9 } else { point(1)[at] });
        assert!(bindings.add_key(&eid(1), &point(1), false).unwrap());
        assert!(!bindings.add_key(&eid(2), &mirrored, false).unwrap(), "the same x is the same key");
        assert!(
            bindings.add_key(&eid(1), &point(2), true).unwrap()
                && !bindings.add_key(&eid(3), &point(2), false).unwrap()
        );
        assert!(bindings.add_key(&eid(1), &point(3), false).unwrap());
        assert_eq!(bindings.usable(), 2);
        let spent = [1, 1, 1, 2].map(|n| bindings.spend(&eid(n)).unwrap());
        assert_eq!(spent, [Some(point(1)), Some(point(3)), None, None]);
    }

    #[test]
    fn the_next_euicc_is_one_that_has_no_profile_and_an_unspent_key() {
        let mut bindings = Bindings::open().unwrap();
        for (n, spent) in [(1, false), (2, true), (3, false), (3, false), (4, false)] {
            let number = bindings.connection.last_insert_rowid() as u8 + 1;
            assert!(bindings.add_key(&eid(n), &point(number), spent).unwrap());
        }
        assert!(bindings.take(&eid(1)).unwrap() && !bindings.take(&eid(1)).unwrap());
        assert_eq!([(); 3].map(|()| bindings.take_next().unwrap()), [Some(eid(3)), Some(eid(4)), None]);
    }

    #[test]
    fn what_was_bound_is_walked_in_the_order_of_the_devices_whatever_the_pages() {
        for count in [0, 1, i64::from(PAGE), 2 * i64::from(PAGE) + 7] {
            let mut bindings = Bindings::open().unwrap();
            let binding = |n| NewBinding {
                device: DevicePk(3 * n),
                eid: eid(n as u32),
                euicc_otpk: point(n as u8),
                transaction_id: [n as u8; 16],
                object: "packages-00001.bpp".to_owned(),
                offset: n as u64,
                length: 7,
                sha256: [5; 32],
            };
            let mut all: Vec<NewBinding> = (0..count).map(binding).collect();
            all.iter().rev().for_each(|binding| bindings.keep(binding).unwrap());
            assert_eq!(bindings.all().collect::<Result<Vec<_>, _>>().unwrap(), all);
            assert_eq!(bindings.bound(), count as u64);
            all.retain(|binding| (30..=90).contains(&binding.device.0));
            assert_eq!(bindings.between(DevicePk(30), DevicePk(90)).unwrap(), all);
        }
    }
}
