//! A Bound Profile Package as the eUICC takes it apart: envelope, InitialiseSecureChannel, segments (SGP.22 §2.5.4, §5.5).
//!
//! In: octets of one BPP and what the eUICC knows. Out: metadata and UPP in the clear. Next: [`super::metadata`], [`super::saip`].
//! Rule: order, sizes and lengths are exact, because an LPA cuts the package by them and an eUICC gives no second chance.

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::sign::Verifier;
use zeroize::Zeroizing;

use super::agreement::{self, POINT_LEN, SegmentKeys};
use super::finding::{Check, Finding};
use super::segment::{CLEAR_MAX, PIECE_MAX, Receiver};
use crate::formats::tlv::{self, Reader, Tag, Tlv, TlvError};
use crate::ids::Eid;
use crate::secret::{Enc, Key, SharedSecret};

/// What a BPP holds, in the clear.
pub(super) struct Unsealed {
    pub(super) transaction_id: Vec<u8>,
    pub(super) otpk_dp: [u8; POINT_LEN],
    /// The whole BF25 TLV.
    pub(super) metadata: Vec<u8>,
    pub(super) upp: Zeroizing<Vec<u8>>,
    /// Encryption key of the profile segments: no two packages may share it.
    pub(super) profile_key: Key<Enc>,
    /// The profile came under a PPK.
    pub(super) keys_replaced: bool,
}

/// The envelope, taken apart but not opened.
pub(super) struct Layout<'a> {
    transaction_id: &'a [u8],
    host_id: &'a [u8],
    otpk_dp: [u8; POINT_LEN],
    /// Fields 1 to 4 of BF23, with their tags.
    signed: &'a [u8],
    signature: &'a [u8],
    signature_offset: usize,
    configure: Tlv<'a>,
    metadata: Vec<Tlv<'a>>,
    replace: Option<Tlv<'a>>,
    profile: Vec<Tlv<'a>>,
}

impl<'a> Layout<'a> {
    /// BF36 { BF23, A0 { 87 }, A1 { 88 [88] }, [A2 { 87 }], A3 { 86... } } and nothing else.
    pub(super) fn read(bpp: &'a [u8]) -> Result<Self, Finding> {
        let mut parts = tlv::single(bpp, Tag(0xBF36)).map_err(form)?.children();
        let channel = parts.expect(Tag(0xBF23)).map_err(form)?;
        let configure = segments(parts.expect(Tag(0xA0)).map_err(form)?, Tag(0x87), 1)?;
        let metadata = segments(parts.expect(Tag(0xA1)).map_err(form)?, Tag(0x88), 2)?;
        let replace = match parts.take_if(Tag(0xA2)).map_err(form)? {
            Some(sequence) => segments(sequence, Tag(0x87), 1)?.pop(),
            None => None,
        };
        let profile = segments(parts.expect(Tag(0xA3)).map_err(form)?, Tag(0x86), usize::MAX)?;
        parts.finish().map_err(form)?;

        let mut fields = channel.children();
        let operation = fields.expect(Tag(0x82)).map_err(form)?;
        let transaction = fields.expect(Tag(0x80)).map_err(form)?;
        let mut control = fields.expect(Tag(0xA6)).map_err(form)?.children();
        let key_type = control.expect(Tag(0x80)).map_err(form)?;
        let key_len = control.expect(Tag(0x81)).map_err(form)?;
        let host = control.expect(Tag(0x84)).map_err(form)?;
        control.finish().map_err(form)?;
        let otpk = fields.expect(Tag(0x5F49)).map_err(form)?;
        let signed = &channel.value[..fields.offset() - channel.value_offset()];
        let signature = fields.expect(Tag(0x5F37)).map_err(form)?;
        fields.finish().map_err(form)?;

        exactly(&operation, &[1], "remoteOpId is not installBoundProfilePackage")?;
        exactly(&key_type, &[0x88], "key type is not AES")?;
        exactly(&key_len, &[0x10], "key length is not 16")?;
        sized(&transaction, 1..=16, "transactionId")?;
        sized(&host, 1..=16, "HostID")?;
        sized(&signature, 64..=64, "smdpSign")?;
        let otpk_dp = otpk.value.try_into().map_err(|_| wrong(&otpk, "otPK.DP is not 65 octets".into()))?;
        let configure = configure.into_iter().next().ok_or_else(|| wrong(&channel, "no ConfigureISDP".into()))?;
        Ok(Self {
            transaction_id: transaction.value,
            host_id: host.value,
            otpk_dp,
            signed,
            signature: signature.value,
            signature_offset: signature.offset,
            configure,
            metadata,
            replace,
            profile,
        })
    }

    /// smdpSign over fields 1 to 4 and `5F49 41 otPK.EUICC`, under one of the trusted DPpb keys on the curve of the eUICC.
    pub(super) fn check_signature(
        &self,
        (otpk_euicc, curve): (&[u8; POINT_LEN], Nid),
        dppb: &[PKey<Public>],
    ) -> Result<(), Finding> {
        let signed = [self.signed, &tlv::wrap(Tag(0x5F49), &[otpk_euicc])].concat();
        let fitting: Vec<_> = dppb.iter().filter(|key| curve_of(key) == Some(curve)).collect();
        if fitting.iter().any(|key| verifies_raw(key, &signed, self.signature)) {
            return Ok(());
        }
        let what = match (dppb, &fitting[..]) {
            ([], _) => "smdpSign cannot be verified: no trusted DPpb certificate",
            (_, []) => {
                "smdpSign cannot be verified: no trusted DPpb certificate on the curve of the eUICC's one-time key"
            }
            _ => "smdpSign does not verify under the DPpb certificate for this eUICC's one-time key",
        };
        Err(Finding::new(Check::SmdpSign, what).at(self.signature_offset))
    }

    /// The shared secret of the key agreement.
    pub(super) fn agree(&self, otsk: &PKeyRef<Private>) -> Result<SharedSecret, Finding> {
        agreement::shared_secret(otsk, &self.otpk_dp)
    }

    /// Opens every segment in the order of the wire.
    pub(super) fn unseal(&self, z: &SharedSecret, eid: &Eid) -> Result<Unsealed, Finding> {
        let mut receiver = Receiver::new(agreement::derive(z, self.host_id, eid.packed()));
        let configure = receiver.take(&self.configure)?;
        check_configure(&configure)
            .map_err(|what| Finding::new(Check::ConfigureIsdp, what).at(self.configure.offset))?;

        let mut metadata = Vec::new();
        for segment in &self.metadata {
            metadata.extend_from_slice(&receiver.take(segment)?);
        }
        if let ([first, _], true) = (&self.metadata[..], metadata.len() <= CLEAR_MAX) {
            return Err(wrong_size(first, format!("{} octets of metadata need one segment, not two", metadata.len())));
        }
        if let Some(replace) = &self.replace {
            let keys = replacement(&receiver.take(replace)?)
                .map_err(|what| Finding::new(Check::ReplaceSessionKeys, what).at(replace.offset))?;
            receiver.replace(keys);
        }
        let profile_key = Key::from_slice(receiver.keys().enc.expose());
        Ok(Unsealed {
            transaction_id: self.transaction_id.to_vec(),
            otpk_dp: self.otpk_dp,
            metadata,
            upp: self.profile_pieces(&mut receiver)?,
            profile_key,
            keys_replaced: self.replace.is_some(),
        })
    }

    fn profile_pieces(&self, receiver: &mut Receiver) -> Result<Zeroizing<Vec<u8>>, Finding> {
        // Reserved once: a growing buffer would leave copies of the profile behind.
        let mut upp = Zeroizing::new(Vec::with_capacity(self.profile.len() * CLEAR_MAX));
        for (i, segment) in self.profile.iter().enumerate() {
            let piece = receiver.take(segment)?;
            let is_last = i + 1 == self.profile.len();
            if piece.is_empty() || piece.len() > PIECE_MAX || (!is_last && piece.len() != PIECE_MAX) {
                return Err(wrong_size(
                    segment,
                    format!("piece of {} octets, pieces have 1,007 but the last", piece.len()),
                ));
            }
            upp.extend_from_slice(&piece);
        }
        Ok(upp)
    }
}

fn curve_of(key: &PKeyRef<Public>) -> Option<Nid> {
    key.ec_key().ok()?.group().curve_name()
}

/// ECDSA-SHA256 with a raw r || s signature (BSI TR-03111 plain format).
pub(super) fn verifies_raw(key: &PKeyRef<Public>, signed: &[u8], raw: &[u8]) -> bool {
    let verify = || -> Result<bool, ErrorStack> {
        let (r, s) = raw.split_at(raw.len() / 2);
        let der = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()?;
        let mut verifier = Verifier::new(MessageDigest::sha256(), key)?;
        verifier.update(signed)?;
        verifier.verify(&der)
    };
    verify().unwrap_or(false)
}

fn segments<'a>(sequence: Tlv<'a>, tag: Tag, max: usize) -> Result<Vec<Tlv<'a>>, Finding> {
    let mut reader: Reader<'a> = sequence.children();
    let mut found = vec![reader.expect(tag).map_err(form)?];
    while !reader.is_empty() {
        let segment = reader.expect(tag).map_err(form)?;
        if found.len() == max {
            return Err(wrong(&segment, format!("{} holds more than {max} segments {tag}", sequence.tag)));
        }
        found.push(segment);
    }
    Ok(found)
}

/// `BF24 00`, or one dpProprietaryData (`B8`, at most 128 octets) that begins with its owner's OID.
fn check_configure(plain: &[u8]) -> Result<(), String> {
    let text = |e: TlvError| format!("ConfigureISDP: {e}");
    let mut fields = tlv::single(plain, Tag(0xBF24)).map_err(text)?.children();
    if let Some(data) = fields.take_if(Tag(0xB8)).map_err(text)? {
        if data.whole.len() > 128 {
            return Err(format!("dpProprietaryData has {} octets, at most 128 are allowed", data.whole.len()));
        }
        data.children().expect(Tag(0x06)).map_err(text)?;
        tlv::check_strict(data.value).map_err(text)?;
    }
    fields.finish().map_err(text)
}

/// `BF26 { 80 MAC chaining value, 81 PPK-ENC, 82 PPK-CMAC }`.
fn replacement(plain: &[u8]) -> Result<SegmentKeys, String> {
    let text = |e: TlvError| format!("ReplaceSessionKeys: {e}");
    let mut fields = tlv::single(plain, Tag(0xBF26)).map_err(text)?.children();
    let mut part = |tag| -> Result<&[u8; 16], String> {
        let value = fields.expect(Tag(tag)).map_err(text)?.value;
        value.try_into().map_err(|_| format!("ReplaceSessionKeys: {tag:02X} has {} octets, not 16", value.len()))
    };
    let keys = SegmentKeys::from_parts(part(0x80)?, part(0x81)?, part(0x82)?);
    fields.finish().map_err(text)?;
    Ok(keys)
}

fn form(error: TlvError) -> Finding {
    Finding::new(Check::BppForm, error.fault.to_string()).at(error.offset)
}

fn wrong(at: &Tlv<'_>, what: String) -> Finding {
    Finding::new(Check::BppForm, what).at(at.offset)
}

fn wrong_size(at: &Tlv<'_>, what: String) -> Finding {
    Finding::new(Check::SegmentSize, what).at(at.offset)
}

fn exactly(field: &Tlv<'_>, value: &[u8], what: &str) -> Result<(), Finding> {
    if field.value == value { Ok(()) } else { Err(wrong(field, what.into())) }
}

fn sized(field: &Tlv<'_>, allowed: std::ops::RangeInclusive<usize>, name: &str) -> Result<(), Finding> {
    if allowed.contains(&field.value.len()) {
        return Ok(());
    }
    Err(wrong(
        field,
        format!("{name} has {} octets, {} to {} are allowed", field.value.len(), allowed.start(), allowed.end()),
    ))
}

#[cfg(test)]
mod tests {
    use openssl::bn::{BigNum, BigNumContext};
    use openssl::ec::{EcGroup, EcKey, EcPoint};

    use super::*;
    use crate::verify::vectors;

    #[test]
    fn the_recorded_session_of_another_implementation_opens() {
        let session = vectors::section(include_str!("../../test-vectors/bpp/session.txt"), "session");
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let mut ctx = BigNumContext::new().unwrap();
        let point = |octets: &[u8], ctx: &mut BigNumContext| EcPoint::from_bytes(&group, octets, ctx).unwrap();
        let dppb = EcKey::from_public_key(&group, &point(&session["dppb"], &mut ctx)).unwrap();
        let otpk_euicc: [u8; 65] = session["otpk-euicc"].as_slice().try_into().unwrap();
        // The recording holds the SM-DP+'s one-time secret and not the eUICC's; ECDH gives both the same Z.
        let scalar = BigNum::from_slice(&session["otsk-dp"]).unwrap();
        let mut own = EcPoint::new(&group).unwrap();
        own.mul_generator2(&group, &scalar, &mut ctx).unwrap();
        let otsk = EcKey::from_private_components(&group, &scalar, &own).unwrap();
        let z = agreement::shared_secret(&PKey::from_ec_key(otsk).unwrap(), &otpk_euicc).unwrap();

        let layout = Layout::read(&session["bpp"]).unwrap();
        layout.check_signature((&otpk_euicc, Nid::X9_62_PRIME256V1), &[PKey::from_ec_key(dppb).unwrap()]).unwrap();
        let eid = Eid::from_packed(&session["eid"].as_slice().try_into().unwrap()).unwrap();
        let unsealed = layout.unseal(&z, &eid).unwrap();
        assert_eq!(unsealed.transaction_id, session["transaction-id"]);
        assert_eq!(unsealed.metadata, session["metadata"]);
        assert_eq!(*unsealed.upp, session["upp"]);
        assert!(!unsealed.keys_replaced);
        let metadata = crate::verify::metadata::read(&unsealed.metadata).unwrap();
        assert_eq!(metadata.iccid.as_str(), "89000123456789012341");

        let other = Eid::from_body("890490321234512345123456789013").unwrap();
        assert_eq!(layout.unseal(&z, &other).err().unwrap().check, Check::SegmentMac);
    }

    #[test]
    fn configure_isdp_is_empty_or_holds_owned_data() {
        assert_eq!(check_configure(&[0xBF, 0x24, 0]), Ok(()));
        assert_eq!(check_configure(&[0xBF, 0x24, 5, 0xB8, 3, 6, 1, 0x2A]), Ok(()));
        assert!(check_configure(&[0xBF, 0x24, 2, 0xB8, 0]).is_err());
        assert!(check_configure(&[0xBF, 0x24, 2, 0xB9, 0]).is_err());
        assert!(check_configure(&[0xBF, 0x25, 0]).is_err());
        let data = tlv::wrap(Tag(0xB8), &[&[6, 1, 0x2A], &tlv::wrap(Tag(0x04), &[&[0; 130]])]);
        assert!(check_configure(&tlv::wrap(Tag(0xBF24), &[&data])).unwrap_err().contains("128"));
    }

    #[test]
    fn replacement_keys_are_three_times_sixteen_octets() {
        let part = |tag, len| tlv::wrap(Tag(tag), &[&vec![7; len]]);
        let whole = |parts: &[&[u8]]| tlv::wrap(Tag(0xBF26), parts);
        assert!(replacement(&whole(&[&part(0x80, 16), &part(0x81, 16), &part(0x82, 16)])).is_ok());
        assert!(replacement(&whole(&[&part(0x80, 16), &part(0x81, 16), &part(0x82, 32)])).is_err());
        assert!(replacement(&whole(&[&part(0x80, 16), &part(0x82, 16), &part(0x81, 16)])).is_err());
        assert!(replacement(&whole(&[&part(0x80, 16), &part(0x81, 16), &part(0x82, 16), &part(0x83, 1)])).is_err());
    }
}
