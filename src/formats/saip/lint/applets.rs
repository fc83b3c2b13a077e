//! Instances on the card and who answers for them: S04 (hierarchy of security domains), R01 and R02 (remote file management), J01
//! (applets). Source: SAIP §8.6 to §8.8; GlobalPlatform Card Specification 2.3; Java Card VM Specification §6.3 (Header component).

use std::collections::HashSet;

use openssl::sha;

use super::keys::{is_personalised, toolkit};
use super::structure::element_files;
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "S04",
        severity: Severity::Error,
        why: "the eUICC refuses an instance that it shall hand to a security domain which is not there or not ready",
        hint: "personal data for open access only in the MNO-SD; extradite to an earlier domain in life cycle state 0F",
        check: hierarchy,
    },
    Rule {
        id: "R01",
        severity: Severity::Error,
        why: "the eUICC refuses the element, or an OTA packet reaches something else than was meant",
        hint: "give each RFM its own TARs of three octets, an ADF of this package and a defined security domain",
        check: remote_file_management,
    },
    Rule {
        id: "R02",
        severity: Severity::Warning,
        why: "no OTA packet can be addressed to it: the TAR is in octets 13 to 15 of the AID, which has fewer",
        hint: "add a tarList, or use an AID of 15 octets or more",
        check: without_reference,
    },
    Rule {
        id: "J01",
        severity: Severity::Error,
        why: "the eUICC refuses the applet, and with a mandated element the whole profile",
        hint: "put the components of a CAP file (IJC, not the JAR) into loadBlockObject; hash them again after each change",
        check: applets,
    },
];

const AID: Tag = Tag(0x4F);

/// The AIDs of an instance or load package, in their order.
fn aids<'a>(holder: &Tlv<'a>) -> Vec<Tlv<'a>> {
    children(holder).filter(|tlv| tlv.tag == AID).collect()
}

/// Instances of an element: the one of a security domain, those of an application.
fn instances<'a>(element: &Element<'a>) -> Vec<Tlv<'a>> {
    match element.kind {
        Kind::SecurityDomain => element.member(constructed(1)).into_iter().collect(),
        Kind::Application => element.member(constructed(2)).iter().flat_map(children).collect(),
        _ => Vec::new(),
    }
}

fn defined_domains<'a>(package: &Package<'a>) -> HashSet<&'a [u8]> {
    let instances = package.of(Kind::SecurityDomain).flat_map(instances);
    instances.filter_map(|instance| aids(&instance).get(2).map(|aid| aid.value)).collect()
}

/// S04 E (SAIP §8.6.2, §8.6.3): what only the MNO-SD has, and where instances are extradited to.
fn hierarchy(package: &Package<'_>, report: &mut Report<'_>) {
    let mut domains: HashSet<&[u8]> = HashSet::new();
    let mut ready: HashSet<&[u8]> = HashSet::new();
    let mut is_first = true;
    for element in &package.elements {
        let is_mno = element.kind == Kind::SecurityDomain && std::mem::take(&mut is_first);
        for (tag, name) in [(4, "openPersoData"), (5, "catTpParameters")] {
            let member = element.member(constructed(tag)).or(element.member(primitive(tag)));
            if let Some(member) = member.filter(|_| element.kind == Kind::SecurityDomain && !is_mno) {
                report.at(element, member.offset, format!("{name} is for the first security domain alone"));
            }
        }
        for instance in instances(element) {
            let aids = aids(&instance);
            match aids.get(3) {
                Some(target) if is_mno => {
                    report.at(
                        element,
                        target.offset,
                        "the MNO-SD cannot be extradited: no security domain is above it",
                    );
                }
                Some(target) if !domains.contains(target.value) => {
                    report.at(
                        element,
                        target.offset,
                        "is extradited to a security domain that is not defined before it",
                    );
                }
                Some(target) if !ready.contains(target.value) => {
                    report.at(element, target.offset, "is extradited to a security domain that is not PERSONALIZED");
                }
                _ => {}
            }
            if let Some(own) = aids.get(2).filter(|_| element.kind == Kind::SecurityDomain) {
                domains.insert(own.value);
                if is_personalised(&instance) {
                    ready.insert(own.value);
                }
            }
        }
    }
}

/// R01 E (SAIP §8.8): TARs, ADF and security domain of each RFM instance; a TAR reaches one instance of the package.
fn remote_file_management(package: &Package<'_>, report: &mut Report<'_>) {
    let adfs: HashSet<&[u8]> = package
        .elements
        .iter()
        .flat_map(element_files)
        .filter_map(|file| file.parameter(Tag(0x84)).map(|name| name.value))
        .collect();
    let domains = defined_domains(package);
    let mut references: HashSet<&[u8]> = HashSet::new();
    for instance in package.elements.iter().flat_map(instances) {
        references.extend(toolkit(&instance).iter().flat_map(|(_, toolkit)| toolkit.references.chunks_exact(3)));
    }
    for element in package.of(Kind::Rfm) {
        for reference in reference_list(element).iter().flat_map(children) {
            if reference.value.len() != 3 {
                report.at(element, reference.offset, format!("a TAR has {} octets", reference.value.len()));
            } else if !references.insert(reference.value) {
                report.at(element, reference.offset, "the TAR is taken by another instance");
            }
        }
        if let Some(domain) = aids(&element.tlv).get(1).filter(|aid| !domains.contains(aid.value)) {
            report.at(element, domain.offset, "its security domain is not defined in this package");
        }
        let access = child(&element.tlv, Tag(0x30)).and_then(|access| child(&access, primitive(0)));
        if let Some(adf) = access.filter(|adf| !adfs.contains(adf.value)) {
            report.at(element, adf.offset, "its ADF is not in this package");
        }
    }
}

/// Two A0 and two 4F stand in an RFM: the first A0 is the PE header, the second the list of TARs.
fn reference_list<'a>(rfm: &Element<'a>) -> Option<Tlv<'a>> {
    children(&rfm.tlv).filter(|tlv| tlv.tag == constructed(0)).nth(1)
}

/// Octets of an AID that holds a TAR (ETSI TS 101 220 Annex D: RID 5, application code 4, country and provider, then the TAR).
const AID_WITH_TAR: usize = 15;

/// R02 W (SAIP §8.8): without a list the TAR comes from the AID.
fn without_reference(package: &Package<'_>, report: &mut Report<'_>) {
    for element in package.of(Kind::Rfm) {
        let is_listed = reference_list(element).is_some_and(|list| !list.value.is_empty());
        if let Some(aid) = aids(&element.tlv).first().filter(|aid| !is_listed && aid.value.len() < AID_WITH_TAR) {
            report.at(
                element,
                aid.offset,
                format!("there is no tarList, and instanceAID has {} octets", aid.value.len()),
            );
        }
    }
}

/// The package of security domains is on every eUICC (GlobalPlatform Card Specification UICC Configuration §4.3).
const DOMAIN_PACKAGE: &[u8] = &[0xA0, 0x00, 0x00, 0x01, 0x51, 0x53, 0x50];

/// J01 E (SAIP §8.7): load block, its hash, and AIDs.
fn applets(package: &Package<'_>, report: &mut Report<'_>) {
    let on_card = package.of(Kind::Header).next().and_then(|header| header.member(constructed(8)));
    let mut packages: HashSet<&[u8]> = on_card.iter().flat_map(children).map(|aid| aid.value).collect();
    packages.insert(DOMAIN_PACKAGE);
    for element in package.of(Kind::Application) {
        let block = element.member(constructed(1));
        let instances = instances(element);
        if block.is_none() && instances.is_empty() {
            report.on(element, "has neither a loadBlock nor an instance");
        }
        if let Some(block) = block {
            check_load_block(element, &block, report);
            packages.extend(aids(&block).first().map(|aid| aid.value));
        }
        for instance in instances {
            let aids = aids(&instance);
            check_aids(element, &aids, report);
            if let Some(unknown) = aids.first().filter(|aid| !packages.contains(aid.value)) {
                let message = "its package is neither loaded before it nor in eUICC-Mandatory-AIDs";
                report.at(element, unknown.offset, message);
            }
        }
    }
}

fn check_aids(element: &Element<'_>, aids: &[Tlv<'_>], report: &mut Report<'_>) {
    for aid in aids.iter().filter(|aid| !(5..=16).contains(&aid.value.len())) {
        report.at(element, aid.offset, format!("an AID has {} octets, not 5 to 16", aid.value.len()));
    }
}

fn check_load_block(element: &Element<'_>, block: &Tlv<'_>, report: &mut Report<'_>) {
    check_aids(element, &aids(block), report);
    let Some(object) = child(block, Tag(0xC4)) else {
        report.at(element, block.offset, "the loadBlock has no loadBlockObject");
        return;
    };
    if !is_converted_applet(object.value) {
        let message = "loadBlockObject does not begin with the Header component of a CAP file: 01, size, DECAFFED";
        report.at(element, object.offset, message);
    }
    let Some(hash) = child(block, Tag(0xC1)).filter(|hash| !hash.value.is_empty()) else { return };
    match digest(object.value, hash.value.len()) {
        None => report.at(element, hash.offset, format!("no hash function makes {} octets", hash.value.len())),
        Some(expected) if expected != hash.value => {
            report.at(element, hash.offset, "hashValue is not the hash of loadBlockObject");
        }
        Some(_) => {}
    }
}

/// Tag 01, two octets of size, the magic number.
fn is_converted_applet(block: &[u8]) -> bool {
    matches!(block, [0x01, _, _, 0xDE, 0xCA, 0xFF, 0xED, ..])
}

/// The hash of a load block by the length of its result (GlobalPlatform Card Specification 2.3 §C.2).
fn digest(block: &[u8], len: usize) -> Option<Vec<u8>> {
    match len {
        20 => Some(sha::sha1(block).to_vec()),
        32 => Some(sha::sha256(block).to_vec()),
        48 => Some(sha::sha384(block).to_vec()),
        64 => Some(sha::sha512(block).to_vec()),
        _ => None,
    }
}
