//! The secrets of one record: one wiped buffer of fixed size, laid out by the template it is for.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::auth::{milenage, tuak};
use super::{Draw, PersonaliseError};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::tlv::{self, Reader, Tag};
use crate::secret::SubscriberKey;

/// What a secret is, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// K of every akaParameter.
    K,
    /// OPc (Milenage) or TOPc (TUAK).
    Opc,
    /// PIN of the global references 1 to 8.
    Pin1,
    /// PIN of the local references 81 to 88, in every context.
    Pin2,
    /// PUK of the references 1 to 8.
    Puk1,
    /// PUK of the references 81 to 88.
    Puk2,
    /// An administrative key, by its reference (0A to 0E, 8A to 8E).
    Adm(u8),
    /// A key of a security domain.
    Ota(OtaKey),
    /// A-key of every cdmaParameter (3GPP2 C.S0023).
    AKey,
    /// Shared secret data of every cdmaParameter that has some.
    Ssd,
    /// Service programming code of every CSIM (3GPP2 C.S0065).
    Spc,
}

/// Which OTA key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OtaKey {
    /// The security domain, counted from 0 in package order; 0 is the MNO-SD.
    pub domain: u8,
    /// Key version number: 01-0F SCP80, 20-2F SCP02, 30-3F SCP03, 40-4F SCP81.
    pub version: u8,
    /// Key identifier.
    pub id: u8,
    /// Key type: 80 DES, 85 TLS-PSK, 88 AES, 90 HMAC.
    pub key_type: u8,
    /// Which component of the key object, from 0.
    pub component: u8,
}

/// Where each secret stands in the buffer. One per compiled template.
#[derive(Debug, Default)]
pub(super) struct Layout {
    slots: Vec<Slot>,
    len: usize,
}

#[derive(Debug)]
struct Slot {
    secret: Secret,
    start: usize,
    len: usize,
}

/// A PIN takes four digits, PUK and ADM eight.
const PIN_DIGITS: u32 = 4;
const PUK_DIGITS: u32 = 8;
const SPC_DIGITS: u32 = 6;
/// Random octets behind the digits of one PIN: 64 bits, so that the remainder's bias stays below 2^-37.
const DIGITS_DRAW: usize = 8;

impl Layout {
    /// The slot of a secret, made on first use; the same secret is written wherever it repeats.
    pub(super) fn slot(&mut self, secret: Secret, len: usize) -> usize {
        if let Some(at) = self.slots.iter().position(|slot| slot.secret == secret && slot.len == len) {
            return at;
        }
        self.slots.push(Slot { secret, start: self.len, len });
        self.len += len;
        self.slots.len() - 1
    }

    /// A slot of its own, even when another has the same name (two keys of one version and id).
    pub(super) fn new_slot(&mut self, secret: Secret, len: usize) -> usize {
        self.slots.push(Slot { secret, start: self.len, len });
        self.len += len;
        self.slots.len() - 1
    }

    /// How many secrets a record has.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Octets of randomness that one record takes.
    pub(super) fn draw_len(&self) -> usize {
        self.slots.iter().map(|slot| slot.secret.digits().map_or(slot.len, |_| DIGITS_DRAW)).sum()
    }

    /// Octets of a secret; 0 when the template has no place for it.
    pub(super) fn len_of(&self, secret: Secret) -> usize {
        self.start_of(secret).map_or(0, |slot| slot.len)
    }

    fn start_of(&self, secret: Secret) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.secret == secret)
    }

    /// Octets of the sealed form behind its head.
    fn seal_body_len(&self) -> usize {
        SEAL_VERSION.len() + self.slots.iter().map(|slot| tlv::tlv_len(1, slot.entry_len())).sum::<usize>()
    }
}

impl Slot {
    /// Octets of name and value in the sealed form.
    fn entry_len(&self) -> usize {
        tlv::tlv_len(1, self.secret.name().1) + tlv::tlv_len(1, self.len)
    }
}

impl Secret {
    fn digits(self) -> Option<u32> {
        match self {
            Self::Pin1 | Self::Pin2 => Some(PIN_DIGITS),
            Self::Puk1 | Self::Puk2 | Self::Adm(_) => Some(PUK_DIGITS),
            Self::Spc => Some(SPC_DIGITS),
            Self::K | Self::Opc | Self::Ota(_) | Self::AKey | Self::Ssd => None,
        }
    }

    /// Name in the sealed form: kind, then what tells it apart.
    fn name(self) -> ([u8; 6], usize) {
        match self {
            Self::K => ([1, 0, 0, 0, 0, 0], 1),
            Self::Opc => ([2, 0, 0, 0, 0, 0], 1),
            Self::Pin1 => ([3, 1, 0, 0, 0, 0], 2),
            Self::Pin2 => ([3, 2, 0, 0, 0, 0], 2),
            Self::Puk1 => ([4, 1, 0, 0, 0, 0], 2),
            Self::Puk2 => ([4, 2, 0, 0, 0, 0], 2),
            Self::Adm(reference) => ([5, reference, 0, 0, 0, 0], 2),
            Self::Ota(key) => ([6, key.domain, key.version, key.id, key.key_type, key.component], 6),
            Self::AKey => ([7, 1, 0, 0, 0, 0], 2),
            Self::Ssd => ([7, 2, 0, 0, 0, 0], 2),
            Self::Spc => ([7, 3, 0, 0, 0, 0], 2),
        }
    }
}

/// All secrets of one record. Wiped on drop, silent in logs.
pub struct Credentials {
    octets: Zeroizing<Box<[u8]>>,
    layout: Arc<Layout>,
}

impl Credentials {
    /// Draws every secret; with `op` (OP or TOP, as the algorithm asks) OPc follows from K, and its share of the draw is passed over.
    pub(super) fn draw(
        layout: &Arc<Layout>,
        algorithm: Algorithm,
        draw: &mut Draw<'_>,
        op: Option<&SubscriberKey>,
    ) -> Result<Self, PersonaliseError> {
        let mut credentials = Self::empty(layout);
        for slot in &layout.slots {
            let octets = &mut credentials.octets[slot.start..slot.start + slot.len];
            match slot.secret.digits() {
                Some(_) if slot.secret == Secret::Spc => write_packed(octets, u64::from_be_bytes(*draw.take()?)),
                Some(digits) => write_digits(octets, u64::from_be_bytes(*draw.take()?), digits),
                None => octets.copy_from_slice(draw.take_slice(slot.len)?),
            }
        }
        if let Some(op) = op {
            let mut opc = Zeroizing::new([0; 32]);
            let len = derive_into(&mut opc, credentials.k(), op, algorithm)?;
            credentials.overwrite(Secret::Opc, &opc[..len], algorithm)?;
        }
        Ok(credentials)
    }

    /// Puts an imported K and OPc in place of the drawn ones.
    pub(super) fn import(&mut self, k: &[u8], opc: &[u8], algorithm: Algorithm) -> Result<(), PersonaliseError> {
        self.overwrite(Secret::K, k, algorithm)?;
        self.overwrite(Secret::Opc, opc, algorithm)
    }

    /// K.
    pub fn k(&self) -> &[u8] {
        self.expose(Secret::K).unwrap_or_default()
    }

    /// OPc, with TUAK TOPc.
    pub fn opc(&self) -> &[u8] {
        self.expose(Secret::Opc).unwrap_or_default()
    }

    /// A secret as it stands in the profile (PINs with their FF pad); `None` when the template has no place for it.
    pub fn expose(&self, secret: Secret) -> Option<&[u8]> {
        let slot = self.layout.start_of(secret)?;
        self.octets.get(slot.start..slot.start + slot.len)
    }

    /// Every secret with its name.
    pub fn each(&self) -> impl Iterator<Item = (Secret, &[u8])> {
        self.layout.slots.iter().map(|slot| (slot.secret, &self.octets[slot.start..slot.start + slot.len]))
    }

    /// Appends all secrets in a form for sealing at rest:
    ///
    /// ```text
    /// 30 L { 80 01 01 (version)  then for each secret  A1 L { 80 L name  81 L value } }
    /// name: 01 K | 02 OPc | 03 n PIN n | 04 n PUK n | 05 reference ADM | 06 domain version id type component OTA key
    ///       07 01 A-key | 07 02 SSD | 07 03 SPC
    /// ```
    ///
    /// `out` grows once at most, before anything secret is in it, and not at all when it has room for [`Self::seal_form_len`]. It is
    /// the caller's to wipe.
    pub fn seal_form(&self, out: &mut Vec<u8>) {
        out.reserve_exact(self.seal_form_len());
        tlv::put_head(out, Tag(0x30), self.layout.seal_body_len());
        out.extend_from_slice(&SEAL_VERSION);
        for slot in &self.layout.slots {
            let (name, name_len) = slot.secret.name();
            tlv::put_head(out, Tag(0xA1), slot.entry_len());
            tlv::put(out, Tag(0x80), &name[..name_len]);
            tlv::put(out, Tag(0x81), &self.octets[slot.start..slot.start + slot.len]);
        }
    }

    /// Octets of [`Self::seal_form`].
    pub fn seal_form_len(&self) -> usize {
        tlv::tlv_len(1, self.layout.seal_body_len())
    }

    /// Reads a sealed form back; it must have been made for the same layout.
    pub(super) fn opened(layout: &Arc<Layout>, form: &[u8]) -> Result<Self, PersonaliseError> {
        let mut credentials = Self::empty(layout);
        let read = || -> Option<()> {
            let mut entries: Reader<'_> = tlv::single(form, Tag(0x30)).ok()?.children();
            (entries.next_tlv().ok()??.whole == SEAL_VERSION).then_some(())?;
            for slot in &layout.slots {
                let mut members = entries.expect(Tag(0xA1)).ok()?.children();
                let (name, name_len) = slot.secret.name();
                (members.expect(Tag(0x80)).ok()?.value == &name[..name_len]).then_some(())?;
                let value = members.expect(Tag(0x81)).ok()?.value;
                (value.len() == slot.len).then_some(())?;
                credentials.octets[slot.start..slot.start + slot.len].copy_from_slice(value);
            }
            entries.finish().ok()
        };
        let mut read = read;
        read().ok_or(PersonaliseError::ForeignCredentials)?;
        Ok(credentials)
    }

    /// The secret of a slot, when these credentials belong to `layout`.
    pub(super) fn slot(&self, at: usize) -> Option<&[u8]> {
        let slot = self.layout.slots.get(at)?;
        self.octets.get(slot.start..slot.start + slot.len)
    }

    pub(super) fn belongs_to(&self, layout: &Arc<Layout>) -> bool {
        Arc::ptr_eq(&self.layout, layout)
    }

    fn empty(layout: &Arc<Layout>) -> Self {
        Self { octets: Zeroizing::new(vec![0; layout.len].into_boxed_slice()), layout: Arc::clone(layout) }
    }

    fn overwrite(&mut self, secret: Secret, value: &[u8], algorithm: Algorithm) -> Result<(), PersonaliseError> {
        let what = if secret == Secret::K { "K" } else { "OPc" };
        let slot = self.layout.start_of(secret);
        let expected = slot.map_or(0, |slot| slot.len);
        let slot = slot.filter(|slot| slot.len == value.len());
        let slot = slot.ok_or_else(|| key_length(what, value.len(), expected, algorithm))?;
        self.octets[slot.start..slot.start + slot.len].copy_from_slice(value);
        Ok(())
    }
}

/// OPc of K and OP, or TOPc of K and TOP.
pub fn derive(k: &[u8], op: &SubscriberKey, algorithm: Algorithm) -> Result<SubscriberKey, PersonaliseError> {
    let mut opc = Zeroizing::new([0; 32]);
    let len = derive_into(&mut opc, k, op, algorithm)?;
    SubscriberKey::copy_of(&opc[..len]).ok_or_else(|| key_length("OPc", len, algorithm.opc_len(), algorithm))
}

/// The same into `out`, without a place of its own; tells how many octets there are.
fn derive_into(
    out: &mut [u8; 32],
    k: &[u8],
    op: &SubscriberKey,
    algorithm: Algorithm,
) -> Result<usize, PersonaliseError> {
    let op = op.expose();
    let wrong_op = || key_length("OP", op.len(), algorithm.opc_len(), algorithm);
    let wrong_k = || key_length("K", k.len(), algorithm.k_len(), algorithm);
    match algorithm {
        Algorithm::Milenage => {
            let op: &[u8; 16] = op.try_into().map_err(|_| wrong_op())?;
            let k: &[u8; 16] = k.try_into().map_err(|_| wrong_k())?;
            let opc = milenage::opc(k, op).map_err(|e| PersonaliseError::Aes(e.to_string()))?;
            out[..opc.len()].copy_from_slice(&opc[..]);
            Ok(opc.len())
        }
        Algorithm::Tuak => {
            let top: &[u8; 32] = op.try_into().map_err(|_| wrong_op())?;
            out.copy_from_slice(&tuak::topc(k, top).ok_or_else(wrong_k)?[..]);
            Ok(out.len())
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

const SEAL_VERSION: [u8; 3] = [0x80, 0x01, 0x01];

fn key_length(what: &'static str, got: usize, expected: usize, algorithm: Algorithm) -> PersonaliseError {
    PersonaliseError::KeyLength { what, got, expected, algorithm: algorithm.as_str() }
}

/// `digits` ASCII digits, the rest FF (3GPP TS 31.101 §9.5.1).
fn write_digits(octets: &mut [u8], random: u64, digits: u32) {
    octets.fill(0xFF);
    let mut number = random % 10_u64.pow(digits);
    for octet in octets.iter_mut().take(digits as usize).rev() {
        *octet = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Two digits an octet, the first in the low nibble (3GPP2 C.S0065 §5.2.19).
fn write_packed(octets: &mut [u8], random: u64) {
    let mut number = random % 10_u64.pow(SPC_DIGITS);
    for octet in octets.iter_mut().rev() {
        *octet = (number % 10) as u8 * 16 + (number / 10 % 10) as u8;
        number /= 100;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::default();
        let ota = OtaKey { domain: 0, version: 1, id: 2, key_type: 0x88, component: 0 };
        for (secret, len) in
            [(Secret::K, 16), (Secret::Opc, 16), (Secret::Pin1, 8), (Secret::Adm(10), 8), (Secret::Ota(ota), 24)]
        {
            layout.slot(secret, len);
        }
        Arc::new(layout)
    }

    fn drawn(layout: &Arc<Layout>, seed: u8, op: Option<&SubscriberKey>) -> Credentials {
        let octets: Vec<u8> = (0..layout.draw_len()).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed)).collect();
        let mut draw = Draw::new(&octets);
        let credentials = Credentials::draw(layout, Algorithm::Milenage, &mut draw, op).unwrap();
        assert_eq!(draw.left(), 0);
        credentials
    }

    #[test]
    fn digits_are_padded_with_ff() {
        let mut octets = [0; 8];
        write_digits(&mut octets, 120_042, 4);
        assert_eq!(octets, *b"0042\xFF\xFF\xFF\xFF");
        write_digits(&mut octets, u64::MAX, 8);
        assert_eq!(octets, *b"09551615");
    }

    #[test]
    fn a_programming_code_has_two_digits_an_octet() {
        let mut octets = [0; 3];
        write_packed(&mut octets, 7_000_000_123_456);
        assert_eq!(octets, [0x21, 0x43, 0x65]);
        write_packed(&mut octets, 42);
        assert_eq!(octets, [0x00, 0x00, 0x24]);
    }

    #[test]
    fn a_secret_of_one_name_has_one_value_and_one_share_of_the_draw() {
        let mut layout = Layout::default();
        assert_eq!(layout.slot(Secret::Pin2, 8), layout.slot(Secret::Pin2, 8));
        assert_eq!(layout.draw_len(), 8);
    }

    #[test]
    fn with_op_the_opc_follows_from_k() {
        let layout = layout();
        let op = SubscriberKey::copy_of(&[0x11; 16]).unwrap();
        let credentials = drawn(&layout, 3, Some(&op));
        let k: [u8; 16] = credentials.k().try_into().unwrap();
        assert_eq!(credentials.opc(), &milenage::opc(&k, &[0x11; 16]).unwrap()[..]);
        assert_ne!(credentials.opc(), drawn(&layout, 3, None).opc());
        assert_eq!(credentials.k(), drawn(&layout, 3, None).k());
    }

    #[test]
    fn the_sealed_form_is_read_back_and_a_changed_one_refused() {
        let layout = layout();
        let credentials = drawn(&layout, 9, None);
        let mut form = Zeroizing::new(Vec::new());
        credentials.seal_form(&mut form);
        assert_eq!(form[..5], [0x30, 0x75, 0x80, 0x01, 0x01][..]);
        assert_eq!(form.len(), credentials.seal_form_len());
        let opened = Credentials::opened(&layout, &form).unwrap();
        assert!(credentials.each().eq(opened.each()));
        for at in 0..form.len() {
            let mut short = form.to_vec();
            short.truncate(at);
            assert!(Credentials::opened(&layout, &short).is_err());
        }
        form[4] = 2;
        assert!(Credentials::opened(&layout, &form).is_err());
    }

    #[test]
    fn an_imported_key_of_another_length_is_refused() {
        let mut credentials = drawn(&layout(), 1, None);
        assert!(credentials.import(&[1; 16], &[2; 32], Algorithm::Milenage).is_err());
        credentials.import(&[1; 16], &[2; 16], Algorithm::Milenage).unwrap();
        assert_eq!((credentials.k(), credentials.opc()), (&[1; 16][..], &[2; 16][..]));
    }

    #[test]
    fn credentials_print_nothing() {
        assert_eq!(format!("{:?}", drawn(&layout(), 1, None)), "Credentials(redacted)");
    }
}
