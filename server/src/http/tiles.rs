//! `GET /v1/logs/{log}/checkpoint`, `GET /v1/logs/{log}/tile/…`: the logs of this machine as C2SP `tlog-tiles`, read-only.
//!
//! Contract: below `/v1/logs/{log}/` the names and bytes are those that `ledger publish` writes, so that any client of
//! `tlog-tiles` reads a log here as from a directory. Whoever may not read receipts learns nothing. Only the machine that
//! writes a log has its checkpoint key, so only that one answers for it.

use super::Api;
use super::caller::Caller;
use super::problem::Problem;
use super::wire;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderValue, header};
use ledger::core::LogId;
use ledger::core::tiles::Resource;
use std::sync::Arc;

/// Tiles and entries never change under their names.
const FOR_EVER: &str = "private, max-age=604800, immutable";

/// The signed checkpoint over every durable receipt of a log of this machine.
#[utoipa::path(
    get, path = "/v1/logs/{log}/checkpoint", operation_id = "show_checkpoint", tag = "receipts",
    params(("log" = String, Path, description = "The LogId, 64 hex characters")),
    responses(
        (status = 200, description = "C2SP `tlog-checkpoint`", body = String, content_type = "text/plain; charset=utf-8"),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn checkpoint(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(log): Path<String>,
) -> Result<Response, Problem> {
    caller.may_read()?;
    let log = log_of(&log)?;
    let (_, signed) = api
        .look(move |machine, _| Ok(machine.ledger.checkpoint(&log)?))
        .await?;
    Ok(answer(
        signed.into_bytes(),
        "text/plain; charset=utf-8",
        "no-cache",
    ))
}

/// A tile of a log of this machine, or a bundle of its entries.
#[utoipa::path(
    get, path = "/v1/logs/{log}/tile/{*name}", operation_id = "show_tile", tag = "receipts",
    params(
        ("log" = String, Path, description = "The LogId, 64 hex characters"),
        ("name" = String, Path, description = "`<level>/<index>` or `entries/<index>`, with `.p/<width>` when partial, as C2SP `tlog-tiles` has it"),
    ),
    responses(
        (status = 200, description = "Hashes, or records behind their lengths", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tile(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((log, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.may_read()?;
    let log = log_of(&log)?;
    let resource = Resource::parse(&format!("tile/{name}")).ok_or_else(missing)?;
    let (_, bytes) = api
        .look(move |machine, _| machine.ledger.tile(&log, &resource)?.ok_or_else(missing))
        .await?;
    Ok(answer(bytes, "application/octet-stream", FOR_EVER))
}

fn log_of(text: &str) -> Result<LogId, Problem> {
    let log = LogId::from_hex(text).filter(|log| log.to_hex() == text);
    log.ok_or_else(|| {
        Problem::unknown(
            "ledger.unknown-log",
            "expected a LogId of 64 lower-case hex characters in the path, found something else",
            "GET /v1/status lists the logs",
        )
    })
}

fn missing() -> Problem {
    Problem::unknown(
        "tiles.missing",
        "expected the name of a tile or entry bundle under the checkpoint, found none of that name",
        "names are those of C2SP `tlog-tiles`; begin with the checkpoint, which says how many entries there are",
    )
}

fn answer(bytes: Vec<u8>, media: &'static str, kept: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    response
}
