//! Optional files of ADF.USIM (SAIP §9.5.2; 3GPP TS 31.102 §4.2).

use super::{FF, FileTemplate, Fill, GIVEN, UNUSED, ZERO, ber_tlv, cyclic, linear, transparent};

/// A PLMN with access technology that says nothing.
const NO_PLMN: Fill = Fill::Whole(&[0xFF, 0xFF, 0xFF, 0x00, 0x00]);
/// The end of a call record that was never written.
const NO_CALL: &[u8] = &[0x00, 0x00, 0x00, 0x00, 0x01, 0xFF, 0xFF];

/// EF.UFC as SAIP §9.5.2 gives it.
#[rustfmt::skip]
const UFC: &[u8] = &[
    0x80, 0x1E, 0x60, 0xC0, 0x1E, 0x90, 0x00, 0x80, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0xF0, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80,
];

#[rustfmt::skip]
pub(super) const OPT_USIM: &[FileTemplate] = &[
    transparent("ef-li", 0x6F05, 6, 1).sfi(0x02).fill(FF),
    transparent("ef-acmax", 0x6F37, 3, 5).fill(ZERO),
    cyclic("ef-acm", 0x6F39, 1, 3, 7).fill(ZERO).often(),
    transparent("ef-gid1", 0x6F3E, 8, 2),
    transparent("ef-gid2", 0x6F3F, 8, 2),
    linear("ef-msisdn", 0x6F40, 1, 24, 2).fill(FF),
    transparent("ef-puct", 0x6F41, 5, 5).fill(&[0xFF, 0xFF, 0xFF, 0x00]),
    transparent("ef-cbmi", 0x6F45, 10, 5).fill(FF),
    transparent("ef-cbmid", 0x6F48, 10, 2).sfi(0x0E).fill(FF),
    linear("ef-sdn", 0x6F49, 10, 24, 2).fill(FF),
    linear("ef-ext2", 0x6F4B, 10, 13, 8).fill(UNUSED),
    linear("ef-ext3", 0x6F4C, 10, 13, 2).fill(UNUSED),
    transparent("ef-cbmir", 0x6F50, 20, 5).fill(FF),
    transparent("ef-plmnwact", 0x6F60, 40, 5).sfi(0x0A).filled(NO_PLMN),
    transparent("ef-oplmnwact", 0x6F61, 40, 2).sfi(0x11).filled(NO_PLMN),
    transparent("ef-hplmnwact", 0x6F62, 5, 2).sfi(0x13).filled(NO_PLMN),
    transparent("ef-dck", 0x6F2C, 16, 5).fill(FF),
    transparent("ef-cnl", 0x6F32, 30, 2).fill(FF),
    linear("ef-smsr", 0x6F47, 10, 30, 5).fill(UNUSED),
    linear("ef-bdn", 0x6F4D, 10, 25, 8).fill(FF),
    linear("ef-ext5", 0x6F4E, 10, 13, 5).fill(UNUSED),
    linear("ef-ccp2", 0x6F4F, 5, 15, 5).sfi(0x16).fill(FF),
    linear("ef-ext4", 0x6F55, 10, 13, 8).fill(UNUSED),
    transparent("ef-acl", 0x6F57, 101, 8).fill(UNUSED),
    linear("ef-cmi", 0x6F58, 10, 11, 2).fill(FF),
    cyclic("ef-ici", 0x6F80, 20, 38, 5).sfi(0x14).filled(Fill::Before(NO_CALL)).often(),
    cyclic("ef-oci", 0x6F81, 20, 37, 5).sfi(0x15).filled(Fill::Before(NO_CALL.split_at(1).1)).often(),
    cyclic("ef-ict", 0x6F82, 1, 3, 7).fill(ZERO).often(),
    cyclic("ef-oct", 0x6F83, 1, 3, 7).fill(ZERO).often(),
    transparent("ef-vgcs", 0x6FB1, 20, 2),
    transparent("ef-vgcss", 0x6FB2, 7, 5),
    transparent("ef-vbs", 0x6FB3, 20, 2),
    transparent("ef-vbss", 0x6FB4, 7, 5),
    transparent("ef-emlpp", 0x6FB5, 2, 2),
    transparent("ef-aaem", 0x6FB6, 1, 5).fill(ZERO),
    transparent("ef-hiddenkey", 0x6FC3, 4, 5).fill(FF),
    linear("ef-pnn", 0x6FC5, 10, 16, 10).sfi(0x19),
    linear("ef-opl", 0x6FC6, 5, 8, 10).sfi(0x1A),
    linear("ef-mbdn", 0x6FC7, 3, 24, 5),
    linear("ef-ext6", 0x6FC8, 10, 13, 5).fill(UNUSED),
    linear("ef-mbi", 0x6FC9, 10, 5, 5),
    linear("ef-mwis", 0x6FCA, 10, 6, 5).fill(ZERO).often(),
    linear("ef-cfis", 0x6FCB, 10, 16, 5).fill(&[0x01, 0x00, 0xFF]),
    linear("ef-ext7", 0x6FCC, 10, 13, 5).fill(UNUSED),
    transparent("ef-spdi", 0x6FCD, 17, 2).sfi(0x1B),
    linear("ef-mmsn", 0x6FCE, 10, 6, 5).fill(&[0x00, 0x00, 0x00, 0xFF]),
    linear("ef-ext8", 0x6FCF, 10, 13, 5).fill(UNUSED),
    transparent("ef-mmsicp", 0x6FD0, 100, 2).fill(FF),
    linear("ef-mmsup", 0x6FD1, GIVEN, GIVEN, 5).fill(FF),
    transparent("ef-mmsucp", 0x6FD2, 100, 5).fill(FF),
    linear("ef-nia", 0x6FD3, 5, 11, 2).fill(FF),
    transparent("ef-vgcsca", 0x6FD4, GIVEN, 2).fill(ZERO),
    transparent("ef-vbsca", 0x6FD5, GIVEN, 2).fill(ZERO),
    transparent("ef-gbabp", 0x6FD6, GIVEN, 5).fill(FF),
    linear("ef-msk", 0x6FD7, GIVEN, GIVEN, 2).fill(FF).often(),
    linear("ef-muk", 0x6FD8, GIVEN, GIVEN, 2).fill(FF),
    transparent("ef-ehplmn", 0x6FD9, 15, 2).sfi(0x1D).fill(FF),
    linear("ef-gbanl", 0x6FDA, GIVEN, GIVEN, 2).fill(FF),
    transparent("ef-ehplmnpi", 0x6FDB, 1, 2).fill(ZERO),
    transparent("ef-lrplmnsi", 0x6FDC, 1, 2).fill(ZERO),
    linear("ef-nafkca", 0x6FDD, GIVEN, GIVEN, 2).fill(FF),
    transparent("ef-spni", 0x6FDE, GIVEN, 10).fill(UNUSED),
    linear("ef-pnni", 0x6FDF, GIVEN, GIVEN, 10).fill(UNUSED),
    linear("ef-ncp-ip", 0x6FE2, GIVEN, GIVEN, 2),
    transparent("ef-ufc", 0x6FE6, 30, 10).fill(UFC),
    transparent("ef-nasconfig", 0x6FE8, 18, 2),
    linear("ef-uicciari", 0x6FE7, GIVEN, GIVEN, 2),
    transparent("ef-pws", 0x6FEC, GIVEN, 10),
    linear("ef-fdnuri", 0x6FED, GIVEN, GIVEN, 8).fill(FF),
    linear("ef-bdnuri", 0x6FEE, GIVEN, GIVEN, 8).fill(FF),
    linear("ef-sdnuri", 0x6FEF, GIVEN, GIVEN, 2).fill(FF),
    linear("ef-ial", 0x6FF0, GIVEN, GIVEN, 3).fill(FF),
    cyclic("ef-ips", 0x6FF1, GIVEN, 4, 10).fill(FF).often(),
    linear("ef-ipd", 0x6FF2, GIVEN, GIVEN, 3).fill(FF).often(),
];

/// ePDG, IMS and XCAP configuration, PS data off.
#[rustfmt::skip]
pub(super) const V2: &[FileTemplate] = &[
    transparent("ef-epdgid", 0x6FF3, GIVEN, 2),
    transparent("ef-epdgselection", 0x6FF4, GIVEN, 2),
    transparent("ef-epdgidem", 0x6FF5, GIVEN, 2),
    transparent("ef-epdgselectionem", 0x6FF6, GIVEN, 2),
    transparent("ef-frompreferred", 0x6FF7, 1, 2).fill(ZERO),
    ber_tlv("ef-imsconfigdata", 0x6FF8, 2),
    transparent("ef-3gpppsdataoff", 0x6FF9, 4, 2),
    linear("ef-3gpppsdataoffservicelist", 0x6FFA, GIVEN, GIVEN, 2),
    ber_tlv("ef-xcapconfigdata", 0x6FFC, 2),
    transparent("ef-earfcnlist", 0x6FFD, GIVEN, 10),
    ber_tlv("ef-mudmidconfigdata", 0x6FFE, 2),
];

/// Enhanced AKA.
#[rustfmt::skip]
pub(super) const V3: &[FileTemplate] = &[
    transparent("ef-eaka", 0x6F01, 1, 3),
];
