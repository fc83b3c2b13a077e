//! Members this version does not know: cut out before `rasn` reads an element, put back behind what `rasn` writes.

use super::UnknownMember;
use crate::formats::saip::package::children;
use crate::formats::tlv::{Tlv, put};

/// `tlv` without the unknown members, which stand in the order of their octets.
pub(super) fn cut(tlv: &Tlv<'_>, unknown: &[UnknownMember]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tlv.whole.len());
    copy_without(&mut out, tlv, &mut { unknown });
    out
}

fn copy_without(out: &mut Vec<u8>, tlv: &Tlv<'_>, rest: &mut &[UnknownMember]) {
    let end = tlv.offset + tlv.whole.len();
    if rest.first().is_none_or(|next| next.offset >= end) {
        return out.extend_from_slice(tlv.whole);
    }
    let mut value = Vec::with_capacity(tlv.value.len());
    for child in children(tlv) {
        match rest.split_first() {
            Some((next, others)) if next.offset == child.offset => *rest = others,
            _ => copy_without(&mut value, &child, rest),
        }
    }
    put(out, tlv.tag, &value);
}

/// `tlv` with the unknown members where they stood; what finds no place any more is left in `rest`.
pub(super) fn put_back(out: &mut Vec<u8>, tlv: &Tlv<'_>, place: &mut Vec<u32>, rest: &mut &[UnknownMember]) {
    if !tlv.tag.is_constructed() || rest.first().is_none_or(|next| !next.place.starts_with(place)) {
        return out.extend_from_slice(tlv.whole);
    }
    let mut value = Vec::with_capacity(tlv.value.len());
    let mut number = 0;
    for child in children(tlv) {
        put_those_before(&mut value, number, place, rest);
        place.push(number);
        put_back(&mut value, &child, place, rest);
        place.pop();
        number += 1;
    }
    put_those_before(&mut value, number, place, rest);
    put(out, tlv.tag, &value);
}

fn put_those_before(value: &mut Vec<u8>, number: u32, place: &[u32], rest: &mut &[UnknownMember]) {
    while let Some((next, others)) = rest.split_first()
        && next.before == number
        && *next.place == *place
    {
        value.extend_from_slice(&next.octets);
        *rest = others;
    }
}
