//! `GET /v1/receipts`, `GET /v1/receipts/{id}`.

use super::caller::Caller;
use super::cursor::{Cursor, ReceiptKey};
use super::extract::{PathId, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, Page, ReceiptFull, ReceiptsQuery};
use super::{Api, merge, select, view};
use axum::Extension;
use axum::extract::State;
use ledger::core::{ReceiptId, Subject};
use std::sync::Arc;

/// Receipts of all logs here, oldest first by (HLC, machine, stream, seq).
#[utoipa::path(
    get, path = "/v1/receipts", operation_id = "list_receipts", tag = "receipts", params(ReceiptsQuery),
    responses(
        (status = 200, description = "A page of receipts", body = Page<wire::Receipt>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ReceiptsQuery>,
) -> Result<Reply<Page<wire::Receipt>>, Problem> {
    caller.may_read()?;
    let limit = select::page_size(query.limit)?;
    let after = query.cursor.as_deref().map(ReceiptKey::read).transpose()?;
    api.page(move |machine, snapshot| {
        let filter = select::of_receipts(&query, machine, snapshot)?;
        let merged = match indexed_subject(query.subject.as_deref()) {
            Some(subject) => {
                let found = machine.ledger.by_subject(&subject)?;
                merge::page_of(snapshot, found, &filter, after.as_ref(), limit)
            }
            None => merge::page(machine, snapshot, &filter, after.as_ref(), limit)?,
        };
        let items = merged
            .receipts
            .iter()
            .map(|receipt| view::receipt(receipt, &snapshot.state))
            .collect();
        Ok((items, merged.next.map(|key| key.to_text())))
    })
    .await
}

/// A whole job as a subject, which the index finds; any other text may be the beginning of many.
fn indexed_subject(subject: Option<&str>) -> Option<Subject> {
    let subject = subject?;
    let id = ReceiptId::parse(subject.strip_prefix("job/")?)?;
    Subject::new(subject)
        .ok()
        .filter(|_| subject.len() == "job/".len() + id.to_string().len())
}

/// Every receipt with an id, oldest first: ids are their authors' own.
#[utoipa::path(
    get, path = "/v1/receipts/{id}", operation_id = "show_receipt", tag = "receipts", params(("id" = String, Path, description = "The receipt's id")),
    responses(
        (status = 200, description = "The receipts with this id", body = Answer<Vec<ReceiptFull>>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
) -> Result<Reply<Answer<Vec<ReceiptFull>>>, Problem> {
    caller.may_read()?;
    api.item(move |machine, snapshot| {
        let mut full = Vec::new();
        for receipt in machine.ledger.find(&id)? {
            let payload = machine.ledger.payload(&receipt)?;
            full.push(view::receipt_full(&receipt, payload, &snapshot.state));
        }
        if full.is_empty() {
            let detail = format!("expected a receipt with id {id}, found none in this store");
            return Err(Problem::unknown(
                "receipt.unknown",
                detail,
                "ask the gateway, which has what was pushed to it",
            ));
        }
        Ok(full)
    })
    .await
}
