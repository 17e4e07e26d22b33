//! Problem details (RFC 9457): how every refusal and every error leaves.
//!
//! Owns: the mapping from errors to status, code and advice. Contract: the code is stable, the detail says what was expected
//! and found, the advice says what to do; a refusal for lack of authority is one uniform answer. Does not: log; the gate
//! does, with the code that is not told.

use super::limits::RETRY_AFTER_S;
use super::wire;
use crate::error::ServerError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ledger::LedgerError;

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: String,
    detail: String,
    what_to_do: String,
    retry_after_s: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>, what_to_do: &str) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.to_owned(),
            detail: detail.into(),
            what_to_do: what_to_do.to_owned(),
            retry_after_s: None,
        }))
    }

    /// Whoever this is, they learn nothing.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "auth.required",
            "expected a request signed by a known key or a bearer token in force",
            "sign the request with a key that this fleet knows, or bring a token made by `ledger token new`",
        )
    }

    /// Known, and not permitted.
    pub(crate) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "auth.forbidden",
            "expected a grant that permits this, found none in force",
            "ask the fleet's owner for a grant that permits it",
        )
    }

    pub(crate) fn busy(status: StatusCode, detail: &str) -> Self {
        let mut problem = Self::new(
            status,
            "server.busy",
            detail,
            "try again after the seconds that Retry-After says",
        );
        problem.0.retry_after_s = Some(RETRY_AFTER_S);
        problem
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request.too-large",
            format!("expected a body of at most {bytes_max} bytes, found more"),
            "send less at once; files belong into the Vault, receipts carry digests",
        )
    }

    pub(crate) fn query(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "request.query",
            detail,
            "send the parameters that /openapi.json names for this path",
        )
    }

    pub(crate) fn body(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "request.body",
            detail,
            "send the body that /openapi.json describes for this path",
        )
    }

    pub(crate) fn unknown(code: &str, detail: impl Into<String>, what_to_do: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail, what_to_do)
    }

    pub(crate) fn broken(what: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server.internal",
            format!("{what} failed in a way that this program does not expect"),
            "look at the daemon's own log, run `ledger verify`, and report it",
        )
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn to_wire(&self) -> wire::Problem {
        let Inner {
            status,
            code,
            detail,
            what_to_do,
            ..
        } = &*self.0;
        wire::Problem {
            kind: format!("urn:ledger:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.clone(),
            code: code.clone(),
            what_to_do: what_to_do.clone(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.to_wire()).expect("strings and numbers are JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ServerError> for Problem {
    fn from(error: ServerError) -> Self {
        let status = error.status();
        let mut problem = Self::new(status, error.code(), error.to_string(), advice(status));
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            problem.0.retry_after_s = Some(RETRY_AFTER_S);
        }
        problem
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        ServerError::from(error).into()
    }
}

/// What a class of errors asks of the caller; the detail says it of the case.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            "wait for the seconds that Retry-After says, then send the same again"
        }
        StatusCode::SERVICE_UNAVAILABLE => "look at /readyz, wait, then send the same again with the same id",
        StatusCode::CONFLICT => "read what is there, then decide anew",
        StatusCode::FORBIDDEN => "ask the fleet's owner for a grant that permits it",
        StatusCode::NOT_FOUND => "check the name; lists show what is there",
        StatusCode::UNPROCESSABLE_ENTITY => "correct what the detail names and send it again",
        StatusCode::BAD_GATEWAY => "check the gateway's address and that it runs",
        _ => "look at the daemon's own log and run `ledger verify`",
    }
}
