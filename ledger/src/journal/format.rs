//! The bytes of a segment: its header, the headers of batches, the headers of entries. Pure codecs, no I/O.
//!
//! ```text
//! segment  = header, header again, batch*, (footer, if sealed), zeros
//! header   = magic "LDGRSEG\n", u32 version = 1, u32 segment, 16 store, 32 key, u8 previous kind (0 none, 1 sealed, 2 cut),
//!            u32 previous segment, u32 previous end, 32 previous digest, u64 first batch, 32 checksum        = 145 bytes
//! batch    = batch header, records, payloads
//! batch header = magic "LBAT", u64 number, 32 previous, u32+u32 synced_through, u32 entries, u32 records_bytes,
//!            u32 payloads_bytes, 32 records checksum, 32 header checksum                                     = 128 bytes
//! records  = for each entry: u16 record_bytes, u32 payload_bytes, u32 payload offset, u32 crc, the record
//! payloads = for each entry with payload_bytes > 0, in order: 32 salt, payload
//! ```
//! All numbers are big-endian. `payload_bytes` counts salt and payload; the offset is the absolute one in the segment, 0
//! when there is none. The segment header's checksum is a digest of the bytes before it under a context of its own. The
//! checksums of batches are BLAKE3 keyed with the segment's random key, and cover the place (segment, offset) too, so
//! that neither bytes inside a payload nor a batch at another place pass for a batch. `previous` is the header checksum
//! of the batch before, over segments too; numbers are dense over the whole journal, from 0. The crc (CRC-32 of IEEE
//! 802.3) covers segment, offset, the three fields before it, and the record, so that one entry can be read alone.
//! Payloads are under no checksum here: each statement commits to its own, and erasing one in place breaks nothing.

use crate::Position;
use ledger_core::limits::{PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the segment format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of one copy of the segment header.
pub const SEGMENT_HEADER_BYTES: u32 = 145;
/// Where the batches begin: behind two copies of the header, so that one damaged bit there does not cost a segment.
pub const BATCHES_START: u32 = 2 * SEGMENT_HEADER_BYTES;
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: u32 = 128;
/// Bytes of an entry header.
pub const ENTRY_HEADER_BYTES: u32 = 14;
/// Bytes of the salt before each payload.
pub const SALT_BYTES: u32 = 32;
/// Bytes of one batch at most: what a reader must be ready to hold in memory.
pub const BATCH_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Entries of one batch at most.
pub const BATCH_ENTRIES_MAX: u32 = 65_536;
/// Bytes of a segment file at most, footer included; larger files are not ours.
pub const SEGMENT_BYTES_MAX: u32 = 256 * 1024 * 1024;

pub(crate) const BATCH_MAGIC: [u8; 4] = *b"LBAT";
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"LDGRSEG\n";
const CONTEXT_HEADER: &str = "ledger v1 journal segment header";
const BATCH_CHECKED: usize = 96;

const _: () = assert!(8 + 4 + 4 + 16 + 32 + 1 + 4 + 4 + 32 + 8 + 32 == SEGMENT_HEADER_BYTES as usize);
const _: () = assert!(4 + 8 + 32 + 8 + 4 + 4 + 4 + 32 == BATCH_CHECKED);
const _: () = assert!(BATCH_CHECKED + 32 == BATCH_HEADER_BYTES as usize);
const _: () = assert!(SALT_BYTES as usize + PAYLOAD_BYTES_MAX < u32::MAX as usize);

/// Names a store; the same in its anchor and in every segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// A digest of a batch header: its checksum.
pub(crate) type BatchDigest = [u8; 32];

/// How the segment before ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PreviousKind {
    /// There is none: this is segment 1.
    None,
    /// It has a footer at its end.
    Sealed,
    /// A recovery ended it; what lies behind its end means nothing.
    Cut,
}

/// Where the segment before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Previous {
    pub(crate) kind: PreviousKind,
    pub(crate) segment: u32,
    pub(crate) end: u32,
    /// Of its last batch header; of the last one before it when it has none.
    pub(crate) digest: BatchDigest,
}

impl Previous {
    pub(crate) const NONE: Previous = Previous {
        kind: PreviousKind::None,
        segment: 0,
        end: 0,
        digest: [0; 32],
    };
}

/// The header of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u32,
    pub(crate) store: StoreId,
    pub(crate) key: [u8; 32],
    pub(crate) previous: Previous,
    /// The number of the first batch in it.
    pub(crate) first_batch: u64,
}

/// Why bytes are not a segment header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFault {
    /// A checksum or a field is wrong.
    Damaged,
    /// The header is sound, but of another version.
    Version(u32),
}

impl SegmentHeader {
    /// One copy of the header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.segment.to_be_bytes());
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(&self.key);
        bytes.push(match self.previous.kind {
            PreviousKind::None => 0,
            PreviousKind::Sealed => 1,
            PreviousKind::Cut => 2,
        });
        bytes.extend_from_slice(&self.previous.segment.to_be_bytes());
        bytes.extend_from_slice(&self.previous.end.to_be_bytes());
        bytes.extend_from_slice(&self.previous.digest);
        bytes.extend_from_slice(&self.first_batch.to_be_bytes());
        let checksum = blake3::derive_key(CONTEXT_HEADER, &bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads one copy.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let checked = SEGMENT_HEADER_BYTES as usize - 32;
        let (body, checksum) = bytes.split_at_checked(checked).ok_or(HeaderFault::Damaged)?;
        if body[..8] != SEGMENT_MAGIC || blake3::derive_key(CONTEXT_HEADER, body) != *checksum {
            return Err(HeaderFault::Damaged);
        }
        let mut rest = Fields(&body[8..]);
        let version = rest.u32();
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let segment = rest.u32();
        let store = StoreId(rest.array());
        let key = rest.array();
        let kind = match rest.array::<1>() {
            [0] => PreviousKind::None,
            [1] => PreviousKind::Sealed,
            [2] => PreviousKind::Cut,
            _ => return Err(HeaderFault::Damaged),
        };
        let previous = Previous {
            kind,
            segment: rest.u32(),
            end: rest.u32(),
            digest: rest.array(),
        };
        let first_batch = rest.u64();
        let linked = match kind {
            PreviousKind::None => segment == 1 && previous == Previous::NONE && first_batch == 0,
            _ => {
                previous.segment.checked_add(1) == Some(segment)
                    && previous.segment > 0
                    && (BATCHES_START..=SEGMENT_BYTES_MAX).contains(&previous.end)
            }
        };
        if linked {
            Ok(Self {
                segment,
                store,
                key,
                previous,
                first_batch,
            })
        } else {
            Err(HeaderFault::Damaged)
        }
    }
}

/// The header of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) number: u64,
    pub(crate) previous: BatchDigest,
    /// The end of what was durable before this batch was written.
    pub(crate) synced_through: Position,
    pub(crate) entries: u32,
    pub(crate) records_bytes: u32,
    pub(crate) payloads_bytes: u32,
    pub(crate) records_checksum: [u8; 32],
}

impl BatchHeader {
    /// The header's bytes at a place, and its digest.
    pub(crate) fn encode(
        &self,
        key: &[u8; 32],
        at: Position,
    ) -> ([u8; BATCH_HEADER_BYTES as usize], BatchDigest) {
        let mut bytes = [0; BATCH_HEADER_BYTES as usize];
        bytes[..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..12].copy_from_slice(&self.number.to_be_bytes());
        bytes[12..44].copy_from_slice(&self.previous);
        bytes[44..52].copy_from_slice(&self.synced_through.to_be_bytes());
        bytes[52..56].copy_from_slice(&self.entries.to_be_bytes());
        bytes[56..60].copy_from_slice(&self.records_bytes.to_be_bytes());
        bytes[60..64].copy_from_slice(&self.payloads_bytes.to_be_bytes());
        bytes[64..96].copy_from_slice(&self.records_checksum);
        let digest = checksum(key, at, &bytes[..BATCH_CHECKED]);
        bytes[BATCH_CHECKED..].copy_from_slice(&digest);
        (bytes, digest)
    }

    /// Reads a header that should stand at this place; `None` when its checksum or a bound does not hold.
    pub(crate) fn decode(key: &[u8; 32], at: Position, bytes: &[u8]) -> Option<(Self, BatchDigest)> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES as usize)?;
        let (body, digest) = bytes.split_at(BATCH_CHECKED);
        if body[..4] != BATCH_MAGIC || checksum(key, at, body) != *digest {
            return None;
        }
        let mut rest = Fields(&body[4..]);
        let header = Self {
            number: rest.u64(),
            previous: rest.array(),
            synced_through: Position {
                segment: rest.u32(),
                offset: rest.u32(),
            },
            entries: rest.u32(),
            records_bytes: rest.u32(),
            payloads_bytes: rest.u32(),
            records_checksum: rest.array(),
        };
        let bytes = u64::from(header.records_bytes) + u64::from(header.payloads_bytes);
        let least = u64::from(header.entries) * u64::from(ENTRY_HEADER_BYTES + 1);
        let sound = bytes <= u64::from(BATCH_BYTES_MAX)
            && header.entries <= BATCH_ENTRIES_MAX
            && u64::from(header.records_bytes) >= least
            && (header.entries > 0 || bytes == 0)
            && header.synced_through <= at;
        sound.then(|| (header, digest.try_into().expect("split at its length")))
    }

    /// Bytes of the whole batch.
    pub(crate) fn batch_bytes(&self) -> u32 {
        BATCH_HEADER_BYTES + self.records_bytes + self.payloads_bytes
    }
}

/// The header of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryHeader {
    pub(crate) record_bytes: u16,
    /// Salt and payload; 0 when there is none.
    pub(crate) payload_bytes: u32,
    pub(crate) payload_offset: u32,
    pub(crate) crc: u32,
}

impl EntryHeader {
    /// Puts one together; the crc covers place and record.
    pub(crate) fn new(at: Position, record: &[u8], payload_bytes: u32, payload_offset: u32) -> Self {
        let record_bytes =
            u16::try_from(record.len()).expect("checked before: records are at most 65,535 bytes");
        let mut header = Self {
            record_bytes,
            payload_bytes,
            payload_offset,
            crc: 0,
        };
        header.crc = header.compute_crc(at, record);
        header
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_HEADER_BYTES as usize] {
        let mut bytes = [0; ENTRY_HEADER_BYTES as usize];
        bytes[..2].copy_from_slice(&self.record_bytes.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.payload_bytes.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.payload_offset.to_be_bytes());
        bytes[10..].copy_from_slice(&self.crc.to_be_bytes());
        bytes
    }

    /// Reads one; `None` when a bound does not hold. The crc is checked by [`EntryHeader::fits`], with the record.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Fields(bytes.get(..ENTRY_HEADER_BYTES as usize)?);
        let header = Self {
            record_bytes: u16::from_be_bytes(rest.array()),
            payload_bytes: rest.u32(),
            payload_offset: rest.u32(),
            crc: rest.u32(),
        };
        let largest = PAYLOAD_BYTES_MAX + SALT_BYTES as usize;
        let payload_sound = match header.payload_bytes {
            0 => header.payload_offset == 0,
            bytes => {
                bytes >= SALT_BYTES
                    && bytes as usize <= largest
                    && header.payload_offset >= BATCHES_START
                    && header
                        .payload_offset
                        .checked_add(bytes)
                        .is_some_and(|end| end <= SEGMENT_BYTES_MAX)
            }
        };
        (header.record_bytes > 0 && payload_sound).then_some(header)
    }

    /// Whether header and record are what was written at this place.
    pub(crate) fn fits(&self, at: Position, record: &[u8]) -> bool {
        record.len() == usize::from(self.record_bytes) && self.compute_crc(at, record) == self.crc
    }

    fn compute_crc(&self, at: Position, record: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&at.to_be_bytes());
        hasher.update(&self.encode()[..10]);
        hasher.update(record);
        hasher.finalize()
    }
}

const _: () = assert!(RECORD_BYTES_MAX == u16::MAX as usize);

/// The checksum of bytes at a place of a segment.
pub(crate) fn checksum(key: &[u8; 32], at: Position, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&at.to_be_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

/// Takes fixed-width fields off bytes whose total length the caller has checked.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_first_chunk().expect("the length was checked before");
        self.0 = tail;
        *head
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
}
