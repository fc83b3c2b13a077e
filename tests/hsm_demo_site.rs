//! The demo site and its SoftHSM token, as every command meets them. One token in this process: SoftHSM takes no second.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bindery::certs::chain::days_left;
use bindery::certs::euicc::signed_data;
use bindery::certs::test_pki::{EumForm, TestPki, issue_euicc};
use bindery::certs::{Curve, DpChains, DpPair, EuiccJudge, OneTimePoint, Trust};
use bindery::cli::doctor;
use bindery::cli::init::{create_demo, create_empty};
use bindery::config::Site;
use bindery::error::Exit;
use bindery::hsm::draw::fill_random;
use bindery::hsm::lanes::Lanes;
use bindery::hsm::pkcs11::Token;
use bindery::hsm::{FaultClass, Hsm, HsmSession, Role, own_points};
use bindery::ids::Eid;
use bindery::store::sealed::OP_AAD;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass};
use jiff::{SignedDuration, Timestamp};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::symm::{Cipher, Crypter, Mode};
use yard::provider::{Provider, demo_site, provider};

struct Demo {
    _directory: tempfile::TempDir,
    site: Site,
    token: Arc<Token>,
}

/// The one site and the one token of this process.
fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        demo_site(directory.path());
        let site = Site::open(&directory.path().join("site")).unwrap();
        let token = Arc::new(Token::open(&site).unwrap());
        Demo { _directory: directory, site, token }
    })
}

/// Curves that the token has keys on: not every module knows both.
fn curves() -> Vec<Curve> {
    own_points(&*demo().token).unwrap().dp.iter().map(|points| points.curve).collect()
}

fn group(curve: Curve) -> EcGroup {
    EcGroup::from_curve_name(match curve {
        Curve::P256 => Nid::X9_62_PRIME256V1,
        Curve::Brainpool => Nid::BRAINPOOL_P256R1,
    })
    .unwrap()
}

fn verifies(curve: Curve, point: &[u8; 65], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let group = group(curve);
    let mut ctx = BigNumContext::new().unwrap();
    let Ok(point) = EcPoint::from_bytes(&group, point, &mut ctx) else { return false };
    let key = EcKey::from_public_key(&group, &point).unwrap();
    let [r, s] = [&signature[..32], &signature[32..]].map(|half| BigNum::from_slice(half).unwrap());
    EcdsaSig::from_private_components(r, s).unwrap().verify(digest, &key).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_of_a_new_demo_site_are_for_its_owner_only() {
    let site = &demo().site;
    for directory in ["token", "test-pki", "vault"] {
        assert_eq!(mode(&site.path(directory)), 0o700, "{directory}");
    }
    if provider() == Provider::SoftHsm {
        assert_eq!(mode(&site.path("token/tokens")), 0o700); // kryoptic's database is not in the site
    }
    for file in ["token/pin", "core-demo.key", "op.sealed", "test-pki/ci.key.pem", "test-pki/eum.key.pem"] {
        assert_eq!(mode(&site.path(file)), 0o600, "{file}");
    }
    let key = std::fs::read_to_string(site.path("core-demo.key")).unwrap();
    assert_eq!(key.len(), 65);
    assert!(key.trim_end().bytes().all(|b| b.is_ascii_hexdigit()) && key.ends_with('\n'));
    assert!(!site.path(".bindery-init").exists());
}

#[test]
fn an_existing_site_or_foreign_directory_is_refused_and_left_untouched() {
    let site = &demo().site;
    let before = std::fs::read(site.path("bindery.toml")).unwrap();
    for fault in [create_demo(site.root()).unwrap_err(), create_empty(site.root()).unwrap_err()] {
        assert_eq!(fault.exit, Exit::Config);
    }
    assert_eq!(std::fs::read(site.path("bindery.toml")).unwrap(), before);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("op.sealed"), "not ours").unwrap();
    assert_eq!(create_empty(other.path()).unwrap_err().exit, Exit::Config);
    assert_eq!(std::fs::read_to_string(other.path().join("op.sealed")).unwrap(), "not ours");
}

#[test]
fn what_a_crashed_init_left_is_cleared_away_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".bindery-init"), "").unwrap();
    std::fs::create_dir_all(directory.path().join("token/tokens/half")).unwrap();
    std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    assert_eq!(Site::open(directory.path()).unwrap_err().exit, Exit::Config);
    create_empty(directory.path()).unwrap();
    assert!(!directory.path().join("token").exists() && !directory.path().join(".bindery-init").exists());
    assert!(directory.path().join("notes.txt").exists());
    assert!(!Site::open(directory.path()).unwrap().config.demo);
}

#[test]
fn every_signing_role_signs_with_its_own_key() {
    let token = &demo().token;
    let mut session = token.open_session().unwrap();
    let digest = sha256(b"what is signed");
    let pairs = curves().into_iter().flat_map(|curve| [(Role::DpAuth(curve), curve), (Role::DpPb(curve), curve)]);
    let roles: Vec<_> = pairs.chain([Role::Manifest, Role::Audit].map(|role| (role, Curve::P256))).collect();
    let point = |role| token.public_point(token.key(role).unwrap()).unwrap();
    for (role, _) in &roles {
        let signature = session.sign(token.key(role).unwrap(), &digest).unwrap();
        for (other, curve) in &roles {
            assert_eq!(verifies(*curve, &point(other), &digest, &signature), role == other, "{role} {other}");
        }
    }
    assert_eq!(token.key(&Role::Transport("nobody".into())).unwrap_err().class, FaultClass::Policy);
}

#[test]
fn a_key_does_nothing_but_its_purpose() {
    let token = &demo().token;
    let key = |role| token.key(&role).unwrap();
    let refused = |class| assert_eq!(class, FaultClass::Policy);
    // A fresh session each: a refused call may leave the session with an operation begun.
    let session = || token.open_session().unwrap();
    refused(session().sign(key(Role::SiteKek), &[1; 32]).unwrap_err().class);
    refused(session().sign(key(Role::Transport("core-demo".into())), &[1; 32]).unwrap_err().class);
    refused(session().encrypt_blocks(key(Role::SiteKek), &[0; 16]).unwrap_err().class);
    refused(session().seal(key(Role::Transport("core-demo".into())), b"aad", &[0; 16]).unwrap_err().class);
    refused(session().open(key(Role::Transport("core-demo".into())), b"aad", &[0; 44]).unwrap_err().class);
    assert!(session().encrypt_blocks(key(Role::DpPb(Curve::P256)), &[0; 16]).is_err());
    refused(session().decrypt_blocks(key(Role::Transport("core-demo".into())), &[0; 16]).unwrap_err().class);
    refused(session().encrypt_blocks(key(Role::Operator("core-demo".into())), &[0; 16]).unwrap_err().class);
    refused(session().open(key(Role::Operator("core-demo".into())), b"aad", &[0; 44]).unwrap_err().class);
}

#[test]
fn what_is_sealed_opens_only_whole_and_only_under_its_name() {
    let token = &demo().token;
    let kek = token.key(&Role::SiteKek).unwrap();
    let mut session = token.open_session().unwrap();
    let sealed = session.seal(kek, b"batch 7", b"a batch key of 32 octets, random").unwrap();
    assert_eq!(sealed.len(), 1 + 12 + 32 + 16);
    assert_eq!(session.open(kek, b"batch 7", &sealed).unwrap()[..], b"a batch key of 32 octets, random"[..]);
    assert_ne!(session.seal(kek, b"batch 7", b"a batch key of 32 octets, random").unwrap(), sealed);
    let refused = |session: &mut <Token as Hsm>::Session, aad: &[u8], sealed: &[u8]| {
        assert_eq!(session.open(kek, aad, sealed).unwrap_err().class, FaultClass::Data);
    };
    refused(&mut session, b"batch 8", &sealed);
    refused(&mut session, b"", &sealed);
    refused(&mut session, b"batch 7", &sealed[..27]);
    for at in 0..sealed.len() {
        let mut wrong = sealed.clone();
        wrong[at] ^= 1;
        refused(&mut session, b"batch 7", &wrong);
    }
    // The session is as good as before.
    assert_eq!(session.open(kek, b"batch 7", &sealed).unwrap().len(), 32);
    assert_eq!(session.seal(kek, b"", b"x").unwrap_err().class, FaultClass::Data);
}

#[test]
fn what_is_sealed_names_the_keks_epoch_and_what_did_not_still_opens() {
    let Demo { site, token, .. } = demo();
    let kek = token.key(&Role::SiteKek).unwrap();
    let mut session = token.open_session().unwrap();
    // The module is initialised and logged in already, by this process.
    let context = Pkcs11::new(site.path(&site.config.hsm.module)).unwrap();
    let raw = context.open_ro_session(context.get_slots_with_initialized_token().unwrap()[0]).unwrap();
    let label = Attribute::Label(b"bindery/site-kek/aes256/1".to_vec());
    let handle = raw.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY), label]).unwrap()[0];
    let gcm = |iv: &mut [u8; 12], aad: &[u8], octets: &[u8], seals: bool| {
        let mechanism = Mechanism::AesGcm(GcmParams::new(iv, aad, 128.into()).unwrap());
        if seals { raw.encrypt(&mechanism, handle, octets) } else { raw.decrypt(&mechanism, handle, octets) }
    };
    let sealed = session.seal(kek, b"batch 7", &[7; 32]).unwrap();
    let mut iv: [u8; 12] = sealed[1..13].try_into().unwrap();
    assert_eq!(sealed[0], 2);
    assert_eq!(gcm(&mut iv, b"bindery.sealed/2|site-kek|1|batch 7", &sealed[13..], false).unwrap(), [7; 32]);
    assert!(gcm(&mut iv, b"bindery.sealed/2|site-kek|2|batch 7", &sealed[13..], false).is_err());
    // As ledgers from before have it: no form, no epoch, an IV that may begin with anything.
    for first in [0, 2, 0xFF] {
        let mut iv = [first; 12];
        let body = gcm(&mut iv, b"batch 7", &[9; 32], true).unwrap();
        let before = [&[first; 12][..], &body].concat();
        assert_eq!(session.open(kek, b"batch 7", &before).unwrap()[..], [9; 32]);
        assert_eq!(session.open(kek, b"batch 8", &before).unwrap_err().class, FaultClass::Data);
    }
}

#[test]
fn the_cores_copy_decrypts_what_the_token_encrypted_in_bulk() {
    let Demo { site, token, .. } = demo();
    let key = std::fs::read_to_string(site.path("core-demo.key")).unwrap();
    let key = data_encoding::HEXLOWER.decode(key.trim_end().as_bytes()).unwrap();
    // Larger than one call of the profile.
    let blocks: Vec<u8> = (0..200_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut session = token.open_session().unwrap();
    let role = Role::Transport("core-demo".into());
    let encrypted = session.encrypt_blocks(token.key(&role).unwrap(), &blocks).unwrap();
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Decrypt, &key, None).unwrap();
    crypter.pad(false);
    let mut plain = vec![0; encrypted.len() + 16];
    let mut length = crypter.update(&encrypted, &mut plain).unwrap();
    length += crypter.finalize(&mut plain[length..]).unwrap();
    assert_eq!(plain[..length], blocks[..]);
    // The operator's key of the demo is the same one, as an object that only decrypts.
    let operator = token.key(&Role::Operator("core-demo".into())).unwrap();
    assert_eq!(session.decrypt_blocks(operator, &encrypted).unwrap()[..], blocks[..]);
    assert_eq!(session.decrypt_blocks(operator, &[0; 17]).unwrap_err().class, FaultClass::Data);
    let zeros = session.encrypt_blocks(token.key(&role).unwrap(), &[0; 16]).unwrap();
    match (session.check_value(operator).unwrap(), provider()) {
        (Some(told), Provider::SoftHsm) => assert!(zeros.starts_with(&told) && told.len() >= 3),
        (told, provider) => assert_eq!((told, provider), (None, Provider::Kryoptic), "kryoptic tells no check value"),
    }
    let odd = session.encrypt_blocks(token.key(&role).unwrap(), &[0; 17]).unwrap_err();
    assert_eq!(odd.class, FaultClass::Data);
}

#[test]
fn the_operator_op_opens_under_the_kek_to_16_octets() {
    let Demo { site, token, .. } = demo();
    let file = site.config.credentials.op_file.as_ref().unwrap();
    let sealed = std::fs::read(site.path(file)).unwrap();
    let kek = token.key(&Role::SiteKek).unwrap();
    let op = token.open_session().unwrap().open(kek, OP_AAD, &sealed).unwrap();
    assert_eq!(op.len(), 16);
}

#[test]
fn lanes_sign_on_the_token_in_order_and_count() {
    let token = &demo().token;
    let lanes = Lanes::start(token, 3).unwrap();
    let key = token.key(&Role::DpPb(Curve::P256)).unwrap();
    let point = token.public_point(key).unwrap();
    let digests: Vec<[u8; 32]> = (0..100_u32).map(|i| sha256(&i.to_be_bytes())).collect();
    let signed = lanes.submit(key, digests.clone()).wait();
    assert!(signed.iter().zip(&digests).all(|(s, d)| verifies(Curve::P256, &point, d, s.as_ref().unwrap())));
    assert_eq!(lanes.signatures(), 100);
    let refused = lanes.submit(token.key(&Role::SiteKek).unwrap(), digests[..3].to_vec()).wait();
    assert!(refused.iter().all(|s| s.as_ref().is_err_and(|e| e.class == FaultClass::Policy)));
    assert!(lanes.submit(key, digests).wait().iter().all(Result::is_ok));
}

#[test]
fn threads_sign_seal_and_draw_at_once() {
    let token = &demo().token;
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                let key = token.key(&Role::DpAuth(Curve::P256)).unwrap();
                let kek = token.key(&Role::SiteKek).unwrap();
                let point = token.public_point(key).unwrap();
                for round in 0..20_u8 {
                    let mut session = token.open_session().unwrap();
                    let digest = sha256(&[thread, round]);
                    assert!(verifies(Curve::P256, &point, &digest, &session.sign(key, &digest).unwrap()));
                    let sealed = session.seal(kek, &[thread], &[round; 40]).unwrap();
                    assert_eq!(session.open(kek, &[thread], &sealed).unwrap()[..], [round; 40]);
                    let mut random = [0; 100];
                    fill_random(&mut session, &mut random).unwrap();
                    assert_ne!(random, [0; 100]);
                }
            });
        }
    });
}

#[test]
fn a_second_opening_of_the_site_shares_the_login() {
    let Demo { site, token, .. } = demo();
    let again = Token::open(site).unwrap();
    assert_eq!(again.facts().serial, token.facts().serial);
    drop(again);
    token.open_session().unwrap().sign(token.key(&Role::DpPb(Curve::P256)).unwrap(), &[9; 32]).unwrap();
}

#[test]
fn a_second_token_in_one_process_is_refused_not_mixed_up() {
    demo();
    let other = tempfile::tempdir().unwrap();
    let fault = create_demo(&other.path().join("second")).unwrap_err();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(!other.path().join("second/bindery.toml").exists());
}

#[test]
fn a_policy_that_the_token_does_not_meet_stops_the_start() {
    let Demo { site, .. } = demo();
    let mut changed = site.clone();
    let policy = std::fs::read_to_string(site.path("key-policy.toml")).unwrap();
    let file = site.path("key-policy-generated.toml");
    std::fs::write(&file, policy.replace("origin = \"imported\"", "origin = \"generated\"")).unwrap();
    changed.config.hsm.policy = file;
    let fault = Token::open(&changed).err().unwrap();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(fault.what.contains("bindery/transport/core-demo/1"), "{}", fault.what);
    assert!(fault.what.contains("CKA_ALWAYS_SENSITIVE") || fault.what.contains("CKA_LOCAL"), "{}", fault.what);

    let file = site.path("key-policy-missing.toml");
    std::fs::write(&file, policy.replace("bindery/audit/p256/1", "bindery/audit/p256/2")).unwrap();
    changed.config.hsm.policy = file;
    let fault = Token::open(&changed).err().unwrap();
    assert_eq!(fault.exit, Exit::HsmUnusable);
    assert!(fault.what.contains("bindery/audit/p256/2"), "{}", fault.what);
}

#[test]
fn our_chains_hold_today_and_are_refused_when_out_of_date() {
    let Demo { site, token, .. } = demo();
    let now = Timestamp::now();
    let trust = Trust::load(&site.path("certs/ci")).unwrap();
    let chains = DpChains::load(site).unwrap();
    chains.check(&trust, now, &own_points(&**token).unwrap()).unwrap();
    assert_eq!(chains.curves(), curves());
    for pair in chains.pairs() {
        assert_eq!((chains.oid(), pair.auth.oid(), pair.pb.oid()), ("2.999.10", "2.999.10", "2.999.10"));
        assert!((1_000..1_100).contains(&days_left(pair.pb.not_after(), now)));
        assert_eq!(pair.pb.chain_der(), [pair.pb.leaf_der()]);
    }
    for years in [-1, 4] {
        let then = now + SignedDuration::from_hours(24 * 366 * years);
        assert_eq!(
            chains.check(&trust, then, &own_points(&**token).unwrap()).unwrap_err().exit,
            Exit::CertificateExpired
        );
    }
    // Over another key than the token's, and under a CI that is not ours.
    let DpPair { auth, pb } = chains.pairs().last().unwrap();
    let fault = pb.check(&trust, now, auth.point()).unwrap_err();
    assert!(fault.what.contains("not over the key"), "{}", fault.what);
    let stranger = tempfile::tempdir().unwrap();
    std::fs::write(stranger.path().join("ci.der"), TestPki::create(now).unwrap().ci_der()).unwrap();
    let fault = pb.check(&Trust::load(stranger.path()).unwrap(), now, pb.point()).unwrap_err();
    assert_eq!(fault.exit, Exit::Config);
    // Chains on a curve that the policy has no keys of.
    let mut own = own_points(&**token).unwrap();
    let gone = own.dp.pop().unwrap().curve;
    let fault = chains.check(&trust, now, &own).unwrap_err();
    assert!(fault.exit == Exit::Config && fault.what.contains(gone.as_str()), "{}", fault.what);
}

#[test]
fn the_sites_test_pki_certifies_euiccs_that_its_own_trust_believes() {
    let Demo { site, .. } = demo();
    let now = Timestamp::now();
    let judge = EuiccJudge::new(Arc::new(Trust::load(&site.path("certs/ci")).unwrap()), now);
    for curve in curves() {
        believes(&judge, &TestPki::load(site, curve).unwrap(), curve, now);
    }
}

fn believes(judge: &EuiccJudge, pki: &TestPki, curve: Curve, now: Timestamp) {
    let group = group(curve);
    let mut ctx = BigNumContext::new().unwrap();
    let mut point = |key: &EcKey<_>| -> [u8; 65] {
        key.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut ctx).unwrap().try_into().unwrap()
    };
    let [euicc, otk] = [0; 2].map(|_| EcKey::generate(&group).unwrap());
    let (euicc_point, otpk) = (point(&euicc), point(&otk));
    let eid = Eid::from_body("890490320010012345678901234567").unwrap();
    let signature = EcdsaSig::sign(&sha256(&signed_data(&eid, &otpk)), &euicc).unwrap();
    let mut raw = [0; 64];
    raw[..32].copy_from_slice(&signature.r().to_vec_padded(32).unwrap());
    raw[32..].copy_from_slice(&signature.s().to_vec_padded(32).unwrap());
    let certificate = issue_euicc(pki.eum(), &eid, &euicc_point).unwrap();
    assert_eq!(judge.check(&eid, &otpk, &raw, &certificate, pki.eum().der()), Ok(OneTimePoint { curve, octets: otpk }));
    let v3 = pki.another_eum(EumForm::V3, "89049032", now).unwrap();
    let certificate = issue_euicc(&v3, &eid, &euicc_point).unwrap();
    assert_eq!(judge.check(&eid, &otpk, &raw, &certificate, v3.der()), Ok(OneTimePoint { curve, octets: otpk }));
}

#[test]
fn doctor_finds_a_new_demo_site_fit_on_one_screen_and_an_old_one_expired() {
    let site = &demo().site;
    let report = doctor::examine(site, Timestamp::now());
    let screen = report.to_screen();
    assert_eq!(report.exit(), Exit::Done, "{screen}");
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(!screen.contains("warn") && !screen.contains("FAIL"), "{screen}");
    assert!(screen.contains(&DpChains::load(site).unwrap().manifest.fingerprint()));

    let soon = doctor::examine(site, Timestamp::now() + SignedDuration::from_hours(24 * (3 * 365 - 10)));
    assert_eq!(soon.exit(), Exit::Done);
    assert!(soon.to_screen().contains("warn"));
    let later = doctor::examine(site, Timestamp::now() + SignedDuration::from_hours(24 * 4 * 366));
    assert_eq!(later.exit(), Exit::CertificateExpired);
    let past = doctor::examine(site, Timestamp::now() - SignedDuration::from_hours(24 * 366));
    assert_ne!(past.exit(), Exit::Done);
    assert!(past.to_screen().contains("FAIL clock"));
}
