//! The text of a new `bindery.toml`, with its comments.

use std::path::Path;

use super::{Config, SCHEMA};
use crate::error::{Exit, Fault};

const TEMPLATE: &str = include_str!("bindery.toml.template");

/// A site without token: what is to be filled in is commented.
pub(crate) fn for_production() -> String {
    fill(&[
        ("demo", ""),
        ("module", &quoted("/opt/hsm/lib/libpkcs11.so")),
        ("profile", &quoted("softhsm")),
        ("token_label", &quoted("bindery")),
        ("pin_file", &quoted("/run/secrets/bindery-pin")),
        ("softhsm_conf", ""),
        ("address", &quoted("smdp.example.com")),
        ("host_id", &quoted("bindery")),
        (
            "op_file",
            "# OP of the operator, sealed under the site KEK; without it OPc is random.\n# op_file = \"op.sealed\"\n",
        ),
        (
            "targets",
            "#\n# [export.eim.NAME]\n# kind = \"bundle\"\n#\n# [export.core.NAME]\n# transport_key = \"KEY\"\n# scheme = \"aes-ecb\"\n#\n\
             # Keys under which operators send K and OPc; orders name them in `transport_key`.\n#\n\
             # [import.NAME]\n# key = \"KEY\"\n# scheme = \"aes-ecb\"",
        ),
    ])
}

/// A demo site with its own SoftHSM token, or on the module of a profile file.
pub(crate) fn for_demo(module: &Path, profile: Option<&Path>) -> String {
    let softhsm_conf = match profile {
        None => "# This site's own SoftHSM configuration.\nsofthsm_conf = \"token/softhsm2.conf\"\n",
        Some(_) => "",
    };
    fill(&[
        ("demo", "# A test site: own token, test PKI, accepts secrets.jsonl. Never for production.\ndemo = true\n"),
        ("module", &quoted(&module.display().to_string())),
        ("profile", &quoted(&profile.map_or("softhsm".into(), |path| path.display().to_string()))),
        ("token_label", &quoted("bindery-demo")),
        ("pin_file", &quoted("token/pin")),
        ("softhsm_conf", softhsm_conf),
        ("address", &quoted("smdp.example.com")),
        ("host_id", &quoted("bindery-demo")),
        (
            "op_file",
            "# OP of the operator, sealed under the site KEK: OPc is derived from it and each K.\nop_file = \"op.sealed\"\n",
        ),
        (
            "targets",
            "[export.eim.demo]\nkind = \"bundle\"\n\n[export.core.demo]\ntransport_key = \"core-demo\"\nscheme = \"aes-ecb\"\n\n\
             # Key under which orders may bring K and OPc (credentials: import): here the core network's own.\n\
             [import.core-demo]\nkey = \"core-demo\"\nscheme = \"aes-ecb\"",
        ),
    ])
}

/// The configuration that a text means.
pub(crate) fn parse(text: &str) -> Result<Config, Fault> {
    let config: Config = toml::from_str(text).map_err(|e| Fault::new(Exit::Bug, format!("new bindery.toml: {e}")))?;
    debug_assert_eq!(config.schema, SCHEMA);
    Ok(config)
}

fn fill(values: &[(&str, &str)]) -> String {
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_new_configurations_parse_and_leave_no_blank() {
        let demo = parse(&for_demo(Path::new("/opt/with \"quotes\"/lib.so"), None)).unwrap();
        assert!(demo.demo && demo.hsm.softhsm_conf.is_some() && demo.hsm.profile == "softhsm");
        assert_eq!(demo.hsm.module, Path::new("/opt/with \"quotes\"/lib.so"));
        assert_eq!(demo.export.core["demo"].transport_key, "core-demo");
        assert_eq!(demo.smdp.host_id, "bindery-demo");
        let other = parse(&for_demo(Path::new("/opt/lib.so"), Some(Path::new("/etc/model.toml")))).unwrap();
        assert!(other.demo && other.hsm.softhsm_conf.is_none() && other.hsm.profile == "/etc/model.toml");
        assert_eq!(demo.import["core-demo"].key, "core-demo");
        assert!(!for_production().contains('{'));
        let production = parse(&for_production()).unwrap();
        assert!(!production.demo && production.credentials.op_file.is_none());
    }
}
