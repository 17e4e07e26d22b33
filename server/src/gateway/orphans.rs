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
//! Everything is made from what is kept, and is done when it was done: a crash anywhere is made up for at the next start, or
//! by the machine, which tells of its branch until it is settled.

use super::again::{AT_ONCE, Offer, Offered, chunks, judge, offer, prove};
use super::branch::{Branch, Open, cited_id, job_of, rejected, steered};
use super::{central, epochs};
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::PushAnswer;
use crate::machine::Machine;
use crate::say;
use ledger::core::kinds::{Detail, Fence, JobId, LogCited, NoticeTopic, RequestReceived};
use ledger::core::{Draft, LogId, MachineId, Stream, Subject, VerifiedStatement};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Published, Receipt, Tx};
use ledger_projections::central::admit;
use ledger_projections::{FleetState, notices};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// How long a machine that brings a branch is waited for after each part of it, milliseconds: what it tells is offered again as a
/// whole, since a request comes before the claim of it, and before what was said about its job.
const BRINGING_MS: u64 = 60_000;

/// What a branch tells about a job that is not known here yet: its request lies in a machine's own log.
#[derive(Clone, Default)]
struct Waiting {
    claims: Vec<Receipt>,
    // Requests that name the job.
    requests: Vec<VerifiedStatement>,
    steers: Vec<VerifiedStatement>,
}

type WaitingBy = BTreeMap<JobId, Waiting>;

/// What is known of orphan branches beside the store. Memory: made again at the next start.
pub(crate) struct Orphans {
    // How often something was kept, what earlier processes kept counted once, and how much of that is settled.
    kept: AtomicU64,
    settled: AtomicU64,
    settling: Arc<tokio::sync::Mutex<()>>,
    // Machines that have more of a branch than is here, and when they last brought some of it.
    bringing: Mutex<BTreeMap<MachineId, u64>>,
    waiting: Mutex<WaitingBy>,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            kept: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            settling: Arc::default(),
            bringing: Mutex::default(),
            waiting: Mutex::default(),
        }
    }
}

impl Orphans {
    fn waiting(&self) -> MutexGuard<'_, WaitingBy> {
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

    fn brought(&self, machine: &MachineId, now_ms: u64) {
        self.bringing().insert(machine.clone(), now_ms);
        self.kept.fetch_add(1, Ordering::AcqRel);
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

/// Keeps what a machine has of such a log behind what is here.
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
    let keeping = machine.ledger.submit(move |tx| -> Result<bool, ServerError> {
        let intake = tx.intake(&run)?;
        let chain = tx.foreign(&log).ok_or(LedgerError::UnknownLog(log))?;
        let (stream, root) = (chain.genesis().stream, Some(chain.head().root));
        if stream != Stream::Order {
            admit(tx, &intake.new, run.inadmissible(), stream, root, &own, &policy)?;
        }
        Ok(stream == Stream::Order && !intake.new.is_empty())
    });
    if keeping.await?.value {
        machine.central.orphans.brought(node, running_ms());
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
        let waiting = orphans.waiting().get(&job).cloned();
        let Some(waiting) = waiting.filter(|_| tx.state().job(&job).is_some()) else {
            continue;
        };
        prove(tx, &waiting.claims)?;
        for said in &waiting.requests {
            match offer(tx, said, &policy)? {
                Offered::Accepted => jobs.push_back(job_of(said.statement())),
                Offered::Waits(on) => wait(&mut orphans.waiting(), on, said.clone()),
                Offered::Nothing => {}
            }
        }
        for said in &waiting.steers {
            match say::steer(tx, said) {
                Err(e) if super::ticker::is_final(&e) => does_not_apply(&e),
                said => said?,
            }
        }
        let done = waiting.claims.len() + waiting.requests.len() + waiting.steers.len();
        room = room.saturating_sub(done);
        if room == 0 {
            // The rest is settled by itself, in other commits.
            return Ok(());
        }
    }
    Ok(())
}

fn wait(waiting: &mut WaitingBy, on: JobId, said: VerifiedStatement) {
    let requests = &mut waiting.entry(on).or_default().requests;
    if requests.iter().all(|other| other.digest() != said.digest()) {
        requests.push(said);
    }
}

fn does_not_apply(e: &ServerError) {
    tracing::debug!(code = e.code(), error = %e, "what was asked about a job in an orphan branch does not apply any more");
}

// Whether there is anything to settle: a branch that was just kept, or a job that something of one waited for.
fn is_to_be_settled(machine: &Machine) -> bool {
    let orphans = &machine.central.orphans;
    if orphans.is_unsettled(running_ms()) {
        return true;
    }
    let waiting = orphans.waiting();
    let state = &machine.ledger.snapshot().state;
    waiting.keys().any(|job| state.job(job).is_some())
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
    if !is_to_be_settled(&machine) {
        return;
    }
    let orphans = &machine.central.orphans;
    // What is kept from here on may be read, or not.
    let kept = orphans.kept.load(Ordering::Acquire);
    match settle_all(&machine).await {
        Ok(()) => orphans.settled.store(kept, Ordering::Release),
        Err(e) => {
            tracing::error!(code = e.code(), error = %e, "what an orphan branch tells could not be offered again");
        }
    }
}

async fn settle_all(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let reader = Arc::clone(machine);
    let reading = blocking(move || {
        let branch = Branch::read(&reader)?;
        let reports = rejected(&reader, &branch.fences)?;
        Ok((branch, reports))
    });
    let (mut branch, mut reports) = reading.await?;
    if !branch.is_any {
        return Ok(());
    }
    let mut offers = Vec::new();
    for said in std::mem::take(&mut branch.requests) {
        let job = job_of(said.statement());
        offers.push(Offer {
            said,
            claims: branch.claims.remove(&job).unwrap_or_default(),
            // Its result in the same commit, so that nobody runs it again.
            reports: reports.remove(&job).unwrap_or_default(),
        });
    }
    let mut waiting = offer_all(machine, offers).await?;
    for (job, claims) in branch.claims {
        waiting.entry(job).or_default().claims.extend(claims);
    }
    let snapshot = machine.ledger.snapshot();
    let mut steers = Vec::new();
    for said in branch.steers {
        match steered(said.statement()).filter(|job| snapshot.state.job(job).is_none()) {
            Some(job) => waiting.entry(job).or_default().steers.push(said),
            None => steers.push(said),
        }
    }
    drop(snapshot);
    follow_all(machine, waiting).await?;
    for said in steers {
        match machine.append(said).await {
            Err(e) if super::ticker::is_final(&e) => does_not_apply(&e),
            said => drop(said?),
        }
    }
    judge_again(machine, branch.fences).await?;
    cite(machine, branch.open, branch.offered, branch.others).await
}

// Seals requests anew; what waits for jobs that are not known here.
async fn offer_all(machine: &Arc<Machine>, offers: Vec<Offer>) -> Result<WaitingBy, ServerError> {
    let size = |offer: &Offer| {
        let claims = offer.claims.iter().map(|claim| claim.record.bytes().len());
        let payload = offer.said.signed().payload.as_ref().map_or(0, |p| p.bytes.len());
        (
            1 + offer.claims.len() + offer.reports.len(),
            offer.said.signed().bytes.len() + payload + claims.sum::<usize>(),
        )
    };
    let mut waiting = WaitingBy::new();
    for chunk in chunks(offers, size) {
        let policy = machine.config.policy();
        let offering = machine.ledger.submit(move |tx| -> Result<_, ServerError> {
            let mut waits = Vec::new();
            for offered in chunk {
                if let Offered::Waits(on) = offer(tx, &offered.said, &policy)? {
                    waits.push((on, offered));
                    continue;
                }
                prove(tx, &offered.claims)?;
                judge(tx, &offered.reports, &policy)?;
            }
            Ok(waits)
        });
        for (on, Offer { said, claims, .. }) in offering.await?.value {
            let job = job_of(said.statement());
            waiting.entry(job).or_default().claims.extend(claims);
            wait(&mut waiting, on, said);
        }
    }
    Ok(waiting)
}

// Has all of it wait, and decides what came in meanwhile.
async fn follow_all(machine: &Arc<Machine>, waiting: WaitingBy) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    let sizes: Vec<(JobId, usize)> = waiting
        .iter()
        .map(|(job, waiting)| {
            (
                *job,
                waiting.claims.len() + waiting.requests.len() + waiting.steers.len(),
            )
        })
        .collect();
    // Noted first: a request that comes in from now on finds it.
    *orphans.waiting() = waiting;
    for chunk in chunks(sizes, |(_, count)| (*count, 0)) {
        let jobs: BTreeSet<JobId> = chunk.into_iter().map(|(job, _)| job).collect();
        let (decider, of) = (Arc::clone(machine), jobs.clone());
        let following = machine.ledger.submit(move |tx| -> Result<_, ServerError> {
            let known = of.into_iter().filter(|job| tx.state().job(job).is_some());
            let known: BTreeSet<JobId> = known.collect();
            for job in &known {
                follow(tx, &decider, VecDeque::from([*job]))?;
            }
            Ok(known)
        });
        let known = following.await?.value;
        orphans.waiting().retain(|job, _| !known.contains(job));
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ServerError::Malformed(e.to_string()))?
}

// Reports that were rejected because nobody knew their claim.
async fn judge_again(machine: &Arc<Machine>, fences: BTreeSet<Fence>) -> Result<(), ServerError> {
    let reader = Arc::clone(machine);
    let reports = blocking(move || rejected(&reader, &fences)).await?;
    let reports: Vec<_> = reports.into_values().flatten().collect();
    for chunk in chunks(reports, |_| (1, 0)) {
        let policy = machine.config.policy();
        let judging = machine
            .ledger
            .submit(move |tx| -> Result<(), ServerError> { judge(tx, &chunk, &policy) });
        judging.await?;
    }
    Ok(())
}

async fn cite(
    machine: &Arc<Machine>,
    heads: Vec<Open>,
    requests: u64,
    others: u64,
) -> Result<(), ServerError> {
    if heads.is_empty() {
        return Ok(());
    }
    let citing = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        for Open { epoch, cut, cited } in heads {
            let (log, seq) = (cited.log.0, cited.head.seq.to_be_bytes());
            let id = cited_id(&cited.log, cited.head.seq);
            let subject = Subject::new("order").expect("short and printable");
            let draft = Draft::of(&LogCited { heads: vec![cited] }, subject);
            let (before, _) = tx.own_tip(Stream::Order)?;
            let cited = central::put(tx, vec![draft.id(id)])?;
            if cited.iter().any(|cited| cited.seq() > before) {
                tracing::warn!(epoch, cut, "an orphan branch of the order is kept");
            }
            let text = format!(
                "a machine brought what epoch {epoch} held behind its cut at seq {cut}: {requests} requests are offered again, \
                 {others} other statements there are not in force"
            );
            let drafts = notices::raise(tx.state(), NoticeTopic::ForkEvidence, None, &text, &[b"orphan", &log, &seq]);
            central::put(tx, drafts)?;
        }
        Ok(())
    });
    citing.await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_branch_is_settled_when_all_of_it_is_here_and_what_comes_meanwhile_is_settled_later() {
        let (orphans, studio) = (Orphans::default(), MachineId::new("studio").unwrap());
        // What earlier processes kept.
        assert!(orphans.is_unsettled(0));
        orphans.settled.store(1, Ordering::Release);
        assert!(!orphans.is_unsettled(0));

        orphans.hear(&studio, true, 0);
        orphans.brought(&studio, BRINGING_MS);
        orphans.hear(&studio, true, BRINGING_MS + 1);
        assert!(!orphans.is_unsettled(2 * BRINGING_MS - 1));
        // It went away in the middle.
        assert!(orphans.is_unsettled(2 * BRINGING_MS));
        orphans.brought(&studio, 3 * BRINGING_MS);
        orphans.hear(&studio, false, 3 * BRINGING_MS);
        assert!(orphans.is_unsettled(3 * BRINGING_MS));

        // One that has another branch than is kept says so for ever, and is not waited for.
        orphans.hear(&studio, true, 4 * BRINGING_MS);
        orphans.hear(&studio, true, 5 * BRINGING_MS);
        assert!(orphans.is_unsettled(5 * BRINGING_MS));
    }
}
