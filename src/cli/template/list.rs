//! `bindery template list`: the shelf of the site.

use serde_json::json;

use super::{Desk, SEGMENT, shelf_fault};
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};

impl Desk<'_> {
    pub(super) fn list(&self) -> Result<Exit, Fault> {
        let templates = self.shelf()?.list().map_err(shelf_fault)?;
        if self.json {
            let rows: Vec<_> =
                templates.iter().map(|(name, bytes)| json!({"template": name.to_string(), "bytes": bytes})).collect();
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
