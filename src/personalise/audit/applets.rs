//! Reads what a line may set of remote management and of applets.

use zeroize::Zeroizing;

use super::found::{Found, Parameter};
use super::hex;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{Element, child, children};
use crate::formats::tlv::{Tag, Tlv};

/// Elements and instances met so far.
#[derive(Default)]
pub(super) struct Counts {
    rfms: usize,
    domains: usize,
    instances: usize,
}

impl Counts {
    /// References and level of an RFM. Its header is the first of two members A0.
    pub(super) fn rfm(&mut self, element: &Element<'_>, found: &mut Found) {
        self.rfms += 1;
        let list = children(&element.tlv).filter(|member| member.tag == constructed(0)).nth(1);
        put(found, format!("rfm.{}.tar", self.rfms), element, list.map(|list| items(&list)));
        let level = element.member(primitive(1)).map(|level| hex(level.value));
        put(found, format!("rfm.{}.msl", self.rfms), element, level);
    }

    /// Level in the toolkit parameters of a security domain.
    pub(super) fn domain(&mut self, element: &Element<'_>, found: &mut Found) {
        self.domains += 1;
        let level = || {
            let toolkit = child(&child(&element.member(constructed(1))?, Tag(0xEA))?, primitive(0))?.value;
            let entries = usize::from(*toolkit.get(3)?);
            match toolkit.get(5 + 2 * entries..)? {
                [2, 1, level, ..] => Some(hex(&[*level])),
                _ => None,
            }
        };
        put(found, format!("sd.{}.msl", self.domains), element, level());
    }

    /// Commands for every instance of an application.
    pub(super) fn application(&mut self, element: &Element<'_>, found: &mut Found) {
        for instance in element.member(constructed(2)).iter().flat_map(children) {
            self.instances += 1;
            let commands = child(&instance, Tag(0x30)).map(|list| items(&list));
            put(found, format!("process_data.{}", self.instances), element, commands);
        }
    }
}

fn put(found: &mut Found, name: String, element: &Element<'_>, text: Option<String>) {
    let text = Zeroizing::new(text.unwrap_or_default());
    found.parameters.push(Parameter { name, place: element.label(), text });
}

fn items(list: &Tlv<'_>) -> String {
    children(list).map(|item| hex(item.value)).collect::<Vec<_>>().join(",")
}
