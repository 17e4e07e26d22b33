//! `POST /v1/verify`: what the nightly verification does, now. Only at the local door.

use super::Api;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer};
use crate::nightly::verify_now;
use axum::extract::State;
use serde_json::Value;
use std::sync::Arc;

/// Verifies the store from disk and keeps the outcome as a receipt; answers with the report, whose `kept` says whether the
/// outcome could be kept.
#[utoipa::path(
    post, path = "/v1/verify", operation_id = "verify_store", tag = "status",
    responses(
        (status = 200, description = "The report", body = Answer<Value>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn verify(State(api): State<Arc<Api>>) -> Result<Reply<Answer<Value>>, Problem> {
    let verified = verify_now(&api.machine).await?;
    let mut report =
        serde_json::to_value(&verified.report).map_err(|_| Problem::broken("writing the report"))?;
    if let Some(report) = report.as_object_mut() {
        report.insert("kept".to_owned(), Value::Bool(verified.kept));
    }
    api.item(move |_, _| Ok(report)).await
}
