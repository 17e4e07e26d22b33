//! `GET /v1/handlers`, and what an operator does to one: `pause`, `resume`, `drain`. `GET` and `POST /v1/limits`.

use super::caller::Caller;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::statements;
use super::steer::{STEERS, at_gateway, say, standing};
use super::wire::{
    self, Answer, Drained, HandlerOn, HandlerRow, HandlerSteered, HandlerView, LimitBody, LimitSaid,
    LimitView, Limited, Page, PauseBody, PauseSaid, PauseView, RateView, WishBody, WishSaid,
};
use super::{Api, times, view};
use crate::error::ServerError;
use crate::machine::Machine;
use axum::Extension;
use axum::extract::{Path, State};
use ledger::core::kinds::{
    AnyDetail, Detail, DiscardReason, HandlerPaused, HandlerResumed, JobDiscarded, JobId, LimitScope,
    QueueLimited, RateLimit,
};
use ledger::core::{Draft, MachineId, Statement, Subject};
use ledger_projections::FleetState;
use ledger_projections::queue::decide::{self, BACKLOG, DUE_MAX};
use ledger_projections::queue::{Limit, Phase};
use ledger_projections::{health, members};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The handlers that a machine declares, a job waits for or a pause names, by name.
#[utoipa::path(
    get, path = "/v1/handlers", operation_id = "list_handlers", tag = "jobs",
    responses(
        (status = 200, description = "The handlers", body = Page<HandlerRow>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Page<HandlerRow>>, Problem> {
    caller.may_read()?;
    api.page(|machine, snapshot| Ok((rows(machine, &snapshot.state), None)))
        .await
}

/// Gives nothing of a handler out any more; what runs goes on.
#[utoipa::path(
    post, path = "/v1/handlers/{handler}/pause", operation_id = "pause_handler", tag = "jobs", request_body = PauseSaid,
    params(("handler" = String, Path, description = "The handler")),
    responses(
        (status = 200, description = "It is paused", body = Answer<HandlerSteered>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Path(handler): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<HandlerSteered>>, Problem> {
    let of = |body: PauseBody| {
        let until = body.until.as_deref().map(|text| times::parse("until", text));
        Ok(HandlerPaused {
            handler: handler.clone(),
            until: until.transpose()?,
            reason: body.reason,
        })
    };
    steer(&api, &handler, body, of).await
}

/// Gives jobs of a paused handler out again.
#[utoipa::path(
    post, path = "/v1/handlers/{handler}/resume", operation_id = "resume_handler", tag = "jobs", request_body = WishSaid,
    params(("handler" = String, Path, description = "The handler")),
    responses(
        (status = 200, description = "Its jobs are given out again", body = Answer<HandlerSteered>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Path(handler): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<HandlerSteered>>, Problem> {
    let of = |body: WishBody| {
        Ok(HandlerResumed {
            handler: handler.clone(),
            reason: body.reason,
        })
    };
    steer(&api, &handler, body, of).await
}

async fn steer<T: serde::de::DeserializeOwned, D: Detail>(
    api: &Arc<Api>,
    handler: &str,
    body: Value,
    of: impl FnOnce(T) -> Result<D, Problem>,
) -> Result<Reply<Answer<HandlerSteered>>, Problem> {
    let name = handler.to_owned();
    let subject = subject_of("handler", handler)?;
    let draft = |body: T| Ok(Draft::of(&of(body)?, subject));
    let is_about = |said: &Statement| {
        let about = match said.any_detail() {
            Ok(AnyDetail::HandlerPaused(d)) => Some(d.handler),
            Ok(AnyDetail::HandlerResumed(d)) => Some(d.handler),
            _ => None,
        };
        said.kind.as_str() == D::KIND && about.as_deref() == Some(handler)
    };
    let expected = format!("a {} about handler {handler:?}", D::KIND);
    let answer = say(api, body, draft, is_about, &expected).await?;
    let reply = api.item(move |machine, snapshot| {
        Ok(HandlerSteered {
            handler: row(machine, &snapshot.state, &name),
            standing: standing(answer.as_ref()),
            receipt: answer.map(|answer| view::receipt(&answer.receipt, &snapshot.state)),
        })
    });
    reply.await
}

/// Gives up what of a handler waits for a claim now, each job by a receipt with the reason, which is demanded. What runs goes on, and
/// dead letters stay.
#[utoipa::path(
    post, path = "/v1/handlers/{handler}/drain", operation_id = "drain_handler", tag = "jobs", request_body = WishBody,
    params(("handler" = String, Path, description = "The handler")),
    responses(
        (status = 200, description = "The backlog is discarded", body = Answer<Drained>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn drain(
    State(api): State<Arc<Api>>,
    Path(handler): Path<String>,
    Json(body): Json<WishBody>,
) -> Result<Reply<Answer<Drained>>, Problem> {
    at_gateway(&api, STEERS)?;
    let name = handler.clone();
    let state = &api.machine.ledger.snapshot().state;
    decide::drain(state, &handler, &body.reason).map_err(ServerError::from)?;
    // What is asked for later is not of this backlog.
    let backlog: Vec<JobId> = decide::backlog(state, &handler).map(|job| job.id).collect();
    // It goes through the whole of it, also when nobody waits for the answer any more.
    let draining = tokio::spawn(discard(Arc::clone(&api), handler, backlog, body.reason));
    let discarded = draining.await.map_err(|_| Problem::broken("draining"))??;
    let reply = api.item(move |machine, snapshot| {
        Ok(Drained {
            handler: row(machine, &snapshot.state, &name),
            discarded,
            standing: machine.standing_of_order(snapshot).as_str().to_owned(),
        })
    });
    reply.await
}

// Discards the jobs of a backlog that still wait; how many they were.
async fn discard(
    api: Arc<Api>,
    handler: String,
    backlog: Vec<JobId>,
    reason: String,
) -> Result<u64, Problem> {
    let mut discarded = 0u64;
    for part in backlog.chunks(DUE_MAX) {
        let draining = async {
            let mut said = Vec::with_capacity(part.len());
            for job in part {
                let detail = JobDiscarded {
                    job: *job,
                    reason: DiscardReason::Drained,
                    retried_as: None,
                    note: reason.clone(),
                };
                let draft = Draft::of(&detail, job.subject());
                said.push(statements::sign(&api, None, move |_| Ok(draft.clone())).await?);
            }
            Ok::<usize, Problem>(api.machine.drain(said).await?)
        };
        match draining.await {
            Ok(drained) => discarded = discarded.saturating_add(u64::try_from(drained).unwrap_or(u64::MAX)),
            Err(problem) => {
                tracing::warn!(
                    handler,
                    discarded,
                    code = problem.code(),
                    "a drain did not come to its end"
                );
                return Err(problem);
            }
        }
    }
    tracing::info!(handler, discarded, "a backlog is drained");
    Ok(discarded)
}

/// The limits in force.
#[utoipa::path(
    get, path = "/v1/limits", operation_id = "list_limits", tag = "jobs",
    responses(
        (status = 200, description = "The limits", body = Page<LimitView>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn limits(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Page<LimitView>>, Problem> {
    caller.may_read()?;
    api.page(|machine, snapshot| {
        let (state, now) = (&snapshot.state, machine.now_us());
        let limits = state.queue().limits();
        let limits = limits.map(|(scope, limit)| limit_view(state, scope, limit, now));
        Ok((limits.collect(), None))
    })
    .await
}

/// Sets the limit under which claims are given from here on; without any bound it is lifted.
#[utoipa::path(
    post, path = "/v1/limits", operation_id = "set_limit", tag = "jobs", request_body = LimitSaid,
    responses(
        (status = 200, description = "The limit stands", body = Answer<Limited>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn limit(
    State(api): State<Arc<Api>>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Limited>>, Problem> {
    let mut about = None;
    let draft = |body: LimitBody| {
        let scope = scope_of(&body.scope, &body.name)?;
        let subject = subject_of("limit", &body.name)?;
        let limited = QueueLimited {
            scope,
            running_max: body.running_max,
            rate: body.rate.map(|rate| RateLimit {
                claims: rate.claims,
                period_ms: rate.period_ms,
            }),
            reason: body.reason,
        };
        Ok(Draft::of(&limited, subject))
    };
    let is_about = |said: &Statement| match said.any_detail() {
        Ok(AnyDetail::QueueLimited(d)) => {
            about = Some(d.scope);
            true
        }
        _ => false,
    };
    let answer = say(&api, body, draft, is_about, "a queue.limited").await?;
    let reply = api.item(move |machine, snapshot| {
        let (state, now) = (&snapshot.state, machine.now_us());
        let limit = about.as_ref().and_then(|scope| {
            let limit = state.queue().limit(scope)?;
            Some(limit_view(state, scope, limit, now))
        });
        Ok(Limited {
            limit,
            standing: standing(answer.as_ref()),
            receipt: answer.map(|answer| view::receipt(&answer.receipt, state)),
        })
    });
    reply.await
}

fn subject_of(family: &str, name: &str) -> Result<Subject, Problem> {
    Subject::new(&format!("{family}/{name}")).map_err(|e| Problem::body(e.to_string()))
}

fn scope_of(scope: &str, name: &str) -> Result<LimitScope, Problem> {
    match scope {
        "handler" => Ok(LimitScope::Handler(name.to_owned())),
        "machine" => MachineId::new(name)
            .map(LimitScope::Machine)
            .map_err(|e| Problem::body(e.to_string())),
        "key" => Ok(LimitScope::Key(name.to_owned())),
        other => Err(Problem::body(format!(
            "expected `scope` to be handler, machine or key, found {other:?}"
        ))),
    }
}

fn limit_view(state: &FleetState, scope: &LimitScope, limit: &Limit, now: i64) -> LimitView {
    let (of, name) = match scope {
        LimitScope::Handler(name) => ("handler", name.clone()),
        LimitScope::Machine(machine) => ("machine", machine.to_string()),
        LimitScope::Key(name) => ("key", name.clone()),
    };
    LimitView {
        scope: of.to_owned(),
        name,
        running_max: limit.running_max,
        rate: limit.rate.map(|rate| RateView {
            claims: rate.claims,
            period_ms: rate.period_ms,
        }),
        reason: limit.reason.clone(),
        running: state.queue().running(scope),
        admits_at: Some(limit.admits_at()).filter(|at| *at > now).map(times::text),
    }
}

/// How many jobs of each handler stand where.
#[derive(Default)]
struct Counted {
    ready: u64,
    waiting: u64,
    running: u64,
    parked: u64,
}

fn rows(machine: &Machine, state: &FleetState) -> Vec<HandlerRow> {
    let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
    for ((_, name), _) in state.handlers() {
        counted.entry(name).or_default();
    }
    for (name, _) in state.queue().pauses() {
        counted.entry(name).or_default();
    }
    for phase in BACKLOG
        .into_iter()
        .chain([Phase::Leased, Phase::Suspect, Phase::Parked])
    {
        for job in state.jobs_in(phase) {
            let of = counted.entry(&job.spec.handler).or_default();
            match phase {
                Phase::Ready => of.ready += 1,
                Phase::Leased | Phase::Suspect => of.running += 1,
                Phase::Parked => of.parked += 1,
                _ => of.waiting += 1,
            }
        }
    }
    let now = machine.now_us();
    let shown = counted
        .into_iter()
        .map(|(name, counted)| shown(state, name, &counted, now));
    shown.collect()
}

fn row(machine: &Machine, state: &FleetState, name: &str) -> HandlerRow {
    let found = rows(machine, state).into_iter().find(|row| row.handler == name);
    found.unwrap_or_else(|| shown(state, name, &Counted::default(), machine.now_us()))
}

fn shown(state: &FleetState, name: &str, counted: &Counted, now: i64) -> HandlerRow {
    let on = |(machine, handler): (&MachineId, &ledger_projections::queue::Handler)| HandlerOn {
        machine: machine.to_string(),
        declared: HandlerView {
            name: name.to_owned(),
            class: handler.class.to_string(),
            labels: handler.labels.clone(),
            slots: handler.slots,
        },
        working: state.machine(machine).is_some_and(members::Machine::is_online)
            && health::held_back(state, machine).is_none(),
    };
    let of_fleet = |(machine, _): &(&MachineId, _)| state.machine(machine).is_some_and(|row| !row.retired);
    let scope = LimitScope::Handler(name.to_owned());
    HandlerRow {
        handler: name.to_owned(),
        machines: state
            .queue()
            .machines_with(name)
            .filter(of_fleet)
            .map(on)
            .collect(),
        paused: state.queue().pause(name).map(|pause| PauseView {
            since: times::text(pause.since),
            until: pause.until.map(times::text),
            reason: pause.reason.clone(),
        }),
        limit: state
            .queue()
            .limit(&scope)
            .map(|limit| limit_view(state, &scope, limit, now)),
        ready: counted.ready,
        waiting: counted.waiting,
        running: counted.running,
        parked: counted.parked,
    }
}
