//! The file-system templates of SAIP Annex B: which files they hold, with identifiers, sizes and defaults.
//!
//! In: the last arcs of a template's OID (2.23.143.1.2.x). Out: its files as the eUICC makes them where the package is silent.
//! Rule: facts only, one family of files each; a later version of a template is the earlier one plus a list of what changed.
//! Sources: SAIP §9 and Annex B, 3GPP TS 31.102, 31.103, 51.011, 3GPP2 C.S0065 and C.S0074, ETSI TS 102 221.

mod csim;
mod five_g;
mod iot;
mod isim;
mod mf;
mod opt_usim;
mod telecom;
mod usim;

use super::kind::{Kind, primitive};
use super::package::Element;

/// One template.
#[derive(Debug)]
pub struct Template {
    /// Last arcs of its OID: `[13, 4]` is 2.23.143.1.2.13.4.
    pub oid_tail: &'static [u8],
    /// The element it belongs to.
    pub kind: Kind,
    /// The SAIP version that introduced it, major and minor.
    pub since: (u8, u8),
    /// The eUICC makes every file of it, also those the package does not name.
    pub created_by_default: bool,
    /// Its files; what stands in a later list replaces what stands in an earlier one.
    lists: &'static [&'static [FileTemplate]],
}

/// What a template says about one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTemplate {
    /// Its ASN.1 name.
    pub name: &'static str,
    /// Its file identifier, or the first of a range; an ADF has a temporary one of the package.
    pub fid: Option<u16>,
    /// The last identifier of a range, for files that exist several times.
    pub last_fid: Option<u16>,
    /// What kind of file, and how large.
    pub form: Form,
    /// Its access rule: a record of EF.ARR, numbered as SAIP §9.9 does. `None` where this version does not know it.
    pub arr: Option<u8>,
    /// Its short file identifier.
    pub sfi: Option<u8>,
    /// What it is filled with when the package gives no content.
    pub fill: Option<Fill>,
    /// The package must give its content.
    pub content_required: bool,
    /// Updated often: the eUICC puts it into memory that stands it.
    pub high_update: bool,
}

/// The kind of a file; a size that is `None` must be given by the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The master file.
    Mf,
    /// An application dedicated file: AID and temporary file identifier come from the package.
    Adf,
    /// A dedicated file.
    Df,
    /// A transparent EF.
    Transparent {
        /// Octets.
        size: Option<u16>,
    },
    /// A linear fixed EF.
    LinearFixed {
        /// Number of records.
        records: Option<u16>,
        /// Octets of a record.
        record: Option<u16>,
    },
    /// A cyclic EF.
    Cyclic {
        /// Number of records.
        records: Option<u16>,
        /// Octets of a record.
        record: Option<u16>,
    },
    /// A BER-TLV EF.
    BerTlv,
}

/// How a file, or each record of it, is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// These octets, the last of them up to the end.
    Last(&'static [u8]),
    /// These octets, over and over.
    Whole(&'static [u8]),
    /// `FF` up to these octets, which are the last ones.
    Before(&'static [u8]),
}

/// The template with these last arcs.
pub fn template(oid_tail: &[u8]) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.oid_tail == oid_tail)
}

/// All templates, in the order of their arcs.
pub fn templates() -> impl Iterator<Item = &'static Template> {
    TEMPLATES.iter()
}

/// The last arcs in the DER value of a template OID; `None` for an OID of another tree.
pub fn oid_tail(oid: &[u8]) -> Option<&[u8]> {
    // 2.23.143.1.2; none of the arcs below is above 127, so each is one octet.
    oid.strip_prefix(&[0x67, 0x81, 0x0F, 0x01, 0x02]).filter(|tail| !tail.is_empty())
}

impl Template {
    /// The template an element names.
    pub fn of(element: &Element<'_>) -> Option<&'static Self> {
        template(oid_tail(element.member(primitive(1))?.value)?).filter(|template| template.kind == element.kind)
    }

    /// Its file of this ASN.1 name.
    pub fn file(&self, name: &str) -> Option<&'static FileTemplate> {
        self.lists.iter().rev().find_map(|list| list.iter().find(|file| file.name == name))
    }

    /// Its files, in the order of the element's members.
    pub fn files(&self) -> impl Iterator<Item = &'static FileTemplate> {
        self.kind.files().iter().filter_map(|name| self.file(name))
    }

    /// Its OID as people write it.
    pub fn oid(&self) -> String {
        self.oid_tail.iter().fold("2.23.143.1.2".to_owned(), |oid, arc| format!("{oid}.{arc}"))
    }
}

impl FileTemplate {
    /// Not an EF.
    pub fn is_directory(&self) -> bool {
        matches!(self.form, Form::Mf | Form::Adf | Form::Df)
    }

    /// Octets of the whole file, where the template says so.
    pub fn size(&self) -> Option<usize> {
        match self.form {
            Form::Transparent { size } => size.map(usize::from),
            Form::LinearFixed { records, record } | Form::Cyclic { records, record } => {
                Some(usize::from(records?) * usize::from(record?))
            }
            _ => None,
        }
    }

    /// Octets of one record, where there are records and the template says so.
    pub fn record_len(&self) -> Option<usize> {
        match self.form {
            Form::LinearFixed { record, .. } | Form::Cyclic { record, .. } => record.map(usize::from),
            _ => None,
        }
    }
}

impl Fill {
    /// The fill of a file or record of `len` octets.
    fn octets(self, len: usize) -> Vec<u8> {
        match self {
            Self::Last(octets) => (0..len).filter_map(|at| octets.get(at).or(octets.last()).copied()).collect(),
            Self::Whole(octets) => octets.iter().copied().cycle().take(len).collect(),
            Self::Before(octets) => {
                let pad = std::iter::repeat_n(0xFF, len.saturating_sub(octets.len()));
                pad.chain(octets.iter().copied()).take(len).collect()
            }
        }
    }

    /// The template's octets where the package gives none: one fill for each record (SAIP §9.1).
    pub fn complete(self, content: &mut [Option<u8>], record_len: Option<usize>) {
        let record_len = record_len.filter(|len| (1..=content.len()).contains(len)).unwrap_or(content.len());
        let fill = self.octets(record_len);
        content.iter_mut().zip(fill.iter().cycle()).for_each(|(octet, default)| *octet = octet.or(Some(*default)));
    }
}

// -------------------------------------------------------------------------------------------- words of the tables

/// Stands for a size that the package must give.
const GIVEN: u16 = 0;

const fn size(size: u16) -> Option<u16> {
    if size == GIVEN { None } else { Some(size) }
}

const fn directory(name: &'static str, fid: Option<u16>, form: Form) -> FileTemplate {
    // Record 14 of the access rules: directories.
    let arr = Some(14);
    FileTemplate {
        name,
        fid,
        last_fid: None,
        form,
        arr,
        sfi: None,
        fill: None,
        content_required: false,
        high_update: false,
    }
}

const fn df(name: &'static str, fid: u16) -> FileTemplate {
    directory(name, Some(fid), Form::Df)
}

const fn adf(name: &'static str) -> FileTemplate {
    directory(name, None, Form::Adf)
}

/// An EF whose content the package must give, unless a fill follows.
const fn ef(name: &'static str, fid: u16, form: Form, arr: u8) -> FileTemplate {
    let arr = if arr == 0 { None } else { Some(arr) };
    FileTemplate {
        name,
        fid: Some(fid),
        last_fid: None,
        form,
        arr,
        sfi: None,
        fill: None,
        content_required: true,
        high_update: false,
    }
}

const fn transparent(name: &'static str, fid: u16, octets: u16, arr: u8) -> FileTemplate {
    ef(name, fid, Form::Transparent { size: size(octets) }, arr)
}

const fn linear(name: &'static str, fid: u16, records: u16, record: u16, arr: u8) -> FileTemplate {
    ef(name, fid, Form::LinearFixed { records: size(records), record: size(record) }, arr)
}

const fn cyclic(name: &'static str, fid: u16, records: u16, record: u16, arr: u8) -> FileTemplate {
    ef(name, fid, Form::Cyclic { records: size(records), record: size(record) }, arr)
}

const fn ber_tlv(name: &'static str, fid: u16, arr: u8) -> FileTemplate {
    ef(name, fid, Form::BerTlv, arr)
}

impl FileTemplate {
    const fn sfi(mut self, sfi: u8) -> Self {
        self.sfi = Some(sfi);
        self
    }

    const fn until(mut self, fid: u16) -> Self {
        self.last_fid = Some(fid);
        self
    }

    const fn filled(mut self, fill: Fill) -> Self {
        self.fill = Some(fill);
        self.optional()
    }

    /// `octets`, the last of them repeated.
    const fn fill(self, octets: &'static [u8]) -> Self {
        self.filled(Fill::Last(octets))
    }

    /// The package may leave the content out, without a fill that this version knows.
    const fn optional(mut self) -> Self {
        self.content_required = false;
        self
    }

    const fn often(mut self) -> Self {
        self.high_update = true;
        self
    }
}

const FF: &[u8] = &[0xFF];
const ZERO: &[u8] = &[0x00];
/// An identifier `00` and nothing behind it: unused extension and SMS records.
const UNUSED: &[u8] = &[0x00, 0xFF];

type Lists = &'static [&'static [FileTemplate]];

const fn made(oid_tail: &'static [u8], kind: Kind, since: (u8, u8), lists: Lists) -> Template {
    Template { oid_tail, kind, since, created_by_default: true, lists }
}

const fn asked(oid_tail: &'static [u8], kind: Kind, since: (u8, u8), lists: Lists) -> Template {
    Template { oid_tail, kind, since, created_by_default: false, lists }
}

#[rustfmt::skip]
static TEMPLATES: &[Template] = &[
    made(&[1], Kind::Mf, (1, 0), &[mf::MF]),
    asked(&[2], Kind::Cd, (1, 0), &[mf::CD]),
    asked(&[3], Kind::Telecom, (1, 0), &[telecom::TELECOM, telecom::PHONEBOOK]),
    asked(&[3, 2], Kind::Telecom, (3, 1), &[telecom::TELECOM, telecom::PHONEBOOK, telecom::V2]),
    asked(&[3, 3], Kind::Telecom, (3, 4), &[telecom::TELECOM, telecom::PHONEBOOK, telecom::V2]),
    made(&[4], Kind::Usim, (1, 0), &[usim::USIM]),
    made(&[4, 2], Kind::Usim, (3, 1), &[usim::USIM, usim::V2]),
    asked(&[5], Kind::OptUsim, (1, 0), &[opt_usim::OPT_USIM]),
    asked(&[5, 2], Kind::OptUsim, (3, 1), &[opt_usim::OPT_USIM, opt_usim::V2]),
    asked(&[5, 3], Kind::OptUsim, (3, 3), &[opt_usim::OPT_USIM, opt_usim::V2, opt_usim::V3]),
    asked(&[5, 4], Kind::OptUsim, (3, 4), &[opt_usim::OPT_USIM, opt_usim::V2, opt_usim::V3]),
    asked(&[6], Kind::Phonebook, (1, 0), &[telecom::PHONEBOOK]),
    asked(&[7], Kind::GsmAccess, (1, 0), &[usim::GSM_ACCESS]),
    made(&[8], Kind::Isim, (1, 0), &[isim::ISIM]),
    asked(&[9], Kind::OptIsim, (1, 0), &[isim::OPT_ISIM]),
    asked(&[9, 2], Kind::OptIsim, (3, 1), &[isim::OPT_ISIM, isim::V2]),
    asked(&[9, 3], Kind::OptIsim, (3, 4), &[isim::OPT_ISIM, isim::V2]),
    made(&[10], Kind::Csim, (1, 0), &[csim::CSIM]),
    made(&[10, 2], Kind::Csim, (3, 1), &[csim::CSIM]),
    asked(&[11], Kind::OptCsim, (1, 0), &[csim::OPT_CSIM]),
    asked(&[11, 2], Kind::OptCsim, (3, 1), &[csim::OPT_CSIM]),
    asked(&[12], Kind::Eap, (2, 2), &[isim::EAP]),
    asked(&[13], Kind::Df5gs, (2, 3), &[five_g::DF_5GS]),
    asked(&[13, 2], Kind::Df5gs, (3, 1), &[five_g::DF_5GS, five_g::V2]),
    asked(&[13, 3], Kind::Df5gs, (3, 1), &[five_g::DF_5GS, five_g::V2, five_g::V3]),
    asked(&[13, 4], Kind::Df5gs, (3, 3), &[five_g::DF_5GS, five_g::V2, five_g::V3, five_g::V4]),
    asked(&[14], Kind::DfSaip, (2, 3), &[five_g::DF_SAIP]),
    asked(&[15], Kind::DfSnpn, (3, 3), &[five_g::DF_SNPN]),
    asked(&[15, 2], Kind::DfSnpn, (3, 4), &[five_g::DF_SNPN]),
    asked(&[16], Kind::Df5gprose, (3, 3), &[five_g::DF_5G_PROSE]),
    asked(&[16, 2], Kind::Df5gprose, (3, 4), &[five_g::DF_5G_PROSE]),
    made(&[17], Kind::Iot, (3, 3), &[iot::IOT]),
    asked(&[18], Kind::OptIot, (3, 3), &[iot::OPT_IOT]),
    asked(&[19], Kind::Ssim, (3, 4), &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_a_template_is_a_member_of_its_element() {
        for template in templates() {
            for file in template.lists.iter().copied().flatten() {
                assert!(template.kind.file_number(file.name).is_some(), "{} {}", template.oid(), file.name);
            }
        }
    }

    /// Files that SAIP 3.4 added: their sizes and identifiers are not known to this version.
    const ADDED_IN_3_4: [&str; 13] = [
        "df-a2x",
        "ef-ast",
        "ef-a2x-config",
        "ef-a2xp-pc5",
        "ef-a2x-ddaap-pc5",
        "ef-a2x-dc2p-pc5",
        "ef-a2xp-Uu",
        "ef-ocst",
        "ef-ac-gbauapi",
        "ef-imsdci",
        "ef-nid",
        "ef-5g-prose-u2uru",
        "ef-5g-prose-eu",
    ];

    #[test]
    fn every_member_up_to_version_3_3_has_its_facts() {
        for kind in templates().map(|template| template.kind).filter(|kind| *kind != Kind::Ssim) {
            // The newest template of an element has all its files.
            let newest = templates().filter(|template| template.kind == kind).last().unwrap();
            for name in kind.files() {
                assert!(newest.file(name).is_some() != ADDED_IN_3_4.contains(name), "{kind} {name}");
            }
        }
    }

    #[test]
    fn identifiers_and_short_identifiers_are_unique_in_their_directory() {
        for template in templates() {
            let (mut fids, mut sfis) = (BTreeSet::new(), BTreeSet::new());
            for file in template.files() {
                if file.is_directory() {
                    (fids, sfis) = Default::default();
                    continue;
                }
                assert!(file.fid.is_none_or(|fid| fids.insert(fid)), "{} {}", template.oid(), file.name);
                assert!(file.sfi.is_none_or(|sfi| (1..=30).contains(&sfi) && sfis.insert(sfi)), "{}", file.name);
            }
        }
    }

    /// 3GPP TS 31.102, and where published transcriptions of the templates are wrong.
    #[test]
    fn published_identifiers_and_sizes() {
        let file = |tail: &[u8], name| *template(tail).unwrap().file(name).unwrap();
        assert_eq!(file(&[1], "ef-iccid").fid, Some(0x2FE2));
        assert_eq!(file(&[13], "df-df-5gs").fid, Some(0x5FC0));
        assert_eq!(file(&[14], "df-df-saip").fid, Some(0x5FD0));
        assert_eq!(file(&[5], "ef-ext7").fid, Some(0x6FCC));
        assert_eq!(file(&[3], "ef-mspl").fid, Some(0x4F21));
        assert_eq!(file(&[3], "ef-mmssmode").fid, Some(0x4F22));
        assert_eq!(file(&[4], "ef-ust").size(), Some(14));
        assert_eq!(file(&[4, 2], "ef-ust").size(), Some(17));
        assert_eq!(file(&[4], "ef-sms").size(), Some(1760));
        assert_eq!(file(&[13, 2], "ef-5gs3gppnsc").record_len(), Some(57));
        assert_eq!(file(&[13, 3], "ef-5gs3gppnsc").size(), Some(124));
        assert!(template(&[4]).unwrap().created_by_default);
        assert!(!template(&[5]).unwrap().created_by_default);
        assert!(template(&[20]).is_none() && template(&[]).is_none());
        assert_eq!(oid_tail(&[0x67, 0x81, 0x0F, 0x01, 0x02, 13, 4]), Some(&[13, 4][..]));
        assert_eq!(oid_tail(&[0x67, 0x81, 0x0F, 0x01, 0x02]), None);
    }

    #[test]
    fn fills_reach_the_end_of_a_record() {
        assert_eq!(Fill::Last(&[7, 0xFF]).octets(4), [7, 0xFF, 0xFF, 0xFF]);
        assert_eq!(Fill::Whole(&[1, 2, 3]).octets(5), [1, 2, 3, 1, 2]);
        assert_eq!(Fill::Before(&[1, 2]).octets(4), [0xFF, 0xFF, 1, 2]);
        assert_eq!(Fill::Before(&[1, 2]).octets(1), [1]);
        // Three records of two octets, one octet given.
        let completed = |record_len| {
            let mut content = [None, None, Some(9), None, None, None];
            Fill::Last(&[7, 0xFF]).complete(&mut content, record_len);
            content.map(Option::unwrap)
        };
        assert_eq!(completed(Some(2)), [7, 0xFF, 9, 0xFF, 7, 0xFF]);
        for one_piece in [None, Some(0), Some(7)] {
            assert_eq!(completed(one_piece), [7, 0xFF, 9, 0xFF, 0xFF, 0xFF]);
        }
    }
}
