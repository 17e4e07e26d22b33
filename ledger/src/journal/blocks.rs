//! The quick walk: whole batches in big blocks, as long as everything is sound, for threads that check them apart.
//!
//! Contract: [`Blocks`] checks segment headers, batch headers, links and what stands behind the last batch, reads each byte once,
//! and hands over at the first place where anything is not as it should be: [`Piece::Irregular`]. From there on the careful
//! [`Walk`] must go on ([`Blocks::careful`]), up to the segment's end, and gives its place back ([`Blocks::go_on`]). Records and
//! their checksums are left to the taker of a block, who goes back by [`Block::begin`] when they do not hold. Memory: one
//! block for each that is not dropped. Buffers are used again.

use super::batch::{Batch, BatchFault, Link};
use super::error::JournalError;
use super::footer::{Footer, Tally};
use super::format::{
    BATCH_HEADER_BYTES, BATCHES_START, BatchDigest, BatchHeader, PreviousKind, SEGMENT_BYTES_MAX,
    SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::segment;
use super::walk::{Border, Walk, end_of};
use crate::Position;
use crate::storage::{Access, Storage, StorageFile};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a block; a batch that is larger makes a block of its own.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Buffers that are kept to be used again.
const SPARE_MAX: usize = 64;

/// A segment that the quick walk is in.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    // What the next segment says of this one's end.
    end: Option<(u32, PreviousKind)>,
    // Of the segment in the folder's list.
    index: usize,
    pub(crate) bytes: u32,
}

/// What the quick walk came upon.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A segment begins.
    Enter(Arc<Segment>),
    /// Whole batches of it.
    Block(Block),
    /// It ends, with a footer when it is sealed, which must say what its batches say; behind it nothing but zeros.
    Leave(Place, Option<Box<Footer>>),
    /// Something is not as it should be from here on.
    Irregular(Place),
}

/// A place up to which all is sound.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The segment and the offset in it; `None` before a segment.
    inside: Option<(Arc<Segment>, u32)>,
    border: Border,
    // The next segment in the folder's list.
    next: usize,
}

impl Place {
    /// Whether it is inside a segment, not before one.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    segment::path(dir, number)
}

/// Whole batches in memory.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) begin: Place,
    segment: Arc<Segment>,
    offset: u32,
    bytes: Vec<u8>,
    batches: Vec<(u32, BatchHeader, BatchDigest)>,
    spare: Arc<Spare>,
}

#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Block {
    /// Its batches in order, with records and entries checked, each with its offset in the segment.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<Batch<'_>, BatchFault>> {
        self.batches.iter().map(|(at, header, digest)| {
            let position = Position {
                segment: self.segment.header.segment,
                offset: self.offset + at,
            };
            let bytes = &self.bytes[*at as usize..];
            Batch::of_header(
                &self.segment.header.key,
                position,
                header.clone(),
                *digest,
                bytes,
                true,
            )
        })
    }

    /// Notes its batches, not their records.
    pub(crate) fn tally(&self, tally: &mut Tally) {
        for (at, header, digest) in &self.batches {
            let from = *at as usize;
            let bytes = &self.bytes[from..from + BATCH_HEADER_BYTES as usize];
            tally.note_batch(self.offset + at, header, bytes, *digest);
        }
    }

    /// The segment's number.
    pub(crate) fn segment(&self) -> u32 {
        self.segment.header.segment
    }

    /// The bytes from an offset in the segment on.
    pub(crate) fn bytes_at(&self, offset: u32) -> &[u8] {
        let from = offset.saturating_sub(self.offset) as usize;
        self.bytes.get(from..).unwrap_or(&[])
    }

    /// Behind its last batch, in the segment.
    pub(crate) fn end(&self) -> u32 {
        let last = self.batches.last();
        last.map_or(self.offset, |(at, header, _)| {
            self.offset + at + header.batch_bytes()
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.bytes));
    }
}

impl Spare {
    fn take(&self, room: usize) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; BLOCK_BYTES.min(room)])
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of large batches are not kept.
        if buffer.len() == BLOCK_BYTES && spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Blocks {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    numbers: Arc<[u32]>,
    at: Place,
    file: Option<Arc<dyn StorageFile>>,
    spare: Arc<Spare>,
}

impl Blocks {
    /// Over the journal in a folder, from its first segment. Writes nothing.
    ///
    /// # Errors
    /// [`JournalError::Missing`] when there is no segment; [`JournalError::Io`].
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, JournalError> {
        let (numbers, _) = segment::list(storage.as_ref(), dir)?;
        if numbers.is_empty() {
            return Err(JournalError::Missing { dir: dir.to_owned() });
        }
        Ok(Self {
            storage,
            dir: dir.to_owned(),
            numbers: numbers.into(),
            at: Place {
                inside: None,
                border: Border::FIRST,
                next: 0,
            },
            file: None,
            spare: Arc::default(),
        })
    }

    /// The next piece; `None` at the end, and behind [`Piece::Irregular`] until [`Blocks::go_on`].
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, JournalError> {
        match self.at.inside.clone() {
            Some((segment, offset)) => self.inside(segment, offset).map(Some),
            None => match self.numbers.get(self.at.next) {
                Some(&number) => self.enter(number).map(Some),
                None => Ok(None),
            },
        }
    }

    /// The careful walk from a place on. `tally`: of everything before it in its segment.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub(crate) fn careful(&self, from: &Place, tally: Option<Tally>) -> Result<Walk, JournalError> {
        let numbers = self.numbers.iter().skip(from.next).copied().collect();
        let mut walk = Walk::from(Arc::clone(&self.storage), &self.dir, numbers, from.border);
        if let (Some((segment, offset)), Some(tally)) = (&from.inside, tally) {
            walk.go_inside(&segment.header, segment.end, *offset, tally)?;
        }
        Ok(walk)
    }

    /// Goes on behind the segment that a careful walk has finished.
    pub(crate) fn go_on(&mut self, from: &Place, walk: &Walk) {
        let entered = usize::from(from.inside.is_none());
        self.file = None;
        self.at = Place {
            inside: None,
            border: walk.border(),
            next: from.next + entered,
        };
    }

    fn enter(&mut self, number: u32) -> Result<Piece, JournalError> {
        let path = segment::path(&self.dir, number);
        let io = |doing| JournalError::io(doing, &path);
        let file = match segment::open_mapped(self.storage.as_ref(), &self.dir, number, Access::Read) {
            // Where something was pruned, the careful walk knows what that means.
            Ok(opened) if opened.map.is_some() || opened.fault.is_some() => {
                return Ok(Piece::Irregular(self.at.clone()));
            }
            Err(JournalError::Corrupt { .. }) => return Ok(Piece::Irregular(self.at.clone())),
            opened => opened?.file,
        };
        let length = file.len().map_err(io("read"))?;
        let mut bytes = [0; 2 * SEGMENT_HEADER_BYTES as usize];
        let read = file.read_at(0, &mut bytes).map_err(io("read"))?;
        let border = self.at.border;
        let header = match segment::decode_header(&bytes[..read]) {
            Ok((header, true)) if length <= u64::from(SEGMENT_BYTES_MAX) => header,
            _ => return Ok(Piece::Irregular(self.at.clone())),
        };
        let link = Link {
            number: header.first_batch,
            digest: header.previous.digest,
        };
        let sound = number == border.expected
            && header.segment == number
            && border.store.is_none_or(|store| store == header.store)
            && border.link.is_none_or(|before| before == link);
        if !sound {
            return Ok(Piece::Irregular(self.at.clone()));
        }
        let following = self.numbers.get(self.at.next + 1).copied();
        let end = end_of(self.storage.as_ref(), &self.dir, number, following)?;
        let segment = Arc::new(Segment {
            index: self.at.next,
            end,
            bytes: u32::try_from(length).unwrap_or(SEGMENT_BYTES_MAX),
            header,
        });
        self.file = Some(file);
        self.at = Place {
            border: Border {
                expected: number.saturating_add(1),
                store: Some(segment.header.store),
                link: Some(link),
            },
            inside: Some((Arc::clone(&segment), BATCHES_START)),
            next: self.at.next + 1,
        };
        Ok(Piece::Enter(segment))
    }

    fn inside(&mut self, segment: Arc<Segment>, offset: u32) -> Result<Piece, JournalError> {
        let limit = segment
            .end
            .map_or(segment.bytes, |(end, _)| end.min(segment.bytes));
        if segment.end.is_some_and(|(end, _)| offset >= end) {
            return self.leave(segment, offset);
        }
        let Some(file) = self.file.clone() else {
            return Ok(Piece::Irregular(self.at.clone()));
        };
        let io = JournalError::io("read", segment::path(&self.dir, segment.header.segment));
        let room = (limit.saturating_sub(offset)) as usize;
        let mut bytes = self.spare.take(room);
        let wanted = room.min(bytes.len());
        let mut have = file
            .read_at(u64::from(offset), &mut bytes[..wanted])
            .map_err(io)?;
        let mut batches = Vec::new();
        let mut link = self.at.border.link;
        let mut next = 0_usize;
        while let Some((header, digest)) = self.header_at(&segment, offset, next, &bytes[..have]) {
            let total = header.batch_bytes() as usize;
            if next + total > have {
                if !batches.is_empty() || total > room || have > BLOCK_BYTES {
                    break;
                }
                bytes.resize(total, 0);
                let io = JournalError::io("read", segment::path(&self.dir, segment.header.segment));
                have = file.read_at(u64::from(offset), &mut bytes).map_err(io)?;
                if have < total {
                    break;
                }
                continue;
            }
            if link.is_some_and(|link| !link.is_followed_by(&header)) {
                break;
            }
            link = Some(Link::after(&header, digest));
            batches.push((u32::try_from(next).unwrap_or(u32::MAX), header, digest));
            next += total;
        }
        let block = Block {
            begin: self.at.clone(),
            segment: Arc::clone(&segment),
            offset,
            bytes,
            batches,
            spare: Arc::clone(&self.spare),
        };
        if block.batches.is_empty() {
            return self.leave(segment, offset);
        }
        self.at.border.link = link;
        self.at.inside = Some((segment, block.end()));
        Ok(Piece::Block(block))
    }

    fn header_at(
        &self,
        segment: &Segment,
        offset: u32,
        next: usize,
        bytes: &[u8],
    ) -> Option<(BatchHeader, BatchDigest)> {
        let at = Position {
            segment: segment.header.segment,
            offset: offset.checked_add(u32::try_from(next).ok()?)?,
        };
        BatchHeader::decode(&segment.header.key, at, bytes.get(next..)?)
    }

    // No batch follows: the end as it should be, or not.
    fn leave(&mut self, segment: Arc<Segment>, offset: u32) -> Result<Piece, JournalError> {
        let place = self.at.clone();
        let path = segment::path(&self.dir, segment.header.segment);
        let Some(file) = self.file.clone() else {
            return Ok(Piece::Irregular(place));
        };
        let mut rest = vec![0; segment.bytes.saturating_sub(offset) as usize];
        let read = file
            .read_at(u64::from(offset), &mut rest)
            .map_err(JournalError::io("read", path))?;
        rest.truncate(read);
        let at = Position {
            segment: segment.header.segment,
            offset,
        };
        let blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let ends_here = segment.end.is_none_or(|(end, _)| end == offset);
        let footer = match segment.end {
            Some((_, PreviousKind::Cut)) if ends_here => None,
            None if blank(&rest) => None,
            _ => match Footer::decode(&segment.header.key, at, &rest) {
                Some((footer, length)) if ends_here && blank(&rest[length..]) => Some(Box::new(footer)),
                _ => return Ok(Piece::Irregular(place)),
            },
        };
        self.file = None;
        self.at.inside = None;
        self.at.next = segment.index + 1;
        Ok(Piece::Leave(place, footer))
    }
}
