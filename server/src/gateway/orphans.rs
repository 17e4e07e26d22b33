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

use super::again::{AT_ONCE, Outcome, Report, does_not_apply, judge, put_again, take};
use super::branch::{About, Branch, Counts, Told, cited_id, job_of, told_at};
use super::waiting::Waiting;
use super::{central, epochs};
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::PushAnswer;
use crate::machine::Machine;
use jiff::Timestamp;
use ledger::core::kinds::{Detail, JobId, LogCited, NoticeTopic, RequestReceived};
use ledger::core::{Draft, LogId, MachineId, Stream, Subject};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Published, Tx};
use ledger_projections::central::admit;
use ledger_projections::{FleetState, Place, notices};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// How long a machine that brings a branch is waited for after each part of it, milliseconds: what it tells is offered again as a
/// whole, since a request comes before the claim of it, and before what was said about its job.
const BRINGING_MS: u64 = 60_000;

/// What is known of orphan branches beside the store. Memory: made again at the next start.
pub(crate) struct Orphans {
    // How often something was kept, what earlier processes kept counted once, and how much of that is settled.
    kept: AtomicU64,
    settled: AtomicU64,
    settling: Arc<tokio::sync::Mutex<()>>,
    // Machines that have more of a branch than is here, and when they last brought some of it.
    bringing: Mutex<BTreeMap<MachineId, u64>>,
    waiting: Mutex<Waiting>,
    // More waits than is remembered.
    overflows: AtomicBool,
    // More of this machine's own work log is here than when it began.
    brought_work: AtomicBool,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            kept: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            settling: Arc::default(),
            bringing: Mutex::default(),
            waiting: Mutex::default(),
            overflows: AtomicBool::new(false),
            brought_work: AtomicBool::new(false),
        }
    }
}

impl Orphans {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bringing(&self) -> MutexGuard<'_, BTreeMap<MachineId, u64>> {
        self.bringing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine said whether it has more of a branch than is here. One that only says so is not waited for anew.
    pub(super) fn hear(&self, machine: &MachineId, has_more: bool, now_ms: u64) {
        if has_more {
            self.bringing().entry(machine.clone()).or_insert(now_ms);
        } else {
            self.bringing().remove(machine);
        }
    }

    /// Whether more of this machine's own work log came since this was last asked.
    pub(super) fn take_brought_work(&self) -> bool {
        self.brought_work.swap(false, Ordering::AcqRel)
    }

    fn brought(&self, machine: &MachineId, now_ms: u64) {
        self.bringing().insert(machine.clone(), now_ms);
        self.kept.fetch_add(1, Ordering::AcqRel);
    }

    // Whether something may wait for a job that is not remembered as waiting for it.
    fn knows_not_all(&self) -> bool {
        self.settled.load(Ordering::Acquire) < self.kept.load(Ordering::Acquire)
            || self.overflows.load(Ordering::Acquire)
    }

    // Whether something was kept that is not settled, and nobody is about to bring more of it.
    fn is_unsettled(&self, now_ms: u64) -> bool {
        let mut bringing = self.bringing().clone().into_values();
        self.settled.load(Ordering::Acquire) < self.kept.load(Ordering::Acquire)
            && bringing.all(|last_ms| now_ms.saturating_sub(last_ms) >= BRINGING_MS)
    }
}

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
        Some(Stream::Work) => orphans.brought_work.store(true, Ordering::Release),
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

// Decides what waits for these jobs, as far as they are known now, and for those that become known thereby.
fn follow(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    mut jobs: VecDeque<JobId>,
) -> Result<(), ServerError> {
    let (orphans, policy) = (&machine.central.orphans, machine.config.policy());
    let mut room = AT_ONCE;
    while let Some(job) = jobs.pop_front() {
        let places = orphans.waiting().of(&job);
        let looks = places.is_some() || orphans.knows_not_all() && has_branches(tx.state());
        if !looks || tx.state().job(&job).is_none() {
            continue;
        }
        // A part of a branch that cannot be read keeps no machine from pushing; `verify` names it.
        match About::of(machine, &job) {
            Ok(about) => take(tx, &about, &policy)?,
            Err(e) => is_unreadable(&e),
        }
        for place in places.iter().flatten() {
            let told = match told_at(machine, *place) {
                Ok(Some(told)) => told,
                Ok(None) => continue,
                Err(e) => {
                    is_unreadable(&e);
                    continue;
                }
            };
            match put_again(tx, machine, &told, &policy)? {
                Outcome::Waits(on) => orphans.waiting().note(on, *place),
                Outcome::TooEarly => {}
                Outcome::Done => {
                    if let Told::Request(offer) = &told {
                        jobs.push_back(job_of(offer.said.statement()));
                    }
                }
            }
        }
        room = room.saturating_sub(1 + places.map_or(0, |places| places.len()));
        if room == 0 {
            // The rest is settled by itself, in other commits.
            return Ok(());
        }
    }
    Ok(())
}

fn has_branches(state: &FleetState) -> bool {
    state.epochs().any(|(_, row)| row.cut.is_some())
}

fn is_unreadable(e: &ServerError) {
    tracing::error!(code = e.code(), error = %e, "a part of an orphan branch cannot be read");
}

// Whether there is anything to settle: a branch that was just kept, or a job that something of one waited for.
fn is_to_be_settled(machine: &Machine) -> bool {
    let orphans = &machine.central.orphans;
    if orphans.is_unsettled(running_ms()) {
        return true;
    }
    !ripe(machine).is_empty()
}

// Jobs that are known by now and that something waits for, as many as one commit takes.
fn ripe(machine: &Machine) -> Vec<JobId> {
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
    if orphans.is_unsettled(running_ms()) {
        // What is kept from here on may be read, or not.
        let kept = orphans.kept.load(Ordering::Acquire);
        settle_branches(machine).await?;
        orphans.settled.store(kept, Ordering::Release);
    }
    loop {
        let jobs = ripe(machine);
        if jobs.is_empty() {
            return Ok(());
        }
        let (decider, of) = (Arc::clone(machine), jobs.clone());
        let following = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            decider.central.demand_serving()?;
            for job in of {
                follow(tx, &decider, VecDeque::from([job]))?;
            }
            Ok(())
        });
        following.await?;
        judge_late(machine, jobs.iter().copied().collect()).await?;
        orphans.waiting().forget(&jobs);
    }
}

// Goes through all that is kept, and says again what nobody said again yet.
async fn settle_branches(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    orphans.waiting().take_overflow();
    let reader = Arc::clone(machine);
    for branch in blocking(move || Branch::all(&reader)).await? {
        let (mut next, mut counts) = (Some(branch.first()), Counts::default());
        while let Some(first) = next {
            let (reader, of) = (Arc::clone(machine), branch.clone());
            let piece = blocking(move || of.piece(&reader, first)).await?;
            (next, counts) = (piece.next, counts.and(piece.counts));
            say_again(machine, piece.told).await?;
        }
        if branch.is_open() {
            cite(machine, branch, counts).await?;
        }
    }
    let overflows = orphans.waiting().take_overflow();
    orphans.overflows.store(overflows, Ordering::Release);
    Ok(())
}

// One commit, but for erasures, each of which is refused alone.
async fn say_again(machine: &Arc<Machine>, told: Vec<(Place, Told)>) -> Result<(), ServerError> {
    let jobs: BTreeSet<JobId> = told.iter().filter_map(|(_, told)| told.proves()).collect();
    let is_alone = |told: &Told| matches!(told, Told::Erasure(_));
    let mut commits: Vec<Vec<(Place, Told)>> = Vec::new();
    for (place, told) in told {
        match commits.last_mut() {
            Some(last) if !is_alone(&told) && !last.iter().any(|(_, told)| is_alone(told)) => {
                last.push((place, told));
            }
            _ => commits.push(vec![(place, told)]),
        }
    }
    for steps in commits {
        let alone = steps.iter().any(|(_, told)| is_alone(told));
        let (decider, policy) = (Arc::clone(machine), machine.config.policy());
        let deciding = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            decider.central.demand_serving()?;
            for (place, told) in &steps {
                // Noted in the commit: a request that comes in from now on finds it.
                match put_again(tx, &decider, told, &policy)? {
                    Outcome::Done => {}
                    Outcome::Waits(on) => decider.central.orphans.waiting().note(on, *place),
                    Outcome::TooEarly => {
                        let why = "a schedule's tick is decided at its next look";
                        return Err(ServerError::NotServing(why.into()));
                    }
                }
            }
            Ok(())
        });
        match deciding.await.map_err(ServerError::from) {
            Err(e) if alone && super::ticker::is_final(&e) => does_not_apply(&e),
            decided => drop(decided?),
        }
    }
    judge_late(machine, jobs).await
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
    let decider = Arc::clone(machine);
    let citing = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        decider.central.demand_serving()?;
        let Branch {
            epoch, cut, cited, ..
        } = branch;
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
    Ok(())
}

#[cfg(test)]
mod tests;
