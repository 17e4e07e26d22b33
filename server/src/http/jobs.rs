//! `GET /v1/jobs`, `GET /v1/jobs/{id}`.

use super::caller::Caller;
use super::cursor::{Cursor, JobKey};
use super::extract::{PathId, Query};
use super::limits::{JOB_RECEIPTS_MAX, PAGE_LOOKED_AT_MAX};
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, JobFull, JobsQuery, Page};
use super::{Api, nodes, select, view};
use crate::machine::Machine;
use crate::marks::Standing;
use axum::Extension;
use axum::extract::State;
use ledger::core::MachineId;
use ledger::core::kinds::{AnyDetail, Evidence, Fence, JobId};
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;
use ledger_projections::order::Place;
use ledger_projections::queue::{Job, Phase};
use ledger_projections::timeline::merge_key;
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

/// A job with its result, outputs and receipts, as far as this store has them.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "show_job", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = Answer<JobFull>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
) -> Result<Reply<Answer<JobFull>>, Problem> {
    caller.may_read()?;
    api.item(move |machine, snapshot| {
        let id = JobId(id);
        let job = snapshot.state.job(&id).ok_or_else(|| unknown(&id))?;
        Ok(full(machine, snapshot, job)?)
    })
    .await
}

/// The problem of a job that the order, as it is known here, does not have.
pub(crate) fn unknown(id: &JobId) -> Problem {
    Problem::unknown(
        "job.unknown",
        format!("expected a job with id {id}, found none in the order as it is known here"),
        "list jobs with GET /v1/jobs; a request made at a node becomes a job when the gateway has it",
    )
}

fn full(machine: &Machine, snapshot: &Published<FleetState>, job: &Job) -> Result<JobFull, LedgerError> {
    let state = &snapshot.state;
    let receipts = receipts_of(machine, state, job)?;
    let success = job.success();
    let content = |receipt: Option<&Receipt>| -> Result<Option<wire::Content>, LedgerError> {
        let Some(receipt) = receipt else { return Ok(None) };
        Ok(view::content(receipt, machine.ledger.payload(receipt)?))
    };
    let request = receipts.iter().find(|receipt| receipt.id() == job.request);
    let failed = receipts
        .iter()
        .rev()
        .find(|receipt| receipt.kind() == "run.failed");
    let result = success
        .map(|success| at(machine, &success.evidence))
        .transpose()?
        .flatten();
    let alone = receipts
        .iter()
        .rev()
        .find(|receipt| machine.standing_at(state, &receipt.log(), receipt.seq()) == Standing::Local);
    Ok(JobFull {
        job: view::job(job, state),
        standing: alone
            .map_or(Standing::Replicated, |_| Standing::Local)
            .as_str()
            .to_owned(),
        spec: serde_json::to_value(&job.spec).unwrap_or_default(),
        runs: receipts
            .iter()
            .filter_map(|receipt| attempt(receipt, state))
            .collect(),
        input: content(request)?,
        result: content(result.as_ref())?,
        result_digest: success.map(|success| success.result.to_hex()),
        outputs: success
            .map(|success| outputs(&receipts, &success.fence))
            .unwrap_or_default(),
        outputs_count: success.map_or(0, |success| success.outputs.count),
        costs: success.map(|success| wire::Costs {
            wall_ms: success.costs.wall_ms,
            cpu_ms: success.costs.cpu_ms,
            peak_memory_bytes: success.costs.peak_memory_bytes,
            tokens: success.costs.tokens,
            usd_micros: success.costs.usd_micros,
        }),
        error: view::error(job),
        tail: content(failed)?,
        receipts: receipts
            .iter()
            .take(JOB_RECEIPTS_MAX)
            .map(|receipt| view::receipt(receipt, state))
            .collect(),
    })
}

fn at(machine: &Machine, evidence: &Evidence) -> Result<Option<Receipt>, LedgerError> {
    let found = machine.ledger.get(&evidence.log, evidence.seq)?;
    Ok(found.filter(|receipt| receipt.seal_digest() == evidence.seal))
}

/// The request and everything about the job, in order.
fn receipts_of(machine: &Machine, state: &FleetState, job: &Job) -> Result<Vec<Receipt>, LedgerError> {
    let mut receipts = machine.ledger.by_subject(&job.id.subject())?;
    let of_requester = |receipt: &Receipt| receipt.statement().author == job.requester;
    receipts.extend(
        machine
            .ledger
            .find(&job.request)?
            .into_iter()
            .filter(of_requester),
    );
    receipts.sort_by_cached_key(|receipt| (merge_key(receipt, state), receipt.position));
    receipts.dedup_by_key(|receipt| receipt.position);
    Ok(receipts)
}

fn attempt(receipt: &Receipt, state: &FleetState) -> Option<wire::Attempt> {
    let Ok(AnyDetail::JobClaimed(_)) = receipt.statement().any_detail() else {
        return None;
    };
    let (epoch, _) = state.epochs().find(|(_, row)| row.log == receipt.log())?;
    let fence = Fence::of_claim(*epoch, receipt.seq(), &receipt.seal_digest());
    let claim = state.fence(&fence)?;
    Some(wire::Attempt {
        fence: fence.to_string(),
        machine: claim.machine.to_string(),
        attempt: claim.attempt,
        class: claim.class.to_string(),
        started: claim.started,
        verdicts: claim
            .judged
            .iter()
            .map(|judged| view::word(&judged.verdict))
            .collect(),
    })
}

fn outputs(receipts: &[Receipt], fence: &Fence) -> Vec<wire::Output> {
    let staged = receipts
        .iter()
        .filter_map(|receipt| match receipt.statement().any_detail() {
            Ok(AnyDetail::ArtifactStaged(staged)) if staged.fence == *fence => Some(staged),
            _ => None,
        });
    staged
        .map(|staged| wire::Output {
            path: staged.path,
            blake3: staged.blake3.to_hex(),
            size: staged.size,
        })
        .collect()
}
