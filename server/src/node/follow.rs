//! A gateway that lost the end of its logs: it is offered what is here of them, and followed into the next epoch.

use super::link::{EXCHANGE_TIMEOUT, Link};
use super::pull::pull_log;
use crate::error::ServerError;
use crate::exchange::{HelloAnswer, Mark, Marks, MarksAnswer, Pull, PullAnswer, Push, PushAnswer, encode};
use crate::gateway::records::{raw_of, read_run};
use crate::machine::Machine;
use ledger::LedgerError;
use ledger::core::{Chain, LogId, Record, Stream};
use std::sync::Arc;

/// Epochs that may have begun while this machine was away; root's designation permits 64 unless it is said anew.
const EPOCHS_MAX: usize = 1024;

// What is here of the gateway's own logs, and not there any more: its work and facts first, then the order, epoch by epoch.
pub(super) async fn offer_all(link: &Arc<Link>) -> Result<(), ServerError> {
    offer(link, logs_of_central(link.machine())).await.map(drop)
}

/// What is here of the gateway's earlier logs behind their end: its epoch began when this machine was not asked. Most have none. The order
/// first, which tells of the claims that the reports behind it stand under. Whether the gateway took any of it.
pub(super) async fn offer_orphans(link: &Arc<Link>, answer: &HelloAnswer) -> Result<bool, ServerError> {
    let mut logs = logs_of_central(link.machine());
    logs.retain(|log| *log != answer.order && !answer.mirror.contains(log));
    let snapshot = link.machine().ledger.snapshot();
    logs.sort_by_key(|log| snapshot.state.log(log).map(|row| row.stream) != Some(Stream::Order));
    offer(link, logs).await
}

// A copy that the gateway refuses for good stands in the way of nothing else.
async fn offer(link: &Arc<Link>, logs: Vec<LogId>) -> Result<bool, ServerError> {
    if logs.is_empty() {
        return Ok(false);
    }
    let asked = Marks {
        taking_back: None,
        logs,
    };
    let theirs: MarksAnswer = link.exchange("marks", encode(&asked), EXCHANGE_TIMEOUT).await?;
    let mut taken = false;
    for mut entry in theirs.others {
        let (log, mark) = entry;
        let ours = link.mark(&log);
        let is_prefix = link.has(&log, mark.as_ref())?;
        if !is_prefix && ours.is_some_and(|ours| mark.is_some_and(|mark| ours.seq >= mark.seq)) {
            tracing::warn!(%log, "the gateway has another record in this log than is here; both sides keep what they have");
            if let Some(mark) = mark {
                show(link, log, mark.seq).await?;
            }
        }
        let is_ahead =
            |mark: Option<Mark>| ours.is_some_and(|ours| mark.is_none_or(|mark| mark.seq < ours.seq));
        while is_prefix && is_ahead(entry.1) {
            match push_one(link, &mut entry).await {
                Ok(()) => taken = true,
                Err(e @ (ServerError::Fork(_) | ServerError::Forbidden(_))) => {
                    tracing::warn!(%log, code = e.code(), error = %e, "the gateway does not take what is here of this log; both sides keep what they have");
                    break;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(taken)
}

/// The gateway's own logs that are known here: its work and facts, older incarnations first, then the orders.
pub(super) fn logs_of_central(machine: &Machine) -> Vec<LogId> {
    let snapshot = machine.ledger.snapshot();
    let state = &snapshot.state;
    let Some(key) = state.order().map(|order| order.central_key) else {
        return Vec::new();
    };
    let mut logs: Vec<_> = state
        .logs()
        .filter(|(_, row)| row.machine_key == key && matches!(row.stream, Stream::Work | Stream::Facts))
        .map(|(log, row)| (row.incarnation, *log))
        .collect();
    logs.sort_unstable();
    let epochs = state.epochs().map(|(_, row)| row.log);
    logs.into_iter().map(|(_, log)| log).chain(epochs).collect()
}

// The gateway writes another order: the one before up to its cut, then each that came between, then that one. Each proves itself by
// root's designation when the one before is here.
pub(super) async fn follow_epoch(link: &Arc<Link>, before: LogId, next: LogId) -> Result<(), ServerError> {
    let mut orders = vec![next];
    while let Some(log) = orders.last().copied().filter(|log| *log != before) {
        let predecessor = predecessor(link, log).await?;
        let Some(predecessor) = predecessor.filter(|_| orders.len() < EPOCHS_MAX) else {
            return Err(unproven(before, next));
        };
        orders.push(predecessor);
    }
    for log in orders.into_iter().rev() {
        while pull_log(link, log, 0).await? {}
    }
    if link.follows() == Some(next) {
        tracing::warn!(previous = %before, order = %next, "the fleet's order goes on in the next epoch");
        return Ok(());
    }
    Err(unproven(before, next))
}

fn unproven(before: LogId, next: LogId) -> ServerError {
    ServerError::Fork(format!(
        "the gateway writes the order {}, which nothing here proves to continue {}",
        next.short(),
        before.short()
    ))
}

// The log that an order of the gateway's says it continues: nothing of it is taken in before that one is here.
async fn predecessor(link: &Arc<Link>, log: LogId) -> Result<Option<LogId>, ServerError> {
    let pull = Pull {
        log,
        after: None,
        wait_ms: 0,
    };
    let answer: PullAnswer = link.exchange("pull", encode(&pull), EXCHANGE_TIMEOUT).await?;
    let Some(first) = answer.records.first() else {
        return Ok(None);
    };
    let genesis = Record::parse(&first.record).map_err(LedgerError::from)?;
    let chain = Chain::start(&genesis).map_err(LedgerError::from)?;
    let named = chain.genesis().predecessor.as_ref();
    Ok(named.filter(|_| chain.log() == log).map(|before| before.log))
}

/// The gateway has, of a log of ours, what we do not: what stands here instead is shown to it, so that there is a proof.
pub(super) async fn show_fork(link: &Arc<Link>) -> Result<(), ServerError> {
    let asked = Marks {
        taking_back: None,
        logs: Vec::new(),
    };
    let theirs: MarksAnswer = link.exchange("marks", encode(&asked), EXCHANGE_TIMEOUT).await?;
    let own = link.own_logs();
    for (log, mark) in theirs.own.iter().filter(|(log, _)| own.contains(log)) {
        let Some(ours) = link.mark(log) else { continue };
        let seq = ours.seq.min(mark.seq);
        let here = Mark { seq, seal: mark.seal };
        if seq != mark.seq || !link.has(log, Some(&here))? {
            show(link, *log, seq).await?;
        }
    }
    Ok(())
}

// What stands here in a log is pushed. It cannot be taken in, and that is the point.
async fn show(link: &Arc<Link>, log: LogId, seq: u64) -> Result<(), ServerError> {
    let Some(stands) = link.machine().ledger.get(&log, seq)? else {
        return Ok(());
    };
    let records = vec![raw_of(link.machine(), &stands)?];
    let process = link.machine().process;
    let push = encode(&Push {
        process,
        log,
        records,
    });
    if let Err(e) = link.aside::<PushAnswer>("push", push).await {
        tracing::debug!(%log, error = %e, "what stands here was shown");
    }
    Ok(())
}

// One run of a log of the gateway's, behind what it has.
async fn push_one(link: &Arc<Link>, entry: &mut (LogId, Option<Mark>)) -> Result<(), ServerError> {
    let (log, mark) = *entry;
    let next = mark.map_or(0, |mark| mark.seq.saturating_add(1));
    let machine = Arc::clone(link.machine());
    let read = tokio::task::spawn_blocking(move || read_run(&machine, &log, next)).await;
    let (records, _) = read.map_err(|e| ServerError::Malformed(e.to_string()))??;
    if records.is_empty() {
        return Err(ServerError::Malformed(format!(
            "log {log} has nothing behind seq {next}, but the gateway lacks it"
        )));
    }
    let process = link.machine().process;
    let answer: PushAnswer = link
        .exchange(
            "push",
            encode(&Push {
                process,
                log,
                records,
            }),
            EXCHANGE_TIMEOUT,
        )
        .await?;
    if mark.is_some_and(|mark| answer.mark.seq <= mark.seq) {
        return Err(ServerError::Fork(format!(
            "the gateway's mark of log {log} did not move by a push"
        )));
    }
    entry.1 = Some(answer.mark);
    Ok(())
}
