//! The catalogue of kinds: for each (kind, schema) one frozen struct, its stream and who may write it.
//!
//! A struct here never changes. A new need is a new schema number with a new struct. Every text in a detail is bounded
//! by `limits`; the sum stays below [`crate::limits::DETAIL_BYTES_MAX`], which the statement checks.

mod common;
mod cost;
mod facts;
mod fleet;
mod job;
mod keep;
mod log;
mod queue;
mod read;
mod run;
mod schedule;
mod watch;

pub use common::{Class, Costs, ErrorClass, Evidence, Fence, InputRef, JobId, Outputs, Role};
pub use cost::{JobAssigned, JobCharged, Money, RunCharged};
pub use facts::{
    ArtifactRecorded, ArtifactRemoved, ArtifactSkipped, Erased, NodeBooted, NodePulse, SkipReason, Verdict,
    VerifyCompleted,
};
pub use fleet::{
    CentralDesignated, Credential, EpochStarted, HandlerDeclared, HandlerWithdrawn, InadmissibleReason,
    KeyGranted, KeyInvited, KeyJoined, KeyRevoked, NodeBack, NodeLost, NodeRetired, NoticeAcknowledged,
    NoticeDelivered, NoticeRaised, NoticeTopic, NoticeUndelivered, ReceiptInadmissible,
};
pub use job::{
    JobAccepted, JobAttemptFailed, JobCancelAsked, JobCancelled, JobCheckpointed, JobClaimProven, JobClaimed,
    JobExpired, JobFailed, JobFailedOver, JobLateResult, JobLeaseExpired, JobParked, JobReady, JobRequeued,
    JobResultConflict, JobResumed, JobSpec, JobStarted, JobSucceeded, LateVerdict, ParkedReason, ReadyReason,
    RequestReceived, RequeueReason, SuccessVerdict,
};
pub use keep::{CitedHead, KeyAnnounced, LogCited, NodeDaySummary, RetentionSet};
pub use log::{Founding, LogClosed, LogGenesis, LogPinned, LogPruned, PinnedRange, Predecessor};
pub use queue::{
    DiscardReason, HandlerPaused, HandlerResumed, HeldReason, JobDiscarded, JobHeld, JobReleased, LimitScope,
    QueueLimited, RateLimit,
};
pub use run::{
    ArtifactStaged, RunCheckpointed, RunFailed, RunLost, RunProgressed, RunStarted, RunSucceeded, RunYielded,
};
pub use schedule::{
    Misfire, Overlap, ScheduleDefined, ScheduleFired, ScheduleMissed, ScheduleRemoved, ScheduleSkipped,
    TickSkipped,
};

pub use watch::{
    Boot, CentralAbsent, CheckKind, NodeAsleep, NodeAwake, NodeDraining, NodePulse2, NodePulse3,
    NodeQuarantined, NodeResumed, NodeServiceState, NodeSleeping, NodeWaking, RestReason, ServiceGauge,
    ServiceState,
};

use crate::canonical;
use crate::error::DecodeError;
use crate::kind::Stream;
use serde::{Serialize, de::DeserializeOwned};

/// A frozen detail of one (kind, schema).
pub trait Detail: Serialize + DeserializeOwned {
    /// The kind's name.
    const KIND: &'static str;
    /// The revision.
    const SCHEMA: u16;

    /// Decodes exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are the canonical encoding of this detail.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        canonical::decode(Self::KIND, bytes)
    }
}

/// Why a detail could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DetailError {
    /// A (kind, schema) that this program does not know. Keep it, forward it, show it raw.
    #[error("kind {kind} schema {schema} is not known to this program")]
    Unknown {
        /// The kind.
        kind: String,
        /// The schema.
        schema: u16,
    },
    /// Known, but the bytes are not its canonical encoding.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Who may author a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Author {
    /// The machine that writes the log.
    Machine,
    /// The machine that holds the role of Central.
    Central,
    /// The fleet's root key.
    Root,
    /// Any actor that a grant permits.
    Actor,
    /// The operator, Central, or the root key.
    Operator,
}

/// One row of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KindInfo {
    /// The kind's name.
    pub kind: &'static str,
    /// The newest schema.
    pub schema: u16,
    /// The streams it may stand in.
    pub streams: &'static [Stream],
    /// Who may say it.
    pub author: Author,
}

macro_rules! catalogue {
    (
        $($name:ident = $kind:literal, $schema:literal, [$($stream:ident),+], $author:ident $(, $by:ident)?;)*
        @older $($older:ident = $older_kind:literal, $older_schema:literal;)*
    ) => {
        $(impl Detail for $name {
            const KIND: &'static str = $kind;
            const SCHEMA: u16 = $schema;

            $(fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                // Not canonical: the slow way tells why.
                read::$by(bytes).map_or_else(|| canonical::decode(Self::KIND, bytes), Ok)
            })?
        })*
        $(impl Detail for $older {
            const KIND: &'static str = $older_kind;
            const SCHEMA: u16 = $older_schema;
        })*

        /// Any detail of the catalogue.
        #[derive(Clone, PartialEq, Eq, Debug, Serialize)]
        #[serde(untagged)]
        #[allow(missing_docs, clippy::large_enum_variant)] // each variant is documented as its struct
        pub enum AnyDetail { $($name($name),)* $($older($older),)* }

        impl AnyDetail {
            /// Decodes the detail that (kind, schema) names.
            ///
            /// # Errors
            /// [`DetailError`].
            pub fn decode(kind: &str, schema: u16, bytes: &[u8]) -> Result<Self, DetailError> {
                match row_of(kind).filter(|row| CATALOGUE[*row].schema == schema) {
                    Some(row) => DECODERS[row](bytes),
                    None => match (kind, schema) {
                        $(($older_kind, $older_schema) => Ok(AnyDetail::$older($older::decode(bytes)?)),)*
                        _ => Err(DetailError::Unknown { kind: kind.to_owned(), schema }),
                    },
                }
            }
        }

        // In the order of the catalogue.
        const DECODERS: &[fn(&[u8]) -> Result<AnyDetail, DetailError>] =
            &[$(|bytes| Ok(AnyDetail::$name($name::decode(bytes)?))),*];

        /// Every kind of the catalogue, in its newest schema.
        pub const CATALOGUE: &[KindInfo] = &[
            $(KindInfo { kind: $kind, schema: $schema, streams: &[$(Stream::$stream),+], author: Author::$author }),*
        ];
    };
}

catalogue! {
    LogGenesis = "log.genesis", 1, [Work, Facts, Pulse, Order], Machine;
    LogClosed = "log.closed", 1, [Work, Facts, Pulse, Order], Machine;
    LogPinned = "log.pinned", 1, [Order], Central, whole;
    EpochStarted = "epoch.started", 1, [Order], Central;
    CentralDesignated = "central.designated", 1, [Order], Root;
    KeyInvited = "key.invited", 1, [Order], Root;
    KeyJoined = "key.joined", 1, [Order], Central;
    KeyGranted = "key.granted", 1, [Order], Root;
    KeyRevoked = "key.revoked", 1, [Order], Root;
    RequestReceived = "request.received", 1, [Order, Facts], Actor, whole;
    JobAccepted = "job.accepted", 1, [Order], Central, whole;
    JobReady = "job.ready", 1, [Order], Central, whole;
    JobClaimed = "job.claimed", 1, [Order], Central, whole;
    JobStarted = "job.started", 1, [Order], Central, whole;
    JobCheckpointed = "job.checkpointed", 1, [Order], Central, whole;
    JobLeaseExpired = "job.lease-expired", 1, [Order], Central, whole;
    JobResumed = "job.resumed", 1, [Order], Central, whole;
    JobRequeued = "job.requeued", 1, [Order], Central, whole;
    JobFailedOver = "job.failed-over", 1, [Order], Central;
    JobAttemptFailed = "job.attempt-failed", 1, [Order], Central, whole;
    JobSucceeded = "job.succeeded", 1, [Order], Central, whole;
    JobFailed = "job.failed", 1, [Order], Central;
    JobCancelAsked = "job.cancel-asked", 1, [Order], Operator;
    JobCancelled = "job.cancelled", 1, [Order], Central;
    JobExpired = "job.expired", 1, [Order], Central;
    JobParked = "job.parked", 1, [Order], Central;
    JobResultConflict = "job.result-conflict", 1, [Order], Central;
    JobLateResult = "job.late-result", 1, [Order], Central;
    HandlerDeclared = "handler.declared", 1, [Order], Central;
    HandlerWithdrawn = "handler.withdrawn", 1, [Order], Central;
    NodeLost = "node.lost", 1, [Order], Central;
    NodeBack = "node.back", 1, [Order], Central;
    NodeRetired = "node.retired", 1, [Order], Root;
    NoticeRaised = "notice.raised", 1, [Order], Central;
    NoticeDelivered = "notice.delivered", 1, [Order], Central;
    NoticeUndelivered = "notice.undelivered", 1, [Order], Central;
    ReceiptInadmissible = "receipt.inadmissible", 1, [Order], Central;
    RunStarted = "run.started", 1, [Work], Machine, whole;
    RunCheckpointed = "run.checkpointed", 1, [Work], Machine;
    RunSucceeded = "run.succeeded", 1, [Work], Machine, whole;
    RunFailed = "run.failed", 1, [Work], Machine, whole;
    RunLost = "run.lost", 1, [Work], Machine;
    RunYielded = "run.yielded", 1, [Work], Machine;
    ArtifactStaged = "artifact.staged", 1, [Work], Machine;
    ArtifactRecorded = "artifact.recorded", 1, [Facts], Machine;
    ArtifactRemoved = "artifact.removed", 1, [Facts], Machine;
    ArtifactSkipped = "artifact.skipped", 1, [Facts], Machine;
    NodeBooted = "node.booted", 1, [Facts], Machine;
    VerifyCompleted = "verify.completed", 1, [Facts], Machine;
    NodePulse3 = "node.pulse", 3, [Pulse], Machine;
    RunProgressed = "run.progressed", 1, [Pulse], Machine;
    Erased = "erased", 1, [Order, Facts], Actor;
    LogPruned = "log.pruned", 1, [Order, Facts], Machine;
    CentralAbsent = "central.absent", 1, [Order], Central;
    NodeDraining = "node.draining", 1, [Order], Operator;
    NodeQuarantined = "node.quarantined", 1, [Order], Operator;
    NodeResumed = "node.resumed", 1, [Order], Operator;
    NodeAsleep = "node.asleep", 1, [Order], Central;
    NodeAwake = "node.awake", 1, [Order], Central;
    NodeSleeping = "node.sleeping", 1, [Facts], Machine;
    NodeWaking = "node.waking", 1, [Facts], Machine;
    NodeServiceState = "node.service-state", 1, [Facts], Machine;
    JobHeld = "job.held", 1, [Order], Operator;
    JobReleased = "job.released", 1, [Order], Operator;
    JobDiscarded = "job.discarded", 1, [Order], Operator;
    HandlerPaused = "handler.paused", 1, [Order], Operator;
    HandlerResumed = "handler.resumed", 1, [Order], Operator;
    QueueLimited = "queue.limited", 1, [Order], Operator;
    NoticeAcknowledged = "notice.acknowledged", 1, [Order], Operator;
    KeyAnnounced = "key.announced", 1, [Order], Central;
    LogCited = "log.cited", 1, [Order], Central;
    RetentionSet = "retention.set", 1, [Order], Operator;
    NodeDaySummary = "node.day-summary", 1, [Facts], Machine;
    ScheduleDefined = "schedule.defined", 1, [Order], Operator;
    ScheduleRemoved = "schedule.removed", 1, [Order], Operator;
    ScheduleFired = "schedule.fired", 1, [Order], Central;
    ScheduleMissed = "schedule.missed", 1, [Order], Central;
    ScheduleSkipped = "schedule.skipped", 1, [Order], Central;
    RunCharged = "run.charged", 1, [Work], Machine;
    JobCharged = "job.charged", 1, [Order], Central;
    JobAssigned = "job.assigned", 1, [Order], Central;
    JobClaimProven = "job.claim-proven", 1, [Order], Central;

    @older
    NodePulse = "node.pulse", 1;
    NodePulse2 = "node.pulse", 2;
}

/// Slots of [`BY_NAME`]: a power of two, some four times as many as there are kinds.
const SLOTS: usize = 256;

// Rows of the catalogue where their names are looked for, or behind that when others lie there: every fold asks for every
// receipt, and comparing names one after another is slow.
static BY_NAME: [Option<u8>; SLOTS] = {
    let mut slots = [None; SLOTS];
    let mut row = 0;
    while row < CATALOGUE.len() {
        let mut at = slot(CATALOGUE[row].kind.as_bytes());
        while slots[at].is_some() {
            at = (at + 1) % SLOTS;
        }
        assert!(row < SLOTS / 2, "the table has room");
        slots[at] = Some(row.to_le_bytes()[0]);
        row += 1;
    }
    slots
};

// Where a name is looked for: its length and three of its bytes tell most names apart.
const fn slot(name: &[u8]) -> usize {
    if name.is_empty() {
        return 0;
    }
    let (first, middle, last) = (name[0], name[name.len() / 2], name[name.len() - 1]);
    let sum = name.len() * 7 + first as usize * 31 + middle as usize * 67 + last as usize * 101;
    sum % SLOTS
}

fn row_of(kind: &str) -> Option<usize> {
    let mut at = slot(kind.as_bytes());
    while let Some(row) = BY_NAME[at] {
        if CATALOGUE[usize::from(row)].kind == kind {
            return Some(usize::from(row));
        }
        at = (at + 1) % SLOTS;
    }
    None
}

/// The catalogue's row of a kind.
pub fn info(kind: &str) -> Option<&'static KindInfo> {
    row_of(kind).map(|row| &CATALOGUE[row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_and_no_other() {
        for row in CATALOGUE {
            assert_eq!(info(row.kind), Some(row));
        }
        assert_eq!(info("job"), None);
        assert_eq!(info("job.accepte"), None);
        assert_eq!(info("x.note"), None);
    }

    #[test]
    fn every_kind_is_named_once_and_validly() {
        for (i, row) in CATALOGUE.iter().enumerate() {
            assert!(crate::Kind::new(row.kind).is_ok());
            assert!(
                CATALOGUE[i + 1..].iter().all(|other| other.kind != row.kind),
                "{}",
                row.kind
            );
        }
    }
}
