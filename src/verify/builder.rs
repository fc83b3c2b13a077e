//! Test side of the judge: a plain maker of small profiles, packages and certificates, written for these tests alone and shared
//! with nobody, so that the judge can be tried without the engine it is to judge.

use openssl::bn::BigNumContext;
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode};

use super::chain::{DpTrust, public_point};
use super::euicc::Euicc;
use crate::formats::tlv::{Tag, wrap};
use crate::ids::Eid;

pub(crate) fn key_pair() -> (PKey<Private>, [u8; 65]) {
    key_pair_on(Nid::X9_62_PRIME256V1)
}

pub(crate) fn key_pair_on(curve: Nid) -> (PKey<Private>, [u8; 65]) {
    let key = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
    let point = public_point(&key).unwrap().try_into().unwrap();
    (PKey::from_ec_key(key).unwrap(), point)
}

pub(crate) fn public(key: &PKey<Private>) -> PKey<Public> {
    PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap()
}

fn t(tag: u32, parts: &[&[u8]]) -> Vec<u8> {
    wrap(Tag(tag), parts)
}

fn nibbles(digits: &str, is_swapped: bool) -> Vec<u8> {
    let mut nibbles: Vec<u8> = digits.bytes().map(|b| b - b'0').collect();
    nibbles.resize(20, 15);
    nibbles.chunks(2).map(|pair| if is_swapped { pair[1] << 4 | pair[0] } else { pair[0] << 4 | pair[1] }).collect()
}

/// A tiny profile; every member can be set wrong.
pub(crate) struct Upp {
    pub(crate) header_iccid: String,
    pub(crate) ef_iccid: Option<String>,
    pub(crate) imsi: [u8; 9],
    pub(crate) acc: [u8; 2],
    pub(crate) algorithm: u8,
    pub(crate) k: Vec<u8>,
    pub(crate) opc: Vec<u8>,
    pub(crate) second_k: Option<Vec<u8>>,
    pub(crate) has_aka: bool,
    pub(crate) pin: [u8; 8],
    pub(crate) puk: [u8; 8],
    pub(crate) adm: [u8; 8],
    pub(crate) puk_reference: u8,
    pub(crate) ota_keys: Vec<Vec<u8>>,
    pub(crate) ballast: usize,
    /// Further files: tag of the element (B3 and B4), tag of the file, content.
    pub(crate) files: Vec<(u32, u32, Vec<u8>)>,
}

impl Default for Upp {
    fn default() -> Self {
        Self {
            header_iccid: "89000123456789012341".into(),
            ef_iccid: Some("89000123456789012341".into()),
            imsi: [8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36],
            acc: [0, 8],
            algorithm: 1,
            k: (1..=16).collect(),
            opc: (101..=116).collect(),
            second_k: None,
            has_aka: true,
            pin: *b"1234\xFF\xFF\xFF\xFF",
            puk: *b"12345678",
            adm: *b"87654321",
            puk_reference: 1,
            ota_keys: vec![vec![0x11; 16], vec![0x22; 16], vec![0x33; 16]],
            ballast: 0,
            files: Vec::new(),
        }
    }
}

impl Upp {
    pub(crate) fn der(&self) -> Vec<u8> {
        let file = |tag, content: &[u8]| t(tag, &[&t(0x83, &[content])]);
        let more = |element| -> Vec<u8> {
            self.files.iter().filter(|it| it.0 == element).flat_map(|(_, tag, content)| file(*tag, content)).collect()
        };
        let ef_iccid = self.ef_iccid.as_ref().map(|digits| file(0xA4, &nibbles(digits, true))).unwrap_or_default();
        let aka = |k: &[u8]| {
            let parameter = t(0xA1, &[&[0x80, 1, self.algorithm, 0x81, 1, 1], &t(0x82, &[k]), &t(0x83, &[&self.opc])]);
            t(0xA4, &[&t(0xA0, &[]), &t(0xA1, &[&parameter])])
        };
        let pin = t(0x30, &[&[0x80, 1, 1], &t(0x81, &[&self.pin]), &[0x82, 1, self.puk_reference]]);
        let adm = t(0x30, &[&[0x80, 1, 10], &t(0x81, &[&self.adm])]);
        let components = |key: &Vec<u8>| t(0x30, &[&[0x80, 1, 0x88], &t(0x86, &[key])]);
        let objects: Vec<u8> = (1..)
            .zip(&self.ota_keys)
            .flat_map(|(id, key)| t(0x30, &[&[0x95, 1, 0x18, 0x82, 1, id, 0x83, 1, 2], &t(0x30, &[&components(key)])]))
            .collect();
        [
            t(0xA0, &[&[0x80, 1, 2, 0x81, 1, 3], &t(0x83, &[&nibbles(&self.header_iccid, false)])]),
            t(0xB0, &[&t(0xA0, &[]), &ef_iccid]),
            t(0xA3, &[&t(0xA0, &[]), &t(0xA1, &[&t(0x30, &[&[0x80, 1, 1], &t(0x81, &[&self.puk])])])]),
            t(0xA2, &[&t(0xA0, &[]), &t(0xA1, &[&t(0xA0, &[&pin, &adm])])]),
            t(0xB3, &[&t(0xA0, &[]), &file(0xA3, &self.imsi), &more(0xB3), &file(0xB2, &self.acc)]),
            t(0xB4, &[&t(0xA0, &[]), &more(0xB4)]),
            if self.has_aka { aka(&self.k) } else { Vec::new() },
            self.second_k.as_ref().map(|k| aka(k)).unwrap_or_default(),
            t(0xA6, &[&t(0xA0, &[]), &t(0xA1, &[]), &t(0xA2, &[&objects])]),
            if self.ballast > 0 { t(0xA9, &[&t(0x04, &[&vec![0x5A; self.ballast]])]) } else { Vec::new() },
            t(0xAA, &[&t(0xA0, &[])]),
        ]
        .concat()
    }
}

/// A maker of packages for one eUICC; every member can be set wrong.
pub(crate) struct Maker {
    pub(crate) eid: Eid,
    pub(crate) otsk_euicc: PKey<Private>,
    pub(crate) otpk_euicc: [u8; 65],
    pub(crate) dppb: PKey<Private>,
    pub(crate) transaction_id: Vec<u8>,
    pub(crate) host_id: Vec<u8>,
    pub(crate) configure: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) metadata_split: Option<usize>,
    /// MAC chaining value, PPK-ENC, PPK-CMAC.
    pub(crate) ppk: Option<[[u8; 16]; 3]>,
    pub(crate) piece_len: usize,
    pub(crate) pad_mark: u8,
    pub(crate) first_counter: u128,
    pub(crate) upp: Vec<u8>,
}

impl Maker {
    pub(crate) fn new(eid: Eid, dppb: &PKey<Private>) -> Self {
        let (otsk_euicc, otpk_euicc) = key_pair();
        let iccid = t(0x5A, &[&nibbles("89000123456789012341", true)]);
        Self {
            eid,
            otsk_euicc,
            otpk_euicc,
            dppb: dppb.clone(),
            transaction_id: vec![7; 16],
            host_id: b"judge".to_vec(),
            configure: vec![0xBF, 0x24, 0],
            metadata: t(0xBF25, &[&iccid, &t(0x91, &[b"Provider"]), &t(0x92, &[b"Profile"])]),
            metadata_split: None,
            ppk: None,
            piece_len: 1_007,
            pad_mark: 0x80,
            first_counter: 1,
            upp: Upp::default().der(),
        }
    }

    /// The eUICC's one-time key on another curve; DPpb stays as it is.
    pub(crate) fn with_euicc_on(self, curve: Nid) -> Self {
        let (otsk_euicc, otpk_euicc) = key_pair_on(curve);
        Self { otsk_euicc, otpk_euicc, ..self }
    }

    pub(crate) fn demo() -> Self {
        Self::new("89049032123451234512345678901235".parse().unwrap(), &key_pair().0)
    }

    pub(crate) fn euicc(&self) -> Euicc {
        Euicc::new(self.eid, self.otsk_euicc.clone(), self.otpk_euicc).unwrap()
    }

    pub(crate) fn trust(&self) -> DpTrust {
        DpTrust::of_key(public(&self.dppb))
    }

    pub(crate) fn bpp(&self) -> Vec<u8> {
        let own = self.otsk_euicc.ec_key().unwrap();
        let (otsk_dp, otpk_dp) = key_pair_on(own.group().curve_name().unwrap());
        let mut ctx = BigNumContext::new().unwrap();
        let point = EcPoint::from_bytes(own.group(), &self.otpk_euicc, &mut ctx).unwrap();
        let peer = PKey::from_ec_key(EcKey::from_public_key(own.group(), &point).unwrap()).unwrap();
        let mut deriver = Deriver::new(&otsk_dp).unwrap();
        deriver.set_peer(&peer).unwrap();
        let z = deriver.derive_to_vec().unwrap();
        let info = [&[0x88, 0x10, self.host_id.len() as u8], &self.host_id[..], &[16], self.eid.packed()].concat();
        let block =
            |n: u32| hash(MessageDigest::sha256(), &[&z[..], &n.to_be_bytes(), &info].concat()).unwrap().to_vec();
        let okm = [block(1), block(2)].concat();
        let part = |i: usize| okm[16 * i..16 * i + 16].try_into().unwrap();
        let mut seal =
            Sealer { chain: part(0), enc: part(1), mac: part(2), n: self.first_counter, pad_mark: self.pad_mark };

        let control = t(0xA6, &[&[0x80, 1, 0x88, 0x81, 1, 0x10], &t(0x84, &[&self.host_id])]);
        let fields = [vec![0x82, 1, 1], t(0x80, &[&self.transaction_id]), control, t(0x5F49, &[&otpk_dp])].concat();
        let signed = [&fields[..], &t(0x5F49, &[&self.otpk_euicc])].concat();
        let channel = t(0xBF23, &[&fields, &t(0x5F37, &[&sign_raw(&self.dppb, &signed)])]);
        let a0 = t(0xA0, &[&seal.encrypted(0x87, &self.configure)]);
        let (head, tail) = self.metadata.split_at(self.metadata_split.unwrap_or(self.metadata.len()));
        let mut clear = seal.clear(head);
        if !tail.is_empty() {
            clear.extend(seal.clear(tail));
        }
        let a1 = t(0xA1, &[&clear]);
        let mut a2 = Vec::new();
        if let Some([chain, enc, mac]) = self.ppk {
            let request = t(0xBF26, &[&t(0x80, &[&chain]), &t(0x81, &[&enc]), &t(0x82, &[&mac])]);
            a2 = t(0xA2, &[&seal.encrypted(0x87, &request)]);
            seal = Sealer { chain, enc, mac, n: 1, pad_mark: self.pad_mark };
        }
        let pieces: Vec<u8> = self.upp.chunks(self.piece_len).flat_map(|piece| seal.encrypted(0x86, piece)).collect();
        t(0xBF36, &[&channel, &a0, &a1, &a2, &t(0xA3, &[&pieces])])
    }
}

struct Sealer {
    chain: [u8; 16],
    enc: [u8; 16],
    mac: [u8; 16],
    n: u128,
    pad_mark: u8,
}

impl Sealer {
    fn encrypted(&mut self, tag: u32, plain: &[u8]) -> Vec<u8> {
        let mut padded = [plain, &[self.pad_mark]].concat();
        padded.resize(padded.len().next_multiple_of(16), 0);
        let run = |cipher, iv: Option<&[u8]>, input: &[u8]| {
            let mut crypter = Crypter::new(cipher, Mode::Encrypt, &self.enc, iv).unwrap();
            crypter.pad(false);
            let mut out = vec![0; input.len() + 16];
            let n = crypter.update(input, &mut out).unwrap();
            out.truncate(n);
            out
        };
        let icv = run(Cipher::aes_128_ecb(), None, &self.n.to_be_bytes());
        let body = run(Cipher::aes_128_cbc(), Some(&icv), &padded);
        self.mac(tag, &body)
    }

    fn clear(&mut self, plain: &[u8]) -> Vec<u8> {
        self.mac(0x88, plain)
    }

    fn mac(&mut self, tag: u32, body: &[u8]) -> Vec<u8> {
        let mut out = t(tag, &[body, &[0; 8]]);
        out.truncate(out.len() - 8);
        let key = PKey::cmac(&Cipher::aes_128_cbc(), &self.mac).unwrap();
        let mut signer = Signer::new_without_digest(&key).unwrap();
        signer.update(&self.chain).unwrap();
        signer.update(&out).unwrap();
        self.chain = signer.sign_to_vec().unwrap().try_into().unwrap();
        out.extend_from_slice(&self.chain[..8]);
        self.n += 1;
        out
    }
}

pub(crate) fn sign_raw(key: &PKey<Private>, signed: &[u8]) -> Vec<u8> {
    let digest = openssl::sha::sha256(signed);
    let signature = openssl::ecdsa::EcdsaSig::sign(&digest, &key.ec_key().unwrap()).unwrap();
    [signature.r().to_vec_padded(32).unwrap(), signature.s().to_vec_padded(32).unwrap()].concat()
}

/// A test CI and what it signs.
pub(crate) mod pki {
    use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
    use openssl::bn::BigNum;
    use openssl::x509::extension::{BasicConstraints, KeyUsage};
    use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameBuilder};

    use super::*;

    /// A moment within all certificates made here.
    pub(crate) const NOW_UNIX_S: i64 = 1_800_000_000;

    #[derive(Clone, Copy)]
    pub(crate) enum Role {
        Auth,
        Pb,
        AuthV3,
        PbV3,
    }

    pub(crate) struct Pki {
        ci_key: PKey<Private>,
        pub(crate) auth_key: PKey<Private>,
        pub(crate) pb_key: PKey<Private>,
    }

    impl Pki {
        pub(crate) fn new() -> Self {
            Self { ci_key: key_pair().0, auth_key: key_pair().0, pb_key: key_pair().0 }
        }

        pub(crate) fn ci(&self) -> X509 {
            let mut builder = builder("Test CI", "Test CI", &self.ci_key);
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
            builder.sign(&self.ci_key, MessageDigest::sha256()).unwrap();
            builder.build()
        }

        pub(crate) fn leaf(&self, role: Role, oid: &str) -> X509 {
            let (policy, key) = match role {
                Role::Auth => ("2.23.146.1.2.1.4", &self.auth_key),
                Role::Pb => ("2.23.146.1.2.1.5", &self.pb_key),
                Role::AuthV3 => ("2.23.146.1.2.1.0.0.1.1", &self.auth_key),
                Role::PbV3 => ("2.23.146.1.2.1.0.0.1.2", &self.pb_key),
            };
            let mut builder = builder("Test DP", "Test CI", key);
            let body = |oid: &str| {
                let object = Asn1Object::from_str(oid).unwrap();
                object.as_slice().to_vec()
            };
            let policies = t(0x30, &[&t(0x30, &[&t(0x06, &[&body(policy)])])]);
            for (id, is_critical, value) in
                [("2.5.29.32", true, policies), ("2.5.29.17", false, t(0x30, &[&t(0x88, &[&body(oid)])]))]
            {
                let id = Asn1Object::from_str(id).unwrap();
                let value = Asn1OctetString::new_from_bytes(&value).unwrap();
                builder.append_extension(X509Extension::new_from_der(&id, is_critical, &value).unwrap()).unwrap();
            }
            builder.sign(&self.ci_key, MessageDigest::sha256()).unwrap();
            builder.build()
        }
    }

    /// A certificate of a key by itself.
    pub(crate) fn self_signed(key: &PKey<Private>) -> X509 {
        let mut builder = builder("Test manifest", "Test manifest", key);
        builder.sign(key, MessageDigest::sha256()).unwrap();
        builder.build()
    }

    fn builder(subject: &str, issuer: &str, key: &PKey<Private>) -> X509Builder {
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name(subject)).unwrap();
        builder.set_issuer_name(&name(issuer)).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(NOW_UNIX_S - 86_400).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(NOW_UNIX_S + 86_400).unwrap()).unwrap();
        builder.set_pubkey(key).unwrap();
        builder
    }

    fn name(text: &str) -> X509Name {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", text).unwrap();
        name.build()
    }
}
