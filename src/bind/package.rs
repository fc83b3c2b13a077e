//! The package itself: `BF36 { BF23, A0 { 87 }, A1 { 88.. }, [A2 { 87 }], A3 { 86.. } }` in one buffer of its final size.
//! Only the signature is filled in last, because it comes from the HSM while segments are being sealed.

use super::{Agreement, BindError};
use crate::formats::bsp::SegmentKeys;
use crate::formats::bsp::group::Slot;
use crate::formats::bsp::segment::{CONTROL, METADATA, Sealer, mac_only_all_len, sealed_all_len, sealed_len};
use crate::formats::curve::Curve;
use crate::formats::rsp::es8p::{
    CONFIGURE_ISDP, InitialiseSecureChannel, REPLACE_SESSION_KEYS_LEN, replace_session_keys,
};
use crate::formats::rsp::metadata;
use crate::formats::tlv::{self, Tag, put_head, tlv_len};
use crate::protect::{Ppk, Ppp};

const BOUND_PROFILE_PACKAGE: Tag = Tag(0xBF36);
const FIRST_SEQUENCE_OF_87: Tag = Tag(0xA0);
const SEQUENCE_OF_88: Tag = Tag(0xA1);
const SECOND_SEQUENCE_OF_87: Tag = Tag(0xA2);
const SEQUENCE_OF_86: Tag = Tag(0xA3);

/// A package under session keys whose profile is not in it yet.
pub struct OpenDraft {
    draft: Draft,
    /// Those of the session, their chain behind the metadata.
    keys: SegmentKeys,
    slot_from: usize,
}

/// A package that lacks nothing but the signature.
pub struct Draft {
    curve: Curve,
    bytes: Vec<u8>,
    signature_at: usize,
    digest: [u8; 32],
}

/// A bound profile package: only one eUICC can open it. Exists only because [`Draft::sign`] made it.
pub struct Bpp(Vec<u8>);

impl Draft {
    /// A package under session keys, for a UPP of `upp_len` octets; see [`OpenDraft::fill`]. `metadata`: the whole BF25.
    pub fn session(
        agreement: Agreement,
        metadata: &[u8],
        upp_len: usize,
        sealer: &mut Sealer,
    ) -> Result<OpenDraft, BindError> {
        let lengths = Lengths { metadata: metadata.len(), has_keys: false, profile: sealed_all_len(upp_len) };
        let mut draft = Self::begin(&agreement, metadata, &lengths, sealer)?;
        put_head(&mut draft.bytes, SEQUENCE_OF_86, lengths.profile);
        let slot_from = draft.bytes.len();
        draft.bytes.resize(slot_from + lengths.profile, 0);
        let mut keys = agreement.keys;
        sealer.pause(&mut keys);
        Ok(OpenDraft { draft, keys, slot_from })
    }

    /// A package around a stored profile, whose own keys travel in ReplaceSessionKeys. `metadata`: the whole BF25.
    pub fn stored(
        agreement: Agreement,
        metadata: &[u8],
        ppk: &Ppk,
        ppp: &Ppp,
        sealer: &mut Sealer,
    ) -> Result<Self, BindError> {
        let lengths = Lengths { metadata: metadata.len(), has_keys: true, profile: ppp.len() };
        let mut draft = Self::begin(&agreement, metadata, &lengths, sealer)?;
        let replace = replace_session_keys(ppk.keys());
        put_head(&mut draft.bytes, SECOND_SEQUENCE_OF_87, sealed_len(replace.len()));
        sealer.seal_encrypted(CONTROL, &replace[..], room(&mut draft.bytes, sealed_len(replace.len())))?;
        put_head(&mut draft.bytes, SEQUENCE_OF_86, lengths.profile);
        draft.bytes.extend_from_slice(ppp.as_bytes());
        Ok(draft)
    }

    /// SHA-256 of what the HSM signs with the key of CERT.DPpb.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whose DPpb key signs: that of the eUICC's curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Puts `smdpSign` (`r || s`) in its place.
    pub fn sign(mut self, signature: &[u8; 64]) -> Bpp {
        self.bytes[self.signature_at..self.signature_at + signature.len()].copy_from_slice(signature);
        Bpp(self.bytes)
    }

    /// Everything up to the second or, without one, the third sequence.
    fn begin(
        agreement: &Agreement,
        store_metadata: &[u8],
        lengths: &Lengths,
        sealer: &mut Sealer,
    ) -> Result<Self, BindError> {
        tlv::single(store_metadata, metadata::STORE_METADATA)?;
        if lengths.metadata > metadata::MAX_LEN {
            return Err(BindError::Metadata { got: lengths.metadata, max: metadata::MAX_LEN });
        }
        if lengths.profile == 0 {
            return Err(BindError::Empty);
        }
        let Agreement { curve, keys, otpk_dp, host_id, transaction_id, digest } = agreement;
        let channel = InitialiseSecureChannel { transaction_id, host_id, otpk_dp };
        let value_len = channel.encoded_len() + lengths.sequences();
        let mut bytes = Vec::with_capacity(tlv_len(2, value_len));
        put_head(&mut bytes, BOUND_PROFILE_PACKAGE, value_len);
        let signature_at = channel.write(&mut bytes);

        sealer.begin(keys)?;
        put_head(&mut bytes, FIRST_SEQUENCE_OF_87, sealed_len(CONFIGURE_ISDP.len()));
        sealer.seal_encrypted(CONTROL, &CONFIGURE_ISDP, room(&mut bytes, sealed_len(CONFIGURE_ISDP.len())))?;
        let metadata_len = mac_only_all_len(lengths.metadata);
        put_head(&mut bytes, SEQUENCE_OF_88, metadata_len);
        sealer.seal_mac_only_all(METADATA, store_metadata, room(&mut bytes, metadata_len))?;
        Ok(Self { curve: *curve, bytes, signature_at, digest: *digest })
    }
}

impl OpenDraft {
    /// Lends the session keys and the profiles' places of several packages to `protect`, in their order.
    pub fn fill_all<E>(
        mut drafts: Vec<Self>,
        protect: impl FnOnce(&mut dyn Iterator<Item = Slot<'_>>) -> Result<(), E>,
    ) -> Result<Vec<Draft>, E> {
        let mut slots = drafts.iter_mut().map(Self::slot);
        protect(&mut slots)?;
        debug_assert!(slots.next().is_none(), "a package without its profile");
        Ok(drafts.into_iter().map(|open| open.draft).collect())
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot { keys: &self.keys, room: &mut self.draft.bytes[self.slot_from..] }
    }

    /// Lends the session keys and the profile's place to `protect`.
    pub fn fill<E>(mut self, protect: impl FnOnce(&SegmentKeys, &mut [u8]) -> Result<(), E>) -> Result<Draft, E> {
        protect(&self.keys, &mut self.draft.bytes[self.slot_from..])?;
        Ok(self.draft)
    }
}

impl Bpp {
    /// The whole BF36.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What decides a package's size.
struct Lengths {
    metadata: usize,
    has_keys: bool,
    profile: usize,
}

impl Lengths {
    fn sequences(&self) -> usize {
        let keys = if self.has_keys { tlv_len(1, sealed_len(REPLACE_SESSION_KEYS_LEN)) } else { 0 };
        tlv_len(1, sealed_len(CONFIGURE_ISDP.len()))
            + tlv_len(1, mac_only_all_len(self.metadata))
            + keys
            + tlv_len(1, self.profile)
    }
}

/// `len` octets more at the end of `bytes`, within its capacity.
fn room(bytes: &mut Vec<u8>, len: usize) -> &mut [u8] {
    let from = bytes.len();
    bytes.resize(from + len, 0);
    &mut bytes[from..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::{OneTimeKey, PeerKey, Workbench, agree};
    use crate::formats::bsp::kdf::HostId;
    use crate::formats::bsp::vectors::{sized, vectors};
    use crate::formats::tlv;
    use crate::ids::{Eid, TransactionId};
    use crate::personalise::Upp;
    use crate::protect::{protect, protect_into};
    use openssl::bn::{BigNum, BigNumContext};
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::ecdsa::EcdsaSig;
    use openssl::nid::Nid;

    /// One line of `test-vectors/bpp`.
    struct Recorded {
        scalar: [u8; 32],
        otpk_euicc: [u8; 65],
        eid: Eid,
        host_id: HostId,
        transaction_id: TransactionId,
        metadata: Vec<u8>,
        upp: Upp,
        ppk: Vec<u8>,
        signer: Vec<u8>,
        bpp: Vec<u8>,
    }

    fn recorded() -> Vec<Recorded> {
        let files =
            [include_str!("../../test-vectors/bpp/euicc-rsp.txt"), include_str!("../../test-vectors/bpp/own.txt")];
        let record = |columns: [Vec<u8>; 10]| {
            let [scalar, otpk, eid, host_id, transaction_id, metadata, upp, ppk, signer, bpp] = columns;
            Recorded {
                scalar: sized(&scalar),
                otpk_euicc: sized(&otpk),
                eid: Eid::from_packed(&sized(&eid)).unwrap(),
                host_id: HostId::new(&host_id).unwrap(),
                transaction_id: TransactionId(sized(&transaction_id)),
                metadata,
                upp: self::upp(upp),
                ppk,
                signer,
                bpp,
            }
        };
        files.iter().flat_map(|file| vectors(file)).map(record).collect()
    }

    impl Recorded {
        fn agreement(&self, workbench: &mut Workbench) -> Agreement {
            let one_time = OneTimeKey::from_scalar(workbench, Curve::P256, &self.scalar).unwrap();
            let peer = PeerKey::read(workbench, &[Curve::P256], &self.otpk_euicc).unwrap();
            agree(workbench, one_time, (&self.eid, &peer), (&self.host_id, &self.transaction_id)).unwrap()
        }

        fn draft(&self, workbench: &mut Workbench) -> Draft {
            let agreement = self.agreement(workbench);
            let digest = agreement.digest();
            let sealer = workbench.sealer();
            if self.ppk.is_empty() {
                let open = Draft::session(agreement, &self.metadata, self.upp.len(), sealer).unwrap();
                let draft = open.fill(|keys, slot| protect_into(&self.upp, keys, sealer, slot)).unwrap();
                assert_eq!(draft.digest(), digest);
                draft
            } else {
                let ppk = Ppk::opened(&sized(&self.ppk));
                let ppp = protect(&self.upp, ppk.keys(), sealer).unwrap();
                Draft::stored(agreement, &self.metadata, &ppk, &ppp, sealer).unwrap()
            }
        }
    }

    fn upp(octets: Vec<u8>) -> Upp {
        Upp::from_plain_for_tests(octets, "89000123456789012341".parse().unwrap())
    }

    fn signature_verifies(signer: &[u8], digest: &[u8; 32], signature: &[u8]) -> bool {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let point = EcPoint::from_bytes(&group, signer, &mut BigNumContext::new().unwrap()).unwrap();
        let key = EcKey::from_public_key(&group, &point).unwrap();
        let [r, s] = [&signature[..32], &signature[32..]].map(|half| BigNum::from_slice(half).unwrap());
        EcdsaSig::from_private_components(r, s).unwrap().verify(digest, &key).unwrap()
    }

    #[test]
    fn packages_are_as_others_bound_them_but_for_the_signature() {
        let mut workbench = Workbench::new().unwrap();
        for recorded in recorded() {
            let draft = recorded.draft(&mut workbench);
            let at = draft.signature_at;
            assert_eq!(recorded.bpp[at - 3..at], [0x5F, 0x37, 64]);
            let signature: [u8; 64] = sized(&recorded.bpp[at..at + 64]);
            assert!(signature_verifies(&recorded.signer, &draft.digest(), &signature));
            let mut wrong = draft.digest();
            wrong[0] ^= 1;
            assert!(!signature_verifies(&recorded.signer, &wrong, &signature));

            assert_eq!(draft.bytes[..at], recorded.bpp[..at]);
            assert_eq!(draft.bytes[at..at + 64], [0; 64]);
            assert_eq!(draft.bytes[at + 64..], recorded.bpp[at + 64..]);
            let bpp = draft.sign(&signature);
            assert_eq!(bpp.as_bytes(), recorded.bpp);
        }
    }

    #[test]
    fn the_buffer_has_its_final_size_from_the_start() {
        let mut workbench = Workbench::new().unwrap();
        let mut recorded = recorded().remove(0);
        for upp_len in [1, 90, 200, 1007, 1008, 12_300, 70_000] {
            recorded.upp = upp(vec![0xA5; upp_len]);
            for ppk in [vec![], vec![7; 48]] {
                recorded.ppk = ppk;
                let draft = recorded.draft(&mut workbench);
                assert_eq!(draft.bytes.len(), draft.bytes.capacity(), "{upp_len} octets");
                tlv::check_strict(draft.sign(&[1; 64]).as_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_metadata_of_two_segments_is_refused() {
        let mut workbench = Workbench::new().unwrap();
        let mut recorded = recorded().remove(0);
        let mut refusal = |metadata: Vec<u8>, upp_len| {
            recorded.metadata = metadata;
            let agreement = recorded.agreement(&mut workbench);
            Draft::session(agreement, &recorded.metadata, upp_len, workbench.sealer()).map(drop)
        };
        let of_len = |len: usize| tlv::wrap(metadata::STORE_METADATA, &[&vec![0; len - 5]]);
        assert!(refusal(of_len(2016), 1).is_ok());
        assert!(matches!(refusal(of_len(2017), 1), Err(BindError::Metadata { got: 2017, max: 2016 })));
        assert!(matches!(refusal(vec![], 1), Err(BindError::NotMetadata(_))));
        assert!(matches!(refusal(vec![0xBF, 0x24, 0], 1), Err(BindError::NotMetadata(_))));
        assert!(matches!(refusal(of_len(500), 0), Err(BindError::Empty)));
    }
}
