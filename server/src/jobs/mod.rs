//! Runs what this machine claimed: writes `run.started`, starts the handler under its supervisor, follows it, and writes
//! what became of it. The same for a node and for the gateway's own worker.
//!
//! What a crash leaves: the supervisor ends the handler when the daemon dies; [`Jobs::recover`] proves at the next start
//! that nothing of the run is alive, and says whether it finished or is lost.

mod claimed;
mod run;
mod spent;
#[cfg(test)]
mod tests;

use crate::error::ServerError;
use crate::exchange::{Claimed, Declared};
use crate::machine::Machine;
use crate::worker::{self, Recovered, WorkerError};
use ledger::core::kinds::{Class, ErrorClass, Fence, JobId, RunLost};
use ledger::core::{Draft, Stream};
use ledger_projections::queue::Standing;
use spent::Spent;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a run's report file is read.
const REPORT_PERIOD: Duration = Duration::from_millis(200);
/// The longest time between two tries to tell the end of a run.
const TELL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Time before an earlier process's run that could not be proven dead is looked at again.
const RECOVER_AGAIN: Duration = Duration::from_secs(5);
/// The media type of results.
const RESULT_MEDIA: &str = "application/json";

/// The runs of this machine.
pub(crate) struct Jobs {
    machine: Arc<Machine>,
    binary: PathBuf,
    // Claims that this process holds: taken or running; each takes a slot.
    held: Mutex<BTreeMap<Fence, Held>>,
    room: tokio::sync::Notify,
    stopping: AtomicBool,
}

struct Held {
    handler: String,
    cancel: Option<worker::Canceller>,
}

fn class_of(class: worker::Class) -> Class {
    match class {
        worker::Class::Light => Class::Light,
        worker::Class::Heavy => Class::Heavy,
        worker::Class::Exclusive => Class::Exclusive,
    }
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
        let used = |name: &str| held.values().filter(|h| h.handler == name).count();
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
        let used = self.held.lock().expect("held lock").len();
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

    /// Whether anything runs here, or is about to.
    pub(crate) fn is_busy(&self) -> bool {
        !self.held.lock().expect("held lock").is_empty()
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

    /// Says of every run that an earlier process began what became of it. One whose processes cannot be proven dead yet
    /// stays open, and is looked at again until they are.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), ServerError> {
        let snapshot = self.machine.ledger.snapshot();
        let open = snapshot.state.runs().filter(|(_, run)| run.ended.is_none());
        let open: Vec<(Fence, JobId, String)> = open
            .map(|(fence, run)| (*fence, run.job, run.handler.clone()))
            .collect();
        for (fence, job, handler) in open {
            if self.recover_one(&fence, &job, &handler).await? {
                continue;
            }
            let jobs = Arc::clone(self);
            tokio::spawn(async move {
                while !jobs.stopping.load(Ordering::Acquire) {
                    tokio::time::sleep(RECOVER_AGAIN).await;
                    match jobs.recover_one(&fence, &job, &handler).await {
                        Ok(false) => {}
                        Ok(true) => return,
                        Err(e) => {
                            tracing::error!(%fence, %job, code = e.code(), error = %e, "not recovered yet");
                        }
                    }
                }
            });
        }
        Ok(())
    }

    /// Says of every run that came back with the end of this machine's own work log, which it had lost, that it is lost: nothing of
    /// it is here.
    ///
    /// # Errors
    /// [`ServerError`] when the store is closed.
    pub(crate) async fn recover_brought(&self) -> Result<(), ServerError> {
        let snapshot = self.machine.ledger.snapshot();
        let open = snapshot.state.runs().filter(|(_, run)| run.ended.is_none());
        let open: Vec<(Fence, JobId)> = open.map(|(fence, run)| (*fence, run.job)).collect();
        drop(snapshot);
        for (fence, job) in open {
            if self.hold_brought(&fence) {
                tracing::info!(%fence, %job, "a run was lost with this machine's disk");
                let told = self.lost(&fence, &job).await;
                self.held.lock().expect("held lock").remove(&fence);
                told?;
            }
        }
        Ok(())
    }

    // Takes a run that only the log knows of, so that its end is told once. What runs here, or what an earlier process left, is told of
    // by those that look after it; what has ended meanwhile, by nobody.
    fn hold_brought(&self, fence: &Fence) -> bool {
        let mut held = self.held.lock().expect("held lock");
        let state = &self.machine.ledger.snapshot().state;
        let is_open = state.run(fence).is_some_and(|run| run.ended.is_none());
        let is_taken = !is_open || held.contains_key(fence) || self.run_dir(fence).exists();
        if !is_taken {
            let nobody = Held {
                handler: String::new(),
                cancel: None,
            };
            held.insert(*fence, nobody);
        }
        !is_taken
    }

    // Whether it is proven and told what became of the run.
    async fn recover_one(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        handler: &str,
    ) -> Result<bool, ServerError> {
        let dir = self.run_dir(fence);
        let exists = dir.exists();
        let found = tokio::task::spawn_blocking(move || worker::recover(&dir))
            .await
            .expect("recover does not panic");
        match found {
            Ok(Recovered::Finished(result)) => {
                // A handler that is declared no longer still has the outputs that it left.
                let declared = self.machine.config.handlers.iter().find(|h| h.name == handler);
                let globs = declared.map_or_else(|| vec!["**".to_owned()], |h| h.outputs.clone());
                self.report(fence, job, &globs, &result).await?;
            }
            Err(e) if exists && matches!(e, WorkerError::StillAlive { .. } | WorkerError::Io { .. }) => {
                tracing::warn!(%fence, %job, error = %e, "a run of an earlier process is not proven dead");
                return Ok(false);
            }
            // Nothing is alive, and what it left, if anything, cannot be read. (Its directory is made before the receipt: one that
            // is absent was removed by somebody.)
            Ok(Recovered::Lost { .. }) | Err(_) => {
                tracing::info!(%fence, %job, "a run was lost with the process that ran it");
                self.lost(fence, job).await?;
            }
        }
        self.discard(fence);
        Ok(true)
    }

    async fn lost(&self, fence: &Fence, job: &JobId) -> Result<(), ServerError> {
        let detail = RunLost {
            job: *job,
            fence: *fence,
        };
        self.tell_end(vec![Draft::of(&detail, job.subject())]).await
    }

    // The end of a run is told until it is durable: while nobody knows of it, the claim stays held.
    async fn tell_end(&self, drafts: Vec<Draft>) -> Result<(), ServerError> {
        let mut wait = REPORT_PERIOD;
        loop {
            let told = self.machine.say(Stream::Work, drafts.clone()).await;
            match told {
                Ok(_) => return Ok(()),
                // The writer is gone: the next start recovers the run from its directory.
                Err(e) if self.machine.ledger.closed().is_some() || self.is_stopping() => return Err(e),
                Err(e) => tracing::warn!(code = e.code(), error = %e, "the end of a run is told again"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(TELL_AGAIN_MAX);
        }
    }

    /// Takes a claimed job and runs it, unless it is held already. One that cannot be run is told as failed for good.
    pub(crate) async fn take(self: &Arc<Self>, claimed: Claimed) {
        if self.is_stopping() {
            return;
        }
        let claim = match self.claim_of(&claimed) {
            Ok(claim) => claim,
            Err(e) => {
                // Not Central's word: there is nothing to answer to.
                tracing::error!(code = e.code(), error = %e, "a claim's answer is not Central's");
                return;
            }
        };
        {
            let mut held = self.held.lock().expect("held lock");
            let known = self.machine.ledger.snapshot().state.run(&claim.fence).is_some();
            if held.contains_key(&claim.fence) || known {
                return;
            }
            held.insert(
                claim.fence,
                Held {
                    handler: String::new(),
                    cancel: None,
                },
            );
        }
        let (fence, job) = (claim.fence, claim.job);
        let work = self.work_of(claim, &claimed);
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            let done = match work {
                Ok(work) => jobs.run(work).await,
                Err(e) => {
                    let (error, spent) = (ErrorClass::Input, Spent::default());
                    jobs.fail(&fence, &job, error, None, true, spent, &e.to_string())
                        .await
                }
            };
            if let Err(e) = done {
                tracing::error!(%fence, %job, code = e.code(), error = %e, "a run could not be carried through");
            }
            jobs.held.lock().expect("held lock").remove(&fence);
            jobs.room.notify_waiters();
            jobs.room.notify_one();
        });
    }

    /// Whether nothing new is started any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Removes the directories of runs that are over: a crash between report and removal leaves them.
    pub(crate) fn sweep(&self) {
        let snapshot = self.machine.ledger.snapshot();
        let Ok(entries) = std::fs::read_dir(self.machine.ledger.paths().data().join("runs")) else {
            return;
        };
        for entry in entries.flatten() {
            let fence = entry.file_name().to_str().and_then(Fence::parse);
            let over = fence.is_some_and(|f| snapshot.state.run(&f).is_none_or(|run| run.ended.is_some()));
            if let Some(fence) = fence.filter(|_| over) {
                self.discard(&fence);
            }
        }
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
