//! A PKCS#11 module for tests that stands before another one: it forwards every call of v2.40, counts it, and lets go wrong what
//! a control file says. Built as an example by `cargo test` (`libpkcs11_shim.so`); no part of what is installed.
//!
//! In: BINDERY_SHIM_MODULE (the module behind it), BINDERY_SHIM_CONTROL (see `control`), BINDERY_SHIM_COUNTS (see `counts`).
//! Out: the other module's answers, or the faults. A call without faults costs a few atomic additions more than without the shim.
//! v3.0's C_GetInterface is left out on purpose: callers then take the v2.40 list, which is all that Bindery uses.
#![allow(unsafe_code)] // a C interface is nothing else
#![allow(clippy::panic)] // `functions::number`, at compile time

mod by_hand;
mod calls;
mod control;
mod counts;
mod faults;
mod functions;
mod slots;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CKR_ARGUMENTS_BAD, CKR_GENERAL_ERROR, CKR_OK};

use counts::Counts;
use faults::Faults;
use functions::{COUNT, NAMES};
use slots::{Slot, Slots};

/// The shim of this process: made at the first call, never unmade, as is the module behind it.
struct Shim {
    list: &'static CK_FUNCTION_LIST,
    counts: Counts,
    faults: Faults,
    slots: Slots,
    in_flight: [AtomicU64; COUNT],
    finalizing: AtomicBool,
    initialised: AtomicBool,
    /// Rows and sessions that a rule has answered on.
    struck: Mutex<BTreeSet<(usize, CK_SESSION_HANDLE)>>,
    /// Where overlaps of C_Finalize are told, a line each.
    overlaps: Option<PathBuf>,
}

static SHIM: OnceLock<Option<Shim>> = OnceLock::new();

fn shim() -> Option<&'static Shim> {
    SHIM.get_or_init(|| Shim::load().inspect_err(|why| eprintln!("pkcs11_shim: {why}")).ok()).as_ref()
}

/// The one symbol of a v2.40 module.
///
/// # Safety
/// `list` is null or points to a place for a pointer, as PKCS#11 says.
// SAFETY: the standard's name, exported once in this library.
#[unsafe(no_mangle)]
unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    if shim().is_none() {
        return CKR_GENERAL_ERROR;
    }
    // SAFETY: not null, and the caller's word that it can be written to. The list itself is never changed.
    unsafe { *list = (&raw const calls::LIST).cast_mut() };
    CKR_OK
}

impl Shim {
    fn load() -> Result<Self, String> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let module = variable("BINDERY_SHIM_MODULE").ok_or("BINDERY_SHIM_MODULE is not set")?;
        let path = variable("BINDERY_SHIM_COUNTS");
        let counts = Counts::open(path.as_deref()).map_err(|e| format!("BINDERY_SHIM_COUNTS: {e}"))?;
        Ok(Self {
            list: behind(&module).map_err(|e| format!("{}: {e}", module.display()))?,
            counts,
            faults: Faults::new(variable("BINDERY_SHIM_CONTROL")),
            slots: Slots::new(),
            in_flight: [const { AtomicU64::new(0) }; COUNT],
            finalizing: AtomicBool::new(false),
            initialised: AtomicBool::new(false),
            struck: Mutex::default(),
            overlaps: path.map(|path| path.with_extension("overlaps")),
        })
    }

    fn look(&self, now: bool) {
        self.faults.refresh(&self.counts, &self.slots, now);
    }

    /// A call begins; it ends when the guard is dropped.
    fn begin(&'static self, function: usize, slot: Option<&'static Slot>) -> Flight {
        let row = self.counts.row(slot.map_or(0, Slot::row));
        row.calls[function].fetch_add(1, SeqCst);
        self.in_flight[function].fetch_add(1, SeqCst);
        if let Some(slot) = slot {
            let now = slot.in_flight.fetch_add(1, SeqCst) + 1;
            if row.most_in_flight.load(SeqCst) < now {
                row.most_in_flight.fetch_max(now, SeqCst);
            }
        }
        if self.finalizing.load(SeqCst) {
            self.overlap(NAMES[function]);
        }
        Flight { shim: self, function, slot }
    }

    /// The calls in flight, in words; empty when there are none.
    fn flying(&self) -> String {
        let mut text = String::new();
        for (name, count) in NAMES.iter().zip(&self.in_flight) {
            match count.load(SeqCst) {
                0 => {}
                count => drop(write!(text, "{name} x{count} ")),
            }
        }
        text
    }

    /// C_Finalize and another call at the same time: what crashes real modules.
    fn overlap(&self, what: &str) {
        self.counts.table().finalize_overlaps.fetch_add(1, SeqCst);
        let line = format!("process {}: C_Finalize while in flight: {what}\n", std::process::id());
        let told = self
            .overlaps
            .as_ref()
            .map(|path| std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes()));
        if !matches!(told, Some(Ok(()))) {
            eprint!("pkcs11_shim: {line}");
        }
    }
}

/// A call in flight.
struct Flight {
    shim: &'static Shim,
    function: usize,
    slot: Option<&'static Slot>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shim.in_flight[self.function].fetch_sub(1, SeqCst);
        if let Some(slot) = self.slot {
            slot.in_flight.fetch_sub(1, SeqCst);
        }
    }
}

/// The function list of the module behind. Loaded for good: unloading a module is what crashes them.
fn behind(module: &std::path::Path) -> Result<&'static CK_FUNCTION_LIST, String> {
    type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
    // SAFETY: loading runs the library's constructors; that it is a PKCS#11 module is the tests' word.
    let library = unsafe { libloading::Library::new(module) }.map_err(|e| e.to_string())?;
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    // SAFETY: the standard gives this name this type.
    let entry = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") }.map_err(|e| e.to_string())?;
    let mut list = std::ptr::null_mut();
    // SAFETY: a place for the pointer is all that the function wants.
    let code = unsafe { entry(&mut list) };
    if code != CKR_OK || list.is_null() {
        return Err(format!("C_GetFunctionList answered {code:#x}"));
    }
    // SAFETY: not null, and the module's for as long as it is loaded, which is for ever. Modules that write v3 lists begin them
    // with the same fields.
    Ok(unsafe { &*list })
}
