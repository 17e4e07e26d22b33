//! A node of the bench: a real store, the real exchanges over loopback, a handler that does nothing and is no process.
//!
//! It does for each job what a node does: claims over HTTP, checks Central's signature, seals `run.started` and waits until it
//! is durable, seals `run.succeeded`, pushes its work log and follows the order. It sends no heartbeats and says hello only once.

use super::child::{NO_OP, shared_us};
use crate::Failed;
use ledger::core::digest::{content_digest, outputs_manifest};
use ledger::core::kinds::{AnyDetail, Class, Costs, Detail, Fence, JobId, Outputs, RunStarted, RunSucceeded};
use ledger::core::{Draft, LogId, MachineId, Record, Stream, chain};
use ledger::intake::VerifiedRun;
use ledger::{Ledger, OpenOptions, Paths, PayloadState};
use ledger_projections::FleetState;
use ledger_server::client::{MachineSigner, Signed};
use ledger_server::exchange::{
    Claim, ClaimAnswer, Claimed, Declared, Hello, HelloAnswer, Mark, Pull, PullAnswer, Push, PushAnswer,
    RUN_BYTES_MAX, RUN_RECORDS_MAX, Raw, decode, encode,
};
use ledger_server::pace::{Pace, Rests, rest};
use ledger_server::setup;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

/// Longest wait of a long poll, milliseconds.
const WAIT_MS: u32 = 10_000;
/// How long an exchange may take beside its waiting.
const WITHIN: Duration = Duration::from_secs(30);

/// Time between two pulls of a busy order, as a node keeps it.
const PULLS_APART: Duration = Duration::from_millis(50);

/// See the module.
pub struct Node {
    id: MachineId,
    ledger: Ledger<FleetState>,
    gateway: Signed,
    slots: Arc<Semaphore>,
    slots_max: u16,
    claims: AtomicU64,
    running: AtomicUsize,
    // The seq that the gateway lacks first.
    acknowledged: AtomicU64,
    changed: watch::Sender<()>,
    /// Successes that the gateway acknowledged, and when the newest run started, of all nodes.
    pub told: Arc<Told>,
}

/// What the nodes tell the bench.
#[derive(Default)]
pub struct Told {
    succeeded: AtomicUsize,
    started_us: AtomicU64,
    moved: Notify,
    done: Done,
}

/// What was done so far, of all nodes together.
#[derive(Default)]
struct Done {
    claims: AtomicUsize,
    pushes: AtomicUsize,
    pulls: AtomicUsize,
    pulled: AtomicUsize,
    commits: AtomicUsize,
}

impl Told {
    /// Returns when so many successes are acknowledged.
    pub async fn until(&self, succeeded: usize) {
        loop {
            let moved = self.moved.notified();
            if self.succeeded.load(Ordering::Acquire) >= succeeded {
                return;
            }
            moved.await;
        }
    }

    /// What was done so far: claims, pushes, pulls of the order, records that these brought, batches that became durable here.
    pub fn counts(&self) -> [usize; 5] {
        let Done {
            claims,
            pushes,
            pulls,
            pulled,
            commits,
        } = &self.done;
        [claims, pushes, pulls, pulled, commits].map(|count| count.load(Ordering::Acquire))
    }

    /// When the newest run started, by the clock that all processes share.
    pub fn started_us(&self) -> u64 {
        self.started_us.load(Ordering::Acquire)
    }
}

impl Node {
    /// Joins the fleet with an invitation's line and gives a first sign.
    ///
    /// # Errors
    /// What the gateway or the store says.
    pub async fn join(
        dir: &Path,
        name: &str,
        line: &str,
        slots: u16,
        told: &Arc<Told>,
    ) -> Result<Arc<Self>, Failed> {
        let id = MachineId::new(name)?;
        let joined = setup::join(dir, line, &id).await?;
        let ledger: Ledger<FleetState> = Ledger::open(&Paths::new(dir), OpenOptions::default())?;
        let central = ledger
            .snapshot()
            .state
            .order()
            .ok_or("a node knows its order")?
            .central_key;
        let signer = Arc::new(MachineSigner(ledger.clone()));
        let (changed, _) = watch::channel(());
        let (wake, counted) = (changed.clone(), Arc::clone(told));
        ledger.on_commit(move |_| {
            counted.done.commits.fetch_add(1, Ordering::AcqRel);
            wake.send_replace(());
        });
        let node = Arc::new(Self {
            id,
            gateway: Signed::new(&joined.address, signer, Some(central))?,
            ledger,
            slots: Arc::new(Semaphore::new(slots.into())),
            slots_max: slots,
            claims: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(1), // the genesis came with the joining
            changed,
            told: Arc::clone(told),
        });
        while !node.hello().await?.synced {
            while node.push().await? > 0 {}
        }
        Ok(node)
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// What any exchange says.
    pub async fn work(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> Result<(), Failed> {
        let mut loops: JoinSet<Result<(), Failed>> = JoinSet::new();
        loops.spawn(Arc::clone(&self).pushing());
        loops.spawn(Arc::clone(&self).pulling());
        loops.spawn(Arc::clone(&self).claiming());
        let ended = tokio::select! {
            ended = loops.join_next() => ended,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        loops.shutdown().await;
        ended.transpose()?.transpose().map(drop)
    }

    async fn exchange<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        op: &'static str,
        body: Vec<u8>,
    ) -> Result<A, Failed> {
        Ok(decode(op, &self.gateway.exchange(op, body, WITHIN).await?)?)
    }

    fn own(&self, stream: Stream) -> Result<LogId, Failed> {
        Ok(self.ledger.own_log(stream).ok_or("a node has its logs")?)
    }

    fn mark(&self, log: &LogId) -> Option<Mark> {
        let snapshot = self.ledger.snapshot();
        let (seq, seal) = snapshot.logs.get(log)?.tip();
        Some(Mark { seq, seal })
    }

    async fn hello(&self) -> Result<HelloAnswer, Failed> {
        let snapshot = self.ledger.snapshot();
        let order = snapshot.state.order().ok_or("a node knows its order")?;
        let mark = self.mark(&order.log).ok_or("a node has its order")?;
        let proof = self
            .ledger
            .get(&order.log, mark.seq)?
            .ok_or("a node has its order")?;
        let logs = [Stream::Work, Stream::Facts, Stream::Pulse];
        let logs = logs.map(|stream| self.own(stream).map(|log| (log, self.mark(&log))));
        let hello = Hello {
            process: [0; 16],
            incarnation: 1,
            logs: logs.into_iter().collect::<Result<_, _>>()?,
            order: Some((order.epoch, order.log, mark, proof.record.bytes().to_vec())),
            fences: Vec::new(),
            handlers: vec![Declared {
                handler: NO_OP.into(),
                class: Class::Light,
                labels: Vec::new(),
                slots: self.slots_max,
            }],
            offered: false,
            now: self.ledger.clock().now_us(),
        };
        self.exchange("hello", encode(&hello)).await
    }

    // Everything of the work log that is new; how many successes were in it.
    async fn push(&self) -> Result<usize, Failed> {
        let log = self.own(Stream::Work)?;
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let (mut records, mut bytes, mut ends) = (Vec::new(), 0, 0);
        for receipt in self.ledger.range(&log, acknowledged, u64::MAX) {
            let receipt = receipt?;
            let payload = match self.ledger.payload(&receipt)? {
                PayloadState::Present(payload) => Some(payload),
                _ => None,
            };
            ends += usize::from(receipt.kind() == RunSucceeded::KIND);
            bytes += receipt.record.bytes().len() + payload.as_ref().map_or(0, |p| p.bytes.len());
            records.push(Raw {
                record: receipt.record.bytes().to_vec(),
                payload,
            });
            if bytes >= RUN_BYTES_MAX || records.len() >= RUN_RECORDS_MAX {
                break;
            }
        }
        if records.is_empty() {
            return Ok(0);
        }
        let sent = records.len();
        let answer: PushAnswer = self
            .exchange(
                "push",
                encode(&Push {
                    process: [0; 16],
                    log,
                    records,
                }),
            )
            .await?;
        self.acknowledged.store(answer.mark.seq + 1, Ordering::Release);
        self.told.done.pushes.fetch_add(1, Ordering::AcqRel);
        self.told.succeeded.fetch_add(ends, Ordering::AcqRel);
        self.told.moved.notify_waiters();
        Ok(sent)
    }

    async fn pushing(self: Arc<Self>) -> Result<(), Failed> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if self.push().await? == 0 {
                changed.changed().await?;
            }
        }
    }

    async fn pulling(self: Arc<Self>) -> Result<(), Failed> {
        let log = self
            .ledger
            .snapshot()
            .state
            .order()
            .ok_or("a node knows its order")?
            .log;
        let (mut pace, mut rests) = (Pace::new(PULLS_APART), Rests::default());
        let own = self.own(Stream::Work)?;
        let mut work = self.mark(&own);
        loop {
            let pull = Pull {
                log,
                after: self.mark(&log),
                wait_ms: WAIT_MS,
            };
            let answer: PullAnswer = self.exchange("pull", encode(&pull)).await?;
            let (began, complete) = (tokio::time::Instant::now(), answer.complete);
            self.told.done.pulls.fetch_add(1, Ordering::AcqRel);
            self.told
                .done
                .pulled
                .fetch_add(answer.records.len(), Ordering::AcqRel);
            let chain = self.ledger.snapshot().logs.get(&log).cloned();
            let raw = answer
                .records
                .into_iter()
                .map(|r| (r.record, r.payload))
                .collect();
            let verified = tokio::task::spawn_blocking(move || VerifiedRun::verify(raw, chain.as_deref()));
            if let Some(run) = verified.await?? {
                self.ledger.submit(move |tx| tx.intake(&run).map(drop)).await?;
                let time = rests.after(began.elapsed(), !complete);
                let idle = rest(time, || {
                    let now = self.mark(&own);
                    std::mem::replace(&mut work, now) != now || self.running.load(Ordering::Acquire) > 0
                })
                .await;
                if idle {
                    rests.idle();
                }
                if complete {
                    pace.wait().await;
                }
            }
        }
    }

    async fn claiming(self: Arc<Self>) -> Result<(), Failed> {
        loop {
            let mut places = vec![Arc::clone(&self.slots).acquire_owned().await?];
            while let Ok(place) = Arc::clone(&self.slots).try_acquire_owned() {
                places.push(place);
            }
            let number = self.claims.fetch_add(1, Ordering::AcqRel);
            let mut claim = [0; 16];
            claim[..8].copy_from_slice(&number.to_be_bytes());
            let claim = Claim {
                claim,
                incarnation: 1,
                free: vec![(NO_OP.into(), u16::try_from(places.len())?)],
                wait_ms: WAIT_MS,
            };
            let answer: ClaimAnswer = self.exchange("claim", encode(&claim)).await?;
            self.told.done.claims.fetch_add(1, Ordering::AcqRel);
            for claimed in answer.jobs {
                let place = places.pop().ok_or("no more jobs than free slots")?;
                let node = Arc::clone(&self);
                node.running.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    if let Err(error) = node.run(&claimed).await {
                        eprintln!("a run of the bench failed: {error}");
                    }
                    node.running.fetch_sub(1, Ordering::AcqRel);
                    drop(place);
                });
            }
        }
    }

    async fn run(&self, claimed: &Claimed) -> Result<(), Failed> {
        let (fence, job, attempt) = self.checked(claimed)?;
        let started = RunStarted {
            job,
            fence,
            handler: NO_OP.into(),
            attempt,
        };
        let said = Draft::of(&started, job.subject());
        self.ledger.append_ticket(Stream::Work, said).await?;
        self.told.started_us.store(shared_us()?, Ordering::Release);
        let result = b"null".to_vec();
        let succeeded = RunSucceeded {
            job,
            fence,
            result: content_digest(&result),
            outputs: Outputs {
                manifest: outputs_manifest(std::iter::empty()),
                count: 0,
            },
            costs: Costs::default(),
        };
        let said = Draft::of(&succeeded, job.subject()).payload("application/json", result)?;
        self.ledger.append_ticket(Stream::Work, said).await?;
        Ok(())
    }

    // What was claimed, by Central's own signature.
    fn checked(&self, claimed: &Claimed) -> Result<(Fence, JobId, u16), Failed> {
        let record = Record::parse(&claimed.claimed.record)?;
        let AnyDetail::JobClaimed(claim) = record.statement().any_detail()? else {
            return Err("a claim's answer begins with job.claimed".into());
        };
        let snapshot = self.ledger.snapshot();
        let order = snapshot.state.order().ok_or("a node knows its order")?;
        chain::verify_signatures(&record, &order.central_key.verifier()?)?;
        if claim.machine != self.id || record.seal().log != order.log {
            return Err("the claim is not ours".into());
        }
        let fence = Fence::of_claim(order.epoch, record.seal().seq, &record.seal_digest());
        Ok((fence, claim.job, claim.attempt))
    }
}
