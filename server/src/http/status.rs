//! `GET /v1/status`: who answers here, how it is doing, and what a person should look at.

use super::caller::Caller;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, Counts, Link, LogHead, Outbox, Status, Verification, Warning};
use super::{Api, health, times};
use crate::machine::{LinkView, Machine};
use axum::Extension;
use axum::extract::State;
use ledger::core::Stream;
use ledger::core::kinds::{AnyDetail, Detail, Verdict, VerifyCompleted};
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;
use ledger_projections::queue::Phase;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A verification older than this is told of, in milliseconds: two nights.
const VERIFICATION_AGE_MS_MAX: u64 = 48 * 60 * 60 * 1000;

/// Receipts of the machine's facts that are looked through for the last verification: a large Vault's scan since.
const FACTS_LOOKED_BACK_MAX: u64 = 5_000;

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
    let verified = match machine.last_verify() {
        Some(receipt) => Some(receipt),
        None => verified_before(machine)?,
    };
    let verification = verified.and_then(|receipt| verification(&receipt, now));
    let reasons = health::not_ready(machine);
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
        logs: logs(machine, snapshot),
        outbox: Outbox {
            receipts: link.outbox_receipts,
            oldest_age_ms: link.outbox_oldest_us.map(|oldest| times::ms_between(oldest, now)),
        },
        counts: counts(snapshot),
        warnings: warnings(machine, state, &link, verification.as_ref(), &reasons),
        verification,
        ready: reasons.is_empty(),
        link: (!machine.is_gateway() || link.frozen.is_some() || link.healing).then(|| Link {
            gateway: link.gateway.clone(),
            connected: link.connected,
            last_contact: link.last_contact_us.map(times::text),
            frozen: link.frozen.clone(),
            healing: link.healing,
        }),
    })
}

/// The last verification that an earlier run of the daemon wrote down, as far back as it is worth looking.
fn verified_before(machine: &Machine) -> Result<Option<Receipt>, LedgerError> {
    let Some(facts) = machine.ledger.own_log(Stream::Facts) else {
        return Ok(None);
    };
    let last = machine.ledger.head(&facts).map_or(0, |head| head.seq);
    let mut found = None;
    for receipt in machine
        .ledger
        .range(&facts, last.saturating_sub(FACTS_LOOKED_BACK_MAX), last)
    {
        found = Some(receipt?)
            .filter(|receipt| receipt.kind() == VerifyCompleted::KIND)
            .or(found);
    }
    Ok(found)
}

fn logs(machine: &Machine, snapshot: &Published<FleetState>) -> Vec<LogHead> {
    let mut heads: Vec<LogHead> = snapshot
        .logs
        .values()
        .map(|chain| {
            let (genesis, head) = (chain.genesis(), chain.head());
            LogHead {
                log: chain.log().to_hex(),
                machine: genesis.machine.to_string(),
                stream: genesis.stream.to_string(),
                incarnation: genesis.incarnation,
                own: machine.ledger.own_log(genesis.stream) == Some(chain.log()),
                seq: head.seq,
                seal: head.seal.to_hex(),
                root: head.root.to_hex(),
                time: times::text(times::hlc_us(chain.time())),
                pinned_seq: snapshot.state.pin(&chain.log()).map(|pin| pin.seq),
            }
        })
        .collect();
    heads.sort_by(|a, b| {
        (&a.machine, &a.stream, a.incarnation, &a.log).cmp(&(&b.machine, &b.stream, b.incarnation, &b.log))
    });
    heads
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

fn warnings(
    machine: &Machine,
    state: &FleetState,
    link: &LinkView,
    verification: Option<&Verification>,
    not_ready: &[String],
) -> Vec<Warning> {
    let warning = |code: &str, text: String, what_to_do: &str| Warning {
        code: code.to_owned(),
        text,
        what_to_do: what_to_do.to_owned(),
    };
    let mut warnings = Vec::new();
    for reason in not_ready {
        warnings.push(warning(
            "store.not-ready",
            reason.clone(),
            "look at the daemon's own log; run `ledger verify`",
        ));
    }
    if holds_root_key(machine) {
        let text = "the fleet's root key lies on this machine, in DIR/root".to_owned();
        warnings.push(warning(
            "root.on-machine",
            text,
            "move DIR/root to a safe place off the machines",
        ));
    }
    match verification {
        None => warnings.push(warning(
            "verify.none",
            "no verification of this store is known".to_owned(),
            "run `ledger verify --record`, or let the daemon run through a night",
        )),
        Some(last) if !last.clean => warnings.push(warning(
            "verify.found",
            format!(
                "the last verification found {} faults (receipt {})",
                last.findings, last.receipt
            ),
            "run `ledger verify`, which names each, and restore from a copy or a peer",
        )),
        Some(last) if last.age_ms > VERIFICATION_AGE_MS_MAX => warnings.push(warning(
            "verify.old",
            format!("the last verification was {} hours ago", last.age_ms / 3_600_000),
            "run `ledger verify`, and see that the nightly one is enabled",
        )),
        Some(_) => {}
    }
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
    if let Ok(Some(why)) = machine.vault_page("", None, 0).map(|page| page.halted) {
        warnings.push(warning(
            "vault.waits",
            format!("the Vault's index here {why}"),
            "ask the gateway, which has the logs of all machines",
        ));
    }
    for row in state.machines().filter(|row| !row.retired && !row.is_online()) {
        let text = format!("{} is offline", row.id);
        warnings.push(warning(
            "node.offline",
            text,
            "wake it, or retire it with `ledger nodes retire`",
        ));
    }
    let mut untold: Vec<_> = state
        .open_notices()
        .map(|(_, notice)| notice)
        .filter(|notice| notice.is_undelivered())
        .collect();
    untold.sort_by_key(|notice| notice.raised_at);
    if let Some(newest) = untold.last() {
        let failed = newest.deliveries.iter().find(|delivery| !delivery.delivered);
        let sink = failed.map_or("nobody", |delivery| delivery.destination.as_str());
        let text = format!(
            "{} notices did not reach everybody; the newest not {sink}: {}",
            untold.len(),
            newest.text
        );
        warnings.push(warning(
            "notice.undelivered",
            text,
            "`ledger notices list --open` tells why; mend the sink, or say that you saw them: `ledger notices ack --all`",
        ));
    }
    let parked = state.jobs_in(Phase::Parked).count();
    if parked > 0 {
        let text = format!("{parked} jobs are parked");
        warnings.push(warning(
            "job.parked",
            text,
            "look at them with `ledger jobs list --state parked`",
        ));
    }
    warnings
}

fn holds_root_key(machine: &Machine) -> bool {
    let root = machine.ledger.paths().dir().join("root");
    std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some())
}
