//! The threads of a run: each reads a block and checks it by itself, one at a time places what is next in the journal's order,
//! and all check signatures.
//!
//! Contract: pieces are placed in the journal's order, whoever read them. At an irregular place the thread that places goes
//! on by the careful walk to the segment's end, and what was read ahead of that is thrown away. Memory: some blocks for each
//! thread. The calling thread works too, and alone tells progress.

mod keep;

use super::check::Check;
use super::chunk::{Chunk, Doubtful, Keep};
use super::resume::ResumeError;
use super::scope::Scope;
use super::signed::Job;
use super::store::{self, Place as StorePlace};
use super::{Options, Progress};
use crate::Position;
use crate::anchor::Anchor;
use crate::error::LedgerError;
use crate::journal::blocks::{Block, Blocks, Piece, Place};
use crate::journal::footer::Tally;
use crate::journal::{JournalError, StoreId, StoredEntry, WalkItem};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Entries of the careful way that are checked at once.
const CAREFUL_ENTRIES: usize = 4096;
/// Bytes of records and payloads after which they are, too.
const CAREFUL_BYTES: usize = 8 << 20;

/// Bytes of a journal for which a further thread is worth its beginning.
const BYTES_PER_THREAD: u64 = 2 << 20;

// A piece that was read and checked by itself.
enum Ready {
    Chunk(Box<Chunk>),
    Entries(Box<Block>),
    Batches(Box<Block>),
    Piece(Piece),
}

enum Task {
    Read,
    Place(Ready),
    Check(Job),
}

// What reads: one thread at a time.
struct Feed {
    blocks: Blocks,
    next: u64,
    generation: u64,
}

// What waits for a thread.
#[derive(Default)]
struct Line {
    ready: BTreeMap<u64, Ready>,
    next: u64,
    generation: u64,
    jobs: VecDeque<Job>,
    // Tasks that threads are at.
    busy: usize,
    placing: bool,
    // Nothing more can be read, for now or at all.
    ended: bool,
    // Something else is here than an earlier run has read.
    differs: bool,
    failed: Option<LedgerError>,
    told: Progress,
}

// What places: one thread at a time.
struct Order<'a> {
    check: Check<'a>,
    tally: Option<Tally>,
    store: Option<StoreId>,
    // Bytes of the segments before, of this one, and of it so far.
    before: u64,
    whole: u64,
    here: u64,
    // The last place that was read, and the bytes up to the last mark.
    at: Position,
    marked: u64,
}

/// One run over a journal.
pub(super) struct Work<'a> {
    options: &'a Options,
    place: &'a StorePlace,
    anchor: Option<&'a Anchor>,
    feed: Mutex<Feed>,
    line: Mutex<Line>,
    order: Mutex<Order<'a>>,
    wake: Condvar,
    threads: usize,
    scope: Arc<Scope>,
    // The place in the file that is gone on from.
    saved: Mutex<Position>,
}

/// How a run over the journal ended.
pub(super) struct Done<'a> {
    pub(super) check: Check<'a>,
    /// The store that the segments name.
    pub(super) store: Option<StoreId>,
    /// Bytes of the journal.
    pub(super) bytes: u64,
    /// Whether something else is here than an earlier run has read.
    pub(super) differs: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Work<'a> {
    pub(super) fn new(
        options: &'a Options,
        place: &'a StorePlace,
        anchor: Option<&'a Anchor>,
        check: Check<'a>,
        told: Progress,
    ) -> Result<Self, LedgerError> {
        let blocks = Blocks::new(options.storage.clone(), &place.journal)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let wanted = if rayon::current_thread_index().is_some() {
            // A thread of a pool must not wait for others that may need that pool.
            1
        } else if options.threads > 0 {
            options.threads
        } else {
            cores
        };
        let useful = usize::try_from(told.bytes_total / BYTES_PER_THREAD).unwrap_or(usize::MAX);
        Ok(Self {
            options,
            place,
            anchor,
            feed: Mutex::new(Feed {
                blocks,
                next: 0,
                generation: 0,
            }),
            line: Mutex::new(Line {
                told,
                ..Line::default()
            }),
            scope: check.scope(),
            saved: Mutex::new(Position::START),
            order: Mutex::new(Order {
                check,
                tally: None,
                store: None,
                before: 0,
                whole: 0,
                here: 0,
                at: Position::START,
                marked: 0,
            }),
            wake: Condvar::new(),
            threads: wanted.min(useful.saturating_add(1)),
        })
    }

    /// Checks everything, unless it is stopped or nothing is worth going on for.
    pub(super) fn run(self, progress: &mut dyn FnMut(Progress)) -> Result<Done<'a>, LedgerError> {
        std::thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(|| self.take_part(&mut |_| {}));
            }
            self.take_part(progress);
        });
        let (failed, differs, ended) = {
            let mut line = lock(&self.line);
            let ended = line.ended && line.ready.is_empty();
            (line.failed.take(), line.differs, ended)
        };
        if let Some(error) = failed {
            return Err(error);
        }
        if self.is_stopped() && !differs && !ended {
            let mut order = lock(&self.order);
            let (at, store) = (order.at, order.store);
            order.check.mark_at(at);
            self.save(&mut order.check, store)?;
            let receipts = order.check.report.counts.receipts;
            return Err(ResumeError::Interrupted { receipts }.into());
        }
        let order = self.order.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Done {
            differs: differs || order.check.cover.differs_at_end(),
            check: order.check,
            store: order.store,
            bytes: order.before + order.whole,
        })
    }

    // Works until nothing is left.
    fn take_part(&self, progress: &mut dyn FnMut(Progress)) {
        let mut told = Progress::default();
        loop {
            let Some(task) = self.next_task() else {
                return;
            };
            let places = matches!(task, Task::Place(_));
            // A panic must not leave the others waiting for ever.
            let done = catch_unwind(AssertUnwindSafe(|| self.do_task(task)));
            let mut line = lock(&self.line);
            line.busy -= 1;
            line.placing = line.placing && !places;
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => line.failed = line.failed.take().or(Some(error)),
                Err(panic) => {
                    line.failed = Some(LedgerError::Io {
                        what: "verifying",
                        path: self.place.journal.clone(),
                        source: std::io::Error::other("a thread of the verification ended"),
                    });
                    drop(line);
                    self.wake.notify_all();
                    std::panic::resume_unwind(panic);
                }
            }
            let now = line.told;
            drop(line);
            self.wake.notify_all();
            if now != told {
                told = now;
                progress(told);
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        let ahead_max = 2 * self.threads + 2;
        let mut line = lock(&self.line);
        loop {
            if line.failed.is_some() || line.differs {
                return None;
            }
            // What was placed is checked to its end.
            let goes_on = !self.is_stopped();
            let next = line.next;
            let task = if goes_on && !line.placing && line.ready.contains_key(&next) {
                line.placing = true;
                line.next += 1;
                line.ready.remove(&next).map(Task::Place)
            } else if let Some(job) = line.jobs.pop_front() {
                Some(Task::Check(job))
            } else if goes_on && !line.ended && line.ready.len() + line.busy < ahead_max {
                Some(Task::Read)
            } else {
                None
            };
            if task.is_some() {
                line.busy += 1;
                return task;
            }
            if line.busy == 0 {
                return None;
            }
            line = self.wake.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn do_task(&self, task: Task) -> Result<(), LedgerError> {
        match task {
            Task::Read => self.read(),
            Task::Check(job) => {
                let bad = job.run();
                let mut order = lock(&self.order);
                order.check.answered(job.ticket, bad);
                let store = order.store;
                self.save(&mut order.check, store)
            }
            Task::Place(ready) => {
                let mut order = lock(&self.order);
                let jobs = self.place(&mut order, ready)?;
                self.mark(&mut order)?;
                let differs = order.check.cover.differs();
                let told = Progress {
                    receipts: order.check.report.counts.receipts,
                    findings: order.check.report.findings_total,
                    bytes: order.before + order.here,
                    bytes_total: 0,
                };
                drop(order);
                let mut line = lock(&self.line);
                let bytes_total = line.told.bytes_total.max(told.bytes);
                line.told = Progress { bytes_total, ..told };
                line.differs |= differs;
                line.jobs.extend(jobs);
                Ok(())
            }
        }
    }

    fn read(&self) -> Result<(), LedgerError> {
        let mut feed = lock(&self.feed);
        let (number, generation) = (feed.next, feed.generation);
        let piece = feed.blocks.next()?;
        feed.next += 1;
        let ends = matches!(piece, None | Some(Piece::Irregular(_)));
        if ends {
            // Before anybody else reads.
            let mut line = lock(&self.line);
            line.ended = line.ended || line.generation == generation;
        }
        drop(feed);
        let Some(piece) = piece else {
            return Ok(());
        };
        let ready = match piece {
            Piece::Block(block) => {
                let keep = Keep {
                    scope: &self.scope,
                    records: self.options.authority.is_some(),
                };
                match Chunk::of(block, keep) {
                    Ok(chunk) => Ready::Chunk(Box::new(chunk)),
                    Err(Doubtful::Entries(block)) => Ready::Entries(block),
                    Err(Doubtful::Batches(block)) => Ready::Batches(block),
                }
            }
            piece => Ready::Piece(piece),
        };
        let mut line = lock(&self.line);
        if line.generation == generation {
            line.ready.insert(number, ready);
        }
        Ok(())
    }

    fn place(&self, order: &mut Order<'a>, ready: Ready) -> Result<Vec<Job>, LedgerError> {
        match ready {
            Ready::Chunk(chunk) => {
                let (mut tally, end) = (order.tally.clone(), chunk.block.end());
                let segment = chunk.block.segment();
                if let Some(tally) = &mut tally {
                    chunk.tally(tally);
                }
                match order.check.take_chunk(chunk) {
                    Ok(jobs) => {
                        order.at = Position { segment, offset: end };
                        order.tally = tally;
                        order.here = order.here.max(u64::from(end));
                        return Ok(jobs);
                    }
                    Err(chunk) => entries_of(order, &chunk.block),
                }
            }
            Ready::Entries(block) => entries_of(order, &block),
            Ready::Batches(block) => self.go_carefully(order, &block.begin)?,
            Ready::Piece(Piece::Enter(segment)) => {
                order.enter(segment.header.store, u64::from(segment.bytes));
                self.fits(order)?;
                order.tally = Some(Tally::new(&segment.header));
            }
            Ready::Piece(Piece::Leave(place, footer)) => {
                let same = |tally: &Tally| footer.as_ref().is_none_or(|footer| **footer == tally.footer());
                if order.tally.as_ref().is_some_and(same) {
                    order.tally = None;
                    order.here = order.whole;
                } else {
                    self.go_carefully(order, &place)?;
                }
            }
            Ready::Piece(Piece::Irregular(place)) => self.go_carefully(order, &place)?,
            Ready::Piece(Piece::Block(block)) => entries_of(order, &block),
        }
        Ok(Vec::new())
    }

    // From a place to its segment's end by the walk that tells what is wrong.
    fn go_carefully(&self, order: &mut Order<'a>, from: &Place) -> Result<(), LedgerError> {
        let mut feed = lock(&self.feed);
        let mut walk = feed.blocks.careful(from, order.tally.take())?;
        let mut entered = from.is_inside();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(item) = walk.next_of_segment(&mut entered) {
            match item? {
                WalkItem::Entry { entry, .. } => {
                    let payload = entry.payload.as_ref().map_or(0, |payload| payload.bytes.len());
                    bytes += entry.record.len() + payload;
                    order.at = entry.position;
                    entries.push(entry);
                    if entries.len() >= CAREFUL_ENTRIES || bytes >= CAREFUL_BYTES {
                        order.check.take(std::mem::take(&mut entries));
                        bytes = 0;
                    }
                }
                WalkItem::Batch { .. } => {}
                item => {
                    order.check.take(std::mem::take(&mut entries));
                    bytes = 0;
                    self.tell(order, item)?;
                }
            }
        }
        order.check.take(entries);
        order.here = order.whole;
        feed.blocks.go_on(from, &walk);
        feed.generation += 1;
        let mut line = lock(&self.line);
        line.generation = feed.generation;
        line.ready.clear();
        line.ended = false;
        feed.next = line.next;
        Ok(())
    }

    fn tell(&self, order: &mut Order<'a>, item: WalkItem) -> Result<(), LedgerError> {
        match item {
            WalkItem::Segment { segment, store, .. } => {
                let path = crate::journal::blocks::path(&self.place.journal, segment);
                let bytes = self
                    .options
                    .storage
                    .open(&path, crate::storage::Access::Read)
                    .and_then(|file| file.len())
                    .map_err(JournalError::io("measure", &path))?;
                order.enter(store, bytes);
                self.fits(order)?;
            }
            WalkItem::Pruned { entries, .. } => order.check.report.counts.pruned += u64::from(entries),
            WalkItem::Damage {
                segment,
                offset,
                what,
                code,
                ..
            } => {
                let at = Position { segment, offset };
                store::damaged(&mut order.check, self.place, self.options, at, code, what);
            }
            WalkItem::Torn {
                segment,
                offset,
                bytes,
                what,
            } => {
                let at = Position { segment, offset };
                store::torn(&mut order.check, self.anchor, at, bytes, &what);
            }
            WalkItem::Batch { .. } | WalkItem::Entry { .. } => {}
        }
        Ok(())
    }
}

impl Order<'_> {
    fn enter(&mut self, store: StoreId, bytes: u64) {
        self.check.report.counts.segments += 1;
        self.store.get_or_insert(store);
        self.before += self.whole;
        (self.whole, self.here) = (bytes, 0);
    }
}

// Takes the entries of a block whose batches are sound.
fn entries_of(order: &mut Order<'_>, block: &Block) {
    let mut entries: Vec<StoredEntry> = Vec::new();
    if let Some(tally) = &mut order.tally {
        block.tally(tally);
    }
    for entry in block.batches().flatten().flat_map(|batch| batch.entries()) {
        order.at = entry.position;
        if let Some(tally) = &mut order.tally {
            tally.note_record(entry.record);
        }
        entries.push(entry.to_stored());
    }
    order.check.take(entries);
}
