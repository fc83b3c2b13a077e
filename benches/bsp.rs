//! Sealing segments: one after the other with kept contexts, and in lanes. Units: plain octets per second, and one key derivation.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use std::hint::black_box;

use bindery::formats::bsp::SegmentKeys;
use bindery::formats::bsp::group::{GROUP, Slot};
use bindery::formats::bsp::kdf::{HostId, session_keys};
use bindery::formats::bsp::segment::{
    MAX_ENCRYPTED, MAX_MAC_ONLY, METADATA, PROFILE, Sealer, mac_only_len, sealed_all_len, sealed_len,
};
use bindery::ids::Eid;
use bindery::secret::SharedSecret;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn sealer() -> Sealer {
    let mut sealer = Sealer::new().unwrap();
    sealer.begin(&SegmentKeys::from_octets(&[0xA5; 48])).unwrap();
    sealer
}

fn seal_one_segment(c: &mut Criterion) {
    let mut group = c.benchmark_group("bsp/segment");
    group.throughput(Throughput::Bytes(MAX_ENCRYPTED as u64));
    group.bench_function("one full segment, encrypted", |b| {
        let (mut sealer, mut out) = (sealer(), vec![0; sealed_len(MAX_ENCRYPTED)]);
        b.iter(|| sealer.seal_encrypted(PROFILE, black_box(&[0x5A; MAX_ENCRYPTED]), &mut out).unwrap());
    });
    group.throughput(Throughput::Bytes(MAX_MAC_ONLY as u64));
    group.bench_function("one full segment, MAC only", |b| {
        let (mut sealer, mut out) = (sealer(), vec![0; mac_only_len(MAX_MAC_ONLY)]);
        b.iter(|| sealer.seal_mac_only(METADATA, black_box(&[0x5A; MAX_MAC_ONLY]), &mut out).unwrap());
    });
}

fn seal_one_profile(c: &mut Criterion) {
    let mut group = c.benchmark_group("bsp/profile");
    for upp_len in [550, 3_200, 12_300, 105_000] {
        let keys = SegmentKeys::from_octets(&[0xA5; 48]);
        let upp = vec![0x5A; upp_len];
        group.throughput(Throughput::Bytes(upp_len as u64));
        group.bench_function(format!("one profile of {upp_len} octets, key change included, scalar"), |b| {
            let (mut sealer, mut out) = (sealer(), vec![0; sealed_all_len(upp_len)]);
            b.iter(|| {
                sealer.begin(&keys).unwrap();
                sealer.seal_all(PROFILE, black_box(&upp), &mut out).unwrap();
            });
        });
    }
}

/// Per profile, key schedules included.
fn seal_a_group(c: &mut Criterion) {
    let mut group = c.benchmark_group("bsp/group");
    for upp_len in [550, 3_200, 12_300, 105_000] {
        let upp = vec![0x5A; upp_len];
        for packages in [1, GROUP / 2, GROUP] {
            let keys: Vec<_> = (0..packages).map(|i| SegmentKeys::from_octets(&[i as u8; 48])).collect();
            let mut rooms = vec![vec![0; sealed_all_len(upp_len)]; packages];
            group.throughput(Throughput::Bytes((packages * upp_len) as u64));
            group.bench_function(format!("{packages} profiles of {upp_len} octets at once, in lanes"), |b| {
                let mut sealer = Sealer::new().unwrap();
                b.iter(|| {
                    let slots = keys.iter().zip(&mut rooms);
                    let mut group: Vec<_> = slots.map(|(keys, room)| (&upp[..], Slot { keys, room })).collect();
                    sealer.seal_group(PROFILE, black_box(&mut group)).unwrap();
                });
            });
        }
    }
}

fn derive_session_keys(c: &mut Criterion) {
    let (shared, host_id) = (SharedSecret::new([7; 32]), HostId::new(b"smdp.example.com").unwrap());
    let eid: Eid = "89049032123451234512345678901235".parse().unwrap();
    let mut group = c.benchmark_group("bsp/kdf");
    group.throughput(Throughput::Elements(1));
    group.bench_function("session keys of one agreement", |b| {
        b.iter(|| session_keys(black_box(&shared), &host_id, &eid));
    });
}

criterion_group!(benches, seal_one_segment, seal_one_profile, seal_a_group, derive_session_keys);
criterion_main!(benches);
