//! What a holder of the user PIN may try with PKCS#11 itself: the classic key-separation and extraction attacks (Clulow; Tookan)
//! against the keys that `init --demo` made, and an exchange of keys behind our back. One token in this process.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

use std::sync::OnceLock;

use bindery::cli::init::create_demo;
use bindery::config::Site;
use bindery::error::Exit;
use bindery::hsm::pkcs11::Token;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

struct Demo {
    _directory: tempfile::TempDir,
    site: Site,
    /// Keeps the login.
    _token: Token,
}

fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let site = create_demo(&directory.path().join("site")).unwrap();
        let token = Token::open(&site).unwrap();
        Demo { _directory: directory, site, _token: token }
    })
}

/// A session of the attacker: the same module, already initialised and logged in by this process.
fn attacker() -> Session {
    let site = &demo().site;
    let context = Pkcs11::new(site.path(&site.config.hsm.module)).unwrap();
    let slots = context.get_slots_with_initialized_token().unwrap();
    context.open_rw_session(slots[0]).unwrap()
}

fn find(session: &Session, class: ObjectClass, label: &str) -> ObjectHandle {
    let found = session.find_objects(&[Attribute::Class(class), Attribute::Label(label.into())]).unwrap();
    assert_eq!(found.len(), 1, "{label}");
    found[0]
}

const OPERATOR: &str = "bindery/operator/core-demo/1";

fn working_keys(session: &Session) -> Vec<(&'static str, ObjectHandle)> {
    let private = ["bindery/dpauth/p256/1", "bindery/dppb/p256/1", "bindery/manifest/p256/1"];
    let secret = ["bindery/site-kek/aes256/1", "bindery/transport/core-demo/1", OPERATOR];
    let private = private.map(|label| (label, find(session, ObjectClass::PRIVATE_KEY, label)));
    let secret = secret.map(|label| (label, find(session, ObjectClass::SECRET_KEY, label)));
    private.into_iter().chain(secret).collect()
}

fn refused<T>(what: &str, outcome: Result<T, Error>) -> RvError {
    match outcome {
        Err(Error::Pkcs11(code, _)) => code,
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: the token allowed it"),
    }
}

#[test]
fn no_key_can_be_copied_changed_or_read() {
    let session = attacker();
    for (label, key) in working_keys(&session) {
        refused(label, session.copy_object(key, &[Attribute::Extractable(true), Attribute::Token(false)]));
        refused(label, session.copy_object(key, &[Attribute::Sensitive(false)]));
        refused(label, session.copy_object(key, &[]));
        for change in [
            Attribute::Decrypt(true),
            Attribute::Sign(true),
            Attribute::Derive(true),
            Attribute::Unwrap(true),
            Attribute::Extractable(true),
            Attribute::Sensitive(false),
            Attribute::Modifiable(true),
            Attribute::Label(b"another".to_vec()),
        ] {
            refused(label, session.update_attributes(key, &[change]));
        }
        let secret = [AttributeType::Value];
        assert!(matches!(session.get_attribute_info(key, &secret).unwrap()[..], [AttributeInfo::Sensitive]), "{label}");
        assert_eq!(session.get_attributes(key, &secret).unwrap(), [], "{label}");
    }
}

#[test]
fn no_key_can_be_wrapped_even_by_a_key_made_for_it() {
    let session = attacker();
    let own =
        [Attribute::Wrap(true), Attribute::Decrypt(true), Attribute::Token(false), Attribute::ValueLen(32.into())];
    let wrapping = session.generate_key(&Mechanism::AesKeyGen, &own).unwrap();
    for (label, key) in working_keys(&session) {
        let code = refused(label, session.wrap_key(&Mechanism::AesKeyWrapPad, wrapping, key));
        assert_eq!(code, RvError::KeyUnextractable, "{label}");
        // And none of ours wraps another.
        refused(label, session.wrap_key(&Mechanism::AesKeyWrapPad, key, wrapping));
    }
}

#[test]
fn no_key_does_what_its_policy_does_not_name() {
    let session = attacker();
    let key = |class, label| find(&session, class, label);
    let kek = key(ObjectClass::SECRET_KEY, "bindery/site-kek/aes256/1");
    let transport = key(ObjectClass::SECRET_KEY, "bindery/transport/core-demo/1");
    let operator = key(ObjectClass::SECRET_KEY, OPERATOR);
    for mechanism in [Mechanism::AesEcb, Mechanism::AesCbc([0; 16])] {
        refused("kek", attacker().encrypt(&mechanism, kek, &[0; 16]));
        refused("kek", attacker().decrypt(&mechanism, kek, &[0; 16]));
        refused("transport", attacker().decrypt(&mechanism, transport, &[0; 16]));
        refused("operator", attacker().encrypt(&mechanism, operator, &[0; 16]));
    }
    refused("transport", attacker().encrypt(&Mechanism::AesCbc([0; 16]), transport, &[0; 16]));
    refused("operator", attacker().decrypt(&Mechanism::AesCbc([0; 16]), operator, &[0; 16]));
    refused("operator", attacker().unwrap_key(&Mechanism::AesKeyWrap, operator, &[0; 24], &[]));
    refused("transport", attacker().sign(&Mechanism::AesCMac, transport, &[0; 16]));
    let public = key(ObjectClass::PUBLIC_KEY, "bindery/dppb/p256/1");
    let private = key(ObjectClass::PRIVATE_KEY, "bindery/dpauth/p256/1");
    let point = match &session.get_attributes(public, &[AttributeType::EcPoint]).unwrap()[..] {
        [Attribute::EcPoint(point)] => point.clone(),
        other => panic!("{other:?}"),
    };
    let derive = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
    let readable = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(32.into()),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Token(false),
    ];
    refused("dpauth", session.derive_key(&derive, private, &readable));
}

#[test]
fn a_key_exchanged_behind_our_back_stops_the_next_start() {
    let site = &demo().site;
    let session = attacker();
    Token::open(site).unwrap();

    let label = "bindery/audit/p256/1";
    let private = find(&session, ObjectClass::PRIVATE_KEY, label);
    let public = find(&session, ObjectClass::PUBLIC_KEY, label);

    // The public half exchanged: the private one no longer matches it.
    session.destroy_object(public).unwrap();
    let mut own = public_template(label);
    own.push(Attribute::EcParams(vec![0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]));
    let throw_away = [Attribute::Token(false), Attribute::Sign(true)];
    let (another, _) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &own, &throw_away).unwrap();
    let fault = Token::open(site).err().unwrap();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(fault.what.contains(label), "{}", fault.what);
    session.destroy_object(another).unwrap();

    // The whole pair exchanged for one that can also derive.
    session.destroy_object(private).unwrap();
    let private = private_template(label);
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &own, &private).unwrap();
    let fault = Token::open(site).err().unwrap();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(fault.what.contains(label) && fault.what.contains("CKA_DERIVE"), "{}", fault.what);
}

fn public_template(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Label(label.into()),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        Attribute::Verify(true),
        Attribute::VerifyRecover(false),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::Derive(false),
    ]
}

/// As the policy has it, but for CKA_DERIVE.
fn private_template(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Label(label.into()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        Attribute::Sign(true),
        Attribute::SignRecover(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(true),
        Attribute::AllowedMechanisms(vec![MechanismType::ECDSA]),
    ]
}
