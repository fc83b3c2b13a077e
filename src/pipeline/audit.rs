//! Finished profiles are read back before they are sealed, those that are chosen; the numbers of every record are compared with the
//! order's ranges.
//!
//! The choice is the same whenever an order is worked again: the first and the last record of a chunk, and of the others those
//! whose ICCID hashes below the share.

use std::str::FromStr;

use crate::formats::digest::sha256;
use crate::formats::saip::algorithm::Algorithm;
use crate::ids::Iccid;
use crate::order::file::{Line, Numbers};
use crate::order::{MSISDN, Var};
use crate::personalise::audit::{self, AuditError, Expected, Found};
use crate::personalise::{Credentials, Identity, Settings, Upp};
use crate::secret::SubscriberKey;
use crate::store::Device;

/// Which finished profiles are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Every one.
    All,
    /// First and last of each chunk, and this share of the others, in millionths.
    Share(u32),
    /// None.
    Off,
}

const MILLION: u32 = 1_000_000;

impl Default for Audit {
    /// One of a hundred, besides the first and the last.
    fn default() -> Self {
        Self::Share(MILLION / 100)
    }
}

impl FromStr for Audit {
    type Err = String;

    /// `all`, `sample`, `2%`, `0.5%`, `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "sample" => return Ok(Self::default()),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        match percent {
            Some(percent) if percent > 0.0 && percent <= 100.0 => {
                Ok(Self::Share((percent / 100.0 * f64::from(MILLION)).round() as u32))
            }
            _ => Err(format!("{text:?} is not all, sample, off or a share such as 5%")),
        }
    }
}

impl Audit {
    /// Whether the `at`-th of a chunk of `of` records is read back.
    pub(super) fn chooses(self, (at, of): (usize, usize), iccid: &Iccid) -> bool {
        match self {
            Self::All => true,
            Self::Off => false,
            Self::Share(_) if at == 0 || at + 1 == of => true,
            Self::Share(share) => {
                let [a, b, c, d, ..] = sha256(iccid.as_str().as_bytes());
                (u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(MILLION)) >> 32 < u64::from(share)
            }
        }
    }
}

/// Reads a finished profile by names and compares every value, at every place, with what the record should have; gives what was read.
/// `template`: what was read back of the template, of which nothing may be left.
pub(super) fn read_back(
    (settings, template): (&Settings, &Found),
    upp: &Upp,
    (identity, credentials): (&Identity<'_>, &Credentials),
    op: Option<&SubscriberKey>,
) -> Result<Found, AuditError> {
    let op = op.filter(|_| settings.algorithm == Algorithm::Milenage);
    let expected = Expected { identity, settings, credentials, template: Some(template), op };
    audit::check(upp.expose(), &expected)
}

/// The ledger's numbers and values of a record against the ranges of its line: the name of the one that is another.
pub(super) fn foreign_number<'l>(line: &'l Line, device: &Device) -> Option<&'l str> {
    let step = device.row.checked_sub(1)?;
    if let Numbers::First(first) = &line.iccid
        && first.plus(u64::from(step)) != device.iccid
    {
        return Some("ICCID");
    }
    if let Some(Numbers::First(first)) = &line.imsi
        && first.plus(u64::from(step)) != device.imsi
    {
        return Some("IMSI");
    }
    let kept = |name: &str| match name {
        MSISDN => device.msisdn.as_deref(),
        _ => device.vars.iter().find(|(kept, _)| kept == name).map(|(_, value)| value.as_str()),
    };
    let is_kept = |(name, var): &(&String, &Var)| match var {
        Var::First(first) => first.after(step).as_deref() == kept(name),
        Var::Column(_) => kept(name).is_some(),
        Var::Constant(_) => *name != MSISDN || kept(name).is_some(),
    };
    line.vars.iter().find(|var| !is_kept(var)).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalise::shelf::preset;
    use crate::personalise::{CompiledTemplate, Draw, VarSource};

    fn iccid(step: u64) -> Iccid {
        "89000123456789012341".parse::<Iccid>().unwrap().plus(step).unwrap()
    }

    /// Row 3 of a line with ranges, as the ledger must hold it.
    fn ordered() -> (Line, Device) {
        let order = serde_json::json!({
            "schema": "bindery.order/1", "order_id": "PO-1", "tenant": "acme", "kind": "test", "lines": [{
                "line": 1, "template": "t@1", "mode": "order", "quantity": 5, "iccid": {"first": iccid(0).as_str()},
                "imsi": {"first": "001010123456063"}, "export": [],
                "vars": {"msisdn": {"first": "4930100"}, "gid1": {"first": "08"}, "spn": {"column": "x_brand"}, "gid2": "0A"},
                "rows": [{}, {}, {}, {}, {}],
                "metadata": {"service_provider": "A", "profile_name": "B", "class": "test"},
            }],
        });
        let line = crate::order::Order::from_json(order.to_string().as_bytes()).unwrap().lines.remove(0);
        let device = Device {
            wrapped: None,
            pk: crate::store::DevicePk(7),
            line: 1,
            row: 3,
            state: crate::store::DeviceState::Accepted,
            eid: None,
            iccid: Some(iccid(2)),
            imsi: "001010123456065".parse().ok(),
            msisdn: Some("4930102".into()),
            vars: vec![("gid1".into(), "10".into()), ("spn".into(), "Acme".into())],
            matching_id: None,
            euicc_otpk: None,
            error_class: None,
            issue: None,
        };
        (line, device)
    }

    #[test]
    fn a_number_or_value_that_the_order_does_not_give_the_row_is_named() {
        let (line, device) = ordered();
        assert_eq!(foreign_number(&line, &device), None);
        let gid1 = |value: &str| vec![("gid1".to_owned(), value.to_owned()), ("spn".to_owned(), "Acme".to_owned())];
        for (name, changed) in [
            ("ICCID", Device { iccid: Some(iccid(3)), ..device.clone() }),
            ("ICCID", Device { row: 4, ..device.clone() }),
            ("IMSI", Device { imsi: None, ..device.clone() }),
            ("msisdn", Device { msisdn: Some("4930103".into()), ..device.clone() }),
            ("gid1", Device { vars: gid1("11"), ..device.clone() }),
            ("spn", Device { vars: gid1("10")[..1].to_vec(), ..device.clone() }),
        ] {
            assert_eq!(foreign_number(&line, &changed), Some(name));
        }
    }

    #[test]
    fn a_profile_that_is_not_what_was_ordered_is_caught_with_place_and_field_and_without_the_value() {
        let der = preset("operational").unwrap().unwrap();
        let found = audit::read(&der).unwrap();
        let spn = |source| Settings { vars: [("spn".to_owned(), source)].into(), ..Settings::default() };
        let settings = spn(VarSource::PerRecord);
        let template = CompiledTemplate::compile(&der, &settings).unwrap();
        let mut octets = vec![0; template.draw_len()];
        openssl::rand::rand_bytes(&mut octets).unwrap();
        let credentials = template.credentials(&mut Draw::new(&octets), None).unwrap();
        let imsi = "001010123456063".parse().ok();
        let vars = [("spn".to_owned(), "Brand of row 7".to_owned())];
        let identity = Identity { iccid: iccid(0), imsi, msisdn: Some("4915112340000"), vars: &vars };
        let sound = template.personalise(&identity, &credentials).unwrap();
        let read = |settings: &Settings, upp: &Upp, identity: &Identity<'_>| {
            read_back((settings, &found), upp, (identity, &credentials), None).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(read(&settings, &sound, &identity), Ok(()));

        // Every kind of value, spoilt in the octets wherever it stands.
        let spoilt = |value: &[u8]| {
            let mut octets = sound.expose().to_vec();
            let at = octets.windows(value.len()).position(|window| window == value).unwrap();
            octets[at + value.len() - 1] ^= 1;
            Upp::from_plain_for_tests(octets, iccid(0))
        };
        for (secret, value) in credentials.each() {
            let told = read(&settings, &spoilt(value), &identity);
            assert!(told.is_err(), "{secret:?}");
        }
        let told = read(&settings, &spoilt(b"Brand of row 7"), &identity).unwrap_err();
        assert!(told.contains("spn") && told.contains("usim") && !told.contains("Brand"), "{told}");
        // The record should have been another's.
        let other = [("spn".to_owned(), "Brand of row 8".to_owned())];
        for wrong in [
            Identity { iccid: iccid(1), ..identity },
            Identity { imsi: "001010123456064".parse().ok(), ..identity },
            Identity { msisdn: Some("4915112340001"), ..identity },
            Identity { vars: &other, ..identity },
        ] {
            assert!(read(&settings, &sound, &wrong).is_err());
        }
        assert!(read(&spn(VarSource::Constant("Acme".into())), &sound, &identity).is_err());
        // A profile that was never personalised.
        assert!(read(&settings, &Upp::from_plain_for_tests(der.clone(), iccid(0)), &identity).is_err());
    }

    fn chosen(audit: Audit, of: usize) -> Vec<usize> {
        (0..of).filter(|at| audit.chooses((*at, of), &iccid(*at as u64))).collect()
    }

    #[test]
    fn words_and_shares_are_read_and_nothing_else() {
        let read = |text: &str| text.parse::<Audit>();
        assert_eq!(read("all"), Ok(Audit::All));
        assert_eq!((read("sample"), read("1%")), (Ok(Audit::default()), Ok(Audit::Share(10_000))));
        assert_eq!((read("off"), read("0.5%")), (Ok(Audit::Off), Ok(Audit::Share(5_000))));
        for wrong in ["", "5", "0%", "101%", "NaN%", "-1%", "some"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sample_holds_both_ends_and_about_its_share_and_is_always_the_same() {
        let sample = chosen(Audit::Share(100_000), 1_000);
        assert_eq!((sample.first(), sample.last()), (Some(&0), Some(&999)));
        assert!((70..140).contains(&sample.len()), "{}", sample.len());
        assert_eq!(sample, chosen(Audit::Share(100_000), 1_000));
        assert_eq!(chosen(Audit::All, 5).len(), 5);
        assert_eq!(chosen(Audit::Off, 5), [0_usize; 0]);
        assert_eq!(chosen(Audit::Share(MILLION), 50).len(), 50);
        assert_eq!(chosen(Audit::default(), 1), [0]);
    }
}
