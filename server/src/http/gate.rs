//! The gate that every request passes, cheapest check first: room, host, who asks, body.
//!
//! Owns: the bounds in time, size and number, and authentication. Contract: nothing of a body is read for a stranger;
//! nothing in it is parsed before its digest and signature were checked; every refusal for lack of proof is the same 401;
//! the answer to a signed request is signed and bound to it. Does not: know what a role may do on a path, beyond that a
//! token only reads; handlers ask the [`Caller`].

use super::caller::{Caller, Peer};
use super::limits::{ANSWER_WITHIN, BODY_BYTES_MAX, BODY_WITHIN, POLL_WITHIN, PUSH_BYTES_MAX};
use super::problem::Problem;
use super::quotas::Share;
use super::signature::{
    RequestSignature, SKEW_S, Window, check_head, normal_authority, sign_response, verify_base,
};
use super::{Api, Door};
use crate::config::Config;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ledger::core::PublicKey;
use ledger::core::digest::secret_digest;
use ledger::core::kinds::{Credential, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Answers of signed requests at most, in bytes: a full page of large details.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest bearer token that is hashed, in bytes.
const TOKEN_BYTES_MAX: usize = 256;
/// Paths that tell nothing about the fleet. A machine that joins proves itself inside the body, so that one is open too.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/v1/boot", "/openapi.json"];

/// How long a request may take, and how large it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    Ordinary,
    Push,
    Poll,
    Join,
    Tail,
    Scan,
}

impl Size {
    fn of(path: &str) -> Self {
        match path {
            "/v1/fleet/push" => Self::Push,
            "/v1/fleet/pull" | "/v1/fleet/claim" => Self::Poll,
            "/v1/fleet/join" => Self::Join,
            "/v1/events" => Self::Tail,
            "/v1/vault/scan" | "/v1/export" | "/v1/import" | "/v1/verify" | "/v1/prove" | "/v1/publish"
            | "/v1/retention/run" => Self::Scan,
            path if path.starts_with("/v1/handlers/") && path.ends_with("/drain") => Self::Scan,
            _ => Self::Ordinary,
        }
    }

    fn body_bytes_max(self) -> usize {
        if self == Self::Push {
            PUSH_BYTES_MAX
        } else {
            BODY_BYTES_MAX
        }
    }

    /// From the body to the answer's headers; a scan, and whatever goes through as much, takes as long as the disk does.
    fn within(self) -> Option<Duration> {
        match self {
            Self::Ordinary | Self::Push | Self::Join | Self::Tail => Some(ANSWER_WITHIN),
            Self::Poll => Some(POLL_WITHIN),
            Self::Scan => None,
        }
    }
}

/// A request that may go on, and what its answer has to be bound to.
struct Passed {
    request: Request,
    answer_to: Option<RequestSignature>,
    /// What it takes of its key's quota, until it is answered.
    share: Option<Share>,
}

/// The middleware.
pub(crate) async fn gate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let size = Size::of(request.uri().path());
    let peer = request
        .extensions()
        .get::<Peer>()
        .copied()
        .unwrap_or(Peer::Process);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match room(&api, size) {
        Err(problem) => problem.into_response(),
        Ok(_permit) => match pass(&api, request, size).await {
            Ok(passed) => answer(&api, passed, next, size).await,
            Err(problem) => {
                tracing::debug!(%peer, %method, path, code = problem.code(), "refused");
                problem.into_response()
            }
        },
    };
    tracing::debug!(%peer, %method, path, status = response.status().as_u16(), "answered");
    response
}

fn room(api: &Api, size: Size) -> Result<OwnedSemaphorePermit, Problem> {
    let places = match size {
        Size::Poll => &api.polls,
        Size::Join => &api.joins,
        _ => &api.requests,
    };
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        Problem::busy(
            StatusCode::SERVICE_UNAVAILABLE,
            "expected fewer requests at once, found every place taken",
        )
    })
}

async fn answer(api: &Api, passed: Passed, next: Next, size: Size) -> Response {
    let _share = passed.share;
    let work = next.run(passed.request);
    let response = match size.within() {
        None => work.await,
        Some(within) => timeout(within, work).await.unwrap_or_else(|_| {
            let detail = format!("expected an answer within {} s, found none yet", within.as_secs());
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, &detail).into_response()
        }),
    };
    match passed.answer_to {
        None => response,
        Some(signature) => signed(api, response, &signature).await,
    }
}

async fn signed(api: &Api, response: Response, to: &RequestSignature) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = Limited::new(body, ANSWER_BYTES_MAX).collect().await else {
        return Problem::broken("reading the answer").into_response();
    };
    let body = body.to_bytes();
    let now_s = api.machine.now_us().div_euclid(1_000_000);
    let key = &api.machine.ledger.keyring().machine;
    match sign_response(key, parts.status, &mut parts.headers, &body, to, now_s) {
        Ok(()) => Response::from_parts(parts, Body::from(body)),
        Err(error) => {
            tracing::error!(code = error.code(), %error, "an answer could not be signed");
            Problem::broken("signing the answer").into_response()
        }
    }
}

async fn pass(api: &Api, request: Request, size: Size) -> Result<Passed, Problem> {
    let (parts, body) = request.into_parts();
    let (caller, proven, parts, body) = match api.door {
        Door::Local => (Caller::Local, None, parts, read(body, size).await?),
        Door::Network => {
            check_host(&parts.headers, &api.machine.config)?;
            if size == Size::Join {
                (Caller::Anybody, None, parts, read(body, size).await?)
            } else if OPEN.contains(&parts.uri.path()) {
                (Caller::Anybody, None, parts, Bytes::new())
            } else if parts.headers.contains_key(header::AUTHORIZATION) {
                let role = bearer(api, &parts)?;
                (Caller::Token(role), None, parts, Bytes::new())
            } else {
                key(api, parts, body, size).await?
            }
        }
    };
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(caller);
    let (answer_to, share) = proven.unzip();
    Ok(Passed {
        request,
        answer_to,
        share,
    })
}

/// That the request is addressed to a name of this machine: a page in a browser that was told another address for its own
/// name gets nothing (DNS rebinding). The address that it listens on is such a name.
fn check_host(headers: &HeaderMap, config: &Config) -> Result<(), Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|text| normal_authority(text).ok()),
        _ => None,
    };
    let authority = host.and_then(|text| text.parse::<http::uri::Authority>().ok());
    let known = authority.is_some_and(|authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let listens = config.listen.rsplit_once(':').map(|(host, _port)| host);
        let listens = listens.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        let mut known = config.hosts.iter().map(String::as_str).chain(listens);
        known.any(|known| known.eq_ignore_ascii_case(name))
    });
    if known {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "request.host",
        "expected one Host header with a name that this machine is configured for, found another",
        "use the address of `listen` in config.toml, or a name that `hosts` lists there, or add it",
    ))
}

/// The role of a bearer token in force. Tokens only read.
fn bearer(api: &Api, parts: &Parts) -> Result<Role, Problem> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorized());
    };
    let secret = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, secret)| scheme.eq_ignore_ascii_case("bearer") && secret.len() <= TOKEN_BYTES_MAX)
        .map(|(_, secret)| secret.trim())
        .ok_or_else(Problem::unauthorized)?;
    let credential = Credential::Token(secret_digest(secret.as_bytes()));
    let role = api
        .machine
        .ledger
        .snapshot()
        .state
        .role_of(&credential, api.machine.now_us());
    let role = role.ok_or_else(Problem::unauthorized)?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Problem::forbidden());
    }
    Ok(role)
}

type Known = (Caller, Option<(RequestSignature, Share)>, Parts, Bytes);

/// The holder of a known key: head, then body, then signature.
async fn key(api: &Api, parts: Parts, body: Body, size: Size) -> Result<Known, Problem> {
    let machine = &api.machine;
    let now_us = machine.now_us();
    let window = Window {
        now_s: now_us.div_euclid(1_000_000),
        skew_s: SKEW_S,
    };
    let lookup = |key: &[u8; 32]| {
        let credential = Credential::Key(PublicKey(*key));
        machine.ledger.snapshot().state.role_of(&credential, now_us)
    };
    let claim = check_head(&parts, &machine.boot, window, &api.nonces, lookup).map_err(refuse)?;
    let body = read(body, size).await?;
    let now_s = machine.now_us().div_euclid(1_000_000);
    let verified = claim
        .verify(&parts, &body, now_s, &api.nonces, verify_base)
        .map_err(refuse)?;
    let caller = Caller::Key(PublicKey(verified.key), verified.known);
    let share = api.quotas.take(verified.key, size == Size::Poll, body.len());
    let share = share.map_err(|found| Problem::busy(StatusCode::TOO_MANY_REQUESTS, &found))?;
    Ok((caller, Some((verified.signature, share)), parts, body))
}

fn refuse(error: super::signature::SignatureError) -> Problem {
    tracing::debug!(code = error.code(), %error, "signature refused");
    if error.status() == StatusCode::TOO_MANY_REQUESTS {
        return Problem::busy(
            StatusCode::TOO_MANY_REQUESTS,
            "expected fewer requests of this key, found its room used up",
        );
    }
    Problem::unauthorized()
}

/// The whole body, within its bounds in size and time.
async fn read(body: Body, size: Size) -> Result<Bytes, Problem> {
    let bytes_max = size.body_bytes_max();
    match timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(bytes_max)),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.incomplete",
            "expected a whole body, found its end cut off",
            "send the request again",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request.timeout",
            format!(
                "expected the whole body within {} s, found less",
                BODY_WITHIN.as_secs()
            ),
            "send the request again, faster or smaller",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(listen: &str, host: &'static str) -> bool {
        let config = Config {
            listen: listen.into(),
            hosts: vec!["mini.tailnet".into()],
            ..Config::default()
        };
        let headers = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static(host))]);
        check_host(&headers, &config).is_ok()
    }

    #[test]
    fn what_goes_through_a_whole_store_or_backlog_is_not_cut_off() {
        for path in [
            "/v1/vault/scan",
            "/v1/verify",
            "/v1/retention/run",
            "/v1/handlers/thumbs/drain",
        ] {
            assert_eq!(Size::of(path).within(), None, "{path}");
        }
        for path in [
            "/v1/retention",
            "/v1/handlers/thumbs/pause",
            "/v1/nodes/studio/drain",
        ] {
            assert_eq!(Size::of(path).within(), Some(ANSWER_WITHIN), "{path}");
        }
    }

    #[test]
    fn a_machine_answers_to_the_address_it_listens_on_and_to_the_names_it_was_given() {
        let address = "100.64.0.1:7171";
        assert!(answers(address, "100.64.0.1:7171") && answers(address, "MINI.tailnet:80"));
        assert!(answers("[fd7a::1]:7171", "[fd7a::1]:7171"));
        for other in ["100.64.0.2:7171", "evil.example", "127.0.0.1", ""] {
            assert!(!answers(address, other), "{other}");
        }
    }
}
