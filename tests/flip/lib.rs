//! A library for LD_PRELOAD that makes one block cipher call of a process wrong, as a processor with a bad bit does: what the
//! program then checks of its own results has to notice. Built as an example by `cargo test` (`libcipher_flip.so`); no part of
//! what is installed.
//!
//! In: BINDERY_FLIP_AT (which of the single blocks in ECB mode, counted from 1; nothing: none), BINDERY_FLIP_COUNT (a file that grows
//! by an octet for each of them). Seen are calls of EVP_CipherUpdate, which is the program's own way to OpenSSL; tokens in software
//! call EVP_EncryptUpdate, or bring their own. Only AES-128 counts: OpenSSL's random generator, one a thread, is made of AES-256 and
//! comes this way too, and which of the threads draw first is chance.
#![allow(unsafe_code)] // a C interface is nothing else

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// EVP_CIPH_ECB_MODE of openssl/evp.h.
const ECB: c_int = 1;
/// Octets of an AES-128 key.
const KEY: c_int = 16;
const BLOCK: c_int = 16;

type Update = unsafe extern "C" fn(*mut c_void, *mut c_uchar, *mut c_int, *const c_uchar, c_int) -> c_int;
type CipherOf = unsafe extern "C" fn(*const c_void) -> *const c_void;
type NumberOf = unsafe extern "C" fn(*const c_void) -> c_int;

/// OpenSSL's own functions, behind this library.
struct Behind {
    update: Update,
    cipher_of: CipherOf,
    mode_of: NumberOf,
    key_len_of: NumberOf,
    at: Option<u64>,
    count: Option<File>,
}

static SEEN: AtomicU64 = AtomicU64::new(0);

fn behind() -> &'static Behind {
    static BEHIND: OnceLock<Behind> = OnceLock::new();
    BEHIND.get_or_init(|| {
        let at = std::env::var("BINDERY_FLIP_AT").ok().and_then(|text| text.parse().ok());
        let count = std::env::var_os("BINDERY_FLIP_COUNT");
        let count = count.and_then(|path| File::options().create(true).append(true).open(path).ok());
        // SAFETY: the names are OpenSSL's, and the types are theirs in openssl/evp.h; `next` ends the process where one is missing.
        unsafe {
            Behind {
                update: std::mem::transmute::<*mut c_void, Update>(next(c"EVP_CipherUpdate")),
                cipher_of: std::mem::transmute::<*mut c_void, CipherOf>(next(c"EVP_CIPHER_CTX_get0_cipher")),
                mode_of: std::mem::transmute::<*mut c_void, NumberOf>(next(c"EVP_CIPHER_get_mode")),
                key_len_of: std::mem::transmute::<*mut c_void, NumberOf>(next(c"EVP_CIPHER_get_key_length")),
                at,
                count,
            }
        }
    })
}

fn next(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends with a zero octet; the answer is only looked at.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        eprintln!("cipher_flip: OpenSSL has no {name:?}");
        std::process::abort();
    }
    found
}

/// OpenSSL's function of this name, wrong once.
///
/// # Safety
/// As OpenSSL's: `context` is initialised, `out` has room for `len` octets and a block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn EVP_CipherUpdate(
    context: *mut c_void,
    out: *mut c_uchar,
    written: *mut c_int,
    octets: *const c_uchar,
    len: c_int,
) -> c_int {
    let Behind { update, cipher_of, mode_of, key_len_of, at, count } = behind();
    // SAFETY: the caller's promise, handed on.
    let done = unsafe { update(context, out, written, octets, len) };
    // SAFETY: the context is the caller's and initialised.
    let is_block = len == BLOCK
        && unsafe {
            let cipher = cipher_of(context);
            mode_of(cipher) == ECB && key_len_of(cipher) == KEY
        };
    if done != 1 || !is_block {
        return done;
    }
    if count.as_ref().is_some_and(|mut file| file.write_all(b".").is_err()) {
        eprintln!("cipher_flip: a block was not counted");
    }
    if *at == Some(SEEN.fetch_add(1, SeqCst) + 1) {
        // SAFETY: a block was written there just now.
        unsafe { *out ^= 0x10 };
    }
    done
}
