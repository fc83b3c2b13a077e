//! ES8+ commands from SM-DP+ to eUICC inside a bound profile package, all but StoreMetadata (see [`super::metadata`]).
//! In: identifiers, points, keys. Out: DER. Next: [`crate::bind`].
//! `smdpSign` covers fields with their tags but not the outer BF23, and the eUICC's one-time key that is not sent at all.
//! Source: SGP.22 §5.5.1 (InitialiseSecureChannel), §5.5.2 (ConfigureISDP), §5.5.4 (ReplaceSessionKeys).

use zeroize::Zeroizing;

use crate::formats::bsp::SegmentKeys;
use crate::formats::bsp::kdf::{HostId, KEY_LEN, KEY_TYPE_AES};
use crate::formats::digest::sha256;
use crate::formats::tlv::{Tag, put, put_head, tlv_len};
use crate::ids::TransactionId;

/// ConfigureISDP without dpProprietaryData: nothing of ours is to be kept by the ISD-P.
pub const CONFIGURE_ISDP: [u8; 3] = [0xBF, 0x24, 0x00];

/// Octets of ReplaceSessionKeys.
pub const REPLACE_SESSION_KEYS_LEN: usize = 57;

/// ReplaceSessionKeys: from here on the profile's own keys, and block counter 1 again. All three values change together.
pub fn replace_session_keys(keys: &SegmentKeys) -> Zeroizing<[u8; REPLACE_SESSION_KEYS_LEN]> {
    let mut out = Zeroizing::new([0; REPLACE_SESSION_KEYS_LEN]);
    out[..3].copy_from_slice(&[0xBF, 0x26, 0x36]);
    let values = [(0x80, keys.chain()), (0x81, keys.enc().expose()), (0x82, keys.mac().expose())];
    for (field, (tag, value)) in out[3..].chunks_exact_mut(18).zip(values) {
        field[..2].copy_from_slice(&[tag, value.len() as u8]);
        field[2..].copy_from_slice(value);
    }
    out
}

const INITIALISE_SECURE_CHANNEL: Tag = Tag(0xBF23);
const REMOTE_OP_ID: Tag = Tag(0x82);
const INSTALL_BOUND_PROFILE_PACKAGE: u8 = 1;
const TRANSACTION_ID: Tag = Tag(0x80);
const CONTROL_REFERENCE_TEMPLATE: Tag = Tag(0xA6);
const ONE_TIME_KEY: Tag = Tag(0x5F49);
const SIGNATURE: Tag = Tag(0x5F37);
const SIGNATURE_LEN: usize = 64;

/// InitialiseSecureChannel, before it is signed.
#[derive(Debug)]
pub struct InitialiseSecureChannel<'a> {
    /// Of this session or pre-bound package.
    pub transaction_id: &'a TransactionId,
    /// As it entered the key derivation.
    pub host_id: &'a HostId,
    /// otPK.DP.KA, uncompressed.
    pub otpk_dp: &'a [u8; 65],
}

impl InitialiseSecureChannel<'_> {
    /// Octets of the whole BF23.
    pub fn encoded_len(&self) -> usize {
        tlv_len(2, self.value_len())
    }

    /// SHA-256 of what is signed: the fields before the signature, then `5F49 41 otPK.EUICC.KA`. `scratch` holds the fields meanwhile,
    /// of which none is secret.
    pub fn digest(&self, otpk_euicc: &[u8; 65], scratch: &mut Vec<u8>) -> [u8; 32] {
        scratch.clear();
        self.write_fields(scratch);
        put(scratch, ONE_TIME_KEY, otpk_euicc);
        sha256(scratch)
    }

    /// Appends BF23 with 64 zero octets for the signature; tells where in `out` they stand.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        put_head(out, INITIALISE_SECURE_CHANNEL, self.value_len());
        self.write_fields(out);
        put(out, SIGNATURE, &[0; SIGNATURE_LEN]);
        out.len() - SIGNATURE_LEN
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        put(out, REMOTE_OP_ID, &[INSTALL_BOUND_PROFILE_PACKAGE]);
        put(out, TRANSACTION_ID, &self.transaction_id.0);
        put_head(out, CONTROL_REFERENCE_TEMPLATE, self.template_len());
        put(out, Tag(0x80), &[KEY_TYPE_AES]);
        put(out, Tag(0x81), &[KEY_LEN]);
        put(out, Tag(0x84), self.host_id.as_bytes());
        put(out, ONE_TIME_KEY, self.otpk_dp);
    }

    fn template_len(&self) -> usize {
        3 + 3 + tlv_len(1, self.host_id.as_bytes().len())
    }

    fn value_len(&self) -> usize {
        3 + tlv_len(1, self.transaction_id.0.len())
            + tlv_len(1, self.template_len())
            + tlv_len(2, self.otpk_dp.len())
            + tlv_len(2, SIGNATURE_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tlv;

    #[test]
    fn replace_session_keys_is_as_published() {
        // pySim's "mode 51" trace: MCV 0001.., PPK-ENC 0101.., PPK-CMAC 0201...
        let octets: [u8; 48] = std::array::from_fn(|i| match (i / 16, i % 16) {
            (part, 0) => part as u8,
            (_, at) => at as u8,
        });
        let keys = SegmentKeys::from_octets(&octets);
        let expected = "bf26368010000102030405060708090a0b0c0d0e0f8110010102030405060708090a0b0c0d0e0f\
                        8210020102030405060708090a0b0c0d0e0f";
        assert_eq!(data_encoding::HEXLOWER.encode(&replace_session_keys(&keys)[..]), expected);
    }

    #[test]
    fn the_secure_channel_is_strict_der_of_the_announced_length() {
        for host in [&b"h"[..], b"euicc-rsp", &[7; 16]] {
            let channel = InitialiseSecureChannel {
                transaction_id: &TransactionId([9; 16]),
                host_id: &HostId::new(host).unwrap(),
                otpk_dp: &[4; 65],
            };
            let mut out = vec![0xAA];
            let signature_at = channel.write(&mut out);
            let digest = channel.digest(&[5; 65], &mut vec![0xBB; 7]);
            assert_eq!(out.len() - 1, channel.encoded_len());
            let fields = tlv::single(&out[1..], INITIALISE_SECURE_CHANNEL).unwrap().children();
            tlv::check_strict(&out[1..]).unwrap();
            let signed = &fields.rest()[..fields.rest().len() - 67];
            assert_eq!(digest, openssl::sha::sha256(&[signed, &[0x5F, 0x49, 65], &[5; 65]].concat()));
            assert_eq!(out[signature_at - 3..], [&[0x5F, 0x37, 64][..], &[0; 64]].concat());
        }
    }
}
