//! Giving jobs out: as many as a machine has room for, in one commit.

use super::{OrderTx, StepError, settle, write};
use crate::queue::Standing;
use crate::queue::decide::{self, ClaimCommand, ClaimDecision};
use crate::{FleetState, Policy};
use ledger_core::MachineId;
use ledger_core::kinds::{Fence, JobId};

/// What a machine asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Who asks.
    pub machine: MachineId,
    /// Its incarnation.
    pub incarnation: u32,
    /// The id of the first claim; those of the others derive from it.
    pub claim: [u8; 16],
    /// Its handlers and how many more of each it would start now.
    pub free: Vec<(String, u16)>,
    /// Jobs that it gets at most.
    pub most: u32,
}

impl Asked {
    fn command(&self, n: u32, free: &[(String, u16)], now: i64, policy: &Policy) -> ClaimCommand {
        ClaimCommand {
            machine: self.machine.clone(),
            incarnation: self.incarnation,
            claim: decide::nth_claim_id(&self.claim, n),
            free: free.to_vec(),
            term_ms: policy.term_ms,
            now,
        }
    }

    /// How many jobs it has room for, within its bound.
    pub fn slots(&self) -> u32 {
        let free = self.free.iter();
        let sum = free.fold(0u32, |sum, (_, free)| sum.saturating_add(u32::from(*free)));
        sum.min(self.most)
    }

    /// Whether [`give`] would give anything in this state. Most of the time there is nothing, and no commit is needed to
    /// know it.
    ///
    /// # Errors
    /// As [`decide::claim`].
    pub fn finds(&self, state: &FleetState, now: i64, policy: &Policy) -> Result<bool, crate::Refusal> {
        if self.slots() == 0 {
            return Ok(false);
        }
        let decision = decide::claim(state, &self.command(0, &self.free, now, policy), policy)?;
        Ok(decision != ClaimDecision::Nothing)
    }
}

/// Gives a machine what it has room for, never more of a handler than it declared. What it got before under the same ids is given
/// again, as far as that is still in force.
///
/// # Errors
/// [`StepError`].
pub fn give<T: OrderTx>(
    tx: &mut T,
    asked: &Asked,
    policy: &Policy,
) -> Result<Vec<(Fence, JobId)>, StepError> {
    let mut claimed: Vec<(Fence, JobId)> = Vec::new();
    let mut free = asked.free.clone();
    for (name, left) in &mut free {
        let declared = tx
            .state()
            .handler(&asked.machine, name)
            .map_or(0, |handler| handler.slots);
        let here = tx.state().jobs_on(&asked.machine);
        let held = here.filter(|job| job.spec.handler == *name).count();
        *left = (*left).min(declared.saturating_sub(u16::try_from(held).unwrap_or(u16::MAX)));
    }
    for n in 0..asked.slots() {
        let command = asked.command(n, &free, tx.now_us(), policy);
        let (fence, job) = match decide::claim(tx.state(), &command, policy)? {
            ClaimDecision::Nothing => break,
            ClaimDecision::Already { standing, .. }
                if !matches!(standing, Standing::InForce | Standing::CancelAsked) =>
            {
                continue;
            }
            ClaimDecision::Already { fence, job, .. } => (fence, job),
            ClaimDecision::Claim(draft) => {
                let given = write(tx, vec![draft])?;
                let epoch = tx.state().order().map_or(0, |order| order.epoch);
                let fence = given
                    .first()
                    .map(|receipt| Fence::of_claim(epoch, receipt.seq(), &receipt.seal_digest()));
                let claim = fence.and_then(|fence| Some((fence, tx.state().fence(&fence)?.job)));
                let Some(claim) = claim else { break };
                claim
            }
        };
        claimed.push((fence, job));
        let handler = tx.state().job(&job).map(|job| job.spec.handler.clone());
        for (name, left) in &mut free {
            if Some(&*name) == handler.as_ref() {
                *left = left.saturating_sub(1);
            }
        }
    }
    settle(tx)?;
    Ok(claimed)
}
