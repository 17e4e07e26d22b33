//! What Central decides from what people say about jobs and machines, in the commit in which it is sealed.

use crate::error::ServerError;
use crate::gateway::central;
use ledger::core::kinds::{AnyDetail, Detail, InadmissibleReason, JobId, RequestReceived};
use ledger::core::statement::VerifiedStatement;
use ledger::core::{Statement, Stream};
use ledger::{Receipt, Tx};
use ledger_projections::queue::decide;
use ledger_projections::{FleetState, Policy};

/// The answer to who may not say something.
pub(crate) fn may_not_say(said: &Statement, reason: InadmissibleReason) -> ServerError {
    let kind = &said.kind;
    ServerError::Forbidden(format!(
        "this key may not say {kind} here ({reason:?}); ask for a grant"
    ))
}

/// Seals in the order what a person says about a job, with what follows from it.
///
/// # Errors
/// [`ServerError::Forbidden`] when the author may not say it, and what the queue refuses.
pub(crate) fn steer(tx: &mut Tx<'_, FleetState>, said: &VerifiedStatement) -> Result<(), ServerError> {
    let (statement, now) = (said.statement(), tx.now_us());
    tx.state()
        .authorise(statement, Stream::Order, false, now)
        .map_err(|reason| may_not_say(statement, reason))?;
    if tx.find(&statement.author, &statement.id)?.is_none() {
        decide::steers(tx.state(), statement, now)?;
    }
    let appended = tx.append_signed(Stream::Order, said)?;
    if !appended.is_repetition() {
        follow_up(tx, statement, appended.receipt())?;
    }
    Ok(())
}

/// What Central decides from the last record of an order that ends there: its commit may have had more, which is lost.
///
/// # Errors
/// [`ServerError`] when nothing can be written, or for what does not apply.
pub(crate) fn complete(
    tx: &mut Tx<'_, FleetState>,
    last: &Receipt,
    policy: &Policy,
) -> Result<(), ServerError> {
    let said = last.statement();
    if said.kind.as_str() != RequestReceived::KIND {
        let by_hand = last.record.author_signature().is_some();
        return if by_hand {
            follow_up(tx, said, last)
        } else {
            Ok(())
        };
    }
    if tx
        .state()
        .job(&JobId::of_request(&said.author, &said.id))
        .is_none()
    {
        let drafts = decide::accept_request(tx.state(), last, tx.now_us(), policy)?;
        central::put(tx, drafts)?;
    }
    Ok(())
}

/// What Central decides from a statement that was just sealed in the order.
///
/// # Errors
/// [`ServerError`] when nothing can be written, or for what does not apply.
pub(crate) fn follow_up(
    tx: &mut Tx<'_, FleetState>,
    said: &Statement,
    receipt: &Receipt,
) -> Result<(), ServerError> {
    match said.any_detail() {
        Ok(AnyDetail::JobCancelAsked(_)) => {
            let drafts = decide::cancel_asked(tx.state(), receipt)?;
            central::put(tx, drafts)?;
        }
        Ok(AnyDetail::JobReleased(_)) => {
            let drafts = decide::steered(tx.state(), receipt, tx.now_us());
            central::put(tx, drafts)?;
        }
        Ok(AnyDetail::JobDiscarded(_)) => central::settle(tx)?,
        Ok(AnyDetail::NodeRetired(retired)) => {
            let drafts = decide::give_up_on(tx.state(), &retired.machine, tx.now_us());
            central::put(tx, drafts)?;
        }
        _ => {}
    }
    Ok(())
}
