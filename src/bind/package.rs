//! The package itself: `BF36 { BF23, A0 { 87 }, A1 { 88.. }, [A2 { 87 }], A3 { 86.. } }` in one buffer of its final size.
//! Only the signature is filled in last, because it comes from the HSM while segments are being sealed.

use openssl::sha::sha256;

use super::{Agreement, BindError};
use crate::formats::bsp::segment::{CONTROL, METADATA, Sealer, mac_only_all_len, sealed_len};
use crate::formats::bsp::{ChainState, SegmentKeys};
use crate::formats::rsp::es8p::{
    CONFIGURE_ISDP, InitialiseSecureChannel, REPLACE_SESSION_KEYS_LEN, replace_session_keys,
};
use crate::formats::rsp::metadata;
use crate::formats::tlv::{self, Tag, put_head, tlv_len};
use crate::ids::TransactionId;
use crate::protect::{Ppk, Ppp, ppp_len};

const BOUND_PROFILE_PACKAGE: Tag = Tag(0xBF36);
const FIRST_SEQUENCE_OF_87: Tag = Tag(0xA0);
const SEQUENCE_OF_88: Tag = Tag(0xA1);
const SECOND_SEQUENCE_OF_87: Tag = Tag(0xA2);
const SEQUENCE_OF_86: Tag = Tag(0xA3);

/// What a package says beside the profile.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Of this session or pre-bound package.
    pub transaction_id: &'a TransactionId,
    /// The whole BF25.
    pub metadata: &'a [u8],
}

/// A package under session keys whose profile is not in it yet.
pub struct OpenDraft {
    draft: Draft,
    keys: SegmentKeys,
    start: ChainState,
    slot_from: usize,
}

/// A package that lacks nothing but the signature.
pub struct Draft {
    bytes: Vec<u8>,
    signature_at: usize,
    digest: [u8; 32],
}

/// A bound profile package: only one eUICC can open it. Exists only because [`Draft::sign`] made it.
pub struct Bpp(Vec<u8>);

impl Draft {
    /// A package under session keys, for a UPP of `upp_len` octets; see [`OpenDraft::fill`].
    pub fn session(
        agreement: Agreement,
        parts: &Parts<'_>,
        upp_len: usize,
        sealer: &mut Sealer,
    ) -> Result<OpenDraft, BindError> {
        let lengths = Lengths { metadata: parts.metadata.len(), has_keys: false, profile: ppp_len(upp_len) };
        let mut draft = Self::begin(&agreement, parts, &lengths, sealer)?;
        put_head(&mut draft.bytes, SEQUENCE_OF_86, lengths.profile);
        let slot_from = draft.bytes.len();
        draft.bytes.resize(slot_from + lengths.profile, 0);
        Ok(OpenDraft { draft, keys: agreement.keys, start: sealer.state(), slot_from })
    }

    /// A package around a stored profile, whose own keys travel in ReplaceSessionKeys.
    pub fn stored(
        agreement: Agreement,
        parts: &Parts<'_>,
        ppk: &Ppk,
        ppp: &Ppp,
        sealer: &mut Sealer,
    ) -> Result<Self, BindError> {
        let lengths = Lengths { metadata: parts.metadata.len(), has_keys: true, profile: ppp.len() };
        let mut draft = Self::begin(&agreement, parts, &lengths, sealer)?;
        let replace = replace_session_keys(ppk.keys(), ppk.start());
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

    /// Puts `smdpSign` (`r || s`) in its place.
    pub fn sign(mut self, signature: &[u8; 64]) -> Bpp {
        self.bytes[self.signature_at..self.signature_at + signature.len()].copy_from_slice(signature);
        Bpp(self.bytes)
    }

    /// Everything up to the second or, without one, the third sequence.
    fn begin(
        agreement: &Agreement,
        parts: &Parts<'_>,
        lengths: &Lengths,
        sealer: &mut Sealer,
    ) -> Result<Self, BindError> {
        tlv::single(parts.metadata, metadata::STORE_METADATA)?;
        if lengths.metadata > metadata::MAX_LEN {
            return Err(BindError::Metadata { got: lengths.metadata, max: metadata::MAX_LEN });
        }
        if lengths.profile == 0 {
            return Err(BindError::Empty);
        }
        let Agreement { keys, start, otpk_dp, otpk_euicc, host_id } = agreement;
        let channel = InitialiseSecureChannel { transaction_id: parts.transaction_id, host_id, otpk_dp };
        let value_len = channel.encoded_len() + lengths.sequences();
        let mut bytes = Vec::with_capacity(tlv_len(2, value_len));
        put_head(&mut bytes, BOUND_PROFILE_PACKAGE, value_len);
        let (signature_at, digest) = channel.write(otpk_euicc, &mut bytes);

        sealer.begin(keys, start)?;
        put_head(&mut bytes, FIRST_SEQUENCE_OF_87, sealed_len(CONFIGURE_ISDP.len()));
        sealer.seal_encrypted(CONTROL, &CONFIGURE_ISDP, room(&mut bytes, sealed_len(CONFIGURE_ISDP.len())))?;
        let metadata_len = mac_only_all_len(lengths.metadata);
        put_head(&mut bytes, SEQUENCE_OF_88, metadata_len);
        sealer.seal_mac_only_all(METADATA, parts.metadata, room(&mut bytes, metadata_len))?;
        Ok(Self { bytes, signature_at, digest })
    }
}

impl OpenDraft {
    /// SHA-256 of what the HSM signs; known before the profile is sealed, so that both can go on at once.
    pub fn digest(&self) -> [u8; 32] {
        self.draft.digest
    }

    /// Lends the session keys, the state of the chain and the profile's place to `protect`.
    pub fn fill<E>(
        mut self,
        protect: impl FnOnce(&SegmentKeys, &ChainState, &mut [u8]) -> Result<(), E>,
    ) -> Result<Draft, E> {
        protect(&self.keys, &self.start, &mut self.draft.bytes[self.slot_from..])?;
        Ok(self.draft)
    }
}

impl Bpp {
    /// The whole BF36.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256, as the export record states it.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
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
