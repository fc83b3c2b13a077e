//! Key check values: the first octets of what a key makes of a block of zeros. They tell two keys apart and show a typing error;
//! only transport and import keys have one here, a check value of a subscriber's key would help whoever guesses.
//! Sources: CMAC as in ANSI X9.24-1 and RFC 4493, ECB as CKA_CHECK_VALUE of PKCS#11 has it.

use openssl::error::ErrorStack;
use openssl::symm::{Cipher, Crypter, Mode};
use serde::{Deserialize, Serialize};

use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef};

const BLOCK: usize = 16;

/// How a check value is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KcvMethod {
    /// AES-CMAC of one block of zeros.
    AesCmacZeros,
    /// AES of one block of zeros.
    AesEcbZeros,
}

impl KcvMethod {
    /// The word in plans and transcripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AesCmacZeros => "aes-cmac-zeros",
            Self::AesEcbZeros => "aes-ecb-zeros",
        }
    }

    /// The whole block of which a check value is the beginning, by a key that encrypts blocks and shows nothing else of itself.
    pub fn block<E>(self, mut encrypt: impl FnMut(&[u8; BLOCK]) -> Result<[u8; BLOCK], E>) -> Result<[u8; BLOCK], E> {
        let of_zeros = encrypt(&[0; BLOCK])?;
        match self {
            Self::AesEcbZeros => Ok(of_zeros),
            // CMAC of one whole block M is AES(M xor K1); M is zero (RFC 4493 §2.4).
            Self::AesCmacZeros => encrypt(&first_subkey(of_zeros)),
        }
    }

    /// The same of a key of the token that encrypts; `label` is for the error.
    pub fn block_of_token(
        self,
        session: &mut impl HsmSession,
        key: KeyRef,
        label: &str,
    ) -> Result<[u8; BLOCK], HsmError> {
        self.block(|block| {
            let answer = session.encrypt_blocks(key, block)?;
            answer.as_slice().try_into().map_err(|_| HsmError {
                what: format!("check value of {label}"),
                code: "the token answered with another length".into(),
                class: FaultClass::Data,
                hint: "the HSM is faulty",
            })
        })
    }

    /// The same of a key that is in memory: 16 or 32 octets.
    pub fn block_of_key(self, key: &[u8]) -> Result<[u8; BLOCK], ErrorStack> {
        let cipher = if key.len() == 16 { Cipher::aes_128_ecb() } else { Cipher::aes_256_ecb() };
        self.block(|block| {
            let mut crypter = Crypter::new(cipher, Mode::Encrypt, key, None)?;
            crypter.pad(false);
            let mut out = [0; 2 * BLOCK];
            crypter.update(block, &mut out)?;
            let mut answer = [0; BLOCK];
            answer.copy_from_slice(&out[..BLOCK]);
            Ok(answer)
        })
    }
}

/// K1 of RFC 4493 §2.3: the encrypted zeros, doubled in GF(2^128).
fn first_subkey(of_zeros: [u8; BLOCK]) -> [u8; BLOCK] {
    let number = u128::from_be_bytes(of_zeros);
    let carry = if number >> 127 == 1 { 0x87 } else { 0 };
    (number << 1 ^ carry).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CheckValue;
    use data_encoding::HEXLOWER;
    use openssl::pkey::PKey;
    use openssl::sign::Signer;

    /// Key, AES of zeros and K1 as RFC 4493 §4 prints them.
    const RFC_4493: [&str; 3] =
        ["2b7e151628aed2a6abf7158809cf4f3c", "7df76b0c1ab899b33e42f047b91b546f", "fbeed618357133667c85e08f7236a8de"];

    fn octets(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    #[test]
    fn the_subkey_and_the_encrypted_zeros_are_those_of_rfc_4493() {
        let [key, zeros, k1] = RFC_4493.map(octets);
        let block = KcvMethod::AesEcbZeros.block_of_key(&key).unwrap();
        assert_eq!(block[..], zeros);
        assert_eq!(first_subkey(block)[..], k1);
        assert_eq!(CheckValue::of_block(&block).to_string(), "7DF76B");
    }

    #[test]
    fn sp_800_38b_prints_the_encrypted_zeros_of_its_256_bit_key() {
        // NIST SP 800-38B, appendix D.3: key, CIPH_K(0), K1.
        let key = octets("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let block = KcvMethod::AesEcbZeros.block_of_key(&key).unwrap();
        assert_eq!(block[..], octets("e568f68194cf76d6174d4cc04310a854"));
        assert_eq!(first_subkey(block)[..], octets("cad1ed03299eedac2e9a99808621502f"));
    }

    #[test]
    fn the_cmac_of_zeros_is_openssls() {
        for (key, cipher) in [(vec![7; 16], Cipher::aes_128_cbc()), (vec![0xA5; 32], Cipher::aes_256_cbc())] {
            let pkey = PKey::cmac(&cipher, &key).unwrap();
            let mut signer = Signer::new_without_digest(&pkey).unwrap();
            signer.update(&[0; 16]).unwrap();
            assert_eq!(KcvMethod::AesCmacZeros.block_of_key(&key).unwrap()[..], signer.sign_to_vec().unwrap());
        }
    }
}
