//! Checking and submitting: everything is validated before a number or key is used, and what is accepted is accepted in
//! one transaction.
//!
//! Rule: same key and same body get the first answer again; same key and another body change nothing. The order's files are
//! read as streams, the octets that are judged are the octets that are hashed.

use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::answer::{self, ACK_FILE, ACK_SCHEMA, Ack, Answer, Counts, Verdict};
use super::beside;
use super::change::Document;
use super::changing::Changes;
use super::columns::Column;
use super::file::{Accept, Line, Mode, Order};
use super::header::{self, Targets, Templates};
use super::judge::OrderNumbers;
use super::keys::{CheckKeys, KeyRules, KeyTable, MAX_LINE_OCTETS};
use super::parse::{MAX_OCTETS, Unreadable};
use super::pass::{Book, LinePass, Tally};
use super::quota;
use super::refusals::{self, Refusals, RejectsFile};
use super::rows::RowSource;
use super::twice::{FirstLook, Twice};
use super::warnings::{WarningAck, unreadable_lines};
use crate::durable;
use crate::error::{Exit, Fault};
use crate::ids::{Eid, OrderKey};
use crate::store::seen::Seen;
use crate::store::sqlite::{AcceptedOrder, Ledger, accepted_in};
use crate::store::{OrderState, Refusal, Store, StoredOrder};

/// Octets of a key file at most, above those of the ordered keys: the maker may send one file for many orders.
pub(super) const KEY_FILE_OCTETS: u64 = 1 << 30;

/// Where orders come in.
pub struct Intake<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// Directory of the answers.
    pub outbox: PathBuf,
    /// The site's templates.
    pub templates: &'a dyn Templates,
    /// Judge of key files.
    pub check_keys: CheckKeys<'a>,
    /// What the site offers.
    pub targets: &'a Targets,
    /// What changes of other orders need.
    pub changes: &'a dyn Changes,
    /// The time of this submission.
    pub now: Timestamp,
}

impl Intake<'_> {
    /// Everything [`Self::submit`] does, but nothing is stored and nothing written.
    pub fn check(&self, path: &Path) -> Result<Answer, Fault> {
        self.take(OrderFile::read(path)?, false)
    }

    /// Validates an order file, claims what it needs and answers it.
    pub fn submit(&self, path: &Path) -> Result<Answer, Fault> {
        self.submit_read(OrderFile::read(path)?)
    }

    /// The same with octets that were read before: those that were looked at are those that are taken.
    pub fn submit_read(&self, file: OrderFile) -> Result<Answer, Fault> {
        self.take(file, true).map_err(Fault::of_submission)
    }

    fn take(&self, file: OrderFile, submit: bool) -> Result<Answer, Fault> {
        let OrderFile { body, directory } = file;
        let received = Received {
            body_sha256: HEXLOWER.encode(&openssl::sha::sha256(&body)),
            directory,
            body,
            at: self.now.round(jiff::Unit::Second).unwrap_or(self.now).to_string(),
            at_exactly: self.now.to_string(),
            submit,
        };
        let parsed = Document::from_json(&received.body);
        let key = match &parsed {
            Ok(document) => Some(document.key().clone()),
            Err(unreadable) => unreadable.key.clone(),
        };
        if let Some(key) = &key
            && let Some(first) = self.ledger.find_order(key)?
        {
            return self.known(&first, &received);
        }
        if let Some(key) = &key {
            self.was_never_accepted(key)?;
        }
        match parsed {
            Ok(Document::Order(order)) => self.validate(&order, &received),
            Ok(Document::Change(change)) => self.change(&change, &received),
            Err(unreadable) => self.reject_unreadable(unreadable, &received),
        }
    }

    /// The ledger does not know the order; if its answer lies in the outbox all the same, the ledger is older than the outbox.
    fn was_never_accepted(&self, key: &OrderKey) -> Result<(), Fault> {
        let path = self.outbox.join(key.outbox_path()).join(ACK_FILE);
        if accepted_in(&path).as_ref() != Some(key) {
            return Ok(());
        }
        let what = format!("{} says that {key} was accepted, and the ledger does not know it", path.display());
        Err(Fault::new(Exit::IntegrityFailure, what)
            .hint("the ledger was exchanged for an older one: see docs/orders.md, \"When the ledger is lost\", before anything is ordered"))
    }

    /// The key is in the ledger: the first answer again, or a conflict.
    pub(super) fn known(&self, first: &StoredOrder, received: &Received) -> Result<Answer, Fault> {
        if first.body_sha256 != received.body_sha256 {
            return Ok(conflict(
                &first.key,
                received.ack(Some(&first.key), Verdict::Duplicate, Counts::default(), &mut Tally::default(), &[])?,
            ));
        }
        let directory = self.outbox.join(first.key.outbox_path());
        let mut shown = Vec::new();
        let mut total = 0;
        self.ledger.kept_refusals::<Fault>(first.pk, |kept| {
            total += 1;
            if shown.len() < refusals::SHOWN {
                let [column, value, _, message, hint] = kept.texts;
                shown.push(Refusal {
                    line: kept.line,
                    row: kept.row,
                    column,
                    value,
                    code: "refused-before",
                    message,
                    hint,
                });
            }
            Ok(())
        })?;
        if received.submit {
            answer_again(self.ledger, first, &directory)?;
        }
        let verdict = if first.refused == 0 { Verdict::Accepted } else { Verdict::AcceptedPartial };
        Ok(Answer {
            key: Some(first.key.clone()),
            verdict,
            exit: verdict.exit(),
            ack: first.ack.clone(),
            counts: Counts { rows: first.rows, accepted: first.rows - first.refused, refused: first.refused },
            refusals_total: total,
            first_refusals: shown,
            warnings: Vec::new(),
            outbox: received.submit.then_some(directory),
            repeated: true,
        })
    }

    /// No order could be made of the file; its sender is answered if at least the key is known.
    fn reject_unreadable(&self, unreadable: Unreadable, received: &Received) -> Result<Answer, Fault> {
        let Unreadable { key, lines, refusals: refused } = unreadable;
        let key = key.as_ref();
        let book = Book::open(self.ledger, received.submit && key.is_some())?;
        if let Some(first) = book.first_answer(key)? {
            drop(book);
            return self.known(&first, received);
        }
        let mut refusals = self.refusals(key, lines > 1, received)?;
        refusals.general(refused)?;
        self.finish(key, Tally::default(), refusals, book, Accept::AllOrNothing, received)
    }

    fn validate(&self, order: &Order, received: &Received) -> Result<Answer, Fault> {
        let mut refusals = self.refusals(Some(&order.key), order.lines.len() > 1, received)?;
        let (wrong, takes) = header::check(order, self.targets, self.templates, self.now);
        refusals.general(wrong)?;
        // Keys are checked before the transaction begins: a million signatures take minutes, and others want to write.
        let mut given = (order.lines.len() > 1).then(|| Seen::for_about(order.quantity()));
        let mut keys = Vec::new();
        for (at, line) in order.lines.iter().enumerate() {
            keys.push(self.keys((at, line), received, &mut given, &mut refusals)?);
        }
        let (twice, first_sha256s) = self.first_look(order, received)?;
        let mut book = Book::open(self.ledger, received.submit)?;
        if let Some(first) = book.first_answer(Some(&order.key))? {
            drop(book);
            return self.known(&first, received);
        }
        refusals.general(quota::judge(order, &self.targets.tenants, book.claimed(), self.now)?)?;
        let mut numbers = OrderNumbers::new(order, twice);
        let mut tally = Tally { rows: order.quantity(), ..Tally::default() };
        for (line, takes) in order.lines.iter().zip(&takes) {
            tally.templates.insert(line.line, HEXLOWER.encode(&takes.template_sha256));
        }
        for (((at, line), keys), takes) in order.lines.iter().enumerate().zip(keys).zip(&takes) {
            let first_sha256 = first_sha256s.get(at).and_then(Option::as_deref);
            let pass = LinePass { order, at, line, takes, directory: &received.directory, first_sha256 };
            pass.run(keys, &mut numbers, &mut book, &mut refusals, &mut tally)?;
        }
        self.finish(Some(&order.key), tally, refusals, book, order.accept, received)
    }

    /// Reads the line's key file; `None` if the mode binds no keys or the file could not be read.
    fn keys(
        &self,
        (at, line): (usize, &Line),
        received: &Received,
        given: &mut Option<Seen<32>>,
        refusals: &mut Refusals,
    ) -> Result<Option<KeyTable>, Fault> {
        let Some(reference) = &line.euicc_data else { return Ok(None) };
        let member = format!("lines[{at}].euicc_data");
        let most_octets = KEY_FILE_OCTETS + u64::from(line.quantity) * MAX_LINE_OCTETS;
        let file = match beside::open(&received.directory, reference, line.line, &member, most_octets) {
            Ok(file) => file,
            Err(refusal) => return refusals.general([*refusal]).map(|()| None),
        };
        if line.mode == Mode::Order {
            let sha256 = file.finish().map_err(|e| Fault::file(Path::new(&reference.file), &e))?;
            return refusals.general(beside::compare(&sha256, reference, line.line, &member)).map(|()| None);
        }
        let Some(mut table) = wanted_keys(at, line, received)? else { return Ok(None) };
        let is_used = |point: &[u8; 65]| Ok(self.ledger.claimed().view().one_time_key(point)?);
        let quantity = u64::from(line.quantity);
        let mut rules = KeyRules { check_keys: self.check_keys, is_used: &is_used, given: given.as_mut(), quantity };
        let sha256 = table.read(file, &mut rules)?;
        let of_file = (line.line, member.as_str(), reference.file.as_str());
        refusals.warnings.extend(unreadable_lines(of_file, &table.unreadable));
        refusals.general(beside::compare(&sha256, reference, line.line, &member))?;
        Ok(Some(table))
    }

    /// Reads the rows for the first time; gives what the second time must know, and the hashes of the files by line. Rows that cannot
    /// be read are passed over: the second reading says why.
    fn first_look(&self, order: &Order, received: &Received) -> Result<(Twice, Vec<Option<String>>), Fault> {
        let open = |at: usize, line| RowSource::open(line, &received.directory, &format!("lines[{at}]"));
        let mut values = vec![0; order.lines.len()];
        for ((at, line), values) in order.lines.iter().enumerate().zip(&mut values) {
            *values = open(at, line)?.map_or(0, |source| FirstLook::values_of(&source, line.quantity));
        }
        let mut look = FirstLook::for_about(values.iter().sum());
        let mut sha256s = Vec::with_capacity(values.len());
        for ((at, line), values) in order.lines.iter().enumerate().zip(values) {
            let source = if values == 0 { None } else { open(at, line)?.ok() };
            let seen = source.map(|source| {
                source.for_each(|cells| {
                    look.note(line.line, &cells);
                    Ok(())
                })
            });
            sha256s.push(seen.transpose()?.and_then(|seen| seen.sha256));
        }
        Ok((look.into_twice(), sha256s))
    }

    pub(super) fn refusals(
        &self,
        key: Option<&OrderKey>,
        several: bool,
        received: &Received,
    ) -> Result<Refusals, Fault> {
        let file = match key.filter(|_| received.submit) {
            None => None,
            Some(key) => {
                let directory = self.outbox.join(key.outbox_path());
                answer::create_directory(&directory)?;
                Some(RejectsFile::create(&directory, several)?)
            }
        };
        Ok(Refusals::new(file))
    }

    /// Verdict, commit, answer files; in this order, so that an answer never speaks of what is not durable.
    pub(super) fn finish(
        &self,
        key: Option<&OrderKey>,
        mut tally: Tally,
        mut refusals: Refusals,
        book: Book<'_>,
        accept: Accept,
        received: &Received,
    ) -> Result<Answer, Fault> {
        let verdict = match (refusals.total, accept) {
            (0, _) => Verdict::Accepted,
            (_, Accept::Partial) if refusals.general == 0 && tally.accepted > 0 => Verdict::AcceptedPartial,
            _ => Verdict::Rejected,
        };
        let rejected = verdict == Verdict::Rejected;
        let accepted = if rejected { 0 } else { tally.accepted };
        // What is refused as a whole is refused with every row of it.
        let refused = if rejected && refusals.general > 0 { tally.rows } else { refusals.rows };
        let counts = Counts { rows: tally.rows, accepted, refused };
        if rejected {
            tally = Tally { templates: tally.templates, ..Tally::default() };
        }
        let ack = received.ack(key, verdict, counts, &mut tally, &refusals.warnings)?;
        let file = refusals.finish_file()?;
        let directory = key.filter(|_| received.submit).map(|key| self.outbox.join(key.outbox_path()));
        let publish = || -> Result<(), Fault> {
            file.map_or(Ok(()), |file| file.publish())?;
            directory.as_ref().map_or(Ok(()), |directory| answer::write_ack(directory, &ack))
        };
        match (book, key) {
            (Book::Submit(acceptance), Some(key)) if !rejected => {
                let (body, body_sha256) = (&kept_body(&received.body)[..], received.body_sha256.as_str());
                let accepted_at = received.at_exactly.as_str();
                let Counts { rows, refused, .. } = counts;
                let templates = &tally.templates;
                let change = tally.change.as_ref().map(|accepted| accepted.change);
                let ack = &ack;
                let order =
                    AcceptedOrder { key, body_sha256, body, templates, ack, rows, refused, accepted_at, change };
                acceptance.commit(&order)?;
                publish().map_err(|fault| unanswered(key, fault))?;
            }
            // The transaction stays open while a rejection is written: no other submission of this key is accepted meanwhile.
            (book, _) => {
                publish()?;
                drop(book);
                if received.submit {
                    self.ledger.record_rejection(key, &received.body_sha256, (counts.rows, counts.refused))?;
                }
            }
        }
        Ok(Answer {
            key: key.cloned(),
            verdict,
            exit: if rejected && refusals.only_exhausted() { Exit::Exhausted } else { verdict.exit() },
            ack,
            counts,
            refusals_total: refusals.total,
            first_refusals: refusals.first,
            warnings: refusals.warnings,
            outbox: directory,
            repeated: false,
        })
    }
}

/// The order stands in the ledger: what could not be written is only the answer.
fn unanswered(key: &OrderKey, fault: Fault) -> Fault {
    let what = format!("{key} was accepted, but its answer could not be written: {}", fault.what);
    let first = fault.hint.map(|hint| format!("{hint}; ")).unwrap_or_default();
    Fault::new(fault.exit, what).hint(format!(
        "{first}the order stays accepted: submit the same file again, or `bindery run`, and the answer is written"
    ))
}

/// Gives an accepted order's first answer again: `rejects.csv` and `ack.json` as the ledger holds them. Of an order that is exported
/// only what is missing: the rest was sealed.
pub fn answer_again(ledger: &Ledger, first: &StoredOrder, directory: &Path) -> Result<(), Fault> {
    answer::create_directory(directory)?;
    let is_open = first.state == OrderState::Open;
    if is_open || !directory.join(refusals::FILE).exists() {
        let several = Order::from_json(&first.body).is_ok_and(|order| order.lines.len() > 1);
        let mut file = RejectsFile::create(directory, several)?;
        ledger.kept_refusals::<Fault>(first.pk, |kept| file.write_kept(&kept))?;
        file.finish()?.publish()?;
    }
    let ack = directory.join(ACK_FILE);
    if std::fs::read(&ack).is_ok_and(|there| !is_open || there == first.ack) {
        return Ok(());
    }
    if ack.exists() {
        tracing::warn!(order = %first.key, "ack.json was not the answer that was given; it is written again");
    }
    answer::write_ack(directory, &first.ack)
}

/// The octets of an order file, and where the files lie that it names.
pub struct OrderFile {
    /// May hold confirmation codes.
    body: Zeroizing<Vec<u8>>,
    directory: PathBuf,
}

impl OrderFile {
    /// A regular file of bounded size, whatever becomes of it or its name meanwhile.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Ok(Self { body: read_body(path)?, directory })
    }

    /// What they say.
    pub(super) fn document(&self) -> Result<Document, Unreadable> {
        Document::from_json(&self.body)
    }
}

/// A file that came in.
pub(super) struct Received {
    /// May hold confirmation codes.
    body: Zeroizing<Vec<u8>>,
    body_sha256: String,
    pub(super) directory: PathBuf,
    /// For people: whole seconds.
    at: String,
    /// For the ledger: a key that was switched in the same second is before it or after it.
    at_exactly: String,
    pub(super) submit: bool,
}

impl Received {
    fn ack(
        &self,
        key: Option<&OrderKey>,
        verdict: Verdict,
        counts: Counts,
        tally: &mut Tally,
        warnings: &[Refusal],
    ) -> Result<Vec<u8>, Fault> {
        let ack = Ack {
            schema: ACK_SCHEMA,
            tenant: key.map(|key| key.tenant.as_str()),
            order_id: key.map(|key| key.order_id.as_str()),
            rev: key.map(|key| key.rev),
            verdict,
            counts,
            body_sha256: &self.body_sha256,
            ranges: std::mem::take(&mut tally.ranges),
            change: tally.change.as_ref().map(|accepted| accepted.ack.clone()),
            warnings: warnings.iter().map(WarningAck::from).collect(),
            received: self.at.clone(),
            engine: env!("CARGO_PKG_VERSION"),
        };
        ack.octets()
    }
}

/// The order as the ledger keeps it: confirmation codes give way to their SHA-256, which is all that is ever compared
/// (SGP.22 §3.1.3.2); the ledger must not be the place to read them.
fn kept_body(body: &[u8]) -> Vec<u8> {
    let Ok(mut order) = serde_json::from_slice::<serde_json::Value>(body) else { return body.to_vec() };
    let lines = order.get_mut("lines").and_then(|lines| lines.as_array_mut());
    let mut has_code = false;
    for code in lines.into_iter().flatten().filter_map(|line| line.get_mut("confirmation_code")) {
        if let serde_json::Value::String(text) = code {
            let text = Zeroizing::new(std::mem::take(text));
            let hashed = HEXLOWER.encode(&openssl::sha::sha256(text.as_bytes()));
            *code = serde_json::Value::String(hashed);
            has_code = true;
        }
    }
    if has_code { order.to_string().into_bytes() } else { body.to_vec() }
}

fn read_body(path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::InvalidInput => Fault::new(Exit::Usage, format!("{}: {e}", path.display())),
        _ => Fault::file(path, &e),
    };
    let failed = |e| failed(e).hint("name the order's JSON file");
    let (file, octets) = durable::open_regular(path).map_err(failed)?;
    // One allocation: what grows is copied, and the first copy would not be wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(octets.min(MAX_OCTETS) as usize + 2));
    file.take(MAX_OCTETS + 1).read_to_end(&mut body).map_err(failed)?;
    if body.len() as u64 > MAX_OCTETS {
        let what = format!("{}: an order file has at most {MAX_OCTETS} octets", path.display());
        return Err(Fault::new(Exit::OrderRejected, what).hint("put the rows into a CSV and name it with its SHA-256"));
    }
    Ok(body)
}

/// The key slots of a line: the rows' EIDs, or the first of the key file. `None` if the rows cannot be read; the pass over the
/// rows says why.
fn wanted_keys(at: usize, line: &Line, received: &Received) -> Result<Option<KeyTable>, Fault> {
    if line.rows.is_none() {
        return KeyTable::first_of_file(line.quantity).map(Some);
    }
    let Ok(source) = RowSource::open(line, &received.directory, &format!("lines[{at}]"))? else { return Ok(None) };
    let mut table = KeyTable::wanted()?;
    source.for_each(|cells| {
        let text = cells.cell(Column::Eid).and_then(|cell| std::str::from_utf8(cell).ok());
        if let Some(eid) = text.and_then(|text| text.parse::<Eid>().ok()).filter(|_| cells.position <= line.quantity) {
            table.want(&eid)?;
        }
        Ok(())
    })?;
    Ok(Some(table))
}

fn conflict(key: &OrderKey, ack: Vec<u8>) -> Answer {
    Answer {
        key: Some(key.clone()),
        verdict: Verdict::Duplicate,
        exit: Exit::DuplicateConflict,
        ack,
        counts: Counts::default(),
        refusals_total: 0,
        first_refusals: Vec::new(),
        warnings: Vec::new(),
        outbox: None,
        repeated: false,
    }
}
