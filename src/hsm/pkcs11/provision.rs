//! Makes a demo site's token: directory, configuration, C_InitToken, PINs, and the keys of the policy.
//! A production token is set up with the vendor's own tools and gets its keys in a ceremony (`crate::ceremony`).

use std::path::Path;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session as Pkcs11Session, UserType};
use cryptoki::types::AuthPin;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, Crypter, Mode};
use zeroize::Zeroizing;

use super::attributes::ec_params;
use super::faults::hsm_error;
use super::{mechanisms_there, module, objects};
use crate::certs::Curve;
use crate::config::{CheckValue, Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::Role;
use crate::hsm::policy::epoch::PolicyFile;
use crate::hsm::policy::{KeyKind, KeyPolicy, KeyRule, Origin, Purpose};
use crate::hsm::profile::HsmProfile;

const SOFTHSM_CONF: &str = include_str!("../../../hsm-config/softhsm2.conf.template");

/// The copy of a transport key that the other side keeps.
pub struct TransportCopy {
    /// Its name in orders.
    pub name: String,
    /// AES-256, wiped on drop.
    pub key: Zeroizing<[u8; 32]>,
}

/// Writes a SoftHSM configuration that names `tokens` as its directory.
pub(crate) fn write_softhsm_conf(conf: &Path, tokens: &Path) -> Result<(), Fault> {
    files::write_whole(conf, SOFTHSM_CONF.replace("{tokendir}", &tokens.display().to_string()).as_bytes(), 0o600)
}

/// What [`demo_token`] made.
pub struct DemoKeys {
    /// Copies of the transport keys for the other side.
    pub copies: Vec<TransportCopy>,
    /// Curves that the token has keys on: not every model knows brainpoolP256r1.
    pub curves: Vec<Curve>,
}

/// Initialises a free token under the site's label, with a random SO PIN that nobody keeps and the given user PIN, and makes
/// the keys of the policy, but for those on a curve that the token does not know. Transport and operators' keys are made in software and
/// imported. Of one name they are one key: two objects, of which one encrypts and the other decrypts.
pub fn demo_token(site: &Site, user_pin: &str) -> Result<DemoKeys, Fault> {
    let profile = HsmProfile::load(site)?;
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
    let context = module::load(site)?;
    let failed = |what: &'static str| move |e: cryptoki::error::Error| hsm_error(what, &e);
    let slots = context.get_slots_with_token().map_err(failed("list the token slots"))?;
    let free = slots.into_iter().find(|slot| context.get_token_info(*slot).is_ok_and(|info| !info.token_initialized()));
    let free = free.ok_or_else(|| Fault::new(Exit::HsmUnusable, "the module shows no free token to initialise"))?;
    let so_pin = random_pin()?;
    let so_pin = AuthPin::new(Box::from(so_pin.as_str()));
    context.init_token(free, &so_pin, &site.config.hsm.token_label).map_err(failed("initialise the token"))?;
    let (slot, _) = module::slot_by_label(&context, &site.config.hsm.token_label, None)?; // its number has changed
    mechanisms_there(&context, slot, &profile.mechanisms_for_making_keys)?;
    let session = context.open_rw_session(slot).map_err(failed("open a session"))?;
    let user_pin = AuthPin::new(Box::from(user_pin));
    session.login(UserType::So, Some(&so_pin)).map_err(failed("log in as security officer"))?;
    session.init_pin(&user_pin).map_err(failed("set the user PIN"))?;
    session.logout().map_err(failed("log out as security officer"))?;
    session.login(UserType::User, Some(&user_pin)).map_err(failed("log in to the token"))?;
    let curves: Vec<Curve> = Curve::ALL.into_iter().filter(|c| *c == Curve::P256 || knows(&session, *c)).collect();
    let mut copies: Vec<TransportCopy> = Vec::new();
    for rule in policy.in_use().filter(|rule| rule.kind.curve().is_none_or(|curve| curves.contains(&curve))) {
        let copy = make_key(&session, rule, &copies, &profile)?;
        copies.extend(copy);
    }
    Ok(DemoKeys { copies, curves })
}

/// Pins the check values of the keys that the other side has copies of, so that every start compares them.
pub fn pin_check_values(site: &Site, made: &DemoKeys) -> Result<(), Fault> {
    let path = site.path(&site.config.hsm.policy);
    let policy = KeyPolicy::load(&path)?;
    let mut file = PolicyFile::open(&path)?;
    for rule in policy.in_use() {
        let (Role::Transport(name) | Role::Operator(name)) = &rule.role else { continue };
        let Some(copy) = made.copies.iter().find(|copy| copy.name == *name) else { continue };
        let block = of_zeros(&copy.key).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))?;
        let kcv = match rule.purpose {
            Purpose::Decrypt => CheckValue::try_from(block.to_vec()).map_err(|what| Fault::new(Exit::Bug, what))?,
            _ => CheckValue::of_block(&block),
        };
        file.pin(&rule.role, rule.epoch, &kcv)?;
    }
    file.write().map(drop)
}

/// AES of a block of zeros.
fn of_zeros(key: &[u8; 32]) -> Result<[u8; 16], ErrorStack> {
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Encrypt, key, None)?;
    crypter.pad(false);
    let mut out = [0; 32];
    crypter.update(&[0; 16], &mut out)?;
    let mut block = [0; 16];
    block.copy_from_slice(&out[..16]);
    Ok(block)
}

/// Whether the token makes keys on this curve: told by a session key, for no mechanism list names curves.
pub(super) fn knows(session: &Pkcs11Session, curve: Curve) -> bool {
    let public = [Attribute::Token(false), Attribute::Private(false), ec_params(curve)];
    let private = [Attribute::Token(false), Attribute::Sensitive(true), Attribute::Extractable(false)];
    match session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private) {
        Ok((public, private)) => [public, private].into_iter().all(|half| session.destroy_object(half).is_ok()),
        Err(e) => {
            tracing::info!(curve = curve.as_str(), error = %hsm_error("make a key pair", &e), "the token does not know the curve");
            false
        }
    }
}

/// 24 letters and digits, 120 random bits.
pub fn random_pin() -> Result<Zeroizing<String>, Fault> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut octets = Zeroizing::new([0; 24]);
    rand_bytes(&mut octets[..]).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL's random: {e}")))?;
    let mut pin = Zeroizing::new(String::with_capacity(octets.len()));
    octets.iter().for_each(|octet| pin.push(char::from(ALPHABET[usize::from(octet & 31)])));
    Ok(pin)
}

/// Makes one key of a demo token. A key that the other side must have too is made here and imported, its copy handed to the
/// caller; none when `copies` has it already.
fn make_key(
    session: &Pkcs11Session,
    rule: &KeyRule,
    copies: &[TransportCopy],
    profile: &HsmProfile,
) -> Result<Option<TransportCopy>, Fault> {
    let unknown = &profile.attributes_unknown;
    let id = objects::new_id()?;
    if rule.origin == Origin::Generated {
        objects::generate(session, rule, &id, unknown)?;
        return Ok(None);
    }
    let (Role::Transport(name) | Role::Operator(name), KeyKind::Aes256) = (&rule.role, rule.kind) else {
        let what = format!("key {:?}: a demo token imports transport and operators' keys of 256 bits only", rule.label);
        return Err(Fault::new(Exit::Config, what).hint("other keys come in a ceremony: `bindery keys ceremony`"));
    };
    if let Some(copy) = copies.iter().find(|copy| copy.name == *name) {
        objects::create(session, rule, &id, &copy.key[..], unknown)?;
        return Ok(None);
    }
    let mut key = Zeroizing::new([0; 32]);
    let mut own = Zeroizing::new([0; 32]);
    let drawn = session.generate_random_slice(&mut key[..]);
    drawn.map_err(|e| hsm_error(format!("draw key {}", rule.label), &e))?;
    rand_bytes(&mut own[..]).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL's random: {e}")))?;
    key.iter_mut().zip(own.iter()).for_each(|(octet, other)| *octet ^= other);
    objects::create(session, rule, &id, &key[..], unknown)?;
    Ok(Some(TransportCopy { name: name.clone(), key }))
}
