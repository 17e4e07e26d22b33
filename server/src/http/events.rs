//! `GET /v1/events`: the live tail as server-sent events.
//!
//! Owns: reading the store behind a cursor in the order in which it learned things, a bounded part at a time, when the
//! reader wants more. Contract: resumed behind the last id that was seen, nothing is lost and nothing comes twice; a
//! silent tail says so every [`HEARTBEAT_EVERY`], with the cursor that it has reached. A slow reader slows its own tail
//! and nothing else. At the network door a tail is for bearers of a token: a stream has no end that a signature could
//! cover, so callers who sign are refused. Does not: hold a thread while nothing happens.

use super::caller::Caller;
use super::cursor::{Cursor, EventKey};
use super::extract::Query;
use super::limits::{HEARTBEAT_EVERY, PAGE_LOOKED_AT_MAX, TAIL_EVENTS_MAX};
use super::problem::Problem;
use super::wire::{self, EventsQuery};
use super::{Api, reply, select, view};
use crate::closing::Closing;
use crate::machine::Machine;
use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderName, StatusCode};
use ledger::{LedgerError, Position, Receipt};
use ledger_projections::timeline::Filter;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The `after` that begins with the store's first receipt.
const START: &str = "start";

/// Receipts as this store learns them.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "tail_events", tag = "receipts", params(EventsQuery),
    responses(
        (status = 200, description = "Events named `receipt`, each with a cursor as its id and a receipt as its data",
            body = wire::Receipt, content_type = "text/event-stream"),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tail(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    caller.may_read()?;
    if matches!(caller, Caller::Key(..)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "events.needs-token",
            "expected a bearer token: a live tail has no end that a signature could cover",
            "bring a token made by `ledger token new`, or use the machine's own socket",
        ));
    }
    let permit = Arc::clone(&api.tails).try_acquire_owned().map_err(|_| {
        Problem::busy(
            StatusCode::SERVICE_UNAVAILABLE,
            "expected fewer live tails at once, found every place taken",
        )
    })?;
    let filter = select::of_events(&query)?;
    let last_id = last_event_id(&headers)?;
    let after = last_id.or(query.after);
    let machine = Arc::clone(&api.machine);
    let changed = machine.changed();
    let (_, reached) = api
        .look(move |machine, snapshot| start(machine, reply::newest(machine, snapshot)?, after))
        .await?;
    let door = closing.map(|Extension(door)| door).unwrap_or_default();
    let first = reached.key.map(|key| Event::default().id(key.to_text()));
    let tail = Tail {
        machine,
        filter: Arc::new(filter),
        reached,
        told: None,
        ready: first.into_iter().collect(),
        changed,
        door,
        silent_since: Instant::now(),
        _permit: permit,
    };
    Ok(Sse::new(unfold(tail, |mut tail| async move {
        tail.next().await.map(|event| (Ok(event), tail))
    })))
}

// A header that is not understood is no reason to begin somewhere else: what came in between would be lost unseen.
fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(&LAST_EVENT_ID).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let text = text.ok_or_else(|| {
        Problem::query("expected one Last-Event-ID with a cursor of this tail, found something else")
    })?;
    Ok(Some(text.to_owned()))
}

/// How far a tail has read.
#[derive(Clone, Copy)]
struct Reached {
    position: Position,
    key: Option<EventKey>,
}

impl Reached {
    fn at(receipt: &Receipt) -> Self {
        Self {
            position: receipt.position,
            key: Some(EventKey {
                log: receipt.log(),
                seq: receipt.seq(),
            }),
        }
    }

    const START: Reached = Reached {
        position: Position::START,
        key: None,
    };
}

/// Where a tail begins: behind its cursor, at the store's beginning, or behind what is newest now.
fn start(machine: &Machine, newest: Option<Receipt>, after: Option<String>) -> Result<Reached, Problem> {
    let Some(text) = after else {
        return Ok(newest.map_or(Reached::START, |receipt| Reached::at(&receipt)));
    };
    if text == START {
        return Ok(Reached::START);
    }
    let key = EventKey::read(&text)?;
    // The place in the journal is looked up, never carried: recovery may have moved the tail that was not yet proven.
    let receipt = machine.ledger.get(&key.log, key.seq)?.ok_or_else(|| {
        Problem::new(
            StatusCode::GONE,
            "events.cursor-gone",
            "expected a cursor of this store, found one behind a receipt that it does not have",
            "begin anew with after=start, or list with GET /v1/receipts",
        )
    })?;
    Ok(Reached::at(&receipt))
}

struct Tail {
    machine: Arc<Machine>,
    filter: Arc<Filter>,
    reached: Reached,
    // The cursor that the reader knows, so that a heartbeat tells it only when it moved.
    told: Option<EventKey>,
    ready: VecDeque<Event>,
    changed: watch::Receiver<Position>,
    door: Closing,
    silent_since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Why a tail woke.
enum Woken {
    Changed,
    Silent,
    Over,
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.silent_since = Instant::now();
                return Some(event);
            }
            self.changed.mark_unchanged();
            let from = self.reached.position;
            match self.read().await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(code = error.code(), %error, "a live tail cannot read on");
                    return None;
                }
            }
            if !self.ready.is_empty() || self.reached.position != from {
                continue;
            }
            match self.wait().await {
                Woken::Changed => {}
                Woken::Silent => return Some(self.heartbeat()),
                Woken::Over => return None,
            }
        }
    }

    async fn read(&mut self) -> Result<(), LedgerError> {
        let (machine, filter, from) = (Arc::clone(&self.machine), Arc::clone(&self.filter), self.reached);
        let reading = tokio::task::spawn_blocking(move || read(&machine, &filter, from));
        let (events, reached) = reading
            .await
            .map_err(|_| LedgerError::Closed("reading it failed".to_owned()))??;
        if !events.is_empty() {
            self.told = reached.key;
        }
        self.ready.extend(events);
        self.reached = reached;
        Ok(())
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            changed = self.changed.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Over },
            () = sleep_until(self.silent_since + HEARTBEAT_EVERY) => Woken::Silent,
            () = self.door.wait() => Woken::Over,
        }
    }

    fn heartbeat(&mut self) -> Event {
        self.silent_since = Instant::now();
        let event = Event::default().comment("here");
        match self.reached.key.filter(|key| self.told != Some(*key)) {
            Some(key) => {
                self.told = Some(key);
                event.id(key.to_text())
            }
            None => event,
        }
    }
}

/// The next part of the store. Blocks.
fn read(
    machine: &Machine,
    filter: &Filter,
    from: Reached,
) -> Result<(VecDeque<Event>, Reached), LedgerError> {
    let snapshot = machine.ledger.snapshot();
    let (mut events, mut reached) = (VecDeque::new(), from);
    for receipt in machine.ledger.scan(from.position).take(PAGE_LOOKED_AT_MAX) {
        let receipt = receipt?;
        reached = Reached::at(&receipt);
        if filter.matches(&receipt, &snapshot.state) {
            let key = EventKey {
                log: receipt.log(),
                seq: receipt.seq(),
            };
            let data = serde_json::to_string(&view::receipt(&receipt, &snapshot.state))
                .expect("wire types are JSON");
            events.push_back(Event::default().event("receipt").id(key.to_text()).data(data));
        }
        if events.len() == TAIL_EVENTS_MAX {
            break;
        }
    }
    Ok((events, reached))
}
