//! What stands in a segment where something was pruned: a gap in the place of whole batches, a mark in the place of entries of
//! a batch that keeps others. Pure codecs.
//!
//! ```text
//! gap  = magic "LGAP", u64 number, 32 previous, u32 gap_bytes, u32 batches, u32 entries, u32 records_bytes,
//!        u32 payloads_bytes, 32 last, 32 checksum                                                             = 128 bytes
//! mark = u16 0, u32 mark_bytes, u32 payloads_bytes, u32 entries, 32 kept checksum                             =  46 bytes
//! ```
//! A gap stands where the first of its batches stood, and `gap_bytes` reach to behind the last; zeros follow its header.
//! `number` and `previous` are those of its first batch, `last` is the header checksum of its last one, which the next batch
//! names. A mark stands where the first of its entries stood, and its bytes, zeros behind its fields, reach to behind the last
//! one's record; their payloads, `payloads_bytes` in all, are zeros too. The `kept checksum` stands for the batch's records
//! checksum: keyed BLAKE3 over the place of the records, the batch header's digest, and the records as they are now, with
//! the checksum of every mark taken as zeros.

use super::batch::Link;
use super::format::{
    BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchDigest, ENTRY_HEADER_BYTES, EntryHeader, Fields,
    SEGMENT_BYTES_MAX, checksum,
};
use crate::Position;
use std::ops::Range;

/// Bytes of a gap's header: those of a batch's, so that no entry's place lies in it.
pub(super) const GAP_HEADER_BYTES: u32 = BATCH_HEADER_BYTES;
/// Bytes of a mark's fields. Every entry with a record is longer.
pub(super) const MARK_BYTES: u32 = 46;
/// Bytes of an entry in the records at least: its header, and a record that is not empty.
const ENTRY_BYTES_MIN: u32 = ENTRY_HEADER_BYTES + 1;

const GAP_MAGIC: [u8; 4] = *b"LGAP";
const GAP_CHECKED: usize = 96;
const MARK_FIELDS: usize = 14;

const _: () =
    assert!(4 + 8 + 32 + 5 * 4 + 32 == GAP_CHECKED && GAP_CHECKED + 32 == GAP_HEADER_BYTES as usize);
const _: () = assert!(MARK_FIELDS == ENTRY_HEADER_BYTES as usize && MARK_FIELDS + 32 == MARK_BYTES as usize);

/// Batches that are gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    pub(super) number: u64,
    pub(super) previous: BatchDigest,
    pub(super) gap_bytes: u32,
    pub(super) batches: u32,
    pub(super) entries: u32,
    pub(super) records_bytes: u32,
    pub(super) payloads_bytes: u32,
    pub(super) last: BatchDigest,
}

impl Gap {
    /// The header's bytes at a place.
    pub(super) fn encode(&self, key: &[u8; 32], at: Position) -> Vec<u8> {
        let mut bytes = GAP_MAGIC.to_vec();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.previous);
        for number in [
            self.gap_bytes,
            self.batches,
            self.entries,
            self.records_bytes,
            self.payloads_bytes,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.last);
        let digest = checksum(key, at, &bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the gap that should stand at this place; `None` when its checksum or a bound does not hold.
    pub(super) fn decode(key: &[u8; 32], at: Position, bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.get(..GAP_HEADER_BYTES as usize)?.split_at(GAP_CHECKED);
        if body[..4] != GAP_MAGIC || checksum(key, at, body) != *digest {
            return None;
        }
        let mut rest = Fields(&body[4..]);
        let gap = Self {
            number: rest.u64(),
            previous: rest.array(),
            gap_bytes: rest.u32(),
            batches: rest.u32(),
            entries: rest.u32(),
            records_bytes: rest.u32(),
            payloads_bytes: rest.u32(),
            last: rest.array(),
        };
        let parts = u64::from(gap.batches) * u64::from(BATCH_HEADER_BYTES)
            + u64::from(gap.records_bytes)
            + u64::from(gap.payloads_bytes);
        let end = u64::from(at.offset) + u64::from(gap.gap_bytes);
        let entries_least = u64::from(gap.entries) * u64::from(ENTRY_BYTES_MIN);
        let sound = gap.batches > 0
            && entries_least <= u64::from(gap.records_bytes)
            && parts == u64::from(gap.gap_bytes)
            && end <= u64::from(SEGMENT_BYTES_MAX)
            && gap.number.checked_add(u64::from(gap.batches)).is_some();
        sound.then_some(gap)
    }

    /// Whether it stands where this says.
    pub(super) fn follows(&self, link: Link) -> bool {
        self.number == link.number && self.previous == link.digest
    }

    /// What the batch behind it has to name.
    pub(super) fn link(&self) -> Link {
        Link {
            number: self.number + u64::from(self.batches),
            digest: self.last,
        }
    }
}

/// Entries of one batch that are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// Bytes from the first of them to behind the last, entry headers included.
    pub(super) bytes: u32,
    pub(super) payloads_bytes: u32,
    pub(super) entries: u32,
}

impl Mark {
    /// Its fields, with zeros for the checksum, which is known when all marks stand.
    pub(super) fn encode(&self) -> [u8; MARK_BYTES as usize] {
        let mut bytes = [0; MARK_BYTES as usize];
        bytes[2..6].copy_from_slice(&self.bytes.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.payloads_bytes.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.entries.to_be_bytes());
        bytes
    }

    /// Reads the mark that begins with these bytes; `None` when no mark stands there.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if !is_mark(bytes) {
            return None;
        }
        let mut rest = Fields(bytes.get(2..MARK_BYTES as usize)?);
        let mark = Self {
            bytes: rest.u32(),
            payloads_bytes: rest.u32(),
            entries: rest.u32(),
        };
        let least = u64::from(mark.entries) * u64::from(ENTRY_BYTES_MIN);
        let sound = mark.entries > 0
            && mark.bytes >= MARK_BYTES
            && u64::from(mark.bytes) >= least
            && mark.bytes <= BATCH_BYTES_MAX
            && mark.payloads_bytes <= BATCH_BYTES_MAX;
        sound.then_some(mark)
    }
}

/// Whether what begins here is no entry: entries have a record.
pub(super) fn is_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0])
}

// Where the checksums of the marks in a batch's records lie; `None` when the records do not add up.
fn checksums(records: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut found, mut next) = (Vec::new(), 0_usize);
    while next < records.len() {
        let rest = &records[next..];
        if is_mark(rest) {
            let mark = Mark::decode(rest)?;
            found.push(next + MARK_FIELDS..next + MARK_BYTES as usize);
            next = next.checked_add(mark.bytes as usize)?;
        } else {
            let header = EntryHeader::decode(rest)?;
            next = next.checked_add(ENTRY_HEADER_BYTES as usize + usize::from(header.record_bytes))?;
        }
    }
    (next == records.len()).then_some(found)
}

/// The checksum that every mark of a batch carries; `None` when there is none in it.
pub(super) fn kept_checksum(
    key: &[u8; 32],
    records_at: Position,
    batch: &BatchDigest,
    records: &[u8],
) -> Option<[u8; 32]> {
    let checksums = checksums(records).filter(|found| !found.is_empty())?;
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&records_at.to_be_bytes()).update(batch);
    let mut from = 0;
    for place in checksums {
        hasher.update(&records[from..place.start]).update(&[0; 32]);
        from = place.end;
    }
    hasher.update(&records[from..]);
    Some(*hasher.finalize().as_bytes())
}

/// Puts the checksum into every mark.
pub(super) fn put_checksum(records: &mut [u8], kept: &[u8; 32]) {
    for place in checksums(records).unwrap_or_default() {
        records[place].copy_from_slice(kept);
    }
}

/// Whether records that do not match their batch's checksum are what pruning left of them.
pub(super) fn is_kept(key: &[u8; 32], records_at: Position, batch: &BatchDigest, records: &[u8]) -> bool {
    // Most damaged batches have no mark: look before hashing.
    let Some(kept) = kept_checksum(key, records_at, batch, records) else {
        return false;
    };
    let same = |place: Range<usize>| records[place] == kept;
    checksums(records).is_some_and(|found| found.into_iter().all(same))
}
