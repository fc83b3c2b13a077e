//! A site: one directory that holds a Bindery installation, and `bindery.toml` which describes it.
//! Unknown keys are refused by name; every path in the file is relative to the site.

pub(crate) mod files;
mod import;
pub(crate) mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::import::{CbcIv, CheckValue, ImportKey, ImportScheme};

use crate::error::{Exit, Fault};

/// Schema word of `bindery.toml`.
pub const SCHEMA: &str = "bindery.site/1";

/// `bindery.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`SCHEMA`].
    pub schema: String,
    /// A test site: own token, test PKI, accepts `secrets.jsonl`.
    #[serde(default)]
    pub demo: bool,
    /// The token.
    pub hsm: HsmConfig,
    /// What eUICCs and eIMs see of us.
    pub smdp: SmdpConfig,
    /// Where bundles and core files go, by target name (`eim:NAME`, `core:NAME`).
    #[serde(default)]
    pub export: ExportConfig,
    /// Under which keys operators send K and OPc, by the name that orders write in `transport_key`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub import: BTreeMap<String, ImportKey>,
    /// Who may order, and how much. A site that is no demo site takes orders of these tenants only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenant: BTreeMap<String, TenantConfig>,
    /// Batch sizes and threads.
    #[serde(default)]
    pub run: RunConfig,
    /// Subscriber credentials.
    #[serde(default)]
    pub credentials: CredentialsConfig,
    /// Who may approve a key ceremony.
    #[serde(default)]
    pub ceremony: CeremonyConfig,
}

/// `[hsm]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HsmConfig {
    /// PKCS#11 module (absolute, or relative to the site).
    pub module: PathBuf,
    /// Profile of the HSM model: `softhsm` (built in), or a `.toml` file like those in `hsm-config/profiles/`.
    pub profile: String,
    /// The token is found by its label, never by slot number.
    pub token_label: String,
    /// File with the user PIN, mode 0600 (`doctor` warns of another). Overridden by BINDERY_PIN, BINDERY_PIN_FILE or
    /// BINDERY_PIN_FD (environment).
    pub pin_file: PathBuf,
    /// Key policy file: role, mechanism, attributes.
    pub policy: PathBuf,
    /// `softhsm2.conf` for a SoftHSM token of this site; sets SOFTHSM2_CONF before the module is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softhsm_conf: Option<PathBuf>,
    /// Sessions that sign at once; 0: as many as the machine has cores.
    #[serde(default)]
    pub lanes: usize,
    /// How long one call of the token may take before its lane counts as stuck and its work is given to another.
    #[serde(default = "call_deadline_ms")]
    pub call_deadline_ms: u64,
    /// How long a run waits for a token to come back when none serves, before it stops.
    #[serde(default = "recover_s")]
    pub recover_s: u64,
    /// Of so many signatures, 1 to 64, the last is verified in software before any of them goes out; 1: every one.
    #[serde(default = "verify_one_in")]
    pub verify_one_in: u64,
    /// Further tokens that hold the same keys, each with what differs from the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slot: Vec<SlotConfig>,
}

fn call_deadline_ms() -> u64 {
    30_000
}

fn recover_s() -> u64 {
    60
}

/// See [`HsmConfig::verify_one_in`].
pub const VERIFY_ONE_IN: u64 = 32;

fn verify_one_in() -> u64 {
    VERIFY_ONE_IN
}

/// `[[hsm.slot]]`: one more token. What is left out is as in `[hsm]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlotConfig {
    /// Label of this token.
    pub token_label: String,
    /// PKCS#11 module of this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// Profile of its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// File with its user PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// Environment variable with its user PIN; comes before `pin_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_env: Option<String>,
    /// Sessions that sign at once on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<usize>,
}

/// `[smdp]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SmdpConfig {
    /// SM-DP+ FQDN of activation codes.
    pub address: String,
    /// Host id of the key derivation (SGP.22 Annex G), 1 to 16 octets of text.
    pub host_id: String,
}

/// `[export]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// `[export.eim.NAME]`.
    #[serde(default)]
    pub eim: BTreeMap<String, EimTarget>,
    /// `[export.core.NAME]`.
    #[serde(default)]
    pub core: BTreeMap<String, CoreTarget>,
}

/// `[export.eim.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EimTarget {
    /// How it is delivered.
    pub kind: EimKind,
}

/// How an eIM gets its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EimKind {
    /// A bundle directory under `outbox/`, fetched by the eIM's operator.
    Bundle,
}

/// `[export.core.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CoreTarget {
    /// Transport key when the order names none.
    pub transport_key: String,
    /// How single secrets are encrypted.
    pub scheme: CoreScheme,
}

/// How K and OPc stand in `core.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoreScheme {
    /// Single random blocks under AES-ECB: the usual K4 form.
    AesEcb,
}

impl CoreScheme {
    /// The word in `core.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AesEcb => "aes-ecb",
        }
    }
}

/// `[tenant.NAME]`: what is left out has no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Rows of one order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows_per_order: Option<u64>,
    /// Rows of all orders accepted on one day, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows_per_day: Option<u64>,
    /// Rows accepted and neither exported nor ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_rows: Option<u64>,
}

/// `[run]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Records of a chunk at most (16 MiB of packages is the other bound).
    pub chunk_records: usize,
    /// CPU threads; 0: as many as the machine has cores.
    pub threads: usize,
    /// How far the clock may stand before the newest order: which key an order goes to depends on when it came.
    pub clock_back_s: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { chunk_records: 1_000, threads: 0, clock_back_s: 3_600 }
    }
}

/// `[credentials]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsConfig {
    /// OP of the operator, sealed under the site KEK. With it OPc is derived from K (3GPP TS 35.206); without, OPc is random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_file: Option<PathBuf>,
    /// TOP of the operator, sealed likewise: TOPc of TUAK is derived from it and K (3GPP TS 35.231); without, TOPc is random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_file: Option<PathBuf>,
}

/// `[ceremony]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CeremonyConfig {
    /// Custodians by name, each with a certificate or public key (PEM) that verifies this person's approvals.
    #[serde(default)]
    pub custodians: BTreeMap<String, PathBuf>,
    /// Label of a token of the same module whose user PIN only a second person knows: logging in to it approves, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver_token: Option<String>,
}

/// An opened site.
#[derive(Clone, Debug)]
pub struct Site {
    root: PathBuf,
    /// Its configuration.
    pub config: Config,
}

impl Site {
    /// Reads `DIR/bindery.toml`.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        let file = dir.join("bindery.toml");
        let text = std::fs::read_to_string(&file).map_err(|e| {
            Fault::file(&file, &e).hint("name the site with --site DIR, or create one with `bindery init DIR --demo`")
        })?;
        let config: Config = toml::from_str(&text)
            .map_err(|e| Fault::new(Exit::Config, format!("{}: {e}", file.display())).hint("correct the named key"))?;
        if config.schema != SCHEMA {
            let what = format!("{}: schema {:?} is not {SCHEMA:?}", file.display(), config.schema);
            return Err(Fault::new(Exit::Config, what).hint("this site was made by another version of Bindery"));
        }
        let root = dir.canonicalize().map_err(|e| Fault::file(dir, &e))?;
        Ok(Self { root, config })
    }

    /// A site that is being made: `root` is absolute, nothing is read. `init` writes `bindery.toml` last.
    pub(crate) fn being_made(root: PathBuf, config: Config) -> Self {
        Self { root, config }
    }

    /// The site's directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the configuration, absolute.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The ledger.
    pub fn state_db(&self) -> PathBuf {
        self.path("state.db")
    }

    /// Templates: `NAME@VERSION.der`.
    pub fn templates(&self) -> PathBuf {
        self.path("templates")
    }

    /// Answers and bundles.
    pub fn outbox(&self) -> PathBuf {
        self.path("outbox")
    }

    /// Stored PPPs.
    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }
}
