//! Reader of the figures in `test-vectors/bpp`: sections `[name]`, lines `key = hex`.

use std::collections::BTreeMap;

/// The figures of one section.
pub(crate) fn section(text: &str, name: &str) -> BTreeMap<String, Vec<u8>> {
    let head = format!("[{name}]");
    text.lines()
        .skip_while(|line| *line != head)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, hex)| (key.to_owned(), data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()))
        .collect()
}
