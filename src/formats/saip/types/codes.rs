//! PE-PINCodes and PE-PUKCodes (SAIP §8.5).
#![allow(missing_docs)] // the names are the specification's

use rasn::prelude::*;

use super::header::{PeHeader, pe_header};
use super::shape::{Member, Shape, UINT8, automatic, default, exactly, may, must, octets, sequence_item};

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct PinCodes {
    pub header: PeHeader,
    pub pin_codes: PinCodesChoice,
}

pub(super) const PIN_CODES: &[Member] =
    &automatic([pe_header("pin-Header"), must("pinCodes", Shape::Choice(PIN_CODES_CHOICE))]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(choice, automatic_tags)]
pub enum PinCodesChoice {
    PinConfig(SequenceOf<PinConfiguration>),
    #[rasn(size("0..=8"))]
    FilePath(OctetString),
}

pub(super) const PIN_CODES_CHOICE: &[Member] = &automatic([
    must("pinconfig", Shape::ListOf { item: &sequence_item("PINConfiguration", PIN_CONFIGURATION), min: 1, max: 26 }),
    must("filePath", octets(0, 8)),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct PinConfiguration {
    pub key_reference: u8,
    #[rasn(size("8"))]
    pub pin_value: OctetString,
    pub unblocking_pin_reference: Option<u8>,
    #[rasn(default = "pin_attributes")]
    pub pin_attributes: u8,
    /// `maxNumOfAttemps-retryNumLeft`.
    #[rasn(default = "three_of_three")]
    pub attempts: u8,
}

pub(super) const PIN_CONFIGURATION: &[Member] = &automatic([
    must("keyReference", UINT8),
    must("pinValue", exactly(8)),
    may("unblockingPINReference", UINT8),
    default("pinAttributes", UINT8, &[7]),
    default("maxNumOfAttemps-retryNumLeft", UINT8, &[0x33]),
]);

fn pin_attributes() -> u8 {
    7
}
fn three_of_three() -> u8 {
    0x33
}

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct PukCodes {
    pub header: PeHeader,
    pub puk_codes: SequenceOf<PukConfiguration>,
}

pub(super) const PUK_CODES: &[Member] = &automatic([
    pe_header("puk-Header"),
    must("pukCodes", Shape::ListOf { item: &sequence_item("PUKConfiguration", PUK_CONFIGURATION), min: 1, max: 16 }),
]);

#[derive(AsnType, Clone, Debug, Decode, Encode, PartialEq)]
#[rasn(automatic_tags)]
pub struct PukConfiguration {
    pub key_reference: u8,
    #[rasn(size("8"))]
    pub puk_value: OctetString,
    /// `maxNumOfAttemps-retryNumLeft`.
    #[rasn(default = "ten_of_ten")]
    pub attempts: u8,
}

pub(super) const PUK_CONFIGURATION: &[Member] = &automatic([
    must("keyReference", UINT8),
    must("pukValue", exactly(8)),
    default("maxNumOfAttemps-retryNumLeft", UINT8, &[0, 0xAA]),
]);

fn ten_of_ten() -> u8 {
    0xAA
}
