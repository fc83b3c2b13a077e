//! The closed lists of what can go wrong - exit codes, error classes of records, refusal codes of orders - against what the tests
//! provoke: an entry that nothing provokes, or a test that is gone, fails here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bindery::certs::{Curve, DpRole, test_pki::TestPki};
use bindery::config::Site;
use bindery::pipeline::lock::RunLock;
use openssl::ec::PointConversionForm;
use openssl::x509::X509;
use serde_json::json;
use yard::{Ran, Yard, rows_csv};

/// Classes of records: who provokes them through the real binary.
const OF_RECORDS: &[(&str, &str, &str)] = &[
    ("input", "tests/import.rs", "what_shows_only_when_it_is_decrypted_fails_its_row_alone"),
    ("duplicate", "tests/import.rs", "one_key_in_two_chunks_is_seen_also_when_the_order_goes_on_later"),
    ("eligibility", "tests/curves.rs", "chains_taken_away_between_order_and_run_fail_their_records_alone"),
    ("hsm_mech", "tests/hsm_faults.rs", "data_that_the_token_refuses_fails_its_record_alone"),
    ("storage", "tests/variables.rs", "a_number_that_the_order_does_not_give_the_row_fails_that_record_alone"),
];

/// Classes that no command can be brought to give, and why.
const NOT_OF_RECORDS: &[(&str, &str)] = &[
    ("range", "a range that ends is told at `order submit` (range-exhausted), before there is a record"),
    (
        "template",
        "a template is tried at `order submit` (template-unfit, value-unfit); held by the unit tests of `personalise`",
    ),
    ("cert", "certificates of keys are judged at `order submit` and `bind`, ours stop the command (exit 11)"),
    ("hsm_busy", "a token that is busy is asked again, then it is lost (exit 7)"),
    ("hsm_down", "a token that is gone stops the run (exit 7); its records stay accepted"),
    (
        "crypto_selfcheck",
        "needs a wrong result of our own code; held by the unit tests of `personalise::audit` and `pipeline`",
    ),
    ("export", "a bundle that cannot be written stops the run (exit 3 or 9); its records stay bound"),
    ("internal", "a bug"),
];

/// What a fault says: which file or record, why, what to do.
#[track_caller]
fn told(ran: Ran, code: i32, about: &[&str]) {
    let Ran { err, .. } = ran.exits(code);
    assert!(err.contains("hint: "), "{code}: no remedy in\n{err}");
    about.iter().for_each(|word| assert!(err.contains(word), "{code}: no {word:?} in\n{err}"));
}

#[test]
fn every_exit_code_is_provoked_and_says_what_and_what_to_do() {
    let yard = Yard::demo();
    let site = yard.site();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // 1 is a bug, by definition nobody's to provoke; 9 stands in tests/resume.rs and tests/faults_of_the_site.rs.
    yard.run(&["order", "list"]).exits(0);
    told(yard.run(&["order", "show", "PO-0"]), 2, &["PO-0"]);
    let config = fs::read_to_string(site.join("bindery.toml")).unwrap();
    fs::write(site.join("bindery.toml"), format!("colour = \"red\"\n{config}")).unwrap();
    told(yard.run(&["order", "list"]), 3, &["bindery.toml", "colour"]);
    fs::write(site.join("bindery.toml"), &config).unwrap();

    let keys = yard.fleet("fleet", 4);
    let mut order = yard.prebound_order("PO-1", &keys[..2]);
    let eid = keys[0]["eid"].as_str().unwrap();
    order.rows(&format!("row,eid\n1,{eid}\n2,{eid}\n"), 2);
    told(order.submit(), 4, &["row 2", "eid"]);
    let rejects = rows_csv(&yard.outbox("PO-1").join("rejects.csv"));
    assert_eq!((rejects[0]["row"].as_str(), rejects[0]["code"].as_str()), ("2", "duplicate-eid"));
    assert!(["column", "value", "message", "hint"].iter().all(|part| !rejects[0][*part].is_empty()), "{rejects:?}");
    order.header["accept"] = json!("partial");
    told(order.submit(), 5, &["row 2"]);
    order.header["due"] = json!("2030-01-01T00:00:00Z");
    told(order.submit(), 6, &["another body", "rev"]);

    let missing = config.lines().find(|line| line.starts_with("module = ")).unwrap();
    fs::write(site.join("bindery.toml"), config.replace(missing, "module = \"/no/such/module.so\"")).unwrap();
    told(yard.run(&["run"]), 7, &["/no/such/module.so"]);
    fs::write(site.join("bindery.toml"), &config).unwrap();

    let away = site.join("state.db.away");
    fs::rename(site.join("state.db"), &away).unwrap();
    told(yard.run(&["run"]), 8, &["state.db", "ledger.id"]);
    fs::rename(&away, site.join("state.db")).unwrap();

    let lock = RunLock::take(&site, jiff::Timestamp::now()).unwrap();
    told(yard.run(&["run"]), 10, &["process"]);
    drop(lock);

    let chain = expired_chain(&yard);
    told(yard.run(&["run"]), 11, &["DPpb"]);
    fs::write(&chain.0, &chain.1).unwrap();

    yard.stored_order("PO-2", &[keys[2]["eid"].as_str().unwrap()]).submit().exits(0);
    yard.run(&["run"]).exits(0);
    // Keys of other eUICCs than the order's.
    let foreign = yard.path("foreign.jsonl");
    fs::write(&foreign, format!("{}\n", keys[3])).unwrap();
    told(yard.run(&["bind", "PO-2", "--euicc-data", &text(&foreign)]), 12, &["one-time key"]);

    yard.stored_order("PO-3", &[keys[3]["eid"].as_str().unwrap()]).submit().exits(0);
    told(yard.run(&["order", "purge", "PO-3", "--yes"]), 13, &["PO-3"]);
}

/// Puts a DPpb certificate in place that ended years ago; gives the file and what stood in it.
fn expired_chain(yard: &Yard) -> (PathBuf, Vec<u8>) {
    let file = yard.site().join("certs/dppb/dppb.pem");
    let sound = fs::read(&file).unwrap();
    let key = X509::from_pem(&sound).unwrap().public_key().unwrap().ec_key().unwrap();
    let mut context = openssl::bn::BigNumContext::new().unwrap();
    let point = key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
    let pki = TestPki::load(&Site::open(&yard.site()).unwrap(), Curve::P256).unwrap();
    let long_ago = "2015-01-01T00:00:00Z".parse().unwrap();
    let der = pki.issue_dp(DpRole::Pb, "2.999.10", &point.try_into().unwrap(), long_ago).unwrap();
    fs::write(&file, X509::from_der(&der).unwrap().to_pem().unwrap()).unwrap();
    (file, sound)
}

#[test]
fn every_error_class_of_records_is_provoked_by_a_test_or_has_a_reason_not_to_be() {
    let source = fs::read_to_string("src/error.rs").unwrap();
    let words: BTreeSet<&str> = source
        .lines()
        .filter(|line| line.trim().starts_with("Self::") && line.contains("=> \""))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    let listed = OF_RECORDS.iter().map(|(class, ..)| *class).chain(NOT_OF_RECORDS.iter().map(|(class, _)| *class));
    assert_eq!(words, listed.collect(), "the list of classes and what is said of them");
    for (class, file, test) in OF_RECORDS {
        let text = fs::read_to_string(file).unwrap();
        let (_, body) = text.split_once(&format!("fn {test}(")).unwrap_or_else(|| panic!("{file} has no {test}"));
        let body = body.split("\n}\n").next().unwrap();
        assert!(body.contains(class), "{test} does not speak of {class}");
    }
    assert!(NOT_OF_RECORDS.iter().all(|(_, reason)| !reason.is_empty()));
}

/// Texts of the order room that look like codes and are none.
const NO_CODES: &[&str] = &["and-more"];
/// Codes that need a broken site or an attack to appear, with where they are held otherwise.
const ELSEWHERE: &[(&str, &str)] = &[
    ("key-refused", "stands in for a code that the table of the key slots lost, which is made with the slots"),
    ("refused-before", "not written anywhere: marks refusals that are told again"),
    ("template-name", "`template` is read as NAME@VERSION before the site is asked"),
];

#[test]
fn every_refusal_code_of_orders_is_named_by_a_test() {
    let room = [
        rust_files("src/order"),
        vec!["src/certs/euicc.rs".into(), "src/cli/intake.rs".into(), "src/pipeline/import.rs".into()],
    ];
    let is_test = |path: &PathBuf| path.to_str().unwrap().contains("/tests");
    let sources = room.concat();
    let (code, mut tests): (Vec<_>, Vec<_>) = sources.into_iter().partition(|path| !is_test(path));
    tests.extend(rust_files("tests"));
    let mut named = fs::read_to_string("test-vectors/bad/orders/expected.csv").unwrap();
    let mut codes = BTreeSet::new();
    for path in code {
        let text = fs::read_to_string(&path).unwrap();
        let (code, unit_tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        codes.extend(code.split('"').skip(1).step_by(2).filter(|text| is_code(text)).map(str::to_owned));
        named += unit_tests;
    }
    tests.iter().for_each(|path| named += &fs::read_to_string(path).unwrap());
    let excused: BTreeSet<&str> = ELSEWHERE.iter().map(|(code, _)| *code).chain(NO_CODES.iter().copied()).collect();
    assert!(codes.len() > 70, "the codes are found: {codes:?}");
    assert!(excused.iter().all(|code| codes.contains(*code)), "an excuse for what is gone: {excused:?}");
    let unnamed: Vec<_> =
        codes.iter().filter(|code| !named.contains(code.as_str()) && !excused.contains(code.as_str())).collect();
    assert!(unnamed.is_empty(), "no test provokes {unnamed:?}");
}

/// Two or more words with `-` between them.
fn is_code(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.contains('-') && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(is_word)
}

fn rust_files(room: &str) -> Vec<PathBuf> {
    yard::files_below(Path::new(room))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

#[test]
fn refusals_that_only_a_site_can_give_name_member_and_remedy() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 4);
    let refused = |order: yard::Order<'_>| {
        told(order.submit(), 4, &[]);
        let id = order.header["order_id"].as_str().unwrap();
        let rejects = rows_csv(&yard.outbox(id).join("rejects.csv"));
        assert!(rejects.iter().all(|reject| !reject["column"].is_empty() && !reject["hint"].is_empty()), "{rejects:?}");
        rejects.into_iter().map(|reject| reject["code"].clone()).collect::<Vec<_>>()
    };
    let lines = [
        ("PO-1", "vars", json!({"no_such_variable": "1"}), "template-variable"),
        ("PO-2", "vars", json!({"mnc_len": "3"}), "rule-broken"),
        ("PO-3", "validity", json!({"until": "2099-01-01"}), "line-unfit"),
    ];
    for (id, member, value, code) in lines {
        let mut order = yard.prebound_order(id, &keys[..1]);
        order.line()[member] = value;
        assert_eq!(refused(order), [code]);
    }
    let spoilt = |member: &str| {
        let mut key = keys[1].clone();
        let mut octets = data_encoding::BASE64.decode(key[member].as_str().unwrap().as_bytes()).unwrap();
        let at = if member == "euicc_certificate" { 0 } else { octets.len() - 5 };
        octets[at] ^= 1;
        key[member] = json!(data_encoding::BASE64.encode(&octets));
        key
    };
    for (id, member, code) in
        [("PO-4", "euicc_certificate", "euicc-unreadable"), ("PO-5", "eum_certificate", "eum-signature")]
    {
        assert_eq!(refused(yard.prebound_order(id, &[spoilt(member)])), [code]);
    }
}
