//! The footer that seals a segment: what it holds, a zone map for readers that skip, and a digest of all but payloads.
//!
//! ```text
//! footer = magic "LFOOTER\n", u32 footer_bytes, u64 batches, u64 entries, u64 records_bytes, u64 payloads_bytes,
//!          u64 next batch, 32 last batch digest, 32 content digest, u8 complete,
//!          u32 zones,   (32 log, u64 records, u64 first_seq, u64 last_seq, u64 first_time, u64 last_time)*,
//!          u32 kinds,   (u8 length, text)*,
//!          u32 samples, (u32 batch offset)*,
//!          32 checksum (keyed with the segment's key, over the place and all before)
//! ```
//! The content digest is BLAKE3 under its own context over the segment header and every batch header; those commit to the
//! records, so it covers all but payloads and salts. `complete` is 1 when the zone map names every log and kind in the
//! segment, 0 when a bound was met or a record was not understood: then a reader must not skip. Samples are offsets of
//! batches about every 64 KiB, in order, so that a reader can begin near a place. A valid footer also proves everything
//! before it: it is written only after the last batch is durable.

use super::batch::Link;
use super::format::{BatchDigest, Fields, SEGMENT_BYTES_MAX, SegmentHeader, checksum};
use super::gap::Gap;
use crate::Position;
use ledger_core::limits::KIND_BYTES_MAX;
use ledger_core::{Hlc, LogId, Seal};
use std::collections::{BTreeMap, BTreeSet};

/// Logs in one zone map; a segment with more is not skipped by readers.
pub const ZONE_LOGS_MAX: usize = 1024;
/// Kinds in one zone map; a segment with more is not skipped by readers.
pub const ZONE_KINDS_MAX: usize = 256;
/// Bytes between two samples of batch offsets: what a reader reads in vain at most.
pub const SAMPLE_STEP_BYTES: u32 = 64 * 1024;

pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"LFOOTER\n";
const CONTEXT_CONTENT: &str = "ledger v1 journal segment content";
const FIXED_BYTES: usize = 8 + 4 + 5 * 8 + 32 + 32 + 1;
const ZONE_BYTES: usize = 32 + 5 * 8;
const SAMPLES_MAX: usize = (SEGMENT_BYTES_MAX / SAMPLE_STEP_BYTES) as usize + 1;
/// Bytes of a footer at most.
pub(crate) const FOOTER_BYTES_MAX: usize = FIXED_BYTES
    + 3 * 4
    + ZONE_LOGS_MAX * ZONE_BYTES
    + ZONE_KINDS_MAX * (1 + KIND_BYTES_MAX)
    + SAMPLES_MAX * 4
    + 32;

/// What a segment holds of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    /// How many of its records.
    pub records: u64,
    /// Lowest seq.
    pub first_seq: u64,
    /// Highest seq.
    pub last_seq: u64,
    /// Earliest time.
    pub first_time: Hlc,
    /// Latest time.
    pub last_time: Hlc,
}

/// What a sealed segment says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    pub(crate) records_bytes: u64,
    pub(crate) payloads_bytes: u64,
    pub(crate) link: Link,
    pub(crate) content: [u8; 32],
    pub(crate) complete: bool,
    pub(crate) zones: BTreeMap<LogId, Zone>,
    pub(crate) kinds: BTreeSet<String>,
    pub(crate) samples: Vec<u32>,
}

impl Footer {
    /// The bytes at a place.
    pub(crate) fn encode(&self, key: &[u8; 32], at: Position) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.samples.len() * 4 + 1024);
        bytes.extend_from_slice(&FOOTER_MAGIC);
        bytes.extend_from_slice(&[0; 4]); // the length, known at the end
        for number in [
            self.batches,
            self.entries,
            self.records_bytes,
            self.payloads_bytes,
            self.link.number,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.link.digest);
        bytes.extend_from_slice(&self.content);
        bytes.push(u8::from(self.complete));
        bytes.extend_from_slice(&count(self.zones.len()));
        for (log, zone) in &self.zones {
            bytes.extend_from_slice(&log.0);
            for number in [
                zone.records,
                zone.first_seq,
                zone.last_seq,
                zone.first_time.0,
                zone.last_time.0,
            ] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&count(self.kinds.len()));
        for kind in &self.kinds {
            bytes.push(u8::try_from(kind.len()).expect("kinds are at most 64 bytes"));
            bytes.extend_from_slice(kind.as_bytes());
        }
        bytes.extend_from_slice(&count(self.samples.len()));
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.to_be_bytes());
        }
        let length = count(bytes.len() + 32);
        bytes[8..12].copy_from_slice(&length);
        let digest = checksum(key, at, &bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the footer that should begin with `bytes`; also tells how long it is. `None` when it is not a sound one.
    pub(crate) fn decode(key: &[u8; 32], at: Position, bytes: &[u8]) -> Option<(Self, usize)> {
        let length = usize::try_from(u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?)).ok()?;
        if bytes[..8] != FOOTER_MAGIC || !(FIXED_BYTES + 12 + 32..=FOOTER_BYTES_MAX).contains(&length) {
            return None;
        }
        let (body, digest) = bytes.get(..length)?.split_at(length - 32);
        if checksum(key, at, body) != *digest {
            return None;
        }
        let mut rest = Fields(&body[12..]);
        let (batches, entries, records_bytes, payloads_bytes) =
            (rest.u64(), rest.u64(), rest.u64(), rest.u64());
        let link = Link {
            number: rest.u64(),
            digest: rest.array(),
        };
        let content = rest.array();
        let [complete] = rest.array::<1>();
        let mut zones = BTreeMap::new();
        for _ in 0..take_count(&mut rest, ZONE_BYTES)? {
            let log = LogId(rest.array());
            let zone = Zone {
                records: rest.u64(),
                first_seq: rest.u64(),
                last_seq: rest.u64(),
                first_time: Hlc(rest.u64()),
                last_time: Hlc(rest.u64()),
            };
            zones.insert(log, zone);
        }
        let mut kinds = BTreeSet::new();
        for _ in 0..take_count(&mut rest, 1)? {
            let length = usize::from(*rest.0.first()?);
            let text = rest.0.get(1..1 + length)?;
            kinds.insert(std::str::from_utf8(text).ok()?.to_owned());
            rest.0 = &rest.0[1 + length..];
        }
        let mut samples = Vec::new();
        for _ in 0..take_count(&mut rest, 4)? {
            samples.push(rest.u32());
        }
        let footer = Self {
            batches,
            entries,
            records_bytes,
            payloads_bytes,
            link,
            content,
            complete: complete == 1,
            zones,
            kinds,
            samples,
        };
        (rest.0.is_empty() && complete <= 1).then_some((footer, length))
    }
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number)
        .expect("bounded far below 4 GiB")
        .to_be_bytes()
}

// A count whose items are there, each of at least `item_bytes`.
fn take_count(rest: &mut Fields<'_>, item_bytes: usize) -> Option<u32> {
    if rest.0.len() < 4 {
        return None;
    }
    let count = rest.u32();
    (usize::try_from(count).ok()?.checked_mul(item_bytes)? <= rest.0.len()).then_some(count)
}

/// Gathers, batch by batch, what the footer will say.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    footer: Footer,
    content: blake3::Hasher,
    // Whether something is gone that the footer counts.
    pruned: bool,
}

impl Tally {
    /// Before the first batch of a segment.
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        let mut content = blake3::Hasher::new_derive_key(CONTEXT_CONTENT);
        content.update(&header.encode());
        let link = Link {
            number: header.first_batch,
            digest: header.previous.digest,
        };
        let footer = Footer {
            batches: 0,
            entries: 0,
            records_bytes: 0,
            payloads_bytes: 0,
            link,
            content: [0; 32],
            complete: true,
            zones: BTreeMap::new(),
            kinds: BTreeSet::new(),
            samples: Vec::new(),
        };
        Self {
            footer,
            content,
            pruned: false,
        }
    }

    /// Takes in the header of the next batch. Returns whether its offset became a sample.
    pub(crate) fn note_batch(
        &mut self,
        offset: u32,
        header: &super::format::BatchHeader,
        header_bytes: &[u8],
        digest: BatchDigest,
    ) -> bool {
        self.content.update(header_bytes);
        self.footer.batches += 1;
        self.footer.entries += u64::from(header.entries);
        self.footer.records_bytes += u64::from(header.records_bytes);
        self.footer.payloads_bytes += u64::from(header.payloads_bytes);
        self.footer.link = Link::after(header, digest);
        let is_sample = self
            .footer
            .samples
            .last()
            .is_none_or(|last| offset - last >= SAMPLE_STEP_BYTES);
        if is_sample {
            self.footer.samples.push(offset);
        }
        is_sample
    }

    /// Takes in a gap, where batches were pruned.
    pub(super) fn note_gap(&mut self, gap: &Gap) {
        self.pruned = true;
        self.footer.batches += u64::from(gap.batches);
        self.footer.entries += u64::from(gap.entries);
        self.footer.records_bytes += u64::from(gap.records_bytes);
        self.footer.payloads_bytes += u64::from(gap.payloads_bytes);
        self.footer.link = gap.link();
    }

    /// Entries of the batch taken in last were pruned.
    pub(super) fn note_mark(&mut self) {
        self.pruned = true;
    }

    /// Whether a footer is that of the segment. Where something was pruned, it says what there was before.
    pub(super) fn agrees(&self, footer: &Footer) -> bool {
        let found = self.footer();
        if !self.pruned {
            return *footer == found;
        }
        let counts = |f: &Footer| (f.batches, f.entries, f.records_bytes, f.payloads_bytes, f.link);
        let within = |(log, here): (&LogId, &Zone)| {
            footer.zones.get(log).is_some_and(|zone| {
                here.records <= zone.records
                    && zone.first_seq <= here.first_seq
                    && here.last_seq <= zone.last_seq
            })
        };
        counts(&found) == counts(footer)
            && (!footer.complete || (found.zones.iter().all(within) && found.kinds.is_subset(&footer.kinds)))
    }

    /// Takes in one record of that batch.
    pub(crate) fn note_record(&mut self, record: &[u8]) {
        let Some((kind, seal)) = peek(record) else {
            self.footer.complete = false;
            return;
        };
        self.note_kind(kind);
        let (seq, time) = (seal.seq, seal.time);
        let zone = Zone {
            records: 1,
            first_seq: seq,
            last_seq: seq,
            first_time: time,
            last_time: time,
        };
        self.note_zone(seal.log, &zone);
    }

    /// Takes in the kind of a record.
    pub(crate) fn note_kind(&mut self, kind: &str) {
        if self.footer.kinds.contains(kind) {
            return;
        }
        if self.footer.kinds.len() < ZONE_KINDS_MAX {
            self.footer.kinds.insert(kind.to_owned());
        } else {
            self.footer.complete = false;
        }
    }

    /// Takes in some records of a log.
    pub(crate) fn note_zone(&mut self, log: LogId, seen: &Zone) {
        if let Some(zone) = self.footer.zones.get_mut(&log) {
            zone.records += seen.records;
            zone.first_seq = zone.first_seq.min(seen.first_seq);
            zone.last_seq = zone.last_seq.max(seen.last_seq);
            zone.first_time = zone.first_time.min(seen.first_time);
            zone.last_time = zone.last_time.max(seen.last_time);
        } else if self.footer.zones.len() < ZONE_LOGS_MAX {
            self.footer.zones.insert(log, *seen);
        } else {
            self.footer.complete = false;
        }
    }

    /// What the next batch has to name.
    pub(crate) fn link(&self) -> Link {
        self.footer.link
    }

    /// The offsets sampled so far.
    pub(crate) fn samples(&self) -> &[u32] {
        &self.footer.samples
    }

    /// The footer for what was taken in.
    pub(crate) fn footer(&self) -> Footer {
        let mut footer = self.footer.clone();
        footer.content = *self.content.finalize().as_bytes();
        footer
    }
}

// The kind and the seal of a record, by its framing alone: the caller has verified it, or does not care.
fn peek(record: &[u8]) -> Option<(&str, Seal)> {
    let (statement, rest) = split_prefixed(record)?;
    let (&author_bytes, rest) = rest.split_first()?;
    let (seal, _) = split_prefixed(rest.get(usize::from(author_bytes)..)?)?;
    // version (1), fleet (32) and id (16) have fixed widths in every version 1 statement.
    let (kind, _) = postcard::take_from_bytes::<&str>(statement.get(49..)?).ok()?;
    let seal = Seal::decode(seal).ok()?;
    (kind.len() <= KIND_BYTES_MAX).then_some((kind, seal))
}

fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests;
