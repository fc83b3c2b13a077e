//! Every row of the fault table, provoked through the fault shim and handled as `hsm-config/README.md` says; then whole batches
//! under tokens that vanish, hang, die and refuse. Counted by the shim: what the token saw, not what we think it saw.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::fs;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bindery::certs::signature_fits;
use bindery::config::{Site, SlotConfig};
use bindery::error::Exit;
use bindery::hsm::lanes::{Breaker, Lanes, Rules, Signed};
use bindery::hsm::pkcs11::{Token, approver};
use bindery::hsm::{FaultClass, Hsm, HsmSession, Role};
use openssl::sha::sha256;
use yard::Yard;
use yard::provider::{Provider, provider};
use yard::shim::{Fault, Shim, everywhere, on};

use FaultClass::{Data, Pin, Policy, Session, Token as Lost};

const TOKEN: &str = "bindery-demo";
const DEVICE_ERROR: u64 = 0x30;
const DEVICE_REMOVED: u64 = 0x32;

/// The table of PKCS#11 codes at a signature, as it is published in `hsm-config/README.md`. It repeats the program's own table on
/// purpose: the program is judged by it, so it must not be made of it.
#[rustfmt::skip]
const ROWS: &[(u64, &str, FaultClass)] = &[
    (0x020, "CKR_DATA_INVALID", Data), (0x021, "CKR_DATA_LEN_RANGE", Data), (0x040, "CKR_ENCRYPTED_DATA_INVALID", Data),
    (0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", Data), (0x007, "CKR_ARGUMENTS_BAD", Data),
    (0x0C0, "CKR_SIGNATURE_INVALID", Data), (0x0C1, "CKR_SIGNATURE_LEN_RANGE", Data),
    (0x071, "CKR_MECHANISM_PARAM_INVALID", Data), (0x150, "CKR_BUFFER_TOO_SMALL", Data),
    (0x070, "CKR_MECHANISM_INVALID", Policy), (0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", Policy),
    (0x063, "CKR_KEY_TYPE_INCONSISTENT", Policy), (0x062, "CKR_KEY_SIZE_RANGE", Policy),
    (0x06A, "CKR_KEY_UNEXTRACTABLE", Policy), (0x069, "CKR_KEY_NOT_WRAPPABLE", Policy),
    (0x0D0, "CKR_TEMPLATE_INCOMPLETE", Policy), (0x0D1, "CKR_TEMPLATE_INCONSISTENT", Policy),
    (0x010, "CKR_ATTRIBUTE_READ_ONLY", Policy), (0x011, "CKR_ATTRIBUTE_SENSITIVE", Policy),
    (0x012, "CKR_ATTRIBUTE_TYPE_INVALID", Policy), (0x013, "CKR_ATTRIBUTE_VALUE_INVALID", Policy),
    (0x01B, "CKR_ACTION_PROHIBITED", Policy), (0x140, "CKR_CURVE_NOT_SUPPORTED", Policy),
    (0x130, "CKR_DOMAIN_PARAMS_INVALID", Policy), (0x054, "CKR_FUNCTION_NOT_SUPPORTED", Policy),
    (0x121, "CKR_RANDOM_NO_RNG", Policy), (0x0B5, "CKR_SESSION_READ_ONLY", Policy),
    (0x0E2, "CKR_TOKEN_WRITE_PROTECTED", Policy), (0x103, "CKR_USER_TYPE_INVALID", Policy),
    (0x0B3, "CKR_SESSION_HANDLE_INVALID", Session), (0x0B0, "CKR_SESSION_CLOSED", Session),
    (0x0B1, "CKR_SESSION_COUNT", Session), (0x090, "CKR_OPERATION_ACTIVE", Session),
    (0x091, "CKR_OPERATION_NOT_INITIALIZED", Session), (0x101, "CKR_USER_NOT_LOGGED_IN", Session),
    (0x082, "CKR_OBJECT_HANDLE_INVALID", Session), (0x060, "CKR_KEY_HANDLE_INVALID", Session),
    (0x005, "CKR_GENERAL_ERROR", Session), (0x006, "CKR_FUNCTION_FAILED", Session),
    (0x050, "CKR_FUNCTION_CANCELED", Session), (0x002, "CKR_HOST_MEMORY", Session),
    (0x030, "CKR_DEVICE_ERROR", Lost), (0x031, "CKR_DEVICE_MEMORY", Lost), (0x032, "CKR_DEVICE_REMOVED", Lost),
    (0x0E0, "CKR_TOKEN_NOT_PRESENT", Lost), (0x0E1, "CKR_TOKEN_NOT_RECOGNIZED", Lost), (0x003, "CKR_SLOT_ID_INVALID", Lost),
    (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", Lost), (0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", Lost),
    (0x1B6, "CKR_FIPS_SELF_TEST_FAILED", Lost), (0x8000_0042, "vendor code 0x80000042", Lost),
    (0x0A0, "CKR_PIN_INCORRECT", Pin), (0x0A1, "CKR_PIN_INVALID", Pin), (0x0A2, "CKR_PIN_LEN_RANGE", Pin),
    (0x0A3, "CKR_PIN_EXPIRED", Pin), (0x0A4, "CKR_PIN_LOCKED", Pin), (0x1B8, "CKR_PIN_TOO_WEAK", Pin),
    (0x102, "CKR_USER_PIN_NOT_INITIALIZED", Pin), (0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Pin),
];

/// This process's one site, token and shim: one test at a time.
struct Bench {
    token: Arc<Token>,
    shim: Shim,
    yard: Yard,
}

/// Calls of the token, by function.
#[derive(Debug, PartialEq, Eq)]
struct Calls {
    open_session: u64,
    login: u64,
    initialize: u64,
    finalize: u64,
}

impl Bench {
    fn take() -> MutexGuard<'static, Self> {
        static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();
        let mut bench = BENCH.get_or_init(|| Mutex::new(Self::make())).lock().unwrap_or_else(PoisonError::into_inner);
        bench.shim.clear_all();
        bench
    }

    /// The site is made by the program, because one library must not have two contexts in one process.
    fn make() -> Self {
        let mut yard = Yard::demo();
        let shim = yard.put_shim();
        for (name, value) in provider().token_beside(&yard.path("")).into_iter().chain(shim.environment()) {
            bindery::ffi::set_environment(name, value.as_ref());
        }
        let approvers = yard.site().join("token/pin");
        bindery::ffi::set_environment("BINDERY_APPROVER_PIN_FILE", approvers.as_ref());
        let token = Arc::new(Token::open(&Site::open(&yard.site()).unwrap()).unwrap());
        Self { token, shim, yard }
    }

    fn lanes(&self, count: usize, rules: Rules) -> Lanes {
        Lanes::over(vec![(Arc::clone(&self.token), count)], rules).unwrap()
    }

    fn sign(&self, lanes: &Lanes, count: u32) -> (Vec<[u8; 32]>, Vec<Signed>) {
        let digests: Vec<[u8; 32]> = (0..count).map(|i| sha256(&i.to_be_bytes())).collect();
        let signed =
            lanes.submit(self.token.key(&Role::DpPb(bindery::certs::Curve::P256)).unwrap(), digests.clone()).wait();
        (digests, signed)
    }

    fn fits(&self, digest: &[u8; 32], signed: &Signed) -> bool {
        let point = self.token.public_point(self.token.key(&Role::DpPb(bindery::certs::Curve::P256)).unwrap()).unwrap();
        signed.as_ref().is_ok_and(|signature| signature_fits(&point, digest, signature))
    }

    fn calls(&self) -> Calls {
        let calls = |function| self.shim.calls(TOKEN, function) + self.shim.calls("", function);
        Calls {
            open_session: calls("C_OpenSession"),
            login: calls("C_Login"),
            initialize: calls("C_Initialize"),
            finalize: calls("C_Finalize"),
        }
    }

    /// What a batch of signatures with this fault costs the token in other calls.
    fn met(&mut self, fault: Fault) -> Met {
        let lanes = self.lanes(1, quick());
        let before = self.calls();
        self.shim.set(fault);
        let (digests, signed) = self.sign(&lanes, 40);
        let health = lanes.health().pools.remove(0);
        let after = self.calls();
        self.shim.clear_all();
        drop(lanes);
        assert_eq!(self.shim.finalize_overlaps(), 0, "{}", self.shim.overlaps_told());
        Met {
            sound: signed.iter().zip(&digests).filter(|(signed, digest)| self.fits(digest, signed)).count(),
            refused: signed.into_iter().filter_map(Result::err).map(|error| (error.code, error.class)).collect(),
            calls: Calls {
                open_session: after.open_session - before.open_session,
                login: after.login - before.login,
                initialize: after.initialize - before.initialize,
                finalize: after.finalize - before.finalize,
            },
            opened: health.opened,
            breaker: health.breaker,
            faults: health.faults.keys().cloned().collect(),
        }
    }
}

#[derive(Debug)]
struct Met {
    sound: usize,
    refused: Vec<(String, FaultClass)>,
    calls: Calls,
    opened: u64,
    breaker: Breaker,
    faults: Vec<String>,
}

fn quick() -> Rules {
    Rules { pause_from: Duration::from_millis(5), recover_for: Duration::from_secs(20), ..Rules::default() }
}

fn eventually(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "it never happened");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_row_of_the_table_is_handled_as_its_class() {
    let mut bench = Bench::take();
    for (code, name, class) in ROWS {
        let Met { sound, refused, calls, opened, breaker, faults } =
            bench.met(on(&["C_SignInit"]).calls(5, 5).answers(*code));
        assert_eq!(faults, [*name]);
        let own = [((*name).to_owned(), *class)];
        let Calls { open_session, login, initialize, finalize } = calls;
        match class {
            // The item alone; the session goes on.
            Data => {
                assert_eq!((sound, &refused[..]), (39, &own[..]), "{name}");
                assert_eq!((open_session, login, finalize, opened), (0, 0, 0, 0), "{name}");
            }
            // Told, not tried again; the session is closed and the next one found.
            Policy => {
                assert_eq!((sound, &refused[..]), (39, &own[..]), "{name}");
                assert_eq!((open_session, login, finalize, opened), (1, 0, 0, 0), "{name}");
            }
            // A new session (and anchor, for the handles are in doubt), the digest once more; nobody notices.
            Session => {
                assert_eq!((sound, refused.len()), (40, 0), "{name}");
                assert_eq!((open_session, login, finalize, opened), (2, 0, 0, 0), "{name}");
            }
            // The whole way round, once.
            Lost => {
                assert_eq!((sound, refused.len()), (40, 0), "{name}");
                assert_eq!((login, initialize, finalize, opened), (1, 1, 1, 1), "{name}");
                assert_eq!(breaker, Breaker::Closed);
            }
            // No login, no recovery; what was signed before is kept.
            Pin => {
                assert_eq!((sound, refused.len()), (4, 36), "{name}");
                assert!(refused.iter().all(|refused| *refused == own[0]), "{name}: {refused:?}");
                assert_eq!((login, initialize, finalize, opened), (0, 0, 0, 1), "{name}");
                assert_eq!(breaker, Breaker::Out);
            }
        }
    }
}

#[test]
fn a_data_fault_that_leaves_its_operation_open_costs_the_session_and_nothing_else() {
    let mut bench = Bench::take();
    let met = bench.met(on(&["C_Sign"]).calls(5, 5).answers(0x21));
    assert_eq!((met.sound, &met.refused[..]), (39, &[("CKR_DATA_LEN_RANGE".to_owned(), Data)][..]));
    assert!(met.calls.open_session >= 1 && met.calls.finalize == 0, "{met:?}");
}

#[test]
fn a_session_fault_that_comes_back_on_a_fresh_session_is_the_tokens() {
    let mut bench = Bench::take();
    let met = bench.met(on(&["C_SignInit"]).calls(5, 6).answers(0xB3));
    assert_eq!((met.sound, met.refused.len(), met.opened, met.calls.finalize), (40, 0, 1, 1), "{met:?}");
}

#[test]
fn a_storm_of_device_errors_is_weathered_by_one_recoverer() {
    let mut bench = Bench::take();
    let lanes = bench.lanes(4, quick());
    let before = bench.calls();
    bench
        .shim
        .set(on(&["C_SignInit", "C_Sign", "C_OpenSession", "C_GenerateRandom"]).share(0.02).answers(DEVICE_ERROR));
    let (digests, signed) = bench.sign(&lanes, 600);
    assert!(signed.iter().zip(&digests).all(|(signed, digest)| bench.fits(digest, signed)));
    bench.shim.clear_all();
    eventually(|| lanes.health().pools[0].breaker == Breaker::Closed);
    let after = bench.calls();
    let restarts = after.finalize - before.finalize;
    assert!(restarts >= 1, "the storm was one");
    assert!(after.login - before.login <= restarts, "a login for each restart at most");
    assert_eq!(bench.shim.finalize_overlaps(), 0, "{}", bench.shim.overlaps_told());
}

#[test]
fn a_dying_token_does_not_pass_for_bad_data_where_there_is_no_tag() {
    let mut bench = Bench::take();
    let lanes = bench.lanes(1, quick());
    let mut session = lanes.open_session().unwrap();
    let [kek, core] = [Role::SiteKek, Role::Operator("core-demo".into())].map(|role| lanes.key(&role).unwrap());
    bench.shim.set(on(&["C_Decrypt"]).calls(1, 1).answers(0x05));
    assert_eq!(session.decrypt_blocks(core, &[7; 32]).unwrap().len(), 32);
    assert_eq!(bench.shim.injected(TOKEN, "C_Decrypt"), 1);
    // Under GCM the same word is a failed tag.
    let sealed = session.seal(kek, b"aad", b"at rest").unwrap();
    bench.shim.clear_all();
    // The first call asks for the length; with the second the operation has ended, as with a tag that does not fit. Then the older
    // form is tried, whose tag really does not.
    bench.shim.set(on(&["C_Decrypt"]).calls(2, 2).loses_answers(0x05));
    assert_eq!(session.open(kek, b"aad", &sealed).unwrap_err().class, Data);
    assert_eq!(lanes.health().pools[0].opened, 0);
}

#[test]
fn a_token_that_is_in_use_proves_no_second_person() {
    let bench = Bench::take();
    let confirmed = |change: &dyn Fn(&mut Site)| {
        let mut site = Site::open(&bench.yard.site()).unwrap();
        site.config.ceremony.approver_token = Some(TOKEN.to_owned());
        change(&mut site);
        approver::confirm(&site).unwrap_err()
    };
    // The operator's own tokens, the first and the further ones.
    assert_eq!(confirmed(&|_| ()).exit, Exit::Config);
    let further = SlotConfig {
        token_label: TOKEN.to_owned(),
        module: None,
        profile: None,
        pin_file: None,
        pin_env: None,
        lanes: None,
    };
    let one_of_two = confirmed(&|site| {
        site.config.hsm.token_label = "hsm-a".to_owned();
        site.config.hsm.slot = vec![further.clone()];
    });
    assert_eq!(one_of_two.exit, Exit::Config);
    // One that this process is logged in to: the PIN is right, but nobody would have looked at it.
    let logins = bench.shim.calls(TOKEN, "C_Login");
    let logged_in = confirmed(&|site| site.config.hsm.token_label = "hsm-a".to_owned());
    assert_eq!(logged_in.exit, Exit::ApprovalMissing);
    assert!(logged_in.what.contains("logged in to it already"), "{}", logged_in.what);
    assert_eq!(bench.shim.calls(TOKEN, "C_Login"), logins);
}

#[test]
fn a_token_that_grants_fewer_sessions_gets_fewer_lanes_and_is_not_asked_again() {
    let mut bench = Bench::take();
    let held = bench.shim.calls(TOKEN, "C_OpenSession") - bench.shim.calls(TOKEN, "C_CloseSession");
    assert!(held >= 1, "the anchor");
    // Lanes close their sessions after a restart; until then the anchor alone is open.
    bench.shim.set(on(&[]).limits_sessions(3));
    let before = bench.shim.calls(TOKEN, "C_OpenSession");
    let lanes = bench.lanes(8, quick());
    assert_eq!(lanes.count(), 2);
    assert_eq!(bench.shim.calls(TOKEN, "C_OpenSession") - before, 3, "two granted, one refused, no more");
    let (digests, signed) = bench.sign(&lanes, 100);
    assert!(signed.iter().zip(&digests).all(|(signed, digest)| bench.fits(digest, signed)));
    assert_eq!(bench.shim.calls(TOKEN, "C_OpenSession") - before, 3);
}

#[test]
fn calls_besides_signing_survive_a_lost_token_too() {
    let mut bench = Bench::take();
    let lanes = bench.lanes(2, quick());
    let mut session = lanes.open_session().unwrap();
    let [kek, core] = [Role::SiteKek, Role::Transport("core-demo".into())].map(|role| lanes.key(&role).unwrap());
    for functions in [["C_GenerateRandom"], ["C_EncryptInit"], ["C_DecryptInit"]] {
        bench.shim.set(on(&functions).calls(1, 1).answers(DEVICE_REMOVED));
        let sealed = session.seal(kek, b"aad", b"at rest").unwrap();
        assert_eq!(session.open(kek, b"aad", &sealed).unwrap()[..], b"at rest"[..]);
        assert_eq!(session.encrypt_blocks(core, &[7; 32]).unwrap().len(), 32);
        assert_eq!(bench.shim.injected(TOKEN, functions[0]), 1, "{functions:?}");
    }
    assert_eq!(lanes.health().pools[0].opened, 3);
}

// Whole batches, with the real program.

/// A site under the shim and an order of so many devices, submitted.
fn yard_with(records: usize, config: &str) -> (Yard, Shim) {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", records);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let shim = yard.put_shim();
    configure(&yard, config);
    (yard, shim)
}

/// Lines for `[hsm]`.
fn configure(yard: &Yard, lines: &str) {
    let file = yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains("\nlanes = 0\n"));
    fs::write(file, config.replace("\nlanes = 0\n", &format!("\n{lines}\n"))).unwrap();
}

const TWO_SLOTS: &str = "lanes = 2\n\n[[hsm.slot]]\ntoken_label = \"hsm-b\"\n";

/// Two tokens with the same keys: two faces of the one behind the shim.
fn two_slots(records: usize, config: &str) -> (Yard, Shim) {
    let (yard, mut shim) = yard_with(records, &format!("{config}\n{TWO_SLOTS}"));
    shim.show(TOKEN, &[(TOKEN, "A1"), ("hsm-b", "B2")]);
    (yard, shim)
}

fn all_is_issued(yard: &Yard, records: usize) {
    assert_eq!(yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'exported'"), records as i64);
    let secrets = yard.path("fleet/secrets.jsonl");
    let bundle = yard.outbox("PO-1");
    let verified = yard.run(&["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"]);
    verified.exits(0);
}

/// A number that `make soak` gives and `make test` does not.
fn soaked(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn a_token_that_vanishes_in_a_batch_costs_time_and_no_record() {
    let records = soaked("BINDERY_TEST_RECORDS", 300);
    let away = Duration::from_secs(soaked("BINDERY_TEST_AWAY_S", 2) as u64);
    let (yard, mut shim) = yard_with(records, "lanes = 2");
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(2)));
    let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| shim.calls(TOKEN, "C_Sign") > 100);
    let began = Instant::now();
    let gone = shim.set(everywhere().vanishes_until_initialised(DEVICE_REMOVED));
    thread::sleep(away);
    shim.clear(gone);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(began.elapsed() > away);
    assert!(said.contains("breaker open") && said.contains("breaker closed"), "{said}");
    assert_eq!(shim.finalize_overlaps(), 0, "{}", shim.overlaps_told());
    shim.clear_all();
    all_is_issued(&yard, records);
}

#[test]
fn a_token_on_disk_that_is_moved_away_and_back_costs_time_at_most_and_no_record() {
    const RECORDS: usize = 200;
    let (yard, mut shim) = yard_with(RECORDS, "lanes = 2");
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(2)));
    let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| shim.calls(TOKEN, "C_Sign") > 100);
    let [tokens, elsewhere] = match provider() {
        Provider::SoftHsm => ["site/token/tokens", "site/token/elsewhere"],
        Provider::Kryoptic => ["kryoptic.sql", "elsewhere.sql"],
    }
    .map(|path| yard.path(path));
    fs::rename(&tokens, &elsewhere).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    fs::rename(&elsewhere, &tokens).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    // SoftHSM reads its files again and again; kryoptic keeps its one file open, and the run with it.
    let noticed = provider() == Provider::SoftHsm;
    assert_eq!((said.contains("breaker open"), said.contains("breaker closed")), (noticed, noticed), "{said}");
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn a_token_that_stays_away_stops_the_run_and_the_next_one_finishes_it() {
    const RECORDS: usize = 200;
    let (yard, mut shim) = yard_with(RECORDS, "lanes = 2\nrecover_s = 1");
    shim.set(on(&["C_Sign"]).calls(100, u64::MAX).answers(DEVICE_ERROR));
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("CKR_DEVICE_ERROR") && ran.err.contains("hint:"), "{}", ran.err);
    shim.clear_all();
    yard.run(&["run"]).exits(0);
    all_is_issued(&yard, RECORDS);
}

#[test]
fn of_two_slots_one_dies_in_a_batch_and_nobody_waits() {
    const RECORDS: usize = 300;
    let (yard, mut shim) = two_slots(RECORDS, "");
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(2)));
    let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| shim.calls(TOKEN, "C_Sign") > 50 && shim.calls("hsm-b", "C_Sign") > 50);
    shim.set(everywhere().of("hsm-b").vanishes(DEVICE_REMOVED));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("breaker open") && said.contains("hsm-b"), "{said}");
    assert_eq!(shim.finalize_overlaps(), 0, "{}", shim.overlaps_told());
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn a_slot_that_is_away_at_the_start_is_done_without() {
    let (yard, mut shim) = two_slots(20, "");
    shim.set(everywhere().of("hsm-b").vanishes(DEVICE_REMOVED));
    let ran = yard.run(&["run"]).exits(0);
    assert!(ran.err.contains("hsm-b") && ran.err.contains("away"), "{}", ran.err);
    let doctor = yard.run(&["doctor"]).exits(0);
    assert!(doctor.out.contains("warn") && doctor.out.contains("hsm-b"), "{}", doctor.out);
}

#[test]
fn a_dead_slot_in_the_list_hurts_no_other_slot_of_the_module() {
    const RECORDS: usize = 100;
    let (yard, mut shim) = two_slots(RECORDS, "");
    // It stands before the healthy one in the list.
    shim.show(TOKEN, &[("hsm-b", "B2"), (TOKEN, "A1")]);
    shim.set(everywhere().of("hsm-b").dies_in_the_slot_list(DEVICE_ERROR));
    // In a recovery, too: the one that serves is found again beside it.
    shim.set(on(&["C_SignInit"]).of(TOKEN).calls(30, 30).answers(DEVICE_ERROR));
    let ran = yard.run(&["run"]).exits(0);
    assert!(ran.err.contains("hsm-b") && ran.err.contains("away"), "{}", ran.err);
    assert!(ran.err.contains("breaker closed"), "{}", ran.err);
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn two_paths_of_one_library_are_one_module() {
    const RECORDS: usize = 100;
    // The second slot's module is the first one's by another path.
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", RECORDS);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let mut shim = yard.put_shim();
    let link = yard.path("by-another-path.so");
    std::os::unix::fs::symlink(Shim::module(), &link).unwrap();
    let second = |label: &str| format!("lanes = 2\n\n[[hsm.slot]]\ntoken_label = {label:?}\nmodule = {link:?}\n");
    let before = fs::read_to_string(yard.site().join("bindery.toml")).unwrap();
    configure(&yard, &second(TOKEN));
    let ran = yard.run(&["run"]).exits(3);
    assert!(ran.err.contains("two slots name token"), "{}", ran.err);
    fs::write(yard.site().join("bindery.toml"), before).unwrap();
    configure(&yard, &second("hsm-b"));
    shim.show(TOKEN, &[(TOKEN, "A1"), ("hsm-b", "B2")]);
    let initialised = shim.calls("", "C_Initialize");
    yard.run(&["doctor"]).exits(0);
    assert_eq!(shim.calls("", "C_Initialize") - initialised, 1, "one library, one gate");
    // Both die at once, so that the recoverer restarts the module while the other's lanes may still be in a call.
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(2)));
    for token in [TOKEN, "hsm-b"] {
        shim.set(on(&["C_SignInit"]).of(token).calls(20, 24).answers(DEVICE_ERROR));
    }
    let ran = yard.run(&["run"]).exits(0);
    assert!(ran.err.contains("breaker closed"), "{}", ran.err);
    assert_eq!(shim.finalize_overlaps(), 0, "{}", shim.overlaps_told());
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn a_restart_that_the_module_refuses_forgets_no_session() {
    let mut bench = Bench::take();
    let (opened, closed) = (bench.shim.calls(TOKEN, "C_OpenSession"), bench.shim.calls(TOKEN, "C_CloseSession"));
    let lanes = bench.lanes(2, quick());
    bench.shim.set(on(&["C_Finalize"]).answers(0x05));
    bench.shim.set(on(&["C_SignInit"]).calls(5, 12).answers(DEVICE_ERROR));
    let (digests, signed) = bench.sign(&lanes, 200);
    assert!(signed.iter().zip(&digests).all(|(signed, digest)| bench.fits(digest, signed)));
    assert!(lanes.health().pools[0].opened >= 1);
    assert!(bench.shim.injected("", "C_Finalize") >= 1);
    drop(lanes);
    // What was opened since is closed, but for the new anchor, in whose place an old one went.
    let [opened, closed] = [("C_OpenSession", opened), ("C_CloseSession", closed)]
        .map(|(function, before)| bench.shim.calls(TOKEN, function) - before);
    assert_eq!(opened, closed);
    bench.shim.clear_all();
}

#[test]
fn a_slot_that_hangs_loses_its_work_to_the_other_and_the_process_still_ends() {
    const RECORDS: usize = 200;
    let (yard, mut shim) = two_slots(RECORDS, "call_deadline_ms = 300");
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(2)));
    let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| shim.calls("hsm-b", "C_Sign") > 20);
    shim.set(everywhere().of("hsm-b").hangs());
    let output = child.wait_with_output().unwrap(); // with calls still hanging
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("past its deadline") && said.contains("breaker open"), "{said}");
    assert_eq!(shim.finalize_overlaps(), 0, "{}", shim.overlaps_told());
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn a_recovery_that_hangs_holds_up_no_other_slot_of_its_module() {
    const RECORDS: usize = 300;
    let (yard, mut shim) = two_slots(RECORDS, "call_deadline_ms = 300\nrecover_s = 20");
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_millis(10)));
    let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| shim.calls("hsm-b", "C_Sign") > 20 && shim.calls(TOKEN, "C_Sign") > 20);
    let opened = shim.calls("hsm-b", "C_OpenSession");
    shim.set(on(&["C_OpenSession"]).of("hsm-b").hangs());
    shim.set(on(&["C_SignInit"]).of("hsm-b").answers(DEVICE_ERROR));
    eventually(|| shim.calls("hsm-b", "C_OpenSession") > opened); // from here on its recovery hangs
    shim.set(on(&["C_SignInit"]).of(TOKEN).calls(1, 1).answers(DEVICE_ERROR));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let back = said.lines().filter(|line| line.contains("breaker closed")).collect::<Vec<_>>();
    assert!(!back.is_empty() && back.iter().all(|line| line.contains(TOKEN)), "{said}");
    assert_eq!(shim.finalize_overlaps(), 0, "{}", shim.overlaps_told());
    shim.clear_all();
    all_is_issued(&yard, RECORDS);
}

#[test]
fn a_slot_with_another_key_is_refused_by_slot_and_key() {
    let mut yard = Yard::demo();
    let other = Yard::demo();
    put_token_beside(&yard, &other);
    let slot = format!("{TWO_SLOTS}pin_file = \"{}\"\n", other.site().join("token/pin").display());
    configure(&yard, &slot);
    let shim = yard.put_shim();
    let refused = |key: &str| {
        for command in ["doctor", "run"] {
            let ran = yard.run(&[command]).exits(7);
            let said = format!("{}{}", ran.out, ran.err).replace('\n', " ");
            assert!(said.contains("hsm-b") && said.contains(key), "{said}");
        }
    };
    // By the check value that the policy pins; and without one, by what the keys of both slots do.
    refused("bindery/transport/core-demo/1");
    let policy = yard.site().join("key-policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let unpinned = text.lines().filter(|line| !line.starts_with("kcv = "));
    fs::write(&policy, unpinned.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    refused("bindery/dpauth/p256/1");
    drop(shim);
}

/// The other site's token, as `hsm-b`, beside this one's.
fn put_token_beside(yard: &Yard, other: &Yard) {
    if provider() == Provider::Kryoptic {
        let mut octets = fs::read(other.path("kryoptic.sql")).unwrap();
        relabel(&mut octets);
        fs::write(yard.path("second.sql"), octets).unwrap();
        let conf = yard.path("kryoptic.conf");
        let second = format!("[[slots]]\nslot = 2\ndbtype = \"sqlite\"\ndbargs = {:?}\n", yard.path("second.sql"));
        fs::write(&conf, fs::read_to_string(&conf).unwrap() + &second).unwrap();
        return;
    }
    let moved = fs::read_dir(other.site().join("token/tokens")).unwrap().next().unwrap().unwrap();
    let to = yard.site().join("token/tokens").join(moved.file_name());
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(moved.path()).unwrap().map(Result::unwrap) {
        let mut octets = fs::read(file.path()).unwrap();
        if file.file_name() == "token.object" {
            relabel(&mut octets);
        }
        fs::write(to.join(file.file_name()), octets).unwrap();
    }
}

/// "bindery-demo" becomes "hsm-b", padded as PKCS#11 pads.
fn relabel(octets: &mut [u8]) {
    let at = octets.windows(TOKEN.len()).position(|window| window == TOKEN.as_bytes()).unwrap();
    octets[at..at + TOKEN.len()].copy_from_slice(b"hsm-b       ");
}

#[test]
fn a_pin_is_sent_once_whatever_the_token_says_of_it() {
    let (yard, mut shim) = yard_with(5, "lanes = 1");
    for (code, name, _) in ROWS.iter().filter(|(.., class)| *class == Pin) {
        let before = shim.calls(TOKEN, "C_Login");
        let refuses = shim.set(on(&["C_Login"]).answers(*code));
        let ran = yard.run(&["run"]).exits(7);
        assert!(ran.err.contains(name), "{}", ran.err);
        assert_eq!(shim.calls(TOKEN, "C_Login") - before, 1, "{name}");
        shim.clear(refuses);
    }
}

#[test]
fn a_pin_refused_in_a_recovery_is_sent_once_more_and_never_again() {
    let (yard, mut shim) = yard_with(60, "lanes = 2\nrecover_s = 5");
    shim.set(on(&["C_Login"]).calls(2, u64::MAX).answers(0xA0));
    shim.set(on(&["C_SignInit"]).calls(30, 30).answers(DEVICE_ERROR));
    let began = Instant::now();
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("CKR_PIN_INCORRECT"), "{}", ran.err);
    assert!(began.elapsed() < Duration::from_secs(5), "there is nothing to wait for");
    assert_eq!(shim.calls(TOKEN, "C_Login"), 2, "the start's and one");
    shim.clear_all();
    yard.run(&["run"]).exits(0);
}

#[test]
fn a_token_near_its_lock_is_left_alone() {
    let (yard, mut shim) = yard_with(2, "lanes = 1");
    for (after, already) in [(3, 2), (3, 3)] {
        shim.set(on(&["C_Login"]).locks_pin(after, already));
        let before = shim.calls(TOKEN, "C_Login");
        let ran = yard.run(&["run"]).exits(Exit::HsmUnusable as i32);
        assert!(ran.err.contains("no login was tried") || ran.err.contains("vendor's tool"), "{}", ran.err);
        assert_eq!(shim.calls(TOKEN, "C_Login"), before);
        shim.clear_all();
    }
}

/// On three sessions, if there are three.
#[test]
fn data_that_the_token_refuses_fails_its_record_alone() {
    for lanes in [1, 3, 5] {
        let (yard, mut shim) = yard_with(40, &format!("lanes = {lanes}"));
        // What a run signs before its first record: of an order that is held it has none to sign.
        yard.run(&["order", "hold", "PO-1"]).exits(0);
        let before = shim.calls(TOKEN, "C_SignInit");
        yard.run(&["run"]).exits(5);
        let opening = shim.calls(TOKEN, "C_SignInit") - before - 1; // the head of the audit log is signed at the end
        yard.run(&["order", "hold", "PO-1", "--release"]).exits(0);
        // Its first attempt among the forty, the two others behind them.
        for (from, to) in [(opening + 20, opening + 20), (opening + 41, opening + 42)] {
            shim.set(on(&["C_SignInit"]).calls(from, to).answers(0x21));
        }
        yard.run(&["run"]).exits(5);
        assert_eq!(shim.injected(TOKEN, "C_SignInit"), 3);
        assert_eq!(shim.struck_sessions(TOKEN), lanes.min(3), "{lanes} lanes");
        let results = fs::read_to_string(yard.outbox("PO-1").join("results.csv")).unwrap();
        assert_eq!(results.lines().filter(|line| line.contains("hsm_mech")).count(), 1, "{results}");
        assert_eq!(yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'exported'"), 39);
    }
}

#[test]
fn of_two_slots_both_are_tried_before_a_record_fails() {
    let (yard, mut shim) = two_slots(40, "");
    yard.run(&["order", "hold", "PO-1"]).exits(0);
    let calls = |shim: &Shim| [TOKEN, "hsm-b"].map(|token| shim.calls(token, "C_SignInit")).iter().sum::<u64>();
    let before = calls(&shim);
    yard.run(&["run"]).exits(5);
    let opening = calls(&shim) - before - 1;
    yard.run(&["order", "hold", "PO-1", "--release"]).exits(0);
    for (from, to) in [(opening + 20, opening + 20), (opening + 41, opening + 42)] {
        shim.set(on(&["C_SignInit"]).calls(from, to).answers(0x21));
    }
    yard.run(&["run"]).exits(5);
    let struck = [TOKEN, "hsm-b"].map(|token| shim.injected(token, "C_SignInit"));
    assert!(struck == [1, 2] || struck == [2, 1], "{struck:?}");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'exported'"), 39);
}

#[test]
fn a_refusal_by_policy_stops_the_batch_and_says_what_to_do() {
    let (yard, mut shim) = yard_with(40, "lanes = 2");
    shim.set(on(&["C_SignInit"]).calls(20, 20).answers(0x68));
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("CKR_KEY_FUNCTION_NOT_PERMITTED") && ran.err.contains("hint:"), "{}", ran.err);
    shim.clear_all();
    yard.run(&["run"]).exits(0);
    all_is_issued(&yard, 40);
}
