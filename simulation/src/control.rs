//! Positive controls: each takes one rule away, and a simulation that does not fail then proves nothing.

use ledger_core::kinds::{
    AnyDetail, Class, Costs, Detail, ErrorClass, Evidence, Fence, JobAttemptFailed, JobId, JobLateResult,
    JobLeaseExpired, JobRequeued, JobSucceeded, LateVerdict, Outputs, RequeueReason, SuccessVerdict,
};
use ledger_core::{ContentDigest, Draft};
use ledger_projections::FleetState;
use ledger_projections::queue::Job;

/// Which rule is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Control {
    /// None: the simulation must pass.
    #[default]
    None,
    /// Everything is answered before it is durable.
    AckBeforeSync,
    /// A claim alone is answered before it is durable.
    ClaimBeforeDurable,
    /// A process starts before its `run.started` is durable.
    StartBeforeDurable,
    /// Central believes every report about a job, whatever claim it came under.
    NoFenceCheck,
    /// A run that was lost with its machine counts as a failed attempt.
    ChargeLosses,
    /// An exclusive job whose lease ran out is given out again, as if it were light.
    HastyExclusive,
    /// A hello's fences are not looked at: whatever the machine held counts as never started.
    DeafHello,
    /// A hello is believed about claims that were given after it was said.
    StaleHello,
}

impl Control {
    /// All that take a rule away.
    pub const ALL: [Control; 8] = [
        Self::AckBeforeSync,
        Self::ClaimBeforeDurable,
        Self::StartBeforeDurable,
        Self::NoFenceCheck,
        Self::ChargeLosses,
        Self::HastyExclusive,
        Self::DeafHello,
        Self::StaleHello,
    ];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AckBeforeSync => "ack-before-sync",
            Self::ClaimBeforeDurable => "claim-before-durable",
            Self::StartBeforeDurable => "start-before-durable",
            Self::NoFenceCheck => "no-fence-check",
            Self::ChargeLosses => "charge-losses",
            Self::HastyExclusive => "hasty-exclusive",
            Self::DeafHello => "deaf-hello",
            Self::StaleHello => "stale-hello",
        }
    }

    /// The control of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = std::iter::once(Self::None).chain(Self::ALL);
        all.into_iter().find(|control| control.as_str() == name)
    }

    /// What Central writes under this control instead of what was decided.
    pub(crate) fn meddle(self, state: &FleetState, draft: Draft) -> Draft {
        match self {
            Self::NoFenceCheck => believe(state, draft),
            Self::ChargeLosses => charge(state, draft),
            Self::HastyExclusive => requeue(state, draft),
            _ => draft,
        }
    }
}

// A late success stands; a late failure ends whatever run goes on.
fn believe(state: &FleetState, draft: Draft) -> Draft {
    let Some(late) = detail::<JobLateResult>(&draft) else {
        return draft;
    };
    let Some(claim) = state.fence(&late.fence) else {
        return draft;
    };
    let subject = late.job.subject();
    let believed = match late.verdict {
        LateVerdict::Superseded | LateVerdict::DuplicateAgrees => Draft::of(
            &JobSucceeded {
                job: late.job,
                fence: late.fence,
                machine: claim.machine.clone(),
                verdict: SuccessVerdict::Adopted,
                result: ContentDigest([0; 32]),
                outputs: Outputs::default(),
                costs: Costs::default(),
                evidence: late.evidence,
            },
            subject,
        ),
        LateVerdict::Stale => match state.job(&late.job).and_then(Job::lease) {
            Some(lease) => attempt_failed(late.job, lease.fence, lease.attempt, late.evidence),
            None => return draft,
        },
        _ => return draft,
    };
    Draft {
        cause: draft.cause,
        ..believed
    }
}

fn requeue(state: &FleetState, draft: Draft) -> Draft {
    let Some(expired) = detail::<JobLeaseExpired>(&draft) else {
        return draft;
    };
    let claim = state.fence(&expired.fence);
    if claim.is_none_or(|claim| claim.class != Class::Exclusive) {
        return draft;
    }
    let requeued = JobRequeued {
        job: expired.job,
        fence: expired.fence,
        reason: RequeueReason::LeaseExpired,
        evidence: None,
    };
    Draft {
        cause: draft.cause,
        ..Draft::of(&requeued, expired.job.subject())
    }
}

fn charge(state: &FleetState, draft: Draft) -> Draft {
    let Some(requeued) = detail::<JobRequeued>(&draft) else {
        return draft;
    };
    let (RequeueReason::Lost, Some(evidence)) = (requeued.reason, requeued.evidence) else {
        return draft;
    };
    let attempt = state.fence(&requeued.fence).map_or(1, |claim| claim.attempt);
    Draft {
        cause: draft.cause,
        ..attempt_failed(requeued.job, requeued.fence, attempt, evidence)
    }
}

fn attempt_failed(job: JobId, fence: Fence, attempt: u16, evidence: Evidence) -> Draft {
    let failed = JobAttemptFailed {
        job,
        fence,
        attempt,
        error: ErrorClass::Signal,
        permanent: false,
        retry_at: Some(0),
        costs: Costs::default(),
        evidence,
    };
    Draft::of(&failed, job.subject())
}

fn detail<D: Detail>(draft: &Draft) -> Option<D> {
    let right = draft.kind.as_str() == D::KIND && draft.schema == D::SCHEMA;
    right.then(|| D::decode(&draft.detail).ok()).flatten()
}

/// What a decision of the order says; nothing for kinds that are unknown here.
pub(crate) fn said(receipt: &ledger::Receipt) -> Option<AnyDetail> {
    receipt.statement().any_detail().ok()
}
