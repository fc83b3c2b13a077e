//! The hot path allocates nothing for a record beyond its output: counted on this thread, in octets and in calls, over records of the
//! library's own path from random octets to a signed package. OpenSSL's contexts and numbers live in its own heap and are not counted.
#![allow(clippy::unwrap_used)] // a test may stop

use allocation_counter::{AllocationInfo, measure};
use bindery::bind::{Bpp, Draft, OneTimeKey, Parts, Workbench, agree};
use bindery::formats::bsp::kdf::HostId;
use bindery::formats::curve::Curve;
use bindery::formats::rsp::metadata::{MetadataTemplate, StoreMetadata};
use bindery::ids::{Eid, Iccid, Imsi, OrderKey, TransactionId};
use bindery::personalise::{CompiledTemplate, Draw, Identity, Settings, Upp, shelf};
use bindery::protect::{Ppk, Ppp, protect, protect_into};
use bindery::store::sealed::{BatchKey, Content, NONCE_LEN};
use openssl::ec::{EcKey, PointConversionForm};
use zeroize::Zeroizing;

/// Records that are counted.
const RECORDS: u64 = 64;

/// Allocations of a bound record, and what each of them is:
/// the buffer of its credentials; the UPP; its StoreMetadata; our one-time public key as OpenSSL hands it out; the package; the
/// credentials as they are laid out to be sealed; their sealed form, which the ledger keeps.
const BOUND: u64 = 7;
/// Of a stored one: credentials, UPP, PPP; both forms of the credentials; the sealed PPK.
const STORED: u64 = 6;
/// Octets beside UPP and package: the rest of the above.
const SMALL_OCTETS: u64 = 4_096;

#[test]
fn a_bound_record_allocates_its_output_and_nothing_else() {
    for preset in ["iot-minimal", "bootstrap", "operational"] {
        let mut desk = Desk::of(preset);
        let (bpp, upp_len) = desk.bound(0); // what is made once is made by the first
        let output = (bpp.as_bytes().len() + upp_len) as u64;
        let mut made = Vec::with_capacity(RECORDS as usize);
        let counted = measure(|| (0..RECORDS).for_each(|at| made.push(desk.bound(at).0)));
        assert_eq!(made.len() as u64, RECORDS);
        within(preset, &counted, BOUND, output);
        // All that is left of it are the packages.
        assert_eq!(counted.count_current, RECORDS as i64, "{preset}");
    }
}

#[test]
fn a_stored_record_allocates_its_output_and_nothing_else() {
    for preset in ["iot-minimal", "bootstrap", "operational"] {
        let mut desk = Desk::of(preset);
        let (ppp, upp_len) = desk.stored(0);
        let output = (ppp.as_bytes().len() + upp_len) as u64;
        let mut made = Vec::with_capacity(RECORDS as usize);
        let counted = measure(|| (0..RECORDS).for_each(|at| made.push(desk.stored(at).0)));
        within(preset, &counted, STORED, output);
        assert_eq!(counted.count_current, RECORDS as i64, "{preset}");
    }
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0_u8; 1_000])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 1_000));
}

fn within(preset: &str, counted: &AllocationInfo, allocations: u64, output: u64) {
    let AllocationInfo { count_total, bytes_total, .. } = *counted;
    assert!(count_total <= allocations * RECORDS, "{preset}: {} a record", count_total as f64 / RECORDS as f64);
    let most = (output + SMALL_OCTETS) * RECORDS;
    assert!(bytes_total <= most, "{preset}: {} octets a record, of {output} that go out", bytes_total / RECORDS);
}

/// What a thread works with, and one eUICC.
struct Desk {
    template: CompiledTemplate,
    workbench: Workbench,
    metadata: MetadataTemplate,
    batch_key: BatchKey,
    host_id: HostId,
    first: Iccid,
    imsi: Imsi,
    eid: Eid,
    otpk: [u8; 65],
    octets: Vec<u8>,
}

impl Desk {
    fn of(preset: &str) -> Self {
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
            workbench: Workbench::new().unwrap(),
            metadata: MetadataTemplate::new(&names).unwrap(),
            batch_key: BatchKey::from_random(&[7; 32], &order),
            host_id: HostId::new(b"smdp.example.com").unwrap(),
            first: "89000123456789012341".parse().unwrap(),
            imsi: "001010123456063".parse().unwrap(),
            eid: "89049032123451234512345678901235".parse().unwrap(),
            otpk: point.try_into().unwrap(),
            octets,
        }
    }

    /// The profile of the `at`-th record, and its secrets sealed.
    fn upp(&self, at: u64, draw: &mut Draw<'_>) -> (Upp, Vec<u8>) {
        let credentials = self.template.credentials(draw, None).unwrap();
        let iccid = self.first.plus(at).unwrap();
        let identity = Identity { iccid, imsi: Some(self.imsi), msisdn: None, vars: &[] };
        let upp = self.template.personalise(&identity, &credentials).unwrap();
        let mut form = Zeroizing::new(Vec::new());
        credentials.seal_form(&mut form);
        let nonce = draw.take::<NONCE_LEN>().unwrap();
        (upp, self.batch_key.seal(Content::Credentials, &iccid, nonce, &form).unwrap())
    }

    /// A package under session keys and the length of its profile.
    fn bound(&mut self, at: u64) -> (Bpp, usize) {
        let mut draw = Draw::new(&self.octets);
        let (upp, _sealed) = self.upp(at, &mut draw);
        let one_time = OneTimeKey::from_random(&mut self.workbench, Curve::P256, draw.take().unwrap()).unwrap();
        let agreement = agree(&mut self.workbench, one_time, &self.eid, &self.otpk, &self.host_id).unwrap();
        let metadata = self.metadata.for_iccid(&upp.iccid());
        let parts = Parts { transaction_id: &TransactionId([7; 16]), metadata: &metadata };
        let sealer = self.workbench.sealer();
        let open = Draft::session(agreement, &parts, upp.len(), sealer).unwrap();
        let draft = open.fill(|keys, start, slot| protect_into(&upp, keys, start, sealer, slot)).unwrap();
        let bpp = draft.sign(&[0x5A; 64]);
        std::hint::black_box((bpp.sha256(), upp.sha256()));
        (bpp, upp.len())
    }

    /// A profile under random keys, which are sealed beside it, and its length.
    fn stored(&mut self, at: u64) -> (Ppp, usize) {
        let mut draw = Draw::new(&self.octets);
        let (upp, _sealed) = self.upp(at, &mut draw);
        let ppk = Ppk::from_random(draw.take().unwrap());
        let ppp = protect(&upp, ppk.keys(), ppk.start(), self.workbench.sealer()).unwrap();
        let mut triple = Zeroizing::new([0; 48]);
        ppk.expose_for_sealing(&mut triple);
        let nonce = draw.take::<NONCE_LEN>().unwrap();
        let sealed = self.batch_key.seal(Content::Ppk, &upp.iccid(), nonce, &*triple).unwrap();
        std::hint::black_box((ppp.sha256(), upp.sha256(), sealed));
        (ppp, upp.len())
    }
}
