use super::*;
use crate::formats::saip::source;

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
