//! From values to a UPP, beside what a full typed decode of that UPP costs. Unit: one profile. W1 to W4 are the workloads of the
//! project: `iot-minimal`, `bootstrap`, `operational`, `applet`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use bindery::formats::saip::types;
use bindery::personalise::{CompiledTemplate, Draw, Identity, Settings, VarSource, audit, shelf};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn templates(c: &mut Criterion) {
    for (workload, preset) in [("W1", "iot-minimal"), ("W2", "bootstrap"), ("W3", "operational"), ("W4", "applet")] {
        let der = shelf::preset(preset).unwrap().unwrap();
        let settings = Settings::default();
        let template = CompiledTemplate::compile(&der, &settings).unwrap();
        let random: Vec<u8> = (0..template.draw_len()).map(|i| (i * 37 + 11) as u8).collect();
        let credentials = template.credentials(&mut Draw::new(&random), None).unwrap();
        let (iccid, imsi) = ("89000123456789012341".parse().unwrap(), "001010123456063".parse().unwrap());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let mut group = c.benchmark_group(format!("personalise/{workload} {preset}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("compile the template", |b| {
            b.iter(|| CompiledTemplate::compile(&der, &settings).unwrap());
        });
        group.bench_function("credentials of one profile out of random octets", |b| {
            b.iter(|| template.credentials(&mut Draw::new(&random), None).unwrap());
        });
        group.bench_function("one UPP", |b| b.iter(|| template.personalise(&identity, &credentials).unwrap()));
        let upp = template.personalise(&identity, &credentials).unwrap();
        group.bench_function("full typed decode of one UPP", |b| b.iter(|| types::decode_all(upp.expose()).unwrap()));
        let found = audit::read(&der).unwrap();
        let expected = audit::Expected {
            identity: &identity,
            settings: &settings,
            credentials: &credentials,
            template: Some(&found),
            op: None,
        };
        group.bench_function("audit of one UPP", |b| b.iter(|| audit::check(upp.expose(), &expected).unwrap()));
    }
}

/// W3 with values that differ per record: in files, which keep their length, and in a member that changes the length of its element.
fn variables(c: &mut Criterion) {
    let der = shelf::preset("operational").unwrap().unwrap();
    let mut group = c.benchmark_group("personalise/W3 operational");
    group.throughput(Throughput::Elements(1));
    let values = [("spn", "Fleet 7"), ("gid1", "0A0B"), ("routing_indicator", "17"), ("sqn", "00000000002A")];
    for (name, values) in [("three variables in files", &values[..3]), ("these and sqn", &values[..])] {
        let settings = Settings {
            vars: values.iter().map(|(name, _)| ((*name).to_owned(), VarSource::PerRecord)).collect(),
            ..Settings::default()
        };
        let template = CompiledTemplate::compile(&der, &settings).unwrap();
        let random = vec![0x5A; template.draw_len()];
        let credentials = template.credentials(&mut Draw::new(&random), None).unwrap();
        let vars: Vec<_> = values.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (iccid, imsi) = ("89000123456789012341".parse().unwrap(), "001010123456063".parse().unwrap());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &vars };
        group.bench_function(format!("one UPP with {name}"), |b| {
            b.iter(|| template.personalise(&identity, &credentials).unwrap());
        });
    }
}

criterion_group!(benches, templates, variables);
criterion_main!(benches);
