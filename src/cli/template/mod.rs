//! `bindery template`: build, add, check and look at templates.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::lint::{Lint, Severity, lint};
use crate::formats::saip::package::{Package, children};
use crate::formats::saip::source;
use crate::personalise::shelf::{Shelf, ShelfError, TemplateName};
use crate::personalise::{CompiledTemplate, Settings};

/// Build, add, check and look at profile templates
#[derive(Args, Debug)]
pub struct Template {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Put a DER template on the site's shelf; a version never changes
    Add {
        /// SAIP profile package (DER)
        file: PathBuf,
        /// Name and version, such as ts48@5; version 1 when left out
        #[arg(long, value_name = "NAME[@VERSION]")]
        name: String,
    },
    /// Build a template from its readable source
    Build {
        /// Source file (TOML), or the name of a preset: bootstrap, operational, iot-minimal, applet
        source: String,
        /// Put the result on the site's shelf
        #[arg(long, value_name = "NAME[@VERSION]")]
        name: Option<String>,
        /// Write the result (DER) to a file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a template against the rules; ends with 8 when a finding is an error
    Lint {
        /// File (DER), or NAME[@VERSION] of the shelf
        template: String,
    },
    /// Show what a template takes, from where, and what a record must give
    Vars {
        /// File (DER), or NAME[@VERSION] of the shelf
        template: String,
    },
    /// List the templates of the site
    List,
    /// Show the elements and files of a template
    Show {
        /// File (DER), or NAME[@VERSION] of the shelf
        template: String,
    },
    /// Tell in which elements and files two templates differ
    Diff {
        /// File (DER), or NAME[@VERSION] of the shelf
        old: String,
        /// Likewise
        new: String,
    },
}

impl Template {
    /// Runs the command; results go to stdout, everything else to stderr.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let desk = Desk { site_dir, json };
        match self.command {
            Command::Add { file, name } => desk.add(&file, &name),
            Command::Build { source, name, out } => desk.build(&source, name.as_deref(), out.as_deref()),
            Command::Lint { template } => desk.lint(&template),
            Command::Vars { template } => desk.vars(&template),
            Command::List => desk.list(),
            Command::Show { template } => desk.show(&template),
            Command::Diff { old, new } => desk.diff(&old, &new),
        }
    }
}

/// Tables fit a terminal of this many columns.
const COLUMNS: u16 = 100;
/// Plaintext octets of one segment of a bound package (SGP.22 §2.5.3).
const SEGMENT: usize = 1_007;
/// Octets of a template or its source at most: several times what the memory of an eUICC holds.
const MAX_OCTETS: u64 = 4 << 20;

struct Desk<'a> {
    site_dir: &'a Path,
    json: bool,
}

impl Desk<'_> {
    fn add(&self, file: &Path, name: &str) -> Result<Exit, Fault> {
        let name = template_name(name)?;
        let der = read_file(file)?;
        self.put(&name, &der, &lint(&der))
    }

    fn build(&self, source: &str, name: Option<&str>, out: Option<&Path>) -> Result<Exit, Fault> {
        let name = name.map(template_name).transpose()?;
        if name.is_none() && out.is_none() {
            return Err(Fault::new(Exit::Usage, "nowhere to put the template")
                .hint("give --name NAME[@VERSION], --out FILE, or both"));
        }
        let text = read_source(source)?;
        let built = source::build(&text).map_err(|e| {
            Fault::new(Exit::Config, format!("{source}: {e}")).hint("correct the named line of the source")
        })?;
        let lint = lint(&built);
        if let Some(out) = out {
            std::fs::write(out, &built).map_err(|e| Fault::file(out, &e))?;
        }
        match name {
            Some(name) => self.put(&name, &built, &lint),
            None => {
                warn(&lint);
                self.added(None, &built, &lint)
            }
        }
    }

    fn put(&self, name: &TemplateName, der: &[u8], lint: &Lint) -> Result<Exit, Fault> {
        let unusable = |rule: &str| matches!(rule, "D01" | "H01" | "F09");
        let errors = || lint.findings.iter().filter(|finding| finding.severity == Severity::Error);
        if let Some(finding) = errors().find(|finding| unusable(finding.rule)) {
            let what = format!("{} at offset {}: {}", finding.rule, finding.offset, finding.message);
            return Err(Fault::new(Exit::IntegrityFailure, what).hint(finding.hint));
        }
        self.shelf()?.add(name, der).map_err(shelf_fault)?;
        warn(lint);
        self.added(Some(name), der, lint)
    }

    fn added(&self, name: Option<&TemplateName>, der: &[u8], lint: &Lint) -> Result<Exit, Fault> {
        let sha256 = data_encoding::HEXLOWER.encode(&openssl::sha::sha256(der));
        if self.json {
            let name = name.map(TemplateName::to_string);
            say(&json!({"template": name, "bytes": der.len(), "sha256": sha256, "findings": lint.findings}).to_string());
        } else {
            let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
            say(&format!("{name}{} octets, {} segments, sha256 {sha256}", der.len(), der.len().div_ceil(SEGMENT)));
        }
        Ok(Exit::Done)
    }

    fn lint(&self, template: &str) -> Result<Exit, Fault> {
        let lint = lint(&self.resolve(template)?);
        if self.json {
            say(&serde_json::to_string(&lint).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?);
        } else if lint.findings.is_empty() {
            say(&format!("{} rules ran, nothing found", lint.rules_run));
        } else {
            let mut table = table(&["rule", "severity", "element", "offset", "message", "what to do"]);
            for finding in &lint.findings {
                let severity = severity_word(finding.severity);
                table.add_row([
                    finding.rule,
                    severity,
                    &finding.element,
                    &finding.offset.to_string(),
                    &finding.message,
                    finding.hint,
                ]);
            }
            say(&format!("{table}\n{} rules ran, {} findings", lint.rules_run, lint.findings.len()));
        }
        Ok(if lint.has_errors() { Exit::IntegrityFailure } else { Exit::Done })
    }

    fn vars(&self, template: &str) -> Result<Exit, Fault> {
        let der = self.resolve(template)?;
        let compiled = compile(&der, Algorithm::Milenage)?;
        let tuak = compile(&der, Algorithm::Tuak)?;
        if self.json {
            let inputs: Vec<_> = compiled
                .inputs()
                .iter()
                .map(|input| {
                    json!({"name": input.name, "source": input.source, "required": input.required,
                           "octets": input.octets, "places": input.places})
                })
                .collect();
            let sizes = json!({"milenage": compiled.upp_len(), "tuak": tuak.upp_len()});
            say(&json!({"template": template, "upp_bytes": sizes, "inputs": inputs}).to_string());
            return Ok(Exit::Done);
        }
        let mut table = table(&["name", "given by", "record must", "octets", "places"]);
        for input in compiled.inputs() {
            let octets = if input.octets == 0 { String::new() } else { input.octets.to_string() };
            let must = if input.required { "give it" } else { "" };
            table.add_row([&input.name, input.source, must, &octets, &input.places.join(", ")]);
        }
        let sizes = format!("{} octets with Milenage, {} with TUAK", compiled.upp_len(), tuak.upp_len());
        say(&format!("{table}\nA package of a record has {sizes}."));
        Ok(Exit::Done)
    }

    fn list(&self) -> Result<Exit, Fault> {
        let templates = self.shelf()?.list().map_err(shelf_fault)?;
        if self.json {
            let rows: Vec<_> =
                templates.iter().map(|(name, bytes)| json!({"template": name.to_string(), "bytes": bytes})).collect();
            say(&json!({"templates": rows}).to_string());
            return Ok(Exit::Done);
        }
        let mut table = table(&["template", "octets", "segments"]);
        for (name, bytes) in templates {
            table.add_row([name.to_string(), bytes.to_string(), bytes.div_ceil(SEGMENT as u64).to_string()]);
        }
        say(&table.to_string());
        Ok(Exit::Done)
    }

    fn show(&self, template: &str) -> Result<Exit, Fault> {
        let der = self.resolve(template)?;
        let package = parse(template, &der)?;
        let mut table = table(&["element", "tag", "offset", "octets"]);
        let mut rows = Vec::new();
        for element in &package.elements {
            let files: Vec<_> =
                children(&element.tlv).filter_map(|tlv| Some((element.kind.file_name(tlv.tag)?, tlv))).collect();
            let cells = |name: String, tlv: &crate::formats::tlv::Tlv<'_>| {
                [name, tlv.tag.to_string(), tlv.offset.to_string(), tlv.whole.len().to_string()]
            };
            table.add_row(cells(element.label(), &element.tlv));
            for (name, tlv) in &files {
                table.add_row(cells(format!("  {name}"), tlv));
            }
            let files: Vec<_> = files
                .iter()
                .map(|(name, tlv)| {
                    json!({"file": name, "tag": tlv.tag.to_string(), "offset": tlv.offset, "bytes": tlv.whole.len()})
                })
                .collect();
            rows.push(json!({"element": element.kind.name(), "id": element.id, "tag": element.tlv.tag.to_string(),
                "offset": element.tlv.offset, "bytes": element.tlv.whole.len(), "files": files}));
        }
        if self.json {
            say(&json!({"template": template, "bytes": der.len(), "elements": rows}).to_string());
        } else {
            say(&table.to_string());
        }
        Ok(Exit::Done)
    }

    fn diff(&self, old: &str, new: &str) -> Result<Exit, Fault> {
        let (old_der, new_der) = (self.resolve(old)?, self.resolve(new)?);
        let (before, after) = (parts(&parse(old, &old_der)?), parts(&parse(new, &new_der)?));
        let mut differences: Vec<(&str, &str)> = Vec::new();
        for (name, octets) in &before {
            match after.iter().find(|(other, _)| other == name) {
                None => differences.push((name, "removed")),
                Some((_, other)) if other != octets => differences.push((name, "changed")),
                Some(_) => {}
            }
        }
        let added = after.iter().filter(|(name, _)| before.iter().all(|(other, _)| other != name));
        differences.extend(added.map(|(name, _)| (name.as_str(), "added")));
        if differences.is_empty() && old_der != new_der {
            differences.push(("package", "reordered"));
        }
        if self.json {
            let rows: Vec<_> =
                differences.iter().map(|(part, change)| json!({"part": part, "change": change})).collect();
            say(&json!({"old": old, "new": new, "differences": rows}).to_string());
        } else if differences.is_empty() {
            say("the same octets");
        } else {
            let mut table = table(&["element or file", "change"]);
            differences.iter().for_each(|(part, change)| {
                table.add_row([part, change]);
            });
            say(&table.to_string());
        }
        Ok(Exit::Done)
    }

    /// A file when there is one of this name, else a template of the shelf.
    fn resolve(&self, template: &str) -> Result<Vec<u8>, Fault> {
        let path = Path::new(template);
        if path.is_file() {
            return read_file(path);
        }
        let name = TemplateName::with_default_version(template).map_err(|e| {
            Fault::new(Exit::Config, format!("{template}: no such file, and {e}"))
                .hint("name a DER file, or a template of `bindery template list`")
        })?;
        self.shelf()?.load(&name).map_err(shelf_fault)
    }

    fn shelf(&self) -> Result<Shelf, Fault> {
        Ok(Shelf::open(Site::open(self.site_dir)?.templates()))
    }
}

fn parse<'a>(template: &str, der: &'a [u8]) -> Result<Package<'a>, Fault> {
    Package::parse(der).map_err(|e| {
        Fault::new(Exit::IntegrityFailure, format!("{template}: {e}")).hint("run `bindery template lint` on it")
    })
}

/// Every file of a package, and what is left of each element, by a name that does not depend on PE ids.
fn parts(package: &Package<'_>) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::new();
    for (at, element) in package.elements.iter().enumerate() {
        let kind = element.kind;
        let number = package.elements[..at].iter().filter(|other| other.kind == kind).count() + 1;
        let name = format!("{kind} {number}");
        let mut rest = Vec::new();
        for member in children(&element.tlv) {
            match kind.file_name(member.tag) {
                Some(file) => parts.push((format!("{name}/{file}"), member.whole.to_vec())),
                None => rest.extend_from_slice(member.whole),
            }
        }
        parts.push((name, rest));
    }
    parts
}

fn compile(der: &[u8], algorithm: Algorithm) -> Result<CompiledTemplate, Fault> {
    let settings = Settings { algorithm, ..Settings::default() };
    CompiledTemplate::compile(der, &settings)
        .map_err(|e| Fault::new(Exit::IntegrityFailure, e.to_string()).hint(e.hint()))
}

fn template_name(text: &str) -> Result<TemplateName, Fault> {
    TemplateName::with_default_version(text)
        .map_err(|e| Fault::new(Exit::Usage, e.to_string()).hint("for example --name operational@2"))
}

/// A file of bounded size, whatever its metadata say.
fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut octets = Vec::new();
    let file = File::open(path).map_err(|e| Fault::file(path, &e))?;
    file.take(MAX_OCTETS + 1).read_to_end(&mut octets).map_err(|e| Fault::file(path, &e))?;
    if octets.len() as u64 > MAX_OCTETS {
        let what = format!("{}: has more than {MAX_OCTETS} octets, no template has", path.display());
        return Err(Fault::new(Exit::Config, what).hint("name a SAIP profile package (DER) or its source"));
    }
    Ok(octets)
}

/// A file when there is one of this name, else a preset.
fn read_source(source: &str) -> Result<String, Fault> {
    let path = Path::new(source);
    if path.is_file() {
        return String::from_utf8(read_file(path)?).map_err(|e| {
            Fault::new(Exit::Config, format!("{source}: is not UTF-8 text: {e}")).hint("name a source file (TOML)")
        });
    }
    source::preset(source).map(str::to_owned).ok_or_else(|| {
        let names: Vec<_> = source::PRESETS.iter().map(|(name, _)| *name).collect();
        Fault::new(Exit::Config, format!("{source}: no such file and no preset of this name"))
            .hint(format!("name a source file, or a preset: {}", names.join(", ")))
    })
}

fn shelf_fault(error: ShelfError) -> Fault {
    let exit = match error {
        ShelfError::Taken(_) => Exit::DuplicateConflict,
        ShelfError::Io { .. } | ShelfError::Unknown(_) => Exit::Config,
    };
    let hint = error.hint();
    Fault::new(exit, error.to_string()).hint(hint)
}

/// Findings that do not keep a template off the shelf.
fn warn(lint: &Lint) {
    for finding in &lint.findings {
        let word = severity_word(finding.severity);
        let where_ = format!("{} at offset {}", finding.element, finding.offset);
        let _ = writeln!(io::stderr(), "{word} {}: {where_}: {}\n  {}", finding.rule, finding.message, finding.hint);
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS).set_header(header);
    table
}

/// A reader that went away early (`| head`) is no fault of ours.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        template: Template,
    }

    fn run(site: &Path, words: &[&str]) -> Result<Exit, Fault> {
        let line = Line::try_parse_from([&["template"], words].concat()).unwrap();
        line.template.run(site, false)
    }

    fn site() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let toml = "schema = \"bindery.site/1\"\n[hsm]\nmodule = \"m\"\nprofile = \"softhsm\"\ntoken_label = \"t\"\n\
            pin_file = \"p\"\npolicy = \"k\"\n[smdp]\naddress = \"a\"\nhost_id = \"h\"\n";
        std::fs::write(dir.path().join("bindery.toml"), toml).unwrap();
        dir
    }

    #[test]
    fn a_preset_is_built_put_on_the_shelf_and_checked() {
        let site = site();
        let der = site.path().join("boot.der");
        let out = der.to_str().unwrap();
        assert_eq!(run(site.path(), &["build", "bootstrap", "--name", "boot", "--out", out]).unwrap(), Exit::Done);
        for words in [&["lint", "boot"][..], &["lint", out], &["vars", "boot@1"], &["show", out], &["list"]] {
            assert_eq!(run(site.path(), words).unwrap(), Exit::Done, "{words:?}");
        }
        assert_eq!(run(site.path(), &["add", out, "--name", "boot@2"]).unwrap(), Exit::Done);
        assert_eq!(Shelf::open(site.path().join("templates")).list().unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_a_package_does_not_reach_the_shelf() {
        let site = site();
        let junk = site.path().join("junk");
        std::fs::write(&junk, b"-----BEGIN PROFILE-----").unwrap();
        let junk = junk.to_str().unwrap();
        assert_eq!(run(site.path(), &["add", junk, "--name", "junk"]).unwrap_err().exit, Exit::IntegrityFailure);
        assert_eq!(run(site.path(), &["lint", junk]).unwrap(), Exit::IntegrityFailure);
        assert!(!site.path().join("templates").exists());
    }

    #[test]
    fn a_file_above_four_megabytes_is_not_read_as_a_template() {
        let site = site();
        let large = site.path().join("large");
        File::create(&large).unwrap().set_len(1 << 40).unwrap();
        let large = large.to_str().unwrap();
        for words in [&["add", large, "--name", "large"][..], &["lint", large], &["build", large, "--name", "large"]] {
            let fault = run(site.path(), words).unwrap_err();
            assert!(
                fault.exit == Exit::Config && fault.to_string().contains("more than 4194304"),
                "{words:?}: {fault}"
            );
        }
    }

    #[test]
    fn wrong_words_are_told_apart() {
        let site = site();
        let exit = |words: &[&str]| run(site.path(), words).unwrap_err().exit;
        assert_eq!(exit(&["build", "bootstrap"]), Exit::Usage);
        assert_eq!(exit(&["build", "bootstrap", "--name", "Boot"]), Exit::Usage);
        assert_eq!(exit(&["build", "unheard-of", "--name", "a"]), Exit::Config);
        assert_eq!(exit(&["lint", "unheard-of"]), Exit::Config);
        run(site.path(), &["build", "bootstrap", "--name", "a"]).unwrap();
        assert_eq!(exit(&["build", "iot-minimal", "--name", "a"]), Exit::DuplicateConflict);
    }

    #[test]
    fn a_difference_is_named_by_element_and_file() {
        let build = |text: &str| source::build(text).unwrap();
        let text = source::preset("bootstrap").unwrap();
        let (old, new) = (build(text), build(&text.replace("42 6F 6F 74", "4D 69 6E 69")));
        let (before, after) = (parts(&Package::parse(&old).unwrap()), parts(&Package::parse(&new).unwrap()));
        let changed: Vec<_> =
            before.iter().zip(&after).filter(|(old, new)| old != new).map(|(old, _)| &old.0).collect();
        assert_eq!(changed, ["usim 1/ef-spn"]);
        let site = site();
        let file = |name: &str, der: &[u8]| {
            let path = site.path().join(name);
            std::fs::write(&path, der).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (old, new) = (file("old", &old), file("new", &new));
        assert_eq!(run(site.path(), &["diff", &old, &new]).unwrap(), Exit::Done);
    }

    #[test]
    fn tables_fit_their_columns() {
        let mut table = table(&["a", "b"]);
        table.add_row(["word ".repeat(40), "word ".repeat(40)]);
        assert!(table.to_string().lines().all(|line| line.chars().count() <= usize::from(COLUMNS)));
    }
}
