use super::*;

#[test]
fn presets_build() {
    for (name, text) in PRESETS {
        let der = build(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let Ok(dir) = std::env::var("DUMP") {
            std::fs::write(format!("{dir}/{name}.der"), &der).unwrap();
        }
        eprintln!("{name} {}", der.len());
    }
}
