//! `GET /v1/nodes`.

use super::caller::Caller;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Gauges, HandlerView, Page};
use super::{Api, times};
use axum::Extension;
use axum::extract::State;
use ledger_projections::FleetState;
use ledger_projections::health::{self, NodeView};
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
        let late_after = health::late_after_us(machine.config.timing.lost_after_ms);
        let nodes = health::nodes(&snapshot.state, now, late_after, |id| machine.gauges(id));
        Ok((
            nodes
                .into_iter()
                .map(|node| view(node, &snapshot.state, now))
                .collect(),
            None,
        ))
    })
    .await
}

fn view(node: NodeView, state: &FleetState, now: i64) -> wire::Node {
    let row = state.machine(&node.machine);
    let handlers = state.handlers().filter(|((of, _), _)| *of == node.machine);
    wire::Node {
        role: node.role.to_string(),
        status: node.state.as_str().to_owned(),
        since: times::text(node.since),
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
        uptime_s: pulse.uptime_s,
        slots_used: pulse.slots_used,
        slots_total: pulse.slots_total,
        outbox_receipts: pulse.outbox_receipts,
        clock_offset_ms: pulse.clock_offset_ms,
    }
}
