//! Key slots of an order that comes in: which eUICC waits for a one-time key, and what became of it.
//!
//! A database of its own, without a name and without a journal: it lives as long as the submission, rests in a temporary file and
//! takes the same little memory for ten eUICCs and a million.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::nameless;
use crate::ids::Eid;
use crate::store::StoreError;

/// Page cache. Rows come in the order of the slots, and eUICCs mostly too: what is looked for is mostly in the last pages.
const CACHE_KIB: i32 = 1_024;

/// The slots, counted from 0 in the order in which they were added.
pub struct KeySlots {
    connection: Connection,
    count: u32,
}

/// What became of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKey {
    /// No key yet.
    None,
    /// otPK.EUICC.KA, uncompressed.
    Usable([u8; 65]),
    /// What was wrong with the first key for it.
    Refused {
        /// The caller's number of its code.
        code: u32,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl KeySlots {
    /// None yet.
    pub fn open() -> Result<Self, StoreError> {
        let connection = nameless(
            CACHE_KIB,
            "CREATE TABLE slots (slot INTEGER PRIMARY KEY, eid BLOB UNIQUE, state INTEGER NOT NULL, point BLOB NOT NULL,
             message TEXT, hint TEXT) STRICT",
        )?;
        Ok(Self { connection, count: 0 })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A slot for an eUICC, or for one that is not known; false when this eUICC has one.
    pub fn add(&mut self, eid: Option<&Eid>) -> Result<bool, StoreError> {
        // The room for the key is there from the start: a row that grows moves others to new pages.
        let sql = "INSERT OR IGNORE INTO slots VALUES (?1, ?2, 0, zeroblob(65), NULL, NULL)";
        let mut insert = self.connection.prepare_cached(sql)?;
        let is_new = insert.execute(params![self.count, eid.map(|eid| &eid.packed()[..])])? == 1;
        self.count += u32::from(is_new);
        Ok(is_new)
    }

    /// The slot of an eUICC, and whether it has a usable key.
    pub fn find(&self, eid: &Eid) -> Result<Option<(u32, bool)>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT slot, state = -1 FROM slots WHERE eid = ?1")?;
        Ok(select.query_row([&eid.packed()[..]], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// What became of the slot of an eUICC.
    pub fn key_of(&self, eid: &Eid) -> Result<Option<SlotKey>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT eid, state, point, message, hint FROM slots WHERE eid = ?1")?;
        Ok(select.query_row([&eid.packed()[..]], read_slot).optional()?.map(|(_, key)| key))
    }

    /// The eUICC of a slot, where known, and what became of it.
    pub fn key(&self, slot: u32) -> Result<Option<(Option<Eid>, SlotKey)>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT eid, state, point, message, hint FROM slots WHERE slot = ?1")?;
        Ok(select.query_row([slot], read_slot).optional()?)
    }

    /// Gives a slot its key; one that has a key keeps that.
    pub fn give(&mut self, slot: u32, point: &[u8; 65]) -> Result<(), StoreError> {
        let sql =
            "UPDATE slots SET state = -1, point = ?2, message = NULL, hint = NULL WHERE slot = ?1 AND state != -1";
        self.connection.prepare_cached(sql)?.execute(params![slot, &point[..]])?;
        Ok(())
    }

    /// Notes what is wrong with a slot's first key; `code` is the caller's number of its code. What is noted already stays.
    pub fn refuse(&mut self, slot: u32, code: u32, message: &str, hint: &str) -> Result<(), StoreError> {
        let sql = "UPDATE slots SET state = ?2, message = ?3, hint = ?4 WHERE slot = ?1 AND state = 0";
        self.connection.prepare_cached(sql)?.execute(params![slot, i64::from(code) + 1, message, hint])?;
        Ok(())
    }
}

/// States: 0 none, -1 usable, else one more than the code of the refusal.
fn read_slot(row: &Row<'_>) -> rusqlite::Result<(Option<Eid>, SlotKey)> {
    let key = match row.get::<_, i64>(1)? {
        0 => SlotKey::None,
        -1 => SlotKey::Usable(row.get(2)?),
        state => SlotKey::Refused {
            code: u32::try_from(state - 1).unwrap_or(u32::MAX),
            message: row.get(3)?,
            hint: row.get(4)?,
        },
    };
    Ok((super::batch::read_eid(row, 0)?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u32) -> Eid {
        Eid::from_body(&format!("89049032{n:022}")).unwrap()
    }

    #[test]
    fn a_slot_is_found_by_its_euicc_and_by_its_number() {
        let mut slots = KeySlots::open().unwrap();
        assert!(slots.add(Some(&eid(1))).unwrap() && !slots.add(Some(&eid(1))).unwrap());
        assert!(slots.add(None).unwrap() && slots.add(None).unwrap() && slots.add(Some(&eid(2))).unwrap());
        assert_eq!((slots.count(), slots.find(&eid(2)).unwrap()), (4, Some((3, false))));
        let refused = SlotKey::Refused { code: 0, message: "wrong".into(), hint: "mend".into() };
        slots.refuse(3, 0, "wrong", "mend").unwrap();
        slots.refuse(3, 1, "worse", "mend").unwrap();
        slots.refuse(0, 0, "wrong", "mend").unwrap();
        slots.give(0, &[4; 65]).unwrap();
        slots.give(0, &[5; 65]).unwrap();
        slots.refuse(0, 1, "late", "mend").unwrap();
        assert_eq!(slots.key_of(&eid(2)).unwrap(), Some(refused));
        assert_eq!(slots.key(0).unwrap(), Some((Some(eid(1)), SlotKey::Usable([4; 65]))));
        assert_eq!(slots.find(&eid(1)).unwrap(), Some((0, true)));
        assert_eq!(slots.key(1).unwrap(), Some((None, SlotKey::None)));
        assert_eq!((slots.key(4).unwrap(), slots.key_of(&eid(3)).unwrap()), (None, None));
    }
}
