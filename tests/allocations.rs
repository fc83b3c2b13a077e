//! The hot path allocates nothing for a record beyond its output and what has to outlive a step: counted on this thread, in calls and in
//! octets, over the library's own path from random octets to a package. OpenSSL's contexts and numbers live in its own heap and are not
//! counted; nor are the lists that the caller keeps.
#![allow(clippy::unwrap_used)] // a test may stop

use allocation_counter::{AllocationInfo, measure};
use bindery::bind::{Bpp, Draft, OneTimeKey, OpenDraft, PeerKey, Workbench, agree};
use bindery::formats::bsp::group::GROUP;
use bindery::formats::bsp::kdf::HostId;
use bindery::formats::curve::Curve;
use bindery::formats::digest::sha256;
use bindery::formats::rsp::metadata::{MetadataTemplate, StoreMetadata};
use bindery::ids::{Eid, Iccid, Imsi, OrderKey, TransactionId};
use bindery::personalise::{CompiledTemplate, Draw, Identity, Settings, Upp, shelf};
use bindery::protect::{Ppk, Ppp, protect, protect_all, protect_all_into, protect_into};
use bindery::secret::SubscriberKey;
use bindery::store::sealed::{BatchKey, Content, NONCE_LEN};
use openssl::ec::{EcKey, PointConversionForm};
use zeroize::Zeroizing;

/// The profiles of W1, W2 and W3.
const PRESETS: [&str; 3] = ["iot-minimal", "bootstrap", "operational"];
/// Records that are counted.
const RECORDS: u64 = 32;

/// Allocations of a record until its profile can be sealed. Output:
///
/// 1. its sealed credentials, which the ledger keeps;
/// 2. the package, whose buffer is there from the key agreement on (of a stored record: the sealed PPK, which the ledger keeps).
///
/// What outlives the step that makes it, wiped and of exact size:
///
/// 3. its credentials: profile, core network and seal at rest read them;
/// 4. the UPP, which waits until it can be sealed in a group;
/// 5. its keys and the state of its chain, in one place, so that moving them leaves no copy.
///
/// And of a bound record
///
/// 6. otPK.DP: OpenSSL's binding for Rust hands a point out in no other way than in a buffer of its own.
const BOUND: u64 = 6;
/// The same without 6; with the PPP, which is made when it is sealed, they are as many.
const STORED: u64 = 5 + 1;
/// Octets of `MCV || ENC || MAC`, and of an uncompressed point.
const KEYS: u64 = 48;
const POINT: u64 = 65;

#[test]
fn a_bound_record_allocates_its_output_and_what_is_named_above() {
    for (preset, op) in PRESETS.into_iter().flat_map(|preset| [(preset, false), (preset, true)]) {
        let mut desk = Desk::of(preset, op);
        let octets = desk.bound(0).1; // what is made once is made by the first
        let mut made = Vec::with_capacity(RECORDS as usize);
        let counted = measure(|| (1..=RECORDS).for_each(|at| made.push(desk.bound(at).0)));
        assert_eq!(of_each(&counted, RECORDS), (BOUND, octets + POINT), "{preset}, OP: {op}");
        // All that is left of it are the packages.
        assert_eq!(counted.count_current, RECORDS as i64, "{preset}");
    }
}

#[test]
fn a_stored_record_allocates_its_output_and_what_is_named_above() {
    for preset in PRESETS {
        let mut desk = Desk::of(preset, false);
        let octets = desk.stored(0).1;
        let mut made = Vec::with_capacity(RECORDS as usize);
        let counted = measure(|| (1..=RECORDS).for_each(|at| made.push(desk.stored(at).0)));
        assert_eq!(of_each(&counted, RECORDS), (STORED, octets), "{preset}");
        assert_eq!(counted.count_current, RECORDS as i64, "{preset}");
    }
}

/// `bindery run` seals its packages so, up to [`GROUP`] at once.
#[test]
fn a_group_of_bound_records_allocates_two_lists_however_many_they_are() {
    for (preset, records) in PRESETS.into_iter().flat_map(|preset| (1..=GROUP).map(move |records| (preset, records))) {
        let mut desk = Desk::of(preset, false);
        let mut group = |counts: &mut Vec<AllocationInfo>| {
            let (mut upps, mut open) = (Vec::with_capacity(records), Vec::with_capacity(records));
            counts.push(measure(|| {
                (0..records as u64).for_each(|at| {
                    let (upp, draft, _) = desk.open(at);
                    upps.push(upp);
                    open.push(draft);
                });
            }));
            let sealer = desk.workbench.sealer();
            let mut drafts = Vec::new();
            counts.push(measure(|| {
                drafts = OpenDraft::fill_all(open, |slots| protect_all_into(upps.iter().zip(slots), sealer)).unwrap();
            }));
            let mut bpps = Vec::with_capacity(records);
            counts.push(measure(|| bpps.extend(drafts.drain(..).map(|draft| draft.sign(&[0x5A; 64])))));
            bpps.iter().map(|bpp| bpp.as_bytes().len()).sum::<usize>()
        };
        let mut counts = Vec::with_capacity(6);
        assert_eq!(group(&mut counts), group(&mut counts), "{preset}: the first group makes what is made once");
        let [opened, sealed, signed] = [3, 4, 5].map(|step| counts[step].count_total);
        assert_eq!(opened, BOUND * records as u64, "{preset}, {records} records");
        assert_eq!(signed, 0, "{preset}, {records} records");
        // Which profile goes where, and the list of the drafts, which may be that of the open ones again.
        assert!(sealed <= 2, "{preset}, {records} records: {sealed}");
    }
}

#[test]
fn a_group_of_stored_records_allocates_two_lists_however_many_they_are() {
    for (preset, records) in PRESETS.into_iter().flat_map(|preset| (1..=GROUP).map(move |records| (preset, records))) {
        let mut desk = Desk::of(preset, false);
        let group = |desk: &mut Desk| {
            let mut profiles = Vec::with_capacity(records);
            let personalised = measure(|| {
                (0..records as u64).for_each(|at| {
                    let (upp, ppk, _) = desk.at_rest(at);
                    profiles.push((upp, ppk));
                });
            });
            let sealed =
                measure(|| drop(std::hint::black_box(protect_all(&profiles, desk.workbench.sealer()).unwrap())));
            (personalised.count_total, sealed.count_total)
        };
        group(&mut desk);
        let records = records as u64;
        // The PPPs; the list of them, and which profile goes where.
        assert_eq!(group(&mut desk), ((STORED - 1) * records, records + 2), "{preset}, {records} records");
    }
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0_u8; 1_000])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 1_000));
}

/// Calls and octets; every record takes the same.
fn of_each(counted: &AllocationInfo, records: u64) -> (u64, u64) {
    assert_eq!(counted.count_total % records, 0, "{} calls", counted.count_total);
    (counted.count_total / records, counted.bytes_total / records)
}

/// What a thread works with, and one eUICC.
struct Desk {
    template: CompiledTemplate,
    op: Option<SubscriberKey>,
    workbench: Workbench,
    metadata: MetadataTemplate,
    batch_key: BatchKey,
    host_id: HostId,
    first: Iccid,
    first_imsi: Imsi,
    eid: Eid,
    otpk: [u8; 65],
    octets: Vec<u8>,
}

impl Desk {
    fn of(preset: &str, with_op: bool) -> Self {
        let der = shelf::preset(preset).unwrap().unwrap();
        let template = CompiledTemplate::compile(&der, &Settings::default()).unwrap();
        let mut octets = vec![0; template.draw_len() + OneTimeKey::RANDOM_LEN + 2 * NONCE_LEN];
        openssl::rand::rand_bytes(&mut octets).unwrap();
        let names = StoreMetadata {
            service_provider: "Acme".to_owned(),
            profile_name: "Acme".to_owned(),
            ..StoreMetadata::default()
        };
        let order = OrderKey { tenant: "acme".parse().unwrap(), order_id: "PO-1".parse().unwrap(), rev: 1 };
        let group = Curve::P256.group().unwrap();
        let mut numbers = openssl::bn::BigNumContext::new().unwrap();
        let key = EcKey::generate(group).unwrap();
        let point = key.public_key().to_bytes(group, PointConversionForm::UNCOMPRESSED, &mut numbers).unwrap();
        Self {
            template,
            op: with_op.then(|| SubscriberKey::copy_of(&[0x11; 16]).unwrap()),
            workbench: Workbench::new().unwrap(),
            metadata: MetadataTemplate::new(&names).unwrap(),
            batch_key: BatchKey::from_random(&[7; 32], &order),
            host_id: HostId::new(b"smdp.example.com").unwrap(),
            first: "89000123456789012341".parse().unwrap(),
            first_imsi: "001010123456063".parse().unwrap(),
            eid: "89049032123451234512345678901235".parse().unwrap(),
            otpk: point.try_into().unwrap(),
            octets,
        }
    }

    /// The profile of the `at`-th record, its secrets sealed, and the octets of credentials, profile and seal.
    fn upp(&self, at: u64, draw: &mut Draw<'_>) -> (Upp, u64) {
        let credentials = self.template.credentials(draw, self.op.as_ref()).unwrap();
        let (iccid, imsi) = (self.first.plus(at).unwrap(), self.first_imsi.plus(at).unwrap());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let upp = self.template.personalise(&identity, &credentials).unwrap();
        let nonce = draw.take::<NONCE_LEN>().unwrap();
        let (len, write) = (credentials.seal_form_len(), |place: &mut Vec<u8>| credentials.seal_form(place));
        let sealed = self.batch_key.seal_written(Content::Credentials, &iccid, nonce, len, write).unwrap();
        std::hint::black_box(upp.sha256());
        let secrets: usize = credentials.each().map(|(_, secret)| secret.len()).sum();
        let octets = secrets + upp.len() + sealed.len();
        (upp, octets as u64)
    }

    /// Agreed and ready for its profile.
    fn open(&mut self, at: u64) -> (Upp, OpenDraft, u64) {
        let mut draw = Draw::new(&self.octets);
        let (upp, octets) = self.upp(at, &mut draw);
        let one_time = OneTimeKey::from_random(&mut self.workbench, Curve::P256, draw.take().unwrap()).unwrap();
        let peer = PeerKey::read(&mut self.workbench, &[Curve::P256], &self.otpk).unwrap();
        let agreement =
            agree(&mut self.workbench, one_time, (&self.eid, &peer), (&self.host_id, &TransactionId([7; 16]))).unwrap();
        let metadata = self.metadata.for_iccid(&upp.iccid());
        let open = Draft::session(agreement, &metadata, upp.len(), self.workbench.sealer()).unwrap();
        (upp, open, octets + KEYS)
    }

    /// A package under session keys; the octets that it took but for otPK.DP.
    fn bound(&mut self, at: u64) -> (Bpp, u64) {
        let (upp, open, octets) = self.open(at);
        let sealer = self.workbench.sealer();
        let draft = open.fill(|keys, slot| protect_into(&upp, keys, sealer, slot)).unwrap();
        let bpp = draft.sign(&[0x5A; 64]);
        std::hint::black_box(sha256(bpp.as_bytes()));
        let octets = octets + bpp.as_bytes().len() as u64;
        (bpp, octets)
    }

    /// A profile and the random keys for it, which are sealed.
    fn at_rest(&mut self, at: u64) -> (Upp, Ppk, u64) {
        let mut draw = Draw::new(&self.octets);
        let (upp, octets) = self.upp(at, &mut draw);
        let ppk = Ppk::from_random(draw.take().unwrap());
        let mut triple = Zeroizing::new([0; 48]);
        ppk.expose_for_sealing(&mut triple);
        let nonce = draw.take::<NONCE_LEN>().unwrap();
        let sealed = self.batch_key.seal(Content::Ppk, &upp.iccid(), nonce, &*triple).unwrap();
        (upp, ppk, octets + KEYS + sealed.len() as u64)
    }

    /// A profile under random keys, and the octets that it took.
    fn stored(&mut self, at: u64) -> (Ppp, u64) {
        let (upp, ppk, octets) = self.at_rest(at);
        let ppp = protect(&upp, ppk.keys(), self.workbench.sealer()).unwrap();
        std::hint::black_box(sha256(ppp.as_bytes()));
        let octets = octets + ppp.len() as u64;
        (ppp, octets)
    }
}
