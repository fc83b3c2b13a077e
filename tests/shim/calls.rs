//! The functions themselves. Every call goes the same way ([`Shim::on`]): count it, ask the rules, forward it with the module's own
//! handles, let simulated time pass. What the shim knows better than the module (slots, logins, limits) is done by hand below.
#![allow(non_snake_case)] // the standard's names

use std::ffi::c_void;
use std::marker::PhantomData;
use std::slice;
use std::sync::atomic::Ordering::SeqCst;

use cryptoki_sys::*;

use super::functions::number;
use super::slots::{Slot, label};
use super::{Shim, shim};

/// Slots one module can show.
const MOST_BACKEND_SLOTS: usize = 256;

impl Shim {
    /// One call on a slot: `forward` asks the module.
    fn on(&'static self, function: usize, slot: &'static Slot, forward: impl FnOnce() -> CK_RV) -> CK_RV {
        self.look(false);
        let _flight = self.begin(function, Some(slot));
        let row = slot.row();
        let injected = |code| {
            self.counts.row(row).injected[function].fetch_add(1, SeqCst);
            code
        };
        if !self.initialised.load(SeqCst) {
            return CKR_CRYPTOKI_NOT_INITIALIZED;
        }
        if let Some(code) = self.absent(slot) {
            return injected(code);
        }
        let verdict = self.faults.judge(Some(row), function, || self.look(false));
        let mut code = match verdict.instead {
            Some(code) => injected(code),
            None => forward(),
        };
        if let Some(after) = verdict.after {
            code = injected(after);
        }
        verdict.wait();
        code
    }

    /// One call on a session: `forward` gets the module's list and the module's session.
    fn on_session(
        &'static self,
        function: usize,
        session: CK_SESSION_HANDLE,
        forward: impl FnOnce(&CK_FUNCTION_LIST, &'static Slot, CK_SESSION_HANDLE) -> CK_RV,
    ) -> CK_RV {
        let Some((slot, today, own)) = self.slots.of_session(session) else {
            let _flight = self.begin(function, None);
            return if self.initialised.load(SeqCst) {
                CKR_SESSION_HANDLE_INVALID
            } else {
                CKR_CRYPTOKI_NOT_INITIALIZED
            };
        };
        self.on(function, slot, || if today { forward(self.list, slot, own) } else { CKR_SESSION_HANDLE_INVALID })
    }

    /// One call on a slot by its id.
    fn on_id(&'static self, function: usize, id: CK_SLOT_ID, forward: impl FnOnce(&'static Slot) -> CK_RV) -> CK_RV {
        if !self.initialised.load(SeqCst) {
            let _flight = self.begin(function, None);
            return CKR_CRYPTOKI_NOT_INITIALIZED;
        }
        match self.slots.by_id(id, self.list, &self.counts) {
            Some(slot) => self.on(function, slot, || forward(slot)),
            None => {
                let _flight = self.begin(function, None);
                CKR_SLOT_ID_INVALID
            }
        }
    }

    /// A call without slot; only rules that name the function strike it.
    fn on_module(&'static self, function: usize, forward: impl FnOnce() -> CK_RV) -> CK_RV {
        self.look(false);
        let _flight = self.begin(function, None);
        self.judged(function, forward)
    }

    fn judged(&'static self, function: usize, forward: impl FnOnce() -> CK_RV) -> CK_RV {
        let verdict = self.faults.judge(None, function, || self.look(false));
        let code = verdict.instead.unwrap_or_else(forward);
        if verdict.instead.or(verdict.after).is_some() {
            self.counts.row(0).injected[function].fetch_add(1, SeqCst);
        }
        verdict.wait();
        verdict.after.unwrap_or(code)
    }

    /// The code of a token that is away.
    fn absent(&self, slot: &Slot) -> Option<CK_RV> {
        let vanished = self.faults.vanished(slot.row()).map(|(code, _)| code);
        vanished.or_else(|| slot.dead().then_some(CKR_DEVICE_ERROR))
    }

    fn wrong_pins(&self, slot: &Slot, already: u64) -> u64 {
        self.counts.row(slot.row()).wrong_pins.load(SeqCst) + already
    }
}

/// How an argument is handed on: handles are exchanged, all else passes.
trait Passed {
    type Raw: Copy;
    fn inward(raw: Self::Raw, _: &Slot) -> Result<Self::Raw, CK_RV> {
        Ok(raw)
    }
    /// # Safety
    /// The call that got `raw` succeeded.
    unsafe fn outward(_: Self::Raw, _: &Slot) {}
}

/// An argument that is nothing but itself.
struct Plain<T>(PhantomData<T>);
impl<T: Copy> Passed for Plain<T> {
    type Raw = T;
}

/// A key that works.
struct Key;
impl Passed for Key {
    type Raw = CK_OBJECT_HANDLE;
    fn inward(raw: Self::Raw, slot: &Slot) -> Result<Self::Raw, CK_RV> {
        if slot.must_log_in() {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        slot.own_object(raw).ok_or(CKR_KEY_HANDLE_INVALID)
    }
}

/// An object that is looked at.
struct Object;
impl Passed for Object {
    type Raw = CK_OBJECT_HANDLE;
    fn inward(raw: Self::Raw, slot: &Slot) -> Result<Self::Raw, CK_RV> {
        slot.own_object(raw).ok_or(CKR_OBJECT_HANDLE_INVALID)
    }
}

/// Where the handle of a new object is written.
struct NewObject;
impl Passed for NewObject {
    type Raw = *mut CK_OBJECT_HANDLE;
    unsafe fn outward(raw: Self::Raw, slot: &Slot) {
        if !raw.is_null() {
            // SAFETY: not null, and the module has just written a handle there.
            unsafe { *raw = slot.object(*raw) };
        }
    }
}

type Octets = Plain<*mut CK_BYTE>;
type Length = Plain<CK_ULONG>;
type LengthOut = Plain<*mut CK_ULONG>;
type Mechanism = Plain<*mut CK_MECHANISM>;
type Attributes = Plain<*mut CK_ATTRIBUTE>;

macro_rules! session_calls {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name(session: CK_SESSION_HANDLE, $($argument: <$kind as Passed>::Raw),*) -> CK_RV {
            const FUNCTION: usize = number(stringify!($name));
            let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
            shim.on_session(FUNCTION, session, |list, _slot, session| {
                $(let $argument = match <$kind as Passed>::inward($argument, _slot) {
                    Ok(argument) => argument,
                    Err(code) => return code,
                };)*
                let Some(call) = list.$name else { return CKR_FUNCTION_NOT_SUPPORTED };
                // SAFETY: the module's own function with the caller's arguments, for which the caller answers.
                let code = unsafe { call(session, $($argument),*) };
                if code == CKR_OK {
                    // SAFETY: the call succeeded.
                    $(unsafe { <$kind as Passed>::outward($argument, _slot) };)*
                }
                code
            })
        }
    )*};
}

session_calls! {
    C_SetPIN(old: Octets, old_length: Length, new: Octets, new_length: Length);
    C_GetOperationState(state: Octets, length: LengthOut);
    C_SetOperationState(state: Octets, length: Length, encrypts: Key, authenticates: Key);
    C_CreateObject(template: Attributes, count: Length, object: NewObject);
    C_CopyObject(object: Object, template: Attributes, count: Length, copy: NewObject);
    C_DestroyObject(object: Object);
    C_GetObjectSize(object: Object, size: LengthOut);
    C_GetAttributeValue(object: Object, template: Attributes, count: Length);
    C_SetAttributeValue(object: Object, template: Attributes, count: Length);
    C_FindObjectsInit(template: Attributes, count: Length);
    C_FindObjectsFinal();
    C_EncryptInit(mechanism: Mechanism, key: Key);
    C_Encrypt(data: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_EncryptUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_EncryptFinal(out: Octets, out_length: LengthOut);
    C_DecryptInit(mechanism: Mechanism, key: Key);
    C_Decrypt(data: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DecryptUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DecryptFinal(out: Octets, out_length: LengthOut);
    C_DigestInit(mechanism: Mechanism);
    C_Digest(data: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DigestUpdate(part: Octets, length: Length);
    C_DigestKey(key: Key);
    C_DigestFinal(out: Octets, out_length: LengthOut);
    C_SignInit(mechanism: Mechanism, key: Key);
    C_Sign(data: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_SignUpdate(part: Octets, length: Length);
    C_SignFinal(out: Octets, out_length: LengthOut);
    C_SignRecoverInit(mechanism: Mechanism, key: Key);
    C_SignRecover(data: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_VerifyInit(mechanism: Mechanism, key: Key);
    C_Verify(data: Octets, length: Length, signature: Octets, signature_length: Length);
    C_VerifyUpdate(part: Octets, length: Length);
    C_VerifyFinal(signature: Octets, length: Length);
    C_VerifyRecoverInit(mechanism: Mechanism, key: Key);
    C_VerifyRecover(signature: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DigestEncryptUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DecryptDigestUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_SignEncryptUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_DecryptVerifyUpdate(part: Octets, length: Length, out: Octets, out_length: LengthOut);
    C_GenerateKey(mechanism: Mechanism, template: Attributes, count: Length, key: NewObject);
    C_GenerateKeyPair(
        mechanism: Mechanism, public_template: Attributes, public_count: Length, private_template: Attributes,
        private_count: Length, public: NewObject, private: NewObject
    );
    C_WrapKey(mechanism: Mechanism, wrapping: Key, key: Key, out: Octets, out_length: LengthOut);
    C_UnwrapKey(
        mechanism: Mechanism, unwrapping: Key, wrapped: Octets, length: Length, template: Attributes, count: Length,
        key: NewObject
    );
    C_DeriveKey(mechanism: Mechanism, base: Key, template: Attributes, count: Length, key: NewObject);
    C_SeedRandom(seed: Octets, length: Length);
    C_GenerateRandom(out: Octets, length: Length);
    C_GetFunctionStatus();
    C_CancelFunction();
}

unsafe extern "C" fn C_FindObjects(
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

unsafe extern "C" fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) -> CK_RV {
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

unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
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
unsafe extern "C" fn C_CloseAllSessions(id: CK_SLOT_ID) -> CK_RV {
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

unsafe extern "C" fn C_OpenSession(
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

unsafe extern "C" fn C_Login(
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
unsafe extern "C" fn C_Logout(session: CK_SESSION_HANDLE) -> CK_RV {
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
unsafe extern "C" fn C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG) -> CK_RV {
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
unsafe extern "C" fn C_InitToken(
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

unsafe extern "C" fn C_GetTokenInfo(id: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
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

macro_rules! slot_calls {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name(id: CK_SLOT_ID, $($argument: $kind),*) -> CK_RV {
            const FUNCTION: usize = number(stringify!($name));
            let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
            shim.on_id(FUNCTION, id, |slot| match shim.list.$name {
                // SAFETY: the module's own function with the module's slot and the caller's arguments.
                Some(call) => unsafe { call(slot.backend(), $($argument),*) },
                None => CKR_FUNCTION_NOT_SUPPORTED,
            })
        }
    )*};
}

slot_calls! {
    C_GetSlotInfo(info: *mut CK_SLOT_INFO);
    C_GetMechanismList(list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG);
    C_GetMechanismInfo(mechanism: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO);
}

unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
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
        ids.retain(|slot| shim.absent(slot).is_none());
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

unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
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

unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
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

unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    const FUNCTION: usize = number("C_GetInfo");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_module(FUNCTION, || match shim.list.C_GetInfo {
        // SAFETY: the module's own function with the caller's argument.
        Some(call) => unsafe { call(info) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    })
}

/// Its slot ids would be the module's; nobody needs it.
unsafe extern "C" fn C_WaitForSlotEvent(_: CK_FLAGS, _: *mut CK_SLOT_ID, _: *mut c_void) -> CK_RV {
    const FUNCTION: usize = number("C_WaitForSlotEvent");
    let Some(shim) = shim() else { return CKR_GENERAL_ERROR };
    shim.on_module(FUNCTION, || CKR_FUNCTION_NOT_SUPPORTED)
}

fn padded(field: &mut [u8], text: &str) {
    field.fill(b' ');
    field.iter_mut().zip(text.bytes()).for_each(|(octet, byte)| *octet = byte);
}

macro_rules! list_of {
    ($($name:ident),* $(,)?) => {
        /// What C_GetFunctionList gives out.
        pub(crate) static LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            C_GetFunctionList: Some(super::C_GetFunctionList),
            $($name: Some($name),)*
        };
    };
}

#[rustfmt::skip]
list_of! {
    C_Initialize, C_Finalize, C_GetInfo, C_GetSlotList, C_GetSlotInfo, C_GetTokenInfo, C_GetMechanismList, C_GetMechanismInfo,
    C_InitToken, C_InitPIN, C_SetPIN, C_OpenSession, C_CloseSession, C_CloseAllSessions, C_GetSessionInfo, C_GetOperationState,
    C_SetOperationState, C_Login, C_Logout, C_CreateObject, C_CopyObject, C_DestroyObject, C_GetObjectSize,
    C_GetAttributeValue, C_SetAttributeValue, C_FindObjectsInit, C_FindObjects, C_FindObjectsFinal, C_EncryptInit, C_Encrypt,
    C_EncryptUpdate, C_EncryptFinal, C_DecryptInit, C_Decrypt, C_DecryptUpdate, C_DecryptFinal, C_DigestInit, C_Digest,
    C_DigestUpdate, C_DigestKey, C_DigestFinal, C_SignInit, C_Sign, C_SignUpdate, C_SignFinal, C_SignRecoverInit,
    C_SignRecover, C_VerifyInit, C_Verify, C_VerifyUpdate, C_VerifyFinal, C_VerifyRecoverInit, C_VerifyRecover,
    C_DigestEncryptUpdate, C_DecryptDigestUpdate, C_SignEncryptUpdate, C_DecryptVerifyUpdate, C_GenerateKey,
    C_GenerateKeyPair, C_WrapKey, C_UnwrapKey, C_DeriveKey, C_SeedRandom, C_GenerateRandom, C_GetFunctionStatus,
    C_CancelFunction, C_WaitForSlotEvent,
}
