//! Exits under load are clean: `bindery run` is told to stop at moments nobody chose, with signatures in the token, and always
//! ends by itself: no crash inside the module, no C_Finalize beside a call, nothing lost. BINDERY_TEST_EXITS says how often.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use yard::Yard;
use yard::shim::on;

const TOKEN: &str = "bindery-demo";
const RECORDS: usize = 400;

/// Longer than any drain may take: a process that is still there hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_run_that_is_told_to_stop_ends_cleanly_whenever_that_is() {
    let rounds: u32 = std::env::var("BINDERY_TEST_EXITS").map_or(20, |text| text.parse().unwrap());
    let mut yard = Yard::demo();
    small_chunks(&yard);
    let mut shim = yard.put_shim();
    // Slow enough that a run lasts some 200 ms and calls are in flight nearly all the time.
    shim.set(on(&["C_Sign"]).round_trip(Duration::from_micros(500)));
    let (mut orders, mut stopped, mut at_work) = (0, 0, 0);
    let mut moments = Moments(0x5EED);
    for round in 0..rounds {
        if orders == 0 || yard.ledger_count("SELECT count(*) FROM orders WHERE state = 'open'") == 0 {
            orders += 1;
            let keys = yard.fleet(&format!("fleet-{orders}"), RECORDS);
            yard.prebound_order(&format!("PO-{orders}"), &keys).submit().exits(0);
        }
        let calls = |function| shim.calls(TOKEN, function) + shim.calls("", function);
        let [begun, signed] = ["C_Initialize", "C_Sign"].map(calls);
        let child = yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(moments.next());
        let working = calls("C_Sign") > signed;
        at_work += u32::from(working);
        // Not while the token is being opened: SoftHSM 2.6.1 rewrites token.object in place at each login, and a process that is
        // ended in those milliseconds leaves it empty and the token lost.
        let (status, said) = stop(child, round, working && round % 3 == 2);
        match (status.code(), status.signal()) {
            (Some(0), None) => {} // was done before
            (Some(9), None) => stopped += 1,
            // Before the program could ask for it, a signal does what the system says; the token knows nothing of that run.
            (None, Some(15)) if calls("C_Initialize") == begun => {}
            _ => panic!("round {round}: {status}: {said}"),
        }
        assert_eq!(shim.finalize_overlaps(), 0, "round {round}: {}", shim.overlaps_told());
    }
    println!(
        "{rounds} rounds: {at_work} with signatures under way, {stopped} stopped before their end, {orders} orders"
    );
    // The moments were chosen well: most runs were in the middle of their work, and were stopped there.
    assert!(at_work >= rounds / 4 && stopped >= rounds / 4, "{at_work} at work, {stopped} stopped of {rounds}");
    // And nothing was lost: the orders are finished by whoever comes next.
    yard.run(&["run"]).exits(0);
    let issued = yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'exported'");
    assert_eq!(issued, orders * RECORDS as i64);
}

/// SIGTERM, or a second one soon after, which ends a run at once; gives how it ended and what it said.
fn stop(mut child: Child, round: u32, twice: bool) -> (ExitStatus, String) {
    let terminate = || kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    terminate();
    if twice {
        std::thread::sleep(Duration::from_millis(5));
        terminate(); // not yet waited for: the id is still its own
    }
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("round {round}: still there {PATIENCE:?} after SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    (status, std::io::read_to_string(child.stderr.take().unwrap()).unwrap())
}

/// Chunks of a few records: a drain ends between two of them.
fn small_chunks(yard: &Yard) {
    let file = yard.site().join("bindery.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains("chunk_records = 1000"));
    std::fs::write(file, config.replace("chunk_records = 1000", "chunk_records = 20")).unwrap();
}

/// Moments between 0 and 400 ms after the start, the same in every test run (xorshift).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        for shift in [13_i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        Duration::from_millis(self.0 % 400)
    }
}
