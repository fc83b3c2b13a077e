use super::*;
use crate::error::ErrorClass;
use crate::ids::{Eid, Iccid, Imsi, Tenant};
use crate::store::{Chunk, DevicePk, DeviceState, Issue, NewBinding, NewDevice, Outcome, Refusal, Store};

fn ledger() -> (tempfile::TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
    (directory, ledger)
}

fn key(id: &str) -> OrderKey {
    OrderKey { tenant: tenant(), order_id: id.parse().unwrap(), rev: 1 }
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn device(row: u32) -> NewDevice {
    NewDevice {
        line: 1,
        row,
        eid: Some("89049032123451234512345678901235".parse().unwrap()),
        iccid: Some("89000123456789012341".parse::<Iccid>().unwrap().plus(u64::from(row)).unwrap()),
        imsi: Some("001010123456063".parse::<Imsi>().unwrap().plus(u64::from(row)).unwrap()),
        vars: Vec::new(),
        msisdn: None,
        matching_id: None,
        euicc_otpk: Some(point(row)),
        wrapped: None,
        rejected: None,
    }
}

fn point(seed: u32) -> [u8; 65] {
    let mut point = [4; 65];
    point[1..5].copy_from_slice(&seed.to_be_bytes());
    point
}

fn accept(ledger: &Ledger, id: &str, devices: &[NewDevice]) -> Result<OrderPk, StoreError> {
    let mut acceptance = ledger.acceptance()?;
    for device in devices {
        acceptance.add_device(&tenant(), device)?;
    }
    acceptance.commit(&accepted(&key(id)))
}

fn accepted(key: &OrderKey) -> AcceptedOrder<'_> {
    AcceptedOrder {
        key,
        body_sha256: "00",
        body: b"{}",
        ack: b"ack",
        templates: const { &std::collections::BTreeMap::new() },
        rows: 2,
        refused: 0,
        accepted_at: "2026-11-21T00:00:00Z",
        change: None,
    }
}

fn issue(id: &str) -> Issue {
    Issue { matching_id: id.to_owned(), length: 7, ki_enc: vec![1; 16], opc_enc: vec![2; 16], ..Issue::default() }
}

fn issued(state: DeviceState, id: &str) -> Outcome {
    Outcome::Issued { state, issue: Box::new(issue(id)) }
}

fn plan(ledger: &Ledger, order: OrderPk) -> Chunk {
    let (first, last) = ledger.device_span(order, 1).unwrap().unwrap();
    let chunk = chunk(1, (first, last));
    ledger.plan_chunks(order, std::slice::from_ref(&chunk)).unwrap();
    chunk
}

fn chunk(number: u32, (first, last): (DevicePk, DevicePk)) -> Chunk {
    Chunk { number, line: 1, first, last, done: false, part: 0, object: None }
}

fn count(ledger: &Ledger, table: &str) -> i64 {
    ledger.lock().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn an_accepted_order_is_found_with_its_devices_after_reopening() {
    let (directory, ledger) = ledger();
    let order =
        accept(&ledger, "A", &[device(1), NewDevice { rejected: Some(ErrorClass::Input), ..device(2) }]).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
    let stored = ledger.find_order(&key("A")).unwrap().unwrap();
    assert_eq!((stored.pk, stored.ack.as_slice(), stored.state), (order, &b"ack"[..], OrderState::Open));
    let (first, last) = ledger.device_span(order, 1).unwrap().unwrap();
    let devices = ledger.devices(order, first, last).unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!((devices[0].iccid, devices[0].euicc_otpk), (device(1).iccid, Some(point(1))));
    assert_eq!((devices[1].state, devices[1].iccid), (DeviceState::Rejected, None));
    assert_eq!(ledger.due_orders().unwrap().len(), 1);
    assert_eq!(ledger.device_span(order, 2).unwrap(), None);
}

#[test]
fn values_of_variables_come_back_with_their_device_and_those_of_a_rejected_one_are_not_kept() {
    let (_directory, ledger) = ledger();
    let vars = vec![("gid1".to_owned(), "0A\"".to_owned()), ("spn".to_owned(), "Acme \u{1F4F6}".to_owned())];
    let with_vars = NewDevice { vars: vars.clone(), ..device(1) };
    let rejected = NewDevice { rejected: Some(ErrorClass::Input), vars: vars.clone(), ..device(2) };
    let order = accept(&ledger, "A", &[with_vars, rejected, device(3)]).unwrap();
    let (first, last) = ledger.device_span(order, 1).unwrap().unwrap();
    let found: Vec<_> = ledger.devices(order, first, last).unwrap().into_iter().map(|device| device.vars).collect();
    assert_eq!(found, [vars, vec![], vec![]]);
}

#[test]
fn a_ledger_of_the_first_version_is_brought_up_to_date_and_keeps_its_orders() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let first = Connection::open(&path).unwrap();
    first.execute_batch(include_str!("schema.sql")).unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    first
        .execute_batch(
            "INSERT INTO orders VALUES (1, 'acme', 'A', 1, '00', x'7B7D', x'61', '{}', 'open', 1, 0, NULL, '2026-11-20T08:00:00Z');
             INSERT INTO devices (pk, order_pk, line, row, state, iccid, msisdn)
             VALUES (1, 1, 1, 1, 'accepted', '89000123456789012341', '4930');",
        )
        .unwrap();
    drop(first);
    let ledger = Ledger::open(&path).unwrap();
    let order = ledger.find_order(&key("A")).unwrap().unwrap();
    let found = ledger.devices(order.pk, crate::store::DevicePk(1), crate::store::DevicePk(1)).unwrap();
    assert_eq!((found[0].msisdn.as_deref(), found[0].vars.as_slice()), (Some("4930"), &[][..]));
    let with_vars = NewDevice { vars: vec![("spn".into(), "B".into())], ..device(7) };
    let next = accept(&ledger, "B", &[with_vars]).unwrap();
    let (first, last) = ledger.device_span(next, 1).unwrap().unwrap();
    assert_eq!(ledger.devices(next, first, last).unwrap()[0].vars[0].1, "B");
}

#[test]
fn an_acceptance_that_is_dropped_leaves_nothing() {
    let (_directory, ledger) = ledger();
    let mut acceptance = ledger.acceptance().unwrap();
    acceptance.add_device(&tenant(), &device(1)).unwrap();
    assert!(acceptance.claimed().iccid(&device(1).iccid.unwrap()).unwrap());
    drop(acceptance);
    for table in ["orders", "devices", "iccids", "imsis", "one_time_keys", "matching_ids", "refusals"] {
        assert_eq!(count(&ledger, table), 0, "{table}");
    }
}

#[test]
fn a_number_or_key_is_claimed_once_and_a_refused_claim_leaves_nothing() {
    let (_directory, ledger) = ledger();
    accept(&ledger, "A", &[device(1)]).unwrap();
    let clashes: [(&str, NewDevice); 3] = [
        ("iccid", NewDevice { iccid: device(1).iccid, ..device(2) }),
        ("imsi", NewDevice { imsi: device(1).imsi, ..device(2) }),
        ("euicc_otpk", NewDevice { euicc_otpk: device(1).euicc_otpk, ..device(2) }),
    ];
    for (column, clash) in clashes {
        let mut acceptance = ledger.acceptance().unwrap();
        let refused = acceptance.add_device(&tenant(), &clash);
        assert!(matches!(refused, Err(StoreError::Taken { column: c, .. }) if c == column), "{column}");
        acceptance.commit(&accepted(&key(column))).unwrap();
        for table in ["devices", "iccids", "imsis", "one_time_keys"] {
            assert_eq!(count(&ledger, table), 1, "{column}: {table}");
        }
    }
}

#[test]
fn the_negative_of_a_one_time_key_is_the_same_key() {
    let (_directory, ledger) = ledger();
    accept(&ledger, "A", &[device(1)]).unwrap();
    let mut negative = point(1);
    negative[64] ^= 1;
    assert!(ledger.claimed().view().one_time_key(&negative).unwrap());
    assert!(!ledger.claimed().view().one_time_key(&point(2)).unwrap());
}

#[test]
fn another_tenant_may_use_the_same_imsi() {
    let (_directory, ledger) = ledger();
    accept(&ledger, "A", &[device(1)]).unwrap();
    let other: Tenant = "globex".parse().unwrap();
    let imsi = device(1).imsi.unwrap();
    assert!(ledger.claimed().view().imsi(&tenant(), &imsi).unwrap());
    assert!(!ledger.claimed().view().imsi(&other, &imsi).unwrap());
}

#[test]
fn a_range_look_up_finds_exactly_the_claimed_numbers_of_its_length() {
    let (_directory, ledger) = ledger();
    let nineteen = Iccid::from_body("890001234567890123").unwrap();
    let short = NewDevice { iccid: Some(nineteen), ..device(9) };
    accept(&ledger, "A", &[device(1), device(3), device(6), short]).unwrap();
    let number = |row| device(row).iccid.unwrap();
    let mut found = Vec::new();
    let claimed = ledger.claimed();
    claimed.view().iccids_between(&number(1), &number(5), |n| found.push(n)).unwrap();
    assert_eq!(found, [number(1), number(3)]);
    let mut found = Vec::new();
    let imsi = |row| device(row).imsi.unwrap();
    claimed.view().imsis_between(&tenant(), &imsi(2), &imsi(6), |n| found.push(n)).unwrap();
    assert_eq!(found, [imsi(3), imsi(6)]);
}

#[test]
fn outcomes_become_durable_and_a_closed_order_is_not_due() {
    let (_directory, ledger) = ledger();
    let rejected = NewDevice { rejected: Some(ErrorClass::Input), ..device(2) };
    let order = accept(&ledger, "A", &[device(1), rejected, device(3)]).unwrap();
    let chunk = plan(&ledger, order);
    let failed = Outcome::Failed { class: ErrorClass::Template, what: "too long".into() };
    let outcomes = [(chunk.first, issued(DeviceState::Bound, "MATCHING-ID-0001")), (chunk.last, failed)];
    ledger.commit_chunk(order, 1, &outcomes, None).unwrap();
    assert!(ledger.chunks(order).unwrap()[0].done);
    assert!(matches!(ledger.commit_chunk(order, 1, &[], None), Err(StoreError::State(_))));
    ledger.close_order(order, &[0; 32]).unwrap();
    let counts = ledger.counts(order).unwrap();
    assert_eq!(counts, [(DeviceState::Exported, 1), (DeviceState::Rejected, 1), (DeviceState::Failed, 1)]);
    assert!(ledger.due_orders().unwrap().is_empty());
    let device = &ledger.devices(order, chunk.first, chunk.first).unwrap()[0];
    assert_eq!(device.issue.as_deref(), Some(&issue("MATCHING-ID-0001")));
    let troubles = ledger.troubles(order, 10).unwrap();
    assert_eq!(troubles.iter().map(|t| t.row).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(troubles[1].error.as_deref(), Some("too long"));
}

#[test]
fn outcomes_are_of_exactly_the_devices_that_wait_in_the_chunk() {
    let (_directory, ledger) = ledger();
    let order = accept(&ledger, "A", &[device(1), device(2)]).unwrap();
    let chunk = plan(&ledger, order);
    let [one, other] = [chunk.first, chunk.last];
    let bound = |device, id| (device, issued(DeviceState::Bound, id));
    let (first, second) = ("MATCHING-ID-0001", "MATCHING-ID-0002");
    for (told, why) in [
        (vec![bound(one, first), bound(DevicePk(99), second)], "device 99 is not waiting"),
        (vec![bound(one, first)], "1 devices have no outcome"),
        (vec![bound(one, first), bound(one, second)], "1 devices have no outcome"),
        (vec![bound(one, first), bound(other, second), bound(one, first)], "two outcomes"),
        (vec![bound(one, first), (other, issued(DeviceState::Prepared, second))], "alike"),
        (vec![bound(one, first), (other, issued(DeviceState::Exported, second))], "prepared or bound"),
    ] {
        let refused = ledger.commit_chunk(order, 1, &told, None);
        assert!(matches!(&refused, Err(StoreError::State(what)) if what.contains(why)), "{refused:?}, not {why}");
        assert_eq!(ledger.counts(order).unwrap(), [(DeviceState::Accepted, 2)]);
        assert_eq!(count(&ledger, "issues") + count(&ledger, "matching_ids"), 0);
    }
    assert!(matches!(ledger.close_order(order, &[0; 32]), Err(StoreError::State(_))));
    ledger.commit_chunk(order, 1, &[bound(other, second), bound(one, first)], None).unwrap();
    assert!(matches!(ledger.commit_chunk(order, 1, &[bound(one, first)], None), Err(StoreError::State(_))));
    assert!(matches!(ledger.plan_chunks(order, &[chunk]), Err(StoreError::State(_))));
}

#[test]
fn a_matching_id_is_given_out_once() {
    let (_directory, ledger) = ledger();
    let order = accept(&ledger, "A", &[device(1), device(2)]).unwrap();
    let chunk = plan(&ledger, order);
    let same = [chunk.first, chunk.last].map(|pk| (pk, issued(DeviceState::Bound, "MATCHING-ID-0001")));
    assert!(matches!(ledger.commit_chunk(order, 1, &same, None), Err(StoreError::Taken { column: "matching_id", .. })));
    assert_eq!(count(&ledger, "issues"), 0);
}

#[test]
fn a_stored_ppp_is_bound_once_with_a_key_that_is_claimed_then() {
    let (_directory, ledger) = ledger();
    let stored = NewDevice { euicc_otpk: None, ..device(1) };
    let order = accept(&ledger, "A", &[stored, device(2)]).unwrap();
    let (first, last) = ledger.device_span(order, 1).unwrap().unwrap();
    ledger.plan_chunks(order, &[chunk(1, (first, first)), chunk(2, (last, last))]).unwrap();
    let bound = Outcome::Issued {
        state: DeviceState::Bound,
        issue: Box::new(Issue { transaction_id: Some([1; 16]), ..issue("MATCHING-ID-0002") }),
    };
    ledger.commit_chunk(order, 1, &[(first, issued(DeviceState::Prepared, "MATCHING-ID-0001"))], None).unwrap();
    ledger.commit_chunk(order, 2, &[(last, bound)], None).unwrap();
    ledger.close_order(order, &[0; 32]).unwrap();
    assert_eq!(ledger.stored_count(order).unwrap(), 1);

    let object = Some("packages-00001.bpp".to_owned());
    let package = Issue { transaction_id: Some([9; 16]), object, sha256: [6; 32], ..issue("MATCHING-ID-0001") };
    let record = |device, n| {
        let binding = NewBinding {
            device,
            eid: Eid::from_body(&format!("89049032{:022}", 99)).unwrap(),
            euicc_otpk: point(n),
            transaction_id: [9; 16],
            object: package.object.clone().unwrap(),
            offset: package.offset,
            length: package.length,
            sha256: package.sha256,
        };
        ledger.record_binding(order, &mut [Ok(binding)].into_iter(), &[0; 32])
    };
    let used_key = record(first, 2);
    assert!(matches!(used_key, Err(StoreError::Taken { column: "euicc_otpk", .. })));
    record(first, 7).unwrap();
    assert_eq!(ledger.stored_count(order).unwrap(), 0);
    let device = ledger.devices(order, first, first).unwrap().remove(0);
    assert_eq!(
        (device.euicc_otpk, device.issue, device.state),
        (Some(point(7)), Some(Box::new(package.clone())), DeviceState::Exported)
    );
    for device in [first, last] {
        assert!(matches!(record(device, 8), Err(StoreError::State(_))), "bound already");
    }
    assert!(!ledger.claimed().view().one_time_key(&point(8)).unwrap());
}

#[test]
fn a_batch_key_is_kept_once() {
    let (_directory, ledger) = ledger();
    let order = accept(&ledger, "A", &[device(1)]).unwrap();
    ledger.keep_batch_key(order, b"sealed").unwrap();
    assert!(matches!(ledger.keep_batch_key(order, b"other"), Err(StoreError::State(_))));
    assert_eq!(ledger.find_order(&key("A")).unwrap().unwrap().sealed_batch_key.as_deref(), Some(&b"sealed"[..]));
}

#[test]
fn refusals_are_given_back_in_their_order() {
    let (_directory, ledger) = ledger();
    let mut acceptance = ledger.acceptance().unwrap();
    for row in [3, 1] {
        let texts = |text: &str| text.to_owned();
        let (column, value, message, hint) = (texts("eid"), texts("8904"), texts("wrong"), texts("mend it"));
        acceptance.keep_refusal(&Refusal { line: 1, row, column, value, code: "digits", message, hint }).unwrap();
    }
    let order = acceptance.commit(&accepted(&key("A"))).unwrap();
    let mut rows = Vec::new();
    let each = |kept: KeptRefusal| -> Result<(), StoreError> {
        rows.push((kept.row, kept.texts[2].clone()));
        Ok(())
    };
    ledger.kept_refusals(order, each).unwrap();
    assert_eq!(rows, [(3, "digits".to_owned()), (1, "digits".to_owned())]);
}

#[test]
fn a_file_that_is_no_database_is_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    std::fs::write(&path, [b'x'; 4096]).unwrap();
    assert!(matches!(Ledger::open(&path), Err(StoreError::Damaged(_))));
}

#[test]
fn a_ledger_of_a_newer_version_is_refused() {
    let (directory, ledger) = ledger();
    ledger.lock().pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let error = Ledger::open(&directory.path().join("state.db")).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_ledger_that_another_process_writes_to_is_called_busy() {
    let (directory, ledger) = ledger();
    let second = Ledger::open(&directory.path().join("state.db")).unwrap();
    second.lock().busy_timeout(Duration::from_millis(10)).unwrap();
    let _held = ledger.acceptance().unwrap();
    assert!(matches!(second.acceptance(), Err(StoreError::Busy)));
}

#[test]
fn a_damaged_store_is_told_from_a_sound_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(quick_check(&path).unwrap(), "ok");
    let mut octets = std::fs::read(&path).unwrap();
    octets[4_096..4_200].fill(0xA5);
    std::fs::write(&path, octets).unwrap();
    assert_ne!(quick_check(&path).unwrap_or_default(), "ok");
}

#[test]
fn one_key_for_two_rows_of_an_order_refuses_the_order() {
    let (_directory, ledger) = ledger();
    let mut acceptance = ledger.acceptance().unwrap();
    for device in [device(1), NewDevice { euicc_otpk: device(1).euicc_otpk, ..device(2) }] {
        acceptance.add_device(&tenant(), &device).unwrap();
    }
    let refused = acceptance.commit(&accepted(&key("A")));
    assert!(matches!(refused, Err(StoreError::Taken { column: "euicc_otpk", .. })));
    assert_eq!(count(&ledger, "devices"), 0);
    accept(&ledger, "B", &[device(1)]).unwrap();
    assert_eq!(count(&ledger, "one_time_keys"), 1);
}

#[test]
fn a_stretch_of_devices_is_found_without_a_walk_through_its_order() {
    let (_directory, ledger) = ledger();
    let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM devices d WHERE {} ORDER BY d.pk", super::batch::STRETCH);
    let plan: String = ledger.lock().query_row(&sql, [1, 2, 3], |row| row.get(3)).unwrap();
    assert!(plan.contains("INTEGER PRIMARY KEY"), "{plan}");
}

#[test]
fn a_ledger_of_version_four_gets_its_devices_anew_with_every_claim_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let old = Connection::open(&path).unwrap();
    Migrations::from_slice(&VERSIONS[..4]).to_latest(&mut { old }).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "INSERT INTO orders (pk, tenant, order_id, rev, body_sha256, body, ack, templates, state, rows, refused, accepted_at)
             VALUES (1, 'acme', 'PO-1', 1, '', x'', x'', '{}', 'exported', 1, 0, '2026-11-21T00:00:00Z');
         INSERT INTO devices (pk, order_pk, line, row, state, iccid, vars, ki_wrapped)
             VALUES (7, 1, 1, 1, 'exported', '89000123456789012341', '{}', x'01');
         INSERT INTO iccids VALUES ('89000123456789012341', 7);
         INSERT INTO chunks VALUES (1, 1, 1, 7, 7, 1, NULL, NULL);",
    )
    .unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    let connection = ledger.lock();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(*) FROM devices WHERE pk = 7 AND vars = '{}' AND ki_wrapped = x'01'"), 1);
    assert_eq!(one("SELECT count(*) FROM iccids JOIN devices ON device = devices.pk"), 1);
    assert_eq!(one("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    assert_eq!(one("SELECT foreign_keys FROM pragma_foreign_keys"), 1);
    assert_eq!(one("SELECT part + started FROM chunks"), 0);
    assert_eq!(one("SELECT sql LIKE '%state = ''revoked'')%' FROM sqlite_schema WHERE name = 'devices'"), 1);
    connection.execute("UPDATE devices SET state = 'revoked'", []).unwrap();
    assert!(connection.execute("UPDATE devices SET state = 'elsewhere'", []).is_err());
    assert!(connection.execute("INSERT INTO iccids VALUES ('1', 99)", []).is_err(), "claims still need their device");
}

#[test]
fn a_ledger_of_version_two_keeps_orders_claims_chunks_and_issues_and_works_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    Migrations::from_slice(&VERSIONS[..2]).to_latest(&mut Connection::open(&path).unwrap()).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "INSERT INTO orders VALUES (1, 'acme', 'PO-1', 1, 'ab', x'7B7D', x'7B7D', '{}', 'exported', 2, 0, x'0102', '2026-11-21T00:00:00Z');
         INSERT INTO devices (pk, order_pk, line, row, state, iccid, imsi, vars)
             VALUES (1, 1, 1, 1, 'exported', '89000123456789012341', '001010123456063', '{\"spn\":\"Acme\"}'),
                    (2, 1, 1, 2, 'failed', '89000123456789012358', '001010123456064', NULL);
         INSERT INTO iccids VALUES ('89000123456789012341', 1), ('89000123456789012358', 2);
         INSERT INTO imsis VALUES ('acme', '001010123456063', 1), ('acme', '001010123456064', 2);
         INSERT INTO one_time_keys VALUES (zeroblob(32), 1);
         INSERT INTO matching_ids VALUES ('AAAA-BBBB-CCCC-DDDD', 1);
         INSERT INTO chunks VALUES (1, 1, 1, 1, 2, 1, zeroblob(32), 100);
         INSERT INTO issues VALUES (1, 'AAAA-BBBB-CCCC-DDDD', zeroblob(16), 'packages-00001.bpp', 0, 100, zeroblob(32), zeroblob(32),
             zeroblob(32), x'01', x'02', NULL, x'03');",
    )
    .unwrap();
    drop(old);
    let ledger = Ledger::open(&path).unwrap();
    let version: usize = ledger.lock().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, VERSIONS.len());
    let order = ledger.find_order(&key("PO-1")).unwrap().unwrap();
    assert_eq!((order.state, order.part, order.sealed_batch_key), (OrderState::Exported, 0, Some(vec![1, 2])));
    assert_eq!(ledger.counts(order.pk).unwrap(), [(DeviceState::Exported, 1), (DeviceState::Failed, 1)]);
    let devices = ledger.devices(order.pk, DevicePk(1), DevicePk(2)).unwrap();
    assert_eq!(devices[0].vars, [("spn".to_owned(), "Acme".to_owned())]);
    let issue = devices[0].issue.as_ref().unwrap();
    assert_eq!((issue.length, issue.sealed_credentials.as_deref()), (100, Some(&[3][..])));
    assert_eq!(ledger.chunks(order.pk).unwrap()[0].object.unwrap().bytes, 100);
    assert!(ledger.claimed().view().iccid(&devices[1].iccid.unwrap()).unwrap());
    assert_eq!(
        ledger.lock().query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get::<_, i64>(0)),
        Ok(0)
    );
    // The log begins with the first change that is made by this version.
    accept(&ledger, "PO-2", &[device(9)]).unwrap();
    assert!(ledger.audit_head().unwrap().seq > 0);
}

#[test]
fn a_ledger_that_cannot_be_written_is_read_whatever_its_path_is_called() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("a site?immutable=0#100%");
    std::fs::create_dir(&site).unwrap();
    let path = site.join("state.db");
    drop(Ledger::open(&path).unwrap());
    let before: Vec<_> = std::fs::read_dir(&site).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // As on a read-only file system: nothing can be made beside it.
    for (file, mode) in [(&path, 0o400), (&site, 0o500)] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ledger = Ledger::open_read_only(&path).unwrap();
    assert!(ledger.orders().unwrap().is_empty());
    assert!(ledger.audit_head().is_ok());
    assert!(
        ledger.record(&crate::audit::Event::new(crate::audit::Word::RunBegun)).is_err(),
        "looked at, never written"
    );
    let after: Vec<_> = std::fs::read_dir(&site).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after);
    std::fs::set_permissions(&site, std::fs::Permissions::from_mode(0o700)).unwrap();
}
