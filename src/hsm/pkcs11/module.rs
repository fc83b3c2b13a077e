//! The PKCS#11 modules of this process: each loaded once and never unloaded, finalised only while no call is in flight.
//!
//! Why so: SoftHSM 2.6.1 crashes when two contexts initialise one library, and when C_Finalize or the unloading of the library
//! meets a call. Every call holds the gate's read side; whoever finalises takes the write side or leaves it.

use std::ffi::OsString;
use std::fs::Metadata;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::{Slot, TokenInfo};

use super::faults::hsm_error;
use super::login;
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::{FaultClass, HsmError};

const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";
const TOKENDIR: &str = "directories.tokendir";
/// How long a restart waits for the calls in flight. Longer would only hold up the tokens that do answer.
const QUIESCE: Duration = Duration::from_secs(2);
/// The same at the end of the process.
const LAST_QUIESCE: Duration = Duration::from_millis(500);
/// What C_Finalize may take there.
const LAST_FINALISE: Duration = Duration::from_secs(5);
/// Between two looks at the gate.
const STEP: Duration = Duration::from_millis(1);

/// A loaded module.
pub(super) struct Module {
    /// Tells modules apart.
    pub(super) number: usize,
    path: PathBuf,
    file: FileId,
    context: Pkcs11,
    gate: RwLock<()>,
    /// Somebody wants to finalise: calls that have not begun wait.
    closing: AtomicBool,
    initialised: AtomicBool,
    /// Grows with each C_Finalize or C_Initialize that went well: handles and sessions of another epoch are dead, or worse, somebody else's.
    epoch: AtomicU64,
}

/// Device and inode, by which the dynamic loader tells libraries apart: two paths of one file are one library.
type FileId = (u64, u64);

/// Modules of this process, and what SOFTHSM2_CONF was set to for them.
struct Loaded {
    modules: Vec<Arc<Module>>,
    softhsm_conf: Option<PathBuf>,
}

static LOADED: Mutex<Loaded> = Mutex::new(Loaded { modules: Vec::new(), softhsm_conf: None });

/// The module a site names for its first token.
pub(super) fn load(site: &Site) -> Result<Arc<Module>, Fault> {
    load_from(site, &site.config.hsm.module)
}

/// A module of a site. Call it before other threads run: it may have to set SOFTHSM2_CONF.
pub(super) fn load_from(site: &Site, module: &Path) -> Result<Arc<Module>, Fault> {
    let path = site.path(module);
    let softhsm_conf = site.config.hsm.softhsm_conf.as_ref().map(|conf| site.path(conf));
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = loaded.modules.first()
        && loaded.softhsm_conf != softhsm_conf
    {
        let what = format!("this process already uses the token of {}", first.path.display());
        return Err(Fault::new(Exit::HsmUnusable, what).hint("work on one site in one process"));
    }
    let found = std::fs::metadata(&path).ok().filter(Metadata::is_file);
    let file = found.map(|found| (found.dev(), found.ino()));
    if let Some(there) = loaded.modules.iter().find(|there| there.path == path || Some(there.file) == file) {
        there.initialise_again()?;
        return Ok(Arc::clone(there));
    }
    if let Some(conf) = &softhsm_conf {
        softhsm_directory(site, conf)?;
        if std::env::var_os(SOFTHSM2_CONF).as_deref() != Some(conf.as_os_str()) {
            crate::ffi::set_environment(SOFTHSM2_CONF, &OsString::from(conf));
        }
    }
    let Some(file) = file else {
        let what = format!("PKCS#11 module {} is missing", path.display());
        return Err(Fault::new(Exit::HsmUnusable, what)
            .hint("install the HSM's client (SoftHSM: apt install softhsm2) or correct hsm.module in bindery.toml"));
    };
    let unusable = |e: &Error| {
        let error = hsm_error(format!("load PKCS#11 module {}", path.display()), e);
        Fault::new(Exit::HsmUnusable, error.to_string())
            .hint("check hsm.module in bindery.toml and the HSM client's own configuration")
    };
    let context = Pkcs11::new(&path).map_err(|e| unusable(&e))?;
    let (limit, calling) = (Duration::from_millis(site.config.hsm.call_deadline_ms), context.clone());
    let initialised = within(limit, move || initialise(&calling)).ok_or_else(|| {
        let what = format!("load PKCS#11 module {}: C_Initialize did not answer", path.display());
        Fault::new(Exit::HsmUnusable, what)
            .hint("the HSM's client waits for something: check its configuration and the network")
    })?;
    initialised.map_err(|e| {
        // Not ours to share: whoever initialised it (a proxy that loads this library as well) would finalise it under our calls.
        let shared = matches!(e, Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _));
        if shared {
            unusable(&e).hint("name a library once: as itself or behind a proxy, not both")
        } else {
            unusable(&e)
        }
    })?;
    let module = Arc::new(Module {
        number: loaded.modules.len(),
        path,
        file,
        context,
        gate: RwLock::new(()),
        closing: AtomicBool::new(false),
        initialised: AtomicBool::new(true),
        epoch: AtomicU64::new(1),
    });
    loaded.modules.push(Arc::clone(&module));
    loaded.softhsm_conf = softhsm_conf;
    Ok(module)
}

/// Wipes the PINs and finalises every module in which no call is in flight; the last thing before the process ends. `false`: some call did not come
/// back, and exit handlers of the module must not run under it.
pub fn shut_down() -> bool {
    login::forget_pins();
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    // C_Finalize is a call, too, and can hang.
    let ended = loaded.modules.iter().cloned().map(|module| {
        within(LAST_QUIESCE + LAST_FINALISE, move || {
            module.quiesce(LAST_QUIESCE).map(|quiet| _ = module.finalise(&quiet))
        })
    });
    let stuck = ended.filter(|ended| !matches!(ended, Some(Some(())))).count();
    stuck == 0 && !LEFT_BEHIND.load(Ordering::SeqCst)
}

impl Module {
    /// For one call, or several that belong together. Not to be nested: a restart in between would wait for itself.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        while self.closing.load(Ordering::Acquire) {
            std::thread::sleep(STEP);
        }
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which life of the module this is. It does not change while [`Self::enter`]'s guard is held.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// C_Finalize and C_Initialize, with no call in flight. All sessions, logins and handles of the module are gone then; after
    /// an error only if C_Finalize itself went well.
    pub(super) fn restart(&self) -> Result<(), HsmError> {
        let what = || format!("restart PKCS#11 module {}", self.path.display());
        let Some(quiet) = self.quiesce(QUIESCE) else {
            return Err(HsmError {
                what: what(),
                code: "a call is still in flight".into(),
                class: FaultClass::Token,
                hint: "the HSM does not answer; a restart under a call would crash its client",
            });
        };
        // A dead connection may well answer C_Finalize with an error; C_Initialize tells what became of it.
        let ended = self.finalise(&quiet);
        match (ended, initialise(&self.context)) {
            (Ok(()), Ok(())) => {}
            (Err(_), Ok(())) => _ = self.epoch.fetch_add(1, Ordering::AcqRel),
            // It lives on as it was: were the epoch to grow, its sessions would be forgotten and never closed.
            (Err(e), Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _))) => return Err(hsm_error(what(), &e)),
            (_, Err(e)) => return Err(hsm_error(what(), &e)),
        }
        self.initialised.store(true, Ordering::Release);
        Ok(())
    }

    /// After [`shut_down`] somebody opens a token once more.
    fn initialise_again(&self) -> Result<(), Fault> {
        if !self.initialised.load(Ordering::Acquire) {
            self.restart()?;
        }
        Ok(())
    }

    /// Waits until no call is in flight; calls that have not begun wait meanwhile, as long as the guard is held.
    fn quiesce(&self, patience: Duration) -> Option<Quiet<'_>> {
        let until = Instant::now() + patience;
        self.closing.store(true, Ordering::Release);
        loop {
            // No queueing for the lock: a writer that waits would stop the readers for as long as one call hangs.
            match self.gate.try_write() {
                Ok(guard) => return Some(Quiet { module: self, _guard: guard }),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return Some(Quiet { module: self, _guard: poisoned.into_inner() });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => {
                    self.closing.store(false, Ordering::Release);
                    return None;
                }
            }
        }
    }

    fn finalise(&self, _: &Quiet<'_>) -> Result<(), Error> {
        match self.context.clone().finalize() {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                self.initialised.store(false, Ordering::Release);
                Ok(())
            }
            Err(e) => {
                tracing::debug!(code = %hsm_error("finalise the module", &e).code, "C_Finalize");
                Err(e)
            }
        }
    }
}

impl Deref for Module {
    type Target = Pkcs11;
    fn deref(&self) -> &Pkcs11 {
        &self.context
    }
}

/// No call is in flight as long as this lives.
struct Quiet<'a> {
    module: &'a Module,
    _guard: RwLockWriteGuard<'a, ()>,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.module.closing.store(false, Ordering::Release);
    }
}

/// A call on a thread of its own, which is left behind when it takes longer than that: no call can be taken back.
pub(super) fn within<R: Send + 'static>(limit: Duration, call: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (tell, told) = crossbeam_channel::bounded(1);
    let spawned = std::thread::Builder::new().name("hsm-call".into()).spawn(move || _ = tell.send(call()));
    let answer = spawned.ok().and_then(|_| told.recv_timeout(limit).ok());
    if answer.is_none() {
        LEFT_BEHIND.store(true, Ordering::SeqCst);
    }
    answer
}

/// Some call of [`within`] did not come back in time.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

fn initialise(context: &Pkcs11) -> Result<(), Error> {
    // Without OS_LOCKING_OK SoftHSM switches its locks off altogether.
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
}

/// The slot whose token has this label: numbers change, labels do not. `serial`: the one that was seen at the start.
pub(super) fn slot_by_label(
    context: &Pkcs11,
    label: &str,
    serial: Option<&str>,
) -> Result<(Slot, TokenInfo), HsmError> {
    let failed = |e: &Error| hsm_error("list the token slots", e);
    let mut found = Vec::new();
    let mut others = Vec::new();
    let mut mute = None;
    for slot in context.get_slots_with_token().map_err(|e| failed(&e))? {
        // A slot that is still listed while its token is dead may be any token's: it concerns us only if ours is not found.
        let info = match context.get_token_info(slot) {
            Ok(info) => info,
            Err(e) => {
                mute.get_or_insert_with(|| HsmError { class: FaultClass::Token, ..failed(&e) });
                continue;
            }
        };
        if !info.token_initialized() {
            continue;
        }
        if info.label() == label && serial.is_none_or(|serial| info.serial_number() == serial) {
            found.push((slot, info));
        } else {
            others.push(info.label().to_owned());
        }
    }
    if found.len() > 1 {
        return Err(HsmError {
            what: format!("look for token {label:?}"),
            code: format!("{} tokens are labelled so", found.len()),
            class: FaultClass::Policy,
            hint: "give each token its own label; Bindery will not choose",
        });
    }
    if let Some(error) = mute.filter(|_| found.is_empty()) {
        return Err(HsmError {
            what: format!("look for token {label:?}, which none of the slots that answer has"),
            ..error
        });
    }
    found.pop().ok_or_else(|| {
        let seen = if others.is_empty() { "no token at all".to_owned() } else { format!("{others:?}") };
        HsmError {
            what: "look for the token".into(),
            code: format!("no token is labelled {label:?}; the module shows {seen}"),
            class: FaultClass::Token,
            hint: "connect the HSM or restore the token directory, or correct hsm.token_label; a new demo site: `bindery init DIR --demo`",
        }
    })
}
/// Checks that the directory SoftHSM is told to use is there; on a demo site the file follows a move of the site first.
fn softhsm_directory(site: &Site, conf: &Path) -> Result<(), Fault> {
    let restore = "restore it from the backup; for a new demo site run `bindery init DIR --demo` in another directory";
    let text = std::fs::read_to_string(conf)
        .map_err(|e| Fault::new(Exit::HsmUnusable, format!("token missing: {}: {e}", conf.display())).hint(restore))?;
    let told = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == TOKENDIR).then(|| PathBuf::from(value.trim()))
    });
    let own = conf.parent().unwrap_or(site.root()).join("tokens");
    let directory = if site.config.demo && told.as_ref() != Some(&own) && own.is_dir() {
        super::provision::write_softhsm_conf(conf, &own)?;
        own
    } else {
        told.unwrap_or(own)
    };
    if directory.is_dir() {
        return if site.config.demo { keep_token_objects(&directory) } else { Ok(()) };
    }
    Err(Fault::new(Exit::HsmUnusable, format!("token missing: {} is not there", directory.display())).hint(restore))
}

/// SoftHSM 2.6.1 rewrites `token.object` in place at each login (truncate, then write): a process that is killed in between
/// leaves it empty, and with it all keys of the token are lost. So a whole one is kept beside the tokens, and an empty one comes
/// back from there. A real HSM has no such moment.
fn keep_token_objects(tokens: &Path) -> Result<(), Fault> {
    let failed = |path: &Path, e: &std::io::Error| Fault::file(path, e);
    for token in std::fs::read_dir(tokens).map_err(|e| failed(tokens, &e))? {
        let token = token.map_err(|e| failed(tokens, &e))?;
        let object = token.path().join("token.object");
        let kept = tokens.with_file_name(format!("{}.token.object", token.file_name().display()));
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        match (read(&object), read(&kept)) {
            (now, before) if now.is_empty() && !before.is_empty() => {
                tracing::warn!(file = %object.display(), "the token's file was cut off by a crash; restored");
                files::write_whole(&object, &before, 0o600)?;
            }
            (now, before) if !now.is_empty() && now != before => files::write_whole(&kept, &now, 0o600)?,
            _ => {}
        }
    }
    Ok(())
}
