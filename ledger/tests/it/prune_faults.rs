//! Pruning that is interrupted, by a kill at any operation or by a full disk: the log is pruned or it is not.

use crate::prune::{live, pulse, pulse_log};
use crate::stores::{assert_clean, copy, temp, verify};
use ledger::core::{LogId, MachineId, Stream, proof};
use ledger::storage::{Access, DiskStorage, Storage, StorageFile};
use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths, Position, Pruning};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Passes everything on to the disk, counts what changes something, and from one such operation on does nothing any more: the
/// process is as good as dead.
#[derive(Debug, Default)]
pub(crate) struct Mortal {
    pub(crate) operations: AtomicU64,
    /// The first operation that is not done.
    pub(crate) last: AtomicU64,
    /// Whether the operation that is hit is done all the same.
    pub(crate) done: AtomicBool,
    // Whether there is no room for another segment.
    full: AtomicBool,
}

#[derive(Debug)]
struct MortalFile(Arc<dyn StorageFile>, Arc<Mortal>);

#[derive(Debug, Clone)]
struct MortalDisk(Arc<Mortal>);

impl Mortal {
    fn operation<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let last = self.last.load(Ordering::SeqCst);
        if number < last {
            return act();
        }
        if number == last && self.done.load(Ordering::SeqCst) {
            drop(act());
        }
        Err(io::Error::other("killed"))
    }
}

impl StorageFile for MortalFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.operation(|| self.0.write_at(offset, bytes))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.operation(|| Ok(()))
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.1.operation(|| self.0.set_len(bytes))
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Storage for MortalDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(MortalFile(
            DiskStorage.open(path, access)?,
            Arc::clone(&self.0),
        )))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_segment = name.starts_with(|c: char| c.is_ascii_digit());
        if is_segment && self.0.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.0.operation(|| DiskStorage.create_new(path))?;
        Ok(Arc::new(MortalFile(file, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.operation(|| DiskStorage.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.operation(|| DiskStorage.remove(path))
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
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.0.operation(|| Ok(()))
    }
}

pub(crate) fn mortal_options(mortal: &Arc<Mortal>) -> OpenOptions {
    OpenOptions::default()
        .segment_bytes(4096)
        .storage(MortalDisk(Arc::clone(mortal)))
}

/// A small store with some sealed segments, closed, and its pulse log's head.
pub(crate) fn small(dir: &Path) -> (LogId, u64) {
    let new = NewStore {
        machine: MachineId::new("studio").unwrap(),
        streams: vec![Stream::Facts, Stream::Pulse],
        fleet: Fleet::Lone,
    };
    let mortal = Arc::new(Mortal::default());
    mortal.last.store(u64::MAX, Ordering::SeqCst);
    let ledger: Ledger = Ledger::create(&Paths::new(dir), &new, mortal_options(&mortal)).unwrap();
    live(&ledger, 0..16);
    let log = pulse_log(&ledger);
    ledger.checkpoint(&log).unwrap();
    let tip = ledger.head(&log).unwrap().seq;
    ledger.close().unwrap();
    (log, tip)
}

/// What a reopened store must be, whatever was interrupted: pruned to the end or not at all. Whether it is pruned.
fn judge(dir: &Path, log: LogId, below: u64, what: &str) -> bool {
    // From disk, before recovery.
    let report = verify(dir);
    assert!(report.is_clean(), "{what}: {report}");
    let alive = Arc::new(Mortal::default());
    alive.last.store(u64::MAX, Ordering::SeqCst);
    let ledger: Ledger =
        Ledger::open(&Paths::new(dir), mortal_options(&alive)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let first = ledger.first_kept(&log);
    assert!(first == 1 || first == below, "{what}: {first}");
    let tip = ledger.head(&log).unwrap().seq;
    let kept: Vec<u64> = ledger.range(&log, first, tip).map(|r| r.unwrap().seq()).collect();
    assert_eq!(kept, (first..=tip).collect::<Vec<_>>(), "{what}");
    let there = ledger
        .scan(Position::START)
        .map(Result::unwrap)
        .filter(|r| r.log() == log);
    let there: Vec<u64> = there.map(|r| r.seq()).collect();
    let newest = ledger.snapshot().end.segment;
    if first == below {
        // Opening finished it: what is left is in the newest segment alone.
        let left = ledger.scan(Position::START).map(Result::unwrap);
        let left =
            left.filter(|r| r.log() == log && (1..below).contains(&r.seq()) && r.position.segment < newest);
        assert_eq!(left.count(), 0, "{what}");
    } else {
        assert_eq!(there, (0..=tip).collect::<Vec<_>>(), "{what}");
    }
    let pin = ledger.verifier_key(&log).unwrap();
    proof::check(&ledger.prove(&log, tip).unwrap(), &[pin]).unwrap();
    ledger.append_to(Stream::Pulse, pulse(9)).unwrap();
    ledger.close().unwrap();
    std::fs::remove_dir_all(Paths::new(dir).derived()).unwrap();
    let ledger: Ledger = Ledger::open(&Paths::new(dir), mortal_options(&alive)).unwrap();
    assert_eq!(ledger.head(&log).unwrap().seq, tip + 1, "{what}");
    assert_eq!(ledger.first_kept(&log), first, "{what}");
    drop(ledger);
    assert_clean(dir);
    first == below
}

/// One pruning, killed at an operation: whether it is pruned, and the segments rewritten when it came to its end.
fn killed_at(origin: &Path, (log, below): (LogId, u64), number: u64, done: bool) -> (bool, Option<u64>) {
    let dir = temp();
    copy(origin, dir.path());
    let mortal = Arc::new(Mortal::default());
    mortal.last.store(u64::MAX, Ordering::SeqCst);
    mortal.done.store(done, Ordering::SeqCst);
    let ledger: Ledger = Ledger::open(&Paths::new(dir.path()), mortal_options(&mortal)).unwrap();
    let before = mortal.operations.load(Ordering::SeqCst);
    mortal.last.store(before.saturating_add(number), Ordering::SeqCst);
    let outcome = ledger.prune(&Pruning::below(log, below, "test"));
    // From here on the process is dead, whether it noticed or not.
    mortal.last.store(0, Ordering::SeqCst);
    drop(ledger);
    let what = format!("operation {number}, done {done}: {:?}", outcome.as_ref().err());
    let is_pruned = judge(dir.path(), log, below, &what);
    let segments = outcome.ok().map(|report| report.unwrap().segments);
    assert!(is_pruned || segments.is_none(), "{what}");
    (is_pruned, segments)
}

#[test]
fn whatever_operation_a_pruning_is_killed_at_the_log_is_pruned_or_it_is_not() {
    let origin = temp();
    let (log, tip) = small(origin.path());
    let wish = (log, tip - 3);
    let (next, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcomes = std::sync::Mutex::new(Vec::new());
    // Most of the time is waiting for the disk.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Until some runs end clean: the anchor is written beside, now and then.
                while ended.load(Ordering::SeqCst) < 6 {
                    let case = next.fetch_add(1, Ordering::SeqCst);
                    assert!(case < 1000, "it never ends");
                    let (is_pruned, segments) = killed_at(origin.path(), wish, case / 2, case % 2 == 1);
                    ended.fetch_add(u64::from(segments.is_some()), Ordering::SeqCst);
                    outcomes.lock().unwrap().push((is_pruned, segments));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let pruned = outcomes.iter().filter(|(pruned, _)| *pruned).count();
    let rewritten = outcomes.iter().filter_map(|(_, segments)| *segments).max();
    println!(
        "{} kills, {pruned} times pruned, {rewritten:?} segments",
        outcomes.len()
    );
    assert!(pruned > 20 && outcomes.len() - pruned > 4 && rewritten > Some(2));
}

#[test]
fn a_full_disk_in_the_middle_does_no_harm_and_the_next_pruning_frees_the_rest() {
    let dir = temp();
    let (log, tip) = small(dir.path());
    let mortal = Arc::new(Mortal::default());
    mortal.last.store(u64::MAX, Ordering::SeqCst);
    let ledger: Ledger = Ledger::open(&Paths::new(dir.path()), mortal_options(&mortal)).unwrap();
    let wish = Pruning::below(log, tip - 3, "test");
    mortal.full.store(true, Ordering::SeqCst);
    assert_eq!(ledger.prune(&wish).unwrap_err().code(), "journal.no-space");
    // It is said, and so it is gone, though not a byte is free.
    assert_eq!(ledger.get(&log, 2).unwrap_err().code(), "ledger.pruned");
    ledger.append_to(Stream::Pulse, pulse(1)).unwrap();
    mortal.full.store(false, Ordering::SeqCst);
    let pruned = ledger.prune(&wish).unwrap().unwrap();
    assert!(pruned.segments > 2 && pruned.bytes_freed > 0);
    assert_eq!(ledger.prune(&wish).unwrap().map(|pruned| pruned.segments), None);
    ledger.close().unwrap();
    assert_clean(dir.path());
}
