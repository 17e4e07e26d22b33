//! The offline walk over a journal's folder, for verification: tolerant, read-only, needs neither keys nor anchor.
//!
//! Contract: every byte of every segment is looked at. A byte is either covered by a check whose failure is told as
//! [`WalkItem::Damage`] or [`WalkItem::Torn`], or part of a payload (checked by the caller against its commitment), or
//! behind the end of a cut segment, where nothing means anything. After damage the walk goes on at the next place that
//! is sound. Memory is bounded by one segment. What is sound is read quicker by [`super::blocks`], which hands over to this
//! walk wherever anything is not.

mod damage;
mod pruned;

use super::batch::{Batch, BatchFault, Link};
use super::error::JournalError;
use super::examine::is_proven_behind;
use super::footer::Tally;
use super::format::{
    BATCH_HEADER_BYTES, BATCHES_START, HeaderFault, PreviousKind, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES,
    SegmentHeader, StoreId,
};
use super::gap::Gap;
use super::{StoredEntry, segment};
use crate::Position;
use crate::storage::{Access, Storage};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that the walk came upon, in the journal's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalkItem {
    /// A segment begins.
    Segment {
        /// Its number.
        segment: u32,
        /// The store that it names.
        store: StoreId,
        /// The number of its first batch.
        first_batch: u64,
        /// Whether the next segment says that it has a footer.
        sealed: bool,
    },
    /// A batch begins.
    Batch {
        /// Its number, dense over the journal.
        number: u64,
        /// Where its header stands.
        position: Position,
        /// How many entries it says to have; 0 for a confirming one.
        entries: u32,
    },
    /// An entry, with its payload as it lies there.
    Entry {
        /// The number of its batch.
        batch: u64,
        /// The entry.
        entry: StoredEntry,
    },
    /// Entries were pruned here.
    Pruned {
        /// Where the first of them stood, or the batch that held it.
        position: Position,
        /// How many.
        entries: u32,
    },
    /// Something is wrong.
    Damage {
        /// The segment.
        segment: u32,
        /// Bytes from its beginning.
        offset: u32,
        /// What is wrong, in words.
        what: String,
        /// The stable code of it.
        code: &'static str,
        /// Whether something later proves that it was durable. What is not proven is [`WalkItem::Torn`].
        proven: bool,
    },
    /// The end of the journal is torn: what stands there was not proven durable.
    Torn {
        /// The segment.
        segment: u32,
        /// Bytes from its beginning.
        offset: u32,
        /// How many bytes up to the last that is not zero.
        bytes: u64,
        /// What is wrong at the beginning, in words.
        what: String,
    },
}

/// Walks over the journal in a folder, from its first segment. Writes nothing.
///
/// # Errors
/// [`JournalError::Missing`] when there is no segment; [`JournalError::Io`].
pub fn walk(storage: Arc<dyn Storage>, dir: &Path) -> Result<Walk, JournalError> {
    let (numbers, _) = segment::list(storage.as_ref(), dir)?;
    if numbers.is_empty() {
        return Err(JournalError::Missing { dir: dir.to_owned() });
    }
    Ok(Walk::from(storage, dir, numbers.into(), Border::FIRST))
}

/// What is known between two segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Border {
    /// The number that the next segment should have.
    pub(super) expected: u32,
    pub(super) store: Option<StoreId>,
    /// What the next batch has to name; unknown after damage.
    pub(super) link: Option<Link>,
}

impl Border {
    pub(super) const FIRST: Border = Border {
        expected: 1,
        store: None,
        link: None,
    };
}

/// See [`walk`]. An error of the disk ends it.
#[derive(Debug)]
pub struct Walk {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    numbers: VecDeque<u32>,
    expected: u32,
    store: Option<StoreId>,
    link: Option<Link>,
    at: Option<InSegment>,
    ready: VecDeque<WalkItem>,
    failed: bool,
}

// Where the walk stands in a segment, all of which is in memory.
#[derive(Debug)]
struct InSegment {
    header: SegmentHeader,
    bytes: Vec<u8>,
    offset: u32,
    // What the next segment says of this one's end; unknown for the last, or when the next one's header is damaged.
    end: Option<(u32, PreviousKind)>,
    is_last: bool,
    tally: Tally,
    // Whether everything so far was sound, so that the footer can be compared.
    whole: bool,
}

impl Walk {
    /// A walk over these segments, from a border on.
    pub(super) fn from(
        storage: Arc<dyn Storage>,
        dir: &Path,
        numbers: VecDeque<u32>,
        border: Border,
    ) -> Self {
        Self {
            storage,
            dir: dir.to_owned(),
            numbers,
            expected: border.expected,
            store: border.store,
            link: border.link,
            at: None,
            ready: VecDeque::new(),
            failed: false,
        }
    }

    /// Goes on inside a segment, all of which was sound up to the offset: `tally` is of that, and `self` knows the link.
    pub(super) fn go_inside(
        &mut self,
        header: &SegmentHeader,
        end: Option<(u32, PreviousKind)>,
        offset: u32,
        tally: Tally,
    ) -> Result<(), JournalError> {
        let path = segment::path(&self.dir, header.segment);
        let file = segment::open(self.storage.as_ref(), &self.dir, header.segment, Access::Read)?;
        let bytes = segment::read_whole(file.as_ref(), u64::from(SEGMENT_BYTES_MAX))
            .map_err(JournalError::io("read", &path))?;
        self.at = Some(InSegment {
            header: header.clone(),
            bytes: bytes.unwrap_or_default(),
            offset,
            end,
            is_last: self.numbers.is_empty(),
            tally,
            whole: true,
        });
        Ok(())
    }

    /// The next item up to the end of one segment, the one that it is in or the next; `None` at its end.
    pub(crate) fn next_of_segment(&mut self, entered: &mut bool) -> Option<Result<WalkItem, JournalError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.failed || (self.at.is_none() && *entered) {
                return None;
            }
            *entered = true;
            if let Err(error) = self.advance()? {
                return Some(Err(error));
            }
        }
    }

    /// What is known behind the segment that it was in.
    pub(super) fn border(&self) -> Border {
        Border {
            expected: self.expected,
            store: self.store,
            link: self.link,
        }
    }

    // Takes one step; `None` when nothing is left.
    fn advance(&mut self) -> Option<Result<(), JournalError>> {
        if let Some(here) = self.at.take() {
            self.step(here);
            return Some(Ok(()));
        }
        let number = self.numbers.pop_front()?;
        let entered = self.enter(number);
        self.failed = entered.is_err();
        Some(entered)
    }

    fn damage(&mut self, segment: u32, offset: u32, code: &'static str, what: impl Into<String>) {
        self.ready.push_back(WalkItem::Damage {
            segment,
            offset,
            what: what.into(),
            code,
            proven: true,
        });
    }

    fn enter(&mut self, number: u32) -> Result<(), JournalError> {
        if number != self.expected {
            let what = format!("segments {:08} to {:08} are missing", self.expected, number - 1);
            self.damage(self.expected, 0, "journal.segment-missing", what);
            self.link = None;
        }
        self.expected = number.saturating_add(1);
        let path = segment::path(&self.dir, number);
        let io = |doing| JournalError::io(doing, &path);
        let file = match self.open(number)? {
            Some(file) => file,
            None => return Ok(()),
        };
        let limit = u64::from(SEGMENT_BYTES_MAX);
        let Some(bytes) = segment::read_whole(file.as_ref(), limit).map_err(io("read"))? else {
            let what = format!("the file is larger than the {limit} bytes that a segment may have");
            self.damage(number, 0, "journal.segment-size", what);
            self.link = None;
            return Ok(());
        };
        let is_last = self.numbers.is_empty();
        let (header, both) = match segment::decode_header(&bytes) {
            Ok(found) => found,
            Err(fault) => {
                self.bad_header(number, &bytes, &fault, is_last);
                return Ok(());
            }
        };
        if !both {
            let first = SegmentHeader::decode(&bytes[..SEGMENT_HEADER_BYTES as usize]).is_ok();
            let offset = if first { SEGMENT_HEADER_BYTES } else { 0 };
            self.damage(
                number,
                offset,
                "journal.header-copy",
                "one of the two copies of the segment header is damaged",
            );
        }
        if header.segment != number {
            let what = format!("the header is that of segment {}", header.segment);
            self.damage(number, 0, "journal.segment-header", what);
            self.link = None;
            return Ok(());
        }
        if *self.store.get_or_insert(header.store) != header.store {
            let what = format!(
                "belongs to another store ({}) than the segments before",
                header.store
            );
            self.damage(number, 0, "journal.other-store", what);
        }
        let follows = self
            .link
            .is_none_or(|link| link.number == header.first_batch && link.digest == header.previous.digest);
        if !follows {
            self.damage(
                number,
                0,
                "journal.link",
                "this segment does not follow the last batch of the one before",
            );
        }
        self.link = Some(Link {
            number: header.first_batch,
            digest: header.previous.digest,
        });
        let next = self.numbers.front().copied();
        let end = end_of(self.storage.as_ref(), &self.dir, number, next)?;
        self.ready.push_back(WalkItem::Segment {
            segment: number,
            store: header.store,
            first_batch: header.first_batch,
            sealed: matches!(end, Some((_, PreviousKind::Sealed))),
        });
        let tally = Tally::new(&header);
        self.at = Some(InSegment {
            header,
            bytes,
            offset: BATCHES_START,
            end,
            is_last,
            tally,
            whole: true,
        });
        Ok(())
    }

    fn bad_header(&mut self, number: u32, bytes: &[u8], fault: &HeaderFault, is_last: bool) {
        self.link = None;
        let blank = bytes.iter().skip(BATCHES_START as usize).all(|byte| *byte == 0);
        match fault {
            HeaderFault::Version(version) => {
                let what = format!("format version {version}; this program knows version 1");
                self.damage(number, 0, "journal.version", what);
            }
            HeaderFault::Damaged if is_last && blank => self.ready.push_back(WalkItem::Torn {
                segment: number,
                offset: 0,
                bytes: nonzero(bytes),
                what: "a segment that was being made".to_owned(),
            }),
            HeaderFault::Damaged => {
                let what = "both copies of the segment header are damaged; its batches cannot be read";
                self.damage(number, 0, "journal.segment-header", what);
            }
        }
    }

    // Takes one batch, or ends the segment.
    fn step(&mut self, mut here: InSegment) {
        let number = here.header.segment;
        let at = Position {
            segment: number,
            offset: here.offset,
        };
        let limit = here
            .end
            .map_or(here.bytes.len(), |(end, _)| (end as usize).min(here.bytes.len()));
        if here.end.is_some_and(|(end, _)| here.offset >= end) {
            return self.end_segment(&here);
        }
        let rest = here.bytes.get(here.offset as usize..limit).unwrap_or(&[]);
        let fault = match Batch::parse(&here.header.key, at, rest, true) {
            Ok(batch) => {
                if self.link.is_some_and(|link| !link.is_followed_by(&batch.header)) {
                    self.damage(
                        number,
                        at.offset,
                        BatchFault::Link.code(),
                        BatchFault::Link.what(),
                    );
                    here.whole = false;
                }
                let (header, digest) = (batch.header.clone(), batch.digest);
                self.ready.push_back(WalkItem::Batch {
                    number: header.number,
                    position: at,
                    entries: header.entries,
                });
                here.tally
                    .note_batch(at.offset, &header, &rest[..BATCH_HEADER_BYTES as usize], digest);
                for (offset, mark) in batch.marks() {
                    here.tally.note_mark();
                    let position = Position { offset, ..at };
                    self.pruned(position, mark.entries);
                }
                for entry in batch.entries() {
                    here.tally.note_record(entry.record);
                    self.ready.push_back(WalkItem::Entry {
                        batch: header.number,
                        entry: entry.to_stored(),
                    });
                }
                self.link = Some(Link::after(&header, digest));
                here.offset = at.offset.saturating_add(header.batch_bytes());
                self.at = Some(here);
                return;
            }
            Err(fault) => fault,
        };
        if let Some(gap) = Gap::decode(&here.header.key, at, rest) {
            return self.pass(here, at, &gap, limit);
        }
        if here.end.is_none() && (rest.iter().all(|byte| *byte == 0) || self.is_footer(&here, at, rest)) {
            return self.end_segment(&here);
        }
        let proven = !here.is_last || is_proven_behind(&here.header, &here.bytes, at.offset);
        if !proven {
            let (bytes, what) = (nonzero(rest), fault.what().to_owned());
            self.ready.push_back(WalkItem::Torn {
                segment: number,
                offset: at.offset,
                bytes,
                what,
            });
            return;
        }
        here.whole = false;
        self.skip(here, at, limit, &fault);
    }
}

// Bytes up to the last that is not zero.
fn nonzero(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

/// What the segment behind this one says about where it ends.
pub(super) fn end_of(
    storage: &dyn Storage,
    dir: &Path,
    number: u32,
    next: Option<u32>,
) -> Result<Option<(u32, PreviousKind)>, JournalError> {
    let Some(next) = next.filter(|next| Some(*next) == number.checked_add(1)) else {
        return Ok(None);
    };
    let path = segment::path(dir, next);
    let file = match segment::open(storage, dir, next, Access::Read) {
        // It is told when the walk gets there.
        Err(JournalError::Corrupt { .. }) => return Ok(None),
        opened => opened?,
    };
    let header = segment::read_header(file.as_ref()).map_err(JournalError::io("read", &path))?;
    let previous = header.ok().map(|(header, _)| header.previous);
    Ok(previous.filter(|p| p.segment == number).map(|p| (p.end, p.kind)))
}

impl Iterator for Walk {
    type Item = Result<WalkItem, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.failed {
                return None;
            }
            if let Err(error) = self.advance()? {
                return Some(Err(error));
            }
        }
    }
}
