//! `bindery bench`: the command around [`super::measure`].

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::compared;
use super::targets::{TARGETS, Verdict, figures};
use super::{Effort, Part, Sizes, Template, measure, page};
use crate::cli::screen::{print_json, table};
use crate::cli::{Voice, init};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::hsm::pkcs11::Token;
use crate::hsm::{Hsm, Role};

/// Workloads of the suite: name in the report, preset.
const WORKLOADS: [(&str, &str); 4] =
    [("w1", "iot-minimal"), ("w2", "bootstrap"), ("w3", "operational"), ("w4", "applet")];

/// Measure bound profiles a second beside the floor of this machine, and hold them against the targets
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What is measured [default: everything]
    #[arg(long = "part", value_enum, value_delimiter = ',', value_name = "PART")]
    parts: Vec<Part>,
    #[command(flatten)]
    effort: Effort,
    #[command(flatten)]
    sizes: Sizes,
    /// Write the report to FILE too, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the report to FILE too, as a page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Set the figures beside those of an earlier report (a FILE of --out)
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

impl Bench {
    /// With a site: on its token. Without: on a demo site made for the purpose and removed afterwards.
    pub(crate) fn run(self, site: Option<&Path>, voice: Voice) -> Result<Exit, Fault> {
        let before = self.compare.as_deref().map(earlier).transpose()?;
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
        let parts = if self.parts.is_empty() { Part::ALL.to_vec() } else { self.parts };
        let mut json = measure(&token, &templates(&token)?, &parts, (self.effort, &self.sizes))?.to_json();
        if let (Some(before), Some(members)) = (&before, json.as_object_mut()) {
            let compared = compared(&Value::Object(members.clone()), before);
            members.insert("compared".to_owned(), compared);
        }
        if let Some(file) = &self.out {
            let text = serde_json::to_vec_pretty(&json).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
            std::fs::write(file, text).map_err(|e| Fault::file(file, &e))?;
        }
        if let Some(file) = &self.html {
            let page = page::html(&json).map_err(|e| Fault::new(Exit::Bug, format!("report page: {e:#}")))?;
            std::fs::write(file, page).map_err(|e| Fault::file(file, &e))?;
        }
        if voice.json {
            print_json(&json)?;
        } else {
            print_table(&json);
        }
        Ok(Exit::Done)
    }
}

/// Every workload, and W3 for eUICCs on the second curve if the token has a key there.
fn templates(token: &Token) -> Result<Vec<Template>, Fault> {
    let mut all = WORKLOADS
        .iter()
        .map(|(name, preset)| Template::of_preset(name, preset, Curve::P256))
        .collect::<Result<Vec<_>, _>>()?;
    if token.key(&Role::DpPb(Curve::Brainpool)).is_ok() {
        all.push(Template::of_preset("w3_brainpool", "operational", Curve::Brainpool)?);
    }
    Ok(all)
}

fn earlier(file: &Path) -> Result<Value, Fault> {
    let text = std::fs::read(file).map_err(|e| Fault::file(file, &e))?;
    let report: Option<Value> = serde_json::from_slice(&text).ok();
    report.filter(|report| report["floor_us"].is_object()).ok_or_else(|| {
        Fault::new(Exit::Config, format!("{} is no report of `bindery bench`", file.display()))
            .hint("give a file that `bindery bench --out FILE` wrote")
    })
}

fn print_table(json: &Value) {
    let is_compared = json["compared"].is_object();
    let mut header = vec!["", "measured", "target", "verdict", "a second"];
    header.extend(is_compared.then_some("of before"));
    let mut table = table(&header);
    for target in TARGETS {
        let verdict = target.verdict(json);
        if verdict == Verdict::NotMeasured {
            continue;
        }
        let mut row = vec![
            target.what.to_owned(),
            in_short(&json[target.member]),
            target.bound_text(),
            verdict.as_str().to_owned(),
            per_s(json, target.member),
        ];
        let of_before = json["compared"][target.member]["ratio"].as_f64();
        row.extend(is_compared.then(|| of_before.map_or_else(String::new, |ratio| format!("{ratio:.2}"))));
        table.add_row(row);
    }
    say!("{table}");
    say!("two figures: on one thread and on two. W1 to W4: docs/throughput.md");
    let host = &json["host"];
    let text = |name: &str| host[name].as_str().unwrap_or("?");
    say!("{}, {} CPUs; {}; {}", text("cpu"), host["cpus"], text("openssl"), text("hsm_module"));
}

/// `0.95  0.93` by threads, else the median.
pub(super) fn in_short(member: &Value) -> String {
    let all: Vec<_> = figures(member).into_iter().map(|figure| format!("{figure:.2}")).collect();
    all.join("  ")
}

/// Profiles a second behind a ratio: the most of its thread counts.
fn per_s(json: &Value, member: &str) -> String {
    let words: Vec<&str> = member.trim_end_matches("_ratio").split('_').collect();
    let figure = match words[..] {
        ["bind", mode, workload] => &json["bpp_per_s"][workload][mode],
        ["bind", workload] => &json["bpp_per_s"][workload]["session"],
        ["prepare", workload] => &json["bpp_per_s"][workload]["prepare"],
        ["run", "w3"] => &json["run_w3_per_s"],
        _ => return String::new(),
    };
    figures(figure).into_iter().reduce(f64::max).map_or_else(String::new, |most| format!("{most:.0}"))
}
