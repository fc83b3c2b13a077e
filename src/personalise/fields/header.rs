//! Members of the ProfileHeader (SAIP §8.2.1): card number, name, policy rules, connectivity, mandated services.

use super::identity::ICCID;
use super::work::{Rope, Work, place};
use super::{Field, Member, member, read_hex, write_hex};
use crate::formats::saip::kind::{constructed, context_number, primitive};
use crate::formats::saip::package::Element;
use crate::formats::saip::services::ALGORITHM_SERVICES;
use crate::formats::tlv::{Reader, Tag};
use crate::personalise::compile::TemplateError;
use crate::personalise::rope::{Node, Part};

/// The variables of the header, in the order of their tags.
pub(super) const MEMBERS: [&dyn Member; 3] = [&ProfileType, &Pol, &ConnectivityParameters];

/// `profileType`, A0/82: UTF8String of 1 to 100 characters.
struct ProfileType;

/// `pol`, A0/84: the policy rules of the issuer.
struct Pol;

/// `connectivityParameters`, A0/87: COMPREHENSION-TLVs for the bearer of remote management (ETSI TS 102 223).
struct ConnectivityParameters;

const CLAUSE: &str = "SAIP §8.2.1";

impl Member for ProfileType {
    fn name(&self) -> &'static str {
        "profile_type"
    }

    fn form(&self) -> &'static str {
        "text of 1 to 100 characters"
    }

    fn clause(&self) -> &'static str {
        CLAUSE
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0x82)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let sound = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        sound.then(|| member(Tag(0x82), text.as_bytes()))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        String::from_utf8(value(given)?.to_vec()).ok()
    }
}

impl Member for Pol {
    fn name(&self) -> &'static str {
        "pol"
    }

    fn form(&self) -> &'static str {
        "hex of 1 to 255 octets"
    }

    fn clause(&self) -> &'static str {
        CLAUSE
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0x84)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let octets = read_hex(text).filter(|octets| (1..=255).contains(&octets.len()))?;
        Some(member(Tag(0x84), &octets))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        value(given).map(write_hex)
    }
}

impl Member for ConnectivityParameters {
    fn name(&self) -> &'static str {
        "connectivity_parameters"
    }

    fn form(&self) -> &'static str {
        "hex of 1 to 1,024 octets"
    }

    fn clause(&self) -> &'static str {
        CLAUSE
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0x87)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let octets = read_hex(text).filter(|octets| (1..=1_024).contains(&octets.len()))?;
        Some(member(Tag(0x87), &octets))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        value(given).map(write_hex)
    }
}

fn value(given: &[u8]) -> Option<&[u8]> {
    Reader::new(given).next_tlv().ok().flatten().map(|tlv| tlv.value)
}

impl Work<'_> {
    pub(super) fn header<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        if self.has("iccid", "header") {
            return Err(place(element, element.tlv.offset, "is a second header"));
        }
        let iccid = node.child(primitive(3)).ok_or_else(|| place(element, element.tlv.offset, "has no iccid"))?;
        iccid.set(Part::Gap(10, Field::IccidHeader));
        self.found(&ICCID, 10, "header", None);
        for variable in MEMBERS {
            self.member("header", node, variable)?;
        }
        let services = node.child(constructed(5)).and_then(Node::children);
        let services = services.ok_or_else(|| place(element, element.tlv.offset, "has no eUICC-Mandatory-services"))?;
        let number = |node: &Rope<'_>| node.tag().and_then(context_number).unwrap_or(u8::MAX);
        services.retain(|service| !ALGORITHM_SERVICES.contains(&number(service)));
        let own = if self.k_len == 32 { TUAK256 } else { self.settings.algorithm.service() };
        let at = services.iter().position(|service| number(service) > own).unwrap_or(services.len());
        services.insert(at, Node::Value(primitive(own), Vec::new()));
        Ok(())
    }
}

/// The service of a TUAK key of 256 bits.
const TUAK256: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variable: &dyn Member, good: &[(&str, &[u8])], bad: &[&str]) {
        for (text, octets) in good {
            assert_eq!(variable.encode(text, &[]).as_deref(), Some(*octets), "{text}");
            assert_eq!(variable.decode(octets).as_deref(), Some(*text));
        }
        bad.iter().for_each(|text| assert_eq!(variable.encode(text, &[]), None, "{text}"));
    }

    #[test]
    fn members_of_the_header_are_coded_as_der() {
        let long = "x".repeat(101);
        check(&ProfileType, &[("Fleet", b"\x82\x05Fleet")], &["", &long, "a\nb"]);
        check(&Pol, &[("8106", &[0x84, 2, 0x81, 6])], &["", "8", "zz"]);
        let bearer = [0x87, 5, 0x35, 3, 1, 2, 3];
        check(&ConnectivityParameters, &[("3503010203", &bearer)], &["350", "", &"00".repeat(1_025)]);
    }
}
