//! What an earlier run has covered, and what this one covers: records counted and digested log by log.
//!
//! Contract: an earlier run counts only when this one meets the same records, byte for byte and as many, up to the place where it
//! was; otherwise [`Cover::differs`], and the run is worth nothing. Digests are over leaf hashes, so over whole records with
//! their signatures. Costs nothing when nobody wants to go on later.

use super::FINDINGS_MAX;
use super::report::Resumed;
use super::resume::{Covered, State};
use super::scope::Scope;
use crate::Position;
use ledger_core::LogId;
use ledger_core::tree::Hash;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cover {
    keeps: bool,
    logs: BTreeMap<LogId, Log>,
    bad: BTreeSet<Position>,
    earlier: Option<State>,
    differs: bool,
    // What stands on the earlier run.
    receipts: u64,
    log_signatures: u64,
    author_signatures: u64,
}

#[derive(Debug, Default)]
struct Log {
    records: u64,
    // Of them, where the earlier run was.
    before: u64,
    hasher: Box<blake3::Hasher>,
    expected: Option<(u64, [u8; 32])>,
}

impl Log {
    fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

/// How far a run is, once all signatures up to there are checked.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: Position,
    pub(super) logs: Vec<Covered>,
}

impl Cover {
    /// `keeps`: whether somebody may go on later; `earlier`: what is gone on from.
    pub(super) fn new(keeps: bool, earlier: Option<State>, scope: &mut Scope) -> Self {
        let mut cover = Self {
            keeps,
            ..Self::default()
        };
        if let Some(state) = earlier {
            scope.set_covered(state.at, &state.bad);
            for Covered { log, records, digest } in &state.logs {
                cover.logs.entry(*log).or_default().expected = Some((*records, *digest));
            }
            cover.bad.clone_from(&state.bad);
            cover.earlier = Some(state);
        }
        cover
    }

    /// Takes the next records of a log, of which so many lie where the earlier run was.
    pub(super) fn take<'h>(&mut self, log: LogId, leaves: impl Iterator<Item = &'h Hash>, before: u64) {
        if !self.keeps {
            return;
        }
        let known = self.logs.entry(log).or_default();
        known.before += before;
        self.receipts += before;
        for leaf in leaves {
            known.hasher.update(leaf);
            known.records += 1;
            if let Some((records, digest)) = known.expected
                && known.records == records
            {
                self.differs |= digest != known.digest();
            }
        }
        self.differs |= known.before > known.expected.map_or(0, |(records, _)| records);
    }

    /// Counts signatures that the earlier run checked.
    pub(super) fn count(&mut self, log_signatures: u64, author_signatures: u64) {
        self.log_signatures += log_signatures;
        self.author_signatures += author_signatures;
    }

    /// Notes where a signature does not verify.
    pub(super) fn note_bad(&mut self, position: Option<Position>) {
        // One more than is kept tells that there were more.
        if let Some(position) = position.filter(|_| self.keeps && self.bad.len() <= FINDINGS_MAX) {
            self.bad.insert(position);
        }
    }

    /// Whether something else is here than the earlier run has read.
    pub(super) fn differs(&self) -> bool {
        self.differs
    }

    /// The same at the end, when all of it must have been met.
    pub(super) fn differs_at_end(&self) -> bool {
        let short = |log: &Log| log.before != log.expected.map_or(0, |(records, _)| records);
        self.differs || self.logs.values().any(short)
    }

    /// How far the run is behind a record, all signatures up to there supposed. `None` when nobody wants to know, and as long as
    /// not all that the earlier run counts was met: what it spared could be other records.
    pub(super) fn mark(&self, at: Position) -> Option<Mark> {
        (self.keeps && !self.differs_at_end() && at != Position::START).then(|| Mark {
            at,
            logs: self
                .logs
                .iter()
                .map(|(log, known)| Covered {
                    log: *log,
                    records: known.records,
                    digest: known.digest(),
                })
                .collect(),
        })
    }

    /// Where signatures up to a place did not verify; `None` when there are too many to keep.
    pub(super) fn bad_up_to(&self, at: Position) -> Option<BTreeSet<Position>> {
        (self.bad.len() <= FINDINGS_MAX).then(|| self.bad.range(..=at).copied().collect())
    }

    /// The file that is gone on from.
    pub(super) fn earlier(&self) -> Option<&State> {
        self.earlier.as_ref()
    }

    /// What the report says.
    pub(super) fn report(&self) -> Option<Resumed> {
        self.earlier.as_ref().map(|earlier| Resumed {
            from: earlier.at,
            saved_unix_ms: earlier.saved_unix_ms,
            receipts: self.receipts,
            log_signatures: self.log_signatures,
            author_signatures: self.author_signatures,
        })
    }
}
