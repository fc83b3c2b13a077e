//! The token (SoftHSM in a throwaway site). Unit: one call unless the name says otherwise.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use std::sync::Arc;

use bindery::certs::Curve;
use bindery::cli::init::create_demo;
use bindery::hsm::lanes::Lanes;
use bindery::hsm::pkcs11::Token;
use bindery::hsm::{Hsm, HsmSession, Role, draw};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn token(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let site = create_demo(&dir.path().join("site")).unwrap();
    let token = Arc::new(Token::open(&site).unwrap());
    let [dppb, kek, core] = [Role::DpPb(Curve::P256), Role::SiteKek, Role::Transport("core-demo".to_owned())]
        .map(|role| token.key(&role).unwrap());
    let mut session = token.open_session().unwrap();

    let mut group = c.benchmark_group("hsm");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sign one digest", |b| b.iter(|| session.sign(dppb, &[0xD1; 32]).unwrap()));
    group.bench_function("seal and open 32 octets under the KEK", |b| {
        b.iter(|| {
            let sealed = session.seal(kek, b"bench", &[7; 32]).unwrap();
            session.open(kek, b"bench", &sealed).unwrap()
        });
    });
    group.throughput(Throughput::Bytes(4_096));
    let mut octets = vec![0; 4_096];
    group.bench_function("4 KiB of random octets", |b| b.iter(|| session.random(&mut octets).unwrap()));
    group.bench_function("4 KiB of random octets of both sources", |b| {
        b.iter(|| draw::fill_random(&mut session, &mut octets).unwrap());
    });
    group.throughput(Throughput::Elements(256));
    group.bench_function("K and OPc of 256 records under the transport key", |b| {
        b.iter(|| session.encrypt_blocks(core, &[0x5A; 256 * 32]).unwrap());
    });
    let lanes = Lanes::start(&token, 2).unwrap();
    let digests = vec![[0xD1; 32]; 256];
    group.bench_function("256 signatures on two lanes", |b| b.iter(|| lanes.submit(dppb, digests.clone()).wait()));
}

criterion_group!(benches, token);
criterion_main!(benches);
