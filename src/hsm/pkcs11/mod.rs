//! The PKCS#11 tokens: the only room that names cryptoki.
//!
//! Start order: load the module, find the slot by label, look at the PIN flags, log in once, find every key of the policy and
//! compare it, known answers; only then work. An anchor session holds the login as long as anybody holds the token, because
//! closing the last session logs out. What one life of the module knows of a token (login, slot number, handles) is a
//! `Login`; it is made anew, by one caller while the others wait, when the module was restarted or a handle failed.
//! Sources: PKCS#11 v2.40, `hsm-config/README.md`.

pub mod approver;
mod attributes;
mod faults;
pub mod inventory;
mod login;
mod module;
pub mod objects;
pub mod provision;
mod selftest;
mod session;
mod slots;
mod witness;
mod wrap;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session as Pkcs11Session;
use cryptoki::slot::{Limit, Slot, TokenInfo};
use jiff::Timestamp;
use openssl::pkey::Public;
use openssl::rsa::Rsa;
use zeroize::Zeroizing;

use self::attributes::Half;
use self::faults::hsm_error;
use self::login::{PinSource, log_in};
use self::module::Module;
pub use self::module::shut_down;
pub use self::objects::KeyRoom;
pub use self::session::Session;
use self::slots::Wanted;
use self::witness::Witness;
use super::policy::{KeyPolicy, KeyRule, KeyState, MechanismName, Purpose, compare};
use super::profile::{Forms, HsmProfile, Limits};
use super::{FaultClass, Hsm, HsmError, KeyRef, Recoverable, Role};
use crate::certs::Curve;
use crate::config::CheckValue;

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
    /// Sessions that sign at once, at most: the profile's bound, or what the token grants.
    pub max_lanes: usize,
    /// Of the profile: a lane for so many cores where the site does not say.
    pub cores_a_lane: usize,
}

/// What stays the same of a token for the life of the process, and its login of today.
struct Held {
    module: Arc<Module>,
    policy: KeyPolicy,
    /// The keys this token was opened with, by which all of it counts: a [`KeyRef`] is an index into them.
    rules: Vec<KeyRule>,
    /// Attributes that the model has no notion of.
    unknown: Vec<String>,
    limits: Limits,
    forms: Forms,
    facts: TokenFacts,
    pin: Arc<PinSource>,
    /// Lanes this token should have, if the site says so.
    lanes: usize,
    /// Public points of the start, in the order of the policy.
    points: Vec<Option<[u8; 65]>>,
    /// What the keys did at the start; whoever comes back has to do the same.
    witness: OnceLock<Witness>,
    login: Mutex<Arc<LoginCell>>,
}

/// Where one login is made, by one caller while the others wait. A recovery puts a new one in its place: who hangs in a call in the
/// old one holds up nobody but those who wait there already, and their watch gives them up.
type LoginCell = Mutex<Option<Arc<Login>>>;

/// A token in one life of its module. Sessions hold it, so that the anchor outlives them.
struct Login {
    module: Arc<Module>,
    epoch: u64,
    slot: Slot,
    keys: Vec<HeldKey>,
    /// A call said that the session, the login or a handle is not valid: the next session wants a new login.
    doubtful: AtomicBool,
    anchor: Mutex<Option<Pkcs11Session>>,
}

struct HeldKey {
    label: String,
    purpose: Purpose,
    /// The check value that the policy pins.
    kcv: Option<CheckValue>,
    working: ObjectHandle,
    /// The public half of a pair on a curve.
    point: Option<[u8; 65]>,
    /// The public half of an RSA pair.
    rsa: Option<Rsa<Public>>,
}

impl Token {
    /// What people see of it.
    pub fn facts(&self) -> &TokenFacts {
        &self.held.facts
    }

    /// The module's own words on itself (C_GetInfo): library description and version.
    pub fn library(&self) -> Result<String, HsmError> {
        let _in_call = self.held.module.enter();
        let info = self.held.module.get_library_info().map_err(|e| hsm_error("ask the module for its version", &e))?;
        Ok(format!("{} {}", info.library_description().trim(), info.library_version()))
    }

    /// Lanes to start: as configured, by default one for so many cores, never more than profile and token allow.
    fn lane_count(&self, cores_a_lane: usize) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let wanted = if self.held.lanes == 0 { cores.div_ceil(cores_a_lane) } else { self.held.lanes };
        wanted.clamp(1, self.held.facts.max_lanes.max(1))
    }

    /// Lanes to start as the site says for this token, by default one for each core.
    pub fn lanes(&self) -> usize {
        self.lane_count(1)
    }

    /// The same where CPU threads have work of their own all the while: by default one for as many cores as the profile says.
    pub fn lanes_beside(&self) -> usize {
        self.lane_count(self.held.facts.cores_a_lane)
    }

    /// Lanes the site asks for, also those that profile or token do not allow; what [`Self::lanes`] gives where it does not say.
    pub fn lanes_asked(&self) -> usize {
        if self.held.lanes == 0 { self.lanes() } else { self.held.lanes }
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

    /// Opens the token of this label: login, policy, known answers.
    fn open_in(
        module: Arc<Module>,
        label: &str,
        (policy, wanted): (KeyPolicy, Wanted<'_>),
        profile: &HsmProfile,
        pin: Arc<PinSource>,
        lanes: usize,
    ) -> Result<Self, HsmError> {
        let unknown = &profile.attributes_unknown;
        let (login, rules, info) = {
            let _in_call = module.enter();
            let (slot, info) = module::slot_by_label(&module, label, None)?;
            mechanisms_there(&module, slot, &profile.mechanisms)?;
            let anchor = anchor(&module, slot, &info, &pin)?;
            let rules = wanted.rules(&anchor, &policy)?;
            (Login::begin(&module, slot, anchor, &rules, unknown)?, rules, info)
        };
        let facts = TokenFacts {
            model: profile.model.clone(),
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            firmware: info.firmware_version().to_string(),
            keys: rules.len(),
            mechanisms: profile.mechanisms.clone(),
            max_lanes: profile.limits.most_lanes(granted_sessions(&info)),
            cores_a_lane: profile.limits.cores_a_lane,
        };
        let held = Held {
            module,
            policy,
            rules,
            unknown: profile.attributes_unknown.clone(),
            limits: profile.limits,
            forms: profile.forms,
            facts,
            pin,
            lanes,
            points: login.keys.iter().map(|key| key.point).collect(),
            witness: OnceLock::new(),
            login: Mutex::new(Arc::new(Mutex::new(Some(Arc::new(login))))),
        };
        let token = Self { held: Arc::new(held) };
        let mut session = token.open_session()?;
        selftest::run(&mut session)?;
        let witness = Witness::of(&mut session)?;
        token.held.witness.get_or_init(|| witness);
        Ok(token)
    }
}

impl Held {
    /// The key itself, then the draining epochs of its role: what any of them sealed can be opened.
    fn openers(&self, key: KeyRef) -> impl Iterator<Item = KeyRef> + '_ {
        let role = self.rules.get(key.0).map(|rule| &rule.role);
        let drains = move |rule: &KeyRule| Some(&rule.role) == role && rule.state == KeyState::Draining;
        let older = self.rules.iter().enumerate().filter(move |(at, rule)| *at != key.0 && drains(rule));
        std::iter::once(key).chain(older.map(|(at, _)| KeyRef(at)))
    }

    /// The login of today; made anew by the first who needs it.
    fn login(&self) -> Result<Arc<Login>, HsmError> {
        let cell = Arc::clone(&self.login.lock().unwrap_or_else(PoisonError::into_inner));
        let mut login = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(today) = login.as_ref().filter(|login| login.is_good()) {
            return Ok(Arc::clone(today));
        }
        let fresh = {
            let _in_call = self.module.enter();
            let TokenFacts { label, serial, .. } = &self.facts;
            let (slot, info) = module::slot_by_label(&self.module, label, Some(serial))?;
            let anchor = anchor(&self.module, slot, &info, &self.pin)?;
            Login::begin(&self.module, slot, anchor, &self.rules, &self.unknown).map_err(not_back_yet)?
        };
        if let Some((key, _)) = fresh.keys.iter().zip(&self.points).find(|(key, point)| key.point != **point) {
            return Err(other_key(&self.facts.label, &key.label));
        }
        let fresh = Arc::new(fresh);
        let old = login.replace(Arc::clone(&fresh));
        drop(login);
        drop(old); // may close its anchor, which is a call
        Ok(fresh)
    }
}

impl Login {
    /// Finds and compares the keys of these rules. The caller holds the module's gate.
    fn begin(
        module: &Arc<Module>,
        slot: Slot,
        anchor: Pkcs11Session,
        rules: &[KeyRule],
        unknown: &[String],
    ) -> Result<Self, HsmError> {
        let keys: Result<_, HsmError> = rules.iter().map(|rule| resolve(&anchor, rule, unknown)).collect();
        Ok(Self {
            module: Arc::clone(module),
            epoch: module.epoch(),
            slot,
            keys: keys?,
            doubtful: AtomicBool::new(false),
            anchor: Mutex::new(Some(anchor)),
        })
    }

    fn is_good(&self) -> bool {
        self.is_of_today() && !self.doubtful.load(Ordering::Relaxed)
    }

    fn is_of_today(&self) -> bool {
        self.epoch == self.module.epoch()
    }

    fn key(&self, key: KeyRef) -> Result<&HeldKey, HsmError> {
        self.keys.get(key.0).ok_or_else(|| no_such_key("a key of another token"))
    }

    /// Closes a session of this login: never one of another life of the module, whose handle may be somebody else's today.
    fn close(&self, session: Pkcs11Session) {
        let _in_call = self.module.enter();
        if self.is_of_today() {
            drop(session);
        } else {
            std::mem::forget(session);
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let anchor = self.anchor.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        anchor.into_iter().for_each(|anchor| self.close(anchor));
    }
}

impl Hsm for Token {
    type Session = Session;

    fn open_session(&self) -> Result<Session, HsmError> {
        let login = self.held.login()?;
        let _in_call = self.held.module.enter();
        if !login.is_of_today() {
            return Err(module_restarted());
        }
        let session = self.held.module.open_ro_session(login.slot).map_err(|e| hsm_error("open a session", &e))?;
        Ok(Session::new(session, login.clone(), Arc::clone(&self.held)))
    }

    fn key(&self, role: &Role) -> Result<KeyRef, HsmError> {
        let at = self.held.rules.iter().position(|rule| rule.role == *role && rule.state == KeyState::Active);
        at.map(KeyRef).ok_or_else(|| no_such_key(&role.to_string()))
    }

    fn key_at(&self, role: &Role, accepted: Timestamp) -> Result<KeyRef, HsmError> {
        let rule = self.held.policy.rule_at(role, accepted).map_err(|gone| HsmError {
            what: format!("choose the key {role} of an order accepted at {accepted}"),
            code: gone.to_string(),
            class: FaultClass::Policy,
            hint: "no other key serves it: cancel the order, or let the epoch drain again in the key policy while the token has its key",
        })?;
        let rule = rule.ok_or_else(|| no_such_key(&role.to_string()))?;
        self.key_of(role, rule.epoch)
    }

    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError> {
        let point = self.held.points.get(key.0).copied();
        let point = point.ok_or_else(|| no_such_key("a key of another token"))?;
        let label = || self.held.rules.get(key.0).map_or("", |rule| &rule.label);
        point.ok_or_else(|| no_such_key(&format!("{} as a key pair", label())))
    }
}

impl Recoverable for Token {
    fn name(&self) -> String {
        self.held.facts.label.clone()
    }

    fn module(&self) -> usize {
        self.held.module.number
    }

    fn restart_module(&self) -> Result<(), HsmError> {
        self.held.module.restart()
    }

    fn revive(&self) -> Result<(), HsmError> {
        let old = {
            let mut login = self.held.login.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *login)
        };
        drop(old); // may close its anchor, which is a call
        let mut session = self.open_session()?;
        match self.held.witness.get() {
            Some(witness) => witness.check(&self.held.facts.label, &mut session),
            None => Ok(()),
        }
    }
}

/// The session that holds the login. One C_Login at most; the caller holds the module's gate.
fn anchor(module: &Module, slot: Slot, info: &TokenInfo, pin: &PinSource) -> Result<Pkcs11Session, HsmError> {
    let anchor = module.open_ro_session(slot).map_err(|e| hsm_error("open a session", &e))?;
    // Other threads of this process may hold the login already; then the PIN is neither read nor sent.
    log_in(&anchor, info, pin)?;
    Ok(anchor)
}

/// Sessions that the token itself says it has, if it says so.
fn granted_sessions(info: &TokenInfo) -> Option<usize> {
    match info.max_session_count() {
        Limit::Max(max) => usize::try_from(max).ok(),
        Limit::Infinite | Limit::Unavailable => None,
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
    let mut held = HeldKey {
        label: rule.label.clone(),
        purpose: rule.purpose,
        kcv: rule.kcv.clone(),
        working,
        point: None,
        rsa: None,
    };
    if half == Half::Private {
        let public = find_one(session, rule, Half::Public)?;
        check(Half::Public, public, rule.public.iter().map(|(a, v)| (*a, *v)).collect(), &[])?;
        match rule.kind.curve() {
            Some(curve) => held.point = Some(public_point(session, public, (&rule.label, curve))?),
            None => held.rsa = Some(objects::rsa_key(session, public, rule)?),
        }
    }
    Ok(held)
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
fn public_point(
    session: &Pkcs11Session,
    public: ObjectHandle,
    (label, curve): (&str, Curve),
) -> Result<[u8; 65], HsmError> {
    let answer = session
        .get_attributes(public, &[AttributeType::EcPoint])
        .map_err(|e| hsm_error(format!("read the public point of {label}"), &e))?;
    let point = match answer.first() {
        Some(Attribute::EcPoint(octets)) => octets.strip_prefix(&[0x04, 65]).unwrap_or(octets).try_into().ok(),
        _ => None,
    };
    point.filter(|point| Curve::of_point(point) == Some(curve)).ok_or_else(|| HsmError {
        what: format!("read the public point of {label}"),
        code: format!("not an uncompressed point of {curve}"),
        class: FaultClass::Policy,
        hint: "the key was not made by the key policy",
    })
}

/// Keys that were there at the start are not gone for good: SoftHSM shows none while its directory is away, others while they are
/// still starting.
fn not_back_yet(error: HsmError) -> HsmError {
    let class = if error.code == NO_SUCH_KEY { FaultClass::Token } else { error.class };
    HsmError { class, ..error }
}

const NO_SUCH_KEY: &str = "the token or the key policy has none";

fn no_such_key(what: &str) -> HsmError {
    HsmError {
        what: format!("look for key {what}"),
        code: NO_SUCH_KEY.into(),
        class: FaultClass::Policy,
        hint: "`bindery keys list` shows the keys of the policy; a new key is made in a key ceremony",
    }
}

fn other_key(token: &str, key: &str) -> HsmError {
    HsmError {
        what: format!("compare the keys of token {token:?}"),
        code: format!("{key} is another key there"),
        class: FaultClass::Policy,
        hint: "all slots must hold the same keys: clone them in a key ceremony, or remove the slot from bindery.toml",
    }
}

fn module_restarted() -> HsmError {
    HsmError {
        what: "use a session".into(),
        code: "the module was restarted".into(),
        class: FaultClass::Session,
        hint: "nothing was done with it; running again is safe",
    }
}
