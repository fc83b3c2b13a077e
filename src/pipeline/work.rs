//! What a batch needs, made once before the first record: keys resolved, templates compiled, the batch key opened.

use std::collections::HashSet;
use std::path::PathBuf;

use super::blocks::BlockKey;
use super::distinct::{Distinct, Print};
use super::import::Import;
use crate::certs::DpChains;
use crate::config::Site;
use crate::export::records::LineFacts;
use crate::formats::bsp::kdf::HostId;
use crate::formats::bsp::segment::sealed_all_len;
use crate::formats::curve::Curve;
use crate::formats::rsp::metadata::MetadataTemplate;
use crate::formats::saip::algorithm::Algorithm;
use crate::hsm::lanes::Lanes;
use crate::hsm::{Hsm, KeyRef};
use crate::ids::OrderKey;
use crate::order::file::Line;
use crate::personalise::audit::Found;
use crate::personalise::{CompiledTemplate, Settings};
use crate::pipeline::fan_out::FanOut;
use crate::secret::SubscriberKey;
use crate::store::sealed::BatchKey;
use crate::store::{OrderPk, Store};

/// The engine of one site: the token, the ledger, the threads.
pub struct Engine<'a, H: Hsm> {
    /// The site.
    pub site: &'a Site,
    /// The open tokens; its sessions go to whichever serves.
    pub hsm: &'a H,
    /// The ledger.
    pub store: &'a dyn Store,
    /// Sessions that sign.
    pub lanes: &'a Lanes,
    /// CPU threads.
    pub cpu: &'a FanOut,
    /// Keys, resolved once.
    pub keys: Keys,
    /// Our certificates.
    pub chains: DpChains,
    /// OP of the operator; without it OPc is random.
    pub op: Option<SubscriberKey>,
    /// TOP of the operator; without it TOPc is random.
    pub top: Option<SubscriberKey>,
}

impl<H: Hsm> Engine<'_, H> {
    /// OP or TOP from which the OPc of a line's records follows, unless they bring their own.
    pub(super) fn op_of<'e>(&'e self, line: &'e LineWork) -> Option<&'e SubscriberKey> {
        match (&line.import, line.settings.algorithm) {
            (Some(import), _) => import.op.as_ref(),
            (None, Algorithm::Milenage) => self.op.as_ref(),
            (None, Algorithm::Tuak) => self.top.as_ref(),
        }
    }
}

/// The keys a batch uses.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Sign InitialiseSecureChannel, one for each curve we have chains on.
    pub dppb: Vec<DppbKey>,
    /// Seals batch keys.
    pub kek: KeyRef,
    /// Signs manifests.
    pub manifest: KeyRef,
}

/// SK.DPpb.ECDSA of one curve.
#[derive(Clone, Copy, Debug)]
pub struct DppbKey {
    /// For eUICCs on this curve.
    pub curve: Curve,
    /// The key in the token.
    pub key: KeyRef,
    /// Its public point, to check the first signature of each chunk.
    pub point: [u8; 65],
}

/// One order being worked on.
pub(super) struct OrderWork {
    /// Its row in the ledger.
    pub(super) pk: OrderPk,
    /// Its key.
    pub(super) key: OrderKey,
    /// Its lines.
    pub(super) lines: Vec<LineWork>,
    /// Seals what rests.
    pub(super) batch_key: BatchKey,
    /// The secrets of its records among each other.
    pub(super) distinct: Distinct,
    /// Curves of the eUICCs that we have DPpb chains for.
    pub(super) curves: Vec<Curve>,
    /// The bundle's directory.
    pub(super) bundle_dir: PathBuf,
    /// Where PPPs rest.
    pub(super) vault_dir: PathBuf,
}

impl OrderWork {
    /// The line of this number.
    pub(super) fn line(&self, number: u32) -> Option<&LineWork> {
        self.lines.iter().find(|line| line.number == number)
    }

    /// Why an eUICC with this one-time key gets no package: the key was compared with its certificate when it was taken in, but we have
    /// no chain on its curve (any more).
    pub(super) fn why_unserved(&self, otpk: &[u8; 65]) -> String {
        match Curve::of_point(otpk) {
            Some(curve) => format!("the eUICC is on {curve}, this site has no DPauth and DPpb on that curve"),
            None => "the one-time key is on no curve that we serve".to_owned(),
        }
    }

    /// File name in the vault of the PPPs of this chunk.
    pub(super) fn vault_object(&self, chunk: u32) -> String {
        vault_object(self.pk, chunk)
    }
}

/// File name in the vault of the PPPs of a chunk.
pub(super) fn vault_object(order: OrderPk, chunk: u32) -> String {
    format!("{}{chunk:05}.ppp", vault_prefix(order))
}

/// What the names of all of an order's files in the vault begin with.
pub(super) fn vault_prefix(order: OrderPk) -> String {
    format!("order-{}-", order.0)
}

/// One order line, compiled.
pub(super) struct LineWork {
    /// `line` of the order header.
    pub(super) number: u32,
    /// The line as it was ordered.
    pub(super) ordered: Line,
    /// The compiled template.
    pub(super) template: CompiledTemplate,
    /// What the line sets for all its records.
    pub(super) settings: Settings,
    /// The values that stand in the template.
    pub(super) template_found: Found,
    /// Fingerprints of the secrets among them.
    pub(super) template_secrets: HashSet<Print>,
    /// StoreMetadata but for the ICCID.
    pub(super) metadata: MetadataTemplate,
    /// Session keys now, or random keys and a PPP at rest.
    pub(super) binding: Binding,
    /// The operator's key of imported credentials; none where they are generated.
    pub(super) import: Option<Import>,
    /// Encrypts K and OPc for the core network.
    pub(super) transport: BlockKey,
    /// Host id of the key derivation.
    pub(super) host_id: HostId,
    /// What records say of the line.
    pub(super) facts: LineFacts,
    /// SHA-256 of the template's DER, for the manifest.
    pub(super) template_sha256: String,
    /// A sheet of QR codes was ordered.
    pub(super) qr: bool,
}

impl LineWork {
    /// About how long a package of this line is, to size chunks.
    pub(super) fn package_len(&self) -> usize {
        sealed_all_len(self.template.upp_len()) + 512
    }
}

/// When the line's profiles are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Now, with the one-time key of the key file: session keys.
    Now,
    /// Later: random keys, the PPP rests in the vault.
    Later,
}

/// Package file of a chunk in the bundle.
pub(super) fn package_object(chunk: u32) -> String {
    format!("packages-{chunk:05}.bpp")
}
