//! The report: medians under the names of the targets, raw samples beside them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bound::Bound;
use super::floor::Floor;
use super::lanes::Point;
use super::prepare::Prepared;
use super::run::Run;
use super::scale::Scale;
use super::targets::{TARGETS, figures};
use super::{Template, median};
use crate::formats::curve::Curve;

/// What was measured, repeat by repeat.
#[derive(Default)]
pub struct Report {
    /// By workload, mode, threads.
    samples: BTreeMap<String, BTreeMap<&'static str, ByThreads>>,
    /// By primitive, threads: microseconds.
    primitives: BTreeMap<String, BTreeMap<usize, Vec<f64>>>,
    /// Figures that have no threads.
    plain: BTreeMap<&'static str, Vec<f64>>,
    /// Bound profiles a second of so many threads.
    thread_sweep: BTreeMap<usize, Vec<f64>>,
    latency_sweep: Vec<Point>,
    runs: Vec<Value>,
    others: Map<String, Value>,
}

type ByThreads = BTreeMap<usize, Vec<Sample>>;

#[derive(Clone, Copy)]
struct Sample {
    floor_us: f64,
    /// None when only the floor was measured.
    bound_us: Option<f64>,
}

impl Report {
    /// The primitives of a workload on so many threads.
    pub(super) fn add_floor(&mut self, template: &Template, threads: usize, floor: &Floor) {
        // Curves differ in three primitives; the others are the same.
        let named = |primitive: &str| match template.curve {
            Curve::P256 => primitive.to_owned(),
            Curve::Brainpool => format!("{primitive}_brainpool"),
        };
        for (primitive, us) in [
            (named("keygen"), floor.keygen_us),
            (named("ecdh"), floor.ecdh_us),
            (named("token_signature"), floor.signature_us),
            ("kdf".to_owned(), floor.kdf_us),
            ("segment".to_owned(), floor.piece_us),
        ] {
            self.primitive(primitive, threads, us);
        }
        self.add(template, "session", threads, Sample { floor_us: floor.session_us(), bound_us: None });
        self.add(template, "ppp", threads, Sample { floor_us: floor.stored_us(), bound_us: None });
    }

    /// Binding, beside the floor that was added before it.
    pub(super) fn add_bound(&mut self, template: &Template, threads: usize, bound: &Bound) {
        for (mode, us) in [("session", bound.session_us), ("ppp", bound.stored_us)] {
            let last = self.runs_of(template, mode, threads).last_mut();
            last.into_iter().for_each(|sample| sample.bound_us = Some(us));
        }
        self.figure("token_signatures_per_bind", bound.signatures_per_bind);
        self.figure("token_other_calls_per_bind", bound.other_calls_per_bind);
    }

    /// Preparing; `floor` is that of the same repeat.
    pub(super) fn add_prepared(&mut self, template: &Template, threads: usize, floor: &Floor, prepared: &Prepared) {
        let floor_us = prepared.random_us + prepared.personalise_us + floor.segments_us;
        self.add(template, "prepare", threads, Sample { floor_us, bound_us: Some(prepared.prepared_us) });
        self.primitive(format!("random_{}", template.name), threads, prepared.random_us);
        self.primitive(format!("personalise_{}", template.name), threads, prepared.personalise_us);
    }

    pub(super) fn add_threads(&mut self, threads: usize, per_s: f64) {
        self.thread_sweep.entry(threads).or_default().push(per_s);
    }

    pub(super) fn add_lanes(&mut self, ratio: f64) {
        self.figure("lanes_ratio", ratio);
    }

    pub(super) fn set_latency_sweep(&mut self, points: Vec<Point>) {
        self.latency_sweep = points;
    }

    /// A run, and what binding in memory gave in the same repeat.
    pub(super) fn add_run(&mut self, run: &Run, in_memory_per_s: f64) {
        self.figure("run_w3_ratio", run.per_s() / in_memory_per_s);
        self.figure("submit_and_run_w3_ratio", run.with_submit_per_s() / in_memory_per_s);
        self.figure("run_w3_per_s", run.per_s());
        self.figure("run_other_calls_per_profile", run.other_calls as f64 / f64::from(run.devices));
        self.runs.push(json!({
            "devices": run.devices,
            "submit_s": rounded(run.submit.as_secs_f64()),
            "run_s": rounded(run.run.as_secs_f64()),
            "in_memory_per_s": rounded(in_memory_per_s),
        }));
    }

    pub(super) fn add_scale(&mut self, scale: &Scale) {
        let mib = |peak: super::child::Peak| peak.0 as f64 / 1_024.0;
        self.figure("peak_rss_mib", mib(scale.peak));
        self.figure("peak_rss_growth", mib(scale.peak) / mib(scale.small_peak));
        self.figure("time_per_profile_growth", scale.us_per_profile / scale.small_us_per_profile);
        self.figure("restart_s", scale.restart.as_secs_f64());
        let facts = json!({
            "lines": scale.lines, "small_lines": scale.small_lines,
            "peak_mib": rounded(mib(scale.peak)), "small_peak_mib": rounded(mib(scale.small_peak)),
            "us_per_profile": rounded(scale.us_per_profile), "small_us_per_profile": rounded(scale.small_us_per_profile),
        });
        self.others.insert("scale".to_owned(), facts);
    }

    /// A member that was not measured here.
    pub(super) fn set(&mut self, member: &str, value: Value) {
        self.others.insert(member.to_owned(), value);
    }

    /// One object with the members the targets name, as far as they were measured.
    pub fn to_json(&self) -> Value {
        let mut members = self.ratios();
        for (member, samples) in &self.plain {
            let value = match samples[..] {
                [only] => rounded(only),
                // Counts: a workload that asks the token more often must not hide behind the others.
                _ if member.starts_with("token_") => rounded(samples.iter().copied().fold(0.0, f64::max)),
                _ => json!({"median": rounded(median(samples.iter().copied())), "samples": all(samples)}),
            };
            members.insert((*member).to_owned(), value);
        }
        for (member, runs) in [
            ("threads2_over_1", self.session_us(1).zip(self.session_us(2))),
            ("signature_threads2_over_1", self.signature_us(1).zip(self.signature_us(2))),
        ] {
            if let Some((one, two)) = runs {
                members.insert(member.to_owned(), rounded(2.0 * one / two));
            }
        }
        let per_s = |runs: &ByThreads| by_threads(runs, |sample, threads| Some(threads * 1e6 / sample.bound_us?));
        let primitives = self.primitives.iter().map(|(name, runs)| (name.clone(), medians(runs)));
        members.extend([
            ("bpp_per_s".to_owned(), self.by_mode(per_s)),
            ("floor_us".to_owned(), self.by_mode(|runs| by_threads(runs, |sample, _| Some(sample.floor_us)))),
            ("bound_us".to_owned(), self.by_mode(|runs| by_threads(runs, |sample, _| sample.bound_us))),
            ("primitives_us".to_owned(), Value::Object(primitives.collect())),
            ("samples".to_owned(), self.by_mode(raw)),
            ("thread_sweep_per_s".to_owned(), medians(&self.thread_sweep)),
            ("latency_sweep".to_owned(), self.latency_sweep.iter().map(point).collect()),
            ("runs".to_owned(), Value::Array(self.runs.clone())),
        ]);
        members.extend(self.others.clone());
        Value::Object(members)
    }

    fn ratios(&self) -> Map<String, Value> {
        let mut members = Map::new();
        for (workload, modes) in &self.samples {
            for (mode, runs) in modes {
                // W3 is the workload of both modes' targets; the others are held to one figure.
                let name = match (workload.as_str(), *mode) {
                    (_, "prepare") => format!("prepare_{workload}_ratio"),
                    ("w3" | "w3_brainpool", _) => format!("bind_{mode}_{workload}_ratio"),
                    (_, "session") => format!("bind_{workload}_ratio"),
                    _ => continue,
                };
                let ratios = by_threads(runs, |sample, _| Some(sample.floor_us / sample.bound_us?));
                if !figures(&ratios).is_empty() {
                    members.insert(name, ratios);
                }
            }
        }
        members
    }

    fn add(&mut self, template: &Template, mode: &'static str, threads: usize, sample: Sample) {
        self.runs_of(template, mode, threads).push(sample);
    }

    fn runs_of(&mut self, template: &Template, mode: &'static str, threads: usize) -> &mut Vec<Sample> {
        let modes = self.samples.entry(template.name.clone()).or_default();
        modes.entry(mode).or_default().entry(threads).or_default()
    }

    fn primitive(&mut self, name: String, threads: usize, us: f64) {
        self.primitives.entry(name).or_default().entry(threads).or_default().push(us);
    }

    fn figure(&mut self, member: &'static str, value: f64) {
        self.plain.entry(member).or_default().push(value);
    }

    /// A figure of every workload and mode.
    fn by_mode(&self, figure: impl Fn(&ByThreads) -> Value) -> Value {
        let mut workloads = Map::new();
        for (workload, modes) in &self.samples {
            let modes: Map<_, _> = modes.iter().map(|(mode, runs)| (mode.to_string(), figure(runs))).collect();
            workloads.insert(workload.clone(), Value::Object(modes));
        }
        Value::Object(workloads)
    }

    /// Microseconds of a thread, W3 under session keys.
    fn session_us(&self, threads: usize) -> Option<f64> {
        let runs = self.samples.get("w3")?.get("session")?.get(&threads)?;
        Some(median(runs.iter().filter_map(|sample| sample.bound_us))).filter(|us| us.is_finite())
    }

    fn signature_us(&self, threads: usize) -> Option<f64> {
        Some(median(self.primitives.get("token_signature")?.get(&threads)?.iter().copied()))
    }
}

/// A report beside an earlier one: each target's figure before, now, and now over before.
pub(super) fn compared(now: &Value, before: &Value) -> Value {
    let rows = TARGETS.iter().filter_map(|target| {
        let (now, before) = (target.figure(now)?, target.figure(before)?);
        let row = json!({"before": rounded(before), "now": rounded(now), "ratio": rounded(now / before)});
        Some((target.member.to_owned(), row))
    });
    let mut members: Map<_, _> = rows.collect();
    if let (Some(now), Some(before)) = (now["bpp_per_s"].as_object(), before["bpp_per_s"].as_object()) {
        for (workload, mode, threads, now) in leaves(now) {
            if let Some(before) = before.get(&workload).and_then(|modes| modes[&mode][&threads].as_f64()) {
                let row = json!({"before": rounded(before), "now": rounded(now), "ratio": rounded(now / before)});
                members.insert(format!("bpp_per_s {workload} {mode} {threads}"), row);
            }
        }
    }
    Value::Object(members)
}

/// Workload, mode, threads, figure.
pub(super) fn leaves(by_workload: &Map<String, Value>) -> Vec<(String, String, String, f64)> {
    let mut leaves = Vec::new();
    for (workload, modes) in by_workload {
        for (mode, runs) in modes.as_object().into_iter().flatten() {
            for (threads, figure) in runs.as_object().into_iter().flatten() {
                leaves.extend(figure.as_f64().map(|f| (workload.clone(), mode.clone(), threads.clone(), f)));
            }
        }
    }
    leaves
}

/// The median of a figure by threads; nothing for thread counts that have none.
fn by_threads(runs: &ByThreads, figure: impl Fn(&Sample, f64) -> Option<f64>) -> Value {
    let of = |(threads, samples): (&usize, &Vec<Sample>)| {
        let median = median(samples.iter().filter_map(|sample| figure(sample, *threads as f64)));
        median.is_finite().then(|| (threads.to_string(), rounded(median)))
    };
    Value::Object(runs.iter().filter_map(of).collect())
}

fn medians(runs: &BTreeMap<usize, Vec<f64>>) -> Value {
    let of = |(threads, samples): (&usize, &Vec<f64>)| (threads.to_string(), rounded(median(samples.iter().copied())));
    Value::Object(runs.iter().map(of).collect())
}

fn raw(runs: &ByThreads) -> Value {
    let sample = |s: &Sample| json!({"floor_us": rounded(s.floor_us), "bound_us": s.bound_us.map(rounded)});
    let of = |(threads, samples): (&usize, &Vec<Sample>)| (threads.to_string(), samples.iter().map(sample).collect());
    Value::Object(runs.iter().map(of).collect())
}

fn point(point: &Point) -> Value {
    json!({
        "round_trip_us": point.round_trip_us, "lanes": point.lanes,
        "per_s": rounded(point.per_s), "hsm_per_s": rounded(point.hsm_per_s),
    })
}

fn all(samples: &[f64]) -> Value {
    samples.iter().copied().map(rounded).collect()
}

/// Four significant decimals are more than a measurement holds.
fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_beside_an_earlier_one_tells_before_now_and_their_ratio() {
        let before = json!({"restart_s": 2.0, "bind_w1_ratio": {"1": 0.9, "2": 0.8}, "bpp_per_s": {"w1": {"ppp": {"1": 100.0}}}});
        let now = json!({"restart_s": 1.0, "bind_w1_ratio": {"1": 1.0, "2": 0.88}, "bpp_per_s": {"w1": {"ppp": {"1": 150.0}}},
                         "lanes_ratio": 0.9});
        let compared = compared(&now, &before);
        assert_eq!(compared["restart_s"], json!({"before": 2.0, "now": 1.0, "ratio": 0.5}));
        assert_eq!(compared["bind_w1_ratio"], json!({"before": 0.8, "now": 0.88, "ratio": 1.1}));
        assert_eq!(compared["bpp_per_s w1 ppp 1"]["ratio"], 1.5);
        assert!(compared.get("lanes_ratio").is_none());
    }
}
