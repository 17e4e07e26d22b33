//! The careful way of [`super::Check`]: entry by entry, and alone in making findings about entries and their places.

use super::{Check, PARALLEL_MIN};
use crate::Position;
use crate::journal::StoredEntry;
use crate::receipt::Receipt;
use crate::verify::entry::{Prepared, finding, prepare};
use crate::verify::heads::{By, Head, Word};
use crate::verify::log::LogState;
use crate::verify::payloads;
use crate::verify::report::{Aspect, Finding};
use crate::verify::scope::Duty;
use crate::verify::signed;
use crate::verify::suspect::Suspect;
use ledger_core::error::RecordError;
use ledger_core::kinds::{Detail, LogCited, LogPinned};
use ledger_core::{Chain, LogId, Record, SealDigest, Stream, TreeRoot, VerifyKey};
use rayon::prelude::*;
use std::sync::Arc;

impl Check<'_> {
    /// Takes the next entries with care: each by itself, its place in the logs, its signatures. Findings keep the journal's order.
    pub(in crate::verify) fn take(&mut self, entries: Vec<StoredEntry>) {
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
                self.cover.note_bad(Some(entry.position));
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
        self.seen.reached(&log, record.seal().seq, record.seal().time);
        let state = &self.logs[&log];
        for finding in self.book.reached(log, record.seal().seq, state) {
            found.push((index, finding));
        }
        let before = u64::from(self.scope.is_before(entry.position));
        self.cover.take(log, std::iter::once(&entry.leaf), before);
        let duty = self
            .scope
            .duty(entry.position, record.seal().seq, record.seal().time);
        self.in_range += u64::from(duty != Duty::Outside);
        match (state.key(), duty) {
            (Some(key), Duty::Check) => {
                signed.push((index, key.clone(), self.trusted.contains(&key.public())));
            }
            (Some(_), Duty::Covered) => {
                let authored = u64::from(record.author_signature().is_some());
                self.report.counts.log_signatures += 1;
                self.report.counts.author_signatures += authored;
                self.cover.count(1, authored);
            }
            _ => {}
        }
        self.heads(index, entry.position, record, found);
        let own = self.is_homes(&log);
        let judge = |(code, aspect, text): payloads::Fault| {
            finding(code, aspect, entry.position, record, text.to_owned())
        };
        let now = self
            .payloads
            .take(&mut self.report, record, entry.payload, own, judge);
        found.extend(now.map(|finding| (index, finding)));
    }

    pub(super) fn hear(&mut self, record: &Record) {
        self.payloads.hear(record);
        self.pruned.hear(record);
        let orders = |chain: &Chain| {
            chain.genesis().stream == Stream::Order && chain.machine_key() == record.statement().author
        };
        let chain = self.logs.get(&record.seal().log).and_then(LogState::chain);
        if chain.is_some_and(orders) {
            self.excused.hear(record);
            self.cosigned.hear(record);
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

    // What heads of other logs a record of an order log says.
    pub(super) fn heads(
        &mut self,
        index: usize,
        position: Position,
        record: &Record,
        found: &mut Vec<(usize, Finding)>,
    ) {
        let word = match record.statement().kind.as_str() {
            LogPinned::KIND => Word::Pinned,
            LogCited::KIND => Word::Cited,
            _ => return,
        };
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
        let by = By::Order {
            word,
            order,
            seq: record.seal().seq,
            position,
            own: self.is_homes(&order),
        };
        for (log, seq, seal, root) in said_heads(word, record) {
            if !self.options.wants(&log) {
                continue;
            }
            let seal = Some(seal);
            let floor = self.pruned.floor(&log);
            let state = self.logs.get_mut(&log);
            let said = self
                .book
                .say(log, seq, Head { seal, root, by }, state, floor.as_deref());
            found.extend(said.map(|finding| (index, finding)));
        }
    }

    /// Which receipt a damaged record is, when what is left of it fits the place that a log expects next: by what it says
    /// of itself, or by the link to the record before.
    pub(in crate::verify) fn name(&mut self, suspect: &Suspect) -> Option<(LogId, u64)> {
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
}

// A newer schema, or a record without sense, says nothing: whoever folds the order tells.
fn said_heads(word: Word, record: &Record) -> Vec<(LogId, u64, SealDigest, Option<TreeRoot>)> {
    let statement = record.statement();
    match word {
        Word::Pinned if statement.schema == LogPinned::SCHEMA => {
            let ranges = LogPinned::decode(&statement.detail).map(|pinned| pinned.ranges);
            let ranges = ranges.unwrap_or_default().into_iter();
            ranges
                .map(|range| (range.log, range.last, range.seal, range.root))
                .collect()
        }
        Word::Cited if statement.schema == LogCited::SCHEMA => {
            let heads = LogCited::decode(&statement.detail).map(|cited| cited.heads);
            let heads = heads.unwrap_or_default().into_iter();
            heads
                .map(|cited| (cited.log, cited.head.seq, cited.head.seal, Some(cited.head.root)))
                .collect()
        }
        Word::Pinned | Word::Cited => Vec::new(),
    }
}
