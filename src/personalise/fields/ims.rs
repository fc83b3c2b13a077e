//! IMS identities: EF.IMPI, EF.IMPU and EF.DOMAIN of the ISIM, derived from the IMSI or the MSISDN as the template derives them from
//! its own numbers (3GPP TS 23.003 §13.2 to §13.4).

use super::{About, Field};

/// `isim/ef-impi`, B5/A3: TLV `80 L` NAI, padded with FF.
pub(super) const IMPI: About<'_> =
    About { name: "impi", source: "derived", form: "IMSI@realm, by the template", clause: "3GPP TS 31.103 §4.2.2" };
/// `isim/ef-impu`, B5/A4: in each record TLV `80 L` URI, padded with FF.
pub(super) const IMPU: About<'_> = About {
    name: "impu",
    source: "derived",
    form: "sip:IMSI@realm, sip:+MSISDN@realm or tel:+MSISDN, by the template",
    clause: "3GPP TS 31.103 §4.2.4",
};
/// `isim/ef-domain`, B5/A5: TLV `80 L` domain, padded with FF.
pub(super) const DOMAIN: About<'_> = About {
    name: "ims_domain",
    source: "derived",
    form: "ims.mncMNC.mccMCC.3gppnetwork.org, by the template",
    clause: "3GPP TS 31.103 §4.2.3",
};

/// The right side of an IMS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::personalise) enum Realm {
    /// The operator's own, the same for every record.
    Fixed(Box<str>),
    /// Holds `mncNNN.mccNNN`, which follows from the IMSI.
    Home { before: Box<str>, behind: Box<str>, mnc_len: u8 },
}

impl Realm {
    /// Recognises `mncNNN.mccNNN` in a realm.
    pub(super) fn read(text: &str, mnc_len: u8) -> Self {
        let is_code = |text: &str, word: &str| {
            text.strip_prefix(word)
                .is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let home = text.find("mnc").and_then(|at| {
            let code = text.get(at..at + 13)?;
            let (mnc, mcc) = code.split_once('.')?;
            (is_code(mnc, "mnc") && is_code(mcc, "mcc")).then_some(at)
        });
        match home {
            Some(at) => Self::Home { before: text[..at].into(), behind: text[at + 13..].into(), mnc_len },
            None => Self::Fixed(text.into()),
        }
    }

    /// Octets of its text.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fixed(text) => text.len(),
            Self::Home { before, behind, .. } => before.len() + 13 + behind.len(),
        }
    }

    /// `ordered`: digits of the MNC where the record gives them.
    pub(super) fn write(&self, imsi: &str, ordered: Option<u8>, out: &mut Text<'_>) {
        match self {
            Self::Fixed(text) => out.put(text),
            Self::Home { before, behind, mnc_len } => {
                let (mcc, rest) = imsi.split_at_checked(3).unwrap_or_default();
                let mnc = &rest[..usize::from(ordered.unwrap_or(*mnc_len)).min(rest.len())];
                out.put(before);
                out.put(if mnc.len() == 2 { "mnc0" } else { "mnc" });
                out.put(mnc);
                out.put(".mcc");
                out.put(mcc);
                out.put(behind);
            }
        }
    }
}

/// The field for an IMS identity of the template, and the longest text it can become; `None` when it is nobody's in particular.
pub(super) fn ims_field(file: &str, text: &str, mnc_len: u8) -> Option<(Field, usize)> {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if file == "ef-domain" {
        let realm = Realm::read(text, mnc_len);
        let len = realm.len();
        return matches!(realm, Realm::Home { .. }).then_some((Field::Domain(realm), len));
    }
    for scheme in ["tel:+", "sip:+"] {
        if let Some(number) = text.strip_prefix(scheme) {
            let (digits, rest) = number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
            let longest = scheme.len() + 20 + rest.len();
            return (!digits.is_empty()).then(|| (Field::Tel { scheme, rest: rest.into() }, longest));
        }
    }
    let (scheme, nai) = text.strip_prefix("sip:").map_or(("", text), |nai| ("sip:", nai));
    let (user, realm) = nai.split_once('@')?;
    let realm = Realm::read(realm, mnc_len);
    let longest = scheme.len() + 15 + 1 + realm.len();
    (all_digits(user) && (6..=15).contains(&user.len())).then_some((Field::Nai { scheme, realm }, longest))
}

/// TLV `80 L text`, the rest of the gap FF.
pub(super) fn tlv_text(gap: &mut [u8], fill: impl FnOnce(&mut Text<'_>)) {
    gap.fill(0xFF);
    let Some((head, body)) = gap.split_at_mut_checked(2) else { return };
    let mut text = Text { body, len: 0 };
    fill(&mut text);
    head.copy_from_slice(&[0x80, text.len as u8]);
}

/// Text that grows inside a gap; the compiler of the template made sure it fits.
pub(super) struct Text<'g> {
    body: &'g mut [u8],
    len: usize,
}

impl Text<'_> {
    pub(super) fn put(&mut self, piece: &str) {
        for (slot, octet) in self.body.iter_mut().skip(self.len).zip(piece.bytes()) {
            *slot = octet;
        }
        self.len += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_of_the_operator_is_kept() {
        assert_eq!(Realm::read("test.3gpp.com", 2), Realm::Fixed("test.3gpp.com".into()));
        assert_eq!(Realm::read("mnc0x1.mcc001.org", 2), Realm::Fixed("mnc0x1.mcc001.org".into()));
    }
}
