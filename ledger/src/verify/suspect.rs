//! Naming a damaged record: reading what is left of it.
//!
//! Nothing here is trusted: what the bytes say of themselves only helps a person to find the receipt. The caller takes a
//! name only when it fits the place that a log expects next.

use crate::journal::format::ENTRY_HEADER_BYTES;
use crate::storage::{Access, Storage};
use ledger_core::{LogId, ReceiptId, SealDigest, digest};
use std::path::Path;

/// Where the id stands in a record's bytes: behind the statement's length, version and fleet.
const ID_AT: usize = 2 + 1 + 32;

/// What is left of a damaged record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Suspect {
    bytes: Vec<u8>,
    /// Log and seq, as its seal says, when that can be read.
    pub(super) place: Option<(LogId, u64)>,
    /// Whether the seal names the very statement that stands there, so that only other parts are damaged.
    statement_is_whole: bool,
}

impl Suspect {
    /// Reads what is left of the record whose entry begins at a place of a segment; `None` when nothing is.
    pub(super) fn read(storage: &dyn Storage, journal: &Path, segment: u32, offset: u32) -> Option<Self> {
        let path = journal.join(format!("{segment:08}.seg"));
        let file = storage.open(&path, Access::Read).ok()?;
        let mut header = [0; ENTRY_HEADER_BYTES as usize];
        let begin = u64::from(offset) + u64::from(ENTRY_HEADER_BYTES);
        if file.read_at(u64::from(offset), &mut header).ok()? < header.len() {
            return None;
        }
        let mut bytes = vec![0; usize::from(u16::from_be_bytes([header[0], header[1]]))];
        let read = file.read_at(begin, &mut bytes).ok()?;
        bytes.truncate(read);
        Some(Self::of(bytes))
    }

    /// The same for bytes at hand.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let parts = parts(&bytes);
        let place = parts.and_then(|(_, seal)| {
            // version (1), log (32), seq (a varint), ... and the statement's digest at the end.
            let log = LogId(seal.get(1..33)?.try_into().ok()?);
            let (seq, _) = postcard::take_from_bytes::<u64>(seal.get(33..)?).ok()?;
            Some((log, seq))
        });
        let statement_is_whole =
            parts.is_some_and(|(statement, seal)| seal.ends_with(&digest::statement_digest(statement).0));
        Self {
            bytes,
            place,
            statement_is_whole,
        }
    }

    /// Where in it this digest stands last; a record ends with its seal, which holds that of the seal before it.
    pub(super) fn find(&self, seal: &SealDigest) -> Option<usize> {
        self.bytes
            .windows(seal.0.len())
            .rposition(|window| window == seal.0)
    }

    /// Its id, when that is certain.
    pub(super) fn id(&self) -> Option<ReceiptId> {
        let id = self.bytes.get(ID_AT..ID_AT + 16)?;
        self.statement_is_whole
            .then(|| id.try_into().ok().map(ReceiptId))
            .flatten()
    }
}

// Statement and seal, by their framing.
fn parts(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let (statement, rest) = split_prefixed(record)?;
    let (&author_bytes, rest) = rest.split_first()?;
    let (seal, _) = split_prefixed(rest.get(usize::from(author_bytes)..)?)?;
    Some((statement, seal))
}

fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
