//! What the judge has to say: one [`Finding`] per thing that is wrong, each under a stable code of a closed list.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a check looks at: decides what its count in the report counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The bundle, once.
    Bundle,
    /// Every record of `orders.jsonl` that is judged.
    Record,
    /// Every package that is opened.
    Package,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident $code:literal $scope:ident;)*) => {
        /// The closed list of checks; the code of each is what reports and scripts see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// All of them, in the order of the report.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code that stands in reports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// It compares with the order, which is not always given.
            pub fn needs_order(self) -> bool {
                matches!(self, Self::OrderFile | Self::OrderRows | Self::OrderMatch | Self::OrderValues)
            }

            /// What it looks at.
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }
        }
    };
}

checks! {
    /// `manifest.json` is readable and has its members.
    ManifestForm "manifest-form" Bundle;
    /// `manifest.sig` verifies over the bytes of `manifest.json`.
    ManifestSignature "manifest-signature" Bundle;
    /// The manifest certificate is the one the site holds.
    ManifestTrust "manifest-trust" Bundle;
    /// Every file that the manifest lists, or that a bundle must have, is there.
    FileMissing "file-missing" Bundle;
    /// No file is there that the manifest does not list.
    FileUnlisted "file-unlisted" Bundle;
    /// Size and SHA-256 of every file are as listed.
    FileHash "file-hash" Bundle;
    /// rows = issued + refused + held + cancelled, in the manifest and in `recon.json`.
    Counts "counts" Bundle;
    /// The DPauth and DPpb chains lead to a trusted CI, in their role, in date, with one OID.
    DpChain "dp-chain" Bundle;
    /// Every line of `orders.jsonl` is an export record.
    RecordForm "record-form" Bundle;
    /// Packages do not overlap and cover their files to the last octet.
    Coverage "package-coverage" Bundle;
    /// `results.csv` has one line per ordered row and agrees with the records.
    Results "results" Bundle;
    /// `rejects.csv` names every refused row and no other.
    Rejects "rejects" Bundle;
    /// `activation-codes.csv` agrees with the records.
    ActivationCodes "activation-codes" Bundle;
    /// `core.csv` has the issued ICCIDs, each once.
    CoreFile "core-file" Bundle;
    /// The order given is the one the manifest names, and the files it names are the ones it was sent with.
    OrderFile "order-file" Bundle;
    /// The bundle has as many rows as were ordered, each once.
    OrderRows "order-rows" Bundle;
    /// Every record has the numbers, the eUICC, the class, the mode and the algorithm that its row of the order asks for.
    OrderMatch "order-match" Bundle;
    /// Nothing that must be unique stands twice.
    Unique "unique" Bundle;
    /// The activation code of a record is made of its own parts.
    ActivationCode "activation-code" Record;
    /// The one-time secret of the record's eUICC is known and fits its public key.
    Secret "secret" Record;
    /// SHA-256 of the package is the record's.
    PackageHash "package-hash" Package;
    /// BF36 and its parts, strict DER, in order, nothing left over.
    BppForm "bpp-form" Package;
    /// Segments are at most 1,020 octets, profile pieces 1,007 (SGP.22 §2.5.3).
    SegmentSize "segment-size" Package;
    /// smdpSign verifies under the DPpb certificate (SGP.22 §5.5.1).
    SmdpSign "smdp-sign" Package;
    /// otPK.DP is a point of the curve and gives a shared secret.
    KeyAgreement "key-agreement" Package;
    /// The MAC chain of the segments holds.
    SegmentMac "segment-mac" Package;
    /// Decrypted segments end with 80 00*.
    SegmentPadding "segment-padding" Package;
    /// ConfigureISDP (BF24).
    ConfigureIsdp "configure-isdp" Package;
    /// StoreMetadata (BF25): known fields, in order, within their limits.
    StoreMetadata "store-metadata" Package;
    /// ReplaceSessionKeys (BF26).
    ReplaceSessionKeys "replace-session-keys" Package;
    /// The profile is a strict DER sequence of profile elements, header first, end last.
    UppForm "upp-form" Package;
    /// ICCID of ProfileHeader, EF.ICCID and metadata are one.
    UppIccid "upp-iccid" Package;
    /// Every EF.IMSI is well formed.
    UppImsi "upp-imsi" Package;
    /// Every EF.ACC fits the IMSI or the order.
    UppAcc "upp-acc" Package;
    /// Every AKA element has the same sound algorithm, K and OPc.
    UppAka "upp-aka" Package;
    /// PINs, PUKs and ADM values are well formed and point at each other.
    UppPin "upp-pin" Package;
    /// Keys of security domains are there, not zero and all different.
    UppOta "upp-ota" Package;
    /// What the package holds is what its record says.
    RecordMatch "record-match" Package;
    /// Variables that the order gives stand in the profile, at every place, with the value of their row.
    OrderValues "order-values" Package;
    /// K and OPc of the profile are those handed to the core network.
    CoreSecret "core-secret" Package;
    /// A challenge made with K and OPc of the core network is answered by the profile: AUTN, RES, CK, IK and AUTS are one.
    CoreAuth "core-auth" Package;
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that is wrong. Identifiers in it are masked, secrets never stand in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// Row and masked EID, where it belongs to a record.
    pub record: Option<String>,
    /// File of the bundle.
    pub file: Option<String>,
    /// Offset in that file, or in the package where no file is named.
    pub offset: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl Finding {
    pub(super) fn new(check: Check, message: impl Into<String>) -> Self {
        Self { check, record: None, file: None, offset: None, message: message.into() }
    }

    pub(super) fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset as u64);
        self
    }

    pub(super) fn in_file(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    pub(super) fn of(mut self, record: impl Into<String>) -> Self {
        self.record = Some(record.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.check)?;
        if let Some(record) = &self.record {
            write!(f, "{record}: ")?;
        }
        match (&self.file, self.offset) {
            (Some(file), Some(offset)) => write!(f, "{file}, offset {offset}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(offset)) => write!(f, "offset {offset}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

/// Findings kept for the report at most; beyond it they are only counted, so a ruined bundle does not fill the memory.
const KEPT_MAX: usize = 1_000;

/// Findings as they come: the first ones whole, all of them counted by check.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    totals: std::collections::BTreeMap<Check, u64>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        *self.totals.entry(finding.check).or_default() += 1;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(finding);
        }
    }

    pub(super) fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    pub(super) fn total(&self, check: Check) -> u64 {
        self.totals.get(&check).copied().unwrap_or_default()
    }

    pub(super) fn into_kept(self) -> Vec<Finding> {
        self.kept
    }
}
