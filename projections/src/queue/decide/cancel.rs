//! Somebody wants a job stopped. Final at once when it cannot be running, or when the operator forces it; else the
//! machine confirms.

use super::{OrderDraft, about, job};
use crate::FleetState;
use crate::fleet::detail_of;
use crate::queue::{Job, JobState, Refusal};
use ledger::Receipt;
use ledger_core::ReceiptId;
use ledger_core::kinds::{Detail, JobCancelAsked, JobCancelled, JobId};
use ledger_core::limits::NOTE_BYTES_MAX;

/// Asks for a job to be stopped, in Central's own words. Asking again without more force gives nothing.
///
/// # Errors
/// [`Refusal::JobUnknown`], [`Refusal::JobFinal`], or [`Refusal::Spec`] for a reason of more than 200 bytes.
pub fn cancel(state: &FleetState, id: &JobId, force: bool, reason: &str) -> Result<Vec<OrderDraft>, Refusal> {
    let job = job(state, id)?;
    if job.phase().is_final() {
        return Err(Refusal::JobFinal {
            job: *id,
            phase: job.phase().as_str(),
        });
    }
    if reason.len() > NOTE_BYTES_MAX {
        return Err(Refusal::Spec {
            field: "reason",
            why: format!(
                "at most {NOTE_BYTES_MAX} bytes are expected, {} found",
                reason.len()
            ),
        });
    }
    let then = follows(job, force, None);
    if job.cancel_asked && then.is_none() {
        return Ok(Vec::new());
    }
    let asked = JobCancelAsked {
        job: *id,
        force,
        reason: reason.to_owned(),
    };
    Ok(std::iter::once(about(id, &asked, None)).chain(then).collect())
}

/// What follows from a `job.cancel-asked` that an actor signed and the order sealed and folded.
///
/// # Errors
/// [`Refusal::Kind`] for another receipt, [`Refusal::JobUnknown`].
pub fn cancel_asked(state: &FleetState, asked: &Receipt) -> Result<Vec<OrderDraft>, Refusal> {
    let Some(detail) = detail_of::<JobCancelAsked>(asked) else {
        return Err(Refusal::Kind {
            expected: JobCancelAsked::KIND,
            found: asked.kind().to_owned(),
        });
    };
    let job = job(state, &detail.job)?;
    // Without authority the fold left the job alone, and so does this.
    if job.phase().is_final() || !job.cancel_asked {
        return Ok(Vec::new());
    }
    Ok(follows(job, detail.force, Some(asked.id())).into_iter().collect())
}

fn follows(job: &Job, force: bool, asked: Option<ReceiptId>) -> Option<OrderDraft> {
    let may_run = match &job.state {
        JobState::Leased(lease) => lease.started,
        // Nobody knows whether it started before its machine fell silent.
        JobState::Suspect { .. } => true,
        _ => false,
    };
    if may_run && !force {
        return None;
    }
    let cancelled = JobCancelled {
        job: job.id,
        fence: job.lease().map(|lease| lease.fence),
        evidence: None,
    };
    Some(about(&job.id, &cancelled, asked))
}
