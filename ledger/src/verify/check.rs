//! What is known of the logs during a run, and every comparison with it, in the journal's order.
//!
//! Takes chunks (see [`super::chunk`]) and careful entries (see [`super::entry`]); whatever does not fit goes the careful way, which
//! alone makes findings. Signatures are checked elsewhere ([`super::signed`]); their findings come back by ticket and take the
//! chunk's place in the order.

mod careful;
mod finish;

use super::Options;
use super::authority::Authority;
use super::chunk::Chunk;
use super::cosigned::CosignedNotes;
use super::cover::{Cover, Mark};
use super::excused::Excused;
use super::heads::{Book, By, Head};
use super::log::LogState;
use super::payloads::Payloads;
use super::pruned::PrunedLogs;
use super::report::{Finding, Report};
use super::scope::Scope;
use super::seen::{CheckpointFrom, Seen};
use super::signed::Job;
use crate::Position;
use crate::anchor::Anchor;
use crate::error::LedgerError;
use crate::receipt::Receipt;
use ledger_core::kinds::{
    Detail, Erased, KeyAnnounced, KeyJoined, LogCited, LogPinned, LogPruned, ReceiptInadmissible,
};
use ledger_core::{Chain, FleetId, LogId, PublicKey, Stream, VerifyKey};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// Kinds that say something about other records which a verification takes up.
pub(super) const HEARD: [&str; 7] = [
    Erased::KIND,
    KeyAnnounced::KIND,
    KeyJoined::KIND,
    LogCited::KIND,
    LogPinned::KIND,
    LogPruned::KIND,
    ReceiptInadmissible::KIND,
];

/// Below so many entries the work is not spread over threads.
const PARALLEL_MIN: usize = 64;

/// Everything that a run knows so far.
pub(super) struct Check<'a> {
    options: &'a Options,
    pub(super) report: Report,
    logs: BTreeMap<LogId, LogState>,
    pub(super) book: Book,
    // The machine that owns the store: whoever signed its first record.
    home: Option<PublicKey>,
    fleet: Option<FleetId>,
    anchored: HashSet<LogId>,
    // Machine keys of the logs that the anchor names.
    trusted: HashSet<PublicKey>,
    payloads: Payloads,
    excused: Excused,
    judge: Option<Box<dyn Authority>>,
    pub(super) pruned: PrunedLogs,
    pub(super) cosigned: CosignedNotes,
    scope: Arc<Scope>,
    pub(super) cover: Cover,
    // The newest mark behind which nothing is held.
    mark: Option<Mark>,
    in_range: u64,
    seen: Seen,
    // Threads of its own, when not all cores shall work.
    pool: Option<Arc<rayon::ThreadPool>>,
    // Findings behind a chunk whose signatures are still being checked.
    held: VecDeque<Held>,
    ticket: u64,
}

enum Held {
    Finding(Finding),
    Chunk {
        ticket: u64,
        jobs: usize,
        found: Vec<(u32, Finding)>,
    },
    Mark(Mark),
}

impl<'a> Check<'a> {
    pub(super) fn new(
        options: &'a Options,
        report: Report,
        (scope, cover): (Scope, Cover),
    ) -> Result<Self, LedgerError> {
        let pool = (options.threads > 0)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(options.threads)
                    .build()
            })
            .transpose()
            .map_err(|e| LedgerError::Io {
                what: "starting threads for",
                path: report.path.clone(),
                source: std::io::Error::other(e),
            })?
            .map(Arc::new);
        Ok(Self {
            options,
            report,
            logs: BTreeMap::new(),
            book: Book::default(),
            home: None,
            fleet: None,
            anchored: HashSet::new(),
            trusted: HashSet::new(),
            payloads: Payloads::default(),
            excused: Excused::default(),
            judge: options.authority.as_ref().map(|make| make()),
            pruned: PrunedLogs::default(),
            cosigned: CosignedNotes::default(),
            scope: Arc::new(scope),
            cover,
            mark: None,
            in_range: 0,
            seen: Seen::default(),
            pool,
            held: VecDeque::new(),
            ticket: 0,
        })
    }

    /// Notes what must be here, before anything is read.
    pub(super) fn expect(&mut self, anchor: Option<&Anchor>) {
        for anchored in anchor.iter().flat_map(|anchor| &anchor.logs) {
            self.anchored.insert(anchored.log);
            if self.options.wants(&anchored.log) {
                let size = anchored.checkpoint_size;
                self.seen.note(CheckpointFrom::Anchor, anchored.log, size);
                let head = Head {
                    seal: Some(anchored.head.seal),
                    root: Some(anchored.head.root),
                    by: By::Anchor,
                };
                // Nothing was read yet, so it only waits.
                let _ = self.book.say(anchored.log, anchored.head.seq, head, None, None);
            }
        }
        for given in &self.options.checkpoints {
            self.seen.note(CheckpointFrom::Given, given.log, given.tree_size);
            // A tree of no records says nothing.
            let Some(seq) = given.tree_size.checked_sub(1) else {
                continue;
            };
            let head = Head {
                seal: None,
                root: Some(given.root),
                by: By::Checkpoint,
            };
            let floor = self.pruned.floor(&given.log);
            let said = self.book.say(given.log, seq, head, None, floor.as_deref());
            said.into_iter().for_each(|finding| self.report.found(finding));
        }
        let said = self.cosigned.expect(&mut self.book, &self.pruned);
        said.into_iter().for_each(|finding| self.report.found(finding));
    }

    fn on_pool<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Notes a finding, behind those that come before it in the journal.
    pub(super) fn found(&mut self, finding: Finding) {
        let Some(finding) = self.excused.hold(finding) else {
            return;
        };
        if self.held.is_empty() {
            self.report.found(finding);
        } else {
            self.held.push_back(Held::Finding(finding));
        }
    }

    /// Takes the next block's entries when they all fit what is known; gives them back when not. The signatures that are
    /// to be checked come back as jobs.
    pub(super) fn take_chunk(&mut self, chunk: Box<Chunk>) -> Result<Vec<Job>, Box<Chunk>> {
        if !self.fits(&chunk) {
            return Err(chunk);
        }
        let mut chunk = chunk;
        let mut parts = Vec::with_capacity(chunk.parts.len());
        for (index, part) in chunk.parts.iter_mut().enumerate() {
            let Some(run) = part.run.take().filter(|run| self.options.wants(&run.log())) else {
                continue;
            };
            let records = u64::try_from(run.records().len()).unwrap_or(u64::MAX);
            let Some(state) = self.logs.get_mut(&run.log()) else {
                continue;
            };
            self.report.counts.receipts += records;
            self.report.counts.payloads += part.payloads;
            self.in_range += part.in_range;
            let leaves = run.records().iter().map(|(leaf, _)| leaf);
            self.cover.take(run.log(), leaves, part.before);
            state.take_run(run);
            if let Some(key) = state.key().filter(|_| self.options.full).cloned() {
                let authored = u64::try_from(part.authored.len()).unwrap_or(u64::MAX);
                self.report.counts.log_signatures += part.in_range;
                self.report.counts.author_signatures += authored + part.covered_authored;
                self.cover.count(part.covered, part.covered_authored);
                parts.push((index, key));
            }
        }
        for (position, record) in std::mem::take(&mut chunk.heard) {
            self.hear(&record);
            if self.options.wants(&record.seal().log) {
                let mut found = Vec::new();
                self.heads(0, position, &record, &mut found);
                found.into_iter().for_each(|(_, finding)| self.found(finding));
            }
        }
        if let Some(judge) = &mut self.judge {
            for (position, record) in std::mem::take(&mut chunk.judged) {
                let record = Arc::new(record);
                judge.take(&Receipt { position, record });
            }
        }
        self.ticket += 1;
        let (ticket, chunk) = (self.ticket, Arc::new(*chunk));
        let job = |(index, key): &(usize, VerifyKey)| {
            Job::of(ticket, &chunk, *index, key, self.trusted.contains(&key.public()))
        };
        let jobs: Vec<Job> = parts.iter().flat_map(job).collect();
        if !jobs.is_empty() {
            self.held.push_back(Held::Chunk {
                ticket,
                jobs: jobs.len(),
                found: Vec::new(),
            });
        }
        Ok(jobs)
    }

    // Whether the careful way would find nothing that is not found here.
    fn fits(&self, chunk: &Chunk) -> bool {
        let fits = |run: &ledger_core::chain::Run| {
            let log = run.log();
            let (first, last) = (run.first_seq(), run.last_seq());
            let waits = self.book.waits_in(&log, first, last) || self.seen.waits_in(&log, first, last);
            !self.options.wants(&log) || (!waits && self.logs.get(&log).is_some_and(|state| state.fits(run)))
        };
        chunk.parts.iter().all(|part| part.run.as_ref().is_some_and(fits))
    }

    /// What a job came to.
    pub(super) fn answered(&mut self, job: u64, bad: Vec<(u32, Finding)>) {
        bad.iter()
            .for_each(|(_, finding)| self.cover.note_bad(finding.position));
        for held in &mut self.held {
            if let Held::Chunk { ticket, jobs, found } = held
                && *ticket == job
            {
                *jobs -= 1;
                found.extend(bad);
                break;
            }
        }
        while let Some(Held::Finding(_) | Held::Mark(_) | Held::Chunk { jobs: 0, .. }) = self.held.front() {
            match self.held.pop_front() {
                Some(Held::Finding(finding)) => self.report.found(finding),
                Some(Held::Mark(mark)) => self.mark = Some(mark),
                Some(Held::Chunk { mut found, .. }) => {
                    found.sort_by_key(|(at, _)| *at);
                    for (_, finding) in found {
                        if let Some(finding) = self.excused.hold(finding) {
                            self.report.found(finding);
                        }
                    }
                }
                None => {}
            }
        }
    }

    /// Notes how far the run is, behind all that was placed, for [`Check::take_mark`].
    pub(super) fn mark_at(&mut self, at: Position) {
        match self.cover.mark(at) {
            Some(mark) if self.held.is_empty() => self.mark = Some(mark),
            Some(mark) => self.held.push_back(Held::Mark(mark)),
            None => {}
        }
    }

    /// The newest mark up to which all signatures are checked, once.
    pub(super) fn take_mark(&mut self) -> Option<Mark> {
        self.mark.take()
    }

    /// Which signatures are checked.
    pub(super) fn scope(&self) -> Arc<Scope> {
        Arc::clone(&self.scope)
    }

    // Whether the machine that owns the store writes a log, as far as its records tell.
    fn is_homes(&self, log: &LogId) -> bool {
        self.home.is_none() || self.logs.get(log).and_then(LogState::machine_key) == self.home
    }

    /// The last seq of each log whose place another of the same machine took, as that one says.
    pub(super) fn ends(&self) -> BTreeMap<LogId, u64> {
        let chains = self.logs.values().filter_map(LogState::chain);
        let ends = chains.filter_map(|chain| {
            let before = chain.genesis().predecessor.as_ref()?;
            let of_it = self.logs.get(&before.log)?.machine_key()? == chain.machine_key();
            of_it.then_some((before.log, before.head.seq))
        });
        ends.collect()
    }

    /// Whether what an order cites may be lost without a fault, `ends` as [`Check::ends`] has them: behind the end of its log, or,
    /// of an earlier epoch, heartbeats. Central went back in time then, and nobody else has its pulses, nor those that a
    /// machine let go since; but what this store's own machine cannot lose by that, it must have.
    pub(super) fn is_lost(&self, ends: &BTreeMap<LogId, u64>, order: &LogId, log: &LogId, seq: u64) -> bool {
        if ends.get(log).is_some_and(|last| seq > *last) {
            return true;
        }
        let chain = |log: &LogId| self.logs.get(log).and_then(LogState::chain);
        let is_pulse = chain(log).is_none_or(|chain| chain.genesis().stream == Stream::Pulse);
        let central = chain(order).map(Chain::machine_key);
        let centrals_own = central.is_some() && chain(log).map(Chain::machine_key) == central;
        ends.contains_key(order) && is_pulse && (centrals_own || !self.is_own(log))
    }

    /// Whether a log is written by the machine that owns the store.
    pub(super) fn is_own(&self, log: &LogId) -> bool {
        self.anchored.contains(log)
            || (self.home.is_some() && self.logs.get(log).and_then(LogState::machine_key) == self.home)
    }
}
