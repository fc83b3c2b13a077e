//! From the octets of an order file to an [`Order`], or to every refusal that can be told at once.

use std::collections::{BTreeMap, HashSet};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use super::change::{Change, ChangeOrder, Document, RemakeLine};
use super::columns::{Column, Meaning, meaning, shown_name};
use super::file::*;
use super::json::{Limit, Members, Node, Place, Problems, Value, byte_order_mark, excerpt};
use super::refusals::masked;
use super::vars::read_vars;
use crate::formats::rsp::metadata::{
    Icon, Notification, NotificationEvent, Owner, PolicyRule, ProfileClass, StoreMetadata, pack_mcc_mnc,
};
use crate::formats::saip::algorithm::Algorithm;
use crate::ids::{OrderId, OrderKey, Tenant};
use crate::store::{ChangeKind, Refusal};

/// Octets of an order file at most; rows beyond a thousand have their own file.
pub(super) const MAX_OCTETS: u64 = 4 << 20;

const LINES: Limit =
    Limit { most: MAX_LINES, code: "too-many-lines", what: "lines", hint: "make several orders of them" };
const INLINE_ROWS: Limit = Limit {
    most: MAX_INLINE_ROWS,
    code: "too-many-inline-rows",
    what: "rows",
    hint: "put the rows into a CSV and name it with its SHA-256",
};
/// Cells of a row in the order itself, own ones included.
const CELLS: Limit = Limit { most: 256, code: "too-many-members", what: "members", hint: UNKNOWN_COLUMN_HINT };
/// Lists whose elements are words and targets.
const WORDS: Limit = Limit { most: 256, code: "too-many-elements", what: "elements", hint: "name each of them once" };

/// Why a file is no order.
#[derive(Debug)]
pub struct Unreadable {
    /// The order's key, if at least that could be read: then its sender can be answered.
    pub key: Option<OrderKey>,
    /// Elements of `lines`, as far as there are any.
    pub lines: usize,
    /// Everything that is wrong.
    pub refusals: Vec<Refusal>,
}

impl Order {
    /// Reads the octets of an order of profiles.
    pub fn from_json(octets: &[u8]) -> Result<Self, Unreadable> {
        match Document::from_json(octets)? {
            Document::Order(order) => Ok(*order),
            Document::Change(change) => {
                let problems = Problems::default();
                let kind = change.kind().as_str();
                problems.add(
                    0,
                    "kind",
                    kind,
                    "unsupported-kind",
                    "has no profiles of its own",
                    "name the order it changes",
                );
                Err(Unreadable { key: Some(change.key), lines: 0, refusals: problems.into_refusals() })
            }
        }
    }
}

impl Document {
    /// Reads an order file's octets.
    pub fn from_json(octets: &[u8]) -> Result<Self, Unreadable> {
        let problems = Problems::default();
        let mut lines = 0;
        let (key, order) = match serde_json::from_slice::<Node>(octets) {
            Ok(root) => {
                lines = root.count_of("lines");
                read_root(&root, &problems)
            }
            Err(_) if let Some(mark) = byte_order_mark(octets) => {
                let hint = "write it as UTF-8 without a byte order mark (RFC 8259, section 8.1)";
                problems.add(0, "", "", "byte-order-mark", &format!("the file begins with {mark}"), hint);
                (None, None)
            }
            Err(error) => {
                let at = format!("line {}, character {}: {}", error.line(), error.column(), reason(&error));
                problems.add(0, "", "", "json", &at, "the order file is one JSON object (RFC 8259) in UTF-8");
                (None, None)
            }
        };
        let refusals = problems.into_refusals();
        match order {
            Some(order) if refusals.is_empty() => Ok(order),
            _ => Err(Unreadable { key, lines, refusals }),
        }
    }
}

/// serde_json repeats no values in syntax errors, but it appends the position, which we tell ourselves.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn read_root(root: &Node, problems: &Problems) -> (Option<OrderKey>, Option<Document>) {
    let place = Place::root(problems);
    let mut key = None;
    let order = Value::new(root, &place).object(|order| {
        // Every member is read before the first `?`, so that one refusal does not hide the others.
        let schema = order.required("schema", |v| v.word(&[(SCHEMA, ())]));
        let order_id = order.required("order_id", |v| no_option(v)?.parse::<OrderId>(excerpt, "it names a directory"));
        let rev = order.or("rev", 1, |v| v.number(1, u32::MAX));
        let tenant = order.required("tenant", |v| no_option(v)?.parse::<Tenant>(excerpt, "it names a directory"));
        key = tenant.zip(order_id).zip(rev).map(|((tenant, order_id), rev)| OrderKey { tenant, order_id, rev });
        let kind = order.required("kind", read_kind);
        let accept = order.or("accept", Accept::AllOrNothing, |v| {
            v.word(&[("all_or_nothing", Accept::AllOrNothing), ("partial", Accept::Partial)])
        });
        let due = order.optional("due", |v| v.parse::<jiff::Timestamp>(excerpt, "RFC 3339: 2026-12-01T06:00:00Z"));
        let change = match kind {
            Some(FileKind::Change(ChangeKind::Cancel)) => {
                let lines = order.or("lines", Vec::new(), read_cancelled_lines);
                lines.map(|lines| Change::Cancel { lines })
            }
            Some(FileKind::Change(ChangeKind::Remake)) => {
                let lines = order.required("lines", read_remade_lines);
                lines.map(|lines| Change::Remake { lines })
            }
            Some(FileKind::Profiles(kind)) => {
                let lines = order.required("lines", read_lines);
                schema?;
                let order = Order { key: key.clone()?, kind, accept: accept?, due: due?, lines: lines? };
                return Some(Document::Order(Box::new(order)));
            }
            None => {
                order.required("lines", read_lines);
                None
            }
        };
        if accept? == Accept::Partial && change.is_some() {
            let accept = |v: Value<'_>| v.place().refuse("partial", "unsupported-accept", WHOLE, "leave accept out");
            order.optional("accept", |v| accept(v).or(Some(())));
        }
        schema?;
        due?;
        Some(Document::Change(ChangeOrder { key: key.clone()?, change: change? }))
    });
    (key, order)
}

/// A name that begins with `-` can be given to no command: it would be an option.
fn no_option(value: Value<'_>) -> Option<Value<'_>> {
    match value.text() {
        Some(text) if text.starts_with('-') => {
            value.place().refuse(&excerpt(text), "bad-value", "begins with -", "begin the name with a letter or digit")
        }
        text => text.map(|_| value),
    }
}

/// What an order file is about.
#[derive(Clone, Copy)]
enum FileKind {
    Profiles(Kind),
    Change(ChangeKind),
}

fn read_kind(value: Value<'_>) -> Option<FileKind> {
    value.word(&[
        ("production", FileKind::Profiles(Kind::Production)),
        ("bootstrap", FileKind::Profiles(Kind::Bootstrap)),
        ("test", FileKind::Profiles(Kind::Test)),
        ("remake", FileKind::Change(ChangeKind::Remake)),
        ("cancel", FileKind::Change(ChangeKind::Cancel)),
    ])
}

const WHOLE: &str = "cannot be: a change is made as a whole or not at all";

/// `[]` or `[{"line": 1}]`.
fn read_cancelled_lines(value: Value<'_>) -> Option<Vec<u32>> {
    value.elements(LINES, |v| v.read_as_line(|v| v.object(|line| line.required("line", |v| v.number(1, u32::MAX)))))
}

fn read_remade_lines(value: Value<'_>) -> Option<Vec<RemakeLine>> {
    let lines = value.elements(LINES, |v| v.read_as_line(|v| v.object(read_remade_line)))?;
    let mut numbers = HashSet::new();
    match lines.iter().find(|line| !numbers.insert(line.line)) {
        _ if lines.is_empty() => value.place().refuse("", "bad-value", "has no element", "name the line and its rows"),
        Some(twice) => value.place().refuse(
            &twice.line.to_string(),
            "duplicate-line",
            "stands twice",
            "put its rows into one line",
        ),
        None => Some(lines),
    }
}

fn read_remade_line(members: &Members<'_>) -> Option<RemakeLine> {
    let line = members.required("line", |v| v.number(1, u32::MAX));
    let rows = members.required("rows", read_rows);
    let euicc_data = members.required("euicc_data", |v| v.object(read_file));
    let iccid = members.or("iccid", Numbers::Rows, |v| read_numbers(v, "19 or 20 digits, the last the Luhn digit"));
    let imsi = members.or("imsi", Numbers::Rows, |v| {
        let imsi = read_numbers(v, "6 to 15 digits")?;
        match (&iccid, &imsi) {
            (Some(Numbers::Rows), Numbers::First(_)) => v.place().refuse(
                "",
                "bad-value",
                "a profile with the same ICCID keeps its IMSI",
                "give iccid.first too: a new profile gets both",
            ),
            _ => Some(imsi),
        }
    });
    fn first<T>(numbers: Numbers<T>) -> Option<T> {
        match numbers {
            Numbers::First(first) => Some(first),
            Numbers::Rows => None,
        }
    }
    let (iccid, imsi) = (iccid.map(first), imsi.map(first));
    Some(RemakeLine { line: line?, rows: rows?, euicc_data: euicc_data?, iccid: iccid?, imsi: imsi? })
}

/// A word of the contract that this version does not act on: refused plainly instead of misunderstood.
fn supported<T>(value: Value<'_>, meaning: Option<T>, code: &'static str, message: &str, hint: &str) -> Option<T> {
    match meaning {
        Some(meaning) => Some(meaning),
        None => value.place().refuse(value.text().unwrap_or_default(), code, message, hint),
    }
}

fn read_lines(value: Value<'_>) -> Option<Vec<Line>> {
    let lines = value
        .elements(LINES, |v| v.read_as_line(|v| v.object(read_line).map(|line| (line, v.place().path.clone()))))?;
    if lines.is_empty() {
        return value.place().refuse("", "bad-value", "has no element", "an order has at least one line");
    }
    let mut numbers = HashSet::new();
    for (line, path) in &lines {
        if !numbers.insert(line.line) {
            let number = line.line.to_string();
            value.place().refuse::<()>(
                &number,
                "duplicate-line",
                &format!("{path}.line stands twice"),
                "number the lines",
            );
        }
    }
    Some(lines.into_iter().map(|(line, _)| line).collect())
}

fn read_line(members: &Members<'_>) -> Option<Line> {
    let line = members.required("line", |v| v.number(1, u32::MAX));
    let template = members.required("template", read_template);
    let mode = members.required("mode", |v| {
        let words = [("order", Some(Mode::Order)), ("prebound", Some(Mode::Prebound)), ("session", None)];
        supported(v, v.word(&words)?, "unsupported-mode", "is not handled yet", "use order or prebound")
    });
    let quantity = members.required("quantity", |v| v.number(1, MAX_QUANTITY));
    let iccid = members.required("iccid", |v| read_numbers(v, "19 or 20 digits, the last the Luhn digit"));
    let imsi = members.optional("imsi", |v| read_numbers(v, "6 to 15 digits"));
    let algorithm = members.or("algorithm", Algorithm::Milenage, |v| {
        v.word(&[("milenage", Algorithm::Milenage), ("tuak", Algorithm::Tuak)])
    });
    let credentials = members.or("credentials", CredentialsFrom::Generate, |v| {
        v.word(&[("generate", CredentialsFrom::Generate), ("import", CredentialsFrom::Import)])
    });
    let transport_key = members.optional("transport_key", |v| v.text().map(str::to_owned));
    let vars = members.or("vars", BTreeMap::new(), read_vars);
    let metadata = members.required("metadata", |v| v.object(read_metadata));
    let validity = members.optional("validity", |v| v.object(|validity| read_validity(validity, v.place())));
    let bootstrap = members.optional("bootstrap", |v| v.object(read_bootstrap));
    let confirmation_code = members.optional("confirmation_code", |v| match ConfirmationCode::new(v.text()?) {
        Some(code) => Some(code),
        None => v.place().refuse("(not shown)", "bad-value", "is not 1 to 64 printable characters", "use digits"),
    });
    let rows = members.optional("rows", read_rows);
    let euicc_data = members.optional("euicc_data", |v| v.object(read_file));
    let export = members.required("export", |v| v.elements(WORDS, read_export));
    Some(Line {
        line: line?,
        template: template?,
        mode: mode?,
        quantity: quantity?,
        iccid: iccid?,
        imsi: imsi?,
        algorithm: algorithm?,
        credentials: credentials?,
        transport_key: transport_key?,
        vars: vars?,
        metadata: metadata?,
        validity: validity?,
        bootstrap: bootstrap?,
        confirmation_code: confirmation_code?,
        rows: rows?,
        euicc_data: euicc_data?,
        export: export?,
    })
}

fn read_template(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let sound = |part: &str| part.parse::<OrderId>().is_ok();
    match text.split_once('@') {
        Some((name, version)) if sound(name) && sound(version) => Some(text.to_owned()),
        _ => value.place().refuse(
            &excerpt(text),
            "bad-value",
            "is not name@version",
            "`bindery template list` shows them",
        ),
    }
}

/// `{"first": "..."}`, `{"rows": true}` or `"rows"`.
fn read_numbers<T>(value: Value<'_>, hint: &str) -> Option<Numbers<T>>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    if value.is_text() {
        return value.word(&[("rows", ())]).map(|()| Numbers::Rows);
    }
    value.object(|members| {
        let first = members.optional("first", |v| v.parse(masked, hint));
        let rows = members.or("rows", false, |v| v.bool());
        match (first?, rows?) {
            (Some(first), false) => Some(Numbers::First(first)),
            (None, true) => Some(Numbers::Rows),
            _ => value.place().refuse(
                "",
                "bad-value",
                "needs either first or rows",
                "{\"first\":\"...\"} or {\"rows\":true}",
            ),
        }
    })
}

fn read_metadata(members: &Members<'_>) -> Option<StoreMetadata> {
    let service_provider = members.required("service_provider", |v| bounded_text(v, 32));
    let profile_name = members.required("profile_name", |v| bounded_text(v, 64));
    let class = members.required("class", |v| {
        use ProfileClass::*;
        v.word(&[("test", Test), ("provisioning", Provisioning), ("operational", Operational)])
    });
    let icon = members.optional("icon", read_icon);
    let ppr = members.or("ppr", Vec::new(), |v| {
        v.elements(WORDS, |v| v.word(&[("ppr1", PolicyRule::NoDisable), ("ppr2", PolicyRule::NoDelete)]))
    });
    let notifications = members.or("notifications", Vec::new(), |v| v.elements(WORDS, |v| v.object(read_notification)));
    let owner = members.optional("owner", |v| v.object(read_owner));
    let fallback_allowed = members.or("fallback_allowed", false, |v| v.bool());
    let ecall = members.or("ecall", false, |v| v.bool());
    Some(StoreMetadata {
        service_provider: service_provider?,
        profile_name: profile_name?,
        class: class?,
        icon: icon?,
        policy_rules: ppr?,
        notifications: notifications?,
        owner: owner?,
        fallback_allowed: fallback_allowed?,
        ecall: ecall?,
    })
}

fn bounded_text(value: Value<'_>, most: usize) -> Option<String> {
    let text = value.text()?;
    if text.chars().any(char::is_control) {
        let hint = "take it out: a device shows the text on one line";
        return value.place().refuse(&excerpt(text), "control-character", "has a control character", hint);
    }
    if text.len() <= most {
        return Some(text.to_owned());
    }
    let message = format!("has {} octets of UTF-8, at most {most} fit the metadata", text.len());
    value.place().refuse(&excerpt(text), "too-long", &message, "shorten it")
}

/// A base64 text, or `{"type": "png" | "jpg", "data": base64}`.
fn read_icon(value: Value<'_>) -> Option<Icon> {
    if value.is_text() {
        return icon(value, value.text()?, None);
    }
    value.object(|members| {
        let kind = members.required("type", |v| v.word(&[("png", IconKind::Png), ("jpg", IconKind::Jpg)]));
        let data = members.required("data", |v| v.text().map(str::to_owned));
        icon(value, &data?, Some(kind?))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IconKind {
    Png,
    Jpg,
}

fn icon(value: Value<'_>, base64: &str, declared: Option<IconKind>) -> Option<Icon> {
    let refuse = |message: &str| {
        value.place().refuse(
            "",
            "icon",
            message,
            "a PNG or JPEG file of 64 x 64 pixels and at most 1,024 octets, in base64",
        )
    };
    let Ok(data) = BASE64.decode(base64.as_bytes()) else { return refuse("is not base64") };
    if data.len() > 1_024 {
        return refuse(&format!("has {} octets, at most 1024 fit the metadata", data.len()));
    }
    let found = match data.as_slice() {
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => IconKind::Png,
        [0xFF, 0xD8, 0xFF, ..] => IconKind::Jpg,
        _ => return refuse("is neither PNG nor JPEG"),
    };
    if declared.is_some_and(|declared| declared != found) {
        return refuse("is not of the type it says");
    }
    Some(match found {
        IconKind::Png => Icon::Png(data),
        IconKind::Jpg => Icon::Jpeg(data),
    })
}

fn read_notification(members: &Members<'_>) -> Option<Notification> {
    let events = members.required("events", |v| {
        use NotificationEvent::*;
        v.elements(WORDS, |v| {
            v.word(&[("install", Install), ("enable", Enable), ("disable", Disable), ("delete", Delete)])
        })
    });
    let address = members.required("address", |v| bounded_text(v, 255));
    Some(Notification { events: events?, address: address? })
}

fn read_owner(members: &Members<'_>) -> Option<Owner> {
    let mcc_mnc = members.required("mcc_mnc", |v| {
        let text = v.text()?;
        let sound = matches!(text.len(), 5 | 6) && text.bytes().all(|b| b.is_ascii_digit());
        if sound {
            Some(pack_mcc_mnc(text))
        } else {
            v.place().refuse(&excerpt(text), "bad-value", "is not 5 or 6 digits", "MCC and MNC in one")
        }
    });
    let gid1 = members.optional("gid1", read_hex);
    let gid2 = members.optional("gid2", read_hex);
    Some(Owner { mcc_mnc: mcc_mnc?, gid1: gid1?, gid2: gid2? })
}

fn read_hex(value: Value<'_>) -> Option<Vec<u8>> {
    let text = value.text()?;
    match HEXLOWER_PERMISSIVE.decode(text.as_bytes()) {
        Ok(octets) => Some(octets),
        Err(_) => value.place().refuse(&excerpt(text), "bad-value", "is not hex", "two hex digits an octet"),
    }
}

fn read_validity(members: &Members<'_>, place: &Place<'_>) -> Option<Validity> {
    let hint = "a day: 2027-11-20";
    let from = members.optional("from", |v| v.parse::<Day>(excerpt, hint));
    let until = members.optional("until", |v| v.parse::<Day>(excerpt, hint));
    let validity = Validity { from: from?.map(|day| day.0), until: until?.map(|day| day.0) };
    match (validity.from, validity.until) {
        (Some(from), Some(until)) if until < from => {
            place.refuse(&format!("{from} to {until}"), "validity", "ends before it begins", "exchange the two days")
        }
        _ => Some(validity),
    }
}

/// A day, or the day (UTC) of a timestamp.
struct Day(jiff::civil::Date);

impl std::str::FromStr for Day {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let of_timestamp = || Ok(text.parse::<jiff::Timestamp>()?.to_zoned(jiff::tz::TimeZone::UTC).date());
        text.parse().or_else(|_| of_timestamp()).map(Self)
    }
}

fn read_bootstrap(members: &Members<'_>) -> Option<Bootstrap> {
    let mode =
        members.required("mode", |v| v.word(&[("static", BootstrapMode::Static), ("managed", BootstrapMode::Managed)]));
    let allowance_bytes = members.optional("allowance_bytes", |v| v.integer());
    Some(Bootstrap { mode: mode?, allowance_bytes: allowance_bytes? })
}

fn read_file(members: &Members<'_>) -> Option<FileRef> {
    let file = members.required("file", |v| v.text().map(str::to_owned));
    let sha256 = members.required("sha256", read_sha256);
    Some(FileRef { file: file?, sha256: sha256? })
}

fn read_sha256(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let sound = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if sound {
        return Some(text.to_ascii_lowercase());
    }
    value.place().refuse(&excerpt(text), "bad-value", "is not 64 hex digits", "`sha256sum FILE` prints it")
}

/// `{"file", "sha256", "count"}`, a list of rows, or `{"inline": [rows]}`.
fn read_rows(value: Value<'_>) -> Option<Rows> {
    if value.is_list() {
        return read_inline(value).map(Rows::Inline);
    }
    value.object(|members| {
        if let Some(inline) = members.optional("inline", read_inline)? {
            return Some(Rows::Inline(inline));
        }
        let file = read_file(members);
        let count = members.required("count", |v| v.number(1, u32::MAX));
        Some(Rows::File { file: file?, count: count? })
    })
}

fn read_inline(value: Value<'_>) -> Option<Vec<InlineRow>> {
    value.elements(INLINE_ROWS, read_inline_row)
}

fn read_inline_row(value: Value<'_>) -> Option<InlineRow> {
    let mut row = InlineRow::default();
    value.entries(CELLS, |name, v| {
        let refuse = |code, message: &str, hint: &str| v.place().refuse("(not shown)", code, message, hint);
        match meaning(name) {
            Meaning::Known(column) => {
                let cell = match column {
                    Column::Row if !v.is_text() => v.integer()?.to_string(),
                    _ => v.text()?.to_owned(),
                };
                row.cells[column as usize] = Some(cell.into_boxed_str()).filter(|cell| !cell.is_empty());
                Some(())
            }
            Meaning::Foreign => {
                if let Some(cell) = v.cell().filter(|cell| !cell.is_empty()) {
                    row.own.insert(name.into(), cell.into_boxed_str());
                }
                Some(())
            }
            Meaning::ClearSecret => refuse("clear-secret", "names a key in the clear", CLEAR_SECRET_HINT),
            Meaning::Unknown => {
                refuse("unknown-member", &format!("{} is not a column", shown_name(name)), UNKNOWN_COLUMN_HINT)
            }
        }
    })?;
    Some(row)
}

pub(super) const CLEAR_SECRET_HINT: &str = "take the column out and treat its keys as lost; Bindery makes K and OPc in the HSM, wrapped ones go into ki_wrapped, opc_wrapped";
pub(super) const UNKNOWN_COLUMN_HINT: &str = "known: row, eid, iccid, imsi, msisdn, matching_id, ki_wrapped, opc_wrapped, imei, serial; own columns begin with x_";

fn read_export(value: Value<'_>) -> Option<Export> {
    let text = value.text()?;
    match text.split_once(':') {
        None if text == "qr" => Some(Export::Qr),
        Some(("eim", name)) if !name.is_empty() => Some(Export::Eim(name.to_owned())),
        Some(("core", name)) if !name.is_empty() => Some(Export::Core(name.to_owned())),
        _ => value.place().refuse(&excerpt(text), "bad-value", "is no target", "\"eim:NAME\", \"core:NAME\" or \"qr\""),
    }
}
