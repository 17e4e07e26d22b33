//! Why a schedule is refused. Each reason has a stable code and says what to do.

use super::{CATCH_UP_MAX, SCHEDULES_MAX};
use ledger_core::limits::SCHEDULE_BYTES_MAX;

/// A definition or removal that nothing is written for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleRefusal {
    /// A name out of bounds.
    #[error(
        "a schedule's name is 1 to {SCHEDULE_BYTES_MAX} characters of a-z, 0-9, '.', '-' and '_'; {0:?} was found"
    )]
    Name(String),
    /// An expression that is none.
    #[error(
        "{found:?} is no cron expression: {why}; expected \"minute hour day month weekday\", seconds in front and years at \
         the end if wanted, as in \"30 3 * * MON-FRI\""
    )]
    Expression {
        /// What was found.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// A zone that nobody knows.
    #[error("{found:?} is no time zone; expected an IANA name such as Europe/Berlin or UTC")]
    Zone {
        /// What was found.
        found: String,
    },
    /// No time matches.
    #[error("{0:?} never fires: no time from now on matches it; look at its day, month and year")]
    Never(String),
    /// A policy out of bounds, or two that do not go together.
    #[error("the schedule's {field} is not acceptable: {why}")]
    Policy {
        /// The field.
        field: &'static str,
        /// What was expected and found.
        why: String,
    },
    /// Too many.
    #[error("there are {SCHEDULES_MAX} schedules already; remove one first")]
    TooMany,
    /// A name that no schedule has.
    #[error("there is no schedule {0:?}; list them to find its name")]
    Unknown(String),
}

impl ScheduleRefusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "schedule.name",
            Self::Expression { .. } => "schedule.expression",
            Self::Zone { .. } => "schedule.zone",
            Self::Never(_) => "schedule.never",
            Self::Policy { .. } => "schedule.policy",
            Self::TooMany => "schedule.too-many",
            Self::Unknown(_) => "schedule.unknown",
        }
    }
}

const _: () = assert!(CATCH_UP_MAX > 0);
