//! Where a job stands, as a submitter is told.

use super::decide::{candidates, hindrance};
use super::job::JobState;
use super::table::Phase;
use crate::FleetState;
use ledger_core::MachineId;
use ledger_core::kinds::{HeldReason, JobId, ParkedReason};
use std::fmt;

/// Where a job stands.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Ready, and a machine that may run it is heard.
    Queued {
        /// Who may run it.
        machines: Vec<MachineId>,
    },
    /// Ready, and no machine that may run it is heard.
    Waiting {
        /// Whoever of these reconnects first runs it; none when nobody declares the handler any more.
        machines: Vec<MachineId>,
        /// The handler.
        handler: String,
    },
    /// Ready, and whoever may run it and is heard gets no further work.
    HeldBack {
        /// Whoever of these gets work again first runs it.
        machines: Vec<MachineId>,
        /// Why the first of them gets none, when that was said.
        reason: String,
    },
    /// Not before its time.
    Scheduled {
        /// Microseconds since 1970.
        not_before: i64,
    },
    /// Waits for a release.
    Held {
        /// Why.
        reason: HeldReason,
    },
    /// Ready, and nothing of its handler is given out.
    Paused {
        /// The handler.
        handler: String,
        /// When it goes on by itself, microseconds since 1970.
        until: Option<i64>,
        /// Why.
        reason: String,
    },
    /// Given to a machine.
    Running {
        /// Which.
        machine: MachineId,
        /// Whether it reported the start.
        started: bool,
        /// Whether it was told to stop.
        stopping: bool,
    },
    /// Given to a machine that is not heard.
    Unknown {
        /// Which.
        machine: MachineId,
        /// Microseconds since 1970.
        since: i64,
        /// When a backup may run it, microseconds since 1970.
        failover_at: Option<i64>,
        /// What else that waits for.
        hindrance: Option<&'static str>,
    },
    /// An attempt failed, another follows.
    Retrying {
        /// Microseconds since 1970.
        retry_at: Option<i64>,
    },
    /// Among the dead letters.
    Parked {
        /// Why.
        reason: ParkedReason,
        /// The handler.
        handler: String,
    },
    /// Done.
    Succeeded {
        /// By whom.
        machine: MachineId,
        /// How many outputs.
        outputs: u32,
    },
    /// Final without success.
    Ended {
        /// Failed, cancelled, expired or discarded.
        state: &'static str,
    },
}

impl Answer {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Queued { .. } | Self::Waiting { .. } | Self::HeldBack { .. } | Self::Paused { .. } => {
                "queued"
            }
            Self::Scheduled { .. } => "scheduled",
            Self::Held { .. } => "held",
            Self::Running { .. } => "running",
            Self::Unknown { .. } => "suspect",
            Self::Retrying { .. } => "backoff",
            Self::Parked { .. } => "parked",
            Self::Succeeded { .. } => "succeeded",
            Self::Ended { state } => state,
        }
    }
}

/// A count with its noun.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

// Day, hour and minute of a time in microseconds since 1970, in UTC: it may lie far ahead.
fn day_text(micros: i64) -> String {
    let time = jiff::Timestamp::from_microsecond(micros);
    time.map_or_else(
        |_| format!("{micros} microseconds since 1970"),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

fn list(machines: &[MachineId]) -> String {
    machines
        .iter()
        .map(MachineId::as_str)
        .collect::<Vec<_>>()
        .join(" or ")
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued { machines } => write!(f, "queued, for {}", list(machines)),
            Self::Waiting { machines, handler } if machines.is_empty() => {
                write!(f, "queued, when a machine declares handler {handler:?}")
            }
            Self::Waiting { machines, .. } => {
                let verb = if machines.len() == 1 {
                    "reconnects"
                } else {
                    "reconnect"
                };
                write!(f, "queued, when {} {verb}", list(machines))
            }
            Self::HeldBack { machines, reason } => {
                let verb = if machines.len() == 1 { "gets" } else { "get" };
                write!(f, "queued, when {} {verb} work again", list(machines))?;
                if reason.is_empty() {
                    return Ok(());
                }
                write!(f, ": {reason}")
            }
            Self::Scheduled { not_before } => {
                write!(f, "scheduled, not before {}", day_text(*not_before))
            }
            Self::Held { reason } => f.write_str(match reason {
                HeldReason::ByHand => "held, until it is released",
                HeldReason::Dependencies => "held, until the jobs that it depends on have succeeded",
                HeldReason::DependencyFailed => {
                    "held, a job that it depends on ended without success; retry that one, or release or cancel this one"
                }
                HeldReason::NotBefore => "held, until its time comes",
            }),
            Self::Paused { handler, until, reason } => {
                write!(f, "queued, while handler {handler:?} is paused")?;
                if let Some(until) = until {
                    write!(f, " until {}", day_text(*until))?;
                }
                write!(f, ": {reason}")
            }
            Self::Running {
                machine,
                stopping: true,
                ..
            } => write!(f, "stopping on {machine}"),
            Self::Running {
                machine,
                started: true,
                ..
            } => write!(f, "running on {machine}"),
            Self::Running { machine, .. } => write!(f, "given to {machine}"),
            Self::Unknown {
                machine,
                since,
                failover_at,
                hindrance,
            } => {
                let since = crate::notices::clock_text(*since);
                write!(f, "on {machine}, which is not heard since {since}")?;
                match failover_at {
                    Some(at) => write!(
                        f,
                        "; a backup may run it from {}",
                        crate::notices::clock_text(*at)
                    ),
                    None => f.write_str("; it waits for that machine"),
                }?;
                match hindrance.filter(|_| failover_at.is_some()) {
                    Some(why) => write!(f, ", but not yet: {why}"),
                    None => Ok(()),
                }
            }
            Self::Retrying { .. } => f.write_str("failed, and will be tried again"),
            Self::Parked {
                reason: ParkedReason::UnknownHandler,
                handler,
            } => {
                write!(f, "parked, no machine declares handler {handler:?}")
            }
            Self::Parked {
                reason: ParkedReason::LossesUsedUp,
                ..
            } => f.write_str("parked, it was lost with its machine too often"),
            Self::Parked {
                reason: ParkedReason::ExclusiveLost,
                ..
            } => f.write_str("parked, it was lost after its start and must not run twice; decide by hand"),
            Self::Parked {
                reason: ParkedReason::AttemptsUsedUp,
                ..
            } => f.write_str("parked, it failed as often as it may; retry or discard it"),
            Self::Succeeded { machine, outputs } => {
                write!(
                    f,
                    "succeeded on {machine}, {}",
                    counted(u64::from(*outputs), "output")
                )
            }
            Self::Ended { state } => f.write_str(state),
        }
    }
}

/// Where a job stands; `None` for one that the order does not know.
pub fn answer_for(state: &FleetState, job: &JobId) -> Option<Answer> {
    let job = state.job(job)?;
    let handler = || job.spec.handler.clone();
    Some(match &job.state {
        JobState::Accepted | JobState::Ready if state.queue().pause(&job.spec.handler).is_some() => {
            let pause = state.queue().pause(&job.spec.handler)?;
            Answer::Paused {
                handler: handler(),
                until: pause.until,
                reason: pause.reason.clone(),
            }
        }
        JobState::Accepted | JobState::Ready => {
            let machines = candidates(state, job);
            let heard = |id: &MachineId| state.machine(id).is_some_and(crate::members::Machine::is_online);
            let online: Vec<MachineId> = machines.iter().filter(|id| heard(id)).cloned().collect();
            let held_back = |id: &MachineId| crate::health::held_back(state, id);
            let working: Vec<MachineId> = online
                .iter()
                .filter(|id| held_back(id).is_none())
                .cloned()
                .collect();
            match (working.is_empty(), online.first().and_then(held_back)) {
                (false, _) => Answer::Queued { machines: working },
                (true, Some(held)) => Answer::HeldBack {
                    reason: held.reason.clone(),
                    machines: online,
                },
                (true, None) => Answer::Waiting {
                    machines,
                    handler: handler(),
                },
            }
        }
        JobState::Held { reason } => Answer::Held { reason: *reason },
        JobState::Scheduled { not_before } => Answer::Scheduled {
            not_before: *not_before,
        },
        JobState::Leased(lease) => Answer::Running {
            machine: lease.machine.clone(),
            started: lease.started,
            stopping: job.cancel_asked,
        },
        JobState::Suspect {
            lease,
            since,
            failover_at,
        } => Answer::Unknown {
            machine: lease.machine.clone(),
            since: *since,
            failover_at: *failover_at,
            hindrance: hindrance(state, job, lease, false),
        },
        JobState::Backoff { retry_at, .. } => Answer::Retrying { retry_at: *retry_at },
        JobState::Parked(reason) => Answer::Parked {
            reason: *reason,
            handler: handler(),
        },
        JobState::Succeeded(success) => Answer::Succeeded {
            machine: success.machine.clone(),
            outputs: success.outputs.count,
        },
        JobState::Failed(_) => Answer::Ended {
            state: Phase::Failed.as_str(),
        },
        JobState::Cancelled => Answer::Ended {
            state: Phase::Cancelled.as_str(),
        },
        JobState::Expired => Answer::Ended {
            state: Phase::Expired.as_str(),
        },
        JobState::Discarded => Answer::Ended {
            state: Phase::Discarded.as_str(),
        },
    })
}
