//! The journal: append-only segment files in commit order. It is the truth of a store.
//!
//! Owns the files `NNNNNNNN.seg` of one folder: their format (`format`, `footer`), appending (`writer`), reading and
//! scanning (`reader`), opening with recovery (`open`, with the table in [`crate::recovery`]) and the offline walk that
//! never writes (`walk`). It does not know what a record says, except for the zone map of a footer.
//!
//! What a crash leaves: a whole last batch, a part of it, or nothing of it, behind batches that are all whole; or a file
//! `NNNNNNNN.new`, a segment that was being made and holds nothing that is not elsewhere too. Opening heals both.

pub(crate) mod batch;
pub(crate) mod blocks;
mod catalog;
pub mod error;
mod examine;
pub mod footer;
pub mod format;
mod gap;
mod heal;
mod open;
mod prune;
mod reader;
mod scrub;
mod segment;
mod sparse;
mod walk;
mod writer;

pub use error::{JournalError, Outcome};
pub use format::StoreId;
pub use open::{OpenContext, Opened};
pub use prune::SegmentPruned;
pub(crate) use prune::is_pruned;
pub use reader::{JournalReader, Scan};
pub use walk::{Walk, WalkItem, walk};
pub use writer::Journal;

use crate::Position;
use format::{BATCH_HEADER_BYTES, BATCHES_START, SEGMENT_BYTES_MAX};
use ledger_core::Payload;

/// Bytes at which a segment is sealed and the next one begun, unless told otherwise.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 * 1024 * 1024;
/// Bytes of zeros written ahead at a time, unless told otherwise, so that a sync has no metadata to write.
pub const FILL_BYTES_DEFAULT: u32 = 1024 * 1024;
/// The least size of a segment that makes sense: two headers and a few batches. For tests.
pub const SEGMENT_BYTES_MIN: u32 = BATCHES_START + 4 * BATCH_HEADER_BYTES;

/// How a journal writes.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Bytes at which a segment is sealed; clamped to [`SEGMENT_BYTES_MIN`] and half of [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u32,
    /// Bytes of zeros written ahead at a time; clamped to 4 KiB and the segment's size.
    pub fill_bytes: u32,
    /// 32 random bytes, fresh at every creation and opening: the segments' checksum keys are derived from them.
    pub entropy: [u8; 32],
}

impl JournalOptions {
    /// The ordinary sizes.
    pub fn new(entropy: [u8; 32]) -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            fill_bytes: FILL_BYTES_DEFAULT,
            entropy,
        }
    }

    pub(crate) fn clamped(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX / 2);
        self.fill_bytes = self.fill_bytes.clamp(4096, self.segment_bytes.max(4096));
        self
    }

    /// The checksum key of a segment. The end of the segment before makes it another one when a segment is made again.
    pub(crate) fn segment_key(&self, segment: u32, previous_end: u32) -> [u8; 32] {
        let place = Position {
            segment,
            offset: previous_end,
        };
        *blake3::keyed_hash(&self.entropy, &place.to_be_bytes()).as_bytes()
    }
}

/// One entry to append.
#[derive(Clone, Copy, Debug)]
pub struct EntryDraft<'a> {
    /// The record's exact bytes, 1 to 65,535.
    pub record: &'a [u8],
    /// Its payload, to be kept beside it.
    pub payload: Option<&'a Payload>,
}

/// Where an entry's salt and payload lie, for erasing them in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadPlace {
    /// The segment.
    pub segment: u32,
    /// Bytes from the segment's beginning.
    pub offset: u32,
    /// Bytes of salt and payload together.
    pub bytes: u32,
}

/// One entry as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEntry {
    /// Where it begins.
    pub position: Position,
    /// The record's exact bytes.
    pub record: Vec<u8>,
    /// Salt and payload as they lie there, not checked against the commitment; `None` when there is none, or when the
    /// reader was not asked for payloads.
    pub payload: Option<Payload>,
    /// Where salt and payload lie; `None` when there is none.
    pub place: Option<PayloadPlace>,
}

impl StoredEntry {
    /// Whether the payload was erased in place: salt and bytes are zeros.
    pub fn is_erased(&self) -> bool {
        self.payload
            .as_ref()
            .is_some_and(|p| p.salt.0 == [0; 32] && p.bytes.iter().all(|b| *b == 0))
    }
}
