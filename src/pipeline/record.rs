//! One record through the stages, each step a type: what has not happened yet cannot be asked for.
//!
//! [`Started`] (credentials drawn, keys agreed, digest known) -> [`Closing`] (personalised, secrets at rest closed) -> [`Sealed`]
//! (segments closed, UPP wiped) -> [`Finished`] (signed, ready to be written).
//!
//! A plain profile lives from [`Started::close`] to the sealing of its group, a moment later: it is made, hashed, sealed and wiped while
//! it lies in the processor's cache.

use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::audit;
use super::authenticate::{Card, Core};
use super::distinct::{BadSecret, Prints};
use super::import::{BadImport, Imported};
use super::sign::ToSign;
use super::work::{Binding, LineWork, OrderWork};
use crate::bind::{self, Agreement, BindError, Bpp, Draft, OneTimeKey, OpenDraft, PeerKey, Workbench};
use crate::error::{ErrorClass, RecordError};
use crate::formats::digest::sha256;
use crate::hsm::HsmError;
use crate::hsm::lanes::Signed;
use crate::ids::{Eid, Iccid, MatchingId, RecordId, TransactionId};
use crate::personalise::credentials::derive;
use crate::personalise::{Credentials, Draw, Identity, PersonaliseError, Upp};
use crate::protect::{Ppk, Ppp};
use crate::secret::SubscriberKey;
use crate::store::packages::Placed;
use crate::store::sealed::{BatchKey, Content, NONCE_LEN};
use crate::store::{Device, DevicePk, DeviceState, Issue, Outcome};

/// Random octets that a record takes beyond those of its credentials: matching id, transactionId, otSK.DP or PPK triple,
/// two nonces, RAND of the authentication test.
pub(super) const EXTRA_DRAW_LEN: usize = MatchingId::OWN_LEN + 16 + 48 + 2 * NONCE_LEN + 16;

/// Random octets that a profile made again takes: matching id, transactionId, otSK.DP, a nonce.
pub(super) const AGAIN_DRAW_LEN: usize =
    MatchingId::STEM_LEN + MatchingId::OWN_LEN + 16 + OneTimeKey::RANDOM_LEN + NONCE_LEN;

/// A record that ended with an error.
pub(super) struct Failed {
    pub(super) device: DevicePk,
    pub(super) error: RecordError,
    /// What it says of the others.
    pub(super) reach: Reach,
}

/// What a failed record says of the others of its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing.
    Record,
    /// It was not what it should be: the others may not be either, and only some were read back.
    Misread,
    /// Its secrets were blank: no randomness of this run can be trusted.
    Randomness,
}

/// What is secret is drawn; in prebound mode keys are agreed.
pub(super) struct Started<'d> {
    name: Name,
    line: &'d LineWork,
    device: &'d Device,
    credentials: Credentials,
    credentials_nonce: [u8; NONCE_LEN],
    prints: Prints,
    /// Of a record that is read back: its profile, ready to be authenticated.
    card: Option<Box<Card>>,
    /// Of a record whose profile was made before: it has to come out again.
    made: Option<Made>,
    issue: Issue,
    goal: Goal,
}

/// A profile that was made before.
#[derive(Clone, Copy)]
pub(super) struct Made {
    sha256: [u8; 32],
    /// What became of it.
    was: &'static str,
}

/// A record to be made.
pub(super) struct Job<'d> {
    pub(super) device: &'d Device,
    /// Its finished profile is read back.
    pub(super) is_audited: bool,
    /// K and OPc that its row brought, or why they are none; `None` where they are generated.
    pub(super) imported: Option<Result<Imported, BadImport>>,
    /// It takes the place of an exported profile: its numbers are not the order's, and it is bound now whatever its line says.
    pub(super) is_renewed: bool,
}

/// Which record this is, for its errors.
#[derive(Clone, Copy)]
pub(super) struct Name {
    device: DevicePk,
    record: RecordId,
    pub(super) iccid: Iccid,
}

/// Where the record goes.
enum Goal {
    Bound(Agreement),
    Stored { ppk: Ppk, nonce: [u8; NONCE_LEN] },
}

/// Nothing of it is in the clear any more but the profile itself, whose digest is still to be noted; see [`super::seal`].
pub(super) struct Closing {
    pub(super) name: Name,
    pub(super) issue: Issue,
    pub(super) upp: Upp,
    made: Option<Made>,
    pub(super) place: Place,
}

/// Where the sealed segments go.
pub(super) enum Place {
    /// Into a package of its size.
    Package(OpenDraft),
    /// Under keys of their own.
    Rest(Ppk),
}

/// Closed; the plain profile is gone.
pub(super) struct Sealed {
    pub(super) name: Name,
    pub(super) issue: Issue,
    pub(super) package: SealedPackage,
}

pub(super) enum SealedPackage {
    Unsigned(Draft),
    Stored(Ppp),
}

/// Final octets.
pub(super) struct Finished {
    device: DevicePk,
    issue: Issue,
    package: Package,
}

enum Package {
    Bpp(Bpp),
    Ppp(Ppp),
}

impl<'d> Started<'d> {
    /// Credentials and identifiers out of the record's own random octets and the stem of its chunk's matching ids, in prebound mode the
    /// key agreement; of a record that is read back the UPP.
    pub(super) fn new(
        bench: &mut Result<Workbench, ErrorStack>,
        (order, line): (&OrderWork, &'d LineWork),
        Job { device, is_audited, imported, is_renewed }: Job<'d>,
        (stem, octets): (&[u8; MatchingId::STEM_LEN], &[u8]),
        op: Option<&SubscriberKey>,
    ) -> Result<Self, Failed> {
        let name = Name::of(device).ok_or_else(|| Failed::bug(device, "accepted without ICCID"))?;
        let bench = bench.as_mut().map_err(|e| name.failed(e))?;
        if let Some(number) = audit::foreign_number(&line.ordered, device).filter(|_| !is_renewed) {
            let what = format!("the ledger's {number} is not the one that the order gives this row");
            return Err(name.failed_as(ErrorClass::Storage, &what, "restore state.db from its last backup"));
        }

        let mut draw = Draw::new(octets);
        let unfit = |e: PersonaliseError| name.failed_as(e.class(), &e.to_string(), e.hint());
        // OPc follows from K and OP unless the row brought its own.
        let mut op = op;
        let credentials = match imported.transpose() {
            Ok(None) => line.template.credentials(&mut draw, op),
            Ok(Some(Imported { k, opc: Some(opc) })) => {
                op = None;
                line.template.imported(&mut draw, &k, &opc)
            }
            Ok(Some(Imported { k, opc: None })) => {
                let opc =
                    op.ok_or_else(|| name.failed_as(ErrorClass::Input, "neither OPc nor OP is there", ASK_AGAIN))?;
                let opc = derive(k.expose(), opc, line.settings.algorithm);
                opc.and_then(|opc| line.template.imported(&mut draw, &k, &opc))
            }
            Err(bad) => return Err(name.failed_as(bad.class(), &bad.to_string(), ASK_AGAIN)),
        };
        let credentials = credentials.map_err(unfit)?;
        let prints = order.distinct.prints(&credentials, &line.template_secrets);
        let prints = prints.map_err(|e| {
            let reach = if matches!(e, BadSecret::Blank(_)) { Reach::Randomness } else { Reach::Record };
            Failed { reach, ..name.failed_as(ErrorClass::CryptoSelfcheck, &e.to_string(), NEVER_ISSUED) }
        })?;
        let matching_id = match &device.matching_id {
            Some(ordered) => ordered.clone(),
            None => MatchingId::from_random(stem, draw.take().map_err(unfit)?),
        };
        let transaction_id = TransactionId(*draw.take().map_err(unfit)?);
        let key_octets: &[u8; 48] = draw.take().map_err(unfit)?;
        let [ppk_nonce, credentials_nonce] = [*draw.take().map_err(unfit)?, *draw.take().map_err(unfit)?];

        let rand = *draw.take().map_err(unfit)?;
        let (mut card, mut made) = (None, None);
        if is_audited {
            let identity = name.identity(device);
            let upp = line.template.personalise(&identity, &credentials).map_err(unfit)?;
            made = Some(Made { sha256: upp.sha256(), was: "read back" });
            let found = audit::read_back((&line.settings, &line.template_found), &upp, (&identity, &credentials), op);
            let wrong = |e: &dyn std::fmt::Display| {
                let failed = name.failed_as(ErrorClass::CryptoSelfcheck, &format!("read back: {e}"), NEVER_ISSUED);
                Failed { reach: Reach::Misread, ..failed }
            };
            let found = found.map_err(|e| wrong(&e))?;
            let core = Core::ordered(&line.settings, &line.template_found, &device.vars);
            card = Some(Box::new(core.and_then(|core| Card::of(&found, core, rand)).map_err(|e| wrong(&e))?));
        }
        let mut issue = Issue { matching_id: matching_id.as_str().to_owned(), ..Issue::default() };
        let goal = match if is_renewed { Binding::Now } else { line.binding } {
            Binding::Later => Goal::Stored { ppk: Ppk::from_random(key_octets), nonce: ppk_nonce },
            Binding::Now => {
                issue.transaction_id = Some(transaction_id.0);
                Goal::Bound(name.agree((order, line), bench, device, (&transaction_id, key_octets))?)
            }
        };
        Ok(Self { name, line, device, credentials, credentials_nonce, prints, card, made, issue, goal })
    }

    /// The profile of an exported record once more, octet for octet, for the eUICC and the one-time key that `device` has now.
    /// Its credentials are those that rest under the batch key: core network, PINs and OTA keys stay as they are.
    pub(super) fn again(
        bench: &mut Result<Workbench, ErrorStack>,
        (order, line): (&OrderWork, &'d LineWork),
        device: &'d Device,
        octets: &[u8],
    ) -> Result<Self, Failed> {
        let name = Name::of(device).ok_or_else(|| Failed::bug(device, "exported without ICCID"))?;
        let bench = bench.as_mut().map_err(|e| name.failed(e))?;
        let lost = |what: &str| name.failed_as(ErrorClass::Storage, what, "restore state.db from its last backup");
        let unfit = |e: PersonaliseError| name.failed_as(e.class(), &e.to_string(), e.hint());
        let issued = device.issue.as_ref().ok_or_else(|| lost("the ledger holds no issue of it"))?;
        let sealed = issued.sealed_credentials.as_deref().ok_or_else(|| lost("its credentials were erased"))?;
        let form = order.batch_key.open(Content::Credentials, &name.iccid, sealed).map_err(|e| lost(&e.to_string()))?;
        let credentials = line.template.opened(&form).map_err(unfit)?;
        let prints = order.distinct.prints(&credentials, &line.template_secrets);
        let prints = prints.map_err(|e| name.failed_as(ErrorClass::CryptoSelfcheck, &e.to_string(), NEVER_ISSUED))?;

        let mut draw = Draw::new(octets);
        let drawn = MatchingId::from_random(draw.take().map_err(unfit)?, draw.take().map_err(unfit)?);
        // The old activation code leads nowhere any more, unless the order itself gave it.
        let matching_id = device.matching_id.clone().unwrap_or(drawn);
        let transaction_id = TransactionId(*draw.take().map_err(unfit)?);
        let key_octets: &[u8; 48] = draw.take().map_err(unfit)?;
        let credentials_nonce = *draw.take().map_err(unfit)?;

        let made = Made { sha256: issued.upp_sha256, was: "issued" };
        if sha256(&line.metadata.for_iccid(&name.iccid)) != issued.metadata_sha256 {
            return Err(name.changed(made.was));
        }
        let agreement = name.agree((order, line), bench, device, (&transaction_id, key_octets))?;
        let issue = Issue {
            matching_id: matching_id.as_str().to_owned(),
            transaction_id: Some(transaction_id.0),
            ..Issue::default()
        };
        let (card, made, goal) = (None, Some(made), Goal::Bound(agreement));
        Ok(Self { name, line, device, credentials, credentials_nonce, prints, card, made, issue, goal })
    }

    /// What the HSM signs; none for a PPP.
    pub(super) fn to_sign(&self) -> Option<ToSign> {
        match &self.goal {
            Goal::Bound(agreement) => Some(ToSign { curve: agreement.curve(), digest: agreement.digest() }),
            Goal::Stored { .. } => None,
        }
    }

    /// Its row of the order.
    pub(super) fn record(&self) -> RecordId {
        self.name.record
    }

    /// Its profile was read back and is what was ordered.
    pub(super) fn is_audited(&self) -> bool {
        self.card.is_some()
    }

    /// The row's number and why it ends here.
    pub(super) fn failed(&self, class: ErrorClass, what: &str, hint: &'static str) -> Failed {
        self.name.failed_as(class, what, hint)
    }

    /// It ends here through no fault of its own.
    pub(super) fn failed_at(&self, what: &dyn std::fmt::Display) -> Failed {
        self.name.failed(what)
    }

    /// Authenticates the profile, where it is read back, with what is about to be handed to the core network.
    pub(super) fn authenticate(&mut self, k: &[u8], opc: &[u8]) -> Result<(), Failed> {
        let Some(card) = &mut self.card else { return Ok(()) };
        card.answers(k, opc).map_err(|e| {
            let what = format!("profile and core file do not authenticate: {e}");
            self.name.failed_as(ErrorClass::CryptoSelfcheck, &what, NEVER_ISSUED)
        })
    }

    /// Fingerprints of its secrets.
    pub(super) fn prints(&self) -> &Prints {
        &self.prints
    }

    /// K, for the core network's file only.
    pub(super) fn k(&self) -> &[u8] {
        self.credentials.k()
    }

    /// OPc or TOPc, for the core network's file only.
    pub(super) fn opc(&self) -> &[u8] {
        self.credentials.opc()
    }

    /// Makes the profile and its place, closes the secrets that rest.
    pub(super) fn close(self, batch_key: &BatchKey, bench: &mut Workbench) -> Result<Closing, Failed> {
        let Self { name, line, device, credentials, credentials_nonce, made, mut issue, goal, .. } = self;
        let upp = line.template.personalise(&name.identity(device), &credentials);
        let upp = upp.map_err(|e| name.failed_as(e.class(), &e.to_string(), e.hint()))?;
        let metadata = line.metadata.for_iccid(&name.iccid);
        issue.metadata_sha256 = sha256(&metadata);
        let (len, write) = (credentials.seal_form_len(), |place: &mut Vec<u8>| credentials.seal_form(place));
        let sealed = batch_key.seal_written(Content::Credentials, &name.iccid, &credentials_nonce, len, write);
        issue.sealed_credentials = Some(sealed.map_err(|e| name.failed(&e))?);
        let place = match goal {
            Goal::Bound(agreement) => {
                let open = Draft::session(agreement, &metadata, upp.len(), bench.sealer());
                Place::Package(open.map_err(|e| name.unbound(&e))?)
            }
            Goal::Stored { ppk, nonce } => {
                let mut triple = Zeroizing::new([0; 48]);
                ppk.expose_for_sealing(&mut triple);
                let sealed = batch_key.seal(Content::Ppk, &name.iccid, &nonce, &*triple);
                issue.sealed_ppk = Some(sealed.map_err(|e| name.failed(&e))?);
                Place::Rest(ppk)
            }
        };
        Ok(Closing { name, issue, upp, made, place })
    }
}

impl Closing {
    /// The same, once its digest is noted; a profile that was made before and is another one now goes nowhere.
    pub(super) fn unchanged(self) -> Result<Self, Failed> {
        match self.made {
            Some(made) if made.sha256 != self.issue.upp_sha256 => Err(self.name.changed(made.was)),
            _ => Ok(self),
        }
    }
}

impl Sealed {
    /// Puts the signature in its place.
    pub(super) fn finish(
        self,
        signature: Option<Signed>,
        ki_enc: Vec<u8>,
        opc_enc: Vec<u8>,
    ) -> Result<Finished, Failed> {
        let Self { name, mut issue, package } = self;
        let signature = signature.transpose().map_err(|e| name.refused(&e))?;
        let package = match (package, signature) {
            (SealedPackage::Unsigned(draft), Some(signature)) => Package::Bpp(draft.sign(&signature)),
            (SealedPackage::Stored(ppp), None) => Package::Ppp(ppp),
            _ => return Err(name.failed(&"signatures and packages are out of step")),
        };
        (issue.ki_enc, issue.opc_enc) = (ki_enc, opc_enc);
        Ok(Finished { device: name.device, issue, package })
    }
}

impl Finished {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.package {
            Package::Bpp(bpp) => bpp.as_bytes(),
            Package::Ppp(ppp) => ppp.as_bytes(),
        }
    }

    pub(super) fn device(&self) -> DevicePk {
        self.device
    }

    /// For the ledger: where the octets lie now.
    pub(super) fn into_outcome(self, state: DeviceState, object: &str, placed: Placed) -> Outcome {
        Outcome::Issued { state, issue: Box::new(self.into_issue(object, placed)) }
    }

    /// What the ledger keeps of it.
    pub(super) fn into_issue(self, object: &str, Placed { offset, length, sha256 }: Placed) -> Issue {
        Issue { object: Some(object.to_owned()), offset, length, sha256, ..self.issue }
    }
}

const NEVER_ISSUED: &str = "nothing was issued for this record; run `bindery doctor` before more is";
/// What to do for an eUICC of a curve that we have no chain on.
const CHAINS: &str = "install DPauth and DPpb chains on the eUICC's curve";
const ASK_AGAIN: &str =
    "nothing was issued for this record; ask the operator for its credentials again and order it anew";
const AGAIN: &str = "nothing was issued for this record; if it happens again, report it with the log";

impl Failed {
    /// Something that cannot be unless Bindery is wrong.
    pub(super) fn bug(device: &Device, what: &str) -> Self {
        let record = RecordId { line: device.line, row: device.row };
        let error = RecordError { record, class: ErrorClass::Internal, what: what.to_owned(), hint: AGAIN };
        Self { device: device.pk, error, reach: Reach::Record }
    }
}

impl Name {
    /// None without ICCID, which an accepted device line always has.
    pub(super) fn of(device: &Device) -> Option<Self> {
        let record = RecordId { line: device.line, row: device.row };
        device.iccid.map(|iccid| Self { device: device.pk, record, iccid })
    }

    /// Who it is to become.
    fn identity<'d>(&self, device: &'d Device) -> Identity<'d> {
        Identity { iccid: self.iccid, imsi: device.imsi, msisdn: device.msisdn.as_deref(), vars: &device.vars }
    }

    /// Session keys with the eUICC of the device line.
    fn agree(
        &self,
        work: (&OrderWork, &LineWork),
        bench: &mut Workbench,
        device: &Device,
        own: (&TransactionId, &[u8; OneTimeKey::RANDOM_LEN]),
    ) -> Result<Agreement, Failed> {
        let (Some(eid), Some(otpk)) = (&device.eid, &device.euicc_otpk) else {
            return Err(self.failed_as(ErrorClass::Eligibility, "no EID or no one-time key", "order it in mode order"));
        };
        self.agreement(work, bench, (eid, otpk), own)
    }

    /// Session keys between a fresh one-time key of ours and the eUICC's, which decides the curve.
    pub(super) fn agreement(
        &self,
        (order, line): (&OrderWork, &LineWork),
        bench: &mut Workbench,
        (eid, otpk): (&Eid, &[u8; 65]),
        (transaction_id, key_octets): (&TransactionId, &[u8; OneTimeKey::RANDOM_LEN]),
    ) -> Result<Agreement, Failed> {
        let peer = PeerKey::read(bench, &order.curves, otpk)
            .ok_or_else(|| self.failed_as(ErrorClass::Eligibility, &order.why_unserved(otpk), CHAINS))?;
        let one_time = OneTimeKey::from_random(bench, peer.curve(), key_octets).map_err(|e| self.unbound(&e))?;
        bind::agree(bench, one_time, (eid, &peer), (&line.host_id, transaction_id)).map_err(|e| self.unbound(&e))
    }

    /// Made again, the profile came out different.
    fn changed(&self, was: &str) -> Failed {
        self.failed_as(ErrorClass::CryptoSelfcheck, &format!("the profile is not the one that was {was}"), AGAIN)
    }

    /// No package came of it.
    pub(super) fn unbound(&self, error: &BindError) -> Failed {
        self.failed_as(ErrorClass::CryptoSelfcheck, &error.to_string(), error.hint())
    }

    pub(super) fn failed(&self, what: &dyn std::fmt::Display) -> Failed {
        self.failed_as(ErrorClass::Internal, &what.to_string(), AGAIN)
    }

    /// The token would not work on this record's data.
    pub(super) fn refused(&self, error: &HsmError) -> Failed {
        self.failed_as(ErrorClass::HsmMech, &error.to_string(), error.hint)
    }

    pub(super) fn failed_as(&self, class: ErrorClass, what: &str, hint: &'static str) -> Failed {
        let error = RecordError { record: self.record, class, what: what.to_owned(), hint };
        Failed { device: self.device, error, reach: Reach::Record }
    }
}
