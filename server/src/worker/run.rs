//! The daemon's side of a run: prepare, start, watch, cancel, recover.
//!
//! Owns the supervisor's process and the pipe that keeps it going. Contract: [`prepare`] starts nothing, so the daemon
//! can make its `job.started` durable between [`prepare`] and [`start`]; whoever holds a [`RunResult`] or an error from
//! [`Run::wait`] may rely on nothing of the run being alive; dropping a [`Run`] ends it and waits for that.
//!
//! What a crash leaves: a daemon that dies, however, closes the pipe; the supervisor ends the run within the grace.
//! The next daemon calls [`recover`] for each run directory that it finds.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::error::WorkerError;
use super::files::{Outcome, RunFiles, RunResult, RunSpec, create_private};
use super::handler::HandlerConfig;
use super::processes;

/// Largest input of a run, in bytes.
pub const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Longest job id, fence and trace context, in bytes.
const ID_BYTES_MAX: usize = 256;
/// How much longer than the grace a supervisor may need to end a run and write its result, in milliseconds.
const SUPERVISOR_MARGIN_MS: u64 = 5000;
/// How long killed processes are waited for, in milliseconds.
const KILLED_WAIT_MS: u64 = 5000;
const POLL: Duration = Duration::from_millis(10);

/// What to run, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The handler as declared and validated.
    pub handler: HandlerConfig,
    /// The job's id, given to the handler as `LEDGER_JOB`.
    pub job: String,
    /// The fence of the claim in its text form, given as `LEDGER_FENCE`.
    pub fence: String,
    /// W3C trace context, given as `LEDGER_TRACEPARENT` if there is one.
    pub traceparent: Option<String>,
    /// JSON, given on standard input and as the file `LEDGER_INPUT`; at most [`INPUT_BYTES_MAX`] bytes.
    pub input: Vec<u8>,
    /// What an earlier run of the job reported as its last checkpoint, given as the file `LEDGER_CHECKPOINT` if there is one; at most
    /// [`INPUT_BYTES_MAX`] bytes.
    pub checkpoint: Option<Vec<u8>>,
}

/// Makes `run_dir` ready for [`start`]: creates it (and its parents) and writes the private files. Starts nothing.
///
/// # Errors
/// [`WorkerError::RunDirUsed`] if the directory was prepared before, [`WorkerError::BadRequest`] for what cannot be
/// handed to a process, and file errors.
pub fn prepare(run_dir: &Path, request: &RunRequest) -> Result<(), WorkerError> {
    let spec = spec_of(request)?;
    let files = RunFiles::create(run_dir)?;
    if files.is_prepared() {
        let found = files.trace_of_a_run().unwrap_or("prepared");
        return Err(WorkerError::RunDirUsed {
            run_dir: run_dir.to_path_buf(),
            found,
        });
    }
    files.write_durably(&files.input(), &request.input)?;
    if let Some(checkpoint) = &request.checkpoint {
        files.write_durably(&files.checkpoint(), checkpoint)?;
    }
    create_private(&files.report()).map_err(WorkerError::io("create", &files.report()))?;
    files.write_spec(&spec)
}

fn spec_of(request: &RunRequest) -> Result<RunSpec, WorkerError> {
    let bad = |reason: String| WorkerError::BadRequest { reason };
    let handler = &request.handler;
    handler.validate().map_err(|error| bad(error.to_string()))?;
    let traceparent = request.traceparent.as_deref().unwrap_or("none");
    for (what, text) in [
        ("job", request.job.as_str()),
        ("fence", &request.fence),
        ("traceparent", traceparent),
    ] {
        if text.is_empty() || text.len() > ID_BYTES_MAX || text.contains('\0') {
            return Err(bad(format!(
                "the {what} must be 1 to {ID_BYTES_MAX} bytes without a zero character"
            )));
        }
    }
    let checkpoint = request.checkpoint.as_deref().unwrap_or_default();
    for (what, bytes) in [("input", request.input.as_slice()), ("checkpoint", checkpoint)] {
        if bytes.len() > INPUT_BYTES_MAX {
            let found = bytes.len();
            return Err(bad(format!(
                "the {what} has {found} bytes; at most {INPUT_BYTES_MAX}"
            )));
        }
    }
    Ok(RunSpec {
        job: request.job.clone(),
        fence: request.fence.clone(),
        traceparent: request.traceparent.clone(),
        argv: handler.argv.clone(),
        cwd: handler.cwd.clone(),
        env: handler.env.clone(),
        timeout_ms: handler.timeout_s.saturating_mul(1000),
        kill_grace_ms: handler.kill_grace_ms,
        output_bytes_max: handler.output_bytes_max,
    })
}

/// The kept beginning of a run's standard output; absent if the handler never started.
#[must_use]
pub fn stdout_path(run_dir: &Path) -> PathBuf {
    run_dir.join("stdout")
}

/// The kept beginning of a run's standard error; absent if the handler never started.
#[must_use]
pub fn stderr_path(run_dir: &Path) -> PathBuf {
    run_dir.join("stderr")
}

/// Starts the supervisor `binary supervise --run-dir DIR`, which starts the handler. The binary is the daemon's own.
///
/// # Errors
/// [`WorkerError::SupervisorSpawn`] if the binary cannot be started, [`WorkerError::RunDirUsed`] if the run was started
/// before. Everything later is told by [`Run::wait`].
pub fn start(binary: &Path, run_dir: &Path) -> Result<Run, WorkerError> {
    let files = RunFiles::open(run_dir)?;
    files.read_spec()?;
    let used = |found| WorkerError::RunDirUsed {
        run_dir: run_dir.to_path_buf(),
        found,
    };
    if let Some(found) = files.trace_of_a_run() {
        return Err(used(found));
    }
    if !files.claim_start()? {
        return Err(used("started"));
    }
    let mut child = Command::new(binary)
        .arg("supervise")
        .arg("--run-dir")
        .arg(files.dir())
        // Ctrl-C in the daemon's terminal is for the daemon to handle.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| WorkerError::SupervisorSpawn {
            binary: binary.to_path_buf(),
            source,
        })?;
    let pipe = Arc::new(Mutex::new(child.stdin.take()));
    Ok(Run {
        supervisor: child,
        pipe,
        files,
    })
}

type Pipe = Mutex<Option<ChildStdin>>;

/// A run that was started. Dropping it ends the run and waits until nothing of it is alive.
#[derive(Debug)]
pub struct Run {
    supervisor: Child,
    pipe: Arc<Pipe>,
    files: RunFiles,
}

/// Ends a run from another thread. Outliving the run is harmless; it does not keep the run going.
#[derive(Debug, Clone)]
pub struct Canceller(Weak<Pipe>);

impl Run {
    /// Waits until nothing of the run is alive.
    ///
    /// # Errors
    /// [`WorkerError::SupervisorLost`] if the supervisor ended without a result (everything that it had started is dead),
    /// [`WorkerError::StillAlive`] if it cannot be killed, [`WorkerError::Damaged`] if the result is unreadable.
    pub fn wait(&mut self) -> Result<RunResult, WorkerError> {
        let status = self
            .supervisor
            .wait()
            .map_err(WorkerError::io("wait for the supervisor of", self.files.dir()))?;
        self.result(status)
    }

    /// Like [`Run::wait`], but answers `None` at once while the run goes on.
    ///
    /// # Errors
    /// As [`Run::wait`].
    pub fn try_wait(&mut self) -> Result<Option<RunResult>, WorkerError> {
        let status = self.supervisor.try_wait();
        match status.map_err(WorkerError::io("wait for the supervisor of", self.files.dir()))? {
            Some(status) => self.result(status).map(Some),
            None => Ok(None),
        }
    }

    fn result(&self, status: ExitStatus) -> Result<RunResult, WorkerError> {
        if let Some(result) = self.files.read_result()? {
            return Ok(result);
        }
        let lock = take_lock(&self.files, 0)?;
        kill_stragglers(&self.files)?;
        drop(lock);
        let how = match (status.code(), status.signal()) {
            (_, Some(signal)) => format!("ended by signal {signal}"),
            (code, None) => format!("exit status {}", code.unwrap_or(-1)),
        };
        let told = self
            .files
            .supervisor_error_text()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        Err(WorkerError::SupervisorLost {
            reason: format!("{how}{told}"),
        })
    }

    /// Asks the supervisor to end the run; the outcome comes by [`Run::wait`]. A run that is over takes no notice.
    pub fn cancel(&mut self) {
        self.canceller().cancel();
    }

    /// A handle that ends the run from another thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::downgrade(&self.pipe))
    }

    /// The supervisor's pid.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.id()
    }
}

impl Canceller {
    /// Asks the supervisor to end the run. Returns whether the request was handed over.
    pub fn cancel(&self) -> bool {
        let Some(pipe) = self.0.upgrade() else {
            return false;
        };
        let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.as_mut()
            .is_some_and(|pipe| pipe.write_all(b"cancel\n").is_ok())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        // The only failure is that it was waited for before.
        let _waited = self.supervisor.wait();
    }
}

/// What became of a run whose daemon is gone. Nothing of it is alive, and it can never start again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// It ended for a reason of its own (by itself, timed out, cancelled, not startable): its true result.
    Finished(RunResult),
    /// It was ended because its daemon died, or nobody was left to write a result.
    Lost {
        /// Whether the handler may have run at all. `false` proves that it never did.
        started: bool,
        /// What was measured, if the supervisor could still write it.
        result: Option<RunResult>,
    },
}

/// Finds out what became of a run that an earlier daemon prepared or started. Blocks until that is certain: at most the
/// handler's grace and some seconds while the supervisor ends the run, and then until what it left is killed.
///
/// # Errors
/// [`WorkerError::StillAlive`] if processes of the run cannot be killed, [`WorkerError::Damaged`] for an unreadable
/// file, and file errors, among them that the directory is not there.
pub fn recover(run_dir: &Path) -> Result<Recovered, WorkerError> {
    let files = RunFiles::open(run_dir)?;
    let grace_ms = if files.is_prepared() {
        files.read_spec()?.kill_grace_ms
    } else {
        0
    };
    let lock = take_lock(&files, grace_ms.saturating_add(SUPERVISOR_MARGIN_MS))?;
    let recovered = match files.read_result()? {
        Some(result) if result.outcome == Outcome::DaemonGone => Recovered::Lost {
            started: true,
            result: Some(result),
        },
        Some(result) => Recovered::Finished(result),
        None => {
            kill_stragglers(&files)?;
            // A supervisor that was started and has not come to its lock yet finds this and gives up.
            files.mark_abandoned()?;
            Recovered::Lost {
                started: files.is_started(),
                result: None,
            }
        }
    };
    drop(lock);
    Ok(recovered)
}

/// Takes the run's lock: first by waiting, then by killing what the supervisor left, then by killing all that hold it.
fn take_lock(files: &RunFiles, patience_ms: u64) -> Result<File, WorkerError> {
    // Waiting is for a supervisor that is ending the run; without one there is nothing to wait for.
    let patience_ms = if supervisor_is_known_dead(files) {
        0
    } else {
        patience_ms
    };
    if let Some(lock) = wait_for_lock(files, patience_ms)? {
        return Ok(lock);
    }
    let mut members = processes::members(&files.out_dir(), &files.alive_lock());
    if let Some(supervisor) = files.supervisor_pid() {
        // It may still write the true result once the handler is dead.
        members.remove(&supervisor);
    }
    processes::kill_each(members);
    if let Some(lock) = wait_for_lock(files, KILLED_WAIT_MS)? {
        return Ok(lock);
    }
    processes::kill_each(processes::members(&files.out_dir(), &files.alive_lock()));
    if let Some(lock) = wait_for_lock(files, KILLED_WAIT_MS)? {
        return Ok(lock);
    }
    Err(still_alive(files, patience_ms.saturating_add(2 * KILLED_WAIT_MS)))
}

/// Whether others hold the run's lock and the supervisor that took it does not.
fn supervisor_is_known_dead(files: &RunFiles) -> bool {
    let holders = processes::lock_holders(&files.alive_lock());
    files
        .supervisor_pid()
        .is_some_and(|pid| !holders.is_empty() && !holders.contains(&pid))
}

fn wait_for_lock(files: &RunFiles, patience_ms: u64) -> Result<Option<File>, WorkerError> {
    let deadline = Instant::now() + Duration::from_millis(patience_ms);
    loop {
        match files.try_lock()? {
            None if Instant::now() < deadline => std::thread::sleep(POLL),
            answer => return Ok(answer),
        }
    }
}

/// Kills processes of the run that gave the lock away (by closing all files) before the supervisor was killed.
fn kill_stragglers(files: &RunFiles) -> Result<(), WorkerError> {
    let deadline = Instant::now() + Duration::from_millis(KILLED_WAIT_MS);
    loop {
        let members = processes::members(&files.out_dir(), &files.alive_lock());
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(still_alive(files, KILLED_WAIT_MS));
        }
        processes::kill_each(members);
        std::thread::sleep(POLL);
    }
}

fn still_alive(files: &RunFiles, waited_ms: u64) -> WorkerError {
    let pids = processes::members(&files.out_dir(), &files.alive_lock());
    let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    WorkerError::StillAlive {
        run_dir: files.dir().to_path_buf(),
        waited_ms,
        pids,
    }
}
