//! Lists in linear fixed files: one item a record, free records `FF`.

use super::form::{Extent, Wrong, does_not_fit};
use crate::formats::saip::file::MAX_FILE;

/// Writes the items of `value`, divided by `separator`, into records, all others `FF`. An empty item leaves its record free: other
/// files point at records by their number. A file without a record length is one record.
pub(super) fn write(
    value: &str,
    separator: char,
    extent: &Extent<'_>,
    item: impl Fn(&str, usize) -> Result<Vec<u8>, Wrong>,
) -> Result<Vec<u8>, Wrong> {
    let record_len = extent.record_len.unwrap_or(extent.len);
    if record_len == 0 || record_len > extent.len {
        return Err(format!("the file has {} octets and records of {record_len}", extent.len).into());
    }
    let items: Vec<&str> = value.split(separator).collect();
    let records = extent.len / record_len;
    if items.len() > records {
        return Err(format!("{} values, the file has {records} records", items.len()).into());
    }
    if value.chars().all(|c| c == separator || c.is_whitespace()) {
        return Err("the value is empty".into());
    }
    let mut octets = vec![0xFF; extent.len];
    for (record, text) in octets.chunks_exact_mut(record_len).zip(items).filter(|(_, text)| !text.trim().is_empty()) {
        let coded = item(text, record_len)?;
        match record.get_mut(..coded.len()) {
            Some(slot) => slot.copy_from_slice(&coded),
            None => return Err(does_not_fit(coded.len(), record_len)),
        }
    }
    Ok(octets)
}

/// The items of all records up to the last used one; `None` when no record is used or one of them is not of the form.
pub(super) fn read(
    octets: &[u8],
    record_len: Option<usize>,
    separator: char,
    item: impl Fn(&[u8]) -> Option<String>,
) -> Option<String> {
    let octets = octets.get(..octets.len().min(MAX_FILE))?;
    let record_len = record_len.unwrap_or(octets.len());
    if record_len == 0 || record_len > octets.len() {
        return None;
    }
    let mut items = Vec::new();
    for record in octets.chunks_exact(record_len) {
        let free = record.iter().all(|octet| *octet == 0xFF);
        items.push(if free { String::new() } else { item(record)? });
    }
    let used = items.iter().rposition(|item| !item.is_empty())? + 1;
    items.truncate(used);
    Some(items.join(separator.encode_utf8(&mut [0; 4])))
}
