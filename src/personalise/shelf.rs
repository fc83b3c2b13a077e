//! The templates of a site: files `templates/NAME@VERSION.der`, each immutable once it is there.
//!
//! An order names a template with its version, and its packages must be reproducible; so a version never gets other bytes.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use crate::durable::{self, Pending};
use crate::formats::saip::source::{self, SourceError};

/// Name and version of a template: `bootstrap@1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName {
    name: String,
    version: String,
}

/// A text that names no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not NAME@VERSION (name of a-z, 0-9 and '-', version of letters, digits and '.', each of 1 to 64 characters)"
)]
pub struct NameError(String);

impl TemplateName {
    /// As [`FromStr`], but a name alone means its version 1.
    pub fn with_default_version(text: &str) -> Result<Self, NameError> {
        if text.contains('@') {
            text.parse()
        } else {
            format!("{text}@1").parse().map_err(|_| NameError(text.to_owned()))
        }
    }

    /// What stands before the `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands behind the `@`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl FromStr for TemplateName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError(text.to_owned());
        let (name, version) = text.split_once('@').ok_or_else(wrong)?;
        let in_name = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let in_version = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
        let sound =
            |part: &str, allowed: &dyn Fn(u8) -> bool| (1..=64).contains(&part.len()) && part.bytes().all(allowed);
        if !sound(name, &in_name) || !sound(version, &in_version) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), version: version.to_owned() })
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Why the shelf cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// No such template.
    #[error("no template {0}")]
    Unknown(TemplateName),
    /// The version is taken by other bytes.
    #[error("template {0} is already there with other bytes")]
    Taken(TemplateName),
}

impl ShelfError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check that the site's templates/ directory can be read and written",
            Self::Unknown(_) => "run `bindery template list` to see what is there",
            Self::Taken(_) => "a version never changes; add it under a new one",
        }
    }
}

/// A directory of templates.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// Over `dir`, which is made by the first [`Shelf::add`].
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Puts a template on the shelf: written under a temporary name, synced, linked. The same bytes again are fine.
    pub fn add(&self, name: &TemplateName, der: &[u8]) -> Result<PathBuf, ShelfError> {
        let path = self.path(name);
        let failed = |error| ShelfError::Io { path: path.clone(), error };
        durable::make_dirs(&self.dir, 0o755).map_err(failed)?;
        let mut pending = Pending::create(&path, 0o644).map_err(failed)?;
        pending.write_all(der).map_err(failed)?;
        match pending.publish_new() {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path).map_err(failed)? != der {
                    return Err(ShelfError::Taken(name.clone()));
                }
            }
            Err(e) => return Err(failed(e)),
        }
        Ok(path)
    }

    /// The bytes of a template.
    pub fn load(&self, name: &TemplateName) -> Result<Vec<u8>, ShelfError> {
        let path = self.path(name);
        fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ShelfError::Unknown(name.clone()),
            _ => ShelfError::Io { path, error },
        })
    }

    /// All templates with their sizes, by name. Other files in the directory are passed over.
    pub fn list(&self) -> Result<Vec<(TemplateName, u64)>, ShelfError> {
        let failed = |error| ShelfError::Io { path: self.dir.clone(), error };
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut templates = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_str().and_then(|file| file.strip_suffix(".der")).and_then(|name| name.parse().ok());
            if let Some(name) = name {
                templates.push((name, entry.metadata().map_err(failed)?.len()));
            }
        }
        templates.sort();
        Ok(templates)
    }

    fn path(&self, name: &TemplateName) -> PathBuf {
        self.dir.join(format!("{name}.der"))
    }
}

/// The built-in sources: name and text.
pub fn presets() -> &'static [(&'static str, &'static str)] {
    source::PRESETS
}

/// DER of a built-in template; `None` when there is none of this name.
pub fn preset(name: &str) -> Option<Result<Vec<u8>, SourceError>> {
    source::preset(name).map(source::build)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TemplateName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_strict() {
        assert_eq!(name("ts48-suci@5.0a").to_string(), "ts48-suci@5.0a");
        assert_eq!(TemplateName::with_default_version("bootstrap").unwrap(), name("bootstrap@1"));
        for wrong in ["bootstrap", "Boot@1", "a@", "@1", "a@1@2", "../a@1", "a@1/2", "a b@1", "a@-"] {
            assert!(wrong.parse::<TemplateName>().is_err(), "{wrong}");
        }
        assert!(TemplateName::with_default_version("a/b").is_err());
    }

    #[test]
    fn a_version_never_gets_other_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().join("templates"));
        assert!(shelf.list().unwrap().is_empty());
        shelf.add(&name("b@1"), b"one").unwrap();
        shelf.add(&name("b@1"), b"one").unwrap();
        assert!(matches!(shelf.add(&name("b@1"), b"two"), Err(ShelfError::Taken(_))));
        shelf.add(&name("a@2"), b"two!").unwrap();
        assert_eq!(shelf.load(&name("b@1")).unwrap(), b"one");
        assert_eq!(shelf.list().unwrap(), [(name("a@2"), 4), (name("b@1"), 3)]);
        assert!(matches!(shelf.load(&name("c@1")), Err(ShelfError::Unknown(_))));
        let files = fs::read_dir(dir.path().join("templates")).unwrap().count();
        assert_eq!(files, 2, "no temporary file is left");
    }

    #[test]
    fn every_preset_is_there_under_its_name() {
        for (preset_name, _) in presets() {
            assert!(preset(preset_name).unwrap().is_ok());
            assert!(TemplateName::with_default_version(preset_name).is_ok());
        }
        assert!(preset("unheard-of").is_none());
    }
}
