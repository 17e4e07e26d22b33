//! Positive controls: each takes one rule away, and a simulation that does not fail then proves nothing.

use ledger_core::kinds::{
    AnyDetail, Class, Costs, Detail, ErrorClass, JobAttemptFailed, JobLateResult, JobRequeued, JobSucceeded,
    LateVerdict, Outputs, RequeueReason, SuccessVerdict,
};
use ledger_core::{ContentDigest, Draft};
use ledger_projections::FleetState;

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
    /// Central believes every report of a success, whatever its fence is worth.
    NoFenceCheck,
    /// A run that was lost with its machine counts as a failed attempt.
    ChargeLosses,
    /// A late success of an exclusive job is adopted although it was given out again.
    AdoptExclusive,
    /// A hello's fences are not looked at: whatever the machine held counts as never started.
    DeafHello,
}

impl Control {
    /// All that take a rule away.
    pub const ALL: [Control; 7] = [
        Self::AckBeforeSync,
        Self::ClaimBeforeDurable,
        Self::StartBeforeDurable,
        Self::NoFenceCheck,
        Self::ChargeLosses,
        Self::AdoptExclusive,
        Self::DeafHello,
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
            Self::AdoptExclusive => "adopt-exclusive",
            Self::DeafHello => "deaf-hello",
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
            Self::NoFenceCheck | Self::AdoptExclusive => self.believe(state, draft),
            Self::ChargeLosses => charge(state, draft),
            _ => draft,
        }
    }

    fn believe(self, state: &FleetState, draft: Draft) -> Draft {
        let Some(late) = detail::<JobLateResult>(&draft) else {
            return draft;
        };
        let Some(claim) = state.fence(&late.fence) else {
            return draft;
        };
        let wanted = match self {
            Self::AdoptExclusive => {
                claim.class == Class::Exclusive && late.verdict == LateVerdict::Superseded
            }
            _ => matches!(
                late.verdict,
                LateVerdict::Superseded | LateVerdict::Discarded | LateVerdict::DuplicateAgrees
            ),
        };
        if !wanted {
            return draft;
        }
        let succeeded = JobSucceeded {
            job: late.job,
            fence: late.fence,
            machine: claim.machine.clone(),
            verdict: SuccessVerdict::Adopted,
            result: ContentDigest([0; 32]),
            outputs: Outputs::default(),
            costs: Costs::default(),
            evidence: late.evidence,
        };
        Draft {
            cause: draft.cause,
            ..Draft::of(&succeeded, late.job.subject())
        }
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
    let failed = JobAttemptFailed {
        job: requeued.job,
        fence: requeued.fence,
        attempt,
        error: ErrorClass::Signal,
        permanent: false,
        retry_at: Some(0),
        costs: Costs::default(),
        evidence,
    };
    Draft {
        cause: draft.cause,
        ..Draft::of(&failed, requeued.job.subject())
    }
}

fn detail<D: Detail>(draft: &Draft) -> Option<D> {
    let right = draft.kind.as_str() == D::KIND && draft.schema == D::SCHEMA;
    right.then(|| D::decode(&draft.detail).ok()).flatten()
}

/// What a decision of the order says; nothing for kinds that are unknown here.
pub(crate) fn said(receipt: &ledger::Receipt) -> Option<AnyDetail> {
    receipt.statement().any_detail().ok()
}
