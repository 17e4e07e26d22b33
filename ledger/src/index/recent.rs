//! Entries that are in memory alone. Adding one is a push; what finds them is built when somebody looks, up to where it
//! was not built yet.

use super::{Entry, key_of};
use crate::{Position, Receipt};
use ledger_core::kinds::Evidence;
use ledger_core::{LogId, ReceiptId, Subject};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

/// Records in one run at most, so that finding one of them reads a bounded piece of the journal.
const RUN_RECORDS_MAX: u32 = 256;
/// No entry.
const NONE: u32 = u32::MAX;

/// Records of one log that lie side by side in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The seq of its first record.
    pub(crate) first: u64,
    /// Where that record lies.
    pub(crate) position: Position,
    /// How many records it has.
    pub(crate) count: u32,
    /// Where the record lies that was asked for, if the run holds it.
    pub(crate) wanted: Position,
}

// One receipt.
#[derive(Clone, Copy)]
struct Known {
    id: u64,
    // None for the empty subject, by which nobody looks.
    subject: Option<u64>,
    seq: u64,
    position: Position,
    // Its place in `logs`.
    log: u32,
}

/// Entries that are not in the derived store yet.
#[derive(Default)]
pub(super) struct Recent {
    known: Vec<Known>,
    logs: Vec<LogId>,
    pub(super) erased: HashMap<Evidence, Position>,
    lookup: Mutex<Lookup>,
}

// Keys are digests already.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, key: u64) {
        // The map takes its buckets from the low bits and its tags from the high ones, where a key has none.
        self.0 = key ^ (key << 16);
    }
}

type Newest = HashMap<u64, u32, BuildHasherDefault<Itself>>;

#[derive(Default)]
struct Lookup {
    ids: Newest,
    subjects: Newest,
    // For each entry: the one before it with the same id, and with the same subject.
    before: Vec<(u32, u32)>,
    // By log and first seq: the place of the first record in `known`, and how many follow each other there.
    runs: HashMap<u32, BTreeMap<u64, (usize, u32)>>,
    open: Option<Open>,
}

// The run that the next record may lengthen.
struct Open {
    log: u32,
    first: u64,
    next: u64,
    at: usize,
    count: u32,
}

impl Open {
    fn begin(at: usize, known: &Known) -> Self {
        Self {
            at,
            log: known.log,
            first: known.seq,
            next: known.seq + 1,
            count: 1,
        }
    }

    fn takes(&mut self, known: &Known) -> bool {
        let takes = self.log == known.log && self.next == known.seq && self.count < RUN_RECORDS_MAX;
        if takes {
            self.next += 1;
            self.count += 1;
        }
        takes
    }
}

impl Lookup {
    fn catch_up(&mut self, known: &[Known]) {
        for known in known.iter().skip(self.before.len()) {
            let at = u32::try_from(self.before.len()).expect("far fewer entries are in memory");
            let id = self.ids.insert(known.id, at).unwrap_or(NONE);
            let subject = known.subject.and_then(|key| self.subjects.insert(key, at));
            self.before.push((id, subject.unwrap_or(NONE)));
            if !self.open.as_mut().is_some_and(|open| open.takes(known)) {
                self.open = Some(Open::begin(at as usize, known));
            }
            let Some(open) = &self.open else { continue };
            let runs = self.runs.entry(open.log).or_default();
            runs.insert(open.first, (open.at, open.count));
        }
    }

    fn chain(&self, newest: Option<u32>, before: impl Fn(&(u32, u32)) -> u32) -> impl Iterator<Item = usize> {
        let first = newest.unwrap_or(NONE);
        let next = move |at: &u32| self.before.get(*at as usize).map(&before);
        std::iter::successors(Some(first), next)
            .take_while(|at| *at != NONE)
            .map(|at| at as usize)
    }
}

impl Recent {
    pub(super) fn add(&mut self, receipt: &Receipt) {
        let subject = receipt.statement().subject.as_str();
        let log = self.number(&receipt.log());
        self.known.push(Known {
            id: key_of(&receipt.id().0),
            subject: (!subject.is_empty()).then(|| key_of(subject.as_bytes())),
            seq: receipt.seq(),
            position: receipt.position,
            log,
        });
    }

    /// Takes over what the other has, which is newer.
    pub(super) fn append(&mut self, newer: Recent) {
        let numbers: Vec<u32> = newer.logs.iter().map(|log| self.number(log)).collect();
        self.known.extend(newer.known.iter().map(|known| Known {
            log: numbers[known.log as usize],
            ..*known
        }));
        // The first that says it is the one that counts.
        for (record, by) in newer.erased {
            self.erased.entry(record).or_insert(by);
        }
    }

    fn number(&mut self, log: &LogId) -> u32 {
        let at = self
            .logs
            .iter()
            .position(|known| known == log)
            .unwrap_or_else(|| {
                self.logs.push(*log);
                self.logs.len() - 1
            });
        u32::try_from(at).expect("a store has far fewer logs")
    }

    fn lookup<T>(&self, look: impl FnOnce(&Lookup) -> T) -> T {
        let mut lookup = self.lookup.lock().expect("index lock");
        lookup.catch_up(&self.known);
        look(&lookup)
    }

    /// Positions of what has this id.
    pub(super) fn by_id(&self, id: &ReceiptId) -> Vec<Position> {
        let key = key_of(&id.0);
        self.lookup(|lookup| {
            let found = lookup.chain(lookup.ids.get(&key).copied(), |before| before.0);
            found.map(|at| self.known[at].position).collect()
        })
    }

    /// Positions of what has this subject.
    pub(super) fn by_subject(&self, subject: &Subject) -> Vec<Position> {
        let key = key_of(subject.as_str().as_bytes());
        self.lookup(|lookup| {
            let found = lookup.chain(lookup.subjects.get(&key).copied(), |before| before.1);
            found.map(|at| self.known[at].position).collect()
        })
    }

    /// The run before or at a seq.
    pub(super) fn run_at(&self, log: &LogId, seq: u64) -> Option<Run> {
        let log = self.logs.iter().position(|known| known == log)?;
        self.lookup(|lookup| {
            let runs = lookup.runs.get(&u32::try_from(log).ok()?)?;
            let (first, (at, count)) = runs.range(..=seq).next_back()?;
            let run = &self.known[*at..][..*count as usize];
            let wanted = usize::try_from(seq - first).ok().and_then(|n| run.get(n));
            Some(Run {
                first: *first,
                position: run[0].position,
                count: *count,
                wanted: wanted.unwrap_or(&run[0]).position,
            })
        })
    }

    /// Ids with their positions.
    pub(super) fn ids(&self) -> Vec<Entry> {
        self.known.iter().map(|k| (k.id, k.position)).collect()
    }

    /// Subjects with their positions.
    pub(super) fn subjects(&self) -> Vec<Entry> {
        let subject = |k: &Known| Some((k.subject?, k.position));
        self.known.iter().filter_map(subject).collect()
    }

    /// All runs: log, first seq, and where each record lies.
    pub(super) fn runs(&self) -> Vec<(LogId, u64, Vec<Position>)> {
        let mut runs: Vec<Open> = Vec::new();
        for (at, known) in self.known.iter().enumerate() {
            if !runs.last_mut().is_some_and(|open| open.takes(known)) {
                runs.push(Open::begin(at, known));
            }
        }
        let run = |open: Open| {
            let known = &self.known[open.at..][..open.count as usize];
            let positions = known.iter().map(|known| known.position).collect();
            (self.logs[open.log as usize], open.first, positions)
        };
        runs.into_iter().map(run).collect()
    }
}
