//! Which rows of an exported order are made again, and what each gets: an eUICC, a one-time key, and new numbers where it is to be a new
//! profile. For `order remake` and for orders of kind `remake` alike; nothing is claimed here and no token is needed.
//!
//! Rule: all the rows or none. A row goes to its own eUICC; only when the key file does not name that eUICC at all, it goes to the
//! file's next one that has no profile of the order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;

use super::key_file::{Believed, Judging, believed_keys};
use super::purge;
use super::stored::GROUP;
use crate::error::{Exit, Fault};
use crate::ids::{Eid, Iccid, Imsi, RecordId};
use crate::order::file::{CredentialsFrom, Line, Order};
use crate::order::key_file::KeyFile;
use crate::store::sqlite::Ledger;
use crate::store::{Device, DevicePk, DeviceState, Goal, NewNumbers, OrderState, Store, StoredOrder, stretches};

/// Which rows of an order.
#[derive(Clone, Debug)]
pub enum Rows {
    /// By number, of one line; `line` may be left out where the order has only one.
    Numbered {
        /// `line` of the order header.
        line: Option<u32>,
        /// `row` of the CSV.
        rows: Vec<RangeInclusive<u32>>,
    },
    /// Those of these profiles.
    Of(Vec<Iccid>),
}

/// The first numbers of new profiles.
#[derive(Clone, Copy, Debug)]
pub struct First {
    /// ICCID.
    pub iccid: Iccid,
    /// IMSI, where the profiles have one.
    pub imsi: Option<Imsi>,
}

/// The rows that are meant, in their order.
pub(super) struct Selected {
    pub(super) devices: Vec<Device>,
    /// eUICCs that have or will have a profile of the order.
    taken: HashSet<Eid>,
    /// Devices that an accepted remake waits to make again.
    waiting: HashSet<DevicePk>,
    order: Order,
    /// Profiles that were named and replaced since.
    replaced: Vec<Iccid>,
}

/// An exported order, or why nothing of it can be made again.
pub(super) fn is_exported(ledger: &Ledger, stored: &StoredOrder) -> Result<(), Fault> {
    match stored.state {
        OrderState::Purged => Err(purge::is_purged(ledger, stored)?),
        OrderState::Exported => Ok(()),
        OrderState::Open | OrderState::Done => {
            let what = format!("{}: not exported yet", stored.key);
            Err(Fault::new(Exit::Usage, what).hint("`bindery run` comes first; then remake what is to be remade"))
        }
    }
}

/// Finds the rows; whether they can be made again is asked later, for the same question may have been answered before.
pub(super) fn select(ledger: &Ledger, stored: &StoredOrder, rows: &Rows) -> Result<Selected, Fault> {
    let usage = |what: String| Fault::new(Exit::Usage, format!("{}: {what}", stored.key));
    let order = Order::from_json(&stored.body).map_err(|_| {
        Fault::new(Exit::IntegrityFailure, format!("{}: the ledger's copy of the order cannot be read", stored.key))
            .hint("restore state.db from its last backup")
    })?;
    let mut numbers: HashSet<u32> = HashSet::new();
    // By device: a profile that was replaced by one with another ICCID is still known by its own.
    let mut named: HashMap<DevicePk, Iccid> = HashMap::new();
    let mut unknown = None;
    let mut of_line = None;
    match (rows, order.lines.as_slice()) {
        (Rows::Of(wanted), _) => {
            for iccid in wanted {
                match ledger.device_of_iccid(iccid)? {
                    Some(device) => drop(named.insert(device, *iccid)),
                    None => unknown = unknown.or(Some(*iccid)),
                }
            }
        }
        (Rows::Numbered { line: None, .. }, [_, _, ..]) => {
            return Err(usage("it has several lines".to_owned()).hint("name the rows' line: --line N"));
        }
        (Rows::Numbered { line, rows }, lines) => {
            of_line = line.or_else(|| lines.first().map(|line| line.line));
            // No order has more rows: a wide range costs no more than it can find.
            let most = lines.iter().map(|line| line.quantity).max().unwrap_or(0);
            if let Some(beyond) = rows.iter().find(|rows| *rows.end() > most || *rows.start() == 0) {
                return Err(usage(format!("it has no row {}", if *beyond.start() == 0 { 0 } else { *beyond.end() }))
                    .hint("`bindery order show` tells how many rows it has; they count from 1"));
            }
            numbers.extend(rows.iter().cloned().flatten());
        }
    }
    let (mut devices, mut taken, mut replaced) = (Vec::new(), HashSet::new(), Vec::new());
    for line in &order.lines {
        let Some(span) = ledger.device_span(stored.pk, line.line)? else { continue };
        for (from, to) in stretches(span, GROUP) {
            for device in ledger.devices(stored.pk, from, to)? {
                taken.extend(device.eid.filter(|_| is_live(device.state)));
                let is_meant = match rows {
                    Rows::Of(_) => named.remove(&device.pk).is_some_and(|iccid| {
                        replaced.extend(Some(iccid).filter(|iccid| device.iccid != Some(*iccid)));
                        true
                    }),
                    Rows::Numbered { .. } => of_line == Some(device.line) && numbers.remove(&device.row),
                };
                if is_meant {
                    devices.push(device);
                }
            }
        }
    }
    let missing = unknown.or_else(|| named.values().next().copied());
    let missing = missing.map(|iccid| format!("ICCID {} is none of its rows", iccid.masked()));
    let missing = missing.or_else(|| numbers.iter().min().map(|row| format!("it has no row {row} in that line")));
    match missing {
        Some(what) => Err(usage(what).hint("`results.csv` of its bundle has every row with its ICCID")),
        None if devices.is_empty() => Err(usage("no row is named".to_owned()).hint("--rows 3,5-9 or --iccid")),
        None => Ok(Selected { devices, taken, waiting: ledger.devices_to_remake(stored.pk)?, order, replaced }),
    }
}

/// What the rows get, in their order; and the lines of the key file that are not believed.
pub(super) fn plan(
    ledger: &Ledger,
    stored: &StoredOrder,
    selected: Selected,
    first: Option<First>,
    (judging, keys): (&Judging<'_>, KeyFile<'_>),
) -> Result<(Vec<Goal>, Believed), Fault> {
    let Selected { devices, taken, waiting, order, replaced } = selected;
    if let Some(iccid) = replaced.first() {
        let what = format!("{}: the profile {} was replaced by a new one", stored.key, iccid.masked());
        return Err(Fault::new(Exit::Usage, what).hint("name the row, or the new profile's ICCID"));
    }
    for device in &devices {
        has_package(device)?;
        if waiting.contains(&device.pk) {
            let what = format!("{}: an accepted remake waits to make it again; nothing was remade", record(device));
            return Err(Fault::new(Exit::Usage, what).hint("`bindery run` carries it out; then ask again"));
        }
    }
    let numbers = match first {
        Some(first) => new_numbers(ledger, (stored, &order), &devices, first)?.into_iter().map(Some).collect(),
        None => vec![None; devices.len()],
    };
    let believed = believed_keys(judging, keys)?;
    let goals = goals(&devices, numbers, taken, &believed)?;
    Ok((goals, believed))
}

/// The devices as their goals want them.
pub(super) fn as_wanted(devices: &[Device], goals: &[Goal]) -> Vec<Device> {
    let wanted = |(device, goal): (&Device, &Goal)| {
        let numbers = goal.numbers.unwrap_or(NewNumbers { iccid: device.iccid?, imsi: device.imsi });
        let (eid, euicc_otpk) = (Some(goal.eid), Some(goal.euicc_otpk));
        Some(Device { eid, euicc_otpk, iccid: Some(numbers.iccid), imsi: numbers.imsi, ..device.clone() })
    };
    devices.iter().zip(goals).filter_map(wanted).collect()
}

fn is_live(state: DeviceState) -> bool {
    !matches!(state, DeviceState::Rejected | DeviceState::Failed | DeviceState::Cancelled | DeviceState::Revoked)
}

fn record(device: &Device) -> RecordId {
    RecordId { line: device.line, row: device.row }
}

/// Only what was bound and exported is made again: everything else has a command of its own.
fn has_package(device: &Device) -> Result<(), Fault> {
    let is_bound = device.issue.as_ref().is_some_and(|issue| issue.transaction_id.is_some());
    let hint = match (device.state, is_bound) {
        (DeviceState::Exported, true) => return Ok(()),
        (DeviceState::Exported | DeviceState::Prepared, _) => {
            "it is stored and was never bound: `bindery bind` binds it"
        }
        (DeviceState::Accepted | DeviceState::Bound, _) => "`bindery run` makes and exports it first",
        (DeviceState::Held, _) => "`bindery order hold --release` and `bindery run` make it",
        _ => "no package of it exists: order the profile anew",
    };
    let record = record(device);
    let what = format!("{record} has no exported package, it is {}; nothing was remade", device.state.as_str());
    Err(Fault::new(Exit::Usage, what).hint(hint))
}

/// Numbers of new profiles, contiguous in the order of the rows; none of them is anybody's.
fn new_numbers(
    ledger: &Ledger,
    (stored, order): (&StoredOrder, &Order),
    devices: &[Device],
    first: First,
) -> Result<Vec<NewNumbers>, Fault> {
    let usage =
        |device: &Device, what: &str| Fault::new(Exit::Usage, format!("{} {what}; nothing was remade", record(device)));
    let claimed = ledger.claimed();
    let mut numbers = Vec::with_capacity(devices.len());
    for (device, steps) in devices.iter().zip(0..) {
        let imports = |line: &Line| line.line == device.line && line.credentials == CredentialsFrom::Import;
        if order.lines.iter().any(imports) {
            return Err(usage(device, "has K and OPc of the operator's, which serve one ICCID")
                .hint("order the new profile with credentials of its own"));
        }
        let imsi = match (device.imsi, first.imsi) {
            (Some(_), Some(first)) => Some(first.plus(steps).ok_or_else(|| ends(device, "IMSIs"))?),
            (None, None) => None,
            (Some(_), None) => {
                return Err(usage(device, "has an IMSI, the new profile needs one")
                    .hint("--new-imsi FIRST, in an order imsi.first"));
            }
            (None, Some(_)) => {
                return Err(usage(device, "has no IMSI, the new profile gets none").hint("leave the new IMSI out"));
            }
        };
        let iccid = first.iccid.plus(steps).ok_or_else(|| ends(device, "ICCIDs"))?;
        let taken = |what: &str, number: String| {
            let what = format!("{}: {what} {number} is taken; nothing was remade", record(device));
            Fault::new(Exit::OrderRejected, what).hint("begin where all numbers of the range are free")
        };
        if claimed.view().iccid(&iccid)? {
            return Err(taken("ICCID", iccid.masked()));
        }
        if let Some(imsi) = imsi
            && claimed.view().imsi(&stored.key.tenant, &imsi)?
        {
            return Err(taken("IMSI", imsi.masked()));
        }
        numbers.push(NewNumbers { iccid, imsi });
    }
    Ok(numbers)
}

fn ends(device: &Device, what: &str) -> Fault {
    let what = format!("{}: the range of new {what} ends before it; nothing was remade", record(device));
    Fault::new(Exit::Exhausted, what).hint("begin with a smaller number")
}

/// The eUICC and the one-time key that each gets; a fault when one gets none.
fn goals(
    devices: &[Device],
    numbers: Vec<Option<NewNumbers>>,
    mut taken: HashSet<Eid>,
    believed: &Believed,
) -> Result<Vec<Goal>, Fault> {
    let mut by_eid: HashMap<Eid, VecDeque<[u8; 65]>> = HashMap::new();
    for (eid, otpk) in &believed.keys {
        by_eid.entry(*eid).or_default().push_back(*otpk);
    }
    let mut next_euicc = believed.keys.iter().map(|(eid, _)| *eid);
    let goal = |(device, numbers): (&Device, Option<NewNumbers>)| {
        let eid = match device.eid.filter(|eid| believed.named.contains(eid)) {
            Some(own) => Some(own),
            None => next_euicc.by_ref().find(|eid| taken.insert(*eid)),
        };
        let otpk = eid.and_then(|eid| by_eid.get_mut(&eid)).and_then(VecDeque::pop_front);
        let (Some(eid), Some(euicc_otpk)) = (eid, otpk) else {
            let record = record(device);
            let what =
                format!("{record}: the key file has no believed, unused one-time key for it; nothing was remade");
            let told = believed.refused.first().map(|bad| format!("; its line {}: {}", bad.line_no, bad.message));
            return Err(Fault::new(Exit::Exhausted, what + &told.unwrap_or_default()).hint(
                "bring a fresh key of the row's own eUICC, or, where the device was swapped, only keys of the new one",
            ));
        };
        Ok(Goal { device: device.pk, eid, euicc_otpk, numbers })
    };
    devices.iter().zip(numbers).map(goal).collect()
}
