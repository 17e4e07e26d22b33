//! What is appended is what is read, and every bit of a segment is accounted for.

use crate::disk::Disk;
use crate::support::*;
use ledger::Position;
use ledger::core::{Payload, Salt};
use ledger::journal::{Journal, JournalReader, Outcome, WalkItem};
use ledger::storage::{DiskStorage, Storage};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Appends batches of 1, 2, 3, 4 entries in turn, with confirming batches in between; returns positions in order.
fn fill(journal: &mut Journal, batches: u32) -> Vec<Position> {
    let (mut positions, mut number) = (Vec::new(), 0);
    for batch in 0..batches {
        let count = batch % 4 + 1;
        positions.extend(append(journal, &contents(number..number + count)).unwrap());
        number += count;
        if batch % 3 == 1 {
            journal.confirm().unwrap();
        }
    }
    positions
}

fn numbers(batches: u32) -> u32 {
    (0..batches).map(|batch| batch % 4 + 1).sum()
}

fn check_all(reader: &JournalReader, positions: &[Position], expected: &[Content]) {
    assert_eq!(positions.len(), expected.len());
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
    for (position, (record, payload)) in positions.iter().zip(expected) {
        let entry = reader.read(*position).unwrap();
        assert_eq!(
            (entry.position, &entry.record, &entry.payload),
            (*position, record, payload)
        );
        let entry = reader.read_record(*position).unwrap();
        assert_eq!(
            (&entry.record, entry.payload, entry.place.is_some()),
            (record, None, payload.is_some())
        );
    }
    let all = scan(reader, Position::START).unwrap();
    assert_eq!(all.iter().map(|e| e.position).collect::<Vec<_>>(), positions);
    for (index, position) in positions.iter().enumerate() {
        let rest = scan(reader, *position).unwrap();
        assert_eq!(rest, all[index + 1..], "a scan begins behind {position}");
    }
    assert!(reader.scan(reader.end()).next().is_none());
    let bare: Vec<_> = reader
        .scan(Position::START)
        .map(|entry| entry.unwrap().payload)
        .collect();
    assert!(bare.iter().all(Option::is_none));
}

#[test]
fn what_is_appended_over_many_segments_is_read_back_by_position_and_by_scan_also_after_reopening() {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 1500);
    let positions = fill(&mut journal, 24);
    let expected = contents(0..numbers(24));
    assert!(positions.last().unwrap().segment >= 5, "small segments rotate");
    check_all(&reader, &positions, &expected);
    assert_eq!(reader.end(), journal.durable_end());
    journal.close().unwrap();

    let before: Vec<_> = (1..=positions.last().unwrap().segment)
        .map(|n| disk.bytes(&segment(n)))
        .collect();
    let opened = open(&disk, 1500, None).unwrap();
    assert!(!opened.report.unclean && opened.report.cut.is_none());
    let after: Vec<_> = (1..=positions.last().unwrap().segment)
        .map(|n| disk.bytes(&segment(n)))
        .collect();
    assert_eq!(before, after, "after a clean close nothing is rewritten");
    check_all(&opened.reader, &positions, &expected);
    check_all(
        &JournalReader::open(Arc::new(disk.clone()), &dir()).unwrap(),
        &positions,
        &expected,
    );

    let mut journal = opened.journal;
    let more = append(&mut journal, &contents(900..903)).unwrap();
    assert!(more[0] > *positions.last().unwrap());
    assert_eq!(scan(&opened.reader, *positions.last().unwrap()).unwrap().len(), 3);
    let items = walk_items(&disk);
    assert!(
        !items.iter().any(is_finding),
        "{:?}",
        items.iter().find(|i| is_finding(i))
    );
    assert_eq!(walked_contents(&items).len(), expected.len() + 3);
}

#[test]
fn the_real_disk_gives_the_same_and_big_batches_and_payloads_fit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("journal");
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage);
    let (mut journal, reader) = Journal::create(storage.clone(), &dir, STORE, options(1 << 20, 1)).unwrap();
    let payload = Payload {
        salt: Salt([1; 32]),
        bytes: vec![3; 65_536],
    };
    let big: Vec<Content> = (0..40)
        .map(|n| (vec![n; 65_535], Some(payload.clone())))
        .collect();
    let mut positions = append(&mut journal, &contents(0..10)).unwrap();
    positions.extend(append(&mut journal, &big).unwrap());
    positions.extend(append(&mut journal, &contents(10..20)).unwrap());
    let expected = [contents(0..10), big, contents(10..20)].concat();
    check_all(&reader, &positions, &expected);
    journal.close().unwrap();
    let read_only = JournalReader::open(storage, &dir).unwrap();
    check_all(&read_only, &positions, &expected);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_of_it_is_there() {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 4096);
    let payload = Payload {
        salt: Salt([1; 32]),
        bytes: vec![0; 65_537],
    };
    for bad in [(vec![], None), (vec![1; 65_536], None), (vec![1], Some(payload))] {
        let refused = append(&mut journal, &[content(1), bad]).unwrap_err();
        assert_eq!(
            (refused.code(), refused.outcome()),
            ("journal.batch-too-large", Outcome::NotCommitted)
        );
    }
    let many = vec![(vec![1], None); 65_537];
    assert_eq!(
        append(&mut journal, &many).unwrap_err().code(),
        "journal.batch-too-large"
    );
    assert_eq!(append(&mut journal, &[]).unwrap(), vec![]);
    append(&mut journal, &contents(0..1)).unwrap();
    assert_eq!(scan_contents(&reader), contents(0..1));
}

#[test]
fn a_position_that_is_no_entry_is_told_as_such_and_never_read_as_one() {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 1500);
    let positions: BTreeSet<Position> = fill(&mut journal, 8).into_iter().collect();
    for number in 0..4 {
        for offset in (0..1600).chain([u32::MAX]) {
            let at = Position {
                segment: number,
                offset,
            };
            match reader.read(at) {
                Ok(entry) => assert!(positions.contains(&at), "{entry:?}"),
                Err(error) => {
                    assert!(!positions.contains(&at), "{error}");
                    assert!(["journal.no-entry", "journal.corrupt"].contains(&error.code()));
                }
            }
        }
    }
}

#[test]
fn a_payload_that_holds_a_copy_of_real_batches_and_of_a_footer_is_never_taken_for_them() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 20_000);
    fill(&mut journal, 3);
    // Everything written so far, footer of a sealed twin included, as the content of a payload.
    let twin = disk.fork();
    let mut forged = disk.bytes(&segment(1));
    forged.truncate(journal.durable_end().offset as usize);
    drop(open(&twin, 1, None).unwrap().journal.close());
    let salt = Salt([0; 32]);
    append(
        &mut journal,
        &[(vec![1; 50], Some(Payload { salt, bytes: forged }))],
    )
    .unwrap();
    append(&mut journal, &contents(100..101)).unwrap();
    append(&mut journal, &contents(101..102)).unwrap();
    drop(journal);

    // With the header before the payload gone, a search for the next batch passes through the payload.
    let sound = walk_items(&disk);
    let at = sound.iter().find_map(|item| match item {
        WalkItem::Batch { number, position, .. } if *number == 4 => Some(position.offset as usize),
        _ => None,
    });
    let mut bytes = disk.bytes(&segment(1));
    bytes[at.unwrap()] ^= 1;
    disk.put(&segment(1), &bytes);
    let items = walk_items(&disk);
    let numbers = |items: &[WalkItem]| -> Vec<u64> {
        let number = |item: &WalkItem| match item {
            WalkItem::Batch { number, .. } => Some(*number),
            _ => None,
        };
        items.iter().filter_map(number).collect()
    };
    let mut expected = numbers(&sound);
    expected.retain(|number| *number != 4);
    assert_eq!(numbers(&items), expected);
    let findings: Vec<_> = items.iter().filter(|item| is_finding(item)).collect();
    assert!(
        matches!(findings[..], [WalkItem::Damage { proven: true, .. }]),
        "{findings:?}"
    );
    assert_eq!(open(&disk, 20_000, None).unwrap_err().code(), "journal.corrupt");
}

/// The offset of the entry in whose record a byte lies.
fn entry_at(items: &[WalkItem], segment: u32, offset: u32) -> Option<u32> {
    items.iter().find_map(|item| match item {
        WalkItem::Entry { entry, .. } if entry.position.segment == segment => {
            let begin = entry.position.offset + 14;
            let end = begin + u32::try_from(entry.record.len()).unwrap();
            (begin..end).contains(&offset).then_some(entry.position.offset)
        }
        _ => None,
    })
}

#[test]
fn every_flipped_bit_of_a_healed_journal_is_found_or_lies_in_a_payload_or_behind_the_cut() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 5000);
    append(&mut journal, &contents(0..2)).unwrap();
    append(&mut journal, &contents(2..3)).unwrap();
    drop(journal);
    let opened = open(&disk, 5000, None).unwrap();
    let cut = opened.report.cut.unwrap().offset;
    opened.journal.close().unwrap();
    let sound = walk_items(&disk);
    assert!(!sound.iter().any(is_finding));
    for number in [1, 2] {
        let whole = disk.bytes(&segment(number));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let copy = disk.fork();
            copy.put(&segment(number), &flipped);
            let items = walk_items(&copy);
            let ignored = number == 1 && bit / 8 >= cut as usize;
            if ignored {
                assert_eq!(items, sound);
            } else if !items.iter().any(is_finding) {
                assert_ne!(
                    walked_contents(&items),
                    walked_contents(&sound),
                    "segment {number} bit {bit}"
                );
                let records = |items: &[WalkItem]| {
                    walked_contents(items)
                        .into_iter()
                        .map(|c| c.0)
                        .collect::<Vec<_>>()
                };
                assert_eq!(records(&items), records(&sound));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn blocks_that_are_zeroed_doubled_or_garbled_are_found_and_never_read_as_something_else(
        number in 1_u32..3,
        from in 0_usize..5000,
        to in 0_usize..5000,
        length in 1_usize..1200,
        how in 0..4,
        noise in any::<u8>(),
    ) {
        let disk = Disk::default();
        let (mut journal, _) = create(&disk, 2600);
        for batch in 0..6 {
            append(&mut journal, &contents(batch * 2..batch * 2 + 2)).unwrap();
        }
        journal.close().unwrap();
        let sound = walk_items(&disk);
        let mut bytes = disk.bytes(&segment(number));
        let (from, to) = (from % bytes.len(), to % bytes.len());
        let length = length.min(bytes.len() - from.max(to));
        let reaches_end = to + length == bytes.len();
        match how {
            0 => bytes[to..to + length].fill(0),
            1 => bytes[to..to + length].fill(noise),
            2 => bytes.copy_within(from..from + length, to),
            _ => drop(bytes.drain(to..to + length)),
        }
        disk.put(&segment(number), &bytes);
        let items = walk_items(&disk);
        let (walked, expected) = (walked_contents(&items), walked_contents(&sound));
        // A newest segment that ends early, exactly behind a batch, is what only an anchor or a witness can notice.
        let is_cut = number == 2 && (how == 3 || (reaches_end && (how == 0 || (how == 1 && noise == 0))));
        if !is_cut && walked == expected && items != sound {
            prop_assert!(items.iter().any(is_finding));
        }
        if !items.iter().any(is_finding) && !is_cut {
            prop_assert_eq!(walked.len(), expected.len());
        }
        for (record, _) in &walked {
            prop_assert!(expected.iter().any(|(known, _)| known == record));
        }
        if let Ok(reader) = JournalReader::open(Arc::new(disk.clone()), &dir()) {
            for entry in reader.scan(Position::START).map_while(Result::ok) {
                prop_assert!(expected.iter().any(|(known, _)| *known == entry.record));
            }
        }
        let _ = open(&disk, 2600, None);
    }
}

#[test]
fn every_flipped_bit_of_a_journal_is_found_or_lies_in_a_payload() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 2600);
    let mut positions = Vec::new();
    for batch in 0..6 {
        positions.extend(append(&mut journal, &contents(batch * 2..batch * 2 + 2)).unwrap());
    }
    assert_eq!(positions.last().unwrap().segment, 2);
    journal.close().unwrap();
    let sound = walk_items(&disk);
    assert!(!sound.iter().any(is_finding));
    let expected = walked_contents(&sound);
    let places: Vec<_> = sound
        .iter()
        .filter_map(|item| match item {
            WalkItem::Entry { entry, .. } => entry.place,
            _ => None,
        })
        .collect();

    for number in [1, 2] {
        let path = segment(number);
        let whole = disk.bytes(&path);
        for bit in 0..whole.len() * 8 {
            let offset = u32::try_from(bit / 8).unwrap();
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let copy = disk.fork();
            copy.put(&path, &flipped);
            let items = walk_items(&copy);
            let in_payload = places.iter().any(|place| {
                place.segment == number && (place.offset..place.offset + place.bytes).contains(&offset)
            });
            if in_payload {
                assert!(!items.iter().any(is_finding), "segment {number} bit {bit}");
                let walked = walked_contents(&items);
                assert_ne!(
                    walked, expected,
                    "the payload shows it, for its commitment to find"
                );
                assert!(walked.iter().zip(&expected).all(|(a, b)| a.0 == b.0));
            } else {
                assert!(
                    items.iter().any(is_finding),
                    "segment {number} bit {bit} is not found"
                );
                if let Some(entry) = entry_at(&sound, number, offset) {
                    let named = items.iter().any(|item| {
                        matches!(item, WalkItem::Damage { segment, offset, .. } if (*segment, *offset) == (number, entry))
                    });
                    assert!(named, "segment {number} bit {bit} does not name its entry");
                    assert_eq!(
                        walked_contents(&items).len() + 1,
                        expected.len(),
                        "all others are saved"
                    );
                }
            }
            // A reader never hands out another record, and opening never loses one silently.
            if let Ok(reader) = JournalReader::open(Arc::new(copy.clone()), &dir()) {
                let read: Vec<_> = reader
                    .scan(Position::START)
                    .map_while(Result::ok)
                    .map(|e| e.record)
                    .collect();
                assert!(expected.iter().map(|e| &e.0).zip(&read).all(|(a, b)| a == b));
                for (position, (record, _)) in positions.iter().zip(&expected) {
                    assert!(
                        reader
                            .read_record(*position)
                            .map_or(true, |entry| entry.record == *record)
                    );
                }
            }
        }
    }
}

#[test]
fn an_erased_payload_is_gone_for_good_and_its_record_stays_through_a_power_cut() {
    for seed in 0..50 {
        let disk = Disk::default();
        let (mut journal, reader) = create(&disk, 5000);
        append(&mut journal, &contents(1..3)).unwrap();
        let (record, payload) = real_entry("a secret");
        let at = append(&mut journal, &[(record.clone(), payload)]).unwrap()[0];
        let place = reader.read(at).unwrap().place.unwrap();
        journal.erase(place).unwrap();
        assert!(reader.read(at).unwrap().is_erased());
        drop(journal);
        disk.power_cut(seed);
        let opened = open(&disk, 5000, None).unwrap();
        assert!(opened.report.torn.is_empty() && opened.report.moved.is_empty());
        let entry = opened.reader.read(at).unwrap();
        assert_eq!(entry.record, record);
        assert!(entry.is_erased());
    }
}

#[test]
fn readers_see_whole_durable_batches_while_the_writer_goes_on_over_segments() {
    const BATCHES: u32 = 300;
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 3000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = reader.clone();
            scope.spawn(move || {
                let (mut seen, mut after) = (0, Position::START);
                while seen < BATCHES * 3 {
                    let mut found = 0;
                    for entry in reader.scan(after) {
                        let entry = entry.unwrap();
                        assert!(entry.position > after);
                        assert_eq!(entry.record, content(seen).0);
                        after = entry.position;
                        (seen, found) = (seen + 1, found + 1);
                    }
                    assert_eq!(found % 3, 0, "batches are seen whole");
                    std::thread::yield_now();
                }
            });
        }
        for batch in 0..BATCHES {
            append(&mut journal, &contents(batch * 3..batch * 3 + 3)).unwrap();
            if batch % 5 == 0 {
                journal.confirm().unwrap();
            }
        }
    });
}
