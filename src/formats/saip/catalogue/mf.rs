//! MF and DF.CD (SAIP §9.2, §9.3; ETSI TS 102 221 §13).

use super::{FF, FileTemplate, Form, GIVEN, df, directory, linear, transparent};

#[rustfmt::skip]
pub(super) const MF: &[FileTemplate] = &[
    directory("mf", Some(0x3F00), Form::Mf),
    transparent("ef-pl", 0x2F05, 2, 1).sfi(0x05).fill(FF),
    transparent("ef-iccid", 0x2FE2, 10, 11),
    linear("ef-dir", 0x2F00, GIVEN, GIVEN, 10).sfi(0x1E),
    linear("ef-arr", 0x2F06, GIVEN, GIVEN, 10),
    transparent("ef-umpc", 0x2F08, 5, 10).sfi(0x08).optional(),
];

#[rustfmt::skip]
pub(super) const CD: &[FileTemplate] = &[
    df("df-cd", 0x7F11),
    transparent("ef-launchpad", 0x6F01, GIVEN, 2),
    transparent("ef-icon", 0x6F40, GIVEN, 2).until(0x6F7E),
];
