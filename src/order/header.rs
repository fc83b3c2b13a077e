//! What the header asks for against what the site has: targets, transport keys, algorithms, templates, dates, ranges.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::file::{CredentialsFrom, Export, Line, Mode, Numbers, Order, Rows};
use super::json::excerpt;
use super::quota::Tenants;
use super::ranges::{Number, Range};
use super::refusals::{MOST_OF_HEADER, RANGE_EXHAUSTED, and_more, masked};
use super::values::{MSISDN_HINT, NO_MSISDN, msisdn_digits};
use super::vars::{FirstNumber, MSISDN, Var};
use super::wrapped::WRAPPED_HINT;
use crate::formats::saip::algorithm::Algorithm;
use crate::store::Refusal;

/// What a site offers to orders.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Names behind `eim:`.
    pub eims: Vec<String>,
    /// Names behind `core:`.
    pub cores: Vec<String>,
    /// Transport keys of the token.
    pub transport_keys: Vec<String>,
    /// AKA algorithms the engine writes.
    pub algorithms: Vec<Algorithm>,
    /// Who may order, and how much.
    pub tenants: Tenants,
}

/// Why a template cannot carry a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRefusal {
    /// Member of the line it is about: `template`, `algorithm`, `vars.NAME`.
    pub member: String,
    /// Stable code, kebab-case: `template-missing`, `template-algorithm`, `unknown-variable`, ...
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The site's templates, as far as an order needs them.
pub trait Templates {
    /// Can the template `name` carry the line with this algorithm (`milenage`, `tuak`)?
    fn check(&self, name: &str, algorithm: &str, line: &Line) -> Result<Takes, TemplateRefusal>;
}

/// What a template takes of each row.
pub struct Takes {
    /// Every row must have an IMSI.
    pub imsi: bool,
    /// A row may have an MSISDN.
    pub msisdn: bool,
    /// SHA-256 of the template: a run refuses another one under the same name.
    pub template_sha256: [u8; 32],
    /// Imported credentials: what the wrapped values look like.
    pub wrapped: Option<WrappedForm>,
    /// Judge of the values that rows give the line's variables.
    pub check_value: CheckValue,
}

/// The form of K and OPc under the operator's transport key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedForm {
    /// Octets of a wrapped K.
    pub ki_len: usize,
    /// Octets of a wrapped OPc or TOPc.
    pub opc_len: usize,
    /// A row without OPc gets the one that follows from its K and the operator's OP.
    pub derives_opc: bool,
}

/// Says of a variable's name and value whether the template can carry it.
pub type CheckValue = Box<dyn Fn(&str, &str) -> Result<(), UnfitValue>>;

/// Why a value does not fit its variable; the value itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitValue {
    /// What is wrong.
    pub message: String,
    /// What a value looks like.
    pub hint: String,
}

impl Takes {
    /// Of a template that cannot be had: the order is rejected for it, and its rows are not blamed as well.
    fn anything() -> Self {
        Self {
            imsi: false,
            msisdn: true,
            template_sha256: [0; 32],
            wrapped: None,
            check_value: Box::new(|_, _| Ok(())),
        }
    }
}

/// Everything wrong with an order that shows without its rows; and what each line's template takes of them.
pub(super) fn check(
    order: &Order,
    targets: &Targets,
    templates: &dyn Templates,
    now: Timestamp,
) -> (Vec<Refusal>, Vec<Takes>) {
    let mut refusals = Vec::new();
    let mut takes = Vec::new();
    for (at, line) in order.lines.iter().enumerate() {
        let mut judge = LineHeader { line, at, refusals: &mut refusals };
        judge.targets(targets);
        let taken = judge.template(templates);
        judge.vars(&taken);
        takes.push(taken);
        judge.validity(now);
        judge.sources();
    }
    let iccids = iccid_ranges(order);
    let imsis = imsi_ranges(order);
    refusals.extend(overlaps(order, &iccids, "iccid"));
    refusals.extend(overlaps(order, &imsis, "imsi"));
    if refusals.len() > MOST_OF_HEADER {
        refusals.truncate(MOST_OF_HEADER);
        refusals.push(and_more());
    }
    (refusals, takes)
}

pub(super) fn iccid_ranges(order: &Order) -> Vec<Range<crate::ids::Iccid>> {
    order.lines.iter().filter_map(|line| range(line, Some(&line.iccid))).collect()
}

pub(super) fn imsi_ranges(order: &Order) -> Vec<Range<crate::ids::Imsi>> {
    order.lines.iter().filter_map(|line| range(line, line.imsi.as_ref())).collect()
}

fn range<T: Number>(line: &Line, numbers: Option<&Numbers<T>>) -> Option<Range<T>> {
    match numbers {
        Some(Numbers::First(first)) => Some(Range::new(line.line, *first, line.quantity)),
        _ => None,
    }
}

fn overlaps<T: Number>(order: &Order, ranges: &[Range<T>], kind: &str) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        let Some(earlier) = ranges[..at].iter().find(|earlier| earlier.overlaps(range)) else { continue };
        let member = order.lines.iter().position(|line| line.line == range.line).unwrap_or_default();
        refusals.push(Refusal {
            line: range.line,
            row: 0,
            column: format!("lines[{member}].{kind}.first"),
            value: range.first.masked(),
            code: "range-overlap",
            message: format!("the range shares numbers with the one of line {}", earlier.line),
            hint: "begin one of the ranges later".to_owned(),
        });
    }
    refusals
}

struct LineHeader<'o> {
    line: &'o Line,
    at: usize,
    refusals: &'o mut Vec<Refusal>,
}

impl LineHeader<'_> {
    fn refuse(&mut self, member: &str, value: &str, code: &'static str, message: &str, hint: &str) {
        self.refusals.push(Refusal {
            line: self.line.line,
            row: 0,
            column: format!("lines[{}].{member}", self.at),
            value: excerpt(value),
            code,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    fn targets(&mut self, targets: &Targets) {
        for (at, export) in self.line.export.iter().enumerate() {
            let (name, known) = match export {
                Export::Eim(name) => (name, &targets.eims),
                Export::Core(name) => (name, &targets.cores),
                Export::Qr => continue,
            };
            if !known.contains(name) {
                let hint = known_names(known, "none is set up in bindery.toml, [export]");
                self.refuse(&format!("export[{at}]"), name, "unknown-target", "is no target of this site", &hint);
            }
        }
        // Of imported credentials it is the key they came under, which is judged with the template.
        let generates = self.line.credentials == CredentialsFrom::Generate;
        let unknown = |key: &&String| generates && !targets.transport_keys.contains(*key);
        if let Some(key) = self.line.transport_key.as_ref().filter(unknown) {
            let hint = known_names(&targets.transport_keys, "the token holds none: see `bindery keys list`");
            self.refuse("transport_key", key, "unknown-transport-key", "is no transport key of this site", &hint);
        }
        let algorithm = self.line.algorithm;
        if !targets.algorithms.contains(&algorithm) {
            let known: Vec<String> = targets.algorithms.iter().map(|a| a.as_str().to_owned()).collect();
            let hint = known_names(&known, "no algorithm is available");
            self.refuse(
                "algorithm",
                algorithm.as_str(),
                "unsupported-algorithm",
                "is not written by this version",
                &hint,
            );
        }
    }

    fn template(&mut self, templates: &dyn Templates) -> Takes {
        let line = self.line;
        templates.check(&line.template, line.algorithm.as_str(), line).unwrap_or_else(|refusal| {
            let value = match refusal.member.as_str() {
                member if member.starts_with("vars") => "",
                "transport_key" => line.transport_key.as_deref().unwrap_or_default(),
                _ => &line.template,
            };
            self.refuse(&refusal.member, value, refusal.code, &refusal.message, &refusal.hint);
            Takes::anything()
        })
    }

    /// What the template has not judged yet: ranges must last and begin with a value that fits, the telephone number needs a
    /// form and a place.
    fn vars(&mut self, takes: &Takes) {
        for (name, var) in &self.line.vars {
            let (member, value) = match var {
                Var::Column(_) => (format!("vars.{name}"), None),
                Var::Constant(text) => (format!("vars.{name}"), Some(text.clone())),
                Var::First(first) => (format!("vars.{name}.first"), self.first_of_range(name, first)),
            };
            if name == MSISDN {
                self.telephone_number(&member, value.as_deref(), takes);
            } else if let (Var::First(_), Some(value)) = (var, value)
                && let Err(unfit) = (takes.check_value)(name, &value)
            {
                self.refuse(&member, &masked(&value), "value-unfit", &unfit.message, &unfit.hint);
            }
        }
    }

    /// The first value of a range that lasts for all rows.
    fn first_of_range(&mut self, name: &str, first: &FirstNumber) -> Option<String> {
        let value = first.after(0)?;
        if first.after(self.line.quantity - 1).is_some() {
            return Some(value);
        }
        let message = format!("has no {} numbers of {} digits from there on", self.line.quantity, value.len());
        let hint = "begin the range earlier, or with more digits";
        self.refuse(&format!("vars.{name}.first"), &masked(&value), RANGE_EXHAUSTED, &message, hint);
        None
    }

    fn telephone_number(&mut self, member: &str, value: Option<&str>, takes: &Takes) {
        if let Some(value) = value.filter(|value| msisdn_digits(value).is_none()) {
            self.refuse(member, &masked(value), "digits", NO_MSISDN, MSISDN_HINT);
        }
        if !takes.msisdn {
            let hint = "leave the variable out, or order another template";
            self.refuse(member, "", "msisdn-unfit", "has no place in the template", hint);
        }
    }

    fn validity(&mut self, now: Timestamp) {
        let today = now.to_zoned(TimeZone::UTC).date();
        if let Some(until) = self.line.validity.and_then(|validity| validity.until).filter(|until| *until < today) {
            let message = format!("is over, today is {today} (UTC)");
            self.refuse(
                "validity.until",
                &until.to_string(),
                "validity",
                &message,
                "order profiles that can still be used",
            );
        }
    }

    /// Each value needs a place it comes from.
    fn sources(&mut self) {
        let line = self.line;
        if line.mode == Mode::Prebound && line.euicc_data.is_none() {
            let hint = "name the eUICC key file (euicc.jsonl) with its SHA-256, or order with mode order";
            self.refuse("euicc_data", "", "missing-member", "is missing: mode prebound binds to one-time keys", hint);
        }
        let hint = "give the rows, or the first number of a range";
        if line.rows.is_none() && line.iccid == Numbers::Rows {
            self.refuse("iccid", "rows", "rows-needed", "says rows, but the line has none", hint);
        }
        if line.rows.is_none() && line.credentials == CredentialsFrom::Import {
            self.refuse("credentials", "import", "rows-needed", "says import, but the line has no rows", WRAPPED_HINT);
        }
        for (name, _) in line.vars.iter().filter(|(_, var)| line.rows.is_none() && matches!(var, Var::Column(_))) {
            let message = "names a column, but the line has no rows";
            self.refuse(&format!("vars.{name}.column"), "", "rows-needed", message, "give the rows, or another source");
        }
        if line.rows.is_none() && line.imsi == Some(Numbers::Rows) {
            self.refuse("imsi", "rows", "rows-needed", "says rows, but the line has none", hint);
        }
        let (member, count) = match &line.rows {
            Some(Rows::File { count, .. }) => ("rows.count", u64::from(*count)),
            Some(Rows::Inline(rows)) => ("rows", rows.len() as u64),
            None => return,
        };
        if count != u64::from(line.quantity) {
            let message = format!("is not the quantity, {}", line.quantity);
            self.refuse(
                member,
                &count.to_string(),
                "count-mismatch",
                &message,
                "quantity counts every row: correct one of them",
            );
        }
    }
}

fn known_names(names: &[String], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { format!("known: {}", names.join(", ")) }
}
