//! Heads that somebody else has seen: what the anchor, what the order pins and cites, and what cosigned checkpoints say must be here.
//!
//! A head is compared when the log gets there, when it is said a little later, or in a second reading of the journal when
//! it is said much later. A head over records that were pruned is counted, unless it is the very last of them. Memory is bounded
//! by [`HEADS_MAX`]; what goes past it is counted and told.

use super::log::{Compared, LogState};
use super::report::{Aspect, Finding};
use crate::Position;
use crate::prune::book::Floor;
use ledger_core::{LogId, Record, SealDigest, TreeRoot, tree};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Heads that wait for a comparison at most: about 30 MiB.
const HEADS_MAX: usize = 200_000;

/// Who said it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Anchor,
    /// A signed checkpoint that the caller brought.
    Checkpoint,
    /// A checkpoint that the store keeps with the cosignatures of others.
    Cosigned,
    /// A `log.pinned` or `log.cited` at this place of an order log.
    Order {
        word: Word,
        order: LogId,
        seq: u64,
        position: Position,
        /// Whether this store itself writes that order, so that it had what it pinned or cited.
        own: bool,
    },
}

/// How an order says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// By a pin.
    Pinned,
    /// By citing the head of a log that it does not pin.
    Cited,
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
    /// Compares it with what is here; an unknown root is not compared.
    fn compare(&self, seal: &SealDigest, root: Option<&TreeRoot>) -> Compared {
        if self.seal.is_some_and(|wanted| wanted != *seal) {
            Compared::OtherSeal
        } else if self
            .root
            .is_some_and(|wanted| root.is_some_and(|root| wanted != *root))
        {
            Compared::OtherRoot
        } else {
            Compared::Same
        }
    }

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
            (By::Cosigned, _) => (
                "cosigned.root",
                "than the cosigned checkpoint that is kept here says".to_owned(),
            ),
            (By::Order { word, order, seq, .. }, code) => {
                let (noun, codes) = match word {
                    Word::Pinned => ("pin", ["pin.seal", "pin.root"]),
                    Word::Cited => ("citation", ["cited.seal", "cited.root"]),
                };
                let said = format!("than the {noun} at seq {seq} of order {} says", order.short());
                (codes[usize::from(code != "seal")], said)
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
            By::Cosigned => (
                "cosigned.missing",
                "a cosigned checkpoint that is kept here covers this record, and it is not here".to_owned(),
            ),
            By::Order { word, order, seq, .. } => {
                let (code, said) = match word {
                    Word::Pinned => ("pin.missing", "pinned"),
                    Word::Cited => ("cited.missing", "cited"),
                };
                let text = format!("{said} at seq {seq} of order {}, and not here", order.short());
                (code, text)
            }
        };
        self.finding_of(code, Aspect::Completeness, log, seq, text)
    }

    fn finding_of(&self, code: &'static str, aspect: Aspect, log: LogId, seq: u64, text: String) -> Finding {
        let position = match self.by {
            By::Anchor | By::Checkpoint | By::Cosigned => None,
            By::Order { position, .. } => Some(position),
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
    pruned: u64,
    compared: u64,
}

impl Book {
    /// Notes a head; compares it at once when that is possible. `floor`: below what its log is pruned.
    pub(super) fn say(
        &mut self,
        log: LogId,
        seq: u64,
        head: Head,
        state: Option<&mut LogState>,
        floor: Option<&Floor>,
    ) -> Option<Finding> {
        let state = state.filter(|state| state.reaches(seq));
        let reached = state.is_some();
        let mut compared = state.map_or(Compared::NotNow, |state| {
            state.compare(seq, head.seal.as_ref(), head.root.as_ref())
        });
        if compared == Compared::NotNow
            && let Some(floor) = floor.filter(|floor| floor.covers(seq))
        {
            // Of what went, the receipt about it says the last seal and the tree.
            if seq != floor.said.last {
                self.pruned += 1;
                return None;
            }
            compared = head.compare(&floor.said.seal, Some(&floor.tree().root()));
        }
        if compared == Compared::NotNow {
            self.hold(!reached, log, seq, head);
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

    /// What nobody brought. A pin or citation of another machine's order may run ahead of the copies of logs here; it is then only
    /// counted, unless the log is this store's own. So is what `is_lost` says of an order, a log and a seq that it cites.
    pub(super) fn missing(
        &mut self,
        is_own: impl Fn(&LogId) -> bool,
        is_lost: impl Fn(&LogId, &LogId, u64) -> bool,
    ) -> (Vec<Finding>, u64) {
        let (mut findings, mut ahead) = (Vec::new(), 0);
        for (log, seqs) in std::mem::take(&mut self.waiting) {
            for (seq, heads) in seqs {
                for head in heads {
                    let must = match head.by {
                        By::Anchor | By::Checkpoint | By::Cosigned => true,
                        By::Order {
                            word: Word::Cited,
                            order,
                            ..
                        } if is_lost(&order, &log, seq) => false,
                        By::Order { own, .. } => own || is_own(&log),
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
    pub(super) fn take_late(&mut self, floors: BTreeMap<LogId, Arc<Floor>>) -> SecondReading {
        SecondReading {
            heads: std::mem::take(&mut self.late),
            trees: HashMap::new(),
            floors,
            compared: 0,
        }
    }

    /// Heads that were compared.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// Heads over records that were pruned.
    pub(super) fn pruned(&self) -> u64 {
        self.pruned
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
    floors: BTreeMap<LogId, Arc<Floor>>,
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
        let first_kept = |floor: &&Arc<Floor>| floor.first_kept() == seq && tree.size() < seq;
        if let Some(floor) = self.floors.get(&log).filter(first_kept) {
            *tree = floor.tree();
        }
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
            let compared = head.compare(&record.seal_digest(), root.as_ref());
            self.compared += 1;
            findings.extend(head.finding(log, seq, compared));
        }
        if seqs.is_empty() {
            self.heads.remove(&log);
        }
        findings
    }
}
