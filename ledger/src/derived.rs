//! Derived data: rows in fjall that can be deleted and are rebuilt from the journal. The only file that knows fjall.
//!
//! A batch is atomic and not synced: what a crash loses here is folded again. If the directory cannot be opened it is set
//! aside and begun anew; nothing in it is a truth. After a write that failed (a full disk), fjall refuses every other one
//! until its database is opened again: [`Derived::mend`] does that under the feet of whoever has a handle, who at most
//! waits for it. What a crash in the middle of that leaves is what a crash leaves at any other time.

use crate::error::LedgerError;
use crate::journal::error::is_no_space;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, UserKey, UserValue};
use std::io::Write;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Bytes of fjall's block cache: the working set of a studio's queries.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of one table's write buffer before it is flushed.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Bytes of fjall's own write-ahead files, from which on it flushes what holds the oldest: its least.
const WRITE_AHEAD_BYTES: u64 = 64 << 20;
/// Bytes that a disk must take before the store on it is opened again: with less, the next write would fail as well.
const ROOM_BYTES: usize = 256 << 10;

/// The derived store of one ledger. Clones share it.
#[derive(Clone)]
pub struct Derived {
    shared: Arc<Shared>,
}

/// One keyspace of it.
#[derive(Clone)]
pub struct Table {
    slot: Arc<Slot>,
}

/// Rows that become visible together.
pub struct Batch {
    shared: Arc<Shared>,
    rows: Vec<(Arc<Slot>, UserKey, Option<UserValue>)>,
}

/// Key and value of a row.
pub type Pair = (Vec<u8>, Vec<u8>);

struct Shared {
    path: PathBuf,
    // None only after an opening that failed. Whoever writes holds it for reading, so that nobody mends meanwhile.
    db: RwLock<Option<Database>>,
    // Every table that somebody has a handle of. Locked after `db`, and each slot's keyspace after that.
    slots: Mutex<Vec<Arc<Slot>>>,
    failed: AtomicBool,
}

struct Slot {
    name: String,
    // None only while, or because, there is no database.
    keyspace: RwLock<Option<Keyspace>>,
}

fn failed(what: &'static str) -> impl Fn(fjall::Error) -> LedgerError {
    move |e| LedgerError::Derived {
        what,
        why: e.to_string(),
    }
}

fn not_open(what: &'static str) -> LedgerError {
    LedgerError::Derived {
        what,
        why: "it could not be opened again after a failure; that is tried until it succeeds".into(),
    }
}

fn is_full(error: &fjall::Error) -> bool {
    matches!(error, fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) if is_no_space(io))
}

fn open_database(path: &Path) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(WRITE_AHEAD_BYTES)
        .worker_threads(1)
        .open()
}

fn open_keyspace(db: &Database, name: &str) -> fjall::Result<Keyspace> {
    db.keyspace(name, || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .data_block_compression_policy(fjall::config::CompressionPolicy::all(fjall::CompressionType::Lz4))
    })
}

// Whether the disk takes a little more, found out by writing it: what a file system says of its free space is no promise.
fn try_for_room(path: &Path) -> std::io::Result<()> {
    let probe = path.with_extension("probe");
    let written = std::fs::File::create(&probe).and_then(|mut file| {
        file.write_all(&vec![0x5a; ROOM_BYTES])
            .and_then(|()| file.sync_data())
    });
    // A probe that was never made needs no removing; one that stays is overwritten by the next.
    drop(std::fs::remove_file(&probe));
    written
}

impl Derived {
    /// Opens or creates the derived store. One that cannot be opened is renamed to `derived.broken` and begun anew, unless
    /// it was only the room on the disk that was missing.
    ///
    /// # Errors
    /// [`LedgerError::Derived`] when a new one cannot be made either.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let db = match open_database(path) {
            Ok(db) => db,
            // There is nothing to set aside, or nothing wrong with it: the disk is at fault.
            Err(e) if !path.exists() || is_full(&e) => {
                return Err(failed("opening the derived store")(e));
            }
            Err(e) => {
                let aside = path.with_extension("broken");
                tracing::warn!(error = %e, "the derived store does not open; it is set aside and rebuilt from the journal");
                let io = |source| LedgerError::Io {
                    what: "setting the derived store aside",
                    path: path.into(),
                    source,
                };
                if aside.exists() {
                    std::fs::remove_dir_all(&aside).map_err(io)?;
                }
                std::fs::rename(path, &aside).map_err(io)?;
                open_database(path).map_err(failed("opening the derived store"))?
            }
        };
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                db: RwLock::new(Some(db)),
                slots: Mutex::default(),
                failed: AtomicBool::new(false),
            }),
        })
    }

    /// A table by name; created when it is not there.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn table(&self, name: &str) -> Result<Table, LedgerError> {
        const WHAT: &str = "opening a table";
        let db = self.shared.db.read().expect("database lock");
        let db = db.as_ref().ok_or_else(|| not_open(WHAT))?;
        let mut slots = self.shared.slots.lock().expect("slots lock");
        if let Some(slot) = slots.iter().find(|slot| slot.name == name) {
            let slot = Arc::clone(slot);
            return Ok(Table { slot });
        }
        let keyspace = open_keyspace(db, name).map_err(|e| {
            self.shared.failed.store(true, Ordering::Release);
            failed(WHAT)(e)
        })?;
        let slot = Arc::new(Slot {
            name: name.to_owned(),
            keyspace: RwLock::new(Some(keyspace)),
        });
        slots.push(Arc::clone(&slot));
        Ok(Table { slot })
    }

    /// Begins a batch.
    pub fn batch(&self) -> Batch {
        Batch {
            shared: Arc::clone(&self.shared),
            rows: Vec::new(),
        }
    }

    /// Opens the store again if a write to it failed and the disk has room now; whether that was done. Whoever reads or
    /// writes meanwhile waits. What was committed is there afterwards; what was not may be.
    ///
    /// # Errors
    /// [`LedgerError::Derived`] when it stays as it is, because there is no room, or when it does not open: then reading
    /// fails as well until it does. Try again later.
    pub fn mend(&self) -> Result<bool, LedgerError> {
        const WHAT: &str = "opening the derived store again";
        if self.shared.is_sound() {
            return Ok(false);
        }
        try_for_room(&self.shared.path).map_err(|e| LedgerError::Derived {
            what: WHAT,
            why: format!("there is no room for it yet: {e}"),
        })?;
        let mut db = self.shared.db.write().expect("database lock");
        let slots = self.shared.slots.lock().expect("slots lock");
        let mut keyspaces: Vec<_> = slots
            .iter()
            .map(|slot| slot.keyspace.write().expect("keyspace lock"))
            .collect();
        // The old one must be gone before its folder can be opened again.
        for keyspace in &mut keyspaces {
            **keyspace = None;
        }
        *db = None;
        let opened = open_database(&self.shared.path).map_err(failed(WHAT))?;
        for (slot, keyspace) in slots.iter().zip(&mut keyspaces) {
            **keyspace = Some(open_keyspace(&opened, &slot.name).map_err(failed(WHAT))?);
        }
        *db = Some(opened);
        self.shared.failed.store(false, Ordering::Release);
        Ok(true)
    }

    /// Makes the store refuse writes as after a failed one, for tests of what follows.
    #[cfg(test)]
    pub(crate) fn break_it(&self) {
        self.shared.failed.store(true, Ordering::Release);
    }
}

impl Shared {
    // A worker of fjall that failed says so only to the next write.
    fn is_sound(&self) -> bool {
        let db = self.db.read().expect("database lock");
        let works = |db: &Database| db.persist(fjall::PersistMode::Buffer).is_ok();
        !self.failed.load(Ordering::Acquire) && db.as_ref().is_some_and(works)
    }
}

impl Slot {
    fn with<T>(&self, what: &'static str, act: impl FnOnce(&Keyspace) -> T) -> Result<T, LedgerError> {
        let keyspace = self.keyspace.read().expect("keyspace lock");
        keyspace.as_ref().map(act).ok_or_else(|| not_open(what))
    }
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, table: &Table, key: &[u8], value: &[u8]) {
        self.rows
            .push((Arc::clone(&table.slot), key.into(), Some(value.into())));
    }

    /// Removes a row.
    pub fn remove(&mut self, table: &Table, key: &[u8]) {
        self.rows.push((Arc::clone(&table.slot), key.into(), None));
    }

    /// Makes all of it visible at once.
    ///
    /// # Errors
    /// [`LedgerError::Derived`]; nothing of it is visible then, though it may be after [`Derived::mend`] or another opening.
    pub fn commit(self) -> Result<(), LedgerError> {
        const WHAT: &str = "writing derived rows";
        let db = self.shared.db.read().expect("database lock");
        let mut batch = db.as_ref().ok_or_else(|| not_open(WHAT))?.batch();
        for (slot, key, value) in self.rows {
            slot.with(WHAT, |keyspace| match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            })?;
        }
        batch.commit().map_err(|e| {
            self.shared.failed.store(true, Ordering::Release);
            failed(WHAT)(e)
        })
    }
}

impl Table {
    /// A row's value.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        const WHAT: &str = "reading a derived row";
        let row = self.slot.with(WHAT, |keyspace| keyspace.get(key))?;
        Ok(row.map_err(failed(WHAT))?.map(|value| value.to_vec()))
    }

    /// The rows whose keys begin with a prefix, in the order of their keys.
    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<Pair, LedgerError>> + use<> {
        rows(self.slot.with(READING, |keyspace| keyspace.prefix(prefix)))
    }

    /// The rows in a range of keys, in their order.
    pub fn range<R: RangeBounds<Vec<u8>>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = Result<Pair, LedgerError>> + use<R> {
        rows(
            self.slot
                .with(READING, |keyspace| keyspace.range::<Vec<u8>, R>(range)),
        )
    }

    /// Removes every row.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn clear(&self) -> Result<(), LedgerError> {
        const WHAT: &str = "clearing a derived table";
        self.slot.with(WHAT, Keyspace::clear)?.map_err(failed(WHAT))
    }
}

const READING: &str = "reading derived rows";

// The rows, or the one error that there are none to be had.
fn rows(
    found: Result<fjall::Iter, LedgerError>,
) -> impl DoubleEndedIterator<Item = Result<Pair, LedgerError>> + use<> {
    let (iter, error) = match found {
        Ok(iter) => (Some(iter), None),
        Err(e) => (None, Some(Err(e))),
    };
    iter.into_iter().flatten().map(pair).chain(error)
}

fn pair(guard: fjall::Guard) -> Result<Pair, LedgerError> {
    let (key, value) = guard.into_inner().map_err(failed(READING))?;
    Ok((key.to_vec(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32) -> ([u8; 4], [u8; 1000]) {
        (number.to_be_bytes(), [number.to_le_bytes()[0]; 1000])
    }

    #[test]
    fn it_is_opened_again_under_handles_iterators_and_batches_that_were_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let derived = Derived::open(&dir.path().join("derived")).unwrap();
        let (one, two) = (derived.table("one").unwrap(), derived.table("two").unwrap());
        let mut batch = derived.batch();
        for number in 0..100 {
            let (key, value) = row(number);
            batch.put(&one, &key, &value);
            batch.put(&two, &key, &value);
        }
        batch.commit().unwrap();
        assert!(!derived.mend().unwrap(), "nothing is to be mended");
        let mut begun = one.prefix(&[]);
        begun.next().unwrap().unwrap();
        let mut batch = derived.batch();
        batch.put(&two, &row(100).0, &row(100).1);
        derived.break_it();
        assert!(derived.mend().unwrap());
        assert!(!derived.mend().unwrap());
        assert_eq!(begun.map(Result::unwrap).count(), 99);
        batch.commit().unwrap();
        assert_eq!((one.prefix(&[]).count(), two.prefix(&[]).count()), (100, 101));
        for number in 0..100 {
            let (key, value) = row(number);
            assert_eq!(one.get(&key).unwrap().unwrap(), value);
        }
        drop(derived);
        assert!(!dir.path().join("derived.probe").exists());
    }

    #[test]
    fn readers_at_work_see_every_row_while_it_is_opened_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let derived = Derived::open(&dir.path().join("derived")).unwrap();
        let table = derived.table("rows").unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !over.load(Ordering::Acquire) {
                        let now = table.prefix(&[]).map(Result::unwrap).count();
                        assert!(now >= seen, "{now} rows after {seen}");
                        seen = now;
                    }
                });
            }
            for number in 0..20 {
                let mut batch = derived.batch();
                batch.put(&table, &row(number).0, &row(number).1);
                batch.commit().unwrap();
                derived.break_it();
                assert!(derived.mend().unwrap());
            }
            over.store(true, Ordering::Release);
        });
        assert_eq!(table.prefix(&[]).count(), 20);
    }

    #[test]
    fn one_that_does_not_open_again_says_so_to_readers_and_is_tried_until_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derived");
        let derived = Derived::open(&path).unwrap();
        let table = derived.table("rows").unwrap();
        let mut batch = derived.batch();
        batch.put(&table, b"key", b"value");
        batch.commit().unwrap();
        derived.break_it();
        let version = path.join("version");
        let sound = std::fs::read(&version).unwrap();
        std::fs::write(&version, "of another kind").unwrap();
        assert_eq!(derived.mend().unwrap_err().code(), "ledger.derived");
        assert_eq!(table.get(b"key").unwrap_err().code(), "ledger.derived");
        assert!(table.prefix(&[]).next().unwrap().is_err());
        assert!(derived.batch().commit().is_err());
        std::fs::write(&version, sound).unwrap();
        assert!(derived.mend().unwrap());
        assert_eq!(table.get(b"key").unwrap().unwrap(), b"value");
    }

    #[test]
    fn where_it_cannot_be_made_the_disks_own_error_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = Derived::open(&file.join("derived")).err().unwrap();
        assert_eq!(refused.code(), "ledger.derived");
        assert!(
            refused.to_string().contains("opening the derived store"),
            "{refused}"
        );
    }
}
