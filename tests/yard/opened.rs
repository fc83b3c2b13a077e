//! What a site hides, opened by who may: packages with the fleet's private keys, sealed records through the token.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bindery::config::Site;
use bindery::formats::bsp::kdf::{HostId, session_keys};
use bindery::formats::tlv::{Reader, Tlv};
use bindery::hsm::pkcs11::Token;
use bindery::hsm::{Hsm, HsmSession, Role};
use bindery::ids::{Eid, Iccid};
use bindery::personalise::audit;
use bindery::store::Store;
use bindery::store::sealed::{BatchKey, Content, OP_AAD};
use openssl::sha::sha256;
use openssl::symm::{Cipher, Crypter, Mode};

use super::{Yard, lines_json};

/// Secrets by what they are.
pub(crate) type Secrets = Vec<(String, Vec<u8>)>;

/// K, OPc, OTA keys, PINs and session keys of every package of a bundle, opened with the fleet's private keys.
pub(crate) fn package_secrets(yard: &Yard, bundle: &Path) -> Secrets {
    let private: BTreeMap<String, String> = lines_json(&yard.path("fleet/secrets.jsonl"))
        .iter()
        .map(|line| (line["euicc_otpk"].as_str().unwrap().into(), line["euicc_otsk"].as_str().unwrap().into()))
        .collect();
    let mut secrets = Vec::new();
    for record in lines_json(&bundle.join("orders.jsonl")) {
        let object = fs::read(bundle.join(record["object"].as_str().unwrap())).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap() as usize;
        let package = &object[number("offset")..number("offset") + number("length")];
        let eid: Eid = record["eid"].as_str().unwrap().parse().unwrap();
        let otsk = &private[record["euicc_otpk"].as_str().unwrap()];
        let upp = open_package(package, &eid, otsk, &mut secrets);
        let found = audit::read(&upp).unwrap();
        for aka in &found.akas {
            secrets.push(("K".into(), aka.k.to_vec()));
            secrets.push(("OPc".into(), aka.opc.to_vec()));
        }
        secrets.extend(found.ota_keys.iter().map(|key| ("OTA key".to_owned(), key.value.to_vec())));
        secrets.extend(found.puks.iter().map(|puk| ("PUK".to_owned(), puk.value.to_vec())));
        for pin in &found.pins {
            let what = if matches!(pin.reference, 0x0A..=0x0E | 0x8A..=0x8E) { "ADM" } else { "PIN" };
            secrets.push((what.to_owned(), pin.value.to_vec()));
        }
    }
    secrets
}

/// Decrypts the profile; notes the session keys and, in a package with ReplaceSessionKeys, the PPK.
fn open_package(package: &[u8], eid: &Eid, otsk_pem: &str, secrets: &mut Secrets) -> Vec<u8> {
    use openssl::derive::Deriver;
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::pkey::PKey;
    let children = |tlv: &Tlv<'_>| {
        let (mut reader, mut all) = (tlv.children(), Vec::new());
        while let Some(child) = reader.next_tlv().unwrap() {
            all.push((child.tag.0, child.value.to_vec(), child));
        }
        all.into_iter().map(|(tag, value, _)| (tag, value)).collect::<Vec<_>>()
    };
    let envelope = Reader::new(package).next_tlv().unwrap().unwrap();
    let parts = children(&envelope);
    let inside = |value: &[u8]| {
        let (mut reader, mut all) = (Reader::new(value), Vec::new());
        while let Some(tlv) = reader.next_tlv().unwrap() {
            all.push((tlv.tag.0, tlv.value.to_vec()));
        }
        all
    };
    let channel = inside(&parts[0].1);
    let host = inside(&channel[2].1)[2].1.clone();
    let private = PKey::private_key_from_pem(otsk_pem.as_bytes()).unwrap();
    let group = EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let mut ctx = openssl::bn::BigNumContext::new().unwrap();
    let point = EcPoint::from_bytes(&group, &channel[3].1, &mut ctx).unwrap();
    let peer = PKey::from_ec_key(EcKey::from_public_key(&group, &point).unwrap()).unwrap();
    let mut deriver = Deriver::new(&private).unwrap();
    deriver.set_peer(&peer).unwrap();
    let mut shared = bindery::secret::SharedSecret::default();
    deriver.derive(&mut shared[..]).unwrap();
    let keys = session_keys(&shared, &HostId::new(&host).unwrap(), eid);
    // X9.63, first block: the initial MAC chaining value stands before S-ENC.
    let info = [&[0, 0, 0, 1, 0x88, 0x10, host.len() as u8][..], &host, &[16], eid.packed()].concat();
    let block = sha256(&[&shared[..], &info].concat());
    assert_eq!(block[16..], keys.enc().expose()[..], "the derivation of the test is the standard's");
    secrets.push(("MCV".into(), block[..16].to_vec()));
    secrets.push(("ECDH secret".into(), shared.to_vec()));
    let mut enc = *keys.enc().expose();
    secrets.push(("S-ENC".into(), enc.to_vec()));
    secrets.push(("S-MAC".into(), keys.mac().expose().to_vec()));
    let mut counter = 2 + inside(&parts[2].1).len() as u128; // 87 is 1, 88s follow
    if parts[3].0 == 0xA2 {
        let replace = decrypt(&enc, counter, &inside(&parts[3].1)[0].1);
        let body = Reader::new(&replace).next_tlv().unwrap().unwrap();
        let values = inside(body.value);
        secrets.push(("MCV".into(), values[0].1.clone()));
        secrets.push(("PPK".into(), values[1].1.clone()));
        secrets.push(("PPK".into(), values[2].1.clone()));
        enc = values[1].1[..].try_into().unwrap();
        counter = 1;
    }
    let segments = inside(&parts.last().unwrap().1);
    segments.iter().zip(counter..).flat_map(|((_, segment), n)| decrypt(&enc, n, segment)).collect()
}

fn decrypt(key: &[u8; 16], counter: u128, segment: &[u8]) -> Vec<u8> {
    let crypt = |cipher, mode, iv: Option<&[u8]>, data: &[u8]| {
        let mut crypter = Crypter::new(cipher, mode, key, iv).unwrap();
        crypter.pad(false);
        let mut out = vec![0; data.len() + 16];
        let written = crypter.update(data, &mut out).unwrap();
        out.truncate(written);
        out
    };
    let icv = crypt(Cipher::aes_128_ecb(), Mode::Encrypt, None, &counter.to_be_bytes());
    let mut plain = crypt(Cipher::aes_128_cbc(), Mode::Decrypt, Some(&icv), &segment[..segment.len() - 8]);
    let end = plain.iter().rposition(|octet| *octet == 0x80).unwrap();
    plain.truncate(end);
    plain
}

/// Batch keys and stored PPKs, opened through the token as the engine does.
pub(crate) fn sealed_secrets(yard: &Yard) -> Secrets {
    let site = Site::open(&yard.site()).unwrap();
    yard.enter();
    let token = Token::open(&site).unwrap();
    let kek = token.key(&Role::SiteKek).unwrap();
    let mut session = token.open_session().unwrap();
    let ledger = bindery::store::sqlite::Ledger::open(&site.state_db()).unwrap();
    let op = session.open(kek, OP_AAD, &fs::read(site.path("op.sealed")).unwrap()).unwrap();
    let mut secrets = vec![("OP".to_owned(), op.to_vec())];
    for summary in ledger.orders().unwrap() {
        let order = ledger.find_order(&summary.key).unwrap().unwrap();
        let sealed = order.sealed_batch_key.as_ref().unwrap();
        let aad = format!("bindery.batch-key/1|{}|{}|{}", order.key.tenant, order.key.order_id, order.key.rev);
        secrets.push(("batch key".into(), session.open(kek, aad.as_bytes(), sealed).unwrap().to_vec()));
        let key = BatchKey::open_under(&mut session, kek, &order.key, sealed).unwrap().unwrap();
        let connection = rusqlite::Connection::open(site.state_db()).unwrap();
        let sql = "SELECT iccid, sealed_ppk FROM devices JOIN issues ON device = pk
                   WHERE order_pk = ?1 AND sealed_ppk IS NOT NULL";
        let mut query = connection.prepare(sql).unwrap();
        let rows =
            query.query_map([order.pk.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
        for row in rows {
            let (iccid, blob) = row.unwrap();
            let iccid: Iccid = iccid.parse().unwrap();
            let triple = key.open(Content::Ppk, &iccid, &blob).unwrap();
            secrets.extend(triple[16..].chunks(16).map(|half| ("PPK".to_owned(), half.to_vec())));
        }
    }
    secrets
}
