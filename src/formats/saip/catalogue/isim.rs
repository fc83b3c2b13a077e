//! ADF.ISIM with its optional files, and DF.EAP (SAIP §9.6, §9.8; 3GPP TS 31.103 §4.2, ETSI TS 102 310).

use super::{FF, FileTemplate, Form, GIVEN, UNUSED, ZERO, adf, ber_tlv, directory, linear, transparent};

#[rustfmt::skip]
pub(super) const ISIM: &[FileTemplate] = &[
    adf("adf-isim"),
    transparent("ef-impi", 0x6F02, GIVEN, 2).sfi(0x02),
    linear("ef-impu", 0x6F04, 1, GIVEN, 2).sfi(0x04),
    transparent("ef-domain", 0x6F03, GIVEN, 2).sfi(0x05),
    transparent("ef-ist", 0x6F07, 14, 2).sfi(0x07),
    transparent("ef-ad", 0x6FAD, 3, 10).sfi(0x03).fill(ZERO),
    linear("ef-arr", 0x6F06, GIVEN, GIVEN, 10).sfi(0x06),
];

#[rustfmt::skip]
pub(super) const OPT_ISIM: &[FileTemplate] = &[
    linear("ef-pcscf", 0x6F09, 1, GIVEN, 2),
    linear("ef-sms", 0x6F3C, 10, 176, 5).fill(UNUSED),
    linear("ef-smsp", 0x6F42, 1, 38, 5).fill(FF),
    transparent("ef-smss", 0x6F43, 2, 5).fill(FF),
    linear("ef-smsr", 0x6F47, 10, 30, 5).fill(UNUSED),
    transparent("ef-gbabp", 0x6FD5, GIVEN, 5).fill(FF),
    linear("ef-gbanl", 0x6FD7, GIVEN, GIVEN, 2).fill(FF),
    linear("ef-nafkca", 0x6FDD, GIVEN, GIVEN, 2).fill(FF),
    linear("ef-uicciari", 0x6FE7, GIVEN, GIVEN, 2),
];

#[rustfmt::skip]
pub(super) const V2: &[FileTemplate] = &[
    transparent("ef-frompreferred", 0x6FF7, 1, 2).fill(ZERO),
    ber_tlv("ef-imsconfigdata", 0x6FF8, 2),
    ber_tlv("ef-xcapconfigdata", 0x6FFC, 2),
    linear("ef-webrtcuri", 0x6FFA, GIVEN, GIVEN, 2),
    ber_tlv("ef-mudmidconfigdata", 0x6FFE, 2),
];

/// The identifier of DF.EAP comes from the package.
#[rustfmt::skip]
pub(super) const EAP: &[FileTemplate] = &[
    directory("df-eap", None, Form::Df),
    transparent("ef-eapkeys", 0x4F01, GIVEN, 2).often(),
    transparent("ef-eapstatus", 0x4F02, 1, 2).fill(ZERO).often(),
    transparent("ef-puid", 0x4F03, GIVEN, 2),
    transparent("ef-ps", 0x4F04, GIVEN, 5).fill(FF).often(),
    transparent("ef-curid", 0x4F20, GIVEN, 5).fill(FF).often(),
    transparent("ef-reid", 0x4F21, GIVEN, 5),
    transparent("ef-realm", 0x4F22, GIVEN, 5),
];
