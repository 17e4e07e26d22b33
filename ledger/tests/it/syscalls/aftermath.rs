//! What must hold after any run, whatever was hurt in it.

use super::victim::told;
use super::{Run, Script, lone, options};
use crate::stores::{Counter, fact, verify};
use ledger::core::tree::{self, Tree};
use ledger::core::{LogId, Stream};
use ledger::verify::{Options, verify_bundle};
use ledger::{Ledger, Paths, PayloadState, Position, State as _};
use std::io::Read;
use std::path::{Path, PathBuf};

// What must hold after any run.
pub(super) fn check(work: &Path, script: Script, run: &Run) {
    let (what, dir) = (&run.what, work.join("store"));
    let paths = Paths::new(&dir);
    if run.killed && paths.journal().exists() {
        // From disk, before recovery: at most a torn tail, which is a note.
        let report = verify(&dir);
        assert!(report.is_clean(), "{what}: before recovery: {report}");
    }
    if script == Script::Create && !paths.journal().exists() {
        // Half made is not made, and it is said so.
        let code = Ledger::<Counter>::open(&paths, options()).err().map(|e| e.code());
        assert_eq!(code, Some("ledger.no-store"), "{what}");
    }
    let opened = match script {
        Script::Create => Ledger::open_or_create(&paths, &lone(), options()),
        Script::Use | Script::Recover | Script::Idle => Ledger::open(&paths, options()),
    };
    let ledger = opened.unwrap_or_else(|e| panic!("{what}: does not open again: {}: {e}", e.code()));
    let mut erased = Vec::new();
    let mut erasing = Vec::new();
    let mut told_of = Vec::new();
    for line in &run.acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["receipt", id, log, seq, number] => {
                let log = LogId::from_hex(log).unwrap();
                let receipt = ledger.get(&log, seq.parse().unwrap()).unwrap();
                let receipt = receipt.unwrap_or_else(|| panic!("{what}: lost: {line}"));
                assert_eq!(receipt.id().to_string(), id, "{what}");
                told_of.push((number, receipt));
            }
            ["erasing", number] => erasing.push(number),
            ["erased", number] => erased.push(number),
            ["exported", log, size, root] => {
                let log = LogId::from_hex(log).unwrap();
                let size: u64 = size.parse().unwrap();
                let mut tree = Tree::new();
                for receipt in ledger.range(&log, 0, size - 1) {
                    tree.push(tree::leaf_hash(receipt.unwrap().record.bytes()));
                }
                assert_eq!(tree.size(), size, "{what}");
                assert_eq!(
                    tree.root().to_string(),
                    root,
                    "{what}: a checkpoint is contradicted"
                );
                let bundle = work.join("facts.bundle");
                let report = verify_bundle(&bundle, &Options::default(), &mut |_| {}).unwrap();
                assert!(report.is_clean(), "{what}: {report}");
            }
            ["error", code, ..] => {
                println!("{what}: {line}");
                assert!(is_allowed(code), "{what}: {line}");
            }
            _ => panic!("{what}: {line:?}"),
        }
    }
    for (number, receipt) in &told_of {
        let Ok(value) = number.parse::<u64>() else {
            continue;
        };
        match ledger.payload(receipt).unwrap() {
            PayloadState::Present(payload) => {
                assert!(payload.bytes == told(value), "{what}: payload {number}");
                assert!(
                    !erased.contains(number),
                    "{what}: payload {number} is there again"
                );
            }
            PayloadState::Erased => assert!(erasing.contains(number), "{what}: payload {number} is gone"),
            other => panic!("{what}: payload {number}: {other:?}"),
        }
        if erased.contains(number) {
            let needle = format!("<payload {value:04} of the script>");
            let found = files(&dir)
                .into_iter()
                .find(|file| holds(file, needle.as_bytes()));
            assert_eq!(found, None, "{what}: an erased payload is still in a file");
        }
    }
    // It goes on, dense, and folds to what it says.
    let count = ledger.snapshot().receipts;
    for stream in [Stream::Work, Stream::Facts] {
        ledger.append_to(stream, fact("after")).unwrap();
        let log = ledger.own_log(stream).unwrap();
        let head = ledger.head(&log).unwrap();
        let seqs: Vec<_> = ledger
            .range(&log, 0, head.seq)
            .map(|r| r.unwrap().seq())
            .collect();
        assert_eq!(seqs, (0..=head.seq).collect::<Vec<_>>(), "{what}");
    }
    assert_eq!(ledger.snapshot().receipts, count + 2, "{what}");
    let mut folded = Counter::empty(ledger.context());
    for receipt in ledger.scan(Position::START) {
        folded.fold(&receipt.unwrap(), &mut ledger::Changes::discarding());
    }
    assert_eq!(ledger.snapshot().state, folded, "{what}");
    ledger.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    let report = verify(&dir);
    assert!(report.is_clean(), "{what}: at the end: {report}");
}

// What a caller may be told when a call fails: the disk's own error with the place, or that the outcome is unknown or the
// store closed, each of which says to open it again.
fn is_allowed(code: &str) -> bool {
    const ALLOWED: [&str; 13] = [
        "ledger.io",
        "ledger.derived",
        "ledger.closed",
        "ledger.unknown",
        "ledger.not-committed",
        "ledger.not-overwritten",
        "ledger.publish",
        "store.lock-io",
        "anchor.io",
        "anchor.poisoned",
        "journal.io",
        "journal.no-space",
        "journal.poisoned",
    ];
    ALLOWED.contains(&code)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

// Most of a file is zeros that were never written: a block of them is looked at as one.
fn holds(file: &Path, needle: &[u8]) -> bool {
    const BLOCK_BYTES: usize = 64 * 1024;
    let mut open = std::fs::File::open(file).unwrap();
    let (zeros, mut block) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut bytes = Vec::new();
    loop {
        let count = open.read(&mut block).unwrap();
        if count == 0 {
            break;
        }
        if block[..count] == zeros[..count] {
            bytes.push(0);
        } else {
            bytes.extend_from_slice(&block[..count]);
        }
    }
    // The needle begins with what is rare.
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return true;
        }
        from += at + 1;
    }
    false
}
