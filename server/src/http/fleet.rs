//! `POST /v1/fleet/{op}`: the exchanges between machines, at the network door.
//!
//! Contract: the caller's signature was verified by the gate, for all but `join`, whose proofs are in its body. Bodies
//! and answers are canonical postcard. Does not: understand them; `gateway::exchange` does.

use super::Api;
use super::caller::{Caller, Peer};
use super::problem::Problem;
use super::wire;
use crate::closing::Closing;
use crate::exchange::MEDIA;
use crate::gateway::exchange;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// Canonical postcard of the exchange's own type.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct ExchangeBody(#[allow(dead_code)] Vec<u8>);

/// One exchange: join, hello, push, pull, claim, beat or cosign.
#[utoipa::path(
    post, path = "/v1/fleet/{op}", operation_id = "exchange", tag = "fleet",
    params(("op" = String, Path, description = "join, hello, push, pull, claim, beat or cosign")),
    request_body(content = ExchangeBody, content_type = "application/vnd.ledger.exchange"),
    responses(
        (status = 200, description = "The answer", body = ExchangeBody, content_type = "application/vnd.ledger.exchange"),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn exchanged(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    door: Option<Extension<Closing>>,
    Path(op): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = match op.as_str() {
        "join" => None,
        _ => Some(caller.machine_key()?),
    };
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|media| media.as_bytes() != MEDIA.as_bytes())
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.media-type",
            format!("expected a body of `{MEDIA}`, found another media type or none"),
            "set that Content-Type",
        ));
    }
    let peer = peer.map_or(Peer::Process, |Extension(peer)| peer).to_string();
    let door = door.map(|Extension(door)| door).unwrap_or_default();
    let caller = exchange::Caller { key, peer, door };
    let answer = exchange::exchange(&api.machine, caller, &op, body).await?;
    let mut response = Response::new(Body::from(answer));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA));
    Ok(response)
}
