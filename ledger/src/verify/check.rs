//! The checks over a stream of entries: payloads and parsing on all cores, chains in order, signatures on all cores.
//!
//! Works on one chunk of entries after another: while one is placed and its signatures are checked, the next is read, parsed
//! and hashed. Signatures of the store's own logs, told by its anchor, go through the
//! batch equation, which only accelerates what this store admitted strictly before; a batch that fails is checked one by
//! one to name the culprit. All other signatures are checked strictly.

use super::Options;
use super::heads::{Book, By, Head};
use super::log::LogState;
use super::payloads::{self, PayloadFound, Payloads};
use super::report::{Aspect, Finding, Report};
use super::suspect::Suspect;
use crate::Position;
use crate::anchor::Anchor;
use crate::error::LedgerError;
use crate::journal::StoredEntry;
use ledger_core::error::{ChainError, RecordError};
use ledger_core::kinds::{Detail, LogPinned};
use ledger_core::{
    FleetId, LogId, Payload, PublicKey, Record, SealDigest, Signature, Stream, VerifyKey, chain, signature,
    tree,
};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Entries of one chunk at most.
const CHUNK_ENTRIES: usize = 4096;
/// Below so many entries the work is not spread over threads.
const PARALLEL_MIN: usize = 64;
/// Bytes of records and payloads after which a chunk is checked.
const CHUNK_BYTES: usize = 8 << 20;
/// Signatures in one batch equation.
const SIGNATURES_BATCH: usize = 256;

/// One entry, checked by itself.
pub(super) struct Prepared {
    position: Position,
    // What could not be parsed is kept, to be given a name.
    record: Result<Record, (RecordError, Suspect)>,
    leaf: tree::Hash,
    payload: PayloadFound,
}

/// Collects entries, and has a chunk of them parsed and hashed at a time, each by one thread of the pool.
pub(super) struct Preparer {
    chunk: Vec<StoredEntry>,
    bytes: usize,
    pool: Option<Arc<rayon::ThreadPool>>,
}

/// A chunk that is being prepared.
pub(super) enum Preparing {
    Done(Vec<Prepared>),
    Elsewhere(Receiver<Vec<Prepared>>),
}

impl Preparing {
    /// Waits for it.
    pub(super) fn wait(self) -> Vec<Prepared> {
        match self {
            Self::Done(entries) => entries,
            Self::Elsewhere(entries) => entries.recv().expect("parsing and hashing do not panic"),
        }
    }
}

impl Preparer {
    /// Takes the next entry; a chunk when one is full.
    pub(super) fn take(&mut self, entry: StoredEntry) -> Option<Preparing> {
        let payload_bytes = entry.payload.as_ref().map_or(0, |payload| payload.bytes.len());
        self.bytes += entry.record.len() + payload_bytes;
        self.chunk.push(entry);
        (self.chunk.len() >= CHUNK_ENTRIES || self.bytes >= CHUNK_BYTES).then(|| self.flush())
    }

    /// What was taken since the last chunk.
    pub(super) fn flush(&mut self) -> Preparing {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.chunk);
        // A thread of a pool must not wait for another of it.
        if entries.len() < PARALLEL_MIN || rayon::current_thread_index().is_some() {
            return Preparing::Done(entries.into_iter().map(prepare).collect());
        }
        let (done, prepared) = channel();
        let job = move || {
            // A panic is told by what never comes; whoever is gone needs nothing.
            let work = || entries.into_iter().map(prepare).collect();
            if let Ok(entries) = catch_unwind(AssertUnwindSafe(work)) {
                drop(done.send(entries));
            }
        };
        match &self.pool {
            Some(pool) => pool.spawn(job),
            None => rayon::spawn(job),
        }
        Preparing::Elsewhere(prepared)
    }
}

impl Prepared {
    /// Where the entry lies.
    pub(super) fn position(&self) -> Position {
        self.position
    }
}

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
    // Threads of its own, when not all cores shall work.
    pool: Option<Arc<rayon::ThreadPool>>,
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
            pool,
        };
        for anchored in anchor.iter().flat_map(|anchor| &anchor.logs) {
            check.anchored.insert(anchored.log);
            if options.wants(&anchored.log) {
                let head = Head {
                    seal: anchored.head.seal,
                    root: Some(anchored.head.root),
                    by: By::Anchor,
                };
                // Nothing was read yet, so it only waits.
                let _ = check.book.say(anchored.log, anchored.head.seq, head, None);
            }
        }
        Ok(check)
    }

    fn on_pool<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// What checks entries by themselves, on another thread than this.
    pub(super) fn preparer(&self) -> Preparer {
        Preparer {
            chunk: Vec::new(),
            bytes: 0,
            pool: self.pool.clone(),
        }
    }

    /// Takes the next entries: their places in the logs, and their signatures. Findings keep the journal's order.
    pub(super) fn take(&mut self, prepared: &[Prepared]) {
        let mut found: Vec<(usize, Finding)> = Vec::new();
        let mut signed: Vec<(usize, VerifyKey)> = Vec::new();
        for (index, entry) in prepared.iter().enumerate() {
            match &entry.record {
                Ok(record) => self.place(index, entry, record, &mut found, &mut signed),
                Err((error, suspect)) => found.push((index, self.unreadable(entry.position, error, suspect))),
            }
        }
        if self.options.full {
            let bad = self.check_signatures(prepared, &signed);
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
            self.report.found(finding);
        }
    }

    fn place(
        &mut self,
        index: usize,
        entry: &Prepared,
        record: &Record,
        found: &mut Vec<(usize, Finding)>,
        signed: &mut Vec<(usize, VerifyKey)>,
    ) {
        let log = record.seal().log;
        self.payloads.hear(record);
        if !self.options.wants(&log) {
            return;
        }
        self.report.counts.receipts += 1;
        let faults = match self.logs.get_mut(&log) {
            Some(state) => state.take(record, entry.leaf),
            None => {
                let (state, fault) = LogState::begin(record, entry.leaf);
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
        let own = self.home.is_none() || state.machine_key() == self.home;
        let is_order = state
            .chain()
            .is_some_and(|chain| chain.genesis().stream == Stream::Order);
        if let Some(key) = state.key() {
            signed.push((index, key.clone()));
        }
        if is_order && record.statement().kind.as_str() == LogPinned::KIND {
            self.pins(index, entry, record, own, found);
        }
        let judge = |(code, aspect, text): payloads::Fault| {
            finding(code, aspect, entry.position, record, text.to_owned())
        };
        let now = self
            .payloads
            .take(&mut self.report, record, entry.payload, own, judge);
        found.extend(now.map(|finding| (index, finding)));
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

    fn pins(
        &mut self,
        index: usize,
        entry: &Prepared,
        record: &Record,
        own: bool,
        found: &mut Vec<(usize, Finding)>,
    ) {
        let pinned = match LogPinned::decode(&record.statement().detail) {
            Ok(pinned) if record.statement().schema == LogPinned::SCHEMA => pinned,
            // A newer schema, or a record without sense: whoever folds the order tells.
            _ => return,
        };
        for range in pinned.ranges {
            if !self.options.wants(&range.log) {
                continue;
            }
            let head = Head {
                seal: range.seal,
                root: range.root,
                by: By::Pin {
                    order: record.seal().log,
                    seq: record.seal().seq,
                    position: entry.position,
                    own,
                },
            };
            let state = self.logs.get_mut(&range.log);
            if let Some(finding) = self.book.say(range.log, range.last, head, state) {
                found.push((index, finding));
            }
        }
    }

    fn check_signatures(
        &mut self,
        prepared: &[Prepared],
        signed: &[(usize, VerifyKey)],
    ) -> Vec<(usize, ChainError)> {
        let record = |index: usize| {
            prepared[index]
                .record
                .as_ref()
                .expect("only parsed records are checked")
        };
        let authors: Vec<usize> = signed
            .iter()
            .map(|(index, _)| *index)
            .filter(|index| record(*index).author_signature().is_some())
            .collect();
        self.report.counts.log_signatures += u64::try_from(signed.len()).unwrap_or(u64::MAX);
        self.report.counts.author_signatures += u64::try_from(authors.len()).unwrap_or(u64::MAX);
        let (own, others): (Vec<_>, Vec<_>) = signed
            .iter()
            .partition(|(_, key)| self.trusted.contains(&key.public()));
        let strictly = |(index, key): &(usize, VerifyKey)| {
            let (seal, record) = (record(*index).seal(), record(*index));
            let valid = signature::verify_seal(key, &record.seal_digest(), record.log_signature());
            let (log, seq) = (seal.log, seal.seq);
            (!valid).then_some((*index, ChainError::LogSignature { log, seq }))
        };
        let batch = |run: &[&(usize, VerifyKey)]| -> Vec<(usize, ChainError)> {
            let items: Vec<(SealDigest, Signature)> = run
                .iter()
                .map(|(index, _)| (record(*index).seal_digest(), *record(*index).log_signature()))
                .collect();
            // All trusted keys are the one machine key of this store.
            let passes = run
                .first()
                .is_none_or(|(_, key)| signature::verify_seals_batch(key, &items));
            if passes {
                Vec::new()
            } else {
                run.iter().filter_map(|task| strictly(task)).collect()
            }
        };
        let author = |index: usize| Some((index, chain::verify_author(record(index)).err()?));
        self.on_pool(|| {
            let mut bad: Vec<(usize, ChainError)> =
                own.par_chunks(SIGNATURES_BATCH).flat_map_iter(batch).collect();
            bad.par_extend(others.into_par_iter().filter_map(strictly));
            bad.par_extend(authors.into_par_iter().filter_map(author));
            bad
        })
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

    /// Whether a log is written by the machine that owns the store.
    pub(super) fn is_own(&self, log: &LogId) -> bool {
        self.anchored.contains(log)
            || (self.home.is_some() && self.logs.get(log).and_then(LogState::machine_key) == self.home)
    }

    /// The report, with what is said of the logs.
    pub(super) fn finish(mut self) -> Report {
        self.payloads.judge(&mut self.report);
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
        self.report.set_freshness(newest, self.options.clock.now_us());
        self.report
    }
}

fn prepare(entry: StoredEntry) -> Prepared {
    let erased = entry.is_erased();
    let leaf = tree::leaf_hash(&entry.record);
    let record = Record::parse_owned(entry.record).map_err(|(error, bytes)| (error, Suspect::of(bytes)));
    let payload = match &record {
        Ok(record) => match (&record.statement().payload, &entry.payload, entry.place) {
            (None, None, None) => PayloadFound::None,
            (None, ..) => PayloadFound::Unexpected,
            (Some(wanted), Some(payload), _) if payload.matches(wanted) => PayloadFound::Fits,
            (Some(wanted), Some(payload), _) if erased && has_length(payload, wanted.bytes) => {
                PayloadFound::Erased
            }
            (Some(_), None, None) => PayloadFound::Absent,
            (Some(_), ..) => PayloadFound::Differs,
        },
        Err(_) => PayloadFound::None,
    };
    Prepared {
        position: entry.position,
        record,
        leaf,
        payload,
    }
}

fn has_length(payload: &Payload, bytes: u32) -> bool {
    u32::try_from(payload.bytes.len()) == Ok(bytes)
}

fn finding(code: &'static str, aspect: Aspect, position: Position, record: &Record, text: String) -> Finding {
    Finding {
        code,
        aspect,
        log: Some(record.seal().log),
        seq: Some(record.seal().seq),
        id: Some(record.statement().id),
        position: Some(position),
        text,
    }
}
