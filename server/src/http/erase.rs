//! `POST /v1/receipts/{id}/erase`: a payload is destroyed. Only at the local door; elsewhere authors sign an `erased`
//! themselves and append it.

use super::extract::{Json, PathId};
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, EraseBody, Erased};
use super::{Api, view};
use axum::extract::State;
use std::sync::Arc;

/// Destroys the payload of a receipt, with its salt; the receipt stays.
#[utoipa::path(
    post, path = "/v1/receipts/{id}/erase", operation_id = "erase_receipt", tag = "receipts", request_body = EraseBody,
    params(("id" = String, Path, description = "The receipt's id")),
    responses(
        (status = 200, description = "The payload is in no file of this store any more", body = Answer<Erased>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn erase(
    State(api): State<Arc<Api>>,
    PathId(id): PathId,
    Json(body): Json<EraseBody>,
) -> Result<Reply<Answer<Erased>>, Problem> {
    let done = api.machine.erase(id, &body.reason).await?;
    api.item(move |_, snapshot| {
        let erased_by = done.erased.iter();
        Ok(Erased {
            id: id.to_string(),
            erased_by: erased_by
                .map(|receipt| view::receipt(receipt, &snapshot.state))
                .collect(),
            repeated: done.repeated,
        })
    })
    .await
}
