//! One run from its start to its report: `run.started` durable before the process is, progress and checkpoints on the way,
//! the end with its outputs in one commit.

use super::claimed::Work;
use super::spent::Spent;
use super::{Jobs, REPORT_PERIOD, RESULT_MEDIA};
use crate::error::ServerError;
use crate::worker::{self, Outcome, OutputLimits, ReportLine, ReportReader, RunRequest, RunResult};
use ledger::core::digest::{content_digest, outputs_manifest, path_digest};
use ledger::core::kinds::{
    ArtifactStaged, ErrorClass, Fence, JobId, Outputs, RunCheckpointed, RunFailed, RunProgressed, RunStarted,
    RunSucceeded, RunYielded,
};
use ledger::core::limits::NOTE_BYTES_MAX;
use ledger::core::{ContentDigest, Draft, Stream};
use std::path::PathBuf;
use std::sync::Arc;

impl Jobs {
    pub(super) async fn run(self: &Arc<Self>, work: Work) -> Result<(), ServerError> {
        let Work {
            fence,
            job,
            attempt,
            handler,
            input,
            checkpoint,
            traceparent,
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
                    Spent::default(),
                    "not declared here",
                )
                .await;
        };
        let dir = self.run_dir(&fence);
        let request = RunRequest {
            handler: config.clone(),
            job: job.to_string(),
            fence: fence.to_string(),
            traceparent: Some(traceparent),
            input,
            checkpoint,
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
            self.discard(&fence);
            return self
                .fail(
                    &fence,
                    &job,
                    ErrorClass::Spawn,
                    None,
                    false,
                    Spent::default(),
                    &e.to_string(),
                )
                .await;
        }
        match self.follow(&fence, &job, dir).await {
            Ok(result) => self.report(&fence, &job, &config.outputs, &result).await?,
            Err(ServerError::Worker(e)) if e.code() == "worker.supervisor-lost" => {
                self.lost(&fence, &job).await?;
            }
            Err(e) => {
                self.fail(
                    &fence,
                    &job,
                    ErrorClass::Spawn,
                    None,
                    false,
                    Spent::default(),
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
            // What is said on the way may fail to be kept; the run goes on all the same.
            let (lines, ended) = tokio::select! {
                ended = &mut waiting => (reader.finish(), Some(ended.expect("wait does not panic"))),
                () = tokio::time::sleep(REPORT_PERIOD) => (reader.read(), None),
            };
            let told = match lines {
                Ok(lines) => self.tell(fence, job, lines).await,
                Err(e) => Err(e.into()),
            };
            if let Err(e) = told {
                tracing::warn!(%fence, %job, code = e.code(), error = %e, "progress of a run could not be kept");
            }
            if let Some(ended) = ended {
                return Ok(ended?);
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
    pub(super) async fn report(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        globs: &[String],
        result: &RunResult,
    ) -> Result<(), ServerError> {
        let (fence, job) = (*fence, *job);
        let dir = self.run_dir(&fence);
        let lines = ReportReader::open(&dir).and_then(|mut reader| reader.finish());
        let lines = lines.unwrap_or_else(|e| {
            tracing::warn!(%fence, %job, code = e.code(), error = %e, "what a run reported of its costs could not be read");
            Vec::new()
        });
        let spent = Spent::of(result, &lines);
        let (error, status) = match &result.outcome {
            outcome if outcome.is_success() => {
                return self.succeed(&fence, &job, globs, result, spent).await;
            }
            Outcome::Exited { code } => (ErrorClass::ExitStatus, Some(*code)),
            Outcome::Signaled { signal } => (ErrorClass::Signal, Some(*signal)),
            Outcome::TimedOut => (ErrorClass::Timeout, None),
            // The daemon itself stopped it: it gives it back, and nothing is charged.
            Outcome::Cancelled if self.is_stopping() && !self.is_unwanted(&fence) => {
                let detail = RunYielded { job, fence };
                return self.tell_end(vec![Draft::of(&detail, job.subject())]).await;
            }
            Outcome::Cancelled => (ErrorClass::Cancelled, None),
            Outcome::SpawnFailed { .. } => (ErrorClass::Spawn, None),
            Outcome::DaemonGone => {
                self.lost(&fence, &job).await?;
                return Ok(());
            }
        };
        let said = match &result.outcome {
            Outcome::SpawnFailed { error } => error.clone(),
            _ if result.stderr.tail.is_empty() => result.stdout.tail.clone(),
            _ => result.stderr.tail.clone(),
        };
        let permanent = matches!(error, ErrorClass::Spawn);
        self.fail(&fence, &job, error, status, permanent, spent, &said)
            .await
    }

    async fn succeed(
        self: &Arc<Self>,
        fence: &Fence,
        job: &JobId,
        globs: &[String],
        result: &RunResult,
        spent: Spent,
    ) -> Result<(), ServerError> {
        let (fence, job) = (*fence, *job);
        let (dir, objects, globs) = (self.run_dir(&fence), self.objects(), globs.to_vec());
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
                        spent,
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
            costs: spent.costs,
        };
        drafts.push(Draft::of(&detail, job.subject()).payload(RESULT_MEDIA, bytes)?);
        drafts.extend(spent.charged(&fence, &job));
        self.tell_end(drafts).await
    }

    pub(super) async fn fail(
        &self,
        fence: &Fence,
        job: &JobId,
        error: ErrorClass,
        status: Option<i32>,
        permanent: bool,
        spent: Spent,
        said: &str,
    ) -> Result<(), ServerError> {
        let detail = RunFailed {
            job: *job,
            fence: *fence,
            error,
            status,
            permanent,
            costs: spent.costs,
        };
        let draft = Draft::of(&detail, job.subject())
            .payload("text/plain; charset=utf-8", said.as_bytes().to_vec())?;
        let charged = spent.charged(fence, job);
        self.tell_end(std::iter::once(draft).chain(charged).collect())
            .await
    }
}
