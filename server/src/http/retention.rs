//! `GET /v1/retention`, `POST /v1/retention`, `POST /v1/retention/run`: how long pulses are kept, and letting them go.
//!
//! Contract: the policy is an operator's word in the order, so it is set at the gateway. A run works while the daemon does; it
//! is at the local door alone, since it changes what this machine has.

use super::caller::Caller;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::steer::at_gateway;
use super::wire::{self, Answer, RetentionBody, RetentionSaid};
use super::{Api, times, view};
use crate::cosign::blocking;
use crate::error::ServerError;
use crate::retention;
use axum::Extension;
use axum::extract::State;
use ledger::core::kinds::{AnyDetail, RetentionSet};
use ledger::core::{Draft, Subject};
use ledger_projections::retention::check_policy;
use serde_json::Value;
use std::sync::Arc;

/// The policy, and what this machine has of pulses.
#[utoipa::path(
    get, path = "/v1/retention", operation_id = "show_retention", tag = "nodes",
    responses(
        (status = 200, description = "The policy", body = Answer<wire::Retention>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Answer<wire::Retention>>, Problem> {
    caller.may_read()?;
    api.item(|machine, snapshot| {
        let said = snapshot.state.retention();
        let mut logs = retention::look(&machine.ledger)?;
        logs.sort_by(|a, b| (!a.own, &a.machine, a.log).cmp(&(!b.own, &b.machine, b.log)));
        Ok(wire::Retention {
            pulse_days: said.and_then(|said| said.pulse_days),
            policy: said.map(|said| wire::Policy {
                receipt: said.said.to_string(),
                author: snapshot.state.name_of(&said.author),
                time: times::text(said.at),
                reason: said.reason.clone(),
            }),
            logs: logs
                .into_iter()
                .map(|log| wire::PulseLog {
                    log: log.log.to_hex(),
                    machine: log.machine.to_string(),
                    own: log.own,
                    kept: log.kept,
                    oldest: log.oldest_us.map(times::text),
                    bytes_about: log.bytes_about,
                    due: log.due,
                    waits: log.waits,
                })
                .collect(),
        })
    })
    .await
}

/// Sets for how long the fleet keeps its pulses.
#[utoipa::path(
    post, path = "/v1/retention", operation_id = "set_retention", tag = "nodes", request_body = RetentionSaid,
    responses(
        (status = 200, description = "It stands", body = Answer<wire::RetentionSet>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<wire::RetentionSet>>, Problem> {
    at_gateway(&api, "sets the policy")?;
    let said = match statements::read::<RetentionBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(RetentionBody { pulse_days, reason }) => {
            let subject = Subject::new("retention/pulses").expect("short and printable");
            let draft = Draft::of(&RetentionSet { pulse_days, reason }, subject);
            statements::sign(&api, None, move |_| Ok(draft.clone())).await?
        }
    };
    let Ok(AnyDetail::RetentionSet(policy)) = said.statement().any_detail() else {
        return Err(Problem::body(
            "expected a retention.set, found another statement".to_owned(),
        ));
    };
    check_policy(policy.pulse_days, &policy.reason).map_err(ServerError::from)?;
    let answer = api.machine.append(said).await?;
    api.item(move |_, snapshot| {
        Ok(wire::RetentionSet {
            pulse_days: policy.pulse_days,
            receipt: view::receipt(&answer.receipt, &snapshot.state),
            standing: answer.standing.to_owned(),
        })
    })
    .await
}

/// Lets go now what the policy lets go, in this machine's store.
#[utoipa::path(
    post, path = "/v1/retention/run", operation_id = "run_retention", tag = "nodes",
    responses(
        (status = 200, description = "What was done with each pulse log; none without a policy", body = Answer<Vec<wire::RetentionRun>>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn run(
    State(api): State<Arc<Api>>,
) -> Result<Reply<Answer<Vec<wire::RetentionRun>>>, Problem> {
    // It says what it summed up and what it let go.
    api.machine.wait_until_it_may_say().await?;
    let machine = Arc::clone(&api.machine);
    let done = blocking(move || retention::run(&machine.ledger)).await?;
    api.item(move |_, _| {
        let told = done.into_iter().map(|done| wire::RetentionRun {
            log: done.log.to_hex(),
            machine: done.machine.to_string(),
            days: done.days,
            receipt: done.receipt.map(|id| id.to_string()),
            records: done.records,
            bytes_freed: done.bytes_freed,
            waits: done.waits,
        });
        Ok(told.collect())
    })
    .await
}
