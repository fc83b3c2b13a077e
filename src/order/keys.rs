//! The eUICC key file (`euicc.jsonl`): which one-time key each row gets. One line a key; lines are checked in batches by the
//! caller's closure, which may use all cores.
//!
//! Rule: a key goes to one profile, ever. Of two lines with one key the first that is not refused stands. A row is refused only
//! if no line of its eUICC gives it a key; it is told what was wrong with the first of them.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{channel, sync_channel};

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::beside::Hashed;
use super::json::excerpt;
use super::refusals::masked;
use super::warnings::Unreadable;
use crate::error::{Exit, Fault};
use crate::ids::Eid;
use crate::store::StoreError;
use crate::store::seen::Seen;
use crate::store::sqlite::{KeySlots, SlotKey, one_time_key_x};

/// Lines checked at once; the first batches are smaller, so that all cores have work soon.
const BATCH: usize = 1_024;
const FIRST_BATCH: usize = 64;
/// Octets of a line at most: two certificates of 4 KB each, in base64, with room.
pub(super) const MAX_LINE_OCTETS: u64 = 64 * 1024;

/// One line of a key file, decoded.
#[derive(Debug)]
pub struct KeyLine {
    /// 1-based line of the file.
    pub line_no: u64,
    /// Whose key it is.
    pub eid: Eid,
    /// otPK.EUICC.KA, uncompressed; not yet known to be on the curve.
    pub euicc_otpk: [u8; 65],
    /// `r || s` by the eUICC over `30 L { 5A 10 EID, 5F49 41 otPK }`.
    pub signature: [u8; 64],
    /// CERT.EUICC.ECDSA, DER.
    pub euicc_certificate: Vec<u8>,
    /// CERT.EUM.ECDSA, DER.
    pub eum_certificate: Vec<u8>,
}

/// Why a key must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRefusal {
    /// Stable code, kebab-case.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Checks a batch of lines; as many results as lines, in their order.
pub type CheckKeys<'a> = &'a (dyn Fn(&[KeyLine]) -> Vec<Result<(), KeyRefusal>> + Sync);

/// Which one-time key each eUICC of an order line gets.
pub(super) struct KeyTable {
    slots: KeySlots,
    /// Codes of refusals, by the numbers that the slots have of them.
    codes: Vec<&'static str>,
    /// Lines that could not be read, and what was wrong with the first of them.
    pub(super) unreadable: Unreadable,
    /// Slots are the file's own EIDs, in its order, at most this many; none: the rows name the EIDs.
    from_file: Option<u32>,
}

/// A row's one-time key, or why it has none.
pub(super) type RowKey = Result<[u8; 65], KeyRefusal>;

/// Lines read and not judged yet.
#[derive(Default)]
struct Batch {
    /// In the order of the file.
    entries: Vec<Entry>,
    /// The lines with a key that a slot waits for.
    lines: Vec<KeyLine>,
}

enum Entry {
    /// x of a line's key, and the slot that waits for it; none: nobody needs the key, but it must not come again.
    Key([u8; 32], Option<u32>),
    /// A line that is no key, and the slot that it takes.
    Unreadable(u32, KeyRefusal),
}

/// What the key pass must know besides the file.
pub(super) struct KeyRules<'a> {
    pub(super) check_keys: CheckKeys<'a>,
    /// Is a profile bound to this key?
    pub(super) is_used: &'a dyn Fn(&[u8; 65]) -> Result<bool, Fault>,
    /// Keys that earlier lines of the order got; none for an order of one line.
    pub(super) given: Option<&'a mut Seen<32>>,
    /// Keys that are wanted.
    pub(super) quantity: u64,
}

impl KeyTable {
    /// Rows have their EIDs: [`Self::want`] names them.
    pub(super) fn wanted() -> Result<Self, Fault> {
        Ok(Self { slots: KeySlots::open()?, codes: Vec::new(), unreadable: Unreadable::default(), from_file: None })
    }

    /// A row has this EID.
    pub(super) fn want(&mut self, eid: &Eid) -> Result<(), StoreError> {
        self.slots.add(Some(eid)).map(drop)
    }

    /// Row r takes the r-th distinct EID of the file.
    pub(super) fn first_of_file(quantity: u32) -> Result<Self, Fault> {
        Ok(Self { from_file: Some(quantity), ..Self::wanted()? })
    }

    /// The key of the eUICC.
    pub(super) fn key_of(&self, eid: &Eid) -> Result<RowKey, StoreError> {
        Ok(self.usable(self.slots.key_of(eid)?.unwrap_or(SlotKey::None)))
    }

    /// EID and key of row `row`, where the rows name none. The EID is unknown if the file's line is unreadable.
    pub(super) fn of_row(&self, row: u32) -> Result<(Option<Eid>, RowKey), StoreError> {
        let (eid, key) = self.slots.key(row - 1)?.unwrap_or((None, SlotKey::None));
        Ok((eid, self.usable(key)))
    }

    /// Reads the whole file; returns its hash in lower-case hex. While one batch is checked on all cores, the next one is read.
    pub(super) fn read(&mut self, file: Hashed, rules: &mut KeyRules<'_>) -> Result<String, Fault> {
        let mut seen = Seen::for_about(rules.quantity);
        let check_keys = rules.check_keys;
        let (to_check, batches) = sync_channel::<Batch>(1);
        let (checked, to_judge) = channel();
        std::thread::scope(|scope| {
            // Dropped with this closure, whatever ends it: the other thread waits for its end.
            let to_check = to_check;
            scope.spawn(move || {
                for batch in batches {
                    let verdicts = if batch.lines.is_empty() { Vec::new() } else { check_keys(&batch.lines) };
                    if checked.send((batch, verdicts)).is_err() {
                        return; // the reader has failed
                    }
                }
            });
            let sha256 = self.read_batches(file, |table, batch| {
                to_check.send(batch).map_err(|_| Fault::new(Exit::Bug, "the judge of keys is gone"))?;
                to_judge.try_iter().try_for_each(|(batch, verdicts)| table.judge(batch, verdicts, &mut seen, rules))
            })?;
            drop(to_check);
            to_judge.iter().try_for_each(|(batch, verdicts)| self.judge(batch, verdicts, &mut seen, rules))?;
            Ok(sha256)
        })
    }

    fn read_batches(
        &mut self,
        file: Hashed,
        mut each: impl FnMut(&mut Self, Batch) -> Result<(), Fault>,
    ) -> Result<String, Fault> {
        let failed = |e: std::io::Error| Fault::new(Exit::Config, format!("eUICC key file: {e}"));
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let mut batch = Batch::default();
        let mut text = Vec::new();
        let mut line_no = 0;
        let mut full = FIRST_BATCH;
        while read_line(&mut reader, &mut text).map_err(failed)? {
            line_no += 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match decode(&text, line_no) {
                Ok(line) => {
                    let slot = self.slot_for(&line.eid)?.filter(|(_, has_key)| !has_key).map(|(slot, _)| slot);
                    batch.entries.push(Entry::Key(one_time_key_x(&line.euicc_otpk), slot));
                    batch.lines.extend(slot.map(|_| line));
                }
                Err((eid, refusal)) => {
                    self.unreadable.note(&refusal);
                    let slot = self.slot_of_unreadable(eid)?;
                    batch.entries.extend(slot.map(|slot| Entry::Unreadable(slot, refusal)));
                }
            }
            if batch.entries.len() >= full {
                full = BATCH.min(2 * full);
                each(self, std::mem::take(&mut batch))?;
            }
        }
        each(self, batch)?;
        reader.into_inner().finish().map_err(failed)
    }

    fn judge(
        &mut self,
        batch: Batch,
        verdicts: Vec<Result<(), KeyRefusal>>,
        seen: &mut Seen<32>,
        rules: &mut KeyRules<'_>,
    ) -> Result<(), Fault> {
        if verdicts.len() != batch.lines.len() {
            let what = format!("{} keys were checked, {} verdicts came back", batch.lines.len(), verdicts.len());
            return Err(Fault::new(Exit::Bug, what));
        }
        // The key of a line that is refused may come again, that of a line that nobody needs may not.
        let mut of_lines = verdicts.iter();
        let mut stands = |entry: &Entry| match entry {
            Entry::Key(x, None) => Some(*x),
            Entry::Key(x, Some(_)) => of_lines.next().is_some_and(Result::is_ok).then_some(*x),
            Entry::Unreadable(..) => None,
        };
        let standing: Vec<[u8; 32]> = batch.entries.iter().filter_map(&mut stands).collect();
        let mut is_new = seen.add_all(&standing).map_err(not_kept)?.into_iter();
        let mut checked = batch.lines.into_iter().zip(verdicts);
        for entry in batch.entries {
            let (slot, x, (line, verdict)) = match entry {
                Entry::Unreadable(slot, refusal) => {
                    self.refuse(slot, refusal)?;
                    continue;
                }
                Entry::Key(x, slot) => match slot.and_then(|slot| Some((slot, checked.next()?))) {
                    Some((slot, checked)) => (slot, x, checked),
                    None => {
                        is_new.next();
                        continue;
                    }
                },
            };
            let is_new = verdict.is_err() || is_new.next().unwrap_or_default();
            // Only an order of several lines asks: otherwise a slot that has its key just keeps it.
            let may_get = rules.given.is_some() && !matches!(self.slots.key(slot)?, Some((_, SlotKey::Usable(_))));
            let refusal = match verdict {
                Err(refusal) => Some(refusal),
                Ok(()) if !is_new => Some(repeated(line.line_no)),
                Ok(()) if (rules.is_used)(&line.euicc_otpk)? => Some(used(line.line_no)),
                Ok(()) if may_get && was_given(&mut rules.given, x)? => Some(used(line.line_no)),
                Ok(()) => None,
            };
            match refusal {
                Some(refusal) => self.refuse(slot, refusal)?,
                None => self.slots.give(slot, &line.euicc_otpk)?,
            }
        }
        Ok(())
    }

    /// A line that is no key takes the place of the eUICC it may have been for, so that no other row moves.
    fn slot_of_unreadable(&mut self, eid: Option<Eid>) -> Result<Option<u32>, StoreError> {
        match eid {
            Some(eid) => Ok(self.slot_for(&eid)?.map(|(slot, _)| slot)),
            None if self.has_room() => Ok(self.slots.add(None)?.then(|| self.slots.count() - 1)),
            None => Ok(None),
        }
    }

    /// Of a slot's refusals the first is kept, and none beside a key.
    fn refuse(&mut self, slot: u32, refusal: KeyRefusal) -> Result<(), StoreError> {
        let KeyRefusal { code, message, hint } = refusal;
        let known = self.codes.iter().position(|known| *known == code);
        let number = known.unwrap_or_else(|| {
            self.codes.push(code);
            self.codes.len() - 1
        });
        self.slots.refuse(slot, number as u32, &message, &hint)
    }

    /// The slot of an eUICC, made where there is room for it, and whether it has a key.
    fn slot_for(&mut self, eid: &Eid) -> Result<Option<(u32, bool)>, StoreError> {
        if self.has_room() && self.slots.add(Some(eid))? {
            return Ok(Some((self.slots.count() - 1, false)));
        }
        self.slots.find(eid)
    }

    fn has_room(&self) -> bool {
        self.from_file.is_some_and(|quantity| self.slots.count() < quantity)
    }

    fn usable(&self, key: SlotKey) -> Result<[u8; 65], KeyRefusal> {
        match key {
            SlotKey::Usable(point) => Ok(point),
            SlotKey::Refused { code, message, hint } => {
                let code = self.codes.get(code as usize).copied().unwrap_or("key-refused");
                Err(KeyRefusal { code, message, hint })
            }
            SlotKey::None => Err(no_key()),
        }
    }
}

/// Notes that a line of the order gets this key; true when an earlier line got it.
fn was_given(given: &mut Option<&mut Seen<32>>, x: [u8; 32]) -> Result<bool, Fault> {
    given.as_mut().map_or(Ok(false), |given| given.add(x).map(|new| !new).map_err(not_kept))
}

fn not_kept(error: std::io::Error) -> Fault {
    Fault::new(Exit::Config, format!("one-time keys were not compared: {error}"))
        .hint("make room in the directory of temporary files (TMPDIR), then submit again")
}

fn no_key() -> KeyRefusal {
    let message = "the key file has no one-time key for this eUICC".to_owned();
    KeyRefusal { code: "no-one-time-key", message, hint: "ask the eUICC's maker for a key of this EID".to_owned() }
}

fn repeated(line_no: u64) -> KeyRefusal {
    let message = format!("line {line_no} of the key file repeats the one-time key of an earlier line");
    KeyRefusal {
        code: "repeated-one-time-key",
        message,
        hint: "a key is good for one profile: ask for another".to_owned(),
    }
}

fn used(line_no: u64) -> KeyRefusal {
    let message = format!("the one-time key in line {line_no} of the key file has been used for another profile");
    KeyRefusal { code: "one-time-key-used", message, hint: "a key is good for one profile: ask for another".to_owned() }
}

/// A line without its end; false at the end of the file. What is beyond the bound is read and dropped, so that the line is
/// refused and the next one is a line again.
pub(super) fn read_line(reader: &mut impl BufRead, text: &mut Vec<u8>) -> std::io::Result<bool> {
    text.clear();
    if reader.by_ref().take(MAX_LINE_OCTETS).read_until(b'\n', text)? == 0 {
        return Ok(false);
    }
    if text.last() != Some(&b'\n') && text.len() as u64 == MAX_LINE_OCTETS {
        reader.skip_until(b'\n')?;
    }
    Ok(true)
}

/// Members of a line as they stand in the file.
#[derive(Default)]
struct RawLine<'t> {
    eid: Option<Cow<'t, str>>,
    euicc_otpk: Option<Cow<'t, str>>,
    signature: Option<Cow<'t, str>>,
    euicc_certificate: Option<Cow<'t, str>>,
    eum_certificate: Option<Cow<'t, str>>,
}

/// A decoded line, or what is wrong with it and whose it is, if that can be read.
pub(super) fn decode(text: &[u8], line_no: u64) -> Result<KeyLine, (Option<Eid>, KeyRefusal)> {
    let refusal = |what: String| {
        let message = format!("line {line_no} of the key file: {what}");
        KeyRefusal { code: "key-line", message, hint: "ask the eUICC's maker for the line again".to_owned() }
    };
    let raw: RawLine<'_> =
        serde_json::from_slice(text).map_err(|e| (eid_in(text), refusal(excerpt(&e.to_string()))))?;
    let missing = |name: &str| (None, refusal(format!("{name} is missing")));
    let eid_text = raw.eid.ok_or_else(|| missing("eid"))?;
    let eid: Eid = eid_text.parse().map_err(|e| (None, refusal(format!("eid {} {e}", masked(&eid_text)))))?;
    let octets = |name: &str, member: Option<Cow<'_, str>>| {
        let text = member.ok_or_else(|| (Some(eid), refusal(format!("{name} is missing"))))?;
        BASE64.decode(text.as_bytes()).map_err(|_| (Some(eid), refusal(format!("{name} is not base64"))))
    };
    let euicc_otpk = octets("euicc_otpk", raw.euicc_otpk)?;
    let signature = octets("signature", raw.signature)?;
    let sized = |name: &str, length: usize| (Some(eid), refusal(format!("{name} has not {length} octets")));
    let euicc_otpk: [u8; 65] = euicc_otpk.try_into().map_err(|_| sized("euicc_otpk", 65))?;
    if euicc_otpk[0] != 4 {
        return Err((Some(eid), refusal("euicc_otpk is not an uncompressed point".to_owned())));
    }
    Ok(KeyLine {
        line_no,
        eid,
        euicc_otpk,
        signature: signature.try_into().map_err(|_| sized("signature", 64))?,
        euicc_certificate: octets("euicc_certificate", raw.euicc_certificate)?,
        eum_certificate: octets("eum_certificate", raw.eum_certificate)?,
    })
}

/// The EID of a line that is no key line: whose row has to be told. Of several the first.
fn eid_in(text: &[u8]) -> Option<Eid> {
    let text = std::str::from_utf8(text).ok()?;
    let value = text.split_once("\"eid\"")?.1.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once('"')?.0.parse().ok()
}

impl<'de: 't, 't> Deserialize<'de> for RawLine<'t> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawLineVisitor)
    }
}

struct RawLineVisitor;

impl<'de> Visitor<'de> for RawLineVisitor {
    type Value = RawLine<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawLine<'de>, A::Error> {
        use serde::de::Error;
        let mut line = RawLine::default();
        while let Some(Text(name)) = map.next_key()? {
            let slot = match name.as_ref() {
                "eid" => &mut line.eid,
                "euicc_otpk" => &mut line.euicc_otpk,
                "signature" => &mut line.signature,
                "euicc_certificate" => &mut line.euicc_certificate,
                "eum_certificate" => &mut line.eum_certificate,
                own if own.starts_with("x_") => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                unknown => {
                    return Err(A::Error::custom(format_args!(
                        "unknown member {}",
                        super::columns::shown_name(unknown)
                    )));
                }
            };
            let Text(value) = map.next_value()?;
            if slot.replace(value).is_some() {
                return Err(A::Error::custom(format_args!("{name} stands twice")));
            }
        }
        Ok(line)
    }
}

/// A text that is borrowed from the line where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
