//! What opening does to a journal that was not closed: setting damage aside, and copying what was not proven into a fresh
//! segment.
//!
//! What a crash leaves: copies whose names do not matter, and the journal as it was; the fresh segment appears whole.
//! Nothing is destroyed, and a cut segment is never written again.

use super::batch::{self, Batch};
use super::error::JournalError;
use super::footer::Tally;
use super::format::{BATCH_HEADER_BYTES, Previous, PreviousKind, SEGMENT_BYTES_MAX, SegmentHeader};
use super::open::Newest;
use super::writer::{WriterStart, next_header};
use super::{EntryDraft, JournalOptions, StoredEntry, segment};
use crate::Position;
use crate::recovery::{EndFound, RecoveryReport, TornTail};
use crate::storage::{Access, Storage};
use std::path::Path;

/// Names tried for one torn tail; the same one is set aside again only when the content differs.
const TORN_NAMES_MAX: u32 = 1000;

// Sets a segment aside that never held a batch.
pub(super) fn set_aside_whole(
    storage: &dyn Storage,
    dir: &Path,
    newest: &Newest,
    report: &mut RecoveryReport,
) -> Result<(), JournalError> {
    let path = segment::path(dir, newest.number);
    let file = set_aside(storage, dir, newest.number, 0, &newest.bytes)?;
    storage.remove(&path).map_err(JournalError::io("remove", path))?;
    storage.sync_dir(dir).map_err(JournalError::io("sync", dir))?;
    report.torn.push(TornTail {
        segment: newest.number,
        offset: 0,
        bytes: newest.bytes.len() as u64,
        file,
        what: "a segment that was being made when the process ended".to_owned(),
    });
    Ok(())
}

// Copies bytes into a file of their own, durably, and returns its name. Does nothing when that was done before.
fn set_aside(
    storage: &dyn Storage,
    dir: &Path,
    number: u32,
    offset: u32,
    bytes: &[u8],
) -> Result<String, JournalError> {
    for attempt in 0..TORN_NAMES_MAX {
        let name = match attempt {
            0 => format!("torn-{number:08}-{offset}"),
            _ => format!("torn-{number:08}-{offset}-{attempt}"),
        };
        let path = dir.join(&name);
        let io = |doing| JournalError::io(doing, &path);
        if storage.exists(&path).map_err(io("look for"))? {
            let file = storage.open(&path, Access::Write).map_err(io("open"))?;
            let there =
                segment::read_whole(file.as_ref(), u64::from(SEGMENT_BYTES_MAX)).map_err(io("read"))?;
            if there.as_deref() != Some(bytes) {
                continue;
            }
            file.sync_data().map_err(io("sync"))?;
        } else {
            let file = storage.create_new(&path).map_err(io("make"))?;
            file.write_at(0, bytes)
                .and_then(|()| file.sync_data())
                .map_err(io("write"))?;
        }
        storage.sync_dir(dir).map_err(JournalError::io("sync", dir))?;
        return Ok(name);
    }
    let found = u64::from(TORN_NAMES_MAX);
    Err(JournalError::TooLarge {
        what: "number of tails set aside at one place",
        found,
        limit: found,
    })
}

// Sets damage aside, copies what was not proven into a fresh segment, and begins there.
pub(super) fn heal(
    storage: &dyn Storage,
    dir: &Path,
    options: &JournalOptions,
    newest: &Newest,
    report: &mut RecoveryReport,
) -> Result<WriterStart, JournalError> {
    let (header, examined) = newest.sound.as_ref().expect("healing needs a sound header");
    report.unclean = true;
    if examined.found == EndFound::Damage {
        let torn = &newest.bytes[examined.end as usize..];
        let length = torn
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let file = set_aside(storage, dir, newest.number, examined.end, &torn[..length])?;
        report.torn.push(TornTail {
            segment: newest.number,
            offset: examined.end,
            bytes: length as u64,
            file,
            what: examined.fault.to_owned(),
        });
    }
    // Confirming batches that nothing proves are dropped too: they may be in the cache only.
    let tail = &examined.unproven;
    let (cut, link) = tail
        .first()
        .map_or((examined.end, examined.tally.link()), |first| {
            (first.offset, first.link)
        });
    report.cut = Some(Position {
        segment: newest.number,
        offset: cut,
    });
    let previous = Previous {
        kind: PreviousKind::Cut,
        segment: newest.number,
        end: cut,
        digest: link.digest,
    };
    let fresh = next_header(options, header.store, previous, link)?;
    let mut content = fresh.encode().repeat(2);
    let mut tally = Tally::new(&fresh);
    for unproven in tail.iter().filter(|batch| batch.entries > 0) {
        let old = read_batch(header, &newest.bytes, unproven.offset);
        copy_batch(&fresh, &old, &mut content, &mut tally, report)?;
    }
    let end = u32::try_from(content.len()).expect("a part of one segment");
    let ample = end
        .div_ceil(options.fill_bytes)
        .saturating_mul(options.fill_bytes)
        .max(end);
    let create = |filled| segment::create(storage, dir, fresh.segment, &content, filled);
    // On a nearly full disk the copy itself may still fit.
    let (file, filled) = match create(ample) {
        Err(JournalError::NoSpace { .. }) => (create(end)?, end),
        made => (made?, ample),
    };
    Ok(WriterStart {
        file,
        header: fresh,
        tally,
        end,
        filled,
        confirmed: !examined.has_unproven_entries(),
        ending: false,
    })
}

fn read_batch(header: &SegmentHeader, bytes: &[u8], offset: u32) -> Vec<StoredEntry> {
    let at = Position {
        segment: header.segment,
        offset,
    };
    let batch = Batch::parse(&header.key, at, &bytes[offset as usize..], true).expect("examined before");
    batch.entries().map(|entry| entry.to_stored()).collect()
}

fn copy_batch(
    fresh: &SegmentHeader,
    old: &[StoredEntry],
    content: &mut Vec<u8>,
    tally: &mut Tally,
    report: &mut RecoveryReport,
) -> Result<(), JournalError> {
    let begin = content.len();
    let offset = u32::try_from(begin).expect("a part of one segment");
    let at = Position {
        segment: fresh.segment,
        offset,
    };
    let synced_through = Position {
        segment: fresh.previous.segment,
        offset: fresh.previous.end,
    };
    let drafts: Vec<EntryDraft<'_>> = old
        .iter()
        .map(|e| EntryDraft {
            record: &e.record,
            payload: e.payload.as_ref(),
        })
        .collect();
    let (header, digest) = batch::encode(content, &fresh.key, at, tally.link(), synced_through, &drafts);
    tally.note_batch(
        offset,
        &header,
        &content[begin..begin + BATCH_HEADER_BYTES as usize],
        digest,
    );
    let new = Batch::parse(&fresh.key, at, &content[begin..], true)
        .map_err(|fault| JournalError::corrupt(at.segment, at.offset, fault.what()))?;
    for (old, new) in old.iter().zip(new.entries()) {
        tally.note_record(new.record);
        report.moved.push((old.position, new.position));
    }
    Ok(())
}
