//! `POST /v1/receipts`: a statement becomes a receipt.

use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::wire::{self, Answer, AppendBody, AppendSaid, Appended};
use super::{Api, view};
use axum::extract::State;
use data_encoding::BASE64;
use http::StatusCode;
use ledger::core::{Draft, Kind, ReceiptId, Subject};
use serde_json::Value;
use std::sync::Arc;

/// Appends a custom kind (`x.`) for the local actor, or what somebody signed: a custom kind, a root's grant.
#[utoipa::path(
    post, path = "/v1/receipts", operation_id = "append_receipt", tag = "receipts", request_body = AppendSaid,
    responses(
        (status = 201, description = "The receipt is durable", body = Answer<Appended>),
        (status = 200, description = "The same was said before", body = Answer<Appended>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn append(
    State(api): State<Arc<Api>>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Appended>>, Problem> {
    let said = match statements::read::<AppendBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(body) => {
            let draft = draft(&body)?;
            if let Some(first) = statements::erased_before(&api, body.id.as_deref(), &draft).await? {
                return again(&api, first).await;
            }
            statements::sign(&api, body.id.as_deref(), move |_| Ok(draft.clone())).await?
        }
    };
    let answer = api.machine.append(said).await?;
    let status = if answer.repeated {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let reply = api.item(move |_, snapshot| {
        Ok(Appended {
            receipt: view::receipt(&answer.receipt, &snapshot.state),
            standing: answer.standing.to_owned(),
            repeated: answer.repeated,
        })
    });
    Ok(reply.await?.status(status))
}

// What was said before and erased since.
async fn again(api: &Api, first: ledger::Receipt) -> Result<Reply<Answer<Appended>>, Problem> {
    let standing = api.machine.standing_of(&first).await.to_owned();
    let reply = api.item(move |_, snapshot| {
        Ok(Appended {
            receipt: view::receipt(&first, &snapshot.state),
            standing,
            repeated: true,
        })
    });
    reply.await
}

fn draft(body: &AppendBody) -> Result<Draft, Problem> {
    let broken = |e: ledger::core::StatementError| Problem::from(crate::error::ServerError::from(e));
    let kind = Kind::new(&body.kind).map_err(broken)?;
    if !kind.is_custom() {
        let detail =
            format!("expected a kind that begins with `x.`, found {kind}; all other names are reserved");
        return Err(Problem::body(detail));
    }
    let mut draft = Draft::custom(kind, Subject::new(&body.subject).map_err(broken)?);
    if let Some(cause) = &body.cause {
        let cause =
            ReceiptId::parse(cause).ok_or_else(|| Problem::body("expected `cause` as a receipt's id"))?;
        draft = draft.cause(cause);
    }
    match content(body)? {
        Some((media, bytes)) => draft.payload(&media, bytes).map_err(broken),
        None => Ok(draft),
    }
}

fn content(body: &AppendBody) -> Result<Option<(String, Vec<u8>)>, Problem> {
    let media = |default: &str| body.media.clone().unwrap_or_else(|| default.to_owned());
    match (&body.payload, &body.payload_base64) {
        (Some(_), Some(_)) => Err(Problem::body(
            "expected `payload` or `payload_base64`, found both",
        )),
        (None, Some(text)) => {
            let bytes = BASE64.decode(text.as_bytes());
            let bytes = bytes.map_err(|_| Problem::body("expected `payload_base64` in base64"))?;
            Ok(Some((media("application/octet-stream"), bytes)))
        }
        (Some(Value::String(text)), None) if media("").starts_with("text/") => {
            Ok(Some((media(""), text.clone().into_bytes())))
        }
        (Some(value), None) => {
            let bytes = serde_json::to_vec(value).expect("a value is JSON");
            Ok(Some((media("application/json"), bytes)))
        }
        (None, None) if body.media.is_some() => {
            Err(Problem::body("expected a payload of `media`, found none"))
        }
        (None, None) => Ok(None),
    }
}
