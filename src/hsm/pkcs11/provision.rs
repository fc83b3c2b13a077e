//! Makes a demo site's SoftHSM token: directory, configuration, C_InitToken, PINs, and the keys of the policy.
//! A production token gets its keys in a ceremony with the vendor's own tools.

use std::path::Path;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session as Pkcs11Session, UserType};
use cryptoki::types::AuthPin;
use openssl::rand::rand_bytes;
use zeroize::{Zeroize, Zeroizing};

use super::attributes::{AES256_OCTETS, Half, P256_PARAMS, template};
use super::faults::hsm_error;
use super::{mechanisms_there, module};
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::policy::{KeyKind, KeyPolicy, KeyRule, Origin};
use crate::hsm::profile::HsmProfile;
use crate::hsm::{HsmError, Role};

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

/// Initialises a free token under the site's label, with a random SO PIN that nobody keeps and the given user PIN, and makes
/// the keys of the policy. Transport and operators' keys are made in software and imported; their copies are returned for the
/// other side. Of one name they are one key: two objects, of which one encrypts and the other decrypts.
pub fn demo_token(site: &Site, user_pin: &str) -> Result<Vec<TransportCopy>, Fault> {
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
    let (slot, _) = module::slot_by_label(&context, &site.config.hsm.token_label)?; // its number has changed
    mechanisms_there(&context, slot, &profile.mechanisms_for_making_keys)?;
    let session = context.open_rw_session(slot).map_err(failed("open a session"))?;
    let user_pin = AuthPin::new(Box::from(user_pin));
    session.login(UserType::So, Some(&so_pin)).map_err(failed("log in as security officer"))?;
    session.init_pin(&user_pin).map_err(failed("set the user PIN"))?;
    session.logout().map_err(failed("log out as security officer"))?;
    session.login(UserType::User, Some(&user_pin)).map_err(failed("log in to the token"))?;
    let mut copies: Vec<TransportCopy> = Vec::new();
    for rule in &policy.keys {
        let made = make_key(&session, rule, &copies, &profile.attributes_unknown)?;
        copies.extend(made);
    }
    Ok(copies)
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

fn make_key(
    session: &Pkcs11Session,
    rule: &KeyRule,
    copies: &[TransportCopy],
    unknown: &[String],
) -> Result<Option<TransportCopy>, Fault> {
    let failed = |e: cryptoki::error::Error| hsm_error(format!("make key {}", rule.label), &e);
    let mut id = [0; 16];
    rand_bytes(&mut id).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL's random: {e}")))?;
    match (rule.kind, rule.origin) {
        (KeyKind::EcP256, Origin::Generated) => {
            let mut public = template(rule, Half::Public, &id, unknown);
            public.push(Attribute::EcParams(P256_PARAMS.to_vec()));
            let private = template(rule, Half::Private, &id, unknown);
            session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map_err(failed)?;
            Ok(None)
        }
        (KeyKind::Aes256, Origin::Generated) => {
            let mut secret = template(rule, Half::Secret, &id, unknown);
            secret.push(Attribute::ValueLen(AES256_OCTETS.into()));
            session.generate_key(&Mechanism::AesKeyGen, &secret).map_err(failed)?;
            Ok(None)
        }
        (KeyKind::Aes256, Origin::Imported) => import(session, rule, copies, &id, unknown),
        (KeyKind::EcP256, Origin::Imported) => Err(Fault::new(
            Exit::Config,
            format!("key {:?}: a demo token makes its key pairs itself, origin must be \"generated\"", rule.label),
        )),
    }
}

/// A key that the other side must have too: made here, imported, its copy handed to the caller; none when it has one already.
fn import(
    session: &Pkcs11Session,
    rule: &KeyRule,
    copies: &[TransportCopy],
    id: &[u8],
    unknown: &[String],
) -> Result<Option<TransportCopy>, Fault> {
    let (Role::Transport(name) | Role::Operator(name)) = &rule.role else {
        let what = format!("key {:?}: only transport and operators' keys are imported", rule.label);
        return Err(Fault::new(Exit::Config, what));
    };
    if let Some(copy) = copies.iter().find(|copy| copy.name == *name) {
        return create(session, rule, &copy.key, id, unknown).map(|()| None);
    }
    let failed = |e: cryptoki::error::Error| -> HsmError { hsm_error(format!("make key {}", rule.label), &e) };
    let mut key = Zeroizing::new([0; AES256_OCTETS as usize]);
    let mut own = Zeroizing::new([0; AES256_OCTETS as usize]);
    session.generate_random_slice(&mut key[..]).map_err(failed)?;
    rand_bytes(&mut own[..]).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL's random: {e}")))?;
    key.iter_mut().zip(own.iter()).for_each(|(octet, other)| *octet ^= other);
    create(session, rule, &key, id, unknown)?;
    Ok(Some(TransportCopy { name: name.clone(), key }))
}

fn create(
    session: &Pkcs11Session,
    rule: &KeyRule,
    key: &[u8; AES256_OCTETS as usize],
    id: &[u8],
    unknown: &[String],
) -> Result<(), Fault> {
    let mut secret = template(rule, Half::Secret, id, unknown);
    secret.push(Attribute::Class(ObjectClass::SECRET_KEY));
    secret.push(Attribute::KeyType(KeyType::AES));
    secret.push(Attribute::Value(key.to_vec()));
    let created = session.create_object(&secret);
    // cryptoki's attribute is a plain vector: wipe it whatever the token said.
    for attribute in &mut secret {
        if let Attribute::Value(value) = attribute {
            value.zeroize();
        }
    }
    created.map_err(|e| hsm_error(format!("import key {}", rule.label), &e))?;
    Ok(())
}
