//! What an accepted, partly accepted, repeated or conflicting order leaves behind.

use super::*;
use crate::ids::OrderKey;
use crate::store::{Device, DeviceState, Store};

fn devices(site: &Site, line: u32) -> Vec<Device> {
    let key = OrderKey { tenant: "acme".parse().unwrap(), order_id: "PO-1".parse().unwrap(), rev: 1 };
    let order = site.ledger.find_order(&key).unwrap().unwrap();
    let (first, last) = site.ledger.device_span(order.pk, line).unwrap().unwrap();
    site.ledger.devices(order.pk, first, last).unwrap()
}

#[test]
fn row_r_gets_the_number_first_plus_r_minus_one() {
    let site = Site::new();
    let answer = site.submit(&order());
    assert_eq!((answer.verdict, answer.exit), (Verdict::Accepted, Exit::Done), "{:?}", answer.first_refusals);
    let devices = devices(&site, 1);
    assert_eq!(devices.iter().map(|d| d.iccid.unwrap()).collect::<Vec<_>>(), [iccid(1), iccid(2), iccid(3)]);
    assert_eq!(devices[2].imsi.unwrap().as_str(), "001010123456065");
    let ack = ack(&answer);
    assert_eq!(ack["counts"], json!({"rows": 3, "accepted": 3, "refused": 0}));
    assert_eq!(ack["received"], "2026-11-21T08:00:00Z");
    assert_eq!(
        ack["ranges"],
        json!([{"line": 1, "kind": "iccid", "first": FIRST_ICCID, "last": iccid(3).as_str(), "count": 3},
               {"line": 1, "kind": "imsi", "first": FIRST_IMSI, "last": "001010123456065", "count": 3}])
    );
    assert_eq!(site.outbox("acme/PO-1/ack.json").as_bytes(), answer.ack);
    assert_eq!(site.outbox("acme/PO-1/rejects.csv"), "row,column,value,code,message,hint\n");
}

#[test]
fn a_row_number_in_the_file_decides_over_its_place() {
    let site = Site::new();
    let csv = format!("x_lot,eid,row\na,{},2\nb,{},1\n", eid(1), eid(2));
    assert_eq!(site.submit(&with_rows(&site, &csv)).verdict, Verdict::Accepted);
    let devices = devices(&site, 1);
    assert_eq!((devices[0].row, devices[0].eid, devices[0].iccid), (2, Some(eid(1)), Some(iccid(2))));
    assert_eq!((devices[1].row, devices[1].eid, devices[1].iccid), (1, Some(eid(2)), Some(iccid(1))));
}

#[test]
fn rows_may_stand_in_the_order_and_carry_all_numbers() {
    let site = Site::new();
    let mut order = order();
    order["lines"][0]["iccid"] = json!("rows");
    order["lines"][0].as_object_mut().unwrap().remove("imsi");
    order["lines"][0]["quantity"] = json!(1);
    order["lines"][0]["rows"] = json!([{"row": 1, "eid": eid(7).to_string(), "iccid": iccid(9).as_str(),
        "imsi": "262011234567893", "msisdn": "4915112345678", "matching_id": "ABCD-EFGH-1234-5678", "imei": "490154203237518"}]);
    let answer = site.submit(&order);
    assert_eq!(answer.verdict, Verdict::Accepted, "{:?}", answer.first_refusals);
    let device = &devices(&site, 1)[0];
    assert_eq!((device.eid, device.iccid), (Some(eid(7)), Some(iccid(9))));
    assert_eq!(device.imsi.unwrap().as_str(), "262011234567893");
    assert_eq!(device.msisdn.as_deref(), Some("4915112345678"));
    assert_eq!(device.matching_id.as_ref().unwrap().as_str(), "ABCD-EFGH-1234-5678");
    assert_eq!(ack(&answer)["ranges"], json!([]));
}

#[test]
fn prebound_rows_get_the_key_of_their_euicc() {
    let site = Site::new();
    let mut order = prebound(&site, 2, |_| {});
    let csv = format!("eid\n{}\n{}\n", eid(2), eid(1));
    order["lines"][0]["rows"] = site.put_rows("rows.csv", &csv);
    let answer = site.submit(&order);
    assert_eq!(answer.verdict, Verdict::Accepted, "{:?}", answer.first_refusals);
    assert_eq!(devices(&site, 1).iter().map(|d| d.euicc_otpk.unwrap()).collect::<Vec<_>>(), [point(2), point(1)]);
    assert_eq!(site.count("one_time_keys"), 2);
}

#[test]
fn without_rows_row_r_takes_the_r_th_euicc_of_the_key_file() {
    let site = Site::new();
    let order = prebound(&site, 3, |lines| {
        let again = key_line(1);
        lines.insert(1, again); // the same eUICC and key once more: no row waits for it
        lines.push(key_line(4)); // more than ordered
    });
    let answer = site.submit(&order);
    assert_eq!(answer.verdict, Verdict::Accepted, "{:?}", answer.first_refusals);
    assert_eq!(devices(&site, 1).iter().map(|d| d.eid.unwrap()).collect::<Vec<_>>(), [eid(1), eid(2), eid(3)]);
}

#[test]
fn a_forged_and_a_repeated_key_refuse_exactly_their_rows() {
    let site = Site::new();
    let order = prebound(&site, 6, |lines| {
        lines[1]["signature"] = json!(BASE64.encode(&[0xEE; 64]));
        lines[4]["euicc_otpk"] = lines[2]["euicc_otpk"].clone();
    });
    let answer = site.submit(&partial(order));
    assert_eq!((answer.verdict, answer.exit), (Verdict::AcceptedPartial, Exit::RowErrors));
    let expected = [(2, "euicc_otpk", "bad-signature"), (5, "euicc_otpk", "repeated-one-time-key")];
    assert_eq!(told(&answer), expected);
    let devices = devices(&site, 1);
    assert_eq!(devices.iter().filter(|d| d.state == DeviceState::Rejected).map(|d| d.row).collect::<Vec<_>>(), [2, 5]);
    assert_eq!((devices[1].iccid, devices[2].iccid), (None, Some(iccid(3))), "a refused row's number stays free");
    assert_eq!((site.count("iccids"), site.count("imsis"), site.count("one_time_keys")), (4, 4, 4));
    let file = rejects(&site.outbox("acme/PO-1/rejects.csv"));
    assert_eq!(
        file.iter().map(|r| (r[0].as_str(), r[3].as_str())).collect::<Vec<_>>(),
        [("2", "bad-signature"), ("5", "repeated-one-time-key")]
    );
    let ranges = &ack(&answer)["ranges"][0];
    assert_eq!((ranges["count"].as_u64(), ranges["last"].as_str()), (Some(4), Some(iccid(6).as_str())));
}

#[test]
fn a_second_key_of_the_euicc_helps_out_for_a_refused_one() {
    let site = Site::new();
    let order = prebound(&site, 1, |lines| {
        lines[0]["signature"] = json!(BASE64.encode(&[0xEE; 64]));
        let mut second = key_line(1);
        second["euicc_otpk"] = json!(BASE64.encode(&point(99)));
        lines.push(second);
    });
    assert_eq!(site.submit(&order).verdict, Verdict::Accepted);
    assert_eq!(devices(&site, 1)[0].euicc_otpk, Some(point(99)));
}

#[test]
fn two_lines_never_share_a_one_time_key() {
    let site = Site::new();
    let mut order = prebound(&site, 1, |_| {});
    let mut second = order["lines"][0].clone();
    second["line"] = json!(2);
    second["iccid"] = json!({"first": iccid(5).as_str()});
    second["imsi"] = json!({"first": "001010123456999"});
    order["lines"].as_array_mut().unwrap().push(second);
    let answer = site.submit(&partial(order));
    assert_eq!(told(&answer), [(1, "euicc_otpk", "one-time-key-used")]);
    let file = rejects(&site.outbox("acme/PO-1/rejects.csv"));
    assert_eq!((file[0].len(), file[0][6].as_str()), (7, "2"), "the last column says which line");
    assert_eq!(devices(&site, 2)[0].state, DeviceState::Rejected);
}

#[test]
fn a_rejected_order_consumes_nothing_and_its_correction_is_accepted_under_the_same_key() {
    let site = Site::new();
    let csv = format!("eid,matching_id\n{},ABCD-EFGH-1234-5678\n{},\n", eid(1), eid(1));
    let answer = site.submit(&with_rows(&site, &csv));
    assert_eq!((answer.verdict, answer.exit), (Verdict::Rejected, Exit::OrderRejected));
    assert_eq!(ack(&answer)["counts"], json!({"rows": 2, "accepted": 0, "refused": 1}));
    assert_eq!(ack(&answer)["ranges"], json!([]));
    assert!(site.nothing_consumed());
    assert_eq!(rejects(&site.outbox("acme/PO-1/rejects.csv")).len(), 1);

    let corrected = csv.replacen(&format!("{},\n", eid(1)), &format!("{},\n", eid(2)), 1);
    assert_eq!(site.submit(&with_rows(&site, &corrected)).verdict, Verdict::Accepted);
    assert_eq!(rejects(&site.outbox("acme/PO-1/rejects.csv")).len(), 0);
    assert!(site.outbox("acme/PO-1/ack.json").contains("\"accepted\""));
}

#[test]
fn a_partial_order_without_one_good_row_is_rejected() {
    let site = Site::new();
    let answer = site.submit(&partial(with_rows(&site, "eid\n1\n2\n")));
    assert_eq!((answer.verdict, answer.counts.refused), (Verdict::Rejected, 2));
    assert!(site.nothing_consumed());
}

#[test]
fn the_same_file_again_gets_the_first_answer_and_changes_nothing() {
    let site = Site::new();
    let cases = [
        ("PO-1", "imei\n490154203237518\n490154203237519\n", Exit::Done, 1, "001010123456063"),
        ("PO-2", "imei\n490154203237518\n12\n", Exit::RowErrors, 100, "001010123456999"),
    ];
    for (id, csv, exit, first_iccid, first_imsi) in cases {
        let mut order = partial(with_rows(&site, csv));
        order["order_id"] = json!(id);
        order["lines"][0]["iccid"] = json!({"first": iccid(first_iccid).as_str()});
        order["lines"][0]["imsi"] = json!({"first": first_imsi});
        let path = site.put_order(&order);
        let first = site.intake().submit(&path).unwrap();
        assert_eq!(first.exit, exit, "{:?}", first.first_refusals);
        let files = ["ack.json", "rejects.csv"].map(|name| format!("acme/{id}/{name}"));
        let [before_ack, before_rejects] = [site.outbox(&files[0]), site.outbox(&files[1])];
        let counts = site.counts();
        std::fs::remove_dir_all(site.directory.path().join("outbox/acme").join(id)).unwrap();
        std::fs::remove_file(site.input("rows.csv")).unwrap();

        let mut later = site.intake();
        later.now = "2027-01-01T00:00:00Z".parse().unwrap();
        let again = later.submit(&path).unwrap();
        assert_eq!((&again.ack, again.exit, again.repeated), (&first.ack, first.exit, true));
        assert_eq!([site.outbox(&files[0]), site.outbox(&files[1])], [before_ack, before_rejects]);
        assert_eq!(site.counts(), counts);
    }
}

#[test]
fn another_body_under_the_key_is_a_conflict_and_touches_nothing() {
    let site = Site::new();
    let first = site.submit(&order());
    let counts = site.counts();
    let mut changed = order();
    changed["due"] = json!("2026-12-01T06:00:00Z");
    let mut broken = order();
    broken["lines"][0]["colour"] = json!("red");
    for other in [changed, broken] {
        let answer = site.submit(&other);
        assert_eq!((answer.verdict, answer.exit), (Verdict::Duplicate, Exit::DuplicateConflict));
        assert_eq!(ack(&answer)["verdict"], "duplicate");
        assert_eq!(ack(&answer)["body_sha256"], sha256(other.to_string().as_bytes()));
        assert_eq!(site.outbox("acme/PO-1/ack.json").as_bytes(), first.ack);
        assert_eq!(site.counts(), counts);
    }
}

#[test]
fn a_new_revision_is_another_order_with_its_own_answer() {
    let site = Site::new();
    site.submit(&order());
    let mut second = order();
    second["rev"] = json!(2);
    second["lines"][0]["iccid"] = json!({"first": iccid(10).as_str()});
    second["lines"][0]["imsi"] = json!({"first": "001010123456999"});
    assert_eq!(site.submit(&second).verdict, Verdict::Accepted);
    assert!(site.outbox("acme/PO-1@2/ack.json").contains("\"rev\": 2"));
}

#[test]
fn a_dry_run_gives_the_same_verdict_and_leaves_no_trace() {
    let site = Site::new();
    for order in [order(), with_rows(&site, "eid\n12\n"), json!({"schema": "bindery.order/1"})] {
        let checked = site.check(&order);
        assert!(site.nothing_consumed());
        assert!(!site.directory.path().join("outbox").exists());
        let other = Site::new();
        std::fs::copy(site.input("order.json"), other.input("order.json")).unwrap();
        let _ = std::fs::copy(site.input("rows.csv"), other.input("rows.csv"));
        let submitted = other.intake().submit(&other.input("order.json")).unwrap();
        assert_eq!(
            (checked.exit, checked.first_refusals, checked.ack),
            (submitted.exit, submitted.first_refusals, submitted.ack)
        );
    }
}

#[test]
fn an_order_without_readable_key_is_answered_on_the_terminal_alone() {
    let site = Site::new();
    site.put("order.json", "{\"schema\": ");
    let answer = site.intake().submit(&site.input("order.json")).unwrap();
    assert_eq!((answer.verdict, answer.key.clone()), (Verdict::Rejected, None));
    assert_eq!(told(&answer), [(0, "", "json")]);
    assert!(answer.outbox.is_none() && !site.directory.path().join("outbox").exists());
    assert_eq!(ack(&answer)["order_id"], Value::Null);
}

#[test]
fn a_file_that_is_missing_or_no_file_is_a_fault_of_its_own() {
    let site = Site::new();
    let missing = |path: &Path| site.intake().submit(path).unwrap_err();
    assert_eq!(missing(&site.input("none.json")).exit, Exit::Config);
    assert_eq!(missing(site.directory.path()).exit, Exit::Usage);
    let sparse = std::fs::File::create(site.input("big.json")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    assert_eq!(missing(&site.input("big.json")).exit, Exit::OrderRejected);
}

#[test]
fn a_ledger_that_fails_is_a_fault_and_no_rejection() {
    let site = Site::new();
    let path = site.put_order(&order());
    let other = rusqlite::Connection::open(site.directory.path().join("state.db")).unwrap();
    other.execute_batch("DROP TABLE iccids").unwrap();
    let fault: Fault = site.intake().submit(&path).unwrap_err();
    assert_eq!(fault.exit, Exit::Config);
    assert!(!site.directory.path().join("outbox/acme/PO-1/ack.json").exists());
    assert_eq!(
        std::fs::read_dir(site.directory.path().join("outbox/acme/PO-1")).unwrap().count(),
        0,
        "no partial file stays"
    );
}

#[test]
fn the_stored_body_reads_as_the_order_again() {
    let site = Site::new();
    site.submit(&order());
    let stored = &site.ledger.due_orders().unwrap()[0];
    let order = Order::from_json(&stored.body).unwrap();
    assert_eq!((order.key.clone(), order.quantity()), (stored.key.clone(), stored.rows));
    assert_eq!((order.accept, order.kind, order.due), (Accept::AllOrNothing, Kind::Production, None));
    let line = &order.lines[0];
    assert_eq!((line.mode, line.algorithm, line.transport_key.as_deref()), (Mode::Order, Algorithm::Milenage, None));
    assert_eq!(line.export, [Export::Eim("demo".into()), Export::Core("demo".into()), Export::Qr]);
}

#[test]
fn a_confirmation_code_is_kept_as_its_hash_only() {
    let site = Site::new();
    let mut order = order();
    order["lines"][0]["confirmation_code"] = json!("4711-CODE");
    let answer = site.submit(&order);
    assert_eq!(answer.exit, Exit::Done);
    let kept = site.ledger.find_order(answer.key.as_ref().unwrap()).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&kept.body).contains("4711-CODE"));
    let line = &Order::from_json(&kept.body).unwrap_or_else(|_| panic!("reads again")).lines[0];
    assert_eq!(line.confirmation_code.as_ref().unwrap().expose(), sha256(b"4711-CODE"));
    assert_eq!(site.submit(&order).ack, answer.ack, "the body that is compared is the one that came");
}
