//! The gateway's side of every exchange. The HTTP layer has verified the caller's signature; here its role counts.

use super::epochs::{self, Seen};
use super::polls::{self, Waited};
use super::records::read_run;
use super::{backlog, claims, evidence as kept, incarnations, joining, orphans};
use crate::clock::running_ms;
use crate::closing::Closing;
use crate::cosign;
use crate::error::ServerError;
use crate::exchange::{
    Beat, BeatAnswer, FENCES_MAX, Hello, HelloAnswer, MARKS_MAX, Mark, Pull, PullAnswer, Push, PushAnswer,
    RUN_RECORDS_MAX, Start, WAIT_MS_MAX, WINDOW_BYTES, decode, encode,
};
use crate::machine::Machine;
use axum::body::Bytes;
use ledger::core::kinds::{AnyDetail, HandlerDeclared};
use ledger::core::{LogId, MachineId, PublicKey, Stream};
use ledger::intake::VerifiedRun;
use ledger::{PrunedStart, Receipt, Tx};
use ledger_projections::central::{admit, greet};
use ledger_projections::health::Gauges;
use ledger_projections::queue::Policy;
use ledger_projections::queue::decide::Holds;
use ledger_projections::{FleetState, Place};
use std::sync::Arc;
use std::time::Duration;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key whose signature was verified; absent for a join.
    pub key: Option<PublicKey>,
    /// The peer's address, for the log.
    pub peer: String,
    /// The door that it came through.
    pub door: Closing,
}

/// Answers one exchange.
///
/// # Errors
/// [`ServerError`]; nothing is acknowledged that is not durable.
pub async fn exchange(
    machine: &Arc<Machine>,
    caller: Caller,
    op: &str,
    body: Bytes,
) -> Result<Bytes, ServerError> {
    if !machine.is_gateway() {
        return Err(ServerError::WrongRole(
            "this machine is no gateway; dial the gateway".into(),
        ));
    }
    if op == "join" {
        return joining::answer(machine, decode("join", &body)?)
            .await
            .map(|answer| encode(&answer).into());
    }
    let node = known_node(machine, &caller)?;
    machine.central.hear(&node, machine.now_us());
    let answer = match op {
        "hello" => encode(&hello(machine, &node, decode("hello", &body)?).await?),
        "marks" => encode(&incarnations::marks(machine, &node, &decode("marks", &body)?).await?),
        "push" => encode(&push(machine, &node, decode("push", &body)?).await?),
        "pull" => encode(&pull(machine, &node, decode("pull", &body)?, caller.door).await?),
        "claim" => encode(&claims::claim(machine, &node, decode("claim", &body)?, caller.door).await?),
        "beat" => encode(&beat(machine, &node, &decode("beat", &body)?)?),
        "start" => encode(&start(machine, decode("start", &body)?).await?),
        "begin" => encode(&begin(machine, &node, decode("begin", &body)?).await?),
        "cosign" => encode(&cosign::answer(machine, &node, decode("cosign", &body)?).await?),
        other => return Err(ServerError::NotFound(format!("no exchange is called {other:?}"))),
    };
    Ok(answer.into())
}

fn known_node(machine: &Machine, caller: &Caller) -> Result<MachineId, ServerError> {
    let key = caller
        .key
        .ok_or_else(|| ServerError::Forbidden("an enrolled machine's signature is needed".into()))?;
    let snapshot = machine.ledger.snapshot();
    let row = snapshot.state.machine_by_key(&key);
    match row {
        Some(row) if row.machine_key == key && !row.retired => Ok(row.id.clone()),
        Some(row) if row.retired => Err(ServerError::Forbidden(format!("machine {} is retired", row.id))),
        _ => Err(ServerError::Forbidden(
            "the key belongs to no enrolled machine; join with an invitation".into(),
        )),
    }
}

pub(super) fn mark_of(machine: &Machine, log: &LogId) -> Option<Mark> {
    machine.ledger.snapshot().logs.get(log).map(|chain| {
        let (seq, seal) = chain.tip();
        Mark { seq, seal }
    })
}

// Whether somebody's mark of one of our logs is a prefix of ours.
fn fits(machine: &Machine, log: &LogId, mark: &Mark) -> Result<bool, ServerError> {
    let ours = machine.ledger.get(log, mark.seq)?;
    Ok(ours.is_some_and(|receipt| receipt.seal_digest() == mark.seal))
}

async fn hello(machine: &Arc<Machine>, node: &MachineId, hello: Hello) -> Result<HelloAnswer, ServerError> {
    if hello.fences.len() > FENCES_MAX {
        return Err(ServerError::Malformed(format!("more than {FENCES_MAX} fences")));
    }
    if hello.logs.len() > MARKS_MAX {
        return Err(ServerError::Malformed(format!("more than {MARKS_MAX} logs")));
    }
    machine.central.processes.hear(node, hello.process);
    let snapshot = machine.ledger.snapshot();
    let order = snapshot
        .state
        .order()
        .ok_or_else(|| ServerError::WrongRole("this store has no order".into()))?;
    if machine.ledger.is_behind() {
        machine.central.note_hello(node);
        if hello.offered {
            machine.central.mark_told(node);
        }
        return Ok(HelloAnswer {
            epoch: order.epoch,
            order: order.log,
            mirror: Vec::new(),
            marks: Vec::new(),
            synced: false,
            healing: true,
            collecting: true,
            orphan: false,
            term_ms: machine.config.policy().term_ms,
            window_bytes: WINDOW_BYTES,
            now: machine.now_us(),
        });
    }
    let (mut orphan, mut brings) = (false, false);
    if let Some((epoch, log, mark, proof)) = &hello.order {
        let seen = epochs::judge(machine, &snapshot, (log, mark), proof)?;
        orphan = matches!(seen, Seen::Orphan | Seen::Forked);
        brings = seen == Seen::Orphan;
        machine.central.orphans.hear(node, brings, running_ms());
        match seen {
            Seen::Within => {
                machine.marks.returned(node, hello.incarnation);
                machine.hear_mark(node, log, *mark);
            }
            Seen::Orphan | Seen::Kept => {}
            Seen::Forked => kept::of_central(machine, node, log, mark.seq, proof).await,
            Seen::Beyond => {
                let why = format!(
                    "{node} has seen the order of epoch {epoch} up to seq {}, this store has epoch {} up to seq {}: it lost what \
                     it had acknowledged, and collects it from the machines that have it",
                    mark.seq, order.epoch, order.head_seq
                );
                tracing::error!(%node, why, "Central freezes itself");
                machine.central.lost_its_tail(why);
            }
        }
        machine.central.mark_told(node);
    }
    // Before anything that a machine did under claims of a branch is judged. What comes too early is judged again.
    if !brings && machine.central.is_serving() {
        orphans::settle(machine).await;
    }
    machine.central.note_hello(node);
    let marks: Vec<_> = hello
        .logs
        .iter()
        .map(|(log, _)| (*log, mark_of(machine, log)))
        .collect();
    let pairs = hello.logs.iter().zip(&marks);
    let pairs = pairs.filter(|((log, _), _)| backlog::counts(&snapshot.state, log));
    let missing = pairs.filter_map(|((log, theirs), (_, ours))| {
        Some((*log, theirs.as_ref()?.seq, ours.map(|ours| ours.seq)))
    });
    let missing: Vec<_> = missing.collect();
    machine.central.note_backlog(node, &missing, machine.now_us());
    for ((log, theirs), (_, ours)) in hello.logs.iter().zip(&marks) {
        if let (Some(theirs), Some(ours)) = (theirs, ours)
            && theirs.seq < ours.seq
        {
            return Err(ServerError::Fork(format!(
                "log {log} of {node} ends at seq {}, the gateway has it up to seq {}: an old copy was restored; \
                 restore a newer one",
                theirs.seq, ours.seq
            )));
        }
    }
    // Everything that fences are judged by is in the work log. Facts and pulses may lag, so that a machine with a backlog of them
    // works meanwhile.
    let mut work = hello.logs.iter().zip(&marks).take(1);
    let tells = hello.order.is_some() && machine.central.is_serving();
    let synced = tells && work.all(|((_, theirs), (_, ours))| theirs == ours);
    if synced {
        settle(machine, node, &hello).await?;
    }
    let own = |stream| machine.ledger.own_log(stream);
    Ok(HelloAnswer {
        epoch: order.epoch,
        order: order.log,
        mirror: [own(Stream::Work), own(Stream::Facts)]
            .into_iter()
            .flatten()
            .chain(incarnations::former(&snapshot.state, node))
            .collect(),
        marks,
        synced,
        healing: !machine.central.is_serving(),
        collecting: false,
        orphan,
        term_ms: machine.config.policy().term_ms,
        window_bytes: WINDOW_BYTES,
        now: machine.now_us(),
    })
}

// Everything that the node had to tell is judged: declare what it runs, say that it is back, settle its fences.
async fn settle(machine: &Arc<Machine>, node: &MachineId, hello: &Hello) -> Result<(), ServerError> {
    let node = node.clone();
    let declared: Vec<HandlerDeclared> = hello
        .handlers
        .iter()
        .map(|d| HandlerDeclared {
            machine: node.clone(),
            handler: d.handler.clone(),
            class: d.class,
            labels: d.labels.clone(),
            slots: d.slots,
        })
        .collect();
    let (fences, incarnation) = (hello.fences.clone(), hello.incarnation);
    let known = hello.order.as_ref().map(|(epoch, _, mark, _)| (*epoch, mark.seq));
    let seen = known.map_or(Place::MIN, |(epoch, seq)| Place { epoch, seq });
    let snapshot = machine.ledger.snapshot();
    for fence in fences
        .iter()
        .filter(|f| snapshot.state.fence(f).is_some_and(|claim| claim.machine == node))
    {
        machine.central.renew(fence);
    }
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> {
            let holds = Holds {
                held: &fences,
                seen,
                incarnation,
            };
            Ok(greet(tx, &node, &declared, &holds)?)
        })
        .await?;
    Ok(())
}

async fn push(machine: &Arc<Machine>, node: &MachineId, push: Push) -> Result<PushAnswer, ServerError> {
    if !machine.ledger.is_behind() {
        machine.central.wait_until_serving().await?;
    }
    if push.records.len() > RUN_RECORDS_MAX {
        return Err(ServerError::Malformed(format!(
            "more than {RUN_RECORDS_MAX} records in one push"
        )));
    }
    if machine.ledger.is_behind() {
        return epochs::take_offer(machine, push).await;
    }
    let snapshot = machine.ledger.snapshot();
    let row = snapshot
        .state
        .machine(node)
        .ok_or_else(|| ServerError::Forbidden(format!("{node} is unknown")))?;
    let chain = snapshot.logs.get(&push.log).cloned();
    let (log, process, lanes) = (push.log, push.process, &machine.central.lanes);
    // Given back before its turn comes: whoever waits for one before it must not keep that one out.
    let room = lanes.room(push.records.len()).await?;
    let raw = push.records.into_iter().map(|r| (r.record, r.payload)).collect();
    let verified = tokio::task::spawn_blocking(move || VerifiedRun::verify(raw, chain.as_deref())).await;
    drop(room);
    let verified = verified.map_err(|e| ServerError::Malformed(e.to_string()))?;
    if let Err(e) = &verified {
        kept::broken(machine, node, e).await;
    }
    let Some(run) = verified? else {
        return Err(ServerError::Malformed("a push without records".into()));
    };
    if run.log() != log {
        return Err(ServerError::Malformed(
            "the records are of another log than the push".into(),
        ));
    }
    if orphans::is_over(machine, &snapshot, &log) {
        return orphans::keep(machine, node, run).await;
    }
    incarnations::may_push(&snapshot, row, &run)?;
    let (run, node_id, policy) = (Arc::new(run), node.clone(), machine.config.policy());
    let (taken, central) = (Arc::clone(&run), Arc::clone(machine));
    let next = |machine: &Machine| mark_of(machine, &log).map_or(0, |mark| mark.seq.saturating_add(1));
    let first = run.records().first().map_or(0, |(record, _)| record.seal().seq);
    let end = first.saturating_add(u64::try_from(run.records().len()).unwrap_or(u64::MAX));
    lanes.turn(&log, first, next(machine)).await;
    let taking = machine.ledger.submit(move |tx| {
        if central.central.processes.is_barred(&node_id, &process) {
            return Err(ServerError::Fork(format!(
                "{node_id} took its own tail back since: what an earlier process pushed comes too late"
            )));
        }
        take_in(tx, &taken, &node_id, &policy)?;
        orphans::follow_requests(tx, &central, &taken)
    });
    lanes.admitted(&log, end);
    let committed = match taking.await.map_err(ServerError::from) {
        Ok(committed) => committed,
        Err(e) => {
            lanes.refused(&log, next(machine));
            if !machine.central.processes.is_late(node, &process) {
                kept::judge(machine, node, &run, &e).await;
            }
            return Err(e);
        }
    };
    note_gauges(machine, node, &committed.receipts);
    let mark = mark_of(machine, &log).ok_or_else(|| ServerError::NotFound(format!("log {log}")))?;
    Ok(PushAnswer { mark })
}

/// Takes in a machine's records that came another way than by its push, with all that follows from them; how many of them
/// were new. Blocks until they are durable.
pub(crate) fn take_in_now(machine: &Machine, run: VerifiedRun, node: &MachineId) -> Result<u64, ServerError> {
    let (log, node, policy) = (run.log(), node.clone(), machine.config.policy());
    let taking = machine.ledger.commit(move |tx| take_in(tx, &run, &node, &policy));
    let new = taking?
        .receipts
        .iter()
        .filter(|receipt| receipt.log() == log)
        .count();
    Ok(u64::try_from(new).unwrap_or(u64::MAX))
}

// Takes a run in, pins it, and decides what follows from it, all in one batch.
fn take_in(
    tx: &mut Tx<'_, FleetState>,
    run: &VerifiedRun,
    node: &MachineId,
    policy: &Policy,
) -> Result<(), ServerError> {
    let intake = tx.intake(run)?;
    if intake.new.is_empty() {
        return Ok(());
    }
    let log = run.log();
    incarnations::goes_on(tx, &log)?;
    let chain = tx.foreign(&log).ok_or(ledger::LedgerError::UnknownLog(log))?;
    let (stream, root) = (chain.genesis().stream, Some(chain.head().root));
    Ok(admit(
        tx,
        &intake.new,
        run.inadmissible(),
        stream,
        root,
        node,
        policy,
    )?)
}

fn note_gauges(machine: &Machine, node: &MachineId, receipts: &[Receipt]) {
    let pulse = receipts
        .iter()
        .rev()
        .find_map(|r| match r.statement().any_detail() {
            Ok(AnyDetail::NodePulse(pulse)) => Some(pulse.into()),
            Ok(AnyDetail::NodePulse2(pulse)) => Some(pulse.into()),
            Ok(AnyDetail::NodePulse3(pulse)) => Some(pulse),
            _ => None,
        });
    if let Some(pulse) = pulse {
        let heard_at = machine.now_us();
        machine.set_gauges(node, Gauges { pulse, heard_at });
    }
}

async fn pull(
    machine: &Arc<Machine>,
    node: &MachineId,
    pull: Pull,
    mut door: Closing,
) -> Result<PullAnswer, ServerError> {
    if let Some(after) = &pull.after {
        if fits(machine, &pull.log, after)? {
            machine.hear_mark(node, &pull.log, *after);
        } else if machine.central.healing() {
            return Err(ServerError::NotServing(
                "it waits for what its machines have of the order; try again".into(),
            ));
        } else if orphans::is_over(machine, &machine.ledger.snapshot(), &pull.log)
            && mark_of(machine, &pull.log).is_none_or(|ours| ours.seq < after.seq)
        {
            return Err(ServerError::NotServing(
                "it goes on in a later log; say hello and bring what is behind the end of this one first"
                    .into(),
            ));
        } else {
            let why = format!(
                "the record at seq {} of log {} is another one here: a fork; both sides keep what they have",
                after.seq, pull.log
            );
            let snapshot = machine.ledger.snapshot();
            let mut epochs = snapshot.state.epochs();
            // Nobody but Central writes it, so that Central's key sealed both.
            return Err(if epochs.any(|(_, row)| row.log == pull.log) {
                ServerError::OrderForked(why)
            } else {
                ServerError::Fork(why)
            });
        }
    }
    let next = pull.after.map_or(0, |mark| mark.seq.saturating_add(1));
    let mut changed = machine.changed();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(pull.wait_ms.min(WAIT_MS_MAX).into());
    loop {
        changed.mark_unchanged();
        let tip = mark_of(machine, &pull.log).map(|mark| mark.seq);
        if tip.is_some_and(|tip| tip >= next) {
            break;
        }
        if polls::wait(&mut changed, &mut door, deadline).await != Waited::Changed {
            return Ok(PullAnswer {
                records: Vec::new(),
                complete: true,
            });
        }
    }
    let (machine, log) = (Arc::clone(machine), pull.log);
    let read = tokio::task::spawn_blocking(move || read_run(&machine, &log, next)).await;
    let (records, complete) = read.map_err(|e| ServerError::Malformed(e.to_string()))??;
    Ok(PullAnswer { records, complete })
}

// What a copy of a log needs to begin behind what was pruned here.
async fn start(machine: &Arc<Machine>, asked: Start) -> Result<PrunedStart, ServerError> {
    let machine = Arc::clone(machine);
    let start = cosign::blocking(move || Ok(machine.ledger.pruned_start(&asked.log)?)).await?;
    start.ok_or_else(|| ServerError::NotFound(format!("nothing of log {} was pruned here", asked.log)))
}

// A node's log goes on behind what the node pruned, and this store had lost: what follows is taken in again.
async fn begin(
    machine: &Arc<Machine>,
    node: &MachineId,
    start: PrunedStart,
) -> Result<PushAnswer, ServerError> {
    machine.central.wait_until_serving().await?;
    let log = start.log()?;
    let snapshot = machine.ledger.snapshot();
    let row = snapshot.state.machine(node);
    if !row.is_some_and(|row| snapshot.state.writes(row, &log)) {
        return Err(ServerError::Forbidden(format!("log {log} is none of {node}'s")));
    }
    let beginning = Arc::clone(machine);
    cosign::blocking(move || Ok(beginning.ledger.begin_behind(&start)?)).await?;
    let mark = mark_of(machine, &log).ok_or_else(|| ServerError::NotFound(format!("log {log}")))?;
    Ok(PushAnswer { mark })
}

fn beat(machine: &Machine, node: &MachineId, beat: &Beat) -> Result<BeatAnswer, ServerError> {
    if !machine.central.is_serving() {
        // What a claim has come to may be in what this store lost.
        return Err(ServerError::NotServing(
            "it does not decide yet; try again".into(),
        ));
    }
    let snapshot = machine.ledger.snapshot();
    let state = &snapshot.state;
    let fences = beat.fences.get(..FENCES_MAX).unwrap_or(&beat.fences);
    let reply = ledger_projections::central::beat(state, node, fences);
    for fence in &reply.renewed {
        machine.central.renew(fence);
    }
    Ok(BeatAnswer {
        standing: reply.standing,
        hello: reply.hello,
        epoch: state.order().map_or(0, |order| order.epoch),
        now: machine.now_us(),
    })
}
