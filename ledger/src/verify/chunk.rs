//! A block of entries that are sound by themselves, checked in place: each record is taken apart and hashed where it was read,
//! and what follows upon each other in a log becomes a run, whose border alone is compared with the log.
//!
//! Contract: a chunk is made only of entries about which [`super::entry`] would find nothing; whether it fits the logs,
//! [`super::check`] tells. Anything else goes the careful way, which alone says what is wrong.

use super::check::HEARD;
use crate::Position;
use crate::journal::batch::{EntryView, record_in};
use crate::journal::blocks::Block;
use crate::journal::footer::{Tally, Zone};
use ledger_core::chain::Run;
use ledger_core::record::RecordRef;
use ledger_core::{LogId, Record, SealDigest, Signature, tree};

/// Logs in one chunk at most that are kept in order of their first record; more make it go the careful way.
const PARTS_MAX: usize = 64;

/// See the module.
pub(super) struct Chunk {
    pub(super) block: Block,
    pub(super) parts: Vec<Part>,
    /// Records that a verification listens to: what they say of others.
    pub(super) heard: Vec<(Position, Record)>,
    /// Every record, when somebody judges them all.
    pub(super) judged: Vec<(Position, Record)>,
    kinds: Vec<String>,
}

/// What a chunk holds of one log.
pub(super) struct Part {
    /// Taken out when it is taken in.
    pub(super) run: Option<Run>,
    pub(super) payloads: u64,
    /// Of each record, when signatures are checked: where its entry begins, and what was signed.
    pub(super) at: Vec<u32>,
    pub(super) signatures: Vec<(SealDigest, Signature)>,
    /// Where the entries begin that have a signature of their author.
    pub(super) authored: Vec<u32>,
}

/// What is to be kept of each record.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    pub(super) signatures: bool,
    pub(super) records: bool,
}

/// A block that is no chunk.
pub(super) enum Doubtful {
    /// Its batches are sound, but not every entry.
    Entries(Block),
    /// A batch is not sound.
    Batches(Block),
}

impl Chunk {
    /// Checks a block.
    pub(super) fn of(block: Block, keep: Keep) -> Result<Self, Doubtful> {
        let mut made = Making {
            keep,
            parts: Vec::new(),
            heard: Vec::new(),
            judged: Vec::new(),
            kinds: Vec::new(),
        };
        match made.take_all(&block) {
            Some(true) => {}
            Some(false) => return Err(Doubtful::Entries(block)),
            None => return Err(Doubtful::Batches(block)),
        }
        let Making {
            parts,
            heard,
            judged,
            kinds,
            ..
        } = made;
        Ok(Self {
            block,
            parts,
            heard,
            judged,
            kinds,
        })
    }

    /// Notes what it holds for its segment's footer.
    pub(super) fn tally(&self, tally: &mut Tally) {
        self.block.tally(tally);
        for run in self.parts.iter().filter_map(|part| part.run.as_ref()) {
            let (first_time, last_time) = run.times();
            let zone = Zone {
                records: u64::try_from(run.records().len()).unwrap_or(u64::MAX),
                first_seq: run.first_seq(),
                last_seq: run.last_seq(),
                first_time,
                last_time,
            };
            tally.note_zone(run.log(), &zone);
        }
        self.kinds.iter().for_each(|kind| tally.note_kind(kind));
    }

    /// The record whose entry begins at an offset of the segment.
    pub(super) fn record_at(&self, at: u32) -> Option<(Position, Record)> {
        let record = record_in(self.block.bytes_at(at))?;
        let position = Position {
            segment: self.block.segment(),
            offset: at,
        };
        Some((position, Record::parse(record).ok()?))
    }
}

struct Making {
    keep: Keep,
    parts: Vec<Part>,
    heard: Vec<(Position, Record)>,
    judged: Vec<(Position, Record)>,
    kinds: Vec<String>,
}

impl Making {
    // Takes every entry; false when one must go the careful way, `None` when a batch is not sound.
    fn take_all(&mut self, block: &Block) -> Option<bool> {
        let mut sound = true;
        for batch in block.batches() {
            let batch = batch.ok()?;
            let mut entries = 0;
            for entry in batch.entries() {
                sound = sound && self.take(&entry).is_some();
                entries += 1;
            }
            // Something was pruned from it.
            (entries == batch.header.entries).then_some(())?;
        }
        Some(sound)
    }

    // Takes the next entry; `None` when it must go the careful way.
    fn take(&mut self, entry: &EntryView<'_>) -> Option<()> {
        let record = RecordRef::read(entry.record)?;
        // A genesis begins a log, which is more than following one.
        if record.seal.seq == 0 || !record.is_bound() {
            return None;
        }
        let has_payload = match (&record.statement.payload, entry.payload) {
            (None, None) if entry.header.payload_bytes == 0 => false,
            (Some(wanted), Some(salted)) if wanted.is_matched_by(salted) => true,
            _ => return None,
        };
        let (leaf, seal) = (tree::leaf_hash(entry.record), record.seal_digest());
        let part = match self.find(&record.seal.log) {
            Some(index) => {
                let part = &mut self.parts[index];
                part.run.as_mut()?.push(&record, leaf, seal).then_some(())?;
                part
            }
            None if self.parts.len() == PARTS_MAX => return None,
            None => {
                self.parts.push(Part {
                    run: Some(Run::begin(&record, leaf, seal)),
                    payloads: 0,
                    at: Vec::new(),
                    signatures: Vec::new(),
                    authored: Vec::new(),
                });
                self.parts.last_mut()?
            }
        };
        part.payloads += u64::from(has_payload);
        if self.keep.signatures {
            part.at.push(entry.position.offset);
            part.signatures.push((seal, Signature(*record.log_signature)));
            if record.author_signature.is_some() {
                part.authored.push(entry.position.offset);
            }
        }
        let kind = record.statement.kind;
        if self.kinds.last().is_none_or(|last| last != kind) && !self.kinds.iter().any(|k| k == kind) {
            self.kinds.push(kind.to_owned());
        }
        if HEARD.contains(&kind) {
            self.heard.push((entry.position, record.to_record()?));
        }
        if self.keep.records {
            self.judged.push((entry.position, record.to_record()?));
        }
        Some(())
    }

    fn find(&self, log: &LogId) -> Option<usize> {
        // What comes next is mostly of the log that came last.
        let is = |part: &Part| part.run.as_ref().is_some_and(|run| run.log() == *log);
        let last = self.parts.len().checked_sub(1)?;
        if is(&self.parts[last]) {
            return Some(last);
        }
        self.parts.iter().position(is)
    }
}
