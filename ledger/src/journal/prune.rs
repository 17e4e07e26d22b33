//! Pruning a segment: it is written again without some of its entries, under another name, and renamed over the old one.
//!
//! What remains keeps its place ([`super::sparse`]), its bytes and its checksums; gaps and marks ([`super::gap`]) stand for what
//! went. Contract: only segments before the newest are rewritten, and nothing else changes. What a crash leaves: the
//! old file or the new one under the segment's name, each whole and durable, and perhaps a `NNNNNNNN.new`, which the next
//! opening removes. Who decides what goes, and says so first, is [`crate::prune`].

use super::batch::{Batch, BatchFault, Link};
use super::catalog::Catalog;
use super::error::{JournalError, is_no_space};
use super::footer::{FOOTER_BYTES_MAX, Footer, Zone};
use super::format::{BATCH_HEADER_BYTES, BATCHES_START, ENTRY_HEADER_BYTES, PreviousKind, SEGMENT_BYTES_MAX};
use super::gap::{GAP_HEADER_BYTES, Gap, MARK_BYTES, Mark, kept_checksum, put_checksum};
use super::sparse::Map;
use super::{JournalReader, segment, sparse};
use crate::Position;
use crate::storage::{Access, Storage};
use ledger_core::LogId;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What rewriting one segment came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SegmentPruned {
    /// Entries that went.
    pub entries: u64,
    /// The file's length before, in bytes.
    pub bytes_before: u64,
    /// The file's length now, in bytes.
    pub bytes_after: u64,
}

impl JournalReader {
    /// The disk that the journal lies on.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.catalog().storage
    }

    /// The journal's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.catalog().dir
    }

    /// Whether something was pruned from any segment.
    pub(crate) fn is_pruned(&self) -> bool {
        let catalog = self.catalog();
        let segments = self.segments_before(u32::MAX).into_iter();
        segments
            .filter_map(|number| catalog.segment(number))
            .any(|segment| segment.is_pruned())
    }

    /// The numbers of the segments before one.
    pub fn segments_before(&self, segment: u32) -> Vec<u32> {
        let (mut found, mut next) = (Vec::new(), 1);
        while let Some(here) = self.catalog().segment_from(next) {
            let number = here.header.segment;
            if number >= segment {
                break;
            }
            found.push(number);
            next = number + 1;
        }
        found
    }

    /// What a sealed segment had of a log when it was sealed; `None` when its footer does not tell.
    pub(crate) fn zone(&self, number: u32, log: &LogId) -> Result<Option<Option<Zone>>, JournalError> {
        let catalog = self.catalog();
        let (Some(here), Some(next)) = (catalog.segment(number), catalog.segment(number + 1)) else {
            return Ok(None);
        };
        if next.header.previous.kind != PreviousKind::Sealed {
            return Ok(None);
        }
        let at = Position {
            segment: number,
            offset: next.header.previous.end,
        };
        let mut bytes = vec![0; FOOTER_BYTES_MAX];
        let path = segment::path(&catalog.dir, number);
        let read = catalog
            .file(number)?
            .read_at(u64::from(at.offset), &mut bytes)
            .map_err(JournalError::io("read", path))?;
        let footer = Footer::decode(&here.header.key, at, &bytes[..read]).map(|(footer, _)| footer);
        Ok(footer
            .filter(|footer| footer.complete)
            .map(|footer| footer.zones.get(log).copied()))
    }

    /// Rewrites a segment without the entries whose record `goes` says to go; durable when it returns. `None` when there is
    /// none of them in it, and nothing was written.
    ///
    /// # Errors
    /// [`JournalError::NoEntry`] for the newest segment or one that is not there; [`JournalError::Corrupt`] when it is
    /// damaged, and nothing was written; [`JournalError::NoSpace`] and [`JournalError::Io`].
    pub fn prune_segment(
        &self,
        number: u32,
        goes: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<SegmentPruned>, JournalError> {
        let catalog = self.catalog();
        let no_entry = || JournalError::NoEntry {
            segment: number,
            offset: 0,
        };
        // Nothing is erased in a segment while it is copied.
        let _turn = catalog.turn();
        let here = catalog.segment(number).ok_or_else(no_entry)?;
        let next = catalog.segment(number + 1).ok_or_else(no_entry)?;
        let (end, kind) = (next.header.previous.end, next.header.previous.kind);
        let path = segment::path(&catalog.dir, number);
        let file = segment::open(catalog.storage.as_ref(), &catalog.dir, number, Access::Read)?;
        let bytes = segment::read_whole(file.as_ref(), u64::from(SEGMENT_BYTES_MAX));
        let mut bytes = bytes
            .map_err(JournalError::io("read", &path))?
            .unwrap_or_default();
        let footer_at = Position {
            segment: number,
            offset: end,
        };
        let behind = bytes.get(end as usize..).unwrap_or(&[]);
        let footer_bytes = match kind {
            PreviousKind::Sealed => Footer::decode(&here.header.key, footer_at, behind)
                .map(|(_, length)| length)
                .ok_or_else(|| {
                    JournalError::corrupt(number, end, "the footer of this sealed segment is damaged")
                })?,
            _ => 0,
        };
        let length = end as usize + footer_bytes;
        if bytes.len() < length {
            let what = "the file ends before its last acknowledged batch";
            return Err(JournalError::corrupt(number, end, what));
        }
        bytes.truncate(length);
        let link = Link {
            number: here.header.first_batch,
            digest: here.header.previous.digest,
        };
        let mut rewriting = Rewriting::new(number, here.header.key, bytes);
        rewriting.run(end, link, goes)?;
        if rewriting.entries == 0 {
            return Ok(None);
        }
        let map = rewriting.map();
        let bytes_before = file_bytes(catalog, number)?;
        put(catalog, &map, &rewriting.bytes)?;
        Ok(Some(SegmentPruned {
            entries: rewriting.entries,
            bytes_before,
            bytes_after: file_bytes(catalog, number)?,
        }))
    }
}

/// Whether something was pruned from any segment in a folder, or may have been.
///
/// # Errors
/// [`JournalError::Io`].
pub(crate) fn is_pruned(storage: &dyn Storage, dir: &Path) -> Result<bool, JournalError> {
    for number in segment::list(storage, dir)?.0 {
        match segment::open_mapped(storage, dir, number, Access::Read) {
            Ok(opened) if opened.map.is_none() => {}
            Ok(_) | Err(JournalError::Corrupt { .. }) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn file_bytes(catalog: &Catalog, number: u32) -> Result<u64, JournalError> {
    let path = segment::path(&catalog.dir, number);
    let file = catalog.storage.open(&path, Access::Read);
    file.and_then(|file| file.len())
        .map_err(JournalError::io("measure", path))
}

// Makes the new file and renames it over the old one.
fn put(catalog: &Catalog, map: &Map, bytes: &[u8]) -> Result<(), JournalError> {
    let (storage, dir) = (catalog.storage.as_ref(), &catalog.dir);
    let (unfinished, finished) = (
        segment::path_new(dir, map.segment),
        segment::path(dir, map.segment),
    );
    let make = || -> std::io::Result<()> {
        if storage.exists(&unfinished)? {
            storage.remove(&unfinished)?;
        }
        let file = storage.create_new(&unfinished)?;
        sparse::write(file.as_ref(), map, bytes)?;
        file.sync_data()
    };
    make().map_err(|source| {
        // Whatever is left of it is removed now or at the next opening.
        let _ = storage.remove(&unfinished);
        if is_no_space(&source) {
            let path = unfinished.clone();
            return JournalError::NoSpace { path };
        }
        JournalError::io("make", &unfinished)(source)
    })?;
    // Readers must not begin at a place that the new file does not have: they learn that before it is there.
    catalog.shrink(map.segment, |offset| map.has(offset));
    let renamed = storage
        .rename(&unfinished, &finished)
        .map_err(JournalError::io("rename", &unfinished))
        .and_then(|()| storage.sync_dir(dir).map_err(JournalError::io("sync", dir)));
    catalog.forget(map.segment);
    renamed
}

// An entry, or a run of entries that went before.
struct Part {
    offset: u32,
    bytes: u32,
    payloads: Range<u32>,
    // As what it counts.
    entries: u32,
    goes: bool,
    is_new: bool,
}

// A segment's bytes while they are being changed.
struct Rewriting {
    segment: u32,
    key: [u8; 32],
    bytes: Vec<u8>,
    holes: Vec<Range<u32>>,
    // Entries that go now.
    entries: u64,
    open: Option<(u32, Gap)>,
}

impl Rewriting {
    fn new(segment: u32, key: [u8; 32], bytes: Vec<u8>) -> Self {
        Self {
            segment,
            key,
            bytes,
            holes: Vec::new(),
            entries: 0,
            open: None,
        }
    }

    fn at(&self, offset: u32) -> Position {
        Position {
            segment: self.segment,
            offset,
        }
    }

    fn run(&mut self, end: u32, mut link: Link, goes: &dyn Fn(&[u8]) -> bool) -> Result<(), JournalError> {
        let mut offset = BATCHES_START;
        while offset < end {
            let number = self.segment;
            let corrupt = |fault: &BatchFault| JournalError::corrupt(number, offset, fault.what());
            let at = self.at(offset);
            let rest = &self.bytes[offset as usize..end as usize];
            if let Some(gap) = Gap::decode(&self.key, at, rest) {
                if !gap.follows(link) {
                    return Err(corrupt(&BatchFault::Link));
                }
                let behind = offset + gap.gap_bytes;
                if behind > end {
                    return Err(corrupt(&BatchFault::Short));
                }
                link = gap.link();
                self.absorb(offset, gap);
                offset = behind;
                continue;
            }
            let batch = Batch::parse(&self.key, at, rest, true).map_err(|fault| corrupt(&fault))?;
            if !link.is_followed_by(&batch.header) {
                return Err(corrupt(&BatchFault::Link));
            }
            link = Link::after(&batch.header, batch.digest);
            let (header, digest) = (batch.header.clone(), batch.digest);
            let parts = parts_of(&batch, goes);
            let going: u64 = parts.iter().filter(|part| part.is_new).map(|_| 1).sum();
            let any = parts.iter().any(|part| part.goes);
            let all = !parts.is_empty() && parts.iter().all(|part| part.goes);
            // A confirming batch goes with the one that it confirms.
            if all || (parts.is_empty() && self.open.is_some()) {
                let gap = Gap {
                    number: header.number,
                    previous: header.previous,
                    gap_bytes: header.batch_bytes(),
                    batches: 1,
                    entries: header.entries,
                    records_bytes: header.records_bytes,
                    payloads_bytes: header.payloads_bytes,
                    last: digest,
                };
                self.absorb(offset, gap);
            } else {
                self.close();
                // What went before is a hole again, also where nothing more goes.
                if any {
                    self.mark(offset, header.records_bytes, &digest, &parts);
                }
            }
            self.entries += going;
            offset += header.batch_bytes();
        }
        self.close();
        Ok(())
    }

    // Lengthens the gap that is open, or opens one.
    fn absorb(&mut self, offset: u32, next: Gap) {
        match &mut self.open {
            Some((_, gap)) => {
                gap.gap_bytes += next.gap_bytes;
                gap.batches += next.batches;
                gap.entries += next.entries;
                gap.records_bytes += next.records_bytes;
                gap.payloads_bytes += next.payloads_bytes;
                gap.last = next.last;
            }
            None => self.open = Some((offset, next)),
        }
    }

    fn close(&mut self) {
        let Some((offset, gap)) = self.open.take() else {
            return;
        };
        let header = gap.encode(&self.key, self.at(offset));
        let behind = offset + GAP_HEADER_BYTES;
        self.bytes[offset as usize..behind as usize].copy_from_slice(&header);
        self.hole(behind..offset + gap.gap_bytes);
    }

    // Puts marks in the place of the entries of one batch that go.
    fn mark(&mut self, offset: u32, records_bytes: u32, digest: &[u8; 32], parts: &[Part]) {
        let mut runs: Vec<(u32, Mark, Range<u32>)> = Vec::new();
        let mut before = false;
        for part in parts {
            match runs.last_mut() {
                Some((_, mark, payloads)) if part.goes && before => {
                    mark.bytes += part.bytes;
                    mark.entries += part.entries;
                    mark.payloads_bytes += part.payloads.end - part.payloads.start;
                    payloads.end = part.payloads.end;
                }
                _ if part.goes => {
                    let mark = Mark {
                        bytes: part.bytes,
                        payloads_bytes: part.payloads.end - part.payloads.start,
                        entries: part.entries,
                    };
                    runs.push((part.offset, mark, part.payloads.clone()));
                }
                _ => {}
            }
            before = part.goes;
        }
        for (at, mark, payloads) in runs {
            let behind = at + MARK_BYTES;
            self.bytes[at as usize..behind as usize].copy_from_slice(&mark.encode());
            self.hole(behind..at + mark.bytes);
            self.hole(payloads);
        }
        let from = offset + BATCH_HEADER_BYTES;
        let records = from as usize..(from + records_bytes) as usize;
        let kept = kept_checksum(&self.key, self.at(from), digest, &self.bytes[records.clone()]);
        let kept = kept.expect("marks stand in it, and everything else was sound");
        put_checksum(&mut self.bytes[records], &kept);
    }

    fn hole(&mut self, hole: Range<u32>) {
        if !hole.is_empty() {
            self.bytes[hole.start as usize..hole.end as usize].fill(0);
            self.holes.push(hole);
        }
    }

    // What is left.
    fn map(&mut self) -> Map {
        // The payloads of a batch lie behind the holes among its records.
        self.holes.sort_by_key(|hole| hole.start);
        let bytes = u32::try_from(self.bytes.len()).expect("a segment is far below 4 GiB");
        let mut ranges = Vec::with_capacity(self.holes.len() + 1);
        let mut from = 0;
        for hole in &self.holes {
            if from < hole.start {
                ranges.push(from..hole.start);
            }
            from = hole.end;
        }
        if from < bytes {
            ranges.push(from..bytes);
        }
        Map {
            segment: self.segment,
            bytes,
            ranges,
        }
    }
}

// Everything in a batch, in order.
fn parts_of(batch: &Batch<'_>, goes: &dyn Fn(&[u8]) -> bool) -> Vec<Part> {
    let entry = |entry: super::batch::EntryView<'_>| {
        let bytes = ENTRY_HEADER_BYTES + u32::from(entry.header.record_bytes);
        // What is shorter than a mark stays; no record is.
        let goes = bytes >= MARK_BYTES && goes(entry.record);
        Part {
            offset: entry.position.offset,
            bytes,
            payloads: 0..entry.header.payload_bytes,
            entries: 1,
            goes,
            is_new: goes,
        }
    };
    let gone = |(offset, mark): (u32, Mark)| Part {
        offset,
        bytes: mark.bytes,
        payloads: 0..mark.payloads_bytes,
        entries: mark.entries,
        goes: true,
        is_new: false,
    };
    let mut parts: Vec<Part> = batch.entries().map(entry).collect();
    parts.extend(batch.marks().into_iter().map(gone));
    parts.sort_by_key(|part| part.offset);
    let mut payload = batch.at.offset + BATCH_HEADER_BYTES + batch.header.records_bytes;
    for part in &mut parts {
        let end = payload + part.payloads.end;
        part.payloads = payload..end;
        payload = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gap_that_reaches_behind_the_segments_end_or_counts_too_many_entries_is_damage_and_no_panic() {
        let (key, end) = ([3; 32], BATCHES_START + 4 * BATCH_HEADER_BYTES);
        let run = |batches: u32, entries: u32| {
            let gap = Gap {
                number: 0,
                previous: [0; 32],
                gap_bytes: batches * BATCH_HEADER_BYTES,
                batches,
                entries,
                records_bytes: 0,
                payloads_bytes: 0,
                last: [0; 32],
            };
            let offset = BATCHES_START as usize;
            let at = Position {
                segment: 1,
                offset: BATCHES_START,
            };
            let mut bytes = vec![0; end as usize];
            bytes[offset..offset + GAP_HEADER_BYTES as usize].copy_from_slice(&gap.encode(&key, at));
            let link = Link {
                number: 0,
                digest: [0; 32],
            };
            Rewriting::new(1, key, bytes).run(end, link, &|_| true)
        };
        run(4, 0).unwrap();
        for (batches, entries) in [(5, 0), (1_000_000, 0), (4, 1), (4, u32::MAX)] {
            let error = run(batches, entries).unwrap_err();
            assert_eq!(error.code(), "journal.corrupt", "{batches} {entries}");
        }
    }
}
