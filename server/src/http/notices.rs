//! `GET /v1/notices` and `POST /v1/notices/{id}/acknowledge`: what people were told, and that somebody has seen it.

use super::caller::Caller;
use super::cursor::{Cursor, NoticeKey};
use super::extract::{Json, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::steer::at_gateway;
use super::wire::{self, Answer, NoticeDelivery, NoticesQuery, Page, Seen, SeenBody, SeenSaid};
use super::{Api, select, times, view};
use crate::error::ServerError;
use axum::Extension;
use axum::extract::{Path, State};
use ledger::core::kinds::{AnyDetail, NoticeAcknowledged};
use ledger::core::limits::NOTE_BYTES_MAX;
use ledger::core::{Draft, ReceiptId, Subject};
use ledger_projections::FleetState;
use ledger_projections::notices::Notice;
use serde_json::Value;
use std::cmp::Reverse;
use std::sync::Arc;

/// What people were told, the newest first.
#[utoipa::path(
    get, path = "/v1/notices", operation_id = "list_notices", tag = "status", params(NoticesQuery),
    responses(
        (status = 200, description = "The notices", body = Page<wire::Notice>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<NoticesQuery>,
) -> Result<Reply<Page<wire::Notice>>, Problem> {
    caller.may_read()?;
    let limit = select::page_size(query.limit)?;
    let before = query.cursor.as_deref().map(NoticeKey::read).transpose()?;
    let open = match query.only.as_deref() {
        None => false,
        Some("open") => true,
        Some(other) => {
            return Err(Problem::query(format!(
                "expected `only` to be open, found {other:?}"
            )));
        }
    };
    api.page(move |_, snapshot| {
        let state = &snapshot.state;
        let all: Box<dyn Iterator<Item = (&ReceiptId, &Notice)>> = if open {
            Box::new(state.open_notices())
        } else {
            Box::new(state.notices())
        };
        let key = |(id, notice): &(&ReceiptId, &Notice)| NoticeKey {
            raised_at: notice.raised_at,
            id: **id,
        };
        let behind = |found: &(&ReceiptId, &Notice)| before.is_none_or(|before| key(found) < before);
        let mut found: Vec<_> = all.filter(behind).collect();
        found.sort_by_key(|found| Reverse(key(found)));
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| key(last).to_text());
        let shown = found.into_iter().map(|(id, notice)| shown(id, notice, state));
        Ok((shown.collect(), next))
    })
    .await
}

/// Somebody has seen it: whoever was not told of it is told no more.
#[utoipa::path(
    post, path = "/v1/notices/{id}/acknowledge", operation_id = "acknowledge_notice", tag = "status", request_body = SeenSaid,
    params(("id" = String, Path, description = "The notice")),
    responses(
        (status = 200, description = "It is seen", body = Answer<Seen>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn acknowledge(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Seen>>, Problem> {
    let id = statements::read_id(&id)?;
    at_gateway(&api, "keeps notices")?;
    if api.machine.ledger.snapshot().state.notice(&id).is_none() {
        return Err(ServerError::NotFound(format!("no notice is called {id}")).into());
    }
    let said = match statements::read::<SeenBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(SeenBody { note }) => {
            let detail = NoticeAcknowledged { notice: id, note };
            let subject = Subject::new(&format!("notice/{id}")).expect("short and printable");
            let draft = Draft::of(&detail, subject).cause(id);
            statements::sign(&api, None, move |_| Ok(draft.clone())).await?
        }
    };
    match said.statement().any_detail() {
        Ok(AnyDetail::NoticeAcknowledged(d)) if d.notice == id && d.note.len() <= NOTE_BYTES_MAX => {}
        _ => {
            return Err(Problem::body(format!(
                "expected a notice.acknowledged of {id} with at most {NOTE_BYTES_MAX} bytes of note, found another statement"
            )));
        }
    }
    let answer = api.machine.append(said).await?;
    let reply = api.item(move |_, snapshot| {
        let state = &snapshot.state;
        let gone = || ServerError::NotFound(format!("no notice is called {id}"));
        let notice = state.notice(&id).ok_or_else(gone)?;
        Ok(Seen {
            notice: shown(&id, notice, state),
            receipt: view::receipt(&answer.receipt, state),
        })
    });
    reply.await
}

/// A notice as callers see it.
pub(super) fn shown(id: &ReceiptId, notice: &Notice, state: &FleetState) -> wire::Notice {
    wire::Notice {
        id: id.to_string(),
        topic: topic(notice),
        machine: notice.machine.as_ref().map(ToString::to_string),
        text: notice.text.clone(),
        raised_at: times::text(notice.raised_at),
        open: state.is_open_notice(id),
        acknowledged_at: notice.acknowledged_at.map(times::text),
        deliveries: notice
            .deliveries
            .iter()
            .map(|delivery| NoticeDelivery {
                destination: delivery.destination.clone(),
                attempts: delivery.attempts,
                delivered: delivery.delivered,
                error: delivery.error.clone(),
            })
            .collect(),
    }
}

// The stable word of its topic.
fn topic(notice: &Notice) -> String {
    let word = serde_json::to_value(notice.topic).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}
