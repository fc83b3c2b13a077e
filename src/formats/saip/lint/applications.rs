//! Network access applications (USIM, ISIM, CSIM) with the files one can count on in each.
//!
//! In: the files a package makes ([`super::tree`]). Out: for each application its files by name, whichever of its elements makes
//! them, and the identifiers of those that GenericFileManagement adds. Source: SAIP §8.1.3, §9.

use std::collections::{HashMap, HashSet};

use super::tree::Made;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Element;

/// Octets read of a file whose content is checked. Longer than any of them; a hostile size must cost no time.
const MOST_CONTENT: usize = 1_024;

/// One application and its files.
pub(super) struct Application<'p, 'a> {
    /// The element that creates the ADF.
    pub(super) base: Element<'a>,
    /// The files of each of its elements.
    parts: Vec<&'p [Made<'a>]>,
    /// Identifiers of the files that GenericFileManagement makes below the ADF.
    generic: HashSet<u16>,
}

/// The applications of these kinds, in their order.
pub(super) fn applications<'p, 'a>(made: &'p [Made<'a>], kinds: &[Kind]) -> Vec<Application<'p, 'a>> {
    let mut all: Vec<Application<'p, 'a>> = Vec::new();
    let mut latest: HashMap<Kind, usize> = HashMap::new();
    let mut by_fid: HashMap<u16, usize> = HashMap::new();
    for part in made.chunk_by(|one, next| one.element.number == next.element.number) {
        let element = part[0].element;
        if element.kind == Kind::GenericFileManagement {
            for path in part.iter().filter_map(|file| file.path.as_deref()) {
                let [adf, .., fid] = path else { continue };
                if let Some(at) = by_fid.get(adf) {
                    all[*at].generic.insert(*fid);
                }
            }
            continue;
        }
        let Some(base) = base_of(element.kind) else { continue };
        if element.kind == base {
            latest.insert(base, all.len());
            let adf = part.iter().find(|file| file.name.starts_with("adf-"));
            by_fid.extend(adf.and_then(Made::fid).map(|fid| (fid, all.len())));
            all.push(Application { base: element, parts: Vec::new(), generic: HashSet::new() });
        }
        if let Some(at) = latest.get(&base) {
            all[*at].parts.push(part);
        }
    }
    all.retain(|application| kinds.contains(&application.base.kind));
    all
}

/// The element that an element of this kind extends, or itself when it creates an application.
fn base_of(kind: Kind) -> Option<Kind> {
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

impl<'p, 'a> Application<'p, 'a> {
    /// A file that is there when the profile is installed; its content is known as far as [`octets`] tells.
    pub(super) fn file(&self, name: &str) -> Option<&'p Made<'a>> {
        self.files().find(|file| file.name == name)
    }

    /// All of its files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = &'p Made<'a>> + use<'p, 'a> {
        self.parts.clone().into_iter().flatten()
    }

    /// GenericFileManagement makes a file with this identifier below the ADF.
    pub(super) fn makes(&self, fid: u16) -> bool {
        self.generic.contains(&fid)
    }

    /// The file is there, under its name or made by GenericFileManagement with this identifier.
    pub(super) fn has(&self, name: &str, fid: u16) -> bool {
        self.makes(fid) || self.file(name).is_some()
    }

    /// The octets of a service table; none when the package does not give it.
    pub(super) fn services(&self, table: &str) -> Vec<u8> {
        self.file(table).map(octets).unwrap_or_default()
    }
}

/// The first octets of a file, from the package and from its template where that is silent, up to the first that neither gives;
/// at most [`MOST_CONTENT`].
pub(super) fn octets(file: &Made<'_>) -> Vec<u8> {
    let len = file.size().unwrap_or_else(|| file.view.written_len()).min(MOST_CONTENT);
    let mut content = file.view.content(len);
    if let Some(fill) = file.template.and_then(|template| template.fill).filter(|_| file.view.pattern().is_none()) {
        fill.complete(&mut content, file.record_len());
    }
    content.into_iter().map_while(|octet| octet).collect()
}
