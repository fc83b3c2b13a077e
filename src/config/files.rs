//! Files of a site, written durably; an error names the file.

use std::path::Path;

use crate::durable;
use crate::error::Fault;

/// Writes `path` whole, with these permissions from its first moment on.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), Fault> {
    durable::write(path, content, mode).map_err(|e| Fault::file(path, &e))
}

/// Makes a directory and those above it; `mode` holds for the new ones.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), Fault> {
    durable::make_dirs(path, mode).map_err(|e| Fault::file(path, &e))
}
