//! Names of the profile elements (PEs) and of the files in them, as the SAIP ASN.1 module spells them.
//!
//! Source: TCA eUICC Profile Package, Interoperable Format Technical Specification 3.4.1, module PEDefinitions. Newer versions only
//! append, so an element or member unknown here is kept and named by its tag.

use crate::formats::tlv::Tag;

/// Context tag `[number]`, constructed.
pub const fn constructed(number: u8) -> Tag {
    if number < 31 { Tag(0xA0 | number as u32) } else { Tag(0xBF00 | number as u32) }
}

/// Context tag `[number]`, primitive.
pub const fn primitive(number: u8) -> Tag {
    if number < 31 { Tag(0x80 | number as u32) } else { Tag(0x9F00 | number as u32) }
}

/// The number of a context tag, `None` for tags of other classes.
pub fn context_number(tag: Tag) -> Option<u8> {
    match tag.0 {
        0x80..=0x9E => Some(tag.0 as u8 & 0x1F),
        0xA0..=0xBE => Some(tag.0 as u8 & 0x1F),
        0x9F1F..=0x9F7F | 0xBF1F..=0xBF7F => Some(tag.0 as u8 & 0x7F),
        _ => None,
    }
}

/// Which alternative of `ProfileElement` an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the specification's
pub enum Kind {
    Header,
    GenericFileManagement,
    PinCodes,
    PukCodes,
    AkaParameter,
    CdmaParameter,
    SecurityDomain,
    Rfm,
    Application,
    NonStandard,
    End,
    SsimEapTlsParameters,
    Mf,
    Cd,
    Telecom,
    Usim,
    OptUsim,
    Isim,
    OptIsim,
    Phonebook,
    GsmAccess,
    Csim,
    OptCsim,
    Eap,
    Df5gs,
    DfSaip,
    DfSnpn,
    Df5gprose,
    Iot,
    OptIot,
    Ssim,
    /// An alternative this version does not know.
    Unknown,
}

impl Kind {
    /// By the tag of the element.
    pub fn of(tag: Tag) -> Self {
        let number = context_number(tag).filter(|_| tag.is_constructed());
        KINDS.iter().find(|row| Some(row.number) == number).map_or(Self::Unknown, |row| row.kind)
    }

    /// By its ASN.1 name.
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// The ASN.1 name.
    pub fn name(self) -> &'static str {
        self.row().map_or("unknown", |row| row.name)
    }

    /// The tag on the wire; `None` for [`Kind::Unknown`].
    pub fn tag(self) -> Option<Tag> {
        self.row().map(|row| constructed(row.number))
    }

    /// Names of the files a file-system element may hold, in their order; member tag `[2]` is the first. Empty for other elements.
    pub fn files(self) -> &'static [&'static str] {
        self.row().map_or(&[], |row| row.files)
    }

    /// Made from a file-system template (has a templateID).
    pub fn is_file_system(self) -> bool {
        !self.files().is_empty()
    }

    /// Creates an application that authenticates: an akaParameter belongs to it.
    pub fn is_naa(self) -> bool {
        matches!(self, Self::Usim | Self::Isim | Self::Csim | Self::Iot | Self::Ssim)
    }

    /// Context tag number of a file of this element.
    pub fn file_number(self, file: &str) -> Option<u8> {
        self.files().iter().position(|name| *name == file).map(|at| at as u8 + FIRST_FILE)
    }

    /// Name of the member with this tag.
    pub fn file_name(self, tag: Tag) -> Option<&'static str> {
        let at = context_number(tag)?.checked_sub(FIRST_FILE)?;
        self.files().get(usize::from(at)).copied().filter(|_| tag.is_constructed())
    }

    fn row(self) -> Option<&'static Row> {
        KINDS.iter().find(|row| row.kind == self)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Behind the PE header `[0]` and the templateID `[1]`.
const FIRST_FILE: u8 = 2;

struct Row {
    number: u8,
    kind: Kind,
    name: &'static str,
    files: &'static [&'static str],
}

const fn row(number: u8, kind: Kind, name: &'static str, files: &'static [&'static str]) -> Row {
    Row { number, kind, name, files }
}

#[rustfmt::skip]
const KINDS: &[Row] = &[
    row(0, Kind::Header, "header", &[]),
    row(1, Kind::GenericFileManagement, "genericFileManagement", &[]),
    row(2, Kind::PinCodes, "pinCodes", &[]),
    row(3, Kind::PukCodes, "pukCodes", &[]),
    row(4, Kind::AkaParameter, "akaParameter", &[]),
    row(5, Kind::CdmaParameter, "cdmaParameter", &[]),
    row(6, Kind::SecurityDomain, "securityDomain", &[]),
    row(7, Kind::Rfm, "rfm", &[]),
    row(8, Kind::Application, "application", &[]),
    row(9, Kind::NonStandard, "nonStandard", &[]),
    row(10, Kind::End, "end", &[]),
    row(11, Kind::SsimEapTlsParameters, "ssimEapTLSParameters", &[]),
    row(16, Kind::Mf, "mf", MF),
    row(17, Kind::Cd, "cd", CD),
    row(18, Kind::Telecom, "telecom", TELECOM),
    row(19, Kind::Usim, "usim", USIM),
    row(20, Kind::OptUsim, "opt-usim", OPT_USIM),
    row(21, Kind::Isim, "isim", ISIM),
    row(22, Kind::OptIsim, "opt-isim", OPT_ISIM),
    row(23, Kind::Phonebook, "phonebook", PHONEBOOK),
    row(24, Kind::GsmAccess, "gsm-access", GSM_ACCESS),
    row(25, Kind::Csim, "csim", CSIM),
    row(26, Kind::OptCsim, "opt-csim", OPT_CSIM),
    row(27, Kind::Eap, "eap", EAP),
    row(28, Kind::Df5gs, "df-5gs", DF_5GS),
    row(29, Kind::DfSaip, "df-saip", DF_SAIP),
    row(30, Kind::DfSnpn, "df-snpn", DF_SNPN),
    row(31, Kind::Df5gprose, "df-5gprose", DF_5GPROSE),
    row(32, Kind::Iot, "iot", IOT),
    row(33, Kind::OptIot, "opt-iot", OPT_IOT),
    row(34, Kind::Ssim, "ssim", SSIM),
];

#[rustfmt::skip]
const MF: &[&str] = &[
    "mf", "ef-pl", "ef-iccid", "ef-dir", "ef-arr", "ef-umpc",
];
#[rustfmt::skip]
const CD: &[&str] = &[
    "df-cd", "ef-launchpad", "ef-icon",
];
#[rustfmt::skip]
const TELECOM: &[&str] = &[
    "df-telecom", "ef-arr", "ef-rma", "ef-sume", "ef-ice-dn", "ef-ice-ff", "ef-psismsc", "df-graphics", "ef-img",
    "ef-iidf", "ef-ice-graphics", "ef-launch-scws", "ef-icon", "df-phonebook", "ef-pbr", "ef-ext1", "ef-aas",
    "ef-gas", "ef-psc", "ef-cc", "ef-puid", "ef-iap", "ef-adn", "ef-pbc", "ef-anr", "ef-puri", "ef-email",
    "ef-sne", "ef-uid", "ef-grp", "ef-ccp1", "df-multimedia", "ef-mml", "ef-mmdf", "df-mmss", "ef-mlpl",
    "ef-mspl", "ef-mmssmode", "df-mcs", "ef-mst", "ef-mcs-config", "df-v2x", "ef-vst", "ef-v2x-config",
    "ef-v2xp-pc5", "ef-v2xp-Uu", "df-a2x", "ef-ast", "ef-a2x-config", "ef-a2xp-pc5", "ef-a2x-ddaap-pc5",
    "ef-a2x-dc2p-pc5", "ef-a2xp-Uu",
];
#[rustfmt::skip]
const USIM: &[&str] = &[
    "adf-usim", "ef-imsi", "ef-arr", "ef-keys", "ef-keysPS", "ef-hpplmn", "ef-ust", "ef-fdn", "ef-sms", "ef-smsp",
    "ef-smss", "ef-spn", "ef-est", "ef-start-hfn", "ef-threshold", "ef-psloci", "ef-acc", "ef-fplmn", "ef-loci",
    "ef-ad", "ef-ecc", "ef-netpar", "ef-epsloci", "ef-epsnsc",
];
#[rustfmt::skip]
const OPT_USIM: &[&str] = &[
    "ef-li", "ef-acmax", "ef-acm", "ef-gid1", "ef-gid2", "ef-msisdn", "ef-puct", "ef-cbmi", "ef-cbmid", "ef-sdn",
    "ef-ext2", "ef-ext3", "ef-cbmir", "ef-plmnwact", "ef-oplmnwact", "ef-hplmnwact", "ef-dck", "ef-cnl",
    "ef-smsr", "ef-bdn", "ef-ext5", "ef-ccp2", "ef-ext4", "ef-acl", "ef-cmi", "ef-ici", "ef-oci", "ef-ict",
    "ef-oct", "ef-vgcs", "ef-vgcss", "ef-vbs", "ef-vbss", "ef-emlpp", "ef-aaem", "ef-hiddenkey", "ef-pnn",
    "ef-opl", "ef-mbdn", "ef-ext6", "ef-mbi", "ef-mwis", "ef-cfis", "ef-ext7", "ef-spdi", "ef-mmsn", "ef-ext8",
    "ef-mmsicp", "ef-mmsup", "ef-mmsucp", "ef-nia", "ef-vgcsca", "ef-vbsca", "ef-gbabp", "ef-msk", "ef-muk",
    "ef-ehplmn", "ef-gbanl", "ef-ehplmnpi", "ef-lrplmnsi", "ef-nafkca", "ef-spni", "ef-pnni", "ef-ncp-ip",
    "ef-ufc", "ef-nasconfig", "ef-uicciari", "ef-pws", "ef-fdnuri", "ef-bdnuri", "ef-sdnuri", "ef-ial", "ef-ips",
    "ef-ipd", "ef-epdgid", "ef-epdgselection", "ef-epdgidem", "ef-epdgselectionem", "ef-frompreferred",
    "ef-imsconfigdata", "ef-3gpppsdataoff", "ef-3gpppsdataoffservicelist", "ef-xcapconfigdata", "ef-earfcnlist",
    "ef-mudmidconfigdata", "ef-eaka", "ef-ocst", "ef-ac-gbauapi", "ef-imsdci",
];
#[rustfmt::skip]
const ISIM: &[&str] = &[
    "adf-isim", "ef-impi", "ef-impu", "ef-domain", "ef-ist", "ef-ad", "ef-arr",
];
#[rustfmt::skip]
const OPT_ISIM: &[&str] = &[
    "ef-pcscf", "ef-sms", "ef-smsp", "ef-smss", "ef-smsr", "ef-gbabp", "ef-gbanl", "ef-nafkca", "ef-uicciari",
    "ef-frompreferred", "ef-imsconfigdata", "ef-xcapconfigdata", "ef-webrtcuri", "ef-mudmidconfigdata",
    "ef-ac-gbauapi", "ef-imsdci",
];
#[rustfmt::skip]
const PHONEBOOK: &[&str] = &[
    "df-phonebook", "ef-pbr", "ef-ext1", "ef-aas", "ef-gas", "ef-psc", "ef-cc", "ef-puid", "ef-iap", "ef-adn",
    "ef-pbc", "ef-anr", "ef-puri", "ef-email", "ef-sne", "ef-uid", "ef-grp", "ef-ccp1",
];
#[rustfmt::skip]
const GSM_ACCESS: &[&str] = &[
    "df-gsm-access", "ef-kc", "ef-kcgprs", "ef-cpbcch", "ef-invscan",
];
#[rustfmt::skip]
const CSIM: &[&str] = &[
    "adf-csim", "ef-arr", "ef-call-count", "ef-imsi-m", "ef-imsi-t", "ef-tmsi", "ef-ah", "ef-aop", "ef-aloc",
    "ef-cdmahome", "ef-znregi", "ef-snregi", "ef-distregi", "ef-accolc", "ef-term", "ef-acp", "ef-prl",
    "ef-ruimid", "ef-csim-st", "ef-spc", "ef-otapaspc", "ef-namlock", "ef-ota", "ef-sp", "ef-esn-meid-me",
    "ef-li", "ef-usgind", "ef-ad", "ef-max-prl", "ef-spcs", "ef-mecrp", "ef-home-tag", "ef-group-tag",
    "ef-specific-tag", "ef-call-prompt",
];
#[rustfmt::skip]
const OPT_CSIM: &[&str] = &[
    "ef-ssci", "ef-fdn", "ef-sms", "ef-smsp", "ef-smss", "ef-ssfc", "ef-spn", "ef-mdn", "ef-ecc", "ef-me3gpdopc",
    "ef-3gpdopm", "ef-sipcap", "ef-mipcap", "ef-sipupp", "ef-mipupp", "ef-sipsp", "ef-mipsp", "ef-sippapss",
    "ef-puzl", "ef-maxpuzl", "ef-hrpdcap", "ef-hrpdupp", "ef-csspr", "ef-atc", "ef-eprl", "ef-bcsmscfg",
    "ef-bcsmspref", "ef-bcsmstable", "ef-bcsmsp", "ef-bakpara", "ef-upbakpara", "ef-mmsn", "ef-ext8", "ef-mmsicp",
    "ef-mmsup", "ef-mmsucp", "ef-auth-capability", "ef-3gcik", "ef-dck", "ef-gid1", "ef-gid2", "ef-cdmacnl",
    "ef-sf-euimid", "ef-est", "ef-hidden-key", "ef-lcsver", "ef-lcscp", "ef-sdn", "ef-ext2", "ef-ext3", "ef-ici",
    "ef-oci", "ef-ext5", "ef-ccp2", "ef-applabels", "ef-model", "ef-rc", "ef-smscap", "ef-mipflags",
    "ef-3gpduppext", "ef-ipv6cap", "ef-tcpconfig", "ef-dgc", "ef-wapbrowsercp", "ef-wapbrowserbm", "ef-mmsconfig",
    "ef-jdl",
];
#[rustfmt::skip]
const EAP: &[&str] = &[
    "df-eap", "ef-eapkeys", "ef-eapstatus", "ef-puid", "ef-ps", "ef-curid", "ef-reid", "ef-realm",
];
#[rustfmt::skip]
const DF_5GS: &[&str] = &[
    "df-df-5gs", "ef-5gs3gpploci", "ef-5gsn3gpploci", "ef-5gs3gppnsc", "ef-5gsn3gppnsc", "ef-5gauthkeys",
    "ef-uac-aic", "ef-suci-calc-info", "ef-opl5g", "ef-supinai", "ef-routing-indicator", "ef-ursp",
    "ef-tn3gppsnn", "ef-cag", "ef-sor-cmci", "ef-dri", "ef-5gsedrx", "ef-5gnswo-conf", "ef-mchpplmn",
    "ef-kausf-derivation",
];
#[rustfmt::skip]
const DF_SAIP: &[&str] = &[
    "df-df-saip", "ef-suci-calc-info-usim",
];
#[rustfmt::skip]
const DF_SNPN: &[&str] = &[
    "df-df-snpn", "ef-pws-snpn", "ef-nid",
];
#[rustfmt::skip]
const DF_5GPROSE: &[&str] = &[
    "df-df-5g-prose", "ef-5g-prose-st", "ef-5g-prose-dd", "ef-5g-prose-dc", "ef-5g-prose-u2nru", "ef-5g-prose-ru",
    "ef-5g-prose-uir", "ef-5g-prose-u2uru", "ef-5g-prose-eu",
];
#[rustfmt::skip]
const IOT: &[&str] = &[
    "mf", "ef-pl", "ef-iccid", "ef-dir", "ef-arr", "ef-umpc", "adf-usim", "ef-imsi", "ef-arr-usim", "ef-keys",
    "ef-keysPS", "ef-hpplmn", "ef-ust", "ef-start-hfn", "ef-threshold", "ef-psloci", "ef-acc", "ef-fplmn",
    "ef-loci", "ef-ad", "ef-ecc", "ef-netpar",
];
#[rustfmt::skip]
const OPT_IOT: &[&str] = &[
    "ef-fdn", "ef-sms", "ef-smsp", "ef-smss", "ef-spn", "ef-est", "ef-oplmnwact", "ef-hplmnwact", "ef-ehplmn",
    "ef-epsloci", "ef-epsnsc", "df-df-5gs", "ef-5gs3gpploci", "ef-5gsn3gpploci", "ef-5gs3gppnsc",
    "ef-5gsn3gppnsc", "ef-5gauthkeys", "ef-uac-aic", "ef-suci-calc-info", "ef-opl5g", "ef-supi-nai",
    "ef-routing-indicator", "ef-ursp", "ef-tn3gppsnn", "df-df-saip", "ef-suci-calc-info-usim",
];
#[rustfmt::skip]
const SSIM: &[&str] = &[
    "adf-ssim", "ef-arr", "ef-eapId", "ef-nssai", "ef-eapStatus",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_names_meet_where_the_public_test_profile_has_them() {
        assert_eq!(Kind::of(Tag(0xB3)), Kind::Usim);
        assert_eq!(Kind::of(Tag(0xBF20)), Kind::Iot);
        assert_eq!(Kind::of(Tag(0x83)), Kind::Unknown);
        assert_eq!(Kind::Usim.file_name(Tag(0xB2)), Some("ef-acc"));
        assert_eq!(Kind::Usim.file_name(Tag(0xA3)), Some("ef-imsi"));
        assert_eq!(Kind::OptUsim.file_name(Tag(0xBF3A)), Some("ef-ehplmn"));
        assert_eq!(Kind::Df5gs.file_name(Tag(0xAC)), Some("ef-routing-indicator"));
        assert_eq!(Kind::Mf.file_name(Tag(0xBF7F)), None);
    }

    #[test]
    fn every_name_is_found_again() {
        for row in KINDS {
            assert_eq!(Kind::named(row.name), Some(row.kind));
            assert_eq!(Kind::of(constructed(row.number)), row.kind);
        }
    }
}
