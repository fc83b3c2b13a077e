//! One line of `orders.jsonl`, read strictly: known members only, identifiers and hashes in their form.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

use crate::ids::{Eid, Iccid, Imsi, MatchingId};

/// What the bundle says about one issued device.
pub(super) struct Record {
    /// Absent only where the order is not yet tied to an eUICC.
    pub(super) eid: Option<Eid>,
    pub(super) iccid: Iccid,
    pub(super) imsi: Option<Imsi>,
    pub(super) profile_class: String,
    pub(super) matching_id: MatchingId,
    pub(super) smdp_address: String,
    pub(super) smdp_oid: String,
    pub(super) activation_code: String,
    pub(super) cc_required: bool,
    pub(super) metadata_sha256: Option<[u8; 32]>,
    pub(super) upp_sha256: Option<[u8; 32]>,
    pub(super) state: String,
    /// `order`, `prebound` or `session`.
    pub(super) mode: String,
    /// `None` for `mode: order`: bound later, at download.
    pub(super) package: Option<Package>,
}

/// Where the bound package stands, and for whom it was bound.
pub(super) struct Package {
    pub(super) object: String,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
    pub(super) transaction_id: Vec<u8>,
    pub(super) euicc_otpk: [u8; 65],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    eid: Option<String>,
    iccid: String,
    imsi: Option<String>,
    profile_class: String,
    matching_id: String,
    smdp_address: String,
    smdp_oid: String,
    activation_code: String,
    cc_required: bool,
    metadata_sha256: Option<String>,
    upp_sha256: Option<String>,
    mode: String,
    object: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
    sha256: Option<String>,
    transaction_id: Option<String>,
    euicc_otpk: Option<String>,
    state: String,
}

impl Record {
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|e| form(&e))?;
        let is_bound = match line.mode.as_str() {
            "order" => false,
            "prebound" | "session" => true,
            other => return Err(format!("mode {other:?} is not order, prebound or session")),
        };
        let package = match (is_bound, line.object) {
            (true, Some(object)) => Some(Package {
                object,
                offset: needed(line.offset, "offset")?,
                length: needed(line.length, "length")?,
                sha256: hash(needed(line.sha256, "sha256")?, "sha256")?,
                transaction_id: transaction_id(&needed(line.transaction_id, "transaction_id")?)?,
                euicc_otpk: point(&needed(line.euicc_otpk, "euicc_otpk")?)
                    .ok_or("euicc_otpk is not base64 of 65 octets")?,
            }),
            (false, None) => None,
            (true, None) => return Err("object is missing".into()),
            (false, Some(_)) => return Err("mode order has no package, but object is given".into()),
        };
        let record = Self {
            eid: line.eid.map(|eid| eid.parse().map_err(|e| format!("eid {e}"))).transpose()?,
            iccid: line.iccid.parse().map_err(|e| format!("iccid {e}"))?,
            imsi: line.imsi.map(|imsi| imsi.parse().map_err(|e| format!("imsi {e}"))).transpose()?,
            profile_class: line.profile_class,
            matching_id: line.matching_id.parse().map_err(|e| format!("matching_id {e}"))?,
            smdp_address: line.smdp_address,
            smdp_oid: line.smdp_oid,
            activation_code: line.activation_code,
            cc_required: line.cc_required,
            metadata_sha256: line.metadata_sha256.map(|text| hash(text, "metadata_sha256")).transpose()?,
            upp_sha256: line.upp_sha256.map(|text| hash(text, "upp_sha256")).transpose()?,
            state: line.state,
            mode: line.mode,
            package,
        };
        if record.package.is_some() && (record.metadata_sha256.is_none() || record.upp_sha256.is_none()) {
            return Err("metadata_sha256 or upp_sha256 is missing".into());
        }
        if record.package.is_some() && record.eid.is_none() {
            return Err("a bound package needs its eid".into());
        }
        Ok(record)
    }

    /// `LPA:1$address$matching id[$oid[$1]]`, made of the record's own members (SGP.22 §4.1).
    pub(super) fn check_activation_code(&self) -> Result<(), String> {
        let code = self.activation_code.strip_prefix("LPA:").unwrap_or(&self.activation_code);
        let fields: Vec<_> = code.split('$').collect();
        let (oid, confirmation) = match fields.as_slice() {
            ["1", address, token, rest @ ..]
                if *address == self.smdp_address && *token == self.matching_id.as_str() =>
            {
                match rest {
                    [] => ("", false),
                    [oid] => (*oid, false),
                    [oid, "1"] => (*oid, true),
                    _ => return Err("the activation code has surplus fields".into()),
                }
            }
            _ => return Err("the activation code is not 1$ address $ matching id of its record".into()),
        };
        if !oid.is_empty() && oid != self.smdp_oid {
            return Err("the activation code names another SM-DP+ OID than its record".into());
        }
        if confirmation != self.cc_required {
            return Err("the activation code and cc_required disagree about the confirmation code".into());
        }
        Ok(())
    }

    /// For findings: `EID 890490****35`, or the ICCID where no eUICC is known.
    pub(super) fn masked(&self) -> String {
        match &self.eid {
            Some(eid) => format!("EID {}", eid.masked()),
            None => format!("ICCID {}", self.iccid.masked()),
        }
    }
}

/// Base64 of an uncompressed point.
pub(super) fn point(text: &str) -> Option<[u8; 65]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Names of members are told; other faults of serde quote the value, which may be a matching id.
fn form(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_name = ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
    if is_name { text } else { format!("is not an export record (column {})", error.column()) }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{name} is missing"))
}

fn hash(text: String, name: &str) -> Result<[u8; 32], String> {
    let octets = HEXLOWER.decode(text.as_bytes()).ok().and_then(|octets| octets.try_into().ok());
    octets.ok_or_else(|| format!("{name} is not a SHA-256 in lower-case hex"))
}

fn transaction_id(text: &str) -> Result<Vec<u8>, String> {
    let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| "transaction_id is not hex")?;
    if (1..=16).contains(&octets.len()) { Ok(octets) } else { Err("transaction_id has not 1 to 16 octets".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line() -> Value {
        json!({
            "eid": "89049032123451234512345678901235", "iccid": "89000123456789012341", "imsi": "001010123456063",
            "profile_class": "operational", "matching_id": "ABCDEFGHJKLMNPQR", "smdp_address": "smdp.example.com",
            "smdp_oid": "2.999.10", "activation_code": "LPA:1$smdp.example.com$ABCDEFGHJKLMNPQR$2.999.10",
            "cc_required": false, "metadata_sha256": "00".repeat(32), "upp_sha256": "11".repeat(32), "mode": "prebound",
            "object": "packages-00001.bpp", "offset": 0, "length": 10, "sha256": "22".repeat(32),
            "transaction_id": "07".repeat(16), "euicc_otpk": BASE64.encode(&[4; 65]), "state": "exported",
        })
    }

    fn with(name: &str, value: Value) -> Result<Record, String> {
        let mut line = line();
        line[name] = value;
        Record::parse(line.to_string().as_bytes())
    }

    #[test]
    fn a_whole_record_is_taken_and_masked() {
        let record = Record::parse(line().to_string().as_bytes()).unwrap();
        assert_eq!(record.masked(), "EID 890490************************35");
        assert_eq!(record.check_activation_code(), Ok(()));
    }

    #[test]
    fn each_member_is_held_to_its_form() {
        for (name, value) in [
            ("eid", json!("89049032123451234512345678901236")),
            ("eid", Value::Null),
            ("iccid", json!("89000123456789012342")),
            ("matching_id", json!("SHORT")),
            ("sha256", json!("AA".repeat(32))),
            ("upp_sha256", Value::Null),
            ("mode", json!("order")),
            ("mode", json!("other")),
            ("object", Value::Null),
            ("length", json!(-1)),
            ("euicc_otpk", json!("AAAA")),
            ("transaction_id", json!("")),
            ("ki", json!("00")),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn an_order_record_has_no_package() {
        let mut line = line();
        for name in ["object", "offset", "length", "sha256", "transaction_id", "euicc_otpk", "eid"] {
            line[name] = Value::Null;
        }
        line["mode"] = json!("order");
        assert!(Record::parse(line.to_string().as_bytes()).unwrap().package.is_none());
    }

    #[test]
    fn an_activation_code_of_other_parts_is_told() {
        for code in [
            "LPA:1$other.example.com$ABCDEFGHJKLMNPQR",
            "LPA:1$smdp.example.com$OTHER",
            "1$smdp.example.com$ABCDEFGHJKLMNPQR$2.999.12",
            "1$smdp.example.com$ABCDEFGHJKLMNPQR$$1",
            "1$smdp.example.com$ABCDEFGHJKLMNPQR$$1$",
        ] {
            assert!(with("activation_code", json!(code)).unwrap().check_activation_code().is_err(), "{code}");
        }
        let short = with("activation_code", json!("1$smdp.example.com$ABCDEFGHJKLMNPQR")).unwrap();
        assert_eq!(short.check_activation_code(), Ok(()));
    }
}
