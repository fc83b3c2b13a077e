//! The token's objects as a ceremony makes, finds and destroys them: one read-write session, every key by the policy's template.
//!
//! In: a rule of the policy and a CKA_ID chosen beforehand. Out: objects that [`super::Token`] compares before it uses them.
//! Rule: the id is written down before the call, so that an interrupted step knows its own key again.

use std::sync::{Arc, RwLockReadGuard};

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session as Pkcs11Session;
use openssl::bn::BigNum;
use openssl::pkey::PKey;
use openssl::rand::rand_bytes;
use openssl::rsa::Rsa;
use zeroize::Zeroize;

use super::attributes::{Half, RSA_BITS, UNWRAP_TEMPLATE, ec_params, template, unwrap_template};
use super::faults::hsm_error;
use super::login::log_in;
use super::module::Module;
use super::slots::Named;
pub use super::wrap::{EncryptBlock, Trial};
use super::{mechanisms_there, module, module_restarted, no_such_key, public_point, wrap};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::policy::{KeyKind, KeyPolicy, KeyRule, KeyState, Purpose};
use crate::hsm::profile::HsmProfile;
use crate::hsm::{FaultClass, HsmError};

/// CKA_ID: 16 octets, the most that every model takes.
pub type KeyId = [u8; 16];

/// A fresh id.
pub fn new_id() -> Result<KeyId, Fault> {
    let mut id = [0; 16];
    rand_bytes(&mut id).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL's random: {e}")))?;
    Ok(id)
}

/// A logged-in read-write session for making keys.
pub struct KeyRoom {
    /// Always there until the drop.
    session: Option<Pkcs11Session>,
    profile: HsmProfile,
    module: Arc<Module>,
    /// The life of the module that the session is of.
    epoch: u64,
}

/// The module cannot be finalised while this lives.
struct InCall<'a> {
    session: &'a Pkcs11Session,
    _gate: RwLockReadGuard<'a, ()>,
}

impl KeyRoom {
    /// Opens the site's token for writing; the PIN is the site's. Call it before other threads run, see [`super::Token::open`].
    pub fn open(site: &Site) -> Result<Self, Fault> {
        Self::open_in(site, None)
    }

    /// The same of the slot with this label; none is the first.
    pub fn open_in(site: &Site, slot: Option<&str>) -> Result<Self, Fault> {
        let named = Named::chosen(site, slot)?;
        let profile = HsmProfile::named(site, named.profile)?;
        let module = module::load_from(site, named.module)?;
        let (session, epoch) = {
            let _in_call = module.enter();
            let (slot, info) = module::slot_by_label(&module, named.label, None)?;
            mechanisms_there(&module, slot, &profile.mechanisms_for_making_keys)?;
            let session = module.open_rw_session(slot).map_err(|e| hsm_error("open a session for writing", &e))?;
            log_in(&session, &info, &named.pin)?;
            (session, module.epoch())
        };
        Ok(Self { session: Some(session), profile, module, epoch })
    }

    /// CKA_ID of the rule's key, if the token has it whole; an error when only a half of a pair is there.
    pub fn find(&self, rule: &KeyRule) -> Result<Option<Vec<u8>>, HsmError> {
        let call = self.enter()?;
        let all = call.objects(rule)?;
        let Some((_, first)) = all.first() else { return Ok(None) };
        let halves = halves(rule).len();
        let wrong = |how: String| HsmError {
            what: format!("look for key {}", rule.label),
            code: how,
            class: FaultClass::Policy,
            hint: "one label, one key: `keys rotate` or the ceremony that began it makes its own half whole; what neither made, remove",
        };
        if let [(half, _)] = all[..]
            && halves == 2
        {
            return Err(wrong(format!("half a key: only its {half:?} half is there").to_lowercase()));
        }
        if all.len() != halves {
            return Err(wrong(format!("{} objects carry this label where {halves} belong", all.len())));
        }
        let id = call.id(*first, rule)?;
        for (_, object) in &all[1..] {
            if call.id(*object, rule)? != id {
                return Err(wrong("the two halves have different CKA_ID".into()));
            }
        }
        Ok(Some(id))
    }

    /// Makes the rule's key inside the token.
    pub fn generate(&self, rule: &KeyRule, id: &KeyId) -> Result<(), HsmError> {
        self.can_bind(rule)?;
        let call = self.enter()?;
        generate(call.session, rule, id, &self.profile.attributes_unknown)
    }

    /// Makes the rule's key of these octets; the caller wipes its own.
    pub fn create(&self, rule: &KeyRule, id: &KeyId, value: &[u8]) -> Result<(), HsmError> {
        self.can_bind(rule)?;
        let call = self.enter()?;
        create(call.session, rule, id, value, &self.profile.attributes_unknown)?;
        if rule.purpose == Purpose::Unwrap
            && let Err(error) = wrap::aes_key_binds(call.session, rule, value)
        {
            drop(call);
            self.destroy(rule)?;
            return Err(error);
        }
        Ok(())
    }

    /// Import keys are for models that hold what they unwrap to a template.
    fn can_bind(&self, rule: &KeyRule) -> Result<(), HsmError> {
        if rule.purpose != Purpose::Unwrap || !self.profile.attributes_unknown.iter().any(|u| u == UNWRAP_TEMPLATE) {
            return Ok(());
        }
        Err(HsmError {
            what: format!("make key {}", rule.label),
            code: format!("{} has no {UNWRAP_TEMPLATE}: what it unwraps could be made readable", self.profile.model),
            class: FaultClass::Policy,
            hint: "bring keys in as components: `bindery keys import ROLE --component ...`",
        })
    }

    /// Unwraps what was wrapped for the import key `under` into the rule's key; its value never leaves the token.
    pub fn unwrap(&self, rule: &KeyRule, id: &KeyId, under: &KeyRule, wrapped: &[u8]) -> Result<(), HsmError> {
        let call = self.enter()?;
        let unwrapping = call.one(under)?;
        let mechanism = wrap::mechanism(under.kind, self.profile.forms);
        let template = wrap::template_of(rule, id, &self.profile);
        let unwrapped = call.session.unwrap_key(&mechanism, unwrapping, wrapped, &template);
        unwrapped
            .map(drop)
            .map_err(|e| wrap::refused(hsm_error(format!("unwrap key {} with {}", rule.label, under.label), &e)))
    }

    /// The check value's whole block of the key that is wrapped here, seen before it is made: unwrapped once into an object of this
    /// session that does nothing but encrypt, and that goes at once. None where the token does not unwrap into such an object (a
    /// CKA_UNWRAP_TEMPLATE), or does not unwrap this at all, which the unwrapping itself will tell.
    pub fn trial(
        &self,
        rule: &KeyRule,
        under: &KeyRule,
        wrapped: &[u8],
        block: impl FnOnce(&mut EncryptBlock<'_>) -> Result<[u8; 16], HsmError>,
    ) -> Result<Option<Trial>, HsmError> {
        let call = self.enter()?;
        let unwrapping = (call.one(under)?, wrap::mechanism(under.kind, self.profile.forms));
        wrap::trial(call.session, unwrapping, wrapped, (rule, &self.profile), block)
    }

    /// Destroys every object of the rule's label; how many there were.
    pub fn destroy(&self, rule: &KeyRule) -> Result<usize, HsmError> {
        let call = self.enter()?;
        let all = call.objects(rule)?;
        for (_, object) in &all {
            let destroyed = call.session.destroy_object(*object);
            destroyed.map_err(|e| hsm_error(format!("destroy key {}", rule.label), &e))?;
        }
        Ok(all.len())
    }

    /// Takes away what an interrupted step left of its own half-made key: objects of the label that carry this id.
    pub fn clear_unfinished(&self, rule: &KeyRule, id: &KeyId) -> Result<(), HsmError> {
        let call = self.enter()?;
        for (_, object) in call.objects(rule)? {
            if call.id(object, rule)? == id {
                let destroyed = call.session.destroy_object(object);
                destroyed.map_err(|e| hsm_error(format!("remove the unfinished key {}", rule.label), &e))?;
            }
        }
        Ok(())
    }

    /// The public point of a signing key; none when the token has no such key, or more than one.
    pub fn point(&self, rule: &KeyRule) -> Result<Option<[u8; 65]>, HsmError> {
        let Some(curve) = rule.kind.curve() else { return Ok(None) };
        let call = self.enter()?;
        let found = call.session.find_objects(&Half::Public.search(&rule.label));
        let found = found.map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?;
        let [public] = found[..] else { return Ok(None) };
        public_point(call.session, public, (&rule.label, curve)).map(Some)
    }

    /// The public half of an import key, PEM (SubjectPublicKeyInfo): operators wrap under it.
    pub fn import_key_pem(&self, rule: &KeyRule) -> Result<Vec<u8>, Fault> {
        let call = self.enter()?;
        let found = call.session.find_objects(&Half::Public.search(&rule.label));
        let found = found.map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?;
        let [public] = found[..] else { return Err(no_such_key(&rule.label).into()) };
        let key = rsa_key(call.session, public, rule)?;
        let pem = PKey::from_rsa(key).and_then(|key| key.public_key_to_pem());
        pem.map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))
    }

    fn enter(&self) -> Result<InCall<'_>, HsmError> {
        let gate = self.module.enter();
        match &self.session {
            Some(session) if self.module.epoch() == self.epoch => Ok(InCall { session, _gate: gate }),
            _ => Err(module_restarted()),
        }
    }
}

impl Drop for KeyRoom {
    fn drop(&mut self) {
        let _in_call = self.module.enter();
        let session = self.session.take();
        if self.module.epoch() != self.epoch {
            std::mem::forget(session); // its handle may be somebody else's today
        }
    }
}

impl InCall<'_> {
    /// The working object of a rule.
    fn one(&self, rule: &KeyRule) -> Result<ObjectHandle, HsmError> {
        let found = self.session.find_objects(&Half::working(rule).search(&rule.label));
        let found = found.map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?;
        let [one] = found[..] else { return Err(no_such_key(&rule.label)) };
        Ok(one)
    }

    fn objects(&self, rule: &KeyRule) -> Result<Vec<(Half, ObjectHandle)>, HsmError> {
        let mut all = Vec::new();
        for half in halves(rule) {
            let found = self.session.find_objects(&half.search(&rule.label));
            let found = found.map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?;
            all.extend(found.into_iter().map(|object| (*half, object)));
        }
        Ok(all)
    }

    fn id(&self, object: ObjectHandle, rule: &KeyRule) -> Result<Vec<u8>, HsmError> {
        let answer = self.session.get_attributes(object, &[AttributeType::Id]);
        match answer.map_err(|e| hsm_error(format!("read CKA_ID of {}", rule.label), &e))?.into_iter().next() {
            Some(Attribute::Id(id)) => Ok(id),
            _ => Ok(Vec::new()),
        }
    }
}

/// Whether every object of a rule is there: half a pair is no key.
pub(super) fn is_there(session: &Pkcs11Session, rule: &KeyRule) -> Result<bool, HsmError> {
    for half in halves(rule) {
        let found = session.find_objects(&half.search(&rule.label));
        if found.map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Keys of a policy that the first token has by half, in its order; what was cut off while a pair was made.
pub fn half_made(site: &Site, policy: &KeyPolicy) -> Result<Vec<KeyRule>, Fault> {
    let room = KeyRoom::open(site)?;
    let mut all = Vec::new();
    for rule in policy.keys.iter().filter(|rule| rule.state != KeyState::Retired) {
        if room.enter()?.objects(rule)?.len() == 1 && halves(rule).len() == 2 {
            all.push(rule.clone());
        }
    }
    Ok(all)
}

/// An import key is made with the template of what it unwraps.
fn with_unwrap_template(mut all: Vec<Attribute>, rule: &KeyRule, unknown: &[String]) -> Vec<Attribute> {
    if rule.purpose == Purpose::Unwrap {
        all.push(unwrap_template(unknown));
    }
    all
}

/// Makes a key inside the token.
pub(super) fn generate(session: &Pkcs11Session, rule: &KeyRule, id: &[u8], unknown: &[String]) -> Result<(), HsmError> {
    let failed = |e: Error| hsm_error(format!("make key {}", rule.label), &e);
    let own = |half| with_unwrap_template(template(rule, half, id, unknown), rule, unknown);
    let pair = |mechanism: &Mechanism<'_>, more: Vec<Attribute>| {
        let public = [template(rule, Half::Public, id, unknown), more].concat();
        session.generate_key_pair(mechanism, &public, &own(Half::Private)).map(drop)
    };
    match rule.kind {
        KeyKind::Ec(curve) => pair(&Mechanism::EccKeyPairGen, vec![ec_params(curve)]),
        KeyKind::Rsa3072 => pair(
            &Mechanism::RsaPkcsKeyPairGen,
            vec![Attribute::ModulusBits(RSA_BITS.into()), Attribute::PublicExponent(vec![1, 0, 1])],
        ),
        KeyKind::Aes128 | KeyKind::Aes256 => {
            let mut secret = own(Half::Secret);
            let octets = rule.kind.secret_octets().unwrap_or_default();
            secret.push(Attribute::ValueLen((octets as u64).into()));
            session.generate_key(&Mechanism::AesKeyGen, &secret).map(drop)
        }
    }
    .map_err(failed)
}

/// Makes a secret key of octets that came from outside.
pub(super) fn create(
    session: &Pkcs11Session,
    rule: &KeyRule,
    id: &[u8],
    value: &[u8],
    unknown: &[String],
) -> Result<(), HsmError> {
    let failed = |e: Error| hsm_error(format!("import key {}", rule.label), &e);
    if rule.kind.secret_octets() != Some(value.len()) {
        return Err(HsmError {
            what: format!("import key {}", rule.label),
            code: format!("{} octets are not a key of the declared type", value.len()),
            class: FaultClass::Policy,
            hint: "correct `type` of this key in the key policy, or the key's components",
        });
    }
    let mut secret = with_unwrap_template(template(rule, Half::Secret, id, unknown), rule, unknown);
    secret.push(Attribute::Class(ObjectClass::SECRET_KEY));
    secret.push(Attribute::KeyType(KeyType::AES));
    secret.push(Attribute::Value(value.to_vec()));
    let created = session.create_object(&secret);
    // cryptoki's attribute is a plain vector: wipe it whatever the token said.
    for attribute in &mut secret {
        if let Attribute::Value(value) = attribute {
            value.zeroize();
        }
    }
    created.map(drop).map_err(failed)
}

/// The public key of an RSA pair.
pub(super) fn rsa_key(
    session: &Pkcs11Session,
    public: ObjectHandle,
    rule: &KeyRule,
) -> Result<Rsa<openssl::pkey::Public>, HsmError> {
    let what = || format!("read the public half of {}", rule.label);
    let asked = [AttributeType::Modulus, AttributeType::PublicExponent];
    let answer = session.get_attributes(public, &asked).map_err(|e| hsm_error(what(), &e))?;
    let number = |octets: &[u8]| BigNum::from_slice(octets).ok();
    let modulus = answer.iter().find_map(|a| if let Attribute::Modulus(n) = a { number(n) } else { None });
    let exponent = answer.iter().find_map(|a| if let Attribute::PublicExponent(e) = a { number(e) } else { None });
    let key = modulus.zip(exponent).and_then(|(n, e)| Rsa::from_public_components(n, e).ok());
    key.ok_or_else(|| no_such_key(&format!("{} as an RSA pair", rule.label)))
}

fn halves(rule: &KeyRule) -> &'static [Half] {
    match rule.kind.secret_octets() {
        Some(_) => &[Half::Secret],
        None => &[Half::Private, Half::Public],
    }
}
