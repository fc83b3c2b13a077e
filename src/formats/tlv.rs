//! Strict DER TLV: definite, minimal lengths; minimal tags; nothing left over. Every error carries its position.
//!
//! The one piece of code that `verify` shares with `protect` and `bind`: a reader, no meaning.

/// A tag as it stands on the wire, up to three octets, in the low end: `0x86`, `0x5F37`, `0xBF36`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

impl Tag {
    /// Holds other TLVs (bit 6 of the first octet).
    pub fn is_constructed(self) -> bool {
        let first = self.0 >> (8 * (self.len() - 1));
        first & 0x20 != 0
    }

    /// Octets on the wire, 1 to 3.
    #[allow(clippy::len_without_is_empty)] // a tag is never empty
    pub fn len(self) -> usize {
        match self.0 {
            0..=0xFF => 1,
            0x100..=0xFFFF => 2,
            _ => 3,
        }
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// What is wrong, and at which offset of the outermost input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {fault}")]
pub struct TlvError {
    /// Octets from the start of the outermost input.
    pub offset: usize,
    /// What is wrong there.
    pub fault: TlvFault,
}

/// The ways in which octets are not strict DER TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvFault {
    /// The input ends inside a tag, a length or a value.
    #[error("ends inside {0}")]
    Truncated(&'static str),
    /// A tag number that fits in fewer octets, or one beyond three octets.
    #[error("tag is not in its shortest form")]
    TagForm,
    /// Length `80` (indefinite), which DER forbids and eUICCs do not take.
    #[error("indefinite length")]
    Indefinite,
    /// A length with surplus octets, such as `81 07`.
    #[error("length is not in its shortest form")]
    LengthForm,
    /// Another tag than the one this place asks for.
    #[error("tag {found} where {expected} belongs")]
    Unexpected {
        /// The tag found.
        found: Tag,
        /// The tag asked for.
        expected: Tag,
    },
    /// Octets after the last TLV.
    #[error("{0} octets too many")]
    Trailing(usize),
    /// A tag asked for is not there.
    #[error("{0} is missing")]
    Missing(Tag),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested too deep")]
    Depth,
    /// More TLVs than [`MAX_TLVS`].
    #[error("more than {MAX_TLVS} TLVs")]
    Count,
    /// Tag 00 (or 20), which ends a value of indefinite length and is no tag of DER: padding, as a rule.
    #[error("the end-of-contents tag has no place in DER; is this padding?")]
    EndOfContents,
}

/// Nesting beyond which input is refused; the deepest public profile package has 6 levels.
pub const MAX_DEPTH: usize = 32;

/// TLVs on all levels beyond which input is refused; the richest public profile package has 2,513. A walk that keeps something for
/// each is thereby bounded in memory, however large the input.
pub const MAX_TLVS: usize = 65_536;

/// One TLV inside an input, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The tag.
    pub tag: Tag,
    /// The whole TLV: tag, length and value.
    pub whole: &'a [u8],
    /// The value alone.
    pub value: &'a [u8],
    /// Offset of the tag in the outermost input.
    pub offset: usize,
}

impl<'a> Tlv<'a> {
    /// Offset of the value in the outermost input.
    pub fn value_offset(&self) -> usize {
        self.offset + self.whole.len() - self.value.len()
    }

    /// A reader over the TLVs inside the value.
    pub fn children(&self) -> Reader<'a> {
        Reader { rest: self.value, offset: self.value_offset() }
    }
}

/// Reads one TLV after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Over a whole input; offsets count from its start.
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input, offset: 0 }
    }

    /// Nothing left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Offset of what comes next.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What is left, unread.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The tag of the next TLV, unread.
    pub fn peek(&self) -> Option<Tag> {
        read_tag(self.rest).ok().map(|(tag, _)| tag)
    }

    /// The next TLV, or `None` at the end.
    pub fn next_tlv(&mut self) -> Result<Option<Tlv<'a>>, TlvError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = |fault| TlvError { offset: self.offset, fault };
        let (tag, tag_len) = read_tag(self.rest).map_err(at)?;
        let (length, length_len) = read_length(&self.rest[tag_len..]).map_err(at)?;
        let head = tag_len + length_len;
        let end = head.checked_add(length).filter(|end| *end <= self.rest.len());
        let end = end.ok_or_else(|| at(TlvFault::Truncated("a value")))?;
        let (whole, rest) = self.rest.split_at(end);
        let tlv = Tlv { tag, whole, value: &whole[head..], offset: self.offset };
        self.rest = rest;
        self.offset += end;
        Ok(Some(tlv))
    }

    /// The next TLV, which must have this tag.
    pub fn expect(&mut self, tag: Tag) -> Result<Tlv<'a>, TlvError> {
        let offset = self.offset;
        match self.next_tlv()? {
            Some(tlv) if tlv.tag == tag => Ok(tlv),
            Some(tlv) => Err(TlvError { offset, fault: TlvFault::Unexpected { found: tlv.tag, expected: tag } }),
            None => Err(TlvError { offset, fault: TlvFault::Missing(tag) }),
        }
    }

    /// The next TLV when it has this tag, else nothing is read.
    pub fn take_if(&mut self, tag: Tag) -> Result<Option<Tlv<'a>>, TlvError> {
        if self.peek() == Some(tag) { self.next_tlv() } else { Ok(None) }
    }

    /// Fails when something is left.
    pub fn finish(self) -> Result<(), TlvError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(TlvError { offset: self.offset, fault: TlvFault::Trailing(left) }),
        }
    }
}

/// Exactly one TLV of this tag and nothing behind it.
pub fn single(input: &[u8], tag: Tag) -> Result<Tlv<'_>, TlvError> {
    let mut reader = Reader::new(input);
    let tlv = reader.expect(tag)?;
    reader.finish().map(|()| tlv)
}

/// Walks every TLV of `input` through all levels: proves strict DER structure, nothing more. One pass, no allocation.
pub fn check_strict(input: &[u8]) -> Result<(), TlvError> {
    let mut levels = [Reader::new(input); MAX_DEPTH + 1];
    let (mut depth, mut count) = (0, 0);
    loop {
        let Some(tlv) = levels[depth].next_tlv()? else {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            continue;
        };
        count += 1;
        let is_too_deep = tlv.tag.is_constructed() && depth == MAX_DEPTH;
        let fault = match tlv.tag {
            Tag(0x00 | 0x20) => Some(TlvFault::EndOfContents),
            _ if count > MAX_TLVS => Some(TlvFault::Count),
            _ => is_too_deep.then_some(TlvFault::Depth),
        };
        if let Some(fault) = fault {
            return Err(TlvError { offset: tlv.offset, fault });
        }
        if tlv.tag.is_constructed() {
            depth += 1;
            levels[depth] = tlv.children();
        }
    }
}

fn read_tag(input: &[u8]) -> Result<(Tag, usize), TlvFault> {
    let truncated = TlvFault::Truncated("a tag");
    let first = *input.first().ok_or(truncated)?;
    if first & 0x1F != 0x1F {
        return Ok((Tag(u32::from(first)), 1));
    }
    let second = *input.get(1).ok_or(truncated)?;
    if second & 0x80 == 0 {
        // A number below 31 belongs in the first octet.
        return if second < 0x1F {
            Err(TlvFault::TagForm)
        } else {
            Ok((Tag(u32::from(first) << 8 | u32::from(second)), 2))
        };
    }
    let third = *input.get(2).ok_or(truncated)?;
    if second == 0x80 || third & 0x80 != 0 {
        return Err(TlvFault::TagForm);
    }
    Ok((Tag(u32::from(first) << 16 | u32::from(second) << 8 | u32::from(third)), 3))
}

fn read_length(input: &[u8]) -> Result<(usize, usize), TlvFault> {
    let truncated = TlvFault::Truncated("a length");
    let first = *input.first().ok_or(truncated)?;
    match first {
        0..=0x7F => Ok((usize::from(first), 1)),
        0x80 => Err(TlvFault::Indefinite),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7F);
            let octets = input.get(1..1 + count).ok_or(truncated)?;
            let length = octets.iter().fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
            if length_len(length) == 1 + count { Ok((length, 1 + count)) } else { Err(TlvFault::LengthForm) }
        }
        // Above 4 GiB: no input is that long, and not every machine can count it.
        0x85..=0xFE => match input.get(1..1 + usize::from(first & 0x7F)).ok_or(truncated)? {
            [0, ..] => Err(TlvFault::LengthForm),
            _ => Err(TlvFault::Truncated("a value")),
        },
        0xFF => Err(TlvFault::LengthForm),
    }
}

// ------------------------------------------------------------------------------------------------------- writing

/// Octets that the DER form of `length` takes: 1 below 128, 2 below 256, 3 below 65,536, ...
pub const fn length_len(length: usize) -> usize {
    match length {
        0..=0x7F => 1,
        0x80..=0xFF => 2,
        0x100..=0xFFFF => 3,
        0x1_0000..=0xFF_FFFF => 4,
        _ => 5,
    }
}

/// Octets of a whole TLV whose value has `value_len` octets.
pub const fn tlv_len(tag_len: usize, value_len: usize) -> usize {
    tag_len + length_len(value_len) + value_len
}

/// Appends the tag.
pub fn put_tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend_from_slice(&tag.0.to_be_bytes()[4 - tag.len()..]);
}

/// Appends the length in DER form.
pub fn put_length(out: &mut Vec<u8>, length: usize) {
    let count = length_len(length) - 1;
    if count > 0 {
        out.push(0x80 | count as u8);
    } else {
        out.push(length as u8);
        return;
    }
    out.extend_from_slice(&length.to_be_bytes()[size_of::<usize>() - count..]);
}

/// Appends tag and length; the value follows.
pub fn put_head(out: &mut Vec<u8>, tag: Tag, value_len: usize) {
    put_tag(out, tag);
    put_length(out, value_len);
}

/// Appends a whole TLV.
pub fn put(out: &mut Vec<u8>, tag: Tag, value: &[u8]) {
    put_head(out, tag, value.len());
    out.extend_from_slice(value);
}

/// A whole TLV around `parts`, one behind the other.
pub fn wrap(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let value_len = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(tlv_len(tag.len(), value_len));
    put_head(&mut out, tag, value_len);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_cross_their_borders_in_shortest_form() {
        for (length, head) in [
            (127, &[0x7F][..]),
            (128, &[0x81, 0x80]),
            (255, &[0x81, 0xFF]),
            (256, &[0x82, 1, 0]),
            (65_536, &[0x83, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out, head);
            assert_eq!(out.len(), length_len(length));
        }
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let fault = |bytes: &[u8]| check_strict(bytes).unwrap_err();
        assert_eq!(fault(&[0x30, 0x03, 0x04, 0x80, 0x00]), TlvError { offset: 2, fault: TlvFault::Indefinite });
        assert_eq!(fault(&[0x30, 0x04, 0x04, 0x81, 0x01, 0x00]), TlvError { offset: 2, fault: TlvFault::LengthForm });
        assert_eq!(fault(&[0x04, 0x02, 0x00]), TlvError { offset: 0, fault: TlvFault::Truncated("a value") });
        assert_eq!(fault(&[0x9F, 0x1E, 0x00]), TlvError { offset: 0, fault: TlvFault::TagForm });
        assert_eq!(fault(&[0x30; 80].map(|b: u8| b)).fault, TlvFault::Truncated("a value"));
        let expected = TlvFault::Unexpected { found: Tag(0x04), expected: Tag(0xBF36) };
        assert_eq!(single(&[0x04, 0x00], Tag(0xBF36)).unwrap_err().fault, expected);
        assert_eq!(
            single(&[0x04, 0x00, 0xFF], Tag(0x04)).unwrap_err(),
            TlvError { offset: 2, fault: TlvFault::Trailing(1) }
        );
    }

    #[test]
    fn lengths_beyond_the_machine_are_told_from_surplus_ones() {
        let fault = |bytes: &[u8]| check_strict(bytes).unwrap_err().fault;
        assert_eq!(fault(&[0x04, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]), TlvFault::Truncated("a value"));
        assert_eq!(fault(&[0x04, 0x85, 1, 0, 0, 0, 0]), TlvFault::Truncated("a value"));
        assert_eq!(fault(&[&[0x04, 0x88][..], &[0xFF; 8]].concat()), TlvFault::Truncated("a value"));
        assert_eq!(fault(&[&[0x04, 0xFE][..], &[0xFF; 126]].concat()), TlvFault::Truncated("a value"));
        assert_eq!(fault(&[0x04, 0x85, 0, 0, 0, 0, 1]), TlvFault::LengthForm);
        assert_eq!(fault(&[0x04, 0x84, 0, 0xFF, 0xFF, 0xFF]), TlvFault::LengthForm);
        assert_eq!(fault(&[0x04, 0xFF]), TlvFault::LengthForm);
        assert_eq!(fault(&[0x04, 0x89, 1, 1]), TlvFault::Truncated("a length"));
    }

    /// `levels` SEQUENCEs, one inside the other.
    fn nested(levels: usize) -> Vec<u8> {
        let mut reversed = Vec::new();
        for _ in 0..levels {
            let mut head = Vec::new();
            put_head(&mut head, Tag(0x30), reversed.len());
            reversed.extend(head.iter().rev());
        }
        reversed.reverse();
        reversed
    }

    #[test]
    fn a_depth_bomb_costs_no_more_than_its_first_levels() {
        assert_eq!(check_strict(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(
            check_strict(&nested(MAX_DEPTH + 1)),
            Err(TlvError { offset: 2 * MAX_DEPTH, fault: TlvFault::Depth })
        );
        let bomb = nested(200_000);
        assert!(bomb.len() > 500_000);
        let error = check_strict(&bomb).unwrap_err();
        assert_eq!(error.fault, TlvFault::Depth);
        assert!(error.offset < 6 * (MAX_DEPTH + 1));
    }

    #[test]
    fn a_wide_bomb_is_refused_at_its_first_tlv_too_many() {
        let wide = [0x04, 0x00].repeat(MAX_TLVS + 1);
        assert_eq!(check_strict(&wide[2..]), Ok(()));
        assert_eq!(check_strict(&wide), Err(TlvError { offset: 2 * MAX_TLVS, fault: TlvFault::Count }));
        // Spread over levels: a million TLVs, 3 MB.
        let wide = wrap(Tag(0x30), &[&[0x30, 0x02, 0x04, 0x00].repeat(500_000)]);
        assert_eq!(check_strict(&wide).unwrap_err().fault, TlvFault::Count);
    }

    #[test]
    fn padding_is_not_a_package() {
        for tag in [0x00, 0x20] {
            let error = check_strict(&[0x04, 0x00, tag, 0x00]);
            assert_eq!(error, Err(TlvError { offset: 2, fault: TlvFault::EndOfContents }));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tag in prop_oneof![Just(0x86_u32), Just(0x5F37), Just(0xBF36), Just(0xBF8123)], value in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let bytes = wrap(Tag(tag), &[&value]);
            let tlv = single(&bytes, Tag(tag)).unwrap();
            prop_assert_eq!(tlv.value, &value[..]);
            prop_assert_eq!(bytes.len(), tlv_len(Tag(tag).len(), value.len()));
        }

        #[test]
        fn hostile_input_costs_an_error_at_most(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_strict(&bytes);
        }
    }
}
