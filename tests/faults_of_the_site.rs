//! Disks that are full or read-only, a clock that jumps back, a ledger that is locked, damaged, newer or gone, a bundle that was
//! edited: each is told with the file and the remedy, ends with the contract's code, and costs nothing once it is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use yard::{Ran, Yard, lines_json};

/// A site with an accepted order.
fn yard_with_order(devices: usize) -> Yard {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", devices);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard
}

/// `bindery --site site ARGS` in a shell that has done `before` first.
fn run_after(yard: &Yard, before: &str, args: &[&str]) -> Ran {
    let prepared = yard.prepared(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}\nexec \"$0\" \"$@\"")]).arg(prepared.get_program()).args(prepared.get_args());
    shell.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(yard.path(""));
    let Output { status, stdout, stderr } = shell.output().unwrap();
    let [out, err] = [stdout, stderr].map(|octets| String::from_utf8(octets).unwrap());
    Ran { code: status.code().unwrap_or(-1), out, err }
}

/// The same in a mount namespace of its own; none where this is not permitted. What is mounted ends with the process.
fn run_mounted(yard: &Yard, mount: &str, args: &[&str]) -> Option<Ran> {
    let works = format!("unshare -m sh -c '{mount}' 2>/dev/null");
    if !Command::new("sh").args(["-c", &works]).status().unwrap().success() {
        return None;
    }
    Some(run_after(
        yard,
        &format!(
            "[ -n \"$INSIDE\" ] || exec env INSIDE=1 unshare -m sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\""
        ),
        args,
    ))
}

/// What every message of a fault has: the code, what it is about, and what to do.
#[track_caller]
fn told(ran: Ran, codes: &[i32], about: &[&str]) {
    assert!(codes.contains(&ran.code), "exit {}\n{}\n{}", ran.code, ran.out, ran.err);
    assert!(ran.err.contains("hint: "), "{}", ran.err);
    assert!(about.iter().all(|word| ran.err.contains(word)), "{about:?}: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

/// Nothing was damaged: the order is finished and is what was ordered.
#[track_caller]
fn assert_finishes(yard: &Yard, devices: usize) {
    yard.run(&["run"]).exits(0);
    let bundle = yard.outbox("PO-1");
    assert_eq!(lines_json(&bundle.join("orders.jsonl")).len(), devices);
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"]).exits(0);
}

#[test]
fn a_disk_that_is_full_stops_the_run_and_it_goes_on_when_there_is_room() {
    let yard = yard_with_order(20);
    let outbox = yard.site().join("outbox");
    let outbox = outbox.to_str().unwrap();
    // A real disk of 64 KiB, with the order's answers on it as they were.
    let small = format!(
        "cp -r {outbox} {outbox}.kept && mount -t tmpfs -o size=64k bindery {outbox} && cp -r {outbox}.kept/. {outbox} && rm -r {outbox}.kept"
    );
    match run_mounted(&yard, &small, &["run"]) {
        Some(ran) => told(ran, &[9], &["PO-1", "No space left"]),
        None => println!("no mounts here: the limit of a file's size stands in for the full disk"),
    }
    // No file may grow beyond 32 KiB: package files, and the ledger's log.
    for _ in 0..2 {
        told(run_after(&yard, "trap '' XFSZ; ulimit -f 64", &["run"]), &[9], &["make room"]);
    }
    assert_finishes(&yard, 20);
}

#[test]
fn a_disk_that_fills_up_while_an_order_is_submitted_accepts_nothing() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 300);
    let order = yard.prebound_order("PO-1", &keys).write();
    let submit = ["order", "submit", order.to_str().unwrap()];
    told(run_after(&yard, "trap '' XFSZ; ulimit -f 128", &submit), &[3], &["submit the same file again"]);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders"), 0);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM one_time_keys"), 0);
    yard.run(&submit).exits(0);
    assert_finishes(&yard, 300);
}

#[test]
fn an_outbox_that_is_full_is_told_a_submitter_with_what_to_do() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let order = yard.prebound_order("PO-1", &keys).write();
    let submit = ["order", "submit", order.to_str().unwrap()];
    let outbox = yard.site().join("outbox");
    let outbox = outbox.to_str().unwrap();
    let full = format!("mount -t tmpfs -o size=4k bindery {outbox} && dd if=/dev/zero of={outbox}/fill bs=4k count=1");
    if let Some(ran) = run_mounted(&yard, &full, &submit) {
        told(ran, &[3], &["No space left", "submit the same file again"]);
    }
    yard.run(&submit).exits(0);
    assert_finishes(&yard, 3);
}

#[test]
fn a_ledger_without_room_stops_every_run_and_none_ends_otherwise() {
    let yard = yard_with_order(20);
    let site = yard.site();
    let site = site.to_str().unwrap();
    // The site on a disk of its own that has no room left.
    let full = format!(
        "cp -a {site} {site}.kept && mount -t tmpfs -o size=8m bindery {site} && cp -a {site}.kept/. {site} && rm -r {site}.kept && \
         {{ dd if=/dev/zero of={site}/fill bs=4k 2>/dev/null || true; }}"
    );
    if let Some(ran) = run_mounted(&yard, &full, &["run"]) {
        told(ran, &[9], &["make room"]);
    }
    assert_finishes(&yard, 20);
}

#[test]
fn a_site_that_is_read_only_can_be_looked_at_and_checked() {
    let yard = yard_with_order(3);
    assert_finishes(&yard, 3);
    let (site, bundle, secrets) = (yard.site(), yard.outbox("PO-1"), yard.path("fleet/secrets.jsonl"));
    let [site, bundle, secrets] = [&site, &bundle, &secrets].map(|path| path.to_str().unwrap());
    let read_only = format!("mount --bind {site} {site} && mount -o remount,bind,ro {site}");
    let commands: [&[&str]; 6] = [
        &["status"],
        &["order", "list"],
        &["order", "show", "PO-1"],
        &["audit", "verify"],
        &["audit", "show"],
        &["verify", bundle, "--secrets", secrets],
    ];
    for args in commands {
        let Some(ran) = run_mounted(&yard, &read_only, args) else { return println!("no mounts here") };
        assert_eq!(ran.code, 0, "{args:?}\n{}\n{}", ran.out, ran.err);
        assert!(!ran.out.is_empty());
    }
    // What would change it says why it does not.
    if let Some(ran) = run_mounted(&yard, &read_only, &["order", "hold", "PO-1"]) {
        assert_eq!(ran.code, 3, "{}", ran.err);
    }
}

#[test]
fn a_result_that_cannot_be_written_is_told_and_the_work_stands() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    let order = yard.prebound_order("PO-1", &keys).write();
    let order = order.to_str().unwrap();
    for args in [&["order", "submit", order][..], &["--json", "run"], &["status"], &["doctor"]] {
        let ran = run_after(&yard, "exec >/dev/full", args);
        told(ran, &[3], &["could not be written", "No space left"]);
    }
    assert_finishes(&yard, 2);
    // A reader that has gone away is no failure.
    for args in [&["status"][..], &["--json", "order", "list"], &["order", "submit", order]] {
        let mut child = yard.prepared(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!((status.code(), String::from_utf8(stderr).unwrap()), (Some(0), String::new()), "{args:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_nothing_is_lost() {
    let yard = yard_with_order(5);
    let outbox = yard.site().join("outbox");
    let text = outbox.to_str().unwrap();
    let read_only = format!("mount --bind {text} {text} && mount -o remount,bind,ro {text}");
    if let Some(ran) = run_mounted(&yard, &read_only, &["run"]) {
        told(ran, &[9], &[text, "Read-only"]);
    }
    // Anywhere: a file where the directory has to be.
    let away = outbox.with_extension("away");
    fs::rename(&outbox, &away).unwrap();
    fs::write(&outbox, "in the way").unwrap();
    told(yard.run(&["run"]), &[3, 9], &[text]);
    let second = yard.stored_order("PO-2", &["89049032123451234512345678901235"]).write();
    told(yard.run(&["order", "submit", second.to_str().unwrap()]), &[3, 9], &[text]);
    let doctor = yard.run(&["--json", "doctor"]);
    assert_eq!(doctor.code, 3);
    assert!(doctor.out.contains("outbox is no directory"), "{}", doctor.out);
    fs::remove_file(&outbox).unwrap();
    fs::rename(&away, &outbox).unwrap();
    assert_finishes(&yard, 5);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders"), 1, "what could not be answered was not accepted");
}

#[test]
fn a_clock_that_was_set_back_stops_what_depends_on_the_day() {
    let yard = yard_with_order(3);
    // Two days before its newest order: the same difference, and no clock of this machine is touched.
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    let accepted_at: String = ledger.query_row("SELECT accepted_at FROM orders", [], |row| row.get(0)).unwrap();
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    ledger.execute("UPDATE orders SET accepted_at = ?1", [ahead.to_string()]).unwrap();
    let second = yard.stored_order("PO-2", &["89049032123451234512345678901235"]).write();
    let commands = [vec!["run"], vec!["order", "submit", second.to_str().unwrap()]];
    for command in &commands {
        told(yard.run(command), &[3], &["clock", "accepted at"]);
    }
    let doctor = yard.run(&["--json", "doctor"]);
    assert_eq!(doctor.code, 3);
    assert!(doctor.out.contains("an order was accepted at"), "{}", doctor.out);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders"), 1);
    // A jump of some minutes is what NTP does.
    let minutes = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(20);
    ledger.execute("UPDATE orders SET accepted_at = ?1", [minutes.to_string()]).unwrap();
    yard.run(&commands[1]).exits(0);
    ledger.execute("UPDATE orders SET accepted_at = ?1 WHERE order_id = 'PO-1'", [accepted_at]).unwrap();
    drop(ledger);
    assert_finishes(&yard, 3);
}

#[test]
fn a_ledger_that_another_process_holds_is_waited_for_and_then_left_alone() {
    let yard = yard_with_order(3);
    let second = yard.stored_order("PO-2", &["89049032123451234512345678901235"]).write();
    let holder = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Side by side: each waits its whole time.
    let commands = [vec!["run"], vec!["order", "submit", second.to_str().unwrap()]];
    let children: Vec<_> = commands
        .iter()
        .map(|args| yard.prepared(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let err = String::from_utf8(stderr).unwrap();
        told(Ran { code: status.code().unwrap(), out: String::new(), err }, &[10], &["another process"]);
    }
    holder.execute_batch("ROLLBACK").unwrap();
    assert_finishes(&yard, 3);
    yard.run(&commands[1]).exits(0);
}

#[test]
fn a_ledger_that_is_damaged_newer_empty_or_gone_is_refused_and_its_backup_is_taken() {
    let yard = yard_with_order(5);
    let path = yard.site().join("state.db");
    let backup = fs::read(&path).unwrap();
    let newer = {
        let copy = yard.path("newer.db");
        fs::write(&copy, &backup).unwrap();
        rusqlite::Connection::open(&copy).unwrap().pragma_update(None, "user_version", 9_999).unwrap();
        fs::read(copy).unwrap()
    };
    let other = {
        let site = tempfile::tempdir().unwrap();
        drop(bindery::store::sqlite::Ledger::open(&site.path().join("state.db")).unwrap());
        fs::read(site.path().join("state.db")).unwrap()
    };
    let flipped = |every: usize| {
        let mut octets = backup.clone();
        (0..octets.len()).step_by(every).for_each(|at| octets[at] ^= 0xFF);
        octets
    };
    let put = |content: Option<&[u8]>| {
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(yard.site().join(name));
        }
        content.iter().for_each(|content| fs::write(&path, content).unwrap());
    };
    let second = yard.stored_order("PO-2", &["89049032123451234512345678901235"]).write();
    let damages: [(&str, Option<Vec<u8>>); 7] = [
        ("its head flipped", Some(flipped(usize::MAX))),
        ("each page's head flipped", Some(flipped(4096))),
        ("cut off in the middle of a page", Some(backup[..backup.len() / 2 + 100].to_vec())),
        ("of a newer version", Some(newer)),
        ("of another site", Some(other)),
        ("of no length", Some(Vec::new())),
        ("gone", None),
    ];
    for (damage, content) in &damages {
        put(content.as_deref());
        for command in
            [vec!["run"], vec!["order", "submit", second.to_str().unwrap()], vec!["status"], vec!["order", "list"]]
        {
            let ran = yard.run(&command);
            assert_eq!(ran.code, 8, "{damage}, {command:?}: {}\n{}", ran.out, ran.err);
            told(ran, &[8], &["ledger"]);
        }
        let doctor = yard.run(&["doctor"]);
        assert_eq!(doctor.code, 8, "{damage}: {}", doctor.out);
        assert_eq!(fs::read(&path).ok().unwrap_or_default(), content.clone().unwrap_or_default(), "{damage}: touched");
    }
    assert!(!yard.outbox("PO-2").join("ack.json").exists());
    put(Some(&backup));
    assert_finishes(&yard, 5);
}

#[test]
fn an_older_ledger_is_told_from_the_outbox() {
    let yard = Yard::demo();
    let path = yard.site().join("state.db");
    let older = fs::read(&path).unwrap();
    let keys = yard.fleet("fleet", 2);
    let order = yard.prebound_order("PO-1", &keys).write();
    yard.run(&["order", "submit", order.to_str().unwrap()]).exits(0);
    let newest = fs::read(&path).unwrap();
    fs::write(&path, older).unwrap();
    let doctor = yard.run(&["doctor"]).exits(8);
    assert!(doctor.out.contains("acme/PO-1"), "{}", doctor.out);
    told(yard.run(&["order", "submit", order.to_str().unwrap()]), &[8], &["acme/PO-1", "ack.json"]);
    fs::write(&path, newest).unwrap();
    assert_finishes(&yard, 2);
}

#[test]
fn a_bundle_that_was_edited_is_noticed_by_whoever_uses_it_again() {
    let yard = yard_with_order(3);
    yard.stored_order("PO-2", &[lines_json(&yard.path("fleet/euicc.jsonl"))[0]["eid"].as_str().unwrap()])
        .submit()
        .exits(0);
    assert_finishes(&yard, 3);
    let unpacked = yard.path("unpacked");
    let edited = |bundle: &Path, name: &str, args: &[&str]| {
        let file = bundle.join(name);
        let sound = fs::read(&file).unwrap();
        let mut changed = sound.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        fs::write(&file, changed).unwrap();
        told(yard.run(args), &[8], &[name]);
        fs::write(&file, sound).unwrap();
    };
    let unpack = ["export", "PO-1", "--unpack", unpacked.to_str().unwrap()];
    for name in ["orders.jsonl", "packages-00001.bpp", "manifest.json"] {
        edited(&yard.outbox("PO-1"), name, &unpack);
    }
    assert!(!unpacked.exists(), "nothing of it was written");
    yard.run(&unpack).exits(0);
    let bundle = yard.outbox("PO-1");
    let secrets = yard.path("fleet/secrets.jsonl");
    let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"];
    let core = fs::read(bundle.join("core.csv")).unwrap();
    fs::write(bundle.join("core.csv"), [&core[..], b"\n"].concat()).unwrap();
    yard.run(&args).exits(8);
    fs::write(bundle.join("core.csv"), core).unwrap();
    let keys = yard.fleet("later", 1);
    fs::write(yard.path("later.jsonl"), format!("{}\n", json!(keys[0]))).unwrap();
    let later = yard.path("later.jsonl");
    edited(&yard.outbox("PO-2"), "orders.jsonl", &["bind", "PO-2", "--euicc-data", later.to_str().unwrap()]);
}
