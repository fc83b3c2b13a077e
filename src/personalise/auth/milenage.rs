//! Milenage (3GPP TS 35.206): OPc, and f1 to f5* with the constants of the operator. AES is OpenSSL's.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::Response;

type Block = Zeroizing<[u8; 16]>;

/// Rotation constants r1 to r5 (bits) and xoring constants c1 to c5: the defaults of TS 35.206 §4.1, or the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// In bits, each below 128.
    pub rotations: [u8; 5],
    /// c1 to c5.
    pub xorings: [[u8; 16]; 5],
}

impl Default for Constants {
    fn default() -> Self {
        let xorings = [0, 1, 2, 4, 8].map(|last| {
            let mut constant = [0; 16];
            constant[15] = last;
            constant
        });
        Self { rotations: [64, 0, 32, 64, 96], xorings }
    }
}

impl Constants {
    /// From `rotationConstants` (5 octets) and `xoringConstants` (80 octets) of an akaParameter.
    pub fn from_octets(rotations: &[u8], xorings: &[u8]) -> Option<Self> {
        let rotations: [u8; 5] = rotations.try_into().ok()?;
        let (blocks, rest) = xorings.as_chunks::<16>();
        let sound = rest.is_empty() && rotations.iter().all(|rotation| *rotation < 128);
        Some(Self { rotations, xorings: blocks.try_into().ok()? }).filter(|_| sound)
    }
}

/// One subscriber's Milenage: the key scheduled, OPc and constants at hand.
pub(super) struct Milenage {
    aes: CipherCtx,
    /// In a place of its own: moved, it would leave a copy.
    opc: Box<Block>,
    constants: Constants,
}

/// OPc for the subscriber key `k` and the operator's `op`: OPc = AES-128_K(OP) xor OP (TS 35.206 §4.1).
pub fn opc(k: &[u8; 16], op: &[u8; 16]) -> Result<Zeroizing<[u8; 16]>, ErrorStack> {
    let mut opc = encrypt(&mut schedule(k)?, op)?;
    xor(&mut opc, op);
    Ok(opc)
}

impl Milenage {
    pub(super) fn new(k: &[u8; 16], opc: &[u8; 16], constants: Constants) -> Result<Self, ErrorStack> {
        let mut own = Box::new(Zeroizing::new([0; 16]));
        own.copy_from_slice(opc);
        Ok(Self { aes: schedule(k)?, opc: own, constants })
    }

    /// f1 and f1*: MAC-A and MAC-S.
    pub(super) fn macs(
        &mut self,
        rand: &[u8; 16],
        sqn: &[u8; 6],
        amf: [u8; 2],
    ) -> Result<[Zeroizing<[u8; 8]>; 2], ErrorStack> {
        let mut input = Zeroizing::new([0; 16]);
        for half in input.as_chunks_mut::<8>().0 {
            half[..6].copy_from_slice(sqn);
            half[6..].copy_from_slice(&amf);
        }
        xor(&mut input, &self.opc);
        let mut block = rotated(&input, self.constants.rotations[0]);
        xor(&mut block, &self.constants.xorings[0]);
        let temp = self.temp(rand)?;
        xor(&mut block, &temp);
        let out = self.masked(&block)?;
        let half = |from: usize| Zeroizing::new(std::array::from_fn(|i| out[from + i]));
        Ok([half(0), half(8)])
    }

    /// f2 to f5, and f5*.
    pub(super) fn response(&mut self, rand: &[u8; 16]) -> Result<Response, ErrorStack> {
        let temp = self.temp(rand)?;
        let [out2, out3, out4, out5] =
            [self.out(1, &temp)?, self.out(2, &temp)?, self.out(3, &temp)?, self.out(4, &temp)?];
        let six = |block: &Block| Zeroizing::new(std::array::from_fn(|i| block[i]));
        Ok(Response {
            res: Zeroizing::new(std::array::from_fn(|i| out2[8 + i])),
            ck: out3,
            ik: out4,
            ak: six(&out2),
            ak_star: six(&out5),
        })
    }

    /// TEMP = E(RAND xor OPc).
    fn temp(&mut self, rand: &[u8; 16]) -> Result<Block, ErrorStack> {
        let mut block = Zeroizing::new(*rand);
        xor(&mut block, &self.opc);
        encrypt(&mut self.aes, &block)
    }

    /// OUT2 to OUT5 = E(rot(TEMP xor OPc, r) xor c) xor OPc; `at` counts from 0.
    fn out(&mut self, at: usize, temp: &Block) -> Result<Block, ErrorStack> {
        let mut block = temp.clone();
        xor(&mut block, &self.opc);
        let mut block = rotated(&block, self.constants.rotations[at]);
        xor(&mut block, &self.constants.xorings[at]);
        self.masked(&block)
    }

    fn masked(&mut self, block: &Block) -> Result<Block, ErrorStack> {
        let mut out = encrypt(&mut self.aes, block)?;
        xor(&mut out, &self.opc);
        Ok(out)
    }
}

fn schedule(k: &[u8; 16]) -> Result<CipherCtx, ErrorStack> {
    let mut context = CipherCtx::new()?;
    context.encrypt_init(Some(Cipher::aes_128_ecb()), Some(k), None)?;
    context.set_padding(false);
    Ok(context)
}

fn encrypt(context: &mut CipherCtx, block: &[u8; 16]) -> Result<Block, ErrorStack> {
    // OpenSSL asks for one block of room beyond the data.
    let mut room = Zeroizing::new([0; 32]);
    context.cipher_update(block, Some(&mut room[..]))?;
    Ok(Zeroizing::new(std::array::from_fn(|i| room[i])))
}

fn xor(block: &mut [u8; 16], other: &[u8; 16]) {
    block.iter_mut().zip(other).for_each(|(octet, other)| *octet ^= other);
}

/// Cyclic rotation towards the most significant bit.
fn rotated(block: &Block, bits: u8) -> Block {
    Zeroizing::new(u128::from_be_bytes(**block).rotate_left(bits.into()).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: &str = include_str!("../../../test-vectors/milenage/sets.txt");

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn every_function_gives_the_figures_of_the_test_sets_of_ts_35_207_and_35_208() {
        let mut sets = 0;
        for line in SETS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [k, rand, sqn, amf, op, opc_wanted, f1, f1_star, f2, f5, f3, f4, f5_star] = fields[..] else {
                panic!("{} fields", fields.len())
            };
            let opc = opc(&hex(k), &hex(op)).unwrap();
            assert_eq!(*opc, hex(opc_wanted), "OPc of {k}");
            let mut milenage = Milenage::new(&hex(k), &opc, Constants::default()).unwrap();
            let [mac_a, mac_s] = milenage.macs(&hex(rand), &hex(sqn), hex(amf)).unwrap();
            assert_eq!((*mac_a, *mac_s), (hex(f1), hex(f1_star)), "f1, f1* of {k}");
            let response = milenage.response(&hex(rand)).unwrap();
            assert_eq!((*response.res, *response.ak), (hex(f2), hex(f5)), "f2, f5 of {k}");
            assert_eq!((*response.ck, *response.ik, *response.ak_star), (hex(f3), hex(f4), hex(f5_star)), "of {k}");
            sets += 1;
        }
        assert_eq!(sets, 20);
    }

    #[test]
    fn other_constants_change_the_functions_they_belong_to_and_no_other() {
        let of = |constants: Constants| {
            let mut milenage = Milenage::new(&[7; 16], &[9; 16], constants).unwrap();
            let [mac_a, mac_s] = milenage.macs(&[1; 16], &[2; 6], [3; 2]).unwrap();
            let r = milenage.response(&[1; 16]).unwrap();
            [
                [*mac_a, *mac_s].concat(),
                [&r.res[..], &r.ak[..]].concat(),
                r.ck.to_vec(),
                r.ik.to_vec(),
                r.ak_star.to_vec(),
            ]
        };
        let usual = of(Constants::default());
        for at in 0..5 {
            let mut rotation = Constants::default();
            rotation.rotations[at] ^= 1;
            let mut xoring = Constants::default();
            xoring.xorings[at][3] ^= 0x10;
            for changed in [of(rotation), of(xoring)] {
                for (i, (changed, usual)) in changed.iter().zip(&usual).enumerate() {
                    assert_eq!(changed != usual, i == at, "constant {at}, function {i}");
                }
            }
        }
    }

    #[test]
    fn constants_have_their_lengths_and_rotations_below_a_block() {
        let octets = Constants::default().xorings.concat();
        assert_eq!(Constants::from_octets(&[64, 0, 32, 64, 96], &octets), Some(Constants::default()));
        for (rotations, xorings) in
            [(&[64, 0, 32, 64, 128][..], &octets[..]), (&[64, 0, 32, 64], &octets), (&[0; 5], &octets[1..])]
        {
            assert_eq!(Constants::from_octets(rotations, xorings), None);
        }
    }
}
