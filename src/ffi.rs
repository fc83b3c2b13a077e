//! The only unsafe code of the project (`tests/layering.rs` holds that), four small things the safe crates lack:
//!
//! * AES-CMAC with a kept context: 0.9 us a 1 KB segment against 6.6 us through `PKey::cmac` + `Signer` (OpenSSL 3.0);
//! * ECDH without the second validation of an already validated point: 32 us against 81 us through `Deriver`;
//! * an environment variable set before any thread runs, because SoftHSM learns its token directory in no other way;
//! * an exit without exit handlers, because those of an HSM's client crash under a call that hangs.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use openssl::ec::{EcKeyRef, EcPointRef};
use openssl::error::ErrorStack;
use openssl::pkey::Private;
use openssl_sys as sys;
use zeroize::Zeroizing;

/// AES-128-CMAC (RFC 4493, NIST SP 800-38B) over OpenSSL's `EVP_MAC`, context kept between messages and keys.
pub struct CmacContext(NonNull<sys::EVP_MAC_CTX>);

// SAFETY: an EVP_MAC_CTX has no thread affinity; `&mut self` on every call keeps it to one thread at a time.
unsafe impl Send for CmacContext {}

impl CmacContext {
    /// A context without key; [`Self::rekey`] comes first.
    pub fn new() -> Result<Self, ErrorStack> {
        openssl::init();
        // SAFETY: both names are NUL-terminated and live for the call; every returned pointer is checked. The context holds
        // its own reference to the algorithm, so ours is given back at once.
        unsafe {
            let mac = sys::EVP_MAC_fetch(ptr::null_mut(), c"CMAC".as_ptr(), ptr::null());
            if mac.is_null() {
                return Err(ErrorStack::get());
            }
            let ctx = sys::EVP_MAC_CTX_new(mac);
            sys::EVP_MAC_free(mac);
            let ctx = Self(NonNull::new(ctx).ok_or_else(ErrorStack::get)?);
            let params = [
                OSSL_PARAM_construct_utf8_string(c"cipher".as_ptr(), c"AES-128-CBC".as_ptr().cast_mut(), 0),
                sys::OSSL_PARAM_construct_end(),
            ];
            checked(sys::EVP_MAC_CTX_set_params(ctx.0.as_ptr(), params.as_ptr()))?;
            Ok(ctx)
        }
    }

    /// Starts a message under another key.
    pub fn rekey(&mut self, key: &[u8; 16]) -> Result<(), ErrorStack> {
        // SAFETY: the context is live; the key pointer is valid for 16 octets during the call, OpenSSL copies it.
        unsafe { checked(sys::EVP_MAC_init(self.0.as_ptr(), key.as_ptr(), key.len(), ptr::null())) }
    }

    /// Starts another message under the key of the last [`Self::rekey`].
    pub fn restart(&mut self) -> Result<(), ErrorStack> {
        // SAFETY: a null key means "the one you have" (EVP_MAC_init(3)).
        unsafe { checked(sys::EVP_MAC_init(self.0.as_ptr(), ptr::null(), 0, ptr::null())) }
    }

    /// Continues the message.
    pub fn update(&mut self, data: &[u8]) -> Result<(), ErrorStack> {
        // SAFETY: pointer and length describe one live slice.
        unsafe { checked(sys::EVP_MAC_update(self.0.as_ptr(), data.as_ptr(), data.len())) }
    }

    /// Ends the message; all 16 octets of the tag.
    pub fn finish(&mut self) -> Result<[u8; 16], ErrorStack> {
        let mut tag = [0; 16];
        let mut written = 0;
        // SAFETY: `tag` has the 16 octets that are announced; `written` is a live usize.
        unsafe { checked(sys::EVP_MAC_final(self.0.as_ptr(), tag.as_mut_ptr(), &raw mut written, tag.len()))? };
        debug_assert_eq!(written, tag.len());
        Ok(tag)
    }
}

impl Drop for CmacContext {
    fn drop(&mut self) {
        // SAFETY: the pointer came from EVP_MAC_CTX_new and is freed once; OpenSSL wipes the key schedule.
        unsafe { sys::EVP_MAC_CTX_free(self.0.as_ptr()) }
    }
}

unsafe extern "C" {
    fn OSSL_PARAM_construct_utf8_string(key: *const c_char, buf: *mut c_char, bsize: usize) -> sys::OSSL_PARAM;
    fn ECDH_compute_key(
        out: *mut c_void,
        outlen: usize,
        pub_key: *const sys::EC_POINT,
        ecdh: *const sys::EC_KEY,
        kdf: Option<unsafe extern "C" fn(*const c_void, usize, *mut c_void, *mut usize) -> *mut c_void>,
    ) -> c_int;
}

/// The x coordinate of `own * peer`, 32 octets, leading zeros kept.
///
/// `peer` must come from `EcPoint::from_bytes`, which checks that it is on the curve; for a curve of cofactor 1 (P-256,
/// brainpoolP256r1) nothing more needs checking (SEC 1 §3.2.2.1).
pub fn ecdh_x(own: &EcKeyRef<Private>, peer: &EcPointRef) -> Result<Zeroizing<[u8; 32]>, ErrorStack> {
    let mut x = Zeroizing::new([0_u8; 32]);
    // SAFETY: both pointers are live OpenSSL objects; `x` has the 32 octets announced; no KDF is passed.
    let written = unsafe { ECDH_compute_key(x.as_mut_ptr().cast(), x.len(), peer.as_ptr(), own.as_ptr(), None) };
    if written == 32 { Ok(x) } else { Err(ErrorStack::get()) }
}

/// Sets an environment variable of this process.
///
/// # Safety of the process
/// Call it from `main` (or a test's one-time set-up) before another thread runs: `setenv` races with every `getenv`.
pub fn set_environment(name: &str, value: &std::ffi::OsStr) {
    // SAFETY: the caller keeps to the rule above; SoftHSM reads the variable in C_Initialize, on this thread.
    unsafe { std::env::set_var(name, value) }
}

/// Ends the process as it is: no exit handlers, no destructors. What is to be kept was made durable before.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: `_exit` is always safe to call; it does not return.
    unsafe { nix::libc::_exit(code.into()) }
}

fn checked(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::bn::BigNumContext;
    use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
    use openssl::nid::Nid;

    #[test]
    fn a_kept_context_gives_the_same_tag_each_time() {
        let mut cmac = CmacContext::new().unwrap();
        // RFC 4493 §4, example 2.
        let key = *b"\x2b\x7e\x15\x16\x28\xae\xd2\xa6\xab\xf7\x15\x88\x09\xcf\x4f\x3c";
        let message = *b"\x6b\xc1\xbe\xe2\x2e\x40\x9f\x96\xe9\x3d\x7e\x11\x73\x93\x17\x2a";
        let tag = *b"\x07\x0a\x16\xb4\x6b\x4d\x41\x44\xf7\x9b\xdd\x9d\xd0\x4a\x28\x7c";
        cmac.rekey(&key).unwrap();
        for _ in 0..2 {
            cmac.update(&message[..5]).unwrap();
            cmac.update(&message[5..]).unwrap();
            assert_eq!(cmac.finish().unwrap(), tag);
            cmac.restart().unwrap();
        }
        cmac.rekey(&[0; 16]).unwrap();
        cmac.update(&message).unwrap();
        assert_ne!(cmac.finish().unwrap(), tag);
    }

    #[test]
    fn both_sides_of_a_key_agreement_meet() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let [a, b] = [0; 2].map(|_| EcKey::generate(&group).unwrap());
        assert_eq!(ecdh_x(&a, b.public_key()).unwrap()[..], ecdh_x(&b, a.public_key()).unwrap()[..]);
        let mut ctx = BigNumContext::new().unwrap();
        let mut off_curve = a.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut ctx).unwrap();
        off_curve[40] ^= 1;
        assert!(EcPoint::from_bytes(&group, &off_curve, &mut ctx).is_err());
    }
}
