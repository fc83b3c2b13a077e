//! The inbox: what others put there is taken once, when it is finished, answered and filed away, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use yard::{Ran, Yard, rows_csv};

/// Short times, but for those that are given.
fn times<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let short = [["--every", "0.05"], ["--settle", "0.3"], ["--grace", "1.5"], ["--missing", "2"]];
    let left = short.into_iter().filter(|[name, _]| !more.contains(name)).flatten();
    left.chain(more.iter().copied()).collect()
}

/// `order watch --once` with short times.
fn once(yard: &Yard) -> Ran {
    yard.run(&[&["--json", "order", "watch"], &times(&["--once"])[..]].concat())
}

fn events(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A watcher at work, and what it says.
struct Watcher {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watcher {
    fn start(yard: &Yard, more: &[&str]) -> Self {
        let args = [&["--json", "order", "watch"], &times(more)[..]].concat();
        let mut child = yard.prepared(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing it says.
    fn says(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().expect("the watcher has ended").unwrap()).unwrap()
    }

    fn stop(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An order of two stored profiles with its rows in a file; where it was written and the names of its files.
fn order(yard: &Yard, id: &str) -> (PathBuf, [String; 2]) {
    let order = yard.stored_order(id, &EIDS);
    (order.write(), [format!("{id}.json"), format!("{id}.rows.csv")])
}

const EIDS: [&str; 2] = ["89049032123451234512345678901235", "89049032123451234512345678901332"];

fn inbox(yard: &Yard) -> PathBuf {
    yard.site().join("inbox")
}

/// Puts a file of `orders/` into the inbox as one that copies and renames.
fn put(yard: &Yard, name: &str) {
    let hidden = inbox(yard).join(format!(".{name}.part"));
    fs::copy(yard.path("orders").join(name), &hidden).unwrap();
    fs::rename(hidden, inbox(yard).join(name)).unwrap();
}

fn put_all(yard: &Yard, names: &[String]) {
    names.iter().rev().for_each(|name| put(yard, name));
}

/// Files of the inbox, relative to it, but the lock; days as `DAY`.
fn lies(yard: &Yard) -> Vec<String> {
    let inbox = inbox(yard);
    let relative = |path: PathBuf| {
        let path = path.strip_prefix(&inbox).unwrap().to_owned();
        let part = |part: &std::ffi::OsStr| part.to_str().unwrap().to_owned();
        let is_day = |part: &str| part.len() == 10 && part.as_bytes()[4] == b'-';
        let parts = path.iter().map(part).map(|part| if is_day(&part) { "DAY".to_owned() } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let mut found: Vec<_> = yard::files_below(&inbox).into_iter().map(relative).collect();
    found.retain(|name| name != ".watch.lock");
    found.sort();
    found
}

fn verdict(yard: &Yard, id: &str) -> Option<String> {
    let ack = fs::read(yard.outbox(id).join("ack.json")).ok()?;
    Some(serde_json::from_slice::<Value>(&ack).unwrap()["verdict"].as_str().unwrap().to_owned())
}

fn accepted_orders(yard: &Yard) -> i64 {
    yard.ledger_count("SELECT count(*) FROM orders")
}

#[test]
fn an_order_that_comes_by_rename_is_answered_and_filed_away_with_what_belongs_to_it() {
    let yard = Yard::demo();
    let mut watcher = Watcher::start(&yard, &[]);
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    let said = watcher.says();
    assert_eq!(
        (&said["event"], &said["verdict"], &said["order"]),
        (&"answered".into(), &"accepted".into(), &"acme/PO-1".into())
    );
    assert_eq!(verdict(&yard, "PO-1").as_deref(), Some("accepted"));
    assert!(yard.outbox("PO-1").join("rejects.csv").exists());
    assert_eq!(lies(&yard), ["done/DAY/PO-1.json", "done/DAY/PO-1.rows.csv"]);
    assert!(Path::new(said["filed"].as_str().unwrap()).is_file());
    // What it took can be run: exactly as if it had been submitted.
    assert_eq!(watcher.stop(Signal::SIGTERM), Some(0));
    yard.run(&["run"]).exits(0);
}

#[test]
fn a_marker_vouches_for_a_file_at_once_and_an_older_marker_does_not() {
    let yard = Yard::demo();
    let (_, names) = order(&yard, "PO-1");
    // So long that only the marker can be the reason.
    let mut watcher = Watcher::start(&yard, &["--settle", "3600"]);
    fs::write(inbox(&yard).join("PO-1.ready"), "").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    put_all(&yard, &names);
    // fs::copy makes new times: the marker is older than what it stands for.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(accepted_orders(&yard), 0);
    for marker in ["PO-1.rows.csv.ready", "PO-1.json.ready"] {
        fs::write(inbox(&yard).join(marker), "").unwrap();
    }
    assert_eq!(watcher.says()["verdict"], "accepted");
    assert_eq!(lies(&yard), ["done/DAY/PO-1.json", "done/DAY/PO-1.rows.csv"], "markers have served");
    assert_eq!(watcher.stop(Signal::SIGINT), Some(0));
}

#[test]
fn a_slow_writer_is_waited_for_and_nothing_half_written_is_taken() {
    let yard = Yard::demo();
    let (path, names) = order(&yard, "PO-1");
    let mut watcher = Watcher::start(&yard, &["--grace", "60"]);
    put(&yard, &names[1]);
    let text = fs::read(&path).unwrap();
    let mut file = fs::File::create(inbox(&yard).join(&names[0])).unwrap();
    for piece in text.chunks(text.len() / 6 + 1) {
        // Longer than it takes to settle: it is looked at half-written, more than once.
        std::thread::sleep(Duration::from_millis(450));
        assert_eq!(accepted_orders(&yard), 0);
        assert!(!yard.outbox("PO-1").exists());
        file.write_all(piece).unwrap();
    }
    let said: Vec<_> = (0..8).map(|_| watcher.says()).take_while(|said| said["event"] == "waiting").collect();
    assert_eq!(said.len(), 1, "told once: {said:?}");
    assert_eq!(verdict(&yard, "PO-1").as_deref(), Some("accepted"));
    watcher.stop(Signal::SIGTERM);
}

#[test]
fn an_order_that_stays_cut_short_is_refused_after_the_grace_time_with_the_reason_beside_it() {
    let yard = Yard::demo();
    let (path, names) = order(&yard, "PO-1");
    let mut watcher = Watcher::start(&yard, &[]);
    let text = fs::read(&path).unwrap();
    let started = Instant::now();
    fs::write(inbox(&yard).join(&names[0]), &text[..text.len() / 2]).unwrap();
    assert_eq!(watcher.says()["event"], "waiting");
    let said = watcher.says();
    assert!(started.elapsed() > Duration::from_millis(1500), "not before its time");
    assert_eq!((&said["event"], &said["codes"][0]), (&"refused".into(), &"json".into()));
    assert_eq!(lies(&yard), ["rejected/PO-1.json", "rejected/PO-1.json.ack.json", "rejected/PO-1.json.rejects.csv"]);
    let rejects = rows_csv(&inbox(&yard).join("rejected/PO-1.json.rejects.csv"));
    assert!(rejects[0]["message"].contains("line ") && !rejects[0]["hint"].is_empty(), "{rejects:?}");
    assert_eq!((accepted_orders(&yard), yard.outbox("PO-1").exists()), (0, false));
    // The whole file, sent again, is taken.
    put_all(&yard, &names);
    assert_eq!(watcher.says()["verdict"], "accepted");
    watcher.stop(Signal::SIGTERM);
}

#[test]
fn companions_may_come_later_than_the_order_and_piece_by_piece() {
    let yard = Yard::demo();
    let (_, names) = order(&yard, "PO-1");
    let mut watcher = Watcher::start(&yard, &["--grace", "60"]);
    put(&yard, &names[0]);
    let said = watcher.says();
    assert_eq!(said["event"], "waiting");
    assert!(said["what"].as_str().unwrap().contains("PO-1.rows.csv is not there"), "{said}");
    let rows = fs::read(yard.path("orders").join(&names[1])).unwrap();
    let mut file = fs::File::create(inbox(&yard).join(&names[1])).unwrap();
    file.write_all(&rows[..rows.len() / 2]).unwrap();
    let said = watcher.says();
    assert!(said["what"].as_str().unwrap().contains("PO-1.rows.csv is not finished"), "{said}");
    assert_eq!(accepted_orders(&yard), 0);
    file.write_all(&rows[rows.len() / 2..]).unwrap();
    assert_eq!(watcher.says()["verdict"], "accepted");
    watcher.stop(Signal::SIGTERM);
}

#[test]
fn companions_that_never_come_or_never_fit_reject_the_order_with_the_reason_in_its_outbox() {
    let yard = Yard::demo();
    let [(_, missing), (_, torn)] = ["PO-1", "PO-2"].map(|id| order(&yard, id));
    let mut watcher = Watcher::start(&yard, &["--missing", "1"]);
    put(&yard, &missing[0]);
    put_all(&yard, &torn);
    fs::write(inbox(&yard).join(&torn[1]), "row,eid\n").unwrap();
    let mut answered = 0;
    while answered < 2 {
        let said = watcher.says();
        if said["event"] == "answered" {
            assert_eq!((&said["verdict"], &said["exit"]), (&"rejected".into(), &4.into()));
            answered += 1;
        }
    }
    let code = |id: &str| rows_csv(&yard.outbox(id).join("rejects.csv"))[0]["code"].clone();
    assert_eq!([code("PO-1"), code("PO-2")], ["file", "sha256-mismatch"]);
    assert_eq!(lies(&yard), ["rejected/PO-1.json", "rejected/PO-2.json", "rejected/PO-2.rows.csv"]);
    watcher.stop(Signal::SIGTERM);
}

#[test]
fn the_same_order_again_gets_the_first_answer_and_another_body_under_its_key_a_conflict() {
    let yard = Yard::demo();
    let (path, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    let ran = once(&yard).exits(0);
    assert_eq!(events(&ran)[0]["repeated"], false);
    let first = fs::read(yard.outbox("PO-1").join("ack.json")).unwrap();
    put(&yard, &names[0]); // without its rows: the ledger knows the answer
    assert_eq!(events(&once(&yard).exits(0))[0]["repeated"], true);
    let changed = fs::read_to_string(&path).unwrap().replace("\"Test\"", "\"Toast\"");
    fs::write(inbox(&yard).join("other.json"), changed).unwrap();
    let ran = once(&yard).exits(6);
    assert_eq!(events(&ran)[0]["verdict"], "duplicate");
    assert_eq!(fs::read(yard.outbox("PO-1").join("ack.json")).unwrap(), first);
    let conflict = rows_csv(&inbox(&yard).join("rejected/other.json.rejects.csv"));
    assert_eq!(conflict[0]["code"], "duplicate-order");
    let archive = ["done/DAY/2/PO-1.json", "done/DAY/PO-1.json", "done/DAY/PO-1.rows.csv", "rejected/other.json"];
    assert!(archive.iter().all(|name| lies(&yard).contains(&(*name).to_owned())), "{:?}", lies(&yard));
    assert_eq!(accepted_orders(&yard), 1);
}

#[test]
fn what_is_no_order_is_answered_beside_it_and_pipes_links_and_huge_files_do_no_harm() {
    let yard = Yard::demo();
    let at = |name: &str| inbox(&yard).join(name);
    fs::write(at("list.json"), "[1, 2]").unwrap();
    fs::write(at("empty.json"), "").unwrap();
    fs::File::create(at("huge.json")).unwrap().set_len(5 << 20).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link.json")).unwrap();
    nix::unistd::mkfifo(&at("pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("directory.json")).unwrap();
    fs::write(at("notes.txt"), "nobody's").unwrap();
    fs::write(at(".hidden.json"), "{").unwrap();
    let mut watcher = Watcher::start(&yard, &[]);
    let mut codes = std::collections::BTreeMap::new();
    while codes.len() < 5 {
        let said = watcher.says();
        if said["event"] == "refused" {
            codes.insert(said["file"].as_str().unwrap().to_owned(), said["codes"][0].as_str().unwrap().to_owned());
        }
    }
    let told: Vec<_> = codes.iter().map(|(file, code)| (file.as_str(), code.as_str())).collect();
    let expected = [
        ("empty.json", "json"),
        ("huge.json", "file-too-large"),
        ("link.json", "file"),
        ("list.json", "wrong-type"),
        ("pipe.json", "file"),
    ];
    assert_eq!(told, expected);
    watcher.stop(Signal::SIGTERM);
    assert!(at("notes.txt").exists() && at(".hidden.json").exists() && at("directory.json").exists());
    for (file, _) in told {
        assert!(fs::symlink_metadata(at(&format!("rejected/{file}"))).is_ok(), "{file}");
        let rejects = rows_csv(&at(&format!("rejected/{file}.rejects.csv")));
        assert!(!rejects[0]["message"].is_empty() && !rejects[0]["hint"].is_empty(), "{rejects:?}");
        assert!(!format!("{rejects:?}").contains("root:"), "a link leads nowhere");
    }
}

#[test]
fn a_file_that_another_order_names_stays_for_it() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 4);
    let (first, second) = keys.split_at(2);
    let shared: String = keys.iter().map(|key| format!("{key}\n")).collect();
    for (id, keys) in [("PO-1", first), ("PO-2", second)] {
        let mut order = yard.prebound_order(id, keys);
        order.file("euicc_data", "keys.jsonl", &shared);
        order.write();
    }
    put(&yard, "keys.jsonl");
    for name in ["PO-1.rows.csv", "PO-1.json", "PO-2.json"] {
        put(&yard, name);
    }
    let ran = once(&yard);
    let answered: Vec<_> = events(&ran).into_iter().filter(|event| event["event"] == "answered").collect();
    assert_eq!(answered.len(), 1, "{answered:?}");
    assert_eq!(ran.code, 9, "PO-2 waits for its rows");
    assert!(inbox(&yard).join("keys.jsonl").exists());
    put(&yard, "PO-2.rows.csv");
    once(&yard).exits(0);
    assert_eq!([verdict(&yard, "PO-1"), verdict(&yard, "PO-2")].map(Option::unwrap), ["accepted", "accepted"]);
    assert!(!inbox(&yard).join("keys.jsonl").exists(), "the last one takes it along");
}

#[test]
fn two_watchers_of_one_directory_do_not_meet() {
    let yard = Yard::demo();
    let mut watcher = Watcher::start(&yard, &[]);
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    assert_eq!(watcher.says()["verdict"], "accepted");
    let second = once(&yard).exits(10);
    assert!(second.err.contains(&format!("process {}", watcher.child.id())), "{}", second.err);
    assert_eq!(watcher.stop(Signal::SIGINT), Some(0));
    once(&yard).exits(0);
    assert!(!yard.site().join("inbox/missing").exists());
    let missing = yard.run(&["order", "watch", yard.path("nowhere").to_str().unwrap()]).exits(3);
    assert!(missing.err.contains("nowhere") && missing.err.contains("hint"), "{}", missing.err);
}

#[test]
fn a_watcher_killed_at_any_moment_loses_and_doubles_nothing() {
    let yard = Yard::demo();
    let mut moment = 0;
    for round in 0..12_u32 {
        let (_, names) = order(&yard, &format!("PO-{round}"));
        put_all(&yard, &names);
        let mut child = yard
            .prepared(&["order", "watch", "--every", "0.005", "--settle", "0.02"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before it begins to after it has filed the order away.
        std::thread::sleep(Duration::from_millis(moment));
        moment += 12;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    once(&yard).exits(0);
    assert_eq!(accepted_orders(&yard), 12);
    for round in 0..12 {
        assert_eq!(verdict(&yard, &format!("PO-{round}")).as_deref(), Some("accepted"));
    }
    let left = lies(&yard);
    assert!(left.iter().all(|name| name.starts_with("done/DAY/")), "{left:?}");
    assert_eq!(left.len(), 24, "each order and its rows once: {left:?}");
}

#[test]
fn an_order_that_was_accepted_before_the_crash_and_not_filed_away_is_filed_away() {
    let yard = Yard::demo();
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    let file = inbox(&yard).join(&names[0]);
    yard.run(&["order", "submit", file.to_str().unwrap()]).exits(0); // as far as the watcher came
    fs::remove_file(yard.outbox("PO-1").join("ack.json")).unwrap();
    assert_eq!(events(&once(&yard).exits(0))[0]["repeated"], true);
    assert_eq!(lies(&yard), ["done/DAY/PO-1.json", "done/DAY/PO-1.rows.csv"]);
    assert_eq!(verdict(&yard, "PO-1").as_deref(), Some("accepted"), "the answer that was lost");
    assert_eq!(accepted_orders(&yard), 1);
}

#[test]
fn an_order_that_cannot_be_answered_now_stays_and_is_taken_when_the_trouble_is_over() {
    let yard = Yard::demo();
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    let (outbox, away) = (yard.site().join("outbox"), yard.path("away"));
    fs::rename(&outbox, &away).unwrap();
    fs::write(&outbox, "in the way").unwrap();
    let ran = once(&yard).exits(3);
    let event = &events(&ran)[0];
    assert_eq!((&event["event"], &event["file"], &event["exit"]), (&"error".into(), &"PO-1.json".into(), &3.into()));
    assert!(ran.err.contains("outbox") && ran.err.contains("hint: "), "{}", ran.err);
    assert_eq!(lies(&yard), ["PO-1.json", "PO-1.rows.csv"]);
    fs::remove_file(&outbox).unwrap();
    fs::rename(away, &outbox).unwrap();
    once(&yard).exits(0);
    assert_eq!(verdict(&yard, "PO-1").as_deref(), Some("accepted"));
}

#[test]
fn accepted_orders_are_run_when_that_is_asked_for() {
    let yard = Yard::demo();
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    yard.run(&["order", "watch", "--once", "--run", "--settle", "0.1", "--every", "0.05"]).exits(0);
    assert!(yard.outbox("PO-1").join("manifest.sig").exists());
}

#[test]
fn a_file_that_cannot_be_filed_away_does_not_stop_the_others() {
    let yard = Yard::demo();
    let inbox = inbox(&yard);
    let long = format!("{}.json", "a".repeat(227));
    fs::write(inbox.join(&long), "{\"no\": \"order\"}").unwrap();
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    let ran = once(&yard);
    ran.exits(4);
    assert_eq!(verdict(&yard, "PO-1").as_deref(), Some("accepted"));
    let lying = lies(&yard);
    assert!(lying.contains(&format!("rejected/{long}")), "{lying:?}");
    assert_eq!(lying.iter().filter(|name| name.contains("a~") && name.ends_with(".rejects.csv")).count(), 1);

    // A shelf that is a file, then one that leads out: the order that needs it waits, the others go their way.
    let elsewhere = yard.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(inbox.join("rejected"), yard.path("rejected")).unwrap();
    for (id, is_link) in [("PO-2", false), ("PO-3", true)] {
        if is_link {
            fs::remove_file(inbox.join("rejected")).unwrap();
            std::os::unix::fs::symlink(&elsewhere, inbox.join("rejected")).unwrap();
        } else {
            fs::write(inbox.join("rejected"), "in the way").unwrap();
        }
        fs::write(inbox.join("0.json"), "{\"no\": \"order\"}").unwrap();
        let (_, names) = order(&yard, id);
        put_all(&yard, &names);
        let ran = once(&yard);
        assert_eq!(ran.code, 3, "{}", ran.err);
        assert!(ran.err.contains("rejected") && ran.err.contains("hint: "), "{}", ran.err);
        assert_eq!(verdict(&yard, id).as_deref(), Some("accepted"), "{}", ran.err);
        assert!(inbox.join("0.json").exists());
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(inbox.join("rejected")).unwrap();
    once(&yard).exits(4);
    assert!(inbox.join("rejected/0.json.rejects.csv").exists() && !inbox.join("0.json").exists());
}

#[test]
fn a_closed_terminal_ends_a_watcher_as_ctrl_c_does_unless_it_was_told_not_to_hear_of_it() {
    let yard = Yard::demo();
    let mut watcher = Watcher::start(&yard, &[]);
    let (_, names) = order(&yard, "PO-1");
    put_all(&yard, &names);
    watcher.says();
    assert_eq!(watcher.stop(Signal::SIGHUP), Some(0));

    let prepared = yard.prepared(&[&["--json", "order", "watch"], &times(&[])[..]].concat());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(prepared.get_program()).args(prepared.get_args());
    shell.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = shell.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut watcher = Watcher { child, lines };
    for id in ["PO-2", "PO-3"] {
        let (_, names) = order(&yard, id);
        put_all(&yard, &names);
        watcher.says();
        kill(Pid::from_raw(watcher.child.id() as i32), Signal::SIGHUP).unwrap();
    }
    assert_eq!(watcher.stop(Signal::SIGTERM), Some(0));
}
