//! `bindery bench`: bound profiles per second next to the floor of this machine, measured in one run.
//! In: a token, workloads. Out: [`Report`], one JSON object. Rule: targets are ratios, because absolute numbers drift with the
//! machine; every figure is the median of the repeats, and the raw samples stand beside it. The model and the method: `docs/throughput.md`.

mod bound;
mod child;
pub(super) mod command;
mod counted;
mod crew;
mod distant;
mod facts;
mod floor;
mod lanes;
mod page;
mod prepare;
mod report;
mod run;
mod scale;
mod targets;

pub use counted::{Calls, Counted};

pub use report::Report;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::hsm::pkcs11::Token;
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
    /// Of the eUICCs it is bound to.
    pub curve: Curve,
    iccid: Iccid,
    imsi: Imsi,
}

impl Template {
    /// A built-in template under this name, for eUICCs on this curve.
    pub fn of_preset(name: &str, preset: &str, curve: Curve) -> Result<Self, Fault> {
        let der = shelf::preset(preset).ok_or_else(|| failed("no such preset"))?.map_err(failed)?;
        let compiled = CompiledTemplate::compile(&der, &Settings::default()).map_err(failed)?;
        let octets: Vec<u8> = (0..compiled.draw_len()).map(|i| (i * 7 + 1) as u8).collect();
        let credentials = compiled.credentials(&mut Draw::new(&octets), None).map_err(failed)?;
        let iccid = "89000123456789012341".parse().map_err(failed)?;
        let imsi = "001010123456063".parse().map_err(failed)?;
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let upp = compiled.personalise(&identity, &credentials).map_err(failed)?;
        Ok(Self { name: name.to_owned(), compiled, upp, curve, iccid, imsi })
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
    /// ECDSA over a SHA-256 digest, `r || s`.
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError>;
    /// What was asked of the token since the last look.
    fn calls(&mut self) -> Calls;
}

/// The DPpb key of a token, its handle resolved once.
pub struct DpPb<'a, H: Hsm> {
    hsm: &'a H,
    key: KeyRef,
}

impl<'a, H: Hsm> DpPb<'a, H> {
    /// Resolves the key for eUICCs on this curve.
    pub fn of(hsm: &'a H, curve: Curve) -> Result<Self, HsmError> {
        Ok(Self { hsm, key: hsm.key(&Role::DpPb(curve))? })
    }
}

impl<H: Hsm> Signers for DpPb<'_, H> {
    type Signer = (Counted<H::Session>, KeyRef);
    fn open(&self) -> Result<Self::Signer, HsmError> {
        Ok((Counted::new(self.hsm.open_session()?), self.key))
    }
}

impl<S: HsmSession> Sign for (Counted<S>, KeyRef) {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.0.sign(self.1, digest)
    }
    fn calls(&mut self) -> Calls {
        self.0.take()
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// The primitives of a bound profile
    Floor,
    /// Binding in memory, beside the floor
    Bind,
    /// Preparing in memory, beside the floor
    Prepare,
    /// Binding with 1, 2, 4 ... threads, up to twice the cores
    Threads,
    /// Binding before a simulated network HSM: the target's, then round trips by lanes
    Lanes,
    /// Order file to durable bundle
    Run,
    /// A small order and one a hundred times its size: memory, time, restart
    Scale,
}

impl Part {
    /// In the order in which they are measured.
    pub const ALL: [Self; 7] =
        [Self::Floor, Self::Bind, Self::Prepare, Self::Threads, Self::Lanes, Self::Run, Self::Scale];
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

/// Size of what is measured on disk.
#[derive(Clone, Debug, clap::Args)]
pub struct Sizes {
    /// Devices of each order of the part `run`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub devices: u32,
    /// Lines of the big order of the part `scale`
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(4_000..=10_000_000))]
    pub scale: u32,
    /// Where `run` and `scale` make their sites: the kind of disk that a site is on [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// Measures these parts, telling on stderr what is being done. Floor, binding and preparing: every workload on one thread and,
/// where the machine has them, on two; one thread is one core.
pub fn measure(
    token: &Token,
    templates: &[Template],
    parts: &[Part],
    (effort, sizes): (Effort, &Sizes),
) -> Result<Report, Fault> {
    let mut report = Report::default();
    report.set("host", facts::host(token)?);
    let measured = |part| parts.contains(&part);
    if [Part::Floor, Part::Bind, Part::Prepare].into_iter().any(measured) {
        tell("floor, binding and preparing in memory");
        in_memory(token, templates, parts, effort, &mut report)?;
    }
    let w3 = templates.iter().find(|template| template.name == "w3").ok_or_else(|| failed("no workload W3"))?;
    let signers = DpPb::of(token, Curve::P256)?;
    if measured(Part::Threads) {
        tell("binding by threads");
        let most = 2 * crew::Crew::most_threads();
        let counts = || std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count <= most);
        for _ in 0..effort.repeats {
            for threads in counts() {
                let crew = crew::Crew::sharing(threads).ok_or_else(no_cpu)?;
                report.add_threads(threads, bound::session_per_s(&signers, w3, &crew, effort.window() * 4)?);
            }
        }
    }
    if measured(Part::Lanes) {
        tell("binding before a simulated network HSM");
        for _ in 0..effort.repeats {
            report.add_lanes(lanes::ratio(token, w3, effort)?);
        }
        report.set_latency_sweep(lanes::sweep(token, w3, effort)?);
    }
    let scratch = sizes.scratch.clone().unwrap_or_else(std::env::temp_dir);
    if measured(Part::Run) {
        let sandbox = child::Sandbox::create(&scratch)?;
        let crew = crew::Crew::of(crew::Crew::most_threads()).ok_or_else(no_cpu)?;
        for number in 0..effort.repeats {
            tell(&format!(
                "order {} of {}: {} devices, from file to bundle",
                number + 1,
                effort.repeats,
                sizes.devices
            ));
            let in_memory = || bound::session_per_s(&signers, w3, &crew, effort.window() * 10);
            let before = in_memory()?;
            let run = run::Run::measure(&sandbox, sizes.devices, number)?;
            report.add_run(&run, f64::midpoint(before, in_memory()?));
        }
    }
    if measured(Part::Scale) {
        tell(&format!("an order of {} lines, and small ones", sizes.scale));
        report.add_scale(&scale::Scale::measure(&child::Sandbox::create(&scratch)?, sizes.scale)?);
    }
    Ok(report)
}

fn in_memory(
    token: &Token,
    templates: &[Template],
    parts: &[Part],
    effort: Effort,
    report: &mut Report,
) -> Result<(), Fault> {
    let crews: Vec<_> = [1, 2].into_iter().map_while(crew::Crew::of).collect();
    if crews.is_empty() {
        return Err(no_cpu());
    }
    for _ in 0..effort.repeats {
        for crew in &crews {
            for template in templates {
                let signers = DpPb::of(token, template.curve)?;
                let floor = floor::Floor::measure(&signers, template, crew, effort.window())?;
                report.add_floor(template, crew.threads(), &floor);
                if parts.contains(&Part::Bind) {
                    let bound = bound::Bound::measure(&signers, template, crew, effort.window())?;
                    report.add_bound(template, crew.threads(), &bound);
                }
                // Preparing knows no curve.
                if parts.contains(&Part::Prepare) && template.curve == Curve::P256 {
                    let prepared = prepare::Prepared::measure(token, template, crew, effort.window())?;
                    report.add_prepared(template, crew.threads(), &floor, &prepared);
                }
            }
        }
    }
    Ok(())
}

fn tell(what: &str) {
    eprintln!("measuring: {what}");
}

fn no_cpu() -> Fault {
    Fault::new(Exit::Config, "no CPU may be used by this process").hint("check `taskset -p $$`")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// A failure of the thing measured, as the command's.
fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::new(Exit::Bug, format!("benchmark: {error}"))
}

fn refused(error: HsmError) -> Fault {
    Fault::new(Exit::HsmUnusable, error.to_string()).hint(error.hint)
}
