//! A machine asks for work: at most one job a call, and never twice for one claim id.

use super::{OrderDraft, about, routing, working_machine};
use crate::FleetState;
use crate::queue::{Job, Limit, Pause, Policy, Refusal, Standing, micros};
use ledger_core::MachineId;
use ledger_core::digest::derived_id;
use ledger_core::kinds::{Fence, JobClaimed, JobId, LimitScope};

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
    /// When it asks, microseconds since 1970.
    pub now: i64,
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

/// The points by which ready jobs are given out: the priority, and one more for each period that the job has waited since it was
/// accepted, or since its `not_before` where that is later; never more for waiting than the policy grants.
///
/// `points = priority + min(ageing_points_max, (now - since) / ageing_every)`
///
/// ```
/// # use ledger_projections::{Policy, queue::decide::points};
/// let policy = Policy { ageing_every_ms: 60_000, ageing_points_max: 5, ..Policy::default() };
/// let minute = 60_000_000;
/// assert_eq!(points(10, 0, 0, &policy), 10);
/// assert_eq!(points(10, 0, 3 * minute, &policy), 13);
/// assert_eq!(points(10, 0, 100 * minute, &policy), 15);
/// ```
pub fn points(priority: i16, since: i64, now: i64, policy: &Policy) -> i64 {
    let every = micros(policy.ageing_every_ms);
    let most = i64::from(policy.ageing_points_max);
    let aged = match every {
        0 => 0,
        every => (now.saturating_sub(since) / every).clamp(0, most),
    };
    i64::from(priority) + aged
}

/// Whether nothing but the machine's fitness decides on jobs of a handler: it is not paused, and its limits and the machine's
/// admit one more claim.
fn is_open(state: &FleetState, handler: &str, machine: &MachineId, now: i64) -> bool {
    let queue = state.queue();
    let over = |pause: &Pause| pause.until.is_some_and(|until| until <= now);
    let scopes = [
        LimitScope::Handler(handler.to_owned()),
        LimitScope::Machine(machine.clone()),
    ];
    queue.pause(handler).is_none_or(over)
        && scopes.iter().all(|scope| {
            let limit = queue.limit(scope);
            limit.is_none_or(|limit| limit.admits(queue.running(scope), now))
        })
}

/// When time alone lets the next job of a machine's handlers through that a rate or a pause keeps back now, microseconds since
/// 1970. Whatever else lets one through is a receipt. Nothing may be there for the machine then after all: ask again.
pub fn opens_at<'a>(
    state: &FleetState,
    machine: &MachineId,
    handlers: impl Iterator<Item = &'a str>,
    now: i64,
) -> Option<i64> {
    let queue = state.queue();
    let admits_at = |scope: &LimitScope| queue.limit(scope).map(Limit::admits_at);
    let waiting = handlers.filter(|name| queue.ready(name).next().is_some());
    let of_handlers = waiting.flat_map(|name| {
        let paused = queue.pause(name).and_then(|pause| pause.until);
        [paused, admits_at(&LimitScope::Handler(name.to_owned()))]
    });
    let keys = queue
        .limits()
        .filter(|(scope, _)| matches!(scope, LimitScope::Key(_)));
    let all = of_handlers
        .chain([admits_at(&LimitScope::Machine(machine.clone()))])
        .chain(keys.map(|(_, limit)| Some(limit.admits_at())));
    all.flatten().filter(|at| *at > now).min()
}

/// Whether a job's concurrency key admits one more claim.
fn key_admits(state: &FleetState, job: &Job, now: i64, policy: &Policy) -> bool {
    let Some(key) = &job.spec.concurrency_key else {
        return true;
    };
    let scope = LimitScope::Key(key.clone());
    let running = state.queue().running(&scope);
    match state.queue().limit(&scope) {
        Some(limit) => limit.admits(running, now),
        None => policy.key_running_max.is_none_or(|most| running < most),
    }
}

/// The best job of a handler for a machine: of each priority the first in line that may be given out, then by points.
fn best_of<'a>(
    state: &'a FleetState,
    handler: &str,
    command: &'a ClaimCommand,
    policy: &Policy,
) -> Option<(i64, &'a Job)> {
    let now = command.now;
    if !is_open(state, handler, &command.machine, now) {
        return None;
    }
    let mut routed = Routed {
        state,
        machine: &command.machine,
        last: None,
    };
    let mut best: Option<(i64, &Job)> = None;
    let (mut below, mut left) = (None, CLAIM_SCAN_MAX);
    loop {
        let mut line = state.queue().ready_below(handler, below).take(left);
        let found = line.find(|job| {
            left -= 1;
            let in_time = job.spec.deadline.is_none_or(|deadline| deadline > now);
            !job.cancel_asked && in_time && key_admits(state, job, now, policy) && routed.may_run(job)
        });
        let Some(job) = found else { return best };
        let since = job.accepted_at.max(job.spec.not_before.unwrap_or(i64::MIN));
        let points = points(job.spec.priority, since, now, policy);
        if best.is_none_or(|(most, first)| (points, first.accepted) > (most, job.accepted)) {
            best = Some((points, job));
        }
        // Whoever stands lower cannot have more than waiting gives.
        let reachable = i64::from(job.spec.priority) - 1 + i64::from(policy.ageing_points_max);
        if best.is_some_and(|(most, _)| most > reachable) || job.spec.priority == i16::MIN {
            return best;
        }
        below = Some(job.spec.priority);
    }
}

/// Gives a machine the ready job with the most [`points`], the oldest of these, among those that it may run, within all limits.
///
/// # Errors
/// [`Refusal::NotCentral`], [`Refusal::MachineUnknown`], [`Refusal::MachineRetired`].
pub fn claim(state: &FleetState, command: &ClaimCommand, policy: &Policy) -> Result<ClaimDecision, Refusal> {
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
        .filter_map(|(handler, _)| best_of(state, handler, command, policy))
        .min_by_key(|(points, job)| (-points, job.accepted));
    let Some((_, job)) = best else {
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
