//! `bindery template show`.

use serde_json::json;

use super::{Desk, parse};
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};
use crate::formats::saip::package::children;

impl Desk<'_> {
    pub(super) fn show(&self, template: &str) -> Result<Exit, Fault> {
        let der = self.resolve(template)?;
        let package = parse(template, &der)?;
        let mut table = table(&["element", "tag", "offset", "octets"]);
        let mut rows = Vec::new();
        for element in &package.elements {
            let files: Vec<_> =
                children(&element.tlv).filter_map(|tlv| Some((element.kind.file_name(tlv.tag)?, tlv))).collect();
            let cells = |name: String, tlv: &crate::formats::tlv::Tlv<'_>| {
                [name, tlv.tag.to_string(), tlv.offset.to_string(), tlv.whole.len().to_string()]
            };
            table.add_row(cells(element.label(), &element.tlv));
            for (name, tlv) in &files {
                table.add_row(cells(format!("  {name}"), tlv));
            }
            let files: Vec<_> = files
                .iter()
                .map(|(name, tlv)| {
                    json!({"file": name, "tag": tlv.tag.to_string(), "offset": tlv.offset, "bytes": tlv.whole.len()})
                })
                .collect();
            rows.push(json!({"element": element.kind.name(), "id": element.id, "tag": element.tlv.tag.to_string(),
                "offset": element.tlv.offset, "bytes": element.tlv.whole.len(), "files": files}));
        }
        if self.json {
            print_json(&json!({"template": template, "bytes": der.len(), "elements": rows}))?;
        } else {
            say!("{table}");
        }
        Ok(Exit::Done)
    }
}
