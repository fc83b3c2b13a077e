//! The ledger as the batch conductor uses it: plan, outcomes, close; and the later binding of stored PPPs.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::claims::{claim_matching_id, claim_matching_ids};
use super::exported::{self, Exported};
use super::states::forget_marks;
use super::{Ledger, ORDER_COLUMNS, audit, bindings, damaged_column, parsed, read_order, remakes, write};
use crate::audit::{Event, Head, Log, Word};
use crate::ids::{Eid, OrderKey};
use crate::store::{
    Chunk, ChunkStart, Device, DevicePk, DeviceState, Issue, NewBinding, ObjectFacts, OrderPk, Outcome, Remake, Store,
    StoreError, StoredOrder, Wrapped,
};

/// Columns of [`read_device`], in its order.
const DEVICE_COLUMNS: &str =
    "d.pk, d.line, d.row, d.state, d.eid, d.iccid, d.imsi, d.msisdn, d.matching_id, d.euicc_otpk,
    d.error_class, i.matching_id, i.transaction_id, i.object, i.offset, i.length, i.sha256, i.upp_sha256,
    i.metadata_sha256, i.ki_enc, i.opc_enc, i.sealed_ppk, i.sealed_credentials, d.vars, d.ki_wrapped, d.opc_wrapped";

/// A stretch of an order's devices. The plus keeps SQLite from the index of orders: it would walk through the whole order for each
/// stretch of a thousand.
pub(super) const STRETCH: &str = "d.pk BETWEEN ?2 AND ?3 AND +d.order_pk = ?1";
const NEW_ISSUE: &str = "INSERT INTO issues VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
const ISSUED_AGAIN: &str = "REPLACE INTO issues VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
/// For a change of many rows that stands or falls with its transaction: SQLite keeps no journal beside it, in a temporary file, to
/// take back the one statement.
pub(super) const WHOLE: &str = "OR FAIL";
/// Failed rows that a line of the audit log names.
const NAMED_ROWS: usize = 20;

impl Store for Ledger {
    fn due_orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        let connection = self.lock();
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders WHERE state = 'open' AND purged_at IS NULL AND target IS NULL ORDER BY pk"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_map([], read_order)?.collect::<Result<_, _>>()?)
    }

    fn find_order(&self, key: &OrderKey) -> Result<Option<StoredOrder>, StoreError> {
        super::find_order(&self.lock(), key)
    }

    fn keep_batch_key(&self, order: OrderPk, sealed: &[u8]) -> Result<(), StoreError> {
        // A second key would make the PPPs sealed under the first unreadable.
        let sql = "UPDATE orders SET sealed_batch_key = ?2 WHERE pk = ?1 AND sealed_batch_key IS NULL";
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        if transaction.execute(sql, params![order.0, sealed])? != 1 {
            return Err(StoreError::State(format!("order {} has a batch key already, or does not exist", order.0)));
        }
        let event = Event::new(Word::BatchKeyMade).order(&audit::order_key(&transaction, order)?);
        audit::commit(transaction, &self.log, &event).map(drop)
    }

    fn device_span(&self, order: OrderPk, line: u32) -> Result<Option<(DevicePk, DevicePk)>, StoreError> {
        // Asked apart, each is one step in the index; together they are a walk through the line.
        let sql = "SELECT (SELECT min(pk) FROM devices WHERE order_pk = ?1 AND line = ?2),
             (SELECT max(pk) FROM devices WHERE order_pk = ?1 AND line = ?2)";
        let span = self.lock().query_row(sql, params![order.0, line], |row| {
            Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
        })?;
        Ok(span.map(|(first, last)| (DevicePk(first), DevicePk(last))))
    }

    fn plan_chunks(&self, order: OrderPk, chunks: &[Chunk]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let planned: u64 =
            transaction.query_row("SELECT count(*) FROM chunks WHERE order_pk = ?1", [order.0], |row| row.get(0))?;
        if planned > 0 {
            return Err(StoreError::State(format!("order {} is planned already", order.0)));
        }
        for chunk in chunks {
            let mut insert =
                transaction.prepare_cached("INSERT INTO chunks (order_pk, number, line, first_device, last_device, done) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            let Chunk { number, line, first, last, done, .. } = chunk;
            insert.execute(params![order.0, number, line, first.0, last.0, done])?;
        }
        Ok(transaction.commit()?)
    }

    fn chunks(&self, order: OrderPk) -> Result<Vec<Chunk>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT number, line, first_device, last_device, done, sha256, bytes, part FROM chunks WHERE order_pk = ?1 ORDER BY number",
        )?;
        Ok(statement.query_map([order.0], read_chunk)?.collect::<Result<_, _>>()?)
    }

    fn begin_work(&self, order: OrderPk) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        forget_marks(&transaction, order)?;
        Ok(transaction.commit()?)
    }

    fn start_chunk(&self, order: OrderPk, chunk: u32) -> Result<ChunkStart, StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let Chunk { first, last, .. } = open_chunk(&transaction, order, chunk)?;
        // Rows of one chunk are held or put back together: none of its rows waits while others are held.
        let sql = format!("SELECT coalesce(sum(state = 'held'), 0) FROM devices d WHERE {STRETCH}");
        let held: u64 = transaction.query_row(&sql, params![order.0, first.0, last.0], |row| row.get(0))?;
        if held > 0 {
            return Ok(ChunkStart::Held);
        }
        let sql = "UPDATE chunks SET started = 1 WHERE order_pk = ?1 AND number = ?2";
        transaction.execute(sql, params![order.0, chunk])?;
        transaction.commit()?;
        Ok(ChunkStart::Work)
    }

    fn begin_seal(&self, order: OrderPk) -> Result<bool, StoreError> {
        // A row that waits is of a chunk that is not done: no need to look at a million that are.
        let sql = "UPDATE orders SET sealing = 1 WHERE pk = ?1 AND NOT EXISTS (SELECT 1 FROM chunks c JOIN devices d
             ON +d.order_pk = c.order_pk AND d.pk BETWEEN c.first_device AND c.last_device
             WHERE c.order_pk = ?1 AND c.done = 0 AND d.state = 'accepted')";
        Ok(self.lock().execute(sql, [order.0])? == 1)
    }

    fn part_counts(&self, order: OrderPk, part: u32) -> Result<Vec<(DeviceState, u64)>, StoreError> {
        let connection = self.lock();
        // Rows refused at acceptance stand in the order's own bundle.
        let mut statement = connection.prepare_cached(
            "SELECT d.state, count(*) FROM chunks c
             JOIN device_states d ON +d.order_pk = c.order_pk AND d.pk BETWEEN c.first_device AND c.last_device
             WHERE c.order_pk = ?1 AND c.part = ?2 AND c.done = 1 AND d.state <> 'rejected' GROUP BY d.state",
        )?;
        let counts = statement.query_map(params![order.0, part], |row| Ok((read_state(row, 0)?, row.get(1)?)))?;
        Ok(counts.collect::<Result<_, _>>()?)
    }

    fn devices(&self, order: OrderPk, first: DevicePk, last: DevicePk) -> Result<Vec<Device>, StoreError> {
        let sql = format!(
            "SELECT {DEVICE_COLUMNS} FROM devices d LEFT JOIN issues i ON i.device = d.pk
             WHERE {STRETCH} ORDER BY d.pk"
        );
        let connection = self.lock();
        let exported = Exported::between(&connection, order, (first.0, last.0))?;
        let mut statement = connection.prepare_cached(&sql)?;
        let read = |row: &Row<'_>| {
            let device = read_device(row)?;
            Ok(Device { state: exported.state(device.pk, device.state), ..device })
        };
        Ok(statement.query_map(params![order.0, first.0, last.0], read)?.collect::<Result<_, _>>()?)
    }

    fn commit_chunk(
        &self,
        order: OrderPk,
        chunk: u32,
        outcomes: &[(DevicePk, Outcome)],
        object: Option<&ObjectFacts>,
    ) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        let plan = open_chunk(&transaction, order, chunk)?;
        are_all_told(&transaction, order, &plan, outcomes)?;
        record_outcomes(&transaction, order, &plan, outcomes)?;
        claim_matching_ids(&transaction, outcomes)?;
        transaction.execute(
            "UPDATE chunks SET done = 1, sha256 = ?3, bytes = ?4, part = (SELECT part FROM orders WHERE pk = ?1)
             WHERE order_pk = ?1 AND number = ?2",
            params![order.0, chunk, object.map(|object| object.sha256), object.map(|object| object.bytes)],
        )?;
        let event = chunk_event(&transaction, order, &plan, outcomes, object)?;
        audit::commit(transaction, &self.log, &event).map(drop)
    }

    fn close_order(&self, order: OrderPk, manifest_sha256: &[u8; 32]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = write(&mut connection)?;
        exported::mark(&transaction, order)?;
        if transaction.execute("UPDATE orders SET state = 'exported', sealing = 0 WHERE pk = ?1", [order.0])? != 1 {
            return Err(StoreError::State(format!("there is no order {}", order.0)));
        }
        let states = states(&transaction, order)?;
        if let Some((_, open)) = states.iter().find(|(state, _)| *state == DeviceState::Accepted) {
            return Err(StoreError::State(format!("order {}: {open} devices have no outcome", order.0)));
        }
        let states = states.into_iter().map(|(state, rows)| (state.as_str().to_owned(), rows));
        let event = Event::new(Word::OrderExported).order(&audit::order_key(&transaction, order)?);
        let event = event.counts("states", states).sha256("manifest_sha256", manifest_sha256);
        audit::commit(transaction, &self.log, &event).map(drop)
    }

    fn stored_count(&self, order: OrderPk) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM devices d JOIN issues i ON i.device = d.pk
             WHERE d.order_pk = ?1 AND d.state IN ('prepared', 'exported') AND i.transaction_id IS NULL";
        Ok(self.lock().query_row(sql, [order.0], |row| row.get(0))?)
    }

    fn record_binding(
        &self,
        order: OrderPk,
        bound: &mut dyn Iterator<Item = Result<NewBinding, StoreError>>,
        manifest_sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        bindings::record(self, order, bound, manifest_sha256)
    }

    fn record_remake(
        &self,
        order: OrderPk,
        remake: &Remake,
        made: &[Device],
        manifest_sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        remakes::record(self, order, (remake, made), manifest_sha256)
    }

    fn one_time_key_used(&self, point: &[u8; 65]) -> Result<bool, StoreError> {
        self.claimed().view().one_time_key(point)
    }

    fn counts(&self, order: OrderPk) -> Result<Vec<(DeviceState, u64)>, StoreError> {
        states(&self.lock(), order)
    }

    fn record(&self, event: &Event) -> Result<Head, StoreError> {
        self.record(event)
    }

    fn audit_head(&self) -> Result<Head, StoreError> {
        self.audit_head()
    }

    fn audit_log(&self) -> &Log {
        self.audit_log()
    }
}

/// What a chunk did: counts, classes of errors, the rows that failed, the file it wrote.
fn chunk_event(
    transaction: &Transaction<'_>,
    order: OrderPk,
    plan: &Chunk,
    outcomes: &[(DevicePk, Outcome)],
    object: Option<&ObjectFacts>,
) -> Result<Event, StoreError> {
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed_rows = Vec::new();
    let mut word = Word::ChunkFailed;
    for (device, outcome) in outcomes {
        match outcome {
            Outcome::Issued { state: DeviceState::Prepared, .. } => word = Word::ChunkPrepared,
            Outcome::Issued { .. } => word = Word::ChunkBound,
            Outcome::Failed { class, .. } => {
                *classes.entry(class.to_string()).or_default() += 1;
                if failed_rows.len() < NAMED_ROWS {
                    let mut row = transaction.prepare_cached("SELECT row FROM devices WHERE pk = ?1")?;
                    failed_rows.push(row.query_row([device.0], |row| row.get(0))?);
                }
            }
        }
    }
    let failed: u64 = classes.values().sum();
    let event = Event::new(word).order(&audit::order_key(transaction, order)?).number("chunk", plan.number.into());
    let event = event.number("line", plan.line.into()).number("issued", outcomes.len() as u64 - failed);
    let mut event = event.number("failed", failed);
    if failed > 0 {
        event = event.counts("failed_by_class", classes).numbers("failed_rows", failed_rows);
    }
    Ok(match object {
        Some(object) => event.sha256("object_sha256", &object.sha256).number("object_bytes", object.bytes),
        None => event,
    })
}

/// An order's devices by state, each counted as it is walked by: SQLite would sort them first.
fn states(connection: &Connection, order: OrderPk) -> Result<Vec<(DeviceState, u64)>, StoreError> {
    let (first, last) = span(connection, order)?;
    let exported = Exported::between(connection, order, (first, last))?;
    let mut statement = connection.prepare_cached(&format!("SELECT d.pk, d.state FROM devices d WHERE {STRETCH}"))?;
    let mut devices = statement.query(params![order.0, first, last])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = devices.next()? {
        *counts.entry(exported.state(DevicePk(row.get(0)?), read_state(row, 1)?)).or_default() += 1;
    }
    Ok(counts.into_iter().collect())
}

/// An order's devices lie between these two, both included, and one acceptance wrote them: to walk along them is cheaper than to look
/// each one up behind the index. Asked line by line, the two are some steps in the index; asked at once they are a walk of their own.
fn span(connection: &Connection, order: OrderPk) -> Result<(i64, i64), StoreError> {
    let sql = "WITH RECURSIVE lines (line) AS (
             SELECT min(line) FROM devices WHERE order_pk = ?1
             UNION ALL SELECT (SELECT min(line) FROM devices WHERE order_pk = ?1 AND line > lines.line) FROM lines WHERE line NOT NULL)
         SELECT coalesce(min((SELECT min(pk) FROM devices WHERE order_pk = ?1 AND line = lines.line)), 0),
             coalesce(max((SELECT max(pk) FROM devices WHERE order_pk = ?1 AND line = lines.line)), -1)
         FROM lines WHERE line NOT NULL";
    Ok(connection.prepare_cached(sql)?.query_row([order.0], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn open_chunk(transaction: &Transaction<'_>, order: OrderPk, number: u32) -> Result<Chunk, StoreError> {
    let sql = "SELECT number, line, first_device, last_device, done, sha256, bytes, part FROM chunks WHERE order_pk = ?1 AND number = ?2";
    match transaction.query_row(sql, params![order.0, number], read_chunk).optional()? {
        None => Err(StoreError::State(format!("order {} has no chunk {number}", order.0))),
        Some(chunk) if chunk.done => Err(StoreError::State(format!("chunk {number} is done already"))),
        Some(chunk) => Ok(chunk),
    }
}

/// Exactly the devices of a chunk that wait for an outcome have one: silence counts as failure, and nobody else is spoken of.
fn are_all_told(
    transaction: &Transaction<'_>,
    order: OrderPk,
    chunk: &Chunk,
    outcomes: &[(DevicePk, Outcome)],
) -> Result<(), StoreError> {
    let sql = format!("SELECT d.pk FROM devices d WHERE {STRETCH} AND state = 'accepted' ORDER BY d.pk");
    let mut statement = transaction.prepare_cached(&sql)?;
    let waiting = statement.query_map(params![order.0, chunk.first.0, chunk.last.0], |row| row.get(0).map(DevicePk))?;
    let waiting: Vec<DevicePk> = waiting.collect::<Result<_, _>>()?;
    let mut told: Vec<DevicePk> = outcomes.iter().map(|(device, _)| *device).collect();
    told.sort_unstable();
    if told == waiting {
        return Ok(());
    }
    let stranger = told.iter().find(|device| waiting.binary_search(device).is_err());
    let silent = waiting.iter().filter(|device| told.binary_search(device).is_err()).count();
    Err(StoreError::State(match (stranger, silent) {
        (Some(device), _) => format!("chunk {}: device {} is not waiting for an outcome", chunk.number, device.0),
        (None, 0) => format!("chunk {}: a device has two outcomes", chunk.number),
        (None, silent) => format!("chunk {}: {silent} devices have no outcome", chunk.number),
    }))
}

/// Failed rows one by one, then all that still wait in one walk: they were issued.
fn record_outcomes(
    transaction: &Transaction<'_>,
    order: OrderPk,
    chunk: &Chunk,
    outcomes: &[(DevicePk, Outcome)],
) -> Result<(), StoreError> {
    let mut became = None;
    for (device, outcome) in outcomes {
        match outcome {
            Outcome::Failed { class, what } => {
                let sql = "UPDATE devices SET state = 'failed', error_class = ?2, error = ?3 WHERE pk = ?1";
                transaction.prepare_cached(sql)?.execute(params![device.0, class.as_str(), what])?;
            }
            Outcome::Issued { state: state @ (DeviceState::Prepared | DeviceState::Bound), issue }
                if became.is_none_or(|became| became == *state) =>
            {
                became = Some(*state);
                write_issue(transaction, NEW_ISSUE, *device, issue)?;
            }
            Outcome::Issued { .. } => {
                let what = format!("device {}: issued means prepared or bound, all of a chunk alike", device.0);
                return Err(StoreError::State(what));
            }
        }
    }
    let Some(became) = became else { return Ok(()) };
    let sql = format!("UPDATE {WHOLE} devices AS d SET state = ?4 WHERE {STRETCH} AND state = 'accepted'");
    transaction.prepare_cached(&sql)?.execute(params![order.0, chunk.first.0, chunk.last.0, became.as_str()])?;
    Ok(())
}

/// Replaces what was issued to a device, for a profile made again, and claims its matching id.
pub(super) fn insert_issue(connection: &Connection, device: DevicePk, issue: &Issue) -> Result<(), StoreError> {
    claim_matching_id(connection, device, &issue.matching_id)?;
    write_issue(connection, ISSUED_AGAIN, device, issue)
}

/// `sql`: [`NEW_ISSUE`], or [`ISSUED_AGAIN`] for a profile made again.
fn write_issue(connection: &Connection, sql: &str, device: DevicePk, issue: &Issue) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute(params![
        device.0,
        issue.matching_id,
        issue.transaction_id,
        issue.object,
        issue.offset,
        issue.length,
        issue.sha256,
        issue.upp_sha256,
        issue.metadata_sha256,
        issue.ki_enc,
        issue.opc_enc,
        issue.sealed_ppk,
        issue.sealed_credentials
    ])?;
    Ok(())
}

fn read_chunk(row: &Row<'_>) -> rusqlite::Result<Chunk> {
    Ok(Chunk {
        number: row.get(0)?,
        line: row.get(1)?,
        first: DevicePk(row.get(2)?),
        last: DevicePk(row.get(3)?),
        done: row.get(4)?,
        object: match row.get(5)? {
            Some(sha256) => Some(ObjectFacts { sha256, bytes: row.get(6)? }),
            None => None,
        },
        part: row.get(7)?,
    })
}

fn read_device(row: &Row<'_>) -> rusqlite::Result<Device> {
    Ok(Device {
        pk: DevicePk(row.get(0)?),
        line: row.get(1)?,
        row: row.get(2)?,
        state: read_state(row, 3)?,
        eid: read_eid(row, 4)?,
        iccid: optional(row, 5)?,
        imsi: optional(row, 6)?,
        msisdn: row.get(7)?,
        vars: read_vars(row, 23)?,
        wrapped: match row.get(24)? {
            Some(ki) => Some(Wrapped { ki, opc: row.get(25)? }),
            None => None,
        },
        matching_id: optional(row, 8)?,
        euicc_otpk: row.get(9)?,
        error_class: row.get(10)?,
        issue: match row.get::<_, Option<String>>(11)? {
            None => None,
            Some(matching_id) => Some(Box::new(Issue {
                matching_id,
                transaction_id: row.get(12)?,
                object: row.get(13)?,
                offset: row.get(14)?,
                length: row.get(15)?,
                sha256: row.get(16)?,
                upp_sha256: row.get(17)?,
                metadata_sha256: row.get(18)?,
                ki_enc: row.get(19)?,
                opc_enc: row.get(20)?,
                sealed_ppk: row.get(21)?,
                sealed_credentials: row.get(22)?,
            })),
        },
    })
}

pub(super) fn read_state(row: &Row<'_>, at: usize) -> rusqlite::Result<DeviceState> {
    let word = row.get_ref(at)?.as_str()?;
    let unknown = || rusqlite::Error::InvalidColumnType(at, word.to_owned(), Type::Text);
    DeviceState::from_word(word).ok_or_else(unknown)
}

pub(super) fn read_eid(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Eid>> {
    let octets: Option<[u8; 16]> = row.get(at)?;
    octets.map(|octets| Eid::from_packed(&octets).map_err(|e| damaged_column(at, e))).transpose()
}

fn read_vars(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<(String, String)>> {
    let Some(text) = row.get_ref(at)?.as_str_or_null()? else { return Ok(Vec::new()) };
    let vars: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| damaged_column(at, e))?;
    Ok(vars.into_iter().collect())
}

fn optional<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get_ref(at)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => parsed(row, at).map(Some),
    }
}
