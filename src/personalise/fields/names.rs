//! What is told of a variable that found no place.

use super::applets::{DOMAIN, PROCESS_DATA, RFM};
use super::files::is_directory;
use super::keys::PREFIX;
use crate::formats::saip::ef;
use crate::formats::saip::kind::Kind;

/// Names of variables that are members of elements; those of files are in [`ef`].
const MEMBERS: [&str; 13] = [
    "profile_type",
    "pol",
    "connectivity_parameters",
    "rotation_constants",
    "xoring_constants",
    "auth_counter_max",
    "sqn",
    "sqn_delta",
    "sqn_age_limit",
    "pin1",
    "pin2",
    "pin1_state",
    "pin2_state",
];

/// Values that an order gives in members of its own.
const OF_THE_ORDER: [&str; 3] = ["iccid", "imsi", "msisdn"];

/// The value belongs to the order's own members, never to a variable.
pub(super) fn is_of_the_order(name: &str) -> bool {
    OF_THE_ORDER.contains(&name)
}

/// Why the variable `name` found no place.
pub(super) fn why_not(name: &str) -> String {
    if is_of_the_order(name) {
        return "is a member of the line or a column of the rows, not a variable".to_owned();
    }
    if is_secret(name) {
        return CLEAR.to_owned();
    }
    if let Some((element, file)) = name.split_once('/') {
        return match Kind::named(element) {
            Some(_) if is_directory(file) => "is a directory, not a file".to_owned(),
            Some(kind) if kind.file_number(file).is_some() => format!("the template has no {file} in {element}"),
            Some(kind) if kind.is_file_system() => format!("{element} has no file of this name"),
            _ => "is not known: ELEMENT/FILE takes the names of SAIP, such as usim/ef-spn".to_owned(),
        };
    }
    if let Some((places, coding)) = ef::named(name) {
        if coding.is_secret() {
            return CLEAR.to_owned();
        }
        let places: Vec<String> = places.iter().map(|(kind, file)| format!("{kind}/{file}")).collect();
        return format!("the template has none of {}", places.join(", "));
    }
    if name.starts_with(PREFIX) {
        return "the template has no securityDomain".to_owned();
    }
    if [RFM, DOMAIN, PROCESS_DATA].iter().any(|prefix| name.starts_with(prefix)) {
        return format!("the template has no place for it: {NUMBERED}, N from 1 in package order");
    }
    if MEMBERS.contains(&name) {
        return "the template has no place for it".to_owned();
    }
    let files = ef::all().map(|(_, coding)| coding).filter(|coding| !coding.is_secret()).map(|coding| coding.name());
    let known: Vec<&str> = MEMBERS.into_iter().chain(files.filter(|name| !is_of_the_order(name))).collect();
    format!("is not known; there are {}, {PREFIX}NN, {NUMBERED} and ELEMENT/FILE", known.join(", "))
}

const NUMBERED: &str = "rfm.N.tar, rfm.N.msl, sd.N.msl, process_data.N";

const CLEAR: &str = "is a secret: clear secrets do not travel in orders";

/// Names people give to keys and codes that no order may carry in the clear.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_numbered = |word: &str| name.strip_prefix(word).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    ["k", "ki", "op", "opc", "topc", "a_key", "ssd", "ota", "otas"].contains(&name.as_str())
        || ["puk", "adm", "kic", "kid", "kik"].iter().any(|word| is_numbered(word))
        || name.starts_with("ota ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_names_what_is_wrong() {
        for (name, reason) in [
            ("iccid", "member of the line"),
            ("k", "clear secrets"),
            ("Ki", "clear secrets"),
            ("puk1", "clear secrets"),
            ("adm10", "clear secrets"),
            ("ota 01/01", "clear secrets"),
            ("gid1", "none of opt-usim/ef-gid1"),
            ("usim/ef-spn", "no ef-spn in usim"),
            ("usim/ef-nothing", "has no file of this name"),
            ("header/ef-spn", "takes the names of SAIP"),
            ("keyset.01", "no securityDomain"),
            ("sqn", "no place"),
            ("rfm.9.tar", "from 1 in package order"),
            ("apn", "there are profile_type, pol"),
        ] {
            assert!(why_not(name).contains(reason), "{name}: {}", why_not(name));
        }
    }
}
