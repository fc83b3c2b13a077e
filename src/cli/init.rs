//! `bindery init DIR [--demo]`: creates a site. `bindery.toml` is written last, so that nothing half-made looks finished.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::certs::certificate::pem;
use crate::certs::test_pki::{TEST_OID, TestPki};
use crate::certs::{Curve, DpPoints, DpRole, Trust};
use crate::config::{Site, files, template};
use crate::error::{Exit, Fault};
use crate::formats::saip::source;
use crate::hsm::pkcs11::{Token, provision};
use crate::hsm::profile::HsmProfile;
use crate::hsm::{Hsm, HsmSession, Role, draw, own_points, policy};
use crate::personalise::shelf::{self, Shelf, TemplateName};
use crate::store::sealed::OP_AAD;
use crate::store::sqlite::Ledger;

/// Create a site: a directory with bindery.toml, certificates, templates, inbox and outbox
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Directory of the new site
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// With an own SoftHSM token, keys by the key policy and a test PKI
    #[arg(long)]
    demo: bool,
    /// With --demo: the free token of this PKCS#11 module instead of an own SoftHSM
    #[arg(long, value_name = "FILE", requires = "demo", requires = "profile")]
    module: Option<PathBuf>,
    /// With --module: the profile file of its model (see hsm-config/profiles)
    #[arg(long, value_name = "FILE", requires = "module")]
    profile: Option<PathBuf>,
}

/// Where a demo site's token is made.
#[derive(Clone, Debug)]
pub enum DemoToken {
    /// In a SoftHSM directory inside the site.
    SoftHsm,
    /// In the free token that this module shows.
    Of {
        /// PKCS#11 module.
        module: PathBuf,
        /// Profile file of its model.
        profile: PathBuf,
    },
}

impl Init {
    /// Creates the site; an existing one is left untouched (exit 3).
    pub fn run(self, _site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = match (self.demo, self.module, self.profile) {
            (false, ..) => create_empty(&self.dir)?,
            (true, Some(module), Some(profile)) => create_demo_on(&self.dir, &DemoToken::Of { module, profile })?,
            (true, ..) => create_demo(&self.dir)?,
        };
        let dir = site.root().display().to_string();
        let doctor = format!("bindery --site {dir} doctor");
        let next = if self.demo {
            doctor
        } else {
            format!(
                "fill in [hsm] of bindery.toml, make the keys of key-policy.toml in your ceremony, put the CI certificates into \
                 certs/ci and your chains into certs/dpauth, certs/dppb and certs/manifest, then run {doctor}"
            )
        };
        if json {
            say!("{}", serde_json::json!({ "site": dir, "demo": self.demo, "next": next }));
        } else {
            say!("site {dir} created\nnext: {next}");
        }
        Ok(Exit::Done)
    }
}

/// A site without token.
pub fn create_empty(dir: &Path) -> Result<Site, Fault> {
    let unfinished = Unfinished::begin(dir)?;
    let text = template::for_production();
    let site = Site::being_made(unfinished.root.clone(), template::parse(&text)?);
    directories(&site)?;
    // Keys on a second curve are the site's choice.
    let brainpool: String = policy::BRAINPOOL.trim_start().lines().map(|line| format!("#{line}\n")).collect();
    let rules = format!(
        "{}\n# To serve eUICCs on brainpoolP256r1 take away the first # of each line:\n#\n{brainpool}",
        policy::BUILT_IN
    );
    files::write_whole(&site.path("key-policy.toml"), rules.as_bytes(), 0o644)?;
    unfinished.finish(&text)?;
    Ok(site)
}

/// A demo site with its own SoftHSM token.
pub fn create_demo(dir: &Path) -> Result<Site, Fault> {
    create_demo_on(dir, &DemoToken::SoftHsm)
}

/// A demo site, ready to take orders.
///
/// Order: directories, token, keys, what needs the token (OP, certificates over its keys), templates, `bindery.toml`. Call it
/// before other threads run, see [`Token::open`].
pub fn create_demo_on(dir: &Path, token_of: &DemoToken) -> Result<Site, Fault> {
    let unfinished = Unfinished::begin(dir)?;
    let absolute = |path: &PathBuf| path.canonicalize().map_err(|e| Fault::file(path, &e));
    let text = match token_of {
        DemoToken::SoftHsm => template::for_demo(&softhsm_module()?, None),
        DemoToken::Of { module, profile } => template::for_demo(&absolute(module)?, Some(&absolute(profile)?)),
    };
    let site = Site::being_made(unfinished.root.clone(), template::parse(&text)?);
    directories(&site)?;
    token(&site)?;
    let token = Token::open(&site)?; // the same way every command takes: login, policy, known answers
    sealed_op(&site, &token)?;
    test_pki(&site, &token, Timestamp::now())?;
    shelve_presets(&site)?;
    unfinished.finish(&text)?;
    Ok(site)
}

/// The built-in templates, each as version 1.
fn shelve_presets(site: &Site) -> Result<(), Fault> {
    let shelf = Shelf::open(site.templates());
    for (preset, text) in shelf::presets() {
        let bug = |e: &dyn std::fmt::Display| Fault::new(Exit::Bug, format!("preset {preset}: {e}"));
        let der = source::build(text).map_err(|e| bug(&e))?;
        let name = TemplateName::with_default_version(preset).map_err(|e| bug(&e))?;
        shelf.add(&name, &der).map_err(|e| Fault::new(Exit::Config, e.to_string()).hint(e.hint()))?;
    }
    Ok(())
}

/// Names that `init` makes; one of them without `bindery.toml` and without the mark is somebody else's.
const OURS: &[&str] = &[
    "token",
    "test-pki",
    "certs",
    "templates",
    "inbox",
    "outbox",
    "vault",
    "key-policy.toml",
    "op.sealed",
    "core-demo.key",
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "ledger.id",
];

/// A site being made, marked as such: a crash leaves the mark, and the next `init` clears away what it finds under it.
struct Unfinished {
    root: PathBuf,
}

impl Unfinished {
    const MARK: &str = ".bindery-init";

    fn begin(dir: &Path) -> Result<Self, Fault> {
        let existing = |what: String| {
            Fault::new(Exit::Config, what)
                .hint("nothing was changed; name another directory, or move this one away first")
        };
        if dir.join("bindery.toml").exists() {
            return Err(existing(format!("{} is a site already", dir.display())));
        }
        let marked = dir.join(Self::MARK).exists();
        if let Some(name) = OURS.iter().find(|name| !marked && dir.join(name).exists()) {
            return Err(existing(format!("{} holds {name:?}, which is not ours", dir.display())));
        }
        files::make_directory(dir, 0o755)?;
        let root = dir.canonicalize().map_err(|e| Fault::file(dir, &e))?;
        files::write_whole(&root.join(Self::MARK), b"bindery init was started here and has not finished\n", 0o644)?;
        for path in OURS.iter().map(|name| root.join(name)).filter(|_| marked) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(e) = removed
                && e.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Fault::file(&path, &e));
            }
        }
        Ok(Self { root })
    }

    fn finish(self, bindery_toml: &str) -> Result<(), Fault> {
        files::write_whole(&self.root.join("bindery.toml"), bindery_toml.as_bytes(), 0o644)?;
        let mark = self.root.join(Self::MARK);
        fs::remove_file(&mark).map_err(|e| Fault::file(&mark, &e))
    }
}

fn directories(site: &Site) -> Result<(), Fault> {
    for open in ["templates", "certs/ci", "certs/dpauth", "certs/dppb", "certs/manifest", "inbox", "outbox"] {
        files::make_directory(&site.path(open), 0o755)?;
    }
    files::make_directory(&site.vault(), 0o700)?;
    // From now on a ledger that is not there is one that was lost.
    Ledger::open(&site.state_db())?;
    Ok(())
}

fn softhsm_module() -> Result<PathBuf, Fault> {
    HsmProfile::softhsm()?.module_paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Fault::new(Exit::HsmUnusable, "SoftHSM is not installed").hint("apt install softhsm2 (or dnf install softhsm)")
    })
}

/// The token with its keys, the policy that they follow, its PIN beside it, and the core network's copy of the transport key.
fn token(site: &Site) -> Result<(), Fault> {
    files::make_directory(&site.path("token"), 0o700)?;
    if let Some(conf) = &site.config.hsm.softhsm_conf {
        let tokens = site.path("token/tokens");
        files::make_directory(&tokens, 0o700)?;
        provision::write_softhsm_conf(&site.path(conf), &tokens)?;
    }
    let pin = provision::random_pin()?;
    files::write_whole(&site.path("token/pin"), pin.as_bytes(), 0o600)?;
    let own = format!("{}\n{}", policy::BUILT_IN, policy::OPERATOR);
    let both = format!("{own}{}", policy::BRAINPOOL);
    files::write_whole(&site.path("key-policy.toml"), both.as_bytes(), 0o644)?;
    let made = provision::demo_token(site, &pin)?;
    if !made.curves.contains(&Curve::Brainpool) {
        files::write_whole(&site.path("key-policy.toml"), own.as_bytes(), 0o644)?;
    }
    provision::pin_check_values(site, &made)?;
    for copy in made.copies {
        let mut line = Zeroizing::new([b'\n'; 65]);
        HEXLOWER.encode_mut(&copy.key[..], &mut line[..64]);
        files::write_whole(&site.path(format!("{}.key", copy.name)), &line[..], 0o600)?;
    }
    Ok(())
}

/// A random OP under the site KEK; OPc of the demo's subscribers is derived from it.
fn sealed_op(site: &Site, token: &Token) -> Result<(), Fault> {
    let mut session = token.open_session()?;
    let mut op = Zeroizing::new([0; 16]);
    draw::fill_random(&mut session, &mut op[..])?;
    let sealed = session.seal(token.key(&Role::SiteKek)?, OP_AAD, &op[..])?;
    files::write_whole(&site.path("op.sealed"), &sealed, 0o600)
}

fn test_pki(site: &Site, token: &Token, now: Timestamp) -> Result<(), Fault> {
    let bug = |e: openssl::error::ErrorStack| Fault::new(Exit::Bug, format!("OpenSSL: {e}"));
    let points = own_points(token)?;
    for DpPoints { curve, auth, pb } in &points.dp {
        let pki = TestPki::create_on(*curve, now)?;
        pki.save(site)?;
        for (role, point) in [(DpRole::Auth, auth), (DpRole::Pb, pb)] {
            let leaf = pki.issue_dp(role, TEST_OID, point, now).map_err(bug)?;
            let path = site.path(format!("certs/{0}/{0}{1}.pem", role.as_str(), curve.file_tail()));
            files::write_whole(&path, pem(&leaf).as_bytes(), 0o644)?;
        }
        // Bundles are signed on P-256 whatever the eUICCs are on.
        if *curve == Curve::P256 {
            let manifest = pki.issue_manifest(&points.manifest, now).map_err(bug)?;
            files::write_whole(&site.path("certs/manifest/manifest.pem"), pem(&manifest).as_bytes(), 0o644)?;
        }
    }
    // What was just written has to pass the checks of every start.
    crate::certs::DpChains::load(site)?.check(&Trust::load(&site.path("certs/ci"))?, now, &points)
}
