//! Mutations that know TLV: they change one thing and mend the lengths around it, or damage octets without mercy.

use std::ops::Range;

use bindery::formats::tlv::{self, Reader, Tag};

use crate::random::Random;
use crate::seeds::Seeds;

/// Octets of a mutated package at most.
const LARGEST: usize = 400_000;

/// One TLV of a package.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its first octet.
    pub start: usize,
    /// Its value's first octet.
    pub value: usize,
    /// Behind its last octet.
    pub end: usize,
    /// Its tag.
    pub tag: Tag,
    parent: Option<usize>,
}

/// Every TLV of `der` on all levels, as far as it is DER.
pub fn nodes(der: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut open = vec![(Reader::new(der), None)];
    while let Some((reader, parent)) = open.last_mut() {
        let parent = *parent;
        match reader.next_tlv() {
            Ok(Some(tlv)) => {
                let end = tlv.offset + tlv.whole.len();
                nodes.push(Node { start: tlv.offset, value: tlv.value_offset(), end, tag: tlv.tag, parent });
                if tlv.tag.is_constructed() && open.len() < 40 {
                    open.push((tlv.children(), Some(nodes.len() - 1)));
                }
            }
            _ => {
                open.pop();
            }
        }
    }
    nodes
}

/// A package that was sound, after one to four mutations.
pub fn mutated(seeds: &Seeds, random: &mut Random) -> Vec<u8> {
    let seed = seeds.draw(random);
    let mut der = seed.der.clone();
    let mut nodes = std::borrow::Cow::Borrowed(&seed.nodes);
    let mut rounds = 1 + [0, 0, 0, 1, 1, 2, 3][random.below(7)];
    while rounds > 0 && der.len() < LARGEST && !nodes.is_empty() {
        der = structural(&der, &nodes, seeds, random);
        rounds -= 1;
        if rounds > 0 {
            nodes = std::borrow::Cow::Owned(self::nodes(&der));
        }
    }
    if random.one_in(6) {
        damage(&mut der, random);
    }
    der
}

/// Changes, removes, adds, moves or wraps one TLV; the lengths around it stay right.
fn structural(der: &[u8], nodes: &[Node], seeds: &Seeds, random: &mut Random) -> Vec<u8> {
    let at = random.below(nodes.len());
    let node = nodes[at];
    let whole = &der[node.start..node.end];
    let value = &der[node.value..node.end];
    let instead = |with: &[u8]| replaced(der, nodes, node.parent, node.start..node.end, with);
    let behind = |with: &[u8]| replaced(der, nodes, node.parent, node.end..node.end, with);
    match random.below(16) {
        0 => instead(&[]),
        1 => behind(whole),
        2 => {
            // Many of the same: a wide bomb now and then.
            let times = if random.one_in(50) { random.below(70_000) } else { random.below(20) };
            behind(&whole.repeat(times.min(LARGEST / whole.len().max(1))))
        }
        3 => {
            // Swapped with a sibling, or any other TLV that neither holds nor is held.
            let other = nodes[random.below(nodes.len())];
            let (first, second) = if node.start < other.start { (node, other) } else { (other, node) };
            if first.end > second.start {
                return instead(&[]);
            }
            let moved = replaced(der, nodes, second.parent, second.start..second.end, &der[first.start..first.end]);
            // What stands before `second` has kept its place; its parents may have grown.
            let nodes = self::nodes(&moved);
            let find = nodes.iter().find(|node| node.start >= first.start && node.tag == first.tag);
            match find {
                Some(it) => replaced(&moved, &nodes, it.parent, it.start..it.end, &der[second.start..second.end]),
                None => moved,
            }
        }
        4 => instead(foreign(seeds, random)),
        5 => behind(foreign(seeds, random)),
        6 => {
            // Nested in its own kind: a depth bomb now and then.
            let deep = if random.one_in(10) { random.below(60) } else { 1 + random.below(3) };
            let tag = if node.tag.is_constructed() { node.tag } else { Tag(0x30) };
            instead(&(0..deep).fold(whole.to_vec(), |inner, _| tlv::wrap(tag, &[&inner])))
        }
        7 => instead(value),
        8 => instead(&tlv::wrap(node.tag, &[extreme(random)])),
        9 => {
            let longer = random.below(300);
            instead(&tlv::wrap(node.tag, &[value, &random.octets(longer)]))
        }
        10 => instead(&tlv::wrap(node.tag, &[&value[..random.below(value.len())]])),
        11 => instead(&tlv::wrap(any_tag(random), &[value])),
        12 => {
            let len = random.below(40);
            let unknown = tlv::wrap(any_tag(random), &[&random.octets(len)]);
            replaced(der, nodes, Some(at), node.end..node.end, &unknown)
        }
        13 => {
            let mut changed = value.to_vec();
            if let Some(octet) = changed.get_mut(random.below(value.len())) {
                *octet = *random.pick(&[0x00, 0x01, 0x7F, 0x80, 0xFF, 0x30, 0x99]);
            }
            instead(&tlv::wrap(node.tag, &[&changed]))
        }
        14 => {
            let mut changed = whole.to_vec();
            let bit = random.below(8 * whole.len());
            changed[bit / 8] ^= 1 << (bit % 8);
            instead(&changed)
        }
        _ => {
            let len = value.len();
            instead(&tlv::wrap(node.tag, &[&random.octets(len)]))
        }
    }
}

/// Octets changed, cut off or added with no regard for lengths.
fn damage(der: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(der.len());
        match random.below(6) {
            0 => der.truncate(at),
            1 => {
                let len = random.below(64);
                der.extend(random.octets(len));
            }
            2 => der.extend([0x00, 0x00]),
            3 => {
                let length = *random.pick::<&[u8]>(&[
                    &[0x80],
                    &[0x81, 0x05],
                    &[0x82, 0x00, 0x10],
                    &[0x84, 0xFF, 0xFF, 0xFF, 0xFF],
                    &[0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                    &[0xFF],
                ]);
                der.splice(at..at, length.iter().copied());
            }
            _ => {
                if let Some(octet) = der.get_mut(at) {
                    *octet ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// Values at the edges of what integers, sizes, offsets, digits and references may be.
fn extreme(random: &mut Random) -> &'static [u8] {
    random.pick::<&[u8]>(&[
        &[],
        &[0x00],
        &[0x01],
        &[0x7F],
        &[0x80],
        &[0xFF],
        &[0x00, 0x00],
        &[0x00, 0x80],
        &[0x00, 0xFF],
        &[0xFF, 0xFF],
        &[0x00, 0xFF, 0xFF],
        &[0x01, 0x00, 0x00],
        &[0x7F, 0xFF, 0xFF, 0xFF],
        &[0xFF; 4],
        &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0xFF; 8],
        &[0xFF; 9],
        &[0x42, 0x21, 0x00, 0x00],
        &[0x42, 0x21, 0x00, 0x01],
        &[0x42, 0x21, 0xFF, 0xFF],
        &[0x46, 0x21, 0x00, 0xFF],
        &[0x79, 0x21],
        &[0x7F, 0xF0],
        &[0x00; 256],
    ])
}

fn any_tag(random: &mut Random) -> Tag {
    let number = random.below(128) as u32;
    let constructed = if random.one_in(2) { 0x20 } else { 0 };
    match random.below(5) {
        0 => Tag(*random.pick(&[0x02, 0x04, 0x06, 0x30, 0x31, 0x4F, 0x62, 0x5F20, 0x0C])),
        1 => Tag(0xC0 | constructed | number % 31),
        _ if number < 31 => Tag(0x80 | constructed | number),
        _ => Tag((0x9F | constructed) << 8 | number),
    }
}

fn foreign<'a>(seeds: &'a Seeds, random: &mut Random) -> &'a [u8] {
    let seed = seeds.draw(random);
    seed.nodes.get(random.below(seed.nodes.len())).map_or(&[], |node| &seed.der[node.start..node.end])
}

/// `der` with other octets at a range inside `parent`; every length from there outward is written anew.
fn replaced(der: &[u8], nodes: &[Node], parent: Option<usize>, range: Range<usize>, with: &[u8]) -> Vec<u8> {
    let (mut range, mut body, mut parent) = (range, with.to_vec(), parent);
    while let Some(outer) = parent.map(|at| nodes[at]) {
        let parts = [&der[outer.value..range.start], &body, &der[range.end..outer.end]];
        body = tlv::wrap(outer.tag, &parts);
        range = outer.start..outer.end;
        parent = outer.parent;
    }
    [&der[..range.start], &body, &der[range.end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_tlv_leaves_the_lengths_around_it_right() {
        let der = [0x30, 0x05, 0xA0, 0x03, 0x81, 0x01, 0x07, 0x04, 0x00];
        let nodes = nodes(&der);
        assert_eq!(nodes.len(), 4);
        let again = replaced(&der, &nodes, nodes[2].parent, 4..7, &[0x82, 0x02, 0x01, 0x02]);
        assert_eq!(again, [0x30, 0x06, 0xA0, 0x04, 0x82, 0x02, 0x01, 0x02, 0x04, 0x00]);
    }

    #[test]
    fn the_same_seed_gives_the_same_package() {
        let seeds = Seeds::load(None).unwrap();
        let once = mutated(&seeds, &mut Random::new(7));
        assert_eq!(once, mutated(&seeds, &mut Random::new(7)));
        assert_ne!(once, mutated(&seeds, &mut Random::new(8)));
    }

    #[test]
    fn most_mutated_packages_are_still_der() {
        let seeds = Seeds::load(None).unwrap();
        let mut random = Random::new(1);
        let strict = (0..400).filter(|_| tlv::check_strict(&mutated(&seeds, &mut random)).is_ok()).count();
        assert!((200..390).contains(&strict), "{strict} of 400");
    }
}
