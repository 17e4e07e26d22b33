//! A segment from which entries were pruned reads as before, but for them, whatever happens while it is written again.

use crate::disk::{Disk, Fault};
use crate::stores::Numbers;
use crate::support::*;
use ledger::Position;
use ledger::journal::{JournalReader, WalkItem};
use ledger::storage::Storage as _;
use proptest::prelude::*;
use std::sync::Arc;

const SEGMENT: u32 = 2500;

/// A journal with several segments; its entries in order. Some batches are confirmed, the last segment is the newest.
fn filled(batches: u32, random: &mut Numbers) -> (Disk, JournalReader, Vec<(Position, Content)>) {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, SEGMENT);
    let mut there = Vec::new();
    let mut next = 0;
    for _ in 0..batches {
        let count = 1 + u32::try_from(random.below(4)).unwrap();
        let contents = contents(next..next + count);
        next += count;
        there.extend(append(&mut journal, &contents).unwrap().into_iter().zip(contents));
        if random.below(3) == 0 {
            journal.confirm().unwrap();
        }
    }
    journal.close().unwrap();
    (disk, reader, there)
}

/// Prunes every segment but the newest; which entries are gone.
fn prune(
    reader: &JournalReader,
    there: &[(Position, Content)],
    goes: &dyn Fn(&[u8]) -> bool,
) -> Vec<Position> {
    let newest = reader.end().segment;
    let mut entries = 0;
    for number in reader.segments_before(newest) {
        if let Some(pruned) = reader.prune_segment(number, goes).unwrap() {
            // These records are so small that the map may weigh more than what went.
            assert_ne!(pruned.bytes_after, pruned.bytes_before);
            entries += pruned.entries;
        }
        assert_eq!(reader.prune_segment(number, goes).unwrap(), None, "twice is once");
    }
    let gone = there
        .iter()
        .filter(|(at, (record, _))| at.segment < newest && goes(record));
    let gone: Vec<Position> = gone.map(|(at, _)| *at).collect();
    assert_eq!(gone.len() as u64, entries);
    gone
}

fn check(reader: &JournalReader, there: &[(Position, Content)], gone: &[Position]) {
    let kept: Vec<_> = there
        .iter()
        .filter(|(at, _)| !gone.contains(at))
        .cloned()
        .collect();
    for (at, content) in there {
        if gone.contains(at) {
            assert_eq!(reader.read(*at).unwrap_err().code(), "journal.pruned", "{at}");
        } else {
            let entry = reader.read(*at).unwrap();
            assert_eq!((entry.record, entry.payload), content.clone(), "{at}");
        }
    }
    for after in there.iter().map(|(at, _)| *at).chain([Position::START]) {
        let scanned = scan(reader, after).unwrap();
        let scanned: Vec<_> = scanned
            .into_iter()
            .map(|entry| (entry.position, (entry.record, entry.payload)))
            .collect();
        let behind: Vec<_> = kept.iter().filter(|(at, _)| *at > after).cloned().collect();
        assert_eq!(scanned, behind, "after {after}");
    }
}

fn check_walk(disk: &Disk, there: &[(Position, Content)], gone: &[Position]) {
    let items = walk_items(disk);
    assert_eq!(
        items.iter().filter(|item| is_finding(item)).count(),
        0,
        "{items:?}"
    );
    let kept = there.iter().filter(|(at, _)| !gone.contains(at));
    let kept: Vec<Content> = kept.map(|(_, content)| content.clone()).collect();
    assert_eq!(walked_contents(&items), kept);
    let pruned = items.iter().map(|item| match item {
        WalkItem::Pruned { entries, .. } => *entries as usize,
        _ => 0,
    });
    assert_eq!(pruned.sum::<usize>(), gone.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_was_pruned_is_gone_and_all_else_is_where_it_was(seed in 1_u64.., first in 0_u8..=255, second in 0_u8..=255) {
        let mut random = Numbers(seed);
        let (disk, reader, there) = filled(60, &mut random);
        let chance = |record: &[u8], share: u8| blake3_of(record)[0] < share;
        let goes = |record: &[u8]| chance(record, first);
        let gone = prune(&reader, &there, &goes);
        check(&reader, &there, &gone);
        check_walk(&disk, &there, &gone);
        // A second time goes further, over gaps and marks.
        let goes = |record: &[u8]| chance(record, first) || blake3_of(record)[1] < second;
        prune_more(&reader, &goes);
        let newest = reader.end().segment;
        let gone: Vec<_> = there.iter().filter(|(at, (r, _))| at.segment < newest && goes(r)).map(|(at, _)| *at).collect();
        check(&reader, &there, &gone);
        check_walk(&disk, &there, &gone);
        let opened = open(&disk, SEGMENT, None).unwrap();
        check(&opened.reader, &there, &gone);
        let read_only = JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap();
        check(&read_only, &there, &gone);
        let mut journal = opened.journal;
        append(&mut journal, &contents(900..902)).unwrap();
        prop_assert!(walk_items(&disk).iter().all(|item| !is_finding(item)));
    }
}

fn prune_more(reader: &JournalReader, goes: &dyn Fn(&[u8]) -> bool) {
    for number in reader.segments_before(reader.end().segment) {
        reader.prune_segment(number, goes).unwrap();
    }
}

fn blake3_of(record: &[u8]) -> [u8; 32] {
    ledger::core::digest::content_digest(record).0
}

fn every_second(record: &[u8]) -> bool {
    blake3_of(record)[0] < 160
}

#[test]
fn a_power_cut_or_an_error_at_any_operation_leaves_the_segment_as_it_was_or_rewritten() {
    let (disk, _, there) = filled(12, &mut Numbers(77));
    let first: Vec<Position> = there
        .iter()
        .filter(|(at, (record, _))| at.segment == 1 && every_second(record))
        .map(|(at, _)| *at)
        .collect();
    assert!(!first.is_empty());
    let (mut before, mut after) = (0, 0);
    let faults = [
        Fault::Power,
        Fault::ErrorNotDone,
        Fault::ErrorDone,
        Fault::Full,
        Fault::FullInside,
    ];
    for fault in faults {
        for number in 0.. {
            let disk = disk.fork();
            let opened = open(&disk, SEGMENT, None).unwrap();
            let begin = disk.operations();
            disk.set_fault(begin + number, fault);
            let done = opened.reader.prune_segment(1, &every_second);
            let ended = disk.operations() <= begin + number;
            if let Err(error) = &done {
                let full = matches!(fault, Fault::Full | Fault::FullInside);
                let expected: &[&str] = if full {
                    &["journal.no-space", "journal.io"]
                } else {
                    &["journal.io"]
                };
                assert!(expected.contains(&error.code()), "{error}");
            }
            drop(opened);
            for seed in 0..6 {
                let disk = disk.fork();
                disk.heal();
                if fault == Fault::Power {
                    disk.power_cut(seed);
                }
                let opened = open(&disk, SEGMENT, None).unwrap();
                let is_there = opened.reader.read(first[0]).is_ok();
                let gone = if is_there { &[][..] } else { &first[..] };
                assert!(done.is_err() || !is_there, "what was said to be durable is");
                check(&opened.reader, &there, gone);
                check_walk(&disk, &there, gone);
                let names = disk.list(&dir()).unwrap();
                assert!(!names.iter().any(|name| name.ends_with(".new")), "{names:?}");
                *(if is_there { &mut before } else { &mut after }) += 1;
            }
            if ended {
                break;
            }
        }
    }
    assert!(before > 20 && after > 20, "{before} {after}");
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_pruned_segment_passes_silently() {
    let (disk, reader, there) = filled(12, &mut Numbers(77));
    let gone = prune(&reader, &there, &every_second);
    check_walk(&disk, &there, &gone);
    let sound = disk.bytes(&segment(1));
    let kept = walked_contents(&walk_items(&disk));
    let (mut named, mut payload) = (0, 0);
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        let disk = disk.fork();
        disk.put(&segment(1), &bytes);
        let items = walk_items(&disk);
        if items.iter().any(is_finding) {
            named += 1;
            continue;
        }
        // Payloads are checked by their commitments.
        let found = walked_contents(&items);
        assert_eq!(found.len(), kept.len(), "byte {at}");
        let differ: Vec<_> = found.iter().zip(&kept).filter(|(a, b)| a != b).collect();
        assert!(
            matches!(differ[..], [(a, b)] if a.0 == b.0 && a.1 != b.1),
            "byte {at} passes silently"
        );
        payload += 1;
    }
    assert!(named > 1000 && payload > 0, "{named} {payload}");
    for length in 0..sound.len() {
        let disk = disk.fork();
        disk.put(&segment(1), &sound[..length]);
        assert!(walk_items(&disk).iter().any(is_finding), "cut at {length}");
        let refused = open(&disk, SEGMENT, None).unwrap_err();
        assert_eq!(refused.code(), "journal.corrupt", "cut at {length}: {refused}");
    }
}

#[test]
fn what_was_freed_stays_free_when_more_of_the_segment_goes() {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 50_000);
    let large = |name: &str| (name.repeat(20_000 / name.len()).into_bytes(), None);
    let (kept, small) = (contents(0..1), contents(1..3));
    // A mark in a batch of which something stays, and behind it a batch that goes later.
    append(&mut journal, &[kept[0].clone(), large("first")]).unwrap();
    append(&mut journal, &small).unwrap();
    append(&mut journal, &[large("next")]).unwrap();
    append(&mut journal, &[large("next")]).unwrap();
    journal.close().unwrap();
    assert!(reader.end().segment > 1);
    let rewrite = |goes: &dyn Fn(&[u8]) -> bool| reader.prune_segment(1, goes).unwrap().unwrap();
    let first = rewrite(&|record| record.starts_with(b"firstfirst"));
    assert!(first.bytes_after + 19_000 < first.bytes_before, "{first:?}");
    let second = rewrite(&|record| record == small[0].0);
    assert!(second.bytes_after < second.bytes_before + 64, "{second:?}");
    assert!(walk_items(&disk).iter().all(|item| !is_finding(item)));
}

#[test]
fn a_payload_beside_a_gap_is_erased_in_place_and_stays_so_when_more_is_pruned() {
    let (disk, reader, there) = filled(12, &mut Numbers(77));
    let gone = prune(&reader, &there, &every_second);
    let newest = reader.end().segment;
    let erased = there
        .iter()
        .find(|(at, (_, payload))| at.segment < newest && payload.is_some() && !gone.contains(at));
    let (at, _) = erased.unwrap();
    let opened = open(&disk, SEGMENT, None).unwrap();
    let mut journal = opened.journal;
    // What is gone has nothing to erase.
    journal.erase_entries(&[gone[0], *at]).unwrap();
    assert!(opened.reader.read(*at).unwrap().is_erased());
    let target = opened.reader.read(*at).unwrap().record;
    prune_more(&opened.reader, &|record| {
        record != target && blake3_of(record)[1] < 128
    });
    assert!(opened.reader.read(*at).unwrap().is_erased());
    assert!(walk_items(&disk).iter().all(|item| !is_finding(item)));
    assert_eq!(
        opened.reader.prune_segment(newest, &|_| true).unwrap_err().code(),
        "journal.no-entry",
        "the newest segment is never rewritten"
    );
}

#[test]
fn what_is_pruned_while_it_is_being_erased_is_gone_and_the_journal_goes_on() {
    let (origin, _, there) = filled(40, &mut Numbers(77));
    let all: Vec<Position> = there.iter().map(|(at, _)| *at).collect();
    for _ in 0..40 {
        let disk = origin.fork();
        let mut opened = open(&disk, SEGMENT, None).unwrap();
        let newest = opened.reader.end().segment;
        std::thread::scope(|scope| {
            scope.spawn(|| prune_more(&opened.reader, &|_| true));
            opened.journal.erase_entries(&all).unwrap();
        });
        append(&mut opened.journal, &contents(900..901)).unwrap();
        for at in &all {
            match opened.reader.read(*at) {
                Ok(entry) => assert!(at.segment >= newest && (entry.is_erased() || entry.payload.is_none())),
                Err(error) => assert_eq!(error.code(), "journal.pruned", "{at}"),
            }
        }
        assert!(walk_items(&disk).iter().all(|item| !is_finding(item)));
    }
}

#[test]
fn a_cut_segment_is_pruned_without_what_recovery_left_behind_its_end() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 50_000);
    let secret = real_entry("the secret that recovery copied");
    let mut there = contents(0..8);
    append(&mut journal, &there).unwrap();
    append(&mut journal, std::slice::from_ref(&secret)).unwrap();
    // Killed: the last batch is proven by nothing, and moves into a fresh segment.
    drop(journal);
    let opened = open(&disk, 50_000, None).unwrap();
    assert_eq!(opened.report.moved.len(), 1);
    there.push(secret.clone());
    let goes = |record: &[u8]| record == there[1].0 || record == there[2].0 || record == there[4].0;
    let pruned = opened.reader.prune_segment(1, &goes).unwrap().unwrap();
    assert_eq!(pruned.entries, 3);
    let text = secret.1.unwrap().bytes;
    let holds = |disk: &Disk| {
        disk.bytes(&segment(1))
            .windows(text.len())
            .any(|window| window == text)
    };
    assert!(!holds(&disk), "the old copy went with it");
    let kept: Vec<Content> = there
        .iter()
        .filter(|(record, _)| !goes(record))
        .cloned()
        .collect();
    assert_eq!(scan_contents(&opened.reader), kept);
    // Erasing looks for copies in what is cut off, and finds none.
    let moved = opened.report.moved[0].1;
    let mut journal = opened.journal;
    journal.erase_entries(&[moved]).unwrap();
    assert!(opened.reader.read(moved).unwrap().is_erased());
    assert_eq!(scan(&opened.reader, Position::START).unwrap().len(), kept.len());
    assert!(walk_items(&disk).iter().all(|item| !is_finding(item)));
}
