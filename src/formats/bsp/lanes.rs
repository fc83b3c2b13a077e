//! AES-128 chains side by side. A chain hands each block to the next one and leaves the processor idle for nine tenths of the time;
//! chains that know nothing of each other fill the gaps. Bodies of one package share a key: CBC, a lane for each segment. MAC chains
//! run through a whole package: CMAC, a lane for each package, each with a key of its own.
//! In: key schedules, chains, octets. Out: ciphertext in place, MACs in place. Rule: the block cipher is the crate's; here is only
//! which block it takes next. Source: NIST SP 800-38A §6.2, SP 800-38B §6.

use std::slice::ChunksMut;

use aes::Aes128Enc;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use zeroize::Zeroizing;

use super::mac::MAC_LEN;
use crate::secret::{Enc, LentKey, Mac};

/// Chains that run at once. Of CMAC 8 take 0.19 us a full segment, 4 take 0.27, 16 no less than 8.
pub(super) const LANES: usize = 8;

pub(super) type Block = [u8; 16];

/// Whether lanes are worth their while: without instructions for AES the crate computes bit by bit, at a quarter of OpenSSL's speed.
pub(super) fn pay() -> bool {
    aes::hardware_accelerated()
}

/// Key schedule of S-ENC or PPK-ENC, wiped on drop.
pub(super) struct EncLaneKey(Aes128Enc);

impl EncLaneKey {
    pub(super) fn new(key: LentKey<'_, Enc>) -> Self {
        Self(Aes128Enc::new(key.expose().into()))
    }

    /// ICVs of the block counters from `first` on.
    pub(super) fn icvs(&self, first: u32) -> [Block; LANES] {
        let counter = |lane| (u128::from(first) + lane as u128).to_be_bytes();
        let mut icvs: [aes::Block; LANES] = std::array::from_fn(|lane| counter(lane).into());
        self.0.encrypt_blocks(&mut icvs);
        icvs.map(Into::into)
    }

    /// Encrypts the bodies in place, each as a chain of its own.
    pub(super) fn encrypt(&self, lanes: &mut [CbcLane<'_>]) {
        self.0.encrypt_with_backend(Cbc(lanes));
    }
}

/// One CBC encryption: the chaining value, at first the ICV, and whole blocks.
#[derive(Default)]
pub(super) struct CbcLane<'a> {
    pub(super) chain: Block,
    pub(super) body: &'a mut [Block],
}

/// Key schedule and subkeys of S-MAC or PPK-CMAC, wiped on drop.
pub(super) struct MacLaneKey {
    cipher: Aes128Enc,
    /// K1, for a message of whole blocks.
    whole: Zeroizing<Block>,
    /// K2, for a padded one.
    padded: Zeroizing<Block>,
}

impl MacLaneKey {
    pub(super) fn new(key: LentKey<'_, Mac>) -> Self {
        let cipher = Aes128Enc::new(key.expose().into());
        let mut l = Zeroizing::new([0; 16]);
        cipher.encrypt_block((&mut *l).into());
        let whole = doubled(&l);
        let padded = doubled(&whole);
        Self { cipher, whole, padded }
    }
}

/// The segments of one package, one behind the other; the room for the MAC is the end of each.
pub(super) struct MacLane<'a> {
    pub(super) key: &'a MacLaneKey,
    /// MAC chaining value.
    pub(super) chain: &'a mut Block,
    pub(super) segments: ChunksMut<'a, u8>,
}

/// Writes the MACs of all segments and moves the chains on.
pub(super) fn link(lanes: &mut [Option<MacLane<'_>>; LANES]) {
    enter(0, None, lanes);
}

/// CBC of all lanes under one key, run inside of the crate: round keys stay in registers.
struct Cbc<'l, 'b>(&'l mut [CbcLane<'b>]);

impl BlockSizeUser for Cbc<'_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Cbc<'_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let longest = self.0.iter().map(|lane| lane.body.len()).max().unwrap_or_default();
        for at in 0..longest {
            for lane in &mut *self.0 {
                let Some(block) = lane.body.get_mut(at) else { continue };
                xor(block, &lane.chain);
                backend.encrypt_block_inplace(block.into());
                lane.chain = *block;
            }
        }
    }
}

/// The crate's way to encrypt under one key; behind `dyn`, so that eight keys need no eightfold generic.
trait EncryptBlock {
    fn encrypt(&self, block: &mut Block);
}

impl<B: BlockCipherEncBackend<BlockSize = U16>> EncryptBlock for B {
    #[inline(always)]
    fn encrypt(&self, block: &mut Block) {
        self.encrypt_block_inplace(block.into());
    }
}

/// Enters the crate once for each key, one inside the other, and runs the chains when all are there. To enter it once for each block
/// takes twice as long as one chain alone.
struct Gather<'g, 'l, 'k> {
    at: usize,
    found: Option<Ciphers<'g>>,
    lanes: &'l mut [Option<MacLane<'k>>; LANES],
}

impl BlockSizeUser for Gather<'_, '_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Gather<'_, '_, '_> {
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut found: Ciphers<'_> = match self.found {
            Some(found) => found,
            None => [backend; LANES],
        };
        found[self.at] = backend;
        enter(self.at + 1, Some(found), self.lanes);
    }
}

/// The lanes' ciphers; of a lane that is not there, any.
type Ciphers<'g> = [&'g dyn EncryptBlock; LANES];

fn enter(from: usize, found: Option<Ciphers<'_>>, lanes: &mut [Option<MacLane<'_>>; LANES]) {
    let next = lanes.iter().enumerate().skip(from).find_map(|(at, lane)| Some((at, lane.as_ref()?.key)));
    match (next, found) {
        (Some((at, key)), found) => key.cipher.encrypt_with_backend(Gather { at, found, lanes }),
        (None, Some(found)) => link_with(&found, lanes),
        (None, None) => {}
    }
}

/// The segment that a lane is at.
struct Message<'a> {
    cipher: &'a dyn EncryptBlock,
    chain: &'a mut Block,
    /// All blocks between chaining value and last block.
    blocks: &'a [Block],
    /// The last one, under its subkey.
    last: Block,
    mac: &'a mut [u8],
}

#[inline(never)] // once at the bottom, not in the frame of every key
fn link_with(ciphers: &Ciphers<'_>, lanes: &mut [Option<MacLane<'_>>; LANES]) {
    loop {
        let mut lanes = lanes.iter_mut().map(Option::as_mut).zip(ciphers);
        let mut messages: [Option<Message<'_>>; LANES] = std::array::from_fn(|_| {
            let (Some(lane), cipher) = lanes.next()? else { return None };
            lane.segments.next().map(|segment| Message::new(*cipher, lane.key, lane.chain, segment))
        });
        let Some(longest) = messages.iter().flatten().map(|message| message.blocks.len()).max() else { return };
        // The chaining value is the first block, and what CMAC begins with is zero.
        messages.iter_mut().flatten().for_each(|message| message.cipher.encrypt(message.chain));
        for at in 0..longest {
            for message in messages.iter_mut().flatten() {
                let Some(block) = message.blocks.get(at) else { continue };
                xor(message.chain, block);
                message.cipher.encrypt(message.chain);
            }
        }
        for message in messages.iter_mut().flatten() {
            xor(message.chain, &message.last);
            message.cipher.encrypt(message.chain);
            message.mac.copy_from_slice(&message.chain[..MAC_LEN]);
        }
    }
}

impl<'a> Message<'a> {
    fn new(cipher: &'a dyn EncryptBlock, key: &MacLaneKey, chain: &'a mut Block, segment: &'a mut [u8]) -> Self {
        let (signed, mac) = segment.split_at_mut(segment.len() - MAC_LEN);
        // The last block is 1 to 16 octets long; a segment always has some, if only its tag.
        let (blocks, end) = signed.split_at(signed.len().saturating_sub(1) / 16 * 16);
        let mut last = [0; 16];
        last[..end.len()].copy_from_slice(end);
        match last.get_mut(end.len()) {
            None => xor(&mut last, &key.whole),
            Some(marker) => {
                *marker = 0x80;
                xor(&mut last, &key.padded);
            }
        }
        Self { cipher, chain, blocks: blocks.as_chunks().0, last, mac }
    }
}

/// Times x in GF(2^128), as CMAC derives its subkeys; without a branch on the secret.
fn doubled(block: &Block) -> Zeroizing<Block> {
    let value = u128::from_be_bytes(*block);
    Zeroizing::new(((value << 1) ^ ((value >> 127) * 0x87)).to_be_bytes())
}

fn xor(block: &mut Block, other: &Block) {
    *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*other)).to_ne_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::bsp::vectors::{sized, vectors};

    #[test]
    fn every_lane_encrypts_as_nist_published() {
        for [key, iv, plain, sealed] in vectors(include_str!("../../../test-vectors/nist/aes128-cbc.txt")) {
            let key = EncLaneKey::new(LentKey::of(&sized(&key)));
            // Of different lengths: a lane that ends must not touch its neighbours.
            let mut bodies: Vec<Vec<u8>> = (0..LANES).map(|lane| plain[..16 * (lane % 5)].to_vec()).collect();
            let chain = sized(&iv);
            let mut lanes: Vec<_> =
                bodies.iter_mut().map(|body| CbcLane { chain, body: body.as_chunks_mut().0 }).collect();
            key.encrypt(&mut lanes);
            assert!(bodies.iter().any(|body| body.len() == sealed.len()));
            for body in bodies {
                assert_eq!(body, sealed[..body.len()]);
            }
        }
    }

    #[test]
    fn every_lane_authenticates_as_rfc4493_published() {
        // A message of at least two blocks or one and a bit: its first is what a lane begins with.
        let recorded: Vec<[Vec<u8>; 3]> = vectors(include_str!("../../../test-vectors/rfc4493/aes128-cmac.txt"));
        let usable: Vec<_> = recorded.into_iter().filter(|[_, message, _]| message.len() > 16).collect();
        assert!(usable.iter().any(|[_, message, _]| message.len() % 16 == 0));
        assert!(usable.iter().any(|[_, message, _]| message.len() % 16 != 0));
        for first in 0..LANES {
            // Each message in each lane, beside others, the first lanes empty.
            let of = |lane: usize| &usable[lane % usable.len()];
            let keys: Vec<_> = (0..LANES).map(|i| MacLaneKey::new(LentKey::of(&sized(&of(i)[0])))).collect();
            let mut chains: Vec<Block> = (0..LANES).map(|i| sized(&of(i)[1][..16])).collect();
            let mut segments: Vec<_> = (0..LANES).map(|i| [&of(i)[1][16..], &[0; MAC_LEN]].concat()).collect();
            let mut parts = keys.iter().zip(&mut chains).zip(&mut segments).enumerate();
            let mut lanes = std::array::from_fn(|_| {
                let (lane, ((key, chain), segment)) = parts.next()?;
                let len = segment.len();
                (lane >= first).then(|| MacLane { key, chain, segments: segment.chunks_mut(len) })
            });
            link(&mut lanes);
            for lane in first..LANES {
                assert_eq!(chains[lane][..], of(lane)[2]);
                assert_eq!(segments[lane][of(lane)[1].len() - 16..], of(lane)[2][..MAC_LEN]);
            }
        }
    }

    #[test]
    fn icvs_are_the_encrypted_block_counters() {
        let octets = [9; 16];
        let key = EncLaneKey::new(LentKey::of(&octets));
        let aes = openssl::symm::Cipher::aes_128_ecb();
        for (lane, icv) in key.icvs(0x00FF_FFFE).iter().enumerate() {
            let counter = (0x00FF_FFFE + lane as u128).to_be_bytes();
            assert_eq!(icv[..], openssl::symm::encrypt(aes, &octets, None, &counter).unwrap()[..16]);
        }
    }
}
