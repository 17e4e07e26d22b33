//! A node that lost the end of its own logs: it takes them back from the gateway before it says anything.
//!
//! An old copy of its data was put back, or the disk lost what it had promised. Opening notices it by the anchor; an old copy
//! that came with its old anchor is noticed by asking the gateway what it has, at every start, if it answers at once. Then
//! nothing is said here until the gateway's part of each log is here again and verified. Only when the anchor proves that
//! nothing more was ever signed the logs go on; otherwise each is succeeded by a log of the next incarnation that names its
//! head, since a second record for one seq would be a fork. The machine key is enough for all that.

use super::collecting::offer_behind;
use super::pull::take_in;
use crate::client::{ClientError, MachineSigner, Signed};
use crate::config::Config;
use crate::error::ServerError;
use crate::exchange::{Mark, Marks, MarksAnswer, Pull, PullAnswer, Push, PushAnswer, decode, encode};
use crate::gateway::records::read_run;
use crate::machine::Machine;
use http::StatusCode;
use ledger::core::LogId;
use ledger::journal::JournalError;
use ledger::lock::LockError;
use ledger::{CommitError, LedgerError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a start waits to hear from the gateway whether it has more of our logs than we do.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// How long one run of records may take.
const PULL_WITHIN: Duration = Duration::from_secs(30);
/// How long a command that found the store free while this process reopened it may keep it.
const REOPEN_WITHIN: Duration = Duration::from_secs(20);
/// Time between two tries to open it.
const REOPEN_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Time between two tries to reach the gateway while nothing can go on without it.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Opens a node's store, whole: what it lost of its own logs is here again. `again` tells that this process just closed it.
///
/// # Errors
/// [`ServerError`] when it cannot be opened, or when the gateway's copy of a log is another one.
pub(crate) async fn open_whole(
    dir: &Path,
    config: &Config,
    again: bool,
) -> Result<Arc<Machine>, ServerError> {
    let open = || Machine::open(dir, config.clone());
    let opened = if again { reopen(open).await } else { open() };
    // An anchor that is as old as the data proves nothing about what came after it.
    let (machine, anchor_proves) = match opened {
        Ok(machine) => {
            let Some(gateway) = gateway_of(&machine)? else {
                return Ok(machine);
            };
            let asking = tokio::time::timeout(ASK_WITHIN, has_more(&machine, &gateway));
            match asking.await {
                Ok(Ok(Some(log))) => {
                    tracing::warn!(%log, "the gateway has more of this machine's log than is here: an old copy was restored");
                }
                // Nobody answers: the machine goes on alone, as it may at any time.
                Ok(Ok(None) | Err(_)) | Err(_) => return Ok(machine),
            }
            close(&machine, |ledger| ledger.close()).await?;
            (reopen(|| Machine::open_behind(dir, config.clone())).await?, false)
        }
        Err(e) if may_be_behind(&e) => {
            // Damage that a missing end does not explain is told as it was.
            let machine = Machine::open_behind(dir, config.clone()).map_err(|_| e)?;
            tracing::warn!(
                "this store ends before what it had acknowledged; it takes its tail back from the gateway"
            );
            (machine, true)
        }
        Err(e) => return Err(e),
    };
    let Some(gateway) = gateway_of(&machine)? else {
        return Err(ServerError::WrongRole(
            "this store lost receipts that it had acknowledged and knows no gateway that has them; restore a newer copy of DIR/data"
                .into(),
        ));
    };
    take_back(&machine, &gateway, anchor_proves).await?;
    close(&machine, |ledger| ledger.close_restored()).await?;
    reopen(|| Machine::open(dir, config.clone())).await
}

/// Opens a store again that this process just closed: a command may have found it free meanwhile, and has a moment to end.
///
/// # Errors
/// As `open`'s.
pub(crate) async fn reopen(
    open: impl Fn() -> Result<Arc<Machine>, ServerError>,
) -> Result<Arc<Machine>, ServerError> {
    let began = tokio::time::Instant::now();
    loop {
        match open() {
            Err(ServerError::Ledger(LedgerError::Lock(LockError::Locked { .. })))
                if began.elapsed() < REOPEN_WITHIN =>
            {
                tokio::time::sleep(REOPEN_AGAIN_AFTER).await;
            }
            opened => return opened,
        }
    }
}

/// Whether an opening failed because the store ends before what it promised.
pub(crate) fn may_be_behind(error: &ServerError) -> bool {
    matches!(
        error,
        ServerError::Ledger(
            LedgerError::BehindAnchor { .. }
                | LedgerError::Behind(_)
                | LedgerError::Journal(JournalError::Corrupt { .. })
        )
    )
}

pub(crate) async fn close(
    machine: &Machine,
    how: impl FnOnce(ledger::Ledger<ledger_projections::FleetState>) -> Result<(), LedgerError> + Send + 'static,
) -> Result<(), ServerError> {
    let ledger = machine.ledger.clone();
    let closed = tokio::task::spawn_blocking(move || how(ledger)).await;
    Ok(closed.expect("closing does not panic")?)
}

// The gateway that a node of a fleet dials; none on a gateway itself.
fn gateway_of(machine: &Machine) -> Result<Option<Signed>, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let central = snapshot.state.order().map(|order| order.central_key);
    let (Some(address), Some(key), false) = (&machine.config.gateway, central, machine.is_gateway()) else {
        return Ok(None);
    };
    let signer = Arc::new(MachineSigner(machine.ledger.clone()));
    let signed = Signed::new(address, signer, Some(key));
    let signed = signed.map_err(|e| ServerError::Gateway(format!("{address}: {e}")))?;
    Ok(Some(signed))
}

async fn pull(gateway: &Signed, log: LogId, after: Option<Mark>) -> Result<PullAnswer, ClientError> {
    let body = encode(&Pull {
        log,
        after,
        wait_ms: 0,
    });
    let answer = gateway.exchange("pull", body, PULL_WITHIN).await?;
    decode("pull", &answer).map_err(|e| ClientError::Malformed {
        to: "the gateway".into(),
        why: e.to_string(),
    })
}

pub(super) fn mark_of(machine: &Machine, log: &LogId) -> Option<Mark> {
    machine.ledger.snapshot().logs.get(log).map(|chain| {
        let (seq, seal) = chain.tip();
        Mark { seq, seal }
    })
}

/// What the gateway has of this machine's own logs; whether this process takes them back.
pub(crate) async fn marks(
    gateway: &Signed,
    taking_back: Option<[u8; 16]>,
    within: Duration,
) -> Result<MarksAnswer, ClientError> {
    let asked = Marks {
        taking_back,
        logs: Vec::new(),
    };
    let answer = gateway.exchange("marks", encode(&asked), within).await?;
    decode("marks", &answer).map_err(|e| ClientError::Malformed {
        to: "the gateway".into(),
        why: e.to_string(),
    })
}

// The first of our logs of which the gateway has more.
async fn has_more(machine: &Machine, gateway: &Signed) -> Result<Option<LogId>, ClientError> {
    let more = |log: &LogId, theirs: &Mark| mark_of(machine, log).is_none_or(|ours| ours.seq < theirs.seq);
    let answer = marks(gateway, None, ASK_WITHIN).await?;
    let found = answer.own.iter().find(|(log, theirs)| more(log, theirs));
    Ok(found.map(|(log, _)| *log))
}

// Everything that the gateway has of our logs, then successors of the newest.
async fn take_back(machine: &Arc<Machine>, gateway: &Signed, anchor_proves: bool) -> Result<(), ServerError> {
    let known = loop {
        match marks(gateway, Some(machine.process), PULL_WITHIN).await {
            Ok(answer) => break answer.own,
            Err(e) => wait_again(&e).await,
        }
    };
    let before: u64 = machine.ledger.snapshot().receipts;
    for (log, theirs) in &known {
        let ahead = mark_of(machine, log).is_some_and(|ours| ours.seq > theirs.seq);
        let taken = if ahead {
            give_rest(machine, gateway, *log, Some(*theirs)).await
        } else {
            take_log_back(machine, gateway, *log).await
        };
        match taken {
            // Heartbeats that went there by retention, the only records that do; nothing is decided by them.
            Err(e @ ServerError::NotFound(_)) => {
                tracing::warn!(code = e.code(), error = %e, "not every heartbeat could be taken back");
            }
            taken => taken?,
        }
    }
    // Logs of which the gateway has nothing: begun here, and never told.
    for log in own_logs(machine) {
        if known.iter().all(|(of, _)| *of != log) {
            give_rest(machine, gateway, log, None).await?;
        }
    }
    let taken = machine.ledger.snapshot().receipts.saturating_sub(before);
    let newest = machine.ledger.written_logs().into_values();
    let is_open = |log: &LogId| !(anchor_proves && machine.ledger.is_exact(log));
    let open: Vec<LogId> = newest.filter(is_open).collect();
    tracing::info!(
        receipts = taken,
        succeeded = open.len(),
        "this machine's own tail is here again"
    );
    succeed(machine, open).await
}

// This machine's own logs of all incarnations, older ones first.
fn own_logs(machine: &Machine) -> Vec<LogId> {
    let (snapshot, key) = (machine.ledger.snapshot(), machine.ledger.context().machine_key);
    let own = snapshot.logs.values().filter(|chain| chain.machine_key() == key);
    let mut own: Vec<_> = own
        .map(|chain| (chain.genesis().incarnation, chain.log()))
        .collect();
    own.sort_unstable();
    own.into_iter().map(|(_, log)| log).collect()
}

async fn wait_again(error: &ClientError) {
    tracing::warn!(error = %error, "the gateway cannot be asked for this machine's own tail; nothing is written until it answers");
    tokio::time::sleep(AGAIN_AFTER).await;
}

/// Begins the next incarnation of each of these logs, in one commit.
pub(crate) async fn succeed(machine: &Arc<Machine>, logs: Vec<LogId>) -> Result<(), ServerError> {
    if logs.is_empty() {
        return Ok(());
    }
    let begun = machine.ledger.submit(move |tx| -> Result<(), LedgerError> {
        for log in &logs {
            tx.succeed(log)?;
        }
        Ok(())
    });
    begun.await.map_err(CommitError::into_ledger)?;
    Ok(())
}

// What was written here before the copy was made, and never told: the gateway takes no log that continues what it does not have.
async fn give_rest(
    machine: &Arc<Machine>,
    gateway: &Signed,
    log: LogId,
    mut theirs: Option<Mark>,
) -> Result<(), ServerError> {
    let is_behind = |theirs: &Option<Mark>| {
        let ours = mark_of(machine, &log);
        ours.is_some_and(|ours| theirs.is_none_or(|theirs| ours.seq > theirs.seq))
    };
    while is_behind(&theirs) {
        let next = theirs.map_or(0, |theirs| theirs.seq.saturating_add(1));
        let answer = match push_run(machine, gateway, log, next).await? {
            Ok(answer) => answer,
            Err(e) if e.problem().is_some_and(|problem| problem.code == "exchange.fork") => {
                let said = e.problem().map(|problem| problem.detail.clone());
                return Err(ServerError::Fork(said.unwrap_or_default()));
            }
            Err(e) => {
                let forbidden = StatusCode::FORBIDDEN.as_u16();
                if e.problem().is_some_and(|problem| problem.status == forbidden)
                    && let Err(e) = offer_behind(machine, gateway).await
                {
                    tracing::warn!(code = e.code(), error = %e, "the gateway may lack what is here of its logs, and cannot be offered it");
                }
                wait_again(&e).await;
                continue;
            }
        };
        theirs = Some(answer.mark);
    }
    Ok(())
}

/// Pushes a run of a log from a seq on; what the gateway has then, or why it has not.
///
/// # Errors
/// [`ServerError::Ledger`] when it cannot be read here, [`ServerError::Malformed`] for an answer that is none.
pub(super) async fn push_run(
    machine: &Arc<Machine>,
    gateway: &Signed,
    log: LogId,
    next: u64,
) -> Result<Result<PushAnswer, ClientError>, ServerError> {
    let reader = Arc::clone(machine);
    let read = tokio::task::spawn_blocking(move || read_run(&reader, &log, next)).await;
    let (records, _) = read.expect("reading does not panic")?;
    let process = machine.process;
    let body = encode(&Push {
        process,
        log,
        records,
    });
    match gateway.exchange("push", body, PULL_WITHIN).await {
        Ok(answer) => decode("push", &answer).map(Ok),
        Err(e) => Ok(Err(e)),
    }
}

// Whether the gateway pruned what it was asked for.
fn is_gone(error: &ClientError) -> bool {
    error
        .problem()
        .is_some_and(|problem| problem.status == StatusCode::GONE.as_u16())
}

async fn take_log_back(machine: &Arc<Machine>, gateway: &Signed, log: LogId) -> Result<(), ServerError> {
    loop {
        let answer = match pull(gateway, log, mark_of(machine, &log)).await {
            Ok(answer) => answer,
            Err(e) if e.problem().is_some_and(|problem| problem.code == "exchange.fork") => {
                let said = e.problem().map(|problem| problem.detail.clone());
                return Err(ServerError::Fork(said.unwrap_or_default()));
            }
            Err(e) if is_gone(&e) => return Err(ServerError::NotFound(e.to_string())),
            Err(e) => {
                wait_again(&e).await;
                continue;
            }
        };
        if !take_in(machine, log, answer).await? {
            return Ok(());
        }
    }
}
