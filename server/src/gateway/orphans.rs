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

use super::{central, epochs};
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::{PushAnswer, Raw};
use crate::machine::Machine;
use ledger::core::digest::derived_id;
use ledger::core::kinds::{
    AnyDetail, CitedHead, Class, Detail, Erased, Fence, JobCancelAsked, JobClaimed, JobDiscarded, JobHeld,
    JobId, JobLateResult, JobReleased, LateVerdict, LogCited, NoticeTopic, RequestReceived,
};
use ledger::core::{Draft, LogId, MachineId, SignedStatement, Stream, Subject, VerifiedStatement};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Published, Receipt, Tx};
use ledger_projections::central::{StepError, admit, prove_claim};
use ledger_projections::queue::decide;
use ledger_projections::{FleetState, Policy, notices};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Requests, claims or reports that are decided in one commit at most.
const AT_ONCE: usize = 256;
/// How long a machine that brings a branch is waited for after each part of it, milliseconds: what it tells is offered again as a
/// whole, since a request comes before the claim of it, and before what was said about its job.
const BRINGING_MS: u64 = 60_000;
/// What people say about jobs that is said again, beside erasures.
const STEERS: [&str; 4] = [
    JobCancelAsked::KIND,
    JobHeld::KIND,
    JobReleased::KIND,
    JobDiscarded::KIND,
];

/// A report, and the claim that it came under.
type Report = (Fence, Receipt);

/// What is known of orphan branches beside the store. Memory: made again at the next start.
pub(crate) struct Orphans {
    // How often something was kept, what earlier processes kept counted once, and how much of that is settled.
    kept: AtomicU64,
    settled: AtomicU64,
    settling: Arc<tokio::sync::Mutex<()>>,
    // Machines that have more of a branch than is here, and when they last brought some of it.
    bringing: Mutex<BTreeMap<MachineId, u64>>,
    // Claims of jobs whose requests are not here yet.
    waiting: Mutex<BTreeMap<JobId, Vec<Receipt>>>,
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
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<JobId, Vec<Receipt>>> {
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

/// Requests came in, in this very commit: the claims that a branch tells of their jobs are known before anybody can claim them.
pub(super) fn prove_waiting(
    tx: &mut Tx<'_, FleetState>,
    machine: &Machine,
    run: &VerifiedRun,
) -> Result<(), ServerError> {
    let orphans = &machine.central.orphans;
    let waiting = orphans.waiting().clone();
    if waiting.is_empty() {
        return Ok(());
    }
    for (record, _) in run.records() {
        let statement = record.statement();
        if statement.kind.as_str() == RequestReceived::KIND {
            let job = JobId::of_request(&statement.author, &statement.id);
            prove(tx, waiting.get(&job).into_iter().flatten())?;
        }
    }
    Ok(())
}

// Whether there is anything to settle: a branch that was just kept, or a job that a claim of one waited for.
fn is_to_be_settled(machine: &Machine) -> bool {
    let orphans = &machine.central.orphans;
    if orphans.is_unsettled(running_ms()) {
        return true;
    }
    let waiting = orphans.waiting();
    let state = &machine.ledger.snapshot().state;
    waiting.keys().any(|job| state.job(job).is_some())
}

/// Offers again what the branches that are kept here tell, as far as that was not done. Goes on when the caller does not wait.
///
/// # Errors
/// [`ServerError`]; it is to be called again.
pub(super) async fn settle(machine: &Arc<Machine>) -> Result<(), ServerError> {
    if !is_to_be_settled(machine) {
        return Ok(());
    }
    let only = Arc::clone(&machine.central.orphans.settling).lock_owned().await;
    let settled = tokio::spawn(settle_alone(Arc::clone(machine), only)).await;
    settled.map_err(|e| ServerError::Malformed(e.to_string()))?
}

/// Has it done, unless it is being done.
pub(super) fn settle_soon(machine: &Arc<Machine>) {
    if !is_to_be_settled(machine) {
        return;
    }
    if let Ok(only) = Arc::clone(&machine.central.orphans.settling).try_lock_owned() {
        let settling = settle_alone(Arc::clone(machine), only);
        tokio::spawn(async move {
            if let Err(e) = settling.await {
                tracing::error!(code = e.code(), error = %e, "what an orphan branch tells could not be offered again");
            }
        });
    }
}

async fn settle_alone(machine: Arc<Machine>, _only: OwnedMutexGuard<()>) -> Result<(), ServerError> {
    if !is_to_be_settled(&machine) {
        return Ok(());
    }
    let orphans = &machine.central.orphans;
    // What is kept from here on may be read, or not.
    let kept = orphans.kept.load(Ordering::Acquire);
    settle_all(&machine).await?;
    orphans.settled.store(kept, Ordering::Release);
    Ok(())
}

async fn settle_all(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let reader = Arc::clone(machine);
    let branch = blocking(move || Branch::read(&reader)).await?;
    if branch.heads.is_empty() {
        return Ok(());
    }
    let requests = branch.requests.len();
    let mut claims = branch.claims;
    let (reader, fences) = (Arc::clone(machine), branch.fences);
    let (fences, mut reports) = blocking(move || {
        let reports = rejected(&reader, &fences)?;
        Ok((fences, reports))
    })
    .await?;
    let mut offers: Vec<(VerifiedStatement, Vec<Receipt>, Vec<Report>)> = Vec::new();
    for said in branch.requests {
        let statement = said.statement();
        let job = JobId::of_request(&statement.author, &statement.id);
        let claims = claims.remove(&job).unwrap_or_default();
        // Its result in the same commit, so that nobody runs it again.
        offers.push((said, claims, reports.remove(&job).unwrap_or_default()));
    }
    for chunk in offers.chunks(AT_ONCE) {
        let (chunk, policy) = (chunk.to_vec(), machine.config.policy());
        let offering = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            chunk.iter().try_for_each(|(said, claims, reports)| {
                offer(tx, said, &policy)?;
                prove(tx, claims)?;
                judge(tx, reports, &policy)
            })
        });
        offering.await?;
    }
    // Their requests lie in machines' own logs. Noted first: one that comes in from now on finds them.
    *machine.central.orphans.waiting() = claims.clone();
    let claims: Vec<(JobId, Vec<Receipt>)> = claims.into_iter().collect();
    for chunk in claims.chunks(AT_ONCE) {
        let chunk = chunk.to_vec();
        let proving = machine
            .ledger
            .submit(move |tx| -> Result<BTreeSet<JobId>, ServerError> {
                let here = chunk.into_iter().filter(|(job, _)| tx.state().job(job).is_some());
                let here: Vec<_> = here.collect();
                prove(tx, here.iter().flat_map(|(_, claims)| claims))?;
                Ok(here.into_iter().map(|(job, _)| job).collect())
            });
        let proven = proving.await?.value;
        machine
            .central
            .orphans
            .waiting()
            .retain(|job, _| !proven.contains(job));
    }
    for said in branch.steers {
        if releases(&said).is_some_and(|job| branch.exclusive.contains(&job)) {
            // Who released it knew nothing of what that claim came to. A person decides anew.
            continue;
        }
        if let Err(e) = machine.append(said).await {
            if !super::ticker::is_final(&e) {
                return Err(e);
            }
            tracing::debug!(code = e.code(), error = %e, "what was asked about a job in an orphan branch does not apply any more");
        }
    }
    judge_again(machine, fences).await?;
    cite(machine, branch.heads, requests, branch.others).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ServerError::Malformed(e.to_string()))?
}

// What the branches tell.
#[derive(Default)]
struct Branch {
    heads: Vec<(u64, u64, CitedHead)>,
    requests: Vec<VerifiedStatement>,
    claims: BTreeMap<JobId, Vec<Receipt>>,
    fences: BTreeSet<Fence>,
    steers: Vec<VerifiedStatement>,
    // Jobs whose claims may have taken effect, and that are held for a person because of it.
    exclusive: BTreeSet<JobId>,
    // What others than Central said, and is not said again.
    others: u64,
}

impl Branch {
    fn read(machine: &Machine) -> Result<Self, ServerError> {
        let snapshot = machine.ledger.snapshot();
        let mut branch = Self::default();
        for (epoch, row) in snapshot.state.epochs() {
            let (Some((cut, _)), Some(chain)) = (row.cut, snapshot.logs.get(&row.log)) else {
                continue;
            };
            if chain.tip().0 <= cut {
                continue;
            }
            let (log, head) = (row.log, chain.head());
            branch.heads.push((*epoch, cut, CitedHead { log, head }));
            for receipt in machine.ledger.range(&log, cut.saturating_add(1), u64::MAX) {
                branch.take(machine, *epoch, receipt?)?;
            }
        }
        Ok(branch)
    }

    fn take(&mut self, machine: &Machine, epoch: u64, receipt: Receipt) -> Result<(), ServerError> {
        if receipt.record.author_signature().is_none() {
            if receipt.kind() == JobClaimed::KIND
                && let Ok(AnyDetail::JobClaimed(claimed)) = receipt.statement().any_detail()
            {
                self.fences
                    .insert(Fence::of_claim(epoch, receipt.seq(), &receipt.seal_digest()));
                if claimed.class == Class::Exclusive {
                    self.exclusive.insert(claimed.job);
                }
                self.claims.entry(claimed.job).or_default().push(receipt);
            }
            return Ok(());
        }
        let is_request = receipt.kind() == RequestReceived::KIND;
        if !is_request && receipt.kind() != Erased::KIND && !STEERS.contains(&receipt.kind()) {
            self.others += 1;
            return Ok(());
        }
        let Raw { record, payload } = super::exchange::raw_of(machine, &receipt)?;
        match verified(&record, payload) {
            Some(said) if is_request => self.requests.push(said),
            Some(said) => self.steers.push(said),
            None => {
                tracing::warn!(id = %receipt.id(), "a statement of an orphan branch cannot be said again: its payload or signature is missing");
                self.others += 1;
            }
        }
        Ok(())
    }
}

// The job that a statement releases.
fn releases(said: &VerifiedStatement) -> Option<JobId> {
    match said.statement().any_detail() {
        Ok(AnyDetail::JobReleased(released)) => Some(released.job),
        _ => None,
    }
}

// A statement as its author brought it.
fn verified(record: &[u8], payload: Option<ledger::core::Payload>) -> Option<VerifiedStatement> {
    let record = ledger::core::Record::parse(record).ok()?;
    let said = SignedStatement {
        bytes: record.statement_bytes().to_vec(),
        signature: *record.author_signature()?,
        payload,
    };
    said.verify().ok()
}

fn offer(tx: &mut Tx<'_, FleetState>, said: &VerifiedStatement, policy: &Policy) -> Result<(), ServerError> {
    let (statement, now) = (said.statement(), tx.now_us());
    let job = JobId::of_request(&statement.author, &statement.id);
    if tx.state().job(&job).is_some() {
        return Ok(());
    }
    if let Err(reason) = tx.state().authorise(statement, Stream::Order, false, now) {
        tracing::warn!(id = %statement.id, ?reason, "a request of an orphan branch is not permitted in the order as it is");
        return Ok(());
    }
    let appended = tx.append_signed(Stream::Order, said)?;
    let drafts = decide::accept_request(tx.state(), appended.receipt(), now, policy)?;
    central::put(tx, drafts)?;
    Ok(())
}

fn prove<'a>(
    tx: &mut Tx<'_, FleetState>,
    claims: impl IntoIterator<Item = &'a Receipt>,
) -> Result<(), ServerError> {
    for claim in claims {
        match prove_claim(tx, &claim.record) {
            Ok(_) => {}
            Err(StepError::Refused(e)) => {
                tracing::warn!(id = %claim.id(), code = e.code(), error = %e, "a claim of an orphan branch is not proven");
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

// Reports that were rejected because nobody knew their claim.
async fn judge_again(machine: &Arc<Machine>, fences: BTreeSet<Fence>) -> Result<(), ServerError> {
    let reader = Arc::clone(machine);
    let reports = blocking(move || rejected(&reader, &fences)).await?;
    let reports: Vec<Report> = reports.into_values().flatten().collect();
    for chunk in reports.chunks(AT_ONCE) {
        let (chunk, policy) = (chunk.to_vec(), machine.config.policy());
        let judging = machine
            .ledger
            .submit(move |tx| -> Result<(), ServerError> { judge(tx, &chunk, &policy) });
        judging.await?;
    }
    Ok(())
}

fn judge(tx: &mut Tx<'_, FleetState>, reports: &[Report], policy: &Policy) -> Result<(), ServerError> {
    for (fence, report) in reports {
        let of = tx.state().log(&report.log()).map(|row| row.machine.clone());
        if let Some(of) = of.filter(|_| tx.state().fence(fence).is_some()) {
            central::judge(tx, report, &of, policy)?;
        }
    }
    Ok(())
}

// By their jobs, in the order in which they were rejected.
fn rejected(
    machine: &Machine,
    fences: &BTreeSet<Fence>,
) -> Result<BTreeMap<JobId, Vec<Report>>, ServerError> {
    let mut reports: BTreeMap<JobId, Vec<Report>> = BTreeMap::new();
    let Some(first) = fences.first().map(|fence| fence.epoch) else {
        return Ok(reports);
    };
    let snapshot = machine.ledger.snapshot();
    for (_, row) in snapshot.state.epochs().filter(|(epoch, _)| **epoch > first) {
        let last = row.cut.map_or(u64::MAX, |(cut, _)| cut);
        for receipt in machine.ledger.range(&row.log, 0, last) {
            let receipt = receipt?;
            if receipt.kind() != JobLateResult::KIND {
                continue;
            }
            if let Ok(AnyDetail::JobLateResult(late)) = receipt.statement().any_detail()
                && late.verdict == LateVerdict::Rejected
                && fences.contains(&late.fence)
                && let Some(report) = super::exchange::evidence(machine, &late.evidence)?
            {
                reports.entry(late.job).or_default().push((late.fence, report));
            }
        }
    }
    Ok(reports)
}

async fn cite(
    machine: &Arc<Machine>,
    heads: Vec<(u64, u64, CitedHead)>,
    requests: usize,
    others: u64,
) -> Result<(), ServerError> {
    let citing = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        for (epoch, cut, cited) in heads {
            let (log, seq) = (cited.log.0, cited.head.seq.to_be_bytes());
            let subject = Subject::new("order").expect("short and printable");
            let draft = Draft::of(&LogCited { heads: vec![cited] }, subject);
            let (before, _) = tx.own_tip(Stream::Order)?;
            let id = derived_id(&[b"orphan branch", &log, &seq]);
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
