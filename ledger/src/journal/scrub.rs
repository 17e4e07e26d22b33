//! Erasing an entry's payload from every file of the journal: where it stands, and where recovery left copies of it.
//!
//! Recovery leaves bytes that nobody reads any more: old copies of moved batches behind the cut of a segment, and tails that were
//! set aside (`torn-*`). Both are searched for what is erased, piece by piece, since a tail may be torn in the middle of
//! it. Contract: the copies go first and durably, the payload itself last, so that an entry that reads as erased is erased
//! everywhere. What a crash leaves: less than all of it overwritten; doing it again finishes it.
//! Does not reach: what the file system, a backup or a bundle holds.

use super::catalog::Catalog;
use super::error::{JournalError, Outcome};
use super::format::{ENTRY_HEADER_BYTES, EntryHeader, PreviousKind, SEGMENT_BYTES_MAX};
use super::{Journal, JournalReader, StoredEntry, segment, sparse};
use crate::Position;
use crate::storage::Access;
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;

/// Bytes that must agree with a piece of an erased payload (or its salt) to be overwritten.
const PIECE_BYTES: usize = 16;
/// Bits of the sieve that spares most places the look into the table of pieces.
const SIEVE_BITS: u32 = 20;

// Bytes of the journal that nobody reads.
struct Debris {
    path: PathBuf,
    /// The segment's offset that the file's first byte had.
    base: u64,
    /// Where the debris begins in the file.
    from: u64,
}

impl Journal {
    /// Overwrites salts and payloads of the entries at these positions, and every copy of them that recovery left; durable
    /// when it returns. The records stay. What was done before is not done again.
    ///
    /// # Errors
    /// [`JournalError::NoEntry`] and [`JournalError::Corrupt`] when no sound entry stands at one of them, after all others are
    /// erased; [`JournalError::Io`] when the disk refuses, which poisons, so that nothing is appended behind an erasure
    /// that is not finished.
    pub fn erase_entries(&mut self, positions: &[Position]) -> Result<(), JournalError> {
        self.check_poison()?;
        let erased = self.try_erase_entries(positions);
        if let Err(error @ (JournalError::Io { .. } | JournalError::NoSpace { .. })) = &erased {
            self.refuse(&error.to_string());
        }
        erased
    }

    fn try_erase_entries(&mut self, positions: &[Position]) -> Result<(), JournalError> {
        let catalog = self.catalog().clone();
        // From the look at an entry on: a segment that is rewritten in between has no place for its zeros any more.
        let _turn = catalog.turn();
        let reader = JournalReader::new(catalog.clone());
        let debris = debris(&catalog)?;
        let (mut places, mut unreadable) = (Vec::new(), Ok(()));
        for at in positions {
            let entry = match reader.read(*at) {
                Ok(entry) => entry,
                Err(error @ JournalError::Io { .. }) => return Err(error),
                // Its payload went with it.
                Err(JournalError::Pruned { .. }) => continue,
                Err(error) => {
                    unreadable = Err(error);
                    continue;
                }
            };
            if entry.is_erased() {
                continue;
            }
            for debris in &debris {
                scrub(&catalog, debris, &entry)?;
            }
            places.extend(entry.place);
        }
        self.erase_all(&places)?;
        unreadable
    }
}

fn debris(catalog: &Catalog) -> Result<Vec<Debris>, JournalError> {
    let mut found = Vec::new();
    let mut next = 1;
    while let Some(segment) = catalog.segment_from(next) {
        next = segment.header.segment + 1;
        let previous = &segment.header.previous;
        if previous.kind == PreviousKind::Cut {
            found.push(Debris {
                path: segment::path(&catalog.dir, previous.segment),
                base: 0,
                from: u64::from(previous.end),
            });
        }
    }
    let names = catalog
        .storage
        .list(&catalog.dir)
        .map_err(JournalError::io("list", &catalog.dir))?;
    for name in names {
        let Some(rest) = name.strip_prefix("torn-") else {
            continue;
        };
        // The offset at which it lay; without one it is searched all the same.
        let base = rest.split('-').nth(1).and_then(|offset| offset.parse().ok());
        found.push(Debris {
            path: catalog.dir.join(&name),
            base: base.unwrap_or(0),
            from: 0,
        });
    }
    Ok(found)
}

fn scrub(catalog: &Catalog, debris: &Debris, entry: &StoredEntry) -> Result<(), JournalError> {
    let io = |doing| {
        move |source| JournalError::Io {
            doing,
            path: debris.path.clone(),
            source,
            outcome: Outcome::NotCommitted,
        }
    };
    // A segment that was rewritten has no debris: behind its end there is nothing.
    let storage = catalog.storage.as_ref();
    let open = |access| {
        let opened = sparse::open(storage, &debris.path, access);
        opened.map(|opened| opened.file).map_err(io("open"))
    };
    let file = open(Access::Read)?;
    let end = file
        .len()
        .map_err(io("measure"))?
        .min(u64::from(SEGMENT_BYTES_MAX));
    let length = usize::try_from(end.saturating_sub(debris.from)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let read = file.read_at(debris.from, &mut bytes).map_err(io("read"))?;
    bytes.truncate(read);
    let mut places = beside_records(debris, &bytes, &entry.record);
    if let Some(payload) = &entry.payload {
        let secret = [payload.salt.0.as_slice(), &payload.bytes].concat();
        places.extend(pieces(&bytes, &secret));
    }
    if places.is_empty() {
        return Ok(());
    }
    let file = open(Access::Write)?;
    for place in places {
        let (from, to) = (debris.from + place.start as u64, debris.from + place.end as u64);
        segment::fill_zeros(file.as_ref(), from, to).map_err(io("erase in"))?;
    }
    file.sync_data().map_err(io("sync"))
}

// Where the debris says that a payload of this very record lies.
fn beside_records(debris: &Debris, bytes: &[u8], record: &[u8]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut from = ENTRY_HEADER_BYTES as usize;
    while let Some(found) = bytes
        .get(from..)
        .and_then(|rest| rest.windows(record.len()).position(|window| window == record))
    {
        let at = from + found;
        from = at + 1;
        let Some(header) = EntryHeader::decode(&bytes[at - ENTRY_HEADER_BYTES as usize..]) else {
            continue;
        };
        // From offsets in the segment to places in these bytes.
        let begin = debris.base + debris.from;
        let start = u64::from(header.payload_offset).saturating_sub(begin);
        let end = (u64::from(header.payload_offset) + u64::from(header.payload_bytes)).saturating_sub(begin);
        let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let inside = place(start)..place(end);
        if header.payload_bytes > 0 && !inside.is_empty() {
            places.push(inside);
        }
    }
    places
}

// The places that agree with a piece of the secret, joined where they meet.
fn pieces(bytes: &[u8], secret: &[u8]) -> Vec<Range<usize>> {
    let slot = |piece: &[u8]| {
        let head = piece
            .first_chunk::<8>()
            .map_or(0, |head| u64::from_le_bytes(*head));
        usize::try_from(head.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SIEVE_BITS)).unwrap_or(0)
    };
    let mut sieve = vec![false; 1 << SIEVE_BITS];
    let mut wanted: HashSet<&[u8]> = HashSet::new();
    for piece in secret.windows(PIECE_BYTES) {
        // Zeros are what erasing leaves.
        if piece.iter().any(|byte| *byte != 0) {
            sieve[slot(piece)] = true;
            wanted.insert(piece);
        }
    }
    let mut places: Vec<Range<usize>> = Vec::new();
    for (at, piece) in bytes.windows(PIECE_BYTES).enumerate() {
        if !sieve[slot(piece)] || !wanted.contains(piece) {
            continue;
        }
        let end = at + PIECE_BYTES;
        match places.last_mut() {
            Some(last) if at <= last.end => last.end = end,
            _ => places.push(at..end),
        }
    }
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_of_a_secret_are_found_wherever_it_was_torn() {
        let secret: Vec<u8> = (0..200_u8).map(|n| n.wrapping_mul(97) ^ 0x5a).collect();
        for cut in [0, 1, 31, 100] {
            for length in [16, 40, 100] {
                let mut bytes = vec![0; 50];
                bytes.extend(&secret[cut..cut + length]);
                bytes.extend([0; 70]);
                assert_eq!(pieces(&bytes, &secret), vec![50..50 + length], "{cut} {length}");
            }
        }
        assert!(pieces(&[0; 4096], &secret).is_empty());
        assert!(pieces(&secret, &[0; 64]).is_empty());
    }
}
