//! A machine asks for work: at most one job a call, and never twice for one claim id.

use super::{OrderDraft, about, routing, working_machine};
use crate::FleetState;
use crate::queue::{Job, Refusal, Standing};
use ledger_core::MachineId;
use ledger_core::digest::derived_id;
use ledger_core::kinds::{Fence, JobClaimed, JobId};

/// Ready jobs that one claim looks at for each handler before it gives up. Jobs that a machine may not run stay in the
/// queue in front of those that it may; this bounds the work of a claim whatever lies there.
pub const CLAIM_SCAN_MAX: usize = 65_536;

/// What a machine asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimCommand {
    /// Who asks.
    pub machine: MachineId,
    /// Its incarnation.
    pub incarnation: u32,
    /// The claim's id, of the machine's own choice.
    pub claim: [u8; 16],
    /// Its handlers and how many more of each it would start now.
    pub free: Vec<(String, u16)>,
    /// The lease's term in milliseconds.
    pub term_ms: u32,
}

/// What a machine gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimDecision {
    /// This `job.claimed`; its place in the order is the fence.
    Claim(OrderDraft),
    /// What the same id got before, and what it is worth now. Only [`Standing::InForce`] is to be run.
    Already {
        /// The claim.
        fence: Fence,
        /// The job.
        job: JobId,
        /// What it is worth now.
        standing: Standing,
    },
    /// Nothing is ready for it.
    Nothing,
}

/// Asks for routing once for a run of jobs that are routed alike, so that a backlog in front costs no more than its length.
struct Routed<'a> {
    state: &'a FleetState,
    machine: &'a MachineId,
    last: Option<(&'a Job, bool)>,
}

impl<'a> Routed<'a> {
    fn may_run(&mut self, job: &'a Job) -> bool {
        let alike = |other: &Job| {
            (
                &other.spec.machine,
                &other.spec.labels,
                &other.excluded,
                other.failovers > 0,
            ) == (
                &job.spec.machine,
                &job.spec.labels,
                &job.excluded,
                job.failovers > 0,
            )
        };
        let may = match self.last {
            Some((other, may)) if alike(other) => may,
            _ => routing::may_run(self.state, job, self.machine),
        };
        self.last = Some((job, may));
        may
    }
}

/// The ids of several claims of one request derive from the first, which is number 0.
///
/// ```
/// use ledger_projections::queue::decide::nth_claim_id;
/// assert_eq!(nth_claim_id(&[7; 16], 0), [7; 16]);
/// assert_eq!(nth_claim_id(&[7; 16], 1), nth_claim_id(&[7; 16], 1));
/// assert_ne!(nth_claim_id(&[7; 16], 1), nth_claim_id(&[7; 16], 2));
/// ```
pub fn nth_claim_id(claim: &[u8; 16], n: u32) -> [u8; 16] {
    if n == 0 {
        *claim
    } else {
        derived_id(&[b"claim", claim, &n.to_be_bytes()]).0
    }
}

/// Gives a machine the ready job with the highest priority, the oldest of these, among those that it may run.
///
/// # Errors
/// [`Refusal::NotCentral`], [`Refusal::MachineUnknown`], [`Refusal::MachineRetired`].
pub fn claim(state: &FleetState, command: &ClaimCommand) -> Result<ClaimDecision, Refusal> {
    if state.order().is_none() {
        return Err(Refusal::NotCentral);
    }
    if let Some(fence) = state.claim_of(&command.machine, &command.claim)
        && let Some(given) = state.fence(&fence)
    {
        let standing = state.standing(&fence);
        return Ok(ClaimDecision::Already {
            fence,
            job: given.job,
            standing,
        });
    }
    working_machine(state, &command.machine)?;
    // Draining or quarantined: what it has goes on, and nothing comes to it.
    if crate::health::held_back(state, &command.machine).is_some() {
        return Ok(ClaimDecision::Nothing);
    }
    let best = command
        .free
        .iter()
        .filter(|(_, slots)| *slots > 0)
        .filter_map(|(handler, _)| {
            let mut routed = Routed {
                state,
                machine: &command.machine,
                last: None,
            };
            let mut ready = state.queue().ready(handler).take(CLAIM_SCAN_MAX);
            ready.find(|job| !job.cancel_asked && routed.may_run(job))
        })
        .min_by_key(|job| (-i32::from(job.spec.priority), job.accepted));
    let Some(job) = best else {
        return Ok(ClaimDecision::Nothing);
    };
    let declared = state
        .handler(&command.machine, &job.spec.handler)
        .expect("a candidate declares the handler");
    let claimed = JobClaimed {
        job: job.id,
        claim: command.claim,
        machine: command.machine.clone(),
        incarnation: command.incarnation,
        class: declared.class,
        attempt: job.attempts.saturating_add(1),
        term_ms: command.term_ms,
        progress: job.progress,
    };
    Ok(ClaimDecision::Claim(about(&job.id, &claimed, Some(job.request))))
}
