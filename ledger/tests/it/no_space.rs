//! A journal whose disk is full, at any operation: appends are refused and not committed, and nothing else happens.

use crate::disk::{Disk, Fault};
use crate::support::*;
use ledger::journal::Outcome;

#[test]
fn a_full_disk_refuses_appends_goes_on_reading_and_resumes_alone() {
    let disk = Disk::default();
    let (mut journal, reader) = create(&disk, 9000);
    disk.set_fault(disk.operations(), Fault::Full);
    let mut kept = 0;
    let refused = loop {
        match append(&mut journal, &contents(kept..kept + 1)) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(
        (refused.code(), refused.outcome()),
        ("journal.no-space", Outcome::NotCommitted)
    );
    assert!(kept > 10, "what was written ahead is used up first");
    assert_eq!(scan_contents(&reader), contents(0..kept));
    journal.confirm().unwrap();
    assert!(append(&mut journal, &contents(kept..kept + 1)).is_err());
    disk.heal();
    for number in kept..kept + 200 {
        append(&mut journal, &contents(number..number + 1)).unwrap();
    }
    assert_eq!(scan_contents(&reader), contents(0..kept + 200));
    assert!(!walk_items(&disk).iter().any(is_finding));
}

#[test]
fn a_disk_that_is_found_full_in_the_middle_of_a_batch_did_not_commit_it() {
    let disk = Disk::default();
    let (mut journal, _) = create(&disk, 9000);
    append(&mut journal, &contents(0..2)).unwrap();
    disk.set_fault(disk.operations(), Fault::FullInside);
    let refused = append(&mut journal, &contents(2..4)).unwrap_err();
    assert_eq!(
        (refused.code(), refused.outcome()),
        ("journal.no-space", Outcome::NotCommitted)
    );
    assert!(!journal.is_poisoned());
    drop(journal);
    disk.power_cut(3);
    let opened = open(&disk, 9000, None).unwrap();
    assert_eq!(scan_contents(&opened.reader), contents(0..2));
    assert!(opened.report.torn.is_empty());
}
