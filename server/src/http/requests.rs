//! `POST /v1/requests`, `POST /v1/jobs/{id}/cancel`: asking for work, and for its end.

use super::extract::{Json, PathId};
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::wire::{self, Answer, CancelBody, CancelSaid, Cancelled, RequestBody, RequestSaid, Requested};
use super::{Api, jobs, steer, times, view};
use axum::extract::State;
use http::StatusCode;
use ledger::core::digest::commitment;
use ledger::core::kinds::{Detail, InputRef, JobCancelAsked, JobId, JobSpec, RequestReceived};
use ledger::core::limits::NAME_BYTES_MAX;
use ledger::core::statement::VerifiedStatement;
use ledger::core::{Draft, MachineId, ReceiptId, Subject};
use serde_json::Value;
use std::sync::Arc;

/// Asks for work. The answer means that the request is durable, and says where its job stands.
#[utoipa::path(
    post, path = "/v1/requests", operation_id = "request", tag = "jobs", request_body = RequestSaid,
    responses(
        (status = 202, description = "The request is durable", body = Answer<Requested>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ask(
    State(api): State<Arc<Api>>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Requested>>, Problem> {
    let said = match statements::read::<RequestBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(body) => {
            let input = body
                .input
                .as_ref()
                .map(|input| serde_json::to_vec(input).expect("a value is JSON"));
            let spec = spec(&body)?;
            let project = body.project.clone();
            statements::sign(&api, body.id.as_deref(), move |salt| {
                draft(spec.clone(), input.clone(), project.as_deref(), salt)
            })
            .await?
        }
    };
    asked(&api, said).await
}

/// Seals a request and says where its job stands.
pub(super) async fn asked(
    api: &Arc<Api>,
    said: VerifiedStatement,
) -> Result<Reply<Answer<Requested>>, Problem> {
    let answer = api.machine.request(said).await?;
    let reply = api.item(move |_, _| {
        Ok(Requested {
            job: answer.job.to_string(),
            receipt: answer.receipt.to_string(),
            answer: answer.answer,
            answer_code: answer.answer_code,
            standing: answer.standing.to_owned(),
            repeated: answer.repeated,
        })
    });
    Ok(reply.await?.status(StatusCode::ACCEPTED))
}

fn spec(body: &RequestBody) -> Result<JobSpec, Problem> {
    let machine = body
        .machine
        .as_deref()
        .map(MachineId::new)
        .transpose()
        .map_err(|e| Problem::body(e.to_string()))?;
    let time = |name, text: &Option<String>| text.as_deref().map(|text| times::parse(name, text)).transpose();
    let depends_on = body.depends_on.iter().map(|text| {
        let id = ReceiptId::parse(text).map(JobId);
        id.ok_or_else(|| Problem::body(format!("depends_on: a job's id is expected, {text:?} found")))
    });
    Ok(JobSpec {
        handler: body.handler.clone(),
        machine,
        labels: body.labels.clone(),
        priority: body.priority.unwrap_or(0),
        attempts_max: body.attempts_max.unwrap_or(1),
        not_before: time("not_before", &body.not_before)?,
        deadline: time("deadline", &body.deadline)?,
        unique_key: body.unique_key.clone(),
        concurrency_key: body.concurrency_key.clone(),
        depends_on: depends_on.collect::<Result<_, _>>()?,
        hold_on_failed_dependency: body.hold_on_failed_dependency,
        retry_of: None,
        input: None,
    })
}

/// A request of a spec and its input, which the salt commits to.
pub(super) fn draft(
    mut spec: JobSpec,
    input: Option<Vec<u8>>,
    project: Option<&str>,
    salt: &[u8; 32],
) -> Result<Draft, Problem> {
    let broken = |e: ledger::core::StatementError| Problem::from(crate::error::ServerError::from(e));
    spec.input = input.as_ref().map(|bytes| InputRef {
        commitment: commitment(salt, bytes),
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    });
    let subject = match project {
        None => Subject::new("request").expect("a short text"),
        Some(name) => of_project(name)?,
    };
    let draft = Draft::of(&RequestReceived { spec }, subject);
    match input {
        Some(bytes) => draft.payload("application/json", bytes).map_err(broken),
        None => Ok(draft),
    }
}

// Whose costs they are, the subject of the request says.
fn of_project(name: &str) -> Result<Subject, Problem> {
    let bounded = (1..=NAME_BYTES_MAX).contains(&name.len());
    let subject = bounded.then(|| Subject::new(&format!("project/{name}")).ok());
    subject.flatten().ok_or_else(|| {
        Problem::body(format!(
            "expected `project` of 1 to {NAME_BYTES_MAX} bytes without control characters, found {name:?}"
        ))
    })
}

/// Asks for a job to be stopped. `force` does not wait for the machine that runs it.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", operation_id = "cancel_job", tag = "jobs", request_body = CancelSaid,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The wish is durable", body = Answer<Cancelled>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Cancelled>>, Problem> {
    steer::at_gateway(&api, steer::STEERS)?;
    let job = JobId(id);
    let said = match statements::read::<CancelBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(CancelBody { force, reason }) => {
            let detail = JobCancelAsked { job, force, reason };
            statements::sign(&api, None, move |_| Ok(Draft::of(&detail, job.subject()))).await?
        }
    };
    let statement = said.statement();
    let about = JobCancelAsked::decode(&statement.detail)
        .ok()
        .filter(|_| statement.kind.as_str() == JobCancelAsked::KIND);
    if about.is_none_or(|about| about.job != job) {
        return Err(Problem::body(format!(
            "expected a job.cancel-asked about job {job}, found another statement"
        )));
    }
    api.look(move |machine, snapshot| jobs::known(machine, &snapshot.state, job).map(|_| ()))
        .await?;
    let answer = api.machine.append(said).await?;
    let reply = api.item(move |machine, snapshot| {
        let row = jobs::known(machine, &snapshot.state, job)?;
        Ok(Cancelled {
            job: view::job(row, &snapshot.state),
            receipt: view::receipt(&answer.receipt, &snapshot.state),
            standing: answer.standing.to_owned(),
        })
    });
    reply.await
}
