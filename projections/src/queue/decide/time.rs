//! What the ticker finds due: times that came and deadlines that passed.

use super::{OrderDraft, about, ready, routing};
use crate::FleetState;
use crate::queue::{JobState, Phase};
use ledger_core::kinds::{JobExpired, ParkedReason, ReadyReason};

/// Drafts that one call gives; the next tick goes on.
pub const DUE_MAX: usize = 1024;

/// Drafts for everything that is due at `now`, microseconds since 1970: scheduled and backed-off jobs become ready,
/// unfinished ones past their deadline expire, parked ones whose handler is declared by now are released. Failovers are
/// not among them.
pub fn due(state: &FleetState, now: i64) -> Vec<OrderDraft> {
    let served = state.jobs_in(Phase::Parked).filter(|job| {
        job.state == JobState::Parked(ParkedReason::UnknownHandler)
            && job.spec.not_before.is_none_or(|not_before| not_before <= now)
            && routing::fitting(state, &job.spec).next().is_some()
    });
    let served = served.map(|job| ready(&job.id, ReadyReason::HandlerDeclared, Some(job.request)));
    state
        .queue()
        .timed_until(now)
        .filter_map(|job| {
            if job.spec.deadline.is_some_and(|deadline| deadline <= now) {
                let fence = job.lease().map(|lease| lease.fence);
                return Some(about(
                    &job.id,
                    &JobExpired { job: job.id, fence },
                    Some(job.request),
                ));
            }
            match job.state {
                JobState::Scheduled { not_before } if not_before <= now => {
                    Some(ready(&job.id, ReadyReason::Due, Some(job.request)))
                }
                JobState::Backoff {
                    retry_at: Some(at), ..
                } if at <= now => Some(ready(&job.id, ReadyReason::Due, Some(job.request))),
                _ => None,
            }
        })
        .chain(served)
        .take(DUE_MAX)
        .collect()
}
