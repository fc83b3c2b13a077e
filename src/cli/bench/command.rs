//! `bindery bench`: the command around [`super::measure`].

use std::path::{Path, PathBuf};

use super::{DpPb, Effort, Template, measure};
use crate::cli::screen::{print_json, table};
use crate::cli::{Voice, init};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;

/// Workloads of the suite: name in the report, preset.
const WORKLOADS: [(&str, &str); 4] =
    [("w1", "iot-minimal"), ("w2", "bootstrap"), ("w3", "operational"), ("w4", "applet")];

/// Measure bound profiles a second beside the floor of this machine
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    effort: Effort,
    /// Write the report to FILE too, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Bench {
    /// With a site: on its token. Without: on a demo site made for the purpose and removed afterwards.
    pub(crate) fn run(self, site: Option<&Path>, voice: Voice) -> Result<Exit, Fault> {
        let throwaway;
        let site = match site {
            Some(dir) => Site::open(dir)?,
            None if Path::new("bindery.toml").is_file() => Site::open(Path::new("."))?,
            None => {
                throwaway = tempfile::tempdir().map_err(|e| Fault::file(&std::env::temp_dir(), &e))?;
                init::create_demo(&throwaway.path().join("site"))?
            }
        };
        let token = Token::open(&site)?;
        let templates =
            WORKLOADS.iter().map(|(name, preset)| Template::of_preset(name, preset)).collect::<Result<Vec<_>, _>>()?;
        let report = measure(&DpPb::of(&token)?, &token, &templates, self.effort)?;
        let json = report.to_json();
        if let Some(file) = &self.out {
            let text = serde_json::to_vec_pretty(&json).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
            std::fs::write(file, text).map_err(|e| Fault::file(file, &e))?;
        }
        if voice.json {
            print_json(&json)?;
        } else {
            print_table(&json, &templates);
        }
        Ok(Exit::Done)
    }
}

fn print_table(json: &serde_json::Value, templates: &[Template]) {
    let mut table = table(&["workload", "octets", "mode", "threads", "profiles/s", "us each", "floor us", "ratio"]);
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    for template in templates {
        let name = &template.name;
        for mode in ["session", "ppp", "prepare"] {
            for threads in ["1", "2"] {
                let at = |member: &str| number(&json[member][name][mode][threads]);
                let (floor, bound) = (at("floor_us"), at("bound_us"));
                if bound.is_nan() {
                    continue;
                }
                table.add_row([
                    name.clone(),
                    template.upp.len().to_string(),
                    mode.to_owned(),
                    threads.to_owned(),
                    format!("{:.0}", at("bpp_per_s")),
                    format!("{bound:.1}"),
                    format!("{floor:.1}"),
                    format!("{:.2}", floor / bound),
                ]);
            }
        }
    }
    say!("{table}");
    let scaling = number(&json["threads2_over_1"]);
    say!("session: a whole package under session keys; ppp: around a stored PPP; prepare: personalised and stored");
    say!("two threads over one: {scaling:.2}   token signatures a package: {}", json["token_signatures_per_bind"]);
}
