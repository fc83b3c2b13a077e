//! What a line sets of remote management and of applets: RFM (SAIP §8.8), security domains (§8.6), application instances (§8.7).
//!
//! They are counted from 1 in package order, so their variables carry a number: `rfm.2.tar`.

use super::work::{Rope, Work};
use super::{Member, member, read_hex, write_hex};
use crate::formats::saip::kind::{constructed, context_number, primitive};
use crate::formats::tlv::{Reader, Tag, wrap};
use crate::personalise::compile::TemplateError;
use crate::personalise::rope::Node;

/// Before the numbers of the variables.
pub(super) const RFM: &str = "rfm.";
pub(super) const DOMAIN: &str = "sd.";
pub(super) const PROCESS_DATA: &str = "process_data.";

/// `rfm.N.tar`, the `tarList` of the Nth RFM, A7/A0 (the second of this tag): 3 octets each. Without one the TAR is octets 13 to 15 of
/// the AID.
struct Tars;

/// `rfm.N.msl`, `minimumSecurityLevel` of the Nth RFM, A7/81: 1 octet, the first of the SPI that a packet must have at least.
struct SecurityLevel;

/// `sd.N.msl`, the minimum security level in the toolkit parameters of the Nth security domain, A6/A1/EA/80: `02 01 level` behind
/// priority, timers, menu entries and channels.
struct ToolkitLevel;

/// `process_data.N`, `processData` of the Nth application instance, A8/A2/30/30: command APDUs that personalise the applet, any number
/// and length. They may hold keys, so no message shows them.
struct ProcessData;

/// TARs of one RFM at most; octets of one APDU with header and Le; APDUs of one instance at most.
const MOST_TARS: usize = 64;
const APDU: std::ops::RangeInclusive<usize> = 4..=261;
const MOST_APDUS: usize = 256;
const LIST: Tag = Tag(0x30);
const OCTETS: Tag = Tag(0x04);
const TOOLKIT: Tag = Tag(0x80);

impl Member for Tars {
    fn name(&self) -> &'static str {
        "rfm.N.tar"
    }

    fn form(&self) -> &'static str {
        "hex of 3 octets each, with commas, such as: B20100,B20101"
    }

    fn clause(&self) -> &'static str {
        "SAIP §8.8, ETSI TS 101 220 §7.3"
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0xA0)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        list(Tag(0xA0), text, MOST_TARS, |tar| tar.len() == 3)
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        listed(given)
    }
}

impl Member for SecurityLevel {
    fn name(&self) -> &'static str {
        "rfm.N.msl"
    }

    fn form(&self) -> &'static str {
        LEVEL
    }

    fn clause(&self) -> &'static str {
        "SAIP §8.8, ETSI TS 102 225 §5.1.1"
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0x81)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        Some(member(Tag(0x81), &[level(text)?]))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        Reader::new(given).next_tlv().ok()?.map(|tlv| write_hex(tlv.value))
    }
}

impl Member for ToolkitLevel {
    fn name(&self) -> &'static str {
        "sd.N.msl"
    }

    fn form(&self) -> &'static str {
        LEVEL
    }

    fn clause(&self) -> &'static str {
        "ETSI TS 102 226 §8.2.1.3.2.2.1"
    }

    fn tags(&self) -> &[Tag] {
        &[TOOLKIT]
    }

    fn encode(&self, text: &str, given: &[u8]) -> Option<Vec<u8>> {
        let (before, _, behind) = toolkit(given)?;
        Some(wrap(TOOLKIT, &[before, &[2, 1, level(text)?], behind]))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        match toolkit(given)?.1 {
            [1, level] => Some(write_hex(&[*level])),
            _ => None,
        }
    }
}

impl Member for ProcessData {
    fn name(&self) -> &'static str {
        "process_data.N"
    }

    fn form(&self) -> &'static str {
        "hex of command APDUs of 4 to 261 octets, with commas"
    }

    fn clause(&self) -> &'static str {
        "SAIP §8.7.3, GlobalPlatform Card Specification §11.11"
    }

    fn tags(&self) -> &[Tag] {
        &[LIST]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        list(LIST, text, MOST_APDUS, |apdu| APDU.contains(&apdu.len()))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        listed(given)
    }

    fn is_secret(&self) -> bool {
        true
    }

    /// Only the controlReferenceTemplate stands behind it.
    fn is_before(&self, tag: Tag) -> bool {
        context_number(tag) == Some(16)
    }
}

const LEVEL: &str = "hex of 1 octet, such as: 16";

fn level(text: &str) -> Option<u8> {
    match read_hex(text)?[..] {
        [level] => Some(level),
        _ => None,
    }
}

/// OCTET STRINGs of a list, from hex with commas.
fn list(tag: Tag, text: &str, most: usize, sound: fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let items: Vec<Vec<u8>> = text.split(',').map(read_hex).collect::<Option<_>>()?;
    let is_sound = items.len() <= most && items.iter().all(|item| sound(item));
    let items: Vec<Vec<u8>> = items.iter().map(|item| member(OCTETS, item)).collect();
    is_sound.then(|| wrap(tag, &items.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

fn listed(given: &[u8]) -> Option<String> {
    let mut items = Reader::new(given).next_tlv().ok()??.children();
    let mut texts = Vec::new();
    while let Some(item) = items.next_tlv().ok()? {
        texts.push(write_hex(item.value));
    }
    Some(texts.join(","))
}

/// Toolkit parameters as what stands before the field of the security level, its octets, and what stands behind.
fn toolkit(given: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let value = Reader::new(given).next_tlv().ok()??.value;
    // Priority, timers, length of menu texts, number of menu entries with position and identifier each, channels.
    let before = 5 + 2 * usize::from(*value.get(3)?);
    let (before, rest) = value.split_at_checked(before)?;
    let (len, rest) = rest.split_first()?;
    let (level, behind) = rest.split_at_checked(usize::from(*len))?;
    Some((before, level, behind))
}

impl Work<'_> {
    /// The references and the level of one RFM. Trap: its header has the tag of the `tarList`.
    pub(super) fn rfm<'t>(&mut self, place: &str, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        self.rfms += 1;
        let number = self.rfms;
        let header = node.children().filter(|members| !members.is_empty()).map(|members| members.remove(0));
        self.numbered(&format!("{RFM}{number}.tar"), place, node, &Tars)?;
        self.numbered(&format!("{RFM}{number}.msl"), place, node, &SecurityLevel)?;
        if let (Some(members), Some(header)) = (node.children(), header) {
            members.insert(0, header);
        }
        Ok(())
    }

    /// The level of one security domain, where its toolkit parameters have one.
    pub(super) fn toolkit_level<'t>(&mut self, place: &str, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        let Some(parameters) = node.descend(&[constructed(1), Tag(0xEA)]) else { return Ok(()) };
        let given =
            parameters.child(primitive(0)).and_then(|field| field.octets()).map(|octets| member(TOOLKIT, octets));
        if given.is_none_or(|given| toolkit(&given).is_none()) {
            return Ok(());
        }
        let number = usize::from(self.domains) + 1;
        self.numbered(&format!("{DOMAIN}{number}.msl"), place, parameters, &ToolkitLevel)
    }

    /// The commands for each instance of an application.
    pub(super) fn application<'t>(&mut self, place: &str, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        let instances = node.child(constructed(2)).and_then(Node::children);
        for instance in instances.into_iter().flatten() {
            self.instances += 1;
            self.numbered(&format!("{PROCESS_DATA}{}", self.instances), place, instance, &ProcessData)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_back_as_they_are_written() {
        let tars = Tars.encode("B20100,b20101", &[]).unwrap();
        assert_eq!(tars, [0xA0, 10, 4, 3, 0xB2, 1, 0, 4, 3, 0xB2, 1, 1]);
        assert_eq!(Tars.decode(&tars).as_deref(), Some("B20100,B20101"));
        let long = "80E20000FF".to_owned() + &"5A".repeat(255);
        let apdus = ProcessData.encode(&format!("80E2800001 07,{long}"), &[]).unwrap();
        assert_eq!(apdus[..12], [0x30, 0x82, 1, 16, 4, 6, 0x80, 0xE2, 0x80, 0, 1, 7]);
        assert_eq!(ProcessData.decode(&apdus), Some(format!("80E280000107,{long}")));
        for wrong in ["", "B201", "B20100,", "B20100;B20101"] {
            assert_eq!(Tars.encode(wrong, &[]), None, "{wrong}");
        }
        for wrong in ["", "80E200", &"00".repeat(262), "80E2000,0"] {
            assert_eq!(ProcessData.encode(wrong, &[]), None, "{wrong}");
        }
    }

    #[test]
    fn the_level_of_a_security_domain_stands_among_its_toolkit_parameters() {
        // Two menu entries, level 16, one TAR.
        let given = [0x80, 16, 1, 0, 9, 2, 1, 0x81, 2, 0x82, 0, 2, 1, 0x16, 3, 0xB2, 1, 0];
        assert_eq!(ToolkitLevel.decode(&given).as_deref(), Some("16"));
        let made = ToolkitLevel.encode("0E", &given).unwrap();
        assert_eq!((made[13], made.len()), (0x0E, given.len()));
        assert_eq!(made.iter().zip(given).filter(|(one, other)| *one != other).count(), 1);
        // No level at all gets one.
        let without = [0x80, 7, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(ToolkitLevel.encode("16", &without).unwrap(), [0x80, 9, 1, 0, 0, 0, 0, 2, 1, 0x16, 0]);
        for damaged in [&[0x80, 2, 1, 0][..], &[0x80, 6, 1, 0, 0, 9, 0, 0], &[0x80, 6, 1, 0, 0, 0, 0, 9], &[]] {
            assert_eq!(ToolkitLevel.encode("16", damaged), None);
        }
        assert_eq!(ToolkitLevel.encode("1601", &given), None);
    }
}
