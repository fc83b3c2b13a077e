//! The IoT Minimal Profile and its optional files (SAIP §7.5, §9.10).
//!
//! Only EF.IMSI and EF.ACC must be given; everything else has a default, the content of EF.ICCID being the header's iccid.

use super::{FF, FileTemplate, Fill, Form, GIVEN, UNUSED, ZERO, adf, ber_tlv, df, directory, linear, transparent};

#[rustfmt::skip]
pub(super) const IOT: &[FileTemplate] = &[
    directory("mf", Some(0x3F00), Form::Mf),
    transparent("ef-pl", 0x2F05, 2, 1).sfi(0x05).fill(FF),
    transparent("ef-iccid", 0x2FE2, 10, 11).optional(),
    linear("ef-dir", 0x2F00, GIVEN, GIVEN, 10).sfi(0x1E).optional(),
    linear("ef-arr", 0x2F06, GIVEN, GIVEN, 10).optional(),
    transparent("ef-umpc", 0x2F08, 5, 10).sfi(0x08).optional(),

    adf("adf-usim"),
    transparent("ef-imsi", 0x6F07, 9, 2).sfi(0x07),
    linear("ef-arr-usim", 0x6F06, GIVEN, GIVEN, 10).sfi(0x17).optional(),
    transparent("ef-keys", 0x6F08, 33, 5).sfi(0x08).fill(&[0x07, 0xFF]).often(),
    transparent("ef-keysPS", 0x6F09, 33, 5).sfi(0x09).fill(&[0x07, 0xFF]).often(),
    transparent("ef-hpplmn", 0x6F31, 1, 2).sfi(0x12).fill(&[0x0A]),
    transparent("ef-ust", 0x6F38, 17, 2).sfi(0x04).optional(),
    transparent("ef-start-hfn", 0x6F5B, 6, 5).sfi(0x0F).filled(Fill::Whole(&[0xF0, 0x00, 0x00])).often(),
    transparent("ef-threshold", 0x6F5C, 3, 2).sfi(0x10).fill(FF),
    transparent("ef-psloci", 0x6F73, 14, 5).sfi(0x0C).filled(Fill::Before(&[0x00, 0x00, 0xFF, 0x01])).often(),
    transparent("ef-acc", 0x6F78, 2, 2).sfi(0x06),
    transparent("ef-fplmn", 0x6F7B, 12, 5).sfi(0x0D).fill(FF),
    transparent("ef-loci", 0x6F7E, 11, 5).sfi(0x0B).filled(Fill::Before(&[0x00, 0x00, 0xFF, 0x01])).often(),
    transparent("ef-ad", 0x6FAD, 4, 10).sfi(0x03).fill(&[0x00, 0x00, 0x00, 0x02]),
    linear("ef-ecc", 0x6FB7, 1, 4, 10).sfi(0x01).optional(),
    transparent("ef-netpar", 0x6FC4, 128, 5).fill(FF).often(),
];

#[rustfmt::skip]
pub(super) const OPT_IOT: &[FileTemplate] = &[
    linear("ef-fdn", 0x6F3B, 20, 26, 8).fill(FF),
    linear("ef-sms", 0x6F3C, 10, 176, 5).fill(UNUSED),
    linear("ef-smsp", 0x6F42, 1, 38, 5).fill(FF),
    transparent("ef-smss", 0x6F43, 2, 5).fill(FF),
    transparent("ef-spn", 0x6F46, 17, 10),
    transparent("ef-est", 0x6F56, 1, 8).sfi(0x05),
    transparent("ef-oplmnwact", 0x6F61, 40, 2).sfi(0x11).filled(Fill::Whole(&[0xFF, 0xFF, 0xFF, 0x00, 0x00])),
    transparent("ef-hplmnwact", 0x6F62, 5, 2).sfi(0x13).filled(Fill::Whole(&[0xFF, 0xFF, 0xFF, 0x00, 0x00])),
    transparent("ef-ehplmn", 0x6FD9, 15, 2).sfi(0x1D).fill(FF),
    transparent("ef-epsloci", 0x6FE3, 18, 5).sfi(0x1E).filled(Fill::Before(&[0x00, 0x00, 0x01])).often(),
    linear("ef-epsnsc", 0x6FE4, 1, 80, 5).sfi(0x18).fill(FF).often(),

    df("df-df-5gs", 0x5FC0),
    transparent("ef-5gs3gpploci", 0x4F01, 20, 5).sfi(0x01).filled(Fill::Before(&[0x00, 0x00, 0x00, 0x01])).often(),
    transparent("ef-5gsn3gpploci", 0x4F02, 20, 5).sfi(0x02).filled(Fill::Before(&[0x00, 0x00, 0x00, 0x01])).often(),
    linear("ef-5gs3gppnsc", 0x4F03, 2, 62, 5).sfi(0x03).fill(FF).often(),
    linear("ef-5gsn3gppnsc", 0x4F04, 2, 62, 5).sfi(0x04).fill(FF).often(),
    transparent("ef-5gauthkeys", 0x4F05, 110, 5).sfi(0x05).optional().often(),
    transparent("ef-uac-aic", 0x4F06, 4, 2).sfi(0x06),
    transparent("ef-suci-calc-info", 0x4F07, GIVEN, 2).sfi(0x07).fill(FF),
    linear("ef-opl5g", 0x4F08, GIVEN, 10, 10).sfi(0x08).fill(FF),
    transparent("ef-supi-nai", 0x4F09, GIVEN, 2).sfi(0x09).optional(),
    transparent("ef-routing-indicator", 0x4F0A, 4, 2).sfi(0x0A).fill(&[0xF0, 0xFF, 0x00]),
    ber_tlv("ef-ursp", 0x4F0B, 2).optional(),
    transparent("ef-tn3gppsnn", 0x4F0C, 1, 2).sfi(0x0C).fill(ZERO),

    df("df-df-saip", 0x5FD0),
    transparent("ef-suci-calc-info-usim", 0x4F01, GIVEN, 3).fill(FF),
];
