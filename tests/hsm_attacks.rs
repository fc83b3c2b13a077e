//! What a holder of the user PIN may try with PKCS#11 itself: the classic key-separation and extraction attacks (Clulow; Tookan)
//! against the keys that `init --demo` made, and an exchange of keys behind our back. One token in this process.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bindery::config::Site;
use bindery::error::Exit;
use bindery::hsm::Role;
use bindery::hsm::pkcs11::{KeyRoom, Token};
use bindery::hsm::policy::KeyPolicy;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use yard::provider::{Provider, demo_site, provider};

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
        let site = demo_site(directory.path());
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

/// Tests that open the token anew wait for the one that exchanges a key of it.
fn opens_the_token() -> MutexGuard<'static, ()> {
    static TOKEN: Mutex<()> = Mutex::new(());
    TOKEN.lock().unwrap_or_else(PoisonError::into_inner)
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
    // One that the token has and that takes keys of any length: were the key extractable, this would wrap it.
    let mechanism = match provider() {
        Provider::SoftHsm => Mechanism::AesKeyWrapPad,
        Provider::Kryoptic => Mechanism::AesCbcPad([0; 16]),
    };
    for key in extractable(&session) {
        session.wrap_key(&mechanism, wrapping, key).unwrap();
    }
    for (label, key) in working_keys(&session) {
        let code = refused(label, session.wrap_key(&mechanism, wrapping, key));
        // kryoptic says of private keys that their function "extractable" is not permitted.
        assert!(matches!(code, RvError::KeyUnextractable | RvError::KeyFunctionNotPermitted), "{label}: {code}");
        // And none of ours wraps another.
        refused(label, session.wrap_key(&mechanism, key, wrapping));
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
    let _alone = opens_the_token();
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
    let (public, exchanged) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &own, &private).unwrap();
    let fault = Token::open(site).err().unwrap();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(fault.what.contains(label) && fault.what.contains("CKA_DERIVE"), "{}", fault.what);

    // A sound one in its place: the token is the other tests' too.
    [public, exchanged].into_iter().for_each(|object| session.destroy_object(object).unwrap());
    KeyRoom::open(site).unwrap().generate(declared(site).rule(&Role::Audit).unwrap(), &[0x76; 16]).unwrap();
    Token::open(site).unwrap();
}

/// A secret and a private key of nobody's, to show that the attack works where nothing stops it.
fn extractable(session: &Session) -> [ObjectHandle; 2] {
    let open = [Attribute::Extractable(true), Attribute::Token(false)];
    let mut secret = open.to_vec();
    secret.push(Attribute::ValueLen(32.into()));
    let mut public = vec![Attribute::Token(false)];
    public.push(Attribute::EcParams(vec![0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]));
    let (_, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &open).unwrap();
    [session.generate_key(&Mechanism::AesKeyGen, &secret).unwrap(), private]
}

#[test]
fn an_import_key_unwraps_and_does_nothing_else_and_what_it_unwrapped_stays_inside() {
    let _alone = opens_the_token();
    let session = attacker();
    // An import key as the policy has it, made for this test: the public half is all that an outsider gets.
    let label = "bindery/import/attacked/1";
    let import_key = "role = \"import:main\"\nlabel = \"bindery/import/main/1\"";
    let rule = include_str!("../hsm-config/import-key.toml")
        .replace(import_key, &format!("role = \"import:attacked\"\nlabel = \"{label}\""));
    let site = with_rule(&rule);
    KeyRoom::open(&site).unwrap().generate(declared(&site).rule(&import_role()).unwrap(), &[0x77; 16]).unwrap();
    Token::open_present(&site).unwrap(); // compared with the policy, and it proved itself
    let private = find(&session, ObjectClass::PRIVATE_KEY, label);
    let public = find(&session, ObjectClass::PUBLIC_KEY, label);
    for mechanism in [Mechanism::RsaPkcs, Mechanism::RsaX509, oaep()] {
        refused("decrypt", attacker().decrypt(&mechanism, private, &[1; 384]));
    }
    refused("sign", attacker().sign(&Mechanism::RsaPkcs, private, &[1; 32]));
    refused("encrypt", attacker().encrypt(&oaep(), public, &[1; 16]));
    // None of our keys can be wrapped under it, to be decrypted elsewhere.
    for (ours, key) in working_keys(&session) {
        refused(ours, session.wrap_key(&oaep(), public, key));
    }
    // A mechanism that the policy does not name.
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    refused("unwrap", session.unwrap_key(&Mechanism::RsaPkcs, private, &[1; 384], &template));
    // What an operator sent is not for the PIN's holder to read: neither said nor left open does the token give it away.
    let modulus = session.get_attributes(public, &[AttributeType::Modulus]).unwrap();
    let [Attribute::Modulus(modulus)] = &modulus[..] else { panic!("{modulus:?}") };
    let wrapped = wrapped_for(modulus, &[0x5A; 32]);
    let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES), Attribute::Token(false)];
    for open in [
        vec![Attribute::Sensitive(false), Attribute::Extractable(true)],
        vec![Attribute::Sensitive(true), Attribute::Extractable(true)],
        vec![Attribute::Sensitive(false), Attribute::Extractable(false)],
        vec![Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Modifiable(true)],
        vec![Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Wrap(true)],
    ] {
        let asked = [&kind[..], &open].concat();
        assert_eq!(
            refused("unwrap as readable", session.unwrap_key(&oaep(), private, &wrapped, &asked)),
            RvError::TemplateInconsistent,
            "{open:?}"
        );
    }
    if let Ok(silent) = session.unwrap_key(&oaep(), private, &wrapped, &kind) {
        assert_eq!(session.get_attributes(silent, &[AttributeType::Value]).unwrap(), []);
    }
    // What comes in by the policy's template is like every other key: not readable, not copied, not wrapped.
    let policy = declared(&site);
    let transport = bindery::hsm::policy::KeyRule {
        label: "bindery/transport/attacked/1".into(),
        ..policy.rule(&Role::Transport("core-demo".into())).unwrap().clone()
    };
    let import = policy.rule(&import_role()).unwrap();
    KeyRoom::open(&site).unwrap().unwrap(&transport, &[0x78; 16], import, &wrapped).unwrap();
    let inside = find(&session, ObjectClass::SECRET_KEY, "bindery/transport/attacked/1");
    assert_eq!(session.get_attributes(inside, &[AttributeType::Value]).unwrap(), []);
    refused("copy", session.copy_object(inside, &[Attribute::Extractable(true)]));
    refused("change", session.update_attributes(inside, &[Attribute::Decrypt(true)]));
    refused("decrypt", attacker().decrypt(&Mechanism::AesEcb, inside, &[0; 16]));
    let own = [Attribute::Wrap(true), Attribute::Token(false), Attribute::ValueLen(32.into())];
    let wrapping = session.generate_key(&Mechanism::AesKeyGen, &own).unwrap();
    assert_eq!(refused("wrap", session.wrap_key(&Mechanism::AesKeyWrap, wrapping, inside)), RvError::KeyUnextractable);
}

#[test]
fn an_import_key_that_would_unwrap_readable_keys_stops_the_next_start() {
    let _alone = opens_the_token();
    let session = attacker();
    // Every flag as the policy has it, but made without CKA_UNWRAP_TEMPLATE: flags alone do not show it, its behaviour does.
    let label = "bindery/import/open/1";
    let changed = |all: Vec<Attribute>| -> Vec<Attribute> {
        let change = |attribute| match attribute {
            Attribute::Sign(_) => Attribute::Sign(false),
            Attribute::Unwrap(_) => Attribute::Unwrap(true),
            Attribute::Derive(_) => Attribute::Derive(false),
            Attribute::Verify(_) => Attribute::Verify(false),
            Attribute::AllowedMechanisms(_) => Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS_OAEP]),
            other => other,
        };
        let all = all.into_iter().map(change);
        all.chain([Attribute::Id(vec![0x79; 16])]).collect()
    };
    let size = [Attribute::ModulusBits(3_072.into()), Attribute::PublicExponent(vec![1, 0, 1])];
    let public = [changed(public_template(label)), size.to_vec()].concat();
    session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &changed(private_template(label))).unwrap();
    let import_key = "role = \"import:main\"\nlabel = \"bindery/import/main/1\"";
    let rule = include_str!("../hsm-config/import-key.toml")
        .replace(import_key, &format!("role = \"import:open\"\nlabel = \"{label}\""));
    let refused = Token::open_present(&with_rule(&rule)).err().unwrap();
    assert_eq!(refused.exit, Exit::HsmUnusable);
    assert!(refused.what.contains(label) && refused.what.contains("can be read"), "{}", refused.what);
}

fn import_role() -> Role {
    Role::Import("attacked".into())
}

/// As the provider's profile has it.
fn oaep() -> Mechanism<'static> {
    let (digest, mask) = match provider() {
        Provider::SoftHsm => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        Provider::Kryoptic => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(digest, mask, PkcsOaepSource::empty()))
}

/// What an operator does with the public half: RSA-OAEP outside of the token.
fn wrapped_for(modulus: &[u8], key: &[u8]) -> Vec<u8> {
    let number = |octets: &[u8]| openssl::bn::BigNum::from_slice(octets).unwrap();
    let rsa = openssl::rsa::Rsa::from_public_components(number(modulus), number(&[1, 0, 1])).unwrap();
    let rsa = openssl::pkey::PKey::from_rsa(rsa).unwrap();
    let digest = match provider() {
        Provider::SoftHsm => openssl::hash::MessageDigest::sha1(),
        Provider::Kryoptic => openssl::hash::MessageDigest::sha256(),
    };
    let mut encrypter = openssl::encrypt::Encrypter::new(&rsa).unwrap();
    encrypter.set_rsa_padding(openssl::rsa::Padding::PKCS1_OAEP).unwrap();
    encrypter.set_rsa_oaep_md(digest).unwrap();
    encrypter.set_rsa_mgf1_md(digest).unwrap();
    let mut wrapped = vec![0; 384];
    assert_eq!(encrypter.encrypt(key, &mut wrapped).unwrap(), 384);
    wrapped
}

/// The demo site with one rule more in a policy of its own.
fn with_rule(rule: &str) -> Site {
    let mut site = demo().site.clone();
    let policy = std::fs::read_to_string(site.path("key-policy.toml")).unwrap();
    let name = rule.split("role = \"").nth(1).and_then(|role| role.split('"').next()).unwrap().replace(':', "-");
    let file = site.path(format!("key-policy-{name}.toml"));
    let rule = rule.split_once("[[key]]").unwrap().1;
    std::fs::write(&file, format!("{policy}\n[[key]]{rule}")).unwrap();
    site.config.hsm.policy = file;
    site
}

fn declared(site: &Site) -> KeyPolicy {
    KeyPolicy::load(&site.path(&site.config.hsm.policy)).unwrap()
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
