//! The link to the gateway. The node begins every exchange; its own logs are its outbox.
//!
//! Three loops, each of which ends with the daemon and starts over, with jitter, when the link fails: *push* (hello, then
//! work before facts before pulses, then hello again so that fences are judged), *pull* (the order, then the gateway's own
//! work and facts), *claim* (only after everything was judged, only for free slots).

use super::claiming::claim_round;
use super::earlier::give_earlier;
use super::follow::{offer_all, offer_orphans, show_fork};
use super::pull::{Pulls, pull_order};
use super::push::Pushes;
use crate::client::{ClientError, Signed};
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::{Hello, HelloAnswer, Mark, decode, encode};
use crate::jobs::Jobs;
use crate::machine::Machine;
use ledger::core::{LogId, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long an exchange without waiting may take.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks whether Central decides again.
pub(super) const HEALING_WAIT: Duration = Duration::from_millis(250);
/// The shortest time between two tries.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// Whether something may be started under a lease that is so old, milliseconds: in the first 80 % of its term.
pub(super) fn is_in_term(age_ms: u64, term_ms: u32) -> bool {
    age_ms < u64::from(term_ms) * 8 / 10
}

/// What the loops of one link tell each other.
pub(crate) struct Link {
    pub(super) machine: Arc<Machine>,
    jobs: Arc<Jobs>,
    gateway: Arc<Signed>,
    // The last answer to a hello that judged everything; none while the link is down.
    pub(super) synced: watch::Sender<Option<HelloAnswer>>,
    // Raised whenever the link failed, so that hello comes first again.
    pub(super) failures: watch::Sender<u64>,
    // The order log that the gateway writes, as it last said.
    pub(super) order: watch::Sender<Option<LogId>>,
    // Whether the gateway, which lost the end of its logs, was offered what is here of them.
    offered: AtomicBool,
    // The order of the gateway's to which what is here of those before was brought.
    brought_for: std::sync::Mutex<Option<LogId>>,
    // A hello that settles fences and a claim exclude each other: a claim whose answer is still on its way is in no
    // hello, and Central would take it for one that never started.
    pub(super) claiming: tokio::sync::Mutex<()>,
    // Hellos that wait for a claim's long poll, which gives way to them.
    pub(super) greeting: watch::Sender<u32>,
    // The id of a claim that was dropped without an answer, to be asked again under the same id.
    pub(super) unanswered: std::sync::Mutex<Option<[u8; 16]>>,
    // How closely pulls of each log follow each other.
    pub(super) pulls: std::sync::Mutex<BTreeMap<LogId, Pulls>>,
    /// When the last acknowledged beat was sent, by the clock that counts sleep.
    pub(crate) beat_ms: AtomicU64,
    /// A lease's term as the gateway says, milliseconds; 0 while it is not known.
    pub(crate) term_ms: AtomicU32,
}

/// Runs the link until it is told to stop.
pub(crate) async fn link_forever(link: Arc<Link>, stop: watch::Receiver<bool>) {
    let pushes = tokio::spawn(forever(
        Arc::clone(&link),
        stop.clone(),
        "push",
        |link| async move { push_round(&link).await },
    ));
    let pulls = tokio::spawn(forever(
        Arc::clone(&link),
        stop.clone(),
        "pull",
        |link| async move { pull_order(&link).await },
    ));
    let mirrors = tokio::spawn(forever(
        Arc::clone(&link),
        stop.clone(),
        "mirror",
        |link| async move { super::mirror::mirror(&link).await },
    ));
    let claims = tokio::spawn(forever(link, stop, "claim", |link| async move {
        claim_round(&link).await
    }));
    for task in [pushes, pulls, mirrors, claims] {
        if let Err(e) = task.await {
            tracing::error!(error = %e, "a loop of the link ended");
        }
    }
}

// Repeats a round; waits with jitter after a failure, longer after several.
async fn forever<F, R>(link: Arc<Link>, mut stop: watch::Receiver<bool>, what: &'static str, round: F)
where
    F: Fn(Arc<Link>) -> R,
    R: Future<Output = Result<(), ServerError>>,
{
    let mut failures = 0u32;
    loop {
        let result = tokio::select! {
            result = round(Arc::clone(&link)) => result,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match result {
            Ok(()) => failures = 0,
            Err(e) => {
                failures = failures.saturating_add(1);
                if matches!(e, ServerError::Fork(_)) || failures == 1 && !matches!(e, ServerError::Gateway(_))
                {
                    tracing::error!(loop_of = what, code = e.code(), error = %e, "an exchange cannot succeed");
                } else {
                    tracing::debug!(loop_of = what, failures, code = e.code(), error = %e, "an exchange failed");
                }
                let wait = link.backoff(failures);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        }
    }
}

impl Link {
    pub(crate) fn new(machine: Arc<Machine>, jobs: Arc<Jobs>, gateway: Arc<Signed>) -> Arc<Self> {
        Arc::new(Self {
            machine,
            jobs,
            gateway,
            synced: watch::channel(None).0,
            failures: watch::channel(0).0,
            order: watch::channel(None).0,
            offered: AtomicBool::new(false),
            brought_for: std::sync::Mutex::default(),
            claiming: tokio::sync::Mutex::new(()),
            greeting: watch::channel(0).0,
            unanswered: std::sync::Mutex::default(),
            pulls: std::sync::Mutex::default(),
            beat_ms: AtomicU64::new(0),
            term_ms: AtomicU32::new(0),
        })
    }

    fn backoff(&self, failures: u32) -> Duration {
        let most = Duration::from_millis(self.machine.config.timing.poll_ms);
        let base = RETRY_MIN
            .saturating_mul(2u32.saturating_pow(failures.min(12)))
            .min(most);
        // Half of it is chance, so that machines that lost the gateway together do not return together.
        let mut random = [0; 2];
        ledger::clock::Entropy::fill(&ledger::clock::SystemEntropy, &mut random);
        base / 2 + base.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0)
    }

    pub(super) async fn exchange<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        op: &'static str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<A, ServerError> {
        match self.gateway.exchange(op, body, timeout).await {
            Ok(answer) => {
                let now = self.machine.now_us();
                self.machine.set_link(|link| {
                    link.connected = true;
                    link.last_contact_us = Some(now);
                });
                decode(op, &answer)
            }
            // Too much at once: the link is there, and the next try comes later.
            Err(e) if e.problem().is_some_and(|p| p.code == "server.busy") => {
                Err(ServerError::Gateway(format!("{op}: {e}")))
            }
            Err(e)
                if e.problem()
                    .is_some_and(|p| p.status == http::StatusCode::GONE.as_u16()) =>
            {
                Err(ServerError::NotFound(format!("{op}: {e}")))
            }
            // The link is there; this machine cannot follow, and everything else goes on.
            Err(e) if e.problem().is_some_and(|p| p.code == "order.forked") => {
                let why = e.problem().map(|problem| problem.detail.clone());
                Err(ServerError::OrderForked(why.unwrap_or_default()))
            }
            Err(e) => {
                self.lost(&e);
                Err(match e.problem() {
                    Some(problem) if problem.code == "exchange.fork" => {
                        ServerError::Fork(format!("{op}: {}", problem.detail))
                    }
                    Some(problem) if problem.code == "auth.forbidden" => {
                        ServerError::Forbidden(format!("{op}: {}", problem.detail))
                    }
                    _ => ServerError::Gateway(format!("{op}: {e}")),
                })
            }
        }
    }

    /// An exchange beside the others: its failure says nothing of the link.
    pub(crate) async fn aside<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        op: &'static str,
        body: Vec<u8>,
    ) -> Result<A, ServerError> {
        let answer = self.gateway.exchange(op, body, EXCHANGE_TIMEOUT).await;
        decode(
            op,
            &answer.map_err(|e| ServerError::Gateway(format!("{op}: {e}")))?,
        )
    }

    /// The last answer to a hello that judged everything; none while the link is down.
    pub(crate) fn synced(&self) -> watch::Receiver<Option<HelloAnswer>> {
        self.synced.subscribe()
    }

    /// The machine whose link it is.
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    fn lost(&self, why: &ClientError) {
        self.failures.send_modify(|failures| *failures += 1);
        // Another process may answer next, with less than the one that was offered everything. One that refuses is there still.
        if why.problem().is_none() {
            self.offered.store(false, Ordering::Release);
        }
        self.synced.send_if_modified(|synced| synced.take().is_some());
        self.machine.set_link(|link| {
            if std::mem::replace(&mut link.connected, false) {
                tracing::warn!(error = %why, "the link to the gateway is down; work goes on here");
            }
        });
    }

    pub(super) fn mark(&self, log: &LogId) -> Option<Mark> {
        self.machine.ledger.snapshot().logs.get(log).map(|chain| {
            let (seq, seal) = chain.tip();
            Mark { seq, seal }
        })
    }

    // What the gateway said that it has of our own logs.
    pub(super) fn heed(&self, marks: &[(LogId, Option<Mark>)]) {
        let snapshot = self.machine.ledger.snapshot();
        if let Some(central) = snapshot.state.central() {
            self.machine.heed_marks(central, marks);
        }
    }

    pub(super) fn own_logs(&self) -> Vec<LogId> {
        [Stream::Work, Stream::Facts, Stream::Pulse]
            .into_iter()
            .filter_map(|s| self.machine.ledger.own_log(s))
            .collect()
    }

    /// Whether what somebody has of a log stands here.
    pub(super) fn has(&self, log: &LogId, mark: Option<&Mark>) -> Result<bool, ServerError> {
        let Some(mark) = mark else {
            return Ok(true);
        };
        let stands = self.machine.ledger.get(log, mark.seq)?;
        Ok(stands.is_some_and(|stands| stands.seal_digest() == mark.seal))
    }

    // The order log that this machine follows.
    pub(super) fn follows(&self) -> Option<LogId> {
        self.machine
            .ledger
            .snapshot()
            .state
            .order()
            .map(|order| order.log)
    }

    /// Whether the node may start something: the last acknowledged beat or hello was sent less than 80 % of a term ago.
    pub(super) fn is_leased(&self, term_ms: u32) -> bool {
        is_in_term(
            running_ms().saturating_sub(self.beat_ms.load(Ordering::Acquire)),
            term_ms,
        )
    }

    // Says hello while no claim is on its way.
    async fn greet(&self) -> Result<HelloAnswer, ServerError> {
        struct Waiting<'a>(&'a watch::Sender<u32>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        self.greeting.send_modify(|waiting| *waiting += 1);
        let waiting = Waiting(&self.greeting);
        let _no_claim = self.claiming.lock().await;
        // It says that we hold nothing of a claim that got no answer: what that was given is never taken.
        *self.unanswered.lock().expect("claim lock") = None;
        drop(waiting);
        self.hello().await
    }

    async fn hello(&self) -> Result<HelloAnswer, ServerError> {
        let sent_ms = running_ms();
        // Before the heads: a run that ends in between is then told as held, and its end as not pushed yet.
        let fences = self.jobs.fences();
        let snapshot = self.machine.ledger.snapshot();
        let order = snapshot
            .state
            .order()
            .and_then(|order| self.mark(&order.log).map(|mark| (order.epoch, order.log, mark)));
        let order = match order {
            Some((epoch, log, mark)) => {
                let stands = self.machine.ledger.get(&log, mark.seq)?;
                let proof = stands
                    .map(|receipt| receipt.record.bytes().to_vec())
                    .unwrap_or_default();
                Some((epoch, log, mark, proof))
            }
            None => None,
        };
        let hello = Hello {
            process: self.machine.process,
            incarnation: self.machine.incarnation(),
            logs: self
                .own_logs()
                .into_iter()
                .map(|log| (log, self.mark(&log)))
                .collect(),
            order,
            fences,
            handlers: self.jobs.declared(),
            offered: self.offered.load(Ordering::Acquire),
            now: self.machine.now_us(),
        };
        let answer: HelloAnswer = self.exchange("hello", encode(&hello), EXCHANGE_TIMEOUT).await?;
        if snapshot
            .state
            .order()
            .is_some_and(|order| answer.epoch < order.epoch && !answer.collecting)
        {
            let why = format!(
                "the gateway is of epoch {}, we know a higher one: it is an old Central",
                answer.epoch
            );
            return Err(ServerError::Fork(why));
        }
        let offset_ms = self.machine.now_us().saturating_sub(answer.now) / 1000;
        self.machine
            .set_link(|link| link.clock_offset_ms = Some(offset_ms));
        if !answer.collecting {
            self.order.send_replace(Some(answer.order));
        }
        self.term_ms.store(answer.term_ms, Ordering::Release);
        if answer.synced {
            self.beat_ms.store(sent_ms, Ordering::Release);
        }
        Ok(answer)
    }
}

// Hello, everything that the gateway lacks, hello again; then whatever comes, until the link fails.
async fn push_round(link: &Arc<Link>) -> Result<(), ServerError> {
    let mut failures = link.failures.subscribe();
    failures.mark_unchanged();
    let answer = match link.greet().await {
        Err(ServerError::Fork(why)) => {
            show_fork(link).await?;
            return Err(ServerError::Fork(why));
        }
        answer => answer?,
    };
    if answer.collecting {
        offer_all(link).await?;
        link.offered.store(true, Ordering::Release);
        tokio::time::sleep(HEALING_WAIT).await;
        return Ok(());
    }
    link.offered.store(false, Ordering::Release);
    if answer.healing {
        // Its waiting for us ended with this very hello; it may wait for others.
        tokio::time::sleep(HEALING_WAIT).await;
        return Ok(());
    }
    // Once though its order is followed already: that needs no hello, and goes on while Central heals.
    let brought = *link.brought_for.lock().expect("brought lock") == Some(answer.order);
    if !brought || answer.orphan || link.follows() != Some(answer.order) {
        let taken = offer_orphans(link, &answer).await?;
        *link.brought_for.lock().expect("brought lock") = Some(answer.order);
        if answer.orphan && taken {
            // The next hello has it settled, before anything that was done under its claims is told.
            return Ok(());
        }
        // What the gateway does not take, since it has another branch, keeps nothing else from it.
    }
    link.heed(&answer.marks);
    give_earlier(link, &answer).await?;
    let machine = Arc::clone(&link.machine);
    let (marks, window) = (
        answer.marks,
        usize::try_from(answer.window_bytes).unwrap_or(usize::MAX),
    );
    let begun = tokio::task::spawn_blocking(move || Pushes::begin(&machine, &marks, window)).await;
    let mut pushes = match begun.map_err(|e| ServerError::Malformed(e.to_string()))? {
        Err(ServerError::Fork(why)) => {
            show_fork(link).await?;
            return Err(ServerError::Fork(why));
        }
        begun => begun?,
    };
    if pushes.begin_behind(link).await {
        // It says in its next answer where each log goes on now.
        return Ok(());
    }
    let mut changed = link.machine.changed();
    let mut synced = false;
    let again = Duration::from_millis(link.machine.config.timing.poll_ms);
    let mut next_hello = tokio::time::Instant::now() + again;
    loop {
        changed.mark_unchanged();
        pushes.push(link, !synced, next_hello).await?;
        synced &= tokio::time::Instant::now() < next_hello;
        if !synced {
            let answer = link.greet().await?;
            if answer.healing {
                return Ok(());
            }
            link.heed(&answer.marks);
            synced = answer.synced;
            link.synced.send_replace(synced.then_some(answer));
            next_hello = tokio::time::Instant::now() + again;
            continue;
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = failures.changed() => return Ok(()),
            // A hello now and then notices what nobody else would: that the gateway forgot us.
            () = tokio::time::sleep_until(next_hello) => synced = false,
        }
    }
}

impl Link {
    /// What the beat thread needs: the claims that go on here, and what to do with the answer.
    pub(crate) fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    /// Has hello said at once.
    pub(crate) fn greet_soon(&self) {
        self.failures.send_modify(|failures| *failures += 1);
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> &Arc<Signed> {
        &self.gateway
    }
}
