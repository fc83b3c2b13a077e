//! From values to a UPP. Unit: one profile.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use bindery::personalise::{CompiledTemplate, Draw, Identity, Settings, audit, shelf};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn templates(c: &mut Criterion) {
    for preset in ["iot-minimal", "bootstrap", "operational", "applet"] {
        let der = shelf::preset(preset).unwrap().unwrap();
        let template = CompiledTemplate::compile(&der, &Settings::default()).unwrap();
        let random = vec![0x5A; template.draw_len()];
        let credentials = template.credentials(&mut Draw::new(&random), None).unwrap();
        let (iccid, imsi) = ("89000123456789012341".parse().unwrap(), "001010123456063".parse().unwrap());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let mut group = c.benchmark_group(format!("personalise/{preset}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("compile the template", |b| {
            b.iter(|| CompiledTemplate::compile(&der, &Settings::default()).unwrap());
        });
        group.bench_function("credentials of one profile out of random octets", |b| {
            b.iter(|| template.credentials(&mut Draw::new(&random), None).unwrap());
        });
        group.bench_function("one UPP", |b| b.iter(|| template.personalise(&identity, &credentials).unwrap()));
        let upp = template.personalise(&identity, &credentials).unwrap();
        group.bench_function("audit of one UPP", |b| b.iter(|| audit::read(upp.expose()).unwrap()));
    }
}

criterion_group!(benches, templates);
criterion_main!(benches);
