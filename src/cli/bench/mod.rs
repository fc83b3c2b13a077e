//! `bindery bench`: bound profiles per second next to the floor of this machine, measured in one run.
//! In: a token, workloads. Out: [`Report`], one JSON object. Rule: targets are ratios, because absolute numbers drift with the
//! machine; every figure is the median of the repeats, and the raw samples stand beside it.

mod bound;
mod crew;
mod floor;
mod report;

pub use report::Report;

use std::time::Duration;

use crate::error::{Exit, Fault};
use crate::personalise::Upp;
use crate::hsm::{Hsm, HsmError, HsmSession, KeyRef, Role};

/// A profile to measure with.
pub struct Workload {
    /// `w1` to `w4`; names the members of the report.
    pub name: String,
    /// The plain profile.
    pub upp: Upp,
}

/// Where `smdpSign` comes from: one signer a thread, as with PKCS#11 sessions.
pub trait Signers: Sync {
    /// What one thread signs with.
    type Signer: Sign;
    /// Opens one more.
    fn open(&self) -> Result<Self::Signer, HsmError>;
}

/// Signs for one thread.
pub trait Sign {
    /// ECDSA P-256 over a SHA-256 digest, `r || s`.
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError>;
}

/// The DPpb key of a token, its handle resolved once.
pub struct DpPb<'a, H: Hsm> {
    hsm: &'a H,
    key: KeyRef,
}

impl<'a, H: Hsm> DpPb<'a, H> {
    /// Resolves the key.
    pub fn of(hsm: &'a H) -> Result<Self, HsmError> {
        Ok(Self { hsm, key: hsm.key(&Role::DpPb)? })
    }
}

impl<H: Hsm> Signers for DpPb<'_, H> {
    type Signer = (H::Session, KeyRef);
    fn open(&self) -> Result<Self::Signer, HsmError> {
        Ok((self.hsm.open_session()?, self.key))
    }
}

impl<S: HsmSession> Sign for (S, KeyRef) {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.0.sign(self.1, digest)
    }
}

/// How long and how often is measured.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Effort {
    /// Repeats; the report gives their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Milliseconds for each figure of each repeat
    #[arg(long, value_name = "MS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub window_ms: u32,
}

impl Effort {
    fn window(self) -> Duration {
        Duration::from_millis(u64::from(self.window_ms))
    }
}

/// Measures floor and binding of every workload on one thread and, where the machine has them, on two. One thread is one core.
pub fn measure<S: Signers>(signers: &S, workloads: &[Workload], effort: Effort) -> Result<Report, Fault> {
    let crews: Vec<_> = [1, 2].into_iter().map_while(crew::Crew::of).collect();
    if crews.is_empty() {
        return Err(Fault::new(Exit::Config, "no CPU may be used by this process").hint("check `taskset -p $$`"));
    }
    let mut report = Report::default();
    for _ in 0..effort.repeats {
        for crew in &crews {
            for workload in workloads {
                let floor = floor::Floor::measure(signers, workload, crew, effort.window())?;
                let bound = bound::Bound::measure(signers, workload, crew, effort.window())?;
                report.add(&workload.name, crew.threads(), &floor, &bound);
            }
        }
    }
    Ok(report)
}

/// A failure of the thing measured, as the command's.
fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::new(Exit::Bug, format!("benchmark: {error}"))
}

fn refused(error: HsmError) -> Fault {
    Fault::new(Exit::HsmUnusable, error.to_string()).hint(error.hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::ecdsa::EcdsaSig;
    use openssl::nid::Nid;
    use openssl::pkey::Private;

    struct Software(EcKey<Private>);

    impl Signers for Software {
        type Signer = EcKey<Private>;
        fn open(&self) -> Result<Self::Signer, HsmError> {
            Ok(self.0.clone())
        }
    }

    impl Sign for EcKey<Private> {
        fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
            let signature = EcdsaSig::sign(digest, self).unwrap();
            let halves = [signature.r(), signature.s()].map(|half| half.to_vec_padded(32).unwrap());
            Ok(halves.concat().try_into().unwrap())
        }
    }

    #[test]
    fn a_report_has_the_members_that_the_targets_name() {
        let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
        let workloads =
            [("w2", 3200), ("w3", 12_300)].map(|(name, len)| Workload {
                name: name.to_owned(),
                upp: Upp::from_plain_for_tests(vec![0x5A; len], "89000123456789012341".parse().unwrap()),
            });
        let report = measure(&Software(key), &workloads, Effort { repeats: 2, window_ms: 2 }).unwrap();
        let json = report.to_json();
        for member in ["bind_session_w3_ratio", "bind_ppp_w3_ratio", "bind_w2_ratio"] {
            let ratio = json[member]["1"].as_f64().unwrap();
            assert!(ratio > 0.05 && ratio < 2.0, "{member}: {ratio}");
        }
        assert_eq!(json["token_signatures_per_bind"], 1.0);
        assert!(json["bpp_per_s"]["w3"]["ppp"]["1"].as_f64().unwrap() > 1.0);
        assert!(json["floor_us"]["w2"]["session"]["1"].as_f64().unwrap() > 1.0);
        assert_eq!(json["samples"]["w3"]["session"]["1"].as_array().unwrap().len(), 2);
        assert!(json.get("bind_w3_ratio").is_none() && json.get("prepare_w3_ratio").is_none());
    }
}
