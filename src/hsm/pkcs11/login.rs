//! The PIN's discipline: one attempt per value and process. A token one try away from its lock is left alone, a value that was
//! refused is never sent again, one whose answer is still out is not sent meanwhile, and only one that was accepted before is
//! sent after a restart of the module or when the token is opened once more.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session as Pkcs11Session, SessionState, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;
use openssl::sha::Sha256;

use super::faults::hsm_error;
use crate::config::{Site, SlotConfig};
use crate::hsm::pin::UserPin;
use crate::hsm::{FaultClass, HsmError};

/// Where the PIN of one token comes from. Read when it is needed first and kept for the whole process, however often it opens the
/// token: a descriptor can be read only once, and a recovery must not depend on a file that was taken away after the start.
pub(super) struct PinSource {
    site: Site,
    slot: Option<SlotConfig>,
    kept: Arc<Mutex<Kept>>,
}

/// A PIN that was read.
#[derive(Default)]
struct Kept {
    pin: Option<Arc<UserPin>>,
    /// It stays even if a token refuses it: some token took it, or there is nothing it could be read from again.
    stays: bool,
}

/// One PIN of this process: a site, and the slot that has one of its own.
type Owner = (PathBuf, Option<String>);

/// PINs of this process. Each is wiped when nobody works with its token any more, but for one that cannot be read again (a pipe); that
/// one by [`forget_pins`].
static KEPT: Mutex<Vec<(Owner, Arc<Mutex<Kept>>)>> = Mutex::new(Vec::new());

/// Digests of what was refused, each with the token that refused it, and what that said. Salted: they must not help who reads this
/// memory.
static REFUSED: Mutex<BTreeMap<[u8; 32], String>> = Mutex::new(BTreeMap::new());
/// The same of what was sent and not answered yet.
static SENT: Mutex<Option<HashSet<[u8; 32]>>> = Mutex::new(None);
static SALT: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut salt = [0; 32];
    // Without random the digests still tell values apart, which is what they are for.
    let _ = openssl::rand::rand_bytes(&mut salt);
    salt
});

impl PinSource {
    pub(super) fn new(site: &Site, slot: Option<&SlotConfig>) -> Self {
        let owner: Owner = (site.root().to_owned(), slot.map(|slot| slot.token_label.clone()));
        let mut all = locked(&KEPT);
        let kept = match all.iter().find(|(other, _)| *other == owner) {
            Some((_, kept)) => Arc::clone(kept),
            None => {
                let kept = Arc::default();
                all.push((owner, Arc::clone(&kept)));
                kept
            }
        };
        Self { site: site.clone(), slot: slot.cloned(), kept }
    }

    /// A PIN that was read already, of nobody else.
    pub(super) fn holding(site: &Site, pin: UserPin) -> Self {
        let kept = Kept { pin: Some(Arc::new(pin)), stays: true };
        Self { site: site.clone(), slot: None, kept: Arc::new(Mutex::new(kept)) }
    }

    fn pin(&self) -> Result<Arc<UserPin>, HsmError> {
        let mut kept = locked(&self.kept);
        if let Some(pin) = &kept.pin {
            return Ok(Arc::clone(pin));
        }
        let pin = match &self.slot {
            None => UserPin::of(&self.site)?,
            Some(slot) => UserPin::of_slot(&self.site, slot)?,
        };
        Ok(Arc::clone(kept.pin.insert(Arc::new(pin))))
    }

    /// One that no token took is read anew the next time: it may have been corrected.
    fn judged(&self, accepted: bool) {
        let mut kept = locked(&self.kept);
        kept.stays |= accepted;
        if !kept.stays {
            kept.pin = None;
        }
    }
}

impl Drop for PinSource {
    fn drop(&mut self) {
        // This one and the list's: nobody else's.
        if Arc::strong_count(&self.kept) <= 2 && UserPin::can_be_read_again(&self.site, self.slot.as_ref()) {
            *locked(&self.kept) = Kept::default();
        }
    }
}

/// Wipes the PINs of this process; tokens that are open ask their sources again should they need one.
pub(super) fn forget_pins() {
    for (_, kept) in locked(&KEPT).drain(..) {
        *locked(&kept) = Kept::default();
    }
}

/// One C_Login, or none: not if the session is logged in already, and not if that could cost the token its last try.
pub(super) fn log_in(session: &Pkcs11Session, info: &TokenInfo, source: &PinSource) -> Result<(), HsmError> {
    may_be_tried(info)?;
    if is_logged_in(session)? {
        return Ok(());
    }
    send(session, info, source).map(drop)
}

/// One C_Login with this PIN that the token itself accepted: a login that is there already proves nothing of who knows the PIN.
pub(super) fn prove(session: &Pkcs11Session, info: &TokenInfo, source: &PinSource) -> Result<(), HsmError> {
    may_be_tried(info)?;
    if !is_logged_in(session)? && matches!(send(session, info, source)?, Login::Done) {
        return Ok(());
    }
    refuse(
        info,
        "somebody is logged in to it already",
        "a second person's token is used for nothing else in this process",
    )
}

/// Refuses what could cost the token its last try.
fn may_be_tried(info: &TokenInfo) -> Result<(), HsmError> {
    if !info.user_pin_initialized() {
        return refuse(info, "the token has no user PIN yet", "finish the token's initialisation (C_InitPIN)");
    }
    if info.user_pin_locked() {
        return refuse(info, "the user PIN is locked", "the security officer has to set a new one; no login was tried");
    }
    if info.user_pin_final_try() {
        return refuse(
            info,
            "one more wrong PIN would lock the token",
            "log in once with the vendor's tool and the right PIN; no login was tried",
        );
    }
    Ok(())
}

fn is_logged_in(session: &Pkcs11Session) -> Result<bool, HsmError> {
    let info = session.get_session_info().map_err(|e| hsm_error("look at the session", &e))?;
    Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
}

/// What C_Login found.
enum Login {
    /// The token took the PIN.
    Done,
    /// Another thread was quicker; the PIN was not looked at.
    WasThere,
}

fn send(session: &Pkcs11Session, info: &TokenInfo, source: &PinSource) -> Result<Login, HsmError> {
    let pin = source.pin()?;
    let digest = digest(info, &pin);
    let refused = locked(&REFUSED).get(&digest).cloned();
    if let Some(said) = refused {
        source.judged(false);
        let code = format!("the token refused the PIN before ({said}); it is not sent again");
        return refuse(info, &code, "correct the PIN and start anew");
    }
    if !locked(&SENT).get_or_insert_default().insert(digest) {
        return Err(HsmError {
            what: what(info),
            code: "an earlier login is still without an answer".into(),
            class: FaultClass::Token,
            hint: "the PIN is not sent twice: look at the HSM and its connection",
        });
    }
    // An exact box: a String would grow and leave copies. Wiped on drop by its type.
    let outcome = session.login(UserType::User, Some(&AuthPin::new(Box::from(pin.expose()))));
    let outcome = match outcome {
        Ok(()) => {
            source.judged(true);
            Ok(Login::Done)
        }
        Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(Login::WasThere),
        Err(e) => Err(hsm_error(what(info), &e)),
    };
    if let Err(error) = &outcome
        && error.class == FaultClass::Pin
    {
        locked(&REFUSED).insert(digest, error.code.to_string());
        source.judged(false);
    }
    locked(&SENT).get_or_insert_default().remove(&digest); // after it counts as refused
    outcome
}

fn refuse<T>(info: &TokenInfo, code: &str, hint: &'static str) -> Result<T, HsmError> {
    Err(HsmError { what: what(info), code: code.into(), class: FaultClass::Pin, hint })
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
