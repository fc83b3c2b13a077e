//! `bindery run` is killed (SIGKILL) at moments nobody chose, again and again; each next run goes on where the last one died, and in
//! the end the books add up. A second runner is turned away as long as the first lives, and no longer.
//!
//! BINDERY_TEST_KILLS: how many kills; BINDERY_TEST_RECORDS: devices of an order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

#[path = "crash/accounts.rs"]
#[allow(dead_code)]
mod accounts;
mod yard;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use accounts::{Sum, claims_add_up, is_complete};
use yard::Yard;

/// As long as a run may take to its first chunk; in a release build the figure of the project, on a developer's build some more.
const NEXT_ISSUED: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Kills at one site: the books are gone through after each, and what that takes grows with the site.
const KILLS_AT_A_SITE: usize = 25;

#[test]
fn runs_that_are_killed_at_any_moment_lose_nothing_and_double_nothing() {
    let (wanted, records) = (number("BINDERY_TEST_KILLS", 12), number("BINDERY_TEST_RECORDS", 2_000));
    let mut moments = Moments(0xD1E5);
    let (mut left, mut at_work) = (wanted, 0);
    while left > 0 {
        let kills = left.min(KILLS_AT_A_SITE);
        at_work += kills_at_a_site(kills, records, &mut moments);
        left -= kills;
    }
    println!("{wanted} kills, {at_work} of runs that had issued");
    assert!(at_work * 4 >= wanted, "the moments were chosen badly: {at_work} of {wanted} had issued anything");
}

/// Kills runs of a site of its own, orders after orders; then every order is there, once. Gives how many had issued something.
fn kills_at_a_site(wanted: usize, records: usize, moments: &mut Moments) -> usize {
    let yard = Yard::demo();
    yard.chunks_of(20);
    keep_token(&yard);
    let (mut orders, mut kills, mut at_work, mut turned_away) = (Vec::new(), 0, 0, 0);
    for run_no in 1.. {
        if kills == wanted {
            break;
        }
        if orders.is_empty() || yard.ledger_count("SELECT count(*) FROM orders WHERE state = 'open'") == 0 {
            orders.push(next_order(&yard, orders.len() + 1, records));
        }
        let issued = || yard.ledger_count("SELECT count(*) FROM issues");
        let before = issued();
        let mut run = start_run(&yard);
        // Moments spread over as long as such an order takes, the first milliseconds too.
        let sleep_us = moments.next() % (records as u64 * if cfg!(debug_assertions) { 400 } else { 100 });
        std::thread::sleep(Duration::from_micros(sleep_us));
        if run_no % 4 == 0 && holds_the_site(&yard, &mut run) {
            let second = yard.run(&["run"]);
            // A second runner waits half a second for the lock. The first may have come to its end meanwhile and is not killed; then
            // the second found nothing or went on.
            if run.try_wait().unwrap().is_none() {
                assert_eq!(second.code, 10, "{}", second.err);
                assert!(second.err.contains(&format!("process {}, since", run.id())), "{}", second.err);
                turned_away += 1;
            }
        }
        run.kill().unwrap();
        let status = run.wait().unwrap();
        assert!(status.signal() == Some(9) || status.code() == Some(0), "{status}");
        if status.signal() == Some(9) {
            kills += 1;
            at_work += usize::from(issued() > before);
            claims_add_up(&yard);
        }
        restore_token(&yard);
    }
    yard.run(&["run"]).exits(0);
    for order in &orders {
        is_complete(&yard, order, Sum { rows: records, bound: records, stored: 0, refused: 0 });
    }
    assert_eq!(yard.ledger_count("SELECT count(*) FROM one_time_keys"), (orders.len() * records) as i64);
    println!(
        "{kills} kills, {at_work} of runs that had issued, {turned_away} second runners, {} orders: all there",
        orders.len()
    );
    at_work
}

#[test]
fn a_killed_run_issues_again_soon_after_the_next_start() {
    let records = number("BINDERY_TEST_RESTART_RECORDS", 600);
    let yard = Yard::demo();
    yard.chunks_of(100.max(records / 100).min(1_000));
    keep_token(&yard);
    next_order(&yard, 1, records);
    let issued = || yard.ledger_count("SELECT count(*) FROM issues") as usize;
    for share in [0.3, 0.6] {
        let mut run = start_run(&yard);
        while issued() < (records as f64 * share) as usize {
            assert!(run.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        restore_token(&yard);
        let (before, started) = (issued(), Instant::now());
        let mut run = start_run(&yard);
        while issued() == before {
            assert!(started.elapsed() < NEXT_ISSUED * 10, "nothing is issued");
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = started.elapsed();
        println!("{before} of {records} issued, killed; next issued {} ms after the next start", took.as_millis());
        assert!(took < NEXT_ISSUED, "{took:?}");
        run.kill().unwrap();
        run.wait().unwrap();
        restore_token(&yard);
    }
    yard.run(&["run"]).exits(0);
    is_complete(&yard, "PO-1", Sum { rows: records, bound: records, stored: 0, refused: 0 });
}

/// An order of the next fleet, W1 and W3 in turn; gives its name.
fn next_order(yard: &Yard, number: usize, records: usize) -> String {
    let fleet = format!("fleet-{number}");
    let keys = yard.fleet(&fleet, records);
    // One file opens the packages of all fleets.
    fs::create_dir_all(yard.path("fleet")).unwrap();
    let mut secrets = File::options().create(true).append(true).open(yard.path("fleet/secrets.jsonl")).unwrap();
    std::io::copy(&mut File::open(yard.path(&fleet).join("secrets.jsonl")).unwrap(), &mut secrets).unwrap();
    let name = format!("PO-{number}");
    let mut order = yard.prebound_order(&name, &keys);
    order.line()["template"] = ["operational@1", "iot-minimal@1"][number % 2].into();
    // Ranges of a million: however many orders the kills take, none meets another's.
    order.line()["iccid"] = serde_json::json!({"first": yard::iccid(&format!("8949{:014}", number * 1_000_000))});
    order.line()["imsi"] = serde_json::json!({"first": format!("00101{:010}", number * 1_000_000)});
    order.submit().exits(0);
    name
}

fn start_run(yard: &Yard) -> Child {
    yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until the run says so in the lock; false when it ended before.
fn holds_the_site(yard: &Yard, run: &mut Child) -> bool {
    let owner = format!("process {}, since", run.id());
    while run.try_wait().unwrap().is_none() {
        if fs::read_to_string(yard.site().join("run.lock")).is_ok_and(|text| text.starts_with(&owner)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// SoftHSM 2.6.1 rewrites token.object in place at each login: who is killed in those milliseconds leaves the token empty. Its
/// files are not Bindery's, and a run changes nothing in them that has to stay.
fn keep_token(yard: &Yard) {
    copy_token(&yard.site(), &yard.path(""));
}

fn restore_token(yard: &Yard) {
    if yard.path("token").exists() {
        fs::remove_dir_all(yard.site().join("token")).unwrap();
        copy_token(&yard.path(""), &yard.site());
    }
}

fn copy_token(from: &Path, to: &Path) {
    if from.join("token").exists() {
        assert!(Command::new("cp").arg("-a").arg(from.join("token")).arg(to).status().unwrap().success());
    }
}

/// The same moments in every test run (xorshift); what they meet differs.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        for shift in [13_i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        self.0
    }
}
