//! The fault shim itself: each kind of fault once, before the token of this run. A tool that other tests believe has to be shown to work.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Limit, Slot};
use cryptoki::types::AuthPin;
use cryptoki_sys::{CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_FUNCTION_FAILED, CKR_GENERAL_ERROR};
use yard::provider::provider;
use yard::shim::{Shim, everywhere, on};

const TOKEN: &str = "shimmed";
const PIN: &str = "123456";
const CHILD: &str = "BINDERY_TEST_CHILD";

/// The shim, its token, and this process's one PKCS#11 context: one test at a time.
struct Bench {
    shim: Shim,
    context: Pkcs11,
    _token: tempfile::TempDir,
}

impl Bench {
    /// Initialised, without faults, nobody logged in.
    fn take() -> MutexGuard<'static, Self> {
        static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();
        let bench = BENCH.get_or_init(|| Mutex::new(Self::make()));
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        bench.shim.clear_all();
        bench.shim.show(TOKEN, &[]);
        bench.restart();
        bench
    }

    fn make() -> Self {
        let token = tempfile::tempdir().unwrap();
        let conf = token.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", token.path().display());
        std::fs::write(&conf, text).unwrap();
        let shim = Shim::before(provider().module());
        let softhsm = ("SOFTHSM2_CONF", conf.to_str().unwrap().to_owned());
        let environment = provider().token_beside(token.path()).into_iter().chain([softhsm]).chain(shim.environment());
        for (name, value) in environment {
            bindery::ffi::set_environment(name, value.as_ref());
        }
        let bench = Self { shim, context: Pkcs11::new(Shim::module()).unwrap(), _token: token };
        bench.initialize();
        let free = bench.context.get_slots_with_token().unwrap()[0];
        bench.context.init_token(free, &pin("so-pin"), TOKEN).unwrap();
        let session = bench.context.open_rw_session(bench.slot(TOKEN)).unwrap();
        session.login(UserType::So, Some(&pin("so-pin"))).unwrap();
        session.init_pin(&pin(PIN)).unwrap();
        session.logout().unwrap();
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        let p256 = Attribute::EcParams(vec![0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]);
        let public = [Attribute::Token(true), p256];
        let private = [Attribute::Token(true), Attribute::Sign(true), Attribute::Label(b"key".to_vec())];
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).unwrap();
        drop(session);
        bench
    }

    fn initialize(&self) {
        self.context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    }

    fn restart(&self) {
        let _ = self.context.clone().finalize();
        self.initialize();
    }

    fn labels(&self) -> Vec<String> {
        let slots = self.context.get_slots_with_token().unwrap();
        let infos = slots.into_iter().map(|slot| self.context.get_token_info(slot).unwrap());
        infos.filter(|info| info.token_initialized()).map(|info| info.label().to_owned()).collect()
    }

    fn slot(&self, label: &str) -> Slot {
        let mut slots = self.context.get_slots_with_token().unwrap().into_iter();
        slots.find(|slot| self.context.get_token_info(*slot).unwrap().label() == label).unwrap()
    }

    /// A logged-in session and the key.
    fn open(&self, label: &str) -> (Session, ObjectHandle) {
        let session = self.context.open_ro_session(self.slot(label)).unwrap();
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        let key = key(&session);
        (session, key)
    }
}

fn pin(text: &str) -> AuthPin {
    AuthPin::new(Box::from(text))
}

fn key(session: &Session) -> ObjectHandle {
    session.find_objects(&[Attribute::Label(b"key".to_vec()), Attribute::Sign(true)]).unwrap()[0]
}

fn sign(session: &Session, key: ObjectHandle) -> Result<(), RvError> {
    code(session.sign(&Mechanism::Ecdsa, key, &[7; 32])).map(|signature| assert_eq!(signature.len(), 64))
}

#[track_caller]
fn code<T>(outcome: Result<T, Error>) -> Result<T, RvError> {
    outcome.map_err(|error| match error {
        Error::Pkcs11(code, _) => code,
        other => panic!("{other}"),
    })
}

#[test]
fn calls_pass_through_and_are_counted_by_token_and_function() {
    let bench = Bench::take();
    let before = |function| bench.shim.calls(TOKEN, function);
    let [logins, inits, signs] = ["C_Login", "C_SignInit", "C_Sign"].map(before);
    let (session, key) = bench.open(TOKEN);
    (0..5).for_each(|_| sign(&session, key).unwrap());
    let after = ["C_Login", "C_SignInit", "C_Sign"].map(before);
    // A signature of the cryptoki crate is three calls: it asks for the length first.
    assert_eq!(after, [logins + 1, inits + 5, signs + 10]);
    assert_eq!(bench.shim.calls("another", "C_Sign"), 0);
}

#[test]
fn a_code_comes_on_the_calls_that_were_chosen() {
    let mut bench = Bench::take();
    let (session, key) = bench.open(TOKEN);
    let outcomes = |bench: &mut Bench, fault, count| {
        let id = bench.shim.set(fault);
        let all: Vec<bool> = (0..count).map(|_| sign(&session, key).is_ok()).collect();
        bench.shim.clear(id);
        all
    };
    let fault = || on(&["C_SignInit"]).answers(CKR_DEVICE_ERROR);
    assert_eq!(outcomes(&mut bench, fault().calls(3, 3), 5), [true, true, false, true, true]);
    assert_eq!(outcomes(&mut bench, fault().calls(2, 4), 5), [true, false, false, false, true]);
    assert_eq!(outcomes(&mut bench, fault(), 3), [false; 3]);
    assert_eq!(outcomes(&mut bench, fault().of("another"), 3), [true; 3]);
    assert_eq!(outcomes(&mut bench, fault().of(TOKEN), 3), [false; 3]);
    let some = outcomes(&mut bench, fault().share(0.3), 400).into_iter().filter(|ok| !ok).count();
    assert!((80..160).contains(&some), "{some}");
    assert!(outcomes(&mut bench, on(&["C_Login"]).answers(CKR_DEVICE_ERROR), 3).into_iter().all(|ok| ok));
    // By function and class, exactly the code that was asked for.
    let fault = bench.shim.set(everywhere().answers(CKR_FUNCTION_FAILED));
    assert_eq!(sign(&session, key), Err(RvError::FunctionFailed));
    bench.shim.clear(fault);
    sign(&session, key).unwrap();
}

#[test]
fn a_fault_with_a_time_ends_by_itself() {
    let mut bench = Bench::take();
    let (session, key) = bench.open(TOKEN);
    let fault = on(&["C_SignInit"]).answers(CKR_GENERAL_ERROR).lasting(Duration::from_millis(150));
    bench.shim.set(fault);
    assert_eq!(sign(&session, key), Err(RvError::GeneralError));
    thread::sleep(Duration::from_millis(160));
    sign(&session, key).unwrap();
}

#[test]
fn a_lost_answer_leaves_the_modules_work_done() {
    let mut bench = Bench::take();
    let (session, key) = bench.open(TOKEN);
    let fault = bench.shim.set(on(&["C_SignInit"]).calls(1, 1).loses_answers(CKR_DEVICE_ERROR));
    assert_eq!(sign(&session, key), Err(RvError::DeviceError));
    // The module began the operation that the caller believes failed: the session is poisoned, as with real ones.
    assert_eq!(sign(&session, key), Err(RvError::OperationActive));
    bench.shim.clear(fault);
}

#[test]
fn round_trips_and_engines_take_their_time() {
    let mut bench = Bench::take();
    let (session, key) = bench.open(TOKEN);
    let ms = Duration::from_millis;
    let fault = bench.shim.set(on(&["C_SignInit"]).round_trip(ms(20)));
    let start = Instant::now();
    sign(&session, key).unwrap();
    assert!((ms(20)..ms(500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    bench.shim.clear(fault);

    // Two engines of 20 ms: 12 calls of six threads cannot be done before 120 ms, while one engine would need 240.
    bench.shim.set(on(&["C_SignInit"]).engines(2, ms(20)));
    let sessions: Vec<_> = (0..6).map(|_| bench.context.open_ro_session(bench.slot(TOKEN)).unwrap()).collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for session in sessions {
            scope.spawn(move || (0..2).for_each(|_| sign(&session, key).unwrap()));
        }
    });
    assert!((ms(120)..ms(235)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(bench.shim.most_in_flight(TOKEN) >= 3);
}

#[test]
fn a_hanging_call_comes_back_when_it_is_released() {
    let mut bench = Bench::take();
    let (session, key) = bench.open(TOKEN);
    let fault = bench.shim.set(on(&["C_Sign"]).hangs());
    thread::scope(|scope| {
        let hanging = scope.spawn(move || sign(&session, key));
        thread::sleep(Duration::from_millis(100));
        assert!(!hanging.is_finished());
        // Other functions and sessions go on.
        bench.context.open_ro_session(bench.slot(TOKEN)).unwrap();
        bench.shim.clear(fault);
        hanging.join().unwrap().unwrap();
    });
}

#[test]
fn a_pin_locks_after_wrong_ones_and_says_so_before() {
    let mut bench = Bench::take();
    let fault = bench.shim.set(on(&["C_Login"]).locks_pin(3, 1));
    let slot = bench.slot(TOKEN);
    let flags = |bench: &Bench| {
        let info = bench.context.get_token_info(slot).unwrap();
        [info.user_pin_count_low(), info.user_pin_final_try(), info.user_pin_locked()]
    };
    let session = bench.context.open_ro_session(slot).unwrap();
    let login = |text| code(session.login(UserType::User, Some(&pin(text))));
    assert_eq!(flags(&bench), [true, false, false]);
    assert_eq!(login("wrong-1"), Err(RvError::PinIncorrect));
    assert_eq!(flags(&bench), [true, true, false]);
    assert_eq!(login("wrong-2"), Err(RvError::PinIncorrect));
    assert_eq!(flags(&bench), [true, false, true]);
    assert_eq!(bench.shim.wrong_pins(TOKEN), 2);
    let reached = bench.shim.injected(TOKEN, "C_Login");
    assert_eq!(login(PIN), Err(RvError::PinLocked));
    assert_eq!(bench.shim.injected(TOKEN, "C_Login"), reached + 1);
    bench.shim.clear(fault);
    login(PIN).unwrap();
    assert_eq!(bench.shim.wrong_pins(TOKEN), 0);
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_the_limit_is_told() {
    let mut bench = Bench::take();
    let slot = bench.slot(TOKEN);
    let told = |bench: &Bench| bench.context.get_token_info(slot).unwrap().max_session_count();
    assert!(!matches!(told(&bench), Limit::Max(_)));
    bench.shim.set(everywhere().of(TOKEN).limits_sessions(3));
    assert!(matches!(told(&bench), Limit::Max(3)));
    let mut open: Vec<_> = (0..3).map(|_| bench.context.open_ro_session(slot).unwrap()).collect();
    assert_eq!(code(bench.context.open_ro_session(slot)).err(), Some(RvError::SessionCount));
    open.pop();
    open.push(bench.context.open_ro_session(slot).unwrap());
    assert_eq!(code(bench.context.open_ro_session(slot)).err(), Some(RvError::SessionCount));
}

#[test]
fn a_token_that_was_away_knows_no_old_handle() {
    let mut bench = Bench::take();
    let (session, object) = bench.open(TOKEN);
    let slot = bench.slot(TOKEN);
    let fault = bench.shim.set(everywhere().of(TOKEN).vanishes(CKR_DEVICE_REMOVED));
    assert_eq!(sign(&session, object), Err(RvError::DeviceRemoved));
    assert_eq!(code(bench.context.get_token_info(slot)).err(), Some(RvError::DeviceRemoved));
    assert!(bench.labels().is_empty(), "{:?}", bench.labels());
    bench.shim.clear(fault);
    assert_eq!(bench.labels(), [TOKEN]);
    assert_eq!(sign(&session, object), Err(RvError::SessionHandleInvalid));
    // A new session is not logged in, an old object handle is nothing, and after a login and a search all is well.
    let again = bench.context.open_ro_session(slot).unwrap();
    assert_eq!(again.get_session_info().unwrap().session_state(), SessionState::RoPublic);
    again.login(UserType::User, Some(&pin(PIN))).unwrap();
    assert_eq!(sign(&again, object), Err(RvError::KeyHandleInvalid));
    sign(&again, key(&again)).unwrap();
}

#[test]
fn a_dead_token_may_stay_in_the_slot_list() {
    let mut bench = Bench::take();
    bench.shim.show(TOKEN, &[("hsm-a", "A1"), ("hsm-b", "B2")]);
    bench.restart();
    bench.shim.set(everywhere().of("hsm-a").dies_in_the_slot_list(CKR_DEVICE_ERROR));
    let slots = bench.context.get_slots_with_token().unwrap();
    let told = slots.iter().map(|slot| code(bench.context.get_token_info(*slot)).map(|info| info.label().to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), [Err(RvError::DeviceError), Ok("hsm-b".to_owned())]);
}

#[test]
fn a_token_may_come_back_only_for_who_initialises_anew() {
    let mut bench = Bench::take();
    let (session, object) = bench.open(TOKEN);
    let time = Duration::from_millis(100);
    bench.shim.set(everywhere().of(TOKEN).vanishes_until_initialised(CKR_DEVICE_ERROR).lasting(time));
    assert_eq!(sign(&session, object), Err(RvError::DeviceError));
    // Too early: the token is still away, and so it stays for this initialisation.
    bench.restart();
    thread::sleep(time);
    assert!(bench.labels().is_empty());
    bench.restart();
    assert_eq!(bench.labels(), [TOKEN]);
    let (session, object) = bench.open(TOKEN);
    sign(&session, object).unwrap();
}

#[test]
fn two_faces_of_one_token_have_their_own_login_and_their_own_faults() {
    let mut bench = Bench::take();
    bench.shim.show(TOKEN, &[("hsm-a", "A1"), ("hsm-b", "B2")]);
    bench.restart();
    assert_eq!(bench.labels(), ["hsm-a", "hsm-b"]);
    let info = |label| bench.context.get_token_info(bench.slot(label)).unwrap();
    assert_eq!((info("hsm-a").serial_number(), info("hsm-b").serial_number()), ("A1", "B2"));
    let (one, key_one) = bench.open("hsm-a");
    // The other is not logged in because the first is, and knows a wrong PIN.
    let other = bench.context.open_ro_session(bench.slot("hsm-b")).unwrap();
    assert_eq!(other.get_session_info().unwrap().session_state(), SessionState::RoPublic);
    let key_other = key(&other);
    assert_eq!(sign(&other, key_other), Err(RvError::UserNotLoggedIn));
    assert_eq!(code(other.login(UserType::User, Some(&pin("wrong")))), Err(RvError::PinIncorrect));
    other.login(UserType::User, Some(&pin(PIN))).unwrap();
    sign(&other, key_other).unwrap();
    assert_eq!(code(other.login(UserType::User, Some(&pin(PIN)))), Err(RvError::UserAlreadyLoggedIn));
    // One dies.
    bench.shim.set(everywhere().of("hsm-a").vanishes(CKR_DEVICE_REMOVED));
    assert_eq!(sign(&one, key_one), Err(RvError::DeviceRemoved));
    sign(&other, key_other).unwrap();
    assert_eq!(bench.labels(), ["hsm-b"]);
    assert!(bench.shim.calls("hsm-b", "C_Sign") > 0 && bench.shim.wrong_pins("hsm-b") == 0);
    // Logging out of one leaves the other in.
    bench.shim.clear_all();
    let (one, key_one) = bench.open("hsm-a");
    other.logout().unwrap();
    assert_eq!(sign(&other, key_other), Err(RvError::UserNotLoggedIn));
    sign(&one, key_one).unwrap();
}

#[test]
fn a_finalize_that_meets_a_call_is_counted_and_told() {
    let mut bench = Bench::take();
    let before = bench.shim.finalize_overlaps();
    let slot = bench.slot(TOKEN);
    let fault = bench.shim.set(on(&["C_GetTokenInfo"]).hangs());
    thread::scope(|scope| {
        let context = bench.context.clone();
        let hanging = scope.spawn(move || code(context.get_token_info(slot)).err());
        thread::sleep(Duration::from_millis(50));
        bench.context.clone().finalize().unwrap();
        bench.shim.clear(fault);
        assert_eq!(hanging.join().unwrap(), Some(RvError::CryptokiNotInitialized));
    });
    assert_eq!(bench.shim.finalize_overlaps(), before + 1);
    assert!(bench.shim.overlaps_told().contains("in flight: C_GetTokenInfo x1"), "{}", bench.shim.overlaps_told());
    bench.initialize();
    bench.context.clone().finalize().unwrap();
    assert_eq!(bench.shim.finalize_overlaps(), before + 1, "a quiet C_Finalize is none");
}

/// Not a test by itself: signs until it is killed, telling each signature.
#[test]
#[ignore = "started by another test, in an environment of its own"]
fn child() {
    assert!(std::env::var_os(CHILD).is_some());
    let context = Pkcs11::new(Shim::module()).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_ro_session(slot).unwrap();
    session.login(UserType::User, Some(&pin(PIN))).unwrap();
    let key = key(&session);
    for _ in 0..50 {
        sign(&session, key).unwrap();
    }
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn counts_survive_a_kill_to_the_last_call() {
    let bench = Bench::take();
    let before = ["C_SignInit", "C_Login"].map(|function| bench.shim.calls(TOKEN, function));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child"])
        .env(CHILD, "1")
        .output()
        .unwrap()
        .status;
    assert!(!status.success() && status.code().is_none(), "killed: {status}");
    let after = ["C_SignInit", "C_Login"].map(|function| bench.shim.calls(TOKEN, function));
    assert_eq!(after, [before[0] + 50, before[1] + 1]);
}

/// What a call through the shim costs; run by `make soak`.
#[test]
#[ignore = "a measurement"]
fn overhead() {
    let bench = Bench::take();
    let (session, _) = bench.open(TOKEN);
    let rounds = 1_000_000;
    let start = Instant::now();
    for _ in 0..rounds {
        session.get_session_info().unwrap();
    }
    println!("C_GetSessionInfo through the shim: {} ns", start.elapsed().as_nanos() / rounds);
}

/// Run by `make soak`: signatures a second of a network HSM with 0.5 ms round trip and four engines of 0.2 ms, by threads.
#[test]
#[ignore = "a measurement"]
fn network_hsm() {
    let mut bench = Bench::take();
    let (_login, key) = bench.open(TOKEN);
    bench.shim.set(on(&["C_SignInit"]).round_trip(Duration::from_micros(500)));
    bench.shim.set(on(&["C_SignInit"]).engines(4, Duration::from_micros(200)));
    for threads in [1, 2, 8, 16, 32] {
        let sessions: Vec<_> =
            (0..threads).map(|_| bench.context.open_ro_session(bench.slot(TOKEN)).unwrap()).collect();
        let (rounds, start) = (1_000, Instant::now());
        thread::scope(|scope| {
            for session in sessions {
                scope.spawn(move || (0..rounds).for_each(|_| sign(&session, key).unwrap()));
            }
        });
        println!("{threads} threads: {:.0} signatures/s", f64::from(threads * rounds) / start.elapsed().as_secs_f64());
    }
}
