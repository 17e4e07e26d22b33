//! A Central that lost the end of its order: it collects the tail from the machines that follow it, and goes on in the next
//! epoch behind what is here then.
//!
//! The store ended before what its anchor promised, or a machine showed a record of the order, sealed by Central's own key,
//! that is not here. Nothing is written then; every machine that says hello offers its copies of what this machine wrote, and
//! they are taken in verbatim. When every machine has offered, or the time to wait for them has passed, each log is succeeded
//! by one of the next incarnation; the order's names the cut in `epoch.started`, as root's designation permits. Signing on in
//! the old log would risk two records for one seq, since nobody knows what was signed behind the cut.
//!
//! What a crash leaves: a store that is still behind; collecting begins again.

use crate::clock::running_ms;
use crate::config::Config;
use crate::doors::Doors;
use crate::error::ServerError;
use crate::exchange::{Mark, Push, PushAnswer};
use crate::machine::Machine;
use crate::node::{close, reopen, succeed};
use crate::steering;
use ledger::core::kinds::{EpochStarted, NoticeTopic};
use ledger::core::{Draft, LogId, MachineId, Record, Stream, Subject, chain};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Published};
use ledger_projections::central::put;
use ledger_projections::{FleetState, notices};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long it waits for every machine's copy, from the first hello on, unless `timing.heal_wait_ms` says otherwise.
const COLLECT_WAIT_MS: u64 = 60_000;
/// Time between two looks whether everybody has offered.
const LOOK: Duration = Duration::from_millis(50);

/// How it is known that something is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The store ends before what its anchor promised.
    #[error(transparent)]
    Promised(ServerError),
    /// A machine has it.
    #[error("{0}")]
    Seen(String),
}

impl From<Lost> for ServerError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Promised(error) => error,
            Lost::Seen(why) => Self::NotServing(why),
        }
    }
}

/// What a machine's mark of the order says about this store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// All of it is here.
    Within,
    /// The machine has, provably, what this store lost.
    Beyond,
    /// It has, provably, what came after the cut of an epoch that is over, and it is not here.
    Orphan,
    /// It has, provably, another record of an epoch that is over than is here.
    Forked,
    /// The same, and it is here.
    Kept,
}

/// Holds a machine's mark of the order, with the record that stands there, against this store.
///
/// # Errors
/// [`ServerError::Fork`] for a mark that is not ours and that nothing proves.
pub(super) fn judge(
    machine: &Machine,
    published: &Published<FleetState>,
    (log, mark): (&LogId, &Mark),
    proof: &[u8],
) -> Result<Seen, ServerError> {
    let state = &published.state;
    let row = state.epochs().find(|(_, row)| row.log == *log);
    let cut = row.and_then(|(_, row)| row.cut.map(|(seq, _)| seq));
    let here = machine.ledger.get(log, mark.seq)?;
    if row.is_some()
        && cut.is_none_or(|cut| mark.seq <= cut)
        && here.as_ref().is_some_and(|here| here.seal_digest() == mark.seal)
    {
        return Ok(Seen::Within);
    }
    if !is_proven(machine, log, mark, proof) {
        tracing::warn!(%log, seq = mark.seq, "a mark of the order that nothing proves");
        return Err(ServerError::Fork(format!(
            "the mark of the order {} at seq {} is not ours, and nothing proves it",
            log.short(),
            mark.seq
        )));
    }
    match (cut, here) {
        (None, _) => Ok(Seen::Beyond),
        (Some(_), None) => Ok(Seen::Orphan),
        (Some(_), Some(here)) if here.seal_digest() == mark.seal => Ok(Seen::Kept),
        // Its own key sealed both: nothing that this machine is to blame for, and what it did is its own.
        (Some(_), Some(_)) => Ok(Seen::Forked),
    }
}

// Only the key of a Central of this fleet proves it; a node alone stops nobody.
fn is_proven(machine: &Machine, log: &LogId, mark: &Mark, proof: &[u8]) -> bool {
    let snapshot = machine.ledger.snapshot();
    Record::parse(proof).is_ok_and(|record| {
        let seal = record.seal();
        let named = seal.log == *log && seal.seq == mark.seq && record.seal_digest() == mark.seal;
        let mut keys = snapshot
            .state
            .designations()
            .map(|(_, designated)| designated.machine_key);
        named
            && keys.any(|key| {
                let key = key.verifier();
                key.is_ok_and(|key| chain::verify_signatures(&record, &key).is_ok())
            })
    })
}

/// Whether a copy of what this machine sealed has the signatures of its authors still: it sealed nothing without them.
///
/// # Errors
/// [`ServerError::Forbidden`]: another machine may have the copy as it was.
pub(super) fn check_unchanged(run: &VerifiedRun) -> Result<(), ServerError> {
    match run.inadmissible().first() {
        None => Ok(()),
        Some(seq) => Err(ServerError::Forbidden(format!(
            "the author's signature of the record at seq {seq} of log {} does not hold, and this machine sealed valid ones: this copy was \
             changed; restore the machine that offers it from a copy that `ledger verify` finds whole",
            run.log()
        ))),
    }
}

/// Takes in what a machine offers of this machine's own logs, while they are collected.
///
/// # Errors
/// [`ServerError::Fork`] when it does not continue what is here; [`ServerError::Forbidden`] for another machine's log, or when
/// somebody changed it.
pub(super) async fn take_offer(machine: &Arc<Machine>, push: Push) -> Result<PushAnswer, ServerError> {
    let log = push.log;
    let known = machine.ledger.snapshot().logs.get(&log).cloned();
    let raw = push.records.into_iter().map(|r| (r.record, r.payload)).collect();
    let verified = tokio::task::spawn_blocking(move || VerifiedRun::verify(raw, known.as_deref())).await;
    let run = verified.map_err(|e| ServerError::Malformed(e.to_string()))??;
    let run = run.ok_or_else(|| ServerError::Malformed("an offer without records".into()))?;
    check_unchanged(&run)?;
    let own = machine.ledger.context().machine_key;
    let committed = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        tx.intake(&run)?;
        let chain = tx.foreign(&run.log()).ok_or(LedgerError::UnknownLog(run.log()))?;
        if chain.machine_key() != own || run.log() != log {
            return Err(ServerError::Forbidden(format!(
                "log {log} is none of this machine's"
            )));
        }
        Ok(())
    });
    committed.await?;
    let mark = super::exchange::mark_of(machine, &log);
    Ok(PushAnswer {
        mark: mark.ok_or(LedgerError::UnknownLog(log))?,
    })
}

/// Collects the tail of a store that is behind; the machines that offered theirs, or nothing when `shutdown` came first.
///
/// # Errors
/// `why`, when the store cannot be opened as one that is behind, or no other machine could have its tail.
pub(crate) async fn collect(
    dir: &Path,
    config: &Config,
    listener: &TcpListener,
    shutdown: impl Future<Output = ()>,
    why: Lost,
) -> Result<Option<BTreeSet<MachineId>>, ServerError> {
    let machine = match reopen(|| Machine::open_behind(dir, config.clone())).await {
        Ok(machine)
            if machine.is_gateway() && !machine.central.all_marks_told(&machine.ledger.snapshot().state) =>
        {
            machine
        }
        _ => return Err(why.into()),
    };
    tracing::error!(%why, "Central lost the end of its order; it collects it from the machines that follow it");
    machine.central.begin_healing();
    let doors = Doors::open(&machine, dir, "gateway", Some(listener))?;
    let telling = tokio::spawn(super::notices::tell_frozen(Arc::clone(&machine), why.to_string()));
    let wait_ms = config.timing.heal_wait_ms.unwrap_or(COLLECT_WAIT_MS);
    let offered = async {
        let mut until = u64::MAX;
        loop {
            let snapshot = machine.ledger.snapshot();
            let offered = machine.central.told();
            if machine.central.all_marks_told(&snapshot.state) || running_ms() >= until {
                return offered;
            }
            // While nobody has answered there is nothing to go on from.
            if until == u64::MAX && !offered.is_empty() {
                until = running_ms().saturating_add(wait_ms);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let offered = tokio::select! {
        offered = offered => Some(offered),
        () = shutdown => None,
    };
    telling.abort();
    // Whatever became of it, it holds the machine no longer.
    drop(telling.await);
    doors.close().await;
    if offered.is_none() {
        close(&machine, |ledger| ledger.close()).await?;
        return Ok(None);
    }
    let forked = matches!(why, Lost::Seen(_));
    let newest = machine.ledger.written_logs().into_values();
    let open = newest
        .filter(|log| forked || !machine.ledger.is_exact(log))
        .collect();
    succeed(&machine, open).await?;
    close(&machine, |ledger| ledger.close_restored()).await?;
    Ok(offered)
}

/// Begins the epoch of this store's order log, when it has none yet.
///
/// # Errors
/// [`ServerError::NotServing`] when root's designation does not reach so far.
pub(crate) async fn begin(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let snapshot = machine.ledger.snapshot();
    let state = &snapshot.state;
    let (Some(own), Some(order)) = (machine.ledger.own_log(Stream::Order), state.order()) else {
        return Ok(());
    };
    if own == order.log || state.epochs().any(|(_, row)| row.log == own) {
        return Ok(());
    }
    let epoch = order.epoch.saturating_add(1);
    let key = machine.ledger.context().machine_key;
    let designation = state
        .designations()
        .find(|(_, d)| d.machine_key == key && (d.epoch_first..=d.epoch_last).contains(&epoch))
        .map(|(id, _)| *id);
    let designation = designation.ok_or_else(|| {
        ServerError::NotServing(format!(
            "no designation by the root key lets {} open epoch {epoch}; have the root key designate it anew",
            machine.id()
        ))
    })?;
    let before = snapshot
        .logs
        .get(&order.log)
        .ok_or(LedgerError::UnknownLog(order.log))?;
    let cut = before.head();
    let started = EpochStarted {
        epoch,
        log: own,
        previous: order.log,
        cut,
        designation,
    };
    let text = format!(
        "Central lost the end of its order; epoch {epoch} goes on behind seq {} of the one before",
        cut.seq
    );
    tracing::warn!(epoch, previous = %order.log, cut = cut.seq, "the next epoch begins");
    let (last, policy) = (machine.ledger.get(&order.log, cut.seq)?, machine.config.policy());
    let begun = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        let subject = Subject::new("order").expect("short and printable");
        tx.append(Stream::Order, Draft::of(&started, subject))?;
        let key: [&[u8]; 2] = [b"epoch", &started.log.0];
        let drafts = notices::raise(tx.state(), NoticeTopic::CentralFrozen, None, &text, &key);
        put(tx, drafts)?;
        // The cut may be in the middle of a commit.
        match last.map_or(Ok(()), |last| steering::complete(tx, &last, &policy)) {
            Err(e) if super::ticker::is_final(&e) => {
                tracing::warn!(code = e.code(), error = %e, "what was asked last before the cut is refused");
                Ok(())
            }
            completed => completed,
        }
    });
    begun.await?;
    let begun = machine.ledger.snapshot();
    if begun.state.order().map(|order| order.log) != Some(own) {
        return Err(ServerError::NotServing(format!(
            "epoch {epoch} was written and is not in force; `ledger verify` tells why"
        )));
    }
    Ok(())
}
