//! A disk that is really full, a tmpfs of a few MiB: reads go on, appends are refused and say why, nothing is damaged, and
//! when there is room again everything resumes by itself, the derived rows included.
//!
//! Mounting needs root. Without it the tests say loudly that they were skipped, and fail where `CI` is set.

use crate::stores::{Counter, Numbers, assert_clean, fact_with, found_with, open};
use ledger::{Changes, Ledger, LedgerError, OpenOptions, Position, Receipt, State as _};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long something that needs no help may take: the housekeeper moves rows every ten seconds.
const WITHIN: Duration = Duration::from_secs(90);
/// Segments so small that several are sealed before the disk is full.
const SEGMENT_BYTES: u32 = 256 * 1024;

/// A disk of its own; gone when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    // None, said loudly, where nothing can be mounted.
    fn mount(mib: u32) -> Option<Self> {
        let dir = crate::stores::temp();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"])
            .arg(dir.path())
            .output();
        if done.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self { dir });
        }
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no tmpfs can be mounted, which needs root: {done:?}"
        );
        eprintln!("SKIPPED: no tmpfs can be mounted, which needs root, so no disk was full: {done:?}");
        None
    }

    fn grow(&self, mib: u32) {
        let grown = Command::new("mount")
            .args(["-o", &format!("remount,size={mib}m")])
            .arg(self.dir.path())
            .status();
        assert!(grown.unwrap().success());
    }

    // Takes all that is left of the disk.
    fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("ballast"))
            .unwrap();
        for bytes in [4096, 1] {
            while ballast.write_all(&vec![0xba; bytes]).is_ok() {}
        }
    }

    fn drop_the_ballast(&self) {
        std::fs::remove_file(self.dir.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(self.dir.path()).status();
        assert!(gone.unwrap().success() || std::thread::panicking());
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn payload(number: u64) -> Vec<u8> {
    let text = format!("<payload {number} of a disk that fills up>");
    text.as_bytes().iter().copied().cycle().take(3000).collect()
}

fn append(ledger: &Ledger<Counter>, number: u64) -> Result<Receipt, LedgerError> {
    ledger.append(fact_with(&format!("t/{}", number % 5), &payload(number)))
}

// Appends until the disk is full; every acknowledged receipt with its number.
fn append_until_full(ledger: &Ledger<Counter>, known: &mut Vec<(u64, Receipt)>) -> LedgerError {
    let first = known.last().map_or(0, |(number, _)| number + 1);
    for number in first.. {
        match append(ledger, number) {
            Ok(receipt) => known.push((number, receipt)),
            Err(refused) => return refused,
        }
    }
    unreachable!("the disk is small")
}

fn assert_all_is_read(ledger: &Ledger<Counter>, known: &[(u64, Receipt)]) {
    for (number, receipt) in known {
        let found = ledger.find(&receipt.id()).unwrap().remove(0);
        assert_eq!(found.position, receipt.position, "receipt {number}");
        let content = ledger.payload(&found).unwrap().present().unwrap();
        assert!(content.bytes == payload(*number), "payload {number}");
    }
    let mut folded = Counter::empty(ledger.context());
    let mut count = 0;
    for receipt in ledger.scan(Position::START) {
        folded.fold(&receipt.unwrap(), &mut Changes::discarding());
        count += 1;
    }
    assert_eq!(
        (ledger.snapshot().state.clone(), ledger.snapshot().receipts),
        (folded, count)
    );
}

fn assert_refused_as_full(refused: &LedgerError) {
    assert_eq!(refused.code(), "journal.no-space", "{refused}");
    assert!(refused.to_string().contains("no space left"), "{refused}");
}

fn cursor(ledger: &Ledger<Counter>) -> Option<Vec<u8>> {
    ledger.derived().table("meta").unwrap().get(b"cursor").unwrap()
}

fn store(dir: &Path) -> Ledger<Counter> {
    let options = OpenOptions::default().segment_bytes(SEGMENT_BYTES);
    found_with(dir, "studio", false, options)
}

#[test]
fn a_full_disk_refuses_appends_and_everything_resumes_by_itself_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let dir = disk.dir.path().join("store");
    let ledger = store(&dir);
    let mut known = Vec::new();

    // Ten seconds behind, the housekeeper would write rows, and cannot.
    assert_refused_as_full(&append_until_full(&ledger, &mut known));
    assert!(known.len() > 100, "only {} receipts fit", known.len());
    disk.fill();
    for number in 0..20 {
        assert_refused_as_full(&append(&ledger, 1_000_000 + number).unwrap_err());
    }
    assert_eq!(ledger.closed(), None, "a full disk closes nothing");
    until("the housekeeper tells that it falls behind", || {
        ledger.falling_behind().is_some()
    });
    assert_all_is_read(&ledger, &known);
    assert_clean(&dir);
    let before = cursor(&ledger);

    disk.drop_the_ballast();
    disk.grow(6);
    let number = known.len() as u64;
    known.push((number, append(&ledger, number).expect("there is room")));
    until("it has caught up", || ledger.falling_behind().is_none());
    until("rows are written", || cursor(&ledger) != before);
    assert_all_is_read(&ledger, &known);

    // And once more, now in the middle of a write of somebody else's rows.
    let table = ledger.derived().table("somebody").unwrap();
    let refused = append_until_full(&ledger, &mut known);
    assert_refused_as_full(&refused);
    disk.fill();
    // More than the rest of a page, and nothing that compresses.
    let mut numbers = Numbers(0x5eed_0002);
    let noise: Vec<u8> = (0..100_000).map(|_| numbers.below(256) as u8).collect();
    let write = |key: &[u8]| {
        let mut batch = ledger.derived().batch();
        batch.put(&table, key, &noise);
        batch.commit()
    };
    assert_eq!(write(b"one").unwrap_err().code(), "ledger.derived");
    until("it falls behind again", || ledger.falling_behind().is_some());
    assert_all_is_read(&ledger, &known);
    disk.drop_the_ballast();
    disk.grow(8);
    until("it has caught up again", || ledger.falling_behind().is_none());
    write(b"two").unwrap();
    assert_eq!(table.get(b"two").unwrap().unwrap(), noise);
    let number = known.len() as u64;
    known.push((number, append(&ledger, number).unwrap()));
    assert_all_is_read(&ledger, &known);
    let state = ledger.snapshot().state.clone();
    ledger.close().expect("it closes cleanly");
    assert_clean(&dir);
    let again = open(&dir);
    assert_eq!(again.snapshot().state, state);
    assert_eq!(again.recovery().torn, []);
    assert_all_is_read(&again, &known);
}

#[test]
fn a_store_opens_for_reading_on_a_full_disk_and_goes_on_where_it_was_closed() {
    let Some(disk) = SmallDisk::mount(3) else { return };
    let dir = disk.dir.path().join("store");
    let ledger = store(&dir);
    let mut known = Vec::new();
    for number in 0..50 {
        known.push((number, append(&ledger, number).unwrap()));
    }
    ledger.close().unwrap();
    disk.fill();
    let ledger = open(&dir);
    assert_all_is_read(&ledger, &known);
    append_until_full(&ledger, &mut known);
    assert_all_is_read(&ledger, &known);
    disk.drop_the_ballast();
    let number = known.len() as u64;
    known.push((number, append(&ledger, number).unwrap()));
    ledger.close().unwrap();
    assert_clean(&dir);
    assert!(
        !dir.join("data/derived.broken").exists(),
        "nothing was wrong with the rows"
    );
}

#[test]
fn a_store_that_does_not_fit_is_not_made_and_is_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    disk.fill();
    let dir = disk.dir.path().join("store");
    let refused = Ledger::lone(&dir, "studio").err().expect("there is no room");
    assert!(
        ["ledger.io", "journal.no-space", "anchor.io", "ledger.derived"].contains(&refused.code()),
        "{}: {refused}",
        refused.code()
    );
    disk.drop_the_ballast();
    disk.grow(8);
    let ledger = Ledger::lone(&dir, "studio").unwrap();
    ledger.append(fact_with("t", b"content")).unwrap();
    ledger.close().unwrap();
    assert_clean(&dir);
}
