//! Keys and parameters of the authentication: akaParameter (SAIP §8.4.2) and cdmaParameter (SAIP §8.4.3).

use super::work::{Rope, Work, place};
use super::{About, Field, Member, member, read_hex, write_hex};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::Element;
use crate::formats::tlv::{Reader, Tag, wrap};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::Secret;
use crate::personalise::rope::Part;

/// K. A4/A1/A1/82 of every akaParameter with an algoParameter: 16 octets, with TUAK 16 or 32.
const K: About<'_> = About { name: "k", source: "generated", form: "16 or 32 octets", clause: CLAUSE };
/// OPc or TOPc. A4/A1/A1/83: 16 octets with Milenage, 32 with TUAK.
const OPC: About<'_> = About {
    name: "opc",
    source: "generated",
    form: "16 octets with Milenage, derived from OP where there is one; 32 with TUAK",
    clause: "3GPP TS 35.206 §4.1, SAIP §8.4.2",
};
/// A-key of CAVE. A5/81: 8 octets.
const A_KEY: About<'_> = About { name: "a_key", source: "generated", form: "8 octets", clause: "SAIP §8.4.3" };
/// Shared secret data A and B. A5/82, where the template has some: 16 octets.
const SSD: About<'_> = About { name: "ssd", source: "generated", form: "16 octets", clause: "SAIP §8.4.3" };

const CLAUSE: &str = "SAIP §8.4.2";

/// Variables of the algoParameter, in the order of their tags. They only apply to Milenage but for `authCounterMax`.
const OF_MILENAGE: [&dyn Member; 2] = [&ROTATION_CONSTANTS, &XORING_CONSTANTS];
/// Variables of the akaParameter, in the order of their tags.
const OF_AKA: [&dyn Member; 3] = [&SQN_DELTA, &SQN_AGE_LIMIT, &SqnInit];

/// A member of fixed length, in hex.
struct Octets {
    name: &'static str,
    tag: Tag,
    form: &'static str,
    default: &'static [u8],
    len: usize,
    sound: fn(&[u8]) -> bool,
}

/// `rotationConstants` r1 to r5, A4/A1/A1/84: 5 octets below 128.
const ROTATION_CONSTANTS: Octets = Octets {
    name: "rotation_constants",
    tag: Tag(0x84),
    form: "hex of 5 octets below 80",
    default: &[0x40, 0x00, 0x20, 0x40, 0x60],
    len: 5,
    sound: |octets| octets.iter().all(|octet| *octet < 128),
};

/// `xoringConstants` c1 to c5, A4/A1/A1/85: 80 octets.
const XORING_CONSTANTS: Octets = Octets {
    name: "xoring_constants",
    tag: Tag(0x85),
    form: "hex of 80 octets: c1 to c5, no two alike",
    default: &XORING_DEFAULT,
    len: 80,
    // With two of them alike two of the functions give one output (3GPP TS 35.206 §5.3).
    sound: |octets| {
        let rows: Vec<&[u8]> = octets.chunks(16).collect();
        rows.iter().enumerate().all(|(at, row)| !rows[at + 1..].contains(row))
    },
};

const XORING_DEFAULT: [u8; 80] = {
    let mut octets = [0; 80];
    octets[31] = 1;
    octets[47] = 2;
    octets[63] = 4;
    octets[79] = 8;
    octets
};

/// `authCounterMax`, A4/A1/A1/86: 3 octets, authentications before the key is blocked; absent: no limit.
const AUTH_COUNTER_MAX: Octets =
    Octets { name: "auth_counter_max", tag: Tag(0x86), form: "hex of 3 octets", default: &[], len: 3, sound: |_| true };

/// `sqnDelta`, A4/83: 6 octets, how far a sequence number may be ahead.
const SQN_DELTA: Octets = Octets {
    name: "sqn_delta",
    tag: Tag(0x83),
    form: "hex of 6 octets up to 07FFFFFFFFFF",
    default: &[0, 0, 0x10, 0, 0, 0],
    len: 6,
    sound: is_sqn,
};

/// `sqnAgeLimit`, A4/84: 6 octets, how far a sequence number may be behind.
const SQN_AGE_LIMIT: Octets = Octets {
    name: "sqn_age_limit",
    tag: Tag(0x84),
    form: "hex of 6 octets up to 07FFFFFFFFFF",
    default: &[0, 0, 0x10, 0, 0, 0],
    len: 6,
    sound: is_sqn,
};

/// `sqnInit`, A4/A5: 32 times 6 octets without IND, one for each index; absent: all zero. It adds 260 octets to the element.
struct SqnInit;

/// Sequence numbers have 43 bits: the 5 bits of IND are not among them.
fn is_sqn(octets: &[u8]) -> bool {
    octets.first().is_some_and(|octet| *octet < 0x08)
}

impl Member for Octets {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> &'static str {
        self.form
    }

    fn clause(&self) -> &'static str {
        CLAUSE
    }

    fn tags(&self) -> &[Tag] {
        std::slice::from_ref(&self.tag)
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let octets = read_hex(text).filter(|octets| octets.len() == self.len && (self.sound)(octets))?;
        Some(if octets == self.default { Vec::new() } else { member(self.tag, &octets) })
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        let octets = Reader::new(given).next_tlv().ok()?.map_or(self.default, |tlv| tlv.value);
        (!octets.is_empty()).then(|| write_hex(octets))
    }
}

impl Member for SqnInit {
    fn name(&self) -> &'static str {
        "sqn"
    }

    fn form(&self) -> &'static str {
        "hex of 6 octets up to 07FFFFFFFFFF, or 32 of them with commas"
    }

    fn clause(&self) -> &'static str {
        CLAUSE
    }

    fn tags(&self) -> &[Tag] {
        &[Tag(0xA5)]
    }

    fn encode(&self, text: &str, _: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<Vec<u8>> = text.split(',').map(read_hex).collect::<Option<_>>()?;
        if !values.iter().all(|value| value.len() == 6 && is_sqn(value)) {
            return None;
        }
        let values = match &values[..] {
            [one] => vec![one.clone(); 32],
            all if all.len() == 32 => values,
            _ => return None,
        };
        if values.iter().flatten().all(|octet| *octet == 0) {
            return Some(Vec::new());
        }
        let members: Vec<Vec<u8>> = values.iter().map(|value| member(Tag(0x04), value)).collect();
        Some(wrap(Tag(0xA5), &members.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }

    fn decode(&self, given: &[u8]) -> Option<String> {
        let Some(list) = Reader::new(given).next_tlv().ok()? else { return Some("000000000000".into()) };
        let (mut values, mut reader) = (Vec::new(), list.children());
        while let Some(value) = reader.next_tlv().ok()? {
            values.push(write_hex(value.value));
        }
        let one = values.first().filter(|first| values.len() == 32 && values.iter().all(|value| value == *first));
        one.cloned().or_else(|| (values.len() == 32).then(|| values.join(",")))
    }
}

impl Work<'_> {
    /// An algoParameter gets algorithm, K, OPc and what the line sets of the rest; a mappingParameter points at one that does.
    pub(super) fn aka_parameter<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        if node.descend(&[constructed(1), constructed(0)]).is_some() {
            return Ok(());
        }
        let wrong = |what: &str| place(element, element.tlv.offset, what);
        let algo = node.descend(&[constructed(1), constructed(1)]).ok_or_else(|| wrong("has no algoParameter"))?;
        let algorithm = self.settings.algorithm;
        let k = self.layout.slot(Secret::K, self.k_len);
        let opc = self.layout.slot(Secret::Opc, algorithm.opc_len());
        let members = [
            (primitive(0), "algorithmID", Part::made(vec![algorithm.id()])),
            (primitive(2), "key", Part::Gap(self.k_len, Field::Secret(k))),
            (primitive(3), "opc", Part::Gap(algorithm.opc_len(), Field::Secret(opc))),
        ];
        for (tag, name, part) in members {
            algo.child(tag).ok_or_else(|| wrong(&format!("algoParameter has no {name}")))?.set(part);
        }
        // numberOfKeccak: its default holds.
        if let Some(members) = algo.children() {
            members.retain(|member| member.tag() != Some(primitive(7)));
        }
        let label = element.label();
        self.found(&K, self.k_len, &label, None);
        self.found(&OPC, algorithm.opc_len(), &label, None);
        // TUAK has neither: a variable for them is then left over.
        if algorithm == Algorithm::Milenage {
            for variable in OF_MILENAGE {
                self.member(&label, algo, variable)?;
            }
            self.same_constants(element, algo)?;
        }
        self.member(&label, algo, &AUTH_COUNTER_MAX)?;
        for variable in OF_AKA {
            self.member(&label, node, variable)?;
        }
        Ok(())
    }

    /// One subscription has one Milenage: with other constants in another application the network would refuse that one.
    fn same_constants<'t>(&mut self, element: &Element<'t>, algo: &mut Rope<'t>) -> Result<(), TemplateError> {
        let mut constants = Vec::new();
        for variable in [&ROTATION_CONSTANTS, &XORING_CONSTANTS] {
            let given = algo.child(variable.tag).and_then(|member| member.octets().map(<[u8]>::to_vec));
            constants.extend(given.unwrap_or_else(|| variable.default.to_vec()));
        }
        match &self.constants {
            Some(first) if *first != constants => {
                Err(place(element, element.tlv.offset, "has other Milenage constants than the application before"))
            }
            _ => {
                self.constants = Some(constants);
                Ok(())
            }
        }
    }

    /// The A-key, and the shared secret data where the template has some. The access data of HRPD, simple and mobile IP behind
    /// them have a form of the operator's and stay: lint rule A07 tells of them.
    pub(super) fn cdma_parameter<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        for (number, about, secret, len) in [(1, A_KEY, Secret::AKey, 8), (2, SSD, Secret::Ssd, 16)] {
            let member = node.child(primitive(number));
            let Some(member) = member else {
                if secret == Secret::AKey {
                    return Err(place(element, element.tlv.offset, "has no authenticationKey"));
                }
                continue;
            };
            let slot = self.layout.slot(secret, len);
            member.set(Part::Gap(len, Field::Secret(slot)));
            self.found(&about, len, &element.label(), None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(variable: &dyn Member, text: &str) -> Option<Vec<u8>> {
        variable.encode(text, &[])
    }

    #[test]
    fn a_default_is_left_out_and_read_back() {
        for (variable, text) in [
            (&ROTATION_CONSTANTS as &dyn Member, "4000204060"),
            (&SQN_DELTA, "000010000000"),
            (&SQN_AGE_LIMIT, "000010000000"),
            (&SqnInit, "000000000000"),
        ] {
            assert_eq!(encoded(variable, text), Some(Vec::new()), "{}", variable.name());
            assert_eq!(variable.decode(&[]).as_deref(), Some(text));
        }
        assert_eq!(encoded(&XORING_CONSTANTS, &write_hex(&XORING_DEFAULT)), Some(Vec::new()));
        assert_eq!(AUTH_COUNTER_MAX.decode(&[]), None);
    }

    #[test]
    fn other_values_are_members_of_their_length() {
        assert_eq!(encoded(&ROTATION_CONSTANTS, "0102030405").unwrap(), [0x84, 5, 1, 2, 3, 4, 5]);
        assert_eq!(encoded(&AUTH_COUNTER_MAX, "00FFFF").unwrap(), [0x86, 3, 0, 0xFF, 0xFF]);
        assert_eq!(encoded(&SQN_AGE_LIMIT, "07ffffffffff").unwrap(), [0x84, 6, 7, 255, 255, 255, 255, 255]);
        let xoring = encoded(&XORING_CONSTANTS, &(1..=80).map(|i| format!("{i:02X}")).collect::<String>()).unwrap();
        assert_eq!((&xoring[..3], xoring.len()), (&[0x85, 80, 1][..], 82));
        for (variable, wrong) in [
            (&ROTATION_CONSTANTS as &dyn Member, "0102030480"),
            (&ROTATION_CONSTANTS, "01020304"),
            (&XORING_CONSTANTS, &"00".repeat(80)),
            (&SQN_DELTA, "080000000000"),
            (&SqnInit, "080000000000"),
            (&SqnInit, "000000000001,000000000002"),
            (&AUTH_COUNTER_MAX, ""),
        ] {
            assert_eq!(encoded(variable, wrong), None, "{}", variable.name());
        }
    }

    #[test]
    fn one_sequence_number_stands_for_all_and_every_index_may_have_its_own() {
        let one = encoded(&SqnInit, "00000000002A").unwrap();
        assert_eq!((&one[..4], &one[4..12], one.len()), (&[0xA5, 0x82, 1, 0][..], &[4, 6, 0, 0, 0, 0, 0, 42][..], 260));
        assert_eq!(SqnInit.decode(&one).as_deref(), Some("00000000002A"));
        let each = (0..32).map(|i| format!("{i:012X}")).collect::<Vec<_>>().join(",");
        let octets = encoded(&SqnInit, &each).unwrap();
        assert_eq!(&octets[252..], [4, 6, 0, 0, 0, 0, 0, 31]);
        assert_eq!(SqnInit.decode(&octets), Some(each));
    }
}
