//! `POST /v1/rest`: the system's sleep hooks say that this machine goes to sleep, and that it woke. Only at the local door.

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, RestBody, RestWhat, Rested};
use crate::clock::running_ms;
use crate::rest;
use axum::extract::State;
use ledger::core::kinds::RestReason;
use std::sync::Arc;

/// Says that this machine sleeps, or that it woke. Of a sleep, it waits up to 3 seconds until the gateway has heard it.
#[utoipa::path(
    post, path = "/v1/rest", operation_id = "rest", tag = "nodes", request_body = RestBody,
    responses(
        (status = 200, description = "It is said", body = Answer<Rested>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rest(
    State(api): State<Arc<Api>>,
    Json(body): Json<RestBody>,
) -> Result<Reply<Answer<Rested>>, Problem> {
    let machine = &api.machine;
    let rested = match body.what {
        RestWhat::Sleeping => {
            let heard = rest::announce(machine, RestReason::Sleep).await?;
            machine.rest(Some(running_ms()));
            Rested {
                said: true,
                heard,
                slept_ms: None,
            }
        }
        RestWhat::Waking => match machine.rest(None) {
            // Nobody said that it sleeps, or a heartbeat has told its waking already.
            None => Rested {
                said: false,
                heard: false,
                slept_ms: None,
            },
            Some(since) => {
                let slept_ms = running_ms().saturating_sub(since);
                rest::awake(machine, slept_ms).await?;
                Rested {
                    said: true,
                    heard: false,
                    slept_ms: Some(slept_ms),
                }
            }
        },
    };
    api.item(move |_, _| Ok(rested)).await
}
