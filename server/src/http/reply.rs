//! Answers: the item, as of which receipt it is, and how old that is, in the body and in a header.

use super::times;
use super::wire::{Answer, AsOf, Page};
use crate::machine::Machine;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;

/// The header that repeats as of which receipt an answer is: `<log>/<seq>`.
pub(crate) static AS_OF: HeaderName = HeaderName::from_static("ledger-as-of");

/// An answer with its status.
pub(crate) struct Reply<T> {
    pub(crate) status: StatusCode,
    pub(crate) as_of: AsOf,
    pub(crate) body: T,
}

impl<T> Reply<T> {
    pub(crate) fn item(as_of: AsOf, item: T) -> Reply<Answer<T>> {
        Reply {
            status: StatusCode::OK,
            as_of: as_of.clone(),
            body: Answer { as_of, item },
        }
    }

    pub(crate) fn page(as_of: AsOf, items: Vec<T>, next_cursor: Option<String>) -> Reply<Page<T>> {
        Reply {
            status: StatusCode::OK,
            as_of: as_of.clone(),
            body: Page {
                as_of,
                items,
                next_cursor,
            },
        }
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl<T: serde::Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if let (Some(log), Some(seq)) = (&self.as_of.log, self.as_of.seq)
            && let Ok(value) = HeaderValue::from_str(&format!("{log}/{seq}"))
        {
            response.headers_mut().insert(&AS_OF, value);
        }
        response
    }
}

/// A plain JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("wire types are JSON");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The receipt that this store learned last. Reads nothing unless none came since it was opened.
pub(crate) fn newest(
    machine: &Machine,
    snapshot: &Published<FleetState>,
) -> Result<Option<Receipt>, LedgerError> {
    if let Some(receipt) = &snapshot.newest {
        return Ok(Some(receipt.clone()));
    }
    let mut newest: Option<Receipt> = None;
    for chain in snapshot.logs.values() {
        let receipt = machine.ledger.get(&chain.log(), chain.tip().0)?;
        newest = newest
            .into_iter()
            .chain(receipt)
            .max_by_key(|receipt| receipt.position);
    }
    Ok(newest)
}

/// As of which receipt a snapshot is.
pub(crate) fn as_of(machine: &Machine, snapshot: &Published<FleetState>) -> Result<AsOf, LedgerError> {
    let newest = newest(machine, snapshot)?;
    let time_us = newest.as_ref().map(|receipt| times::hlc_us(receipt.time()));
    Ok(AsOf {
        receipt: newest.as_ref().map(|receipt| receipt.id().to_string()),
        log: newest.as_ref().map(|receipt| receipt.log().to_hex()),
        seq: newest.as_ref().map(Receipt::seq),
        time: time_us.map(times::text),
        age_ms: time_us.map(|us| times::ms_between(us, machine.now_us())),
        position: snapshot.end.to_string(),
        standing: if snapshot.state.is_central() {
            "central"
        } else {
            "mirror"
        }
        .to_owned(),
    })
}
