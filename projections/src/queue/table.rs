//! What each event of the order does to a job in each state, as data. It is total: every cell has an outcome.
//!
//! The fold applies it, a test walks it, a test prints it into `docs/QUEUE.md`. Whether the event's claim is the one in
//! force is the fold's question; which event may come at all is this table's.

use serde::{Deserialize, Serialize};

/// The name of a job's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No such job.
    Absent,
    /// Accepted; what follows is decided in the same commit.
    Accepted,
    /// Waits for a release.
    Held,
    /// Waits for its time.
    Scheduled,
    /// May be claimed.
    Ready,
    /// Claimed, within its lease.
    Leased,
    /// Claimed, its lease ran out or its machine said that it sleeps.
    Suspect,
    /// An attempt failed; waits for the next.
    Backoff,
    /// Among the dead letters.
    Parked,
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Stopped on demand.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// Given up before it ran to an end.
    Discarded,
}

impl Phase {
    /// All of them, in the table's order.
    pub const ALL: [Phase; 14] = [
        Phase::Absent,
        Phase::Accepted,
        Phase::Held,
        Phase::Scheduled,
        Phase::Ready,
        Phase::Leased,
        Phase::Suspect,
        Phase::Backoff,
        Phase::Parked,
        Phase::Succeeded,
        Phase::Failed,
        Phase::Cancelled,
        Phase::Expired,
        Phase::Discarded,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Absent => "absent",
            Phase::Accepted => "accepted",
            Phase::Held => "held",
            Phase::Scheduled => "scheduled",
            Phase::Ready => "ready",
            Phase::Leased => "leased",
            Phase::Suspect => "suspect",
            Phase::Backoff => "backoff",
            Phase::Parked => "parked",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Expired => "expired",
            Phase::Discarded => "discarded",
        }
    }

    /// Whether no event leads out of it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Phase::Succeeded | Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Discarded
        )
    }

    /// Whether a claim is in force.
    pub fn is_claimed(self) -> bool {
        matches!(self, Phase::Leased | Phase::Suspect)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the order says about a job: the second half of its kind's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // each is documented as the kind of its name
pub enum Event {
    Accepted,
    Held,
    Released,
    Ready,
    Claimed,
    Started,
    Checkpointed,
    LeaseExpired,
    Resumed,
    Requeued,
    FailedOver,
    Yielded,
    AttemptFailed,
    Succeeded,
    Failed,
    CancelAsked,
    Cancelled,
    Expired,
    Parked,
    Discarded,
    ResultConflict,
    LateResult,
}

impl Event {
    /// All of them, in the table's order.
    pub const ALL: [Event; 22] = [
        Event::Accepted,
        Event::Held,
        Event::Released,
        Event::Ready,
        Event::Claimed,
        Event::Started,
        Event::Checkpointed,
        Event::LeaseExpired,
        Event::Resumed,
        Event::Requeued,
        Event::FailedOver,
        Event::Yielded,
        Event::AttemptFailed,
        Event::Succeeded,
        Event::Failed,
        Event::CancelAsked,
        Event::Cancelled,
        Event::Expired,
        Event::Parked,
        Event::Discarded,
        Event::ResultConflict,
        Event::LateResult,
    ];

    /// Its name, as in the kind `job.<name>`.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Accepted => "accepted",
            Event::Held => "held",
            Event::Released => "released",
            Event::Ready => "ready",
            Event::Claimed => "claimed",
            Event::Started => "started",
            Event::Checkpointed => "checkpointed",
            Event::LeaseExpired => "lease-expired",
            Event::Resumed => "resumed",
            Event::Requeued => "requeued",
            Event::FailedOver => "failed-over",
            Event::Yielded => "yielded",
            Event::AttemptFailed => "attempt-failed",
            Event::Succeeded => "succeeded",
            Event::Failed => "failed",
            Event::CancelAsked => "cancel-asked",
            Event::Cancelled => "cancelled",
            Event::Expired => "expired",
            Event::Parked => "parked",
            Event::Discarded => "discarded",
            Event::ResultConflict => "result-conflict",
            Event::LateResult => "late-result",
        }
    }
}

/// What an event does in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The job goes into this state.
    To(Phase),
    /// The job stays, its data takes the event in.
    Stay,
    /// The event is in order and changes nothing about the job.
    Note,
    /// A Central that decides by these rules never writes it; the fold leaves the job alone and counts the receipt.
    Never,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::To(phase) => write!(f, "**{phase}**"),
            Outcome::Stay => f.write_str("stays"),
            Outcome::Note => f.write_str("note"),
            Outcome::Never => f.write_str("·"),
        }
    }
}

const ABSENT: [Outcome; 22] = row(&[
    (Event::Accepted, Outcome::To(Phase::Accepted)),
    (Event::LateResult, Outcome::Note),
]);
const ACCEPTED: [Outcome; 22] = row(&[
    (Event::Held, Outcome::To(Phase::Held)),
    (Event::Ready, Outcome::To(Phase::Ready)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::LateResult, Outcome::Note),
]);
const HELD: [Outcome; 22] = row(&[
    (Event::Held, Outcome::Stay),
    (Event::Released, Outcome::To(Phase::Ready)),
    (Event::Ready, Outcome::To(Phase::Ready)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Discarded, Outcome::To(Phase::Discarded)),
    (Event::LateResult, Outcome::Note),
]);
const SCHEDULED: [Outcome; 22] = row(&[
    (Event::Held, Outcome::To(Phase::Held)),
    (Event::Ready, Outcome::To(Phase::Ready)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::Discarded, Outcome::To(Phase::Discarded)),
    (Event::LateResult, Outcome::Note),
]);
const READY: [Outcome; 22] = row(&[
    (Event::Held, Outcome::To(Phase::Held)),
    (Event::Claimed, Outcome::To(Phase::Leased)),
    (Event::Resumed, Outcome::To(Phase::Leased)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::Discarded, Outcome::To(Phase::Discarded)),
    (Event::LateResult, Outcome::Note),
]);
const LEASED: [Outcome; 22] = row(&[
    (Event::Started, Outcome::Stay),
    (Event::Checkpointed, Outcome::Stay),
    (Event::LeaseExpired, Outcome::To(Phase::Suspect)),
    (Event::Requeued, Outcome::To(Phase::Ready)),
    (Event::Yielded, Outcome::To(Phase::Ready)),
    (Event::AttemptFailed, Outcome::To(Phase::Backoff)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::LateResult, Outcome::Note),
]);
const SUSPECT: [Outcome; 22] = row(&[
    (Event::Started, Outcome::Stay),
    (Event::Checkpointed, Outcome::Stay),
    (Event::Resumed, Outcome::To(Phase::Leased)),
    (Event::Requeued, Outcome::To(Phase::Ready)),
    (Event::FailedOver, Outcome::To(Phase::Ready)),
    (Event::Yielded, Outcome::To(Phase::Ready)),
    (Event::AttemptFailed, Outcome::To(Phase::Backoff)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::LateResult, Outcome::Note),
]);
const BACKOFF: [Outcome; 22] = row(&[
    (Event::Held, Outcome::To(Phase::Held)),
    (Event::Ready, Outcome::To(Phase::Ready)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::Failed, Outcome::To(Phase::Failed)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Parked, Outcome::To(Phase::Parked)),
    (Event::Discarded, Outcome::To(Phase::Discarded)),
    (Event::LateResult, Outcome::Note),
]);
const PARKED: [Outcome; 22] = row(&[
    (Event::Held, Outcome::To(Phase::Held)),
    (Event::Ready, Outcome::To(Phase::Ready)),
    (Event::Succeeded, Outcome::To(Phase::Succeeded)),
    (Event::CancelAsked, Outcome::Stay),
    (Event::Cancelled, Outcome::To(Phase::Cancelled)),
    (Event::Expired, Outcome::To(Phase::Expired)),
    (Event::Discarded, Outcome::To(Phase::Discarded)),
    (Event::LateResult, Outcome::Note),
]);
const SUCCEEDED: [Outcome; 22] = row(&[
    (Event::CancelAsked, Outcome::Note),
    (Event::ResultConflict, Outcome::Stay),
    (Event::LateResult, Outcome::Note),
]);
const FINAL: [Outcome; 22] = row(&[
    (Event::CancelAsked, Outcome::Note),
    (Event::LateResult, Outcome::Note),
]);

/// The table: a row for each state in the order of [`Phase::ALL`], a column for each event in that of [`Event::ALL`].
pub const TABLE: [[Outcome; 22]; 14] = [
    ABSENT, ACCEPTED, HELD, SCHEDULED, READY, LEASED, SUSPECT, BACKOFF, PARKED, SUCCEEDED, FINAL, FINAL,
    FINAL, FINAL,
];

/// What an event does in a state.
///
/// ```
/// use ledger_projections::queue::table::{Event, Outcome, Phase, outcome};
/// // An expired lease does not mean that the work stopped: its success is still taken.
/// assert_eq!(outcome(Phase::Leased, Event::LeaseExpired), Outcome::To(Phase::Suspect));
/// assert_eq!(outcome(Phase::Suspect, Event::Succeeded), Outcome::To(Phase::Succeeded));
/// ```
pub const fn outcome(phase: Phase, event: Event) -> Outcome {
    TABLE[phase as usize][event as usize]
}

/// A row of the table from the cells that are not [`Outcome::Never`].
const fn row(cells: &[(Event, Outcome)]) -> [Outcome; 22] {
    let mut row = [Outcome::Never; 22];
    let mut next = 0;
    while next < cells.len() {
        row[cells[next].0 as usize] = cells[next].1;
        next += 1;
    }
    row
}

/// The table as Markdown: a row for each event, a column for each state.
pub fn markdown() -> String {
    use std::fmt::Write;
    let mut text = String::from("| event |");
    for phase in Phase::ALL {
        let _ = write!(text, " {phase} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Phase::ALL.len()));
    for event in Event::ALL {
        let _ = write!(text, "\n| {} |", event.as_str());
        for phase in Phase::ALL {
            let _ = write!(text, " {} |", outcome(phase, event));
        }
    }
    text.push('\n');
    text
}
