//! Schedules that are due: what is missed, and the ticks that fire with their jobs, all in one commit with what they decide.

use super::{OrderTx, StepError, settle, write};
use crate::queue::Policy;
use crate::queue::decide;
use crate::schedules::{Input, plan, tick};
use ledger_core::ReceiptId;
use ledger_core::kinds::{Detail, RequestReceived};

/// How far one step came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// Everything that is due is decided.
    All,
    /// More is due.
    More,
    /// The schedule is another one than the input was read of, or gone: nothing was decided.
    Changed,
}

/// Decides what is due of one schedule. `input` is that of the definition `defined`, as the caller read it.
///
/// # Errors
/// [`StepError`].
pub fn fire<T: OrderTx>(
    tx: &mut T,
    schedule: &str,
    defined: &ReceiptId,
    input: &Input,
    policy: &Policy,
) -> Result<Fired, StepError> {
    let now = tx.now_us();
    let row = tx
        .state()
        .schedule(schedule)
        .filter(|row| row.defined == *defined);
    let Some(row) = row else {
        return Ok(Fired::Changed);
    };
    let due = plan(row, now);
    let missed = due.missed_draft(row);
    write(tx, missed.into_iter().collect())?;
    for one in due.ticks {
        let drafts = tick(tx.state(), schedule, one, input, now)?;
        let given = write(tx, drafts)?;
        for request in given.iter().filter(|given| given.kind() == RequestReceived::KIND) {
            let drafts = decide::accept_request(tx.state(), request, now, policy)?;
            write(tx, drafts)?;
        }
    }
    settle(tx)?;
    Ok(if due.more { Fired::More } else { Fired::All })
}
