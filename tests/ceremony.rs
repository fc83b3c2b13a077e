//! Key ceremonies on a real token with the real command: from a plan to a site that issues profiles; interrupted, forged, mistyped.
//! Custodians and their keys are made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

#[path = "ceremony/imports.rs"]
mod imports;
#[path = "ceremony/slots.rs"]
mod slots;
mod yard;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bindery::ceremony::component;
use bindery::ceremony::kcv::KcvMethod;
use bindery::certs::certificate::pem;
use bindery::certs::test_pki::{TEST_OID, TestPki};
use bindery::certs::{Curve, DpRole};
use bindery::config::Site;
use bindery::hsm::pkcs11::KeyRoom;
use bindery::hsm::policy::{self, KeyPolicy};
use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, ObjectClass};
use data_encoding::{HEXLOWER, HEXUPPER};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use serde_json::Value;
use yard::provider::{Provider, provider};
use yard::{Ran, Yard, files_below, lines_json};

/// Two components of a 256-bit key and what they make.
const COMPONENTS: [&str; 2] = [
    "8c1f60a5d7293be4455f0d9a7e8b31c26f04d8e19a3b5c7d2e6f80917263544a",
    "13579bdf02468ace1122334455667788990aabbccddeeff00f1e2d3c4b5a6978",
];

/// A yard whose custodians have keys, and whose token is new and empty.
struct Hall {
    yard: Yard,
}

impl Hall {
    /// A demo site with custodians `anna` and `berta`.
    fn demo() -> Self {
        Self::on(provider())
    }

    fn on(provider: Provider) -> Self {
        let hall = Self { yard: Yard::on(provider) };
        for name in ["anna", "berta", "mallory"] {
            hall.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &format!("{name}.key")]);
            hall.openssl(&["pkey", "-in", &format!("{name}.key"), "-pubout", "-out", &format!("site/{name}.pem")]);
        }
        hall.configure("\n[ceremony.custodians]\nanna = \"anna.pem\"\nberta = \"berta.pem\"\n");
        hall
    }

    /// The same with a token that has no key yet, and without certificates.
    fn empty() -> Self {
        Self::empty_on(provider())
    }

    fn empty_on(provider: Provider) -> Self {
        let hall = Self::on(provider);
        let site = hall.yard.site();
        // In a process of its own: a process has one token.
        let emptied = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_destroys_every_key"])
            .env(SITE, &site)
            .env("KRYOPTIC_CONF", hall.yard.path("kryoptic.conf"))
            .output()
            .unwrap();
        assert!(emptied.status.success(), "{emptied:?}");
        // One curve here; the second has its test below.
        fs::write(site.join("key-policy.toml"), policy::BUILT_IN).unwrap();
        for dir in ["dpauth", "dppb", "manifest"] {
            fs::remove_dir_all(site.join("certs").join(dir)).unwrap();
        }
        let config = fs::read_to_string(site.join("bindery.toml")).unwrap();
        fs::write(site.join("bindery.toml"), config.replace("op_file = \"op.sealed\"", "")).unwrap();
        hall
    }

    /// One more token beside the site's, SoftHSM's.
    fn new_token(&self, label: &str, pin: &str) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin])
            .env("SOFTHSM2_CONF", self.yard.site().join("token/softhsm2.conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn pin(&self) -> String {
        fs::read_to_string(self.yard.site().join("token/pin")).unwrap().trim().to_owned()
    }

    fn configure(&self, more: &str) {
        let file = self.yard.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(file, config + more).unwrap();
    }

    /// Wraps a file under an import key, as the token's profile has it.
    fn wrap_oaep(&self, public: &str, from: &str, to: &str) {
        let mut args = vec!["pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-in", from, "-out", to];
        args.extend(["-pkeyopt", "rsa_padding_mode:oaep"]);
        if provider() == Provider::Kryoptic {
            args.extend(["-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"]);
        }
        assert!(self.openssl(&args));
    }

    fn openssl(&self, args: &[&str]) -> bool {
        let ran = Command::new("openssl").args(args).current_dir(self.yard.path("")).output().unwrap();
        ran.status.success()
    }

    fn plan(&self, steps: &str) -> String {
        let plan = self.yard.path("plan.toml");
        let head = "schema = \"bindery.ceremony-plan/1\"\ntitle = \"test\"\noperator = \"olga\"\n";
        fs::write(&plan, format!("{head}{steps}")).unwrap();
        plan.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.yard.path(name).to_str().unwrap().to_owned()
    }

    fn dir(&self) -> PathBuf {
        self.yard.site().join("ceremonies/plan")
    }

    /// `keys approval`, signed by `signer`, which is not always the custodian it names.
    fn approval(&self, file: &str, plan: &str, custodian: &str, steps: &str, signer: &str) -> String {
        let args = ["keys", "approval", plan, "--custodian", custodian, "--steps", steps];
        fs::write(self.yard.path(file), self.yard.run(&args).exits(0).out).unwrap();
        self.sign(file, signer);
        self.path(file)
    }

    fn sign(&self, file: &str, signer: &str) {
        let (key, out) = (format!("{signer}.key"), format!("{file}.sig"));
        assert!(self.openssl(&["dgst", "-sha256", "-sign", &key, "-out", &out, file]));
    }

    fn ceremony(&self, plan: &str, more: &[&str]) -> Ran {
        self.yard.run(&[&["keys", "ceremony", plan], more].concat())
    }

    fn transcript(&self) -> Vec<Value> {
        lines_json(&self.dir().join("transcript.jsonl"))
    }

    fn transcript_verifies(&self) -> bool {
        let at = |name: &str| self.dir().join(name).to_str().unwrap().to_owned();
        let [key, signature, text] = ["audit.pub.pem", "transcript.sig", "transcript.jsonl"].map(at);
        self.openssl(&["dgst", "-sha256", "-verify", &key, "-signature", &signature, &text])
    }

    fn component_files(&self) -> [String; 2] {
        [0, 1].map(|at| {
            fs::write(self.yard.path(format!("component-{at}")), COMPONENTS[at]).unwrap();
            self.path(&format!("component-{at}"))
        })
    }

    /// A DP certificate of the site's test CI over a point of the transcript or a request.
    fn certify(&self, role: DpRole, point: &[u8; 65], file: &str) {
        self.certify_on(Curve::P256, role, point, file);
    }

    fn certify_on(&self, curve: Curve, role: DpRole, point: &[u8; 65], file: &str) {
        let site = Site::open(&self.yard.site()).unwrap();
        let pki = TestPki::load(&site, curve).unwrap();
        let leaf = pki.issue_dp(role, TEST_OID, point, jiff::Timestamp::now()).unwrap();
        fs::write(self.yard.path(file), pem(&leaf)).unwrap();
    }

    fn certify_manifest(&self, point: &[u8; 65], file: &str) {
        let site = Site::open(&self.yard.site()).unwrap();
        let pki = TestPki::load(&site, Curve::P256).unwrap();
        let leaf = pki.issue_manifest(point, jiff::Timestamp::now()).unwrap();
        fs::write(self.yard.path(file), pem(&leaf)).unwrap();
    }

    /// Runs a small prebound order to its end; `core_key`: the core network's copy of the transport key.
    fn issues(&self, order_id: &str, core_key: &str) {
        let fleet = format!("fleet-{order_id}");
        let keys = self.yard.fleet(&fleet, 3);
        self.yard.prebound_order(order_id, &keys).submit().exits(0);
        self.yard.run(&["run"]).exits(0);
        self.verify(order_id, &fleet, core_key).exits(0);
    }

    /// Opens the packages and compares the K and OPc in them with `core.csv`, decrypted with this key.
    fn verify(&self, order_id: &str, fleet: &str, core_key: &str) -> Ran {
        let secrets = self.path(&format!("{fleet}/secrets.jsonl"));
        let bundle = self.yard.outbox(order_id);
        self.yard.run(&["verify", bundle.to_str().unwrap(), "--secrets", &secrets, "--core-key", core_key])
    }

    /// The operator's own copy of the key that the two components make.
    fn operators_copy(&self) -> String {
        fs::write(self.yard.path("component-all"), HEXLOWER.encode(&whole_key()) + "\n").unwrap();
        self.path("component-all")
    }

    fn first_copy(&self) -> String {
        self.path("site/core-demo.key")
    }
}

const SITE: &str = "BINDERY_TEST_SITE";

/// Not a test by itself.
#[test]
#[ignore = "started by the other tests, with a site in the environment"]
fn child_destroys_every_key() {
    let Some(site) = std::env::var_os(SITE) else { panic!("{SITE} is not set") };
    let site = Site::open(site.as_ref()).unwrap();
    let room = KeyRoom::open(&site).unwrap();
    for rule in &KeyPolicy::load(&site.path("key-policy.toml")).unwrap().keys {
        assert_ne!(room.destroy(rule).unwrap(), 0, "{}", rule.label);
    }
}

const ROLE: &str = "BINDERY_TEST_ROLE";
const VALUE: &str = "BINDERY_TEST_VALUE";

/// Not a test by itself.
#[test]
#[ignore = "started by the other tests, with a site in the environment"]
fn child_exchanges_a_key() {
    let site = Site::open(std::env::var_os(SITE).unwrap().as_ref()).unwrap();
    let policy = KeyPolicy::load(&site.path("key-policy.toml")).unwrap();
    let rule = policy.rule(&std::env::var(ROLE).unwrap().parse().unwrap()).unwrap();
    let room = KeyRoom::open(&site).unwrap();
    let id: [u8; 16] = room.find(rule).unwrap().unwrap().try_into().unwrap();
    assert_eq!(room.destroy(rule).unwrap(), 1);
    room.create(rule, &id, &bytes(&std::env::var(VALUE).unwrap())).unwrap();
}

const HALF: &str = "BINDERY_TEST_HALF";

/// Not a test by itself.
#[test]
#[ignore = "started by the other tests, with a site in the environment"]
fn child_leaves_half_a_key() {
    let site = Site::open(std::env::var_os(SITE).unwrap().as_ref()).unwrap();
    let class = match std::env::var(HALF).unwrap().as_str() {
        "public" => ObjectClass::PRIVATE_KEY,
        _ => ObjectClass::PUBLIC_KEY,
    };
    let room = KeyRoom::open(&site).unwrap(); // loads, initialises and logs in: the login is the process's
    let module = Pkcs11::new(site.path(&site.config.hsm.module)).unwrap();
    let slots = module.get_slots_with_initialized_token().unwrap();
    let label = &site.config.hsm.token_label;
    let slot = slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == label).unwrap();
    let pkcs11 = module.open_rw_session(slot).unwrap();
    let wanted = [Attribute::Class(class), Attribute::Label(b"bindery/dppb/p256/2".to_vec())];
    let found = pkcs11.find_objects(&wanted).unwrap();
    assert_eq!(found.len(), 1);
    pkcs11.destroy_object(found[0]).unwrap();
    drop(room);
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn whole_key() -> Vec<u8> {
    bytes(COMPONENTS[0]).iter().zip(bytes(COMPONENTS[1])).map(|(a, b)| a ^ b).collect()
}

fn kcv(key: &[u8], method: KcvMethod) -> String {
    HEXUPPER.encode(&method.block_of_key(key).unwrap()[..3])
}

fn cmac(key: &[u8]) -> String {
    kcv(key, KcvMethod::AesCmacZeros)
}

fn point_of(request: &str) -> [u8; 65] {
    let request = openssl::x509::X509Req::from_pem(request.as_bytes()).unwrap();
    let key = request.public_key().unwrap();
    assert!(request.verify(&key).unwrap(), "the request verifies under its own key");
    let key = key.ec_key().unwrap();
    let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
    let mut ctx = openssl::bn::BigNumContext::new().unwrap();
    key.public_key().to_bytes(key.group(), form, &mut ctx).unwrap().try_into().unwrap()
}

fn generate(role: &str) -> String {
    format!("\n[[step]]\ndo = \"generate\"\nrole = \"{role}\"\n")
}

fn component_step(role: &str, number: usize, custodian: &str, kcv: &str) -> String {
    format!(
        "\n[[step]]\ndo = \"component\"\nrole = \"{role}\"\nnumber = {number}\nof = 2\ncustodian = \"{custodian}\"\n\
         kcv = \"{kcv}\"\nkcv_method = \"aes-cmac-zeros\"\n"
    )
}

fn combine_step(role: &str, kcv: &str, method: &str) -> String {
    format!("\n[[step]]\ndo = \"combine\"\nrole = \"{role}\"\nkcv = \"{kcv}\"\nkcv_method = \"{method}\"\n")
}

/// Five generated keys, then a transport key of two components: steps 6, 7 and 8.
fn making_keys() -> String {
    let made: String = ["audit", "site-kek", "dpauth", "dppb", "manifest"].map(generate).concat();
    let key = whole_key();
    made + &component_step("transport:core-demo", 1, "anna", &cmac(&bytes(COMPONENTS[0])))
        + &component_step("transport:core-demo", 2, "berta", &cmac(&bytes(COMPONENTS[1])))
        + &combine_step("transport:core-demo", &kcv(&key, KcvMethod::AesEcbZeros), "aes-ecb-zeros")
}

/// Steps 9 to 13.
fn certifying() -> String {
    let request = |role: &str| format!("\n[[step]]\ndo = \"request\"\nrole = \"{role}\"\noid = \"{TEST_OID}\"\n");
    let install =
        |role: &str| format!("\n[[step]]\ndo = \"certificate\"\nrole = \"{role}\"\nfiles = [\"{role}.pem\"]\n");
    [request("dpauth"), request("dppb"), install("dpauth"), install("dppb"), install("manifest")].concat()
}

#[test]
fn from_a_plan_and_an_empty_token_to_a_site_that_issues_profiles() {
    let hall = Hall::empty();
    let plan = hall.plan(&(making_keys() + &certifying()));
    hall.yard.run(&["run"]).exits(7);
    let ran = hall.ceremony(&plan, &[]).exits(13);
    assert!(ran.err.contains("step 1 (generate audit epoch 1)") && ran.err.contains("anna, berta"), "{}", ran.err);

    let anna = hall.approval("a.json", &plan, "anna", "1-6", "anna");
    let berta = hall.approval("b.json", &plan, "berta", "7-13", "berta");
    let [first, second] = hall.component_files();
    // Without a component at hand the ceremony waits, the done steps stay done.
    let ran = hall.ceremony(&plan, &["--approve", &anna]).exits(9);
    assert!(ran.err.contains("anna's"), "{}", ran.err);
    assert_eq!(hall.transcript().len(), 5);
    hall.ceremony(&plan, &["--approve", &anna, "--component-file", &first]).exits(13);
    assert_eq!(hall.transcript().len(), 6);
    // The second comes by descriptor; the shell opens it, as a custodian's reader would.
    let site = hall.yard.site();
    let line = format!(
        "{} --site {} keys ceremony {plan} --approve {berta} --component-fd 7 7<{second}",
        env!("CARGO_BIN_EXE_bindery"),
        site.display()
    );
    let conf = hall.yard.path("kryoptic.conf");
    let by_shell = Command::new("sh").args(["-c", &line]).env("KRYOPTIC_CONF", conf).output().unwrap();
    assert_eq!(by_shell.status.code(), Some(3), "waits for the certificates: {by_shell:?}");
    assert_eq!(hall.transcript().len(), 10);

    let transcript = hall.transcript();
    let point = |at: usize| bytes(transcript[at]["result"]["point"].as_str().unwrap()).try_into().unwrap();
    for (role, file) in [("dpauth", "dpauth-1.csr.pem"), ("dppb", "dppb-1.csr.pem")] {
        let at = transcript.iter().position(|line| line["role"] == role).unwrap();
        assert_eq!(point_of(&fs::read_to_string(hall.dir().join(file)).unwrap()), point(at));
    }
    hall.certify(DpRole::Auth, &point(2), "dpauth.pem");
    hall.certify(DpRole::Pb, &point(2), "dppb.pem"); // over the wrong key
    hall.certify_manifest(&point(4), "manifest.pem");
    let ran = hall.ceremony(&plan, &["--approve", &berta]).exits(3);
    assert!(ran.err.contains("step 12") && ran.err.contains("not over the key"), "{}", ran.err);
    hall.certify(DpRole::Pb, &point(3), "dppb.pem");
    hall.ceremony(&plan, &["--approve", &berta]).exits(0);
    assert!(hall.transcript_verifies());
    // Again: nothing is left to do, and nothing is done.
    let before = fs::read(hall.dir().join("transcript.jsonl")).unwrap();
    hall.ceremony(&plan, &[]).exits(0);
    assert_eq!(fs::read(hall.dir().join("transcript.jsonl")).unwrap(), before);
    // What was approved can still be proved, without the files that were given.
    for line in hall.transcript() {
        let [approval, signature] =
            ["approval_sha256", "approval_signature_sha256"].map(|name| line[name].as_str().unwrap());
        let kept = format!("site/ceremonies/plan/approvals/{}-{}.json", &approval[..16], &signature[..16]);
        let key = format!("{}.key", line["approved_by"].as_str().unwrap());
        assert!(hall.openssl(&["dgst", "-sha256", "-prverify", &key, "-signature", &format!("{kept}.sig"), &kept]));
        assert_eq!(HEXLOWER.encode(&openssl::sha::sha256(&fs::read(hall.yard.path(&kept)).unwrap())), approval);
        assert_eq!(line["custodian_key_sha256"].as_str().unwrap().len(), 64);
    }

    hall.yard.run(&["doctor"]).exits(0);
    hall.issues("PO-1", &hall.operators_copy());
    let status = hall.yard.run(&["--json", "keys", "status"]).exits(0).json();
    let transport = status["keys"].as_array().unwrap().iter().find(|key| key["role"] == "transport:core-demo").unwrap();
    assert_eq!(transport["kcv"], kcv(&whole_key(), KcvMethod::AesEcbZeros).as_str());
    nothing_holds_a_component(&hall, &[&ran.out, &ran.err]);
}

/// Every file of the yard, token included, but those the components were given in.
fn nothing_holds_a_component(hall: &Hall, said: &[&str]) {
    let secrets = [COMPONENTS[0].to_owned(), COMPONENTS[1].to_owned(), HEXLOWER.encode(&whole_key())];
    let mut looked_at = 0;
    for path in files_below(&hall.yard.path("")) {
        if path.file_name().unwrap().to_str().unwrap().starts_with("component-") {
            continue;
        }
        let content = fs::read(&path).unwrap();
        let lower = String::from_utf8_lossy(&content).to_lowercase();
        for secret in &secrets {
            assert!(!lower.contains(secret.as_str()), "{}", path.display());
            let raw = bytes(secret);
            assert!(!content.windows(raw.len()).any(|window| window == raw), "{}", path.display());
        }
        looked_at += 1;
    }
    assert!(looked_at > 30, "{looked_at}");
    for secret in &secrets {
        assert!(said.iter().all(|text| !text.to_lowercase().contains(secret.as_str())));
    }
}

#[test]
fn a_ceremony_killed_again_and_again_does_every_step_once() {
    let hall = Hall::empty();
    let steps =
        ["audit", "site-kek", "dpauth", "import:main", "dppb", "import:other", "manifest"].map(generate).concat();
    let plan = hall.plan(&steps);
    let approval = hall.approval("a.json", &plan, "anna", "1-7", "anna");
    let mut kills = 0;
    loop {
        let mut child = hall
            .yard
            .prepared(&["keys", "ceremony", &plan, "--approve", &approval])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let patience = Duration::from_millis(30 * (kills + 2));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > patience {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        match status {
            Some(status) => {
                assert_eq!(
                    status.code(),
                    Some(0),
                    "after {kills} kills: {}",
                    hall.ceremony(&plan, &["--approve", &approval]).err
                );
                break;
            }
            None => kills += 1,
        }
        assert!(kills < 200, "never ends");
    }
    assert!(kills > 0, "nothing was interrupted");
    let transcript = hall.transcript();
    assert_eq!(transcript.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(hall.transcript_verifies());
    // One key a label: `find` refuses two, and the ids of the transcript are those in the token.
    hall.yard.run(&["keys", "status"]).exits(7); // no transport key was in this plan
    let ids: std::collections::BTreeSet<_> = transcript.iter().map(|line| line["result"]["id"].to_string()).collect();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_transcript_that_the_audit_key_did_not_sign_is_neither_believed_nor_signed() {
    let hall = Hall::empty();
    // Nothing is done before there is a key that signs what was done.
    let plan = hall.plan(&generate("manifest"));
    let approval = hall.approval("m.json", &plan, "anna", "1", "anna");
    let ran = hall.ceremony(&plan, &["--approve", &approval]).exits(3);
    assert!(ran.err.contains("no audit key"), "{}", ran.err);
    fs::remove_dir_all(hall.dir()).unwrap();

    let plan = hall.plan(&(generate("audit") + &generate("site-kek")));
    let one = hall.approval("a.json", &plan, "anna", "1", "anna");
    hall.ceremony(&plan, &["--approve", &one]).exits(13);
    assert!(hall.transcript_verifies(), "signed with its first line");
    let all = hall.approval("b.json", &plan, "anna", "1-2", "anna");
    let file = hall.dir().join("transcript.jsonl");
    let [good, signature] = ["transcript.jsonl", "transcript.sig"].map(|name| fs::read(hall.dir().join(name)).unwrap());
    // The next line as the program would chain it: step 2 was never done.
    let mut forged: Value = serde_json::from_slice(&good).unwrap();
    let last = std::str::from_utf8(&good).unwrap().trim_end();
    forged["previous_sha256"] = HEXLOWER.encode(&openssl::sha::sha256(last.as_bytes())).into();
    forged["step"] = 2.into();
    let refused = |why: &str| {
        let there = fs::read(hall.dir().join("transcript.sig")).ok();
        let ran = hall.ceremony(&plan, &["--approve", &all]).exits(8);
        assert!(ran.err.contains(why), "{why}: {}", ran.err);
        assert_eq!(fs::read(hall.dir().join("transcript.sig")).ok(), there, "signed again");
    };
    let with = |line: &Value| fs::write(&file, format!("{last}\n{line}\n")).unwrap();
    with(&forged);
    refused("line 2 is not of step 2");
    forged["role"] = "site-kek".into();
    with(&forged);
    refused("transcript.sig");
    fs::remove_file(hall.dir().join("transcript.sig")).unwrap();
    refused("transcript.sig");
    fs::write(&file, &good).unwrap();
    refused("transcript.sig");
    fs::write(hall.dir().join("transcript.sig"), signature).unwrap();
    hall.ceremony(&plan, &["--approve", &all]).exits(0);
    assert!(hall.transcript_verifies());
}

#[test]
fn an_approval_that_is_forged_replayed_expired_or_of_others_approves_nothing() {
    let hall = Hall::empty();
    let plan = hall.plan(&(generate("audit") + &generate("site-kek")));
    let refused = |file: &str, why: &str| {
        let ran = hall.ceremony(&plan, &["--approve", file]).exits(13);
        assert!(ran.err.contains(why), "{why}: {}", ran.err);
        assert!(!hall.dir().join("transcript.jsonl").exists());
    };
    refused(&hall.approval("m.json", &plan, "anna", "1-2", "mallory"), "the signature is not");
    let good = hall.approval("g.json", &plan, "anna", "1-2", "anna");
    let text = fs::read_to_string(&good).unwrap();
    let altered = |file: &str, text: String, signer: Option<&str>| {
        fs::write(hall.yard.path(file), text).unwrap();
        match signer {
            Some(signer) => hall.sign(file, signer),
            None => drop(fs::copy(format!("{good}.sig"), hall.yard.path(format!("{file}.sig"))).unwrap()),
        }
        hall.path(file)
    };
    // One digit changed under the old signature.
    refused(&altered("c.json", text.replace("    2\n", "    9\n"), None), "the signature is not");
    refused(&altered("n.json", text.replace("\"anna\"", "\"mallory\""), Some("mallory")), "no custodian");
    let approval: Value = serde_json::from_str(&text).unwrap();
    let with = |key: &str, value: Value| {
        let mut approval = approval.clone();
        approval[key] = value;
        approval.to_string()
    };
    refused(&altered("e.json", with("not_after", "2020-01-01T00:00:00Z".into()), Some("anna")), "holds from");
    refused(&altered("f.json", with("not_before", "2090-01-01T00:00:00Z".into()), Some("anna")), "holds from");
    refused(&altered("o.json", with("plan_sha256", "00".repeat(32).into()), Some("anna")), "another plan");
    refused(&altered("r.json", with("ceremony", "00".repeat(16).into()), Some("anna")), "another running");
    refused(&hall.approval("s.json", &plan, "anna", "2", "anna"), "of steps 2 to 2");
    // The same plan in another directory is another running: the good approval is worth nothing there.
    let elsewhere = hall.path("elsewhere");
    let ran = hall.ceremony(&plan, &["--out", &elsewhere, "--approve", &good]).exits(13);
    assert!(ran.err.contains("another running"), "{}", ran.err);
    // The plan changed after it was approved.
    let steps = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, steps.replace("site-kek", "manifest")).unwrap();
    let ran = hall.ceremony(&plan, &["--approve", &good]).exits(8);
    assert!(ran.err.contains("begun with another plan"), "{}", ran.err);
    fs::write(&plan, steps).unwrap();
    hall.ceremony(&plan, &["--approve", &good]).exits(0);
}

#[test]
fn the_second_persons_pin_on_a_token_of_its_own_approves() {
    // It takes two tokens, which one software token alone is not: SoftHSM makes as many as one wants.
    let hall = Hall::empty_on(Provider::SoftHsm);
    hall.new_token("approver", "berta-knows");
    let file = hall.yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        config
            .replace("\n[ceremony.custodians]", "\n[ceremony]\napprover_token = \"approver\"\n\n[ceremony.custodians]"),
    )
    .unwrap();
    let plan = hall.plan(&(generate("audit") + &generate("site-kek")));
    let args = ["keys", "ceremony", &plan, "--approve-by-pin"];
    let ran = hall.yard.run(&args).exits(13);
    assert!(ran.err.contains("BINDERY_APPROVER_PIN"), "{}", ran.err);
    let pin = hall.path("approver-pin");
    fs::write(&pin, "berta-guesses").unwrap();
    let ran = hall.yard.run_with(&args, &[("BINDERY_APPROVER_PIN_FILE", &pin)]).exits(13);
    assert!(ran.err.contains("CKR_PIN_INCORRECT") && !ran.err.contains("guesses"), "{}", ran.err);
    fs::write(&pin, "berta-knows").unwrap();
    hall.yard.run_with(&args, &[("BINDERY_APPROVER_PIN_FILE", &pin)]).exits(0);
    assert!(hall.transcript()[0]["approved_by"].as_str().unwrap().contains("approver"));
    assert!(hall.transcript_verifies());
}

#[test]
fn a_wrong_check_value_stops_before_anything_is_kept() {
    let hall = Hall::demo();
    let role = "transport:op-7";
    let [first, second] = hall.component_files();
    let steps = component_step(role, 1, "anna", &cmac(&bytes(COMPONENTS[0])))
        + &component_step(role, 2, "berta", &cmac(&bytes(COMPONENTS[1])))
        + &combine_step(role, "000000", "aes-cmac-zeros");
    let plan = hall.plan(&steps);
    let anna = hall.approval("a.json", &plan, "anna", "1-3", "anna");
    let berta = hall.approval("b.json", &plan, "berta", "1-3", "berta");
    let both = ["--approve", &anna, "--approve", &berta];
    // The other's component in the first one's step.
    let ran = hall.ceremony(&plan, &[&both[..], &["--component-file", &second]].concat()).exits(8);
    assert!(ran.err.contains("check value"), "{}", ran.err);
    let ran = hall
        .ceremony(&plan, &[&both[..], &["--component-file", &first, "--component-file", &second]].concat())
        .exits(8);
    assert!(ran.err.contains("the combined key"), "{}", ran.err);
    assert_eq!(hall.transcript().len(), 2);
    nothing_holds_a_component(&hall, &[&ran.out, &ran.err]);
    let status = hall.yard.run(&["--json", "keys", "status"]).exits(0).json();
    let key = status["keys"].as_array().unwrap().iter().find(|key| key["role"] == role).unwrap();
    assert_eq!((key["epoch_state"].as_str(), key["state"].as_str()), (Some("pending"), Some("not there yet")));
}

#[test]
fn a_key_wrapped_by_its_operator_comes_in_without_ever_being_clear_here() {
    let hall = Hall::demo();
    hall.yard.run(&["keys", "rotate", "import:main"]).exits(0);
    hall.yard.run(&["doctor"]).exits(0); // the import key proves itself at every start
    let key = whole_key();
    fs::write(hall.yard.path("component-raw"), &key).unwrap();
    hall.wrap_oaep("site/requests/import-main-1.pub.pem", "component-raw", "key.wrapped");
    let wrapped = hall.path("key.wrapped");
    let import = |kcv: &str, more: &[&str]| {
        let args = [
            "keys",
            "import",
            "transport:core-demo",
            "--operator",
            "olga",
            "--wrapped",
            &wrapped,
            "--under",
            "import:main",
        ];
        hall.yard.run(&[&args[..], &["--kcv", kcv], more].concat())
    };
    let dir = hall.yard.site().join("ceremonies/import-transport-core-demo-2");
    let plan = dir.join("plan.toml").to_str().unwrap().to_owned();
    let approved = |kcv: &str, code: i32| {
        import(kcv, &[]).exits(13);
        let args = ["keys", "approval", &plan, "--out", dir.to_str().unwrap(), "--custodian", "anna"];
        fs::write(hall.yard.path("i.json"), hall.yard.run(&args).exits(0).out).unwrap();
        hall.sign("i.json", "anna");
        import(kcv, &["--approve", &hall.path("i.json")]).exits(code)
    };
    let ran = approved("000000", 8);
    assert!(ran.err.contains("another check value"), "{}", ran.err);
    fs::remove_dir_all(&dir).unwrap();
    // What was approved is this file: the same key wrapped again has the same check value and is not it.
    import(&cmac(&key), &[]).exits(13);
    let args = ["keys", "approval", &plan, "--out", dir.to_str().unwrap(), "--custodian", "anna"];
    fs::write(hall.yard.path("s.json"), hall.yard.run(&args).exits(0).out).unwrap();
    hall.sign("s.json", "anna");
    let shown = fs::read(&wrapped).unwrap();
    hall.wrap_oaep("site/requests/import-main-1.pub.pem", "component-raw", "key.wrapped");
    let approval = hall.path("s.json");
    let ran = import(&cmac(&key), &["--approve", &approval]).exits(3);
    assert!(ran.err.contains("begun otherwise"), "{}", ran.err);
    let ran = hall.ceremony(&plan, &["--out", dir.to_str().unwrap(), "--approve", &approval]).exits(8);
    assert!(ran.err.contains("SHA-256 is not the one"), "{}", ran.err);
    fs::write(&wrapped, shown).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    // An import key that only waits is not unwrapped with; the plan names the epoch that was active.
    let policy = hall.yard.site().join("key-policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let at = text.find("role = \"import:main\"").expect("declared");
    let start = text[..at].rfind("[[key]]").unwrap();
    let end = text[at..].find("[[key]]").map_or(text.len(), |next| at + next);
    let next = text[start..end].replace("import/main/1", "import/main/2").replace("epoch = 1", "epoch = 2");
    let next = next.replace("\"active\"", "\"pending\"");
    let next: String = next.lines().filter(|line| !line.starts_with("active_from")).map(|l| format!("{l}\n")).collect();
    fs::write(&policy, format!("{text}\n{next}")).unwrap();
    approved(&cmac(&key), 0);
    assert!(fs::read_to_string(&plan).unwrap().contains("under_epoch = 1\n"));
    assert_eq!(lines_json(&dir.join("transcript.jsonl"))[0]["result"]["under"], "bindery/import/main/1");
    fs::write(&policy, fs::read_to_string(&policy).unwrap().replace(&next, "")).unwrap();

    let list = hall.yard.run(&["--json", "keys", "status"]).exits(0).json();
    let of = |epoch: u64| {
        let keys = list["keys"].as_array().unwrap();
        keys.iter().find(|key| key["role"] == "transport:core-demo" && key["epoch"] == epoch).unwrap().clone()
    };
    assert_eq!((of(1)["epoch_state"].as_str(), of(2)["epoch_state"].as_str()), (Some("draining"), Some("active")));
    assert_eq!(of(2)["kcv"], kcv(&key, KcvMethod::AesEcbZeros).as_str());
    nothing_holds_a_component(&hall, &[&ran.out, &ran.err]);
    hall.issues("PO-1", &hall.operators_copy());
    hall.yard.run(&["keys", "retire", "transport:core-demo", "1"]).exits(0);
    hall.yard.run(&["doctor"]).exits(0);
}

#[test]
fn an_order_keeps_the_transport_key_it_was_accepted_with_and_that_epoch_does_not_retire_before_it() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    std::thread::sleep(Duration::from_millis(1_100)); // an epoch begins at a whole second
    let [first, second] = hall.component_files();
    let args = [
        "keys",
        "import",
        "transport:core-demo",
        "--operator",
        "olga",
        "--kcv",
        &cmac(&whole_key()),
        "--component",
        &format!("anna={}", cmac(&bytes(COMPONENTS[0]))),
        "--component",
        &format!("berta={}", cmac(&bytes(COMPONENTS[1]))),
    ];
    yard.run(&args).exits(13);
    let dir = yard.site().join("ceremonies/import-transport-core-demo-2");
    let mut with = args.to_vec();
    let plan = dir.join("plan.toml");
    let files = ["anna", "berta"].map(|name| {
        let approval =
            ["keys", "approval", plan.to_str().unwrap(), "--out", dir.to_str().unwrap(), "--custodian", name];
        let file = format!("{name}.json");
        fs::write(yard.path(&file), yard.run(&approval).exits(0).out).unwrap();
        hall.sign(&file, name);
        hall.path(&file)
    });
    files.iter().for_each(|file| with.extend(["--approve", file]));
    with.extend(["--component-file", &first, "--component-file", &second]);
    yard.run(&with).exits(0);

    let ran = yard.run(&["keys", "retire", "transport:core-demo", "1"]).exits(3);
    assert!(ran.err.contains("PO-1"), "{}", ran.err);
    yard.run(&["keys", "retire", "transport:core-demo", "2"]).exits(3); // the active one
    // Retired by hand under it, its epoch is not replaced by another.
    let policy = yard.site().join("key-policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replacen("state = \"draining\"", "state = \"retired\"", 1)).unwrap();
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("transport:core-demo epoch 1") && ran.err.contains("retired"), "{}", ran.err);
    fs::write(&policy, text).unwrap();
    yard.run(&["run"]).exits(0);
    std::thread::sleep(Duration::from_millis(1_100));
    yard.prebound_order("PO-2", &yard.fleet("later", 2)).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let (old, new) = (hall.first_copy(), hall.operators_copy());
    for (order, fleet, own, other) in [("PO-1", "fleet", &old, &new), ("PO-2", "later", &new, &old)] {
        hall.verify(order, fleet, own).exits(0);
        hall.verify(order, fleet, other).exits(8);
    }
    yard.run(&["keys", "retire", "transport:core-demo", "1"]).exits(0);
}

#[test]
fn a_kek_rotates_drains_and_retires_when_nothing_opens_with_it() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    let keys = yard.fleet("fleet", 2);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-1", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0); // the PPPs rest in the vault under a batch key, that under KEK 1
    // A component waits for the other one, sealed under KEK 1.
    let waits = component_step("transport:op-7", 1, "anna", &cmac(&bytes(COMPONENTS[0])))
        + &component_step("transport:op-7", 2, "berta", &cmac(&bytes(COMPONENTS[1])))
        + &combine_step("transport:op-7", &cmac(&whole_key()), "aes-cmac-zeros");
    let plan = hall.plan(&waits);
    let anna = hall.approval("w.json", &plan, "anna", "1", "anna");
    let [first, _] = hall.component_files();
    hall.ceremony(&plan, &["--approve", &anna, "--component-file", &first]).exits(13);
    yard.run(&["keys", "rotate", "site-kek"]).exits(0);
    yard.run(&["doctor"]).exits(0); // the OP opens with the older epoch
    let ran = yard.run(&["keys", "retire", "site-kek", "1"]).exits(3);
    assert!(ran.err.contains("OP (op.sealed)") && ran.err.contains("keys import-op"), "{}", ran.err);
    assert!(ran.err.contains("component of step 1"), "{}", ran.err);
    // What opens with no KEK is not taken for something that needs none.
    let op = fs::read(yard.site().join("op.sealed")).unwrap();
    let mut damaged = op.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(yard.site().join("op.sealed"), damaged).unwrap();
    let ran = yard.run(&["keys", "retire", "site-kek", "1"]).exits(8);
    assert!(ran.err.contains("op.sealed") && ran.err.contains("no site KEK"), "{}", ran.err);
    fs::write(yard.site().join("op.sealed"), op).unwrap();
    fs::remove_dir_all(hall.dir()).unwrap();
    let ran = yard.run(&["keys", "retire", "site-kek", "1"]).exits(3);
    assert!(!ran.err.contains("component"), "{}", ran.err);
    // Destruction: only what is retired, only with an approval.
    let destroy = ["keys", "retire", "site-kek", "1", "--destroy", "--operator", "olga"];
    yard.run(&destroy).exits(3);
    let config = fs::read_to_string(yard.site().join("bindery.toml")).unwrap();
    fs::write(yard.site().join("bindery.toml"), config.replace("op_file = \"op.sealed\"", "")).unwrap();
    // Its profiles wait in the vault to be bound: exported, but not finished.
    let ran = yard.run(&["keys", "retire", "site-kek", "1"]).exits(3);
    assert!(ran.err.contains("order acme/PO-1") && !ran.err.contains("op.sealed"), "{}", ran.err);
    let euicc_data = hall.path("fleet/euicc.jsonl");
    yard.run(&["bind", "PO-1", "--euicc-data", &euicc_data]).exits(0); // opened with epoch 1
    yard.run(&["keys", "retire", "site-kek", "1"]).exits(0);
    let ran = yard.run(&destroy).exits(13);
    assert!(ran.err.contains("destroy site-kek epoch 1"), "{}", ran.err);
    yard.run(&["doctor"]).exits(0);
}

#[test]
fn a_signing_key_rotates_with_its_certificate_and_the_old_one_works_until_then() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    yard.run(&["keys", "rotate", "dppb"]).exits(0);
    yard.run(&["keys", "rotate", "dppb"]).exits(0); // the same epoch, not a third
    hall.issues("PO-1", &hall.first_copy());
    let request = fs::read_to_string(yard.site().join("requests/dppb-2.csr.pem")).unwrap();
    assert_eq!(point_of(&request), point_of(&yard.run(&["keys", "csr", "dppb"]).exits(0).out));
    let stranger = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let mut ctx = openssl::bn::BigNumContext::new().unwrap();
    let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
    let foreign = stranger.public_key().to_bytes(stranger.group(), form, &mut ctx).unwrap();
    let before = fs::read(yard.site().join("certs/dppb/dppb.pem")).unwrap();
    let refused = |role: DpRole, point: &[u8; 65], why: &str| {
        hall.certify(role, point, "new.pem");
        let ran = yard.run(&["keys", "certificate", "dppb", &hall.path("new.pem")]).exits(3);
        assert!(ran.err.contains(why), "{why}: {}", ran.err);
        assert_eq!(fs::read(yard.site().join("certs/dppb/dppb.pem")).unwrap(), before);
    };
    refused(DpRole::Pb, &foreign.try_into().unwrap(), "not over the key");
    refused(DpRole::Auth, &point_of(&request), "role dppb");
    hall.certify(DpRole::Pb, &point_of(&request), "new.pem");
    yard.run(&["keys", "certificate", "dppb", &hall.path("new.pem")]).exits(0);
    assert_ne!(fs::read(yard.site().join("certs/dppb/dppb.pem")).unwrap(), before);
    yard.run(&["doctor"]).exits(0);
    hall.issues("PO-2", &hall.first_copy());
    yard.run(&["keys", "retire", "dppb", "1"]).exits(0);
    // Destroyed after an approval, and only then.
    let destroy = ["keys", "retire", "dppb", "1", "--destroy", "--operator", "olga"];
    yard.run(&destroy).exits(13);
    let dir = yard.site().join("ceremonies/destroy-dppb-1");
    let plan = dir.join("plan.toml");
    let args = ["keys", "approval", plan.to_str().unwrap(), "--out", dir.to_str().unwrap(), "--custodian", "berta"];
    fs::write(yard.path("d.json"), yard.run(&args).exits(0).out).unwrap();
    hall.sign("d.json", "berta");
    yard.run(&[&destroy[..], &["--approve", &hall.path("d.json")]].concat()).exits(0);
    assert_eq!(lines_json(&dir.join("transcript.jsonl"))[0]["result"]["objects"], 2);
    hall.issues("PO-3", &hall.first_copy());
    // Of an epoch that drains, nothing happens before the approval: not even its retirement.
    yard.run(&["keys", "rotate", "audit"]).exits(0);
    let destroy = ["keys", "retire", "audit", "1", "--destroy", "--operator", "olga"];
    let ran = yard.run(&destroy).exits(13);
    assert!(ran.err.contains("step 1 (retire audit epoch 1)"), "{}", ran.err);
    let list = yard.run(&["--json", "keys", "list"]).exits(0).json();
    let is_it = |key: &&Value| key["role"] == "audit" && key["epoch"] == 1;
    assert_eq!(list["keys"].as_array().unwrap().iter().find(is_it).unwrap()["epoch_state"], "draining");
}

#[test]
fn a_certificate_whose_installation_is_cut_off_is_finished_by_the_same_command() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    yard.run(&["keys", "rotate", "dppb"]).exits(0);
    let point = point_of(&yard.run(&["keys", "csr", "dppb"]).exits(0).out);
    hall.certify(DpRole::Pb, &point, "new.pem");
    let certs = yard.site().join("certs/dppb");
    let before = fs::read(certs.join("dppb.pem")).unwrap();
    // Its name is so long that its temporary name is too long for a directory: the policy can be read and not be written, and that
    // write is the one after the chain's.
    let long = format!("{}.toml", "k".repeat(245));
    let [policy, renamed, config] = ["key-policy.toml", long.as_str(), "bindery.toml"].map(|n| yard.site().join(n));
    let told = fs::read_to_string(&config).unwrap();
    fs::rename(&policy, &renamed).unwrap();
    assert!(told.contains("\"key-policy.toml\""));
    fs::write(&config, told.replace("\"key-policy.toml\"", &format!("{long:?}"))).unwrap();
    let install = ["keys", "certificate", "dppb", &hall.path("new.pem")];
    let ran = yard.run(&install);
    assert!(ran.code != 0 && ran.err.contains("too long"), "{}", ran.err);
    let new = fs::read(certs.join("dppb.pem")).unwrap();
    assert_ne!(new, before, "the chain was installed");
    // A chain and an active key that differ: nothing starts.
    let ran = yard.run(&["run"]).exits(3);
    assert!(ran.err.contains("dppb"), "{}", ran.err);
    fs::rename(&renamed, &policy).unwrap();
    fs::write(&config, &told).unwrap();
    yard.run(&["run"]).exits(3);
    yard.run(&install).exits(0);
    yard.run(&install).exits(0); // nothing is left to do
    yard.run(&["doctor"]).exits(0);
    assert_eq!(fs::read(certs.join("dppb.pem")).unwrap(), new);
    let aside: Vec<_> =
        fs::read_dir(&certs).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(aside[0].join("dppb.pem")).unwrap(), before, "the way back");
    hall.issues("PO-1", &hall.first_copy());
}

#[test]
fn a_key_pair_that_was_cut_off_between_its_halves_is_named_and_made_whole() {
    let hall = Hall::demo();
    let yard = &hall.yard;
    let halve = |half: &str| {
        let halved = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_leaves_half_a_key"])
            .env(SITE, yard.site())
            .env(HALF, half)
            .env("KRYOPTIC_CONF", yard.path("kryoptic.conf"))
            .output()
            .unwrap();
        assert!(halved.status.success(), "{halved:?}");
    };
    yard.run(&["keys", "rotate", "dppb"]).exits(0);
    let written = yard.site().join("ceremonies/rotate-dppb-2/key-id");
    let id = fs::read(&written).unwrap();
    for half in ["public", "private"] {
        halve(half);
        let status = yard.run(&["--json", "keys", "status"]).exits(0).json();
        let key = status["keys"].as_array().unwrap().iter().find(|key| key["label"] == "bindery/dppb/p256/2").unwrap();
        assert_eq!(key["state"], "half a key", "{half}");
        assert!(yard.run(&["doctor"]).exits(0).out.contains("bindery/dppb/p256/2: half a key"));
        // Of another id it is somebody else's, and stays.
        fs::write(&written, "00".repeat(16)).unwrap();
        let ran = yard.run(&["keys", "rotate", "dppb"]).exits(7);
        assert!(ran.err.contains(&format!("only its {half} half")), "{}", ran.err);
        fs::write(&written, &id).unwrap();
        yard.run(&["keys", "rotate", "dppb"]).exits(0);
        let status = yard.run(&["--json", "keys", "status"]).exits(0).json();
        let key = status["keys"].as_array().unwrap().iter().find(|key| key["label"] == "bindery/dppb/p256/2").unwrap();
        assert_eq!(key["state"], "as declared", "{half}");
    }
    let request = yard.run(&["keys", "csr", "dppb"]).exits(0).out;
    hall.certify(DpRole::Pb, &point_of(&request), "new.pem");
    yard.run(&["keys", "certificate", "dppb", &hall.path("new.pem")]).exits(0);
    hall.issues("PO-1", &hall.first_copy());
}

#[test]
fn two_commands_never_change_the_keys_of_a_site_at_once() {
    let hall = Hall::demo();
    let lock = fs::File::create(hall.yard.site().join("keys.lock")).unwrap();
    lock.lock().unwrap();
    let before = fs::read(hall.yard.site().join("key-policy.toml")).unwrap();
    for changing in [&["keys", "rotate", "audit"][..], &["keys", "retire", "dppb", "1"]] {
        let ran = hall.yard.run(changing).exits(10);
        assert!(ran.err.contains("another command changes keys"), "{}", ran.err);
    }
    hall.yard.run(&["keys", "list"]).exits(0);
    assert_eq!(fs::read(hall.yard.site().join("key-policy.toml")).unwrap(), before);
    drop(lock);
    hall.yard.run(&["keys", "rotate", "audit"]).exits(0);
}

#[test]
fn a_key_put_in_the_place_of_another_with_the_same_attributes_stops_the_start() {
    let hall = Hall::demo();
    let role = "operator:op-7";
    let parts = hall.in_components("pinned", &whole_key());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    hall.import(role, 1, &parts, &["anna", "berta"]).1.exits(0);
    hall.import("transport:op-7", 1, &parts, &["anna", "berta"]).1.exits(0);
    hall.yard.run(&["doctor"]).exits(0);
    let policy = KeyPolicy::load(&hall.yard.site().join("key-policy.toml")).unwrap();
    let block = KcvMethod::AesEcbZeros.block_of_key(&whole_key()).unwrap();
    let pinned = |role: &str| policy.rule(&role.parse().unwrap()).unwrap().kcv.as_ref().unwrap().to_string();
    assert_eq!(pinned(role), HEXUPPER.encode(&block));
    assert_eq!(pinned("transport:op-7"), HEXUPPER.encode(&block[..3]));
    for role in [role, "transport:op-7", "transport:core-demo", "operator:core-demo"] {
        assert_eq!(pinned(role).len(), if role.starts_with("operator") { 32 } else { 6 });
        let exchange = |value: &[u8]| {
            let exchanged = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "child_exchanges_a_key"])
                .env(SITE, hall.yard.site())
                .env(ROLE, role)
                .env(VALUE, HEXLOWER.encode(value))
                .env("KRYOPTIC_CONF", hall.yard.path("kryoptic.conf"))
                .output()
                .unwrap();
            assert!(exchanged.status.success(), "{exchanged:?}");
        };
        let own = match role.ends_with("op-7") {
            true => whole_key(),
            false => bytes(fs::read_to_string(hall.first_copy()).unwrap().trim()),
        };
        exchange(&[0x77; 32]);
        let ran = hall.yard.run(&["run"]).exits(7);
        assert!(ran.err.contains(&role.replace(':', "/")) && ran.err.contains("another key"), "{}", ran.err);
        exchange(&own);
        hall.yard.run(&["run"]).exits(0);
    }
}

#[test]
fn a_second_curve_is_added_and_rotates_without_a_touch_to_the_first() {
    let hall = Hall::on(Provider::SoftHsm); // kryoptic knows one curve
    let yard = &hall.yard;
    // A site of one curve: neither keys nor chains of the other are declared. Its token may hold keys of the built-in labels.
    fs::write(yard.site().join("key-policy.toml"), policy::BUILT_IN).unwrap();
    let certs = yard.site().join("certs");
    for name in ["dpauth/dpauth-brainpool.pem", "dppb/dppb-brainpool.pem"] {
        fs::remove_file(certs.join(name)).unwrap();
    }
    let first = || ["dpauth/dpauth.pem", "dppb/dppb.pem"].map(|name| fs::read(certs.join(name)).unwrap());
    let before = first();
    let roles = [("dpauth:brainpool", DpRole::Auth), ("dppb:brainpool", DpRole::Pb)];
    for (role, _) in roles {
        yard.run(&["keys", "rotate", role]).exits(0);
    }
    hall.issues("PO-1", &hall.first_copy()); // pending keys stop nobody
    let mut points = Vec::new();
    for epoch in [1, 2] {
        for (role, dp) in roles {
            if epoch == 2 {
                yard.run(&["keys", "rotate", role]).exits(0);
            }
            let point = point_of(&yard.run(&["keys", "csr", role]).exits(0).out);
            assert_eq!(Curve::of_point(&point), Some(Curve::Brainpool));
            assert!(!points.contains(&point), "{role} epoch {epoch} has a key of its own");
            points.push(point);
            // A chain on the other curve is not this role's, whatever the file is called.
            let of_first = certs.join(format!("{}/{}.pem", dp.as_str(), dp.as_str()));
            let ran = yard.run(&["keys", "certificate", role, of_first.to_str().unwrap()]).exits(3);
            assert!(ran.err.contains("brainpoolP256r1"), "{}", ran.err);
            hall.certify_on(Curve::Brainpool, dp, &point, "new.pem");
            yard.run(&["keys", "certificate", role, &hall.path("new.pem")]).exits(0);
        }
        yard.run(&["doctor"]).exits(0);
        let (order, fleet) = (format!("BP-{epoch}"), format!("fleet-{epoch}"));
        let keys = yard.fleet_with(&fleet, 4, &["--curve", "mixed"]);
        yard.prebound_order(&order, &keys).submit().exits(0);
        yard.run(&["run"]).exits(0);
        hall.verify(&order, &fleet, &hall.first_copy()).exits(0);
    }
    assert_eq!(first(), before);
    yard.run(&["keys", "retire", "dppb:brainpool", "1"]).exits(0);
    let status = yard.run(&["--json", "keys", "status"]).exits(0).json();
    let states: Vec<_> =
        status["keys"].as_array().unwrap().iter().filter(|key| key["role"] == "dppb:brainpool").collect();
    assert_eq!(states.len(), 2);
    assert!(states[1]["certificate_days_left"].as_i64().is_some_and(|days| days > 0), "{states:?}");
}

#[test]
fn roles_that_need_no_certificate_switch_at_once_and_imported_ones_are_not_rotated() {
    let hall = Hall::demo();
    hall.yard.run(&["keys", "rotate", "audit"]).exits(0);
    let list = hall.yard.run(&["--json", "keys", "list"]).exits(0).json();
    let epochs: Vec<_> = list["keys"].as_array().unwrap().iter().filter(|key| key["role"] == "audit").collect();
    assert_eq!(epochs.len(), 2);
    hall.yard.run(&["doctor"]).exits(0);
    let ran = hall.yard.run(&["keys", "rotate", "transport:core-demo"]).exits(2);
    assert!(ran.err.contains("keys import"), "{}", ran.err);
    hall.yard.run(&["keys", "csr", "audit"]).exits(2);
}

/// The custodian's tool and ours agree on check values.
#[test]
fn check_values_are_those_that_openssl_prints() {
    let key = whole_key();
    let mac = Command::new("openssl")
        .args(["mac", "-cipher", "AES-256-CBC", "-macopt", &format!("hexkey:{}", HEXLOWER.encode(&key)), "CMAC"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().unwrap().write_all(&[0; 16])?;
            child.wait_with_output()
        })
        .unwrap();
    let printed = String::from_utf8(mac.stdout).unwrap();
    assert!(printed.trim().starts_with(&cmac(&key)), "{printed}");
    let secret = component::Component::copy_of(&key).unwrap();
    let parsed = bindery::config::CheckValue::try_from(cmac(&key)).unwrap();
    component::check(&secret, &parsed, KcvMethod::AesCmacZeros, "x").unwrap();
}

#[test]
fn a_token_without_keys_is_not_fit_to_work() {
    let ran = Hall::empty().yard.run(&["doctor"]).exits(7);
    assert!(ran.out.contains("bindery/dpauth/p256/1"), "{}", ran.out);
}

#[test]
fn a_curve_that_the_token_does_not_know_gets_no_key_and_the_other_works_on() {
    let hall = Hall::demo();
    let knows_it = provider() == Provider::SoftHsm;
    let ran = hall.yard.run(&["keys", "rotate", "dpauth:brainpool"]).exits(if knows_it { 0 } else { 7 });
    if knows_it {
        return;
    }
    assert!(ran.err.contains("make key bindery/dpauth/brainpool/1: CKR_"), "{}", ran.err);
    hall.issues("PO-1", &hall.first_copy());
}
