//! `bindery template`: build, add, check and look at templates.

mod add;
mod build;
mod diff;
mod lint;
mod list;
mod outline;
mod show;
mod vars;

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::Site;
use crate::durable;
use crate::error::{Exit, Fault};
use crate::formats::saip::package::Package;
use crate::personalise::shelf::{Shelf, ShelfError, TemplateName, preset};

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
    Build(build::Build),
    /// Check a template against the rules; ends with 8 when a finding is an error
    Lint(lint::LintArgs),
    /// Show what a template takes, from where, and what a record must give
    Vars {
        /// File (DER), NAME[@VERSION] of the shelf, or the name of a preset
        template: String,
    },
    /// List the templates of the site
    List,
    /// Show the elements and files of a template
    Show(show::Show),
    /// Tell in which elements and files two templates differ
    Diff {
        /// File (DER), NAME[@VERSION] of the shelf, or the name of a preset
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
            Command::Build(build) => desk.build(&build),
            Command::Lint(args) => desk.lint(&args),
            Command::Vars { template } => desk.vars(&template),
            Command::List => desk.list(),
            Command::Show(show) => desk.show(&show),
            Command::Diff { old, new } => desk.diff(&old, &new),
        }
    }
}

/// Plaintext octets of one segment of a bound package (SGP.22 §2.5.3).
const SEGMENT: usize = 1_007;

/// Segments of a bound package with this many octets of plaintext.
fn segments(bytes: usize) -> usize {
    bytes.div_ceil(SEGMENT)
}

/// Octets of a template or its source at most: several times what the memory of an eUICC holds.
const MAX_OCTETS: u64 = 4 << 20;

fn sha256_hex(der: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&openssl::sha::sha256(der))
}

struct Desk<'a> {
    site_dir: &'a Path,
    json: bool,
}

impl Desk<'_> {
    /// A file when there is one of this name, else a template of the shelf, else a preset: that one needs no site.
    fn resolve(&self, template: &str) -> Result<Vec<u8>, Fault> {
        let path = Path::new(template);
        if is_named_file(path) {
            return read_file(path);
        }
        let name = TemplateName::with_default_version(template).map_err(|e| {
            Fault::new(Exit::Config, format!("{template}: no such file, and {e}"))
                .hint("name a DER file, a template of `bindery template list`, or a preset")
        })?;
        let shelved = self.shelf().and_then(|shelf| shelf.load(&name).map_err(shelf_fault));
        shelved.or_else(|fault| match preset(template) {
            Some(built) => built.map_err(|e| Fault::new(Exit::Bug, format!("preset {template}: {e}"))),
            None => Err(fault),
        })
    }

    fn shelf(&self) -> Result<Shelf, Fault> {
        Ok(Shelf::open(Site::open(self.site_dir)?.templates()))
    }
}

fn parse<'a>(template: &str, der: &'a [u8]) -> Result<Package<'a>, Fault> {
    let wrong = |what: &dyn Display| Fault::new(Exit::IntegrityFailure, format!("{template}: {what}"));
    if der.is_empty() {
        return Err(wrong(&"the file is empty").hint("name a SAIP profile package (DER)"));
    }
    Package::parse(der).map_err(|e| wrong(&e).hint("run `bindery template lint` on it"))
}

fn template_name(text: &str) -> Result<TemplateName, Fault> {
    TemplateName::with_default_version(text)
        .map_err(|e| Fault::new(Exit::Usage, e.to_string()).hint("for example --name operational@2"))
}

/// Something that is no directory has this name. A pipe or a device counts: [`read_file`] says what is wrong with it.
fn is_named_file(path: &Path) -> bool {
    path.exists() && !path.is_dir()
}

/// A regular file of bounded size, whatever its metadata say.
fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let (file, _) = durable::open_regular(path).map_err(|e| Fault::file(path, &e))?;
    read_bounded(path, file)
}

fn read_bounded(path: &Path, file: File) -> Result<Vec<u8>, Fault> {
    let mut octets = Vec::new();
    file.take(MAX_OCTETS + 1).read_to_end(&mut octets).map_err(|e| Fault::file(path, &e))?;
    if octets.len() as u64 > MAX_OCTETS {
        let what = format!("{}: has more than {MAX_OCTETS} octets, no template has", path.display());
        return Err(Fault::new(Exit::Config, what).hint("name a SAIP profile package (DER) or its source"));
    }
    Ok(octets)
}

fn shelf_fault(error: ShelfError) -> Fault {
    let exit = match error {
        ShelfError::Taken(_) => Exit::DuplicateConflict,
        ShelfError::Io { .. } | ShelfError::Unknown(_) => Exit::Config,
    };
    let hint = error.hint();
    Fault::new(exit, error.to_string()).hint(hint)
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
    fn pipes_and_devices_are_refused_without_waiting_for_them() {
        let site = site();
        let pipe = site.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = pipe.to_str().unwrap();
        for words in [
            &["add", pipe, "--name", "pipe"][..],
            &["add", "/dev/zero", "--name", "zero"],
            &["lint", pipe],
            &["lint", "bootstrap", "--target", pipe],
            &["show", pipe],
            &["vars", pipe],
            &["diff", "bootstrap", pipe],
            &["build", pipe, "--name", "pipe"],
            &["build", "bootstrap", "--out", pipe],
        ] {
            let fault = run(site.path(), words).unwrap_err();
            assert!(fault.exit == Exit::Config && fault.what.contains("is not a regular file"), "{words:?}: {fault}");
        }
    }

    #[test]
    fn an_empty_file_is_no_template_for_any_command() {
        let site = site();
        let empty = site.path().join("empty.der");
        std::fs::write(&empty, b"").unwrap();
        let empty = empty.to_str().unwrap();
        for words in
            [&["show", empty][..], &["diff", "bootstrap", empty], &["vars", empty], &["add", empty, "--name", "empty"]]
        {
            let fault = run(site.path(), words).unwrap_err();
            assert_eq!(fault.exit, Exit::IntegrityFailure, "{words:?}: {fault}");
        }
        assert!(run(site.path(), &["show", empty]).unwrap_err().what.ends_with(": the file is empty"));
        assert_eq!(run(site.path(), &["lint", empty]).unwrap(), Exit::IntegrityFailure);
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
}
