//! What this machine itself runs: the fold of the store's own work log.
//!
//! A run is here from `run.started` until the order holds the verdict on its end, so that whatever is here must still be
//! told to Central. The order may arrive before the work log (a restored store): a verdict that stands already keeps
//! the run out.

use crate::queue::Queue;
use crate::table::Table;
use ledger::{Changes, Receipt};
use ledger_core::kinds::{AnyDetail, ArtifactStaged, Evidence, Fence, JobId};
use ledger_core::{ContentDigest, ReceiptId};
use serde::{Deserialize, Serialize};

/// A run of this machine that has no final verdict yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The job.
    pub job: JobId,
    /// The handler; empty when it was refused before it started.
    pub handler: String,
    /// Which attempt, from 1; 0 when it was refused before it started.
    pub attempt: u16,
    /// The `run.started`; absent when it was refused before it started.
    pub started: Option<Evidence>,
    /// How it ended; absent while it goes on.
    pub ended: Option<RunEnd>,
}

/// The end of a run, waiting for its verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunEnd {
    /// The receipt's id.
    pub report: ReceiptId,
    /// Where it stands.
    pub evidence: Evidence,
    /// Whether it is a success.
    pub success: bool,
}

/// An output of a run, not yet in the Vault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Staged {
    /// The path in the run's output folder.
    pub path: String,
    /// Its content.
    pub blake3: ContentDigest,
    /// Size in bytes.
    pub size: u64,
}

impl From<ArtifactStaged> for Staged {
    fn from(staged: ArtifactStaged) -> Self {
        let ArtifactStaged {
            path, blake3, size, ..
        } = staged;
        Self { path, blake3, size }
    }
}

/// The tables of own runs.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Runs {
    pub(crate) runs: Table<Fence, Run>,
    pub(crate) staged: Table<(Fence, u64), Staged>,
}

impl Runs {
    pub(crate) fn fold(&mut self, receipt: &Receipt, queue: &Queue, changes: &mut Changes) {
        let Ok(detail) = receipt.statement().any_detail() else {
            return;
        };
        match detail {
            AnyDetail::RunStarted(d) if self.runs.get(&d.fence).is_none() => {
                let started = Some(receipt.evidence());
                let run = Run {
                    job: d.job,
                    handler: d.handler,
                    attempt: d.attempt,
                    started,
                    ended: None,
                };
                self.runs.set(d.fence, run, changes);
            }
            AnyDetail::ArtifactStaged(d) if self.runs.get(&d.fence).is_some() => {
                self.staged.set((d.fence, receipt.seq()), d.into(), changes);
            }
            AnyDetail::RunSucceeded(d) => self.end(receipt, (d.job, d.fence), true, queue, changes),
            AnyDetail::RunFailed(d) => self.end(receipt, (d.job, d.fence), false, queue, changes),
            AnyDetail::RunYielded(d) => self.end(receipt, (d.job, d.fence), false, queue, changes),
            AnyDetail::RunLost(d) => self.end(receipt, (d.job, d.fence), false, queue, changes),
            _ => {}
        }
    }

    fn end(
        &mut self,
        receipt: &Receipt,
        (job, fence): (JobId, Fence),
        success: bool,
        queue: &Queue,
        changes: &mut Changes,
    ) {
        if queue.verdict(&fence, &receipt.id()).is_some() {
            self.forget(&fence, changes);
            return;
        }
        let refused = Run {
            job,
            handler: String::new(),
            attempt: 0,
            started: None,
            ended: None,
        };
        let mut run = self.runs.get(&fence).cloned().unwrap_or(refused);
        if run.ended.is_none() {
            run.ended = Some(RunEnd {
                report: receipt.id(),
                evidence: receipt.evidence(),
                success,
            });
            self.runs.set(fence, run, changes);
        }
    }

    /// The order judged a report.
    pub(crate) fn judged(&mut self, fence: &Fence, report: &ReceiptId, changes: &mut Changes) {
        let ended = self.runs.get(fence).and_then(|run| run.ended.as_ref());
        if ended.is_some_and(|ended| ended.report == *report) {
            self.forget(fence, changes);
        }
    }

    fn forget(&mut self, fence: &Fence, changes: &mut Changes) {
        self.runs.remove(fence, changes);
        let staged: Vec<(Fence, u64)> = self
            .staged
            .range((*fence, 0)..=(*fence, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in staged {
            self.staged.remove(&key, changes);
        }
    }
}
