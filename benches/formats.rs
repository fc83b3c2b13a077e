//! Reading and writing the standards' bytes. Units: octets per second of a package read, one template decoded, one StoreMetadata
//! written.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use std::hint::black_box;

use bindery::formats::rsp::metadata::{MetadataTemplate, StoreMetadata};
use bindery::formats::saip::{source, types};
use bindery::formats::tlv::{Tag, check_strict, wrap};
use bindery::ids::Iccid;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn walk_one_package(c: &mut Criterion) {
    let segments: Vec<u8> = (0..13).flat_map(|_| wrap(Tag(0x86), &[&[0x5A; 1016]])).collect();
    let package = wrap(Tag(0xBF36), &[&wrap(Tag(0xA3), &[&segments])]);
    let mut group = c.benchmark_group("formats/tlv");
    group.throughput(Throughput::Bytes(package.len() as u64));
    group.bench_function("strict walk of one package of 13 segments", |b| b.iter(|| check_strict(black_box(&package))));
}

fn type_one_template(c: &mut Criterion) {
    let mut group = c.benchmark_group("formats/types");
    group.throughput(Throughput::Elements(1));
    for (name, text) in source::PRESETS {
        let der = source::build(text).unwrap();
        let typed = types::decode_all(&der).unwrap();
        group.bench_function(format!("full typed decode of {name}"), |b| {
            b.iter(|| types::decode_all(black_box(&der)).unwrap())
        });
        group.bench_function(format!("full typed encode of {name}"), |b| {
            b.iter(|| black_box(&typed).iter().flat_map(|element| element.encode().unwrap()).collect::<Vec<u8>>())
        });
        group.bench_function(format!("strict walk of {name}"), |b| b.iter(|| check_strict(black_box(&der))));
    }
}

fn write_one_metadata(c: &mut Criterion) {
    let fields = StoreMetadata {
        service_provider: "Example".to_owned(),
        profile_name: "Operational".to_owned(),
        ..StoreMetadata::default()
    };
    let template = MetadataTemplate::new(&fields).unwrap();
    let iccid = Iccid::from_body("8988211000000000000").unwrap();
    let mut group = c.benchmark_group("formats/metadata");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one StoreMetadata from its template", |b| b.iter(|| template.for_iccid(black_box(&iccid))));
}

criterion_group!(benches, walk_one_package, type_one_template, write_one_metadata);
criterion_main!(benches);
