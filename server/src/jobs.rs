//! Runs what this machine claimed: writes `run.started`, starts the handler under its supervisor, follows it, and writes
//! what became of it. The same for a node and for the gateway's own worker.
//!
//! What a crash leaves: the supervisor ends the handler when the daemon dies; [`Jobs::recover`] proves at the next start
//! that nothing of the run is alive, and says whether it finished or is lost.

use crate::error::ServerError;
use crate::exchange::{Claimed, Declared};
use crate::machine::Machine;
use crate::worker::{
    self, HandlerConfig, Outcome, OutputLimits, Recovered, ReportLine, ReportReader, RunRequest, RunResult,
};
use ledger::core::digest::{content_digest, outputs_manifest, path_digest};
use ledger::core::kinds::{
    AnyDetail, ArtifactStaged, Class, Costs, ErrorClass, Fence, JobAccepted, JobClaimed, JobId, Outputs,
    RunCheckpointed, RunFailed, RunLost, RunProgressed, RunStarted, RunSucceeded,
};
use ledger::core::limits::NOTE_BYTES_MAX;
use ledger::core::{ContentDigest, Draft, Record, Stream};
use ledger_projections::queue::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a run's report file is read.
const REPORT_PERIOD: Duration = Duration::from_millis(200);
/// The media type of results.
const RESULT_MEDIA: &str = "application/json";

/// The runs of this machine.
pub(crate) struct Jobs {
    machine: Arc<Machine>,
    binary: PathBuf,
    // Claims that this process holds: taken, running, or reported.
    held: Mutex<BTreeMap<Fence, Held>>,
    room: tokio::sync::Notify,
    stopping: AtomicBool,
}

struct Held {
    handler: String,
    cancel: Option<worker::Canceller>,
    // Whether it still takes a slot.
    running: bool,
}

fn class_of(class: worker::Class) -> Class {
    match class {
        worker::Class::Light => Class::Light,
        worker::Class::Heavy => Class::Heavy,
        worker::Class::Exclusive => Class::Exclusive,
    }
}

/// What is needed of a claim's answer.
struct Work {
    fence: Fence,
    job: JobId,
    attempt: u16,
    handler: String,
    input: Vec<u8>,
}

impl Jobs {
    pub(crate) fn new(machine: Arc<Machine>, binary: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            machine,
            binary,
            held: Mutex::default(),
            room: tokio::sync::Notify::new(),
            stopping: AtomicBool::new(false),
        })
    }

    /// What this machine runs, as it tells Central.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let handlers = self.machine.config.handlers.iter();
        handlers
            .map(|h| Declared {
                handler: h.name.clone(),
                class: class_of(h.class),
                labels: h.labels.clone(),
                slots: u16::try_from(h.slots).unwrap_or(u16::MAX),
            })
            .collect()
    }

    /// Free slots of each handler.
    pub(crate) fn free(&self) -> Vec<(String, u16)> {
        let held = self.held.lock().expect("held lock");
        let used = |name: &str| held.values().filter(|h| h.running && h.handler == name).count();
        let handlers = self.machine.config.handlers.iter();
        handlers
            .map(|h| {
                let left = usize::try_from(h.slots)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(used(&h.name));
                (h.name.clone(), u16::try_from(left).unwrap_or(u16::MAX))
            })
            .filter(|(_, free)| *free > 0)
            .collect()
    }

    /// Slots in use and in all.
    pub(crate) fn slots(&self) -> (u16, u16) {
        let used = self
            .held
            .lock()
            .expect("held lock")
            .values()
            .filter(|h| h.running)
            .count();
        let total: u32 = self.machine.config.handlers.iter().map(|h| h.slots).sum();
        (
            u16::try_from(used).unwrap_or(u16::MAX),
            u16::try_from(total).unwrap_or(u16::MAX),
        )
    }

    /// Returns when a slot may have become free.
    pub(crate) async fn wait_for_room(&self) {
        self.room.notified().await;
    }

    /// Every claim that this machine holds and has not reported the end of.
    pub(crate) fn fences(&self) -> Vec<Fence> {
        let snapshot = self.machine.ledger.snapshot();
        let open = snapshot
            .state
            .runs()
            .filter(|(_, run)| run.ended.is_none())
            .map(|(fence, _)| *fence);
        let mut fences: BTreeSet<Fence> = open.collect();
        // Taken and not begun; one whose end is told already stays here for a moment longer.
        let held = self.held.lock().expect("held lock");
        fences.extend(
            held.keys()
                .filter(|fence| snapshot.state.run(fence).is_none_or(|run| run.ended.is_none())),
        );
        fences.into_iter().collect()
    }

    fn run_dir(&self, fence: &Fence) -> PathBuf {
        self.machine
            .ledger
            .paths()
            .data()
            .join("runs")
            .join(fence.to_string())
    }

    /// Outputs by digest.
    fn objects(&self) -> PathBuf {
        self.machine.ledger.paths().data().join("objects")
    }

    /// Says of every run that an earlier process began what became of it. Nothing of them is alive afterwards.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), ServerError> {
        let snapshot = self.machine.ledger.snapshot();
        let open: Vec<_> = snapshot
            .state
            .runs()
            .filter(|(_, run)| run.ended.is_none())
            .map(|(fence, run)| (*fence, run.job, run.handler.clone()))
            .collect();
        for (fence, job, handler) in open {
            let dir = self.run_dir(&fence);
            let found = tokio::task::spawn_blocking(move || worker::recover(&dir))
                .await
                .expect("recover does not panic");
            let finished = match found {
                Ok(Recovered::Finished(result)) => Some(result),
                Ok(Recovered::Lost { .. }) => None,
                Err(e) => {
                    // Without its directory nothing can be proven alive or finished: the directory is made before the
                    // receipt, so somebody removed it.
                    tracing::warn!(%fence, error = %e, "a run of an earlier process left nothing");
                    None
                }
            };
            let config = self
                .machine
                .config
                .handlers
                .iter()
                .find(|h| h.name == handler)
                .cloned();
            match (finished, config) {
                (Some(result), Some(config)) => self.report(&fence, &job, &config, &result).await?,
                _ => {
                    tracing::info!(%fence, %job, "a run was lost with the process that ran it");
                    self.machine
                        .say(
                            Stream::Work,
                            vec![Draft::of(&RunLost { job, fence }, job.subject())],
                        )
                        .await?;
                }
            }
            self.discard(&fence);
        }
        Ok(())
    }

    /// Takes a claimed job and runs it, unless it is held already.
    pub(crate) fn take(self: &Arc<Self>, claimed: Claimed) -> Result<(), ServerError> {
        if self.stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        let work = self.understand(&claimed)?;
        {
            let mut held = self.held.lock().expect("held lock");
            let known = self.machine.ledger.snapshot().state.run(&work.fence).is_some();
            if held.contains_key(&work.fence) || known {
                return Ok(());
            }
            held.insert(
                work.fence,
                Held {
                    handler: work.handler.clone(),
                    cancel: None,
                    running: true,
                },
            );
        }
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            let (fence, job) = (work.fence, work.job);
            if let Err(e) = jobs.run(work).await {
                tracing::error!(%fence, %job, code = e.code(), error = %e, "a run could not be carried through");
            }
            jobs.held.lock().expect("held lock").remove(&fence);
            jobs.room.notify_waiters();
            jobs.room.notify_one();
        });
        Ok(())
    }

    // The claim must be sealed by Central's log, and the parts must belong together.
    fn understand(&self, claimed: &Claimed) -> Result<Work, ServerError> {
        let bad = |what: &str| ServerError::Malformed(format!("a claim's answer: {what}"));
        let record = |raw: &crate::exchange::Raw| {
            let record = Record::parse(&raw.record).map_err(|e| ServerError::Malformed(e.to_string()))?;
            let detail = record
                .statement()
                .any_detail()
                .map_err(|e| ServerError::Malformed(e.to_string()))?;
            Ok::<_, ServerError>((record, detail))
        };
        let (claim, detail) = record(&claimed.claimed)?;
        let AnyDetail::JobClaimed(JobClaimed {
            job,
            machine,
            attempt,
            ..
        }) = detail
        else {
            return Err(bad("its first record is no job.claimed"));
        };
        let snapshot = self.machine.ledger.snapshot();
        let order = snapshot
            .state
            .order()
            .ok_or_else(|| bad("this store does not know the order yet"))?;
        let central = order
            .central_key
            .verifier()
            .map_err(|_| bad("Central's key is not usable"))?;
        if claim.seal().log != order.log || machine != *self.machine.id() {
            return Err(bad("it is not ours, or not of the order that we follow"));
        }
        ledger::core::chain::verify_signatures(&claim, &central)
            .map_err(|_| bad("its log signature is not valid"))?;
        let (_, detail) = record(&claimed.accepted)?;
        let AnyDetail::JobAccepted(JobAccepted {
            job: accepted,
            spec,
            request,
            ..
        }) = detail
        else {
            return Err(bad("its second record is no job.accepted"));
        };
        if accepted != job {
            return Err(bad("claim and acceptance are of different jobs"));
        }
        let input = match (&spec.input, &claimed.request) {
            (None, _) => b"null".to_vec(),
            (Some(wanted), Some(raw)) => {
                let (asked, _) = record(raw)?;
                let commits = asked
                    .statement()
                    .payload
                    .as_ref()
                    .is_some_and(|p| p.commitment == wanted.commitment);
                let payload = raw.payload.as_ref().filter(|payload| {
                    commits
                        && asked.statement().id == request
                        && asked
                            .statement()
                            .payload
                            .as_ref()
                            .is_some_and(|w| payload.matches(w))
                });
                payload
                    .ok_or_else(|| bad("the input is absent or not what the job names"))?
                    .bytes
                    .clone()
            }
            (Some(_), None) => return Err(bad("the request with the input is absent")),
        };
        let fence = Fence::of_claim(order.epoch, claim.seal().seq, &claim.seal_digest());
        Ok(Work {
            fence,
            job,
            attempt,
            handler: spec.handler,
            input,
        })
    }

    async fn run(self: &Arc<Self>, work: Work) -> Result<(), ServerError> {
        let Work {
            fence,
            job,
            attempt,
            handler,
            input,
        } = work;
        let Some(config) = self
            .machine
            .config
            .handlers
            .iter()
            .find(|h| h.name == handler)
            .cloned()
        else {
            return self
                .fail(
                    &fence,
                    &job,
                    ErrorClass::Undeclared,
                    None,
                    true,
                    Costs::default(),
                    "not declared here",
                )
                .await;
        };
        let dir = self.run_dir(&fence);
        let request = RunRequest {
            handler: config.clone(),
            job: job.to_string(),
            fence: fence.to_string(),
            traceparent: None,
            input,
        };
        let prepared = {
            let dir = dir.clone();
            tokio::task::spawn_blocking(move || worker::prepare(&dir, &request))
                .await
                .expect("prepare does not panic")
        };
        // Durable before the process is.
        let started = RunStarted {
            job,
            fence,
            handler,
            attempt,
        };
        self.machine
            .say(Stream::Work, vec![Draft::of(&started, job.subject())])
            .await?;
        if let Err(e) = prepared {
            return self
                .fail(
                    &fence,
                    &job,
                    ErrorClass::Spawn,
                    None,
                    false,
                    Costs::default(),
                    &e.to_string(),
                )
                .await;
        }
        match self.follow(&fence, &job, dir).await {
            Ok(result) => self.report(&fence, &job, &config, &result).await?,
            Err(ServerError::Worker(e)) if e.code() == "worker.supervisor-lost" => {
                self.machine
                    .say(
                        Stream::Work,
                        vec![Draft::of(&RunLost { job, fence }, job.subject())],
                    )
                    .await?;
            }
            Err(e) => {
                self.fail(
                    &fence,
                    &job,
                    ErrorClass::Spawn,
                    None,
                    false,
                    Costs::default(),
                    &e.to_string(),
                )
                .await?;
            }
        }
        self.discard(&fence);
        Ok(())
    }

    // Starts the handler and follows it to its end, telling progress and checkpoints.
    async fn follow(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        dir: PathBuf,
    ) -> Result<RunResult, ServerError> {
        let mut reader = ReportReader::open(&dir)?;
        let binary = self.binary.clone();
        let run_dir = dir.clone();
        let start = tokio::task::spawn_blocking(move || worker::start(&binary, &run_dir));
        let mut run = start.await.expect("start does not panic")?;
        if let Some(held) = self.held.lock().expect("held lock").get_mut(fence) {
            held.cancel = Some(run.canceller());
        }
        self.heed(fence, self.machine.ledger.snapshot().state.standing(fence));
        let mut waiting = tokio::task::spawn_blocking(move || run.wait());
        loop {
            tokio::select! {
                ended = &mut waiting => {
                    self.tell(fence, job, reader.finish()?).await?;
                    return Ok(ended.expect("wait does not panic")?);
                }
                () = tokio::time::sleep(REPORT_PERIOD) => self.tell(fence, job, reader.read()?).await?,
            }
        }
    }

    async fn tell(&self, fence: &Fence, job: &JobId, lines: Vec<ReportLine>) -> Result<(), ServerError> {
        let (fence, job) = (*fence, *job);
        // Of several percentages only the newest says something.
        let progress = lines.iter().rev().find_map(|line| match line {
            ReportLine::Progress { per_cent, note } => Some((*per_cent, note.clone())),
            _ => None,
        });
        if let Some((per_cent, note)) = progress {
            let note = note.chars().take(NOTE_BYTES_MAX / 4).collect();
            let detail = RunProgressed {
                job,
                fence,
                per_cent,
                note,
            };
            self.machine
                .say(Stream::Pulse, vec![Draft::of(&detail, job.subject())])
                .await?;
        }
        let checkpoint = lines.into_iter().rev().find_map(|line| match line {
            ReportLine::Checkpoint(text) => Some(text),
            _ => None,
        });
        if let Some(text) = checkpoint {
            let draft = Draft::of(&RunCheckpointed { job, fence }, job.subject());
            let draft = draft.payload("text/plain; charset=utf-8", text.into_bytes())?;
            self.machine.say(Stream::Work, vec![draft]).await?;
        }
        Ok(())
    }

    // Writes what became of a run, with its outputs, in one commit.
    async fn report(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        config: &HandlerConfig,
        result: &RunResult,
    ) -> Result<(), ServerError> {
        let (fence, job) = (*fence, *job);
        let dir = self.run_dir(&fence);
        let mut costs = Costs {
            wall_ms: result.wall_ms,
            cpu_ms: result.cpu_ms,
            peak_memory_bytes: result.peak_memory_bytes,
            ..Costs::default()
        };
        for line in ReportReader::open(&dir)
            .and_then(|mut reader| reader.finish())
            .unwrap_or_default()
        {
            match line {
                ReportLine::Cost { name, amount } if name == "tokens" => {
                    costs.tokens = costs.tokens.saturating_add(amount)
                }
                ReportLine::Cost { name, amount } if name == "usd_micros" => {
                    costs.usd_micros = costs.usd_micros.saturating_add(amount);
                }
                _ => {}
            }
        }
        let (error, status) = match &result.outcome {
            outcome if outcome.is_success() => {
                return self.succeed(&fence, &job, config, result, costs).await;
            }
            Outcome::Exited { code } => (ErrorClass::ExitStatus, Some(*code)),
            Outcome::Signaled { signal } => (ErrorClass::Signal, Some(*signal)),
            Outcome::TimedOut => (ErrorClass::Timeout, None),
            // The daemon itself stopped it: it is as lost as by a kill, only told earlier.
            Outcome::Cancelled if self.stopping.load(Ordering::Acquire) && !self.is_unwanted(&fence) => {
                self.machine
                    .say(
                        Stream::Work,
                        vec![Draft::of(&RunLost { job, fence }, job.subject())],
                    )
                    .await?;
                return Ok(());
            }
            Outcome::Cancelled => (ErrorClass::Cancelled, None),
            Outcome::SpawnFailed { .. } => (ErrorClass::Spawn, None),
            Outcome::DaemonGone => {
                self.machine
                    .say(
                        Stream::Work,
                        vec![Draft::of(&RunLost { job, fence }, job.subject())],
                    )
                    .await?;
                return Ok(());
            }
        };
        let said = match &result.outcome {
            Outcome::SpawnFailed { error } => error.clone(),
            _ if result.stderr.tail.is_empty() => result.stdout.tail.clone(),
            _ => result.stderr.tail.clone(),
        };
        let permanent = matches!(error, ErrorClass::Spawn);
        self.fail(&fence, &job, error, status, permanent, costs, &said)
            .await
    }

    async fn succeed(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        config: &HandlerConfig,
        result: &RunResult,
        costs: Costs,
    ) -> Result<(), ServerError> {
        let (fence, job) = (*fence, *job);
        let (dir, objects, globs) = (self.run_dir(&fence), self.objects(), config.outputs.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let collected = worker::collect_outputs(&dir, &globs, &OutputLimits::default())?;
            worker::store_outputs(&dir, &objects, &collected.outputs)?;
            Ok::<_, worker::WorkerError>(collected)
        });
        let collected = match kept.await.expect("collecting does not panic") {
            Ok(collected) => collected,
            Err(e) => {
                return self
                    .fail(
                        &fence,
                        &job,
                        ErrorClass::Outputs,
                        None,
                        false,
                        costs,
                        &e.to_string(),
                    )
                    .await;
            }
        };
        for skipped in &collected.skipped {
            tracing::warn!(%job, path = ?skipped.path, reason = ?skipped.reason, "an output was left out");
        }
        let outputs = collected.outputs.iter();
        let listed = outputs
            .clone()
            .map(|o| (o.path.as_str(), ContentDigest(o.digest), o.bytes));
        let manifest = Outputs {
            manifest: outputs_manifest(listed),
            count: u32::try_from(collected.outputs.len()).unwrap_or(u32::MAX),
        };
        let staged = outputs.map(|o| ArtifactStaged {
            job,
            fence,
            path_digest: path_digest(&o.path),
            path: o.path.clone(),
            blake3: ContentDigest(o.digest),
            size: o.bytes,
        });
        let mut drafts: Vec<Draft> = staged.map(|detail| Draft::of(&detail, job.subject())).collect();
        let bytes = result.result.clone().into_bytes();
        let detail = RunSucceeded {
            job,
            fence,
            result: content_digest(&bytes),
            outputs: manifest,
            costs,
        };
        drafts.push(Draft::of(&detail, job.subject()).payload(RESULT_MEDIA, bytes)?);
        self.machine.say(Stream::Work, drafts).await?;
        Ok(())
    }

    async fn fail(
        &self,
        fence: &Fence,
        job: &JobId,
        error: ErrorClass,
        status: Option<i32>,
        permanent: bool,
        costs: Costs,
        said: &str,
    ) -> Result<(), ServerError> {
        let detail = RunFailed {
            job: *job,
            fence: *fence,
            error,
            status,
            permanent,
            costs,
        };
        let draft = Draft::of(&detail, job.subject())
            .payload("text/plain; charset=utf-8", said.as_bytes().to_vec())?;
        self.machine.say(Stream::Work, vec![draft]).await?;
        Ok(())
    }

    // What is durable in the log needs its directory no more.
    fn discard(&self, fence: &Fence) {
        let dir = self.run_dir(fence);
        if let Err(e) = std::fs::remove_dir_all(&dir)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), error = %e, "a run's directory could not be removed");
        }
    }

    fn is_unwanted(&self, fence: &Fence) -> bool {
        let standing = self.machine.ledger.snapshot().state.standing(fence);
        matches!(standing, Standing::CancelAsked | Standing::Over)
    }

    /// Stops everything and returns when nothing runs any more and all of it is told.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        loop {
            {
                let held = self.held.lock().expect("held lock");
                if held.is_empty() {
                    return;
                }
                for cancel in held.values().filter_map(|h| h.cancel.as_ref()) {
                    cancel.cancel();
                }
            }
            // A run that had no canceller yet gets one shortly.
            drop(tokio::time::timeout(REPORT_PERIOD, self.room.notified()).await);
        }
    }

    /// Stops what is wanted no longer.
    pub(crate) fn heed(&self, fence: &Fence, standing: Standing) {
        if !matches!(standing, Standing::CancelAsked | Standing::Over) {
            return;
        }
        if let Some(Held {
            cancel: Some(cancel), ..
        }) = self.held.lock().expect("held lock").get(fence)
        {
            cancel.cancel();
        }
    }

    /// Heeds the order on every change, until it is told to stop.
    pub(crate) async fn heed_forever(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut changed = self.machine.changed();
        loop {
            changed.mark_unchanged();
            let snapshot = self.machine.ledger.snapshot();
            let fences: Vec<Fence> = self.held.lock().expect("held lock").keys().copied().collect();
            for fence in fences {
                self.heed(&fence, snapshot.state.standing(&fence));
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}
