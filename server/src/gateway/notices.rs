//! Telling people: every notice goes to the log and to each configured sink, at least once, and each try is a receipt.
//!
//! Owns one task for the log and one for each sink. Contract: a sink is asked for one notice at a time; while it fails it is asked
//! at most once in ten minutes, whatever the number of notices, and what waits stays in the order, so a dead sink costs neither
//! memory nor more than a receipt in that time. A try that was not recorded is made again under the same id. The log has a
//! notice at once; its receipt is written when every sink was asked once, so that a sink that is configured later
//! does not get what was told before it.

use super::central;
use super::sinks::{self, Sink};
use crate::error::ServerError;
use crate::machine::Machine;
use crate::outside;
use ledger::core::digest::derived_id;
use ledger::core::kinds::{NoticeDelivered, NoticeTopic, NoticeUndelivered};
use ledger::core::{Draft, ReceiptId, Subject};
use ledger_projections::FleetState;
use ledger_projections::notices::{DELIVERIES_MAX, LOG, Notice};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Tries for one notice and sink.
const ATTEMPTS_MAX: u16 = 10;
/// Time before the second try of a sink that failed; doubled for each one after it, up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// The shortest and the longest time between two looks for what is to be told.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Delivers what is undelivered until it is told to stop.
pub(crate) async fn deliver_forever(machine: Arc<Machine>, mut stop: watch::Receiver<bool>) {
    let sinks = Sink::configured(&machine.config.notices);
    let destinations = sinks.iter().map(|sink| sink.destination.clone()).collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(log_forever(Arc::clone(&machine), destinations));
    for sink in sinks {
        tasks.spawn(tell_forever(Arc::clone(&machine), sink));
    }
    // A sender that is gone stops as well.
    drop(stop.wait_for(|stop| *stop).await);
    // A try that is cut off here is made again after the next start.
    tasks.shutdown().await;
}

async fn tell_forever(machine: Arc<Machine>, sink: Sink) {
    let mut changed = machine.changed();
    let mut failures = 0u32;
    let mut retry_at = Instant::now();
    loop {
        changed.mark_unchanged();
        let may = Instant::now() >= retry_at && machine.central.is_serving();
        let due = may.then(|| next(&machine.ledger.snapshot().state, &sink.destination, failures > 0));
        let Some((id, notice, attempt)) = due.flatten() else {
            let look = Instant::now() + LOOK_MAX;
            let until = if Instant::now() < retry_at {
                retry_at.min(look)
            } else {
                look
            };
            tokio::time::sleep(LOOK_MIN).await;
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
            continue;
        };
        let told = sink.tell(&id, &notice).await;
        let mut failed = told.is_err();
        if let Err(e) = record(&machine, &id, &sink.destination, attempt, told).await {
            tracing::error!(code = e.code(), error = %e, "a notice's delivery could not be recorded");
            failed = true;
        }
        failures = if failed { failures.saturating_add(1) } else { 0 };
        if failed {
            retry_at = Instant::now() + wait_after(failures);
        }
    }
}

fn wait_after(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    RETRY_FIRST.saturating_mul(doubled).min(RETRY_MAX)
}

// What a sink is to be told now, and the number of the try: the oldest. While the sink fails, the one that was tried least, so
// that each has its first try before any has its last.
fn next(state: &FleetState, destination: &str, fails: bool) -> Option<(ReceiptId, Notice, u16)> {
    let due = state.open_notices().filter_map(|(id, notice)| {
        let attempts = match notice.delivery(destination) {
            Some(tried) => (!tried.delivered && tried.attempts < ATTEMPTS_MAX).then_some(tried.attempts),
            // One place is the log's.
            None => {
                (notice.delivery(LOG).is_none() && notice.deliveries.len() + 1 < DELIVERIES_MAX).then_some(0)
            }
        };
        Some((id, notice, attempts?))
    });
    let first =
        due.min_by_key(|(id, notice, attempts)| (if fails { *attempts } else { 0 }, notice.raised_at, **id));
    first.map(|(id, notice, attempts)| (*id, notice.clone(), attempts + 1))
}

/// Tells every sink that Central decides nothing, while it collects what it lost. Nobody writes the order meanwhile, so no receipt is
/// made of it: the one that the next epoch begins with is told as any other.
pub(super) async fn tell_frozen(machine: Arc<Machine>, why: String) {
    let id = derived_id(&[
        b"notice",
        b"CentralFrozen",
        machine.boot.as_bytes(),
        why.as_bytes(),
    ]);
    let notice = Notice {
        topic: NoticeTopic::CentralFrozen,
        machine: Some(machine.id().clone()),
        text: outside::note(&format!("Central is frozen and decides nothing: {why}")),
        raised_at: machine.now_us(),
        deliveries: Vec::new(),
        acknowledged_at: None,
    };
    let sinks = Sink::configured(&machine.config.notices).into_iter();
    let telling = sinks.map(async |sink| {
        for failures in 1..=ATTEMPTS_MAX {
            match sink.tell(&id, &notice).await {
                Ok(()) => return,
                Err(e) => tracing::warn!(
                    sink = sink.destination,
                    error = e,
                    "that Central is frozen was not taken"
                ),
            }
            tokio::time::sleep(wait_after(failures.into())).await;
        }
    });
    futures_util::future::join_all(telling).await;
}

async fn log_forever(machine: Arc<Machine>, destinations: Vec<String>) {
    let mut changed = machine.changed();
    let mut logged: BTreeSet<ReceiptId> = BTreeSet::new();
    loop {
        changed.mark_unchanged();
        if machine.central.is_serving() {
            let snapshot = machine.ledger.snapshot();
            let untold: Vec<_> = snapshot
                .state
                .open_notices()
                .filter(|(_, notice)| notice.delivery(LOG).is_none())
                .collect();
            logged.retain(|id| untold.iter().any(|(of, _)| *of == id));
            for (id, notice) in untold {
                if logged.insert(*id) {
                    sinks::log(id, notice);
                }
                let asked = |destination: &String| notice.delivery(destination).is_some();
                let full = notice.deliveries.len() + 1 >= DELIVERIES_MAX;
                if (full || destinations.iter().all(asked))
                    && let Err(e) = record(&machine, id, LOG, 1, Ok(())).await
                {
                    tracing::error!(code = e.code(), error = %e, "that the log has a notice could not be recorded");
                }
            }
        }
        tokio::time::sleep(LOOK_MIN).await;
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK_MAX) => {}
        }
    }
}

async fn record(
    machine: &Arc<Machine>,
    notice: &ReceiptId,
    destination: &str,
    attempt: u16,
    told: Result<(), String>,
) -> Result<(), ServerError> {
    let subject = Subject::new(&format!("notice/{notice}"))?;
    let (notice, destination) = (*notice, destination.to_owned());
    let draft = match told {
        Ok(()) => {
            let detail = NoticeDelivered {
                notice,
                destination,
                attempt,
            };
            Draft::of(&detail, subject)
        }
        Err(why) => {
            let detail = NoticeUndelivered {
                notice,
                destination,
                attempt,
                error: outside::note(&why),
            };
            Draft::of(&detail, subject)
        }
    };
    let draft = draft.cause(notice);
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> { Ok(central::put(tx, vec![draft]).map(drop)?) })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_fails_is_asked_ever_more_seldom_and_never_more_than_six_times_an_hour() {
        let waits: Vec<u64> = (1..12).map(|failures| wait_after(failures).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(wait_after(u32::MAX), RETRY_MAX);
    }

    #[tokio::test]
    async fn a_central_that_is_frozen_tells_every_sink_without_a_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let (home, told) = (dir.path().join("home"), dir.path().join("told"));
        crate::setup::init(&home, &ledger::core::MachineId::new("studio").unwrap()).unwrap();
        let mut config = crate::Config::default();
        let script = format!("cat >> {}", told.display());
        config.notices.command = Some(vec!["sh".into(), "-c".into(), script]);
        let machine = Machine::open(&home, config).unwrap();
        let before = machine.ledger.snapshot().state.order().unwrap().head_seq;
        tell_frozen(Arc::clone(&machine), "its end is lost".into()).await;
        let body: serde_json::Value = serde_json::from_slice(&std::fs::read(&told).unwrap()).unwrap();
        assert_eq!(body["topic"], "central-frozen");
        assert!(
            body["text"].as_str().unwrap().ends_with("its end is lost"),
            "{body}"
        );
        let after = machine.ledger.snapshot().state.order().unwrap().head_seq;
        assert_eq!(before, after);
    }
}
