//! Cosigning that is interrupted: at every operation on the files of a witness, by an error, a kill and a power cut, and by a kill
//! before a power cut. Whatever is left, the witness says of one log never two things that cannot both be.

use crate::disk::{Disk, Fault};
use crate::stores::{assert_clean, copy, temp};
use crate::witness::{beat, follow, pair};
use ledger::core::{LogId, Stream};
use ledger::storage::{Access, DiskStorage, Storage, StorageFile};
use ledger::{Ledger, LedgerError, OpenOptions, Paths};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a power cut leaves of what was not synced: so many different parts.
const CUTS: u64 = 8;
/// No cosigning has more operations.
const OPERATIONS_MAX: u64 = 100;

/// The real disk, but for the files of witnesses, which lie on one that fails and forgets, whatever the store's folder.
#[derive(Debug, Clone, Default)]
struct Split(Arc<Mutex<Disk>>);

impl Split {
    fn put(&self, disk: &Disk) {
        *self.0.lock().unwrap() = disk.clone();
    }

    fn of(&self, path: &Path) -> Option<(Disk, PathBuf)> {
        let folder = |name: &std::ffi::OsStr| name == "witness" || name == "cosigned";
        let mut names: Vec<_> = path.components().map(|part| part.as_os_str()).collect();
        let at = names.iter().rposition(|name| folder(name))?;
        let kept: PathBuf = names.split_off(at).into_iter().collect();
        Some((self.0.lock().unwrap().clone(), Path::new("/").join(kept)))
    }
}

impl Storage for Split {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        match self.of(path) {
            Some((disk, path)) => disk.open(&path, access),
            None => DiskStorage.open(path, access),
        }
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        match self.of(path) {
            Some((disk, path)) => disk.create_new(&path),
            None => DiskStorage.create_new(path),
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match (self.of(from), self.of(to)) {
            (Some((disk, from)), Some((_, to))) => disk.rename(&from, &to),
            _ => DiskStorage.rename(from, to),
        }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.of(path) {
            Some((disk, path)) => disk.remove(&path),
            None => DiskStorage.remove(path),
        }
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.of(dir) {
            Some((disk, dir)) => disk.list(&dir),
            None => DiskStorage.list(dir),
        }
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.of(path) {
            Some((disk, path)) => disk.exists(&path),
            None => DiskStorage.exists(path),
        }
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self.of(dir) {
            Some((disk, dir)) => disk.create_dir_all(&dir),
            None => DiskStorage.create_dir_all(dir),
        }
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.of(dir) {
            Some((disk, dir)) => disk.sync_dir(&dir),
            None => DiskStorage.sync_dir(dir),
        }
    }
}

/// A log that its machine wrote twice, and a witness that has the one history, or the other: an old copy of its data was put back
/// and followed the clone.
struct Twice {
    log: LogId,
    // What the witness keeps before, and the size of what it cosigned.
    before: Disk,
    size: u64,
    // Where the witness has the first history, and where the second, and what it is asked to cosign there.
    first: (PathBuf, String),
    second: (PathBuf, String),
}

fn open(dir: &Path, split: &Split) -> Ledger {
    Ledger::open(&Paths::new(dir), OpenOptions::default().storage(split.clone())).unwrap()
}

fn twice(home: &Path) -> Twice {
    let dir = |name: &str| home.join(name);
    let (gateway, node) = pair(&dir("g"), &dir("n"));
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 10);
    follow(&gateway, &node, Stream::Pulse);
    let early = node.checkpoint_for_witnesses(&log).unwrap();
    let size = node.head(&log).unwrap().seq + 1;
    for (ledger, name, other) in [(node, "n", "n2"), (gateway, "g", "g2")] {
        ledger.close().unwrap();
        copy(&dir(name), &dir(other));
    }
    let before = Disk::default();
    let split = Split::default();
    split.put(&before);
    let history = |gateway: &str, node: &str, beats| {
        let node: Ledger = Ledger::open(&Paths::new(dir(node)), OpenOptions::default()).unwrap();
        beat(&node, beats);
        let checkpoint = node.checkpoint_for_witnesses(&log).unwrap();
        let gateway = open(&dir(gateway), &split);
        follow(&gateway, &node, Stream::Pulse);
        node.close().unwrap();
        (gateway, checkpoint)
    };
    let (gateway, first) = history("g", "n", 4);
    gateway.cosign(&log, &early).unwrap();
    gateway.close().unwrap();
    let (gateway, second) = history("g2", "n2", 6);
    gateway.close().unwrap();
    Twice {
        log,
        before,
        size,
        first: (dir("g"), first),
        second: (dir("g2"), second),
    }
}

// How many receipts the cosigned checkpoint covers that is kept.
fn kept(witness: &Ledger, log: &LogId) -> Option<u64> {
    let kept = witness.cosigned(log).unwrap();
    kept.map(|kept| kept.checkpoint.tree_size)
}

fn contradicts(refused: &LedgerError) -> bool {
    matches!(refused.code(), "ledger.root-differs" | "ledger.not-cosigned")
}

#[test]
fn whatever_operation_a_cosigning_is_interrupted_at_no_two_cosignatures_of_a_witness_contradict_each_other() {
    let home = temp();
    let twice = twice(home.path());
    let (log, before) = (&twice.log, twice.size);
    let (dir, checkpoint) = &twice.first;
    let size = before + 4;
    let split = Split::default();
    let mut interrupted = [0_u64; 3];
    for operation in 0..OPERATIONS_MAX {
        let mut ended = 0;
        // What may be on the disk when the power goes, and whether a cosignature is out by then.
        let mut left = Vec::new();
        for (number, fault) in [Fault::Power, Fault::ErrorNotDone, Fault::ErrorDone]
            .into_iter()
            .enumerate()
        {
            let what = format!("operation {operation}, {fault:?}");
            let disk = twice.before.fork();
            split.put(&disk);
            let witness = open(dir, &split);
            disk.set_fault(disk.operations() + operation, fault);
            let said = witness.cosign(log, checkpoint).is_ok();
            ended += usize::from(said);
            interrupted[number] += u64::from(!said);
            left.push((said, disk.fork(), format!("{what}, then the power")));
            // The process is killed, the machine goes on; or it lives and is asked again.
            disk.heal();
            let witness = if fault == Fault::Power {
                drop(witness);
                open(dir, &split)
            } else {
                witness
            };
            let now = kept(&witness, log);
            assert!(
                now == Some(size) || !said && now == Some(before),
                "{what}: {now:?}"
            );
            let again = witness.cosign(log, checkpoint);
            assert!(again.is_ok(), "{what}: {again:?}");
            assert_eq!(kept(&witness, log), Some(size), "{what}");
            left.push((true, disk, format!("{what}, once more, then the power")));
        }
        // The power goes, and older data is put back, which follows the other history.
        let witness = open(&twice.second.0, &split);
        for (has_said, left, what) in &left {
            for cut in 0..CUTS {
                let disk = left.fork();
                disk.power_cut(cut * 7 + operation);
                disk.heal();
                split.put(&disk);
                let kept = kept(&witness, log);
                assert!(
                    kept.is_none_or(|kept| [before, size].contains(&kept)),
                    "{what}: {kept:?}"
                );
                match witness.cosign(log, &twice.second.1) {
                    Ok(_) => assert!(!has_said, "{what}, cut {cut}: it cosigned both"),
                    Err(refused) => assert!(contradicts(&refused), "{what}, cut {cut}: {refused}"),
                }
            }
        }
        drop(witness);
        if ended == 3 {
            println!("{operation} operations, interrupted {interrupted:?}");
            assert!(interrupted.iter().all(|times| *times >= 8), "{interrupted:?}");
            for dir in [dir, &twice.second.0] {
                assert_clean(dir);
            }
            return;
        }
    }
    panic!("it never ends");
}
