//! The walk where something is damaged, and behind a segment's last batch: it names what is wrong, and saves what is not.

use super::{InSegment, Walk, WalkItem};
use crate::Position;
use crate::journal::StoredEntry;
use crate::journal::batch::{self, BatchFault, Link, find_header};
use crate::journal::footer::Footer;
use crate::journal::format::{
    BATCH_HEADER_BYTES, BatchHeader, ENTRY_HEADER_BYTES, EntryHeader, PreviousKind,
};

impl Walk {
    // Names what is damaged, saves what is not, and goes on behind it.
    pub(super) fn skip(&mut self, mut here: InSegment, at: Position, limit: usize, fault: &BatchFault) {
        let rest = here.bytes.get(at.offset as usize..limit).unwrap_or(&[]);
        match (fault, BatchHeader::decode(&here.header.key, at, rest)) {
            (BatchFault::Records | BatchFault::Entries, Some((header, digest))) => {
                self.ready.push_back(WalkItem::Batch {
                    number: header.number,
                    position: at,
                    entries: header.entries,
                });
                let named = self.salvage(&header, at, rest);
                if !named {
                    self.damage(at.segment, at.offset, fault.code(), fault.what());
                }
                self.link = Some(Link::after(&header, digest));
                here.offset = at.offset.saturating_add(header.batch_bytes());
            }
            _ => {
                self.damage(at.segment, at.offset, fault.code(), fault.what());
                self.link = None;
                let base = Position {
                    segment: at.segment,
                    offset: 0,
                };
                let bytes = &here.bytes[..limit];
                let next = find_header(&here.header.key, base, bytes, at.offset as usize + 1);
                let end = u32::try_from(limit).unwrap_or(u32::MAX);
                here.offset = next
                    .and_then(|(index, _, _)| u32::try_from(index).ok())
                    .unwrap_or(end);
                if let Some((end, _)) = here.end
                    && here.offset as usize >= limit
                {
                    here.offset = end;
                }
            }
        }
        self.at = Some(here);
    }

    // The entries of a batch whose records are damaged: those that fit their crc are handed out, the others named. Whether
    // any was named.
    fn salvage(&mut self, header: &BatchHeader, at: Position, bytes: &[u8]) -> bool {
        let records_end = (BATCH_HEADER_BYTES + header.records_bytes) as usize;
        let (mut index, mut named) = (BATCH_HEADER_BYTES as usize, false);
        while index < records_end {
            let position = Position {
                segment: at.segment,
                offset: at.offset + u32::try_from(index).unwrap_or(0),
            };
            let parsed = EntryHeader::decode(&bytes[index..records_end]).and_then(|entry| {
                let begin = index + ENTRY_HEADER_BYTES as usize;
                let record = bytes[..records_end].get(begin..begin + usize::from(entry.record_bytes))?;
                Some((entry, record))
            });
            let Some((entry, record)) = parsed else {
                let what = "an entry's header is damaged; it and those behind it in its batch cannot be read";
                self.damage(at.segment, position.offset, BatchFault::Records.code(), what);
                return true;
            };
            if entry.fits(position, record) {
                let place = batch::place_of(at.segment, &entry);
                let payload = place.and_then(|place| {
                    let from = place.offset.checked_sub(at.offset)? as usize;
                    batch::split_payload(bytes.get(from..from + place.bytes as usize)?)
                });
                let entry = StoredEntry {
                    position,
                    record: record.to_vec(),
                    payload,
                    place,
                };
                self.ready.push_back(WalkItem::Entry {
                    batch: header.number,
                    entry,
                });
            } else {
                named = true;
                let what = "the entry's bytes do not match its crc";
                self.damage(at.segment, position.offset, BatchFault::Records.code(), what);
            }
            index += ENTRY_HEADER_BYTES as usize + record.len();
        }
        named
    }

    pub(super) fn is_footer(&self, here: &InSegment, at: Position, rest: &[u8]) -> bool {
        Footer::decode(&here.header.key, at, rest).is_some()
    }

    // Checks what stands behind the last batch.
    pub(super) fn end_segment(&mut self, here: &InSegment) {
        let (number, offset) = (here.header.segment, here.offset);
        let rest = here.bytes.get(offset as usize..).unwrap_or(&[]);
        if let Some((end, _)) = here.end
            && (here.bytes.len() < end as usize)
        {
            self.damage(
                number,
                end,
                "journal.segment-short",
                "the file ends before its last acknowledged batch",
            );
        }
        let kind = here.end.map(|(_, kind)| kind);
        if kind == Some(PreviousKind::Cut) || (kind.is_none() && rest.iter().all(|byte| *byte == 0)) {
            return;
        }
        let place = Position {
            segment: number,
            offset,
        };
        let Some((footer, length)) = Footer::decode(&here.header.key, place, rest) else {
            self.damage(
                number,
                offset,
                "journal.footer",
                "the footer of this sealed segment is damaged or missing",
            );
            return;
        };
        if here.whole && !here.tally.agrees(&footer) {
            self.damage(
                number,
                offset,
                "journal.footer",
                "the footer says something else than the segment's batches",
            );
        }
        if let Some(stray) = rest[length..].iter().position(|byte| *byte != 0) {
            let offset = u32::try_from(offset as usize + length + stray).unwrap_or(u32::MAX);
            self.damage(
                number,
                offset,
                "journal.stray",
                "bytes behind the footer that are not zero",
            );
        }
    }
}
