//! Checkpoints that the reader brought, held to a log that stands alone: a bundle's, or that of a directory.

use super::heads::{By, Head};
use super::log::Compared;
use super::report::{Aspect, Report};
use ledger_core::checkpoint::Checkpoint;
use ledger_core::{LogId, TreeRoot};

/// Compares them with a log of so many records; `root_at`: the tree's root over the first so many, when it can be computed
/// from what is here.
pub(super) fn hold(
    report: &mut Report,
    given: &[Checkpoint],
    log: Option<LogId>,
    size: u64,
    root_at: impl Fn(u64) -> Option<TreeRoot>,
) {
    for given in given {
        // A tree of no records says nothing.
        let Some(seq) = given.tree_size.checked_sub(1) else {
            continue;
        };
        let head = Head {
            seal: None,
            root: Some(given.root),
            by: By::Checkpoint,
        };
        if log != Some(given.log) || given.tree_size > size {
            report.found(head.missing(given.log, seq));
            continue;
        }
        let Some(root) = root_at(given.tree_size) else {
            let why = format!(
                "against the checkpoint over {} receipts that was given: the tree cannot be computed from what is here",
                given.tree_size
            );
            report.not_checked(Aspect::Integrity, &why);
            continue;
        };
        report.counts.heads_compared += 1;
        let compared = if root == given.root {
            Compared::Same
        } else {
            Compared::OtherRoot
        };
        if let Some(finding) = head.finding(given.log, seq, compared) {
            report.found(finding);
        }
    }
}
