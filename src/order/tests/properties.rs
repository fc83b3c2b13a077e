//! True of every set of rows: they add up, claimed numbers are unique, coming again changes nothing.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Rows that are good, bad or clash with each other, all from small pools so that clashes happen.
fn any_rows() -> impl Strategy<Value = Vec<(u32, u32, bool)>> {
    prop::collection::vec((1..12_u32, 1..12_u32, prop::bool::weighted(0.8)), 1..12)
}

fn csv_of(rows: &[(u32, u32, bool)]) -> String {
    let line = |(e, i, good): &(u32, u32, bool)| {
        let imsi = if *good { format!("2620112345678{i:02}") } else { "x".to_owned() };
        format!("{},{},{imsi}\n", eid(*e), iccid(*i))
    };
    std::iter::once("eid,iccid,imsi\n".to_owned()).chain(rows.iter().map(line)).collect()
}

fn order_of(site: &Site, id: &str, rows: &[(u32, u32, bool)]) -> Value {
    let mut order = partial(with_rows(site, &csv_of(rows)));
    order["order_id"] = json!(id);
    order["lines"][0]["iccid"] = json!("rows");
    order["lines"][0]["imsi"] = json!("rows");
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_add_up_and_no_number_is_claimed_twice(first in any_rows(), second in any_rows()) {
        let site = Site::new();
        let mut accepted = 0;
        for (id, rows) in [("PO-1", &first), ("PO-2", &second)] {
            let answer = site.submit(&order_of(&site, id, rows));
            let counts = answer.counts;
            prop_assert_eq!(counts.accepted + counts.refused, rows.len() as u64);
            let named: HashSet<_> =
                rejects(&site.outbox(&format!("acme/{id}/rejects.csv"))).iter().map(|r| r[0].clone()).collect();
            prop_assert_eq!(counts.refused, named.len() as u64);
            let distinct: HashSet<_> = rows.iter().map(|(_, i, _)| i).collect();
            prop_assert!(counts.accepted <= distinct.len() as u64);
            accepted += counts.accepted;
        }
        for table in ["iccids", "imsis"] {
            prop_assert_eq!(site.count(table) as u64, accepted);
        }
    }

    #[test]
    fn coming_again_changes_nothing(rows in any_rows()) {
        let site = Site::new();
        let path = site.put_order(&order_of(&site, "PO-1", &rows));
        let first = site.intake().submit(&path).unwrap();
        let counts = site.counts();
        let again = site.intake().submit(&path).unwrap();
        prop_assert_eq!(site.counts(), counts);
        prop_assert_eq!((first.exit, first.ack), (again.exit, again.ack));
    }

    #[test]
    fn no_octets_make_the_reader_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Order::from_json(&octets).is_err());
    }

    #[test]
    fn a_damaged_order_is_read_or_refused(at in 0..500_usize, with in any::<u8>()) {
        let mut octets = order().to_string().into_bytes();
        let at = at % octets.len();
        octets[at] = with;
        if let Err(unreadable) = Order::from_json(&octets) {
            prop_assert!(!unreadable.refusals.is_empty());
        }
    }
}
