//! PE-NonStandard (SAIP §8.9) and PE-End (SAIP §8.10).
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::header::{PeHeader, pe_header};
use super::shape::{Member, OCTETS, OID, automatic, must};

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct NonStandard {
    pub header: PeHeader,
    pub issuer_id: ObjectIdentifier,
    pub content: OctetString,
}

pub(super) const NON_STANDARD: &[Member] =
    &automatic([pe_header("nonStandard-header"), must("issuerID", OID), must("content", OCTETS)]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct End {
    pub header: PeHeader,
}

pub(super) const END: &[Member] = &automatic([pe_header("end-header")]);
