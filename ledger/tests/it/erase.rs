//! What is erased is in no file of the store, whatever crashed and whoever brings it again; and everything else stays.

use crate::disk::{Disk, Fault};
use crate::stores::{
    Counter, Failing, assert_clean, copy, fact, fact_with, found, found_with, join, open, raw, subject,
    take_in, temp,
};
use ledger::clock::SystemEntropy;
use ledger::core::kinds::{Detail, Erased};
use ledger::core::{Draft, Stream};
use ledger::storage::{Access, DiskStorage, Storage, StorageFile};
use ledger::verify::{Options, verify_bundle};
use ledger::{Ledger, LedgerError, OpenOptions, Paths, PayloadState, Receipt};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const SECRET: &[u8] = b"the customer's name is Xanthippe Quackenbush-Zylberstein, and nobody may know it";

// Segments of little fill, to be read fast.
const SMALL: u32 = 16 * 1024;

const ZEROS: [u8; 4096] = [0; 4096];

// In how many places of the store's files some bytes stand.
fn occurrences(dir: &Path, needle: &[u8]) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            count += occurrences(&entry.path(), needle);
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut from = 0;
            while from < bytes.len() {
                // Files are mostly zeros, which need no closer look.
                let end = bytes.len().min(from + ZEROS.len());
                let last = bytes.len().min(end + needle.len() - 1);
                if bytes[from..end] != ZEROS[..end - from] {
                    let block = bytes[from..last].windows(needle.len());
                    count += block.filter(|window| *window == needle).count();
                }
                from = end;
            }
        }
    }
    count
}

// No part of it that could tell anything, nor of its salt.
fn assert_gone(dir: &Path, salt: &[u8]) {
    for piece in SECRET.chunks_exact(20).chain(salt.chunks_exact(16)) {
        let text = String::from_utf8_lossy(piece);
        assert_eq!(occurrences(dir, piece), 0, "{text:?} is still there");
    }
}

fn salt_of(ledger: &Ledger<Counter>, receipt: &Receipt) -> [u8; 32] {
    ledger.payload(receipt).unwrap().present().unwrap().salt.0
}

#[test]
fn an_erased_payload_is_in_no_file_and_everything_else_is_as_it_was() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    ledger.append(fact_with("a", b"before")).unwrap();
    let secret = ledger.append(fact_with("a", SECRET)).unwrap();
    let after = ledger.append(fact_with("b", b"after")).unwrap();
    let bare = ledger.append(fact("c")).unwrap();
    let salt = salt_of(&ledger, &secret);
    assert!(occurrences(dir.path(), SECRET) == 1 && occurrences(dir.path(), &salt) == 1);
    let state = ledger.snapshot().state.clone();

    let report = ledger.erase(&secret, "the customer asked for it").unwrap();
    assert_gone(dir.path(), &salt);
    assert!(!report.before && report.record == secret.evidence());
    assert_eq!(report.erased.kind(), Erased::KIND);
    assert_eq!(ledger.payload(&secret).unwrap(), PayloadState::Erased);
    assert_eq!(ledger.get(&log, secret.seq()).unwrap().as_ref(), Some(&secret));
    assert!(ledger.payload(&after).unwrap().present().is_some());
    let code = |result: Result<ledger::ErasureReport, LedgerError>| result.unwrap_err().code();
    assert_eq!(code(ledger.erase(&bare, "why")), "ledger.nothing-to-erase");
    assert_eq!(code(ledger.erase(&after, "")), "ledger.erasure-reason");
    assert_eq!(
        code(ledger.erase(&after, &"r".repeat(201))),
        "ledger.erasure-reason"
    );
    // Once is enough.
    let again = ledger.erase(&secret, "again").unwrap();
    assert!(again.before && again.erased == report.erased);
    // The `erased` receipt alone was folded.
    let mut now = ledger.snapshot().state.clone();
    now.counts.remove(&format!("receipt/{}", secret.id())).unwrap();
    assert_eq!(now, state);

    let state = ledger.snapshot().state.clone();
    let bundle = dir.path().join("facts.bundle");
    let exported = ledger
        .export(&log, &mut std::fs::File::create(&bundle).unwrap())
        .unwrap();
    assert_eq!((exported.payloads, exported.erased, exported.absent), (2, 1, 0));
    let report = verify_bundle(&bundle, &Options::default(), &mut |_| {}).unwrap();
    assert!(report.is_clean() && report.counts.erased == 1, "{report}");
    ledger.close().unwrap();
    let report = assert_clean(dir.path());
    assert_eq!((report.counts.payloads, report.counts.erased), (2, 1));
    // From the rows, and from the journal alone.
    for derived in [true, false] {
        if !derived {
            std::fs::remove_dir_all(Paths::new(dir.path()).derived()).unwrap();
        }
        let ledger = open(dir.path());
        assert_eq!(ledger.snapshot().state, state, "no projection changes");
        assert_eq!(ledger.payload(&secret).unwrap(), PayloadState::Erased);
        assert_eq!(
            ledger.erased_by(&secret.evidence()).unwrap(),
            Some(again.erased.clone())
        );
        ledger.close().unwrap();
        assert_gone(dir.path(), &salt);
    }
}

#[test]
fn a_payload_that_is_gone_without_an_erased_receipt_stays_a_finding() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let told = ledger.append(fact_with("a", SECRET)).unwrap();
    let salt = salt_of(&ledger, &told);
    let other = ledger
        .append(fact_with("a", b"and this one too, quite another thing"))
        .unwrap();
    ledger.erase(&told, "asked").unwrap();
    ledger.close().unwrap();
    let path = Paths::new(dir.path()).journal().join("00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|w| w == b"and this one ").unwrap();
    bytes[at - 32..at + 37].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let report = crate::stores::verify(dir.path());
    assert_eq!(report.findings_total, 1, "{report}");
    assert_eq!(
        (report.findings[0].code, report.findings[0].seq),
        ("payload.absent", Some(other.seq()))
    );
    assert_gone(dir.path(), &salt);
}

#[test]
fn replicas_erase_when_the_word_reaches_them_and_never_take_the_bytes_in_again() {
    let dirs = [temp(), temp(), temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let fleet = gateway.context().fleet;
    let node = join(dirs[1].path(), "node", fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    let secret = node.append(fact_with("n", SECRET)).unwrap();
    let salt = salt_of(&node, &secret);
    let old = raw(&node, &log, 0, 1);
    take_in(&gateway, &log, old.clone()).unwrap();
    assert_eq!(occurrences(dirs[0].path(), SECRET), 1);
    let here = gateway.get(&log, 1).unwrap().unwrap();
    // The gateway's word on another machine's record would do as well; here the node's own reaches it.
    node.erase(&secret, "asked").unwrap();
    let new = raw(&node, &log, 2, 2);
    take_in(&gateway, &log, new.clone()).unwrap();
    assert_eq!(gateway.payload(&here).unwrap(), PayloadState::Erased);
    assert_gone(dirs[0].path(), &salt);
    // An old backlog, with the bytes, in one run with the word.
    let late = join(dirs[2].path(), "late", fleet);
    take_in(&late, &log, [old.clone(), new].concat()).unwrap();
    assert_gone(dirs[2].path(), &salt);
    // The word first, the bytes later: they are never written.
    let first = found(dirs[3].path(), "first", true);
    let stranger = join(&dirs[3].path().join("n"), "n", first.context().fleet);
    let log = stranger.own_log(Stream::Facts).unwrap();
    let secret = stranger.append(fact_with("n", SECRET)).unwrap();
    let salt_there = salt_of(&stranger, &secret);
    let old = raw(&stranger, &log, 0, 1);
    stranger.erase(&secret, "asked").unwrap();
    let (record, id, reason) = (secret.evidence(), secret.id(), "asked".to_owned());
    let said = Erased { record, id, reason };
    first
        .append_to(Stream::Order, Draft::of(&said, subject("s")))
        .unwrap();
    take_in(&first, &log, old).unwrap();
    let here = first.get(&log, 1).unwrap().unwrap();
    assert_eq!(first.payload(&here).unwrap(), PayloadState::Erased);
    assert_gone(dirs[3].path(), &salt_there);
    for ledger in [gateway, node, late, stranger, first] {
        ledger.close().unwrap();
    }
    for dir in &dirs {
        assert_clean(dir.path());
    }
}

#[test]
fn copies_that_recovery_left_behind_are_erased_too() {
    let dir = temp();
    let failing = Failing::default();
    let faults = Arc::clone(&failing.faults);
    let options = OpenOptions::default().storage(failing);
    let ledger = found_with(dir.path(), "studio", false, options);
    let said = ledger
        .sign_as_actor(fact_with("a", SECRET), &SystemEntropy)
        .unwrap();
    // As a kill leaves it: nothing proves the newest batch, however long we take, so that recovery copies it.
    let (moved, torn) = (temp(), temp());
    faults.set_behind(SECRET);
    let receipt = ledger.append_signed(said.clone()).unwrap();
    let salt = salt_of(&ledger, &receipt);
    copy(dir.path(), moved.path());
    copy(dir.path(), torn.path());
    drop(ledger);

    let ledger = open(moved.path());
    assert_eq!(occurrences(moved.path(), SECRET), 2, "one lies behind the cut");
    let receipt = ledger.find(&receipt.id()).unwrap().remove(0);
    ledger.erase(&receipt, "asked").unwrap();
    assert_gone(moved.path(), &salt);
    ledger.close().unwrap();
    assert_gone(moved.path(), &salt);
    assert_clean(moved.path());

    // Here the batch is torn within the payload: it is set aside, and said again.
    let path = Paths::new(torn.path()).journal().join("00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(SECRET.len()).position(|w| w == SECRET).unwrap();
    bytes[at + 30] ^= 1;
    bytes[at - 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let ledger = open(torn.path());
    assert_eq!(ledger.recovery().torn.len(), 1);
    assert!(ledger.find(&receipt.id()).unwrap().is_empty());
    let receipt = ledger.append_signed(said).unwrap();
    assert!(occurrences(torn.path(), &SECRET[31..]) >= 2);
    ledger.erase(&receipt, "asked").unwrap();
    assert_gone(torn.path(), &salt[..0]);
    assert_eq!(occurrences(torn.path(), &SECRET[31..51]), 0);
    ledger.close().unwrap();
    assert_clean(torn.path());
}

// A disk that stops for good before its next change when the count is used up.
#[derive(Debug)]
struct Dying {
    left: Arc<AtomicI64>,
}

#[derive(Debug)]
struct DyingFile {
    file: Arc<dyn StorageFile>,
    left: Arc<AtomicI64>,
}

fn spend(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 {
        Ok(())
    } else {
        Err(io::Error::other("the process is dead"))
    }
}

impl StorageFile for DyingFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(dead) = spend(&self.left) {
            // The last write got half-way.
            if self.left.load(Ordering::SeqCst) == -1 {
                self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
            }
            return Err(dead);
        }
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        spend(&self.left)?;
        self.file.sync_data()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        spend(&self.left)?;
        self.file.set_len(bytes)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Storage for Dying {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let (file, left) = (DiskStorage.open(path, access)?, Arc::clone(&self.left));
        Ok(Arc::new(DyingFile { file, left }))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        spend(&self.left)?;
        let (file, left) = (DiskStorage.create_new(path)?, Arc::clone(&self.left));
        Ok(Arc::new(DyingFile { file, left }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.left)?;
        DiskStorage.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        DiskStorage.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        DiskStorage.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        DiskStorage.exists(path)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        spend(&self.left)?;
        DiskStorage.sync_dir(dir)
    }
}

fn open_dying(dir: &Path, left: &Arc<AtomicI64>) -> Result<Ledger<Counter>, LedgerError> {
    let options = OpenOptions::default()
        .storage(Dying {
            left: Arc::clone(left),
        })
        .segment_bytes(SMALL);
    Ledger::open(&Paths::new(dir), options)
}

#[test]
fn an_erasure_that_a_crash_interrupts_anywhere_is_finished_at_the_next_open() {
    // A store with a copy of the secret behind a cut, so that there is more than one place to overwrite.
    // The copy must be taken before idleness proves the last batch: on a stalled machine it is taken again.
    let (template, said, salt) = (0..10)
        .find_map(|_| {
            let (origin, template) = (temp(), temp());
            let options = OpenOptions::default().segment_bytes(SMALL);
            let ledger = found_with(origin.path(), "studio", false, options);
            let secret = ledger.append(fact_with("a", SECRET)).unwrap();
            let salt = salt_of(&ledger, &secret);
            copy(origin.path(), template.path());
            ledger.close().unwrap();
            let alive = Arc::new(AtomicI64::new(i64::MAX));
            open_dying(template.path(), &alive).unwrap().close().unwrap();
            (occurrences(template.path(), SECRET) == 2).then_some((template, secret.id(), salt))
        })
        .expect("a copy of the secret behind a cut");

    let (mut finished, mut begun, mut not_begun) = (false, 0, 0);
    for operations in 0..60 {
        let dir = temp();
        copy(template.path(), dir.path());
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let ledger = open_dying(dir.path(), &left).unwrap();
        let secret = ledger.find(&said).unwrap().remove(0);
        left.store(operations, Ordering::SeqCst);
        let erased = ledger.erase(&secret, "asked");
        let alive = left.load(Ordering::SeqCst) >= 0;
        // Whatever closing still tries, the disk is dead.
        left.store(if alive { i64::MAX } else { 0 }, Ordering::SeqCst);
        drop(ledger);
        if erased.is_ok() {
            assert_gone(dir.path(), &salt);
            finished = alive;
        }
        assert_clean(dir.path());
        // The next opening dies as well, somewhere; the one after it does not.
        let left = Arc::new(AtomicI64::new(operations % 7));
        if let Ok(ledger) = open_dying(dir.path(), &left) {
            left.store(0, Ordering::SeqCst);
            drop(ledger);
        }
        assert_clean(dir.path());
        let alive = Arc::new(AtomicI64::new(i64::MAX));
        let ledger = open_dying(dir.path(), &alive).unwrap();
        let secret = ledger.find(&secret.id()).unwrap().remove(0);
        if ledger.erased_by(&secret.evidence()).unwrap().is_some() {
            begun += 1;
            assert_gone(dir.path(), &salt);
            assert_eq!(ledger.payload(&secret).unwrap(), PayloadState::Erased);
        } else {
            not_begun += 1;
            assert!(erased.is_err(), "{operations}");
            assert!(ledger.payload(&secret).unwrap().present().is_some());
        }
        ledger.close().unwrap();
        assert_clean(dir.path());
        if finished {
            break;
        }
    }
    assert!(finished && begun > 5 && not_begun > 0, "{begun} {not_begun}");
}

#[test]
fn a_power_cut_while_erasing_leaves_a_journal_in_which_it_can_be_done_again() {
    let text = String::from_utf8(SECRET.to_vec()).unwrap();
    let entry = crate::support::real_entry(&text);
    let disk = Disk::default();
    let (mut journal, _) = crate::support::create(&disk, 16 * 1024);
    crate::support::append(&mut journal, std::slice::from_ref(&entry)).unwrap();
    drop(journal);
    // Recovery copies the batch that nothing proves; the old copy lies behind the cut.
    drop(crate::support::open(&disk, 16 * 1024, None).unwrap());
    let holds = |disk: &Disk| {
        let dir = crate::support::dir();
        let mut files = disk.list(&dir).unwrap().into_iter();
        files.any(|name| {
            let bytes = disk.bytes(&dir.join(name));
            bytes
                .windows(20)
                .any(|window| SECRET.chunks_exact(20).any(|piece| piece == window))
        })
    };
    assert!(holds(&disk));
    let open = |disk: &Disk| {
        let opened = crate::support::open(disk, 16 * 1024, None).unwrap();
        let stored = crate::support::scan(&opened.reader, ledger::Position::START).unwrap();
        assert_eq!(stored[0].record, entry.0, "the record stays");
        (opened.journal, stored[0].position)
    };
    for operation in 0..100 {
        let disk = disk.fork();
        let (mut journal, at) = open(&disk);
        disk.set_fault(disk.operations() + operation, Fault::Power);
        let erased = journal.erase_entries(&[at]);
        drop(journal);
        disk.power_cut(operation);
        disk.heal();
        if erased.is_ok() {
            assert!(!holds(&disk), "operation {operation}");
        }
        let (mut journal, at) = open(&disk);
        journal.erase_entries(&[at]).unwrap();
        assert!(!holds(&disk), "operation {operation}");
        journal.close().unwrap();
        if erased.is_ok() {
            assert!(operation > 4);
            return;
        }
    }
    panic!("erasing never ended");
}

#[test]
fn one_batch_erases_many_in_many_segments() {
    let dir = temp();
    let options = OpenOptions::default().segment_bytes(SMALL);
    let ledger = found_with(dir.path(), "studio", false, options);
    let secrets: Vec<Receipt> = (0..40)
        .map(|_| ledger.append(fact_with("a", &SECRET.repeat(20))).unwrap())
        .collect();
    let kept = ledger.append(fact_with("a", b"kept")).unwrap();
    assert!(kept.position.segment > 4);
    let all = secrets.clone();
    ledger
        .commit(move |tx| {
            all.iter()
                .try_for_each(|it| tx.erase(Stream::Facts, it, "asked").map(drop))
        })
        .map_err(ledger::CommitError::<LedgerError>::into_ledger)
        .unwrap();
    assert_gone(dir.path(), &[]);
    assert!(
        secrets
            .iter()
            .all(|it| ledger.payload(it).unwrap() == PayloadState::Erased)
    );
    assert!(ledger.payload(&kept).unwrap().present().is_some());
    ledger.close().unwrap();
    assert_eq!(assert_clean(dir.path()).counts.erased, 40);
}
