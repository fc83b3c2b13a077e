//! Credentials that come with an order: wrapped under an operator's key that lies in the token, through to a bundle that the judge
//! opens, and every way in which a row or the site's set-up can be wrong. One token in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bindery::config::Site;
use bindery::hsm::pkcs11::Token;
use bindery::personalise::auth::{milenage, tuak};
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use data_encoding::{HEXLOWER, HEXUPPER};
use openssl::aes::{AesKey, wrap_key};
use openssl::symm::{Cipher, Crypter, Mode};
use serde_json::{Value, json};
use yard::provider::{Provider, provider};
use yard::shim::Shim;
use yard::{Order, Yard};

const OPERATOR_KEY: [u8; 32] = *b"the operator's own key: 32 octet";
const OP: [u8; 16] = [0x5A; 16];
const TOP: [u8; 32] = [0xA5; 32];

/// A demo site that takes credentials under an operator's key, and a fleet.
struct Ground {
    yard: Yard,
    keys: Vec<Value>,
}

fn ground() -> MutexGuard<'static, Ground> {
    static GROUND: OnceLock<Mutex<Ground>> = OnceLock::new();
    GROUND.get_or_init(|| Mutex::new(Ground::make())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ground {
    fn make() -> Self {
        let yard = Yard::demo();
        yard.enter();
        let keys = yard.fleet("fleet", 90);
        let site = Site::open(&yard.site()).unwrap();
        import_key(&site);
        let policy = yard.site().join("key-policy.toml");
        let text = fs::read_to_string(&policy).unwrap();
        let demo = bindery::hsm::policy::OPERATOR;
        let own = demo.replace("operator:core-demo", "operator:acme").replace("operator/core-demo", "operator/acme");
        fs::write(&policy, format!("{text}\n{own}")).unwrap();
        let kcv = HEXUPPER.encode(&ecb(&OPERATOR_KEY, &[0; 16])[..3]);
        // A token that tells no check value refuses to be asked for one: the mistaken entry below keeps its own.
        let kcv = if tells_check_values() { format!("kcv = \"{kcv}\"\n") } else { String::new() };
        let imports = format!(
            "\n[import.acme]\nkey = \"acme\"\nscheme = \"aes-ecb\"\n{kcv}\
             [import.acme-kw]\nkey = \"acme\"\nscheme = \"aes-kw\"\n\
             [import.acme-cbc]\nkey = \"acme\"\nscheme = \"aes-cbc\"\niv = \"prefix\"\n\
             [import.acme-op]\nkey = \"acme\"\nscheme = \"aes-ecb\"\nop = \"acme-op.sealed\"\n\
             [import.acme-top]\nkey = \"acme\"\nscheme = \"aes-ecb\"\nop = \"acme-top.sealed\"\n\
             [import.mistaken]\nkey = \"acme\"\nscheme = \"aes-ecb\"\nkcv = \"000000\"\n\
             [import.keyless]\nkey = \"nobody\"\nscheme = \"aes-ecb\"\n"
        );
        let config = yard.site().join("bindery.toml");
        fs::write(&config, fs::read_to_string(&config).unwrap() + &imports).unwrap();
        Self { yard, keys }
    }

    /// A prebound order of `of` keys of the fleet from `from` on, with these columns beside row and EID.
    fn order(&self, id: &str, (from, of): (usize, usize), key: &str, columns: &str, cells: &[String]) -> Order<'_> {
        let keys = &self.keys[from..from + of];
        let mut order = self.yard.prebound_order(id, keys);
        let rows: String = (1..)
            .zip(keys)
            .zip(cells)
            .map(|((row, key), cells)| format!("{row},{},{cells}\n", key["eid"].as_str().unwrap()))
            .collect();
        order.rows(&format!("row,eid,{columns}\n{rows}"), of);
        order.line()["credentials"] = json!("import");
        order.line()["transport_key"] = json!(key);
        order
    }

    /// Every package opened and compared with core file and order.
    fn judge(&self, id: &str, code: i32) -> Value {
        let secrets = self.yard.path("fleet/secrets.jsonl");
        let order = self.yard.path(format!("orders/{id}.json"));
        let bundle = self.yard.outbox(id);
        let [bundle, secrets, order] = [&bundle, &secrets, &order].map(|path| path.to_str().unwrap());
        let args = ["--json", "verify", bundle, "--secrets", secrets, "--order", order, "--all"];
        self.yard.run(&args).exits(code).json()
    }

    /// K and OPc of the core file, decrypted as the core network does.
    fn core(&self, id: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let key = HEXLOWER.decode(fs::read(self.yard.site().join("core-demo.key")).unwrap().trim_ascii()).unwrap();
        let rows = yard::rows_csv(&self.yard.outbox(id).join("core.csv"));
        let plain = |text: &str| aes(&key, Mode::Decrypt, &HEXLOWER.decode(text.as_bytes()).unwrap());
        rows.iter().map(|row| (plain(&row["ki_enc"]), plain(&row["opc_enc"]))).collect()
    }
}

/// CKA_CHECK_VALUE: kryoptic has none.
fn tells_check_values() -> bool {
    provider() == Provider::SoftHsm
}

/// As a key ceremony does it: the attributes are those of the key policy.
fn import_key(site: &Site) {
    let token = Token::open(site).unwrap(); // sets the module up and logs in
    let context = Pkcs11::new(site.path(&site.config.hsm.module)).unwrap();
    let session = context.open_rw_session(context.get_slots_with_initialized_token().unwrap()[0]).unwrap();
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(OPERATOR_KEY.to_vec()),
        Attribute::Label(b"bindery/operator/acme/1".to_vec()),
        Attribute::AllowedMechanisms(vec![MechanismType::AES_ECB]),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(true),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ];
    session.create_object(&template).unwrap();
    drop(token);
}

fn aes(key: &[u8], mode: Mode, blocks: &[u8]) -> Vec<u8> {
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), mode, key, None).unwrap();
    crypter.pad(false);
    let mut out = vec![0; blocks.len() + 16];
    let written = crypter.update(blocks, &mut out).unwrap();
    out.truncate(written);
    out
}

fn ecb(key: &[u8], blocks: &[u8]) -> Vec<u8> {
    aes(key, Mode::Encrypt, blocks)
}

/// K and OPc of row `n` of a test.
fn secrets(seed: u8, n: usize) -> (Vec<u8>, Vec<u8>) {
    let of = |what: u8| openssl::sha::sha256(&[seed, what, n as u8])[..16].to_vec();
    (of(1), of(2))
}

fn hex(octets: &[u8]) -> String {
    HEXLOWER.encode(octets)
}

/// The cells of `count` rows under AES-ECB.
fn wrapped(seed: u8, count: usize) -> Vec<String> {
    let cell = |n| {
        let (k, opc) = secrets(seed, n);
        format!("{},{}", hex(&ecb(&OPERATOR_KEY, &k)), hex(&ecb(&OPERATOR_KEY, &opc)))
    };
    (0..count).map(cell).collect()
}

const BOTH: &str = "ki_wrapped,opc_wrapped";

#[test]
fn imported_credentials_stand_in_profile_and_core_file_and_nowhere_in_the_clear() {
    let ground = ground();
    let order = ground.order("IMP-1", (0, 20), "acme", BOTH, &wrapped(1, 20));
    let mut said = String::new();
    for ran in [order.submit_with(&[LOUD]), ground.yard.run_with(&["run", "IMP-1", "--audit", "all"], &[LOUD])] {
        let ran = ran.exits(0);
        said += &ran.out;
        said += &ran.err;
    }
    assert_eq!(ground.judge("IMP-1", 0)["notes"], json!([]), "core file and order are compared");
    let given: Vec<_> = (0..20).map(|n| secrets(1, n)).collect();
    assert_eq!(ground.core("IMP-1"), given);
    let mut places = vec![("(printed)".to_owned(), said.into_bytes())];
    for path in yard::files_below(&ground.yard.site()) {
        places.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    assert!(places.iter().any(|(place, _)| place.ends_with("state.db")));
    for secret in given.iter().flat_map(|(k, opc)| [k, opc]).chain([&OPERATOR_KEY.to_vec()]) {
        for form in [secret.clone(), hex(secret).into_bytes(), HEXUPPER.encode(secret).into_bytes()] {
            let found = places.iter().find(|(_, content)| content.windows(form.len()).any(|window| window == form));
            assert!(found.is_none(), "a secret stands in {}", found.unwrap().0);
        }
    }
}

/// As loud as it gets.
const LOUD: (&str, &str) = ("BINDERY_LOG", "trace");

#[test]
fn every_scheme_and_a_stored_order_carry_the_operators_keys() {
    let ground = ground();
    let key = AesKey::new_encrypt(&OPERATOR_KEY).unwrap();
    let kw = |secret: &[u8]| {
        let mut out = vec![0; secret.len() + 8];
        wrap_key(&key, None, &mut out, secret).unwrap();
        hex(&out)
    };
    let cbc = |secret: &[u8]| {
        let iv = [0x77; 16];
        let masked: Vec<u8> = secret.iter().zip(iv).map(|(octet, iv)| octet ^ iv).collect();
        hex(&[&iv[..], &ecb(&OPERATOR_KEY, &masked)].concat())
    };
    for (at, name) in ["acme-kw", "acme-cbc"].into_iter().enumerate() {
        let wrap = |secret: &[u8]| if at == 0 { kw(secret) } else { cbc(secret) };
        let given: Vec<_> = (0..3).map(|n| secrets(10 + at as u8, n)).collect();
        let cells: Vec<String> = given.iter().map(|(k, opc)| format!("{},{}", wrap(k), wrap(opc))).collect();
        let id = format!("IMP-2{at}");
        ground.order(&id, (20 + 3 * at, 3), name, BOTH, &cells).submit().exits(0);
        ground.yard.run(&["run", &id]).exits(0);
        assert_eq!(ground.core(&id), given, "{name}");
        ground.judge(&id, 0);
    }
    // Bound later: the profile was made with the same credentials.
    let mut order = ground.order("IMP-30", (30, 3), "acme", BOTH, &wrapped(30, 3));
    order.line()["mode"] = json!("order");
    order.line().as_object_mut().unwrap().remove("euicc_data");
    order.submit().exits(0);
    ground.yard.run(&["run", "IMP-30"]).exits(0);
    assert_eq!(ground.core("IMP-30"), (0..3).map(|n| secrets(30, n)).collect::<Vec<_>>());
    let keys = ground.yard.path("fleet/euicc.jsonl");
    let bound = ground.yard.run(&["--json", "bind", "IMP-30", "--euicc-data", keys.to_str().unwrap()]).exits(0).json();
    let secrets_file = ground.yard.path("fleet/secrets.jsonl");
    let args = ["verify", bound["bundle"].as_str().unwrap(), "--secrets", secrets_file.to_str().unwrap(), "--all"];
    ground.yard.run(&args).exits(0);
}

#[test]
fn opc_and_topc_follow_from_the_operators_own_constant_where_a_row_brings_none() {
    let ground = ground();
    let op = ground.yard.path("op.hex");
    for (name, value) in [("acme-op", &OP[..]), ("acme-top", &TOP)] {
        fs::write(&op, hex(value)).unwrap();
        ground.yard.run(&["keys", "import-op", name, "--from", op.to_str().unwrap()]).exits(0);
    }
    let ks: Vec<_> = (0..3).map(|n| secrets(40, n).0).collect();
    let cells: Vec<String> = ks.iter().map(|k| hex(&ecb(&OPERATOR_KEY, k))).collect();
    ground.order("IMP-40", (40, 3), "acme-op", "ki_wrapped", &cells).submit().exits(0);
    let ks_of_tuak: Vec<_> = (0..3).map(|n| secrets(41, n).0).collect();
    let cells: Vec<String> = ks_of_tuak.iter().map(|k| hex(&ecb(&OPERATOR_KEY, k))).collect();
    let mut order = ground.order("IMP-41", (43, 3), "acme-top", "ki_wrapped", &cells);
    order.line()["algorithm"] = json!("tuak");
    order.submit().exits(0);
    ground.yard.run(&["run", "IMP-40", "IMP-41", "--audit", "all"]).exits(0);
    let of = |k: &Vec<u8>| (k.clone(), milenage::opc(k[..].try_into().unwrap(), &OP).unwrap().to_vec());
    assert_eq!(ground.core("IMP-40"), ks.iter().map(of).collect::<Vec<_>>());
    let of = |k: &Vec<u8>| (k.clone(), tuak::topc(k, &TOP).unwrap().to_vec());
    assert_eq!(ground.core("IMP-41"), ks_of_tuak.iter().map(of).collect::<Vec<_>>());
    ground.judge("IMP-40", 0);
    ground.judge("IMP-41", 0);
    // An OP sealed for one operator is not another's.
    let [one, other] = ["acme-op.sealed", "acme-top.sealed"].map(|name| ground.yard.site().join(name));
    let kept = fs::read(&one).unwrap();
    fs::copy(&other, &one).unwrap();
    let cells = [hex(&ecb(&OPERATOR_KEY, &[9; 16]))];
    ground.order("IMP-42", (46, 1), "acme-op", "ki_wrapped", &cells).submit().exits(0);
    let ran = ground.yard.run(&["run", "IMP-42"]).exits(7);
    fs::write(&one, kept).unwrap();
    assert!(ran.err.contains("open"), "{}", ran.err);
    ground.yard.run(&["run", "IMP-42"]).exits(0);
}

#[test]
fn a_site_that_lacks_the_key_or_has_another_is_told_before_anything_is_issued() {
    let ground = ground();
    for (name, why) in [("nobody", "unknown-transport-key"), ("keyless", "unknown-transport-key")] {
        ground.order("IMP-5", (50, 1), name, BOTH, &wrapped(50, 1)).submit().exits(4);
        let rejects = yard::rows_csv(&ground.yard.outbox("IMP-5").join("rejects.csv"));
        assert_eq!(
            (rejects[0]["column"].as_str(), rejects[0]["code"].as_str()),
            ("lines[0].transport_key", why),
            "{name}"
        );
        assert_eq!(rejects[0]["value"], name);
    }
    ground.order("IMP-51", (50, 1), "mistaken", BOTH, &wrapped(51, 1)).submit().exits(0);
    // A key with another check value, or a token that cannot say: nothing is decrypted either way.
    let (code, why) =
        if tells_check_values() { (7, "another check value") } else { (3, "does not tell the check value") };
    let ran = ground.yard.run(&["run", "IMP-51"]).exits(code);
    assert!(ran.err.contains(why) && ran.err.contains("[import.mistaken]"), "{}", ran.err);
    // Once the entry is right the order goes on.
    let config = ground.yard.site().join("bindery.toml");
    let kcv = HEXUPPER.encode(&ecb(&OPERATOR_KEY, &[0; 16])[..3]);
    let right = if tells_check_values() { format!("kcv = \"{kcv}\"") } else { String::new() };
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("kcv = \"000000\"", &right)).unwrap();
    ground.yard.run(&["run", "IMP-51"]).exits(0);
    assert_eq!(ground.core("IMP-51"), [secrets(51, 0)]);
}

#[test]
fn what_shows_only_when_it_is_decrypted_fails_its_row_alone() {
    let ground = ground();
    let key = AesKey::new_encrypt(&OPERATOR_KEY).unwrap();
    let kw = |secret: &[u8]| {
        let mut out = vec![0; secret.len() + 8];
        wrap_key(&key, None, &mut out, secret).unwrap();
        out
    };
    let cell = |k: &[u8], opc: &[u8]| format!("{},{}", hex(k), hex(opc));
    let of = |n| secrets(60, n);
    // With an IV before each value the same K does not look the same.
    let cbc = |iv: u8, secret: &[u8]| {
        let masked: Vec<u8> = secret.iter().map(|octet| octet ^ iv).collect();
        [&[iv; 16][..], &ecb(&OPERATOR_KEY, &masked)].concat()
    };
    let mut damaged = kw(&of(1).0);
    damaged[7] ^= 1;
    let rows = [cell(&kw(&of(0).0), &kw(&of(0).1)), cell(&damaged, &kw(&of(1).1)), cell(&kw(&[0; 16]), &kw(&of(2).1))];
    ground.order("IMP-60", (60, 3), "acme-kw", BOTH, &rows).submit().exits(0);
    let rows = [cell(&cbc(1, &of(3).0), &cbc(2, &of(3).1)), cell(&cbc(5, &of(3).0), &cbc(6, &of(4).1))];
    ground.order("IMP-61", (63, 2), "acme-cbc", BOTH, &rows).submit().exits(0);
    ground.yard.run(&["run", "IMP-60", "IMP-61"]).exits(5);
    let classes = |id: &str| -> Vec<String> {
        yard::rows_csv(&ground.yard.outbox(id).join("results.csv"))
            .iter()
            .map(|row| row["error_class"].clone())
            .collect()
    };
    assert_eq!(classes("IMP-60"), ["", "input", "input"]);
    assert_eq!(classes("IMP-61"), ["", "duplicate"]);
    assert_eq!((ground.core("IMP-60"), ground.core("IMP-61")), (vec![of(0)], vec![of(3)]));
    ground.judge("IMP-60", 0);
    ground.judge("IMP-61", 0);
}

#[test]
fn one_key_in_two_chunks_is_seen_also_when_the_order_goes_on_later() {
    let ground = ground();
    let config = ground.yard.site().join("bindery.toml");
    let before = fs::read_to_string(&config).unwrap();
    let cbc = |iv: u8, secret: &[u8]| {
        let masked: Vec<u8> = secret.iter().map(|octet| octet ^ iv).collect();
        hex(&[&[iv; 16][..], &ecb(&OPERATOR_KEY, &masked)].concat())
    };
    // Rows 1 and 6 are one subscriber's; chunks of two, so that many lie between them.
    let cells: Vec<String> = (0..6)
        .map(|n| {
            let (k, opc) = secrets(80, n % 5);
            format!("{},{}", cbc(2 * n as u8 + 1, &k), cbc(2 * n as u8 + 2, &opc))
        })
        .collect();
    fs::write(&config, before.replace("chunk_records = 1000", "chunk_records = 2")).unwrap();
    ground.order("IMP-80", (81, 6), "acme-cbc", BOTH, &cells).submit().exits(0);
    // The last chunk's package file cannot be made: the run stops, the chunks before stay.
    let blocked = ground.yard.outbox("IMP-80").join("packages-00003.bpp");
    fs::create_dir_all(blocked.join("in the way")).unwrap();
    ground.yard.run(&["run", "IMP-80"]).exits(9);
    fs::remove_dir_all(&blocked).unwrap();
    ground.yard.run(&["run", "IMP-80"]).exits(5);
    fs::write(&config, before).unwrap();
    let results = yard::rows_csv(&ground.yard.outbox("IMP-80").join("results.csv"));
    let refused: Vec<_> =
        results.iter().filter(|row| row["error_class"] == "duplicate").map(|row| &row["row"]).collect();
    assert!(["1", "6"].contains(&refused[0].as_str()) && refused.len() == 1, "{refused:?}");
    assert_eq!(ground.core("IMP-80").len(), 5);
    ground.judge("IMP-80", 0);
}

#[test]
fn the_demo_takes_credentials_under_the_core_networks_key_without_being_told_which() {
    let ground = ground();
    let key = HEXLOWER.decode(fs::read(ground.yard.site().join("core-demo.key")).unwrap().trim_ascii()).unwrap();
    let (k, opc) = secrets(70, 0);
    let cells = [format!("{},{}", hex(&ecb(&key, &k)), hex(&ecb(&key, &opc)))];
    let mut order = ground.order("IMP-70", (70, 1), "", BOTH, &cells);
    order.line().as_object_mut().unwrap().remove("transport_key");
    order.submit().exits(0);
    ground.yard.run(&["run", "IMP-70"]).exits(0);
    assert_eq!(ground.core("IMP-70"), [(k, opc)]);
    let spy = calls_of(&ground, "IMP-71", &wrapped(71, 10));
    let own = 2 * 2; // self-test and witness of the two operators' keys, once a process
    assert_eq!(spy, 3 + own, "decryptions: the known block, and ten records twice in one call each");
}

/// C_Decrypt calls with AES-ECB of a run, by OpenSC's spy module: those that decrypt, not those that ask for the length.
fn calls_of(ground: &Ground, id: &str, cells: &[String]) -> usize {
    ground.order(id, (71, cells.len()), "acme", BOTH, cells).submit().exits(0);
    let spies = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
        .map(|dir| format!("{dir}/pkcs11-spy.so"));
    let spy = spies.iter().find(|path| Path::new(path).exists()).expect("pkcs11-spy.so: install opensc-pkcs11");
    let file = ground.yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    let line = config.lines().find(|line| line.starts_with("module = ")).unwrap();
    fs::write(&file, config.replace(line, &format!("module = \"{spy}\""))).unwrap();
    let log = ground.yard.path("spy.log");
    // The fault shim between, for it speaks v2.40 alone: calls through a module's v3 interface the spy lets pass unseen.
    let (module, shim) = (Shim::module(), Shim::before(line.split('"').nth(1).unwrap()));
    let environment = shim.environment();
    let mut variables: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.extend([("PKCS11SPY", module.to_str().unwrap()), ("PKCS11SPY_OUTPUT", log.to_str().unwrap())]);
    let ran = ground.yard.run_with(&["run", id], &variables);
    fs::write(&file, &config).unwrap();
    ran.exits(0);
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let inits = log.split(": C_DecryptInit").skip(1);
    inits.filter(|call| call.lines().take(8).any(|line| line.contains("CKM_AES_ECB"))).count()
}
