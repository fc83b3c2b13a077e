//! `bindery template build`: a readable source becomes a package.

use std::path::Path;

use super::lint::warn;
use super::{Desk, read_file, template_name};
use crate::error::{Exit, Fault};
use crate::formats::saip::lint::lint;
use crate::formats::saip::source;

impl Desk<'_> {
    pub(super) fn build(&self, source: &str, name: Option<&str>, out: Option<&Path>) -> Result<Exit, Fault> {
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
