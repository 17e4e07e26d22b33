//! Logs whose oldest records were pruned: where each goes on, and whether the receipts that say so stand in the journal.
//!
//! A gap in a log is no finding when a `log.pruned` of the machine that owns the store covers it, and only then. What is known of
//! them before the run comes from a file beside the segments; when that is lost or damaged, from a first reading of the journal.

use super::report::{Aspect, Finding, Report};
use crate::error::LedgerError;
use crate::journal;
use crate::prune::book::{Book, Floor, Found};
use crate::storage::Storage;
use ledger_core::kinds::{Detail, LogPruned};
use ledger_core::{LogId, PublicKey, Record, SealDigest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// `log.pruned` receipts that are kept for the end of the run: some 10 MiB.
const SAID_MAX: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(super) struct PrunedLogs {
    floors: BTreeMap<LogId, Arc<Floor>>,
    said: BTreeSet<(LogId, u64, SealDigest)>,
}

impl PrunedLogs {
    /// Whether the file that says what was pruned is there.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub(super) fn is_known(storage: &dyn Storage, dir: &Path) -> Result<bool, LedgerError> {
        Ok(Book::load(storage, dir, None)?.1 != Found::Missing)
    }

    /// Reads what is known of a journal. `gaps`: the journal has some, so that a file that is missing may have been there.
    ///
    /// # Errors
    /// [`LedgerError`] when it cannot be read.
    pub(super) fn load(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        gaps: bool,
        report: &mut Report,
    ) -> Result<Self, LedgerError> {
        let (book, found) = Book::load(storage.as_ref(), dir, None)?;
        let lost = match found {
            Found::Sound => None,
            Found::Damaged => Some("is damaged"),
            Found::Missing if gaps => Some("is missing"),
            Found::Missing => journal::is_pruned(storage.as_ref(), dir)?.then_some("is missing"),
        };
        let made_again = match lost {
            None => None,
            Some(_) => Some(Book::from_walk(Arc::clone(storage), dir)?),
        };
        let book = match (lost, made_again) {
            // Gaps of which no receipt speaks are damage, and nothing is known to be lost beside them.
            (Some("is missing"), Some(made)) if gaps && made.entries.is_empty() => book,
            (Some(how), Some(made)) => {
                let text = format!(
                    "the file `pruned`, which says what was pruned, {how}; it is read from the receipts, and opening the store makes it again"
                );
                report.found(finding("journal.pruned-file", Aspect::Integrity, None, text));
                made
            }
            _ => book,
        };
        Ok(Self {
            floors: book.floors(),
            said: BTreeSet::new(),
        })
    }

    /// Below what a log is pruned.
    pub(super) fn floor(&self, log: &LogId) -> Option<Arc<Floor>> {
        self.floors.get(log).cloned()
    }

    /// Below what each log is pruned.
    pub(super) fn floors(&self) -> BTreeMap<LogId, Arc<Floor>> {
        self.floors.clone()
    }

    /// Notes a `log.pruned`, wherever it stands.
    pub(super) fn hear(&mut self, record: &Record) {
        let seal = record.seal();
        if record.statement().kind.as_str() == LogPruned::KIND && self.said.len() < SAID_MAX {
            self.said.insert((seal.log, seal.seq, record.seal_digest()));
        }
    }

    /// Tells what was counted on and stands nowhere. `home`: the machine that owns the store.
    pub(super) fn judge(&self, home: Option<PublicKey>, report: &mut Report) {
        if report.counts.pruned > 0 {
            let (count, logs) = (report.counts.pruned, self.floors.len());
            report.note(format!(
                "{count} records of {logs} logs were pruned, as receipts say"
            ));
        }
        for (log, floor) in &self.floors {
            let by = floor.evidence();
            if home.is_some_and(|home| home != floor.record.statement().author) {
                let text = "its records were pruned on the word of another machine".to_owned();
                report.found(finding("prune.foreign", Aspect::Completeness, Some(*log), text));
            } else if !self.said.contains(&(by.log, by.seq, by.seal)) {
                let text = format!(
                    "records 1 to {} of it were pruned, and the receipt that says so (seq {} of log {}) is not here",
                    floor.said.last,
                    by.seq,
                    by.log.short()
                );
                report.found(finding("prune.unsaid", Aspect::Completeness, Some(*log), text));
            }
        }
    }
}

fn finding(code: &'static str, aspect: Aspect, log: Option<LogId>, text: String) -> Finding {
    Finding {
        code,
        aspect,
        log,
        seq: None,
        id: None,
        position: None,
        text,
    }
}
