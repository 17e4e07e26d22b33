//! A request becomes a job, once.

use super::dependencies;
use super::steer::{discarded, may_retry};
use super::{OrderDraft, about, parked, ready, routing};
use crate::FleetState;
use crate::fleet::{author_is_proven, detail_of};
use crate::queue::{Dependency, Job, Phase, Policy, Refusal};
use crate::schedules::is_project;
use ledger::Receipt;
use ledger_core::kinds::{
    Detail, DiscardReason, HeldReason, InadmissibleReason, JobAccepted, JobAssigned, JobCancelled, JobId,
    JobSpec, ParkedReason, ReadyReason, ReceiptInadmissible, RequestReceived,
};
use ledger_core::limits::{DEPENDS_ON_MAX, LABELS_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use ledger_core::{Statement, Stream, Subject};

/// Attempts that one job may have at most: a request that asks for more asks for a loop.
pub const ATTEMPTS_MAX: u16 = 1000;

/// Whether a request is within its bounds and may be sealed: asked before the API seals it, so that the caller hears the
/// refusal instead of finding a verdict later.
///
/// # Errors
/// [`Refusal::Spec`] naming the field, [`Refusal::UniqueKey`] naming the job that holds the key, [`Refusal::Dependency`] naming a
/// job that it cannot wait for, [`Refusal::NoRetry`] naming one that it cannot try again.
pub fn check_spec(state: &FleetState, spec: &JobSpec, policy: &Policy) -> Result<(), Refusal> {
    check_bounds(spec)?;
    possible(state, spec, policy)
}

// What depends on the other jobs.
fn possible(state: &FleetState, spec: &JobSpec, policy: &Policy) -> Result<(), Refusal> {
    dependencies::check(state, spec)?;
    if let Some(earlier) = &spec.retry_of {
        may_retry(state, earlier)?;
    }
    if let Some(key) = &spec.unique_key
        && let Some(job) = holder(state, key, spec.retry_of, policy)
    {
        return Err(Refusal::UniqueKey {
            key: key.clone(),
            job,
        });
    }
    Ok(())
}

// The job that has a unique key, in a state in which that counts. A dead letter that is tried again gives it up.
fn holder(state: &FleetState, key: &str, retry_of: Option<JobId>, policy: &Policy) -> Option<JobId> {
    let mut holders = state.queue().holders_of(key);
    let counts = |job: &&Job| policy.unique_over.contains(job.phase()) && Some(job.id) != retry_of;
    holders.find(counts).map(|job| job.id)
}

/// Whether a request is within its bounds, whatever the fleet's state is.
///
/// # Errors
/// [`Refusal::Spec`] naming the field.
pub fn check_bounds(spec: &JobSpec) -> Result<(), Refusal> {
    let wrong = |field, why: String| Err(Refusal::Spec { field, why });
    let name =
        |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    if !name(&spec.handler) {
        return wrong(
            "handler",
            format!("1 to {NAME_BYTES_MAX} bytes without control characters are expected"),
        );
    }
    if spec.labels.len() > LABELS_MAX || !spec.labels.iter().all(|label| name(label)) {
        return wrong(
            "labels",
            format!("at most {LABELS_MAX} labels of 1 to {NAME_BYTES_MAX} bytes are expected"),
        );
    }
    if !(1..=ATTEMPTS_MAX).contains(&spec.attempts_max) {
        return wrong(
            "attempts_max",
            format!("1 to {ATTEMPTS_MAX} is expected, {} found", spec.attempts_max),
        );
    }
    for (field, key) in [
        ("unique_key", &spec.unique_key),
        ("concurrency_key", &spec.concurrency_key),
    ] {
        if key.as_ref().is_some_and(|key| !name(key)) {
            return wrong(
                field,
                format!("1 to {NAME_BYTES_MAX} bytes without control characters are expected"),
            );
        }
    }
    if spec.depends_on.len() > DEPENDS_ON_MAX {
        return wrong(
            "depends_on",
            format!("at most {DEPENDS_ON_MAX} jobs are expected"),
        );
    }
    if let (Some(not_before), Some(deadline)) = (spec.not_before, spec.deadline)
        && deadline <= not_before
    {
        return wrong("deadline", "a time after not_before is expected".to_owned());
    }
    if spec
        .input
        .as_ref()
        .is_some_and(|input| usize::try_from(input.bytes).map_or(true, |n| n > PAYLOAD_BYTES_MAX))
    {
        return wrong("input", format!("at most {PAYLOAD_BYTES_MAX} bytes are expected"));
    }
    Ok(())
}

/// Whether the input that a request names is the payload that its statement commits to: any other could never be given to
/// a run.
pub fn names_its_payload(spec: &JobSpec, statement: &Statement) -> bool {
    match (&spec.input, &statement.payload) {
        (None, _) => true,
        (Some(input), Some(payload)) => {
            input.commitment == payload.commitment && input.bytes == payload.bytes
        }
        (Some(_), None) => false,
    }
}

/// A sealed `request.received` (in the order, or in a pinned facts log) becomes a job: accepted, then ready, scheduled, held or
/// parked. A request that is a job already gives nothing. One without authority or beyond its bounds is named by
/// `receipt.inadmissible`. One that is not possible (its unique key is held, a job that it names does
/// not exist) is accepted and cancelled, so that it stays visible.
///
/// # Errors
/// [`Refusal::Kind`] for another kind of receipt.
pub fn accept_request(
    state: &FleetState,
    request: &Receipt,
    now: i64,
    policy: &Policy,
) -> Result<Vec<OrderDraft>, Refusal> {
    let statement = request.statement();
    if statement.kind.as_str() != RequestReceived::KIND {
        return Err(Refusal::Kind {
            expected: RequestReceived::KIND,
            found: statement.kind.to_string(),
        });
    }
    let id = JobId::of_request(&statement.author, &statement.id);
    if state.job(&id).is_some() {
        return Ok(Vec::new());
    }
    let own_log = request.record.author_signature().is_none();
    let in_order = state.order().is_some_and(|order| order.log == request.log());
    // A log that this store has no genesis of is taken for facts, where requests belong.
    let stream = state.log(&request.log()).map_or(Stream::Facts, |log| log.stream);
    if let Err(reason) = state.authorise(statement, stream, own_log, now) {
        return Ok(vec![inadmissible(request, reason)]);
    }
    if !own_log && !author_is_proven(request) {
        return Ok(vec![inadmissible(request, InadmissibleReason::AuthorSignature)]);
    }
    if statement.schema != RequestReceived::SCHEMA {
        return Ok(vec![inadmissible(request, InadmissibleReason::UnknownSchema)]);
    }
    let Some(RequestReceived { mut spec }) = detail_of::<RequestReceived>(request) else {
        return Ok(vec![inadmissible(request, InadmissibleReason::MalformedDetail)]);
    };
    if check_bounds(&spec).is_err() || !names_its_payload(&spec, statement) {
        return Ok(vec![inadmissible(request, InadmissibleReason::NotPermitted)]);
    }
    let cause = Some(statement.id);
    let refused = possible(state, &spec, policy).err();
    let known = routing::fitting(state, &spec).next().is_some();
    let later = spec.not_before.is_some_and(|not_before| not_before > now);
    let spec_of = spec.clone();
    if refused.is_some() {
        // What is refused tries nothing again: who waits for the earlier job goes on waiting for that one.
        spec.retry_of = None;
    }
    let accepted = JobAccepted {
        job: id,
        request: statement.id,
        requester: statement.author,
        evidence: (!in_order).then(|| request.evidence()),
        spec,
        losses_max: policy.losses_cap(),
    };
    let mut drafts = vec![about(&id, &accepted, cause)];
    let project = project_of(state, statement, &spec_of);
    drafts.extend(project.map(|project| about(&id, &JobAssigned { job: id, project }, cause)));
    if let Some(refused) = refused {
        let cancelled = JobCancelled {
            job: id,
            fence: None,
            evidence: None,
        };
        let why = refused.to_string().into_bytes();
        drafts.push(
            about(&id, &cancelled, cause)
                .payload("text/plain", why)
                .expect("a short text"),
        );
        return Ok(drafts);
    }
    if let Some(earlier) = spec_of.retry_of
        && state
            .job(&earlier)
            .is_some_and(|job| job.phase() == Phase::Parked)
    {
        drafts.push(discarded(&earlier, DiscardReason::Retried, Some(id), ""));
    }
    let dependencies = state.queue().dependencies(&spec_of);
    if !known {
        drafts.extend(parked(
            state,
            &id,
            &spec_of.handler,
            ParkedReason::UnknownHandler,
            None,
            None,
        ));
    } else if dependencies == Dependency::Failed {
        drafts.push(dependencies::failed(state, &id, &spec_of));
    } else if dependencies == Dependency::Open {
        drafts.push(dependencies::held(&id, HeldReason::Dependencies, ""));
    } else if !later {
        drafts.push(ready(&id, ReadyReason::Accepted, cause));
    }
    Ok(drafts)
}

// Whose costs a request's are: its subject says so, or it tries a job of that project again.
fn project_of(state: &FleetState, statement: &Statement, spec: &JobSpec) -> Option<String> {
    let named = statement.subject.as_str().strip_prefix("project/");
    let named = named.filter(|name| is_project(name));
    let earlier = || state.costs().project(&spec.retry_of?);
    named.or_else(earlier).map(ToOwned::to_owned)
}

/// Names a record that is kept and inert.
pub(super) fn inadmissible(receipt: &Receipt, reason: InadmissibleReason) -> OrderDraft {
    let named = ReceiptInadmissible {
        record: receipt.evidence(),
        id: receipt.id(),
        reason,
    };
    let subject = Subject::new(&format!("receipt/{}", receipt.id())).expect("short and printable");
    OrderDraft::of(&named, subject).cause(receipt.id())
}
