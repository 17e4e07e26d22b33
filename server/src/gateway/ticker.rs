//! The gateway's ticker: what depends on time passing becomes a receipt here, and nowhere else.

use super::{brought, central, orphans, schedules};
use crate::checks::Services;
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::jobs::Jobs;
use crate::machine::Machine;
use http::StatusCode;
use ledger::core::kinds::{Detail, Erased, Fence, RequestReceived};
use ledger::core::{MachineId, Stream};
use ledger::{LedgerError, Receipt};
use ledger_projections::central::{repeat_erased, silences};
use ledger_projections::notices::{Condition, Standing};
use ledger_projections::queue::decide::{self, Holds};
use ledger_projections::{FleetState, Place};
use std::sync::Arc;
use std::time::Duration;

/// The longest and the shortest time between two looks.
const TICK_MAX: Duration = Duration::from_secs(1);
const TICK_MIN: Duration = Duration::from_millis(25);
/// A pause of the ticker from which on the process is taken to have slept, milliseconds.
const PAUSE_MS: u64 = 2000;
/// How long Central waits for marks after a clean stop, and after anything else, unless configured.
const HEAL_WAIT_CLEAN_MS: u64 = 10_000;
const HEAL_WAIT_MS: u64 = 60_000;

/// Heals, then ticks until it is told to stop.
pub(crate) async fn tick_forever(
    machine: Arc<Machine>,
    jobs: Arc<Jobs>,
    services: Arc<Services>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let timing = &machine.config.timing;
    let default = if machine.ledger.lost_nothing() {
        HEAL_WAIT_CLEAN_MS
    } else {
        HEAL_WAIT_MS
    };
    let heal_until = running_ms() + timing.heal_wait_ms.unwrap_or(default);
    let shortest = timing
        .lost_after_ms
        .min(timing.term_ms)
        .min(timing.notify_after_ms.max(1));
    let period = Duration::from_millis(shortest / 8).clamp(TICK_MIN, TICK_MAX);
    let mut last_ms = running_ms();
    // A machine has its full time to be heard from here on, whatever its logs say of the time before.
    let mut watched_since = machine.now_us();
    let mut scheduled = schedules::Due::default();
    loop {
        // A machine that slept, or a process that was stopped, heard nobody meanwhile: that is nobody's silence.
        let now_ms = running_ms();
        let pause_ms = now_ms.saturating_sub(last_ms);
        last_ms = now_ms;
        if pause_ms > PAUSE_MS.max(4 * u64::try_from(period.as_millis()).unwrap_or(u64::MAX)) {
            tracing::warn!(
                pause_ms,
                "this process did not run for a while; leases and silences are not counted for it"
            );
            machine.central.slept(pause_ms);
            let now_us = machine.now_us();
            watched_since = now_us;
            let pause_us = i64::try_from(pause_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
            machine.central.absent(now_us.saturating_sub(pause_us), now_us);
        }
        if machine.central.healing() {
            let told = machine.central.all_marks_told(&machine.ledger.snapshot().state);
            if told || running_ms() >= heal_until {
                machine.central.renew_all();
                // Before anything else is decided: the first batch pins them, and a crash until then finds them again.
                match accept_kept(&machine).await {
                    Ok(()) => {
                        machine.central.begin_deciding();
                        watched_since = machine.now_us();
                        tracing::info!(all_marks_told = told, "Central decides");
                    }
                    Err(e) => {
                        tracing::error!(code = e.code(), error = %e, "what was kept here cannot be decided yet");
                    }
                }
            }
        }
        let mut wait = period;
        if machine.central.is_serving() {
            if let Err(e) = tick(&machine, &jobs, &services, watched_since).await {
                tracing::error!(code = e.code(), error = %e, "the ticker could not write what time brought");
            }
            orphans::settle_soon(&machine);
            if machine.central.orphans.take_brought_work(now_ms) {
                let jobs = Arc::clone(&jobs);
                tokio::spawn(async move {
                    if let Err(e) = jobs.recover_brought().await {
                        tracing::warn!(code = e.code(), error = %e, "what was lost with this machine's disk is told at the next start");
                    }
                });
            }
            scheduled.look(&machine).await;
            wait = scheduled.until_next(&machine, period).max(TICK_MIN);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

// Requests and erasures that a command sealed in this machine's facts while no daemon ran, and that the order has not pinned yet. All
// of them or an error: the first batch pins what was not looked at as well.
fn kept_requests(machine: &Machine) -> Result<Vec<Receipt>, LedgerError> {
    let Some(facts) = machine.ledger.own_log(Stream::Facts) else {
        return Ok(Vec::new());
    };
    let first = machine
        .ledger
        .snapshot()
        .state
        .pin(&facts)
        .map_or(0, |pin| pin.seq + 1);
    let of_interest = |receipt: &Receipt| [RequestReceived::KIND, Erased::KIND].contains(&receipt.kind());
    let unpinned = machine.ledger.range(&facts, first, u64::MAX);
    unpinned
        .filter(|receipt| receipt.as_ref().map_or(true, of_interest))
        .collect()
}

// Whether trying again later says the same. A full disk, a full queue and a failing disk are no answers to what was asked.
pub(super) fn is_final(error: &ServerError) -> bool {
    let status = error.status();
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}

async fn accept_kept(machine: &Arc<Machine>) -> Result<(), ServerError> {
    brought::judge_collected(machine).await?;
    let policy = machine.config.policy();
    for request in kept_requests(machine)? {
        let healing = Arc::clone(machine);
        let accept = move |tx: &mut ledger::Tx<'_, _>| -> Result<(), ServerError> {
            if let Some(why) = healing.central.frozen() {
                return Err(ServerError::NotServing(why));
            }
            if let Some(said) = ledger::erase::said(&request) {
                return Ok(repeat_erased(tx, &request, said)?);
            }
            let drafts = decide::accept_request(tx.state(), &request, tx.now_us(), &policy)?;
            central::put(tx, drafts)?;
            Ok(())
        };
        match machine.ledger.submit(accept).await.map_err(ServerError::from) {
            Ok(_) => {}
            Err(e) if is_final(&e) => {
                tracing::warn!(code = e.code(), error = %e, "something that was kept here is refused");
            }
            // The store does not take it now: it is tried again, and nothing is decided before.
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

// What has come due. Looked for in what readers see; decided again inside the commit, where beats have their say.
async fn tick(
    machine: &Arc<Machine>,
    jobs: &Jobs,
    services: &Services,
    watched_since: i64,
) -> Result<(), ServerError> {
    let policy = machine.config.policy();
    let (now_us, now_ms) = (machine.now_us(), running_ms());
    let snapshot = machine.ledger.snapshot();
    let state = &snapshot.state;
    let last_spoke = |row: &ledger_projections::members::Machine| {
        let logs = snapshot
            .logs
            .values()
            .filter(|chain| state.writes(row, &chain.log()));
        let times = logs.map(|chain| i64::try_from(chain.time().unix_ms()).unwrap_or(i64::MAX));
        times.max().map(|ms| ms.saturating_mul(1000))
    };
    let started_ms = machine.central.started_ms;
    let mut due = silences(
        state,
        |id| machine.central.heard(id),
        last_spoke,
        started_ms,
        now_ms,
        &policy,
    );
    let held = jobs.fences();
    due.over = machine.central.overdue(state, &held);
    due.absences = machine.central.absences();
    due.watched_since = watched_since;
    let probe = machine.config.queue.outside_probe.as_ref();
    due.outside = probe.is_some_and(|check| services.is_up(check));
    due.standing = standing(machine, state, now_us);
    if due.is_quiet(state, now_us, &policy) {
        return Ok(());
    }
    let silent = due.lost.clone();
    let lost_after_ms = policy.lost_after_ms;
    let absences = due.absences.clone();
    let (asked, incarnation) = (Arc::clone(machine), machine.incarnation());
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> {
            asked.central.demand_serving()?;
            // One that was heard since the look is not silent.
            let is_silent = |id: &MachineId| {
                let heard = asked.central.heard(id);
                heard.is_none_or(|heard| now_ms >= heard.last_ms.saturating_add(lost_after_ms))
            };
            due.lost.retain(|(id, _)| is_silent(id));
            let is_over = |fence: &Fence| asked.central.is_over(fence);
            let own = Holds {
                held: &held,
                seen: Place::MAX,
                incarnation,
            };
            Ok(ledger_projections::central::tick(
                tx, &due, &own, is_over, &policy,
            )?)
        })
        .await?;
    for (id, last_us) in &silent {
        machine.central.unhear(id, *last_us);
    }
    machine.central.told_absences(&absences);
    Ok(())
}

// What hellos and the heartbeats of machines that are heard show.
fn standing(machine: &Machine, state: &FleetState, now_us: i64) -> Vec<Standing> {
    let timing = &machine.config.timing;
    let us = |ms: u64| i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX);
    let reserve = |id: &MachineId| {
        let gauges = machine.gauges(id)?;
        let (free, total, reserve) = (
            gauges.pulse.disk_free_bytes,
            gauges.pulse.disk_total_bytes,
            gauges.pulse.disk_reserve_bytes,
        );
        let heard = now_us.saturating_sub(gauges.heard_at) < us(timing.lost_after_ms);
        (heard && total > 0 && free < reserve).then(|| Standing {
            machine: id.clone(),
            condition: Condition::DiskReserve { free, reserve },
        })
    };
    let backlogs = machine.central.backlogs.lock().expect("backlogs lock");
    let mut standing = backlogs.growing(now_us, us(timing.outbox_after_ms));
    drop(backlogs);
    standing.extend(state.machines().filter_map(|row| reserve(&row.id)));
    standing
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::LedgerError;
    use ledger::journal::JournalError;
    use ledger_projections::queue::Refusal;

    #[test]
    fn only_a_refusal_is_final_and_a_full_disk_is_none() {
        let no_space = JournalError::NoSpace {
            path: "journal".into(),
        };
        for passing in [
            LedgerError::Journal(no_space),
            LedgerError::NotCommitted("the batch failed".into()),
            LedgerError::Unknown("the sync failed".into()),
        ] {
            assert!(!is_final(&passing.into()));
        }
        let machine = MachineId::new("laptop").expect("a name");
        assert!(is_final(&Refusal::MachineUnknown(machine).into()));
    }
}
