//! What an orphan branch tells, decided anew: the steps of one commit.

use super::about::{About, steered};
use super::branch::{Told, job_of, lacks};
use super::central;
use crate::error::ServerError;
use crate::steering;
use ledger::core::kinds::{Detail, Erased, Evidence, Fence, InadmissibleReason, JobId};
use ledger::core::{Draft, ReceiptId, Stream, Subject, VerifiedStatement};
use ledger::{LedgerError, Receipt, Tx};
use ledger_projections::central::{StepError, prove_claim};
use ledger_projections::queue::decide;
use ledger_projections::schedules::{FiredBefore, fired_before};
use ledger_projections::{FleetState, Policy};

/// Requests, claims and reports that are decided in one commit at most, beside those of a single job.
pub(super) const AT_ONCE: usize = 1024;
/// Bytes of what is decided in one commit at most, beside those of a single job: a commit has room for four times as many, and what
/// is decided takes no more than the double.
pub(super) const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

/// A report, and the claim that it stands under.
pub(super) type Report = (Fence, Receipt);

/// A request, and what the branches tell about its job.
pub(super) struct Offer {
    /// Where the branch has it.
    pub(super) sealed: Evidence,
    pub(super) said: VerifiedStatement,
    pub(super) about: About,
}

/// A request that a schedule's tick became.
pub(super) struct Tick {
    /// Where the branch has it.
    pub(super) sealed: Evidence,
    pub(super) job: JobId,
    pub(super) schedule: String,
    /// Microseconds since 1970.
    pub(super) nominal: i64,
    /// The request as Central said it.
    pub(super) draft: Draft,
    /// Whether it fired before the cut: the schedule does not decide it once more.
    pub(super) is_decided: bool,
    pub(super) about: About,
}

impl Tick {
    /// What becomes of it; nothing when its job is known.
    pub(super) fn becomes(&self, state: &FleetState) -> Option<FiredBefore> {
        let claimed = self.is_decided || !self.about.claims.is_empty();
        let unknown = state.job(&self.job).is_none();
        unknown.then(|| fired_before(state, &self.schedule, self.nominal, claimed))
    }
}

/// The payload of a statement is destroyed.
pub(super) struct Erasure {
    pub(super) erased: Erased,
    /// The receipt that says so.
    pub(super) cause: ReceiptId,
    /// It as its author said it; nothing when Central itself did.
    pub(super) signed: Option<VerifiedStatement>,
}

/// What became of something that a branch tells.
pub(super) enum Outcome {
    /// It is decided.
    Done,
    /// It names a job that is not known here.
    Waits(JobId),
    /// A schedule decides first, at its next look.
    TooEarly,
}

/// Decides one thing that a branch tells. What does not apply any more leaves nothing behind.
///
/// # Errors
/// [`ServerError`] when the store cannot take it, and for an erasure that is not permitted.
pub(super) fn put_again(
    tx: &mut Tx<'_, FleetState>,
    told: &Told,
    policy: &Policy,
) -> Result<Outcome, ServerError> {
    match told {
        Told::Request(asked) => {
            if let Some(on) = offer(tx, asked, policy)? {
                return Ok(Outcome::Waits(on));
            }
            let job = job_of(asked.said.statement());
            if tx.state().job(&job).is_some() {
                take(tx, &asked.about, policy)?;
            }
        }
        Told::Tick(tick) => match tick.becomes(tx.state()) {
            Some(FiredBefore::Undecided) => return Ok(Outcome::TooEarly),
            Some(FiredBefore::AskedAgain) => ask_again(tx, tick, policy)?,
            Some(FiredBefore::PassedOver) => {}
            None => take(tx, &tick.about, policy)?,
        },
        Told::Claim(claim) => {
            let job = told.proves().filter(|job| tx.state().job(job).is_none());
            if let Some(job) = job {
                return Ok(Outcome::Waits(job));
            }
            prove(tx, [&**claim])?;
        }
        Told::Steer(said) => {
            let job = steered(said.statement()).filter(|job| tx.state().job(job).is_none());
            if let Some(job) = job {
                return Ok(Outcome::Waits(job));
            }
            match steering::steer(tx, said) {
                Err(e) if super::ticker::is_final(&e) => does_not_apply(&e),
                said => said?,
            }
        }
        Told::Erasure(erasure) => erase(tx, erasure)?,
    }
    Ok(Outcome::Done)
}

/// Tells of something that is refused.
pub(super) fn does_not_apply(e: &ServerError) {
    tracing::debug!(code = e.code(), error = %e, "what was asked in an orphan branch does not apply any more");
}

/// Makes the claims of a job known, and judges what was told under them.
///
/// # Errors
/// [`ServerError`] when the store cannot take it.
pub(super) fn take(tx: &mut Tx<'_, FleetState>, about: &About, policy: &Policy) -> Result<(), ServerError> {
    prove(tx, &about.claims)?;
    judge(tx, &about.reports, policy)
}

// Central says a schedule's request once more: under its id, so that it is the same job.
fn ask_again(tx: &mut Tx<'_, FleetState>, tick: &Tick, policy: &Policy) -> Result<(), ServerError> {
    if tx.erased_by(&tick.sealed)?.is_some() {
        return Ok(());
    }
    let asked = match tx.append(Stream::Order, tick.draft.clone()) {
        Err(e @ LedgerError::IdTaken { .. }) => {
            does_not_apply(&e.into());
            return Ok(());
        }
        asked => asked?,
    };
    let drafts = decide::accept_request(tx.state(), asked.receipt(), tx.now_us(), policy)?;
    central::put(tx, drafts)?;
    take(tx, &tick.about, policy)
}

// A payload is destroyed where the branch says so, and wherever else its author's statement was sealed: in the order that goes on, when
// it was offered again. For those Central speaks itself.
fn erase(tx: &mut Tx<'_, FleetState>, erasure: &Erasure) -> Result<(), ServerError> {
    let record = erasure.erased.record;
    let target = tx.get(&record.log, record.seq)?;
    let is_here = target.is_some_and(|target| target.seal_digest() == record.seal);
    if tx.erased_by(&record)?.is_none() {
        match &erasure.signed {
            // Who the author of what it erases is shows when that comes in. It was heeded: Central says it.
            Some(said) if is_here => {
                let (statement, now) = (said.statement(), tx.now_us());
                let may = tx.state().authorise(statement, Stream::Order, false, now);
                may.map_err(|reason| may_not_erase(erasure.erased.id, reason))?;
                tx.append_signed(Stream::Order, said)?;
            }
            _ => {
                let subject = Subject::new(&format!("receipt/{}", erasure.erased.id));
                let said = Draft::of(&erasure.erased, subject.expect("short and printable"));
                tx.append(Stream::Order, said.cause(erasure.cause))?;
            }
        }
        if tx.erased_by(&record)?.is_none() {
            return Err(LedgerError::MayNotErase(erasure.erased.id).into());
        }
    }
    Ok(crate::erase::everywhere(tx, &erasure.erased)?)
}

fn may_not_erase(id: ReceiptId, reason: InadmissibleReason) -> ServerError {
    ServerError::Forbidden(format!(
        "this key may not say {} of receipt {id} here ({reason:?})",
        Erased::KIND
    ))
}

// Seals a request again, unless it is a job already; or the job that it names and that is not known here.
fn offer(tx: &mut Tx<'_, FleetState>, asked: &Offer, policy: &Policy) -> Result<Option<JobId>, ServerError> {
    let (said, now) = (&asked.said, tx.now_us());
    let statement = said.statement();
    let job = job_of(statement);
    // What was erased since it was read is not sealed once more.
    if tx.state().job(&job).is_some() || tx.erased_by(&asked.sealed)?.is_some() {
        return Ok(None);
    }
    if let Err(reason) = tx.state().authorise(statement, Stream::Order, false, now) {
        tracing::warn!(id = %statement.id, ?reason, "a request of an orphan branch is not permitted in the order as it is");
        return Ok(None);
    }
    if let Some(on) = lacks(tx.state(), statement) {
        return Ok(Some(on));
    }
    let appended = match tx.append_signed(Stream::Order, said) {
        Err(e @ LedgerError::IdTaken { .. }) => {
            tracing::warn!(id = %statement.id, code = e.code(), error = %e, "a request of an orphan branch cannot be sealed again");
            return Ok(None);
        }
        appended => appended?,
    };
    let drafts = decide::accept_request(tx.state(), appended.receipt(), now, policy)?;
    central::put(tx, drafts)?;
    Ok(None)
}

// Makes claims known, as far as they are proven.
fn prove<'a>(
    tx: &mut Tx<'_, FleetState>,
    claims: impl IntoIterator<Item = &'a Receipt>,
) -> Result<(), ServerError> {
    for claim in claims {
        if is_known(tx.state(), claim) {
            continue;
        }
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

fn is_known(state: &FleetState, claim: &Receipt) -> bool {
    let mut epochs = state.epochs().filter(|(_, row)| row.log == claim.log());
    epochs.any(|(epoch, _)| {
        let fence = Fence::of_claim(*epoch, claim.seq(), &claim.seal_digest());
        state.fence(&fence).is_some()
    })
}
