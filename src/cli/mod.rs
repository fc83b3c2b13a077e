//! The command line: one file a noun, no logic beyond wiring, the screen and the exit code.
//! Result on stdout, everything else on stderr.

#[macro_use]
mod screen;

mod audit;
pub mod bench;
mod bind;
mod cancel;
pub mod doctor;
mod export;
mod fleet;
mod harden;
mod hold;
pub mod init;
mod intake;
pub mod keys;
pub mod order;
mod order_watch;
mod purge;
mod recover;
mod remake;
mod revoke;
mod run;
mod status;
pub mod template;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Exit, Fault};
use crate::hsm;
use crate::telemetry::{self, ProgressMode};

/// SM-DP+ profile preparation: orders in, verified, bound, signed eSIM packages out; keys stay in the HSM
#[derive(Parser)]
#[command(name = "bindery", version, about, after_help = EXIT_CODES)]
struct Cli {
    /// The site: a directory with bindery.toml [default: the working directory]
    #[arg(long, global = true, value_name = "DIR", env = "BINDERY_SITE")]
    site: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// How long work shows its progress on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "HOW")]
    progress: ProgressMode,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0 done                 1 bug                     2 usage              3 config
  4 order rejected       5 finished with row errors
  6 duplicate conflict   7 HSM unusable            8 integrity failure
  9 stopped, resumable  10 locked by another runner
 11 certificate expired or too short              12 numbers or one-time keys exhausted
 13 approval missing

PINs come from a file, BINDERY_PIN, BINDERY_PIN_FILE or BINDERY_PIN_FD, never from an argument.
BINDERY_LOG=info|debug shows more on stderr.";

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Doctor(doctor::Doctor),
    Keys(keys::Keys),
    Template(template::Template),
    #[command(subcommand)]
    Fleet(fleet::Fleet),
    #[command(subcommand)]
    Order(order::OrderCommand),
    Run(run::Run),
    Bind(bind::Bind),
    Verify(verify::Verify),
    Export(export::Export),
    Status(status::Status),
    #[command(subcommand)]
    Audit(audit::Audit),
    Bench(bench::command::Bench),
}

impl Cli {
    fn run(self) -> Result<Exit, Fault> {
        let voice = Voice { json: self.json, progress: self.progress };
        let here = PathBuf::from(".");
        let site = self.site.as_deref().unwrap_or(&here);
        match self.command {
            Command::Init(init) => init.run(site, voice.json),
            Command::Doctor(doctor) => doctor.run(site, voice.json),
            Command::Keys(keys) => keys.run(site, voice.json),
            Command::Template(template) => template.run(site, voice.json),
            Command::Fleet(fleet) => fleet.run(site, voice),
            Command::Order(order) => order.run_on(site, voice),
            Command::Run(run) => run.run(site, voice),
            Command::Bind(bind) => bind.run(site, voice),
            Command::Verify(verify) => verify.run(self.site.as_deref(), voice),
            Command::Export(export) => export.run(site, voice),
            Command::Status(status) => status.run(site, voice),
            Command::Audit(audit) => audit.run(site, voice),
            Command::Bench(bench) => bench.run(self.site.as_deref(), voice),
        }
    }
}

/// How the caller wants to hear the result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    /// One JSON object on stdout.
    pub(crate) json: bool,
    /// Progress of long work on stderr.
    pub(crate) progress: ProgressMode,
}

/// Parses the command line, runs the command, prints its error with the remedy, gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // ends with 2 on a wrong command line
    telemetry::start_log(cli.progress == ProgressMode::Json);
    let result = harden::harden().and_then(|()| cli.run());
    let exit = match result {
        Ok(exit) => exit,
        Err(fault) => {
            tell!("error: {}", fault.what);
            if let Some(hint) = &fault.hint {
                tell!("  hint: {hint}");
            }
            fault.exit
        }
    };
    end(match screen::unwritten() {
        None => exit,
        Some(why) => {
            tell!("error: the result could not be written to stdout: {why}");
            tell!(
                "  hint: what the command did stands; make room where its output goes, `bindery status` shows the orders"
            );
            if exit == Exit::Done { Exit::Config } else { exit }
        }
    })
}

/// Finalises the HSM's module. Where a call is still inside, exit handlers would pull it from under the call: then the process
/// ends without them.
fn end(exit: Exit) -> ExitCode {
    let quiet = hsm::pkcs11::shut_down();
    if !quiet || hsm::lanes::left_behind() > 0 {
        let _ = std::io::stdout().flush(); // stderr has no buffer
        crate::ffi::exit_at_once(exit as u8);
    }
    ExitCode::from(exit as u8)
}
