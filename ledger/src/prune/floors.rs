//! What an open store knows of its pruned logs, and the rewriting of its segments.
//!
//! Owns the file of the book while the store is open. One log is pruned at a time.

use super::book::{Book, Entry, Floor, Found};
use crate::Receipt;
use crate::error::LedgerError;
use crate::journal::{JournalError, JournalReader, StoreId};
use crate::storage::Storage;
use ledger_core::{LogId, PublicKey, ReceiptId, Record};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What rewriting came to.
#[derive(Default)]
pub(super) struct Freed {
    pub(super) records: u64,
    pub(super) segments: u64,
    pub(super) bytes: u64,
}

/// What an open store knows of its pruned logs.
pub(crate) struct Pruned {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    store: StoreId,
    // Held while a log is pruned.
    book: Mutex<Book>,
    floors: RwLock<BTreeMap<LogId, Arc<Floor>>>,
    // Most stores never prune anything, and then need not look.
    any: AtomicBool,
}

impl Pruned {
    /// Reads what is known, from the journal itself when the file was lost.
    ///
    /// # Errors
    /// [`LedgerError`] when the journal cannot be read.
    pub(crate) fn open(reader: &JournalReader, machine: &PublicKey) -> Result<Self, LedgerError> {
        let (storage, dir) = (Arc::clone(reader.storage()), reader.dir().to_owned());
        let store = reader.store();
        let (mut book, found) = Book::load(storage.as_ref(), &dir, Some(store))?;
        if found == Found::Damaged || (found == Found::Missing && reader.is_pruned()) {
            tracing::warn!(dir = %dir.display(), "what is known of pruned logs is made again from the journal");
            book = Book::from_reader(reader, machine)?;
            book.save(storage.as_ref(), &dir, store)?;
        }
        book.keep(machine);
        let pruned = Self {
            storage,
            dir,
            store,
            floors: RwLock::new(BTreeMap::new()),
            any: AtomicBool::new(false),
            book: Mutex::default(),
        };
        pruned.publish(&book);
        *pruned.book() = book;
        Ok(pruned)
    }

    /// Makes what is known again from the journal when nothing is: a copy that began behind a gap has no segment that tells by its
    /// form that its log is pruned. Whether anything was found.
    ///
    /// # Errors
    /// [`LedgerError`] when the journal cannot be read, or the file not written.
    pub(crate) fn recover(&self, reader: &JournalReader, machine: &PublicKey) -> Result<bool, LedgerError> {
        let mut book = self.book();
        if !book.entries.is_empty() {
            return Ok(false);
        }
        let found = Book::from_reader(reader, machine)?;
        if found.entries.is_empty() {
            return Ok(false);
        }
        tracing::warn!(dir = %self.dir.display(), "what is known of pruned logs is made again from the journal");
        self.save(&found)?;
        self.publish(&found);
        *book = found;
        Ok(true)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, book: &Book) {
        let floors = book.floors();
        self.any.store(!floors.is_empty(), Ordering::Release);
        *self.floors.write().unwrap_or_else(PoisonError::into_inner) = floors;
    }

    pub(super) fn save(&self, book: &Book) -> Result<(), LedgerError> {
        book.save(self.storage.as_ref(), &self.dir, self.store)
    }

    /// Below what a log is pruned.
    pub(crate) fn floor(&self, log: &LogId) -> Option<Arc<Floor>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let floors = self.floors.read().unwrap_or_else(PoisonError::into_inner);
        floors.get(log).cloned()
    }

    /// The error for a place that is pruned.
    pub(crate) fn at(&self, log: &LogId, seq: u64) -> Option<LedgerError> {
        let floor = self.floor(log).filter(|floor| floor.covers(seq))?;
        Some(LedgerError::Pruned {
            log: *log,
            seq,
            first: floor.first_kept(),
            by: floor.record.statement().id,
        })
    }

    /// Ends what a crash interrupted: an intention whose receipt is durable counts, another one is dropped; and every receipt
    /// that is counted on must stand in the journal.
    ///
    /// # Errors
    /// [`LedgerError::PrunedUnsaid`] when one does not; [`LedgerError`] when the store cannot be read or written.
    pub(crate) fn settle(
        &self,
        find: impl Fn(&ReceiptId) -> Result<Vec<Receipt>, LedgerError>,
        get: impl Fn(&LogId, u64) -> Result<Option<Receipt>, LedgerError>,
        is_own: impl Fn(&LogId) -> bool,
    ) -> Result<(), LedgerError> {
        let mut book = self.book();
        let mut changed = false;
        for (log, entry) in &mut book.entries {
            if let Some(id) = entry.intended.take() {
                changed = true;
                let receipts = find(&id)?.into_iter().filter(|receipt| is_own(&receipt.log()));
                let floors = receipts.filter_map(|receipt| Floor::of((*receipt.record).clone()));
                if let Some(floor) = floors.filter(|floor| floor.said.log == *log).last() {
                    entry.floor = Some(Arc::new(floor));
                    entry.done = 0;
                }
            }
            if let Some(floor) = &entry.floor {
                let evidence = floor.evidence();
                let stands = get(&evidence.log, evidence.seq)?;
                if stands.is_none_or(|stands| stands.seal_digest() != evidence.seal) {
                    return Err(LedgerError::PrunedUnsaid(*log));
                }
            }
        }
        if changed {
            book.entries.retain(|_, entry| entry.floor.is_some());
            self.save(&book)?;
            self.publish(&book);
        }
        Ok(())
    }

    /// Rewrites what a crash, or a full disk, left of what is to go. A full disk is no error: nothing depends on it.
    ///
    /// # Errors
    /// [`LedgerError::Journal`] when the disk refuses.
    pub(crate) fn finish(&self, reader: &JournalReader) -> Result<(), LedgerError> {
        let mut book = self.book();
        let waiting =
            |(log, entry): (&LogId, &Entry)| (entry.done == 0).then_some((*log, entry.floor.clone()?));
        let waiting: Vec<_> = book.entries.iter().filter_map(waiting).collect();
        for (log, floor) in waiting {
            match self.free(&mut book, reader, &log, &floor, None) {
                Ok(_) => {}
                Err(
                    error @ LedgerError::Journal(JournalError::NoSpace { .. } | JournalError::Corrupt { .. }),
                ) => {
                    tracing::warn!(code = error.code(), %error, "what was pruned is not freed yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    // Rewrites every segment that has any of it, but for the newest one. `new`: the first seq that goes now, and the segment
    // before which everything else went already.
    pub(super) fn free(
        &self,
        book: &mut Book,
        reader: &JournalReader,
        log: &LogId,
        floor: &Floor,
        new: Option<(u64, u32)>,
    ) -> Result<Freed, LedgerError> {
        let end = reader.end().segment;
        let goes = |record: &[u8]| {
            Record::parse(record)
                .is_ok_and(|record| record.seal().log == *log && floor.covers(record.seal().seq))
        };
        let mut freed = Freed::default();
        for number in reader.segments_before(end) {
            let from = new
                .filter(|(_, done)| number < *done)
                .map_or(1, |(first, _)| first);
            let has = match reader.zone(number, log)? {
                None => true,
                Some(zone) => {
                    zone.is_some_and(|zone| zone.first_seq <= floor.said.last && zone.last_seq >= from)
                }
            };
            if !has {
                continue;
            }
            if let Some(pruned) = reader.prune_segment(number, &goes)? {
                freed.records += pruned.entries;
                freed.segments += 1;
                freed.bytes += pruned.bytes_before.saturating_sub(pruned.bytes_after);
            }
        }
        if let Some(entry) = book.entries.get_mut(log) {
            entry.done = end;
        }
        self.save(book)?;
        Ok(freed)
    }
}
