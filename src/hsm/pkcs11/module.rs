//! The PKCS#11 module of this process: loaded and initialised once, never finalised.
//!
//! Why so: SoftHSM 2.6.1 crashes when two contexts initialise one library, and when C_Finalize or the unloading of the library
//! meets a call in flight. A process that closes its sessions and exits leaves nothing behind that C_Finalize would save.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::{Slot, TokenInfo};

use super::faults::hsm_error;
use crate::config::{Site, files};
use crate::error::{Exit, Fault};

const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";
const TOKENDIR: &str = "directories.tokendir";

struct Loaded {
    path: PathBuf,
    softhsm_conf: Option<PathBuf>,
    context: Pkcs11,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The module a site names. Call it before other threads run: it may have to set SOFTHSM2_CONF.
pub(super) fn load(site: &Site) -> Result<Pkcs11, Fault> {
    let path = site.path(&site.config.hsm.module);
    let softhsm_conf = site.config.hsm.softhsm_conf.as_ref().map(|conf| site.path(conf));
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(loaded) = loaded.as_ref() {
        if loaded.path == path && loaded.softhsm_conf == softhsm_conf {
            return Ok(loaded.context.clone());
        }
        let what = format!("this process already uses the token of {}", loaded.path.display());
        return Err(Fault::new(Exit::HsmUnusable, what).hint("work on one site in one process"));
    }
    if let Some(conf) = &softhsm_conf {
        softhsm_directory(site, conf)?;
        if std::env::var_os(SOFTHSM2_CONF).as_deref() != Some(conf.as_os_str()) {
            crate::ffi::set_environment(SOFTHSM2_CONF, &OsString::from(conf));
        }
    }
    if !path.is_file() {
        let what = format!("PKCS#11 module {} is missing", path.display());
        return Err(Fault::new(Exit::HsmUnusable, what)
            .hint("install the HSM's client (SoftHSM: apt install softhsm2) or correct hsm.module in bindery.toml"));
    }
    let unusable = |e: &Error| {
        let error = hsm_error(format!("load PKCS#11 module {}", path.display()), e);
        Fault::new(Exit::HsmUnusable, error.to_string())
            .hint("check hsm.module in bindery.toml and the HSM client's own configuration")
    };
    let context = Pkcs11::new(&path).map_err(|e| unusable(&e))?;
    // Without OS_LOCKING_OK SoftHSM switches its locks off altogether.
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(e) => return Err(unusable(&e)),
    }
    *loaded = Some(Loaded { path, softhsm_conf, context: context.clone() });
    Ok(context)
}

/// The slot whose token has this label: numbers change, labels do not.
pub(super) fn slot_by_label(context: &Pkcs11, label: &str) -> Result<(Slot, TokenInfo), Fault> {
    let failed = |e: &Error| Fault::from(hsm_error("list the token slots", e));
    let mut found = Vec::new();
    let mut others = Vec::new();
    for slot in context.get_slots_with_token().map_err(|e| failed(&e))? {
        let info = context.get_token_info(slot).map_err(|e| failed(&e))?;
        if info.token_initialized() && info.label() == label {
            found.push((slot, info));
        } else if info.token_initialized() {
            others.push(info.label().to_owned());
        }
    }
    if found.len() > 1 {
        return Err(Fault::new(Exit::HsmUnusable, format!("{} tokens are labelled {label:?}", found.len()))
            .hint("give each token its own label; Bindery will not choose"));
    }
    found.pop().ok_or_else(|| {
        let seen = if others.is_empty() { "no token at all".to_owned() } else { format!("{others:?}") };
        Fault::new(Exit::HsmUnusable, format!("no token is labelled {label:?}; the module shows {seen}")).hint(
            "connect the HSM or restore the token directory, or correct hsm.token_label; a new demo site: `bindery init DIR --demo`",
        )
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
