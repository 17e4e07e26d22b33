//! Copies beside the order: the gateway's own work and facts, so that its disk may die; every machine's logs when configured.
//!
//! The gateway's logs are followed by long poll, so that what it says is `replicated` at once, or after the rests of a machine that
//! runs jobs ([`crate::pace`]); the others are asked for
//! in turn. Each cursor that is sent tells the gateway what is durable here.

use super::link::Link;
use super::pull::{pull_log, wait_ms};
use crate::config::MirrorLogs;
use crate::error::ServerError;
use ledger::core::LogId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Logs of the gateway that are followed at once: its work and its facts, and room.
const FOLLOWED_MAX: usize = 4;

/// Mirrors until the gateway names other logs or the link fails.
pub(super) async fn mirror(link: &Arc<Link>) -> Result<(), ServerError> {
    let mut synced = link.synced.subscribe();
    let logs = match synced.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(answer)) => answer.mirror.clone(),
        _ => return Ok(()),
    };
    let wanted = link.machine.config.mirror.logs;
    if wanted == MirrorLogs::Order {
        let mut changed = link.synced.subscribe();
        drop(changed.wait_for(Option::is_none).await);
        return Ok(());
    }
    let (first, rest) = logs.split_at(logs.len().min(FOLLOWED_MAX));
    let followed = first.iter().map(|log| follow(link, *log));
    let followed = futures_util::future::try_join_all(followed);
    let others = sweep(link, first, rest, wanted == MirrorLogs::All);
    let renamed = synced.wait_for(|now| now.as_ref().is_none_or(|answer| answer.mirror != logs));
    tokio::select! {
        ended = followed => ended.map(drop),
        ended = others => ended,
        _ = renamed => Ok(()),
    }
}

async fn follow(link: &Arc<Link>, log: LogId) -> Result<(), ServerError> {
    loop {
        match pull_log(link, log, wait_ms(link)).await {
            // What the gateway pruned is not to be had any more.
            Err(ServerError::NotFound(why)) => {
                tracing::debug!(%log, why, "not to be mirrored");
                tokio::time::sleep(Duration::from_millis(wait_ms(link).into())).await;
            }
            ended => drop(ended?),
        }
    }
}

// The rest of the gateway's own logs, and with `all` every other log of the fleet, one after the other.
async fn sweep(link: &Arc<Link>, followed: &[LogId], rest: &[LogId], all: bool) -> Result<(), ServerError> {
    loop {
        let mut logs: BTreeSet<LogId> = rest.iter().copied().collect();
        if all {
            logs.extend(others(link));
        }
        for log in logs.into_iter().filter(|log| !followed.contains(log)) {
            match pull_all(link, log).await {
                // What the gateway pruned is not to be had any more.
                Err(ServerError::NotFound(why)) => tracing::debug!(%log, why, "not to be mirrored"),
                // Of a log that Central's key sealed twice the gateway has another copy; all else goes on.
                Err(e @ (ServerError::Fork(_) | ServerError::OrderForked(_))) => {
                    tracing::warn!(%log, code = e.code(), error = %e, "not to be mirrored");
                }
                ended => ended?,
            }
        }
        tokio::time::sleep(Duration::from_millis(wait_ms(link).into())).await;
    }
}

async fn pull_all(link: &Arc<Link>, log: LogId) -> Result<(), ServerError> {
    while pull_log(link, log, 0).await? {}
    Ok(())
}

// The logs of every other machine, as they joined with them and later ones, and the orders of earlier epochs.
fn others(link: &Link) -> BTreeSet<LogId> {
    let snapshot = link.machine.ledger.snapshot();
    let state = &snapshot.state;
    let own = link.machine.id();
    let order = state.order().map(|order| order.log);
    let machines = state.machines().filter(|row| row.id != *own);
    let past = state.epochs().map(|(_, epoch)| epoch.log);
    machines
        .flat_map(|row| state.logs_of(row))
        .chain(past)
        .filter(|log| Some(*log) != order)
        .collect()
}
