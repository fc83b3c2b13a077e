//! OPc of Milenage: OPc = AES-128_K(OP) xor OP (3GPP TS 35.206 §4.1).

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

/// OPc for the subscriber key `k` and the operator's `op`.
pub fn opc(k: &[u8; 16], op: &[u8; 16]) -> Result<Zeroizing<[u8; 16]>, ErrorStack> {
    // OpenSSL asks for one block of room beyond the data.
    let mut block = Zeroizing::new([0; 32]);
    let mut context = CipherCtx::new()?;
    context.encrypt_init(Some(Cipher::aes_128_ecb()), Some(k), None)?;
    context.set_padding(false);
    context.cipher_update(op, Some(&mut block[..]))?;
    let mut opc = Zeroizing::new([0; 16]);
    for (out, (cipher, op)) in opc.iter_mut().zip(block.iter().zip(op)) {
        *out = cipher ^ op;
    }
    Ok(opc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opc_matches_the_test_sets_of_ts_35_208() {
        let text = include_str!("../../test-vectors/milenage/opc.txt");
        let mut sets = 0;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let octets: Vec<[u8; 16]> = line
                .split_whitespace()
                .map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap())
                .collect();
            let [k, op, expected] = octets[..] else { panic!("three columns: {line}") };
            assert_eq!(*opc(&k, &op).unwrap(), expected);
            sets += 1;
        }
        assert_eq!(sets, 6);
    }
}
