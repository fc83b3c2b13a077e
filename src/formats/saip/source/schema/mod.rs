//! The words of a template source, as `serde` reads them. Unknown keys are refused by name and line.

mod element;
mod file;
mod hex;

use serde::Deserialize;
use toml::Spanned;

pub(super) use element::*;
pub(super) use file::*;
pub(super) use hex::Hex;

use crate::formats::saip::kind::Kind;
use crate::formats::tlv;

/// A whole source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// [`super::SCHEMA`].
    pub schema: Spanned<String>,
    /// What the profile is for; not part of the package.
    pub description: Option<String>,
    /// A preset whose elements come before the own ones.
    pub extends: Option<Spanned<String>>,
    /// With `extends` it may say less: what is left out is the preset's.
    pub header: Option<Spanned<Header>>,
    /// The elements between header and end, in their order. PE ids are counted from 1; the end element follows by itself.
    /// With `extends` they follow the preset's, or stand `after` one of them.
    #[serde(rename = "element", default)]
    pub elements: Vec<Spanned<Element>>,
    /// With `extends`: what is changed in the preset's elements.
    #[serde(rename = "patch", default)]
    pub patches: Vec<Spanned<Element>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// SAIP version, "major.minor".
    pub version: Option<Spanned<String>>,
    pub profile_type: Option<String>,
    /// Placeholder in the form of an ICCID.
    pub iccid: Option<Spanned<String>>,
    /// eUICC-Mandatory-services; the algorithm among them is set anew by every order.
    pub services: Option<Vec<Spanned<String>>>,
    /// Last arcs of the templates an eUICC must have; those in use when left out.
    pub templates: Option<Vec<Spanned<String>>>,
    /// Policy rules.
    pub pol: Option<Hex>,
    /// `connectivityParameters`.
    pub connectivity: Option<Hex>,
    /// Applications an eUICC must have.
    pub aids: Option<Vec<MandatoryAid>>,
    /// PIX of an IoT Minimal Profile.
    pub iot_pix: Option<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MandatoryAid {
    pub aid: Hex,
    pub version: Hex,
}

/// One element, named as the ASN.1 module names it: exactly one of the names is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Element {
    /// An eUICC that cannot install it gives up; true when left out.
    pub mandated: Option<bool>,
    /// `identification`, when it is not to be counted.
    pub id: Option<u16>,
    /// With `extends`: behind which element it stands, such as "usim" or "rfm 2".
    pub after: Option<Spanned<String>>,
    /// Patch: which of the elements of its name, the first when left out.
    pub nth: Option<usize>,
    /// Patch: takes out an element, such as "usim" or "rfm 2".
    pub remove: Option<Spanned<String>>,
    /// The whole element in DER, for what has no words here.
    pub raw: Option<Hex>,
    pub mf: Option<FileSystem>,
    pub cd: Option<FileSystem>,
    pub telecom: Option<FileSystem>,
    pub usim: Option<FileSystem>,
    #[serde(rename = "opt-usim")]
    pub opt_usim: Option<FileSystem>,
    pub isim: Option<FileSystem>,
    #[serde(rename = "opt-isim")]
    pub opt_isim: Option<FileSystem>,
    pub phonebook: Option<FileSystem>,
    #[serde(rename = "gsm-access")]
    pub gsm_access: Option<FileSystem>,
    pub csim: Option<FileSystem>,
    #[serde(rename = "opt-csim")]
    pub opt_csim: Option<FileSystem>,
    pub eap: Option<FileSystem>,
    #[serde(rename = "df-5gs")]
    pub df_5gs: Option<FileSystem>,
    #[serde(rename = "df-saip")]
    pub df_saip: Option<FileSystem>,
    #[serde(rename = "df-snpn")]
    pub df_snpn: Option<FileSystem>,
    #[serde(rename = "df-5gprose")]
    pub df_5gprose: Option<FileSystem>,
    pub iot: Option<FileSystem>,
    #[serde(rename = "opt-iot")]
    pub opt_iot: Option<FileSystem>,
    #[serde(rename = "genericFileManagement")]
    pub generic_file_management: Option<FileManagement>,
    #[serde(rename = "pinCodes")]
    pub pin_codes: Option<PinCodes>,
    #[serde(rename = "pukCodes")]
    pub puk_codes: Option<PukCodes>,
    #[serde(rename = "akaParameter")]
    pub aka_parameter: Option<AkaParameter>,
    #[serde(rename = "cdmaParameter")]
    pub cdma_parameter: Option<CdmaParameter>,
    #[serde(rename = "securityDomain")]
    pub security_domain: Option<SecurityDomain>,
    pub rfm: Option<Rfm>,
    pub application: Option<Application>,
    #[serde(rename = "nonStandard")]
    pub non_standard: Option<NonStandard>,
}

/// What an element is made of.
pub(super) enum Body<'e> {
    FileSystem(Kind, &'e FileSystem),
    GenericFileManagement(&'e FileManagement),
    PinCodes(&'e PinCodes),
    PukCodes(&'e PukCodes),
    AkaParameter(&'e AkaParameter),
    CdmaParameter(&'e CdmaParameter),
    SecurityDomain(&'e SecurityDomain),
    Rfm(&'e Rfm),
    Application(&'e Application),
    NonStandard(&'e NonStandard),
    Raw(&'e Hex),
}

impl Header {
    /// What is not given here is the base's.
    pub(super) fn inherit(&mut self, base: Self) {
        let Self { version, profile_type, iccid, services, templates, pol, connectivity, aids, iot_pix } = base;
        self.version = self.version.take().or(version);
        self.profile_type = self.profile_type.take().or(profile_type);
        self.iccid = self.iccid.take().or(iccid);
        self.services = self.services.take().or(services);
        self.templates = self.templates.take().or(templates);
        self.pol = self.pol.take().or(pol);
        self.connectivity = self.connectivity.take().or(connectivity);
        self.aids = self.aids.take().or(aids);
        self.iot_pix = self.iot_pix.take().or(iot_pix);
    }
}

impl Element {
    /// What it is made of; `None` unless there is exactly one.
    pub(super) fn body(&self) -> Option<Body<'_>> {
        let mut bodies = [
            (Kind::Mf, &self.mf),
            (Kind::Cd, &self.cd),
            (Kind::Telecom, &self.telecom),
            (Kind::Usim, &self.usim),
            (Kind::OptUsim, &self.opt_usim),
            (Kind::Isim, &self.isim),
            (Kind::OptIsim, &self.opt_isim),
            (Kind::Phonebook, &self.phonebook),
            (Kind::GsmAccess, &self.gsm_access),
            (Kind::Csim, &self.csim),
            (Kind::OptCsim, &self.opt_csim),
            (Kind::Eap, &self.eap),
            (Kind::Df5gs, &self.df_5gs),
            (Kind::DfSaip, &self.df_saip),
            (Kind::DfSnpn, &self.df_snpn),
            (Kind::Df5gprose, &self.df_5gprose),
            (Kind::Iot, &self.iot),
            (Kind::OptIot, &self.opt_iot),
        ]
        .into_iter()
        .filter_map(|(kind, files)| files.as_ref().map(|files| Body::FileSystem(kind, files)))
        .chain(self.generic_file_management.as_ref().map(Body::GenericFileManagement))
        .chain(self.pin_codes.as_ref().map(Body::PinCodes))
        .chain(self.puk_codes.as_ref().map(Body::PukCodes))
        .chain(self.aka_parameter.as_ref().map(Body::AkaParameter))
        .chain(self.cdma_parameter.as_ref().map(Body::CdmaParameter))
        .chain(self.security_domain.as_ref().map(Body::SecurityDomain))
        .chain(self.rfm.as_ref().map(Body::Rfm))
        .chain(self.application.as_ref().map(Body::Application))
        .chain(self.non_standard.as_ref().map(Body::NonStandard))
        .chain(self.raw.as_ref().map(Body::Raw));
        let body = bodies.next()?;
        bodies.next().is_none().then_some(body)
    }

    /// Which element of a package it is.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self.body()? {
            Body::FileSystem(kind, _) => kind,
            Body::GenericFileManagement(_) => Kind::GenericFileManagement,
            Body::PinCodes(_) => Kind::PinCodes,
            Body::PukCodes(_) => Kind::PukCodes,
            Body::AkaParameter(_) => Kind::AkaParameter,
            Body::CdmaParameter(_) => Kind::CdmaParameter,
            Body::SecurityDomain(_) => Kind::SecurityDomain,
            Body::Rfm(_) => Kind::Rfm,
            Body::Application(_) => Kind::Application,
            Body::NonStandard(_) => Kind::NonStandard,
            Body::Raw(hex) => tlv::Reader::new(&hex.0).peek().map_or(Kind::Unknown, Kind::of),
        })
    }

    /// The files of a file-system element.
    pub(super) fn file_system_mut(&mut self) -> Option<&mut FileSystem> {
        [
            &mut self.mf,
            &mut self.cd,
            &mut self.telecom,
            &mut self.usim,
            &mut self.opt_usim,
            &mut self.isim,
            &mut self.opt_isim,
            &mut self.phonebook,
            &mut self.gsm_access,
            &mut self.csim,
            &mut self.opt_csim,
            &mut self.eap,
            &mut self.df_5gs,
            &mut self.df_saip,
            &mut self.df_snpn,
            &mut self.df_5gprose,
            &mut self.iot,
            &mut self.opt_iot,
        ]
        .into_iter()
        .find_map(Option::as_mut)
    }
}
