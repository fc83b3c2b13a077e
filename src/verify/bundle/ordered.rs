//! The bundle against the order it answers: row by row, whatever the bundle's own files agree on among each other.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use openssl::sha::sha256;

use super::core_file::{CoreFile, CoreRow};
use super::manifest::{self, Vouched};
use super::record::Record;
use super::tables::{Known, OrderRow};
use crate::error::Fault;
use crate::verify::finding::{Check, Finding, Findings};
use crate::verify::order::{Asked, Order, OrderLine};
use crate::verify::saip::Variable;

const ORDER: &str = "the order";

/// Values that the order gives one record, of the variables whose places the judge knows.
pub(super) type Wanted = Vec<(Variable, Arc<str>)>;

/// Judges the bundle by the order file at `path`. `told`: row of each record, and its line of the core file. Gives what is wanted of
/// each record's package, which is opened later.
pub(super) fn compare(
    path: &Path,
    vouched: &Vouched,
    known: &Known<'_>,
    told: (&[OrderRow], &CoreFile),
    findings: &mut Findings,
) -> Result<HashMap<u32, Wanted>, Fault> {
    let octets =
        std::fs::read(path).map_err(|e| Fault::file(path, &e).hint("name the order file that was submitted"))?;
    let mut wrong = |what: String| findings.add(Finding::new(Check::OrderFile, what).in_file(ORDER));
    if vouched.order.order_sha256.as_ref() != Some(&HEXLOWER.encode(&sha256(&octets))) {
        // Its rows are another order's: comparing them would only bury this finding.
        wrong(
            "SHA-256 is not the manifest's order_sha256: the bundle answers another order, or another text of it"
                .into(),
        );
        return Ok(HashMap::new());
    }
    let order = match Order::read(&octets, path.parent().unwrap_or(Path::new("."))) {
        Ok(order) => order,
        Err(what) => {
            wrong(what);
            return Ok(HashMap::new());
        }
    };
    let named = &vouched.order;
    if (named.tenant.as_ref(), named.order_id.as_ref(), named.rev)
        != (Some(&order.tenant), Some(&order.order_id), Some(order.rev))
    {
        wrong("tenant, order_id or rev is not the manifest's".into());
    }
    for file in order.lines.iter().flat_map(OrderLine::files) {
        match manifest::hash(&file.path) {
            Ok((_, found)) if found == file.sha256 => {}
            Ok(_) => wrong(format!("{}: SHA-256 is not the order's", file.name)),
            Err(e) => wrong(format!("{}: {e}", file.name)),
        }
    }
    Ok(Comparison::new(&order, known, told, findings).run(vouched, findings))
}

struct Comparison<'a> {
    order: &'a Order,
    known: &'a Known<'a>,
    core: &'a CoreFile,
    /// Line and row of the order, and the record issued for it; those that are left at the end answer no row.
    by_row: HashMap<(u32, u32), u32>,
    is_bound_later: bool,
    /// Made again: on the eUICC that the operator named then.
    is_remade: bool,
    /// With other ICCIDs and IMSIs than were ordered.
    is_renumbered: bool,
}

impl<'a> Comparison<'a> {
    fn new(
        order: &'a Order,
        known: &'a Known<'a>,
        (rows, core): (&[OrderRow], &'a CoreFile),
        findings: &mut Findings,
    ) -> Self {
        let only_line = match order.lines.as_slice() {
            [line] => line.number,
            _ => 0,
        };
        let mut by_row = HashMap::with_capacity(rows.len());
        // A bundle of bindings holds packages of `order` lines and nothing else.
        let mut is_bound_later = !rows.is_empty();
        // Row 0: `results.csv` does not tell the record at all, which is a finding of its own.
        for (index, place) in (0..).zip(rows).filter(|(_, place)| place.row != 0) {
            let line = place.line.unwrap_or(only_line);
            let is_stored = order.lines.iter().any(|it| it.number == line && it.mode == "order");
            let Some(record) = (known.read)(index) else { continue };
            is_bound_later &= is_stored && record.package.is_some();
            if by_row.insert((line, place.row), index).is_some() {
                let what = format!("row {} was issued twice", place.row);
                findings.add(Finding::new(Check::OrderRows, what).of(record.masked()).in_file("results.csv"));
            }
        }
        Self { order, known, core, by_row, is_bound_later, is_remade: false, is_renumbered: false }
    }

    fn run(mut self, vouched: &Vouched, findings: &mut Findings) -> HashMap<u32, Wanted> {
        let mut wanted = HashMap::new();
        let (ordered, has) = (self.order.quantity(), vouched.counts.unwrap_or_default().rows);
        self.is_remade = vouched.order.remake.is_some();
        self.is_renumbered = self.is_remade && vouched.order.renumbered;
        let is_whole = !self.is_bound_later && vouched.order.part.is_none();
        if has > ordered || (has < ordered && is_whole) {
            let what = format!("{ordered} rows were ordered, the bundle accounts for {has}");
            findings.add(Finding::new(Check::OrderRows, what).in_file("manifest.json"));
        }
        for line in &self.order.lines {
            let read = line.each_row(|asked| {
                let Some(index) = self.by_row.remove(&(line.number, asked.row)) else { return };
                let Some(record) = (self.known.read)(index) else { return };
                let values = asked.values.iter();
                let known: Wanted =
                    values.filter_map(|(name, value)| Some((Variable::named(name)?, value.clone()))).collect();
                if !known.is_empty() {
                    wanted.insert(index, known);
                }
                let core = self.core.row(index as usize).ok().flatten();
                for what in differences(
                    line,
                    &asked,
                    &record,
                    core.as_ref(),
                    (self.is_bound_later, self.is_remade, self.is_renumbered),
                ) {
                    let of = format!("row {}, {}", asked.row, record.masked());
                    findings.add(Finding::new(Check::OrderMatch, what).of(of).in_file("orders.jsonl"));
                }
            });
            if let Err(what) = read {
                findings.add(Finding::new(Check::OrderFile, what).in_file(ORDER));
            }
        }
        let mut surplus: Vec<_> = self.by_row.into_iter().collect();
        surplus.sort_unstable();
        for ((line, row), index) in surplus {
            let masked = (self.known.read)(index).map(|record| record.masked()).unwrap_or_default();
            let what = format!("the order has no row {row} in its line {line}: nobody ordered this record");
            findings.add(Finding::new(Check::OrderRows, what).of(masked).in_file("orders.jsonl"));
        }
        wanted
    }
}

/// Everything in which a record is not what its row asks for.
fn differences(
    line: &OrderLine,
    asked: &Asked,
    record: &Record,
    core: Option<&CoreRow>,
    (is_bound_later, is_remade, is_renumbered): (bool, bool, bool),
) -> Vec<String> {
    let is_bound = record.package.is_some();
    let mode_fits = match (line.mode.as_str(), is_bound) {
        ("order", false) => record.mode == "order",
        // Stored profiles are bound into bundles of their own.
        ("order", true) => (is_bound_later || is_remade) && record.mode == "prebound",
        (mode, is_bound) => is_bound && record.mode == mode,
    };
    let eid = record.eid.map(|eid| eid.to_string());
    // A stored profile for no eUICC in particular goes to the one whose key is brought.
    let eid_is_free = is_remade || line.mode == "order" && is_bound && asked.eid.is_none();
    let pairs = [
        ("ICCID", is_renumbered || asked.iccid.as_deref() == Some(record.iccid.as_str())),
        ("IMSI", is_renumbered || asked.imsi.as_deref() == record.imsi.as_ref().map(|imsi| imsi.as_str())),
        ("EID", eid_is_free || asked.eid == eid),
        ("matching id", asked.matching_id.as_ref().is_none_or(|id| id == record.matching_id.as_str())),
        ("profile_class", record.profile_class == line.class),
        ("cc_required", record.cc_required == line.cc_required),
        ("mode", mode_fits),
        ("algorithm in core.csv", core.is_none_or(|core| core.algorithm == line.algorithm)),
    ];
    pairs
        .into_iter()
        .filter(|(_, fits)| !fits)
        .map(|(name, _)| format!("{name} is not what the order asks for"))
        .collect()
}
