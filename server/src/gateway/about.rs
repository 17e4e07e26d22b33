//! What orphan branches tell about one job: found by the index, so that whoever decides about a request knows its claims however far
//! behind it they stand.

use super::again::Report;
use super::branch::claimed;
use super::records::evidence;
use crate::error::ServerError;
use crate::machine::Machine;
use ledger::Receipt;
use ledger::core::Statement;
use ledger::core::kinds::{
    AnyDetail, Detail, Evidence, Fence, JobClaimed, JobId, JobLateResult, LateVerdict,
};
use std::collections::BTreeSet;

/// Receipts about one subject that the index gives at most.
const ABOUT_SUBJECT_MAX: usize = 10_000;

/// What the branches tell about one job, and what was told under its claims before they were known.
#[derive(Default)]
pub(super) struct About {
    /// Its claims.
    pub(super) claims: Vec<Receipt>,
    /// Reports that were rejected because nobody knew their claim, in the order in which they were, and without those that have another
    /// verdict by now.
    pub(super) reports: Vec<Report>,
}

impl About {
    /// How many things are decided of it, and how many bytes it holds.
    pub(super) fn size(&self) -> (usize, usize) {
        let bytes = |receipt: &Receipt| receipt.record.bytes().len();
        let claims = self.claims.iter().map(bytes);
        let reports = self.reports.iter().map(|(_, report)| bytes(report));
        (
            self.claims.len() + self.reports.len(),
            claims.chain(reports).sum(),
        )
    }

    /// Finds it in this store.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub(super) fn of(machine: &Machine, job: &JobId) -> Result<Self, ServerError> {
        let snapshot = machine.ledger.snapshot();
        let state = &snapshot.state;
        let (mut claims, mut fences) = (Vec::new(), BTreeSet::new());
        let mut rejected: Vec<(Fence, Evidence)> = Vec::new();
        let mut note = |receipt: Receipt| {
            let row = state.epochs().find(|(_, row)| row.log == receipt.log());
            let Some((epoch, row)) = row else { return };
            let is_beyond = row.cut.is_some_and(|(cut, _)| receipt.seq() > cut);
            match receipt.statement().any_detail() {
                Ok(AnyDetail::JobClaimed(_)) if is_beyond && claimed(&receipt) == Some(*job) => {
                    fences.insert(Fence::of_claim(*epoch, receipt.seq(), &receipt.seal_digest()));
                    claims.push(receipt);
                }
                Ok(AnyDetail::JobLateResult(late))
                    if !is_beyond && late.job == *job && late.verdict == LateVerdict::Rejected =>
                {
                    rejected.push((late.fence, late.evidence));
                }
                _ => {}
            }
        };
        let found = machine.ledger.by_subject(&job.subject())?;
        if found.len() < ABOUT_SUBJECT_MAX {
            found.into_iter().for_each(note);
        } else {
            // More than the index gives.
            let over = state.epochs().skip_while(|(_, row)| row.cut.is_none());
            for (_, row) in over {
                for receipt in machine.ledger.range(&row.log, 0, u64::MAX) {
                    let receipt = receipt?;
                    if [JobClaimed::KIND, JobLateResult::KIND].contains(&receipt.kind()) {
                        note(receipt);
                    }
                }
            }
        }
        let mut reports = Vec::new();
        for (fence, at) in rejected.into_iter().filter(|(fence, _)| fences.contains(fence)) {
            if let Some(report) = evidence(machine, &at)?
                && state.verdict(&fence, &report.id()).is_none()
            {
                reports.push((fence, report));
            }
        }
        Ok(Self { claims, reports })
    }
}

/// The job that a person's word is about.
pub(super) fn steered(said: &Statement) -> Option<JobId> {
    match said.any_detail() {
        Ok(AnyDetail::JobCancelAsked(said)) => Some(said.job),
        Ok(AnyDetail::JobHeld(said)) => Some(said.job),
        Ok(AnyDetail::JobReleased(said)) => Some(said.job),
        Ok(AnyDetail::JobDiscarded(said)) => Some(said.job),
        _ => None,
    }
}
