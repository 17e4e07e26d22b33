//! What is known of the logs during a run, and every comparison with it, in the journal's order.
//!
//! Takes chunks (see [`super::chunk`]) and careful entries (see [`super::entry`]); whatever does not fit goes the careful way, which
//! alone makes findings. Signatures are checked elsewhere ([`super::signed`]); their findings come back by ticket and take the
//! chunk's place in the order.

use super::Options;
use super::authority::Authority;
use super::chunk::Chunk;
use super::entry::{Prepared, finding, prepare};
use super::excused::Excused;
use super::heads::{Book, By, Head};
use super::log::LogState;
use super::payloads::{self, Payloads};
use super::pruned::PrunedLogs;
use super::report::{Aspect, Finding, Report};
use super::signed::{self, Job};
use super::suspect::Suspect;
use crate::Position;
use crate::anchor::Anchor;
use crate::error::LedgerError;
use crate::journal::StoredEntry;
use crate::receipt::Receipt;
use ledger_core::error::RecordError;
use ledger_core::kinds::{Detail, Erased, LogPinned, LogPruned, ReceiptInadmissible, Verdict};
use ledger_core::{Chain, FleetId, LogId, PublicKey, Record, Stream, VerifyKey};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// Kinds that say something about other records which a verification takes up.
pub(super) const HEARD: [&str; 4] = [
    Erased::KIND,
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
}

impl<'a> Check<'a> {
    pub(super) fn new(
        options: &'a Options,
        report: Report,
        anchor: Option<&Anchor>,
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
        let mut check = Self {
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
            pool,
            held: VecDeque::new(),
            ticket: 0,
        };
        for anchored in anchor.iter().flat_map(|anchor| &anchor.logs) {
            check.anchored.insert(anchored.log);
            if options.wants(&anchored.log) {
                let head = Head {
                    seal: Some(anchored.head.seal),
                    root: Some(anchored.head.root),
                    by: By::Anchor,
                };
                // Nothing was read yet, so it only waits.
                let _ = check.book.say(anchored.log, anchored.head.seq, head, None);
            }
        }
        for given in &options.checkpoints {
            // A tree of no records says nothing.
            let Some(seq) = given.tree_size.checked_sub(1) else {
                continue;
            };
            let head = Head {
                seal: None,
                root: Some(given.root),
                by: By::Checkpoint,
            };
            let _ = check.book.say(given.log, seq, head, None);
        }
        Ok(check)
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
            state.take_run(run);
            if let Some(key) = state.key().filter(|_| self.options.full).cloned() {
                self.report.counts.log_signatures += records;
                self.report.counts.author_signatures +=
                    u64::try_from(part.authored.len()).unwrap_or(u64::MAX);
                parts.push((index, key));
            }
        }
        for (position, record) in std::mem::take(&mut chunk.heard) {
            self.hear(&record);
            let log = record.seal().log;
            if record.statement().kind.as_str() == LogPinned::KIND && self.options.wants(&log) {
                let mut found = Vec::new();
                self.pins(0, position, &record, &mut found);
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
            let waits = self.book.waits_in(&log, run.first_seq(), run.last_seq());
            !self.options.wants(&log) || (!waits && self.logs.get(&log).is_some_and(|state| state.fits(run)))
        };
        chunk.parts.iter().all(|part| part.run.as_ref().is_some_and(fits))
    }

    /// What a job came to.
    pub(super) fn answered(&mut self, job: u64, bad: Vec<(u32, Finding)>) {
        for held in &mut self.held {
            if let Held::Chunk { ticket, jobs, found } = held
                && *ticket == job
            {
                *jobs -= 1;
                found.extend(bad);
                break;
            }
        }
        while let Some(Held::Finding(_) | Held::Chunk { jobs: 0, .. }) = self.held.front() {
            match self.held.pop_front() {
                Some(Held::Finding(finding)) => self.report.found(finding),
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

    /// Takes the next entries with care: each by itself, its place in the logs, its signatures. Findings keep the journal's order.
    pub(super) fn take(&mut self, entries: Vec<StoredEntry>) {
        let spread = entries.len() >= PARALLEL_MIN;
        let prepared: Vec<Prepared> = if spread {
            self.on_pool(|| entries.into_par_iter().map(prepare).collect())
        } else {
            entries.into_iter().map(prepare).collect()
        };
        let mut found: Vec<(usize, Finding)> = Vec::new();
        let mut signed: Vec<(usize, VerifyKey, bool)> = Vec::new();
        for (index, entry) in prepared.iter().enumerate() {
            match &entry.record {
                Ok(record) => self.place(index, entry, record, &mut found, &mut signed),
                Err((error, suspect)) => found.push((index, self.unreadable(entry.position, error, suspect))),
            }
        }
        if self.options.full {
            let authored = |(index, _, _): &&(usize, VerifyKey, bool)| {
                let record = prepared[*index].record.as_ref();
                record.is_ok_and(|record| record.author_signature().is_some())
            };
            let authors = signed.iter().filter(authored).count();
            self.report.counts.log_signatures += u64::try_from(signed.len()).unwrap_or(u64::MAX);
            self.report.counts.author_signatures += u64::try_from(authors).unwrap_or(u64::MAX);
            let bad = if spread {
                self.on_pool(|| signed::check_spread(&prepared, &signed))
            } else {
                signed::check(&prepared, &signed)
            };
            found.extend(bad.into_iter().map(|(index, error)| {
                let entry = &prepared[index];
                let record = entry.record.as_ref().expect("only parsed records are checked");
                let aspect = Aspect::Signatures;
                (
                    index,
                    finding(error.code(), aspect, entry.position, record, error.to_string()),
                )
            }));
        }
        found.sort_by_key(|(index, _)| *index);
        for (_, finding) in found {
            self.found(finding);
        }
    }

    fn place(
        &mut self,
        index: usize,
        entry: &Prepared,
        record: &Record,
        found: &mut Vec<(usize, Finding)>,
        signed: &mut Vec<(usize, VerifyKey, bool)>,
    ) {
        let log = record.seal().log;
        self.hear(record);
        if let Some(judge) = &mut self.judge {
            judge.take(&Receipt {
                position: entry.position,
                record: Arc::new(record.clone()),
            });
        }
        if !self.options.wants(&log) {
            return;
        }
        self.report.counts.receipts += 1;
        let faults = match self.logs.get_mut(&log) {
            Some(state) => state.take(record, entry.leaf),
            None => {
                let (mut state, fault) = LogState::begin(record, entry.leaf);
                state.set_floor(self.pruned.floor(&log));
                found.extend(
                    self.welcome(log, &state, entry.position)
                        .map(|finding| (index, finding)),
                );
                self.logs.insert(log, state);
                fault.into_iter().collect()
            }
        };
        for fault in faults {
            let here = fault.seq == record.seal().seq;
            let finding = Finding {
                code: fault.code,
                aspect: fault.aspect,
                log: Some(log),
                seq: Some(fault.seq),
                id: here.then(|| record.statement().id),
                position: Some(entry.position),
                text: fault.text,
            };
            found.push((index, finding));
        }
        let state = &self.logs[&log];
        for finding in self.book.reached(log, record.seal().seq, state) {
            found.push((index, finding));
        }
        if let Some(key) = state.key() {
            signed.push((index, key.clone(), self.trusted.contains(&key.public())));
        }
        if record.statement().kind.as_str() == LogPinned::KIND {
            self.pins(index, entry.position, record, found);
        }
        let own = self.is_homes(&log);
        let judge = |(code, aspect, text): payloads::Fault| {
            finding(code, aspect, entry.position, record, text.to_owned())
        };
        let now = self
            .payloads
            .take(&mut self.report, record, entry.payload, own, judge);
        found.extend(now.map(|finding| (index, finding)));
    }

    fn hear(&mut self, record: &Record) {
        self.payloads.hear(record);
        self.pruned.hear(record);
        let orders = |chain: &Chain| {
            chain.genesis().stream == Stream::Order && chain.machine_key() == record.statement().author
        };
        let chain = self.logs.get(&record.seal().log).and_then(LogState::chain);
        if chain.is_some_and(orders) {
            self.excused.hear(record);
        }
    }

    // The first record of a log.
    fn welcome(&mut self, log: LogId, state: &LogState, position: Position) -> Option<Finding> {
        let chain = state.chain()?;
        let home = *self.home.get_or_insert(chain.machine_key());
        if self.anchored.contains(&log) && chain.machine_key() == home {
            self.trusted.insert(home);
        }
        let fleet = *self.fleet.get_or_insert(chain.fleet());
        (fleet != chain.fleet()).then(|| Finding {
            code: "chain.other-fleet",
            aspect: Aspect::Integrity,
            log: Some(log),
            seq: Some(0),
            id: None,
            position: Some(position),
            text: "the log belongs to another fleet than the store".to_owned(),
        })
    }

    // What a record of an order log pins.
    fn pins(&mut self, index: usize, position: Position, record: &Record, found: &mut Vec<(usize, Finding)>) {
        let order = record.seal().log;
        let is_order = |chain: &Chain| chain.genesis().stream == Stream::Order;
        if !self
            .logs
            .get(&order)
            .and_then(LogState::chain)
            .is_some_and(is_order)
        {
            return;
        }
        let pinned = match LogPinned::decode(&record.statement().detail) {
            Ok(pinned) if record.statement().schema == LogPinned::SCHEMA => pinned,
            // A newer schema, or a record without sense: whoever folds the order tells.
            _ => return,
        };
        let own = self.is_homes(&order);
        for range in pinned.ranges {
            if !self.options.wants(&range.log) {
                continue;
            }
            let head = Head {
                seal: Some(range.seal),
                root: range.root,
                by: By::Pin {
                    order,
                    seq: record.seal().seq,
                    position,
                    own,
                },
            };
            let state = self.logs.get_mut(&range.log);
            if let Some(finding) = self.book.say(range.log, range.last, head, state) {
                found.push((index, finding));
            }
        }
    }

    /// Which receipt a damaged record is, when what is left of it fits the place that a log expects next: by what it says
    /// of itself, or by the link to the record before.
    pub(super) fn name(&mut self, suspect: &Suspect) -> Option<(LogId, u64)> {
        let by_itself = suspect
            .place
            .filter(|(log, seq)| self.logs.get(log).is_some_and(|state| state.expects() == *seq))
            .map(|(log, _)| log);
        let by_link = || {
            let linked = |(log, state): (&LogId, &LogState)| Some((suspect.find(state.link()?)?, *log));
            // What a pin says of other logs stands before its own seal.
            self.logs.iter().filter_map(linked).max().map(|(_, log)| log)
        };
        let log = by_itself.or_else(by_link)?;
        let state = self.logs.get_mut(&log)?;
        let seq = state.expects();
        state.name_damaged();
        Some((log, seq))
    }

    // A record whose bytes are no record, although the journal's checksums hold.
    fn unreadable(&mut self, position: Position, error: &RecordError, suspect: &Suspect) -> Finding {
        let place = self.name(suspect);
        Finding {
            code: error.code(),
            aspect: Aspect::Integrity,
            log: place.map(|(log, _)| log),
            seq: place.map(|(_, seq)| seq),
            id: suspect.id(),
            position: Some(position),
            text: error.to_string(),
        }
    }

    // Whether the machine that owns the store writes a log, as far as its records tell.
    fn is_homes(&self, log: &LogId) -> bool {
        self.home.is_none() || self.logs.get(log).and_then(LogState::machine_key) == self.home
    }

    /// Whether a log is written by the machine that owns the store.
    pub(super) fn is_own(&self, log: &LogId) -> bool {
        self.anchored.contains(log)
            || (self.home.is_some() && self.logs.get(log).and_then(LogState::machine_key) == self.home)
    }

    // What the judge says; a log that founded its own fleet needs none.
    fn judge_authority(&mut self) {
        let founded = |state: &LogState| {
            let chain = state.chain();
            chain.is_some_and(|chain| chain.genesis().founding.is_some())
        };
        let judgement = self.judge.as_mut().map(|judge| judge.finish());
        let Some(judgement) = judgement.filter(|said| said.not_checked.is_none() || self.logs.len() > 1)
        else {
            if self.logs.len() == 1 && self.logs.values().all(founded) {
                self.report.authority = Verdict::Clean;
                self.report.counts.judged = self.report.counts.receipts;
            }
            return;
        };
        if let Some(why) = &judgement.not_checked {
            self.report.not_checked(Aspect::Authority, why);
            return;
        }
        judgement.tell(&mut self.report, |log| self.options.wants(log));
    }

    /// The report, with what is said of the logs.
    pub(super) fn finish(mut self) -> Report {
        self.payloads.judge(&mut self.report);
        self.excused.judge(&mut self.report);
        self.judge_authority();
        self.pruned.judge(self.home, &mut self.report);
        self.report.counts.logs = u64::try_from(self.logs.len()).unwrap_or(u64::MAX);
        self.report.counts.heads_compared += self.book.compared();
        let mut logs: Vec<_> = self.logs.values().map(|state| state.report(self.home)).collect();
        logs.sort_by(|a, b| {
            let key =
                |log: &super::LogReport| (!log.own, log.machine.clone(), log.stream.map(|s| s.to_string()));
            key(a).cmp(&key(b)).then(a.log.cmp(&b.log))
        });
        self.report.logs = logs;
        let newest = self.logs.values().map(LogState::time).max();
        let now_us = self.options.clock.now_us();
        self.report.set_freshness(newest, now_us, self.options.max_age_ms);
        self.report.tell_unchecked();
        self.report
    }
}
