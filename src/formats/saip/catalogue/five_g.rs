//! DF.5GS, DF.SAIP, DF.SNPN and DF.5G_ProSe below ADF.USIM (SAIP §9.5.11 to §9.5.14; 3GPP TS 31.102 §4.4.11 and later).

use super::{FF, FileTemplate, Fill, GIVEN, ZERO, ber_tlv, df, linear, transparent};

/// No GUTI, no TAI, "5U2 NOT UPDATED".
const NO_LOCATION: Fill = Fill::Before(&[0x00, 0x00, 0x00, 0x01]);

#[rustfmt::skip]
pub(super) const DF_5GS: &[FileTemplate] = &[
    df("df-df-5gs", 0x5FC0),
    transparent("ef-5gs3gpploci", 0x4F01, 20, 5).sfi(0x01).filled(NO_LOCATION).often(),
    transparent("ef-5gsn3gpploci", 0x4F02, 20, 5).sfi(0x02).filled(NO_LOCATION).often(),
    linear("ef-5gs3gppnsc", 0x4F03, 1, 57, 5).sfi(0x03).fill(FF).often(),
    linear("ef-5gsn3gppnsc", 0x4F04, 1, 57, 5).sfi(0x04).fill(FF).often(),
    transparent("ef-5gauthkeys", 0x4F05, 110, 5).sfi(0x05).optional().often(),
    transparent("ef-uac-aic", 0x4F06, 4, 2).sfi(0x06),
    transparent("ef-suci-calc-info", 0x4F07, GIVEN, 2).sfi(0x07).fill(FF),
    linear("ef-opl5g", 0x4F08, GIVEN, 10, 10).sfi(0x08).fill(FF),
    transparent("ef-supinai", 0x4F09, GIVEN, 2).sfi(0x09).optional(),
    transparent("ef-routing-indicator", 0x4F0A, 4, 2).sfi(0x0A).fill(&[0xF0, 0xFF]),
];

/// URSP rules, trusted non-3GPP access.
#[rustfmt::skip]
pub(super) const V2: &[FileTemplate] = &[
    ber_tlv("ef-ursp", 0x4F0B, 2).optional(),
    transparent("ef-tn3gppsnn", 0x4F0C, 1, 2).sfi(0x0C).fill(ZERO),
];

/// Two security contexts, for service 136 of EF.UST.
#[rustfmt::skip]
pub(super) const V3: &[FileTemplate] = &[
    linear("ef-5gs3gppnsc", 0x4F03, 2, 62, 5).sfi(0x03).fill(FF).often(),
    linear("ef-5gsn3gppnsc", 0x4F04, 2, 62, 5).sfi(0x04).fill(FF).often(),
];

#[rustfmt::skip]
pub(super) const V4: &[FileTemplate] = &[
    transparent("ef-routing-indicator", 0x4F0A, 4, 2).sfi(0x0A).fill(&[0xF0, 0xFF, 0x00]),
    transparent("ef-cag", 0x4F0D, 2, 2).sfi(0x0D),
    transparent("ef-sor-cmci", 0x4F0E, GIVEN, 2).sfi(0x0E),
    transparent("ef-dri", 0x4F0F, 7, 2).sfi(0x0F),
    transparent("ef-5gsedrx", 0x4F10, 2, 2).sfi(0x10),
    transparent("ef-5gnswo-conf", 0x4F11, 1, 2).sfi(0x11),
    transparent("ef-mchpplmn", 0x4F15, 1, 2).sfi(0x15),
    transparent("ef-kausf-derivation", 0x4F16, 1, 2).sfi(0x16),
];

#[rustfmt::skip]
pub(super) const DF_SAIP: &[FileTemplate] = &[
    df("df-df-saip", 0x5FD0),
    transparent("ef-suci-calc-info-usim", 0x4F01, GIVEN, 3).fill(FF),
];

#[rustfmt::skip]
pub(super) const DF_SNPN: &[FileTemplate] = &[
    df("df-df-snpn", 0x5FE0),
    transparent("ef-pws-snpn", 0x4F01, 1, 10),
];

#[rustfmt::skip]
pub(super) const DF_5G_PROSE: &[FileTemplate] = &[
    df("df-df-5g-prose", 0x5FF0),
    transparent("ef-5g-prose-st", 0x4F01, 1, 2).sfi(0x01),
    transparent("ef-5g-prose-dd", 0x4F02, 26, 2).sfi(0x02),
    transparent("ef-5g-prose-dc", 0x4F03, 12, 2).sfi(0x03),
    transparent("ef-5g-prose-u2nru", 0x4F04, 32, 2).sfi(0x04),
    transparent("ef-5g-prose-ru", 0x4F05, 29, 2).sfi(0x05),
    transparent("ef-5g-prose-uir", 0x4F06, 32, 2).sfi(0x06),
];
