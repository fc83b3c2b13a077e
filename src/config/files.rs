//! Files written whole or not at all: under a temporary name, synced, renamed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::Fault;

/// Writes `path` whole, with these permissions from its first moment on.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), Fault> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Fault::file(path, &e)
    })
}

/// Makes a directory and those above it; `mode` holds for the new ones.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| Fault::file(path, &e))
}
