//! `POST /v1/jobs/{id}/hold`, `release`, `discard`, `retry`: what a person does to one job.
//!
//! Contract: each is a receipt that its author signed, decided in the commit that seals it; what could not stand is refused with the
//! reason, and what is so already writes nothing. Only where the order is written; a retry is a request, and asked anywhere.

use super::extract::{Json, PathId};
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::wire::{self, Answer, Requested, RetryBody, RetrySaid, Steered, WishBody, WishSaid};
use super::{Api, jobs, requests, view};
use crate::error::ServerError;
use crate::machine::AppendAnswer;
use axum::extract::State;
use http::StatusCode;
use ledger::core::kinds::{
    AnyDetail, Detail, DiscardReason, HeldReason, JobDiscarded, JobHeld, JobId, JobReleased, RequestReceived,
};
use ledger::core::{Draft, Statement};
use ledger_projections::queue::decide;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// What Central alone does with jobs, handlers and limits.
pub(crate) const STEERS: &str = "steers the queue";

/// That this machine writes the order, and so decides; `what` says what Central alone does.
pub(crate) fn at_gateway(api: &Api, what: &str) -> Result<(), Problem> {
    if api.machine.is_gateway() {
        return Ok(());
    }
    let gateway = api.machine.config.gateway.as_deref().unwrap_or("unknown");
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "queue.not-central",
        format!(
            "expected the machine that writes the order, found a node of it; Central alone {what} ({gateway})"
        ),
        "run the command on the gateway, or send it a statement that an operator signed",
    ))
}

/// Reads, signs and appends what an operator says of the queue. Nothing when it is so already: then a plain body writes nothing.
pub(crate) async fn say<T: DeserializeOwned>(
    api: &Arc<Api>,
    body: Value,
    draft: impl FnOnce(T) -> Result<Draft, Problem>,
    is_about: impl FnOnce(&Statement) -> bool,
    expected: &str,
) -> Result<Option<AppendAnswer>, Problem> {
    at_gateway(api, STEERS)?;
    let (said, plain) = match statements::read::<T>(api.door, body)? {
        Said::Signed(said) => (statements::verify(said).await?, false),
        Said::Plain(body) => {
            let draft = draft(body)?;
            (
                statements::sign(api, None, move |_| Ok(draft.clone())).await?,
                true,
            )
        }
    };
    if !is_about(said.statement()) {
        return Err(Problem::body(format!(
            "expected {expected}, found another statement"
        )));
    }
    let machine = &api.machine;
    let would = decide::steers(
        &machine.ledger.snapshot().state,
        said.statement(),
        machine.now_us(),
    );
    match would.map_err(ServerError::from)? {
        false if plain => Ok(None),
        _ => Ok(Some(machine.append(said).await?)),
    }
}

/// What an answer says of the receipt: `None` when nothing was written.
pub(crate) fn standing(answer: Option<&AppendAnswer>) -> String {
    answer.map_or("local", |answer| answer.standing).to_owned()
}

async fn steer<D: Detail>(
    api: &Arc<Api>,
    job: JobId,
    body: Value,
    of: impl FnOnce(String) -> D,
) -> Result<Reply<Answer<Steered>>, Problem> {
    let draft = |body: WishBody| Ok(Draft::of(&of(body.reason), job.subject()));
    let is_about = |said: &Statement| said.kind.as_str() == D::KIND && about(said) == Some(job);
    let expected = format!("a {} about job {job}", D::KIND);
    let answer = say(api, body, draft, is_about, &expected).await?;
    let reply = api.item(move |machine, snapshot| {
        let row = jobs::known(machine, &snapshot.state, job)?;
        Ok(Steered {
            job: view::job(row, &snapshot.state),
            standing: standing(answer.as_ref()),
            receipt: answer.map(|answer| view::receipt(&answer.receipt, &snapshot.state)),
        })
    });
    reply.await
}

fn about(said: &Statement) -> Option<JobId> {
    match said.any_detail().ok()? {
        AnyDetail::JobHeld(d) => Some(d.job),
        AnyDetail::JobReleased(d) => Some(d.job),
        AnyDetail::JobDiscarded(d) => Some(d.job),
        _ => None,
    }
}

/// Keeps a job that is not claimed from being claimed, until it is released.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/hold", operation_id = "hold_job", tag = "jobs", request_body = WishSaid,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "It is held", body = Answer<Steered>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn hold(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Steered>>, Problem> {
    let job = JobId(id);
    steer(&api, job, body, |note| JobHeld {
        job,
        reason: HeldReason::ByHand,
        note,
    })
    .await
}

/// Lets a job go on that was held by hand, or for a dependency that failed.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/release", operation_id = "release_job", tag = "jobs", request_body = WishSaid,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "It goes on", body = Answer<Steered>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn release(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Steered>>, Problem> {
    let job = JobId(id);
    steer(&api, job, body, |note| JobReleased { job, note }).await
}

/// Gives up a job that is not claimed, or a dead letter. Final.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/discard", operation_id = "discard_job", tag = "jobs", request_body = WishSaid,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "It is discarded", body = Answer<Steered>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn discard(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Steered>>, Problem> {
    let job = JobId(id);
    steer(&api, job, body, |note| JobDiscarded {
        job,
        reason: DiscardReason::ByHand,
        retried_as: None,
        note,
    })
    .await
}

/// Tries a job again that ended without success, or lies among the dead letters: a new job, linked to it.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/retry", operation_id = "retry_job", tag = "jobs", request_body = RetrySaid,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 202, description = "The request is durable", body = Answer<Requested>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Requested>>, Problem> {
    let job = JobId(id);
    let said = match statements::read::<RetryBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(body) => {
            let (spec, input) = again(&api, job, body.id.as_deref()).await?;
            let draft = move |salt: &[u8; 32]| requests::draft(spec.clone(), input.clone(), None, salt);
            statements::sign(&api, body.id.as_deref(), draft).await?
        }
    };
    let statement = said.statement();
    let about = RequestReceived::decode(&statement.detail)
        .ok()
        .filter(|_| statement.kind.as_str() == RequestReceived::KIND);
    if about.is_none_or(|about| about.spec.retry_of != Some(job)) {
        return Err(Problem::body(format!(
            "expected a request that tries job {job} again, found another statement"
        )));
    }
    requests::asked(&api, said).await
}

// What the new request says, and its input: the payload of the request that is tried again. One that was made before under the
// caller's own id is made once more as it was, whatever became of the job since.
async fn again(
    api: &Arc<Api>,
    job: JobId,
    id: Option<&str>,
) -> Result<(ledger::core::kinds::JobSpec, Option<Vec<u8>>), Problem> {
    let id = id.map(statements::read_id).transpose()?;
    let (_, again) = api
        .look(move |machine, snapshot| {
            let row = jobs::known(machine, &snapshot.state, job)?;
            let actor = machine.ledger.keyring().actor.public();
            let before = id.is_some_and(|id| row.retried_as == Some(JobId::of_request(&actor, &id)));
            let spec = if before {
                decide::spec_again(row)
            } else {
                decide::retry_spec(&snapshot.state, &job).map_err(ServerError::from)?
            };
            if row.spec.input.is_none() {
                return Ok((spec, None));
            }
            let requests = machine.ledger.find(&row.request)?;
            let request = requests
                .iter()
                .find(|receipt| receipt.statement().author == row.requester);
            let input = match request {
                Some(request) => machine.ledger.payload(request)?.present(),
                None => None,
            };
            let input = input.ok_or_else(|| {
                Problem::new(
                    StatusCode::CONFLICT,
                    "job.input-absent",
                    format!(
                        "expected the input of job {job} in this store, found that it is not here any more"
                    ),
                    "submit a new request with its input, or retry it where the request was made",
                )
            })?;
            Ok((spec, Some(input.bytes)))
        })
        .await?;
    Ok(again)
}
