//! The report as a page: targets with their verdicts, charts, tables, raw samples. Self-contained, readable without a network.

use minijinja::{Environment, Value as Shown, context};
use serde_json::Value;

use super::command::in_short;
use super::report::leaves;
use super::targets::{Bound, TARGETS, Verdict};

/// Width of the charts' plots in their own units.
const WIDTH: f64 = 560.0;
/// Height of the curves.
const HEIGHT: f64 = 220.0;
/// A ratio at the right edge of its chart.
const MOST_RATIO: f64 = 1.5;
const COLOURS: [&str; 6] = ["#1565c0", "#2e7d32", "#ef6c00", "#6a1b9a", "#00838f", "#ad1457"];

/// The page of a report as JSON.
pub(super) fn html(report: &Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_template("page.html", include_str!("page.html"))?;
    let verdicts: Vec<Verdict> = TARGETS.iter().map(|target| target.verdict(report)).collect();
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    environment.get_template("page.html")?.render(context! {
        host => pairs(&report["host"]),
        met => count(Verdict::Met),
        missed => count(Verdict::NotMet),
        measured => verdicts.len() - count(Verdict::NotMeasured),
        targets => targets(report, &verdicts),
        compared => compared(report),
        bars => bars(report),
        model => model(report),
        threads => thread_sweep(report),
        latency => latency_sweep(report),
        rates => rates(report),
        primitives => primitives(report),
        samples => serde_json::to_string_pretty(report).unwrap_or_default(),
        version => env!("CARGO_PKG_VERSION"),
    })
}

fn targets(report: &Value, verdicts: &[Verdict]) -> Vec<Shown> {
    let row = |(target, verdict): (&super::targets::Target, &Verdict)| {
        let class = match verdict {
            Verdict::Met => "ok",
            Verdict::NotMet => "bad",
            Verdict::DoesNotApply | Verdict::NotMeasured => "muted",
        };
        context! {
            what => target.what, member => target.member, bound => target.bound_text(),
            figure => in_short(&report[target.member]), verdict => verdict.as_str(), class,
        }
    };
    TARGETS.iter().zip(verdicts).map(row).collect()
}

fn compared(report: &Value) -> Vec<Shown> {
    let rows = report["compared"].as_object().into_iter().flatten();
    rows.map(|(member, row)| {
        let [before, now, ratio] = ["before", "now", "ratio"].map(|name| plain(row[name].as_f64().unwrap_or(f64::NAN)));
        context! { member, before, now, ratio }
    })
    .collect()
}

/// The ratios with a lower bound: a bar each, the bound as a mark.
fn bars(report: &Value) -> Vec<Shown> {
    let of = |figure: f64| (figure / MOST_RATIO).clamp(0.0, 1.0) * WIDTH;
    let ratios = TARGETS.iter().filter_map(|target| match target.bound {
        Bound::AtLeast(bound) if bound <= 1.0 => Some((target, bound)),
        _ => None,
    });
    ratios
        .filter_map(|(target, bound)| {
            let figure = target.figure(report)?;
            let is_met = target.verdict(report) == Verdict::Met;
            Some(context! { what => target.what, figure => plain(figure), width => of(figure), mark => of(bound), is_met })
        })
        .collect()
}

/// What a bound W3 profile costs on one thread: the floor's parts, end to end.
fn model(report: &Value) -> Vec<Shown> {
    let primitive = |name: &str| report["primitives_us"][name]["1"].as_f64();
    let Some(session_us) = report["floor_us"]["w3"]["session"]["1"].as_f64() else { return Vec::new() };
    let named = [
        ("token signature", primitive("token_signature")),
        ("ECDH", primitive("ecdh")),
        ("one-time key", primitive("keygen")),
        ("KDF", primitive("kdf")),
    ];
    let known: f64 = named.iter().filter_map(|(_, us)| *us).sum();
    let all = named.into_iter().chain([("segments", Some(session_us - known))]);
    let mut left = 0.0;
    all.zip(COLOURS)
        .filter_map(|((name, us), colour)| {
            let us = us?.max(0.0);
            let (at, width) = (left, us / session_us * WIDTH);
            left += width;
            Some(context! { name, us => plain(us), left => at, width, colour })
        })
        .collect()
}

/// Rate by threads.
fn thread_sweep(report: &Value) -> Vec<Shown> {
    let sweep = report["thread_sweep_per_s"].as_object().into_iter().flatten();
    let mut points: Vec<(u32, f64)> = sweep.filter_map(|(n, per_s)| Some((n.parse().ok()?, per_s.as_f64()?))).collect();
    points.sort_by_key(|(threads, _)| *threads);
    let most = points.iter().map(|(_, per_s)| *per_s).fold(1.0, f64::max);
    let bar =
        |(threads, per_s): (u32, f64)| context! { threads, per_s => per_s.round(), width => per_s / most * WIDTH };
    points.into_iter().map(bar).collect()
}

/// One curve a round trip: rate by lanes, both axes as on the page; `points` is an SVG point list.
fn latency_sweep(report: &Value) -> Shown {
    let points = report["latency_sweep"].as_array().map_or(&[][..], Vec::as_slice);
    let most = points.iter().filter_map(|point| point["per_s"].as_f64()).fold(1.0, f64::max);
    let mut round_trips: Vec<u64> = points.iter().filter_map(|point| point["round_trip_us"].as_u64()).collect();
    round_trips.dedup();
    // Lanes double from point to point: 1 at the left edge, 64 at the right one.
    let x = |lanes: f64| lanes.log2() / 6.0 * WIDTH;
    let y = |per_s: f64| HEIGHT - per_s / most * HEIGHT;
    let curve = |(round_trip_us, colour): (&u64, &str)| {
        let of = points.iter().filter(|point| point["round_trip_us"].as_u64() == Some(*round_trip_us));
        let of = of.filter_map(|point| Some((point["lanes"].as_f64()?, point["per_s"].as_f64()?)));
        let all: Vec<(f64, f64)> = of.collect();
        let line: Vec<String> = all.iter().map(|(lanes, per_s)| format!("{:.1},{:.1}", x(*lanes), y(*per_s))).collect();
        let dots: Vec<Shown> = all
            .iter()
            .map(|(lanes, per_s)| context! { x => x(*lanes), y => y(*per_s), lanes, per_s => per_s.round() })
            .collect();
        context! { name => format!("{:.1} ms", *round_trip_us as f64 / 1_000.0), line => line.join(" "), dots, colour }
    };
    let curves: Vec<Shown> = round_trips.iter().zip(COLOURS).map(curve).collect();
    let ticks: Vec<Shown> = [1, 2, 4, 8, 16, 32, 64_u32].map(|n| context! { n, x => x(n.into()) }).into();
    let levels: Vec<Shown> =
        [0.25, 0.5, 0.75, 1.0].map(|part| context! { y => y(part * most), per_s => (part * most).round() }).into();
    context! { curves, ticks, levels }
}

fn rates(report: &Value) -> Vec<Shown> {
    let Some(rates) = report["bpp_per_s"].as_object() else { return Vec::new() };
    let row = |(workload, mode, threads, per_s): (String, String, String, f64)| {
        let us = |member: &str| plain(report[member][&workload][&mode][&threads].as_f64().unwrap_or(f64::NAN));
        let [floor_us, bound_us] = ["floor_us", "bound_us"].map(us);
        context! { workload, mode, threads, per_s => per_s.round(), bound_us, floor_us }
    };
    leaves(rates).into_iter().map(row).collect()
}

fn primitives(report: &Value) -> Vec<Shown> {
    let of = |(name, runs): (&String, &Value)| {
        let [one, two] = ["1", "2"].map(|threads| runs[threads].as_f64().map(plain).unwrap_or_default());
        context! { name, one, two }
    };
    report["primitives_us"].as_object().into_iter().flatten().map(of).collect()
}

fn pairs(object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    object.as_object().into_iter().flatten().map(|(name, value)| (name.replace('_', " "), text(value))).collect()
}

/// As many decimals as a reader wants.
fn plain(figure: f64) -> String {
    match figure.abs() {
        large if large >= 1_000.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_escapes_what_the_machine_says() {
        let report = json!({
            "host": {"cpu": "<b>fast</b>"},
            "bind_session_w3_ratio": {"1": 0.95, "2": 0.91},
            "floor_us": {"w3": {"session": {"1": 100.0}}},
            "primitives_us": {"token_signature": {"1": 40.0}, "ecdh": {"1": 30.0}},
            "bpp_per_s": {"w3": {"session": {"1": 9_700.0}}},
            "thread_sweep_per_s": {"1": 9_700.0, "2": 19_000.0},
            "latency_sweep": [{"round_trip_us": 500, "lanes": 32, "per_s": 19_000.0, "hsm_per_s": 20_000.0}],
            "compared": {"restart_s": {"before": 1.0, "now": 0.5, "ratio": 0.5}},
        });
        let page = html(&report).unwrap();
        assert!(
            !page.contains("http:") && !page.contains("https:") && !page.contains("src=") && !page.contains("<script")
        );
        assert!(page.contains("&lt;b&gt;fast") && !page.contains("<b>fast"));
        assert!(page.contains("0.95  0.91") && page.contains("19000") && page.contains("restart_s"));
    }

    #[test]
    fn a_report_of_nothing_is_a_page() {
        assert!(html(&json!({})).unwrap().contains("0 of 0 targets met"));
    }
}
