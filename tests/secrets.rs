//! No secret in any file, log line or error: the test opens every package as its eUICC would, collects K, OPc, OTA keys, PINs,
//! session keys and PPKs, and searches the whole site, the bundle and everything that was printed for them: raw, hex, base64.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bindery::config::Site;
use bindery::formats::bsp::kdf::{HostId, session_keys};
use bindery::formats::tlv::{Reader, Tlv};
use bindery::hsm::pkcs11::Token;
use bindery::hsm::{Hsm, Role};
use bindery::ids::{Eid, Iccid};
use bindery::personalise::audit;
use bindery::store::Store;
use bindery::store::sealed::{BatchKey, Content};
use data_encoding::{BASE64, HEXLOWER};
use openssl::symm::{Cipher, Crypter, Mode};
use yard::{Yard, lines_json};

/// Secrets by what they are.
type Secrets = Vec<(String, Vec<u8>)>;

#[test]
fn no_secret_of_any_package_is_in_a_file_or_in_what_was_printed() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    let eids: Vec<&str> = keys[3..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
    let mut printed = String::new();
    let mut say = |ran: yard::Ran| {
        printed.push_str(&ran.out);
        printed.push_str(&ran.err);
    };
    let debug = [("BINDERY_LOG", "trace")];
    say(yard.prebound_order("PO-1", &keys[..3]).submit().exits(0));
    say(yard.stored_order("PO-2", &eids).submit().exits(0));
    say(yard.run_with(&["run"], &debug).exits(0));
    let key_file = yard.path("fleet/euicc.jsonl");
    let bound = yard.run_with(&["--json", "bind", "PO-2", "--euicc-data", key_file.to_str().unwrap()], &debug).exits(0);
    let bound_bundle = bound.json()["bundle"].as_str().unwrap().to_owned();
    say(bound);
    let secrets_file = yard.path("fleet/secrets.jsonl");
    for bundle in [yard.outbox("PO-1"), bound_bundle.clone().into()] {
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets_file.to_str().unwrap()];
        say(yard.run_with(&args, &debug).exits(0));
    }
    say(yard.run_with(&["doctor"], &debug).exits(0));

    let mut secrets = package_secrets(&yard, &yard.outbox("PO-1"));
    secrets.extend(package_secrets(&yard, Path::new(&bound_bundle)));
    secrets.extend(sealed_secrets(&yard));
    for kind in ["K", "OPc", "OTA key", "PIN", "PUK", "ADM", "S-ENC", "S-MAC", "PPK", "batch key"] {
        assert!(secrets.iter().any(|(what, _)| what == kind), "the test found no {kind} to look for");
    }
    let mut places: BTreeMap<String, Vec<u8>> = BTreeMap::from([("(printed)".to_owned(), printed.into_bytes())]);
    for path in yard::files_below(&yard.site()) {
        places.insert(path.display().to_string(), fs::read(&path).unwrap());
    }
    assert!(places.keys().any(|path| path.ends_with("state.db")), "the ledger is among the files searched");
    for (what, secret) in &secrets {
        for (place, content) in &places {
            for (form, pattern) in forms(secret) {
                let found = content.windows(pattern.len()).any(|window| window == pattern);
                assert!(!found, "{what} stands in {place} ({form})");
            }
        }
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let secret = [0x3C; 16];
    let file = format!("...{}...", BASE64.encode(&[&[1][..], &secret, &[2]].concat()));
    let found = |(_, pattern): &(&str, Vec<u8>)| file.as_bytes().windows(pattern.len()).any(|window| window == pattern);
    assert_eq!(forms(&secret).iter().filter(|form| found(form)).count(), 1);
}

/// The ways a secret could be written down; base64 at each of its three alignments, without the characters that neighbours share.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = HEXLOWER.encode(secret);
    let mut forms = vec![("raw", secret.to_vec()), ("hex", hex.to_uppercase().into_bytes()), ("hex", hex.into_bytes())];
    for shift in 0..3 {
        let padded = [&[0; 2][..shift], secret].concat();
        let text = BASE64.encode(&padded);
        let from = (8 * shift).div_ceil(6);
        let to = 8 * padded.len() / 6;
        forms.push(("base64", text.as_bytes()[from..to].to_vec()));
    }
    forms
}

/// K, OPc, OTA keys, PINs and session keys of every package of a bundle, opened with the fleet's private keys.
fn package_secrets(yard: &Yard, bundle: &Path) -> Secrets {
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
    let (keys, _) = session_keys(&shared, &HostId::new(&host).unwrap(), eid);
    let mut enc = *keys.enc.expose();
    secrets.push(("S-ENC".into(), enc.to_vec()));
    secrets.push(("S-MAC".into(), keys.mac.expose().to_vec()));
    let mut counter = 2 + inside(&parts[2].1).len() as u128; // 87 is 1, 88s follow
    if parts[3].0 == 0xA2 {
        let replace = decrypt(&enc, counter, &inside(&parts[3].1)[0].1);
        let body = Reader::new(&replace).next_tlv().unwrap().unwrap();
        let values = inside(body.value);
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
fn sealed_secrets(yard: &Yard) -> Secrets {
    let site = Site::open(&yard.site()).unwrap();
    let token = Token::open(&site).unwrap();
    let kek = token.key(&Role::SiteKek).unwrap();
    let mut session = token.open_session().unwrap();
    let ledger = bindery::store::sqlite::Ledger::open(&site.state_db()).unwrap();
    let mut secrets = Vec::new();
    for summary in ledger.orders().unwrap() {
        let order = ledger.find_order(&summary.key).unwrap().unwrap();
        let sealed = order.sealed_batch_key.as_ref().unwrap();
        use bindery::hsm::HsmSession;
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
