//! Heads that somebody else has seen: what the anchor and the order's pins say must be here.
//!
//! A head is compared when the log gets there, when it is said a little later, or in a second reading of the journal when
//! it is said much later. Memory is bounded by [`HEADS_MAX`]; what goes past it is counted and told.

use super::log::{Compared, LogState};
use super::report::{Aspect, Finding};
use crate::Position;
use ledger_core::{LogId, Record, SealDigest, TreeRoot, tree};
use std::collections::{BTreeMap, HashMap};

/// Heads that wait for a comparison at most: about 30 MiB.
const HEADS_MAX: usize = 200_000;

/// Who said it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Anchor,
    /// A signed checkpoint that the caller brought.
    Checkpoint,
    /// A `log.pinned` at this place of an order log.
    Pin {
        order: LogId,
        seq: u64,
        position: Position,
        /// Whether this store itself writes that order, so that it had what it pinned.
        own: bool,
    },
}

/// One head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Unknown to who has a checkpoint only.
    pub(super) seal: Option<SealDigest>,
    pub(super) root: Option<TreeRoot>,
    pub(super) by: By,
}

impl Head {
    pub(super) fn finding(&self, log: LogId, seq: u64, compared: Compared) -> Option<Finding> {
        let (code, what) = match compared {
            Compared::Same | Compared::NotNow => return None,
            Compared::OtherSeal => ("seal", "another seal stands at this seq"),
            Compared::OtherRoot => (
                "root",
                "the tree's root over the records up to this seq is another one",
            ),
        };
        let (code, said) = match (self.by, code) {
            (By::Anchor, "seal") => ("anchor.seal", "than the anchor says".to_owned()),
            (By::Anchor, _) => ("anchor.root", "than the anchor says".to_owned()),
            (By::Checkpoint, _) => (
                "checkpoint.root",
                "than the checkpoint that was given says".to_owned(),
            ),
            (By::Pin { order, seq, .. }, code) => {
                let said = format!("than the pin at seq {seq} of order {} says", order.short());
                (if code == "seal" { "pin.seal" } else { "pin.root" }, said)
            }
        };
        Some(self.finding_of(code, Aspect::Integrity, log, seq, format!("{what} {said}")))
    }

    pub(super) fn missing(&self, log: LogId, seq: u64) -> Finding {
        let (code, text) = match self.by {
            By::Anchor => (
                "anchor.missing",
                "the anchor knows this record as acknowledged, and it is not here".to_owned(),
            ),
            By::Checkpoint => (
                "checkpoint.missing",
                "the checkpoint that was given covers this record, and it is not here".to_owned(),
            ),
            By::Pin { order, seq, .. } => (
                "pin.missing",
                format!("pinned at seq {seq} of order {}, and not here", order.short()),
            ),
        };
        self.finding_of(code, Aspect::Completeness, log, seq, text)
    }

    fn finding_of(&self, code: &'static str, aspect: Aspect, log: LogId, seq: u64, text: String) -> Finding {
        let position = match self.by {
            By::Anchor | By::Checkpoint => None,
            By::Pin { position, .. } => Some(position),
        };
        Finding {
            code,
            aspect,
            log: Some(log),
            seq: Some(seq),
            id: None,
            position,
            text,
        }
    }
}

type Heads = HashMap<LogId, BTreeMap<u64, Vec<Head>>>;

/// All heads that could not be compared yet.
#[derive(Debug, Default)]
pub(super) struct Book {
    // Ahead of what was read of their logs.
    waiting: Heads,
    // Too far behind it.
    late: Heads,
    held: usize,
    dropped: u64,
    compared: u64,
}

impl Book {
    /// Notes a head; compares it at once when that is possible.
    pub(super) fn say(
        &mut self,
        log: LogId,
        seq: u64,
        head: Head,
        state: Option<&mut LogState>,
    ) -> Option<Finding> {
        let Some(state) = state.filter(|state| state.reaches(seq)) else {
            self.hold(true, log, seq, head);
            return None;
        };
        let compared = state.compare(seq, head.seal.as_ref(), head.root.as_ref());
        if compared == Compared::NotNow {
            self.hold(false, log, seq, head);
            return None;
        }
        self.compared += 1;
        head.finding(log, seq, compared)
    }

    fn hold(&mut self, waiting: bool, log: LogId, seq: u64, head: Head) {
        if self.held == HEADS_MAX {
            self.dropped += 1;
            return;
        }
        self.held += 1;
        let heads = if waiting {
            &mut self.waiting
        } else {
            &mut self.late
        };
        heads.entry(log).or_default().entry(seq).or_default().push(head);
    }

    /// A log got to a seq: compares what waited for it.
    pub(super) fn reached(&mut self, log: LogId, seq: u64, state: &LogState) -> Vec<Finding> {
        let Some(heads) = self.waiting.get_mut(&log).and_then(|seqs| seqs.remove(&seq)) else {
            return Vec::new();
        };
        self.held -= heads.len();
        let mut findings = Vec::new();
        for head in heads {
            let compared = state.compare_newest(head.seal.as_ref(), head.root.as_ref());
            self.compared += 1;
            findings.extend(head.finding(log, seq, compared));
        }
        findings
    }

    /// Whether a head waits for a record of this range.
    pub(super) fn waits_in(&self, log: &LogId, first: u64, last: u64) -> bool {
        let waiting = self.waiting.get(log);
        waiting.is_some_and(|seqs| first <= last && seqs.range(first..=last).next().is_some())
    }

    /// What nobody brought. A pin of another machine's order may run ahead of the copies of logs here; it is then only
    /// counted, unless the log is this store's own.
    pub(super) fn missing(&mut self, is_own: impl Fn(&LogId) -> bool) -> (Vec<Finding>, u64) {
        let (mut findings, mut ahead) = (Vec::new(), 0);
        for (log, seqs) in std::mem::take(&mut self.waiting) {
            for (seq, heads) in seqs {
                for head in heads {
                    let must = match head.by {
                        By::Anchor | By::Checkpoint => true,
                        By::Pin { own, .. } => own || is_own(&log),
                    };
                    if must {
                        findings.push(head.missing(log, seq));
                    } else {
                        ahead += 1;
                    }
                }
            }
        }
        findings.sort_by_key(|finding| (finding.log, finding.seq));
        (findings, ahead)
    }

    /// Takes what needs a second reading.
    pub(super) fn take_late(&mut self) -> SecondReading {
        SecondReading {
            heads: std::mem::take(&mut self.late),
            trees: HashMap::new(),
            compared: 0,
        }
    }

    /// Heads that were compared.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// Heads that went past the bound.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Rebuilds the trees of some logs from the beginning, to compare heads that were said much later.
#[derive(Debug)]
pub(super) struct SecondReading {
    heads: Heads,
    trees: HashMap<LogId, tree::Tree>,
    pub(super) compared: u64,
}

impl SecondReading {
    /// Whether there is nothing to compare any more.
    pub(super) fn is_done(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes the next record of the journal.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Finding> {
        let Ok(record) = Record::parse(bytes) else {
            return Vec::new();
        };
        let (log, seq) = (record.seal().log, record.seal().seq);
        let Some(seqs) = self.heads.get_mut(&log) else {
            return Vec::new();
        };
        let tree = self.trees.entry(log).or_default();
        if tree.size() == seq {
            tree.push(tree::leaf_hash(bytes));
        }
        let Some(heads) = seqs.remove(&seq) else {
            return Vec::new();
        };
        // After a gap the tree stays behind, and only seals can be compared.
        let root = (seq.checked_add(1) == Some(tree.size())).then(|| tree.root());
        let mut findings = Vec::new();
        for head in heads {
            let compared = if head.seal.is_some_and(|seal| seal != record.seal_digest()) {
                Compared::OtherSeal
            } else if head
                .root
                .is_some_and(|wanted| root.is_some_and(|root| wanted != root))
            {
                Compared::OtherRoot
            } else {
                Compared::Same
            };
            self.compared += 1;
            findings.extend(head.finding(log, seq, compared));
        }
        if seqs.is_empty() {
            self.heads.remove(&log);
        }
        findings
    }
}
