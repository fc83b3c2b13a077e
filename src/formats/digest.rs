//! SHA-256 of octets that lie together.
//!
//! `openssl::sha::sha256` does the same: but since OpenSSL 3.0 it looks the algorithm up in a table at every call, under a lock that
//! all threads share; on short texts that costs more than the digest.

use openssl::sha::Sha256;

/// SHA-256 (FIPS 180-4).
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(octets);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_digests_come_out() {
        // FIPS 180-4's examples: one block, and the empty text.
        let hex = |octets| data_encoding::HEXLOWER.encode(&sha256(octets));
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
