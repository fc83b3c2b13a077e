//! The judge's own authentication vectors: Milenage (3GPP TS 35.206) and TUAK (TS 35.231), on AES of OpenSSL and a Keccak permutation.
//!
//! In: K and OPc as the core network decrypts them, and as the profile holds them. Out: whether a challenge of the one is answered
//! by the other. RAND and SQN are drawn anew for every package.

use keccak::Keccak;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, Mode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::saip::Algorithm;
use super::segment::crypt;

/// Constants of one AKA element: r1 to r5 in bits, c1 to c5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Constants {
    pub(super) r: [u8; 5],
    pub(super) c: [[u8; 16]; 5],
}

impl Constants {
    /// From the members of an AKA element; one that is absent has its default.
    pub(super) fn read(r: Option<&[u8]>, c: Option<&[u8]>) -> Option<Self> {
        let mut constants = Self { r: [0x40, 0x00, 0x20, 0x40, 0x60], c: [[0; 16]; 5] };
        (constants.c[1][15], constants.c[2][15], constants.c[3][15], constants.c[4][15]) = (1, 2, 4, 8);
        if let Some(r) = r {
            constants.r = r.try_into().ok().filter(|r: &[u8; 5]| r.iter().all(|r| *r < 128))?;
        }
        if let Some(c) = c {
            (c.len() == 80).then_some(())?;
            constants.c.iter_mut().zip(c.chunks(16)).for_each(|(own, given)| own.copy_from_slice(given));
        }
        Some(constants)
    }
}

/// K and OPc of one side.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) k: &'a [u8],
    pub(super) opc: &'a [u8],
}

/// What both sides of an authentication come to: f1 to f5, f1*, f5*.
struct Vector {
    mac_a: Zeroizing<Vec<u8>>,
    mac_s: Zeroizing<Vec<u8>>,
    res: Zeroizing<Vec<u8>>,
    ck: Zeroizing<Vec<u8>>,
    ik: Zeroizing<Vec<u8>>,
    ak: Zeroizing<Vec<u8>>,
    ak_star: Zeroizing<Vec<u8>>,
}

/// Whether `card` answers `core` as it expects and believes it, under the card's constants.
pub(super) fn authenticate(core: Side<'_>, card: Side<'_>, constants: &Constants) -> Result<(), &'static str> {
    let mut fresh = [0; 22];
    rand_bytes(&mut fresh).map_err(|_| "no randomness for a challenge")?;
    let (rand, sqn) = fresh.split_at(16);
    let made = |side: Side<'_>| vector(side, constants, rand, sqn, &[0x80, 0]);
    let wrong = "K or OPc has not the length of its algorithm";
    let [core, card] = [made(core), made(card)].map(|made| made.map_err(|_| "OpenSSL refused to work"));
    let (core, card) = (core?.ok_or(wrong)?, card?.ok_or(wrong)?);
    let same = |a: &[u8], b: &[u8]| bool::from(a.ct_eq(b));
    // AUTN is SQN under AK, and MAC-A; AUTS is SQN under AK*, and MAC-S.
    if !same(&core.mac_a, &card.mac_a) || !same(&core.ak, &card.ak) {
        return Err("the profile does not believe the AUTN that the core network makes");
    }
    if !same(&core.res, &card.res) {
        return Err("RES of the profile is not the one that the core network expects");
    }
    if !same(&core.ck, &card.ck) || !same(&core.ik, &card.ik) {
        return Err("profile and core network derive different CK or IK");
    }
    if !same(&core.mac_s, &card.mac_s) || !same(&core.ak_star, &card.ak_star) {
        return Err("the core network does not believe the AUTS that the profile makes");
    }
    if same(&card.ck, &card.ik) {
        return Err("CK and IK are one key: the profile's constants do not tell its functions apart");
    }
    Ok(())
}

/// None where a length is not the algorithm's, or the algorithm is the test algorithm.
fn vector(
    side: Side<'_>,
    constants: &Constants,
    rand: &[u8],
    sqn: &[u8],
    amf: &[u8],
) -> Result<Option<Vector>, ErrorStack> {
    match (side.algorithm, side.k.len(), side.opc.len()) {
        (Algorithm::Milenage, 16, 16) => milenage(side, constants, rand, sqn, amf).map(Some),
        (Algorithm::Tuak, 16 | 32, 32) => Ok(Some(tuak(side, rand, sqn, amf, [8, 8, 16, 16], 1))),
        _ => Ok(None),
    }
}

fn milenage(side: Side<'_>, constants: &Constants, rand: &[u8], sqn: &[u8], amf: &[u8]) -> Result<Vector, ErrorStack> {
    let aes = |block: &[u8]| crypt(Cipher::aes_128_ecb(), Mode::Encrypt, side.k, None, block);
    let added = |a: &[u8], b: &[u8]| Zeroizing::new(a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<u8>>());
    let temp = aes(&added(rand, side.opc))?;
    let half = [sqn, amf].concat();
    let in1 = Zeroizing::new([&half[..], &half].concat());
    // Only f1 takes SQN and AMF, and puts TEMP behind the rotation.
    let out = |at: usize| -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
        let turned = rotate(&added(if at == 0 { &in1 } else { &temp }, side.opc), constants.r[at]);
        let block = added(&turned, &constants.c[at]);
        let block = if at == 0 { added(&block, &temp) } else { block };
        Ok(added(&aes(&block)?, side.opc))
    };
    let [f1, f2, f3, f4, f5] = [out(0)?, out(1)?, out(2)?, out(3)?, out(4)?];
    let part = |block: &[u8], range: std::ops::Range<usize>| Zeroizing::new(block[range].to_vec());
    Ok(Vector {
        mac_a: part(&f1, 0..8),
        mac_s: part(&f1, 8..16),
        res: part(&f2, 8..16),
        ck: f3,
        ik: f4,
        ak: part(&f2, 0..6),
        ak_star: part(&f5, 0..6),
    })
}

/// To the left, around the block.
fn rotate(block: &[u8], bits: u8) -> Zeroizing<Vec<u8>> {
    let (octets, bits) = (usize::from(bits / 8), u32::from(bits % 8));
    let at = |i: usize| u16::from(block[i % block.len()]);
    let turned = (0..block.len()).map(|i| {
        let pair = at(i + octets) << 8 | at(i + octets + 1);
        (pair << bits >> 8) as u8
    });
    Zeroizing::new(turned.collect())
}

/// `octets`: lengths of MAC, RES, CK and IK.
fn tuak(side: Side<'_>, rand: &[u8], sqn: &[u8], amf: &[u8], octets: [usize; 4], iterations: usize) -> Vector {
    let [mac, res, ck, ik] = octets;
    // Lengths in INSTANCE: MAC and RES in steps of 64 bits from bit 3 on, 32 bits is none of them; CK and IK by a bit.
    let length = |octets: usize| if octets == 4 { 0 } else { octets as u8 };
    let wide = |octets: usize, bit: u8| if octets == 32 { bit } else { 0 };
    let run = |instance: u8, sqn: &[u8], amf: &[u8]| {
        permuted(side.opc, side.k, instance | wide(side.k.len(), 1), (rand, sqn, amf), iterations)
    };
    let challenge = |instance| run(instance, &[0; 6], &[0; 2]);
    let (mac_a, mac_s) = (run(length(mac), sqn, amf), run(0x80 | length(mac), sqn, amf));
    let answer = challenge(0x40 | length(res) | wide(ck, 4) | wide(ik, 2));
    let figure = |state: &[u8; 200], from: usize, octets: usize| {
        Zeroizing::new(state[from..from + octets].iter().rev().copied().collect::<Vec<u8>>())
    };
    Vector {
        mac_a: figure(&mac_a, 0, mac),
        mac_s: figure(&mac_s, 0, mac),
        res: figure(&answer, 0, res),
        ck: figure(&answer, 32, ck),
        ik: figure(&answer, 64, ik),
        ak: figure(&answer, 96, 6),
        ak_star: figure(&challenge(0xC0), 96, 6),
    }
}

/// Figures stand in the state with their last octet first; K of 128 bits is filled up with zeros, then comes the padding.
fn permuted(
    topc: &[u8],
    k: &[u8],
    instance: u8,
    (rand, sqn, amf): (&[u8], &[u8], &[u8]),
    iterations: usize,
) -> Zeroizing<[u8; 200]> {
    let mut state = Zeroizing::new([0; 200]);
    let figures: [(usize, &[u8]); 7] =
        [(0, topc), (32, &[instance]), (33, b"TUAK1.0"), (40, rand), (56, amf), (58, sqn), (64, k)];
    for (from, figure) in figures {
        state[from..].iter_mut().zip(figure.iter().rev()).for_each(|(octet, given)| *octet = *given);
    }
    (state[96], state[135]) = (0b0001_1111, 0b1000_0000);
    let mut lanes: Zeroizing<[u64; 25]> = Zeroizing::new(std::array::from_fn(|lane| {
        state[8 * lane..8 * lane + 8].iter().rev().fold(0, |lane, octet| lane << 8 | u64::from(*octet))
    }));
    Keccak::new().with_f1600(|f| {
        for _ in 0..iterations {
            f(&mut lanes);
        }
    });
    state.iter_mut().enumerate().for_each(|(i, octet)| *octet = (lanes[i / 8] >> (8 * (i % 8))) as u8);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(text: &str) -> impl Iterator<Item = Vec<&str>> {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect())
    }

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn figures(vector: &Vector) -> [Vec<u8>; 7] {
        let Vector { mac_a, mac_s, res, ck, ik, ak, ak_star } = vector;
        [mac_a, mac_s, res, ck, ik, ak, ak_star].map(|figure| figure.to_vec())
    }

    #[test]
    fn milenage_gives_the_figures_of_ts_35_207_and_35_208() {
        let mut seen = 0;
        for set in sets(include_str!("../../test-vectors/milenage/sets.txt")) {
            let octets: Vec<Vec<u8>> = set.iter().map(|field| hex(field)).collect();
            let [k, rand, sqn, amf, _, opc, f1, f1_star, f2, f5, f3, f4, f5_star] = &octets[..] else { panic!() };
            let side = Side { algorithm: Algorithm::Milenage, k, opc };
            let made = milenage(side, &Constants::read(None, None).unwrap(), rand, sqn, amf).unwrap();
            assert_eq!(figures(&made), [f1, f1_star, f2, f3, f4, f5, f5_star].map(Clone::clone));
            seen += 1;
        }
        assert_eq!(seen, 20);
    }

    #[test]
    fn tuak_gives_the_figures_of_ts_35_232() {
        let mut seen = 0;
        for set in sets(include_str!("../../test-vectors/tuak/sets.txt")) {
            let octets: Vec<Vec<u8>> = set[1..].iter().map(|field| hex(field)).collect();
            let [k, rand, sqn, amf, _, topc, f1, f1_star, f2, f3, f4, f5, f5_star] = &octets[..] else { panic!() };
            let side = Side { algorithm: Algorithm::Tuak, k, opc: topc };
            let lengths = [f1.len(), f2.len(), f3.len(), f4.len()];
            let made = tuak(side, rand, sqn, amf, lengths, set[0].parse().unwrap());
            assert_eq!(figures(&made), [f1, f1_star, f2, f3, f4, f5, f5_star].map(Clone::clone));
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn a_block_is_turned_by_octets_and_bits() {
        let block: Vec<u8> = (0..16).map(|i| i * 17).collect();
        for bits in 0..128 {
            let wanted = u128::from_be_bytes(block[..].try_into().unwrap()).rotate_left(bits.into()).to_be_bytes();
            assert_eq!(rotate(&block, bits)[..], wanted, "{bits}");
        }
    }

    #[test]
    fn one_key_authenticates_and_any_other_does_not() {
        let usual = Constants::read(None, None).unwrap();
        for (algorithm, opc_len) in [(Algorithm::Milenage, 16), (Algorithm::Tuak, 32)] {
            let (k, opc) = (vec![3; 16], vec![4; opc_len]);
            let core = Side { algorithm, k: &k, opc: &opc };
            assert_eq!(authenticate(core, core, &usual), Ok(()));
            let (mut other_k, mut other_opc) = (k.clone(), opc.clone());
            (other_k[15], other_opc[0]) = (2, 5);
            assert!(authenticate(core, Side { k: &other_k, ..core }, &usual).unwrap_err().contains("AUTN"));
            assert!(authenticate(core, Side { opc: &other_opc, ..core }, &usual).unwrap_err().contains("AUTN"));
            assert!(authenticate(core, Side { k: &k[1..], ..core }, &usual).unwrap_err().contains("length"));
        }
        let mut one_key = usual;
        (one_key.r[3], one_key.c[3]) = (one_key.r[2], one_key.c[2]);
        let side = Side { algorithm: Algorithm::Milenage, k: &[3; 16], opc: &[4; 16] };
        assert!(authenticate(side, side, &one_key).unwrap_err().contains("constants"));
    }

    #[test]
    fn constants_of_another_form_are_none() {
        assert!(Constants::read(Some(&[0, 1, 2, 3]), None).is_none());
        assert!(Constants::read(Some(&[0, 1, 2, 3, 128]), None).is_none());
        assert!(Constants::read(None, Some(&[0; 79])).is_none());
        assert_eq!(Constants::read(Some(&[64, 0, 32, 64, 96]), None), Constants::read(None, None));
    }
}
