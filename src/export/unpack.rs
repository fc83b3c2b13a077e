//! Takes a bundle apart: one file a package, `<EID>_<ICCID>.der`, each checked against its record's hash.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use openssl::sha::sha256;
use serde::Deserialize;

use crate::error::{Exit, Fault};
use crate::ids::{Eid, Iccid};
use crate::store::packages::{LocalFiles, Packages};

/// The members of `orders.jsonl` that unpacking needs.
#[derive(Deserialize)]
struct Record {
    eid: Option<String>,
    iccid: String,
    object: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
    sha256: Option<String>,
}

/// Whether every package that the records of `bundle` name is among those that were `made`, by SHA-256; else exit 8.
pub fn check_made(bundle: &Path, made: &HashSet<[u8; 32]>) -> Result<(), Fault> {
    let orders = bundle.join("orders.jsonl");
    let file = File::open(&orders).map_err(|e| Fault::file(&orders, &e))?;
    for (at, line) in (1_u64..).zip(BufReader::new(file).lines()) {
        let broken =
            |what: String| Fault::new(Exit::IntegrityFailure, format!("{} line {at}: {what}", orders.display()));
        let line = line.map_err(|e| Fault::file(&orders, &e))?;
        let record: Record = serde_json::from_str(&line).map_err(|e| broken(e.to_string()))?;
        let Some(named) = record.object.and(record.sha256) else { continue };
        let named = data_encoding::HEXLOWER.decode(named.as_bytes()).ok().and_then(|sha| sha.try_into().ok());
        if !named.is_some_and(|sha: [u8; 32]| made.contains(&sha)) {
            return Err(broken("names a package that the ledger did not make".to_owned())
                .hint("the bundle is not this site's, or state.db is an older one: `bindery doctor` tells"));
        }
    }
    Ok(())
}

/// Writes the packages of `bundle` into `dir`; gives how many. Records without a package are passed over, and so are those whose
/// package was `replaced`, by SHA-256.
pub fn unpack(bundle: &Path, dir: &Path, replaced: &HashSet<[u8; 32]>) -> Result<u64, Fault> {
    let orders = bundle.join("orders.jsonl");
    let reader = BufReader::new(
        File::open(&orders)
            .map_err(|e| Fault::file(&orders, &e).hint("an order has a bundle once `bindery run` has exported it"))?,
    );
    fs::create_dir_all(dir).map_err(|e| Fault::file(dir, &e))?;
    let packages = LocalFiles::new(bundle)?;
    let mut unpacked = 0;
    for (at, line) in (1_u64..).zip(reader.lines()) {
        let broken =
            |what: String| Fault::new(Exit::IntegrityFailure, format!("{} line {at}: {what}", orders.display()));
        let line = line.map_err(|e| Fault::file(&orders, &e))?;
        let record: Record = serde_json::from_str(&line).map_err(|e| broken(e.to_string()))?;
        let (Some(object), Some(offset), Some(length), Some(sha)) =
            (&record.object, record.offset, record.length, &record.sha256)
        else {
            continue;
        };
        // Names come from a file: only real identifiers may become file names.
        let iccid: Iccid = record.iccid.parse().map_err(|e| broken(format!("iccid: {e}")))?;
        let eid: Eid = record.eid.as_deref().unwrap_or_default().parse().map_err(|e| broken(format!("eid: {e}")))?;
        let package = packages.read(object, offset, length)?;
        let found = sha256(&package);
        if replaced.contains(&found) {
            continue;
        }
        if data_encoding::HEXLOWER.encode(&found) != *sha {
            let fault = broken(format!("{object} at {offset}: the package is not the one of this record"));
            return Err(fault.hint("check the bundle with `bindery verify`"));
        }
        let file = dir.join(format!("{eid}_{iccid}.der"));
        fs::write(&file, &package).map_err(|e| Fault::file(&file, &e))?;
        unpacked += 1;
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(sha: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("packages-00001.bpp"), b"..package").unwrap();
        let record = serde_json::json!({
            "eid": "89049032123451234512345678901235", "iccid": "89000123456789012341",
            "object": "packages-00001.bpp", "offset": 2, "length": 7, "sha256": sha,
        });
        fs::write(dir.path().join("orders.jsonl"), format!("{record}\n")).unwrap();
        dir
    }

    #[test]
    fn a_package_becomes_a_file_named_by_eid_and_iccid() {
        let bundle = bundle(&data_encoding::HEXLOWER.encode(&sha256(b"package")));
        let out = tempfile::tempdir().unwrap();
        assert_eq!(unpack(bundle.path(), out.path(), &HashSet::new()).unwrap(), 1);
        let file = out.path().join("89049032123451234512345678901235_89000123456789012341.der");
        assert_eq!(fs::read(file).unwrap(), b"package");
    }

    #[test]
    fn a_package_that_is_not_its_records_is_not_written() {
        let bundle = bundle(&"00".repeat(32));
        let out = tempfile::tempdir().unwrap();
        assert_eq!(unpack(bundle.path(), out.path(), &HashSet::new()).unwrap_err().exit, Exit::IntegrityFailure);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }
}
