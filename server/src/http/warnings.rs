//! What a person should look at on this machine, each with what to do about it.
//!
//! Derived from the state and from what the process knows beside it; keeps nothing. A warning's code is stable, its text is not.

use super::wire::{Disk, Verification, Warning};
use crate::machine::{LastVerify, LinkView, Machine};
use ledger_projections::FleetState;
use ledger_projections::notices::Notice;
use ledger_projections::queue::Phase;
use std::os::unix::fs::MetadataExt;

/// A verification older than this is told of, in milliseconds: two nights.
const VERIFICATION_AGE_MS_MAX: u64 = 48 * 60 * 60 * 1000;
/// How far the clock may be off the gateway's before it is told, in milliseconds: well before receipts are refused for it.
const CLOCK_OFFSET_MS_MAX: u64 = 5_000;

fn warning(code: &str, text: String, what_to_do: &str) -> Warning {
    Warning {
        code: code.to_owned(),
        text,
        what_to_do: what_to_do.to_owned(),
    }
}

/// All that stand now: the worst first.
pub(super) fn warnings(
    machine: &Machine,
    state: &FleetState,
    link: &LinkView,
    disk: Option<&Disk>,
    (verified, verification): (&LastVerify, Option<&Verification>),
    not_ready: &[String],
) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = not_ready
        .iter()
        .map(|reason| {
            warning(
                "store.not-ready",
                reason.clone(),
                "look at the daemon's own log; run `ledger verify`",
            )
        })
        .collect();
    warnings.extend(of_files(machine, disk));
    warnings.extend(of_verification(verified, verification));
    warnings.extend(of_link(machine, link));
    warnings.extend(of_vault(machine));
    warnings.extend(of_notices(state));
    warnings.extend(of_machines(state));
    warnings.extend(of_queue(state));
    warnings
}

fn of_files(machine: &Machine, disk: Option<&Disk>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(disk) = disk.filter(|disk| disk.below_reserve) {
        let text = format!(
            "{} MiB of the disk are free, {} MiB are to stay free; no new work is taken here",
            disk.free_bytes >> 20,
            disk.reserve_bytes >> 20
        );
        warnings.push(warning(
            "disk.reserve",
            text,
            "make room; runs that go on, their results and notices are kept meanwhile",
        ));
    }
    let paths = machine.ledger.paths();
    if std::fs::read_dir(paths.root()).is_ok_and(|mut entries| entries.next().is_some()) {
        warnings.push(warning(
            "root.on-machine",
            "the fleet's root key lies on this machine, in DIR/root".to_owned(),
            "move DIR/root to a safe place off the machines",
        ));
    }
    for (name, path) in [("keys", paths.keys()), ("root", paths.root())] {
        if std::fs::metadata(&path).is_ok_and(|meta| meta.mode() & 0o077 != 0) {
            warnings.push(warning(
                "keys.modes",
                format!("others may enter DIR/{name}"),
                "chmod 700 it, and 600 each file in it",
            ));
        }
    }
    warnings
}

fn of_verification(verified: &LastVerify, verification: Option<&Verification>) -> Option<Warning> {
    match verification {
        None => Some(warning(
            "verify.none",
            match verified {
                LastVerify::NoneAmong(facts) => {
                    format!("no verification of this store is among its newest {facts} facts")
                }
                _ => "no verification of this store is known".to_owned(),
            },
            "run `ledger verify --record`, or let the daemon run through a night",
        )),
        Some(last) if !last.clean => Some(warning(
            "verify.found",
            format!(
                "the last verification found {} faults (receipt {})",
                last.findings, last.receipt
            ),
            "run `ledger verify`, which names each, and restore from a copy or a peer",
        )),
        Some(last) if last.age_ms > VERIFICATION_AGE_MS_MAX => Some(warning(
            "verify.old",
            format!("the last verification was {} hours ago", last.age_ms / 3_600_000),
            "run `ledger verify`, and see that the nightly one is enabled",
        )),
        Some(_) => None,
    }
}

fn of_link(machine: &Machine, link: &LinkView) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !machine.is_gateway() && !link.connected {
        let text = format!(
            "no contact with the gateway; {} receipts are on this disk alone",
            link.outbox_receipts
        );
        warnings.push(warning(
            "link.down",
            text,
            "check that the gateway runs and can be reached; nothing is lost meanwhile",
        ));
    }
    if let Some(why) = &link.order_forked {
        warnings.push(warning(
            "order.forked",
            format!("this machine cannot follow the fleet's order, and gets no work: {why}"),
            "what it says and did is still taken in; when its outbox is empty, stop it, keep its directory, and let it join anew in \
             an empty one: `ledger invite --machine NAME` on the gateway",
        ));
    }
    let offset_ms = link.clock_offset_ms.unwrap_or(0);
    if offset_ms.unsigned_abs() > CLOCK_OFFSET_MS_MAX {
        let side = if offset_ms > 0 { "ahead of" } else { "behind" };
        let text = format!(
            "this machine's clock is {} s {side} the gateway's",
            offset_ms.unsigned_abs() / 1000
        );
        warnings.push(warning(
            "clock.offset",
            text,
            "set it; let NTP run on both machines",
        ));
    }
    warnings
}

fn of_vault(machine: &Machine) -> Option<Warning> {
    let why = machine.vault_page("", None, 0).ok()?.halted?;
    Some(warning(
        "vault.waits",
        format!("the Vault's index here {why}"),
        "ask the gateway, which has the logs of all machines",
    ))
}

fn of_notices(state: &FleetState) -> Option<Warning> {
    let open = state.open_notices().map(|(_, notice)| notice);
    let mut untold: Vec<&Notice> = open.filter(|notice| notice.is_undelivered()).collect();
    untold.sort_by_key(|notice| notice.raised_at);
    let newest = untold.last()?;
    let failed = newest.deliveries.iter().find(|delivery| !delivery.delivered);
    let sink = failed.map_or("nobody", |delivery| delivery.destination.as_str());
    let text = format!(
        "{} notices did not reach everybody; the newest not {sink}: {}",
        untold.len(),
        newest.text
    );
    Some(warning(
        "notice.undelivered",
        text,
        "`ledger notices list --open` tells why; mend the sink, or say that you saw them: `ledger notices ack --all`",
    ))
}

fn of_machines(state: &FleetState) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for row in state.machines().filter(|row| !row.retired) {
        let watched = state.watched(&row.id);
        if let Some(held) = watched.and_then(|watched| watched.quarantined.as_ref()) {
            warnings.push(warning(
                "node.quarantined",
                format!("{} is quarantined: {}", row.id, held.reason),
                "find out what it did; `ledger nodes resume` trusts it again",
            ));
        } else if let Some(held) = watched.and_then(|watched| watched.draining.as_ref()) {
            warnings.push(warning(
                "node.draining",
                format!("{} gets no further work: {}", row.id, held.reason),
                "`ledger nodes resume` ends it",
            ));
        }
        if !row.is_online() && !state.is_asleep(&row.id) {
            warnings.push(warning(
                "node.offline",
                format!("{} is offline", row.id),
                "wake it, or retire it with `ledger nodes retire`",
            ));
        }
    }
    warnings
}

fn of_queue(state: &FleetState) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = state
        .queue()
        .pauses()
        .map(|(handler, pause)| {
            warning(
                "handler.paused",
                format!("handler {handler} is paused: {}", pause.reason),
                "`ledger handlers resume` ends it",
            )
        })
        .collect();
    let parked = state.jobs_in(Phase::Parked).count();
    if parked > 0 {
        warnings.push(warning(
            "job.parked",
            format!("{parked} jobs are parked"),
            "look at them with `ledger jobs list --state parked`",
        ));
    }
    warnings
}
