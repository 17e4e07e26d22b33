//! Claims: a machine asks for work and gets at most as many jobs as it has free slots, each with all that its run needs.

use super::polls::{self, Waited};
use super::records::{evidence, raw_of};
use crate::closing::Closing;
use crate::error::ServerError;
use crate::exchange::{Claim, ClaimAnswer, Claimed, Raw, WAIT_MS_MAX};
use crate::machine::Machine;
use ledger::Receipt;
use ledger::core::MachineId;
use ledger::core::kinds::{Fence, JobId};
use ledger_projections::central::{Asked, give};
use ledger_projections::queue::decide;
use std::sync::Arc;
use std::time::Duration;

/// Handlers in one claim, at most: as many as a machine may declare.
const FREE_MAX: usize = decide::HANDLERS_MAX;
/// Jobs in one answer to a claim, at most.
const JOBS_MAX: u32 = 16;

/// The shortest wait for a rate: what would come sooner comes together.
const OPENS_IN_MIN: Duration = Duration::from_millis(1);

/// Claims for a machine; waits for work when there is none.
pub(crate) async fn claim(
    machine: &Arc<Machine>,
    node: &MachineId,
    claim: Claim,
    mut door: Closing,
) -> Result<ClaimAnswer, ServerError> {
    machine.central.wait_until_serving().await?;
    if claim.free.len() > FREE_MAX {
        return Err(ServerError::Malformed(format!(
            "more than {FREE_MAX} handlers in one claim"
        )));
    }
    let names: std::collections::BTreeSet<&str> = claim.free.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() != claim.free.len() {
        return Err(ServerError::Malformed(
            "a handler is named twice in one claim".into(),
        ));
    }
    // A hello voids what was claimed before it and is not answered: the node counts on nothing of it.
    let hellos = machine.central.hellos(node);
    let mut changed = machine.changed();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(claim.wait_ms.min(WAIT_MS_MAX).into());
    loop {
        changed.mark_unchanged();
        let jobs = claim_now(machine, node, &claim, Some(hellos)).await?;
        if !jobs.is_empty() {
            return Ok(ClaimAnswer { jobs });
        }
        let until = match opens_in(machine, node, &claim.free) {
            Some(wait) => deadline.min(tokio::time::Instant::now() + wait),
            None => deadline,
        };
        match polls::wait(&mut changed, &mut door, until).await {
            Waited::Changed => {}
            Waited::TimeUp if until < deadline => {}
            Waited::TimeUp | Waited::Closing => return Ok(ClaimAnswer { jobs: Vec::new() }),
        }
    }
}

/// How long it is until time alone may let a job through that a rate or a pause keeps back now.
pub(crate) fn opens_in(machine: &Machine, node: &MachineId, free: &[(String, u16)]) -> Option<Duration> {
    let (now, names) = (machine.now_us(), free.iter().map(|(name, _)| name.as_str()));
    let at = decide::opens_at(&machine.ledger.snapshot().state, node, names, now)?;
    Some(Duration::from_micros(at.abs_diff(now)).max(OPENS_IN_MIN))
}

/// Claims what is ready for a machine right now.
pub(crate) async fn claim_now(
    machine: &Arc<Machine>,
    node: &MachineId,
    claim: &Claim,
    hellos: Option<u64>,
) -> Result<Vec<Claimed>, ServerError> {
    let asked = Asked {
        machine: node.clone(),
        incarnation: claim.incarnation,
        claim: claim.claim,
        free: claim.free.clone(),
        most: JOBS_MAX,
    };
    // Asked of the state that readers see first: most of the time there is nothing, and no commit is needed to know it.
    let policy = machine.config.policy();
    if !asked.finds(&machine.ledger.snapshot().state, machine.now_us(), &policy)? {
        return Ok(Vec::new());
    }
    let hub = Arc::clone(machine);
    let committed = machine
        .ledger
        .submit(move |tx| -> Result<Vec<(Fence, JobId)>, ServerError> {
            if hellos.is_some_and(|hellos| hub.central.hellos(&asked.machine) != hellos) {
                return Ok(Vec::new());
            }
            Ok(give(tx, &asked, &policy)?)
        })
        .await?;
    let mut jobs = Vec::new();
    for (fence, job) in committed.value {
        machine.central.renew(&fence);
        match complete(machine, &fence, &job) {
            Ok(claimed) => jobs.push(claimed),
            // The others go out; this one is never started, and its lease tells.
            Err(e) => {
                tracing::error!(%fence, %job, code = e.code(), error = %e, "a claim cannot be completed");
            }
        }
    }
    Ok(jobs)
}

// Everything that a run needs. Read after the commit, so that it is what is durable.
fn complete(machine: &Arc<Machine>, fence: &Fence, job: &JobId) -> Result<Claimed, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let absent = |what: &str| ServerError::NotFound(format!("{what} of job {job} is not in this store"));
    let row = snapshot.state.job(job).ok_or_else(|| absent("the row"))?;
    let log_of = |epoch: u64| {
        let row = snapshot.state.epochs().find(|(known, _)| **known == epoch);
        row.map(|(_, row)| row.log)
    };
    let order = log_of(fence.epoch).ok_or_else(|| absent("the order"))?;
    let claimed = machine
        .ledger
        .get(&order, fence.seq)?
        .ok_or_else(|| absent("the claim"))?;
    // An older epoch's order log holds what was accepted in it.
    let of = log_of(row.accepted.epoch).unwrap_or(order);
    let accepted = machine
        .ledger
        .get(&of, row.accepted.seq)?
        .ok_or_else(|| absent("the acceptance"))?;
    let raw = |receipt: Option<Receipt>| receipt.map(|r| raw_of(machine, &r)).transpose();
    let request: Option<Raw> = match &row.evidence {
        Some(place) => raw(evidence(machine, place)?)?,
        None => raw(machine
            .ledger
            .find(&row.request)?
            .into_iter()
            .find(|r| r.statement().author == row.requester))?,
    };
    let progress = match &row.progress {
        Some(place) => raw(evidence(machine, place)?)?,
        None => None,
    };
    Ok(Claimed {
        claimed: raw_of(machine, &claimed)?,
        accepted: raw_of(machine, &accepted)?,
        request,
        progress,
    })
}
