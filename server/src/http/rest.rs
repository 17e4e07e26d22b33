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
            // Before it is said: a hook may be killed while the gateway is waited for, and whatever is said ends with a waking.
            let before = machine.rest(Some(running_ms()));
            let heard = rest::announce(machine, RestReason::Sleep)
                .await
                .inspect_err(|_| {
                    machine.rest(before);
                })?;
            Rested {
                said: true,
                heard,
                slept_ms: None,
            }
        }
        RestWhat::Waking => match machine.resting() {
            // Nobody said that it sleeps, or a heartbeat has told its waking already.
            None => Rested {
                said: false,
                heard: false,
                slept_ms: None,
            },
            Some(since) => {
                let slept_ms = running_ms().saturating_sub(since);
                rest::awake(machine, slept_ms).await?;
                machine.rest(None);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::Api as Client;
    use crate::http::{Door, router};
    use crate::{Config, Machine, setup};
    use std::time::Duration;

    #[tokio::test]
    async fn a_hook_that_is_killed_leaves_a_sleep_that_ends_and_a_waking_that_cannot_be_kept_is_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        setup::init(&home, &"mini".parse().unwrap()).unwrap();
        let machine = Machine::open(&home, Config::default()).unwrap();
        let client = Client::in_process(router(Arc::clone(&machine), Door::Local));
        let say = |what| {
            let client = client.clone();
            async move { client.rest(&RestBody { what }).await }
        };
        // Nothing pins it, so the hook waits for a gateway that does not confirm.
        machine.set_link(|link| link.connected = true);
        let killed = tokio::time::timeout(Duration::from_millis(500), say(RestWhat::Sleeping)).await;
        assert!(killed.is_err(), "{killed:?}");
        assert!(machine.resting().is_some());

        machine.central.begin_healing();
        machine.central.freeze("somebody has seen more".into());
        say(RestWhat::Waking).await.unwrap_err();
        assert!(machine.resting().is_some());
        say(RestWhat::Sleeping).await.unwrap_err();
        assert!(machine.resting().is_some(), "what was said before stands");
    }
}
