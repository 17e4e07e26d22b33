//! The walk where something was pruned: segments with a map, and gaps in their batches.

use super::{InSegment, Walk, WalkItem};
use crate::Position;
use crate::journal::batch::BatchFault;
use crate::journal::error::JournalError;
use crate::journal::gap::{GAP_HEADER_BYTES, Gap};
use crate::journal::segment;
use crate::journal::sparse::MapFault;
use crate::storage::{Access, StorageFile};
use std::sync::Arc;

impl Walk {
    // A segment's file by its own offsets; `None` when what says which of it is there is damaged.
    pub(super) fn open(&mut self, number: u32) -> Result<Option<Arc<dyn StorageFile>>, JournalError> {
        let opened = match segment::open_mapped(self.storage.as_ref(), &self.dir, number, Access::Read) {
            Err(JournalError::Corrupt { what, .. }) => {
                self.damage(number, 0, "journal.map", what);
                self.link = None;
                return Ok(None);
            }
            opened => opened?,
        };
        match opened.fault {
            Some(MapFault::OneCopy { offset }) => {
                let what = "one of the two copies of the map of a pruned segment is damaged";
                self.damage(number, offset, "journal.map-copy", what);
            }
            Some(MapFault::Stray { offset }) => {
                let what = "bytes behind the end of a pruned segment's file";
                self.damage(number, offset, "journal.stray", what);
            }
            None => {}
        }
        Ok(Some(opened.file))
    }

    // Takes a gap: what was pruned here, and what the next batch names.
    pub(super) fn pass(&mut self, mut here: InSegment, at: Position, gap: &Gap, limit: usize) {
        let end = at.offset as usize + gap.gap_bytes as usize;
        let behind = here.bytes.get((at.offset + GAP_HEADER_BYTES) as usize..end);
        let fault = if self.link.is_some_and(|link| !gap.follows(link)) {
            Some((BatchFault::Link.code(), BatchFault::Link.what()))
        } else if end > limit {
            Some((BatchFault::Short.code(), BatchFault::Short.what()))
        } else if behind.is_none_or(|behind| behind.iter().any(|byte| *byte != 0)) {
            Some((
                "journal.stray",
                "bytes where something was pruned that are not zero",
            ))
        } else {
            None
        };
        if let Some((code, what)) = fault {
            self.damage(at.segment, at.offset, code, what);
            here.whole = false;
        }
        here.tally.note_gap(gap);
        self.pruned(at, gap.entries);
        self.link = Some(gap.link());
        here.offset = u32::try_from(end.min(limit)).unwrap_or(u32::MAX);
        self.at = Some(here);
    }

    pub(super) fn pruned(&mut self, position: Position, entries: u32) {
        self.ready.push_back(WalkItem::Pruned { position, entries });
    }
}
