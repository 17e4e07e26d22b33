//! Appending: one buffer, one write, one sync for a batch; sealing a full segment and beginning the next.
//!
//! Contract: [`Journal::append`] returns positions only for durable entries. After a failed write or sync the writer is
//! poisoned: the disk's state is unknown, and every later append is refused until the journal is opened again. A full disk
//! shows while zeros are written ahead, before anything of a batch is written, and poisons nothing.
//!
//! What a crash leaves: during an append, a part of the last batch; while sealing, a segment with or without its footer,
//! and a next one that is there whole or not at all. Dropping a journal without closing it is such a crash.

use super::batch::{self, Link};
use super::catalog::{Catalog, Segment};
use super::error::{JournalError, Outcome, is_no_space};
use super::footer::Tally;
use super::format::{
    BATCH_HEADER_BYTES, BATCHES_START, ENTRY_HEADER_BYTES, Previous, PreviousKind, SALT_BYTES, SegmentHeader,
    StoreId,
};
use super::segment::{self, SEGMENT_NUMBER_MAX};
use super::{EntryDraft, JournalOptions, JournalReader, PayloadPlace};
use crate::Position;
use crate::storage::{Access, Storage, StorageFile};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The writing end of a journal. There is one for each store, behind its lock.
#[derive(Debug)]
pub struct Journal {
    catalog: Arc<Catalog>,
    options: JournalOptions,
    file: Arc<dyn StorageFile>,
    header: SegmentHeader,
    tally: Tally,
    /// Behind the last batch, confirming ones included.
    end: u32,
    /// Behind the last batch that is known durable.
    durable: Position,
    /// Up to here the file holds zeros behind `end`.
    filled: u32,
    /// Whether a later batch proves the last one that holds entries.
    confirmed: bool,
    /// Whether the next append begins a new segment, because this one has a footer.
    ending: bool,
    /// Whether that footer is known durable, and only the next segment is missing.
    sealed: bool,
    poison: Option<String>,
    buffer: Vec<u8>,
}

/// What an opened segment gives the writer to go on with.
#[derive(Debug)]
pub(super) struct WriterStart {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) header: SegmentHeader,
    pub(super) tally: Tally,
    pub(super) end: u32,
    pub(super) filled: u32,
    pub(super) confirmed: bool,
    pub(super) ending: bool,
}

impl Journal {
    /// Makes a new journal in a folder that is absent or empty. It keeps this path: a store that is built under a temporary
    /// name is closed, renamed, and opened again.
    ///
    /// # Errors
    /// [`JournalError::Exists`] when the folder holds anything, [`JournalError::NoSpace`] and [`JournalError::Io`] when the
    /// disk refuses.
    pub fn create(
        storage: Arc<dyn Storage>,
        dir: &Path,
        store: StoreId,
        options: JournalOptions,
    ) -> Result<(Journal, JournalReader), JournalError> {
        let options = options.clamped();
        storage
            .create_dir_all(dir)
            .map_err(JournalError::io("make", dir))?;
        if !storage
            .list(dir)
            .map_err(JournalError::io("list", dir))?
            .is_empty()
        {
            return Err(JournalError::Exists { dir: dir.to_owned() });
        }
        let key = options.segment_key(1, 0);
        let header = SegmentHeader {
            segment: 1,
            store,
            key,
            previous: Previous::NONE,
            first_batch: 0,
        };
        let (file, filled) = create_segment(storage.as_ref(), dir, &options, &header)?;
        let first = Segment::new(header.clone(), BATCHES_START, Vec::new());
        let catalog = Arc::new(Catalog::new(storage, dir, store, vec![first]));
        let tally = Tally::new(&header);
        let start = WriterStart {
            file,
            header,
            tally,
            end: BATCHES_START,
            filled,
            confirmed: true,
            ending: false,
        };
        let journal = Self::start(catalog.clone(), options, start);
        Ok((journal, JournalReader::new(catalog)))
    }

    pub(super) fn start(catalog: Arc<Catalog>, options: JournalOptions, start: WriterStart) -> Self {
        let WriterStart {
            file,
            header,
            tally,
            end,
            filled,
            confirmed,
            ending,
        } = start;
        let durable = Position {
            segment: header.segment,
            offset: end,
        };
        Self {
            catalog,
            options,
            file,
            header,
            tally,
            end,
            durable,
            filled,
            confirmed,
            ending,
            sealed: false,
            poison: None,
            buffer: Vec::new(),
        }
    }

    /// Appends entries as one batch: all of them durable when it returns, or none of them, or unknown.
    ///
    /// # Errors
    /// [`JournalError::outcome`] tells what is known: with [`Outcome::NotCommitted`] nothing was appended and nothing will
    /// appear; with [`Outcome::Unknown`] only opening the journal again tells. [`JournalError::TooLarge`] and
    /// [`JournalError::NoSpace`] leave the journal usable, all others poison it.
    pub fn append(&mut self, entries: &[EntryDraft<'_>]) -> Result<Vec<Position>, JournalError> {
        self.check_poison()?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let batch_bytes = batch::measure(entries)?;
        if self.ending || self.is_full(batch_bytes) {
            self.rotate()?;
        }
        // Room for the confirming batch too, so that it never meets a full disk.
        self.reserve(u64::from(self.end) + u64::from(batch_bytes) + u64::from(BATCH_HEADER_BYTES))?;

        let at = Position {
            segment: self.header.segment,
            offset: self.end,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (header, digest) = batch::encode(
            &mut buffer,
            &self.header.key,
            at,
            self.tally.link(),
            self.durable,
            entries,
        );
        let written = self.write_batch(&buffer);
        let header_bytes = &buffer[..BATCH_HEADER_BYTES as usize];
        if written.is_ok() {
            let is_sample = self.tally.note_batch(at.offset, &header, header_bytes, digest);
            let mut positions = Vec::with_capacity(entries.len());
            let mut offset = at.offset + BATCH_HEADER_BYTES;
            for entry in entries {
                self.tally.note_record(entry.record);
                positions.push(Position {
                    segment: at.segment,
                    offset,
                });
                offset += ENTRY_HEADER_BYTES + u32::try_from(entry.record.len()).expect("measured before");
            }
            self.end = at.offset + header.batch_bytes();
            self.durable = Position {
                segment: at.segment,
                offset: self.end,
            };
            self.confirmed = false;
            self.catalog.publish(self.durable, is_sample.then_some(at.offset));
            self.buffer = buffer;
            return Ok(positions);
        }
        self.buffer = buffer;
        written.map(|()| Vec::new())
    }

    /// Makes the last batch provable: an empty batch behind it says that it was synced. Costs one small write and no sync,
    /// for its presence is the proof. Does nothing when that was done already.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`]; [`JournalError::Io`] when the write fails, which poisons.
    pub fn confirm(&mut self) -> Result<(), JournalError> {
        self.check_poison()?;
        if self.confirmed || self.ending {
            return Ok(());
        }
        self.reserve(u64::from(self.end) + u64::from(BATCH_HEADER_BYTES))?;
        let at = Position {
            segment: self.header.segment,
            offset: self.end,
        };
        let mut buffer = Vec::with_capacity(BATCH_HEADER_BYTES as usize);
        let (header, digest) = batch::encode(
            &mut buffer,
            &self.header.key,
            at,
            self.tally.link(),
            self.durable,
            &[],
        );
        self.file
            .write_at(u64::from(at.offset), &buffer)
            .map_err(|source| self.poisoned("write", source, Outcome::NotCommitted))?;
        self.tally.note_batch(at.offset, &header, &buffer, digest);
        self.end += BATCH_HEADER_BYTES;
        self.confirmed = true;
        Ok(())
    }

    /// Behind everything durable: every acknowledged entry is before it. This is what the anchor keeps.
    pub fn durable_end(&self) -> Position {
        self.durable
    }

    /// Whether an earlier failure made the journal refuse to write.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// The store that it belongs to.
    pub fn store(&self) -> StoreId {
        self.catalog.store
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Refuses every later append, because of this.
    pub(crate) fn refuse(&mut self, why: &str) {
        self.poison.get_or_insert_with(|| why.to_owned());
    }

    /// Overwrites a payload and its salt with zeros, in place; durable when it returns. The record stays.
    ///
    /// The batch is made provable and that is synced first: recovery checks the payloads of unproven batches, and would
    /// take an erased one for a torn write.
    ///
    /// # Errors
    /// [`JournalError::NoEntry`] when no payload can lie there; [`JournalError::Io`] when the disk refuses, which poisons.
    pub fn erase(&mut self, place: PayloadPlace) -> Result<(), JournalError> {
        let catalog = self.catalog.clone();
        let _turn = catalog.turn();
        self.erase_all(&[place])
    }

    /// The same for several, with one sync for each segment. The caller has the [`Catalog::turn`].
    pub(super) fn erase_all(&mut self, places: &[PayloadPlace]) -> Result<(), JournalError> {
        self.check_poison()?;
        let mut by_segment: BTreeMap<u32, Vec<PayloadPlace>> = BTreeMap::new();
        for place in places {
            let end = u64::from(place.offset) + u64::from(place.bytes);
            let inside = self
                .catalog
                .segment(place.segment)
                .is_some_and(|s| end <= u64::from(s.end()));
            if !inside || place.offset < BATCHES_START || place.bytes < SALT_BYTES {
                return Err(JournalError::NoEntry {
                    segment: place.segment,
                    offset: place.offset,
                });
            }
            by_segment.entry(place.segment).or_default().push(*place);
        }
        if by_segment.is_empty() {
            return Ok(());
        }
        self.confirm()?;
        self.sync()?;
        for (segment, places) in by_segment {
            let file = if segment == self.header.segment {
                self.file.clone()
            } else {
                let storage = self.catalog.storage.as_ref();
                segment::open(storage, &self.catalog.dir, segment, Access::Write)?
            };
            places
                .iter()
                .map(|place| (u64::from(place.offset), u64::from(place.bytes)))
                .try_for_each(|(offset, bytes)| segment::fill_zeros(file.as_ref(), offset, offset + bytes))
                .and_then(|()| file.sync_data())
                .map_err(|source| self.poisoned("erase in", source, Outcome::NotCommitted))?;
        }
        Ok(())
    }

    /// Ends cleanly: the last batch is made provable, the zeros behind it are cut off, and all is synced.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] and [`JournalError::Io`]; everything acknowledged is durable all the same.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.check_poison()?;
        self.confirm()?;
        if !self.ending {
            self.file
                .set_len(u64::from(self.end))
                .map_err(|source| self.poisoned("cut", source, Outcome::NotCommitted))?;
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.file
            .sync_data()
            .map_err(|source| self.poisoned("sync", source, Outcome::NotCommitted))
    }

    fn is_full(&self, batch_bytes: u32) -> bool {
        let after = u64::from(self.end) + u64::from(batch_bytes) + u64::from(BATCH_HEADER_BYTES);
        self.end > BATCHES_START && after > u64::from(self.options.segment_bytes)
    }

    // The one write and the one sync of a batch.
    fn write_batch(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let at = u64::from(self.end);
        if let Err(source) = self.file.write_at(at, bytes) {
            // Some file systems find out about a full disk only here. With durable zeros in its place again, the batch is
            // definitely not there; otherwise nobody knows.
            let undone = is_no_space(&source)
                && segment::fill_zeros(self.file.as_ref(), at, at + bytes.len() as u64).is_ok()
                && self.file.sync_data().is_ok();
            if undone {
                return Err(JournalError::NoSpace { path: self.path() });
            }
            return Err(self.poisoned("write", source, Outcome::Unknown));
        }
        self.file
            .sync_data()
            .map_err(|source| self.poisoned("sync", source, Outcome::Unknown))
    }

    // Writes zeros ahead, so that the space is there and a sync of data has no metadata to write.
    fn reserve(&mut self, needed: u64) -> Result<(), JournalError> {
        if needed <= u64::from(self.filled) {
            return Ok(());
        }
        let step = u64::from(self.options.fill_bytes);
        let ample = needed.div_ceil(step).saturating_mul(step);
        let ample = ample.min(u64::from(self.options.segment_bytes)).max(needed);
        for target in [ample, needed] {
            match segment::fill_zeros(self.file.as_ref(), u64::from(self.filled), target) {
                Ok(()) => {
                    self.sync()?;
                    self.filled = u32::try_from(target).expect("a segment and a batch are far below 4 GiB");
                    return Ok(());
                }
                Err(source) if is_no_space(&source) => {}
                Err(source) => return Err(self.poisoned("write ahead in", source, Outcome::NotCommitted)),
            }
        }
        Err(JournalError::NoSpace { path: self.path() })
    }

    // Seals this segment, unless this process did, and begins the next. On a full disk both can be tried again. A footer that an
    // earlier process wrote is written again: it was read, but perhaps only from a cache that never reached the disk.
    fn rotate(&mut self) -> Result<(), JournalError> {
        if !self.sealed {
            let at = Position {
                segment: self.header.segment,
                offset: self.end,
            };
            let footer = self.tally.footer().encode(&self.header.key, at);
            let end = u64::from(self.end) + footer.len() as u64;
            self.reserve(end)?;
            if self.durable.offset < self.end {
                // A footer proves all before it, so the confirming batch must be durable first.
                self.sync()?;
            }
            self.ending = true;
            self.file
                .write_at(u64::from(self.end), &footer)
                .and_then(|()| self.file.set_len(end))
                .and_then(|()| self.file.sync_data())
                .map_err(|source| self.poisoned("seal", source, Outcome::NotCommitted))?;
            self.sealed = true;
            self.confirmed = true;
            self.catalog.seal(self.header.segment, self.end);
        }
        self.begin_next()
    }

    fn begin_next(&mut self) -> Result<(), JournalError> {
        let link = self.tally.link();
        let previous = Previous {
            kind: PreviousKind::Sealed,
            segment: self.header.segment,
            end: self.end,
            digest: link.digest,
        };
        let header = next_header(&self.options, self.catalog.store, previous, link)?;
        let made = create_segment(
            self.catalog.storage.as_ref(),
            &self.catalog.dir,
            &self.options,
            &header,
        );
        let (file, filled) = made.inspect_err(|error| {
            if !matches!(error, JournalError::NoSpace { .. }) {
                self.poison = Some(error.to_string());
            }
        })?;
        self.catalog
            .add(Segment::new(header.clone(), BATCHES_START, Vec::new()));
        self.durable = Position {
            segment: header.segment,
            offset: BATCHES_START,
        };
        self.tally = Tally::new(&header);
        (self.file, self.header, self.end, self.filled) = (file, header, BATCHES_START, filled);
        (self.confirmed, self.ending, self.sealed) = (true, false, false);
        Ok(())
    }

    fn path(&self) -> std::path::PathBuf {
        segment::path(&self.catalog.dir, self.header.segment)
    }

    pub(super) fn check_poison(&self) -> Result<(), JournalError> {
        match &self.poison {
            Some(cause) => Err(JournalError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poisoned(&mut self, doing: &'static str, source: io::Error, outcome: Outcome) -> JournalError {
        let error = JournalError::Io {
            doing,
            path: self.path(),
            source,
            outcome,
        };
        self.poison = Some(error.to_string());
        error
    }
}

/// The header of the segment after `previous`.
pub(super) fn next_header(
    options: &JournalOptions,
    store: StoreId,
    previous: Previous,
    link: Link,
) -> Result<SegmentHeader, JournalError> {
    let segment = previous.segment + 1;
    if segment > SEGMENT_NUMBER_MAX {
        let (found, limit) = (u64::from(segment), u64::from(SEGMENT_NUMBER_MAX));
        return Err(JournalError::TooLarge {
            what: "segment number",
            found,
            limit,
        });
    }
    let key = options.segment_key(segment, previous.end);
    Ok(SegmentHeader {
        segment,
        store,
        key,
        previous,
        first_batch: link.number,
    })
}

/// Makes the file of a segment without batches; returns it and up to where it holds zeros.
pub(super) fn create_segment(
    storage: &dyn Storage,
    dir: &Path,
    options: &JournalOptions,
    header: &SegmentHeader,
) -> Result<(Arc<dyn StorageFile>, u32), JournalError> {
    let filled = options.fill_bytes.min(options.segment_bytes);
    let file = segment::create(storage, dir, header.segment, &header.encode().repeat(2), filled)?;
    Ok((file, filled))
}
