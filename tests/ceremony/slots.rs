//! Ceremonies of a site with two tokens. They are SoftHSM's, whatever this run of the suite is on: one process, two tokens.

use super::imports::KEY_OF_TWO_SLOTS as KEY;
use super::*;

/// The second token is new and empty.
fn two_slots() -> Hall {
    let hall = Hall::on(Provider::SoftHsm);
    hall.new_token("hsm-b", &hall.pin());
    hall.configure("\n[[hsm.slot]]\ntoken_label = \"hsm-b\"\n");
    hall
}

impl Hall {
    fn epochs(&self, role: &str) -> Vec<String> {
        let list = self.yard.run(&["--json", "keys", "list"]).exits(0).json();
        let keys = list["keys"].as_array().unwrap().iter().filter(|key| key["role"] == role);
        keys.map(|key| key["epoch_state"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_key_takes_no_new_work_before_every_slot_has_it() {
    let hall = two_slots();
    let yard = &hall.yard;
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("slot \"hsm-b\"") && ran.err.contains("clone"), "{}", ran.err);
    for _ in 0..2 {
        let ran = yard.run(&["keys", "rotate", "site-kek"]).exits(9);
        assert!(ran.err.contains("slot \"hsm-b\" has no key") && ran.err.contains("clone"), "{}", ran.err);
        assert_eq!(hall.epochs("site-kek"), ["active", "pending"]);
    }
    // Made there too, it would be another key.
    let ran = yard.run(&["keys", "rotate", "site-kek", "--slot", "hsm-b"]).exits(3);
    assert!(ran.err.contains("slot \"bindery-demo\" has a key") && ran.err.contains("clone"), "{}", ran.err);
    yard.run(&["keys", "rotate", "site-kek", "--slot", "hsm-c"]).exits(2);
    let plan = hall.plan(&generate("dppb").replace("dppb\"", "dppb\"\nepoch = 2"));
    let approval = hall.approval("a.json", &plan, "anna", "1", "anna");
    hall.ceremony(&plan, &["--approve", &approval]).exits(0);
    let ran = hall.ceremony(&plan, &["--slot", "hsm-b"]).exits(13);
    assert!(ran.err.contains("step 1"), "{}", ran.err);
    // The approval of the first slot's ceremony is none of this one's.
    let ran = hall.ceremony(&plan, &["--slot", "hsm-b", "--approve", &approval]).exits(13);
    assert!(ran.err.contains("another running"), "{}", ran.err);
    let out = hall.dir().to_str().unwrap().to_owned();
    let ran = hall.ceremony(&plan, &["--slot", "hsm-b", "--out", &out]).exits(8);
    assert!(ran.err.contains("begun on the first slot"), "{}", ran.err);
    // A certificate cannot switch to it either.
    let point = point_of(&yard.run(&["keys", "csr", "dppb"]).exits(0).out);
    hall.certify(DpRole::Pb, &point, "new.pem");
    let before = fs::read(yard.site().join("certs/dppb/dppb.pem")).unwrap();
    let ran = yard.run(&["keys", "certificate", "dppb", &hall.path("new.pem")]).exits(9);
    assert!(ran.err.contains("hsm-b"), "{}", ran.err);
    assert_eq!(fs::read(yard.site().join("certs/dppb/dppb.pem")).unwrap(), before);
}

#[test]
fn an_imported_key_is_brought_into_each_slot_and_then_takes_over() {
    let hall = two_slots();
    let parts = hall.in_components("two", &KEY);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let role = "transport:op-7";
    let (first, ran) = hall.import(role, 1, &parts, &["anna", "berta"]);
    let ran = ran.exits(9);
    assert!(ran.err.contains("--slot hsm-b"), "{}", ran.err);
    assert_eq!(hall.epochs(role), ["pending"]);
    let there = [&parts[..], &["--slot", "hsm-b"]].concat();
    let (second, ran) = hall.import(role, 1, &there, &["anna", "berta"]);
    ran.exits(0);
    assert_eq!(hall.epochs(role), ["active"]);
    let slot_of = |dir: &PathBuf| lines_json(&dir.join("transcript.jsonl"))[2]["hsm"][1].clone();
    assert_eq!((slot_of(&first), slot_of(&second)), ("bindery-demo".into(), "hsm-b".into()));
    assert_eq!(lines_json(&second.join("transcript.jsonl")).len(), 4);
    // The first one's ceremony waits for its last step, which is done.
    let args = [&["keys", "import", role, "--operator", "olga"], &parts[..]].concat();
    let approvals = ["anna", "berta"].map(|name| hall.path(&format!("{name}-transport-op-7-1.json")));
    hall.yard.run(&[&args[..], &["--approve", &approvals[0], "--approve", &approvals[1]]].concat()).exits(0);
    assert_eq!(lines_json(&first.join("transcript.jsonl")).len(), 4);
}

#[test]
fn another_key_under_the_same_label_in_a_second_slot_takes_no_work() {
    let hall = two_slots();
    let role = "transport:op-7";
    for (key, slot, code) in [(KEY, None, 9), (KEY.map(|octet| octet ^ 1), Some("hsm-b"), 7)] {
        let parts = hall.in_components("two", &key);
        let mut how: Vec<&str> = parts.iter().map(String::as_str).collect();
        slot.into_iter().for_each(|label| how.extend(["--slot", label]));
        let (_, ran) = hall.import(role, 1, &how, &["anna", "berta"]);
        let ran = ran.exits(code);
        assert!(code == 9 || ran.err.contains("another key"), "{}", ran.err);
        assert_eq!(hall.epochs(role), ["pending"]);
    }
}
