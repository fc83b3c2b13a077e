//! The PIN's discipline: one attempt per value and process. A token one try away from its lock is left alone, a value that was
//! refused is never sent again, and only one that was accepted before is sent after a restart of the module.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session as Pkcs11Session, SessionState, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;
use openssl::sha::Sha256;

use super::faults::hsm_error;
use crate::config::{Site, SlotConfig};
use crate::hsm::pin::UserPin;
use crate::hsm::{FaultClass, HsmError};

/// Where the PIN of one token comes from. Read when it is needed first and kept (wiped at the end): a descriptor can be read only
/// once, and a recovery must not depend on a file that was taken away after the start.
pub(super) struct PinSource {
    site: Site,
    slot: Option<SlotConfig>,
    read: Mutex<Option<Arc<UserPin>>>,
}

/// Digests of what was refused, each with the token that refused it. Salted: they must not help who reads this memory.
static REFUSED: Mutex<Option<HashSet<[u8; 32]>>> = Mutex::new(None);
static SALT: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut salt = [0; 32];
    // Without random the digests still tell values apart, which is what they are for.
    let _ = openssl::rand::rand_bytes(&mut salt);
    salt
});

impl PinSource {
    pub(super) fn new(site: &Site, slot: Option<&SlotConfig>) -> Self {
        Self { site: site.clone(), slot: slot.cloned(), read: Mutex::new(None) }
    }

    /// A PIN that was read already.
    pub(super) fn holding(site: &Site, pin: UserPin) -> Self {
        Self { site: site.clone(), slot: None, read: Mutex::new(Some(Arc::new(pin))) }
    }

    fn pin(&self) -> Result<Arc<UserPin>, HsmError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = &*read {
            return Ok(Arc::clone(pin));
        }
        let pin = match &self.slot {
            None => UserPin::of(&self.site)?,
            Some(slot) => UserPin::of_slot(&self.site, slot)?,
        };
        Ok(Arc::clone(read.insert(Arc::new(pin))))
    }
}

/// One C_Login, or none: not if the session is logged in already, and not if that could cost the token its last try.
pub(super) fn log_in(session: &Pkcs11Session, info: &TokenInfo, source: &PinSource) -> Result<(), HsmError> {
    let refuse = |code: &str, hint: &'static str| {
        Err(HsmError { what: what(info), code: code.into(), class: FaultClass::Pin, hint })
    };
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
    let pin = source.pin()?;
    let digest = digest(info, &pin);
    if is_refused(&digest) {
        return refuse("the token refused the PIN before; it is not sent again", "correct the PIN and start anew");
    }
    // An exact box: a String would grow and leave copies. Wiped on drop by its type.
    let pin = AuthPin::new(Box::from(pin.expose()));
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(e) => {
            let error = hsm_error(what(info), &e);
            if error.class == FaultClass::Pin {
                remember(digest);
            }
            Err(error)
        }
    }
}

fn what(info: &TokenInfo) -> String {
    format!("log in to token {:?} with the PIN", info.label())
}

fn digest(info: &TokenInfo, pin: &UserPin) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&SALT[..], info.label().as_bytes(), info.serial_number().as_bytes(), pin.expose().as_bytes()] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finish()
}

fn is_refused(digest: &[u8; 32]) -> bool {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|refused| refused.contains(digest))
}

fn remember(digest: [u8; 32]) {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(digest);
}
