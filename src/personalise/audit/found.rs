//! What an audit finds in a package.

use std::fmt;

use zeroize::Zeroizing;

use crate::formats::saip::kind::Kind;

/// Everything personal in a package, at every place.
#[derive(Default)]
pub struct Found {
    /// What is no secret: numbers, files, parameters.
    pub values: Vec<Value>,
    /// Every akaParameter with an algoParameter.
    pub akas: Vec<Aka>,
    /// Every cdmaParameter.
    pub cdmas: Vec<Cdma>,
    /// PINs and ADMs of every context.
    pub pins: Vec<Code>,
    /// PUKs.
    pub puks: Vec<Code>,
    /// EF.SPC of every CSIM.
    pub spcs: Vec<Code>,
    /// Parameters of remote management and of applets, by their numbered names.
    pub parameters: Vec<Parameter>,
    /// Secret keys of every security domain.
    pub ota_keys: Vec<OtaValue>,
    /// Numbers of the mandated services.
    pub services: Vec<u8>,
    /// Security domains.
    pub domains: u8,
    /// Standard files that GenericFileManagement makes below an ADF.USIM: element and name in SAIP, place, content.
    pub(super) generic: Vec<(Kind, &'static str, String, Vec<u8>)>,
}

/// A value that is no secret, at one place.
pub struct Value {
    /// The variable's name or that of the order's member: `iccid`, `imsi`, `spn`, `sqn`; `realm` for the home network in an IMS identity.
    pub name: &'static str,
    /// The element, and the file in it.
    pub place: String,
    /// In canonical text, empty where the place is free; `None` where it does not have the form of such a value.
    pub text: Option<String>,
    /// The file it was read from.
    pub(super) file: Option<File>,
}

/// The octets of a file.
pub(super) struct File {
    pub(super) octets: Vec<u8>,
    pub(super) record_len: Option<usize>,
}

/// The authentication parameters of one akaParameter.
pub struct Aka {
    /// Label of the element.
    pub place: String,
    /// `algorithmID`: 1 Milenage, 2 TUAK, 3 the USIM test algorithm.
    pub algorithm: u8,
    /// K.
    pub k: Zeroizing<Vec<u8>>,
    /// OPc or TOPc.
    pub opc: Zeroizing<Vec<u8>>,
    /// `rotationConstants` and `xoringConstants`.
    pub constants: Vec<u8>,
}

/// A PIN, PUK or ADM with its reference.
pub struct Code {
    /// Label of the element.
    pub place: String,
    /// Key reference: 1 PIN1, 81 PIN2, 0A ADM1, ...
    pub reference: u8,
    /// The octets as they stand there.
    pub value: Zeroizing<Vec<u8>>,
}

/// A parameter of which there are several in a package: `rfm.2.msl`.
pub struct Parameter {
    /// Its name in orders.
    pub name: String,
    /// Label of the element.
    pub place: String,
    /// Hex, with commas between the items of a list; wiped, as it may hold keys.
    pub text: Zeroizing<String>,
}

/// A key of a security domain.
pub struct OtaValue {
    /// The security domain, from 0 in package order.
    pub domain: u8,
    /// Key version number.
    pub version: u8,
    /// Key identifier.
    pub id: u8,
    /// Key type.
    pub key_type: u8,
    /// Component of the key object, from 0.
    pub component: u8,
    /// The key.
    pub value: Zeroizing<Vec<u8>>,
}

/// The secrets of one cdmaParameter.
pub struct Cdma {
    /// Label of the element.
    pub place: String,
    /// `authenticationKey`.
    pub a_key: Zeroizing<Vec<u8>>,
    /// `ssd`, where there is one.
    pub ssd: Option<Zeroizing<Vec<u8>>>,
}

impl Found {
    /// The values of one name, in the order of the package.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(move |value| value.name == name)
    }

    pub(super) fn put(&mut self, name: &'static str, place: String, text: Option<String>) {
        self.values.push(Value { name, place, text, file: None });
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found(redacted)")
    }
}
