//! One batch taken apart: from bytes in memory to checked entries. Pure; used by recovery, scans and the offline walk.

use super::error::JournalError;
use super::format::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use super::format::{
    BATCH_HEADER_BYTES, BATCH_MAGIC, BatchDigest, BatchHeader, ENTRY_HEADER_BYTES, EntryHeader, SALT_BYTES,
    checksum,
};
use super::gap::{self, Mark};
use super::{EntryDraft, PayloadPlace, StoredEntry};
use crate::Position;
use ledger_core::limits::{PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX};
use ledger_core::{Payload, Salt};

/// Why the bytes at a place are not a whole batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BatchFault {
    /// No valid header stands there.
    Header,
    /// The header is valid, but the batch is longer than the bytes.
    Short,
    /// The records do not fit their checksum.
    Records,
    /// The records fit their checksum, but the entries in them contradict the header or each other.
    Entries,
    /// The batch is sound by itself but does not follow the one before.
    Link,
}

impl BatchFault {
    /// In words, for errors and findings.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Header => "no valid batch header stands here",
            Self::Short => "the batch that begins here goes past the segment's end",
            Self::Records => "the records of this batch do not match their checksum",
            Self::Entries => "the entries of this batch contradict its header",
            Self::Link => "this batch does not follow the one before it (number or digest)",
        }
    }

    /// The stable code of a finding.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Header | Self::Short => "journal.batch-header",
            Self::Records => "journal.records",
            Self::Entries => "journal.entries",
            Self::Link => "journal.link",
        }
    }
}

/// What the next batch has to name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) digest: BatchDigest,
}

impl Link {
    /// Whether this header follows.
    pub(crate) fn is_followed_by(&self, header: &BatchHeader) -> bool {
        header.number == self.number && header.previous == self.digest
    }

    /// What the batch after this one has to name.
    pub(crate) fn after(header: &BatchHeader, digest: BatchDigest) -> Self {
        Self {
            number: header.number.saturating_add(1),
            digest,
        }
    }
}

/// A batch whose header, records and entry headers are checked. Payloads are not: their commitments are.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) at: Position,
    pub(crate) header: BatchHeader,
    pub(crate) digest: BatchDigest,
    records: &'a [u8],
    // Empty when the caller did not bring them.
    payloads: &'a [u8],
}

/// One entry in a batch, borrowed.
#[derive(Debug)]
pub(crate) struct EntryView<'a> {
    pub(crate) position: Position,
    pub(crate) header: EntryHeader,
    pub(crate) record: &'a [u8],
    /// Salt and payload; `None` when there is none, or when the caller did not bring the payloads.
    pub(crate) payload: Option<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Takes apart the batch that begins with `bytes` at this place. `bytes` may go on behind it, and may leave out the
    /// payloads when `with_payloads` is false.
    pub(crate) fn parse(
        key: &[u8; 32],
        at: Position,
        bytes: &'a [u8],
        with_payloads: bool,
    ) -> Result<Self, BatchFault> {
        let (header, digest) = BatchHeader::decode(key, at, bytes).ok_or(BatchFault::Header)?;
        Self::of_header(key, at, header, digest, bytes, with_payloads)
    }

    /// The same with its header decoded already.
    pub(crate) fn of_header(
        key: &[u8; 32],
        at: Position,
        header: BatchHeader,
        digest: BatchDigest,
        bytes: &'a [u8],
        with_payloads: bool,
    ) -> Result<Self, BatchFault> {
        let body = bytes
            .get(BATCH_HEADER_BYTES as usize..)
            .ok_or(BatchFault::Short)?;
        let (records, rest) = body
            .split_at_checked(header.records_bytes as usize)
            .ok_or(BatchFault::Short)?;
        let payloads = if with_payloads {
            rest.get(..header.payloads_bytes as usize)
                .ok_or(BatchFault::Short)?
        } else {
            &[]
        };
        let records_at = at
            .offset
            .checked_add(BATCH_HEADER_BYTES)
            .ok_or(BatchFault::Short)?;
        let place = Position {
            segment: at.segment,
            offset: records_at,
        };
        if checksum(key, place, records) != header.records_checksum
            && !gap::is_kept(key, place, &digest, records)
        {
            return Err(BatchFault::Records);
        }
        let batch = Self {
            at,
            header,
            digest,
            records,
            payloads,
        };
        batch.check_entries().ok_or(BatchFault::Entries)?;
        Ok(batch)
    }

    /// The entries that are there, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryView<'a>> + use<'a> {
        let (records, payloads, with_payloads) = (self.records, self.payloads, !self.payloads.is_empty());
        let segment = self.at.segment;
        let records_at = self.at.offset + BATCH_HEADER_BYTES;
        let payloads_at = records_at + self.header.records_bytes;
        let mut next = 0_usize;
        std::iter::from_fn(move || {
            while let Some(mark) = records.get(next..).and_then(Mark::decode) {
                next += mark.bytes as usize;
            }
            let rest = records.get(next..).filter(|rest| !rest.is_empty())?;
            let header = EntryHeader::decode(rest)?;
            let offset = records_at + u32::try_from(next).ok()?;
            let begin = ENTRY_HEADER_BYTES as usize;
            let record = rest.get(begin..begin + usize::from(header.record_bytes))?;
            next += begin + record.len();
            let payload = (with_payloads && header.payload_bytes > 0)
                .then(|| {
                    let from = (header.payload_offset - payloads_at) as usize;
                    payloads.get(from..from + header.payload_bytes as usize)
                })
                .flatten();
            Some(EntryView {
                position: Position { segment, offset },
                header,
                record,
                payload,
            })
        })
    }

    // Entry headers (and marks) are dense, payloads lie in order without gaps, and all sums are those of the header.
    fn check_entries(&self) -> Option<()> {
        let records_at = self.at.offset.checked_add(BATCH_HEADER_BYTES)?;
        let payloads_at = records_at.checked_add(self.header.records_bytes)?;
        let payloads_end = payloads_at.checked_add(self.header.payloads_bytes)?;
        let (mut next, mut payload_next, mut count) = (0_usize, payloads_at, 0_u32);
        while next < self.records.len() {
            if let Some(mark) = Mark::decode(&self.records[next..]) {
                next = next.checked_add(mark.bytes as usize)?;
                payload_next = payload_next.checked_add(mark.payloads_bytes)?;
                count = count.checked_add(mark.entries)?;
                continue;
            }
            let header = EntryHeader::decode(&self.records[next..])?;
            next = next.checked_add(ENTRY_HEADER_BYTES as usize + usize::from(header.record_bytes))?;
            if header.payload_bytes > 0 {
                if header.payload_offset != payload_next {
                    return None;
                }
                payload_next = payload_next.checked_add(header.payload_bytes)?;
            }
            count += 1;
        }
        (next == self.records.len() && count == self.header.entries && payload_next == payloads_end)
            .then_some(())
    }
}

impl Batch<'_> {
    /// The entries that were pruned: where the first of each run stood, and what went with it.
    pub(super) fn marks(&self) -> Vec<(u32, Mark)> {
        let (mut found, mut next) = (Vec::new(), 0_usize);
        let records_at = self.at.offset + BATCH_HEADER_BYTES;
        while let Some(rest) = self.records.get(next..).filter(|rest| !rest.is_empty()) {
            if let Some(mark) = Mark::decode(rest) {
                found.push((records_at + u32::try_from(next).unwrap_or(0), mark));
                next += mark.bytes as usize;
            } else if let Some(header) = EntryHeader::decode(rest) {
                next += ENTRY_HEADER_BYTES as usize + usize::from(header.record_bytes);
            } else {
                break;
            }
        }
        found
    }
}

impl EntryView<'_> {
    /// An owned copy.
    pub(crate) fn to_stored(&self) -> StoredEntry {
        StoredEntry {
            position: self.position,
            record: self.record.to_vec(),
            payload: self.payload.and_then(split_payload),
            place: place_of(self.position.segment, &self.header),
        }
    }
}

/// Bytes of the batch that these entries would make, header included.
///
/// # Errors
/// [`JournalError::TooLarge`] when an entry or the whole is over its bound.
pub(crate) fn measure(entries: &[EntryDraft<'_>]) -> Result<u32, JournalError> {
    let over = |what, found: usize, limit: usize| {
        Err(JournalError::TooLarge {
            what,
            found: found as u64,
            limit: limit as u64,
        })
    };
    if entries.len() > BATCH_ENTRIES_MAX as usize {
        return over("number of entries", entries.len(), BATCH_ENTRIES_MAX as usize);
    }
    let mut bytes = 0_usize;
    for entry in entries {
        if entry.record.is_empty() || entry.record.len() > RECORD_BYTES_MAX {
            return over("record's length", entry.record.len(), RECORD_BYTES_MAX);
        }
        bytes += ENTRY_HEADER_BYTES as usize + entry.record.len();
        if let Some(payload) = entry.payload {
            if payload.bytes.len() > PAYLOAD_BYTES_MAX {
                return over("payload's length", payload.bytes.len(), PAYLOAD_BYTES_MAX);
            }
            bytes += SALT_BYTES as usize + payload.bytes.len();
        }
    }
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= BATCH_BYTES_MAX => Ok(bytes + BATCH_HEADER_BYTES),
        _ => over("batch's length", bytes, BATCH_BYTES_MAX as usize),
    }
}

/// Appends the bytes of a whole batch to a buffer, and returns its header and digest.
///
/// The caller has checked the bounds: records of 1 to 65,535 bytes, payloads and the batch within theirs.
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    key: &[u8; 32],
    at: Position,
    link: Link,
    synced_through: Position,
    entries: &[EntryDraft<'_>],
) -> (BatchHeader, BatchDigest) {
    let bounded = |length: usize| u32::try_from(length).expect("a batch is bounded to 32 MiB");
    let begin = buffer.len();
    let header_end = begin + BATCH_HEADER_BYTES as usize;
    buffer.resize(header_end, 0);
    let records_at = at.offset + BATCH_HEADER_BYTES;
    let records_bytes: usize = entries
        .iter()
        .map(|e| ENTRY_HEADER_BYTES as usize + e.record.len())
        .sum();
    let payloads_at = records_at + bounded(records_bytes);
    let (mut offset, mut payload_offset) = (records_at, payloads_at);
    for entry in entries {
        let payload_bytes = entry
            .payload
            .map_or(0, |payload| SALT_BYTES + bounded(payload.bytes.len()));
        let position = Position {
            segment: at.segment,
            offset,
        };
        let place = if payload_bytes > 0 { payload_offset } else { 0 };
        buffer.extend_from_slice(&EntryHeader::new(position, entry.record, payload_bytes, place).encode());
        buffer.extend_from_slice(entry.record);
        offset += ENTRY_HEADER_BYTES + bounded(entry.record.len());
        payload_offset += payload_bytes;
    }
    let place = Position {
        segment: at.segment,
        offset: records_at,
    };
    let records_checksum = checksum(key, place, &buffer[header_end..]);
    for payload in entries.iter().filter_map(|entry| entry.payload) {
        buffer.extend_from_slice(&payload.salt.0);
        buffer.extend_from_slice(&payload.bytes);
    }
    let header = BatchHeader {
        number: link.number,
        previous: link.digest,
        synced_through,
        entries: bounded(entries.len()),
        records_bytes: bounded(records_bytes),
        payloads_bytes: payload_offset - payloads_at,
        records_checksum,
    };
    let (bytes, digest) = header.encode(key, at);
    buffer[begin..header_end].copy_from_slice(&bytes);
    (header, digest)
}

/// The record of the entry that begins with these bytes.
pub(crate) fn record_in(bytes: &[u8]) -> Option<&[u8]> {
    let header = EntryHeader::decode(bytes)?;
    let begin = ENTRY_HEADER_BYTES as usize;
    bytes.get(begin..begin + usize::from(header.record_bytes))
}

/// Where an entry's payload lies.
pub(crate) fn place_of(segment: u32, header: &EntryHeader) -> Option<PayloadPlace> {
    (header.payload_bytes > 0).then_some(PayloadPlace {
        segment,
        offset: header.payload_offset,
        bytes: header.payload_bytes,
    })
}

/// Salt and payload apart; `None` when the bytes are shorter than a salt.
pub(crate) fn split_payload(bytes: &[u8]) -> Option<Payload> {
    let (salt, bytes) = bytes.split_first_chunk::<{ SALT_BYTES as usize }>()?;
    Some(Payload {
        salt: Salt(*salt),
        bytes: bytes.to_vec(),
    })
}

/// The next place at or behind `from` (an index into `bytes`, which begin at `base`) where a valid batch header stands.
pub(crate) fn find_header(
    key: &[u8; 32],
    base: Position,
    bytes: &[u8],
    from: usize,
) -> Option<(usize, BatchHeader, BatchDigest)> {
    let mut index = from;
    loop {
        let rest = bytes.get(index..)?;
        let found = rest
            .windows(BATCH_MAGIC.len())
            .position(|window| window == BATCH_MAGIC)?;
        index += found;
        let offset = base.offset.checked_add(u32::try_from(index).ok()?)?;
        if let Some((header, digest)) = BatchHeader::decode(
            key,
            Position {
                segment: base.segment,
                offset,
            },
            &bytes[index..],
        ) {
            return Some((index, header, digest));
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::BATCHES_START;
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [4; 32];
    const AT: Position = Position {
        segment: 3,
        offset: BATCHES_START,
    };

    fn link() -> Link {
        Link {
            number: 7,
            digest: [1; 32],
        }
    }

    #[test]
    fn a_batch_is_valid_only_at_its_place_and_under_its_key() {
        let payload = Payload {
            salt: Salt([2; 32]),
            bytes: vec![8; 100],
        };
        let entries = [
            EntryDraft {
                record: b"one",
                payload: Some(&payload),
            },
            EntryDraft {
                record: b"two",
                payload: None,
            },
        ];
        let mut bytes = Vec::new();
        let (header, digest) = encode(&mut bytes, &KEY, AT, link(), Position::START, &entries);
        let batch = Batch::parse(&KEY, AT, &bytes, true).unwrap();
        assert_eq!((&batch.header, batch.digest), (&header, digest));
        assert!(link().is_followed_by(&batch.header));
        let stored: Vec<_> = batch.entries().map(|entry| entry.to_stored()).collect();
        assert_eq!(stored[0].payload.as_ref(), Some(&payload));
        assert_eq!(
            (stored[1].record.as_slice(), stored[1].place),
            (&b"two"[..], None)
        );
        let moved = Position {
            offset: AT.offset + 1,
            ..AT
        };
        let other = Position { segment: 4, ..AT };
        for (key, at) in [(KEY, moved), (KEY, other), ([5; 32], AT)] {
            assert_eq!(
                Batch::parse(&key, at, &bytes, true).unwrap_err(),
                BatchFault::Header
            );
        }
        for length in 0..bytes.len() {
            assert!(Batch::parse(&KEY, AT, &bytes[..length], true).is_err());
        }
        for bit in 0..(BATCH_HEADER_BYTES + header.records_bytes) as usize * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::parse(&KEY, AT, &flipped, true).is_err(), "bit {bit}");
        }
    }

    proptest! {
        // Checksums that hold do not make fields true: whoever knows the key can write anything.
        #[test]
        fn no_fields_under_valid_checksums_make_parsing_panic_or_hand_out_other_bytes(
            entries in 0_u32..5,
            records in prop::collection::vec(any::<u8>(), 0..80),
            small in any::<bool>(),
            lengths in (any::<u32>(), any::<u32>()),
            offset in prop_oneof![Just(BATCHES_START), any::<u32>()],
        ) {
            let at = Position { segment: 1, offset };
            let records_bytes = if small { u32::try_from(records.len()).unwrap() } else { lengths.0 };
            let payloads_bytes = if small { lengths.1 % 64 } else { lengths.1 };
            let place = Position { segment: 1, offset: offset.wrapping_add(BATCH_HEADER_BYTES) };
            let header = BatchHeader {
                number: u64::MAX,
                previous: [0; 32],
                synced_through: Position::START,
                entries,
                records_bytes,
                payloads_bytes,
                records_checksum: checksum(&KEY, place, &records),
            };
            let mut bytes = header.encode(&KEY, at).0.to_vec();
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len() + 64, 0);
            for with_payloads in [false, true] {
                if let Ok(batch) = Batch::parse(&KEY, at, &bytes, with_payloads) {
                    let total: usize = batch.entries().map(|e| e.to_stored().record.len() + 14).sum();
                    prop_assert_eq!(total, records.len());
                    prop_assert_eq!(batch.entries().count(), entries as usize);
                }
            }
        }
    }
}
