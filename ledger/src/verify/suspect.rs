//! Naming a damaged record: reading what is left of it.
//!
//! Nothing here is trusted: what the bytes say of themselves only helps a person to find the receipt. The caller takes a
//! name only when it fits the place that the log expects next.

use crate::storage::{Access, Storage};
use ledger_core::limits::RECORD_BYTES_MAX;
use ledger_core::{LogId, ReceiptId, SealDigest};
use std::path::Path;

/// Bytes of an entry's header in the journal.
const ENTRY_HEADER_BYTES: usize = crate::journal::format::ENTRY_HEADER_BYTES as usize;
/// Where the id stands in a statement's bytes: behind version and fleet.
const ID_AT: usize = 33;

/// What a damaged record says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suspect {
    pub(super) id: Option<ReceiptId>,
    pub(super) log: LogId,
    pub(super) seq: u64,
    pub(super) prev: SealDigest,
}

/// Reads what is left of the record whose entry begins at a place of a segment; `None` when it tells nothing.
pub(super) fn read(storage: &dyn Storage, journal: &Path, segment: u32, offset: u32) -> Option<Suspect> {
    let path = journal.join(format!("{segment:08}.seg"));
    let file = storage.open(&path, Access::Read).ok()?;
    let mut bytes = vec![0; ENTRY_HEADER_BYTES + RECORD_BYTES_MAX];
    let read = file.read_at(u64::from(offset), &mut bytes).ok()?;
    parse(bytes.get(ENTRY_HEADER_BYTES..read)?)
}

fn parse(record: &[u8]) -> Option<Suspect> {
    let (statement, rest) = split_prefixed(record)?;
    let (&author_bytes, rest) = rest.split_first()?;
    let (seal, _) = split_prefixed(rest.get(usize::from(author_bytes)..)?)?;
    // version (1), log (32), seq (a varint), prev (32) have fixed places in every version 1 seal.
    let log = LogId(seal.get(1..33)?.try_into().ok()?);
    let (seq, rest) = postcard::take_from_bytes::<u64>(seal.get(33..)?).ok()?;
    let prev = SealDigest(rest.get(..32)?.try_into().ok()?);
    let id = statement
        .get(ID_AT..ID_AT + 16)
        .and_then(|id| id.try_into().ok())
        .map(ReceiptId);
    Some(Suspect { id, log, seq, prev })
}

fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
