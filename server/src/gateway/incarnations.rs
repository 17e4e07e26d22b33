//! Logs of a machine that lost the end of the ones before: who may begin them, and that the ones before are over.
//!
//! A machine's own key is enough: the genesis, signed by it, names the head of the log before, which must be the very one
//! that this gateway has. From then on nothing more is taken in of the log before; who still writes it is another machine
//! with the same key.

use crate::error::ServerError;
use crate::exchange::{MARKS_MAX, Mark, Marks, MarksAnswer};
use crate::machine::Machine;
use ledger::core::kinds::LogGenesis;
use ledger::core::{Chain, LogId, MachineId, Stream};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Published, Tx};
use ledger_projections::FleetState;
use ledger_projections::members;

/// What is here of a machine's own logs, older incarnations first, and of others that it names.
///
/// # Errors
/// [`ServerError::Forbidden`] for a machine that is none of the fleet; [`ServerError::Malformed`] for too many logs.
pub(super) async fn marks(
    machine: &Machine,
    node: &MachineId,
    asked: &Marks,
) -> Result<MarksAnswer, ServerError> {
    if asked.logs.len() > MARKS_MAX {
        return Err(ServerError::Malformed(format!("more than {MARKS_MAX} logs")));
    }
    if let Some(process) = asked.taking_back {
        machine.central.processes.takes_back(node, process);
        // What was handed to the committer before that is in the answer.
        let settled = machine.ledger.submit(|_| -> Result<(), ServerError> { Ok(()) });
        settled.await?;
    }
    let snapshot = machine.ledger.snapshot();
    let row = snapshot.state.machine(node);
    let row = row.ok_or_else(|| ServerError::Forbidden(format!("{node} is unknown")))?;
    let mut own: Vec<&Chain> = snapshot
        .logs
        .values()
        .map(|chain| &**chain)
        .filter(|chain| chain.machine_key() == row.machine_key)
        .collect();
    own.sort_by_key(|chain| chain.genesis().incarnation);
    let mark = |chain: &Chain| {
        let (seq, seal) = chain.tip();
        Mark { seq, seal }
    };
    let named = |log: &LogId| (*log, snapshot.logs.get(log).map(|chain| mark(chain)));
    Ok(MarksAnswer {
        own: own.into_iter().map(|chain| (chain.log(), mark(chain))).collect(),
        others: asked.logs.iter().map(named).collect(),
    })
}

/// What a machine wrote under earlier keys: when it lost its disk and joined anew under its name, it gets its own history back as
/// copies, heartbeats as far as they were kept.
pub(super) fn former<'a>(state: &'a FleetState, node: &'a MachineId) -> impl Iterator<Item = LogId> + 'a {
    let key = state.machine(node).map(|row| row.machine_key);
    let of = state.logs().filter(move |(_, row)| {
        row.machine == *node
            && Some(row.machine_key) != key
            && matches!(row.stream, Stream::Work | Stream::Facts | Stream::Pulse)
    });
    of.map(|(log, _)| *log)
}

/// Whether a machine may push a run of this log.
///
/// # Errors
/// [`ServerError::Forbidden`] for a log that is none of its; [`ServerError::Fork`] for one that does not continue what is
/// here.
pub(super) fn may_push(
    published: &Published<FleetState>,
    node: &members::Machine,
    run: &VerifiedRun,
) -> Result<(), ServerError> {
    let log = run.log();
    if published.state.writes(node, &log) {
        return Ok(());
    }
    let foreign = || ServerError::Forbidden(format!("log {log} is none of {}'s", node.id));
    let first = run.records().first().filter(|(record, _)| record.seal().seq == 0);
    let genesis = first.and_then(|(record, _)| Chain::start(record).ok());
    let genesis = genesis
        .as_ref()
        .map(|chain| chain.genesis())
        .ok_or_else(foreign)?;
    if genesis.machine != node.id
        || genesis.machine_key != node.machine_key
        || genesis.stream == Stream::Order
    {
        return Err(foreign());
    }
    continues(published, node, genesis)
}

fn continues(
    published: &Published<FleetState>,
    node: &members::Machine,
    genesis: &LogGenesis,
) -> Result<(), ServerError> {
    let fork = |why: String| Err(ServerError::Fork(why));
    let newest = published.state.log_of(&node.machine_key, genesis.stream);
    let before = newest.and_then(|log| published.logs.get(&log));
    let (Some(before), Some(named)) = (before, &genesis.predecessor) else {
        return fork(format!("{} begins a log that continues none", node.id));
    };
    let follows = named.log == before.log()
        && genesis.incarnation == before.genesis().incarnation.saturating_add(1)
        // Of pulses less may have come back than is here; nothing is decided by them.
        && (named.head == before.head() || genesis.stream == Stream::Pulse);
    if follows {
        return Ok(());
    }
    fork(format!(
        "{} begins its {} anew behind seq {} of log {}, the gateway has seq {} of log {}: take all of it back first",
        node.id,
        genesis.stream,
        named.head.seq,
        named.log.short(),
        before.tip().0,
        before.log().short()
    ))
}

/// Whether a log still goes on: another has not taken its place.
///
/// # Errors
/// [`ServerError::Fork`] when one has.
pub(super) fn goes_on(tx: &Tx<'_, FleetState>, log: &LogId) -> Result<(), ServerError> {
    let state = tx.state();
    let row = state.log(log).ok_or(LedgerError::UnknownLog(*log))?;
    match state.log_of(&row.machine_key, row.stream) {
        Some(newest) if newest != *log => Err(ServerError::Fork(format!(
            "log {log} of {} was succeeded by {}; nothing more is taken in of it",
            row.machine,
            newest.short()
        ))),
        _ => Ok(()),
    }
}
