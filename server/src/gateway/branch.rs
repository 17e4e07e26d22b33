//! What orphan branches tell, read from where they are kept.
//!
//! A branch whose end `log.cited` names was settled up to there: what was asked there applied then, or was refused, and is not asked
//! again months later. Only what nobody could decide yet is read again: it names a job whose request is not here.

use super::exchange::raw_of;
use crate::error::ServerError;
use crate::exchange::Raw;
use crate::machine::Machine;
use ledger::core::digest::derived_id;
use ledger::core::kinds::{
    AnyDetail, CitedHead, Class, Detail, Erased, Fence, JobCancelAsked, JobDiscarded, JobHeld, JobId,
    JobLateResult, JobReleased, LateVerdict, LogCited, RequestReceived,
};
use ledger::core::{LogId, Payload, ReceiptId, Record, SignedStatement, Statement, VerifiedStatement};
use ledger::{LedgerError, Receipt};
use ledger_projections::FleetState;
use std::collections::{BTreeMap, BTreeSet};

/// What people say about jobs that is said again, beside erasures.
const STEERS: [&str; 4] = [
    JobCancelAsked::KIND,
    JobHeld::KIND,
    JobReleased::KIND,
    JobDiscarded::KIND,
];

/// A report, and the claim that it stands under.
pub(super) type Report = (Fence, Receipt);

/// A branch that was not settled up to its end.
pub(super) struct Open {
    /// The epoch, and where it was cut.
    pub(super) epoch: u64,
    pub(super) cut: u64,
    /// The end of its log.
    pub(super) cited: CitedHead,
}

/// What the branches tell.
#[derive(Default)]
pub(super) struct Branch {
    /// Whether there is any.
    pub(super) is_any: bool,
    pub(super) open: Vec<Open>,
    /// To be sealed again, or to wait for what they name.
    pub(super) requests: Vec<VerifiedStatement>,
    pub(super) claims: BTreeMap<JobId, Vec<Receipt>>,
    pub(super) fences: BTreeSet<Fence>,
    /// To be said again, or to wait for the job.
    pub(super) steers: Vec<VerifiedStatement>,
    // Jobs whose claims may have taken effect, and that are held for a person because of it.
    exclusive: BTreeSet<JobId>,
    /// How many requests of open branches are offered again.
    pub(super) offered: u64,
    /// What open branches tell beside that and is not said again: what people said, and requests of Central's own schedules.
    pub(super) others: u64,
}

impl Branch {
    /// Reads all that are kept here.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub(super) fn read(machine: &Machine) -> Result<Self, ServerError> {
        let snapshot = machine.ledger.snapshot();
        let state = &snapshot.state;
        let mut branch = Self::default();
        for (epoch, row) in state.epochs() {
            let (Some((cut, _)), Some(chain)) = (row.cut, snapshot.logs.get(&row.log)) else {
                continue;
            };
            let (log, head) = (row.log, chain.head());
            if head.seq <= cut {
                continue;
            }
            branch.is_any = true;
            let settled = settled_to(machine, state, &log, cut, head.seq)?;
            if settled < head.seq {
                let cited = CitedHead { log, head };
                branch.open.push(Open {
                    epoch: *epoch,
                    cut,
                    cited,
                });
            }
            for receipt in machine.ledger.range(&log, cut.saturating_add(1), u64::MAX) {
                let receipt = receipt?;
                let is_settled = receipt.seq() <= settled;
                branch.take(machine, state, *epoch, receipt, is_settled)?;
            }
        }
        // Who released it knew nothing of what that claim came to. A person decides anew.
        let exclusive = std::mem::take(&mut branch.exclusive);
        branch
            .steers
            .retain(|said| releases(said.statement()).is_none_or(|job| !exclusive.contains(&job)));
        Ok(branch)
    }

    fn take(
        &mut self,
        machine: &Machine,
        state: &FleetState,
        epoch: u64,
        receipt: Receipt,
        is_settled: bool,
    ) -> Result<(), ServerError> {
        let is_request = receipt.kind() == RequestReceived::KIND;
        if receipt.record.author_signature().is_none() {
            if let Ok(AnyDetail::JobClaimed(claimed)) = receipt.statement().any_detail() {
                self.fences
                    .insert(Fence::of_claim(epoch, receipt.seq(), &receipt.seal_digest()));
                if claimed.class == Class::Exclusive {
                    self.exclusive.insert(claimed.job);
                }
                self.claims.entry(claimed.job).or_default().push(receipt);
            } else if is_request && !is_settled {
                self.others += 1;
            }
            return Ok(());
        }
        let again = is_request || receipt.kind() == Erased::KIND || STEERS.contains(&receipt.kind());
        if is_settled && (!again || !waits(state, receipt.statement())) {
            return Ok(());
        }
        if !again {
            self.others += 1;
            return Ok(());
        }
        let Raw { record, payload } = raw_of(machine, &receipt)?;
        match verified(&record, payload) {
            Some(said) if is_request => {
                self.offered += u64::from(!is_settled);
                self.requests.push(said);
            }
            Some(said) => self.steers.push(said),
            None => {
                tracing::warn!(id = %receipt.id(), "a statement of an orphan branch cannot be said again: its payload or signature is missing");
                self.others += u64::from(!is_settled);
            }
        }
        Ok(())
    }
}

/// The id under which the order cites a branch up to a seq.
pub(super) fn cited_id(log: &LogId, seq: u64) -> ReceiptId {
    derived_id(&[b"orphan branch", &log.0, &seq.to_be_bytes()])
}

// The newest seq of a branch that the order cites as settled, else its cut.
fn settled_to(
    machine: &Machine,
    state: &FleetState,
    log: &LogId,
    cut: u64,
    head: u64,
) -> Result<u64, LedgerError> {
    // What stands in a branch itself does not count.
    let counts = |receipt: &Receipt| {
        let mut epochs = state.epochs();
        receipt.kind() == LogCited::KIND
            && receipt.record.author_signature().is_none()
            && epochs.any(|(_, row)| {
                row.log == receipt.log() && row.cut.is_none_or(|(cut, _)| receipt.seq() <= cut)
            })
    };
    for seq in (cut.saturating_add(1)..=head).rev() {
        if machine.ledger.find(&cited_id(log, seq))?.iter().any(counts) {
            return Ok(seq);
        }
    }
    Ok(cut)
}

/// The job that a request becomes.
pub(super) fn job_of(request: &Statement) -> JobId {
    JobId::of_request(&request.author, &request.id)
}

/// The first job that a request names and that is not known here.
pub(super) fn lacks(state: &FleetState, request: &Statement) -> Option<JobId> {
    let Ok(AnyDetail::RequestReceived(asked)) = request.any_detail() else {
        return None;
    };
    let spec = &asked.spec;
    let mut named = spec.depends_on.iter().chain(&spec.retry_of);
    named.find(|job| state.job(job).is_none()).copied()
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

// Whether nobody could decide about it yet.
fn waits(state: &FleetState, said: &Statement) -> bool {
    if said.kind.as_str() == RequestReceived::KIND {
        state.job(&job_of(said)).is_none() && lacks(state, said).is_some()
    } else {
        steered(said).is_some_and(|job| state.job(&job).is_none())
    }
}

fn releases(said: &Statement) -> Option<JobId> {
    steered(said).filter(|_| said.kind.as_str() == JobReleased::KIND)
}

// A statement as its author brought it.
fn verified(record: &[u8], payload: Option<Payload>) -> Option<VerifiedStatement> {
    let record = Record::parse(record).ok()?;
    let said = SignedStatement {
        bytes: record.statement_bytes().to_vec(),
        signature: *record.author_signature()?,
        payload,
    };
    said.verify().ok()
}

/// Reports that were rejected because nobody knew their claim. By their jobs, in the order in which they were rejected.
///
/// # Errors
/// [`LedgerError`] when the store cannot be read.
pub(super) fn rejected(
    machine: &Machine,
    fences: &BTreeSet<Fence>,
) -> Result<BTreeMap<JobId, Vec<Report>>, ServerError> {
    let mut reports: BTreeMap<JobId, Vec<Report>> = BTreeMap::new();
    let Some(first) = fences.first().map(|fence| fence.epoch) else {
        return Ok(reports);
    };
    let snapshot = machine.ledger.snapshot();
    for (_, row) in snapshot.state.epochs().filter(|(epoch, _)| **epoch > first) {
        let last = row.cut.map_or(u64::MAX, |(cut, _)| cut);
        for receipt in machine.ledger.range(&row.log, 0, last) {
            let receipt = receipt?;
            if receipt.kind() != JobLateResult::KIND {
                continue;
            }
            if let Ok(AnyDetail::JobLateResult(late)) = receipt.statement().any_detail()
                && late.verdict == LateVerdict::Rejected
                && fences.contains(&late.fence)
                && let Some(report) = super::exchange::evidence(machine, &late.evidence)?
            {
                reports.entry(late.job).or_default().push((late.fence, report));
            }
        }
    }
    Ok(reports)
}
