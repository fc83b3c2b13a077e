//! The file-system templates of SAIP Annex B: which files they hold, with identifiers, sizes and defaults.
