//! The document names a test for every rule of the queue, and every test that it names is there.

use std::collections::BTreeSet;
use std::path::Path;

/// The sections whose tables name a test in each row.
const SECTIONS: [&str; 4] = ["Bad input", "Late results", "Notices", "What holds the rules"];
/// The crates whose tests may be named.
const CRATES: [&str; 7] = [
    "core",
    "ledger",
    "projections",
    "server",
    "cli",
    "fixtures",
    "benches",
];

/// The functions marked as tests in the sources below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let name = line
                    .strip_prefix("async ")
                    .unwrap_or(line)
                    .strip_prefix("fn ")
                    .and_then(|rest| rest.split('(').next());
                if let Some(name) = name
                    && std::mem::take(&mut marked)
                {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

/// The rows of a section's table, without its head: their cells.
fn rows<'a>(document: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let begin = format!("\n## {section}\n");
    let from = document
        .find(&begin)
        .unwrap_or_else(|| panic!("a section {section:?}"))
        + begin.len();
    let text = document[from..].split("\n## ").next().unwrap();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    let all: Vec<Vec<&str>> = lines.map(cells).collect();
    assert_eq!(all[0].last(), Some(&"test"), "{section}: the last column");
    all[2..].to_vec()
}

#[test]
fn the_document_names_a_test_for_every_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = std::fs::read_to_string(root.join("docs/QUEUE.md")).unwrap();
    let mut known = BTreeSet::new();
    for name in CRATES {
        tests_below(&root.join(name), &mut known);
    }
    let mut missing = Vec::new();
    for section in SECTIONS {
        for row in rows(&document, section) {
            let named: Vec<&str> = row.last().unwrap().split('`').skip(1).step_by(2).collect();
            if named.is_empty() {
                missing.push(format!("{section}: {}: no test is named", row[0]));
            }
            let absent = named.into_iter().filter(|name| !known.contains(*name));
            missing.extend(absent.map(|name| format!("{section}: {}: {name} is no test", row[0])));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
