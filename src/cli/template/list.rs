//! `bindery template list`: the shelf of the site.

use serde_json::{Value, json};

use super::{Desk, SEGMENT, segments, sha256_hex, shelf_fault};
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};
use crate::personalise::shelf::{Shelf, TemplateName};

impl Desk<'_> {
    pub(super) fn list(&self) -> Result<Exit, Fault> {
        let shelf = self.shelf()?;
        let templates = shelf.list().map_err(shelf_fault)?;
        if self.json {
            let rows = templates.iter().map(|(name, _)| row(&shelf, name)).collect::<Result<Vec<_>, _>>()?;
            print_json(&json!({"templates": rows}))?;
            return Ok(Exit::Done);
        }
        let mut table = table(&["template", "octets", "segments"]);
        for (name, bytes) in templates {
            table.add_row([name.to_string(), bytes.to_string(), bytes.div_ceil(SEGMENT as u64).to_string()]);
        }
        say!("{table}");
        Ok(Exit::Done)
    }
}

/// What programs are told of a template: a hash takes its octets, which people who look at a list need not wait for.
fn row(shelf: &Shelf, name: &TemplateName) -> Result<Value, Fault> {
    let der = shelf.load(name).map_err(shelf_fault)?;
    Ok(json!({"template": name.to_string(), "bytes": der.len(), "segments": segments(der.len()),
              "sha256": sha256_hex(&der)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_programs_has_size_segments_and_hash() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, name) = (Shelf::open(dir.path()), "a@1".parse().unwrap());
        shelf.add(&name, &[0; 1_008]).unwrap();
        let row = row(&shelf, &name).unwrap();
        assert_eq!((&row["template"], &row["bytes"], &row["segments"]), (&json!("a@1"), &json!(1_008), &json!(2)));
        assert_eq!(row["sha256"], json!(sha256_hex(&[0; 1_008])));
    }
}
