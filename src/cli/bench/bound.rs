//! Binding in memory: the library's own path from a profile and an eUICC's one-time key to finished packages, without ledger and
//! files. Each thread has its workbench and its signer.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use openssl::bn::BigNumContext;
use openssl::ec::{EcKey, PointConversionForm};

use super::counted::Calls;
use super::crew::Crew;
use super::{Sign, Signers, Template, failed, refused};
use crate::bind::{Agreement, BindError, Draft, OneTimeKey, OpenDraft, PeerKey, Workbench, agree};
use crate::error::Fault;
use crate::formats::bsp::group::GROUP;
use crate::formats::bsp::kdf::HostId;
use crate::formats::curve::Curve;
use crate::formats::rsp::metadata::{MetadataTemplate, StoreMetadata};
use crate::hsm::HsmError;
use crate::ids::{Eid, Iccid, TransactionId};
use crate::personalise::Upp;
use crate::protect::{Ppk, Ppp, ProtectError, ppp_len, protect, protect_all_into};

/// Microseconds of one thread per bound profile.
pub(super) struct Bound {
    /// Profile sealed under session keys.
    pub(super) session_us: f64,
    /// Stored PPP.
    pub(super) stored_us: f64,
    /// Signatures asked of the token per bound profile, counted.
    pub(super) signatures_per_bind: f64,
    /// Other calls of the token per bound profile, counted.
    pub(super) other_calls_per_bind: f64,
}

impl Bound {
    pub(super) fn measure(
        signers: &impl Signers,
        workload: &Template,
        crew: &Crew,
        window: Duration,
    ) -> Result<Self, Fault> {
        let tally = &Tally::default();
        let session_us = session_us(signers, workload, crew, window, tally)?;
        let stored_us = crew.us_per_op(window, &|| {
            let (mut desk, mut signer) = (Desk::new(workload)?, signers.open().map_err(refused)?);
            let stored = desk.protect(&workload.upp).map_err(failed)?;
            Ok(move || {
                let bound = desk.stored(&stored, &mut signer).map_err(failed)?;
                Ok(tally.add(bound, signer.calls()))
            })
        })?;
        let per_bind = |calls: &AtomicU64| calls.load(Relaxed) as f64 / tally.packages.load(Relaxed) as f64;
        let [signatures_per_bind, other_calls_per_bind] = [per_bind(&tally.signatures), per_bind(&tally.others)];
        Ok(Self { session_us, stored_us, signatures_per_bind, other_calls_per_bind })
    }
}

/// Bound profiles a second of a crew, under session keys.
pub(super) fn session_per_s(
    signers: &impl Signers,
    workload: &Template,
    crew: &Crew,
    window: Duration,
) -> Result<f64, Fault> {
    let us = session_us(signers, workload, crew, window, &Tally::default())?;
    Ok(crew.threads() as f64 * 1e6 / us)
}

fn session_us(
    signers: &impl Signers,
    workload: &Template,
    crew: &Crew,
    window: Duration,
    tally: &Tally,
) -> Result<f64, Fault> {
    crew.us_per_op(window, &|| {
        let (mut desk, mut signer) = (Desk::new(workload)?, signers.open().map_err(refused)?);
        Ok(move || {
            let bound = desk.session(&workload.upp, &mut signer).map_err(failed)?;
            Ok(tally.add(bound, signer.calls()))
        })
    })
}

/// Records of a batch: first all agreements, then all signatures, then all segments; but no more than a core's cache holds, and
/// never less than the group that the engine seals at once.
fn batch(upp_len: usize) -> usize {
    const CACHE: usize = 256 * 1024;
    (CACHE / ppp_len(upp_len)).clamp(GROUP, 16)
}

/// What one thread works with.
pub(super) struct Desk {
    curve: Curve,
    workbench: Workbench,
    host_id: HostId,
    metadata: MetadataTemplate,
    iccid: Iccid,
    euiccs: Vec<(Eid, [u8; 65])>,
    next: usize,
    batch: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Protect(#[from] ProtectError),
    #[error(transparent)]
    OpenSsl(#[from] openssl::error::ErrorStack),
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

impl Desk {
    pub(super) fn new(workload: &Template) -> Result<Self, Fault> {
        let fields = StoreMetadata {
            service_provider: "Bindery".to_owned(),
            profile_name: "Benchmark".to_owned(),
            ..StoreMetadata::default()
        };
        Ok(Self {
            curve: workload.curve,
            workbench: Workbench::new().map_err(failed)?,
            host_id: HostId::new(b"smdp.example.com").ok_or_else(|| failed("host id"))?,
            metadata: MetadataTemplate::new(&fields).map_err(failed)?,
            iccid: Iccid::from_body("8988211000000000000").map_err(failed)?,
            euiccs: (0..64).map(|index| euicc(index, workload.curve)).collect::<Result<_, _>>()?,
            next: 0,
            batch: batch(workload.upp.len()),
        })
    }

    fn protect(&mut self, upp: &Upp) -> Result<(Ppk, Ppp), Failure> {
        let ppk = Ppk::from_random(&std::array::from_fn(|i| i as u8));
        let ppp = protect(upp, ppk.keys(), self.workbench.sealer())?;
        Ok((ppk, ppp))
    }

    fn agree(&mut self) -> Result<Agreement, BindError> {
        self.next = (self.next + 1) % self.euiccs.len();
        let (eid, otpk) = self.euiccs[self.next];
        let mut random = [0x11; OneTimeKey::RANDOM_LEN];
        openssl::rand::rand_bytes(&mut random)?;
        let one_time = OneTimeKey::from_random(&mut self.workbench, self.curve, &random)?;
        let peer = PeerKey::read(&mut self.workbench, &[self.curve], &otpk)
            .ok_or(BindError::NotOnCurve { curve: self.curve.as_str() })?;
        agree(&mut self.workbench, one_time, (&eid, &peer), (&self.host_id, &TransactionId([7; 16])))
    }

    /// Agreed and ready to be signed.
    pub(super) fn agree_all(&mut self, count: usize) -> Result<Vec<Agreement>, BindError> {
        let mut agreed = Vec::with_capacity(count);
        for _ in 0..count {
            agreed.push(self.agree()?);
        }
        Ok(agreed)
    }

    /// A package of each agreement around the profile.
    pub(super) fn seal_all(&mut self, upp: &Upp, agreed: Vec<Agreement>) -> Result<Vec<Draft>, Failure> {
        let mut open = Vec::with_capacity(agreed.len());
        for agreement in agreed {
            let metadata = self.metadata.for_iccid(&self.iccid);
            open.push(Draft::session(agreement, &metadata, upp.len(), self.workbench.sealer())?);
        }
        let sealer = self.workbench.sealer();
        Ok(OpenDraft::fill_all(open, |slots| protect_all_into(slots.map(|slot| (upp, slot)), sealer))?)
    }

    fn session(&mut self, upp: &Upp, signer: &mut impl Sign) -> Result<u32, Failure> {
        let agreed = self.agree_all(self.batch)?;
        let signatures: Result<Vec<_>, _> = agreed.iter().map(|agreement| signer.sign(&agreement.digest())).collect();
        for (draft, signature) in self.seal_all(upp, agreed)?.into_iter().zip(signatures?) {
            black_box(draft.sign(&signature));
        }
        Ok(self.batch as u32)
    }

    fn stored(&mut self, (ppk, ppp): &(Ppk, Ppp), signer: &mut impl Sign) -> Result<u32, Failure> {
        let mut drafts = Vec::with_capacity(self.batch);
        for _ in 0..self.batch {
            let agreement = self.agree()?;
            let metadata = self.metadata.for_iccid(&self.iccid);
            drafts.push(Draft::stored(agreement, &metadata, ppk, ppp, self.workbench.sealer())?);
        }
        let signatures: Result<Vec<_>, _> = drafts.iter().map(|draft| signer.sign(&draft.digest())).collect();
        for (draft, signature) in drafts.into_iter().zip(signatures?) {
            black_box(draft.sign(&signature));
        }
        Ok(self.batch as u32)
    }
}

/// EID and one-time key of the `index`-th eUICC; nobody keeps the private one.
fn euicc(index: u32, curve: Curve) -> Result<(Eid, [u8; 65]), Fault> {
    let group = curve.group().map_err(failed)?;
    let key = EcKey::generate(group).map_err(failed)?;
    let mut numbers = BigNumContext::new().map_err(failed)?;
    let point = key.public_key().to_bytes(group, PointConversionForm::UNCOMPRESSED, &mut numbers).map_err(failed)?;
    let point = point.try_into().map_err(|_| failed("a point of another size"))?;
    Ok((Eid::from_body(&format!("89049032{index:022}")).map_err(failed)?, point))
}

#[derive(Default)]
struct Tally {
    packages: AtomicU64,
    signatures: AtomicU64,
    others: AtomicU64,
}

impl Tally {
    /// Once a batch, so that threads do not meet here often.
    fn add(&self, packages: u32, calls: Calls) -> u32 {
        self.packages.fetch_add(u64::from(packages), Relaxed);
        self.signatures.fetch_add(calls.signatures, Relaxed);
        self.others.fetch_add(calls.others, Relaxed);
        packages
    }
}
