//! `GET /v1/nodes`, `GET /v1/uptime`, and the operator's wishes about a machine: `drain`, `resume`, `quarantine`.

use super::caller::Caller;
use super::extract::{Json, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::statements::{self, Said};
use super::steer::at_gateway;
use super::wire::{self, Answer, Gauges, HandlerView, Page, UptimeQuery, WishBody, WishSaid, Wished};
use super::{Api, times, view};
use crate::error::ServerError;
use crate::machine::Machine;
use axum::Extension;
use axum::extract::{Path, State};
use ledger::Published;
use ledger::core::kinds::{AnyDetail, Detail, NodeDraining, NodeQuarantined, NodeResumed};
use ledger::core::{Draft, MachineId, Stream, Subject};
use ledger_projections::FleetState;
use ledger_projections::health::{self, NodeView};
use ledger_projections::queue::Refusal;
use ledger_projections::uptime::{self, Window};
use serde_json::Value;
use std::sync::Arc;

/// The machines of the fleet, by name.
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "list_nodes", tag = "nodes",
    responses(
        (status = 200, description = "The machines", body = Page<wire::Node>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Page<wire::Node>>, Problem> {
    caller.may_read()?;
    api.page(|machine, snapshot| {
        let now = machine.now_us();
        let nodes = seen(machine, snapshot, now);
        let nodes = nodes.into_iter().map(|node| shown(node, &snapshot.state, now));
        Ok((nodes.collect(), None))
    })
    .await
}

fn seen(machine: &Machine, snapshot: &Published<FleetState>, now: i64) -> Vec<NodeView> {
    let late_after = health::late_after_us(machine.config.timing.lost_after_ms);
    health::nodes(&snapshot.state, now, late_after, |id| machine.gauges(id))
}

/// How much of a window the machines were there.
#[utoipa::path(
    get, path = "/v1/uptime", operation_id = "show_uptime", tag = "nodes", params(UptimeQuery),
    responses(
        (status = 200, description = "Their uptime", body = Page<wire::Uptime>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn uptime(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<UptimeQuery>,
) -> Result<Reply<Page<wire::Uptime>>, Problem> {
    caller.may_read()?;
    let from = times::parse("since", &query.since)?;
    let until = query
        .until
        .as_deref()
        .map(|text| times::parse("until", text))
        .transpose()?;
    let wanted = query.machine.as_deref().map(machine_id).transpose()?;
    api.page(move |machine, snapshot| {
        let now = machine.now_us();
        let window = Window {
            from,
            until: until.unwrap_or(now).min(now),
            known_until: known_until(machine, snapshot, now),
        };
        if window.from >= window.until {
            return Err(Problem::query(format!(
                "expected `since` before `until` and before now, found {} and {}",
                times::text(window.from),
                times::text(window.until)
            )));
        }
        let state = &snapshot.state;
        let machines: Vec<MachineId> = match &wanted {
            Some(id) => vec![id.clone()],
            None => state
                .machines()
                .filter(|row| !row.retired)
                .map(|row| row.id.clone())
                .collect(),
        };
        let told = machines.iter().map(|id| {
            let told = uptime::uptime(state, id, window);
            told.ok_or_else(|| Problem::from(ServerError::from(Refusal::MachineUnknown(id.clone()))))
        });
        let told = told.map(|told| told.map(|told| uptime_view(&told, window.known_until)));
        Ok((told.collect::<Result<_, _>>()?, None))
    })
    .await
}

// How far this store can tell silence from not having listened.
fn known_until(machine: &Machine, snapshot: &Published<FleetState>, now: i64) -> i64 {
    if machine.is_gateway() && !machine.central.is_idle() {
        return now;
    }
    let logs = snapshot.state.order().map(|order| order.log);
    let logs = logs.into_iter().chain(
        machine
            .ledger
            .own_log(Stream::Pulse)
            .filter(|_| machine.is_gateway()),
    );
    let newest = logs
        .filter_map(|log| snapshot.logs.get(&log))
        .map(|chain| times::hlc_us(chain.time()));
    let told = newest.max().unwrap_or(i64::MIN);
    told.max(machine.link_without_outbox().last_contact_us.unwrap_or(i64::MIN))
        .min(now)
}

fn uptime_view(told: &uptime::Uptime, known_until: i64) -> wire::Uptime {
    let ms = |us: i64| times::ms_between(0, us);
    wire::Uptime {
        machine: told.machine.to_string(),
        from: times::text(told.from),
        until: times::text(told.until),
        known_until: times::text(known_until),
        per_cent: told
            .per_cent_hundredths()
            .map(|hundredths| f64::from(hundredths) / 100.0),
        up_ms: ms(told.up_us),
        outage_ms: ms(told.outage_us),
        asleep_ms: ms(told.asleep_us),
        unknown_ms: ms(told.unknown_us),
        retired_ms: ms(told.retired_us),
        away: told
            .away
            .iter()
            .map(|span| wire::Away {
                kind: span.kind.as_str().to_owned(),
                from: times::text(span.from),
                until: span.until.map(times::text),
                length_ms: ms(span.length_us),
                counted_ms: ms(span.counted_us),
                cause: span.cause.as_str().to_owned(),
            })
            .collect(),
        unknown: told
            .unknown
            .iter()
            .map(|(from, until)| wire::Unwatched {
                from: times::text(*from),
                until: times::text(*until),
            })
            .collect(),
    }
}

/// Gives a machine no further work; what it runs goes on.
#[utoipa::path(
    post, path = "/v1/nodes/{machine}/drain", operation_id = "drain_node", tag = "nodes", request_body = WishSaid,
    params(("machine" = String, Path, description = "The machine")),
    responses(
        (status = 200, description = "It drains", body = Answer<Wished>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn drain(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Wished>>, Problem> {
    wish(&api, &machine, body, |machine, reason| NodeDraining {
        machine,
        reason,
    })
    .await
}

/// Gives a machine work again: ends draining and quarantine.
#[utoipa::path(
    post, path = "/v1/nodes/{machine}/resume", operation_id = "resume_node", tag = "nodes", request_body = WishSaid,
    params(("machine" = String, Path, description = "The machine")),
    responses(
        (status = 200, description = "It gets work again", body = Answer<Wished>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Wished>>, Problem> {
    wish(&api, &machine, body, |machine, reason| NodeResumed {
        machine,
        reason,
    })
    .await
}

/// Trusts a machine with no work until somebody has looked.
#[utoipa::path(
    post, path = "/v1/nodes/{machine}/quarantine", operation_id = "quarantine_node", tag = "nodes",
    request_body = WishSaid, params(("machine" = String, Path, description = "The machine")),
    responses(
        (status = 200, description = "It is quarantined", body = Answer<Wished>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn quarantine(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply<Answer<Wished>>, Problem> {
    wish(&api, &machine, body, |machine, reason| NodeQuarantined {
        machine,
        reason,
    })
    .await
}

async fn wish<D: Detail>(
    api: &Arc<Api>,
    machine: &str,
    body: Value,
    of: impl Fn(MachineId, String) -> D,
) -> Result<Reply<Answer<Wished>>, Problem> {
    let id = machine_id(machine)?;
    at_gateway(api, "takes machines in and out of work")?;
    let said = match statements::read::<WishBody>(api.door, body)? {
        Said::Signed(said) => statements::verify(said).await?,
        Said::Plain(WishBody { reason }) => {
            let subject = Subject::new(&format!("node/{id}")).expect("short and printable");
            let draft = Draft::of(&of(id.clone(), reason), subject);
            statements::sign(api, None, move |_| Ok(draft.clone())).await?
        }
    };
    let statement = said.statement();
    let about = match statement.any_detail() {
        Ok(AnyDetail::NodeDraining(d)) => Some((d.machine, d.reason)),
        Ok(AnyDetail::NodeResumed(d)) => Some((d.machine, d.reason)),
        Ok(AnyDetail::NodeQuarantined(d)) => Some((d.machine, d.reason)),
        _ => None,
    };
    let about = about.filter(|(machine, _)| statement.kind.as_str() == D::KIND && *machine == id);
    let Some((_, reason)) = about else {
        return Err(Problem::body(format!(
            "expected a {} about {id}, found another statement",
            D::KIND
        )));
    };
    let checked = health::check_wish(&api.machine.ledger.snapshot().state, &id, &reason);
    checked.map_err(ServerError::from)?;
    let answer = api.machine.append(said).await?;
    let reply = api.item(move |machine, snapshot| {
        let now = machine.now_us();
        let node = seen(machine, snapshot, now)
            .into_iter()
            .find(|node| node.machine == id);
        let node = node.ok_or_else(|| ServerError::from(Refusal::MachineUnknown(id)))?;
        Ok(Wished {
            node: shown(node, &snapshot.state, now),
            receipt: view::receipt(&answer.receipt, &snapshot.state),
            standing: answer.standing.to_owned(),
        })
    });
    reply.await
}

/// Reads a machine's name.
pub(super) fn machine_id(text: &str) -> Result<MachineId, Problem> {
    MachineId::new(text).map_err(|e| Problem::query(e.to_string()))
}

fn shown(node: NodeView, state: &FleetState, now: i64) -> wire::Node {
    let row = state.machine(&node.machine);
    let handlers = state.handlers().filter(|((of, _), _)| *of == node.machine);
    wire::Node {
        role: node.role.to_string(),
        status: node.state.as_str().to_owned(),
        since: times::text(node.since),
        reason: node.reason.clone(),
        held_back: node.held_back,
        silent_ms: node.silent_us.map(|us| times::ms_between(0, us)),
        joined_at: row.map(|row| times::text(row.joined_at)).unwrap_or_default(),
        machine_key: row.map(|row| row.machine_key.to_hex()).unwrap_or_default(),
        is_central: node.central,
        queued: u64::try_from(node.queued).unwrap_or(u64::MAX),
        gauges: node.gauges.as_ref().map(|gauges| gauges_view(gauges, now)),
        handlers: handlers
            .map(|((_, name), handler)| HandlerView {
                name: name.clone(),
                class: handler.class.to_string(),
                labels: handler.labels.clone(),
                slots: handler.slots,
            })
            .collect(),
        jobs: node.jobs.iter().map(ToString::to_string).collect(),
        machine: node.machine.to_string(),
    }
}

fn gauges_view(gauges: &health::Gauges, now: i64) -> Gauges {
    let pulse = &gauges.pulse;
    Gauges {
        heard_at: times::text(gauges.heard_at),
        age_ms: times::ms_between(gauges.heard_at, now),
        cpu_per_mille: pulse.cpu_per_mille,
        load1_centi: pulse.load1_centi,
        memory_used_bytes: pulse.memory_used_bytes,
        memory_total_bytes: pulse.memory_total_bytes,
        disk_free_bytes: pulse.disk_free_bytes,
        disk_total_bytes: pulse.disk_total_bytes,
        disk_reserve_bytes: pulse.disk_reserve_bytes,
        uptime_s: pulse.uptime_s,
        slots_used: pulse.slots_used,
        slots_total: pulse.slots_total,
        outbox_receipts: pulse.outbox_receipts,
        outbox_bytes: pulse.outbox_bytes,
        outbox_oldest_age_ms: pulse.outbox_oldest.map(|oldest| times::ms_between(oldest, now)),
        clock_offset_ms: pulse.clock_offset_ms,
        temperature_milli_c: pulse.temperature_milli_c,
        os_boot: pulse.boot.map(|boot| data_encoding::HEXLOWER.encode(&boot.0)),
        version: pulse.version.clone(),
        services: pulse
            .services
            .iter()
            .map(|gauge| wire::ServiceView {
                service: gauge.service.clone(),
                state: health::service_name(gauge.state).to_owned(),
            })
            .collect(),
    }
}
