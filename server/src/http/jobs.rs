//! `GET /v1/jobs`, `GET /v1/jobs/{id}` and its evidence.

use super::caller::Caller;
use super::cursor::{Cursor, JobKey};
use super::extract::{PathId, Query};
use super::life::Asked;
use super::limits::{OUTBOX_LOOKED_AT_MAX, PAGE_LOOKED_AT_MAX};
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, JobFull, JobQuery, JobsQuery, Page};
use super::{Api, life, nodes, select, times, view};
use crate::machine::Machine;
use axum::Extension;
use axum::extract::State;
use ledger::core::kinds::{Detail, JobId, RequestReceived};
use ledger::core::{MachineId, Stream};
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;
use ledger_projections::order::Place;
use ledger_projections::queue::{Job, Phase};
use std::sync::Arc;

/// Jobs, the newest first.
#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(JobsQuery),
    responses(
        (status = 200, description = "A page of jobs", body = Page<wire::Job>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<JobsQuery>,
) -> Result<Reply<Page<wire::Job>>, Problem> {
    caller.may_read()?;
    let limit = select::page_size(query.limit)?;
    let after = query.cursor.as_deref().map(JobKey::read).transpose()?;
    let phases: Vec<Phase> = query
        .state
        .iter()
        .map(|name| phase(name))
        .collect::<Result<_, _>>()?;
    let machine = query.machine.as_deref().map(nodes::machine_id).transpose()?;
    let wanted = Wanted {
        phases,
        handler: query.handler,
        machine,
        since: None,
    };
    api.page(move |machine, snapshot| {
        let state = &snapshot.state;
        let since = query.since.as_deref();
        let since = since.map(|text| select::bound("since", text, machine, snapshot));
        let wanted = Wanted {
            since: since.transpose()?,
            ..wanted
        };
        let before = after.map(|after| Place {
            epoch: after.epoch,
            seq: after.seq,
        });
        Ok(page(state, &wanted, before, limit))
    })
    .await
}

/// Which jobs a list shows.
struct Wanted {
    phases: Vec<Phase>,
    handler: Option<String>,
    machine: Option<MachineId>,
    // Microseconds since 1970.
    since: Option<i64>,
}

impl Wanted {
    fn matches(&self, state: &FleetState, job: &Job) -> bool {
        let has = |machine: &MachineId| {
            let claimed = job.last_fence.and_then(|fence| state.fence(&fence));
            job.spec.machine.as_ref() == Some(machine)
                || claimed.is_some_and(|claim| claim.machine == *machine)
                || job.success().is_some_and(|success| success.machine == *machine)
        };
        (self.phases.is_empty() || self.phases.contains(&job.phase()))
            && self.handler.as_ref().is_none_or(|name| job.spec.handler == *name)
            && self.since.is_none_or(|since| job.accepted_at >= since)
            && self.machine.as_ref().is_none_or(has)
    }
}

/// The next jobs that are wanted, the newest first, and where to go on. What is looked at for one page is bounded.
fn page(
    state: &FleetState,
    wanted: &Wanted,
    before: Option<Place>,
    limit: usize,
) -> (Vec<wire::Job>, Option<String>) {
    let of_one: Option<Box<dyn Iterator<Item = &Job>>> = match wanted.phases.as_slice() {
        [phase] => {
            let behind = move |job: &&Job| before.is_none_or(|before| job.accepted < before);
            Some(Box::new(state.jobs_in(*phase).rev().filter(behind)))
        }
        _ => None,
    };
    let all = of_one.unwrap_or_else(|| Box::new(state.queue().jobs_before(before)));
    let (mut shown, mut last, mut more) = (Vec::new(), None, false);
    for (looked_at, job) in all.enumerate() {
        // Jobs are accepted in time: behind the first that is too old there is none.
        if wanted.since.is_some_and(|since| job.accepted_at < since) {
            break;
        }
        if shown.len() == limit || looked_at == PAGE_LOOKED_AT_MAX {
            more = true;
            break;
        }
        last = Some(job.accepted);
        if wanted.matches(state, job) {
            shown.push(view::job(job, state));
        }
    }
    let next = last.filter(|_| more).map(|place| {
        let Place { epoch, seq } = place;
        JobKey { epoch, seq }.to_text()
    });
    (shown, next)
}

fn phase(name: &str) -> Result<Phase, Problem> {
    view::phase(name).ok_or_else(|| {
        let names: Vec<&str> = Phase::ALL.into_iter().skip(1).map(Phase::as_str).collect();
        Problem::query(format!(
            "expected `state` to be one of {}, found {name:?}",
            names.join(", ")
        ))
    })
}

/// A job with its result, outputs and receipts, as far as this store has them or its gateway brings them.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "show_job", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), JobQuery),
    responses(
        (status = 200, description = "The job", body = Answer<JobFull>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
    Query(query): Query<JobQuery>,
) -> Result<Reply<Answer<JobFull>>, Problem> {
    caller.may_read()?;
    let job = JobId(id);
    let asks = match query.evidence.as_deref() {
        None => !api.machine.is_gateway(),
        Some("no") => false,
        Some(other) => {
            return Err(Problem::query(format!(
                "expected `evidence` to be no, found {other:?}"
            )));
        }
    };
    let look = move |machine: &Machine, snapshot: &Published<FleetState>| {
        life::absent(machine, &snapshot.state, job)
    };
    // What this store lacks is asked of the gateway, and named where that does not have it either.
    let asked = match asks && api.look(look).await?.1 {
        true => Asked::For(life::fetch(&api.machine, job).await),
        false => Asked::Nothing,
    };
    api.item(move |machine, snapshot| life::tell(machine, &snapshot.state, job, asked))
        .await
}

/// The records about a job that stand outside the order, as this store has them, for a machine that lacks them.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/evidence", operation_id = "job_evidence", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The records, oldest first", body = Answer<Vec<wire::RawRecord>>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn evidence(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
) -> Result<Reply<Answer<Vec<wire::RawRecord>>>, Problem> {
    caller.may_read()?;
    api.item(move |machine, snapshot| life::evidence(machine, &snapshot.state, JobId(id)))
        .await
}

/// A job as the order has it.
///
/// # Errors
/// `job.unknown`; `job.on-its-way` when its request waits on this machine.
pub(crate) fn known<'a>(machine: &Machine, state: &'a FleetState, id: JobId) -> Result<&'a Job, Problem> {
    if let Some(job) = state.job(&id) {
        return Ok(job);
    }
    Err(match on_its_way(machine, state, id)? {
        Some(asked) => Problem::unknown(
            "job.on-its-way",
            format!(
                "the request of job {id}, made {}, is kept on this machine; the order as it is known here does not have it yet",
                times::text(asked.statement().authored_at)
            ),
            "nothing is lost: it becomes a job when the gateway has decided it; `ledger status` (GET /v1/status) tells how the link stands",
        ),
        None => Problem::unknown(
            "job.unknown",
            format!("expected a job with id {id}, found none in the order as it is known here"),
            "list the jobs (`ledger jobs list`, GET /v1/jobs); a request made at a node becomes a job when the gateway has it",
        ),
    })
}

/// The request of a job among what the order is not known to have of this machine's facts, the newest of it.
fn on_its_way(machine: &Machine, state: &FleetState, id: JobId) -> Result<Option<Receipt>, LedgerError> {
    let Some(log) = machine.ledger.own_log(Stream::Facts) else {
        return Ok(None);
    };
    let head = machine.ledger.head(&log).map_or(0, |head| head.seq);
    let next = state.pin(&log).map_or(0, |pin| pin.seq.saturating_add(1));
    let first = next.max(head.saturating_sub(OUTBOX_LOOKED_AT_MAX - 1));
    let asks = |receipt: &Receipt| {
        let statement = receipt.statement();
        statement.kind.as_str() == RequestReceived::KIND
            && JobId::of_request(&statement.author, &receipt.id()) == id
    };
    let mut newest = machine.ledger.range(&log, first, head);
    // What cannot be read may be what was asked for.
    newest
        .find(|receipt| receipt.as_ref().map_or(true, asks))
        .transpose()
}
