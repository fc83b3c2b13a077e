//! Several packages sealed at once, in lanes; the octets are those that [`super::segment::Sealer::seal_all`] writes.
//! In: packages, each with its own keys, of whatever lengths. Out: TLVs in each package's exact buffer.
//! Rule: packages go on together, a wave of segments at a time, so that the MACs read what the cipher just left in the cache.

use zeroize::Zeroizing;

use super::SegmentKeys;
use super::cipher::padded_len;
use super::lanes::{self, Block, CbcLane, EncLaneKey, LANES, MacLane, MacLaneKey};
use super::mac::MAC_LEN;
use super::segment::{MAX_ENCRYPTED, sealed_len, write_head};
use crate::formats::tlv::Tag;
use crate::secret::wipe_stack;

/// Packages that gain from being sealed at once; more go group after group.
pub const GROUP: usize = LANES;

/// Plain octets of one package in a wave.
const WAVE_PLAIN: usize = LANES * MAX_ENCRYPTED;
const WAVE_SEALED: usize = LANES * sealed_len(MAX_ENCRYPTED);

/// Where the segments of a package go, and what they are sealed with.
pub struct Slot<'a> {
    /// Keys of this package alone, and where its chain stands.
    pub keys: &'a SegmentKeys,
    /// Room for exactly its segments.
    pub room: &'a mut [u8],
}

/// The key schedules of a group, in a place that is kept; there only while the group is being sealed.
pub(super) struct GroupCipher(Vec<Scheduled>);

struct Scheduled {
    enc: EncLaneKey,
    mac: MacLaneKey,
    chain: Zeroizing<Block>,
    counter: u32,
}

impl GroupCipher {
    /// None where one after the other is faster.
    pub(super) fn where_it_pays() -> Option<Self> {
        lanes::pay().then(|| Self(Vec::with_capacity(GROUP)))
    }

    /// Seals at most [`GROUP`] packages; the sizes of their rooms and their counters were checked.
    pub(super) fn seal(&mut self, tag: Tag, group: &mut [(&[u8], Slot<'_>)]) {
        self.seal_in_lanes(tag, group);
        // The crate widens key schedules for wide registers: eight copies, one frame inside the other, some 24 KiB deep.
        wipe_stack();
    }

    #[inline(never)] // or its frame would be above what is wiped
    fn seal_in_lanes(&mut self, tag: Tag, group: &mut [(&[u8], Slot<'_>)]) {
        self.0.extend(group.iter().map(|(_, slot)| Scheduled::new(slot)));
        let waves = group.iter().map(|(plain, _)| plain.len().div_ceil(WAVE_PLAIN)).max().unwrap_or_default();
        for wave in 0..waves {
            let mut packages = group.iter_mut().zip(&mut self.0);
            let mut macs = std::array::from_fn(|_| {
                let ((plain, slot), scheduled) = packages.next()?;
                let plain = plain.chunks(WAVE_PLAIN).nth(wave)?;
                let room = slot.room.chunks_mut(WAVE_SEALED).nth(wave)?;
                scheduled.encrypt(tag, plain, room);
                Some(scheduled.macs_of(room))
            });
            lanes::link(&mut macs);
        }
        self.0.clear();
    }
}

impl Scheduled {
    fn new(slot: &Slot<'_>) -> Self {
        Self {
            enc: EncLaneKey::new(slot.keys.enc()),
            mac: MacLaneKey::new(slot.keys.mac()),
            chain: Zeroizing::new(*slot.keys.chain()),
            counter: slot.keys.counter(),
        }
    }

    /// The package's segments of a wave but for their MACs.
    fn encrypt(&mut self, tag: Tag, plain: &[u8], room: &mut [u8]) {
        let mut segments = plain.chunks(MAX_ENCRYPTED).zip(room.chunks_mut(sealed_len(MAX_ENCRYPTED)));
        let mut lanes = self.enc.icvs(self.counter).map(|chain| match segments.next() {
            Some((plain, segment)) => CbcLane { chain, body: laid_out(tag, plain, segment) },
            None => CbcLane::default(),
        });
        self.enc.encrypt(&mut lanes);
        self.counter = self.counter.wrapping_add(LANES as u32); // that there are enough was checked; the last wave may be shorter
    }

    fn macs_of<'s>(&'s mut self, room: &'s mut [u8]) -> MacLane<'s> {
        let segments = room.chunks_mut(sealed_len(MAX_ENCRYPTED));
        MacLane { key: &self.mac, chain: &mut self.chain, segments }
    }
}

/// Puts head and padded plain octets in their place; they are encrypted there.
fn laid_out<'s>(tag: Tag, plain: &[u8], segment: &'s mut [u8]) -> &'s mut [Block] {
    let padded_len = padded_len(plain.len());
    let body = write_head(tag, padded_len + MAC_LEN, segment);
    let body = &mut segment[body..][..padded_len];
    let (octets, padding) = body.split_at_mut(plain.len());
    octets.copy_from_slice(plain);
    padding.fill(0);
    padding[0] = 0x80;
    body.as_chunks_mut().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::segment::{PROFILE, SealError, Sealer, sealed_all_len};
    use crate::formats::bsp::vectors::{sized, vectors};
    use openssl::sha::sha256;
    use proptest::prelude::*;

    fn keys(number: usize) -> SegmentKeys {
        SegmentKeys::from_octets(&std::array::from_fn(|i| (31 * number + i) as u8))
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|i| ((7 * i + 3) % 251) as u8).collect()
    }

    /// The lanes themselves: in software where the processor has no instructions for AES, whatever [`Sealer`] prefers there.
    fn in_lanes(packages: &[(Vec<u8>, SegmentKeys)]) -> Vec<Vec<u8>> {
        let mut rooms: Vec<_> = packages.iter().map(|(plain, _)| vec![0; sealed_all_len(plain.len())]).collect();
        let mut group: Vec<_> =
            packages.iter().zip(&mut rooms).map(|((plain, keys), room)| (&plain[..], Slot { keys, room })).collect();
        let mut cipher = GroupCipher(Vec::new());
        group.chunks_mut(GROUP).for_each(|group| cipher.seal(PROFILE, group));
        assert!(cipher.0.is_empty(), "key schedules outlive the group");
        rooms
    }

    fn one_by_one(packages: &[(Vec<u8>, SegmentKeys)]) -> Vec<Vec<u8>> {
        let mut sealer = Sealer::new().unwrap();
        let seal = |(plain, keys): &(Vec<u8>, SegmentKeys)| {
            let mut room = vec![0; sealed_all_len(plain.len())];
            sealer.begin(keys).unwrap();
            sealer.seal_all(PROFILE, plain, &mut room).unwrap();
            room
        };
        packages.iter().map(seal).collect()
    }

    #[test]
    fn whole_profiles_are_sealed_in_lanes_as_elsewhere() {
        let of = |[keys, upp_len, _, digest]: [Vec<u8>; 4]| {
            let upp_len = u32::from_be_bytes(sized(&upp_len)) as usize;
            ((plain(upp_len), SegmentKeys::from_octets(&sized(&keys))), digest)
        };
        let recorded = vectors(include_str!("../../../test-vectors/bsp/sequences.txt"));
        let (packages, digests): (Vec<_>, Vec<_>) = recorded.into_iter().map(of).unzip();
        for (sealed, digest) in in_lanes(&packages).iter().zip(&digests) {
            assert_eq!(sha256(sealed)[..], digest[..], "{} octets", sealed.len());
        }
    }

    #[test]
    fn every_length_up_to_three_segments_and_some_is_sealed_as_one_by_one() {
        let lengths = (0..=3).flat_map(|full| {
            let about = full * MAX_ENCRYPTED;
            about.saturating_sub(17)..=about + 17
        });
        let lengths: Vec<_> = lengths.chain((1..=20).map(|segments| segments * MAX_ENCRYPTED - 9)).collect();
        let packages: Vec<_> = lengths.iter().enumerate().map(|(i, len)| (plain(*len), keys(i))).collect();
        let expected = one_by_one(&packages);
        for ((package, sealed), expected) in packages.iter().zip(in_lanes(&packages)).zip(&expected) {
            assert!(sealed == *expected, "{} octets, in a group", package.0.len());
        }
        for (package, expected) in packages.into_iter().zip(&expected) {
            let len = package.0.len();
            assert!(in_lanes(&[package])[0] == *expected, "{len} octets, alone");
        }
    }

    #[test]
    fn the_sealer_takes_groups_of_any_size() {
        for size in 0..=2 * GROUP + 1 {
            let packages: Vec<_> = (0..size).map(|i| (plain(1 + 977 * i % 9_000), keys(i))).collect();
            let expected = one_by_one(&packages);
            let mut rooms: Vec<_> = expected.iter().map(|room| vec![0; room.len()]).collect();
            let slots = packages.iter().zip(&mut rooms);
            let mut group: Vec<_> = slots.map(|((plain, keys), room)| (&plain[..], Slot { keys, room })).collect();
            Sealer::new().unwrap().seal_group(PROFILE, &mut group).unwrap();
            assert!(rooms == expected, "{size} packages");
        }
    }

    #[test]
    fn a_chain_goes_on_where_its_package_stands() {
        let mut keys = keys(1);
        let mut sealer = Sealer::new().unwrap();
        sealer.begin(&keys).unwrap();
        let mut one_by_one = [vec![0; sealed_all_len(9_000)], vec![0; sealed_all_len(1_000)]];
        sealer.seal_all(PROFILE, &plain(9_000), &mut one_by_one[0]).unwrap();
        sealer.pause(&mut keys);
        sealer.seal_all(PROFILE, &plain(1_000), &mut one_by_one[1]).unwrap();
        assert_eq!(in_lanes(&[(plain(1_000), keys)])[0], one_by_one[1]);
    }

    #[test]
    fn one_wrong_room_keeps_the_whole_group_unsealed() {
        let keys = keys(1);
        let mut rooms = [vec![0; sealed_all_len(50)], vec![0; sealed_all_len(50) + 1]];
        let plain = plain(50);
        let mut group: Vec<_> = rooms.iter_mut().map(|room| (&plain[..], Slot { keys: &keys, room })).collect();
        let refused = Sealer::new().unwrap().seal_group(PROFILE, &mut group);
        assert!(matches!(refused, Err(SealError::Buffer { .. })));
        assert!(rooms.iter().flatten().all(|octet| *octet == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_group_is_sealed_as_one_by_one(lengths in proptest::collection::vec(0..=20_000_usize, 1..=GROUP), seed: u8) {
            let packages: Vec<_> =
                lengths.iter().enumerate().map(|(i, len)| (plain(*len), keys(i + usize::from(seed)))).collect();
            prop_assert!(in_lanes(&packages) == one_by_one(&packages));
        }
    }
}
