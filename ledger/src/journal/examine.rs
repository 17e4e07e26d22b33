//! Reading a whole segment critically: its good batches, how they end, and what is proven. Writes nothing.

use super::batch::{Batch, BatchFault, Link, find_header};
use super::footer::{FOOTER_MAGIC, Footer, Tally};
use super::format::{BATCH_HEADER_BYTES, BATCHES_START, SegmentHeader};
use crate::Position;
use crate::recovery::EndFound;
use ledger_core::Record;

/// A good batch of the newest segment that nothing proves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unproven {
    pub(super) offset: u32,
    pub(super) entries: u32,
    /// What it had to name.
    pub(super) link: Link,
}

/// What a segment's bytes say.
#[derive(Debug)]
pub(super) struct Examined {
    /// Behind the last good batch.
    pub(super) end: u32,
    pub(super) found: EndFound,
    /// What is wrong at `end`, when that is damage.
    pub(super) fault: &'static str,
    pub(super) proof_behind: bool,
    /// Good batches behind the last proven place, in order.
    pub(super) unproven: Vec<Unproven>,
    pub(super) tally: Tally,
    /// Whether the file itself proves the last batch that holds entries.
    pub(super) confirmed: bool,
    /// Up to here everything is known to have been synced by whoever wrote it.
    pub(super) proven: u32,
}

impl Examined {
    /// Whether there are entries that nothing proves.
    pub(super) fn has_unproven_entries(&self) -> bool {
        self.unproven.iter().any(|batch| batch.entries > 0)
    }
}

/// Examines a segment whose header is sound. `durable` is what the anchor knows: an exclusive end in this segment.
pub(super) fn examine(header: &SegmentHeader, bytes: &[u8], durable: Option<u32>) -> Examined {
    let mut tally = Tally::new(header);
    let mut end = BATCHES_START;
    let mut proven = durable.unwrap_or(BATCHES_START);
    let (mut proven_here, mut entries_end) = (BATCHES_START, BATCHES_START);
    let mut unproven: Vec<Unproven> = Vec::new();
    let stop = loop {
        let at = Position {
            segment: header.segment,
            offset: end,
        };
        let Some(rest) = bytes.get(end as usize..) else {
            break BatchFault::Header;
        };
        let batch = match Batch::parse(&header.key, at, rest, true) {
            Ok(batch) if tally.link().is_followed_by(&batch.header) => batch,
            Ok(_) => break BatchFault::Link,
            Err(fault) => break fault,
        };
        if batch.header.synced_through.segment == header.segment {
            proven_here = proven_here.max(batch.header.synced_through.offset);
            proven = proven.max(proven_here);
        }
        let entries = batch.header.entries;
        unproven.push(Unproven {
            offset: end,
            entries,
            link: tally.link(),
        });
        let header_bytes = &rest[..BATCH_HEADER_BYTES as usize];
        tally.note_batch(end, &batch.header, header_bytes, batch.digest);
        batch.entries().for_each(|entry| tally.note_record(entry.record));
        end += batch.header.batch_bytes();
        if entries > 0 {
            entries_end = end;
        }
        unproven.retain(|batch| batch.offset >= proven);
    };
    let rest = bytes.get(end as usize..).unwrap_or(&[]);
    let place = Position {
        segment: header.segment,
        offset: end,
    };
    let (found, fault) = if rest.iter().all(|byte| *byte == 0) {
        (EndFound::Zeros, "")
    } else if Footer::decode(&header.key, place, rest).is_some() {
        unproven.clear();
        (EndFound::Footer, "")
    } else {
        (EndFound::Damage, stop.what())
    };
    let confirmed = entries_end <= proven_here;
    let mut examined = Examined {
        end,
        found,
        fault,
        proof_behind: false,
        unproven,
        tally,
        confirmed,
        proven: proven.min(end),
    };
    if let Some(torn) = examined
        .unproven
        .iter()
        .position(|batch| !payloads_fit(header, bytes, batch.offset))
    {
        cut_at(&mut examined, header, bytes, torn);
    }
    if examined.found == EndFound::Damage {
        examined.proof_behind = is_proven_behind(header, bytes, examined.end);
    }
    examined
}

// A torn write can leave header and records, but not all payloads. Nobody has erased one of an unproven batch: erasing
// makes it provable first.
fn payloads_fit(header: &SegmentHeader, bytes: &[u8], offset: u32) -> bool {
    let at = Position {
        segment: header.segment,
        offset,
    };
    let Ok(batch) = Batch::parse(&header.key, at, &bytes[offset as usize..], true) else {
        return false;
    };
    batch.entries().all(|entry| {
        let stored = entry.to_stored();
        match (Record::parse(entry.record), stored.payload) {
            (Ok(record), Some(payload)) => record
                .statement()
                .payload
                .as_ref()
                .is_none_or(|wanted| payload.matches(wanted)),
            // The journal does not judge records; without a commitment there is nothing to compare.
            _ => true,
        }
    })
}

// Ends the good batches before one whose payloads are torn, and tallies again what remains.
fn cut_at(examined: &mut Examined, header: &SegmentHeader, bytes: &[u8], torn: usize) {
    let end = examined.unproven[torn].offset;
    examined.unproven.truncate(torn);
    examined.end = end;
    examined.found = EndFound::Damage;
    examined.fault = "a payload of this batch does not match its commitment";
    examined.tally = tally_to(header, bytes, end);
}

/// Tallies the good batches before an offset.
pub(super) fn tally_to(header: &SegmentHeader, bytes: &[u8], end: u32) -> Tally {
    let mut tally = Tally::new(header);
    let mut offset = BATCHES_START;
    while offset < end {
        let at = Position {
            segment: header.segment,
            offset,
        };
        let rest = &bytes[offset as usize..];
        let batch = Batch::parse(&header.key, at, rest, true).expect("examined before");
        tally.note_batch(
            offset,
            &batch.header,
            &rest[..BATCH_HEADER_BYTES as usize],
            batch.digest,
        );
        batch.entries().for_each(|entry| tally.note_record(entry.record));
        offset += batch.header.batch_bytes();
    }
    tally
}

/// Whether a batch or footer behind `end` proves that more than up to `end` was durable.
pub(super) fn is_proven_behind(header: &SegmentHeader, bytes: &[u8], end: u32) -> bool {
    let base = Position {
        segment: header.segment,
        offset: 0,
    };
    let here = Position {
        segment: header.segment,
        offset: end,
    };
    let mut from = end as usize;
    while let Some((index, found, _)) = find_header(&header.key, base, bytes, from) {
        if found.synced_through > here {
            return true;
        }
        from = index + 1;
    }
    let mut from = end as usize + 1;
    while let Some(rest) = bytes.get(from..) {
        let Some(index) = rest
            .windows(FOOTER_MAGIC.len())
            .position(|window| window == FOOTER_MAGIC)
        else {
            return false;
        };
        from += index;
        let Ok(offset) = u32::try_from(from) else {
            return false;
        };
        if Footer::decode(
            &header.key,
            Position {
                segment: header.segment,
                offset,
            },
            &bytes[from..],
        )
        .is_some()
        {
            return true;
        }
        from += 1;
    }
    false
}
