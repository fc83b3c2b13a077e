//! The audit log of a real site: what stands in it, who may check it, and that nothing happens without its line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bindery::audit::{Event, Word};
use bindery::store::sqlite::Ledger;
use serde_json::{Value, json};
use yard::{Yard, files_below, lines_json, rows_csv};

impl Yard {
    fn audit_dir(&self) -> PathBuf {
        self.site().join("audit")
    }

    /// Lines of the log, all files.
    fn audit_lines(&self) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(self.audit_dir()).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
        files.sort();
        files.iter().flat_map(|path| lines_json(path)).collect()
    }

    fn audit_events(&self) -> Vec<String> {
        self.audit_lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    fn first_file(&self) -> PathBuf {
        self.audit_dir().join("audit-000000000001.jsonl")
    }
}

fn yard_with_run(devices: usize) -> Yard {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", devices);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    yard
}

#[test]
fn a_run_is_told_line_by_line_signed_and_named_in_the_manifest() {
    let yard = yard_with_run(5);
    let events = yard.audit_events();
    let told = [
        "log-begun",
        "order-accepted",
        "run-begun",
        "batch-key-made",
        "chunk-bound",
        "order-exported",
        "run-ended",
        "head-signed",
    ];
    assert_eq!(events, told);
    let lines = yard.audit_lines();
    let chunk = &lines[4]["data"];
    assert_eq!((&chunk["order"], &chunk["issued"], &chunk["failed"]), (&json!("acme/PO-1"), &json!(5), &json!(0)));
    let manifest = fs::read(yard.outbox("PO-1").join("manifest.json")).unwrap();
    assert_eq!(lines[5]["data"]["manifest_sha256"], yard::sha256_hex(&manifest));
    // Closing began when the chunk was the last line: `prev` of the next one is its hash.
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["audit_head"], lines[5]["prev"]);
    let verdict = yard.run(&["--json", "audit", "verify"]).exits(0).json();
    assert_eq!((&verdict["ok"], &verdict["lines"], &verdict["signed_to"]), (&json!(true), &json!(8), &json!(7)));
    let status = yard.run(&["--json", "keys", "status"]).exits(0).json();
    assert_eq!(verdict["signed_by"], json!([status["audit_key_sha256"]]));
    let shown = yard.run(&["audit", "show", "--order", "PO-1"]).exits(0).out;
    assert!(shown.lines().all(|line| line.chars().count() <= 100) && shown.contains("chunk-bound"), "{shown}");
    assert!(!shown.contains("run-begun"), "{shown}");
}

#[test]
fn openssl_and_sha256sum_agree_with_the_log() {
    let yard = yard_with_run(2);
    let dir = yard.audit_dir();
    let openssl = |file: &str| {
        let args = ["dgst", "-sha256", "-verify", "head.pub.pem", "-signature", "head.sig", file];
        Command::new("openssl").args(args).current_dir(&dir).output().unwrap()
    };
    assert!(openssl("head.txt").status.success());
    let head = fs::read_to_string(dir.join("head.txt")).unwrap();
    fs::write(dir.join("other.txt"), head.replace("seq ", "seq 1")).unwrap();
    assert!(!openssl("other.txt").status.success());
    // The head that is signed is the hash of that line, by the tools of every machine.
    let seq = head.lines().nth(1).unwrap().strip_prefix("seq ").unwrap();
    let script = format!("sed -n {seq}p audit-000000000001.jsonl | sha256sum");
    let sum = Command::new("sh").args(["-c", &script]).current_dir(&dir).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(head.lines().nth(2).unwrap(), format!("sha256 {}", &sum[..64]));
}

#[test]
fn a_changed_or_missing_line_ends_the_check_with_8_and_its_place() {
    let yard = yard_with_run(2);
    let sound = fs::read_to_string(yard.first_file()).unwrap();
    fs::write(yard.first_file(), sound.replace("\"issued\":2", "\"issued\":3")).unwrap();
    let ran = yard.run(&["--json", "audit", "verify"]).exits(8);
    assert_eq!(ran.json()["broken"]["file"], "audit-000000000001.jsonl");
    assert_eq!((&ran.json()["broken"]["seq"], ran.json()["ok"].as_bool()), (&json!(5), Some(false)));
    let end = sound.trim_end().rfind('\n').unwrap() + 1;
    fs::write(yard.first_file(), &sound[..end]).unwrap();
    let ran = yard.run(&["audit", "verify"]).exits(8);
    assert!(ran.err.contains("the ledger knows 8 lines"), "{}", ran.err);
    // And nothing is written behind the gap.
    let keys = yard.fleet("other", 1);
    let ran = yard.prebound_order("PO-2", &keys).submit().exits(8);
    assert!(ran.err.contains("audit verify") && ran.err.contains("line 8"), "{}", ran.err);
    fs::write(yard.first_file(), sound).unwrap();
    yard.prebound_order("PO-2", &keys).submit().exits(0);
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn without_a_place_for_its_line_nothing_is_accepted_and_nothing_is_issued() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let blocked = |is_blocked: bool| {
        let away = yard.path("away");
        if is_blocked {
            if yard.audit_dir().exists() {
                fs::rename(yard.audit_dir(), &away).unwrap();
            }
            fs::write(yard.audit_dir(), b"").unwrap();
        } else {
            fs::remove_file(yard.audit_dir()).unwrap();
            if away.exists() {
                fs::rename(&away, yard.audit_dir()).unwrap();
            }
        }
    };
    blocked(true);
    let ran = yard.prebound_order("PO-1", &keys).submit().exits(3);
    assert!(ran.err.contains("audit") && ran.err.contains("hint:"), "{}", ran.err);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders"), 0);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM iccids"), 0);
    blocked(false);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    blocked(true);
    yard.run(&["run"]).exits(3);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices WHERE state <> 'accepted'"), 0);
    blocked(false);
    yard.run(&["run"]).exits(0);
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_lost_log_stops_every_change_until_it_is_begun_anew_as_documented() {
    let yard = yard_with_run(3);
    fs::rename(yard.audit_dir(), yard.site().join("audit.lost")).unwrap();
    let more = yard.fleet("more", 2);
    let order = yard.prebound_order("PO-2", &more);
    let told = order.submit().exits(8);
    assert!(told.err.contains("When the log is lost"), "{}", told.err);
    yard.run(&["audit", "verify"]).exits(8);
    // The step that docs/audit.md names.
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    assert!(ledger.execute("DELETE FROM audit_heads", []).unwrap() > 0);
    drop(ledger);
    order.submit().exits(0);
    yard.run(&["run"]).exits(0);
    yard.run(&["audit", "verify"]).exits(0);
    assert_eq!(yard.audit_events()[..2], ["log-begun", "order-accepted"]);
}

#[test]
fn a_full_disk_under_the_log_stops_the_run_before_the_commit_and_the_next_goes_on() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    // A log close to the size that this process may write, everything else far below it.
    let ledger = Ledger::open(&yard.site().join("state.db")).unwrap();
    let filler = "x".repeat(1 << 20);
    (0..8).for_each(|_| _ = ledger.record(&Event::new(Word::RunBegun).name("command", filler.as_str())).unwrap());
    drop(ledger);
    let blocks = fs::metadata(yard.first_file()).unwrap().len().div_ceil(512);
    // Room for the run's beginning and the batch key's line, not for the chunk's.
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", blocks + 1);
    let prepared = yard.prepared(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", &limit, "sh"]).arg(prepared.get_program()).args(prepared.get_args());
    prepared.get_envs().for_each(|(name, value)| {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    });
    let ran = command.output().unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(9), "{err}");
    assert!(err.contains("audit log") && err.contains("make room"), "{err}");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices WHERE state <> 'accepted'"), 0);
    yard.run(&["audit", "verify"]).exits(0);
    yard.run(&["run"]).exits(0);
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_torn_line_is_cut_off_and_told_of_by_the_next_command() {
    let yard = yard_with_run(2);
    let mut text = fs::read(yard.first_file()).unwrap();
    text.extend(br#"{"seq":9,"at":"2026"#);
    fs::write(yard.first_file(), text).unwrap();
    let verdict = yard.run(&["--json", "audit", "verify"]).exits(0).json();
    assert!(verdict["warnings"][0].as_str().unwrap().contains("torn line of 19 octets"), "{verdict}");
    yard.run(&["run"]).exits(0);
    assert!(yard.audit_events().contains(&"repaired".to_owned()));
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn several_commands_write_at_once_and_the_chain_is_one() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 60);
    yard.prebound_order("PO-0", &keys[..20]).submit().exits(0);
    let orders: Vec<_> = (1..5)
        .map(|n| yard.prebound_order(&format!("PO-{n}"), &keys[20 + 10 * (n - 1)..20 + 10 * n]).write())
        .collect();
    let mut all: Vec<_> = orders
        .iter()
        .map(|path| yard.prepared(&["order", "submit", path.to_str().unwrap()]))
        .chain([yard.prepared(&["run", "PO-0"])])
        .map(|mut command| command.stdout(Stdio::null()).spawn().unwrap())
        .collect();
    all.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    yard.run(&["audit", "verify"]).exits(0);
    let events = yard.audit_events();
    assert_eq!(events.iter().filter(|event| *event == "order-accepted").count(), 5);
    assert_eq!(events.iter().filter(|event| *event == "void").count(), 0);
    let writers: BTreeSet<u64> = yard.audit_lines().iter().map(|line| line["by"]["pid"].as_u64().unwrap()).collect();
    assert!(writers.len() >= 6);
}

#[test]
fn a_rotated_audit_key_is_told_of_under_the_old_one_and_both_are_believed() {
    let yard = yard_with_run(2);
    let old = yard.run(&["--json", "keys", "status"]).exits(0).json()["audit_key_sha256"].clone();
    yard.run(&["keys", "rotate", "audit"]).exits(0);
    let new = yard.run(&["--json", "keys", "status"]).exits(0).json()["audit_key_sha256"].clone();
    assert_ne!(old, new);
    let verdict = yard.run(&["--json", "audit", "verify"]).exits(0).json();
    assert_eq!(verdict["signed_by"], json!([old, new]));
    let lines = yard.audit_lines();
    let made = lines.iter().position(|line| line["data"]["key_sha256"] == new).unwrap();
    assert_eq!((&lines[made]["event"], &lines[made]["data"]["role"]), (&json!("key-rotated"), &json!("audit")));
    assert_eq!((&lines[made + 1]["event"], &lines[made + 1]["data"]["key_sha256"]), (&json!("head-signed"), &old));
    let pem = yard.audit_dir().join(format!("keys/{}.pub.pem", new.as_str().unwrap()));
    let ran = yard.run(&["audit", "verify", "--key", pem.to_str().unwrap()]).exits(8);
    assert!(ran.err.contains("not believed"), "{}", ran.err);
}

#[test]
fn a_changed_configuration_is_told_of_with_both_hashes() {
    let yard = yard_with_run(2);
    let file = yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# changed\n{config}")).unwrap();
    yard.run(&["run"]).exits(0);
    yard.run(&["run"]).exits(0);
    let lines = yard.audit_lines();
    let changes: Vec<&Value> = lines.iter().filter(|line| line["event"] == "config-changed").collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["data"]["before"], yard::sha256_hex(config.as_bytes()));
    assert_eq!(changes[0]["data"]["file"], "bindery.toml");
}

#[test]
fn neither_logs_nor_the_audit_log_name_a_subscriber_an_euicc_or_a_secret() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    let debug = [("BINDERY_LOG", "debug")];
    let mut told = String::new();
    let mut stored = yard.stored_order("PO-2", &eids[..3]);
    stored.line()["confirmation_code"] = json!("4711-CODE");
    stored.line()["vars"] = json!({"pin1": "91827364"});
    told += &stored.submit_with(&debug).exits(0).err;
    told += &yard.prebound_order("PO-1", &keys).submit_with(&debug).exits(0).err;
    told += &yard.prebound_order("PO-3", &keys[..1]).submit_with(&debug).err; // keys that are used
    told += &yard.run_with(&["run"], &debug).exits(0).err;
    let fresh = yard.fleet("fresh", 3);
    told +=
        &yard.run_with(&["bind", "PO-2", "--euicc-data", yard.path("fresh/euicc.jsonl").to_str().unwrap()], &debug).err;
    let core: Vec<_> =
        ["PO-1", "PO-2"].iter().flat_map(|order| rows_csv(&yard.outbox(order).join("core.csv"))).collect();
    let results: Vec<_> =
        ["PO-1", "PO-2"].iter().flat_map(|order| rows_csv(&yard.outbox(order).join("results.csv"))).collect();
    told += &yard.run_with(&["order", "purge", "PO-2", "--unfinished", "--yes"], &debug).exits(0).err;
    for path in files_below(&yard.audit_dir()) {
        told += &String::from_utf8_lossy(&fs::read(path).unwrap());
    }
    assert!(told.contains("order-purged"));
    let transport = fs::read_to_string(yard.site().join("core-demo.key")).unwrap();
    let mut silent: Vec<String> = vec!["4711-CODE".into(), "91827364".into(), transport.trim().to_owned()];
    silent.push(fs::read_to_string(yard.site().join("token/pin")).unwrap().trim().to_owned());
    silent.extend(keys.iter().chain(&fresh).map(|key| key["eid"].as_str().unwrap().to_owned()));
    for row in &core {
        for column in ["ki_enc", "opc_enc"] {
            silent.push(row[column].clone());
            silent.push(clear(&transport, &row[column]));
        }
        silent.push(row["imsi"].clone());
    }
    silent.extend(results.iter().flat_map(|row| [row["iccid"].clone(), row["matching_id"].clone()]));
    assert!(silent.len() > 60);
    for word in silent {
        assert!(word.len() >= 6, "{word:?} proves nothing");
        assert!(!told.to_lowercase().contains(&word.to_lowercase()), "{word} is told");
    }
}

/// What stands under the core network's key.
fn clear(key: &str, hex: &str) -> String {
    use openssl::symm::{Cipher, Crypter, Mode};
    let decode = |text: &str| data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).unwrap();
    let (key, data) = (decode(key), decode(hex));
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Decrypt, &key, None).unwrap();
    crypter.pad(false);
    let mut out = vec![0; data.len() + 16];
    let len = crypter.update(&data, &mut out).unwrap();
    data_encoding::HEXLOWER.encode(&out[..len])
}
