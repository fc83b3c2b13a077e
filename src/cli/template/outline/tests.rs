use super::*;
use crate::formats::saip::source;

fn outline_of(name: &str) -> (Vec<u8>, String) {
    let der = source::build(source::preset(name).unwrap()).unwrap();
    let text = serde_json::to_string(&Outline::of(&Package::parse(&der).unwrap())).unwrap();
    (der, text)
}

#[test]
fn elements_cover_the_package_without_a_gap() {
    for (name, _) in source::PRESETS {
        let der = source::build(source::preset(name).unwrap()).unwrap();
        let package = Package::parse(&der).unwrap();
        let outline = Outline::of(&package);
        let mut offset = 0;
        for part in &outline.elements {
            assert_eq!(part.offset, offset, "{name}");
            offset += part.bytes;
        }
        assert_eq!((offset, outline.bytes), (der.len(), der.len()));
    }
}
