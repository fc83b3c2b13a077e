//! Keys of the security domains (SAIP §8.6.3), and key sets that a line asks for.

use super::work::{Rope, Work, place};
use super::{About, Field};
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{Element, child};
use crate::formats::tlv::{Reader, Tag};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::{OtaKey, Secret};
use crate::personalise::rope::{Node, Part};
use crate::personalise::settings::VarSource;

const CLAUSE: &str = "SAIP §8.6.3, GlobalPlatform Card Specification §11.1.8";
const FORM: &str = "aes-16, aes-24, aes-32, 3des-16, 3des-24 or tls-psk-16 to tls-psk-64";

/// Key types (GlobalPlatform Card Specification §11.1.8).
const DES: u8 = 0x80;
const TLS_PSK: u8 = 0x85;
const AES: u8 = 0x88;
/// Octets of the shortest key: DES.
const SHORTEST: usize = 8;

/// A key set that the line asks for, variable `keyset.NN` with the key version NN: keys of the first security domain, A6/A2. They are
/// resized where the domain has them and inserted where it has not, random for each record.
///
/// KVN 01-0F is SCP80 (3DES or AES), 20-2F SCP02 (3DES), 30-3F SCP03 (AES), each with the keys 1 to 3; 40-4F is SCP81 with the
/// TLS-PSK as key 1 and an AES-128 DEK as key 2.
#[derive(Debug, PartialEq, Eq)]
struct KeySet {
    version: u8,
    keys: Vec<KeySpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeySpec {
    id: u8,
    key_type: u8,
    len: usize,
    /// Key usage qualifier (GlobalPlatform Card Specification §11.1.9).
    usage: u8,
}

impl KeySet {
    /// `None`: no variable of a key set, or not of the form.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX)?;
        let version = u8::from_str_radix(digits, 16).ok().filter(|version| format!("{version:02X}") == digits)?;
        let (word, len) = text.rsplit_once('-')?;
        let len: usize = len.parse().ok()?;
        let key_type = match (word, version, len) {
            ("3des", 0x01..=0x0F | 0x20..=0x2F, 16 | 24) => DES,
            ("aes", 0x01..=0x0F | 0x30..=0x3F, 16 | 24 | 32) => AES,
            ("tls-psk", 0x40..=0x4F, 16..=64) => TLS_PSK,
            _ => return None,
        };
        let spec = |id, key_type, len, usage| KeySpec { id, key_type, len, usage };
        let keys = if key_type == TLS_PSK {
            vec![spec(1, TLS_PSK, len, 0x3C), spec(2, AES, 16, 0x48)]
        } else {
            vec![spec(1, key_type, len, 0x18), spec(2, key_type, len, 0x14), spec(3, key_type, len, 0x48)]
        };
        Some(Self { version, keys })
    }

    /// The secure channel protocol that its version is for and that a domain must offer: SCP03 and SCP81.
    fn listed_protocol(&self) -> Option<u8> {
        match self.version {
            0x30..=0x3F => Some(0x03),
            0x40..=0x4F => Some(0x81),
            _ => None,
        }
    }
}

/// Before the key version of a key set's variable.
pub(super) const PREFIX: &str = "keyset.";

impl Work<'_> {
    pub(super) fn security_domain<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let sets = if self.domains == 0 { self.key_sets()? } else { Vec::new() };
        protocols_are_listed(element, &sets)?;
        let has_keys = node.child(constructed(2)).is_some();
        if let (Some(list), false, false) = (node.children(), has_keys, sets.is_empty()) {
            let at = list.iter().position(|member| member.tag() > Some(constructed(2))).unwrap_or(list.len());
            list.insert(at, Node::Group(constructed(2), Vec::new()));
        }
        let Some(keys) = node.child(constructed(2)).and_then(Node::children) else { return Ok(()) };
        for set in &sets {
            for spec in &set.keys {
                let is_it = |key: &mut Rope<'t>| name_of(key) == Some((spec.id, set.version));
                match keys.iter_mut().find_map(|key| is_it(key).then_some(key)) {
                    Some(key) => resize(key, spec),
                    None => keys.push(made(set.version, spec)),
                }
            }
        }
        keys.iter_mut().try_for_each(|key| self.key(element, key))
    }

    /// The key sets of the line.
    fn key_sets(&mut self) -> Result<Vec<KeySet>, TemplateError> {
        let mut sets = Vec::new();
        for (name, source) in self.settings.vars.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let wrong = |what: String| TemplateError::Variable { name: name.clone(), what };
            let VarSource::Constant(text) = source else {
                return Err(wrong("is the line's: the keys are drawn for each record, their kind is not".to_owned()));
            };
            let set = KeySet::parse(name, text).ok_or_else(|| {
                wrong(format!(
                    "{text:?} is not {FORM}, or not for this version: 01-0F 3des or aes, 20-2F 3des, 30-3F aes, 40-4F tls-psk"
                ))
            })?;
            self.source(name, "line vars");
            sets.push(set);
        }
        Ok(sets)
    }

    /// Every secret component of one KeyObject.
    fn key<'t>(&mut self, element: &Element<'t>, key: &mut Rope<'t>) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        let (id, version) = name_of(key).ok_or_else(|| wrong("a key has no id or version".into()))?;
        let components = key.child(Tag(0x30)).and_then(Node::children);
        for (at, component) in components.into_iter().flatten().enumerate() {
            let key_type = octet(component, 0).ok_or_else(|| wrong("a key component has no type".into()))?;
            match key_type {
                0x80..=0x85 | 0x88 | 0x90..=0x92 => {}
                // Public keys, curve references and public RSA parts are no secrets.
                0xA0 | 0xA1 | 0xB0 | 0xB2 | 0xB4 | 0xF0 => continue,
                other => {
                    let what =
                        format!("key {version:02X}/{id:02X} has type {other:02X}, which cannot be made per card");
                    return Err(wrong(what));
                }
            }
            let data = component.child(primitive(6)).ok_or_else(|| wrong("a key component has no data".into()))?;
            let len = data.octets().map_or(0, |octets| octets.len());
            if len < SHORTEST {
                return Err(wrong(format!("key {version:02X}/{id:02X} has {len} octets, which anybody can guess")));
            }
            let name = OtaKey { domain: self.domains, version, id, key_type, component: at as u8 };
            let slot = self.layout.new_slot(Secret::Ota(name), len);
            self.secrets_are_few(element)?;
            data.set(Part::Gap(len, Field::Secret(slot)));
            let name = format!("ota {version:02X}/{id:02X}");
            let about = About { name: &name, source: "generated", form: "random octets", clause: CLAUSE };
            self.found(&about, len, &element.label(), None);
        }
        Ok(())
    }
}

/// The install parameters list SCP03 and SCP81 where the line orders key sets for them, or list nothing; else nobody could ever use
/// these keys (GlobalPlatform Card Specification §11.1: tag 81 in C9 holds pairs of protocol and i).
fn protocols_are_listed(element: &Element<'_>, sets: &[KeySet]) -> Result<(), TemplateError> {
    let parameters = element.member(constructed(1)).and_then(|instance| child(&instance, Tag(0xC9)));
    let mut reader = Reader::new(parameters.map_or(&[][..], |parameters| parameters.value));
    let mut listed: Vec<u8> = Vec::new();
    while let Ok(Some(tlv)) = reader.next_tlv() {
        if tlv.tag == Tag(0x81) {
            listed.extend(tlv.value.chunks(2).map(|pair| pair[0]));
        }
    }
    let unlisted = sets.iter().filter(|_| !listed.is_empty()).find_map(|set| {
        let protocol = set.listed_protocol().filter(|protocol| !listed.contains(protocol))?;
        Some((set.version, protocol))
    });
    let Some((version, protocol)) = unlisted else { return Ok(()) };
    let what = format!(
        "is for SCP{protocol:02X}, which {} does not list in its C9: list it there in the template (tag 81, protocol and i)",
        element.label()
    );
    Err(TemplateError::Variable { name: format!("{PREFIX}{version:02X}"), what })
}

/// Key identifier and version of a KeyObject.
fn name_of(key: &mut Rope<'_>) -> Option<(u8, u8)> {
    Some((octet(key, 2)?, octet(key, 3)?))
}

fn octet(parent: &mut Rope<'_>, number: u8) -> Option<u8> {
    parent.child(primitive(number))?.octets()?.first().copied()
}

/// The first component gets another type and length; its usage stays the template's.
fn resize(key: &mut Rope<'_>, spec: &KeySpec) {
    let component = key.child(Tag(0x30)).and_then(|components| components.children()?.first_mut());
    let Some(component) = component else { return };
    if let Some(key_type) = component.child(primitive(0)) {
        key_type.set(Part::made(vec![spec.key_type]));
    }
    if let Some(data) = component.child(primitive(6)) {
        data.set(Part::made(vec![0; spec.len]));
    }
}

/// A KeyObject: keyAccess and macLength are their defaults.
fn made(version: u8, spec: &KeySpec) -> Rope<'static> {
    let value = |tag, octets| Node::Value(tag, vec![Part::made(octets)]);
    let component = Node::Group(
        Tag(0x30),
        vec![
            value(primitive(0), vec![spec.key_type]), //
            value(primitive(6), vec![0; spec.len]),
        ],
    );
    Node::Group(
        Tag(0x30),
        vec![
            value(primitive(21), vec![spec.usage]),
            value(primitive(2), vec![spec.id]),
            value(primitive(3), vec![version]),
            Node::Group(Tag(0x30), vec![component]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_follows_from_its_version() {
        let parsed = |name: &str, text: &str| {
            let set = KeySet::parse(name, text)?;
            Some(set.keys.iter().map(|key| (key.id, key.key_type, key.len, key.usage)).collect::<Vec<_>>())
        };
        let three = |key_type, len| vec![(1, key_type, len, 0x18), (2, key_type, len, 0x14), (3, key_type, len, 0x48)];
        assert_eq!(parsed("keyset.0A", "aes-32").unwrap(), three(AES, 32));
        assert_eq!(parsed("keyset.20", "3des-24").unwrap(), three(DES, 24));
        assert_eq!(parsed("keyset.40", "tls-psk-32").unwrap(), [(1, TLS_PSK, 32, 0x3C), (2, AES, 16, 0x48)]);
        for (name, text) in [
            ("keyset.01", "aes-17"),
            ("keyset.20", "aes-16"),
            ("keyset.30", "3des-16"),
            ("keyset.40", "aes-16"),
            ("keyset.40", "tls-psk-15"),
            ("keyset.70", "aes-16"),
            ("keyset.1", "aes-16"),
            ("keyset.+1", "aes-16"),
            ("keyset.0a", "aes-16"),
            ("keyset.01", "aes"),
        ] {
            assert_eq!(parsed(name, text), None, "{name} {text}");
        }
    }
}
