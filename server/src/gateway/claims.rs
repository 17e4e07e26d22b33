//! Claims: a machine asks for work and gets at most as many jobs as it has free slots, each with all that its run needs.

use super::central;
use super::exchange::{evidence, raw_of};
use crate::error::ServerError;
use crate::exchange::{Claim, ClaimAnswer, Claimed, Raw, WAIT_MS_MAX};
use crate::machine::Machine;
use ledger::core::kinds::{Fence, JobId};
use ledger::core::{MachineId, Stream};
use ledger::{Appended, Receipt};
use ledger_projections::queue::Standing;
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};
use std::sync::Arc;
use std::time::Duration;

/// Handlers in one claim, at most: as many as a machine may declare.
const FREE_MAX: usize = decide::HANDLERS_MAX;
/// Jobs in one answer to a claim, at most.
const JOBS_MAX: u32 = 16;

/// Claims for a machine; waits for work when there is none.
pub(crate) async fn claim(
    machine: &Arc<Machine>,
    node: &MachineId,
    claim: Claim,
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
        let waited = tokio::time::timeout_at(deadline, changed.changed()).await;
        if !matches!(waited, Ok(Ok(()))) {
            return Ok(ClaimAnswer { jobs: Vec::new() });
        }
    }
}

/// Claims what is ready for a machine right now.
pub(crate) async fn claim_now(
    machine: &Arc<Machine>,
    node: &MachineId,
    claim: &Claim,
    hellos: Option<u64>,
) -> Result<Vec<Claimed>, ServerError> {
    let slots = claim
        .free
        .iter()
        .fold(0u32, |sum, (_, free)| sum.saturating_add(u32::from(*free)));
    if slots == 0 {
        return Ok(Vec::new());
    }
    // Asked of the state that readers see first: most of the time there is nothing, and no commit is needed to know it.
    let policy = machine.config.policy();
    let term_ms = policy.term_ms;
    let command = |n: u32, free: &[(String, u16)]| ClaimCommand {
        machine: node.clone(),
        incarnation: claim.incarnation,
        claim: decide::nth_claim_id(&claim.claim, n),
        free: free.to_vec(),
        term_ms,
        now: machine.now_us(),
    };
    if matches!(
        decide::claim(
            &machine.ledger.snapshot().state,
            &command(0, &claim.free),
            &policy
        )?,
        ClaimDecision::Nothing
    ) {
        return Ok(Vec::new());
    }
    let commands: Vec<ClaimCommand> = (0..slots.min(JOBS_MAX)).map(|n| command(n, &[])).collect();
    let (free, asked, node) = (claim.free.clone(), Arc::clone(machine), node.clone());
    let committed = machine
        .ledger
        .submit(move |tx| -> Result<Vec<(Fence, JobId)>, ServerError> {
            let mut claimed = Vec::new();
            if hellos.is_some_and(|hellos| asked.central.hellos(&node) != hellos) {
                return Ok(claimed);
            }
            let mut free = free;
            // Never more than it declared, whatever it says is free.
            for (name, left) in &mut free {
                let declared = tx.state().handler(&node, name).map_or(0, |handler| handler.slots);
                let held = tx
                    .state()
                    .jobs_on(&node)
                    .filter(|job| job.spec.handler == *name)
                    .count();
                *left = (*left).min(declared.saturating_sub(u16::try_from(held).unwrap_or(u16::MAX)));
            }
            for mut command in commands {
                command.free = free.clone();
                command.now = tx.now_us();
                match decide::claim(tx.state(), &command, &policy)? {
                    ClaimDecision::Nothing => break,
                    ClaimDecision::Already { fence, job, standing } => {
                        if !matches!(standing, Standing::InForce | Standing::CancelAsked) {
                            continue;
                        }
                        claimed.push((fence, job));
                    }
                    ClaimDecision::Claim(draft) => {
                        let appended: Vec<Appended> = central::put(tx, vec![draft])?;
                        let receipt = appended[0].receipt();
                        let epoch = tx.state().order().map_or(0, |order| order.epoch);
                        let fence = Fence::of_claim(epoch, receipt.seq(), &receipt.seal_digest());
                        if let Some(claim) = tx.state().fence(&fence) {
                            claimed.push((fence, claim.job));
                        }
                    }
                }
                let (_, job) = claimed
                    .last()
                    .copied()
                    .ok_or(ServerError::NotServing("no claim".into()))?;
                let handler = tx.state().job(&job).map(|job| job.spec.handler.clone());
                for (name, left) in &mut free {
                    if Some(&*name) == handler.as_ref() {
                        *left = left.saturating_sub(1);
                    }
                }
            }
            Ok(claimed)
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
    let order = machine
        .ledger
        .own_log(Stream::Order)
        .ok_or_else(|| absent("the order"))?;
    let claimed = machine
        .ledger
        .get(&order, fence.seq)?
        .ok_or_else(|| absent("the claim"))?;
    // An older epoch's order log holds what was accepted in it.
    let of = snapshot
        .state
        .epochs()
        .find(|(epoch, _)| **epoch == row.accepted.epoch)
        .map_or(order, |(_, e)| e.log);
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
