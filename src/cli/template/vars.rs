//! `bindery template vars`: the values a template takes, who gives each, what it looks like and where it goes.

use serde_json::json;

use super::outline::octets;
use super::{Desk, parse};
use crate::cli::screen::{COLUMNS, print_json, wrapped};
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, Package};
use crate::personalise::{CompiledTemplate, Input, Settings};

/// Characters of a value on the screen.
const MOST_CHARACTERS: usize = 160;

impl Desk<'_> {
    pub(super) fn vars(&self, template: &str) -> Result<Exit, Fault> {
        let der = self.resolve(template)?;
        let compiled = compile(&der, Algorithm::Milenage)?;
        let tuak = compile(&der, Algorithm::Tuak)?;
        let patterns = patterns(&parse(template, &der)?);
        if self.json {
            let sizes = json!({"milenage": compiled.upp_len(), "tuak": tuak.upp_len()});
            let inputs: Vec<_> = compiled.inputs().iter().chain(&patterns).map(as_json).collect();
            print_json(&json!({"template": template, "upp_bytes": sizes, "inputs": inputs}))?;
        } else {
            say!("{}", screen(compiled.inputs(), &patterns));
            let [milenage, tuak] = [compiled.upp_len(), tuak.upp_len()].map(octets);
            say!("A package of a record has {milenage} with Milenage, {tuak} with TUAK.");
        }
        Ok(Exit::Done)
    }
}

/// Variables that are no one place of the template: the part of the name in capitals is filled in by who writes the order.
fn patterns(package: &Package<'_>) -> Vec<Input> {
    let input = |name: &str, source, places: Vec<String>, form, clause| Input {
        name: name.to_owned(),
        source,
        required: false,
        octets: 0,
        places,
        form,
        clause,
        value: None,
    };
    let label = |element: &Element<'_>| element.label().to_string();
    let keys = package.of(Kind::SecurityDomain).take(1).map(label).collect();
    let files = package.elements.iter().filter(|element| element.kind.is_file_system()).map(label).collect();
    let patterns = [
        input(
            "keyset.NN",
            "line vars",
            keys,
            "a key set of random keys for every record, resized or added: NN is the key version, the value its kind: for 01 to 0F \
             3des-16, 3des-24, aes-16, aes-24 or aes-32; for 20 to 2F 3des-16 or 3des-24; for 30 to 3F aes-16, aes-24 or aes-32; \
             for 40 to 4F tls-psk-16 to tls-psk-64; a constant",
            "SAIP §8.6.3",
        ),
        input(
            "ELEMENT/FILE",
            "template",
            files,
            "the content of any file the template has, such as usim/ef-spn: hex, from the start of the file, instead of what the \
             template writes; none for ICCID, IMSI and secrets",
            "SAIP §8.3.3",
        ),
    ];
    patterns.into_iter().filter(|input| !input.places.is_empty()).collect()
}

fn as_json(input: &Input) -> serde_json::Value {
    json!({"name": input.name, "source": input.source, "required": input.required, "octets": input.octets,
           "places": input.places, "form": input.form, "clause": input.clause, "value": input.value})
}

fn compile(der: &[u8], algorithm: Algorithm) -> Result<CompiledTemplate, Fault> {
    let settings = Settings { algorithm, ..Settings::default() };
    CompiledTemplate::compile(der, &settings)
        .map_err(|e| Fault::new(Exit::IntegrityFailure, e.to_string()).hint(e.hint()))
}

/// Whether an input is one of a group.
type Belongs = fn(&Input) -> bool;

/// In the order in which somebody who writes an order asks: what must I give, what may I, what comes by itself.
fn screen(inputs: &[Input], patterns: &[Input]) -> String {
    let groups: [(&str, Belongs); 4] = [
        ("Every record must give", |input| input.required),
        ("A record may give", |input| !input.required && matches!(input.source, "order" | "row" | "line vars")),
        ("Made for every record", |input| !input.required && matches!(input.source, "generated" | "derived")),
        ("As the template has it, unless the line's vars or a column of the rows say otherwise", |input| {
            !input.required && !matches!(input.source, "order" | "row" | "line vars" | "generated" | "derived")
        }),
    ];
    let width =
        inputs.iter().chain(patterns).map(|input| input.name.chars().count()).max().unwrap_or_default().clamp(16, 32);
    let mut text = String::new();
    for (title, belongs) in groups {
        let members: Vec<_> = inputs.iter().filter(|input| belongs(input)).collect();
        if members.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        // Keys of one kind differ in their number alone: `ota 01/01`, `ota 01/02`.
        let stem = |input: &Input| input.name.split(' ').next().unwrap_or_default().to_owned();
        for alike in members.chunk_by(|one, other| {
            stem(one) == stem(other) && one.form == other.form && one.places == other.places && one.name.contains(' ')
        }) {
            entry(&mut text, alike, width);
        }
        text.push('\n');
    }
    if !patterns.is_empty() {
        text.push_str("With a name to fill in\n");
        patterns.iter().for_each(|input| entry(&mut text, &[input], width));
        text.push('\n');
    }
    text
}

fn entry(text: &mut String, alike: &[&Input], width: usize) {
    let [input, rest @ ..] = alike else { return };
    let indent = 4 + width + 2;
    let mut put = |name: &str, what: &str| {
        let line = format!("    {name:<width$}  {}", wrapped(what, COLUMNS, indent));
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let by = if input.source == "template" { String::new() } else { format!("{}: ", input.source) };
    let clause = if input.clause.is_empty() { String::new() } else { format!(" ({})", input.clause) };
    let name = if rest.is_empty() { &input.name } else { input.name.split(' ').next().unwrap_or(&input.name) };
    put(name, &format!("{by}{}{clause}", input.form));
    put("", &format!("in {}", input.places.join(", ")));
    if !rest.is_empty() {
        let names = alike.iter().filter_map(|input| Some(input.name.split_once(' ')?.1));
        put("", &format!("each of {}", names.collect::<Vec<_>>().join(", ")));
    }
    if let Some(value) = &input.value {
        let cut = value.char_indices().nth(MOST_CHARACTERS).map(|(at, _)| at);
        let shown = cut.map_or_else(|| value.clone(), |at| format!("{}... (all of it with --json)", &value[..at]));
        put("", &format!("now {shown}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::source;
    use crate::personalise::VarSource;

    #[test]
    fn values_are_grouped_by_who_gives_them() {
        let der = source::build(source::preset("operational").unwrap()).unwrap();
        let patterns = patterns(&Package::parse(&der).unwrap());
        let shown = screen(compile(&der, Algorithm::Milenage).unwrap().inputs(), &patterns);
        let group_of = |name: &str| {
            let at = shown.lines().position(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
            shown.lines().take(at).filter(|line| !line.starts_with(' ') && !line.is_empty()).last().unwrap().to_owned()
        };
        assert_eq!(group_of("iccid"), "Every record must give");
        assert_eq!(group_of("msisdn"), "A record may give");
        assert_eq!(group_of("keyset.NN"), "With a name to fill in");
        assert_eq!(group_of("ELEMENT/FILE"), "With a name to fill in");
        assert_eq!(group_of("k"), "Made for every record");
        assert!(group_of("spn").starts_with("As the template has it"));
        assert!(shown.lines().all(|line| line.chars().count() <= COLUMNS), "{shown}");
        assert!(shown.contains("each of 01/01, 01/02, 01/03"), "{shown}");
    }

    /// Everything the two patterns promise is taken by the compiler, and nothing is promised that the template lacks.
    #[test]
    fn what_the_patterns_say_is_what_a_line_may_set() {
        let der = source::build(source::preset("bootstrap").unwrap()).unwrap();
        for (name, value) in
            [("keyset.01", "3des-24"), ("keyset.0F", "aes-32"), ("keyset.20", "3des-16"), ("usim/ef-spn", "0141")]
        {
            let vars = [(name.to_owned(), VarSource::Constant(value.to_owned()))].into();
            let compiled = CompiledTemplate::compile(&der, &Settings { vars, ..Settings::default() });
            assert!(compiled.is_ok(), "{name}: {:?}", compiled.err());
        }
        // A content may differ from record to record, the kind of a key set may not.
        let per_record = |name: &str| {
            let vars = [(name.to_owned(), VarSource::PerRecord)].into();
            CompiledTemplate::compile(&der, &Settings { vars, ..Settings::default() })
        };
        assert!(per_record("usim/ef-spn").is_ok() && per_record("keyset.01").is_err());
        let names = |der: &[u8]| -> Vec<String> {
            patterns(&Package::parse(der).unwrap()).into_iter().map(|input| input.name).collect()
        };
        assert_eq!(names(&der), ["keyset.NN", "ELEMENT/FILE"]);
        // Header and end alone: no security domain, no file.
        assert!(names(&[0xA0, 0x00, 0xAA, 0x02, 0xA0, 0x00]).is_empty());
    }
}
