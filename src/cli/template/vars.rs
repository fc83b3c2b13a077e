//! `bindery template vars`.

use serde_json::json;

use super::Desk;
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::Algorithm;
use crate::personalise::{CompiledTemplate, Settings};

impl Desk<'_> {
    pub(super) fn vars(&self, template: &str) -> Result<Exit, Fault> {
        let der = self.resolve(template)?;
        let compiled = compile(&der, Algorithm::Milenage)?;
        let tuak = compile(&der, Algorithm::Tuak)?;
        if self.json {
            let inputs: Vec<_> = compiled
                .inputs()
                .iter()
                .map(|input| {
                    json!({"name": input.name, "source": input.source, "required": input.required,
                           "octets": input.octets, "places": input.places})
                })
                .collect();
            let sizes = json!({"milenage": compiled.upp_len(), "tuak": tuak.upp_len()});
            print_json(&json!({"template": template, "upp_bytes": sizes, "inputs": inputs}))?;
            return Ok(Exit::Done);
        }
        let mut table = table(&["name", "given by", "record must", "octets", "places"]);
        for input in compiled.inputs() {
            let octets = if input.octets == 0 { String::new() } else { input.octets.to_string() };
            let must = if input.required { "give it" } else { "" };
            table.add_row([&input.name, input.source, must, &octets, &input.places.join(", ")]);
        }
        let sizes = format!("{} octets with Milenage, {} with TUAK", compiled.upp_len(), tuak.upp_len());
        say!("{table}\nA package of a record has {sizes}.");
        Ok(Exit::Done)
    }
}

fn compile(der: &[u8], algorithm: Algorithm) -> Result<CompiledTemplate, Fault> {
    let settings = Settings { algorithm, ..Settings::default() };
    CompiledTemplate::compile(der, &settings)
        .map_err(|e| Fault::new(Exit::IntegrityFailure, e.to_string()).hint(e.hint()))
}
