//! The fleet's rows of `docs/PERFORMANCE.md`.

use super::{Fleet, NODES, Round, middle, percentile};
use crate::measure::{median, median_cost};
use crate::table::{Aim, Row, Table};

/// One round, in words.
pub fn round(round: &Round) -> String {
    let gateway = round.gateway_us.unwrap_or(0.0);
    format!(
        "{:.0} jobs/s, {:.0} µs of CPU a job: gateway {gateway:.0}, nodes {:.0}; for each job {}",
        round.per_second,
        gateway + round.nodes_us,
        round.nodes_us,
        done(std::slice::from_ref(round)),
    )
}

// How often things were done for each job: what batches are shared among.
fn done(rounds: &[Round]) -> String {
    let [claims, pushes, pulls, pulled, commits] =
        [0, 1, 2, 3, 4].map(|at| middle(rounds, |round| round.nodes[at]));
    format!(
        "{:.2} batches at the gateway, {commits:.2} at the nodes; {claims:.2} claims, {pushes:.2} pushes, {pulls:.3} pulls of {pulled:.1} records",
        middle(rounds, |round| round.commits),
    )
}

/// The rows that the fleet is measured by.
pub fn rows(fleet: &Fleet) -> Table {
    let mut rows = Vec::new();
    for (at, nodes) in NODES.into_iter().enumerate() {
        let (ours, table) = (&fleet.rounds[at], &fleet.tables[at]);
        if ours.is_empty() || table.is_empty() {
            continue;
        }
        let s = if nodes == 1 { "" } else { "s" };
        let rate = middle(ours, |r| r.per_second);
        let beside = median_cost(table);
        let ratios = ours.iter().zip(table).map(|(a, b)| a.per_second / b.per_second);
        rows.push(
            Row::new(
                format!("jobs a second, {nodes} node{s}: request, claim, start, success"),
                format!("{rate:.0}/s"),
            )
            .beside(format!(
                "{:.0}/s a table in SQLite, {nodes} worker{s}",
                beside.per_second
            ))
            .ratio(median(ratios.collect()), Aim::AtLeast(1.0)),
        );
        rows.push(
            Row::new(
                format!("the same on 2 cores, {nodes} node{s} and gateway"),
                format!("{rate:.0}/s"),
            )
            .reach(rate, Aim::AtLeast(5000.0), ">= 5000/s"),
        );
        let all = middle(ours, |r| r.nodes_us + r.gateway_us.unwrap_or(0.0));
        rows.push(
            Row::new(
                format!("CPU per job, {nodes} node{s} and gateway"),
                format!("{all:.0} µs"),
            )
            .beside(format!("{:.0} µs SQLite's", beside.cpu_us)),
        );
        let receipts = middle(ours, |r| r.receipts);
        let gateway = middle(ours, |r| r.gateway_us.unwrap_or(0.0));
        rows.push(Row::new(
            format!("of it the gateway's, {nodes} node{s}"),
            format!("{gateway:.0} µs, {receipts:.1} receipts a job"),
        ));
        rows.push(Row::new(
            format!("done for each job, {nodes} node{s}"),
            done(ours),
        ));
    }
    let waits = [
        ("run.started durable, no process", &fleet.lone_ms),
        ("the handler's own first line, as a process", &fleet.process_ms),
    ];
    for (until, ms) in waits.into_iter().filter(|(_, ms)| !ms.is_empty()) {
        rows.push(Row::new(
            format!("submit to {until}, idle node"),
            format!(
                "p50 {:.1} ms, p99 {:.1} ms",
                percentile(ms, 50),
                percentile(ms, 99)
            ),
        ));
    }
    if fleet.processes_s > 0.0 {
        rows.push(Row::new(
            "jobs a second, one real node, `true` as a process under its supervisor, 4 slots",
            format!("{:.0}/s", fleet.processes_s),
        ));
    }
    if let Some(beaten) = &fleet.beaten {
        let what = format!("{} machines that beat: CPU of the gateway", beaten.machines);
        rows.push(match beaten.cores {
            Some(cores) => Row::new(what, format!("{:.1} % of a core", cores * 100.0)),
            None => Row::new(what, "not told here"),
        });
        rows.push(Row::new(
            "of these",
            format!(
                "{:.0} receipts/s, {:.0} requests/s, slowest {:.0} ms",
                beaten.receipts_s, beaten.requests_s, beaten.slowest_ms
            ),
        ));
        if let (Some(before), Some(after)) = (beaten.before_mib, beaten.memory_mib) {
            rows.push(
                Row::new("memory of that gateway", format!("{after:.0} MiB"))
                    .beside(format!("{before:.0} MiB before they came")),
            );
        }
    }
    if let Some((cores, mib)) = fleet.idle {
        rows.push(
            Row::new(
                "an idle gateway with a node: CPU",
                format!("{:.2} % of a core", cores * 100.0),
            )
            .reach(cores * 100.0, Aim::AtMost(1.0), "<= 1 %"),
        );
        rows.push(
            Row::new("an idle gateway with a node: memory", format!("{mib:.0} MiB")).reach(
                mib,
                Aim::AtMost(64.0),
                "<= 64 MiB",
            ),
        );
    }
    Table::of_rows(rows)
}
