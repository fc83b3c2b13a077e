//! Reads `test-vectors/**`: one vector a line, columns of hex between blanks, `-` for no octets, `#` begins a comment.

/// The vectors of a file, each with exactly `N` columns.
pub(crate) fn vectors<const N: usize>(text: &str) -> Vec<[Vec<u8>; N]> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let found: Vec<_> = lines.filter(|line| !line.is_empty()).map(columns).collect();
    assert!(!found.is_empty(), "a file without vectors proves nothing");
    found
}

fn columns<const N: usize>(line: &str) -> [Vec<u8>; N] {
    let hex = |word: &str| match word {
        "-" => Vec::new(),
        _ => data_encoding::HEXLOWER_PERMISSIVE.decode(word.as_bytes()).unwrap(),
    };
    let columns: Vec<Vec<u8>> = line.split_whitespace().map(hex).collect();
    columns.try_into().unwrap_or_else(|wrong: Vec<_>| panic!("{} columns where {N} belong: {line:.60}", wrong.len()))
}

/// The value of a column of fixed size.
pub(crate) fn sized<const N: usize>(column: &[u8]) -> [u8; N] {
    column.try_into().unwrap()
}
