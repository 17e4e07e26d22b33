//! What an orphan branch tells, decided anew: the steps of one commit, and how many of them it takes.

use super::branch::{Report, job_of, lacks};
use super::central;
use crate::error::ServerError;
use ledger::core::kinds::JobId;
use ledger::core::{Stream, VerifiedStatement};
use ledger::{LedgerError, Receipt, Tx};
use ledger_projections::central::{StepError, prove_claim};
use ledger_projections::queue::decide;
use ledger_projections::{FleetState, Policy};

/// Requests, claims and reports that are decided in one commit at most, beside those of a single job.
pub(super) const AT_ONCE: usize = 1024;
/// Bytes of what is decided in one commit at most, beside those of a single job: a commit has room for four times as many, and what
/// is decided takes no more than the double.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

/// A request, and what the branches tell about its job.
pub(super) struct Offer {
    pub(super) said: VerifiedStatement,
    pub(super) claims: Vec<Receipt>,
    pub(super) reports: Vec<Report>,
}

/// What became of a request that was offered again.
pub(super) enum Offered {
    /// It is a job now.
    Accepted,
    /// It names a job that is not known here.
    Waits(JobId),
    /// It was accepted before, or is not permitted.
    Nothing,
}

/// Seals a request again, unless it is a job already.
///
/// # Errors
/// [`ServerError`] when the store cannot take it.
pub(super) fn offer(
    tx: &mut Tx<'_, FleetState>,
    said: &VerifiedStatement,
    policy: &Policy,
) -> Result<Offered, ServerError> {
    let (statement, now) = (said.statement(), tx.now_us());
    let job = job_of(statement);
    if tx.state().job(&job).is_some() {
        return Ok(Offered::Nothing);
    }
    if let Err(reason) = tx.state().authorise(statement, Stream::Order, false, now) {
        tracing::warn!(id = %statement.id, ?reason, "a request of an orphan branch is not permitted in the order as it is");
        return Ok(Offered::Nothing);
    }
    if let Some(on) = lacks(tx.state(), statement) {
        return Ok(Offered::Waits(on));
    }
    let appended = match tx.append_signed(Stream::Order, said) {
        Err(e @ LedgerError::IdTaken { .. }) => {
            tracing::warn!(id = %statement.id, code = e.code(), error = %e, "a request of an orphan branch cannot be sealed again");
            return Ok(Offered::Nothing);
        }
        appended => appended?,
    };
    let drafts = decide::accept_request(tx.state(), appended.receipt(), now, policy)?;
    central::put(tx, drafts)?;
    let accepted = tx.state().job(&job).is_some();
    Ok(if accepted {
        Offered::Accepted
    } else {
        Offered::Nothing
    })
}

/// Makes claims known, as far as they are proven.
///
/// # Errors
/// [`ServerError`] when the store cannot take it.
pub(super) fn prove<'a>(
    tx: &mut Tx<'_, FleetState>,
    claims: impl IntoIterator<Item = &'a Receipt>,
) -> Result<(), ServerError> {
    for claim in claims {
        match prove_claim(tx, &claim.record) {
            Ok(_) => {}
            Err(StepError::Refused(e)) => {
                tracing::warn!(id = %claim.id(), code = e.code(), error = %e, "a claim of an orphan branch is not proven");
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Judges reports anew whose claims are known now.
///
/// # Errors
/// [`ServerError`] when the store cannot take it.
pub(super) fn judge(
    tx: &mut Tx<'_, FleetState>,
    reports: &[Report],
    policy: &Policy,
) -> Result<(), ServerError> {
    for (fence, report) in reports {
        let of = tx.state().log(&report.log()).map(|row| row.machine.clone());
        if let Some(of) = of.filter(|_| tx.state().fence(fence).is_some()) {
            central::judge(tx, report, &of, policy)?;
        }
    }
    Ok(())
}

/// In their order, as many as one commit takes: by the number of things that are decided of each, and their bytes.
pub(super) fn chunks<T>(all: Vec<T>, size: impl Fn(&T) -> (usize, usize)) -> Vec<Vec<T>> {
    let (mut chunks, mut chunk) = (Vec::new(), Vec::new());
    let (mut count, mut bytes) = (0usize, 0usize);
    for one in all {
        let (more, larger) = size(&one);
        count = count.saturating_add(more);
        bytes = bytes.saturating_add(larger);
        if !chunk.is_empty() && (count > AT_ONCE || bytes > BYTES_AT_ONCE) {
            chunks.push(std::mem::take(&mut chunk));
            (count, bytes) = (more, larger);
        }
        chunk.push(one);
    }
    chunks.push(chunk);
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_commit_takes_no_more_than_it_has_room_for_and_at_least_one() {
        let size = |one: &(usize, usize)| *one;
        assert!(chunks(Vec::new(), size).is_empty());
        let (many, large) = ((AT_ONCE, 1), (1, BYTES_AT_ONCE));
        let all = vec![
            (1, 1),
            many,
            (1, 1),
            (1, 1),
            large,
            large,
            (2 * AT_ONCE, 2 * BYTES_AT_ONCE),
            (1, 1),
        ];
        let taken = chunks(all.clone(), size);
        let lengths: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 2, 1, 1, 1, 1]);
        assert_eq!(taken.concat(), all);
    }
}
