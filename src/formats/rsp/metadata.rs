//! StoreMetadata (BF25): what the eUICC and its owner may know of a profile before and after it is installed.
//! In: the fields of an order line, an ICCID per record. Out: one byte string with two uses, `profileMetadata` of ES9+ and the
//! 88 segments of the package; the LPA compares them. Source: SGP.22 §5.5.3; SGP.32 for ecall and fallback.

use std::ops::Deref;

use crate::formats::bcd;
use crate::formats::bsp::segment::MAX_MAC_ONLY;
use crate::formats::tlv::{Tag, put, put_head, wrap};
use crate::ids::Iccid;

/// Tag of StoreMetadata.
pub const STORE_METADATA: Tag = Tag(0xBF25);
/// `5A 0A`, the ICCID's head, directly behind the outer head.
const ICCID_HEAD: [u8; 2] = [0x5A, 10];
/// Most octets of a whole BF25: the eUICC tells storeMetadata from storeMetadata2 and knows no third.
pub const MAX_LEN: usize = 2 * MAX_MAC_ONLY;

/// Class of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProfileClass {
    /// For tests of a device, with test keys.
    Test,
    /// Bootstrap: connects a device so that it can fetch another profile.
    Provisioning,
    /// For use. The default, and therefore absent in DER.
    #[default]
    Operational,
}

impl ProfileClass {
    /// The word in orders and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Provisioning => "provisioning",
            Self::Operational => "operational",
        }
    }
}

/// Picture of the service provider, 64 x 64 pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Icon {
    /// A JPEG file.
    Jpeg(Vec<u8>),
    /// A PNG file.
    Png(Vec<u8>),
}

/// An event after which the eUICC notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NotificationEvent {
    /// The profile was installed.
    Install = 0,
    /// It was enabled.
    Enable = 1,
    /// It was disabled.
    Disable = 2,
    /// It was deleted.
    Delete = 3,
}

/// Who is notified, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// After which events; at least one.
    pub events: Vec<NotificationEvent>,
    /// FQDN of the server.
    pub address: String,
}

/// Owner of a profile, as policy rules of the eUICC know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// MCC and MNC as 3GPP TS 24.008 writes them, three octets.
    pub mcc_mnc: [u8; 3],
    /// Group identifier level 1.
    pub gid1: Option<Vec<u8>>,
    /// Group identifier level 2.
    pub gid2: Option<Vec<u8>>,
}

/// The 5 or 6 digits of MCC and MNC as 3GPP TS 24.008 §10.5.1.3 packs them: `MCC2 MCC1 | MNC3 MCC3 | MNC2 MNC1`, MNC3 is F for two-digit MNCs.
pub fn pack_mcc_mnc(digits: &str) -> [u8; 3] {
    let (mcc, mnc) = digits.split_at(digits.len().min(3));
    let third = mnc.get(2..3);
    let [a, b, c]: [u8; 3] = bcd::swapped(&format!("{mcc}{}{}", third.unwrap_or("0"), mnc.get(..2).unwrap_or("00")));
    [a, if third.is_none() { b | 0xF0 } else { b }, c]
}

/// A policy rule of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PolicyRule {
    /// The rules may be changed by the profile owner.
    UpdateControl = 0,
    /// PPR1: disabling is not allowed.
    NoDisable = 1,
    /// PPR2: deleting is not allowed.
    NoDelete = 2,
}

/// The fields of StoreMetadata that a batch has in common: all but the ICCID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreMetadata {
    /// At most 32 octets.
    pub service_provider: String,
    /// At most 64 octets.
    pub profile_name: String,
    /// At most 1024 octets.
    pub icon: Option<Icon>,
    /// Class.
    pub class: ProfileClass,
    /// In the order given; none, and the field is absent.
    pub notifications: Vec<Notification>,
    /// Compulsory beside policy rules.
    pub owner: Option<Owner>,
    /// None, and the field is absent.
    pub policy_rules: Vec<PolicyRule>,
    /// SGP.32: this is an emergency profile.
    pub ecall: bool,
    /// SGP.32: the eIM may make this the fallback profile.
    pub fallback_allowed: bool,
}

/// Why the fields make no StoreMetadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A field is longer than the standard allows.
    #[error("{field} has {got} octets, at most {max} are allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its octets.
        got: usize,
        /// Octets allowed.
        max: usize,
    },
    /// A notification after no event, or to nobody.
    #[error("notification {index} names no {what}")]
    Notification {
        /// Which one, from 1.
        index: usize,
        /// `event` or `address`.
        what: &'static str,
    },
    /// Policy rules without an owner.
    #[error("policy rules need an owner (mccMnc)")]
    OwnerMissing,
}

impl StoreMetadata {
    /// The whole BF25 for one profile.
    pub fn encode(&self, iccid: &Iccid) -> Result<Vec<u8>, MetadataError> {
        MetadataTemplate::new(self).map(|template| template.for_iccid(iccid).to_vec())
    }

    fn check(&self) -> Result<(), MetadataError> {
        at_most("service_provider", self.service_provider.len(), 32)?;
        at_most("profile_name", self.profile_name.len(), 64)?;
        if let Some(Icon::Jpeg(image) | Icon::Png(image)) = &self.icon {
            at_most("icon", image.len(), 1024)?;
        }
        for (index, notification) in (1..).zip(&self.notifications) {
            at_most("notification address", notification.address.len(), 255)?;
            for (missing, what) in
                [(notification.events.is_empty(), "event"), (notification.address.is_empty(), "address")]
            {
                if missing {
                    return Err(MetadataError::Notification { index, what });
                }
            }
        }
        if !self.policy_rules.is_empty() && self.owner.is_none() {
            return Err(MetadataError::OwnerMissing);
        }
        Ok(())
    }

    /// Everything behind the ICCID, in the order of the module: DER knows no other.
    fn write_fields(&self, out: &mut Vec<u8>) {
        put(out, Tag(0x91), self.service_provider.as_bytes());
        put(out, Tag(0x92), self.profile_name.as_bytes());
        if let Some(icon) = &self.icon {
            let (kind, image) = match icon {
                Icon::Jpeg(image) => (0, image),
                Icon::Png(image) => (1, image),
            };
            put(out, Tag(0x93), &[kind]);
            put(out, Tag(0x94), image);
        }
        match self.class {
            ProfileClass::Test => put(out, Tag(0x95), &[0]),
            ProfileClass::Provisioning => put(out, Tag(0x95), &[1]),
            ProfileClass::Operational => {}
        }
        if !self.notifications.is_empty() {
            let entries: Vec<u8> = self.notifications.iter().flat_map(Notification::encode).collect();
            put(out, Tag(0xB6), &entries);
        }
        if let Some(owner) = &self.owner {
            put(out, Tag(0xB7), &owner.encode());
        }
        if !self.policy_rules.is_empty() {
            put(out, Tag(0x99), &named_bits(self.policy_rules.iter().map(|rule| *rule as u8)));
        }
        for (set, tag) in [(self.ecall, Tag(0x9F7B)), (self.fallback_allowed, Tag(0x9F67))] {
            if set {
                put(out, tag, &[0xFF]);
            }
        }
    }
}

impl Notification {
    fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        put(&mut fields, Tag(0x80), &named_bits(self.events.iter().map(|event| *event as u8)));
        put(&mut fields, Tag(0x81), self.address.as_bytes());
        wrap(Tag(0x30), &[&fields])
    }
}

impl Owner {
    fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        put(&mut fields, Tag(0x80), &self.mcc_mnc);
        for (tag, value) in [(Tag(0x81), &self.gid1), (Tag(0x82), &self.gid2)] {
            if let Some(value) = value {
                put(&mut fields, tag, value);
            }
        }
        fields
    }
}

/// A BIT STRING of named bits below 8 in DER: no trailing zero bit, their count in front (X.690 §11.2.2).
fn named_bits(bits: impl Iterator<Item = u8>) -> [u8; 2] {
    let octet = bits.fold(0_u8, |octet, bit| octet | 0x80 >> bit);
    [octet.trailing_zeros() as u8, octet]
}

fn at_most(field: &'static str, got: usize, max: usize) -> Result<(), MetadataError> {
    if got <= max { Ok(()) } else { Err(MetadataError::TooLong { field, got, max }) }
}

/// StoreMetadata of a batch, encoded once; only the ten octets of the ICCID differ between its records.
#[derive(Clone, Debug)]
pub struct MetadataTemplate {
    bytes: Vec<u8>,
    iccid_at: usize,
}

impl MetadataTemplate {
    /// Checks the limits and encodes.
    pub fn new(fields: &StoreMetadata) -> Result<Self, MetadataError> {
        fields.check()?;
        let mut value = [&ICCID_HEAD[..], &[0; 10]].concat();
        fields.write_fields(&mut value);
        let mut bytes = Vec::with_capacity(value.len() + 5);
        put_head(&mut bytes, STORE_METADATA, value.len());
        let iccid_at = bytes.len() + ICCID_HEAD.len();
        bytes.extend_from_slice(&value);
        at_most("metadata", bytes.len(), MAX_LEN)?;
        Ok(Self { bytes, iccid_at })
    }

    /// The BF25 of one profile.
    pub fn for_iccid(&self, iccid: &Iccid) -> Encoded {
        let mut encoded = Encoded { octets: [0; MAX_LEN], len: self.bytes.len() };
        encoded.octets[..encoded.len].copy_from_slice(&self.bytes);
        encoded.octets[self.iccid_at..][..10].copy_from_slice(&bcd::swapped::<10>(iccid.as_str()));
        encoded
    }

    /// Octets of the BF25, the same for every record.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The BF25 of one profile, where it was encoded: a record allocates nothing for it.
#[derive(Clone, Debug)]
pub struct Encoded {
    octets: [u8; MAX_LEN],
    len: usize,
}

impl Deref for Encoded {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    fn iccid() -> Iccid {
        "89000123456789012341".parse().unwrap()
    }

    fn named(service_provider: &str, profile_name: &str) -> StoreMetadata {
        StoreMetadata {
            service_provider: service_provider.to_owned(),
            profile_name: profile_name.to_owned(),
            ..StoreMetadata::default()
        }
    }

    #[test]
    fn operators_are_packed_as_in_ts_24_008() {
        assert_eq!(pack_mcc_mnc("26201"), [0x62, 0xF2, 0x10]);
        assert_eq!(pack_mcc_mnc("310410"), [0x13, 0x00, 0x14]);
        assert_eq!(pack_mcc_mnc("001015"), [0x00, 0x51, 0x10]);
    }

    #[test]
    fn metadata_is_as_others_published_it() {
        // waigel/euicc-rsp, testdata/session: an operational profile, so no 95.
        let expected = "bf252f5a0a98001032547698103214910965756963632d727370921665756963632d7273702074657374\
                        2070726f66696c65";
        let encoded = named("euicc-rsp", "euicc-rsp test profile").encode(&iccid()).unwrap();
        assert_eq!(HEXLOWER.encode(&encoded), expected);
        // osmocom/pysim, "mode 51" trace: a test profile.
        let expected =
            "bf252d5a0a98001032547698103214910947534d415f54455354921147534d415f544553545f50524f46494c45950100";
        let fields = StoreMetadata { class: ProfileClass::Test, ..named("GSMA_TEST", "GSMA_TEST_PROFILE") };
        assert_eq!(HEXLOWER.encode(&fields.encode(&iccid()).unwrap()), expected);
    }

    #[test]
    fn every_field_stands_in_the_order_of_the_module() {
        let fields = StoreMetadata {
            icon: Some(Icon::Png(vec![1, 2, 3])),
            class: ProfileClass::Provisioning,
            notifications: vec![Notification {
                events: vec![NotificationEvent::Delete, NotificationEvent::Install],
                address: "n.example".to_owned(),
            }],
            owner: Some(Owner { mcc_mnc: [0x00, 0xF1, 0x10], gid1: Some(vec![0xAB]), gid2: None }),
            policy_rules: vec![PolicyRule::NoDelete, PolicyRule::UpdateControl],
            ecall: true,
            fallback_allowed: true,
            ..named("P", "N")
        };
        let expected = "5a0a98001032547698103214\
            910150 92014e 930101 9403010203 950101 b611 300f 80020490 81096e2e6578616d706c65\
            b708 800300f110 8101ab 990205a0 9f7b01ff 9f6701ff";
        let encoded = fields.encode(&iccid()).unwrap();
        tlv::check_strict(&encoded).unwrap();
        let value = tlv::single(&encoded, STORE_METADATA).unwrap().value;
        assert_eq!(HEXLOWER.encode(value), expected.replace(' ', ""));
    }

    #[test]
    fn a_named_bit_string_has_no_trailing_zero_bit() {
        assert_eq!(named_bits([0].into_iter()), [7, 0x80]);
        assert_eq!(named_bits([1].into_iter()), [6, 0x40]);
        assert_eq!(named_bits([0, 1, 2, 3].into_iter()), [4, 0xF0]);
    }

    #[test]
    fn what_the_standard_does_not_allow_is_refused_by_name() {
        let too_long = |field, got, max| Err(MetadataError::TooLong { field, got, max });
        let refusal = |fields: StoreMetadata| fields.encode(&iccid()).map(drop);
        assert_eq!(refusal(named(&"p".repeat(33), "n")), too_long("service_provider", 33, 32));
        assert_eq!(refusal(named("p", &"n".repeat(65))), too_long("profile_name", 65, 64));
        let icon = |len| StoreMetadata { icon: Some(Icon::Jpeg(vec![0; len])), ..named("p", "n") };
        assert_eq!(refusal(icon(1025)), too_long("icon", 1025, 1024));
        assert_eq!(refusal(icon(1024)), Ok(()));
        let to = |address: &str| Notification { events: vec![NotificationEvent::Enable], address: address.to_owned() };
        let notify = |notifications| StoreMetadata { notifications, ..icon(1024) };
        assert_eq!(refusal(notify(vec![to(&"a".repeat(256))])), too_long("notification address", 256, 255));
        let nobody = MetadataError::Notification { index: 2, what: "address" };
        assert_eq!(refusal(notify(vec![to("a"), to("")])), Err(nobody));
        let never = Notification { events: vec![], ..to("a") };
        assert_eq!(refusal(notify(vec![never])), Err(MetadataError::Notification { index: 1, what: "event" }));
        assert!(matches!(
            refusal(notify(vec![to(&"a".repeat(250)); 4])),
            Err(MetadataError::TooLong { field: "metadata", max: 2016, .. })
        ));
        let unowned = StoreMetadata { policy_rules: vec![PolicyRule::NoDisable], ..named("p", "n") };
        assert_eq!(refusal(unowned), Err(MetadataError::OwnerMissing));
    }

    proptest! {
        #[test]
        fn a_template_writes_what_encoding_one_by_one_gives(body in "89[0-9]{16,17}", icon in 0..1024_usize) {
            let iccid = Iccid::from_body(&body).unwrap();
            let fields = StoreMetadata { icon: Some(Icon::Png(vec![7; icon])), ..named("p", "n") };
            let encoded = MetadataTemplate::new(&fields).unwrap().for_iccid(&iccid);
            prop_assert_eq!(encoded.to_vec(), fields.encode(&iccid).unwrap());
            let mut value = tlv::single(&encoded, STORE_METADATA).unwrap().children();
            let digits = bcd::read_swapped(value.expect(Tag(0x5A)).unwrap().value);
            prop_assert_eq!(digits.as_deref(), Some(iccid.as_str()));
        }
    }
}
