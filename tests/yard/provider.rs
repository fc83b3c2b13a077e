//! Which PKCS#11 token the tests run on: BINDERY_TEST_PROVIDER is `softhsm` (the default) or `kryoptic`. `make test` runs the HSM
//! suite on both.

use std::fs;
use std::path::{Path, PathBuf};

use bindery::cli::init::{DemoToken, create_demo_on};
use bindery::config::Site;
use bindery::hsm::profile::HsmProfile;

/// A software token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    SoftHsm,
    /// Built from `tests/kryoptic` by `make kryoptic`.
    Kryoptic,
}

/// The token of this run.
pub(crate) fn provider() -> Provider {
    match std::env::var("BINDERY_TEST_PROVIDER").as_deref() {
        Err(_) | Ok("" | "softhsm") => Provider::SoftHsm,
        Ok("kryoptic") => Provider::Kryoptic,
        Ok(other) => panic!("BINDERY_TEST_PROVIDER is {other:?}, not softhsm or kryoptic"),
    }
}

impl Provider {
    /// Its module.
    pub(crate) fn module(self) -> PathBuf {
        match self {
            Self::SoftHsm => {
                let known = HsmProfile::softhsm().unwrap().module_paths;
                known.into_iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("no SoftHSM: `make setup`"))
            }
            Self::Kryoptic => {
                let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
                let module = target.join("kryoptic/debug/libkryoptic_module.so");
                assert!(module.is_file(), "{}: `make kryoptic` builds it", module.display());
                module
            }
        }
    }

    /// Prepares an own token for a site in `dir`; gives what its processes need in the environment. SoftHSM's is in the site.
    pub(crate) fn token_beside(self, dir: &Path) -> Vec<(&'static str, String)> {
        match self {
            Self::SoftHsm => Vec::new(),
            Self::Kryoptic => {
                let conf = dir.join("kryoptic.conf");
                let database = dir.join("kryoptic.sql");
                let text = format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display());
                fs::write(&conf, text).unwrap();
                vec![("KRYOPTIC_CONF", conf.to_str().unwrap().to_owned())]
            }
        }
    }

    /// How `init` is told.
    pub(crate) fn demo_token(self) -> DemoToken {
        match self {
            Self::SoftHsm => DemoToken::SoftHsm,
            Self::Kryoptic => DemoToken::Of { module: self.module(), profile: self.profile() },
        }
    }

    /// Its profile file.
    pub(crate) fn profile(self) -> PathBuf {
        let name = match self {
            Self::SoftHsm => "softhsm",
            Self::Kryoptic => "kryoptic",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("hsm-config/profiles/{name}.toml"))
    }
}

/// The demo site of this process on the token of this run, in `dir/site`: one for each process, before other threads run.
pub(crate) fn demo_site(dir: &Path) -> Site {
    for (name, value) in provider().token_beside(dir) {
        bindery::ffi::set_environment(name, value.as_ref());
    }
    create_demo_on(&dir.join("site"), &provider().demo_token()).unwrap()
}
