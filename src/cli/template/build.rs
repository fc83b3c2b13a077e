//! `bindery template build`: a readable source becomes a package.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::lint::warn;
use super::{Desk, read_file, template_name};
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::{Algorithm, UnknownAlgorithm};
use crate::formats::saip::lint::lint;
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
        if let Some(out) = &build.out {
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
}

/// A file when there is one of this name, and where it is; else a preset.
fn read_source(source: &str) -> Result<(String, Option<PathBuf>), Fault> {
    let path = Path::new(source);
    if path.is_file() {
        let text = String::from_utf8(read_file(path)?).map_err(|e| {
            Fault::new(Exit::Config, format!("{source}: is not UTF-8 text: {e}")).hint("name a source file (TOML)")
        })?;
        return Ok((text, path.parent().map(Path::to_path_buf)));
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
    let is_below = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    let dir = dir
        .filter(|_| is_below && !file.is_empty())
        .ok_or_else(|| format!("{file} is not a path below the source's directory"))?;
    read_file(&dir.join(file)).map_err(|fault| fault.what)
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
            .take_while(|line| !line.starts_with("A source"));
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
        for outside in ["../applet.ijc", "/etc/hostname", "", "a/../../b"] {
            let error = build(&of_the_docs().replace("applet.ijc", outside)).unwrap_err();
            assert!(error.what.contains("not a path below"), "{outside}: {error}");
        }
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
