//! The report: medians under the names of the targets, raw samples beside them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bound::Bound;
use super::floor::Floor;
use super::prepare::Prepared;

/// What was measured, repeat by repeat.
#[derive(Default)]
pub struct Report {
    /// By workload, mode, threads.
    samples: BTreeMap<String, BTreeMap<&'static str, ByThreads>>,
    /// By primitive, threads: microseconds.
    primitives: BTreeMap<&'static str, BTreeMap<usize, Vec<f64>>>,
    signatures_per_bind: Vec<f64>,
}

type ByThreads = BTreeMap<usize, Vec<Sample>>;

#[derive(Clone, Copy)]
struct Sample {
    floor_us: f64,
    bound_us: f64,
}

impl Sample {
    fn ratio(&self) -> f64 {
        self.floor_us / self.bound_us
    }
}

impl Report {
    pub(super) fn add(&mut self, workload: &str, threads: usize, floor: &Floor, bound: &Bound, prepared: &Prepared) {
        let modes = self.samples.entry(workload.to_owned()).or_default();
        let prepare_us = prepared.random_us + prepared.personalise_us + floor.segments_us;
        for (mode, floor_us, bound_us) in [
            ("session", floor.session_us(), bound.session_us),
            ("ppp", floor.stored_us(), bound.stored_us),
            ("prepare", prepare_us, prepared.prepared_us),
        ] {
            modes.entry(mode).or_default().entry(threads).or_default().push(Sample { floor_us, bound_us });
        }
        for (primitive, us) in [
            ("keygen", floor.keygen_us),
            ("ecdh", floor.ecdh_us),
            ("kdf", floor.kdf_us),
            ("token_signature", floor.signature_us),
            ("segment", floor.piece_us),
            ("random_of_one_profile", prepared.random_us),
            ("personalise", prepared.personalise_us),
        ] {
            self.primitives.entry(primitive).or_default().entry(threads).or_default().push(us);
        }
        self.signatures_per_bind.push(bound.signatures_per_bind);
    }

    /// One object with the members the targets name, as far as they are measured here.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        for (workload, modes) in &self.samples {
            for (mode, by_threads) in modes {
                // W3 is the workload of both modes' targets; the others are held to one figure.
                let name = match workload.as_str() {
                    _ if *mode == "prepare" => format!("prepare_{workload}_ratio"),
                    "w3" => format!("bind_{mode}_w3_ratio"),
                    _ if *mode == "session" => format!("bind_{workload}_ratio"),
                    _ => continue,
                };
                members.insert(name, each_median(by_threads, Sample::ratio));
            }
        }
        if let Some(scaling) = self.threads2_over_1() {
            members.insert("threads2_over_1".to_owned(), rounded(scaling));
        }
        let primitives: Map<_, _> =
            self.primitives.iter().map(|(name, runs)| (name.to_string(), each_median(runs, |us| *us))).collect();
        members.extend([
            ("token_signatures_per_bind".to_owned(), rounded(median(self.signatures_per_bind.iter().copied()))),
            ("bpp_per_s".to_owned(), self.by_mode(bpp_per_s)),
            ("floor_us".to_owned(), self.by_mode(|runs| each_median(runs, |sample| sample.floor_us))),
            ("bound_us".to_owned(), self.by_mode(|runs| each_median(runs, |sample| sample.bound_us))),
            ("primitives_us".to_owned(), Value::Object(primitives)),
            ("samples".to_owned(), self.by_mode(raw)),
            ("host".to_owned(), host()),
        ]);
        Value::Object(members)
    }

    /// A figure of every workload and mode.
    fn by_mode(&self, figure: fn(&ByThreads) -> Value) -> Value {
        let mut workloads = Map::new();
        for (workload, modes) in &self.samples {
            let modes: Map<_, _> = modes.iter().map(|(mode, runs)| (mode.to_string(), figure(runs))).collect();
            workloads.insert(workload.clone(), Value::Object(modes));
        }
        Value::Object(workloads)
    }

    /// Bound profiles per second, W3 under session keys: two threads against one.
    fn threads2_over_1(&self) -> Option<f64> {
        let runs = self.samples.get("w3")?.get("session")?;
        let [one, two] = [runs.get(&1)?, runs.get(&2)?].map(|samples| median(samples.iter().map(|s| s.bound_us)));
        Some(2.0 * one / two)
    }
}

fn each_median<T>(by_threads: &BTreeMap<usize, Vec<T>>, figure: impl Fn(&T) -> f64) -> Value {
    let of =
        |(threads, samples): (&usize, &Vec<T>)| (threads.to_string(), rounded(median(samples.iter().map(&figure))));
    Value::Object(by_threads.iter().map(of).collect())
}

fn bpp_per_s(by_threads: &ByThreads) -> Value {
    let of = |(threads, samples): (&usize, &Vec<Sample>)| {
        let us = median(samples.iter().map(|sample| sample.bound_us));
        (threads.to_string(), rounded(*threads as f64 * 1e6 / us))
    };
    Value::Object(by_threads.iter().map(of).collect())
}

fn raw(by_threads: &ByThreads) -> Value {
    let sample = |s: &Sample| json!({"floor_us": rounded(s.floor_us), "bound_us": rounded(s.bound_us)});
    let of = |(threads, samples): (&usize, &Vec<Sample>)| (threads.to_string(), samples.iter().map(sample).collect());
    Value::Object(by_threads.iter().map(of).collect())
}

fn host() -> Value {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    json!({
        "cpu": cpu.map(|(_, model)| model.trim()),
        "cpus": std::thread::available_parallelism().ok().map(usize::from),
        "openssl": openssl::version::version(),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Four significant decimals are more than a measurement holds.
fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}
