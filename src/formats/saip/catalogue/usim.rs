//! ADF.USIM and DF.GSM-ACCESS (SAIP §9.5.1, §9.5.4; 3GPP TS 31.102 §4.2, §4.4.3).

use super::{FF, FileTemplate, Fill, GIVEN, UNUSED, ZERO, adf, df, linear, transparent};

#[rustfmt::skip]
pub(super) const USIM: &[FileTemplate] = &[
    adf("adf-usim"),
    transparent("ef-imsi", 0x6F07, 9, 2).sfi(0x07),
    linear("ef-arr", 0x6F06, GIVEN, GIVEN, 10).sfi(0x17),
    transparent("ef-keys", 0x6F08, 33, 5).sfi(0x08).fill(&[0x07, 0xFF]).often(),
    transparent("ef-keysPS", 0x6F09, 33, 5).sfi(0x09).fill(&[0x07, 0xFF]).often(),
    transparent("ef-hpplmn", 0x6F31, 1, 2).sfi(0x12).fill(&[0x0A]),
    transparent("ef-ust", 0x6F38, 14, 2).sfi(0x04),
    linear("ef-fdn", 0x6F3B, 20, 26, 8).fill(FF),
    linear("ef-sms", 0x6F3C, 10, 176, 5).fill(UNUSED),
    linear("ef-smsp", 0x6F42, 1, 38, 5).fill(FF),
    transparent("ef-smss", 0x6F43, 2, 5).fill(FF),
    transparent("ef-spn", 0x6F46, 17, 10),
    transparent("ef-est", 0x6F56, 1, 8).sfi(0x05),
    transparent("ef-start-hfn", 0x6F5B, 6, 5).sfi(0x0F).filled(Fill::Whole(&[0xF0, 0x00, 0x00])).often(),
    transparent("ef-threshold", 0x6F5C, 3, 2).sfi(0x10).fill(FF),
    transparent("ef-psloci", 0x6F73, 14, 5).sfi(0x0C).filled(Fill::Before(&[0x00, 0x00, 0xFF, 0x01])).often(),
    transparent("ef-acc", 0x6F78, 2, 2).sfi(0x06),
    transparent("ef-fplmn", 0x6F7B, 12, 5).sfi(0x0D).fill(FF),
    transparent("ef-loci", 0x6F7E, 11, 5).sfi(0x0B).filled(Fill::Before(&[0x00, 0x00, 0xFF, 0x01])).often(),
    transparent("ef-ad", 0x6FAD, 4, 10).sfi(0x03).fill(&[0x00, 0x00, 0x00, 0x02]),
    linear("ef-ecc", 0x6FB7, 1, 4, 10).sfi(0x01),
    transparent("ef-netpar", 0x6FC4, 128, 5).fill(FF).often(),
    transparent("ef-epsloci", 0x6FE3, 18, 5).sfi(0x1E).filled(Fill::Before(&[0x00, 0x00, 0x01])).often(),
    linear("ef-epsnsc", 0x6FE4, 1, 80, 5).sfi(0x18).fill(FF).often(),
];

/// Services up to 136.
#[rustfmt::skip]
pub(super) const V2: &[FileTemplate] = &[
    transparent("ef-ust", 0x6F38, 17, 2).sfi(0x04),
];

#[rustfmt::skip]
pub(super) const GSM_ACCESS: &[FileTemplate] = &[
    df("df-gsm-access", 0x5F3B),
    transparent("ef-kc", 0x4F20, 9, 5).sfi(0x01).filled(Fill::Before(&[0x07])).often(),
    transparent("ef-kcgprs", 0x4F52, 9, 5).sfi(0x02).filled(Fill::Before(&[0x07])).often(),
    transparent("ef-cpbcch", 0x4F63, 10, 5).fill(FF).often(),
    transparent("ef-invscan", 0x4F64, 1, 2).fill(ZERO),
];
