//! Keys that come from outside: operators' and transport keys in components, under an RSA and under an AES import key; what they
//! then decrypt; the site's own constant.

use bindery::personalise::auth::tuak;
use openssl::aes::{AesKey, wrap_key};
use openssl::symm::{Cipher, Crypter, Mode};
use serde_json::json;

use super::*;
use crate::yard::rows_csv;
use crate::yard::shim::on;

/// Of the tests with two tokens.
pub(super) const KEY_OF_TWO_SLOTS: [u8; 32] = *b"the same key in each of two HSMs";
const OLD: [u8; 32] = *b"the operator's key of epoch one.";
const NEW: [u8; 32] = *b"operator's key of epoch number 2";
const WRAPPING: [u8; 32] = *b"shared with an operator: wrapper";

fn aes(key: &[u8], mode: Mode, blocks: &[u8]) -> Vec<u8> {
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), mode, key, None).unwrap();
    crypter.pad(false);
    let mut out = vec![0; blocks.len() + 16];
    let written = crypter.update(blocks, &mut out).unwrap();
    out.truncate(written);
    out
}

fn ecb(key: &[u8]) -> String {
    kcv(key, KcvMethod::AesEcbZeros)
}

/// K and OPc of row `n` of an order.
fn secrets(seed: u8, n: u8) -> (Vec<u8>, Vec<u8>) {
    let of = |what| openssl::sha::sha256(&[seed, what, n])[..16].to_vec();
    (of(1), of(2))
}

impl Hall {
    /// `keys import`, approved by these custodians: the directory of its ceremony and what came of it.
    pub(super) fn import(&self, role: &str, epoch: u32, how: &[&str], custodians: &[&str]) -> (PathBuf, Ran) {
        let args = [&["keys", "import", role, "--operator", "olga"], how].concat();
        let at = match how.iter().position(|word| *word == "--slot") {
            Some(at) => format!("-at-{}", how[at + 1]),
            None => String::new(),
        };
        self.yard.run(&args).exits(13);
        let dir = self.yard.site().join(format!("ceremonies/import-{}-{epoch}{at}", role.replace(':', "-")));
        let plan = dir.join("plan.toml");
        let mut with = args.clone();
        let files: Vec<String> = custodians
            .iter()
            .map(|name| {
                let propose = ["keys", "approval", plan.to_str().unwrap(), "--out", dir.to_str().unwrap()];
                let slot = how.iter().position(|word| *word == "--slot").map_or(&[][..], |at| &how[at..at + 2]);
                let file = format!("{name}-{}-{epoch}{at}.json", role.replace(':', "-"));
                let said = self.yard.run(&[&propose[..], &["--custodian", name], slot].concat()).exits(0).out;
                fs::write(self.yard.path(&file), said).unwrap();
                self.sign(&file, name);
                self.path(&file)
            })
            .collect();
        files.iter().for_each(|file| with.extend(["--approve", file]));
        let ran = self.yard.run(&with);
        (dir, ran)
    }

    /// Arguments of an import of this key in two components.
    pub(super) fn in_components(&self, name: &str, key: &[u8]) -> Vec<String> {
        let one = [0x5C; 32];
        let other: Vec<u8> = key.iter().zip(one).map(|(octet, one)| octet ^ one).collect();
        let mut args = vec!["--kcv".to_owned(), cmac(key)];
        for (custodian, part) in [("anna", &one[..]), ("berta", &other)] {
            let file = format!("component-{name}-{custodian}");
            fs::write(self.yard.path(&file), HEXLOWER.encode(part)).unwrap();
            args.extend(["--component".into(), format!("{custodian}={}", cmac(part)), "--component-file".into()]);
            args.push(self.path(&file));
        }
        args
    }

    /// Arguments of an import of this key, wrapped under an AES import key.
    fn under_aes(&self, under: &str, wrapping: &[u8], key: &[u8]) -> Vec<String> {
        let mut wrapped = vec![0; key.len() + 8];
        wrap_key(&AesKey::new_encrypt(wrapping).unwrap(), None, &mut wrapped, key).unwrap();
        self.wrapped(under, &wrapped)
    }

    fn wrapped(&self, under: &str, wrapped: &[u8]) -> Vec<String> {
        let file = format!("{}.wrapped", HEXLOWER.encode(&openssl::sha::sha256(wrapped)[..8]));
        fs::write(self.yard.path(&file), wrapped).unwrap();
        ["--wrapped", &self.path(&file), "--under", under].map(str::to_owned).to_vec()
    }

    /// Epoch state, state in the token and KCV as `keys status` has them.
    fn status(&self, role: &str, epoch: u32) -> [Value; 3] {
        let status = self.yard.run(&["--json", "keys", "status"]).exits(0).json();
        let keys = status["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["role"] == role && key["epoch"] == epoch).unwrap();
        ["epoch_state", "state", "kcv"].map(|member| key[member].clone())
    }

    /// An order whose credentials come under this key; submitted.
    fn order_under(&self, id: &str, seed: u8, key: &[u8]) {
        let keys = self.yard.fleet(&format!("fleet-{id}"), 3);
        let mut order = self.yard.prebound_order(id, &keys);
        let rows: String = (1..)
            .zip(&keys)
            .map(|(row, euicc)| {
                let (k, opc) = secrets(seed, row);
                let [k, opc] = [k, opc].map(|secret| HEXLOWER.encode(&aes(key, Mode::Encrypt, &secret)));
                format!("{row},{},{k},{opc}\n", euicc["eid"].as_str().unwrap())
            })
            .collect();
        order.rows(&format!("row,eid,ki_wrapped,opc_wrapped\n{rows}"), 3);
        order.line()["credentials"] = json!("import");
        order.line()["transport_key"] = json!("acme");
        order.submit().exits(0);
    }

    /// K and OPc of an order's core file.
    fn core(&self, id: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let key = bytes(fs::read_to_string(self.first_copy()).unwrap().trim());
        let plain = |text: &str| aes(&key, Mode::Decrypt, &bytes(text));
        let rows = rows_csv(&self.yard.outbox(id).join("core.csv"));
        rows.iter().map(|row| (plain(&row["ki_enc"]), plain(&row["opc_enc"]))).collect()
    }

    fn carries_what_was_given(&self, id: &str, seed: u8) {
        assert_eq!(self.core(id), (1..=3).map(|row| secrets(seed, row)).collect::<Vec<_>>());
        self.verify(id, &format!("fleet-{id}"), &self.first_copy()).exits(0);
    }
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// How the transcript of a ceremony says that its check value was seen.
fn seen(dir: &std::path::Path) -> Vec<Value> {
    let lines = lines_json(&dir.join("transcript.jsonl"));
    lines.into_iter().filter_map(|line| line["result"].get("kcv_seen").cloned()).collect()
}

#[test]
fn an_operators_key_comes_in_by_ceremony_decrypts_its_orders_rotates_and_retires() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    let parts = hall.in_components("old", &OLD);
    let (dir, ran) = hall.import("operator:acme", 1, &strs(&parts), &["anna", "berta"]);
    ran.exits(0);
    assert_eq!(seen(&dir), ["decrypted"]);
    // CKA_CHECK_VALUE is optional: SoftHSM tells it of a key that was created and of none that was unwrapped, kryoptic of neither.
    let tells = provider() == Provider::SoftHsm;
    let kcv = if tells { format!("kcv = \"{}\"\n", ecb(&OLD)) } else { String::new() };
    hall.configure(&format!("\n[import.acme]\nkey = \"acme\"\nscheme = \"aes-ecb\"\n{kcv}"));
    let shown = if tells { Value::from(ecb(&OLD)) } else { Value::Null };
    assert_eq!(hall.status("operator:acme", 1), ["active".into(), "as declared".into(), shown]);
    hall.order_under("PO-1", 1, &OLD);
    std::thread::sleep(Duration::from_millis(1_100)); // an epoch begins at a whole second

    // The next one comes wrapped: it can be compared with nothing but its announced check value, and it does not encrypt.
    yard.run(&["keys", "rotate", "import:main"]).exits(0);
    fs::write(yard.path("component-raw"), NEW).unwrap();
    hall.wrap_oaep("site/requests/import-main-1.pub.pem", "component-raw", "new.wrapped");
    let mut how = hall.wrapped("import:main", &fs::read(yard.path("new.wrapped")).unwrap());
    how.push("--kcv".to_owned());
    for (announced, code) in [(cmac(&OLD), 8), (cmac(&NEW), 0)] {
        let (dir, ran) = hall.import("operator:acme", 2, &strs(&[&how[..], &[announced]].concat()), &["anna"]);
        let ran = ran.exits(code);
        if code == 0 {
            assert_eq!(seen(&dir), ["trial"]);
            break;
        }
        assert!(ran.err.contains("another check value"), "{}", ran.err);
        assert_eq!(hall.status("operator:acme", 2)[..2], ["pending", "not there yet"]);
        fs::remove_dir_all(dir).unwrap();
    }
    assert_eq!([1, 2].map(|epoch| hall.status("operator:acme", epoch)[0].clone()), ["draining", "active"]);

    let ran = yard.run(&["keys", "retire", "operator:acme", "1"]).exits(3);
    assert!(ran.err.contains("order acme/PO-1"), "{}", ran.err);
    yard.run(&["run"]).exits(0);
    hall.carries_what_was_given("PO-1", 1);
    let config = fs::read_to_string(yard.site().join("bindery.toml")).unwrap();
    fs::write(yard.site().join("bindery.toml"), config.replace(&kcv, "")).unwrap();
    hall.order_under("PO-2", 2, &NEW);
    yard.run(&["run"]).exits(0);
    hall.carries_what_was_given("PO-2", 2);
    yard.run(&["keys", "retire", "operator:acme", "1"]).exits(0);
    yard.run(&["doctor"]).exits(0);
    for key in [OLD, NEW] {
        let text = HEXLOWER.encode(&key);
        for path in files_below(&yard.site()) {
            let content = fs::read(&path).unwrap();
            let holds = content.windows(32).any(|window| window == key)
                || String::from_utf8_lossy(&content).to_lowercase().contains(&text);
            assert!(!holds, "{}", path.display());
        }
    }
}

#[test]
fn a_key_comes_in_under_an_aes_import_key_and_a_wrong_one_leaves_nothing() {
    let mut hall = Hall::demo();
    let parts = hall.in_components("wrapping", &WRAPPING);
    let (dir, ran) = hall.import("import:bank", 1, &strs(&parts), &["anna", "berta"]);
    ran.exits(0);
    assert_eq!(seen(&dir), ["components"]);
    let nothing_there = |hall: &Hall, dir: PathBuf, role: &str| {
        assert!(!dir.join("transcript.jsonl").exists());
        assert_eq!(hall.status(role, 1)[..2], ["pending", "not there yet"]);
        fs::remove_dir_all(dir).unwrap();
    };
    let with = |how: &[String], kcv: String| [how, &["--kcv".to_owned(), kcv]].concat();
    let good = hall.under_aes("import:bank", &WRAPPING, &OLD);
    let mut octets = fs::read(&good[1]).unwrap();
    octets[9] ^= 1;
    let damaged = hall.wrapped("import:bank", &octets);
    let under_another = hall.under_aes("import:bank", &NEW, &OLD);
    for (role, shown) in [("transport:op-7", "encrypted"), ("operator:op-7", "trial")] {
        let (dir, ran) = hall.import(role, 1, &strs(&with(&good, cmac(&NEW))), &["anna"]);
        assert!(ran.exits(8).err.contains("another check value"));
        nothing_there(&hall, dir, role);
        for wrong in [&damaged, &under_another] {
            let (dir, ran) = hall.import(role, 1, &strs(&with(wrong, cmac(&OLD))), &["anna"]);
            ran.exits(7);
            nothing_there(&hall, dir, role);
        }
        let (dir, ran) = hall.import(role, 1, &strs(&with(&good, cmac(&OLD))), &["anna"]);
        ran.exits(0);
        assert_eq!(seen(&dir), [shown]);
        hall.yard.run(&["doctor"]).exits(0);
    }
    assert_eq!(hall.status("transport:op-7", 1), ["active".into(), "as declared".into(), Value::from(ecb(&OLD))]);
    // As it was announced, but of half the length that the policy declares.
    let short = hall.under_aes("import:bank", &WRAPPING, &OLD[..16]);
    let (dir, ran) = hall.import("transport:op-8", 1, &strs(&with(&short, cmac(&OLD[..16]))), &["anna"]);
    assert!(ran.exits(8).err.contains("16 octets"));
    nothing_there(&hall, dir, "transport:op-8");

    // A token that does not unwrap for a trial, as with a CKA_UNWRAP_TEMPLATE. The key that encrypts shows itself; of one that only
    // decrypts nobody can tell, and what nobody can compare does not stay.
    let mut shim = hall.yard.put_shim();
    const TEMPLATE_INCONSISTENT: u64 = 0xD1;
    shim.set(on(&["C_UnwrapKey"]).calls(1, 1).answers(TEMPLATE_INCONSISTENT));
    let (dir, ran) = hall.import("transport:op-9", 1, &strs(&with(&good, cmac(&OLD))), &["anna"]);
    ran.exits(0);
    assert_eq!(seen(&dir), ["encrypted"]);
    let (dir, ran) = hall.import("operator:op-9", 1, &strs(&with(&good, cmac(&OLD))), &["anna"]);
    assert!(ran.exits(8).err.contains("cannot be seen"));
    nothing_there(&hall, dir, "operator:op-9");
}

#[test]
fn the_sites_own_constant_is_sealed_and_every_opc_follows_from_it() {
    let hall = Hall::demo();
    let (yard, top, op) = (&hall.yard, [0xA5_u8; 32], hall.path("component-op"));
    let own = ["keys", "import-op", "--own", "--from", &op];
    fs::write(&op, HEXLOWER.encode(&top)).unwrap();
    let ran = yard.run(&own).exits(3);
    assert!(ran.err.contains("top_file"), "{}", ran.err);
    yard.run(&["keys", "import-op", "--from", &op]).exits(2);
    let file = yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("op_file = \"op.sealed\"", "op_file = \"op.sealed\"\ntop_file = \"top.sealed\""))
        .unwrap();
    let said = yard.run(&[&["--json"], &own[..]].concat()).exits(0).json();
    assert_eq!((said["sealed"].as_str(), said["replaced"].as_bool()), (Some("TOP"), Some(false)));
    let given_op = [0x3C_u8; 16];
    fs::write(&op, HEXLOWER.encode(&given_op)).unwrap();
    assert_eq!(yard.run(&[&["--json"], &own[..]].concat()).exits(0).json()["replaced"], true);
    for (id, algorithm) in [("PO-1", "tuak"), ("PO-2", "milenage")] {
        let fleet = format!("fleet-{id}");
        let keys = yard.fleet(&fleet, 3);
        let mut order = yard.prebound_order(id, &keys);
        order.line()["algorithm"] = json!(algorithm);
        order.submit().exits(0);
        yard.run(&["run", id, "--audit", "all"]).exits(0);
        let core = hall.core(id);
        assert_eq!(core.len(), 3);
        for (k, opc) in core {
            let expected = match algorithm {
                "tuak" => tuak::topc(&k, &top).unwrap().to_vec(),
                _ => bindery::personalise::auth::milenage::opc(k[..].try_into().unwrap(), &given_op).unwrap().to_vec(),
            };
            assert_eq!(opc, expected, "{algorithm}");
        }
        hall.verify(id, &fleet, &hall.first_copy()).exits(0);
    }
    let ran = yard.run(&["keys", "rotate", "site-kek"]).exits(0);
    let retired = yard.run(&["keys", "retire", "site-kek", "1"]).exits(3);
    assert!(retired.err.contains("top.sealed") && retired.err.contains("op.sealed"), "{}{}", ran.out, retired.err);
}
