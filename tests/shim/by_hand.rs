//! The calls in which the shim knows better than the module: slots and their tokens, sessions, logins, start and end.
#![allow(non_snake_case)] // the standard's names

use std::ffi::c_void;
use std::slice;
use std::sync::atomic::Ordering::SeqCst;

use cryptoki_sys::*;

use super::functions::number;
use super::shim;
use super::slots::label;

/// Slots one module can show.
const MOST_BACKEND_SLOTS: usize = 256;

pub(super) unsafe extern "C" fn C_FindObjects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    most: CK_ULONG,
    found: *mut CK_ULONG,
) -> CK_RV {
    const FUNCTION: usize = number("C_FindObjects");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let Some(call) = list.C_FindObjects else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the caller's arguments.
        let code = unsafe { call(session, objects, most, found) };
        if code == CKR_OK && !objects.is_null() && !found.is_null() {
            // SAFETY: the module has written `found` handles, `most` at most, to where the caller has room for them.
            let all = unsafe { slice::from_raw_parts_mut(objects, (*found).min(most) as usize) };
            all.iter_mut().for_each(|object| *object = slot.object(*object));
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) -> CK_RV {
    const FUNCTION: usize = number("C_GetSessionInfo");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let Some(call) = list.C_GetSessionInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the caller's argument.
        let code = unsafe { call(session, info) };
        if code == CKR_OK && !info.is_null() {
            // SAFETY: not null, and the module has just written it.
            let info = unsafe { &mut *info };
            info.slotID = slot.id;
            info.state = match info.state {
                CKS_RO_USER_FUNCTIONS if slot.must_log_in() => CKS_RO_PUBLIC_SESSION,
                CKS_RW_USER_FUNCTIONS if slot.must_log_in() => CKS_RW_PUBLIC_SESSION,
                state => state,
            };
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
    const FUNCTION: usize = number("C_CloseSession");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let Some(call) = list.C_CloseSession else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the module's handle.
        let code = unsafe { call(session) };
        if code == CKR_OK {
            slot.closed();
        }
        code
    })
}

/// On a face the module's sessions stay open, for they may be the other face's; they are stale for the caller.
pub(super) unsafe extern "C" fn C_CloseAllSessions(id: CK_SLOT_ID) -> CK_RV {
    const FUNCTION: usize = number("C_CloseAllSessions");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| {
        let code = match shim.list.C_CloseAllSessions {
            _ if slot.face.is_some() => CKR_OK,
            // SAFETY: the module's own function with the module's slot.
            Some(call) => unsafe { call(slot.backend()) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        };
        if code == CKR_OK {
            slot.lose();
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_OpenSession(
    id: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    const FUNCTION: usize = number("C_OpenSession");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| {
        let Some(call) = shim.list.C_OpenSession else { return CKR_FUNCTION_NOT_SUPPORTED };
        let open = slot.sessions.fetch_add(1, SeqCst) + 1;
        if shim.faults.session_limit(slot.row()).is_some_and(|most| open > most) {
            slot.sessions.fetch_sub(1, SeqCst);
            shim.counts.row(slot.row()).injected[FUNCTION].fetch_add(1, SeqCst);
            return CKR_SESSION_COUNT;
        }
        // SAFETY: the module's own function with the module's slot and the caller's arguments.
        let code = unsafe { call(slot.backend(), flags, application, notify, session) };
        if code != CKR_OK || session.is_null() {
            slot.sessions.fetch_sub(1, SeqCst);
            return code;
        }
        // SAFETY: not null, and the module has just written a handle there.
        let session = unsafe { &mut *session };
        match slot.session(*session) {
            Some(handle) => *session = handle,
            None => {
                eprintln!("pkcs11_shim: a session handle of the module is wider than 48 bits: {:#x}", *session);
                return CKR_GENERAL_ERROR;
            }
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    const FUNCTION: usize = number("C_Login");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let Some(call) = list.C_Login else { return CKR_FUNCTION_NOT_SUPPORTED };
        let lock = shim.faults.pin_lock(slot.row());
        if user == CKU_USER && lock.is_some_and(|(after, already)| shim.wrong_pins(slot, already) >= after) {
            shim.counts.row(slot.row()).injected[FUNCTION].fetch_add(1, SeqCst);
            return CKR_PIN_LOCKED;
        }
        // SAFETY: a null PIN means the token's own pad; else the caller says how long it is.
        let given = if pin.is_null() { &[][..] } else { unsafe { slice::from_raw_parts(pin, length as usize) } };
        // SAFETY: the module's own function with the module's session and the caller's arguments.
        let mut code = unsafe { call(session, user, pin, length) };
        if code == CKR_USER_ALREADY_LOGGED_IN && slot.must_log_in() && user == CKU_USER {
            // The module means another face, or the time before the token was away: this slot is not logged in.
            code = match shim.slots.is_pin(slot, given) {
                Some(true) => CKR_OK,
                Some(false) => CKR_PIN_INCORRECT,
                None => code,
            };
        }
        if user == CKU_USER {
            let wrong_pins = &shim.counts.row(slot.row()).wrong_pins;
            match code {
                CKR_OK => {
                    shim.slots.keep_pin(slot, given);
                    wrong_pins.store(0, SeqCst);
                }
                CKR_PIN_INCORRECT => drop(wrong_pins.fetch_add(1, SeqCst)),
                _ => {}
            }
        }
        if code == CKR_OK {
            slot.log(true);
        }
        code
    })
}

/// The module's login stays while another face needs it.
pub(super) unsafe extern "C" fn C_Logout(session: CK_SESSION_HANDLE) -> CK_RV {
    const FUNCTION: usize = number("C_Logout");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let code = match list.C_Logout {
            _ if slot.must_log_in() => CKR_USER_NOT_LOGGED_IN,
            _ if shim.slots.twin_logged_in(slot) => CKR_OK,
            // SAFETY: the module's own function with the module's session.
            Some(call) => unsafe { call(session) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        };
        if code == CKR_OK {
            slot.log(false);
        }
        code
    })
}

/// The security officer's new PIN unlocks.
pub(super) unsafe extern "C" fn C_InitPIN(
    session: CK_SESSION_HANDLE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    const FUNCTION: usize = number("C_InitPIN");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_session(FUNCTION, session, |list, slot, session| {
        let Some(call) = list.C_InitPIN else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the module's session and the caller's arguments.
        let code = unsafe { call(session, pin, length) };
        if code == CKR_OK {
            shim.counts.row(slot.row()).wrong_pins.store(0, SeqCst);
        }
        code
    })
}

/// Not on a face: it would wipe the token of its twin.
pub(super) unsafe extern "C" fn C_InitToken(
    id: CK_SLOT_ID,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
    name: *mut CK_UTF8CHAR,
) -> CK_RV {
    const FUNCTION: usize = number("C_InitToken");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| {
        let call = match shim.list.C_InitToken {
            Some(call) if slot.face.is_none() => call,
            _ => return CKR_FUNCTION_NOT_SUPPORTED,
        };
        // SAFETY: the module's own function with the module's slot and the caller's arguments.
        let code = unsafe { call(slot.backend(), pin, length, name) };
        if code == CKR_OK {
            slot.relabel(shim.counts.claim(&label(shim.list, slot.backend()).unwrap_or_default()));
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_GetTokenInfo(id: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    const FUNCTION: usize = number("C_GetTokenInfo");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| {
        let Some(call) = shim.list.C_GetTokenInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the module's slot and the caller's argument.
        let code = unsafe { call(slot.backend(), info) };
        if code != CKR_OK || info.is_null() {
            return code;
        }
        // SAFETY: not null, and the module has just written it.
        let info = unsafe { &mut *info };
        match &slot.face {
            Some(face) => {
                padded(&mut info.label, &face.label);
                padded(&mut info.serialNumber, &face.serial);
            }
            None => slot.relabel(shim.counts.claim(String::from_utf8_lossy(&info.label).trim_end_matches([' ', '\0']))),
        }
        if let Some((after, already)) = shim.faults.pin_lock(slot.row()) {
            let wrong = shim.wrong_pins(slot, already);
            let all = [
                (CKF_USER_PIN_COUNT_LOW, wrong > 0),
                (CKF_USER_PIN_FINAL_TRY, wrong + 1 == after),
                (CKF_USER_PIN_LOCKED, wrong >= after),
            ];
            for (flag, set) in all {
                info.flags = if set { info.flags | flag } else { info.flags & !flag };
            }
        }
        if let Some(most) = shim.faults.session_limit(slot.row()) {
            info.ulMaxSessionCount = most;
            info.ulMaxRwSessionCount = most;
            info.ulSessionCount = slot.sessions.load(SeqCst);
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    const FUNCTION: usize = number("C_GetSlotList");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_module(FUNCTION, || {
        let Some(call) = shim.list.C_GetSlotList else { return CKR_FUNCTION_NOT_SUPPORTED };
        if count.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        // First without a list: that is when modules look for new slots.
        let (mut own, mut length) = (vec![0; MOST_BACKEND_SLOTS], 0);
        // SAFETY: a null list asks for the number alone.
        let code = unsafe { call(present, std::ptr::null_mut(), &mut length) };
        if code != CKR_OK {
            return code;
        }
        length = own.len() as CK_ULONG;
        // SAFETY: room for `length` ids, as said.
        let code = unsafe { call(present, own.as_mut_ptr(), &mut length) };
        if code != CKR_OK {
            return code;
        }
        own.truncate(length as usize);
        let mut ids: Vec<_> = shim.slots.shown(&own, shim.list, &shim.counts).into_iter().collect();
        ids.retain(|slot| shim.absent(slot).is_none() || shim.faults.is_listed(slot.row()));
        // SAFETY: not null, as was looked at above.
        let room = unsafe { std::mem::replace(&mut *count, ids.len() as CK_ULONG) };
        if list.is_null() {
            return CKR_OK;
        }
        if room < ids.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller has room for `room` ids, and there are no more than that.
        let out = unsafe { slice::from_raw_parts_mut(list, ids.len()) };
        out.iter_mut().zip(ids).for_each(|(out, slot)| *out = slot.id);
        CKR_OK
    })
}

pub(super) unsafe extern "C" fn C_GetMechanismList(
    id: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    const FUNCTION: usize = number("C_GetMechanismList");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| {
        let Some(call) = shim.list.C_GetMechanismList else { return CKR_FUNCTION_NOT_SUPPORTED };
        if count.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        let mut length = 0;
        // SAFETY: a null list asks for the number alone.
        let code = unsafe { call(slot.backend(), std::ptr::null_mut(), &mut length) };
        if code != CKR_OK {
            return code;
        }
        let mut all = vec![0; length as usize];
        // SAFETY: room for `length` numbers, as said.
        let code = unsafe { call(slot.backend(), all.as_mut_ptr(), &mut length) };
        if code != CKR_OK {
            return code;
        }
        all.truncate(length as usize);
        let hidden = shim.faults.hidden_mechanisms(slot.row());
        all.retain(|mechanism| !hidden.contains(mechanism));
        // SAFETY: not null, as was looked at above.
        let room = unsafe { std::mem::replace(&mut *count, all.len() as CK_ULONG) };
        if list.is_null() {
            return CKR_OK;
        }
        if room < all.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller has room for `room` numbers, and there are no more than that.
        unsafe { slice::from_raw_parts_mut(list, all.len()) }.copy_from_slice(&all);
        CKR_OK
    })
}

pub(super) unsafe extern "C" fn C_GetMechanismInfo(
    id: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    const FUNCTION: usize = number("C_GetMechanismInfo");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_id(FUNCTION, id, |slot| match shim.list.C_GetMechanismInfo {
        _ if shim.faults.hidden_mechanisms(slot.row()).contains(&mechanism) => CKR_MECHANISM_INVALID,
        // SAFETY: the module's own function with the module's slot and the caller's arguments.
        Some(call) => unsafe { call(slot.backend(), mechanism, info) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    })
}

pub(super) unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    const FUNCTION: usize = number("C_Initialize");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.look(true);
    let _flight = shim.begin(FUNCTION, None);
    let faces = match shim.faults.faces() {
        Ok(faces) => faces,
        Err(why) => {
            eprintln!("pkcs11_shim: control file: {why}");
            return CKR_GENERAL_ERROR;
        }
    };
    shim.judged(FUNCTION, || {
        let Some(call) = shim.list.C_Initialize else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the caller's argument.
        let code = unsafe { call(arguments) };
        if code == CKR_OK {
            shim.slots.begin(faces, |row| matches!(shim.faults.vanished(row), Some((_, true))));
            shim.initialised.store(true, SeqCst);
        }
        code
    })
}

pub(super) unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    const FUNCTION: usize = number("C_Finalize");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.look(false);
    shim.counts.row(0).calls[FUNCTION].fetch_add(1, SeqCst);
    shim.finalizing.store(true, SeqCst);
    let flying = shim.flying();
    if !flying.is_empty() {
        shim.overlap(flying.trim_end());
    }
    let code = shim.judged(FUNCTION, || {
        let Some(call) = shim.list.C_Finalize else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the module's own function with the caller's argument.
        let code = unsafe { call(reserved) };
        if code == CKR_OK {
            shim.initialised.store(false, SeqCst);
        }
        code
    });
    shim.finalizing.store(false, SeqCst);
    code
}

pub(super) unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    const FUNCTION: usize = number("C_GetInfo");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_module(FUNCTION, || match shim.list.C_GetInfo {
        // SAFETY: the module's own function with the caller's argument.
        Some(call) => unsafe { call(info) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    })
}

/// Its slot ids would be the module's; nobody needs it.
pub(super) unsafe extern "C" fn C_WaitForSlotEvent(_: CK_FLAGS, _: *mut CK_SLOT_ID, _: *mut c_void) -> CK_RV {
    const FUNCTION: usize = number("C_WaitForSlotEvent");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_module(FUNCTION, || CKR_FUNCTION_NOT_SUPPORTED)
}

fn padded(field: &mut [u8], text: &str) {
    field.fill(b' ');
    field.iter_mut().zip(text.bytes()).for_each(|(octet, byte)| *octet = byte);
}
