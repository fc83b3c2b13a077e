//! One file for each family of values: where they stand, what they look like in octets.

mod aka;
mod codes;
mod files;
mod header;
mod identity;
mod ims;
mod keys;
pub(super) mod vars;

pub(super) use identity::Coded;
use ims::Realm;

/// What goes into a gap of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::personalise) enum Field {
    /// ProfileHeader: straight BCD.
    IccidHeader,
    /// EF.ICCID: swapped nibbles.
    IccidFile,
    /// EF.IMSI.
    Imsi,
    /// EF.ACC.
    Acc,
    /// One record of EF.MSISDN (3GPP TS 31.102 §4.2.26).
    Msisdn,
    /// An IMS identity derived from the IMSI, a TLV `80` padded with FF (3GPP TS 23.003 §13.3, §13.4B).
    Nai { scheme: &'static str, realm: Realm },
    /// An IMS identity derived from the MSISDN: what stands before and behind its digits.
    Tel { scheme: &'static str, rest: Box<str> },
    /// The home network domain name alone.
    Domain(Realm),
    /// A secret: slot of the layout.
    Secret(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalise::Identity;

    fn written(field: Field, imsi: &str, msisdn: Option<&str>, len: usize) -> Vec<u8> {
        let identity = Identity {
            iccid: "89000123456789012341".parse().unwrap(),
            imsi: Some(imsi.parse().unwrap()),
            msisdn,
            vars: &[],
        };
        let mut gap = vec![0; len];
        Coded::new(&identity).unwrap().write(&field, &mut gap, |_| None);
        gap
    }

    #[test]
    fn an_ims_identity_follows_from_the_imsi() {
        let realm = |mnc_len| Realm::read("ims.mnc001.mcc001.3gppnetwork.org", mnc_len);
        let two = written(Field::Nai { scheme: "", realm: realm(2) }, "262011234567893", None, 60);
        assert_eq!(&two[..2], [0x80, 49]);
        assert_eq!(&two[2..51], b"262011234567893@ims.mnc001.mcc262.3gppnetwork.org");
        assert!(two[51..].iter().all(|octet| *octet == 0xFF));
        let three = written(Field::Nai { scheme: "sip:", realm: realm(3) }, "310410123456789", None, 60);
        assert_eq!(&three[2..55], b"sip:310410123456789@ims.mnc410.mcc310.3gppnetwork.org");
    }

    #[test]
    fn a_realm_of_the_operator_is_kept() {
        assert_eq!(Realm::read("test.3gpp.com", 2), Realm::Fixed("test.3gpp.com".into()));
        assert_eq!(Realm::read("mnc0x1.mcc001.org", 2), Realm::Fixed("mnc0x1.mcc001.org".into()));
    }

    #[test]
    fn an_msisdn_record_is_coded_as_in_ts_31_102() {
        let record = written(Field::Msisdn, "001010123456063", Some("+4915112345678"), 16);
        assert_eq!(
            record,
            [0xFF, 0xFF, 8, 0x91, 0x94, 0x51, 0x11, 0x32, 0x54, 0x76, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
        );
        assert_eq!(written(Field::Msisdn, "001010123456063", None, 16), [0xFF; 16]);
    }

    #[test]
    fn the_access_class_is_the_last_digit_of_the_imsi() {
        assert_eq!(written(Field::Acc, "001010123456063", None, 2), [0x00, 0x08]);
        assert_eq!(written(Field::Acc, "001010123456069", None, 2), [0x02, 0x00]);
    }
}
