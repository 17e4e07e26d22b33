//! Finding receipts: by (log, seq), by id, by subject.
//!
//! An entry holds a position in the journal, never bytes of a payload. New entries stay in memory until the housekeeper
//! moves them into the derived store, sorted and in one batch with the cursor; what a crash loses there is read again from
//! the journal. By time needs no index: within a log times rise, so a binary search over seq finds them.
//!
//! Ids and subjects are kept by the first six bytes of a digest, in sorted runs (`index/sorted.rs`): what is found by them
//! may be another's, and the reader looks. Other rows of the table `index`:
//! `r || LogId (32) || first seq (8 be)` -> positions: a run of records of one log that lie side by side;
//! `e || LogId (32) || seq (8 be) || seal (32)` -> position: a record whose payload is erased, by the receipt at this position.

mod recent;
mod sorted;

pub(crate) use recent::Run;

use crate::derived::{Batch, Derived, Table};
use crate::erase::Erasure;
use crate::error::LedgerError;
use crate::{Position, Receipt};
use ledger_core::kinds::Evidence;
use ledger_core::{LogId, ReceiptId, Subject};
use recent::Recent;
use sorted::Sorted;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Positions that one lookup by subject returns at most before the caller pages on.
pub(crate) const SUBJECT_POSITIONS_MAX: usize = 10_000;

/// A key and where what has it lies.
type Entry = (u64, Position);

// The first six bytes of a digest.
fn key_of(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, ..] = ledger_core::digest::content_digest(bytes).0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn key(prefix: u8, middle: &[u8], last: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + middle.len() + last.len());
    key.push(prefix);
    key.extend_from_slice(middle);
    key.extend_from_slice(last);
    key
}

fn erased_key(record: &Evidence) -> Vec<u8> {
    let place = [record.log.0.as_slice(), &record.seq.to_be_bytes()].concat();
    key(b'e', &place, &record.seal.0)
}

impl Active {
    fn settle(&mut self) {
        self.settled.append(std::mem::take(&mut self.newest));
    }
}

// What is in memory and not on its way into the table.
#[derive(Default)]
struct Active {
    // Everything but the newest batch. Only this may go into the table: until a later batch is durable, recovery may give
    // the newest batch another place.
    settled: Recent,
    newest: Recent,
}

/// The index of one store.
pub(crate) struct Index {
    table: Table,
    ids: Sorted,
    subjects: Sorted,
    active: RwLock<Active>,
    // What the housekeeper is writing right now; still looked at until it is in the table.
    moving: Mutex<Option<Arc<Recent>>>,
    // Most stores never erase anything, and then need not look.
    any_erased: AtomicBool,
}

impl Index {
    pub(crate) fn open(derived: &Derived) -> Result<Self, LedgerError> {
        let table = derived.table("index")?;
        let any_erased = table.prefix(b"e").next().transpose()?.is_some();
        Ok(Self {
            table,
            ids: Sorted::new(b'i'),
            subjects: Sorted::new(b's'),
            active: RwLock::default(),
            moving: Mutex::default(),
            any_erased: AtomicBool::new(any_erased),
        })
    }

    /// Takes up the rows that are there, when their cursor says that they fit.
    ///
    /// # Errors
    /// [`LedgerError::Derived`]; everything is to be made again then.
    pub(crate) fn load(&self) -> Result<(), LedgerError> {
        self.ids.load(&self.table)?;
        self.subjects.load(&self.table)
    }

    pub(crate) fn clear(&self) -> Result<(), LedgerError> {
        *self.active.write().expect("index lock") = Active::default();
        self.ids.clear();
        self.subjects.clear();
        self.table.clear()
    }

    /// Adds the batch that the journal just took; the batch before it is settled now.
    pub(crate) fn add(&self, receipts: &[Receipt], erased: &[Erasure]) {
        let mut newest = Recent::default();
        receipts.iter().for_each(|receipt| newest.add(receipt));
        for erasure in erased {
            newest.erased.entry(erasure.record).or_insert(erasure.by);
        }
        let mut active = self.active.write().expect("index lock");
        active.settle();
        active.newest = newest;
        if !erased.is_empty() {
            self.any_erased.store(true, Ordering::Release);
        }
    }

    /// Where the receipt stands that erased a record's payload.
    pub(crate) fn erased_by(&self, record: &Evidence) -> Result<Option<Position>, LedgerError> {
        if !self.any_erased.load(Ordering::Acquire) {
            return Ok(None);
        }
        let memory = self.memory(|recent| recent.erased.get(record).copied());
        let row = self.table.get(&erased_key(record))?;
        let row = row.and_then(|bytes| bytes.try_into().ok().map(Position::from_be_bytes));
        Ok(memory.into_iter().flatten().chain(row).min())
    }

    /// Settles the newest batch as well, when the journal proved it durable.
    pub(crate) fn settle(&self) {
        self.active.write().expect("index lock").settle();
    }

    /// Takes everything that is settled on its way into the table. The caller sees to it that the rows' cursor stands where
    /// this does: not a batch may settle in between.
    pub(crate) fn begin_move(&self) {
        let mut moving = self.moving.lock().expect("index lock");
        let settled = std::mem::take(&mut self.active.write().expect("index lock").settled);
        assert!(
            moving.is_none(),
            "what moves is written before anything else moves"
        );
        *moving = Some(Arc::new(settled));
    }

    /// Puts what is on its way into a batch; again after a batch that failed. [`Index::moved`] follows when it is committed.
    pub(crate) fn put_moving(&self, batch: &mut Batch) {
        let moving = self.moving.lock().expect("index lock").clone();
        let Some(recent) = moving else { return };
        self.ids.put(&self.table, batch, recent.ids());
        self.subjects.put(&self.table, batch, recent.subjects());
        for (log, first, positions) in recent.runs() {
            let key = key(b'r', &log.0, &first.to_be_bytes());
            batch.put(&self.table, &key, &encode_run(&positions));
        }
        for (record, by) in &recent.erased {
            batch.put(&self.table, &erased_key(record), &by.to_be_bytes());
        }
    }

    pub(crate) fn moved(&self) {
        self.ids.committed();
        self.subjects.committed();
        *self.moving.lock().expect("index lock") = None;
    }

    // Looks at what is only in memory. Entries go from `active` over `moving` into the table; looking in that order
    // misses none that moves meanwhile, and may see one twice.
    fn memory<T>(&self, mut look: impl FnMut(&Recent) -> T) -> Vec<T> {
        let mut found = {
            let active = self.active.read().expect("index lock");
            vec![look(&active.newest), look(&active.settled)]
        };
        let moving = self.moving.lock().expect("index lock").clone();
        found.extend(moving.iter().map(|recent| look(recent)));
        found
    }

    /// Positions of the receipts with an id, oldest first (others of the same digest may be among them).
    pub(crate) fn by_id(&self, id: &ReceiptId) -> Result<Vec<Position>, LedgerError> {
        let memory = self.memory(|recent| recent.by_id(id));
        let rows = self.ids.find(&self.table, key_of(&id.0), usize::MAX)?;
        Ok(in_order(rows, memory))
    }

    /// Positions of the receipts about a subject, oldest first (other subjects of the same digest may be among them).
    /// `limit`: how many of the table's are wanted.
    pub(crate) fn by_subject(&self, subject: &Subject, limit: usize) -> Result<Vec<Position>, LedgerError> {
        let memory = self.memory(|recent| recent.by_subject(subject));
        let key = key_of(subject.as_str().as_bytes());
        let rows = self.subjects.find(&self.table, key, limit)?;
        Ok(in_order(rows, memory))
    }

    /// The run that holds a seq of a log, if the store has it.
    pub(crate) fn run_at(&self, log: &LogId, seq: u64) -> Result<Option<Run>, LedgerError> {
        let holds = |run: &Run| seq - run.first < u64::from(run.count);
        if let Some(run) = self
            .memory(|recent| recent.run_at(log, seq))
            .into_iter()
            .flatten()
            .find(holds)
        {
            return Ok(Some(run));
        }
        let (low, high) = (key(b'r', &log.0, &[0; 8]), key(b'r', &log.0, &seq.to_be_bytes()));
        let Some(row) = self.table.range(low..=high).next_back() else {
            return Ok(None);
        };
        let (key, value) = row?;
        let first = key[33..].try_into().map(u64::from_be_bytes);
        let run = first.ok().and_then(|first| decode_run(&value, first, seq));
        run.map(|run| Some(run).filter(holds))
            .ok_or_else(|| LedgerError::Derived {
                what: "reading the index",
                why: "a row has the wrong length".into(),
            })
    }
}

// The first position, the count (u32 be), and for each further record how far behind the one before it begins (LEB128); 0
// before a position in another segment.
fn encode_run(positions: &[Position]) -> Vec<u8> {
    let mut bytes = positions[0].to_be_bytes().to_vec();
    let count = u32::try_from(positions.len()).expect("a run is short");
    bytes.extend_from_slice(&count.to_be_bytes());
    for pair in positions.windows(2) {
        let (before, next) = (pair[0], pair[1]);
        if before.segment != next.segment || next.offset <= before.offset {
            bytes.push(0);
            bytes.extend_from_slice(&next.to_be_bytes());
            continue;
        }
        let mut step = next.offset - before.offset;
        while step >= 0x80 {
            bytes.push(step.to_le_bytes()[0] | 0x80);
            step >>= 7;
        }
        bytes.push(step.to_le_bytes()[0]);
    }
    bytes
}

fn decode_run(bytes: &[u8], first: u64, seq: u64) -> Option<Run> {
    let (position, rest) = bytes.split_first_chunk()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let (position, count) = (Position::from_be_bytes(*position), u32::from_be_bytes(*count));
    let mut wanted = position;
    // Of a run that ends before it, nothing is wanted.
    for _ in 0..seq
        .checked_sub(first)
        .filter(|n| *n < u64::from(count))
        .unwrap_or(0)
    {
        let (mut step, mut shift) = (0_u32, 0);
        loop {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            step |= u32::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if step == 0 {
            let (next, behind) = rest.split_first_chunk()?;
            (wanted, rest) = (Position::from_be_bytes(*next), behind);
        } else {
            wanted.offset = wanted.offset.checked_add(step)?;
        }
    }
    Some(Run {
        first,
        position,
        count,
        wanted,
    })
}

fn in_order(mut found: Vec<Position>, memory: Vec<Vec<Position>>) -> Vec<Position> {
    found.extend(memory.into_iter().flatten());
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_tells_where_each_of_its_records_lies(
            steps in prop::collection::vec((1_u32..3_000_000, prop::bool::weighted(0.1)), 0..60),
            first in 0_u64..1000,
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut positions = vec![Position { segment: 1, offset: 7 }];
            for (step, turns) in steps {
                let last = positions[positions.len() - 1];
                let (segment, from) = if turns { (last.segment + 1, 0) } else { (last.segment, last.offset) };
                positions.push(Position { segment, offset: from + step });
            }
            let bytes = encode_run(&positions);
            for (seq, position) in (first..).zip(&positions) {
                let run = decode_run(&bytes, first, seq).unwrap();
                prop_assert_eq!((run.wanted, run.position), (*position, positions[0]));
                prop_assert_eq!(run.count as usize, positions.len());
            }
            // Whatever stands in a row, reading it ends.
            decode_run(&noise, first, first + 9);
        }
    }
}
