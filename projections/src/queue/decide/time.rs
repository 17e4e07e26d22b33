//! What the ticker finds due: times that came and deadlines that passed.

use super::{OrderDraft, about, ready};
use crate::FleetState;
use crate::queue::JobState;
use ledger_core::kinds::{JobExpired, ReadyReason};

/// Drafts that one call gives; the next tick goes on.
pub const DUE_MAX: usize = 1024;

/// Drafts for everything that is due at `now`, microseconds since 1970: scheduled and backed-off jobs become ready,
/// unfinished ones past their deadline expire. Failovers are not among them.
pub fn due(state: &FleetState, now: i64) -> Vec<OrderDraft> {
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
        .take(DUE_MAX)
        .collect()
}
