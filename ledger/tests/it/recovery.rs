//! A torn tail heals alone, damage in the middle never heals silently, and nothing acknowledged is lost.

use crate::disk::{Disk, Fault};
use crate::support::*;
use ledger::Position;
use ledger::journal::{Journal, JournalReader, Outcome};
use std::sync::Arc;

const SEGMENT: u32 = 2000;

/// A journal of these batches (two entries each), killed without closing.
fn killed(batches: u32, segment_bytes: u32, confirm: bool) -> (Disk, Vec<Position>) {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, segment_bytes);
    let mut positions = Vec::new();
    for batch in 0..batches {
        positions.extend(append(&mut journal, &contents(batch * 2..batch * 2 + 2)).unwrap());
    }
    if confirm {
        journal.confirm().unwrap();
    }
    (disk, positions)
}

fn end_of_segment(disk: &Disk, number: u32) -> usize {
    let bytes = disk.bytes(&segment(number));
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn garbage(disk: &Disk, number: u32, offset: usize, bytes: &[u8]) {
    let mut content = disk.bytes(&segment(number));
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    disk.put(&segment(number), &content);
}

#[test]
fn row_continue_a_killed_journal_whose_last_batch_is_confirmed_goes_on_in_place() {
    let (disk, positions) = killed(3, 5000, true);
    let opened = open(&disk, 5000, None).unwrap();
    assert!(opened.report.unclean && opened.report.cut.is_none() && opened.report.moved.is_empty());
    let mut journal = opened.journal;
    let next = append(&mut journal, &contents(6..8)).unwrap();
    assert_eq!(next[0].segment, 1);
    assert_eq!(scan_contents(&opened.reader), contents(0..8));
    assert_eq!(opened.reader.read(positions[0]).unwrap().record, content(0).0);
}

#[test]
fn row_heal_an_unconfirmed_tail_moves_into_a_fresh_segment_once() {
    let (disk, positions) = killed(3, 5000, false);
    let opened = open(&disk, 5000, None).unwrap();
    let report = opened.report;
    assert_eq!(report.moved.len(), 2);
    assert_eq!(report.moved[0].0, positions[4]);
    assert_eq!(report.cut.map(|cut| cut.segment), Some(1));
    for (old, number) in positions.iter().zip(0..) {
        let new = report.translate(*old).unwrap();
        assert_eq!(opened.reader.read(new).unwrap().record, content(number).0);
    }
    assert_eq!(
        opened.reader.read(positions[4]).unwrap_err().code(),
        "journal.no-entry"
    );
    assert_eq!(scan_contents(&opened.reader), contents(0..6));
    // A cursor at a void place goes on with what comes behind.
    assert_eq!(scan(&opened.reader, positions[5]).unwrap().len(), 2);
    let cut = disk.bytes(&segment(1));
    drop(opened.journal);
    let again = open(&disk, 5000, None).unwrap();
    assert!(
        again.report.cut.is_none(),
        "the fresh segment is confirmed at once"
    );
    assert_eq!(
        disk.bytes(&segment(1)),
        cut,
        "a cut segment is never written again"
    );
    assert!(!walk_items(&disk).iter().any(is_finding));
}

#[test]
fn row_continue_the_anchor_proves_a_tail_that_no_batch_confirms() {
    let (disk, positions) = killed(3, 5000, false);
    let durable = JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap().end();
    let opened = open(&disk, 5000, Some(durable)).unwrap();
    assert!(opened.report.cut.is_none() && opened.report.moved.is_empty());
    assert_eq!(opened.reader.read(positions[5]).unwrap().record, content(5).0);
}

#[test]
fn row_heal_garbage_behind_the_last_batch_is_set_aside_and_kept() {
    for confirm in [false, true] {
        let (disk, _) = killed(3, 5000, confirm);
        let end = end_of_segment(&disk, 1);
        garbage(&disk, 1, end + 3, b"torn");
        let opened = open(&disk, 5000, None).unwrap();
        let torn = &opened.report.torn[0];
        assert_eq!(
            disk.bytes(&dir().join(&torn.file)),
            [&[0; 3][..], b"torn"].concat()
        );
        assert_eq!(scan_contents(&opened.reader), contents(0..6));
        assert!(!walk_items(&disk).iter().any(is_finding));
    }
}

#[test]
fn row_heal_a_batch_whose_payload_did_not_reach_the_disk_is_torn() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 5000);
    append(&mut journal, &contents(0..2)).unwrap();
    append(&mut journal, &[real_entry("arrives in part")]).unwrap();
    drop(journal);
    let end = end_of_segment(&disk, 1);
    garbage(&disk, 1, end - 2, &[0; 2]);
    let opened = open(&disk, 5000, None).unwrap();
    assert_eq!(scan_contents(&opened.reader), contents(0..2));
    assert!(opened.report.torn[0].what.contains("commitment"));
}

#[test]
fn row_corrupt_damage_below_a_later_batch_is_named_and_nothing_is_written() {
    let (disk, positions) = killed(4, 5000, true);
    garbage(&disk, 1, positions[2].offset as usize + 20, b"x");
    let before = disk.operations();
    let error = open(&disk, 5000, None).unwrap_err();
    assert_eq!(error.code(), "journal.corrupt");
    assert!(error.to_string().contains("segment 00000001"), "{error}");
    assert_eq!(disk.operations(), before);
    assert_eq!(
        JournalReader::open(Arc::new(disk), &dir()).unwrap_err().code(),
        "journal.corrupt"
    );
}

#[test]
fn row_corrupt_the_anchor_knows_of_more_than_is_there() {
    let (disk, positions) = killed(4, 5000, true);
    let durable = JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap().end();
    let mut bytes = disk.bytes(&segment(1));
    bytes.truncate(positions[6].offset as usize - 128);
    disk.put(&segment(1), &bytes);
    assert!(
        open(&disk.fork(), 5000, None).is_ok(),
        "without an anchor nobody knows"
    );
    assert_eq!(
        open(&disk, 5000, Some(durable)).unwrap_err().code(),
        "journal.corrupt"
    );
    let far = Position {
        segment: 2,
        offset: 290,
    };
    assert_eq!(
        open(&disk, 5000, Some(far)).unwrap_err().code(),
        "journal.corrupt"
    );
}

#[test]
fn row_begin_next_a_sealed_segment_without_a_successor_gets_one() {
    let (disk, _) = killed(6, SEGMENT, true);
    let count = disk.fork();
    // Remove the newest, unwritten-to-be: what a crash right after the footer leaves.
    let newest = (1..).take_while(|n| count_exists(&count, *n)).last().unwrap();
    let kept = scan_before(&disk, newest);
    ledger::storage::Storage::remove(&disk, &segment(newest)).unwrap();
    let opened = open(&disk, SEGMENT, None).unwrap();
    assert_eq!(scan_contents(&opened.reader), kept);
    let mut journal = opened.journal;
    let next = append(&mut journal, &contents(50..51)).unwrap();
    assert_eq!(next[0].segment, newest);
    assert!(!walk_items(&disk).iter().any(is_finding));
}

fn count_exists(disk: &Disk, number: u32) -> bool {
    ledger::storage::Storage::exists(disk, &segment(number)).unwrap()
}

fn scan_before(disk: &Disk, number: u32) -> Vec<Content> {
    let reader = JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap();
    let all = scan(&reader, Position::START).unwrap();
    all.into_iter()
        .filter(|e| e.position.segment < number)
        .map(|e| (e.record, e.payload))
        .collect()
}

#[test]
fn row_set_aside_whole_a_blank_newest_segment_is_a_torn_creation() {
    for bytes in [vec![], vec![0; 4096], vec![9; 200]] {
        let (disk, _) = killed(3, 5000, true);
        disk.put(&segment(2), &bytes);
        let opened = open(&disk, 5000, None).unwrap();
        assert_eq!(opened.report.torn.len(), 1);
        assert_eq!(disk.bytes(&dir().join(&opened.report.torn[0].file)), bytes);
        assert_eq!(scan_contents(&opened.reader), contents(0..6));
        let known = Some(Position {
            segment: 2,
            offset: 900,
        });
        disk.put(&segment(2), &bytes);
        assert_eq!(open(&disk, 5000, known).unwrap_err().code(), "journal.corrupt");
    }
}

#[test]
fn row_corrupt_a_lost_header_before_batches_is_never_a_torn_creation() {
    let (disk, _) = killed(3, 5000, true);
    garbage(&disk, 1, 20, b"x");
    let one_copy = open(&disk.fork(), 5000, None).unwrap();
    assert_eq!(one_copy.report.header_copies_damaged, [1], "one copy is enough");
    assert_eq!(scan_contents(&one_copy.reader), contents(0..6));
    garbage(&disk, 1, 165, b"x");
    assert_eq!(open(&disk, 5000, None).unwrap_err().code(), "journal.corrupt");
}

#[test]
fn a_journal_of_another_store_or_with_a_segment_missing_is_refused() {
    let (disk, _) = killed(12, SEGMENT, true);
    let context = ledger::journal::OpenContext {
        store: Some(ledger::journal::StoreId([8; 16])),
        durable: None,
        options: options(SEGMENT, 3),
    };
    let error = Journal::open(Arc::new(disk.fork()), &dir(), context).unwrap_err();
    assert_eq!(error.code(), "journal.other-store");
    ledger::storage::Storage::remove(&disk, &segment(2)).unwrap();
    assert_eq!(open(&disk, SEGMENT, None).unwrap_err().code(), "journal.corrupt");
    assert!(walk_items(&disk).iter().any(is_finding));
    assert_eq!(
        open(&Disk::default(), SEGMENT, None).unwrap_err().code(),
        "journal.missing"
    );
}

#[test]
fn truncation_at_any_byte_is_recovered_or_told_and_with_an_anchor_nothing_proven_is_lost() {
    for confirm in [false, true] {
        let (disk, positions) = killed(5, 5000, confirm);
        let durable = JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap().end();
        let whole = disk.bytes(&segment(1));
        for length in 0..whole.len() {
            let cut = disk.fork();
            cut.put(&segment(1), &whole[..length]);
            match open(&cut.fork(), 5000, Some(durable)) {
                Ok(opened) => {
                    assert_eq!(scan_contents(&opened.reader), contents(0..10), "cut at {length}");
                    assert_eq!(opened.report.translate(positions[9]), Some(positions[9]));
                }
                Err(error) => {
                    assert_eq!(error.code(), "journal.corrupt", "cut at {length}: {error}");
                    assert!(length < durable.offset as usize, "cut at {length}");
                }
            }
            // Without an anchor whole batches remain, in order, and appending goes on.
            match open(&cut, 5000, None) {
                Ok(opened) => {
                    let kept = scan_contents(&opened.reader);
                    assert!(
                        kept.len().is_multiple_of(2) && kept == contents(0..kept.len() as u32),
                        "cut at {length}"
                    );
                    let mut journal = opened.journal;
                    append(&mut journal, &contents(70..71)).unwrap();
                    assert!(!walk_items(&cut).iter().any(is_finding), "cut at {length}");
                }
                Err(error) => {
                    assert_eq!(error.code(), "journal.missing", "cut at {length}: {error}");
                    assert!(length < 290);
                }
            }
        }
    }
}

/// What the outside knows after a run.
#[derive(Default, Debug, Clone)]
struct Known {
    acknowledged: Vec<u32>,
    unknown: Option<u32>,
    durable: Option<Position>,
}

/// Creates, appends one entry at a time with confirming batches and rotations, and closes. Stops knowing at the first fault,
/// but goes on trying.
fn run(disk: &Disk) -> Known {
    let mut known = Known::default();
    let made = Journal::create(Arc::new(disk.clone()), &dir(), STORE, options(SEGMENT, 1));
    let Ok((mut journal, _)) = made else { return known };
    for number in 0..14 {
        let poisoned = journal.is_poisoned();
        match append(&mut journal, &contents(number..number + 1)) {
            Ok(_) => {
                assert!(!poisoned, "nothing is acknowledged after a fault until reopened");
                known.acknowledged.push(number);
                known.durable = Some(journal.durable_end());
            }
            Err(error) => {
                assert_eq!(poisoned, error.code() == "journal.poisoned");
                if error.outcome() == Outcome::Unknown {
                    assert!(known.unknown.replace(number).is_none());
                }
            }
        }
        if number % 4 == 2 {
            let _ = journal.confirm();
        }
    }
    let _ = journal.close();
    known
}

fn check_recovered(disk: &Disk, known: &Known, durable: Option<Position>, line: &str) {
    let opened = match open(disk, SEGMENT, durable) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(
                error.code() == "journal.missing" && known.acknowledged.is_empty(),
                "{line}: {error}"
            );
            return;
        }
    };
    let found = scan_contents(&opened.reader);
    let mut with_unknown = known.acknowledged.clone();
    with_unknown.extend(known.unknown);
    with_unknown.sort_unstable();
    let expect = |numbers: &[u32]| numbers.iter().map(|n| content(*n)).collect::<Vec<_>>();
    assert!(
        found == expect(&known.acknowledged) || found == expect(&with_unknown),
        "{line}: {known:?}, found {}",
        found.len()
    );
    let mut journal = opened.journal;
    append(&mut journal, &contents(90..91)).unwrap();
    journal.confirm().unwrap();
    drop(journal);
    let findings: Vec<_> = walk_items(disk).into_iter().filter(is_finding).collect();
    assert!(findings.is_empty(), "{line}: {findings:?}");
    // What recovery showed stays, whatever the disk had kept in its cache only.
    disk.power_cut(1);
    let opened = open(disk, SEGMENT, durable).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(
        scan_contents(&opened.reader),
        [found, contents(90..91)].concat(),
        "{line}"
    );
}

#[test]
fn an_error_at_any_operation_loses_nothing_acknowledged_and_reopening_heals() {
    let clean = Disk::default();
    let known = run(&clean);
    assert_eq!(known.acknowledged.len(), 14);
    let operations = clean.operations();
    assert!(operations > 40);
    for at in 0..operations {
        for fault in [
            Fault::ErrorNotDone,
            Fault::ErrorDone,
            Fault::Full,
            Fault::FullInside,
        ] {
            for power_cut in [None, Some(at), Some(at + 1000)] {
                for with_anchor in [false, true] {
                    let disk = Disk::default();
                    disk.set_fault(at, fault);
                    let known = run(&disk);
                    disk.heal();
                    if let Some(seed) = power_cut {
                        disk.power_cut(seed);
                    }
                    let line = format!("{fault:?} at {at}, power cut {power_cut:?}, anchor {with_anchor}");
                    let durable = known.durable.filter(|_| with_anchor);
                    check_recovered(&disk, &known, durable, &line);
                }
            }
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_and_another_during_recovery_lose_nothing_acknowledged() {
    let clean = Disk::default();
    run(&clean);
    for at in 0..=clean.operations() {
        for seed in 0..6 {
            let disk = Disk::default();
            disk.set_fault(at, Fault::Power);
            let known = run(&disk);
            disk.heal();
            disk.power_cut(seed * 1000 + at);
            let line = format!("power cut at {at}, seed {seed}");
            check_recovered(&disk.fork(), &known, known.durable, &line);
            check_recovered(&disk.fork(), &known, None, &line);
            // The second one, at every operation of the recovery after the first.
            let recovery = disk.fork();
            let before = recovery.operations();
            let _ = open(&recovery, SEGMENT, None);
            for second in before..recovery.operations() {
                let disk = disk.fork();
                disk.set_fault(second, Fault::Power);
                let _ = open(&disk, SEGMENT, None);
                disk.heal();
                disk.power_cut(seed + second);
                check_recovered(&disk, &known, None, &format!("{line}, second at {second}"));
            }
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_must_lose_or_the_power_cuts_test_nothing() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = Disk::default();
        let (mut journal, _) = create(&disk, 5000);
        disk.lie();
        append(&mut journal, &contents(0..3)).unwrap();
        drop(journal);
        disk.power_cut(seed);
        let found = scan_contents(&open(&disk, 5000, None).unwrap().reader);
        assert!(
            found.is_empty() || found == contents(0..3),
            "a batch is there whole or not at all"
        );
        lost += u32::from(found.is_empty());
    }
    assert!((10..50).contains(&lost), "{lost}");
}
