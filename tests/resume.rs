//! A run that is stopped or killed goes on where it stood; two runs do not meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bindery::pipeline::lock::RunLock;
use yard::{Yard, lines_json};

/// A site with an order of several chunks, and the paths a run needs.
fn yard_with_order(devices: usize) -> Yard {
    let yard = Yard::demo();
    let config = fs::read_to_string(yard.site().join("bindery.toml")).unwrap();
    let small_chunks = if config.contains("chunk_records") {
        config
            .lines()
            .map(|l| if l.starts_with("chunk_records") { "chunk_records = 20\n".into() } else { format!("{l}\n") })
            .collect()
    } else {
        format!("{config}\n[run]\nchunk_records = 20\n")
    };
    fs::write(yard.site().join("bindery.toml"), small_chunks).unwrap();
    let keys = yard.fleet("fleet", devices);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard
}

fn start_run(yard: &Yard) -> std::process::Child {
    yard.prepared(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn done_chunks(yard: &Yard) -> i64 {
    yard.ledger_count("SELECT count(*) FROM chunks WHERE done = 1")
}

fn wait_for_chunks(yard: &Yard, chunks: i64) {
    let started = Instant::now();
    while done_chunks(yard) < chunks {
        assert!(started.elapsed() < Duration::from_secs(60), "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn assert_complete(yard: &Yard, devices: usize) {
    let records = lines_json(&yard.outbox("PO-1").join("orders.jsonl"));
    assert_eq!(records.len(), devices);
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", yard.outbox("PO-1").to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"])
        .exits(0);
}

#[test]
fn a_submission_that_was_killed_before_its_answer_is_answered_by_the_run() {
    let yard = yard_with_order(3);
    let answers = ["ack.json", "rejects.csv"].map(|name| yard.outbox("PO-1").join(name));
    let first = answers.each_ref().map(|path| fs::read(path).unwrap());
    fs::remove_dir_all(yard.outbox("PO-1")).unwrap();
    yard.run(&["run"]).exits(0);
    assert_eq!(answers.each_ref().map(|path| fs::read(path).unwrap()), first);
    assert_complete(&yard, 3);
}

#[test]
fn a_killed_run_is_continued_and_nothing_is_lost_or_doubled() {
    let yard = yard_with_order(200);
    let mut kills = 0;
    for chunks in [1, 4, 7] {
        let mut run = start_run(&yard);
        wait_for_chunks(&yard, chunks);
        run.kill().unwrap();
        run.wait().unwrap();
        kills += i64::from(done_chunks(&yard) < 10);
    }
    assert!(kills > 0, "every run was over before it was killed");
    yard.run(&["run"]).exits(0); // the dead runner's lock is free
    assert_complete(&yard, 200);
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn the_first_signal_drains_and_the_run_can_be_continued() {
    let yard = yard_with_order(400);
    let mut run = start_run(&yard);
    wait_for_chunks(&yard, 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let status = run.wait().unwrap();
    // Either it was stopped in between (9) or the signal came after the last chunk (0): never anything else.
    assert!(matches!(status.code(), Some(9 | 0)), "{status:?}");
    yard.run(&["run"]).exits(0);
    assert_complete(&yard, 400);
}

#[test]
fn a_package_file_that_is_not_what_was_written_is_never_signed() {
    let yard = yard_with_order(200);
    yard.run(&["run"]).exits(0);
    // As after a crash between the seal and the ledger's last step.
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.execute("UPDATE orders SET state = 'open'", []).unwrap();
    drop(ledger);
    let first = yard.outbox("PO-1").join("packages-00001.bpp");
    let seal = fs::read(yard.outbox("PO-1").join("manifest.sig")).unwrap();
    let sound = fs::read(&first).unwrap();
    let mut flipped = sound.clone();
    flipped[100] ^= 1;
    for damage in [&flipped[..], &sound[..sound.len() - 100]] {
        fs::write(&first, damage).unwrap();
        let ran = yard.run(&["run"]).exits(8);
        assert!(ran.err.contains("packages-00001.bpp"), "{}", ran.err);
    }
    fs::remove_file(&first).unwrap();
    yard.run(&["run"]).exits(8);
    assert_eq!(fs::read(yard.outbox("PO-1").join("manifest.sig")).unwrap(), seal, "nobody signs it again");
    fs::write(&first, &sound).unwrap();
    yard.run(&["run"]).exits(0);
    assert_complete(&yard, 200);
}

/// The first run writes its rows as they are made, the second out of the ledger.
#[test]
fn rows_that_are_written_as_they_are_made_are_those_that_the_ledger_tells_of() {
    let yard = yard_with_order(100);
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    let change = |sql: &str| assert_eq!(ledger.execute(sql, []).unwrap(), 1, "{sql}");
    change("UPDATE devices SET imsi = '001010999999999' WHERE row = 30"); // not what was ordered: it fails
    change("UPDATE devices SET state = 'cancelled' WHERE row = 31");
    change("UPDATE devices SET state = 'rejected', error_class = 'input' WHERE row = 50");
    yard.run(&["run"]).exits(5);
    let bundle = yard.outbox("PO-1");
    let names = ["orders.jsonl", "core.csv", "activation-codes.csv", "results.csv", "recon.json"];
    let files = || names.map(|name| fs::read_to_string(bundle.join(name)).unwrap());
    let first = files();
    let states = |word: &str| first[3].lines().filter(|line| line.contains(word)).count();
    assert_eq!([",exported,", ",failed,storage,", ",cancelled,", ",rejected,input,"].map(states), [97, 1, 1, 1]);

    // As after a crash before the seal.
    change("UPDATE orders SET state = 'open'");
    names.iter().chain(&["manifest.json", "manifest.sig"]).for_each(|name| fs::remove_file(bundle.join(name)).unwrap());
    yard.run(&["run"]).exits(5);
    assert_eq!(files(), first);
}

#[test]
fn a_template_that_changed_under_an_accepted_order_is_refused_and_the_other_orders_run() {
    let yard = yard_with_order(20);
    let keys = yard.fleet("other", 3);
    let mut other = yard.prebound_order("PO-2", &keys);
    other.line()["template"] = "bootstrap@1".into();
    other.submit().exits(0);
    let template = yard.site().join("templates/operational@1.der");
    let sound = fs::read(&template).unwrap();
    fs::copy(yard.site().join("templates/bootstrap@1.der"), &template).unwrap();
    let ran = yard.run(&["run"]).exits(8);
    assert!(ran.err.contains("PO-1") && ran.err.contains("operational@1"), "{}", ran.err);
    assert!(yard.outbox("PO-2").join("manifest.sig").exists(), "one order's trouble is not the other's");
    fs::write(&template, sound).unwrap();
    yard.run(&["run"]).exits(0);
    assert_complete(&yard, 20);
}

#[test]
fn a_second_runner_is_turned_away_and_told_who_is_at_work() {
    let yard = yard_with_order(20);
    let lock = RunLock::take(&yard.site(), jiff::Timestamp::now()).unwrap();
    let second = yard.run(&["run"]).exits(10);
    assert!(second.err.contains(&format!("process {}", std::process::id())), "{}", second.err);
    drop(lock);
    yard.run(&["run"]).exits(0);
    assert_complete(&yard, 20);
}
