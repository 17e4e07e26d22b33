//! `GET /healthz`, `GET /readyz`, `GET /v1/boot`: for supervisors, and for callers who are about to sign.
//!
//! Open to anybody at the network door, so they tell nothing about the fleet.

use super::problem::Problem;
use super::reply::json;
use super::wire::{self, Boot, Health, Ready};
use super::{Api, Door};
use crate::machine::Machine;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

/// The process is alive.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "status",
    responses((status = 200, description = "Alive", body = Health))
)]
pub(crate) async fn alive() -> Response {
    json(
        StatusCode::OK,
        &Health {
            status: "alive".to_owned(),
        },
    )
}

/// Whether new work is taken. Queue, grants and node status are folded with each commit and cannot lag.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "status",
    responses(
        (status = 200, description = "Ready", body = Ready),
        (status = 503, description = "Not ready, and why", body = Ready),
    )
)]
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let machine = Arc::clone(&api.machine);
    let reasons = tokio::task::spawn_blocking(move || not_ready(&machine)).await;
    let mut reasons = reasons.map_err(|_| Problem::broken("asking the store"))?;
    let ready = reasons.is_empty();
    if api.door == Door::Network && !ready {
        reasons = vec!["not ready; ask GET /v1/status".to_owned()];
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(json(status, &Ready { ready, reasons }))
}

/// Why new work is not taken; empty when it is.
pub(crate) fn not_ready(machine: &Machine) -> Vec<String> {
    let short = machine.has_room().err().map(|e| e.to_string());
    broken(machine).into_iter().chain(short).collect()
}

/// Why appends are not possible; empty when they are.
pub(crate) fn broken(machine: &Machine) -> Vec<String> {
    let link = machine.link_without_outbox();
    let closed = machine
        .ledger
        .closed()
        .map(|why| format!("the store takes no appends: {why}"));
    let frozen = link.frozen.map(|why| format!("Central is frozen: {why}"));
    let healing = link
        .healing
        .then(|| "Central waits for the marks of the machines".to_owned());
    let behind = machine.ledger.falling_behind();
    let behind = behind.map(|why| {
        format!("derived rows fall behind ({why}); they catch up by themselves when the disk has room")
    });
    closed
        .into_iter()
        .chain(frozen)
        .chain(healing)
        .chain(behind)
        .collect()
}

/// The boot id that a signed request has to name.
#[utoipa::path(
    get, path = "/v1/boot", operation_id = "boot", tag = "status",
    responses((status = 200, description = "The boot id", body = wire::Boot))
)]
pub(crate) async fn boot(State(api): State<Arc<Api>>) -> Response {
    json(
        StatusCode::OK,
        &Boot {
            boot: api.machine.boot.clone(),
        },
    )
}
