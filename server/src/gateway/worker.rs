//! The gateway's own worker: ordinary claims of its own machine, without the wire.

use super::{central, claim_now, opens_in, orphans};
use crate::error::ServerError;
use crate::exchange::Claim;
use crate::jobs::Jobs;
use crate::machine::Machine;
use ledger::clock::{Entropy, SystemEntropy};
use ledger::core::kinds::HandlerDeclared;
use ledger_projections::Place;
use ledger_projections::queue::decide::{self, Holds};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it looks for work when nothing changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

// Until Central decides: then it is known that nothing of this machine's own logs is elsewhere and not here.
pub(crate) async fn until_serving(machine: &Machine) {
    while machine.central.wait_until_serving().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Claims and runs what this machine may, until it is told to stop.
pub(crate) async fn work_here(machine: Arc<Machine>, jobs: Arc<Jobs>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = until_serving(&machine) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    // Nothing is claimed before it is known what became of what was claimed before.
    while let Err(e) = begin_work(&machine, &jobs).await {
        tracing::error!(code = e.code(), error = %e, "the gateway's own worker cannot begin yet");
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
    // What a kept orphan branch proves was given is known before anything is claimed.
    orphans::settle(&machine).await;
    let mut changed = machine.changed();
    loop {
        changed.mark_unchanged();
        if machine.central.is_serving()
            && let Err(e) = claim_here(&machine, &jobs).await
        {
            tracing::error!(code = e.code(), error = %e, "the gateway's own worker could not claim");
        }
        let opens = opens_in(&machine, machine.id(), &jobs.free());
        tokio::select! {
            _ = changed.changed() => {}
            () = jobs.wait_for_room() => {}
            () = tokio::time::sleep(opens.map_or(LOOK_EVERY, |opens| opens.min(LOOK_EVERY))) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

// What an earlier process left here is told, then what it claimed and never began is given back.
async fn begin_work(machine: &Arc<Machine>, jobs: &Arc<Jobs>) -> Result<(), ServerError> {
    jobs.recover().await?;
    let own = machine.id().clone();
    let declared: Vec<HandlerDeclared> = jobs
        .declared()
        .into_iter()
        .map(|d| HandlerDeclared {
            machine: own.clone(),
            handler: d.handler,
            class: d.class,
            labels: d.labels,
            slots: d.slots,
        })
        .collect();
    let (fences, incarnation) = (jobs.fences(), machine.incarnation());
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> {
            let drafts = decide::handler_declared(tx.state(), &own, &declared)?;
            central::put(tx, drafts)?;
            let holds = Holds {
                held: &fences,
                seen: Place::MAX,
                incarnation,
            };
            let drafts = decide::resume(tx.state(), &own, &holds, tx.now_us())?;
            central::put(tx, drafts)?;
            Ok(())
        })
        .await?;
    Ok(())
}

async fn claim_here(machine: &Arc<Machine>, jobs: &Arc<Jobs>) -> Result<(), ServerError> {
    let free = jobs.free();
    if free.is_empty() || jobs.is_stopping() || machine.has_room().is_err() {
        return Ok(());
    }
    let mut claim = [0; 16];
    SystemEntropy.fill(&mut claim);
    let claim = Claim {
        claim,
        incarnation: machine.incarnation(),
        free,
        wait_ms: 0,
    };
    for claimed in claim_now(machine, machine.id(), &claim, None).await? {
        jobs.take(claimed).await;
    }
    Ok(())
}
