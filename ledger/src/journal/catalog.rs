//! What writer and readers of one journal share: the segments, how far each may be read, and open files.
//!
//! Contract: the writer alone adds segments and moves ends, and an end moves only over durable bytes. Readers see an end
//! either before or after a batch, never inside. At most [`HANDLES_MAX`] files are open for reading at a time.

use super::error::JournalError;
use super::format::{BATCHES_START, SegmentHeader, StoreId};
use super::segment;
use crate::Position;
use crate::storage::{Access, Storage, StorageFile};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Open files for reading: far below the 256 that some systems allow a process.
const HANDLES_MAX: usize = 16;

/// One segment as readers know it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    end: AtomicU32,
    samples: RwLock<Vec<u32>>,
    // Whether entries may be gone from it.
    pruned: AtomicBool,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, end: u32, samples: Vec<u32>) -> Self {
        Self {
            header,
            end: AtomicU32::new(end),
            samples: RwLock::new(samples),
            pruned: AtomicBool::new(false),
        }
    }

    /// Whether something was pruned from it, so that a place may hold nothing.
    pub(crate) fn is_pruned(&self) -> bool {
        self.pruned.load(Ordering::Acquire)
    }

    /// Something was pruned from it: of its batches only those at these offsets are still there to begin at.
    pub(crate) fn shrink(&self, has: impl Fn(u32) -> bool) {
        let mut samples = self.samples.write().unwrap_or_else(PoisonError::into_inner);
        samples.retain(|sample| has(*sample));
        self.pruned.store(true, Ordering::Release);
    }

    /// The offset behind its last readable batch.
    pub(crate) fn end(&self) -> u32 {
        self.end.load(Ordering::Acquire)
    }

    /// A batch's offset at or before the given one.
    pub(crate) fn sample_before(&self, offset: u32) -> u32 {
        let samples = self.samples.read().unwrap_or_else(PoisonError::into_inner);
        let after = samples.partition_point(|sample| *sample <= offset);
        if after == 0 {
            BATCHES_START
        } else {
            samples[after - 1]
        }
    }
}

/// The shared part of a journal.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    end: AtomicU64,
    handles: Mutex<VecDeque<(u32, Arc<dyn StorageFile>)>>,
    // See [`Catalog::turn`].
    rewriting: Mutex<()>,
}

impl Catalog {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, store: StoreId, segments: Vec<Segment>) -> Self {
        let end = segments.last().map_or(Position::START, |last| Position {
            segment: last.header.segment,
            offset: last.end(),
        });
        Self {
            storage,
            dir: dir.to_owned(),
            store,
            segments: RwLock::new(
                segments
                    .into_iter()
                    .map(|s| (s.header.segment, Arc::new(s)))
                    .collect(),
            ),
            end: AtomicU64::new(pack(end)),
            handles: Mutex::new(VecDeque::new()),
            rewriting: Mutex::new(()),
        }
    }

    /// Behind the last durable batch.
    pub(crate) fn end(&self) -> Position {
        Position::from_be_bytes(self.end.load(Ordering::Acquire).to_be_bytes())
    }

    /// Lets readers read up to here, in the newest segment; a batch that begins at `sample` is remembered for scans.
    pub(crate) fn publish(&self, end: Position, sample: Option<u32>) {
        if let Some(segment) = self.segment(end.segment) {
            if let Some(sample) = sample {
                segment
                    .samples
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(sample);
            }
            segment.end.store(end.offset, Ordering::Release);
        }
        self.end.store(pack(end), Ordering::Release);
    }

    /// Adds the next segment.
    pub(crate) fn add(&self, segment: Segment) {
        let end = Position {
            segment: segment.header.segment,
            offset: segment.end(),
        };
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment.header.segment, Arc::new(segment));
        self.end.store(pack(end), Ordering::Release);
    }

    /// Lets readers read the confirming batches at the end of a segment that is being sealed.
    pub(crate) fn seal(&self, segment: u32, end: u32) {
        if let Some(segment) = self.segment(segment) {
            segment.end.store(end, Ordering::Release);
        }
    }

    /// Held while a segment is rewritten, and while payloads are looked up and erased in place: neither may undo the other.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.rewriting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment is about to be replaced by one from which something was pruned.
    pub(crate) fn shrink(&self, segment: u32, has: impl Fn(u32) -> bool) {
        if let Some(segment) = self.segment(segment) {
            segment.shrink(has);
        }
    }

    /// Closes the file of a segment that was replaced, as soon as nobody reads from it.
    pub(crate) fn forget(&self, segment: u32) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|(number, _)| *number != segment);
    }

    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
    }

    /// The first segment with this number or a higher one.
    pub(crate) fn segment_from(&self, number: u32) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments
            .range(number..)
            .next()
            .map(|(_, segment)| segment.clone())
    }

    /// An open file for reading a segment.
    pub(crate) fn file(&self, number: u32) -> Result<Arc<dyn StorageFile>, JournalError> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = handles.iter().find(|(segment, _)| *segment == number) {
            return Ok(file.clone());
        }
        let file = segment::open(self.storage.as_ref(), &self.dir, number, Access::Read)?;
        if handles.len() == HANDLES_MAX {
            handles.pop_front();
        }
        handles.push_back((number, file.clone()));
        Ok(file)
    }
}

fn pack(position: Position) -> u64 {
    u64::from_be_bytes(position.to_be_bytes())
}
