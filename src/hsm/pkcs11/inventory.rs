//! What each token of a site tells of itself before anybody logs in: mechanisms, sessions, PIN flags. For `doctor`, which has to
//! tell more than the first reason why a token does not open.

use std::collections::BTreeMap;

use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::mechanism::MechanismInfo;
use cryptoki::slot::{Limit, Slot, TokenInfo};
use serde::Serialize;

use super::faults::hsm_error;
use super::slots::Named;
use super::{Token, module, provision};
use crate::certs::Curve;
use crate::config::Site;
use crate::error::Fault;
use crate::hsm::mechanisms::{Bounds, Offer};
use crate::hsm::policy::Purpose;
use crate::hsm::profile::HsmProfile;
use crate::hsm::{Hsm, HsmError, HsmSession};

/// One token of a site.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Its label in `bindery.toml`.
    pub label: String,
    /// The profile the site names for it.
    pub profile: HsmProfile,
    /// Mechanisms and random; no curves yet, see [`Token::curves`].
    pub offer: Offer,
    /// Sessions, as the token counts them.
    pub sessions: Sessions,
    /// Flags of the user PIN, from before this process's login.
    pub pin: PinState,
}

/// C_GetTokenInfo's session counters; none: the token does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sessions {
    /// Open in this application.
    pub open: Option<u64>,
    /// At most; none also for no bound.
    pub most: Option<u64>,
}

/// State of a user PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    /// No wrong one since the last login.
    Good,
    /// CKF_USER_PIN_COUNT_LOW: a wrong one was tried since the last login.
    CountLow,
    /// CKF_USER_PIN_FINAL_TRY: the next wrong one locks it; Bindery sends none.
    FinalTry,
    /// CKF_USER_PIN_LOCKED.
    Locked,
    /// CKF_USER_PIN_INITIALIZED is not set.
    NotSet,
}

/// What the tokens tell without a login, each for itself; in the order of `bindery.toml`. Call it before other threads run.
pub fn of(site: &Site) -> Vec<Result<Inventory, Fault>> {
    Named::all(site).iter().map(|named| of_one(site, named)).collect()
}

fn of_one(site: &Site, named: &Named<'_>) -> Result<Inventory, Fault> {
    let profile = HsmProfile::named(site, named.profile)?;
    let module = module::load_from(site, named.module)?;
    let _in_call = module.enter();
    let (slot, info) = module::slot_by_label(&module, named.label, None)?;
    let mechanisms = mechanisms(&module, slot).map_err(|e| hsm_error("list the mechanisms", &e))?;
    Ok(Inventory {
        label: named.label.to_owned(),
        profile,
        offer: Offer { mechanisms, has_random: info.rng(), curves: Vec::new() },
        sessions: Sessions { open: info.session_count(), most: bound(info.max_session_count()) },
        pin: pin_state(&info),
    })
}

impl Token {
    /// Curves this token has keys on, or makes key pairs on; a curve that could not be tried is left out. No list of PKCS#11
    /// names curves, so a pair of session keys tells; it is destroyed at once.
    pub fn curves(&self) -> Result<Vec<(Curve, bool)>, HsmError> {
        let held = |curve: Curve| self.rules().iter().any(|rule| rule.kind.curve() == Some(curve));
        let session = self.open_session()?;
        let makes = |curve| session.call(|| "try a curve".into(), |s| Ok::<_, Error>(provision::knows(s, curve)));
        // Who may make no pair at all learns nothing about a curve.
        let makes_any = makes(Curve::P256)?;
        let mut told = Vec::new();
        for curve in Curve::ALL {
            match held(curve) {
                true => told.push((curve, true)),
                false if makes_any => told.push((curve, makes(curve)?)),
                false => {}
            }
        }
        Ok(told)
    }

    /// Whether it tells CKA_CHECK_VALUE of its secret keys; none without such a key.
    pub fn tells_check_value(&self) -> Result<Option<bool>, HsmError> {
        let asked = self.rules().iter().find(|rule| matches!(rule.purpose, Purpose::Encrypt | Purpose::Decrypt));
        let Some(rule) = asked else { return Ok(None) };
        let key = self.key_of(&rule.role, rule.epoch)?;
        Ok(Some(self.open_session()?.check_value(key)?.is_some()))
    }
}

fn mechanisms(context: &Pkcs11, slot: Slot) -> Result<BTreeMap<u64, Bounds>, Error> {
    let listed = context.get_mechanism_list(slot)?.into_iter();
    listed.map(|mechanism| Ok((*mechanism, bounds(&context.get_mechanism_info(slot, mechanism)?)))).collect()
}

fn bounds(info: &MechanismInfo) -> Bounds {
    let uses = [
        (info.encrypt(), "ENCRYPT"),
        (info.decrypt(), "DECRYPT"),
        (info.sign(), "SIGN"),
        (info.verify(), "VERIFY"),
        (info.generate(), "GENERATE"),
        (info.generate_key_pair(), "GENERATE_KEY_PAIR"),
        (info.wrap(), "WRAP"),
        (info.unwrap(), "UNWRAP"),
        (info.derive(), "DERIVE"),
    ];
    Bounds {
        min_key: info.min_key_size() as u64,
        max_key: info.max_key_size() as u64,
        uses: uses.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect(),
    }
}

fn bound(limit: Limit) -> Option<u64> {
    match limit {
        Limit::Max(most) => Some(most),
        Limit::Infinite | Limit::Unavailable => None,
    }
}

fn pin_state(info: &TokenInfo) -> PinState {
    match () {
        () if !info.user_pin_initialized() => PinState::NotSet,
        () if info.user_pin_locked() => PinState::Locked,
        () if info.user_pin_final_try() => PinState::FinalTry,
        () if info.user_pin_count_low() => PinState::CountLow,
        () => PinState::Good,
    }
}
