//! `GET /v1/status`: who answers here, how it is doing, and what a person should look at.

use super::caller::Caller;
use super::problem::Problem;
use super::reply::Reply;
use super::warnings::warnings;
use super::wire::{
    self, Answer, Counts, Disk, JobsHere, Link, LogHead, Notice, Outbox, ProjectionView, Status, Verification,
};
use super::{Api, health, notices, times};
use crate::heartbeat::disk_space;
use crate::machine::{LastVerify, LinkView, Machine};
use axum::Extension;
use axum::extract::State;
use ledger::anchor::Anchor;
use ledger::core::kinds::{AnyDetail, Detail, Verdict, VerifyCompleted};
use ledger::core::{LogId, Stream};
use ledger::storage::DiskStorage;
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;
use ledger_projections::queue::Phase;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Undelivered notices in an answer at most.
const UNDELIVERED_MAX: usize = 5;

/// Receipts of the machine's facts that are looked through for the last verification: a large Vault's scan since.
const FACTS_LOOKED_BACK_MAX: u64 = 5_000;
/// Receipts that are read at once while looking back.
const FACTS_AT_ONCE: u64 = 250;

/// The machine's own standing.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "show_status", tag = "status",
    responses(
        (status = 200, description = "The machine's standing", body = Answer<Status>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Reply<Answer<Status>>, Problem> {
    caller.may_read()?;
    api.item(|machine, snapshot| Ok(status(machine, snapshot)?)).await
}

fn status(machine: &Machine, snapshot: &Published<FleetState>) -> Result<Status, LedgerError> {
    let state = &snapshot.state;
    let context = machine.ledger.context();
    let link = machine.link();
    let now = machine.now_us();
    let disk = disk(machine);
    let verified = match machine.last_verify() {
        Some(verified) => verified,
        None => machine.found_verified(verified_before(machine, FACTS_LOOKED_BACK_MAX)?),
    };
    let verification = match &verified {
        LastVerify::Known(receipt) => verification(receipt, now),
        _ => None,
    };
    let (reasons, broken) = (health::not_ready(machine), health::broken(machine));
    Ok(Status {
        machine: context.machine.to_string(),
        role: if machine.is_gateway() { "gateway" } else { "node" }.to_owned(),
        fleet: context.fleet.to_hex(),
        machine_key: context.machine_key.to_hex(),
        actor_key: machine.ledger.keyring().actor.public().to_hex(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: machine.boot.clone(),
        central: state.central().map(ToString::to_string),
        epoch: state.order().map(|order| order.epoch),
        logs: logs(machine, snapshot, &link),
        outbox: Outbox {
            receipts: link.outbox_receipts,
            bytes: link.outbox_bytes,
            oldest_age_ms: link.outbox_oldest_us.map(|oldest| times::ms_between(oldest, now)),
        },
        jobs_here: jobs_here(machine, state),
        projections: projections(machine, state),
        alone: machine.alone(state),
        counts: counts(snapshot),
        undelivered: undelivered(state),
        warnings: warnings(
            machine,
            state,
            &link,
            disk.as_ref(),
            (&verified, verification.as_ref()),
            &broken,
        ),
        disk,
        verification,
        witnessed: witnessed(machine, snapshot, now),
        ready: reasons.is_empty(),
        link: (!machine.is_gateway() || link.frozen.is_some() || link.healing).then(|| Link {
            gateway: link.gateway.clone(),
            connected: link.connected,
            last_contact: link.last_contact_us.map(times::text),
            last_contact_age_ms: link.last_contact_us.map(|last| times::ms_between(last, now)),
            clock_offset_ms: link.clock_offset_ms,
            frozen: link.frozen.clone(),
            healing: link.healing,
        }),
    })
}

/// The last verification that an earlier run of the daemon wrote down, among so many of the newest facts. Looks from the newest on
/// and no further than it must.
fn verified_before(machine: &Machine, facts_max: u64) -> Result<LastVerify, LedgerError> {
    let Some(facts) = machine.ledger.own_log(Stream::Facts) else {
        return Ok(LastVerify::Never);
    };
    let size = machine.ledger.head(&facts).map_or(0, |head| head.seq + 1);
    let oldest = size.saturating_sub(facts_max);
    let mut end = size;
    while end > oldest {
        let first = end.saturating_sub(FACTS_AT_ONCE).max(oldest);
        let mut found = None;
        for receipt in machine.ledger.range(&facts, first, end - 1) {
            found = Some(receipt?)
                .filter(|receipt| receipt.kind() == VerifyCompleted::KIND)
                .or(found);
        }
        if let Some(found) = found {
            return Ok(LastVerify::Known(found));
        }
        end = first;
    }
    Ok(match oldest {
        0 => LastVerify::Never,
        _ => LastVerify::NoneAmong(facts_max),
    })
}

fn disk(machine: &Machine) -> Option<Disk> {
    let (free_bytes, total_bytes) = disk_space(machine.ledger.paths().dir());
    let reserve_bytes = machine.config.disk.reserve_bytes(total_bytes);
    (total_bytes > 0).then_some(Disk {
        free_bytes,
        total_bytes,
        reserve_bytes,
        below_reserve: free_bytes < reserve_bytes,
    })
}

fn jobs_here(machine: &Machine, state: &FleetState) -> JobsHere {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let handlers = &machine.config.handlers;
    JobsHere {
        held: count(state.jobs_on(machine.id()).count()),
        waiting: count(ledger_projections::notices::queued_for(state, machine.id())),
        slots: handlers.iter().map(|handler| u64::from(handler.slots)).sum(),
    }
}

// The fleet's state is folded within each commit; the Vault's index is brought up by whoever looks at it.
fn projections(machine: &Machine, state: &FleetState) -> Vec<ProjectionView> {
    let fleet = ProjectionView {
        name: "fleet".to_owned(),
        behind: 0,
        halted: machine.ledger.falling_behind(),
    };
    let vault = machine.vault.with(&machine.ledger, |runner| {
        let order = state.order().map(|order| (order.log, order.head_seq + 1));
        let folded = runner.cursor().map(|cursor| (cursor.log, cursor.next));
        let behind = match (order, folded) {
            (Some((log, head)), Some((of, next))) if log == of => head.saturating_sub(next),
            (order, _) => order.map_or(0, |(_, head)| head),
        };
        ProjectionView {
            name: "vault".to_owned(),
            behind,
            halted: runner.halted().map(ToString::to_string),
        }
    });
    std::iter::once(fleet).chain(vault.ok()).collect()
}

fn undelivered(state: &FleetState) -> Vec<Notice> {
    let open = state.open_notices();
    let mut untold: Vec<_> = open.filter(|(_, notice)| notice.is_undelivered()).collect();
    untold.sort_by_key(|(_, notice)| std::cmp::Reverse(notice.raised_at));
    untold.truncate(UNDELIVERED_MAX);
    let shown = untold
        .into_iter()
        .map(|(id, notice)| notices::shown(id, notice, state));
    shown.collect()
}

fn logs(machine: &Machine, snapshot: &Published<FleetState>, link: &LinkView) -> Vec<LogHead> {
    let anchor = Anchor::load(&DiskStorage, &machine.ledger.paths().anchor())
        .ok()
        .flatten();
    let released = |log: &LogId| {
        let logs = anchor
            .as_ref()
            .map(|anchor| anchor.logs.as_slice())
            .unwrap_or_default();
        logs.iter()
            .find(|row| row.log == *log)
            .map(|row| row.checkpoint_size)
    };
    let mut heads: Vec<LogHead> = snapshot
        .logs
        .values()
        .map(|chain| {
            let (genesis, head) = (chain.genesis(), chain.head());
            let own = machine.ledger.own_log(genesis.stream) == Some(chain.log());
            LogHead {
                replicated_seq: own
                    .then(|| machine.replicated_until(&snapshot.state, &chain.log()))
                    .flatten(),
                log: chain.log().to_hex(),
                machine: genesis.machine.to_string(),
                stream: genesis.stream.to_string(),
                incarnation: genesis.incarnation,
                own,
                seq: head.seq,
                seal: head.seal.to_hex(),
                root: head.root.to_hex(),
                time: times::text(times::hlc_us(chain.time())),
                pinned_seq: snapshot.state.pin(&chain.log()).map(|pin| pin.seq),
                acknowledged_seq: link.acknowledged.get(&chain.log()).copied(),
                checkpoint_size: released(&chain.log()),
            }
        })
        .collect();
    heads.sort_by(|a, b| {
        (&a.machine, &a.stream, a.incarnation, &a.log).cmp(&(&b.machine, &b.stream, b.incarnation, &b.log))
    });
    heads
}

// What cannot be read of it is told as never cosigned: nothing waits for a witness.
fn witnessed(machine: &Machine, snapshot: &Published<FleetState>, now: i64) -> Vec<wire::Witnessed> {
    let witnessed = crate::cosign::witnessed(machine).unwrap_or_else(|error| {
        tracing::warn!(code = error.code(), %error, "the cosigned checkpoints cannot be read");
        Vec::new()
    });
    let shown = witnessed.into_iter().filter_map(|seen| {
        let stream = snapshot.logs.get(&seen.log)?.genesis().stream.to_string();
        Some(wire::Witnessed {
            log: seen.log.to_hex(),
            stream,
            tree_size: seen.tree_size,
            behind: seen.behind,
            behind_ms: seen.oldest_us.map(|oldest| times::ms_between(oldest, now)),
            by: seen.by.into_iter().map(cosignature).collect(),
        })
    });
    shown.collect()
}

fn cosignature(seen: ledger::core::cosignature::Cosignature) -> wire::Cosignature {
    let us = i64::try_from(seen.unix_s)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    wire::Cosignature {
        witness: seen.witness,
        time: times::text(us),
    }
}

fn counts(snapshot: &Published<FleetState>) -> Counts {
    let state = &snapshot.state;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let jobs: BTreeMap<String, u64> = Phase::ALL
        .into_iter()
        .map(|phase| (phase.as_str().to_owned(), count(state.jobs_in(phase).count())))
        .filter(|(_, n)| *n > 0)
        .collect();
    Counts {
        receipts: snapshot.receipts,
        machines: count(state.machines().count()),
        jobs,
        notices_open: count(
            state
                .open_notices()
                .filter(|(_, notice)| notice.is_undelivered())
                .count(),
        ),
    }
}

fn verification(receipt: &Receipt, now: i64) -> Option<Verification> {
    let Ok(AnyDetail::VerifyCompleted(detail)) = receipt.statement().any_detail() else {
        return None;
    };
    let verdicts = [
        detail.integrity,
        detail.signatures,
        detail.authority,
        detail.completeness,
        detail.freshness,
    ];
    let at = times::hlc_us(receipt.time());
    Some(Verification {
        receipt: receipt.id().to_string(),
        time: times::text(at),
        age_ms: times::ms_between(at, now),
        clean: !verdicts.contains(&Verdict::Found),
        findings: detail.findings,
        receipts: detail.receipts,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::Api as Client;
    use crate::http::{Door, router};
    use crate::{Config, setup};
    use ledger::core::{Draft, Kind, Subject};

    #[tokio::test]
    async fn an_earlier_verification_is_found_from_the_newest_fact_on_remembered_and_not_denied() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        setup::init(&home, &"mini".parse().unwrap()).unwrap();
        let open = || Machine::open(&home, Config::default()).unwrap();
        let machine = open();
        let never = verified_before(&machine, 5).unwrap();
        assert!(matches!(never, LastVerify::Never), "{never:?}");
        crate::nightly::verify_now(&machine).await.unwrap();
        let last = crate::nightly::verify_now(&machine).await.unwrap();
        assert!(last.kept);
        let note = || Draft::custom(Kind::new("x.note").unwrap(), Subject::new("note").unwrap());
        let facts = 300;
        machine
            .say(Stream::Facts, (0..facts).map(|_| note()).collect())
            .await
            .unwrap();
        drop(machine);
        let machine = open();
        let facts = facts.try_into().unwrap();
        let among = verified_before(&machine, facts).unwrap();
        assert!(
            matches!(among, LastVerify::NoneAmong(n) if n == facts),
            "{among:?}"
        );
        let warned = warnings(
            &machine,
            &machine.ledger.snapshot().state,
            &machine.link(),
            None,
            (&among, None),
            &[],
        );
        let warned = warned.iter().find(|w| w.code == "verify.none").unwrap();
        assert!(warned.text.contains("newest 300 facts"), "{}", warned.text);

        let client = Client::in_process(router(Arc::clone(&machine), Door::Local));
        let status = client.status().await.unwrap().item;
        assert!(status.verification.unwrap().clean);
        let Some(LastVerify::Known(found)) = machine.last_verify() else {
            panic!("it is not remembered");
        };
        // The second of the two.
        let at = machine.ledger.head(&found.log()).unwrap().seq;
        assert_eq!(found.seq() + facts, at);
    }
}
