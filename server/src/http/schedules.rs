//! `GET /v1/schedules`, `GET /v1/schedules/{name}`, `POST /v1/schedules`, `DELETE /v1/schedules/{name}`.

use super::caller::Caller;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::steer::at_gateway;
use super::wire::{
    self, Answer, Page, ScheduleBody, ScheduleFull, ScheduleSaid, ScheduleSet, TickView, WishBody, WishSaid,
};
use super::{Api, times, view};
use crate::error::ServerError;
use axum::Extension;
use axum::extract::{Path, State};
use ledger::core::digest::commitment;
use ledger::core::kinds::{
    AnyDetail, Detail, InputRef, JobSpec, Misfire, Overlap, ScheduleDefined, ScheduleRemoved, TickSkipped,
};
use ledger::core::{Draft, MachineId, Subject};
use ledger_projections::FleetState;
use ledger_projections::queue::Refusal;
use ledger_projections::schedules::{Calendar, Schedule, ScheduleRefusal, Told};
use serde_json::Value;
use std::sync::Arc;

/// Next nominal times that are told of one schedule.
const UPCOMING_MAX: usize = 5;

/// The schedules, by name.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules",
    responses(
        (status = 200, description = "The schedules", body = Page<wire::Schedule>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Page<wire::Schedule>>, Problem> {
    caller.may_read()?;
    api.page(|_, snapshot| {
        let state = &snapshot.state;
        Ok((state.schedules().map(|row| shown(row, state)).collect(), None))
    })
    .await
}

/// A schedule with what became of its newest nominal times.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", operation_id = "show_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    responses(
        (status = 200, description = "The schedule", body = Answer<ScheduleFull>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Reply<Answer<ScheduleFull>>, Problem> {
    caller.may_read()?;
    api.item(move |_, snapshot| {
        let state = &snapshot.state;
        let row = state.schedule(&name).ok_or_else(|| unknown(&name))?;
        Ok(full(row, state))
    })
    .await
}

fn unknown(name: &str) -> Problem {
    let refusal = ScheduleRefusal::Unknown(name.chars().take(64).collect());
    Problem::unknown(
        refusal.code(),
        refusal.to_string(),
        "list schedules with GET /v1/schedules",
    )
}

/// Defines a schedule, or defines it anew.
#[utoipa::path(
    post, path = "/v1/schedules", operation_id = "define_schedule", tag = "schedules", request_body = ScheduleSaid,
    responses(
        (status = 200, description = "It stands", body = Answer<ScheduleSet>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn define(
    State(api): State<Arc<Api>>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<ScheduleSet>>, Problem> {
    at_gateway(&api, "keeps the schedules")?;
    let said = match statements::read::<ScheduleBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(body) => {
            let input = body
                .input
                .as_ref()
                .map(|input| serde_json::to_vec(input).expect("a value is JSON"));
            let definition = definition(&body)?;
            statements::sign(&api, body.id.as_deref(), move |salt| {
                draft(definition.clone(), input.clone(), salt)
            })
            .await?
        }
    };
    let Ok(AnyDetail::ScheduleDefined(defined)) = said.statement().any_detail() else {
        return Err(Problem::body(
            "expected a schedule.defined, found another statement",
        ));
    };
    set(&api, said, defined.schedule).await
}

/// Removes a schedule. Jobs that came of it go on.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", operation_id = "remove_schedule", tag = "schedules", request_body = WishSaid,
    params(("name" = String, Path, description = "The schedule's name")),
    responses(
        (status = 200, description = "It is removed", body = Answer<ScheduleSet>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<ScheduleSet>>, Problem> {
    at_gateway(&api, "keeps the schedules")?;
    if api.machine.ledger.snapshot().state.schedule(&name).is_none() {
        return Err(unknown(&name));
    }
    let said = match statements::read::<WishBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(WishBody { reason }) => {
            let removed = ScheduleRemoved {
                schedule: name.clone(),
                reason,
            };
            let subject = subject(&name)?;
            statements::sign(&api, None, move |_| Ok(Draft::of(&removed, subject.clone()))).await?
        }
    };
    let removed = ScheduleRemoved::decode(&said.statement().detail)
        .ok()
        .filter(|_| said.statement().kind.as_str() == ScheduleRemoved::KIND);
    if removed.is_none_or(|removed| removed.schedule != name) {
        return Err(Problem::body(format!(
            "expected a schedule.removed about {name:?}, found another statement"
        )));
    }
    set(&api, said, name).await
}

async fn set(
    api: &Api,
    said: ledger::core::statement::VerifiedStatement,
    name: String,
) -> Result<Reply<Answer<ScheduleSet>>, Problem> {
    let answer = api.machine.append(said).await?;
    let reply = api.item(move |_, snapshot| {
        let state = &snapshot.state;
        Ok(ScheduleSet {
            schedule: state.schedule(&name).map(|row| shown(row, state)),
            receipt: view::receipt(&answer.receipt, state),
            standing: answer.standing.to_owned(),
        })
    });
    reply.await
}

fn subject(name: &str) -> Result<Subject, Problem> {
    let refused = |_| {
        ServerError::from(Refusal::from(ScheduleRefusal::Name(
            name.chars().take(64).collect(),
        )))
    };
    Ok(Subject::new(&format!("schedule/{name}")).map_err(refused)?)
}

fn definition(body: &ScheduleBody) -> Result<ScheduleDefined, Problem> {
    let machine = body.machine.as_deref().map(MachineId::new).transpose();
    let machine = machine.map_err(|e| Problem::body(e.to_string()))?;
    Ok(ScheduleDefined {
        schedule: body.name.clone(),
        cron: body.cron.clone(),
        zone: body.zone.clone().unwrap_or_else(|| "UTC".to_owned()),
        overlap: overlap(body.overlap.as_deref().unwrap_or("forbid"))?,
        misfire: misfire(body.misfire.as_deref().unwrap_or("run-once"))?,
        job: JobSpec {
            handler: body.handler.clone(),
            machine,
            labels: body.labels.clone(),
            priority: body.priority.unwrap_or(0),
            attempts_max: body.attempts_max.unwrap_or(1),
            not_before: None,
            deadline: None,
            unique_key: body.unique_key.clone(),
            concurrency_key: body.concurrency_key.clone(),
            depends_on: Vec::new(),
            hold_on_failed_dependency: false,
            retry_of: None,
            input: None,
        },
        deadline_ms: body.deadline_ms,
        project: body.project.clone(),
    })
}

fn draft(mut definition: ScheduleDefined, input: Option<Vec<u8>>, salt: &[u8; 32]) -> Result<Draft, Problem> {
    let broken = |e: ledger::core::StatementError| Problem::from(ServerError::from(e));
    definition.job.input = input.as_ref().map(|bytes| InputRef {
        commitment: commitment(salt, bytes),
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    });
    let draft = Draft::of(&definition, subject(&definition.schedule)?);
    match input {
        Some(bytes) => draft.payload("application/json", bytes).map_err(broken),
        None => Ok(draft),
    }
}

const OVERLAPS: [(Overlap, &str); 4] = [
    (Overlap::Allow, "allow"),
    (Overlap::Forbid, "forbid"),
    (Overlap::Queue, "queue"),
    (Overlap::Replace, "replace"),
];

fn overlap(text: &str) -> Result<Overlap, Problem> {
    let found = OVERLAPS.into_iter().find(|(_, name)| *name == text);
    found.map(|(overlap, _)| overlap).ok_or_else(|| {
        Problem::body(format!(
            "expected `overlap` to be allow, forbid, queue or replace, found {text:?}"
        ))
    })
}

fn misfire(text: &str) -> Result<Misfire, Problem> {
    let wrong = || {
        Problem::body(format!(
            "expected `misfire` to be skip, run-once or catch-up:N, found {text:?}"
        ))
    };
    match (text, text.strip_prefix("catch-up:")) {
        ("skip", _) => Ok(Misfire::Skip),
        ("run-once", _) => Ok(Misfire::RunOnce),
        (_, Some(most)) => most.parse().map(Misfire::CatchUp).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn misfire_text(misfire: Misfire) -> String {
    match misfire {
        Misfire::Skip => "skip".to_owned(),
        Misfire::RunOnce => "run-once".to_owned(),
        Misfire::CatchUp(most) => format!("catch-up:{most}"),
    }
}

fn shown(row: &Schedule, state: &FleetState) -> wire::Schedule {
    let d = &row.definition;
    let overlap = OVERLAPS.into_iter().find(|(overlap, _)| *overlap == d.overlap);
    let next = row.next();
    wire::Schedule {
        name: d.schedule.clone(),
        cron: d.cron.clone(),
        zone: d.zone.clone(),
        overlap: overlap.map_or("", |(_, name)| name).to_owned(),
        misfire: misfire_text(d.misfire),
        handler: d.job.handler.clone(),
        priority: d.job.priority,
        machine: d.job.machine.as_ref().map(ToString::to_string),
        labels: d.job.labels.clone(),
        attempts_max: d.job.attempts_max,
        deadline_ms: d.deadline_ms,
        project: d.project.clone(),
        defined: row.defined.to_string(),
        defined_at: times::text(row.defined_at),
        next: next.map(times::text),
        last: row.recent.last().map(|told| tick(told, row)),
        fired: row.fired,
        missed: row.missed,
        skipped: row.skipped,
        open: u32::try_from(row.open(state.queue()).count()).unwrap_or(u32::MAX),
        warning: warning(row, state, next),
    }
}

fn warning(row: &Schedule, state: &FleetState, next: Option<i64>) -> String {
    let handler = &row.definition.job.handler;
    if next.is_none() {
        return "it fires no more: no later time matches its expression".to_owned();
    }
    if state.queue().machines_with(handler).next().is_none() {
        return format!("no machine declares handler {handler:?}: its jobs are parked until one does");
    }
    if let Some(pause) = state.queue().pause(handler) {
        return format!("handler {handler:?} is paused: {}", pause.reason);
    }
    String::new()
}

fn full(row: &Schedule, state: &FleetState) -> ScheduleFull {
    let d = &row.definition;
    let mut upcoming = Vec::new();
    if let Ok(calendar) = Calendar::new(&d.cron, &d.zone) {
        let mut at = row.decided_until;
        while let Some(next) = calendar.next(at).filter(|_| upcoming.len() < UPCOMING_MAX) {
            upcoming.push(times::text(next));
            at = next;
        }
    }
    let jobs = row.open(state.queue()).filter_map(|job| state.job(&job));
    ScheduleFull {
        schedule: shown(row, state),
        ticks: row.recent.iter().rev().map(|told| tick(told, row)).collect(),
        upcoming,
        last_missed: row.last_missed.map(|missed| tick(&Told::Missed(missed), row)),
        last_skipped: row.last_skipped.map(|skipped| tick(&Told::Skipped(skipped), row)),
        jobs: jobs.map(|job| view::job(job, state)).collect(),
    }
}

fn tick(told: &Told, row: &Schedule) -> TickView {
    let one = |what: &str, nominal: i64, why: &str, job: Option<String>| TickView {
        what: what.to_owned(),
        nominal: times::text(nominal),
        until: None,
        count: 1,
        why: why.to_owned(),
        job,
    };
    match told {
        Told::Fired(fired) => {
            let late = times::ms_between(fired.nominal, fired.at);
            let why = match fired.misfired {
                true => format!("{} s late, by its misfire policy", late / 1000),
                false => "on time".to_owned(),
            };
            one("fired", fired.nominal, &why, Some(fired.job.to_string()))
        }
        Told::Missed(missed) => TickView {
            what: "missed".to_owned(),
            nominal: times::text(missed.first),
            until: (missed.count > 1).then(|| times::text(missed.last)),
            count: missed.count,
            why: format!(
                "the gateway did not run or decide then; seen at {}; misfire is {}",
                times::text(missed.at),
                misfire_text(row.definition.misfire)
            ),
            job: None,
        },
        Told::Skipped(skipped) => {
            let why = match skipped.reason {
                TickSkipped::Overlap => "an earlier run was not over, and overlap is forbid",
                TickSkipped::Backlog => "too many of its jobs were not over",
                TickSkipped::InputErased => "its input was erased; define it anew",
            };
            one(
                "skipped",
                skipped.nominal,
                why,
                skipped.job.map(|job| job.to_string()),
            )
        }
    }
}
