//! TUAK (3GPP TS 35.231): TOPc, and f1 to f5* with one iteration of Keccak-f(1600), which is what profiles carry by default.
//! The lengths are those an authentication vector of 3GPP has: MAC 64 bits, RES 64, CK and IK 128.

use zeroize::Zeroizing;

use super::Response;

/// What INSTANCE says of a function beside its lengths (TS 35.231 §6.2 to §6.5).
const F1: u8 = 0x00;
const F1_STAR: u8 = 0x80;
const F2345: u8 = 0x40;
const F5_STAR: u8 = 0xC0;
const MAC_64: u8 = 0x08;
const RES_64: u8 = 0x08;
const CK_128: u8 = 0x00;
const IK_128: u8 = 0x00;
const KEY_256: u8 = 0x01;

/// One subscriber's TUAK. K has 16 or 32 octets.
pub(super) struct Tuak {
    /// Both in places of their own: moved, they would leave copies.
    k: Box<Zeroizing<[u8; 32]>>,
    is_256: bool,
    topc: Box<Zeroizing<[u8; 32]>>,
}

/// TOPc of the subscriber key `k` (16 or 32 octets, else none) and the operator's `top` (TS 35.231 §6.1).
pub fn topc(k: &[u8], top: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    Some(Tuak::new(k, top)?.permuted(0, &Input::default(), 1).taken(0))
}

/// What is asked of a function beside the subscriber's own.
#[derive(Default)]
struct Input {
    rand: [u8; 16],
    amf: [u8; 2],
    sqn: [u8; 6],
}

impl Tuak {
    pub(super) fn new(k: &[u8], topc: &[u8; 32]) -> Option<Self> {
        let (mut own, mut own_topc) = (Box::new(Zeroizing::new([0; 32])), Box::new(Zeroizing::new([0; 32])));
        own_topc.copy_from_slice(topc);
        matches!(k.len(), 16 | 32).then(|| own[..k.len()].copy_from_slice(k))?;
        Some(Self { k: own, is_256: k.len() == 32, topc: own_topc })
    }

    /// f1 and f1*: MAC-A and MAC-S.
    pub(super) fn macs(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: [u8; 2]) -> [Zeroizing<[u8; 8]>; 2] {
        let input = Input { rand: *rand, amf, sqn: *sqn };
        [F1, F1_STAR].map(|function| self.permuted(function | MAC_64, &input, 1).taken(0))
    }

    /// f2 to f5, and f5*.
    pub(super) fn response(&self, rand: &[u8; 16]) -> Response {
        let input = Input { rand: *rand, ..Input::default() };
        let out = self.permuted(F2345 | RES_64 | CK_128 | IK_128, &input, 1);
        let star = self.permuted(F5_STAR, &input, 1);
        Response { res: out.taken(0), ck: out.taken(32), ik: out.taken(64), ak: out.taken(96), ak_star: star.taken(96) }
    }

    /// The permutation over all that goes in: TOP or TOPc, INSTANCE, the algorithm's name, RAND, AMF, SQN, K, padding. Each is
    /// written from its last octet to its first: bit 0 of TS 35.231 is the last bit of a number as it is printed.
    fn permuted(&self, instance: u8, input: &Input, iterations: u32) -> State {
        let instance = if self.is_256 { instance | KEY_256 } else { instance };
        let key = if self.is_256 { &self.k[..] } else { &self.k[..16] };
        let mut octets = Zeroizing::new([0; 200]);
        let mut at = 0;
        for part in [&self.topc[..], &[instance], b"TUAK1.0", &input.rand, &input.amf, &input.sqn, key] {
            octets[at..at + part.len()].copy_from_slice(part);
            octets[at..at + part.len()].reverse();
            at += part.len();
        }
        octets[96] = 0x1F;
        octets[135] = 0x80;
        let mut lanes = Zeroizing::new([0; 25]);
        for (lane, octets) in lanes.iter_mut().zip(octets.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*octets);
        }
        keccak::Keccak::new().with_f1600(|f1600| (0..iterations).for_each(|_| f1600(&mut lanes)));
        for (lane, octets) in lanes.iter().zip(octets.as_chunks_mut::<8>().0) {
            *octets = lane.to_le_bytes();
        }
        State(octets)
    }
}

/// What came out of the permutation.
struct State(Zeroizing<[u8; 200]>);

impl State {
    /// `N` octets from octet `from` on, as they are printed.
    fn taken<const N: usize>(&self, from: usize) -> Zeroizing<[u8; N]> {
        Zeroizing::new(std::array::from_fn(|i| self.0[from + N - 1 - i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: &str = include_str!("../../../test-vectors/tuak/sets.txt");

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// A figure of any length, taken from the place where the function's own answer stands.
    fn figure(state: &State, from: usize, len: usize) -> Vec<u8> {
        state.0[from..from + len].iter().rev().copied().collect()
    }

    #[test]
    fn every_function_gives_the_figures_of_the_test_sets_of_ts_35_232() {
        let mut sets = 0;
        for line in SETS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [iterations, k, rand, sqn, amf, top, topc_wanted, f1, f1_star, f2, f3, f4, f5, f5_star] = fields[..]
            else {
                panic!("{} fields", fields.len())
            };
            let iterations: u32 = iterations.parse().unwrap();
            let top: [u8; 32] = hex(top).try_into().unwrap();
            let made = Tuak::new(&hex(k), &top).unwrap().permuted(0, &Input::default(), iterations).taken(0);
            assert_eq!(made[..], hex(topc_wanted), "TOPc of {k}");
            if iterations == 1 {
                assert_eq!(*topc(&hex(k), &top).unwrap(), *made);
            }
            let tuak = Tuak::new(&hex(k), &made).unwrap();
            let rand: [u8; 16] = hex(rand).try_into().unwrap();
            let of = |octets: usize| match octets {
                4 => 0,
                8 => 0x08,
                16 => 0x10,
                _ => 0x20,
            };
            let full = Input { rand, amf: hex(amf).try_into().unwrap(), sqn: hex(sqn).try_into().unwrap() };
            for (function, wanted) in [(F1, f1), (F1_STAR, f1_star)] {
                let wanted = hex(wanted);
                let state = tuak.permuted(function | of(wanted.len()), &full, iterations);
                assert_eq!(figure(&state, 0, wanted.len()), wanted, "f1 of {k}");
            }
            let [f2, f3, f4] = [f2, f3, f4].map(hex);
            let wide = |octets: &[u8], bit| if octets.len() == 32 { bit } else { 0 };
            let instance = F2345 | of(f2.len()) | wide(&f3, 0x04) | wide(&f4, 0x02);
            let alone = Input { rand, ..Input::default() };
            let state = tuak.permuted(instance, &alone, iterations);
            for (from, wanted) in [(0, &f2), (32, &f3), (64, &f4), (96, &hex(f5))] {
                assert_eq!(figure(&state, from, wanted.len()), *wanted, "octet {from} of {k}");
            }
            let star = tuak.permuted(F5_STAR, &alone, iterations);
            assert_eq!(figure(&star, 96, 6), hex(f5_star), "f5* of {k}");
            sets += 1;
        }
        assert_eq!(sets, 6);
    }

    #[test]
    fn a_key_of_another_length_is_none() {
        for length in [0, 15, 17, 31, 33] {
            assert!(topc(&vec![1; length], &[2; 32]).is_none());
        }
    }
}
