//! Between the policy's words and cryptoki's types: templates for making keys, and what is read back from them.

use cryptoki::error::Error;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::certs::Curve;
use crate::hsm::policy::{Flags, KeyAttribute as A, KeyKind, KeyRule, MechanismName, Origin, ReadBack};

/// Bits of an import key's modulus.
pub(super) const RSA_BITS: u64 = 3_072;

/// Which object of a key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Private,
    Public,
    Secret,
}

impl Half {
    /// The object that does the work.
    pub(super) fn working(rule: &KeyRule) -> Self {
        match rule.kind {
            KeyKind::Ec(_) | KeyKind::Rsa3072 => Self::Private,
            KeyKind::Aes128 | KeyKind::Aes256 => Self::Secret,
        }
    }

    /// How it is found: by class and label.
    pub(super) fn search(self, label: &str) -> [Attribute; 3] {
        let class = match self {
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Public => ObjectClass::PUBLIC_KEY,
            Self::Secret => ObjectClass::SECRET_KEY,
        };
        [Attribute::Class(class), Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec())]
    }
}

/// The template of one object of a new key: label, id, mechanisms and every flag of the policy that the model knows.
pub(super) fn template(rule: &KeyRule, half: Half, id: &[u8], unknown: &[String]) -> Vec<Attribute> {
    let known = |name: &str| !unknown.iter().any(|u| u == name);
    let flags = if half == Half::Public { &rule.public } else { &rule.attributes };
    let mut all = vec![Attribute::Label(rule.label.as_bytes().to_vec()), Attribute::Id(id.to_vec())];
    all.extend(flags.iter().filter(|(a, _)| known(a.as_str())).map(|(a, v)| flag(*a, *v)));
    if half != Half::Public && known("CKA_ALLOWED_MECHANISMS") {
        all.push(Attribute::AllowedMechanisms(rule.mechanisms.iter().map(|m| mechanism(*m)).collect()));
    }
    all
}

/// CKA_UNWRAP_TEMPLATE as the profile names it among what a model does not know.
pub(super) const UNWRAP_TEMPLATE: &str = "CKA_UNWRAP_TEMPLATE";

/// What every key has that an import key unwraps, whoever asks for it: else the PIN's holder could unwrap what an operator sent into
/// a key that can be read.
const UNWRAPPED: [(A, bool); 8] = [
    (A::Private, true),
    (A::Sensitive, true),
    (A::Extractable, false),
    (A::Modifiable, false),
    (A::Copyable, false),
    (A::Wrap, false),
    (A::Unwrap, false),
    (A::Derive, false),
];

/// CKA_UNWRAP_TEMPLATE of an import key. cryptoki has no type for an attribute that is a list of attributes: it is laid out here as
/// the CK_ATTRIBUTE array of PKCS#11 (type, pointer, length; a CK_ULONG is as wide as a pointer), its values are statics.
pub(super) fn unwrap_template(unknown: &[String]) -> Attribute {
    const TYPE: u64 = 0x4000_0212;
    static FALSE: u8 = 0;
    static TRUE: u8 = 1;
    let known = UNWRAPPED.iter().filter(|(a, _)| !unknown.iter().any(|u| u == a.as_str()));
    let words = known.flat_map(|(attribute, value)| {
        let number: u64 = attribute_type(*attribute).into();
        let value = std::ptr::from_ref(if *value { &TRUE } else { &FALSE });
        [number as usize, value as usize, size_of::<u8>()]
    });
    Attribute::VendorDefined((AttributeType::VendorDefined(TYPE), words.flat_map(usize::to_ne_bytes).collect()))
}

/// Flags for a template, but for those that the model does not know.
pub(super) fn flags(all: &[(A, bool)], unknown: &[String]) -> Vec<Attribute> {
    let known = all.iter().filter(|(a, _)| !unknown.iter().any(|u| u == a.as_str()));
    known.map(|(attribute, value)| flag(*attribute, *value)).collect()
}

/// CKA_EC_PARAMS of a curve.
pub(super) fn ec_params(curve: Curve) -> Attribute {
    Attribute::EcParams(curve.params_der().to_vec())
}

/// Reads one object's flags, mechanisms and kind. Attributes the token has no notion of are simply not in the answer.
pub(super) fn read_back(
    session: &Session,
    object: ObjectHandle,
    half: Half,
    rule: &KeyRule,
    asked: &[A],
    unknown: &[String],
) -> Result<ReadBack, Error> {
    let mut found = ReadBack::default();
    // One attribute a call: some modules answer a mixed request with the first fault only.
    let read =
        |attribute: AttributeType| session.get_attributes(object, &[attribute]).map(|answer| answer.into_iter().next());
    let mut flags = Flags::new();
    for attribute in asked.iter().filter(|a| !unknown.iter().any(|u| u == a.as_str())) {
        if let Some(value) = read(attribute_type(*attribute))?.as_ref().and_then(truth) {
            flags.insert(*attribute, value);
        }
    }
    found.flags = flags;
    if half != Half::Public
        && let Some(Attribute::AllowedMechanisms(list)) = read(AttributeType::AllowedMechanisms)?
    {
        let mut numbers: Vec<u64> = list.iter().map(|m| **m).collect();
        numbers.sort_unstable();
        found.mechanisms = Some(numbers);
    }
    let key_type = match read(AttributeType::KeyType)? {
        Some(Attribute::KeyType(key_type)) => Some(key_type),
        _ => None,
    };
    found.kind_fits = match rule.kind {
        kind @ (KeyKind::Aes128 | KeyKind::Aes256) => {
            let length = read(AttributeType::ValueLen)?;
            let expected = kind.secret_octets().map(|octets| Attribute::ValueLen((octets as u64).into()));
            // SoftHSM 2.6 tells 0 of a key that was unwrapped; what its octets are, its check value proved when it came in.
            let is_untold = rule.origin == Origin::Imported && length == Some(Attribute::ValueLen(0.into()));
            key_type == Some(KeyType::AES) && (is_untold || length.is_some() && length == expected)
        }
        KeyKind::Rsa3072 => {
            let octets = match read(AttributeType::Modulus)? {
                Some(Attribute::Modulus(modulus)) => modulus.len() as u64,
                _ => 0,
            };
            key_type == Some(KeyType::RSA) && octets == RSA_BITS / 8
        }
        KeyKind::Ec(curve) => key_type == Some(KeyType::EC) && read(AttributeType::EcParams)? == Some(ec_params(curve)),
    };
    Ok(found)
}

/// The number of a mechanism.
pub(super) fn mechanism(name: MechanismName) -> MechanismType {
    match name {
        MechanismName::Ecdsa => MechanismType::ECDSA,
        MechanismName::AesEcb => MechanismType::AES_ECB,
        MechanismName::AesGcm => MechanismType::AES_GCM,
        MechanismName::EcKeyPairGen => MechanismType::ECC_KEY_PAIR_GEN,
        MechanismName::AesKeyGen => MechanismType::AES_KEY_GEN,
        MechanismName::RsaKeyPairGen => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismName::RsaOaep => MechanismType::RSA_PKCS_OAEP,
        MechanismName::AesKeyWrap => MechanismType::AES_KEY_WRAP,
    }
}

macro_rules! flags_of_cryptoki {
    ($($name:ident),+ $(,)?) => {
        fn flag(attribute: A, value: bool) -> Attribute {
            match attribute { $(A::$name => Attribute::$name(value)),+ }
        }
        fn attribute_type(attribute: A) -> AttributeType {
            match attribute { $(A::$name => AttributeType::$name),+ }
        }
        fn truth(attribute: &Attribute) -> Option<bool> {
            match attribute { $(Attribute::$name(value))|+ => Some(*value), _ => None }
        }
    };
}

flags_of_cryptoki! {
    Token, Private, Sensitive, Extractable, Modifiable, Copyable, Sign, SignRecover, Verify, VerifyRecover, Encrypt, Decrypt,
    Wrap, Unwrap, Derive, Local, AlwaysSensitive, NeverExtractable,
}
