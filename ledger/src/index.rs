//! Finding receipts: by (log, seq), by id, by subject.
//!
//! An entry holds a position in the journal, never bytes of a payload. New entries stay in memory until the housekeeper
//! moves them into the derived store, sorted and in one batch with the cursor; what a crash loses there is read again from
//! the journal. By time needs no index: within a log times rise, so a binary search over seq finds them.
//!
//! Rows of the table `index`: `i || id (16) || position (8)`; `s || subject's digest (8) || position (8)`;
//! `r || LogId (32) || first seq (8 be)` -> position, count: a run of records of one log that lie side by side;
//! `e || LogId (32) || seq (8 be) || seal (32)` -> position: a record whose payload is erased, by the receipt at this position.

use crate::derived::{Batch, Derived, Table};
use crate::erase::Erasure;
use crate::error::LedgerError;
use crate::{Position, Receipt};
use ledger_core::kinds::Evidence;
use ledger_core::{LogId, ReceiptId, Subject};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Records in one run at most, so that finding one of them reads a bounded piece of the journal.
const RUN_RECORDS_MAX: u32 = 256;
/// Positions that one lookup by subject returns at most before the caller pages on.
pub(crate) const SUBJECT_POSITIONS_MAX: usize = 10_000;

/// Records of one log that lie side by side in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The seq of its first record.
    pub(crate) first: u64,
    /// Where that record lies.
    pub(crate) position: Position,
    /// How many records it has.
    pub(crate) count: u32,
}

/// Entries that are not in the derived store yet.
#[derive(Default)]
pub(crate) struct Recent {
    ids: HashMap<ReceiptId, Vec<Position>>,
    subjects: HashMap<[u8; 8], Vec<Position>>,
    runs: HashMap<LogId, BTreeMap<u64, (Position, u32)>>,
    erased: HashMap<Evidence, Position>,
    // The run that the next record may lengthen.
    open_run: Option<(LogId, u64, u64)>,
    entries: usize,
}

impl Recent {
    fn add(&mut self, receipt: &Receipt) {
        let (log, seq, position) = (receipt.log(), receipt.seq(), receipt.position);
        self.ids.entry(receipt.id()).or_default().push(position);
        let subject = &receipt.statement().subject;
        if !subject.as_str().is_empty() {
            self.subjects
                .entry(subject_digest(subject))
                .or_default()
                .push(position);
        }
        self.entries += 1;
        let runs = self.runs.entry(log).or_default();
        if let Some((open_log, first, next)) = &mut self.open_run
            && *open_log == log
            && *next == seq
            && let Some((_, count)) = runs.get_mut(first)
            && *count < RUN_RECORDS_MAX
        {
            *count += 1;
            *next += 1;
            return;
        }
        runs.insert(seq, (position, 1));
        self.open_run = Some((log, seq, seq + 1));
    }

    fn run_at(&self, log: &LogId, seq: u64) -> Option<Run> {
        let (first, (position, count)) = self.runs.get(log)?.range(..=seq).next_back()?;
        Some(Run {
            first: *first,
            position: *position,
            count: *count,
        })
    }

    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::with_capacity(self.entries * 2 + self.runs.len());
        for (id, positions) in &self.ids {
            rows.extend(
                positions
                    .iter()
                    .map(|p| (key(b'i', &id.0, &p.to_be_bytes()), Vec::new())),
            );
        }
        for (subject, positions) in &self.subjects {
            rows.extend(
                positions
                    .iter()
                    .map(|p| (key(b's', subject, &p.to_be_bytes()), Vec::new())),
            );
        }
        for (log, runs) in &self.runs {
            rows.extend(runs.iter().map(|(first, (position, count))| {
                let mut value = position.to_be_bytes().to_vec();
                value.extend_from_slice(&count.to_be_bytes());
                (key(b'r', &log.0, &first.to_be_bytes()), value)
            }));
        }
        rows.extend(
            self.erased
                .iter()
                .map(|(record, by)| (erased_key(record), by.to_be_bytes().to_vec())),
        );
        rows.sort_unstable();
        rows
    }
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

fn subject_digest(subject: &Subject) -> [u8; 8] {
    let hash = ledger_core::digest::content_digest(subject.as_str().as_bytes());
    hash.0[..8].try_into().expect("eight of 32 bytes")
}

fn last_position(key: &[u8]) -> Option<Position> {
    let bytes: [u8; 8] = key[key.len().checked_sub(8)?..].try_into().ok()?;
    Some(Position::from_be_bytes(bytes))
}

impl Active {
    fn settle(&mut self) {
        for receipt in std::mem::take(&mut self.newest_receipts) {
            self.settled.add(&receipt);
        }
        // The first that says it is the one that counts.
        for (record, by) in std::mem::take(&mut self.newest.erased) {
            self.settled.erased.entry(record).or_insert(by);
        }
        self.newest = Recent::default();
    }
}

// What is in memory and not on its way into the table.
#[derive(Default)]
struct Active {
    // Everything but the newest batch. Only this may go into the table: until a later batch is durable, recovery may give
    // the newest batch another place.
    settled: Recent,
    newest: Recent,
    newest_receipts: Vec<Receipt>,
}

/// The index of one store.
pub(crate) struct Index {
    table: Table,
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
            active: RwLock::default(),
            moving: Mutex::default(),
            any_erased: AtomicBool::new(any_erased),
        })
    }

    pub(crate) fn clear(&self) -> Result<(), LedgerError> {
        *self.active.write().expect("index lock") = Active::default();
        self.table.clear()
    }

    /// Adds the batch that the journal just took; the batch before it is settled now.
    pub(crate) fn add(&self, receipts: Vec<Receipt>, erased: &[Erasure]) {
        let mut active = self.active.write().expect("index lock");
        active.settle();
        receipts.iter().for_each(|receipt| active.newest.add(receipt));
        active.newest_receipts = receipts;
        for erasure in erased {
            active.newest.erased.entry(erasure.record).or_insert(erasure.by);
        }
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
        if let Some(recent) = &*self.moving.lock().expect("index lock") {
            for (key, value) in recent.rows() {
                batch.put(&self.table, &key, &value);
            }
        }
    }

    pub(crate) fn moved(&self) {
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

    /// Positions of the receipts with an id, oldest first.
    pub(crate) fn by_id(&self, id: &ReceiptId) -> Result<Vec<Position>, LedgerError> {
        let memory = self.memory(|recent| recent.ids.get(id).cloned().unwrap_or_default());
        self.positions(key(b'i', &id.0, &[]), memory)
    }

    /// Positions of the receipts about a subject, oldest first (other subjects of the same digest may be among them).
    pub(crate) fn by_subject(&self, subject: &Subject) -> Result<Vec<Position>, LedgerError> {
        let digest = subject_digest(subject);
        let memory = self.memory(|recent| recent.subjects.get(&digest).cloned().unwrap_or_default());
        self.positions(key(b's', &digest, &[]), memory)
    }

    fn positions(&self, prefix: Vec<u8>, memory: Vec<Vec<Position>>) -> Result<Vec<Position>, LedgerError> {
        let mut found = Vec::new();
        for row in self.table.prefix(&prefix).take(SUBJECT_POSITIONS_MAX) {
            found.extend(last_position(&row?.0));
        }
        found.extend(memory.into_iter().flatten());
        found.sort_unstable();
        found.dedup();
        Ok(found)
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
        let (position, count) = value.split_at_checked(8).unwrap_or_default();
        match (first, position.try_into(), count.try_into()) {
            (Ok(first), Ok(position), Ok(count)) => {
                let run = Run {
                    first,
                    position: Position::from_be_bytes(position),
                    count: u32::from_be_bytes(count),
                };
                Ok(Some(run).filter(holds))
            }
            _ => Err(LedgerError::Derived {
                what: "reading the index",
                why: "a row has the wrong length".into(),
            }),
        }
    }
}
