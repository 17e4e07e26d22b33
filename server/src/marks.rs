//! Marks of others: how much of this store's own logs each other machine is known to have durably.
//!
//! Owns `DIR/keys/marks`, beside the anchor, so that a rolled-back data folder does not take it along. Contract: whoever
//! notes a mark has checked that it is a place of our log; an answer says `replicated` only when the mark that it relies
//! on is in the file and synced. A mark is heard in memory first, and written when an answer relies on it or the daemon
//! stops. What a crash leaves: the file before, whole; then less is claimed than is true, until the machines tell again.
//!
//! ```text
//! file = magic "LMARKS\0\n", u32 version = 1, postcard of [(machine, incarnation, [(log, mark)])], 32 checksum
//! ```

use crate::exchange::Mark;
use ledger::core::{LogId, MachineId, canonical};
use ledger::storage::{Access, DiskStorage, Storage};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 8] = *b"LMARKS\0\n";
const VERSION: u32 = 1;
const CONTEXT: &str = "ledger v1 marks of others";
const CHECKSUM_BYTES: usize = 32;
/// Bytes of the file at most: the marks of some ten thousand machines.
const FILE_BYTES_MAX: usize = 4 << 20;

/// What a receipt's author is told about where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// On this disk, as far as is known here.
    Local,
    /// Durable on another machine too.
    Replicated,
}

impl Standing {
    /// `local` or `replicated`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
        }
    }
}

// What one machine has; its incarnation as it last told it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Held {
    incarnation: u32,
    logs: BTreeMap<LogId, Mark>,
}

type All = BTreeMap<MachineId, Held>;

#[derive(Default)]
struct Known {
    heard: All,
    written: All,
}

/// See the module.
pub(crate) struct Marks {
    path: PathBuf,
    known: Mutex<Known>,
    // One writer at a time; readers of `known` do not wait for the disk.
    writing: Mutex<()>,
}

impl Marks {
    /// Reads the marks that lie beside a store's keys. A file that is damaged counts as none: less is claimed then.
    pub(crate) fn open(keys: &Path) -> Self {
        let path = keys.join("marks");
        let written = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the marks of other machines are heard anew");
            All::new()
        });
        let known = Known {
            heard: written.clone(),
            written,
        };
        Self {
            path,
            known: Mutex::new(known),
            writing: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine told that it has a log of ours up to a place. A mark only rises, but by [`Marks::returned`].
    pub(crate) fn note(&self, machine: &MachineId, log: LogId, mark: Mark) {
        let mut known = self.lock();
        if !known.heard.contains_key(machine) {
            known.heard.insert(machine.clone(), Held::default());
        }
        let Some(held) = known.heard.get_mut(machine) else {
            return;
        };
        let before = held.logs.get(&log).map(|before| before.seq);
        if before.is_none_or(|before| before < mark.seq) {
            held.logs.insert(log, mark);
        }
    }

    /// A machine came with another set of logs than before: what it had then, it may have lost.
    pub(crate) fn returned(&self, machine: &MachineId, incarnation: u32) {
        let mut known = self.lock();
        let held = known.heard.entry(machine.clone()).or_default();
        if held.incarnation != incarnation {
            *held = Held {
                incarnation,
                logs: BTreeMap::new(),
            };
        }
    }

    /// Takes a machine's word for all that it has of a log, be it less than before.
    pub(crate) fn settle(&self, machine: &MachineId, log: LogId, mark: Option<Mark>) {
        let has = self
            .lock()
            .heard
            .get(machine)
            .and_then(|held| held.logs.get(&log).copied());
        if has.map(|has| has.seq) > mark.map(|mark| mark.seq)
            && let Some(held) = self.lock().heard.get_mut(machine)
        {
            held.logs.remove(&log);
        }
        if let Some(mark) = mark {
            self.note(machine, log, mark);
        }
    }

    /// How far of a log any other machine that counts is known to be, durable here or not.
    pub(crate) fn heard(&self, log: &LogId, counts: impl Fn(&MachineId) -> bool) -> Option<u64> {
        highest(&self.lock().heard, log, counts)
    }

    /// How far of a log any other machine that counts is known to be, by what is durable here.
    pub(crate) fn written(&self, log: &LogId, counts: impl Fn(&MachineId) -> bool) -> Option<u64> {
        let known = self.lock();
        let marks = known.written.iter().filter(|(machine, _)| counts(machine));
        marks
            .filter_map(|(machine, held)| {
                let written = held.logs.get(log)?.seq;
                // What a machine took back since counts no more.
                let heard = known.heard.get(machine)?.logs.get(log)?.seq;
                Some(written.min(heard))
            })
            .max()
    }

    /// Makes what was heard durable. Blocks for a sync when there is anything new.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = {
            let known = self.lock();
            if known.heard == known.written {
                return Ok(());
            }
            known.heard.clone()
        };
        write(&self.path, &heard)?;
        self.lock().written = heard;
        Ok(())
    }
}

fn highest(all: &All, log: &LogId, counts: impl Fn(&MachineId) -> bool) -> Option<u64> {
    all.iter()
        .filter(|(machine, _)| counts(machine))
        .filter_map(|(_, held)| held.logs.get(log).map(|mark| mark.seq))
        .max()
}

type Row = (MachineId, u32, Vec<(LogId, Mark)>);

fn write(path: &Path, all: &All) -> io::Result<()> {
    let rows: Vec<Row> = all
        .iter()
        .map(|(machine, held)| {
            let logs = held.logs.iter().map(|(log, mark)| (*log, *mark)).collect();
            (machine.clone(), held.incarnation, logs)
        })
        .collect();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&canonical::encode(&rows));
    let checksum = blake3::derive_key(CONTEXT, &bytes);
    bytes.extend_from_slice(&checksum);
    let unfinished = path.with_extension("new");
    if DiskStorage.exists(&unfinished)? {
        DiskStorage.remove(&unfinished)?;
    }
    let file = DiskStorage.create_new(&unfinished)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    DiskStorage.rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| DiskStorage.sync_dir(dir))
}

fn read(path: &Path) -> io::Result<All> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let file = match DiskStorage.open(path, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(All::new()),
        opened => opened?,
    };
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > FILE_BYTES_MAX {
        return Err(wrong("it is larger than any file of marks"));
    }
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| wrong("it is cut off"))?;
    if blake3::derive_key(CONTEXT, body) != *checksum {
        return Err(wrong("its checksum does not match"));
    }
    let rows = body
        .strip_prefix(&MAGIC)
        .and_then(|rest| rest.strip_prefix(&VERSION.to_be_bytes()))
        .ok_or_else(|| wrong("it is no file of marks of version 1"))?;
    let rows: Vec<Row> = canonical::decode("marks", rows).map_err(|e| wrong(&e.to_string()))?;
    let held = rows.into_iter().map(|(machine, incarnation, logs)| {
        let logs = logs.into_iter().collect();
        (machine, Held { incarnation, logs })
    });
    Ok(held.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ledger::core::SealDigest;

    fn mark(seq: u64) -> Mark {
        Mark {
            seq,
            seal: SealDigest([7; 32]),
        }
    }

    #[test]
    fn only_what_is_in_the_file_counts_as_written_and_a_new_start_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (log, studio) = (LogId([1; 32]), MachineId::new("studio").unwrap());
        let everybody = |_: &MachineId| true;
        let marks = Marks::open(dir.path());
        marks.note(&studio, log, mark(4));
        assert_eq!(marks.heard(&log, everybody), Some(4));
        assert_eq!(marks.written(&log, everybody), None);
        marks.keep().unwrap();
        marks.note(&studio, log, mark(9));
        marks.note(&studio, log, mark(3));
        let after = Marks::open(dir.path());
        assert_eq!(
            after.written(&log, everybody),
            Some(4),
            "the newer one was not kept"
        );
        assert_eq!(after.written(&log, |_| false), None, "one that does not count");
        assert_eq!(marks.heard(&log, everybody), Some(9), "a mark only rises");
        // Damage claims nothing.
        let path = dir.path().join("marks");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Marks::open(dir.path()).written(&log, everybody), None);
    }

    #[test]
    fn a_machine_that_lost_its_logs_or_says_less_no_longer_vouches_for_what_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let (log, studio) = (LogId([1; 32]), MachineId::new("studio").unwrap());
        let everybody = |_: &MachineId| true;
        let marks = Marks::open(dir.path());
        marks.returned(&studio, 1);
        marks.note(&studio, log, mark(4));
        marks.keep().unwrap();
        marks.returned(&studio, 1);
        assert_eq!(marks.written(&log, everybody), Some(4));
        marks.settle(&studio, log, Some(mark(2)));
        assert_eq!(marks.written(&log, everybody), Some(2));
        marks.returned(&studio, 2);
        // Another machine's mark that is not kept yet stands in for nobody's.
        marks.note(&MachineId::new("mini").unwrap(), log, mark(4));
        assert_eq!(marks.written(&log, everybody), None);
        marks.settle(&MachineId::new("mini").unwrap(), log, None);
        assert_eq!(
            (marks.heard(&log, everybody), marks.written(&log, everybody)),
            (None, None)
        );
    }
}
