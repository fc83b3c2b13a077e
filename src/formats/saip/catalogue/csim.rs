//! ADF.CSIM and its optional files (SAIP §9.7; 3GPP2 C.S0065 §5).
//!
//! Identifiers, structures and fixed lengths are those of C.S0065. Access rules, short identifiers, fills and the sizes SAIP
//! chooses for files of free length are not known to this version: those files count as given by the package or unknown.

use super::{FileTemplate, GIVEN, adf, cyclic, linear, transparent};

/// An access rule this version does not know.
const UNKNOWN: u8 = 0;

const fn fixed(name: &'static str, fid: u16, octets: u16) -> FileTemplate {
    transparent(name, fid, octets, UNKNOWN).optional()
}

const fn records(name: &'static str, fid: u16, record: u16) -> FileTemplate {
    linear(name, fid, GIVEN, record, UNKNOWN).optional()
}

const fn ring(name: &'static str, fid: u16, record: u16) -> FileTemplate {
    cyclic(name, fid, GIVEN, record, UNKNOWN).optional()
}

#[rustfmt::skip]
pub(super) const CSIM: &[FileTemplate] = &[
    adf("adf-csim"),
    records("ef-arr", 0x6F06, GIVEN),
    ring("ef-call-count", 0x6F21, 2),
    fixed("ef-imsi-m", 0x6F22, 10),
    fixed("ef-imsi-t", 0x6F23, 10),
    fixed("ef-tmsi", 0x6F24, 16),
    fixed("ef-ah", 0x6F25, 2),
    fixed("ef-aop", 0x6F26, 1),
    fixed("ef-aloc", 0x6F27, 7),
    records("ef-cdmahome", 0x6F28, 5),
    records("ef-znregi", 0x6F29, 8),
    fixed("ef-snregi", 0x6F2A, 7),
    fixed("ef-distregi", 0x6F2B, 8),
    fixed("ef-accolc", 0x6F2C, 1),
    fixed("ef-term", 0x6F2D, 1),
    fixed("ef-acp", 0x6F2F, 7),
    fixed("ef-prl", 0x6F30, GIVEN),
    fixed("ef-ruimid", 0x6F31, 8),
    fixed("ef-csim-st", 0x6F32, GIVEN),
    fixed("ef-spc", 0x6F33, 3),
    fixed("ef-otapaspc", 0x6F34, 1),
    fixed("ef-namlock", 0x6F35, 1),
    fixed("ef-ota", 0x6F36, GIVEN),
    fixed("ef-sp", 0x6F37, 1),
    fixed("ef-esn-meid-me", 0x6F38, 8),
    fixed("ef-li", 0x6F3A, GIVEN),
    fixed("ef-usgind", 0x6F42, 1),
    fixed("ef-ad", 0x6F43, 3),
    fixed("ef-max-prl", 0x6F45, 4),
    fixed("ef-spcs", 0x6F46, 1),
    fixed("ef-mecrp", 0x6F55, 3),
    fixed("ef-home-tag", 0x6F70, GIVEN),
    fixed("ef-group-tag", 0x6F71, GIVEN),
    fixed("ef-specific-tag", 0x6F72, GIVEN),
    fixed("ef-call-prompt", 0x6F73, GIVEN),
];

#[rustfmt::skip]
pub(super) const OPT_CSIM: &[FileTemplate] = &[
    fixed("ef-ssci", 0x6F2E, 1),
    records("ef-fdn", 0x6F3B, GIVEN),
    records("ef-sms", 0x6F3C, GIVEN),
    records("ef-smsp", 0x6F3D, GIVEN),
    fixed("ef-smss", 0x6F3E, GIVEN),
    fixed("ef-ssfc", 0x6F3F, GIVEN),
    fixed("ef-spn", 0x6F41, 35),
    records("ef-mdn", 0x6F44, 11),
    fixed("ef-ecc", 0x6F47, GIVEN),
    fixed("ef-me3gpdopc", 0x6F48, 1),
    fixed("ef-3gpdopm", 0x6F49, 1),
    fixed("ef-sipcap", 0x6F4A, 4),
    fixed("ef-mipcap", 0x6F4B, 5),
    fixed("ef-sipupp", 0x6F4C, GIVEN),
    fixed("ef-mipupp", 0x6F4D, GIVEN),
    fixed("ef-sipsp", 0x6F4E, 1),
    fixed("ef-mipsp", 0x6F4F, GIVEN),
    fixed("ef-sippapss", 0x6F50, GIVEN),
    fixed("ef-puzl", 0x6F53, GIVEN),
    fixed("ef-maxpuzl", 0x6F54, 5),
    fixed("ef-hrpdcap", 0x6F56, 3),
    fixed("ef-hrpdupp", 0x6F57, GIVEN),
    fixed("ef-csspr", 0x6F58, 1),
    fixed("ef-atc", 0x6F59, 1),
    fixed("ef-eprl", 0x6F5A, GIVEN),
    fixed("ef-bcsmscfg", 0x6F5B, 1),
    fixed("ef-bcsmspref", 0x6F5C, 1),
    records("ef-bcsmstable", 0x6F5D, GIVEN),
    records("ef-bcsmsp", 0x6F5E, 2),
    records("ef-bakpara", 0x6F63, GIVEN),
    ring("ef-upbakpara", 0x6F64, GIVEN),
    records("ef-mmsn", 0x6F65, GIVEN),
    records("ef-ext8", 0x6F66, 13),
    fixed("ef-mmsicp", 0x6F67, GIVEN),
    records("ef-mmsup", 0x6F68, GIVEN),
    fixed("ef-mmsucp", 0x6F69, GIVEN),
    fixed("ef-auth-capability", 0x6F6A, 5),
    fixed("ef-3gcik", 0x6F6B, 32),
    fixed("ef-dck", 0x6F6C, 20),
    fixed("ef-gid1", 0x6F6D, GIVEN),
    fixed("ef-gid2", 0x6F6E, GIVEN),
    fixed("ef-cdmacnl", 0x6F6F, GIVEN),
    fixed("ef-sf-euimid", 0x6F74, 7),
    fixed("ef-est", 0x6F75, GIVEN),
    fixed("ef-hidden-key", 0x6F76, 4),
    fixed("ef-lcsver", 0x6F77, GIVEN),
    fixed("ef-lcscp", 0x6F78, GIVEN),
    records("ef-sdn", 0x6F79, GIVEN),
    records("ef-ext2", 0x6F7A, 13),
    records("ef-ext3", 0x6F7B, 13),
    ring("ef-ici", 0x6F7C, GIVEN),
    ring("ef-oci", 0x6F7D, GIVEN),
    records("ef-ext5", 0x6F7E, 13),
    records("ef-ccp2", 0x6F7F, GIVEN),
    fixed("ef-applabels", 0x6F80, GIVEN),
    fixed("ef-model", 0x6F81, 126),
    fixed("ef-rc", 0x6F82, GIVEN),
    fixed("ef-smscap", 0x6F83, 4),
    fixed("ef-mipflags", 0x6F84, 1),
    fixed("ef-3gpduppext", 0x6F85, GIVEN),
    fixed("ef-ipv6cap", 0x6F87, 21),
    fixed("ef-tcpconfig", 0x6F88, GIVEN),
    fixed("ef-dgc", 0x6F89, GIVEN),
    fixed("ef-wapbrowsercp", 0x6F8A, GIVEN),
    fixed("ef-wapbrowserbm", 0x6F8B, GIVEN),
    fixed("ef-mmsconfig", 0x6F8C, GIVEN),
    fixed("ef-jdl", 0x6F8D, GIVEN),
];
