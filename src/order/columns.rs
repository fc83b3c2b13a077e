//! Columns of the rows, and the names under which somebody might send a key in the clear.

/// Number of columns with a meaning.
pub const COLUMNS: usize = 10;

/// A column with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// Row number, 1-based.
    Row,
    /// eUICC.
    Eid,
    /// ICCID.
    Iccid,
    /// IMSI.
    Imsi,
    /// E.164 digits.
    Msisdn,
    /// Matching id.
    MatchingId,
    /// K under a transport key.
    KiWrapped,
    /// OPc under a transport key.
    OpcWrapped,
    /// Device's IMEI.
    Imei,
    /// Device's serial number.
    Serial,
}

impl Column {
    /// All, in the order of their cells.
    pub const ALL: [Self; COLUMNS] = [
        Self::Row,
        Self::Eid,
        Self::Iccid,
        Self::Imsi,
        Self::Msisdn,
        Self::MatchingId,
        Self::KiWrapped,
        Self::OpcWrapped,
        Self::Imei,
        Self::Serial,
    ];

    /// Name in the header row.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Eid => "eid",
            Self::Iccid => "iccid",
            Self::Imsi => "imsi",
            Self::Msisdn => "msisdn",
            Self::MatchingId => "matching_id",
            Self::KiWrapped => "ki_wrapped",
            Self::OpcWrapped => "opc_wrapped",
            Self::Imei => "imei",
            Self::Serial => "serial",
        }
    }
}

/// What a name in a header row means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A column of ours.
    Known(Column),
    /// `x_*`: the sender's own, ignored unless a variable names it.
    Foreign,
    /// A key in the clear: refused, always.
    ClearSecret,
    /// Anything else: refused.
    Unknown,
}

pub(super) fn meaning(name: &str) -> Meaning {
    if let Some(column) = Column::ALL.into_iter().find(|column| column.name() == name) {
        return Meaning::Known(column);
    }
    if names_clear_secret(name) {
        return Meaning::ClearSecret;
    }
    match name.strip_prefix("x_") {
        Some(rest) if !rest.is_empty() => Meaning::Foreign,
        _ => Meaning::Unknown,
    }
}

/// `ki`, `Ki`, `KI_clear`, `x_opc`, `auth key`, `KeyK`: any word of the name that is one of a key's usual names.
pub(super) fn names_clear_secret(name: &str) -> bool {
    words(name).iter().any(|word| KEY_WORDS.contains(&word.as_str()))
}

/// The name of a variable whose values would be secrets: a key's, or that of a PUK or an administrative code, each with or
/// without a number behind it.
pub(super) fn names_secret_variable(name: &str) -> bool {
    words(name).iter().any(|word| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        KEY_WORDS.contains(&word) || CODE_WORDS.contains(&word)
    })
}

const KEY_WORDS: [&str; 20] = [
    "ki", "k", "opc", "op", "topc", "top", "key", "keys", "kic", "kid", "kik", "authkey", "kivalue", "kihex",
    "kiclear", "clearki", "plainki", "opcvalue", "opchex", "clearopc",
];
const CODE_WORDS: [&str; 6] = ["puk", "puks", "adm", "adms", "ssd", "akey"];

/// The words of a name in lower case, and all of them as one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (after_lower && c.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        after_lower = c.is_ascii_lowercase();
    }
    words.push(words.concat());
    words
}

/// What may be shown of a column's name. A file without header row has values where names should be, maybe keys.
pub(super) fn shown_name(name: &str) -> String {
    let like_a_name = name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b));
    let like_a_key = name.len() >= 16 && name.bytes().any(|b| b.is_ascii_digit());
    if like_a_name && !like_a_key {
        name.to_owned()
    } else {
        format!("({} characters, not shown)", name.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_key_is_known_by_any_of_its_names() {
        for name in [
            "ki",
            "KI",
            "Ki ",
            "k",
            "opc",
            "OPc",
            "op",
            "x_ki",
            "x_opc",
            "ki_clear",
            "clearKi",
            "key",
            "auth-key",
            "TOPc",
            "ki_wrapped ",
        ] {
            assert_eq!(meaning(name), Meaning::ClearSecret, "{name:?}");
        }
    }

    #[test]
    fn a_variable_for_a_secret_is_known_by_any_of_its_names() {
        for name in ["ki", "K", "opc", "puk1", "PUK2", "adm", "adm_1", "x_adm5", "kic1", "ota_key", "x_ki", "aKey"] {
            assert!(names_secret_variable(name), "{name}");
        }
        for name in ["spn", "smsc", "pin1", "pin2", "gid1", "x_brand", "routing_indicator", "x_kilo", "x_admin"] {
            assert!(!names_secret_variable(name), "{name}");
        }
    }

    #[test]
    fn no_variable_of_a_file_is_taken_for_a_secret() {
        use crate::formats::saip::ef;
        let named: Vec<_> =
            ef::all().filter(|(_, coding)| !coding.is_secret()).map(|(_, coding)| coding.name()).collect();
        let refused: Vec<_> = named.iter().filter(|name| names_secret_variable(name)).collect();
        assert_eq!(refused, [&""; 0], "of {named:?}");
    }

    #[test]
    fn other_names_are_ours_the_senders_or_unknown() {
        assert_eq!(meaning("ki_wrapped"), Meaning::Known(Column::KiWrapped));
        assert_eq!(meaning("x_pallet"), Meaning::Foreign);
        for name in ["x_", "EID", "colour", "", "kilo", "operator"] {
            assert_eq!(meaning(name), Meaning::Unknown, "{name:?}");
        }
    }

    #[test]
    fn a_value_in_the_header_row_is_not_shown() {
        assert_eq!(shown_name("colour"), "colour");
        for value in ["465B5CE8B199B49FAA5F0A2EE238A6BC", "ab5B5CE8B199B49F", "89049032123451234512345678901235"] {
            assert!(!shown_name(value).contains(&value[..6]));
        }
    }
}
