//! What fast means here: one row a target, and whether a report meets it.

use serde_json::Value;

/// A member of the report and the bound it is held to.
pub(super) struct Target {
    pub(super) member: &'static str,
    pub(super) what: &'static str,
    pub(super) bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How a report stands to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    NotMet,
    /// Two threads cannot be faster than the machine's own signatures are.
    DoesNotApply,
    NotMeasured,
}

use Bound::{AtLeast, AtMost};

/// In the order of the table.
pub(super) const TARGETS: &[Target] = &[
    target("bind_session_w3_ratio", "bind W3, session keys, of the floor", AtLeast(0.90)),
    target("bind_ppp_w3_ratio", "bind W3, stored PPP, of the floor", AtLeast(0.90)),
    target("bind_w1_ratio", "bind W1 of the floor", AtLeast(0.85)),
    target("bind_w2_ratio", "bind W2 of the floor", AtLeast(0.85)),
    target("bind_w4_ratio", "bind W4 of the floor", AtLeast(0.85)),
    target("prepare_w3_ratio", "prepare W3 of the floor", AtLeast(0.85)),
    target("prepare_w4_ratio", "prepare W4 of the floor", AtLeast(0.85)),
    target("run_w3_ratio", "run W3, durable, of binding in memory", AtLeast(0.70)),
    target("threads2_over_1", "two threads over one", AtLeast(1.85)),
    target("lanes_ratio", "network HSM, 32 lanes, of what it signs", AtLeast(0.90)),
    target("token_signatures_per_bind", "token signatures a bound profile", AtMost(1.0)),
    target("token_other_calls_per_bind", "other token calls a bound profile", AtMost(0.0)),
    target("peak_rss_mib", "memory at most, the big order, MiB", AtMost(256.0)),
    target("peak_rss_growth", "memory, big order over small", AtMost(1.20)),
    target("time_per_profile_growth", "time a profile, big order over small", AtMost(1.10)),
    target("restart_s", "killed: next profile after, s", AtMost(2.0)),
];

const fn target(member: &'static str, what: &'static str, bound: Bound) -> Target {
    Target { member, what, bound }
}

impl Target {
    /// `>= 0.90`
    pub(super) fn bound_text(&self) -> String {
        match self.bound {
            AtLeast(bound) => format!(">= {bound:.2}"),
            AtMost(bound) => format!("<= {bound:.2}"),
        }
    }

    /// The figure that decides: of several thread counts the worst.
    pub(super) fn figure(&self, report: &Value) -> Option<f64> {
        let by_threads = |worst: fn(f64, f64) -> f64| figures(&report[self.member]).into_iter().reduce(worst);
        match self.bound {
            AtLeast(_) => by_threads(f64::min),
            AtMost(_) => by_threads(f64::max),
        }
    }

    pub(super) fn verdict(&self, report: &Value) -> Verdict {
        let signatures = figures(&report["signature_threads2_over_1"]).first().copied();
        let is_met = |figure: f64| match self.bound {
            AtLeast(bound) => figure >= bound,
            AtMost(bound) => figure <= bound,
        };
        match (self.figure(report), self.bound) {
            (None, _) => Verdict::NotMeasured,
            (Some(figure), _) if is_met(figure) => Verdict::Met,
            (Some(_), AtLeast(bound))
                if self.member == "threads2_over_1" && signatures.is_some_and(|own| own < bound) =>
            {
                Verdict::DoesNotApply
            }
            _ => Verdict::NotMet,
        }
    }
}

impl Verdict {
    /// For people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::DoesNotApply => "token scales less",
            Self::NotMeasured => "not measured",
        }
    }
}

/// The figures of a member in any of its forms: a number, one for each thread count, or a median with its samples.
pub(super) fn figures(member: &Value) -> Vec<f64> {
    match member {
        Value::Number(number) => number.as_f64().into_iter().collect(),
        Value::Object(parts) => match parts.get("median") {
            Some(median) => figures(median),
            None => parts.values().filter_map(Value::as_f64).collect(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(member: &str, report: Value) -> Verdict {
        TARGETS.iter().find(|target| target.member == member).unwrap().verdict(&report)
    }

    #[test]
    fn the_worst_of_the_thread_counts_decides() {
        let bind = |one, two| verdict("bind_w1_ratio", json!({"bind_w1_ratio": {"1": one, "2": two}}));
        assert_eq!(bind(0.9, 0.86), Verdict::Met);
        assert_eq!(bind(0.9, 0.84), Verdict::NotMet);
        assert_eq!(verdict("bind_w1_ratio", json!({})), Verdict::NotMeasured);
        assert_eq!(verdict("restart_s", json!({"restart_s": {"median": 2.1, "samples": [2.1]}})), Verdict::NotMet);
        assert_eq!(verdict("restart_s", json!({"restart_s": 0.4})), Verdict::Met);
    }

    #[test]
    fn two_threads_are_held_to_the_machines_own_signatures() {
        let scaling =
            |ours, own| verdict("threads2_over_1", json!({"threads2_over_1": ours, "signature_threads2_over_1": own}));
        assert_eq!(scaling(1.9, 1.9), Verdict::Met);
        assert_eq!(scaling(1.7, 1.95), Verdict::NotMet);
        assert_eq!(scaling(1.7, 1.6), Verdict::DoesNotApply);
    }
}
