//! Sorted runs of (key, position): what a move brings is written as blocks of many entries, not as rows of one.
//!
//! A run never changes. When eight of about the same length stand behind each other, they are merged into one, until that
//! is full: so there are few small ones, and each entry is written few times. In memory are, for each run, the first key of every block
//! and a filter that tells most runs apart without reading.
//!
//! Rows: `h || family || number (4 be)` -> a run's head; `b || family || number || block (4 be)` -> its entries;
//! `d || family || number` -> how many blocks a run had that was merged. Its blocks go with the next batch, since somebody
//! may be reading them.

use super::Entry;
use crate::Position;
use crate::derived::{Batch, Table};
use crate::error::LedgerError;
use std::sync::{Arc, Mutex, RwLock};

/// Entries from which on a run is merged no more.
const FULL_ENTRIES: usize = 65_536;
/// Runs of one level that stand behind each other before the next makes one of them. A level is a factor of eight in length.
const RUNS_A_LEVEL: usize = 7;
/// Entries in one block: 3.5 KiB.
const BLOCK_ENTRIES: usize = BLOCK_ENTRIES_U32 as usize;
const BLOCK_ENTRIES_U32: u32 = 256;
/// Bytes of a key: a digest's first.
const KEY_BYTES: usize = 6;
const ENTRY_BYTES: usize = KEY_BYTES + 8;
/// Entries for each word of a filter: 10.7 bits each.
const ENTRIES_A_WORD: usize = 6;
/// Lists of runs that a lookup tries, when those it reads are merged meanwhile.
const ATTEMPTS: usize = 4;

#[derive(Debug)]
struct Run {
    number: u32,
    count: u32,
    // The first key of each block.
    fences: Vec<u64>,
    filter: Vec<u64>,
}

type List = Arc<Vec<Arc<Run>>>;

/// The runs of one family of keys.
pub(super) struct Sorted {
    family: u8,
    runs: RwLock<List>,
    // What is there when the batch is committed: the runs, and those merged by it.
    planned: Mutex<Option<(List, Vec<Arc<Run>>)>>,
    // Runs merged before, with their blocks.
    doomed: Mutex<Vec<(u32, u32)>>,
}

impl Sorted {
    /// Reads what is there.
    ///
    /// # Errors
    /// [`LedgerError::Derived`], also when a row is not as it should be.
    pub(super) fn load(&self, table: &Table) -> Result<(), LedgerError> {
        let mut runs = Vec::new();
        for row in table.prefix(&[b'h', self.family]) {
            let (key, value) = row?;
            let run = number_in(&key).and_then(|number| Run::decode(number, &value));
            runs.push(Arc::new(run.ok_or_else(misshapen)?));
        }
        let mut doomed = Vec::new();
        for row in table.prefix(&[b'd', self.family]) {
            let (key, value) = row?;
            let blocks = value.try_into().ok().map(u32::from_be_bytes);
            doomed.push(number_in(&key).zip(blocks).ok_or_else(misshapen)?);
        }
        *self.runs.write().expect("index lock") = Arc::new(runs);
        *self.doomed.lock().expect("index lock") = doomed;
        Ok(())
    }

    /// None yet.
    pub(super) fn new(family: u8) -> Self {
        Self {
            family,
            runs: RwLock::default(),
            planned: Mutex::default(),
            doomed: Mutex::default(),
        }
    }

    /// Forgets all; the rows are gone.
    pub(super) fn clear(&self) {
        *self.runs.write().expect("index lock") = List::default();
        *self.planned.lock().expect("index lock") = None;
        self.doomed.lock().expect("index lock").clear();
    }

    /// Puts entries into a batch, as a run of their own or merged with small ones before. Again after a batch that failed.
    pub(super) fn put(&self, table: &Table, batch: &mut Batch, mut entries: Vec<Entry>) {
        let doomed = self.doomed.lock().expect("index lock").clone();
        for (number, blocks) in &doomed {
            batch.remove(table, &self.key(b'd', *number));
            (0..*blocks).for_each(|block| batch.remove(table, &self.block_key(*number, block)));
        }
        let mut runs: Vec<Arc<Run>> = self.list().to_vec();
        let numbers = runs.iter().map(|run| run.number);
        let last = numbers.chain(doomed.iter().map(|(number, _)| *number)).max();
        let mut merged = Vec::new();
        if !entries.is_empty() {
            let mut mergeable = mergeable(&runs, entries.len());
            while mergeable > 0
                && let Some(run) = runs.pop()
            {
                // What cannot be read stays as it is; whoever looks is told.
                let Ok(before) = self.read(table, &run) else {
                    runs.push(run);
                    break;
                };
                entries.extend(before);
                merged.push(run);
                mergeable -= 1;
                if mergeable == 0 {
                    mergeable = self::mergeable(&runs, entries.len());
                }
            }
            entries.sort_unstable();
            let run = Run::of(last.map_or(0, |last| last + 1), &entries);
            for (block, entries) in (0..).zip(entries.chunks(BLOCK_ENTRIES)) {
                batch.put(table, &self.block_key(run.number, block), &encode(entries));
            }
            batch.put(table, &self.key(b'h', run.number), &run.encode());
            runs.push(Arc::new(run));
        }
        for run in &merged {
            batch.remove(table, &self.key(b'h', run.number));
            batch.put(table, &self.key(b'd', run.number), &run.blocks().to_be_bytes());
        }
        *self.planned.lock().expect("index lock") = Some((Arc::new(runs), merged));
    }

    /// What was put last is committed.
    pub(super) fn committed(&self) {
        if let Some((runs, merged)) = self.planned.lock().expect("index lock").take() {
            *self.runs.write().expect("index lock") = runs;
            *self.doomed.lock().expect("index lock") =
                merged.iter().map(|run| (run.number, run.blocks())).collect();
        }
    }

    /// Positions of a key, oldest runs first, at most so many.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub(super) fn find(&self, table: &Table, key: u64, limit: usize) -> Result<Vec<Position>, LedgerError> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let runs = self.list();
            let whole = runs.iter().try_fold(true, |whole, run| {
                Ok::<_, LedgerError>(whole && self.find_in(table, run, key, limit, &mut found)?)
            })?;
            if whole {
                return Ok(found);
            }
        }
        Err(LedgerError::Derived {
            what: "reading the index",
            why: "a block is missing".into(),
        })
    }

    // False when a block is gone, so that the list of runs must be another by now.
    fn find_in(
        &self,
        table: &Table,
        run: &Run,
        key: u64,
        limit: usize,
        found: &mut Vec<Position>,
    ) -> Result<bool, LedgerError> {
        if !run.may_have(key) {
            return Ok(true);
        }
        let first = run.fences.partition_point(|fence| *fence < key).saturating_sub(1);
        for (block, fence) in (0..run.blocks()).zip(&run.fences).skip(first) {
            if *fence > key || found.len() >= limit {
                break;
            }
            let Some(bytes) = table.get(&self.block_key(run.number, block))? else {
                return Ok(false);
            };
            let room = limit - found.len();
            let same = decode(&bytes)
                .skip_while(|entry| entry.0 < key)
                .take_while(|entry| entry.0 == key);
            found.extend(same.take(room).map(|entry| entry.1));
        }
        Ok(true)
    }

    fn read(&self, table: &Table, run: &Run) -> Result<Vec<Entry>, LedgerError> {
        let mut entries = Vec::with_capacity(run.count as usize);
        for block in 0..run.blocks() {
            let bytes = table
                .get(&self.block_key(run.number, block))?
                .ok_or_else(misshapen)?;
            entries.extend(decode(&bytes));
        }
        (entries.len() == run.count as usize)
            .then_some(entries)
            .ok_or_else(misshapen)
    }

    fn list(&self) -> List {
        Arc::clone(&self.runs.read().expect("index lock"))
    }

    fn key(&self, prefix: u8, number: u32) -> Vec<u8> {
        [&[prefix, self.family][..], &number.to_be_bytes()].concat()
    }

    fn block_key(&self, number: u32, block: u32) -> Vec<u8> {
        [&self.key(b'b', number)[..], &block.to_be_bytes()].concat()
    }
}

// How many runs at the end are to be merged with so many entries.
fn mergeable(runs: &[Arc<Run>], entries: usize) -> usize {
    let level = |count: usize| count.ilog2() / 3;
    let small = |run: &&Arc<Run>| {
        let count = run.count as usize;
        count < FULL_ENTRIES && level(count) <= level(entries)
    };
    let count = runs.iter().rev().take_while(small).count();
    if count < RUNS_A_LEVEL { 0 } else { count }
}

fn number_in(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(2..)?.try_into().ok()?))
}

fn misshapen() -> LedgerError {
    LedgerError::Derived {
        what: "reading the index",
        why: "a row of a sorted run is not as it was written".into(),
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for (key, position) in entries {
        bytes.extend_from_slice(&key.to_be_bytes()[8 - KEY_BYTES..]);
        bytes.extend_from_slice(&position.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
        let (key, position) = entry.split_at_checked(KEY_BYTES)?;
        Some((number(key), Position::from_be_bytes(position.try_into().ok()?)))
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Run {
    fn of(number: u32, sorted: &[Entry]) -> Self {
        let mut run = Self {
            number,
            count: u32::try_from(sorted.len()).expect("far fewer entries are in memory"),
            fences: sorted.chunks(BLOCK_ENTRIES).map(|block| block[0].0).collect(),
            filter: vec![0; sorted.len().div_ceil(ENTRIES_A_WORD)],
        };
        for (key, _) in sorted {
            let (word, bits) = run.bits(*key);
            run.filter[word] |= bits;
        }
        run
    }

    fn blocks(&self) -> u32 {
        self.count.div_ceil(BLOCK_ENTRIES_U32)
    }

    fn may_have(&self, key: u64) -> bool {
        let (word, bits) = self.bits(key);
        self.filter[word] & bits == bits
    }

    // A word of the filter, and five bits of it.
    fn bits(&self, key: u64) -> (usize, u64) {
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let words = self.filter.len() as u64;
        let word = usize::try_from(((mixed >> 32) * words) >> 32).expect("below the number of words");
        let bits = (0..5).fold(0, |bits, n| bits | 1 << ((key >> (6 * n)) & 63));
        (word, bits)
    }

    // u32 count, the fences, the words of the filter.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.count.to_be_bytes().to_vec();
        for fence in &self.fences {
            bytes.extend_from_slice(&fence.to_be_bytes()[8 - KEY_BYTES..]);
        }
        for word in &self.filter {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    fn decode(number_: u32, bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = u32::from_be_bytes(*count);
        let entries = usize::try_from(count).ok().filter(|count| *count > 0)?;
        let (fences, filter) = rest.split_at_checked(entries.div_ceil(BLOCK_ENTRIES) * KEY_BYTES)?;
        let run = Self {
            number: number_,
            count,
            fences: fences.chunks_exact(KEY_BYTES).map(number).collect(),
            filter: filter.chunks_exact(8).map(number).collect(),
        };
        (filter.len() == entries.div_ceil(ENTRIES_A_WORD) * 8).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::derived::Derived;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whatever_is_moved_in_whatever_pieces_is_found_and_nothing_else(
            pieces in prop::collection::vec((0_u32..200, any::<bool>()), 1..60),
            spread in 1_u64..2000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let derived = Derived::open(dir.path()).unwrap();
            let table = derived.table("t").unwrap();
            let mut sorted = Sorted::new(b'i');
            let mut expected: BTreeMap<u64, Vec<Position>> = BTreeMap::new();
            let mut next = 0;
            for (count, again) in pieces {
                let entries: Vec<Entry> = (next..next + count)
                    .map(|n| (u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread * 77_777_777, at(n)))
                    .collect();
                next += count;
                for (key, position) in &entries {
                    expected.entry(*key).or_default().push(*position);
                }
                // As after a batch that failed.
                sorted.put(&table, &mut derived.batch(), entries.clone());
                let mut batch = derived.batch();
                sorted.put(&table, &mut batch, entries);
                batch.commit().unwrap();
                sorted.committed();
                if again {
                    sorted = Sorted::new(b'i');
                    sorted.load(&table).unwrap();
                }
            }
            for (key, positions) in &expected {
                let mut found = sorted.find(&table, *key, usize::MAX).unwrap();
                found.sort_unstable();
                prop_assert_eq!(&found, positions);
                prop_assert_eq!(sorted.find(&table, *key, 2).unwrap().len(), positions.len().min(2));
                prop_assert_eq!(sorted.find(&table, key + 1, 9).unwrap(), vec![]);
            }
            // Fewer than 12,000 entries have five levels.
            prop_assert!(sorted.list().len() <= 5 * RUNS_A_LEVEL);
            let mut batch = derived.batch();
            sorted.put(&table, &mut batch, Vec::new());
            batch.commit().unwrap();
            sorted.committed();
            let blocks: u32 = sorted.list().iter().map(|run| run.blocks()).sum();
            let rows = table.prefix(b"b").count();
            prop_assert_eq!(rows, blocks as usize, "merged runs leave nothing");
        }
    }

    #[test]
    fn a_lookup_that_meets_a_merge_looks_again_and_one_that_finds_a_hole_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let derived = Derived::open(dir.path()).unwrap();
        let table = derived.table("t").unwrap();
        let sorted = Sorted::new(b's');
        let mut batch = derived.batch();
        sorted.put(&table, &mut batch, vec![(5, at(1))]);
        batch.commit().unwrap();
        sorted.committed();
        assert_eq!(sorted.find(&table, 5, 9).unwrap(), [at(1)]);
        let mut batch = derived.batch();
        batch.remove(&table, &sorted.block_key(0, 0));
        batch.commit().unwrap();
        assert!(sorted.find(&table, 5, 9).is_err());
    }
}
