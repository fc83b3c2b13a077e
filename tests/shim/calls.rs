//! The functions themselves. Every call goes the same way ([`Shim::on`]): count it, ask the rules, forward it with the module's own
//! handles, let simulated time pass. What the shim knows better than the module (slots, logins, limits) is in `by_hand`.
#![allow(non_snake_case)] // the standard's names

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use cryptoki_sys::*;

use super::by_hand::*;
use super::functions::number;
use super::slots::Slot;
use super::{Shim, shim};

impl Shim {
    /// One call on a slot: `forward` asks the module.
    pub(super) fn on(&'static self, function: usize, slot: &'static Slot, forward: impl FnOnce() -> CK_RV) -> CK_RV {
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
    pub(super) fn on_session(
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
        let reached = Cell::new(false);
        let code = self.on(function, slot, || {
            reached.set(true);
            if today { forward(self.list, slot, own) } else { CKR_SESSION_HANDLE_INVALID }
        });
        if !reached.get() {
            let row = slot.row();
            let is_new = self.struck.lock().unwrap_or_else(PoisonError::into_inner).insert((row, session));
            self.counts.row(row).struck_sessions.fetch_add(is_new.into(), SeqCst);
        }
        code
    }

    /// One call on a slot by its id.
    pub(super) fn on_id(
        &'static self,
        function: usize,
        id: CK_SLOT_ID,
        forward: impl FnOnce(&'static Slot) -> CK_RV,
    ) -> CK_RV {
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
    pub(super) fn on_module(&'static self, function: usize, forward: impl FnOnce() -> CK_RV) -> CK_RV {
        self.look(false);
        let _flight = self.begin(function, None);
        self.judged(function, forward)
    }

    pub(super) fn judged(&'static self, function: usize, forward: impl FnOnce() -> CK_RV) -> CK_RV {
        let verdict = self.faults.judge(None, function, || self.look(false));
        let code = verdict.instead.unwrap_or_else(forward);
        if verdict.instead.or(verdict.after).is_some() {
            self.counts.row(0).injected[function].fetch_add(1, SeqCst);
        }
        verdict.wait();
        verdict.after.unwrap_or(code)
    }

    /// The code of a token that is away.
    pub(super) fn absent(&self, slot: &Slot) -> Option<CK_RV> {
        let vanished = self.faults.vanished(slot.row()).map(|(code, _)| code);
        vanished.or_else(|| slot.dead().then_some(CKR_DEVICE_ERROR))
    }

    pub(super) fn wrong_pins(&self, slot: &Slot, already: u64) -> u64 {
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
