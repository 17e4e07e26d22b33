//! What a store knows of its pruned logs before it has read anything else: the file `journal/pruned`.
//!
//! ```text
//! file = magic "LDGRPRND", u32 version = 1 (big-endian), 16 store, body, 32 checksum
//! body = canonical postcard: list of (32 log, option 16 id, option bytes record, u32 done)
//! ```
//! `record` is the exact record of the newest `log.pruned` about the log, a copy of what stands in this machine's own log: the
//! journal behind the gaps is read with its help, and it is held to the original. `id` is that of a `log.pruned` that is just
//! being said; `done` is the segment before which nothing of what went is left, 0 while that is not so. The checksum is a digest
//! of the bytes before it under a context of its own. Written under another name, synced and renamed. When it is lost or
//! damaged, it is made again from the journal.

use crate::error::LedgerError;
use crate::journal::{JournalReader, StoreId, WalkItem, walk};
use crate::storage::{Access, Storage};
use ledger_core::kinds::{Detail, Evidence, LogPruned};
use ledger_core::tree::Tree;
use ledger_core::{ChainSnapshot, LogId, PublicKey, ReceiptId, Record, canonical, chain};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Its name in the journal's folder.
const NAME: &str = "pruned";
const NAME_NEW: &str = "pruned.new";
const MAGIC: [u8; 8] = *b"LDGRPRND";
const VERSION: u32 = 1;
const CONTEXT: &str = "ledger v1 journal pruned logs";
const HEAD_BYTES: usize = 8 + 4 + 16;
const CHECKSUM_BYTES: usize = 32;
/// Bytes of the file at most: some thousand logs.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Below what a log is pruned, and the receipt that says so.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) said: LogPruned,
    pub(crate) record: Arc<Record>,
}

/// How a record stands to the floor of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It follows the record before it, as in a log that is not pruned.
    Follows,
    /// It is one of those that are to go, and the record before it went already.
    Left,
    /// It is the first one behind those that went.
    First,
}

impl Floor {
    /// Reads a `log.pruned`; `None` when the record is no sound one, said and sealed by the same machine.
    pub(crate) fn of(record: Record) -> Option<Self> {
        let statement = record.statement();
        let is_one = statement.kind.as_str() == LogPruned::KIND && statement.schema == LogPruned::SCHEMA;
        let said = is_one
            .then(|| LogPruned::decode(&statement.detail).ok())
            .flatten()?;
        let size = said.last.checked_add(1)?;
        let key = statement.author.verifier().ok()?;
        let sound = said.first >= 1
            && said.first <= said.last
            && u32::try_from(said.peaks.len()) == Ok(size.count_ones())
            && said.head.seq > said.last
            && record.author_signature().is_none()
            && chain::verify_signatures(&record, &key).is_ok();
        let record = Arc::new(record);
        sound.then_some(Self { said, record })
    }

    /// The first seq that is there, besides the genesis.
    pub(crate) fn first_kept(&self) -> u64 {
        self.said.last + 1
    }

    /// Whether the record at a seq went, or is to go.
    pub(crate) fn covers(&self, seq: u64) -> bool {
        (1..=self.said.last).contains(&seq)
    }

    /// How the record at `seq` stands when the log's chain expects `next`.
    pub(crate) fn place(&self, next: u64, seq: u64) -> Place {
        if next <= self.said.last && seq == self.first_kept() {
            Place::First
        } else if seq > next && self.covers(seq) {
            Place::Left
        } else {
            Place::Follows
        }
    }

    /// Where the log's chain stands behind what went.
    pub(crate) fn snapshot(&self) -> ChainSnapshot {
        ChainSnapshot {
            seq: self.said.last,
            seal: self.said.seal,
            time: self.said.time,
            peaks: self.said.peaks.clone(),
        }
    }

    /// The tree over what went and the genesis.
    pub(crate) fn tree(&self) -> Tree {
        let peaks = self.said.peaks.iter().map(|peak| peak.0).collect();
        Tree::from_peaks(self.first_kept(), peaks).expect("checked when it was read")
    }

    /// The receipt that says it.
    pub(crate) fn evidence(&self) -> Evidence {
        let seal = self.record.seal();
        Evidence {
            log: seal.log,
            seq: seal.seq,
            seal: self.record.seal_digest(),
        }
    }
}

/// What is known of one log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) intended: Option<ReceiptId>,
    pub(crate) floor: Option<Arc<Floor>>,
    pub(crate) done: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    log: LogId,
    intended: Option<ReceiptId>,
    record: Option<Vec<u8>>,
    done: u32,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) entries: BTreeMap<LogId, Entry>,
}

/// How the file was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Sound,
    Missing,
    Damaged,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { what, path, source }
}

impl Book {
    /// Reads the file in a journal's folder.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; a file that is not there or damaged is none.
    pub(crate) fn load(
        storage: &dyn Storage,
        dir: &Path,
        store: Option<StoreId>,
    ) -> Result<(Self, Found), LedgerError> {
        let path = dir.join(NAME);
        if !storage.exists(&path).map_err(io("looking for", &path))? {
            return Ok((Self::default(), Found::Missing));
        }
        let file = storage.open(&path, Access::Read).map_err(io("opening", &path))?;
        let length = file.len().map_err(io("measuring", &path))?;
        let mut bytes = vec![0; usize::try_from(length.min(FILE_BYTES_MAX)).unwrap_or(0)];
        let read = file.read_at(0, &mut bytes).map_err(io("reading", &path))?;
        bytes.truncate(read);
        Ok(match Self::decode(&bytes, store) {
            Some(book) => (book, Found::Sound),
            None => (Self::default(), Found::Damaged),
        })
    }

    fn decode(bytes: &[u8], store: Option<StoreId>) -> Option<Self> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        let (head, lines) = body.split_at_checked(HEAD_BYTES)?;
        let of_store = store.is_none_or(|store| head[12..] == store.0);
        if head[..8] != MAGIC
            || head[8..12] != VERSION.to_be_bytes()
            || !of_store
            || blake3::derive_key(CONTEXT, body) != *checksum
        {
            return None;
        }
        let lines: Vec<Line> = canonical::decode("pruned logs", lines).ok()?;
        let mut entries = BTreeMap::new();
        for line in lines {
            let floor = match line.record {
                None => None,
                Some(bytes) => {
                    let floor = Floor::of(Record::parse(&bytes).ok()?)?;
                    Some(Arc::new(floor)).filter(|floor| floor.said.log == line.log)
                }
            };
            let entry = Entry {
                intended: line.intended,
                floor,
                done: line.done,
            };
            entries.insert(line.log, entry);
        }
        Some(Self { entries })
    }

    /// Writes the file; durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub(crate) fn save(&self, storage: &dyn Storage, dir: &Path, store: StoreId) -> Result<(), LedgerError> {
        let line = |(log, entry): (&LogId, &Entry)| Line {
            log: *log,
            intended: entry.intended,
            record: entry.floor.as_ref().map(|floor| floor.record.bytes().to_vec()),
            done: entry.done,
        };
        let lines: Vec<Line> = self.entries.iter().map(line).collect();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&store.0);
        bytes.extend_from_slice(&canonical::encode(&lines));
        let checksum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&checksum);
        let (path, new) = (dir.join(NAME), dir.join(NAME_NEW));
        let write = || -> std::io::Result<()> {
            if storage.exists(&new)? {
                storage.remove(&new)?;
            }
            let file = storage.create_new(&new)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            storage.rename(&new, &path)?;
            storage.sync_dir(dir)
        };
        write().map_err(io("writing", &path))
    }

    /// What the journal itself says, for when the file does not.
    ///
    /// # Errors
    /// [`LedgerError`] when the journal cannot be read.
    pub(crate) fn from_walk(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, LedgerError> {
        let mut book = Self::default();
        let mut home = None;
        for item in walk(storage, dir)? {
            if let WalkItem::Entry { entry, .. } = item? {
                // A store begins with the genesis of a log of its own.
                if home.is_none() {
                    home = Record::parse(&entry.record)
                        .ok()
                        .map(|first| first.statement().author);
                }
                book.hear(&entry.record, home.as_ref());
            }
        }
        Ok(book)
    }

    /// The same from an open journal, for one machine's word.
    ///
    /// # Errors
    /// [`LedgerError`] when the journal cannot be read.
    pub(crate) fn from_reader(reader: &JournalReader, machine: &PublicKey) -> Result<Self, LedgerError> {
        let mut book = Self::default();
        for entry in reader.scan(crate::Position::START) {
            book.hear(&entry?.record, Some(machine));
        }
        Ok(book)
    }

    fn hear(&mut self, record: &[u8], machine: Option<&PublicKey>) {
        // Most records are none: look before parsing.
        let kind = LogPruned::KIND.as_bytes();
        if !record.windows(kind.len()).any(|window| window == kind) {
            return;
        }
        let Some(floor) = Record::parse(record).ok().and_then(Floor::of) else {
            return;
        };
        if machine.is_some_and(|machine| *machine != floor.record.statement().author) {
            return;
        }
        let entry = self.entries.entry(floor.said.log).or_default();
        let further = |before: &Arc<Floor>| before.said.last < floor.said.last;
        if entry.floor.as_ref().is_none_or(further) {
            entry.floor = Some(Arc::new(floor));
        }
    }

    /// Forgets what another machine says: only the store's own word counts in it.
    pub(crate) fn keep(&mut self, machine: &PublicKey) {
        self.entries.retain(|_, entry| {
            let floor = entry.floor.as_ref();
            floor.is_none_or(|floor| floor.record.statement().author == *machine)
        });
    }

    /// The floors.
    pub(crate) fn floors(&self) -> BTreeMap<LogId, Arc<Floor>> {
        let floor = |(log, entry): (&LogId, &Entry)| Some((*log, entry.floor.clone()?));
        self.entries.iter().filter_map(floor).collect()
    }
}
