//! Reading: one entry by its position, or all entries from a place on, while the writer goes on appending.
//!
//! Contract: readers see durable batches only, and each whole. A single entry is checked by its crc, a scan checks every
//! batch's header, its link to the one before, and its records. Payloads are handed out as they lie there: whoever needs
//! them checks the statement's commitment.

use super::batch::{Batch, BatchFault, Link, place_of, split_payload};
use super::catalog::{Catalog, Segment};
use super::error::JournalError;
use super::format::{
    BATCH_HEADER_BYTES, BATCHES_START, BatchHeader, ENTRY_HEADER_BYTES, EntryHeader, StoreId,
};
use super::gap::{self, Gap};
use super::segment::BLOCK_BYTES;
use super::{StoredEntry, open};
use crate::Position;
use crate::storage::{Storage, StorageFile};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Bytes read at once for a single entry: most records fit.
const ENTRY_READ_BYTES: usize = 1024;

/// The reading end of a journal. Cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct JournalReader {
    catalog: Arc<Catalog>,
}

impl JournalReader {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Opens a journal that nobody writes, for reading only; writes nothing. It ends with its last whole batch.
    ///
    /// # Errors
    /// [`JournalError::Missing`] when there is none; [`JournalError::Corrupt`] when batches are damaged that a later one
    /// proves durable.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<JournalReader, JournalError> {
        open::read_only(storage, dir).map(Self::new)
    }

    /// Behind the last durable entry.
    pub fn end(&self) -> Position {
        self.catalog.end()
    }

    /// The store that it belongs to.
    pub fn store(&self) -> StoreId {
        self.catalog.store
    }

    /// Reads the entry at a position, with its payload.
    ///
    /// # Errors
    /// [`JournalError::NoEntry`] when no durable entry can begin there; [`JournalError::Corrupt`] when the bytes there are
    /// not what was written as an entry at this place; [`JournalError::Io`].
    pub fn read(&self, at: Position) -> Result<StoredEntry, JournalError> {
        let mut entry = self.read_record(at)?;
        if let Some(place) = entry.place {
            let mut bytes = vec![0; place.bytes as usize];
            self.read_exactly(place.segment, place.offset, &mut bytes)?;
            entry.payload = split_payload(&bytes);
        }
        Ok(entry)
    }

    /// Reads the entry at a position without its payload.
    ///
    /// # Errors
    /// As [`JournalReader::read`].
    pub fn read_record(&self, at: Position) -> Result<StoredEntry, JournalError> {
        let no_entry = || JournalError::NoEntry {
            segment: at.segment,
            offset: at.offset,
        };
        let segment = self.catalog.segment(at.segment).ok_or_else(no_entry)?;
        let end = segment.end();
        let least = BATCHES_START + BATCH_HEADER_BYTES;
        if at.offset < least || end.saturating_sub(at.offset) <= ENTRY_HEADER_BYTES {
            return Err(no_entry());
        }
        let room = (end - at.offset) as usize;
        let mut bytes = vec![0; ENTRY_READ_BYTES.min(room)];
        self.read_exactly(at.segment, at.offset, &mut bytes)?;
        let corrupt = || {
            JournalError::corrupt(
                at.segment,
                at.offset,
                "the bytes there are not the entry that was written there",
            )
        };
        if segment.is_pruned() && gap::is_mark(&bytes) {
            return Err(JournalError::Pruned {
                segment: at.segment,
                offset: at.offset,
            });
        }
        let header = EntryHeader::decode(&bytes).ok_or_else(corrupt)?;
        let begin = ENTRY_HEADER_BYTES as usize;
        let total = begin + usize::from(header.record_bytes);
        if total > room {
            return Err(corrupt());
        }
        if total > bytes.len() {
            let have = bytes.len();
            bytes.resize(total, 0);
            let offset = at.offset + u32::try_from(have).expect("at most ENTRY_READ_BYTES");
            self.read_exactly(at.segment, offset, &mut bytes[have..])?;
        }
        bytes.truncate(total);
        if !header.fits(at, &bytes[begin..]) {
            return Err(corrupt());
        }
        let place = place_of(at.segment, &header);
        if place.is_some_and(|p| u64::from(p.offset) + u64::from(p.bytes) > u64::from(end)) {
            return Err(corrupt());
        }
        bytes.drain(..begin);
        Ok(StoredEntry {
            position: at,
            record: bytes,
            payload: None,
            place,
        })
    }

    /// All entries behind a position (it itself excluded), in the journal's order, up to what is durable now. Any position
    /// will do, [`Position::START`] for all. Payloads are left out unless asked for by [`Scan::with_payloads`].
    pub fn scan(&self, after: Position) -> Scan {
        Scan {
            catalog: self.catalog.clone(),
            after,
            limit: self.catalog.end(),
            with_payloads: false,
            block_bytes: BLOCK_BYTES,
            place: None,
            next_segment: after.segment.max(1),
            ready: VecDeque::new(),
            failed: false,
        }
    }

    fn read_exactly(&self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), JournalError> {
        let file = self.catalog.file(segment)?;
        read_exactly(&self.catalog, file.as_ref(), segment, offset, into)
    }
}

fn read_exactly(
    catalog: &Catalog,
    file: &dyn StorageFile,
    segment: u32,
    offset: u32,
    into: &mut [u8],
) -> Result<(), JournalError> {
    let read = file
        .read_at(u64::from(offset), into)
        .map_err(|source| JournalError::io("read", super::segment::path(&catalog.dir, segment))(source))?;
    if read < into.len() {
        return Err(JournalError::corrupt(
            segment,
            offset,
            "the file ends before its last acknowledged batch",
        ));
    }
    Ok(())
}

/// Entries in the journal's order. Ends after an error.
#[derive(Debug)]
pub struct Scan {
    catalog: Arc<Catalog>,
    after: Position,
    limit: Position,
    with_payloads: bool,
    block_bytes: usize,
    place: Option<Place>,
    next_segment: u32,
    ready: VecDeque<StoredEntry>,
    failed: bool,
}

// Where a scan stands in a segment.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    file: Arc<dyn StorageFile>,
    offset: u32,
    end: u32,
    // Unknown when the scan begins in the middle of a segment.
    link: Option<Link>,
    block: Vec<u8>,
    block_bytes: usize,
    block_at: u32,
}

impl Scan {
    /// Brings the payloads too.
    #[must_use]
    pub fn with_payloads(mut self) -> Self {
        self.with_payloads = true;
        self
    }

    /// Reads so many bytes at a time; little for who wants few entries.
    #[must_use]
    pub(crate) fn in_blocks_of(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    // Makes the next batch's entries ready; false at the end.
    fn advance(&mut self) -> Result<bool, JournalError> {
        let Some(place) = &mut self.place else {
            return self.enter_next();
        };
        if place.offset >= place.end {
            self.place = None;
            return self.enter_next();
        }
        let number = place.segment.header.segment;
        let at = Position {
            segment: number,
            offset: place.offset,
        };
        let corrupt = |fault: BatchFault| JournalError::corrupt(number, at.offset, fault.what());
        let key = place.segment.header.key;
        let header_bytes = place.bytes(&self.catalog, BATCH_HEADER_BYTES)?;
        if let Some(gap) = Gap::decode(&key, at, header_bytes) {
            if place.link.is_some_and(|link| !gap.follows(link)) {
                return Err(corrupt(BatchFault::Link));
            }
            place.link = Some(gap.link());
            place.offset += gap.gap_bytes;
            return Ok(true);
        }
        let (header, _) =
            BatchHeader::decode(&key, at, header_bytes).ok_or_else(|| corrupt(BatchFault::Header))?;
        let total = header.batch_bytes();
        if at.offset.checked_add(total).is_none_or(|end| end > place.end) {
            return Err(corrupt(BatchFault::Short));
        }
        let payloads = if self.with_payloads {
            header.payloads_bytes
        } else {
            0
        };
        let wanted = BATCH_HEADER_BYTES + header.records_bytes + payloads;
        let link = place.link;
        let bytes = place.bytes(&self.catalog, wanted)?;
        let batch = Batch::parse(&key, at, bytes, self.with_payloads).map_err(corrupt)?;
        if link.is_some_and(|link| !link.is_followed_by(&batch.header)) {
            return Err(corrupt(BatchFault::Link));
        }
        let after = self.after;
        self.ready.extend(
            batch
                .entries()
                .filter(|e| e.position > after)
                .map(|entry| entry.to_stored()),
        );
        let link = Link::after(&batch.header, batch.digest);
        place.link = Some(link);
        place.offset += total;
        Ok(true)
    }

    fn enter_next(&mut self) -> Result<bool, JournalError> {
        let Some(segment) = self.catalog.segment_from(self.next_segment) else {
            return Ok(false);
        };
        let number = segment.header.segment;
        if number > self.limit.segment {
            return Ok(false);
        }
        self.next_segment = number + 1;
        let end = if number == self.limit.segment {
            self.limit.offset
        } else {
            segment.end()
        };
        // Before the place to begin at: a segment may be replaced in between, and then has fewer of them.
        let file = self.catalog.file(number)?;
        let offset = if number == self.after.segment {
            segment.sample_before(self.after.offset)
        } else {
            BATCHES_START
        };
        let header = &segment.header;
        let link = (offset == BATCHES_START).then_some(Link {
            number: header.first_batch,
            digest: header.previous.digest,
        });
        self.place = Some(Place {
            segment,
            file,
            offset,
            end,
            link,
            block: Vec::new(),
            block_bytes: self.block_bytes,
            block_at: 0,
        });
        Ok(true)
    }
}

impl Place {
    // The bytes from the present offset on; read in big blocks, never behind the end.
    fn bytes(&mut self, catalog: &Catalog, wanted: u32) -> Result<&[u8], JournalError> {
        let number = self.segment.header.segment;
        let have_end = self.block_at as usize + self.block.len();
        let wanted_end = self.offset as usize + wanted as usize;
        if wanted_end > self.end as usize {
            return Err(JournalError::corrupt(
                number,
                self.offset,
                BatchFault::Short.what(),
            ));
        }
        if self.offset < self.block_at || wanted_end > have_end {
            let room = (self.end - self.offset) as usize;
            self.block
                .resize((wanted as usize).max(self.block_bytes).min(room), 0);
            self.block_at = self.offset;
            read_exactly(catalog, self.file.as_ref(), number, self.offset, &mut self.block)?;
        }
        let from = (self.offset - self.block_at) as usize;
        Ok(&self.block[from..from + wanted as usize])
    }
}

impl Iterator for Scan {
    type Item = Result<StoredEntry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            if self.failed {
                return None;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => {
                    self.failed = true;
                    return None;
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
