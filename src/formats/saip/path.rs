//! Names from an element down to an octet: `usim/ef-imsi/fillFileContent`, `securityDomain/keyList[2]/keyComponents[1]/keyData`.
//!
//! In: a package and an offset. Out: the ASN.1 names on the way. Rule: the items of a list and the second and later member of one
//! name carry their number, from 1; what the module does not know is named by its tag. One walk names any number of offsets.
//! Source: TCA eUICC Profile Package 3.4.1, module PEDefinitions.

use super::kind::Kind;
use super::package::{Package, children};
use crate::formats::tlv::{Tag, Tlv};

/// The names down to the innermost TLV around `offset`; `package` where no element is.
pub fn path_of(package: &Package<'_>, offset: usize) -> String {
    paths_of(package, &[offset]).pop().unwrap_or_default()
}

/// As [`path_of`] for many offsets, in ascending order: the package is walked once.
pub fn paths_of(package: &Package<'_>, offsets: &[usize]) -> Vec<String> {
    let mut paths = Vec::with_capacity(offsets.len());
    for element in &package.elements {
        let end = element.tlv.offset + element.tlv.whole.len();
        let inside = &offsets[paths.len()..];
        let inside = &inside[..inside.partition_point(|offset| *offset < end)];
        if !inside.is_empty() {
            let name = match element.kind {
                Kind::Unknown => format!("[{}]", element.tlv.tag),
                kind => kind.name().to_owned(),
            };
            walk(&element.tlv, name, Inside::of(element.kind), inside, &mut paths);
        }
    }
    paths.resize(offsets.len(), "package".to_owned());
    paths
}

/// What a TLV holds.
#[derive(Clone, Copy)]
enum Inside {
    /// A value, or something the module does not describe.
    Value,
    /// Members; those of one tag are told apart by their order.
    Members(&'static [Member]),
    /// Items of one type.
    List(&'static Inside),
    /// The files of a file-system element.
    Files(Kind),
}

/// Tag, name, what it holds.
type Member = (u32, &'static str, Inside);

/// Appends the path of each of `offsets`, all of which lie before the end of `tlv`.
fn walk(tlv: &Tlv<'_>, name: String, inside: Inside, offsets: &[usize], paths: &mut Vec<String>) {
    let mut rest = offsets;
    if tlv.tag.is_constructed() {
        let mut seen = Seen::default();
        for child in children(tlv) {
            if rest.is_empty() {
                break;
            }
            let count = seen.count(child.tag);
            let before = rest.partition_point(|offset| *offset < child.offset);
            paths.extend(std::iter::repeat_n(name.clone(), before));
            rest = &rest[before..];
            let within = rest.partition_point(|offset| *offset < child.offset + child.whole.len());
            if within > 0 {
                let (step, below) = step(inside, child.tag, count);
                walk(&child, format!("{name}{step}"), below, &rest[..within], paths);
                rest = &rest[within..];
            }
        }
    }
    paths.extend(std::iter::repeat_n(name, rest.len()));
}

/// How often each tag was met; few tags a parent, whatever it holds.
#[derive(Default)]
struct Seen(std::collections::HashMap<Tag, usize>);

impl Seen {
    /// How many of this tag there are now, this one included.
    fn count(&mut self, tag: Tag) -> usize {
        let count = self.0.entry(tag).or_default();
        *count += 1;
        *count
    }
}

/// What a child adds to the path, and what it holds; it is the `count`th of its tag.
fn step(inside: Inside, tag: Tag, count: usize) -> (String, Inside) {
    let numbered = |name: &str, count: usize| if count > 1 { format!("/{name}[{count}]") } else { format!("/{name}") };
    let unknown = || (numbered(&tag.to_string(), count), Inside::Value);
    match inside {
        Inside::Value => unknown(),
        Inside::List(item) => (format!("[{count}]"), *item),
        Inside::Files(kind) => match (tag.0, kind.file_name(tag)) {
            (0xA0, _) => ("/header".to_owned(), PE_HEADER),
            (0x81, _) => ("/templateID".to_owned(), Inside::Value),
            (_, Some(name)) => (numbered(name, count), FILE),
            _ => unknown(),
        },
        Inside::Members(members) => {
            let mut known = members.iter().filter(|(member, _, _)| *member == tag.0);
            let before = known.clone().count();
            match known.nth(count - 1).or(members.iter().rfind(|(member, _, _)| *member == tag.0)) {
                Some((_, name, below)) => (numbered(name, (count + 1).saturating_sub(before.max(1))), *below),
                None => unknown(),
            }
        }
    }
}

impl Inside {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Header => PROFILE_HEADER,
            Kind::GenericFileManagement => GFM,
            Kind::PinCodes => Self::Members(&[HEADER, (0xA1, "pinCodes", PINS)]),
            Kind::PukCodes => PUK_CODES,
            Kind::AkaParameter => AKA,
            Kind::CdmaParameter => CDMA,
            Kind::SecurityDomain => SECURITY_DOMAIN,
            Kind::Rfm => RFM,
            Kind::Application => APPLICATION,
            Kind::NonStandard => {
                Self::Members(&[HEADER, (0x81, "issuerID", Self::Value), (0x82, "content", Self::Value)])
            }
            Kind::End => Self::Members(&[HEADER]),
            kind if kind.is_file_system() => Self::Files(kind),
            _ => Self::Value,
        }
    }
}

const fn value(tag: u32, name: &'static str) -> Member {
    (tag, name, Inside::Value)
}

const PE_HEADER: Inside = Inside::Members(&[value(0x80, "mandated"), value(0x81, "identification")]);
const HEADER: Member = (0xA0, "header", PE_HEADER);
static OCTETS: Inside = Inside::Value;

const PROFILE_HEADER: Inside = Inside::Members(&[
    value(0x80, "major-version"),
    value(0x81, "minor-version"),
    value(0x82, "profileType"),
    value(0x83, "iccid"),
    value(0x84, "pol"),
    value(0xA5, "eUICC-Mandatory-services"),
    (0xA6, "eUICC-Mandatory-GFSTEList", Inside::List(&OCTETS)),
    value(0x87, "connectivityParameters"),
    (0xA8, "eUICC-Mandatory-AIDs", Inside::List(&MANDATORY_AID)),
    (0xA9, "iotOptions", Inside::Members(&[value(0x80, "pix")])),
]);
static MANDATORY_AID: Inside = Inside::Members(&[value(0x80, "aid"), value(0x81, "version")]);

const FCP: Inside = Inside::Members(&[
    value(0x82, "fileDescriptor"),
    value(0x83, "fileID"),
    value(0x84, "dfName"),
    value(0x8A, "lcsi"),
    value(0x8B, "securityAttributesReferenced"),
    value(0x80, "efFileSize"),
    value(0xC6, "pinStatusTemplateDO"),
    value(0x88, "shortEFID"),
    (
        0xA5,
        "proprietaryEFInfo",
        Inside::Members(&[
            value(0xC0, "specialFileInformation"),
            value(0xC1, "fillPattern"),
            value(0xC2, "repeatPattern"),
            value(0x86, "maximumFileSize"),
            value(0x84, "fileDetails"),
        ]),
    ),
    value(0xC7, "linkPath"),
]);
const FILE: Inside = Inside::Members(&[
    value(0x80, "doNotCreate"),
    (0xA1, "fileDescriptor", FCP),
    value(0x82, "fillFileOffset"),
    value(0x83, "fillFileContent"),
]);
const GFM: Inside = Inside::Members(&[HEADER, (0xA1, "fileManagementCMD", Inside::List(&COMMANDS))]);
static COMMANDS: Inside = Inside::Members(&[
    value(0x80, "filePath"),
    (0x62, "createFCP", FCP),
    value(0x02, "fillFileOffset"),
    value(0x81, "fillFileContent"),
]);

const PINS: Inside = Inside::Members(&[(0xA0, "pinconfig", Inside::List(&PIN)), value(0x81, "filePath")]);
static PIN: Inside = Inside::Members(&[
    value(0x80, "keyReference"),
    value(0x81, "pinValue"),
    value(0x82, "unblockingPINReference"),
    value(0x83, "pinAttributes"),
    value(0x84, "maxNumOfAttemps-retryNumLeft"),
]);
const PUK_CODES: Inside = Inside::Members(&[HEADER, (0xA1, "pukCodes", Inside::List(&PUK))]);
static PUK: Inside = Inside::Members(&[
    value(0x80, "keyReference"),
    value(0x81, "pukValue"),
    value(0x82, "maxNumOfAttemps-retryNumLeft"),
]);

const AKA: Inside = Inside::Members(&[
    HEADER,
    (
        0xA1,
        "algoConfiguration",
        Inside::Members(&[
            (0xA0, "mappingParameter", Inside::Members(&[value(0x80, "mappingOptions"), value(0x81, "mappingSource")])),
            (
                0xA1,
                "algoParameter",
                Inside::Members(&[
                    value(0x80, "algorithmID"),
                    value(0x81, "algorithmOptions"),
                    value(0x82, "key"),
                    value(0x83, "opc"),
                    value(0x84, "rotationConstants"),
                    value(0x85, "xoringConstants"),
                    value(0x86, "authCounterMax"),
                    value(0x87, "numberOfKeccak"),
                ]),
            ),
        ]),
    ),
    value(0x82, "sqnOptions"),
    value(0x83, "sqnDelta"),
    value(0x84, "sqnAgeLimit"),
    (0xA5, "sqnInit", Inside::List(&OCTETS)),
    value(0xA6, "ssimParameters"),
]);
const CDMA: Inside = Inside::Members(&[
    HEADER,
    value(0x81, "authenticationKey"),
    value(0x82, "ssd"),
    value(0x83, "hrpdAccessAuthenticationData"),
    value(0x84, "simpleIPAuthenticationData"),
    value(0x85, "mobileIPAuthenticationData"),
]);

const INSTANCE: Inside = Inside::Members(&[
    value(0x4F, "applicationLoadPackageAID"),
    value(0x4F, "classAID"),
    value(0x4F, "instanceAID"),
    value(0x4F, "extraditeSecurityDomainAID"),
    value(0x82, "applicationPrivileges"),
    value(0x83, "lifeCycleState"),
    value(0xC9, "applicationSpecificParametersC9"),
    value(0xEF, "systemSpecificParameters"),
    (
        0xEA,
        "applicationParameters",
        Inside::Members(&[
            value(0x80, "uiccToolkitApplicationSpecificParametersField"),
            value(0x81, "uiccAccessApplicationSpecificParametersField"),
            value(0x82, "uiccAdministrativeAccessApplicationSpecificParametersField"),
        ]),
    ),
    (0x30, "processData", Inside::List(&OCTETS)),
    value(0xB0, "controlReferenceTemplate"),
]);
static INSTANCES: Inside = INSTANCE;
static KEY: Inside = Inside::Members(&[
    value(0x95, "keyUsageQualifier"),
    value(0x96, "keyAccess"),
    value(0x82, "keyIdentifier"),
    value(0x83, "keyVersionNumber"),
    value(0x85, "keyCounterValue"),
    (0x30, "keyComponents", Inside::List(&COMPONENT)),
]);
static COMPONENT: Inside = Inside::Members(&[value(0x80, "keyType"), value(0x86, "keyData"), value(0x87, "macLength")]);
const SECURITY_DOMAIN: Inside = Inside::Members(&[
    HEADER,
    (0xA1, "instance", INSTANCE),
    (0xA2, "keyList", Inside::List(&KEY)),
    (0xA3, "sdPersoData", Inside::List(&OCTETS)),
    value(0xA4, "openPersoData"),
    (0xA5, "catTpParameters", Inside::Members(&[value(0x80, "catTpMaxSduSize"), value(0x81, "catTpMaxPduSize")])),
]);
const APPLICATION: Inside = Inside::Members(&[
    HEADER,
    (
        0xA1,
        "loadBlock",
        Inside::Members(&[
            value(0x4F, "loadPackageAID"),
            value(0x4F, "securityDomainAID"),
            value(0xC6, "nonVolatileCodeLimitC6"),
            value(0xC7, "volatileDataLimitC7"),
            value(0xC8, "nonVolatileDataLimitC8"),
            value(0xC1, "hashValue"),
            value(0xC4, "loadBlockObject"),
        ]),
    ),
    (0xA2, "instanceList", Inside::List(&INSTANCES)),
]);
/// Two `A0` and two `4F` in one sequence: the order tells them apart.
const RFM: Inside = Inside::Members(&[
    HEADER,
    value(0x4F, "instanceAID"),
    value(0x4F, "securityDomainAID"),
    (0xA0, "tarList", Inside::List(&OCTETS)),
    value(0x81, "minimumSecurityLevel"),
    value(0x04, "uiccAccessDomain"),
    value(0x04, "uiccAdminAccessDomain"),
    (
        0x30,
        "adfRFMAccess",
        Inside::Members(&[value(0x80, "adfAID"), value(0x81, "adfAccessDomain"), value(0x82, "adfAdminAccessDomain")]),
    ),
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::source;
    use proptest::prelude::*;

    fn bootstrap() -> Vec<u8> {
        source::build(source::preset("bootstrap").unwrap()).unwrap()
    }

    /// Path of the last octet of the first run of `octets`.
    fn path_to(der: &[u8], octets: &[u8]) -> String {
        let at = der.windows(octets.len()).position(|window| window == octets).unwrap();
        path_of(&Package::parse(der).unwrap(), at + octets.len() - 1)
    }

    #[test]
    fn values_are_named_as_the_module_names_them() {
        let der = bootstrap();
        assert_eq!(path_to(&der, &[0x83, 0x0A, 0x89]), "header/iccid");
        assert_eq!(path_to(&der, &[0x83, 0x09, 0x08, 0x09, 0x10]), "usim/ef-imsi/fillFileContent");
        assert_eq!(path_to(&der, &[0x83, 0x02, 0x6F, 0x07]), "usim/ef-imsi/fileDescriptor/fileID");
        assert_eq!(path_to(&der, &[0x82, 0x02, 0x00, 0x81]), "pinCodes/pinCodes/pinconfig[1]/unblockingPINReference");
        assert_eq!(path_to(&der, &[0x82, 0x01, 0x03]), "securityDomain/keyList[3]/keyIdentifier");
        assert_eq!(path_to(&der, &[0x04, 0x03, 0xB0, 0x00, 0x20]), "rfm/tarList[1]");
        assert_eq!(path_of(&Package::parse(&der).unwrap(), der.len()), "package");
    }

    #[test]
    fn aids_of_one_tag_are_told_apart_by_their_order() {
        let instance = [0x4F, 1, 1, 0x4F, 1, 2, 0x4F, 1, 3, 0x4F, 1, 4];
        let der = [&[0xA6, 18, 0xA0, 2, 0x80, 0, 0xA1, 12][..], &instance].concat();
        let package = Package::parse(&der).unwrap();
        let names = paths_of(&package, &[8, 11, 14, 17]);
        assert_eq!(names[1], "securityDomain/instance/classAID");
        assert_eq!(names[3], "securityDomain/instance/extraditeSecurityDomainAID");
    }

    #[test]
    fn further_entries_of_a_file_and_unknown_members_keep_a_name() {
        let der = [0xB3, 11, 0xA3, 6, 0x83, 1, 7, 0x83, 1, 8, 0x9F, 0x7F, 0, 0xBF, 0x7E, 2, 0x80, 0];
        let names = paths_of(&Package::parse(&der).unwrap(), &[4, 7, 10, 16]);
        assert_eq!(
            names,
            ["usim/ef-imsi/fillFileContent", "usim/ef-imsi/fillFileContent[2]", "usim/9F7F", "[BF7E]/80"]
        );
    }

    proptest! {
        #[test]
        fn one_walk_names_what_single_ones_name(mut offsets in proptest::collection::vec(0..4_000_usize, 0..20)) {
            let der = bootstrap();
            let package = Package::parse(&der).unwrap();
            offsets.sort_unstable();
            let single: Vec<_> = offsets.iter().map(|offset| path_of(&package, *offset)).collect();
            prop_assert_eq!(paths_of(&package, &offsets), single);
        }
    }
}
