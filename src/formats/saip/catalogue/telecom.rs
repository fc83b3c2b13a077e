//! DF.TELECOM and the phonebook, which also stands in ADF.USIM (SAIP §9.4, §9.5.3; 3GPP TS 31.102 §4.4.2, §4.6; 3GPP2 C.S0074).

use super::{FF, FileTemplate, GIVEN, UNUSED, ZERO, ber_tlv, df, linear, transparent};

#[rustfmt::skip]
pub(super) const TELECOM: &[FileTemplate] = &[
    df("df-telecom", 0x7F10),
    linear("ef-arr", 0x6F06, GIVEN, GIVEN, 10),
    linear("ef-rma", 0x6F53, GIVEN, GIVEN, 3),
    transparent("ef-sume", 0x6F54, 22, 3),
    linear("ef-ice-dn", 0x6FE0, 50, 24, 9).fill(FF),
    linear("ef-ice-ff", 0x6FE1, GIVEN, GIVEN, 9).fill(FF),
    linear("ef-psismsc", 0x6FE5, GIVEN, GIVEN, 5),

    df("df-graphics", 0x5F50),
    linear("ef-img", 0x4F20, GIVEN, GIVEN, 2).fill(UNUSED),
    transparent("ef-iidf", 0x4F40, GIVEN, 2).until(0x4F7F).fill(FF),
    ber_tlv("ef-ice-graphics", 0x4F21, 9).optional(),
    transparent("ef-launch-scws", 0x4F01, GIVEN, 10),
    transparent("ef-icon", 0x4F80, GIVEN, 10).until(0x4FBF),

    df("df-multimedia", 0x5F3B),
    ber_tlv("ef-mml", 0x4F47, 5).optional(),
    ber_tlv("ef-mmdf", 0x4F48, 5).optional(),

    df("df-mmss", 0x5F3C),
    transparent("ef-mlpl", 0x4F20, GIVEN, 2).sfi(0x01),
    transparent("ef-mspl", 0x4F21, GIVEN, 2).sfi(0x02),
    transparent("ef-mmssmode", 0x4F22, 1, 2).sfi(0x03),
];

/// Mission critical services and V2X.
#[rustfmt::skip]
pub(super) const V2: &[FileTemplate] = &[
    df("df-mcs", 0x5F3D),
    transparent("ef-mst", 0x4F01, GIVEN, 2).sfi(0x01),
    ber_tlv("ef-mcs-config", 0x4F02, 2).sfi(0x02),

    df("df-v2x", 0x5F3E),
    transparent("ef-vst", 0x4F01, GIVEN, 2).sfi(0x01),
    ber_tlv("ef-v2x-config", 0x4F02, 2).sfi(0x02),
    transparent("ef-v2xp-pc5", 0x4F03, GIVEN, 2),
    transparent("ef-v2xp-Uu", 0x4F04, GIVEN, 2),
];

/// Each of the files in ranges exists up to eight times; EF.PBR says which belong together.
#[rustfmt::skip]
pub(super) const PHONEBOOK: &[FileTemplate] = &[
    df("df-phonebook", 0x5F3A),
    linear("ef-pbr", 0x4F30, GIVEN, GIVEN, 2),
    linear("ef-ext1", 0x4F38, GIVEN, 13, 5).until(0x4F3F).fill(UNUSED),
    linear("ef-aas", 0x4F40, GIVEN, GIVEN, 5).until(0x4F47).fill(FF),
    linear("ef-gas", 0x4F48, GIVEN, GIVEN, 5).until(0x4F4F).fill(FF),
    transparent("ef-psc", 0x4F22, 4, 5).fill(ZERO),
    transparent("ef-cc", 0x4F23, 2, 5).fill(ZERO).often(),
    transparent("ef-puid", 0x4F24, 2, 5).fill(ZERO).often(),
    linear("ef-iap", 0x4F50, GIVEN, GIVEN, 5).until(0x4F57).fill(FF),
    linear("ef-adn", 0x4F58, GIVEN, GIVEN, 5).until(0x4F5F).fill(FF),
    linear("ef-pbc", 0x4F60, GIVEN, 2, 5).until(0x4F67).fill(ZERO),
    linear("ef-anr", 0x4F68, GIVEN, GIVEN, 5).until(0x4F6F).fill(FF),
    linear("ef-puri", 0x4F70, GIVEN, GIVEN, 5).until(0x4F77),
    linear("ef-email", 0x4F78, GIVEN, GIVEN, 5).until(0x4F7F).fill(FF),
    linear("ef-sne", 0x4F80, GIVEN, GIVEN, 5).until(0x4F87).fill(FF),
    linear("ef-uid", 0x4F88, GIVEN, 2, 5).until(0x4F8F).fill(ZERO),
    linear("ef-grp", 0x4F90, GIVEN, GIVEN, 5).until(0x4F97).fill(ZERO),
    linear("ef-ccp1", 0x4F98, GIVEN, GIVEN, 5).until(0x4F9F).fill(FF),
];
