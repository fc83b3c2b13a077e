//! Binding without the token's signature. Unit: one bound profile, one key agreement.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use bindery::bind::{Agreement, Bpp, Draft, OneTimeKey, PeerKey, Workbench, agree};
use bindery::formats::bsp::kdf::HostId;
use bindery::formats::curve::Curve;
use bindery::formats::rsp::metadata::StoreMetadata;
use bindery::ids::{Eid, TransactionId};
use bindery::personalise::Upp;
use bindery::protect::{Ppk, protect, protect_into};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const UPP_LEN: usize = 12_300;

struct Desk {
    curve: Curve,
    workbench: Workbench,
    host_id: HostId,
    eid: Eid,
    otpk_euicc: [u8; 65],
    metadata: Vec<u8>,
}

impl Desk {
    fn new(curve: Curve) -> Self {
        let workbench = Workbench::new().unwrap();
        let host_id = HostId::new(b"smdp.example.com").unwrap();
        let eid = "89049032123451234512345678901235".parse().unwrap();
        // Any point of the curve serves as the eUICC's key: take the generator.
        let generator = match curve {
            Curve::P256 => {
                "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
            }
            Curve::Brainpool => {
                "048bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262\
                 547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997"
            }
        };
        let otpk_euicc = data_encoding::HEXLOWER.decode(generator.as_bytes()).unwrap().try_into().unwrap();
        let metadata = StoreMetadata::default().encode(&"89000123456789012341".parse().unwrap()).unwrap();
        Self { curve, workbench, host_id, eid, otpk_euicc, metadata }
    }

    fn agree(&mut self) -> Agreement {
        let one_time = OneTimeKey::from_random(&mut self.workbench, self.curve, &[0x3D; 48]).unwrap();
        let peer = PeerKey::read(&mut self.workbench, &[self.curve], &self.otpk_euicc).unwrap();
        agree(&mut self.workbench, one_time, (&self.eid, &peer), (&self.host_id, &TransactionId([7; 16]))).unwrap()
    }
}

fn agree_once(c: &mut Criterion) {
    let mut group = c.benchmark_group("bind/agree");
    group.throughput(Throughput::Elements(1));
    for curve in Curve::ALL {
        let mut desk = Desk::new(curve);
        let name = format!("one-time key, ECDH and session keys of one package, {curve}");
        group.bench_function(name, |b| b.iter(|| desk.agree()));
    }
}

fn bind_once(c: &mut Criterion) {
    let mut desk = Desk::new(Curve::P256);
    let upp = Upp::from_plain_for_tests(vec![0x5A; UPP_LEN], "89000123456789012341".parse().unwrap());
    let mut group = c.benchmark_group("bind/package");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one package of a 12,300-octet profile, session keys, after the agreement", |b| {
        let mut agreements = Desk::new(Curve::P256);
        b.iter_batched(
            || agreements.agree(),
            |agreement| -> Bpp {
                let sealer = desk.workbench.sealer();
                let open = Draft::session(agreement, &desk.metadata, upp.len(), sealer).unwrap();
                let draft = open.fill(|keys, slot| protect_into(&upp, keys, sealer, slot)).unwrap();
                draft.sign(&[0x51; 64])
            },
            BatchSize::SmallInput,
        );
    });
    let ppk = Ppk::from_random(&[0xA5; 48]);
    let ppp = protect(&upp, ppk.keys(), desk.workbench.sealer()).unwrap();
    group.bench_function("one package of a 12,300-octet profile, stored PPP, after the agreement", |b| {
        let mut agreements = Desk::new(Curve::P256);
        b.iter_batched(
            || agreements.agree(),
            |agreement| -> Bpp {
                Draft::stored(agreement, &desk.metadata, &ppk, &ppp, desk.workbench.sealer()).unwrap().sign(&[0x51; 64])
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, agree_once, bind_once);
criterion_main!(benches);
