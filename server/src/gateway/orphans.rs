//! Orphan branches: what Central wrote behind the cut at which a later epoch began, and what a machine that nobody waited for
//! has of it.
//!
//! Such a machine brings its copies after the epoch began. They are kept in the store as what they are, the end of the logs
//! that they stand in: chained, signed, verified like everything else, and of no effect in the order. Then what they tell is
//! offered again: each request is sealed in the order as it goes on, each claim is proven by its record, what people asked of
//! those jobs is asked again, and a report that was rejected because nobody knew its claim gets another verdict. `log.cited` names
//! the branch, and a notice tells of it. Of Central's own work and facts what comes behind their end is pinned and judged
//! as if it came in now.
//!
//! Everything is made from what is kept, a bounded piece at a time, and is done when it was done: a crash anywhere is made up for at
//! the next start, or by the machine, which tells of its branch until it is settled. Each commit asks anew whether Central decides.

use super::about::About;
use super::again::{AT_ONCE, Outcome, Report, does_not_apply, judge, put_again, take};
use super::branch::{Branch, Counts, Told, cited_id, job_of, told_at};
use super::{central, epochs};
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::PushAnswer;
use crate::machine::Machine;
use jiff::Timestamp;
use ledger::core::kinds::{Detail, JobId, LogCited, NoticeTopic, RequestReceived};
use ledger::core::{Draft, LogId, MachineId, Stream, Subject};
use ledger::intake::VerifiedRun;
use ledger::journal::JournalError;
use ledger::{LedgerError, Published, Tx};
use ledger_projections::central::admit;
use ledger_projections::{FleetState, Place, notices};
pub(super) use memory::Orphans;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

mod memory;

/// How long a machine that brings a branch is waited for after each part of it, milliseconds: what it tells is offered again as a
/// whole, since a request comes before the claim of it, and before what was said about its job.
const BRINGING_MS: u64 = 60_000;

/// Whether a log is one of Central's that goes on in another: nobody writes it any more, and copies of its end are taken in.
pub(super) fn is_over(machine: &Machine, published: &Published<FleetState>, log: &LogId) -> bool {
    let Some(chain) = published.logs.get(log) else {
        return false;
    };
    let stream = chain.genesis().stream;
    let mut epochs = published.state.epochs();
    match stream {
        Stream::Order => epochs.any(|(_, row)| row.log == *log && row.cut.is_some()),
        Stream::Work | Stream::Facts => {
            chain.machine_key() == machine.ledger.context().machine_key
                && machine.ledger.own_log(stream) != Some(*log)
        }
        Stream::Pulse => false,
    }
}

/// Keeps what a machine has of such a log behind what is here; a record that contradicts what is here is kept as evidence.
///
/// # Errors
/// [`LedgerError::Chain`] or [`LedgerError::Fork`] when it does not continue what is here; [`ServerError::Forbidden`] when
/// somebody changed it.
pub(super) async fn keep(
    machine: &Arc<Machine>,
    node: &MachineId,
    run: VerifiedRun,
) -> Result<PushAnswer, ServerError> {
    epochs::check_unchanged(&run)?;
    let (keeper, node) = (Arc::clone(machine), node.clone());
    // Who brings it may go away meanwhile; what is durable is known as kept all the same.
    let keeping = tokio::spawn(async move { keep_whole(&keeper, &node, run).await });
    let kept = keeping.await;
    kept.map_err(|e| ServerError::Malformed(e.to_string()))?
}

async fn keep_whole(
    machine: &Arc<Machine>,
    node: &MachineId,
    run: VerifiedRun,
) -> Result<PushAnswer, ServerError> {
    let (log, own, policy) = (run.log(), machine.id().clone(), machine.config.policy());
    let (keeper, run) = (Arc::clone(machine), Arc::new(run));
    let brought = Arc::clone(&run);
    let keeping = machine
        .ledger
        .submit(move |tx| -> Result<Option<Stream>, ServerError> {
            let intake = tx.intake(&run)?;
            let chain = tx.foreign(&log).ok_or(LedgerError::UnknownLog(log))?;
            let (stream, root) = (chain.genesis().stream, Some(chain.head().root));
            if stream != Stream::Order {
                admit(tx, &intake.new, run.inadmissible(), stream, root, &own, &policy)?;
                follow_requests(tx, &keeper, &run)?;
            }
            Ok((!intake.new.is_empty()).then_some(stream))
        });
    let kept = keeping.await.map_err(ServerError::from);
    if let Err(ServerError::Ledger(LedgerError::Fork { log, seq })) = &kept {
        let record = brought
            .records()
            .iter()
            .find(|(record, _)| record.seal().seq == *seq);
        if let Some((record, _)) = record {
            super::evidence::of_central(machine, node, log, *seq, record.bytes()).await;
        }
    }
    let orphans = &machine.central.orphans;
    match kept?.value {
        Some(Stream::Order) => orphans.brought(node, running_ms()),
        Some(Stream::Work) => orphans.brought_own_work(running_ms()),
        _ => {}
    }
    let mark = super::exchange::mark_of(machine, &log);
    Ok(PushAnswer {
        mark: mark.ok_or(LedgerError::UnknownLog(log))?,
    })
}

/// Requests came in, in this very commit: what a branch tells of their jobs is decided before anybody can claim them.
pub(super) fn follow_requests(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    run: &VerifiedRun,
) -> Result<(), ServerError> {
    let requests = run
        .records()
        .iter()
        .map(|(record, _)| record.statement())
        .filter(|statement| statement.kind.as_str() == RequestReceived::KIND);
    follow(tx, machine, requests.map(job_of).collect())
}

// Decides what waits for these jobs, as far as they are known now, and for those that become known thereby. The caller gave no more
// of them than one commit takes: the claims of all these are proven. The rest that has no room is settled by itself, in other commits.
fn follow(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    mut jobs: VecDeque<JobId>,
) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    let (mut given, mut room) = (jobs.len(), AT_ONCE);
    while (given > 0 || room > 0)
        && let Some(job) = jobs.pop_front()
    {
        given = given.saturating_sub(1);
        let places = orphans.waiting().of(&job);
        let looks = places.is_some() || orphans.knows_not_all() && has_branches(tx.state());
        if !looks || tx.state().job(&job).is_none() {
            continue;
        }
        take_claims(tx, machine, &job)?;
        if places.is_none() && orphans.waiting().overflows() {
            // What waits for it may be among what found no room.
            orphans.go_through_again();
        }
        for place in places.iter().flatten().take(room) {
            jobs.extend(decide_at(tx, machine, *place)?);
        }
        room = room.saturating_sub(1 + places.map_or(0, |places| places.len()));
    }
    Ok(())
}

fn take_claims(tx: &mut Tx<'_, FleetState>, machine: &Machine, job: &JobId) -> Result<(), ServerError> {
    // A part of a branch that cannot be read keeps no machine from pushing; `verify` names it.
    match About::of(machine, job) {
        Ok(about) => take(tx, &about, &machine.config.policy()),
        Err(e) => {
            is_unreadable(&e);
            Ok(())
        }
    }
}

// Decides what waited at a place; the job that becomes known thereby.
fn decide_at(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    place: Place,
) -> Result<Option<JobId>, ServerError> {
    let told = match told_at(machine, place) {
        Ok(Some(told)) => told,
        Ok(None) => return Ok(None),
        Err(e) => {
            is_unreadable(&e);
            return Ok(None);
        }
    };
    match (put_again(tx, &told, &machine.config.policy())?, &told) {
        (Outcome::Waits(on), _) => machine.central.orphans.waiting().pass_on(on, place),
        (Outcome::Done, Told::Request(offer)) => return Ok(Some(job_of(offer.said.statement()))),
        (Outcome::Done | Outcome::TooEarly, _) => {}
    }
    Ok(None)
}

fn has_branches(state: &FleetState) -> bool {
    state.epochs().any(|(_, row)| row.cut.is_some())
}

fn is_unreadable(e: &ServerError) {
    tracing::error!(code = e.code(), error = %e, "a part of an orphan branch cannot be read");
}

// Whether there is anything to settle: a branch that was just kept, a tick that its schedule was to decide first, or a job that
// something of a branch waited for.
fn is_to_be_settled(machine: &Machine) -> bool {
    let orphans = &machine.central.orphans;
    orphans.look(&machine.ledger.snapshot().state);
    orphans.is_unsettled(running_ms()) || !ripe(machine).is_empty()
}

// What waits for jobs that are known by now, as much as one commit takes.
fn ripe(machine: &Machine) -> Vec<(JobId, Place)> {
    let snapshot = machine.ledger.snapshot();
    let is_known = |job: &JobId| snapshot.state.job(job).is_some();
    machine.central.orphans.waiting().ripe(is_known, AT_ONCE)
}

/// Offers again what the branches that are kept here tell, as far as that was not done; tried again when it fails. Goes on when the
/// caller does not wait.
pub(super) async fn settle(machine: &Arc<Machine>) {
    if !is_to_be_settled(machine) {
        return;
    }
    let only = Arc::clone(&machine.central.orphans.settling).lock_owned().await;
    if let Err(e) = tokio::spawn(settle_alone(Arc::clone(machine), only)).await {
        tracing::error!(error = %e, "settling an orphan branch ended");
    }
}

/// Has it done, unless it is being done.
pub(super) fn settle_soon(machine: &Arc<Machine>) {
    if !is_to_be_settled(machine) {
        return;
    }
    if let Ok(only) = Arc::clone(&machine.central.orphans.settling).try_lock_owned() {
        tokio::spawn(settle_alone(Arc::clone(machine), only));
    }
}

async fn settle_alone(machine: Arc<Machine>, _only: OwnedMutexGuard<()>) {
    match settle_all(&machine).await {
        Ok(()) => {}
        Err(e @ ServerError::NotServing(_)) => {
            tracing::info!(
                code = e.code(),
                "an orphan branch is settled when Central decides again"
            );
        }
        Err(e) => {
            tracing::error!(code = e.code(), error = %e, "what an orphan branch tells could not be offered again");
        }
    }
}

async fn settle_all(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    loop {
        if orphans.is_unsettled(running_ms()) {
            // What is kept from here on may be read, or not.
            let kept = orphans.kept();
            settle_branches(machine).await?;
            orphans.settled(kept);
        }
        let ripe = ripe(machine);
        if ripe.is_empty() {
            return Ok(());
        }
        in_parts(machine, ripe.clone(), |tx, machine, ripe| {
            let jobs: BTreeSet<JobId> = ripe.iter().map(|(job, _)| *job).collect();
            for job in &jobs {
                take_claims(tx, machine, job)?;
            }
            let mut known = VecDeque::new();
            for (_, place) in ripe {
                known.extend(decide_at(tx, machine, *place)?);
            }
            follow(tx, machine, known)
        })
        .await?;
        judge_late(machine, ripe.iter().map(|(job, _)| *job).collect()).await?;
        if orphans.waiting().forget(&ripe) {
            orphans.go_through_again();
        }
    }
}

// Goes through all that is kept, and says again what nobody said again yet.
async fn settle_branches(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    orphans.begin();
    let reader = Arc::clone(machine);
    for branch in blocking(move || Branch::all(&reader)).await? {
        let (mut next, mut counts) = (Some(branch.first()), Counts::default());
        while let Some(first) = next {
            let (reader, of) = (Arc::clone(machine), branch.clone());
            let piece = blocking(move || of.piece(&reader, first)).await?;
            (next, counts) = (piece.next, counts.and(piece.counts));
            say_again(machine, &branch, piece.told).await?;
        }
        // What is cited is not said again.
        if branch.is_open() && orphans.is_whole() {
            cite(machine, branch, counts).await?;
        }
    }
    Ok(())
}

// One commit, but for erasures, each of which is refused alone.
async fn say_again(
    machine: &Arc<Machine>,
    branch: &Branch,
    told: Vec<(Place, Told)>,
) -> Result<(), ServerError> {
    let jobs: BTreeSet<JobId> = told.iter().filter_map(|(_, told)| told.proves()).collect();
    let is_alone = |told: &Told| matches!(told, Told::Erasure(_));
    let mut commits: VecDeque<Vec<(Place, Told)>> = VecDeque::new();
    for (place, told) in told {
        match commits.back_mut() {
            Some(last) if !is_alone(&told) && !last.iter().any(|(_, told)| is_alone(told)) => {
                last.push((place, told));
            }
            _ => commits.push_back(vec![(place, told)]),
        }
    }
    while let Some(steps) = commits.pop_front() {
        let alone = steps.iter().any(|(_, told)| is_alone(told));
        // One record may tell two things.
        let next = commits.front().and_then(|steps| steps.first());
        let to = match next {
            Some((next, _)) => next.seq.saturating_sub(1),
            None => steps.last().map_or(0, |(last, _)| last.seq),
        };
        match in_parts(machine, steps, decide_steps).await {
            Err(e) if alone && super::ticker::is_final(&e) => does_not_apply(&e),
            decided => decided?,
        }
        machine.central.orphans.said_to(branch.cited.log, to);
    }
    judge_late(machine, jobs).await
}

fn decide_steps(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    steps: &[(Place, Told)],
) -> Result<(), ServerError> {
    let (orphans, policy) = (&machine.central.orphans, machine.config.policy());
    for (place, told) in steps {
        match (put_again(tx, told, &policy)?, told) {
            // Noted in the commit: a request that comes in from now on finds it.
            (Outcome::Waits(on), _) => orphans.waiting().note(on, *place),
            (Outcome::TooEarly, Told::Tick(tick)) => orphans.defer(&tick.schedule, tick.nominal),
            (Outcome::Done | Outcome::TooEarly, _) => {}
        }
    }
    Ok(())
}

type Decide<T> = fn(&mut Tx<'_, FleetState>, &Machine, &[T]) -> Result<(), ServerError>;

// Decides in one commit, or in as many as it takes: one step may end many jobs.
async fn in_parts<T: Send + Sync + 'static>(
    machine: &Arc<Machine>,
    steps: Vec<T>,
    decide: Decide<T>,
) -> Result<(), ServerError> {
    let mut parts: Vec<_> = std::iter::once(0..steps.len()).collect();
    let steps = Arc::new(steps);
    while let Some(part) = parts.pop() {
        let (decider, of, these) = (Arc::clone(machine), Arc::clone(&steps), part.clone());
        let deciding = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            decider.central.demand_serving()?;
            decide(tx, &decider, &of[these])
        });
        match deciding.await.map_err(ServerError::from) {
            Err(e @ ServerError::Ledger(LedgerError::Journal(JournalError::TooLarge { .. }))) => {
                if part.len() <= 1 {
                    tracing::error!(code = e.code(), error = %e, "a step of an orphan branch is more than a commit takes");
                    continue;
                }
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
            decided => drop(decided?),
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ServerError::Malformed(e.to_string()))?
}

// Reports about these jobs that were rejected until their claims were known.
async fn judge_late(machine: &Arc<Machine>, mut jobs: BTreeSet<JobId>) -> Result<(), ServerError> {
    while !jobs.is_empty() {
        let reader = Arc::clone(machine);
        let reading = blocking(move || {
            let mut reports: Vec<Report> = Vec::new();
            while reports.len() < AT_ONCE
                && let Some(job) = jobs.pop_first()
            {
                reports.extend(About::of(&reader, &job)?.reports);
            }
            Ok((reports, jobs))
        });
        let reports;
        (reports, jobs) = reading.await?;
        if reports.is_empty() {
            continue;
        }
        let (decider, policy) = (Arc::clone(machine), machine.config.policy());
        let judging = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            decider.central.demand_serving()?;
            judge(tx, &reports, &policy)
        });
        judging.await?;
    }
    Ok(())
}

async fn cite(machine: &Arc<Machine>, branch: Branch, counts: Counts) -> Result<(), ServerError> {
    let (decider, cited) = (Arc::clone(machine), branch.cited);
    let citing = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        decider.central.demand_serving()?;
        let Branch { epoch, cut, .. } = branch;
        let id = cited_id(&cited, cited.head.seq);
        let subject = Subject::new("order").expect("short and printable");
        let draft = Draft::of(&LogCited { heads: vec![cited] }, subject);
        let (before, _) = tx.own_tip(Stream::Order)?;
        let said = central::put(tx, vec![draft.id(id)])?;
        if said.iter().any(|said| said.seq() > before) {
            tracing::warn!(epoch, cut, "an orphan branch of the order is kept");
        }
        let Counts {
            offered, others, ..
        } = counts;
        let text = format!(
            "a machine brought what epoch {epoch} held behind its cut at seq {cut}: {offered} requests are offered again, \
             {others} other statements there are not in force"
        );
        let (log, seq) = (cited.log.0, cited.head.seq.to_be_bytes());
        let mut raise = |what: &[u8], text: &str| -> Result<(), LedgerError> {
            let key: [&[u8]; 3] = [what, &log, &seq];
            let drafts = notices::raise(tx.state(), NoticeTopic::ForkEvidence, None, text, &key);
            central::put(tx, drafts).map(drop)
        };
        raise(b"orphan", &text)?;
        if let Some((schedule, nominal)) = counts.last_passed_over {
            let at = Timestamp::from_microsecond(nominal).unwrap_or_default();
            let text = format!(
                "{} ticks of schedules that epoch {epoch} held behind its cut are not asked for again: last {schedule} of {at:.0}; \
                 `ledger submit` what is still wanted",
                counts.passed_over
            );
            raise(b"orphan ticks", &text)?;
        }
        Ok(())
    });
    citing.await?;
    machine
        .central
        .orphans
        .cite(cited.log, cited.head.seq, cited.head.seq);
    Ok(())
}

#[cfg(test)]
mod tests;
