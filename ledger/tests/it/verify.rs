//! Verification names what is wrong, and only that: each kind of change to a store has its verdict.

use crate::forging::{Stored, codes, forge, stored};
use crate::stores::{Numbers, assert_clean, copy, fact, fact_with, found, found_with, temp, verify};
use ledger::core::{Payload, Stream};
use ledger::verify::{Aspect, Options, Progress, Report, Verdict, verify_store};
use ledger::{Ledger, LedgerError, OpenOptions, Paths, State};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

// A store of one log without an anchor, and its entries: genesis at 0, then ten facts.
pub(crate) fn small(dir: &Path) -> Vec<Stored> {
    let ledger = Ledger::lone(dir, "studio").unwrap();
    for number in 0..10_u8 {
        let draft = if number % 2 == 0 {
            fact_with("n", &[number; 20])
        } else {
            fact("n")
        };
        ledger.append(draft).unwrap();
    }
    ledger.close().unwrap();
    std::fs::remove_dir_all(dir.join("keys")).unwrap();
    stored(dir)
}

pub(crate) fn verdicts(report: &Report) -> [Verdict; 3] {
    [report.integrity, report.signatures, report.completeness]
}

pub(crate) const CLEAN: Verdict = Verdict::Clean;
pub(crate) const FOUND: Verdict = Verdict::Found;

#[test]
fn a_clean_store_is_clean_and_everything_in_it_is_counted() {
    let dir = temp();
    let all = small(dir.path());
    let report = assert_clean(dir.path());
    assert_eq!(verdicts(&report), [CLEAN; 3]);
    // A log that founded its own fleet: nobody else says who may say what.
    assert_eq!((report.authority, report.counts.judged), (CLEAN, 11));
    let counts = report.counts;
    assert_eq!((counts.logs, counts.receipts, counts.payloads), (1, 11, 5));
    assert_eq!((counts.log_signatures, counts.author_signatures), (11, 0));
    assert_eq!(all.len(), 11);
    assert!(report.notes.iter().any(|note| note.contains("no anchor")));
    assert!(report.freshness.age_ms.unwrap() < 600_000);
    // The same by its data directory, its journal, and a forged copy that forges nothing.
    for part in ["data", "data/journal"] {
        assert_eq!(assert_clean(&dir.path().join(part)).counts, counts);
    }
    forge(dir.path(), &all);
    assert_clean(dir.path());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["integrity"], "clean");
    assert_eq!(json["authority"], "clean");
    assert_eq!(json["freshness"]["verdict"], "not-checked");
    assert!(report.to_string().contains("nothing found"));
    assert_eq!(report.to_detail().receipts, 11);
}

#[test]
fn the_hash_tier_checks_no_signature_and_says_so() {
    let dir = temp();
    small(dir.path());
    let options = Options {
        full: false,
        threads: 1,
        ..Options::default()
    };
    let report = verify_store(dir.path(), &options, &mut |_| {}).unwrap();
    assert!(report.is_clean());
    assert_eq!(report.signatures, Verdict::NotChecked);
    assert_eq!((report.counts.log_signatures, report.counts.payloads), (0, 5));
}

#[test]
fn progress_rises_and_ends_at_the_end() {
    let dir = temp();
    small(dir.path());
    let mut seen: Vec<Progress> = Vec::new();
    verify_store(dir.path(), &Options::default(), &mut |progress| {
        seen.push(progress);
    })
    .unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    let last = seen.last().unwrap();
    assert_eq!(
        (last.bytes, last.receipts, last.findings),
        (last.bytes_total, 11, 0)
    );
}

#[test]
fn what_is_removed_doubled_swapped_or_cut_is_named() {
    let dir = temp();
    let all = small(dir.path());
    type Change = fn(&mut Vec<Stored>);
    type Named = &'static [(&'static str, Option<u64>)];
    let cases: [(Change, [Verdict; 3], Named); 6] = [
        (
            |all| drop(all.remove(4)),
            [CLEAN, CLEAN, FOUND],
            &[("chain.gap", Some(4))],
        ),
        (
            |all| drop(all.drain(3..6)),
            [CLEAN, CLEAN, FOUND],
            &[("chain.gap", Some(3))],
        ),
        (
            |all| all.insert(6, all[5].clone()),
            [FOUND, CLEAN, CLEAN],
            &[("chain.seq", Some(5))],
        ),
        (
            |all| all.swap(5, 6),
            [FOUND, CLEAN, FOUND],
            &[("chain.gap", Some(5)), ("chain.seq", Some(5))],
        ),
        (
            |all| drop(all.remove(0)),
            [CLEAN, CLEAN, FOUND],
            &[("chain.genesis", Some(0))],
        ),
        (Vec::clear, [CLEAN, CLEAN, FOUND], &[("store.empty", None)]),
    ];
    for (number, (change, expected, named)) in cases.into_iter().enumerate() {
        let mut changed = all.clone();
        change(&mut changed);
        forge(dir.path(), &changed);
        let report = verify(dir.path());
        assert_eq!(verdicts(&report), expected, "case {number}: {report}");
        assert_eq!(codes(&report), named, "case {number}: {report}");
    }
}

#[test]
fn every_changed_byte_of_a_record_is_found_though_all_checksums_are_right() {
    let dir = temp();
    let all = small(dir.path());
    let seqs = [0, 3, 10];
    for seq in seqs {
        for at in 0..all[seq].0.len() {
            let mut changed = all.clone();
            changed[seq].0[at] ^= 1 << (at % 8);
            forge(dir.path(), &changed);
            let report = verify(dir.path());
            assert!(!report.is_clean(), "record {seq}, byte {at}");
        }
    }
}

#[test]
fn a_changed_record_is_named_and_so_is_every_further_one() {
    let dir = temp();
    let all = small(dir.path());
    let mut changed = all.clone();
    // The last byte of a record is of its log signature.
    for seq in [2, 5, 9] {
        *changed[seq].0.last_mut().unwrap() ^= 0x10;
    }
    forge(dir.path(), &changed);
    let report = verify(dir.path());
    let code = "chain.log-signature";
    assert_eq!(
        codes(&report),
        [(code, Some(2)), (code, Some(5)), (code, Some(9))]
    );
    assert_eq!(verdicts(&report), [CLEAN, FOUND, CLEAN]);
    // The tree covers signatures as well: the root is another one.
    assert_ne!(report.logs[0].root, None);
}

#[test]
fn payloads_that_are_changed_absent_erased_or_too_many_are_told_apart() {
    let dir = temp();
    let all = small(dir.path());
    type Change = fn(&mut Option<Payload>);
    let zeros = |payload: &mut Option<Payload>| {
        let payload = payload.as_mut().unwrap();
        payload.salt.0 = [0; 32];
        payload.bytes.fill(0);
    };
    let cases: [(usize, Change, &str, Aspect); 5] = [
        (
            1,
            |p| p.as_mut().unwrap().bytes[0] ^= 1,
            "statement.payload",
            Aspect::Integrity,
        ),
        (
            1,
            |p| p.as_mut().unwrap().salt.0[31] ^= 1,
            "statement.payload",
            Aspect::Integrity,
        ),
        (3, |p| *p = None, "payload.absent", Aspect::Completeness),
        (5, zeros, "payload.absent", Aspect::Completeness),
        (
            2,
            |p| {
                *p = Some(Payload {
                    salt: ledger::core::Salt([1; 32]),
                    bytes: vec![1],
                });
            },
            "payload.unexpected",
            Aspect::Integrity,
        ),
    ];
    for (seq, change, code, aspect) in cases {
        let mut changed = all.clone();
        change(&mut changed[seq].1);
        forge(dir.path(), &changed);
        let report = verify(dir.path());
        assert_eq!(codes(&report), [(code, u64::try_from(seq).ok())], "{report}");
        assert_eq!(report.findings[0].aspect, aspect);
    }
}

#[test]
fn a_tail_that_the_anchor_knows_and_that_is_gone_is_missed() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    for _ in 0..5 {
        ledger.append(fact("n")).unwrap();
    }
    let log = ledger.own_log(Stream::Facts).unwrap();
    ledger.close().unwrap();
    assert_eq!(assert_clean(dir.path()).counts.heads_compared, 2);
    let mut all = stored(dir.path());
    all.truncate(5);
    forge(dir.path(), &all);
    let report = verify(dir.path());
    let missing = report
        .findings
        .iter()
        .find(|f| f.code == "anchor.missing")
        .unwrap();
    assert_eq!((missing.log, missing.seq), (Some(log), Some(5)));
    assert_eq!(report.completeness, FOUND);
    // Without the anchor nobody can know; that is said.
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    assert_clean(dir.path());
}

#[test]
fn a_closed_store_has_no_torn_tail_and_a_killed_one_may() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    ledger.append(fact("n")).unwrap();
    // As a kill would leave it: the copy is taken while the store is open, and ends in a torn batch.
    let killed = temp();
    copy(dir.path(), killed.path());
    let end = ledger.snapshot().end.offset as usize;
    ledger.close().unwrap();
    // Behind the last batch, whose own last byte may be a zero; what was closed ends with it.
    let tear = |dir: &Path, end: usize| {
        let path = Paths::new(dir).journal().join("00000001.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(end);
        bytes.extend_from_slice(b"LBAT and then the power went");
        std::fs::write(&path, bytes).unwrap();
    };
    assert_clean(killed.path());
    tear(killed.path(), end);
    let report = assert_clean(killed.path());
    assert!(
        report.notes.iter().any(|note| note.contains("nothing proves")),
        "{report}"
    );
    tear(dir.path(), usize::MAX);
    let report = verify(dir.path());
    assert_eq!(codes(&report), [("journal.torn", None)]);
}

#[test]
fn data_beside_another_stores_anchor_is_told() {
    let dirs = [temp(), temp()];
    for dir in &dirs {
        found(dir.path(), "studio", false).close().unwrap();
    }
    std::fs::remove_dir_all(dirs[0].path().join("keys")).unwrap();
    copy(&dirs[1].path().join("keys"), &dirs[0].path().join("keys"));
    let report = verify(dirs[0].path());
    assert!(
        report.findings.iter().any(|f| f.code == "store.foreign-anchor"),
        "{report}"
    );
}

#[test]
fn a_store_is_verified_while_it_is_written() {
    let dir = temp();
    let options = OpenOptions::default().segment_bytes(32 * 1024);
    let ledger = found_with(dir.path(), "studio", false, options);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) && count < 5_000 {
                ledger.append(fact_with("n", &count.to_be_bytes())).unwrap();
                count += 1;
            }
        });
        // Fifteen readings at least, and until one has seen the store grow under it.
        let (mut before, mut readings) = (0, 0);
        while readings < 15 || (before < 50 && !writer.is_finished()) {
            let report = assert_clean(dir.path());
            assert!(report.counts.receipts >= before);
            before = report.counts.receipts;
            readings += 1;
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(before >= 50);
    });
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn a_folder_without_a_journal_is_no_store() {
    let dir = temp();
    let error = verify_store(dir.path(), &Options::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "ledger.no-store");
}

// Blocks as disks lose them: zeroed, doubled, swapped, stale. Over several segments, with replicas and payloads.
#[test]
fn damaged_blocks_are_found_and_nothing_panics_or_hangs() {
    let dir = temp();
    let options = OpenOptions::default().segment_bytes(8 * 1024);
    let ledger = found_with(dir.path(), "studio", false, options);
    for number in 0..60_u8 {
        ledger.append(fact_with("n", &[number; 100])).unwrap();
    }
    close(ledger).unwrap();
    let clean = assert_clean(dir.path());
    assert!(clean.counts.segments > 3);
    let journal = Paths::new(dir.path()).journal();
    let mut numbers = Numbers(0xb10c);
    for round in 0..200 {
        let segment = 1 + numbers.below(clean.counts.segments);
        let path = journal.join(format!("{segment:08}.seg"));
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let length = bytes.len() as u64;
        let size = 1 + numbers.below(512.min(length - 1));
        let (from, to) = (numbers.below(length - size), numbers.below(length - size));
        let (from, to, size) = (from as usize, to as usize, size as usize);
        match round % 4 {
            0 => bytes[from..from + size].fill(0),
            1 => bytes.copy_within(from..from + size, to),
            2 => bytes.truncate(from),
            _ => drop(bytes.drain(from..from + size)),
        }
        if bytes == whole {
            continue;
        }
        std::fs::write(&path, &bytes).unwrap();
        let report = verify(dir.path());
        assert!(
            !report.is_clean(),
            "round {round}: segment {segment}, {size} bytes from {from} to {to}"
        );
        std::fs::write(&path, &whole).unwrap();
    }
    assert_clean(dir.path());
}

fn close<S: State>(ledger: Ledger<S>) -> Result<(), LedgerError> {
    ledger.close()
}

#[test]
fn among_many_own_signatures_the_one_bad_one_is_named() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    for _ in 0..300 {
        drop(ledger.submit(|tx| tx.append(Stream::Facts, fact("n"))));
    }
    ledger.append(fact("last")).unwrap();
    ledger.close().unwrap();
    let mut all = stored(dir.path());
    *all[100].0.last_mut().unwrap() ^= 1;
    let bad = ledger::core::Record::parse(&all[100].0).unwrap().seal().seq;
    forge(dir.path(), &all);
    // The anchor is there, so these are own logs, whose signatures go through the batch equation first.
    let report = verify(dir.path());
    let signatures: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.aspect == Aspect::Signatures)
        .collect();
    assert_eq!(signatures.len(), 1, "{report}");
    assert_eq!(
        (signatures[0].code, signatures[0].seq),
        ("chain.log-signature", Some(bad))
    );
    // And the anchor's root covers the signatures too.
    assert!(
        report.findings.iter().any(|f| f.code == "anchor.root"),
        "{report}"
    );
}
