//! A block of entries that are sound by themselves, checked in place: each record is taken apart and hashed where it was read,
//! and what follows upon each other in a log becomes a run, whose border alone is compared with the log.
//!
//! Contract: a chunk is made only of entries about which [`super::entry`] would find nothing; whether it fits the logs,
//! [`super::check`] tells. Anything else goes the careful way, which alone says what is wrong.

use super::check::HEARD;
use super::scope::{Duty, Scope};
use crate::Position;
use crate::journal::batch::{EntryView, record_in};
use crate::journal::blocks::Block;
use crate::journal::footer::{Tally, Zone};
use crate::journal::format::SALT_BYTES;
use ledger_core::chain::Run;
use ledger_core::record::RecordRef;
use ledger_core::{LogId, Record, SealDigest, Signature, digest, tree};

/// Logs in one chunk at most that are kept in order of their first record; more make it go the careful way.
const PARTS_MAX: usize = 64;

/// Entries that are hashed together: their fields fit a near cache.
const GROUP_ENTRIES: usize = 256;

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
    /// Records whose signatures somebody asked for, here or in an earlier run.
    pub(super) in_range: u64,
    /// Of them, those that an earlier run checked, and those of them with a signature of their author.
    pub(super) covered: u64,
    pub(super) covered_authored: u64,
    /// Records that lie where an earlier run was.
    pub(super) before: u64,
}

/// What is to be kept of each record.
#[derive(Clone, Copy)]
pub(super) struct Keep<'a> {
    pub(super) scope: &'a Scope,
    pub(super) records: bool,
}

/// A block that is no chunk.
pub(super) enum Doubtful {
    /// Its batches are sound, but not every entry.
    Entries(Box<Block>),
    /// A batch is not sound.
    Batches(Box<Block>),
}

impl Chunk {
    /// Checks a block.
    pub(super) fn of(block: Block, keep: Keep<'_>) -> Result<Self, Doubtful> {
        let mut made = Making {
            keep,
            parts: Vec::new(),
            heard: Vec::new(),
            judged: Vec::new(),
            kinds: Vec::new(),
        };
        match made.take_all(&block) {
            Some(true) => {}
            Some(false) => return Err(Doubtful::Entries(Box::new(block))),
            None => return Err(Doubtful::Batches(Box::new(block))),
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

struct Making<'k> {
    keep: Keep<'k>,
    parts: Vec<Part>,
    heard: Vec<(Position, Record)>,
    judged: Vec<(Position, Record)>,
    kinds: Vec<String>,
}

// An entry that was taken apart and is still to be hashed.
struct Read<'a> {
    position: Position,
    record: RecordRef<'a>,
    salted: Option<&'a [u8]>,
}

impl Making<'_> {
    // Takes every entry; false when one must go the careful way, `None` when a batch is not sound.
    fn take_all(&mut self, block: &Block) -> Option<bool> {
        let mut sound = true;
        let mut group: Vec<Read<'_>> = Vec::with_capacity(GROUP_ENTRIES);
        for batch in block.batches() {
            let batch = batch.ok()?;
            let mut entries = 0;
            for entry in batch.entries() {
                entries += 1;
                match read(&entry).filter(|_| sound) {
                    Some(read) => group.push(read),
                    None => sound = false,
                }
                if group.len() == GROUP_ENTRIES {
                    sound = sound && self.take_group(&group).is_some();
                    group.clear();
                }
            }
            // Something was pruned from it.
            (entries == batch.header.entries).then_some(())?;
        }
        Some(sound && self.take_group(&group).is_some())
    }

    // Hashes some entries together and takes them; `None` when one must go the careful way.
    fn take_group(&mut self, group: &[Read<'_>]) -> Option<()> {
        let of = |part: for<'a> fn(&Read<'a>) -> &'a [u8]| group.iter().map(part).collect::<Vec<_>>();
        let statements = digest::statement_digests(&of(|read| read.record.statement_bytes));
        let seals = digest::seal_digests(&of(|read| read.record.seal_bytes));
        let salted: Vec<&[u8]> = group.iter().filter_map(|read| read.salted).collect();
        let mut commitments = digest::commitments(&salted).into_iter();
        for ((read, statement), seal) in group.iter().zip(statements).zip(seals) {
            let wanted = read.record.statement.payload.map(|wanted| wanted.commitment);
            // There is a payload if and only if one is wanted.
            let fits = wanted == read.salted.and_then(|_| commitments.next());
            if read.record.seal.statement != statement || !fits {
                return None;
            }
            self.take(read, seal)?;
        }
        Some(())
    }

    // Takes the next entry; `None` when it must go the careful way.
    fn take(&mut self, read: &Read<'_>, seal: SealDigest) -> Option<()> {
        let (record, position) = (&read.record, read.position);
        let leaf = tree::leaf_hash(record.bytes);
        let part = match self.find(&record.seal.log) {
            Some(index) => {
                let part = &mut self.parts[index];
                part.run.as_mut()?.push(record, leaf, seal).then_some(())?;
                part
            }
            None if self.parts.len() == PARTS_MAX => return None,
            None => {
                self.parts.push(Part {
                    run: Some(Run::begin(record, leaf, seal)),
                    payloads: 0,
                    at: Vec::new(),
                    signatures: Vec::new(),
                    authored: Vec::new(),
                    in_range: 0,
                    covered: 0,
                    covered_authored: 0,
                    before: 0,
                });
                self.parts.last_mut()?
            }
        };
        part.payloads += u64::from(read.salted.is_some());
        let authored = record.author_signature.is_some();
        let duty = self.keep.scope.duty(position, record.seal.seq, record.seal.time);
        part.before += u64::from(self.keep.scope.is_before(position));
        part.in_range += u64::from(duty != Duty::Outside);
        match duty {
            Duty::Check => {
                part.at.push(position.offset);
                part.signatures.push((seal, Signature(*record.log_signature)));
                if authored {
                    part.authored.push(position.offset);
                }
            }
            Duty::Covered => {
                part.covered += 1;
                part.covered_authored += u64::from(authored);
            }
            Duty::Outside => {}
        }
        let kind = record.statement.kind;
        if self.kinds.last().is_none_or(|last| last != kind) && !self.kinds.iter().any(|k| k == kind) {
            self.kinds.push(kind.to_owned());
        }
        if HEARD.contains(&kind) {
            self.heard.push((position, record.to_record()?));
        }
        if self.keep.records {
            self.judged.push((position, record.to_record()?));
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

// Takes an entry apart; `None` when it must go the careful way. A genesis begins a log, which is more than following one.
fn read<'a>(entry: &EntryView<'a>) -> Option<Read<'a>> {
    let record = RecordRef::read(entry.record).filter(|record| record.seal.seq > 0)?;
    let payload_bytes = record
        .statement
        .payload
        .map_or(0, |wanted| SALT_BYTES.saturating_add(wanted.bytes));
    let has = entry.payload.is_some() == record.statement.payload.is_some();
    (has && entry.header.payload_bytes == payload_bytes).then_some(Read {
        position: entry.position,
        record,
        salted: entry.payload,
    })
}
