//! The PKCS#11 token: the only room that names cryptoki.
//!
//! Start order: load the module, find the slot by label, look at the PIN flags, log in once, find every key of the policy and
//! compare it, known answers; only then work. An anchor session holds the login as long as anybody holds the token, because
//! closing the last session logs out. Sources: PKCS#11 v2.40, `hsm-config/README.md`.

pub mod approver;
mod attributes;
mod faults;
mod module;
pub mod objects;
pub mod provision;
mod selftest;
mod session;
mod wrap;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::{Session as Pkcs11Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use jiff::Timestamp;
use zeroize::Zeroizing;

use self::attributes::Half;
use self::faults::hsm_error;
pub use self::objects::KeyRoom;
pub use self::session::Session;
use super::pin::UserPin;
use super::policy::{KeyKind, KeyPolicy, KeyRule, KeyState, MechanismName, Purpose, compare};
use super::profile::{Forms, HsmProfile, Limits};
use super::{FaultClass, Hsm, HsmError, KeyRef, Role};
use crate::config::Site;
use crate::error::{Exit, Fault};

/// An open token: logged in, its keys compared with the policy and tried. Cheap to clone, usable by many threads.
#[derive(Clone)]
pub struct Token {
    held: Arc<Held>,
}

/// What `doctor` and `keys` show of a token.
#[derive(Clone, Debug)]
pub struct TokenFacts {
    /// From the profile.
    pub model: String,
    /// CKA label of the token.
    pub label: String,
    /// The maker's serial number.
    pub serial: String,
    /// Firmware version as the token tells it.
    pub firmware: String,
    /// Keys of the policy found and compared.
    pub keys: usize,
    /// Mechanisms the profile asks for, all present.
    pub mechanisms: Vec<MechanismName>,
    /// Sessions that sign at once, at most.
    pub max_lanes: usize,
}

/// What all sessions of a token share.
struct Held {
    keys: Vec<HeldKey>,
    /// The keys found, rule by rule in the order of `keys`.
    rules: Vec<KeyRule>,
    policy: KeyPolicy,
    limits: Limits,
    forms: Forms,
    context: Pkcs11,
    slot: Slot,
    facts: TokenFacts,
    // Last field, dropped last: the login ends when nobody uses the token any more.
    anchor: Mutex<Pkcs11Session>,
}

struct HeldKey {
    label: String,
    purpose: Purpose,
    working: ObjectHandle,
    point: Option<[u8; 65]>,
}

impl Held {
    fn key(&self, key: KeyRef) -> Result<&HeldKey, HsmError> {
        self.keys.get(key.0).ok_or_else(|| no_such_key("a key of another token"))
    }

    /// The key itself, then the draining epochs of its role: what any of them sealed can be opened.
    fn openers(&self, key: KeyRef) -> Vec<KeyRef> {
        let role = self.rules.get(key.0).map(|rule| &rule.role);
        let drains = |rule: &KeyRule| Some(&rule.role) == role && rule.state == KeyState::Draining;
        let older = self.rules.iter().enumerate().filter(|(at, rule)| *at != key.0 && drains(rule));
        std::iter::once(key).chain(older.map(|(at, _)| KeyRef(at))).collect()
    }
}

/// Set when a PIN was refused: this process never sends one again, so no loop can lock the token.
static PIN_REFUSED: AtomicBool = AtomicBool::new(false);

impl Token {
    /// Opens the token of a site. Call it before other threads run (SoftHSM reads its configuration from the environment).
    /// Every failure is exit 7 with what to do, or exit 3 when the site's own files are wrong.
    pub fn open(site: &Site) -> Result<Self, Fault> {
        let profile = HsmProfile::load(site)?;
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
        let context = module::load(site)?;
        let (slot, info) = module::slot_by_label(&context, &site.config.hsm.token_label)?;
        mechanisms_there(&context, slot, &profile.mechanisms)?;
        let anchor = context.open_ro_session(slot).map_err(|e| hsm_error("open a session", &e))?;
        // Other threads of this process may hold the login already; then the PIN is neither read nor sent.
        login(&anchor, &info, || UserPin::of(site))?;
        let needed = policy.in_use().cloned().collect();
        Self::compared(context, slot, &info, anchor, policy, needed, &profile)
    }

    /// Opens the token with those keys of the policy that are there, pending ones too: for a ceremony, which makes the others.
    pub fn open_present(site: &Site) -> Result<Self, Fault> {
        let profile = HsmProfile::load(site)?;
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
        let context = module::load(site)?;
        let (slot, info) = module::slot_by_label(&context, &site.config.hsm.token_label)?;
        let anchor = context.open_ro_session(slot).map_err(|e| hsm_error("open a session", &e))?;
        login(&anchor, &info, || UserPin::of(site))?;
        let mut present = Vec::new();
        for rule in policy.keys.iter().filter(|rule| rule.state != KeyState::Retired) {
            if objects::is_there(&anchor, rule)? {
                present.push(rule.clone());
            }
        }
        Self::compared(context, slot, &info, anchor, policy, present, &profile)
    }

    /// The key of one epoch, whatever its state.
    pub fn key_of(&self, role: &Role, epoch: u32) -> Result<KeyRef, HsmError> {
        let at = self.held.rules.iter().position(|rule| rule.role == *role && rule.epoch == epoch);
        at.map(KeyRef).ok_or_else(|| no_such_key(&format!("{role} epoch {epoch}")))
    }

    /// The keys found and compared.
    pub fn rules(&self) -> &[KeyRule] {
        &self.held.rules
    }

    /// Opens a sealed thing with this key alone, not with an older epoch: whether it still needs the older one.
    pub fn open_with_only(&self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.open_session()?.open_with(key, aad, sealed)
    }

    /// What people see of it.
    pub fn facts(&self) -> &TokenFacts {
        &self.held.facts
    }

    /// Lanes to start: as configured, by default one for each core, never more than the profile says.
    pub fn lane_count(&self, configured: usize) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let wanted = if configured == 0 { cores } else { configured };
        wanted.clamp(1, self.held.limits.lanes)
    }

    fn compared(
        context: Pkcs11,
        slot: Slot,
        info: &TokenInfo,
        anchor: Pkcs11Session,
        policy: KeyPolicy,
        rules: Vec<KeyRule>,
        profile: &HsmProfile,
    ) -> Result<Self, Fault> {
        let unknown = &profile.attributes_unknown;
        let keys: Result<_, HsmError> = rules.iter().map(|rule| resolve(&anchor, rule, unknown)).collect();
        let facts = TokenFacts {
            model: profile.model.clone(),
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            firmware: info.firmware_version().to_string(),
            keys: rules.len(),
            mechanisms: profile.mechanisms.clone(),
            max_lanes: profile.limits.lanes,
        };
        let held = Held {
            keys: keys?,
            rules,
            policy,
            limits: profile.limits,
            forms: profile.forms,
            context,
            slot,
            facts,
            anchor: Mutex::new(anchor),
        };
        let token = Self { held: Arc::new(held) };
        let mut session = token.open_session()?;
        let anchor = token.held.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        selftest::run(&mut session, &anchor, &token.held)?;
        drop(anchor);
        Ok(token)
    }
}

impl Hsm for Token {
    type Session = Session;

    fn open_session(&self) -> Result<Session, HsmError> {
        let session = self.held.context.open_ro_session(self.held.slot).map_err(|e| hsm_error("open a session", &e))?;
        Ok(Session::new(session, Arc::clone(&self.held)))
    }

    fn key(&self, role: &Role) -> Result<KeyRef, HsmError> {
        let at = self.held.rules.iter().position(|rule| rule.role == *role && rule.state == KeyState::Active);
        at.map(KeyRef).ok_or_else(|| no_such_key(&role.to_string()))
    }

    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError> {
        let rule = self.held.policy.rule_at(role, accepted).ok_or_else(|| no_such_key(&role.to_string()))?;
        self.key_of(role, rule.epoch)
    }

    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError> {
        let held = self.held.key(key)?;
        held.point.ok_or_else(|| no_such_key(&format!("{} as a key pair", held.label)))
    }
}

/// One C_Login, or none: a token one try away from its lock is left alone.
fn login(session: &Pkcs11Session, info: &TokenInfo, pin: impl FnOnce() -> Result<UserPin, Fault>) -> Result<(), Fault> {
    let refuse = |why: &str, todo: &str| Err(Fault::new(Exit::HsmUnusable, why).hint(todo));
    if PIN_REFUSED.load(Ordering::SeqCst) {
        return refuse("the token refused the PIN before; it is not sent again", "correct the PIN and start anew");
    }
    if !info.user_pin_initialized() {
        return refuse("the token has no user PIN yet", "finish the token's initialisation (C_InitPIN)");
    }
    if info.user_pin_locked() {
        return refuse("the user PIN is locked", "the security officer has to set a new one; no login was tried");
    }
    if info.user_pin_final_try() {
        return refuse(
            "one more wrong PIN would lock the token",
            "log in once with the vendor's tool and the right PIN; no login was tried",
        );
    }
    let already = session.get_session_info().map_err(|e| hsm_error("look at the session", &e))?;
    if matches!(already.session_state(), SessionState::RoUser | SessionState::RwUser) {
        return Ok(());
    }
    let pin = pin()?;
    // An exact box: a String would grow and leave copies. Wiped on drop by its type.
    let pin = AuthPin::new(Box::from(pin.expose()));
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(e) => {
            let error = hsm_error("log in to the token", &e);
            if error.class != FaultClass::Pin {
                return Err(error.into());
            }
            PIN_REFUSED.store(true, Ordering::SeqCst);
            refuse(&format!("the token refused the PIN ({})", error.code), error.hint)
        }
    }
}

fn mechanisms_there(context: &Pkcs11, slot: Slot, wanted: &[MechanismName]) -> Result<(), HsmError> {
    let there = context.get_mechanism_list(slot).map_err(|e| hsm_error("list the mechanisms", &e))?;
    match wanted.iter().find(|name| !there.contains(&attributes::mechanism(**name))) {
        None => Ok(()),
        Some(missing) => Err(HsmError {
            what: "look for the mechanisms needed".into(),
            code: format!("the token does not offer {}", missing.as_str()),
            class: FaultClass::Policy,
            hint: "enable the mechanism in the HSM's policy; the profile file in hsm-config/ lists what is needed",
        }),
    }
}

/// Finds the objects of one rule and compares them with it.
fn resolve(session: &Pkcs11Session, rule: &KeyRule, unknown: &[String]) -> Result<HeldKey, HsmError> {
    let half = Half::working(rule);
    let working = find_one(session, rule, half)?;
    let numbers: Vec<u64> = {
        let mut numbers: Vec<u64> = rule.mechanisms.iter().map(|m| *attributes::mechanism(*m)).collect();
        numbers.sort_unstable();
        numbers
    };
    let check = |half, object, expected: Vec<_>, numbers: &[u64]| -> Result<(), HsmError> {
        let asked: Vec<_> = expected.iter().map(|(attribute, _)| *attribute).collect();
        let found = attributes::read_back(session, object, half, rule, &asked, unknown)
            .map_err(|e| hsm_error(format!("read the attributes of {}", rule.label), &e))?;
        Ok(compare(&rule.label, expected.into_iter(), numbers, &found, unknown)?)
    };
    check(half, working, rule.expected().collect(), &numbers)?;
    let point = if half == Half::Private {
        let public = find_one(session, rule, Half::Public)?;
        check(Half::Public, public, rule.public.iter().map(|(a, v)| (*a, *v)).collect(), &[])?;
        match rule.kind {
            KeyKind::Rsa3072 => None,
            _ => Some(public_point(session, public, &rule.label)?),
        }
    } else {
        None
    };
    Ok(HeldKey { label: rule.label.clone(), purpose: rule.purpose, working, point })
}

fn find_one(session: &Pkcs11Session, rule: &KeyRule, half: Half) -> Result<ObjectHandle, HsmError> {
    let found = session
        .find_objects(&half.search(&rule.label))
        .map_err(|e| hsm_error(format!("look for key {}", rule.label), &e))?;
    match found[..] {
        [one] => Ok(one),
        [] => Err(no_such_key(&format!("{} (label {:?})", rule.role, rule.label))),
        _ => Err(HsmError {
            what: format!("look for key {}", rule.label),
            code: format!("{} objects carry this label", found.len()),
            class: FaultClass::Policy,
            hint: "one role, one key: remove or relabel the surplus objects",
        }),
    }
}

/// CKA_EC_POINT: a DER OCTET STRING in the standard, the bare point from some modules.
fn public_point(session: &Pkcs11Session, public: ObjectHandle, label: &str) -> Result<[u8; 65], HsmError> {
    let answer = session
        .get_attributes(public, &[AttributeType::EcPoint])
        .map_err(|e| hsm_error(format!("read the public point of {label}"), &e))?;
    let point = match answer.first() {
        Some(Attribute::EcPoint(octets)) => octets.strip_prefix(&[0x04, 65]).unwrap_or(octets).try_into().ok(),
        _ => None,
    };
    point.filter(|point| crate::certs::point::public_key(point).is_ok()).ok_or_else(|| HsmError {
        what: format!("read the public point of {label}"),
        code: "not an uncompressed point of P-256".into(),
        class: FaultClass::Policy,
        hint: "the key was not made by the key policy",
    })
}

fn no_such_key(what: &str) -> HsmError {
    HsmError {
        what: format!("look for key {what}"),
        code: "the token or the key policy has none".into(),
        class: FaultClass::Policy,
        hint: "`bindery keys list` shows the keys of the policy; a new key is made in a key ceremony",
    }
}
