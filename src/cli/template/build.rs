//! `bindery template build`: a readable source becomes a package.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::add::unusable;
use super::outline::counted;
use super::{Desk, is_named_file, read_bounded, read_file, template_name};
use crate::config::files::write_whole;
use crate::durable::open_below;
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::{Algorithm, UnknownAlgorithm};
use crate::formats::saip::lint::{Lint, Severity, lint};
use crate::formats::saip::source;

/// What `build` is asked for.
#[derive(Args, Debug)]
pub(super) struct Build {
    /// Source file (TOML), or the name of a preset: bootstrap, operational, iot-minimal, applet
    source: String,
    /// Put the result on the site's shelf
    #[arg(long, value_name = "NAME[@VERSION]")]
    name: Option<String>,
    /// Write the result (DER) to a file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Algorithm of every akaParameter, milenage or tuak, instead of the source's own
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
}

fn algorithm(word: &str) -> Result<Algorithm, UnknownAlgorithm> {
    word.parse()
}

impl Desk<'_> {
    pub(super) fn build(&self, build: &Build) -> Result<Exit, Fault> {
        let name = build.name.as_deref().map(template_name).transpose()?;
        if name.is_none() && build.out.is_none() {
            return Err(Fault::new(Exit::Usage, "nowhere to put the template")
                .hint("give --name NAME[@VERSION], --out FILE, or both"));
        }
        let (text, dir) = read_source(&build.source)?;
        let read = |file: &str| read_beside(dir.as_deref(), file);
        let options = source::Options { algorithm: build.algorithm, read: &read };
        let built = source::build_with(&text, &options).map_err(|e| {
            Fault::new(Exit::Config, format!("{}: {e}", build.source)).hint("correct the named line of the source")
        })?;
        let lint = lint(&built);
        refuse_unusable(&build.source, &lint)?;
        let new = name.as_ref().map(|name| self.shelve(name, &built)).transpose()?;
        if let Some(out) = &build.out {
            write_out(out, &built)?;
        }
        self.added(name.as_ref(), &built, &lint, new.unwrap_or(true))?;
        let errors = lint.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        if errors > 0 {
            let _ = writeln!(
                io::stderr(),
                "built with {}: correct the source before an order names it",
                counted(errors, "error")
            );
        }
        Ok(Exit::Done)
    }
}

/// What no command could read again, or no card hold, is a mistake of the source and written nowhere.
fn refuse_unusable(source: &str, lint: &Lint) -> Result<(), Fault> {
    let Some(finding) = unusable(lint) else { return Ok(()) };
    let what =
        format!("{source}: makes no package: {} at offset {}: {}", finding.rule, finding.offset, finding.message);
    Err(Fault::new(Exit::Config, what).hint("correct the source; nothing was written"))
}

/// A regular file, new or in place of the old one; whole or not at all.
fn write_out(out: &Path, der: &[u8]) -> Result<(), Fault> {
    if is_named_file(out) && !out.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file");
        return Err(Fault::file(out, &error));
    }
    write_whole(out, der, 0o644)
}

/// A file when there is one of this name, and where it is; else a preset.
fn read_source(source: &str) -> Result<(String, Option<PathBuf>), Fault> {
    let path = Path::new(source);
    if is_named_file(path) {
        let text = String::from_utf8(read_file(path)?).map_err(|e| {
            Fault::new(Exit::Config, format!("{source}: is not UTF-8 text: {e}")).hint("name a source file (TOML)")
        })?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return Ok((text, Some(dir.to_path_buf())));
    }
    let text = source::preset(source).map(str::to_owned).ok_or_else(|| {
        let names: Vec<_> = source::PRESETS.iter().map(|(name, _)| *name).collect();
        Fault::new(Exit::Config, format!("{source}: no such file and no preset of this name"))
            .hint(format!("name a source file, or a preset: {}", names.join(", ")))
    })?;
    Ok((text, None))
}

/// A file that a source names lies beside it or below: a source from elsewhere reads nothing else of this machine.
fn read_beside(dir: Option<&Path>, file: &str) -> Result<Vec<u8>, String> {
    let outside = || format!("{file} is not a path below the source's directory");
    let dir = dir.ok_or_else(outside)?;
    let (handle, _) = open_below(dir, file).map_err(|e| format!("{file}: {e}"))?.ok_or_else(outside)?;
    read_bounded(&dir.join(file), handle).map_err(|fault| fault.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source printed in the chapter for profile engineers.
    fn of_the_docs() -> String {
        let docs = include_str!("../../../docs/templates.md");
        let block = docs
            .lines()
            .skip_while(|line| !line.contains("schema = "))
            .take_while(|line| !line.starts_with("With `extends`"));
        block.map(|line| format!("{}\n", line.trim_start())).collect()
    }

    #[test]
    fn the_source_in_the_docs_is_built_with_a_load_block_beside_it_and_from_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("applet.ijc"), [1, 0, 4, 0xDE, 0xCA, 0xFF, 0xED]).unwrap();
        let build = |text: &str| {
            let read = |file: &str| read_beside(Some(dir.path()), file);
            source::build_with(text, &source::Options { algorithm: None, read: &read })
        };
        let der = build(&of_the_docs()).unwrap();
        assert!(!lint(&der).has_errors(), "{:?}", lint(&der).findings);
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.ijc")).unwrap();
        std::os::unix::fs::symlink("applet.ijc", dir.path().join("other.ijc")).unwrap();
        assert_eq!(build(&of_the_docs().replace("applet.ijc", "other.ijc")).unwrap(), der);
        for outside in ["../applet.ijc", "/etc/hostname", "", "a/../../b", "link.ijc"] {
            let error = build(&of_the_docs().replace("applet.ijc", outside)).unwrap_err();
            assert!(error.what.contains("not a path below"), "{outside}: {error}");
        }
        nix::unistd::mkfifo(&dir.path().join("pipe.ijc"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = build(&of_the_docs().replace("applet.ijc", "pipe.ijc")).unwrap_err();
        assert!(error.what.contains("is not a regular file"), "{error}");
    }

    fn desk_builds(dir: &Path, text: &str) -> (Result<Exit, Fault>, PathBuf) {
        let (source, out) = (dir.join("mine.toml"), dir.join("mine.der"));
        std::fs::write(&source, text).unwrap();
        let build =
            Build { source: source.to_str().unwrap().to_owned(), name: None, out: Some(out.clone()), algorithm: None };
        (Desk { site_dir: dir, json: false }.build(&build), out)
    }

    #[test]
    fn a_source_whose_package_nothing_could_read_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // Each element alone can be read, both together are more TLVs than any reader here takes.
        let raw = format!("\n[[element]]\nraw = \"{}\"\n", "A9 00 ".repeat(40_000));
        let raw = format!("{}{}", source::preset("bootstrap").unwrap(), raw.repeat(2));
        let (done, out) = desk_builds(dir.path(), &raw);
        let fault = done.unwrap_err();
        assert!(fault.exit == Exit::Config && fault.what.contains("mine.toml: makes no package: D01"), "{fault}");
        assert!(!out.exists());
    }

    #[test]
    fn a_package_with_other_errors_is_written_for_the_engineer_to_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let text = source::preset("bootstrap").unwrap().replacen("key = \"00 00", "key = \"00", 1);
        let (done, out) = desk_builds(dir.path(), &text);
        assert_eq!(done.unwrap(), Exit::Done);
        assert!(lint(&std::fs::read(out).unwrap()).has_errors());
    }

    #[test]
    fn the_docs_tell_the_presets_by_their_sizes() {
        let docs = include_str!("../../../docs/templates.md");
        for (name, text) in source::PRESETS {
            let octets = source::build(text).unwrap().len();
            let octets = match octets {
                0..1_000 => octets.to_string(),
                _ => format!("{},{:03}", octets / 1_000, octets % 1_000),
            };
            let row = docs.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            assert!(row.ends_with(&format!("| {octets} |")), "{row}: {octets}");
        }
    }
}
