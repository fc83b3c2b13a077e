//! The order files of `test-vectors/`: the right ones are accepted, the wrong ones get exactly the refusals listed beside them.

use super::*;

fn vectors(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test-vectors").join(folder)
}

fn order_files(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(vectors(folder)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

#[test]
fn right_orders_are_accepted() {
    let files = order_files("orders");
    assert_eq!(files.len(), 4);
    for path in files {
        let answer = Site::new().intake().submit(&path).unwrap();
        assert_eq!(answer.verdict, Verdict::Accepted, "{}: {:?}", path.display(), answer.first_refusals);
    }
}

#[test]
fn wrong_orders_get_exactly_their_refusals_and_consume_nothing() {
    let expected = std::fs::read_to_string(vectors("bad/orders").join("expected.csv")).unwrap();
    let expected = rejects(&expected);
    let files = order_files("bad/orders");
    assert_eq!(files.len(), 13);
    for path in files {
        let site = Site::new();
        let answer = site.intake().submit(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let told: Vec<_> = told(&answer)
            .iter()
            .map(|(row, column, code)| [row.to_string(), (*column).into(), (*code).into()])
            .collect();
        let listed: Vec<_> =
            expected.iter().filter(|line| line[0] == name).map(|line| [1, 2, 3].map(|i| line[i].clone())).collect();
        assert_eq!(told, listed, "{name}");
        assert_eq!(answer.exit, Exit::OrderRejected, "{name}");
        assert!(site.nothing_consumed(), "{name}");
        assert!(!format!("{:?}", answer.first_refusals).contains("465B5C"), "{name}: a key was repeated");
    }
}
