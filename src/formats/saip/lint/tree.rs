//! The files a package makes, each with its path: by its templates, unasked by templates that are created by default, and by
//! GenericFileManagement.
//!
//! In: a package. Out: [`Made`] files in the order in which the eUICC makes them. Rule: one pass, and no more memory than the
//! package has members. Source: SAIP §8.3.

use crate::formats::saip::catalogue::{FileTemplate, Form, Template};
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed, context_number};
use crate::formats::saip::package::{Element, Package, child, children};
use crate::formats::tlv::{Tag, Tlv};

/// One file that the eUICC makes, or is told not to make.
pub(super) struct Made<'a> {
    /// The element that makes it.
    pub(super) element: Element<'a>,
    /// Its ASN.1 name; `file` when GenericFileManagement makes it.
    pub(super) name: &'static str,
    /// File identifiers from the MF down, an ADF by its temporary one; the MF's is empty. `None` where one is not known.
    pub(super) path: Option<Vec<u16>>,
    /// What the package says of it.
    pub(super) view: FileView<'a>,
    /// What the template says of it.
    pub(super) template: Option<&'static FileTemplate>,
    /// The package names it; else the template makes it unasked.
    pub(super) named: bool,
    /// Where the package speaks of it.
    pub(super) offset: usize,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    Transparent,
    LinearFixed,
    Cyclic,
    BerTlv,
}

impl Shape {
    /// Of the first octet of a file descriptor (ETSI TS 102 222 §6.3.2.2.2); `None` where its bits say nothing defined.
    pub(super) fn of(descriptor: u8) -> Option<Self> {
        // Bit 7: shareable. Bit 8 is zero.
        match descriptor & 0xBF {
            0x38 => Some(Self::Directory),
            0x39 => Some(Self::BerTlv),
            0x01 | 0x09 => Some(Self::Transparent),
            0x02 | 0x0A => Some(Self::LinearFixed),
            0x06 | 0x0E => Some(Self::Cyclic),
            _ => None,
        }
    }

    pub(super) fn has_records(self) -> bool {
        matches!(self, Self::LinearFixed | Self::Cyclic)
    }

    fn of_form(form: Form) -> Self {
        match form {
            Form::Mf | Form::Adf | Form::Df => Self::Directory,
            Form::Transparent { .. } => Self::Transparent,
            Form::LinearFixed { .. } => Self::LinearFixed,
            Form::Cyclic { .. } => Self::Cyclic,
            Form::BerTlv => Self::BerTlv,
        }
    }
}

impl<'a> Made<'a> {
    pub(super) fn shape(&self) -> Option<Shape> {
        let given = self.view.parameter(Tag(0x82)).and_then(|descriptor| Shape::of(*descriptor.value.first()?));
        given.or(self.template.map(|template| Shape::of_form(template.form)))
    }

    pub(super) fn is_directory(&self) -> bool {
        self.shape() == Some(Shape::Directory)
    }

    /// Where it links to, when it is a link.
    pub(super) fn link(&self) -> Option<Tlv<'a>> {
        self.view.parameter(Tag(0xC7)).filter(|path| !path.value.is_empty())
    }

    /// Octets of one record.
    pub(super) fn record_len(&self) -> Option<usize> {
        self.view.record_len().or(self.template.and_then(FileTemplate::record_len))
    }

    /// Octets of the file, as given or as the template has it.
    pub(super) fn size(&self) -> Option<usize> {
        self.view.size().or_else(|| {
            let template = self.template?;
            match (template.size(), template.record_len(), self.view.record_len()) {
                (Some(size), Some(of_template), Some(given)) if of_template > 0 => Some(size / of_template * given),
                (size, _, _) => size,
            }
        })
    }

    /// Its short file identifier, given or derived (SAIP §8.3.3).
    pub(super) fn short_id(&self) -> Option<u8> {
        match (self.view.parameter(Tag(0x88)), self.template) {
            (Some(given), _) => given.value.first().map(|octet| octet >> 3),
            (None, Some(template)) => template.sfi,
            (None, None) => self.fid().map(|fid| fid as u8 & 0x1F).filter(|sfi| (1..=30).contains(sfi)),
        }
    }

    /// Its file identifier.
    pub(super) fn fid(&self) -> Option<u16> {
        self.path.as_ref()?.last().copied()
    }

    /// EF.ARR and record of its access rule: given, or the template's. The identifier is absent where it follows from the place.
    pub(super) fn access_rule(&self) -> Option<(Option<u16>, u8)> {
        match self.view.parameter(Tag(0x8B)).map(|given| given.value) {
            Some([record]) => Some((None, *record)),
            Some([high, low, record]) => Some((Some(u16::from_be_bytes([*high, *low])), *record)),
            Some(_) => None,
            None => Some((None, self.template?.arr?)),
        }
    }
}

/// Every file of the package, in order.
pub(super) fn made<'a>(package: &Package<'a>) -> Vec<Made<'a>> {
    let mut tree = Tree::default();
    for element in &package.elements {
        match element.kind {
            Kind::GenericFileManagement => tree.generic(element),
            kind if kind.is_file_system() => tree.of_template(element),
            _ => {}
        }
    }
    tree.files
}

/// A link path, or `None` when it is not pairs of octets.
pub(super) fn path(octets: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = octets.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

/// The identifier of "the current ADF" (ETSI TS 102 221 §8.3), for one whose temporary identifier the package leaves out.
const CURRENT_ADF: u16 = 0x7FFF;

/// Files made unasked beyond which no more are counted; a hostile package could name a template by the thousand, a profile names
/// a handful.
const MOST_UNASKED: usize = 1_000;

#[derive(Default)]
struct Tree<'a> {
    files: Vec<Made<'a>>,
    /// How many of them the templates make unasked.
    unasked: usize,
    usim: Option<Vec<u16>>,
    isim: Option<Vec<u16>>,
    csim: Option<Vec<u16>>,
    /// The ADF made last.
    last: Option<Vec<u16>>,
}

impl<'a> Tree<'a> {
    /// Where the files of an element go before it makes a directory of its own.
    fn base(&self, kind: Kind) -> Option<Vec<u16>> {
        match kind {
            Kind::Mf | Kind::Cd | Kind::Telecom | Kind::Iot => Some(Vec::new()),
            Kind::OptIsim => self.isim.clone(),
            Kind::OptCsim => self.csim.clone(),
            Kind::Eap => self.last.clone(),
            _ => self.usim.clone(),
        }
    }

    fn of_template(&mut self, element: &Element<'a>) {
        let kind = element.kind;
        let template = Template::of(element);
        let mut members: Vec<Vec<Tlv<'a>>> = vec![Vec::new(); kind.files().len()];
        for tlv in children(&element.tlv).filter(|tlv| tlv.tag.is_constructed()) {
            // Behind the header and the templateID.
            let at = context_number(tlv.tag).and_then(|number| number.checked_sub(2));
            if let Some(member) = at.and_then(|at| members.get_mut(usize::from(at))) {
                member.push(tlv);
            }
        }
        let base = self.base(kind);
        // Directories of an element stand below its root, EFs in the directory before them.
        let (mut root, mut current) = (base.clone(), base);
        for (name, member) in kind.files().iter().copied().zip(members) {
            let facts = template.and_then(|template| template.file(name));
            let views: Vec<_> = member.iter().flat_map(|tlv| views(tlv).map(move |view| (view, tlv.offset))).collect();
            let by_default = facts.is_some() && template.is_some_and(|template| template.created_by_default);
            let unasked = member.is_empty() && by_default && self.unasked < MOST_UNASKED;
            self.unasked += usize::from(unasked);
            let named = !unasked;
            let views = if unasked { vec![(FileView::default(), element.tlv.offset)] } else { views };
            for (count, (view, offset)) in views.into_iter().enumerate() {
                let offset = view.descriptor.map_or(offset, |fcp| fcp.offset);
                let path = match name {
                    "mf" => Some(Vec::new()),
                    _ if name.starts_with("adf-") => Some(vec![given_fid(&view).unwrap_or(CURRENT_ADF)]),
                    _ => {
                        let parent = if name.starts_with("df-") { &root } else { &current };
                        let fid = given_fid(&view).or_else(|| nth_fid(facts?, count));
                        parent.as_ref().zip(fid).map(|(parent, fid)| below(parent, fid))
                    }
                };
                if name == "mf" || name.starts_with("adf-") || (name.starts_with("df-") && kind.files()[0] == name) {
                    root.clone_from(&path);
                }
                if name == "mf" || name.starts_with("adf-") || name.starts_with("df-") {
                    current.clone_from(&path);
                }
                self.enter(name, &path);
                self.files.push(Made { element: *element, name, path, view, template: facts, named, offset });
            }
        }
    }

    fn enter(&mut self, name: &str, path: &Option<Vec<u16>>) {
        match name {
            "adf-usim" => self.usim.clone_from(path),
            "adf-isim" => self.isim.clone_from(path),
            "adf-csim" => self.csim.clone_from(path),
            "adf-ssim" => {}
            _ => return,
        }
        self.last.clone_from(path);
    }

    fn generic(&mut self, element: &Element<'a>) {
        let commands = child(&element.tlv, constructed(1)).into_iter().flat_map(|list| children(&list));
        for command in commands {
            let mut directory = Some(Vec::new());
            let mut section: Vec<Tlv<'a>> = Vec::new();
            for entry in children(&command) {
                if entry.tag == GFM_TAGS.descriptor || entry.tag == GFM_PATH {
                    self.section(element, &section, &mut directory);
                    section.clear();
                }
                if entry.tag == GFM_PATH {
                    directory = path(entry.value);
                } else {
                    section.push(entry);
                }
            }
            self.section(element, &section, &mut directory);
        }
    }

    /// One `createFCP` and the writes behind it; a directory it makes becomes the current one.
    fn section(&mut self, element: &Element<'a>, section: &[Tlv<'a>], directory: &mut Option<Vec<u16>>) {
        let Some(view) = FileView::of_gfm_section(section) else { return };
        let offset = view.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset);
        let is_adf = view.parameter(Tag(0x84)).is_some();
        let path = match given_fid(&view) {
            Some(0x3F00) => Some(Vec::new()),
            Some(fid) if is_adf => Some(vec![fid]),
            Some(fid) => directory.as_ref().map(|parent| below(parent, fid)),
            None => None,
        };
        let file = Made { element: *element, name: "file", path, view, template: None, named: true, offset };
        if file.is_directory() {
            directory.clone_from(&file.path);
            if is_adf {
                self.last.clone_from(&file.path);
            }
        }
        self.files.push(file);
    }
}

/// The files of a member; none where it is not to be created.
fn views<'a>(member: &Tlv<'a>) -> impl Iterator<Item = FileView<'a>> + use<'a> {
    FileView::all(member).into_iter().filter(|view| !view.do_not_create)
}

fn given_fid(view: &FileView<'_>) -> Option<u16> {
    view.file_id().and_then(|fid| fid.try_into().ok()).map(u16::from_be_bytes)
}

/// The template's identifier of the file that stands at this place among its namesakes.
fn nth_fid(facts: &FileTemplate, count: usize) -> Option<u16> {
    let fid = facts.fid?.checked_add(u16::try_from(count).ok()?)?;
    (count == 0 || facts.last_fid.is_some_and(|last| fid <= last)).then_some(fid)
}

/// No path of a file system is longer: an EF in a DF in a DF in an ADF.
const MAX_DEPTH: usize = 8;

fn below(parent: &[u16], fid: u16) -> Vec<u16> {
    // Directories made one in the other by the thousand would cost memory by the square.
    let parent = &parent[..parent.len().min(MAX_DEPTH)];
    [parent, &[fid]].concat()
}
