//! Network access applications (USIM, ISIM, CSIM) with everything that extends them, and the files one can count on there.
//!
//! Trap: a file exists because an element names it, because the template of its application creates it unasked, or because a
//! GenericFileManagement makes it. Only the first has a content that can be read here. Source: SAIP §8.1.3, §8.3.5, §9.

use std::collections::{HashMap, HashSet};

use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

/// Octets read of a file whose content is checked. Longer than any of them; a hostile size must cost no time.
const MOST_CONTENT: usize = 1_024;

/// One application and its files.
pub(super) struct Application<'p, 'a> {
    /// The element that creates the ADF.
    pub(super) base: &'p Element<'a>,
    files: HashMap<&'static str, (&'p Element<'a>, Tlv<'a>)>,
    /// File ids that GenericFileManagement elements create below the ADF.
    made: HashSet<u16>,
}

/// The applications of these kinds, in their order.
pub(super) fn applications<'p, 'a>(package: &'p Package<'a>, kinds: &[Kind]) -> Vec<Application<'p, 'a>> {
    let mut all: Vec<Application<'p, 'a>> = Vec::new();
    let mut latest: HashMap<Kind, usize> = HashMap::new();
    let mut by_file_id: HashMap<u16, usize> = HashMap::new();
    for element in &package.elements {
        if element.kind == Kind::GenericFileManagement {
            for made in Made::by(element) {
                if let (Some(at), Some(id)) = (made.root.and_then(|root| by_file_id.get(&root)), made.file_id()) {
                    all[*at].made.insert(id);
                }
            }
            continue;
        }
        let Some(base) = base_of(element.kind) else { continue };
        if element.kind == base {
            latest.insert(base, all.len());
            by_file_id.extend(adf(element).and_then(|adf| file_id(&adf)).map(|id| (id, all.len())));
            all.push(Application { base: element, files: HashMap::new(), made: HashSet::new() });
        }
        let Some(application) = latest.get(&base).map(|at| &mut all[*at]) else { continue };
        for tlv in children(&element.tlv) {
            if let Some(name) = element.kind.file_name(tlv.tag) {
                application.files.entry(name).or_insert((element, tlv));
            }
        }
    }
    all.retain(|application| kinds.contains(&application.base.kind));
    all
}

/// The element that an element of this kind extends, or itself when it creates an application.
pub(super) fn base_of(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Usim | Kind::Isim | Kind::Csim | Kind::Iot => Some(kind),
        Kind::OptUsim
        | Kind::GsmAccess
        | Kind::Phonebook
        | Kind::Df5gs
        | Kind::DfSaip
        | Kind::DfSnpn
        | Kind::Df5gprose => Some(Kind::Usim),
        Kind::OptIsim => Some(Kind::Isim),
        Kind::OptCsim => Some(Kind::Csim),
        Kind::OptIot => Some(Kind::Iot),
        _ => None,
    }
}

/// The file control parameters of the ADF that an element creates.
pub(super) fn adf<'a>(element: &Element<'a>) -> Option<Tlv<'a>> {
    let file = ["adf-usim", "adf-isim", "adf-csim"].iter().find_map(|name| element.file(name))?;
    FileView::single(&file)?.descriptor
}

/// AID of the ADF that an element creates; that of an IoT Minimal Profile is the USIM's RID and application code with the PIX of
/// the header (SAIP §8.2.1).
pub(super) fn aid(package: &Package<'_>, element: &Element<'_>) -> Option<Vec<u8>> {
    if element.kind == Kind::Iot {
        let options = package.elements.first().filter(|first| first.kind == Kind::Header)?.member(constructed(9))?;
        return Some([&USIM_AID[..], child(&options, Tag(0x80))?.value].concat());
    }
    adf(element).and_then(|adf| child(&adf, Tag(0x84))).map(|name| name.value.to_vec())
}

const USIM_AID: [u8; 7] = [0xA0, 0x00, 0x00, 0x00, 0x87, 0x10, 0x02];

/// The octets of a file, and where they stand.
pub(super) struct Content<'p, 'a> {
    pub(super) element: &'p Element<'a>,
    pub(super) offset: usize,
    pub(super) view: FileView<'a>,
}

impl Content<'_, '_> {
    /// The first octets as far as the package gives them, at most [`MOST_CONTENT`].
    pub(super) fn octets(&self) -> Vec<u8> {
        let end = self.view.size().unwrap_or_else(|| self.view.written_len().max(self.pattern_len()));
        self.view.content(end.min(MOST_CONTENT)).into_iter().map_while(|octet| octet).collect()
    }

    fn pattern_len(&self) -> usize {
        self.view.pattern().map_or(0, |(pattern, _)| pattern.len())
    }
}

impl<'p, 'a> Application<'p, 'a> {
    /// A file that the package describes and that is created.
    pub(super) fn given(&self, name: &str) -> Option<Content<'p, 'a>> {
        let (element, tlv) = self.files.get(name)?;
        let view = FileView::single(tlv).filter(|view| !view.do_not_create)?;
        Some(Content { element, offset: tlv.offset, view })
    }

    /// The element and place of a file that the package names, whatever it says about it.
    pub(super) fn named(&self, name: &str) -> Option<(&'p Element<'a>, Tlv<'a>)> {
        self.files.get(name).copied()
    }

    /// A file that is there when the profile is installed. `id`: its identifier, for those a GenericFileManagement makes.
    pub(super) fn exists(&self, name: &str, id: u16) -> bool {
        match self.files.get(name) {
            Some((_, tlv)) => !FileView::all(tlv).iter().any(|view| view.do_not_create),
            None => self.base.kind.file_number(name).is_some() || self.made.contains(&id),
        }
    }

    /// A service of the service table `table`, as far as the package gives the octet. Services count from 1.
    pub(super) fn has_service(&self, table: &str, service: usize) -> bool {
        self.given(table).is_some_and(|table| is_set(&table.octets(), service))
    }
}

/// A service of a table that is read already.
pub(super) fn is_set(table: &[u8], service: usize) -> bool {
    let at = service - 1;
    table.get(at / 8).is_some_and(|octet| octet >> (at % 8) & 1 == 1)
}

/// A file that a GenericFileManagement creates.
pub(super) struct Made<'a> {
    /// Identifier of the DF or ADF directly below the MF that it lies in or is; `None` for an EF of the MF.
    pub(super) root: Option<u16>,
    pub(super) descriptor: Tlv<'a>,
}

impl<'a> Made<'a> {
    /// The files an element creates, in order.
    pub(super) fn by(element: &Element<'a>) -> Vec<Self> {
        Self::walk(element).0
    }

    /// As [`Made::by`], and the root where the element ends.
    pub(super) fn walk(element: &Element<'a>) -> (Vec<Self>, Option<u16>) {
        let mut made = Vec::new();
        let mut root = None;
        let commands = element.member(constructed(1)).into_iter().flat_map(|list| children(&list));
        for entry in commands.flat_map(|command| children(&command)) {
            if entry.tag == GFM_PATH {
                let path = entry.value.strip_prefix(&[0x3F, 0x00]).unwrap_or(entry.value);
                root = path.first_chunk::<2>().map(|id| u16::from_be_bytes(*id));
            } else if entry.tag == GFM_TAGS.descriptor {
                // A created DF becomes the current one.
                if root.is_none() && child(&entry, Tag(0x82)).is_some_and(|descriptor| is_df(descriptor.value)) {
                    root = file_id(&entry);
                }
                made.push(Self { root, descriptor: entry });
            }
        }
        (made, root)
    }

    pub(super) fn file_id(&self) -> Option<u16> {
        file_id(&self.descriptor)
    }
}

fn is_df(descriptor: &[u8]) -> bool {
    descriptor.first().is_some_and(|octet| octet & 0x38 == 0x38 && octet & 0x07 == 0)
}

pub(super) fn file_id(descriptor: &Tlv<'_>) -> Option<u16> {
    child(descriptor, Tag(0x83)).and_then(|id| id.value.try_into().ok()).map(u16::from_be_bytes)
}
