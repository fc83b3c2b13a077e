//! `bindery bench`: bound profiles per second next to the floor of this machine, measured in one run.
//! In: a token, workloads. Out: [`Report`], one JSON object. Rule: targets are ratios, because absolute numbers drift with the
//! machine; every figure is the median of the repeats, and the raw samples stand beside it.

mod bound;
pub(super) mod command;
mod crew;
mod floor;
mod prepare;
mod report;

pub use report::Report;

use std::time::Duration;

use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::hsm::{Hsm, HsmError, HsmSession, KeyRef, Role};
use crate::ids::{Iccid, Imsi};
use crate::personalise::{CompiledTemplate, Draw, Identity, Settings, Upp, shelf};

/// A template to measure with, and one profile of it.
pub struct Template {
    /// `w1` to `w4`; names the members of the report.
    pub name: String,
    /// The template.
    pub compiled: CompiledTemplate,
    /// A plain profile.
    pub upp: Upp,
    iccid: Iccid,
    imsi: Imsi,
}

impl Template {
    /// A built-in template under this name.
    pub fn of_preset(name: &str, preset: &str) -> Result<Self, Fault> {
        let der = shelf::preset(preset).ok_or_else(|| failed("no such preset"))?.map_err(failed)?;
        let compiled = CompiledTemplate::compile(&der, &Settings::default()).map_err(failed)?;
        let octets: Vec<u8> = (0..compiled.draw_len()).map(|i| (i * 7 + 1) as u8).collect();
        let credentials = compiled.credentials(&mut Draw::new(&octets), None).map_err(failed)?;
        let iccid = "89000123456789012341".parse().map_err(failed)?;
        let imsi = "001010123456063".parse().map_err(failed)?;
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let upp = compiled.personalise(&identity, &credentials).map_err(failed)?;
        Ok(Self { name: name.to_owned(), compiled, upp, iccid, imsi })
    }

    fn identity(&self) -> Identity<'static> {
        Identity { iccid: self.iccid, imsi: Some(self.imsi), msisdn: None, vars: &[] }
    }
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
        Ok(Self { hsm, key: hsm.key(&Role::DpPb(Curve::P256))? })
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
pub fn measure<S: Signers, H: Hsm>(
    signers: &S,
    hsm: &H,
    templates: &[Template],
    effort: Effort,
) -> Result<Report, Fault> {
    let crews: Vec<_> = [1, 2].into_iter().map_while(crew::Crew::of).collect();
    if crews.is_empty() {
        return Err(Fault::new(Exit::Config, "no CPU may be used by this process").hint("check `taskset -p $$`"));
    }
    let mut report = Report::default();
    for _ in 0..effort.repeats {
        for crew in &crews {
            for template in templates {
                let floor = floor::Floor::measure(signers, template, crew, effort.window())?;
                let bound = bound::Bound::measure(signers, template, crew, effort.window())?;
                let prepared = prepare::Prepared::measure(hsm, template, crew, effort.window())?;
                report.add(&template.name, crew.threads(), &floor, &bound, &prepared);
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
