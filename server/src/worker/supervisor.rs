//! The supervisor: a small process between the daemon and one handler.
//!
//! Owns the handler's processes from the first to the last. Contract:
//! - It holds an exclusive lock on `alive.lock` as long as anything of the run can be alive, and `result.json` is durable
//!   before the lock is free.
//! - Its standard input is a pipe from the daemon. The line `cancel` ends the run; so does the pipe's end, which
//!   means that the daemon is gone, however it died. Ending is SIGTERM to the process group, then, after the grace, SIGKILL.
//! - When the handler's first process ends, the run is over: whatever it left running is killed.
//! - It enforces the timeout itself, bounds the captured output, and measures time, processor time and memory.
//!
//! What a crash leaves: if the *supervisor itself* is killed with SIGKILL, the handler goes on for a moment without a
//! timeout. It has inherited the lock, so nobody can take the run for dead; the daemon (at once) or the next daemon
//! (in [`recover`](super::recover)) finds the processes that hold the lock or carry the run's environment,
//! kills them, and reports the run as lost. What escapes that is a process that closed all files, emptied its environment and
//! left the session in that very window. SIGTERM, SIGINT and SIGHUP to the supervisor count as "daemon gone".
//!
//! It does not interpret what the handler reports, and writes no receipts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Signal, WaitStatus};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::capture::{self, Captured, Shared};
use super::error::WorkerError;
use super::files::{Outcome, RunFiles, RunResult, RunSpec, create_private};
use super::processes::{self, Leader};
use crate::clock::{running_ms, wall_ms};

/// Variables that every handler gets from the daemon's environment.
const ALWAYS_PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Longest pause of the main loop; bounds how late a timeout is noticed after the machine slept.
const TICK_MS: u64 = 1000;
/// Events that may wait for the main loop; their senders wait then.
const EVENTS_MAX: usize = 16;
/// Longest line that the daemon may send, in bytes.
const CONTROL_LINE_BYTES_MAX: u64 = 64;
/// How long the captured streams are waited for once every process of the run is dead. A stream stays open only if it was
/// handed to a process outside the run.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

enum Event {
    /// Some child ended and is not reaped yet; the sender waits for a word on the channel it was given.
    ChildEnded,
    Stop(Outcome),
}

/// The entry of the hidden subcommand `supervise --run-dir DIR`; `args` are what follows the subcommand's name.
/// Returns the process's exit status: 0 if the run has a result, 1 if not (the reason is left in the run directory), 2
/// for wrong arguments.
#[must_use]
pub fn supervise_main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let args: Vec<OsString> = args.into_iter().collect();
    let run_dir = match args.as_slice() {
        [flag, dir] if flag == "--run-dir" => PathBuf::from(dir),
        _ => return 2,
    };
    match supervise(&run_dir) {
        Ok(()) => 0,
        Err(error) => {
            if let Ok(files) = RunFiles::open(&run_dir) {
                files.note_supervisor_error(&error);
            }
            1
        }
    }
}

/// Supervises the run that was prepared in `run_dir`, from its start to its durable result.
///
/// Meant for a process of its own: it adopts all descendants and reaps all children of the calling process, and reads
/// its standard input.
///
/// # Errors
/// [`WorkerError::RunDirUsed`] if the run was started or given up before, and file errors. When the handler cannot be
/// started that is a result ([`Outcome::SpawnFailed`]), not an error.
pub fn supervise(run_dir: &Path) -> Result<(), WorkerError> {
    let files = RunFiles::open(run_dir)?;
    let used = |found| WorkerError::RunDirUsed {
        run_dir: files.dir().to_path_buf(),
        found,
    };
    let lock = files.try_lock()?.ok_or_else(|| used("alive"))?;
    if let Some(found) = files.trace_of_a_run() {
        return Err(used(found));
    }
    let spec = files.read_spec()?;
    files.note_supervisor(&lock)?;
    // Every process of the run inherits the lock: it tells that the run is alive even without this process.
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())
        .map_err(|errno| WorkerError::io("share the lock", &files.alive_lock())(errno.into()))?;
    processes::adopt_descendants().map_err(WorkerError::io("adopt the processes of", files.dir()))?;

    let (sender, events) = mpsc::sync_channel(EVENTS_MAX);
    watch_signals(sender.clone(), &files)?;
    watch_daemon(sender.clone());
    files.mark_started()?;
    let result = run(&files, &spec, sender, &events)?;
    files.write_result(&result)?;
    drop(lock);
    Ok(())
}

fn watch_signals(sender: SyncSender<Event>, files: &RunFiles) -> Result<(), WorkerError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(WorkerError::io("listen for signals for", files.dir()))?;
    std::thread::spawn(move || {
        for _signal in signals.forever() {
            if sender.send(Event::Stop(Outcome::DaemonGone)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Reads the daemon's pipe until its end. Lines that mean nothing here are left to later daemons.
fn watch_daemon(sender: SyncSender<Event>) {
    std::thread::spawn(move || {
        let mut input = BufReader::new(std::io::stdin());
        loop {
            let mut line = Vec::new();
            let read = input
                .by_ref()
                .take(CONTROL_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line);
            let event = match read {
                Ok(0) | Err(_) => Event::Stop(Outcome::DaemonGone),
                Ok(_) if line == b"cancel\n" => Event::Stop(Outcome::Cancelled),
                Ok(_) => continue,
            };
            let last = matches!(event, Event::Stop(Outcome::DaemonGone));
            if sender.send(event).is_err() || last {
                return;
            }
        }
    });
}

fn run(
    files: &RunFiles,
    spec: &RunSpec,
    sender: SyncSender<Event>,
    events: &Receiver<Event>,
) -> Result<RunResult, WorkerError> {
    let started_at_ms = wall_ms();
    let started = running_ms();
    let (outcome, stdout, stderr, result) = match spawn(files, spec)? {
        Ok(child) => attend(files, spec, child, sender, events)?,
        Err(error) => {
            let nothing = capture::lock(&Shared::default()).result();
            (
                Outcome::SpawnFailed { error },
                Captured::default(),
                Captured::default(),
                nothing,
            )
        }
    };
    let (cpu_ms, peak_memory_bytes) = usage();
    Ok(RunResult {
        outcome,
        started_at_ms,
        ended_at_ms: wall_ms(),
        wall_ms: running_ms().saturating_sub(started),
        cpu_ms,
        peak_memory_bytes,
        stdout,
        stderr,
        result,
    })
}

/// Starts the handler. The inner error is the handler's (no such program), the outer the worker's.
fn spawn(files: &RunFiles, spec: &RunSpec) -> Result<Result<Child, String>, WorkerError> {
    let [program, args @ ..] = spec.argv.as_slice() else {
        return Ok(Err("the argument list is empty".to_owned()));
    };
    let cwd = spec.cwd.as_deref().unwrap_or(files.dir());
    if !cwd.is_dir() {
        return Ok(Err(format!(
            "the working directory {} does not exist",
            cwd.display()
        )));
    }
    let input = File::open(files.input()).map_err(WorkerError::io("open", &files.input()))?;
    let child = Command::new(program)
        .args(args)
        .current_dir(cwd)
        .env_clear()
        .envs(environment(files, spec))
        .process_group(0)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Ok(child.map_err(|error| format!("could not start {program:?}: {error}")))
}

fn environment(files: &RunFiles, spec: &RunSpec) -> BTreeMap<OsString, OsString> {
    let passed = ALWAYS_PASSED
        .into_iter()
        .chain(spec.env.iter().map(String::as_str));
    let mut environment: BTreeMap<OsString, OsString> = passed
        .filter_map(|name| std::env::var_os(name).map(|value| (OsString::from(name), value)))
        .collect();
    let own: [(&str, OsString); 5] = [
        ("LEDGER_JOB", spec.job.clone().into()),
        ("LEDGER_FENCE", spec.fence.clone().into()),
        ("LEDGER_INPUT", files.input().into()),
        ("LEDGER_OUT", files.out_dir().into()),
        ("LEDGER_REPORT", files.report().into()),
    ];
    environment.extend(own.map(|(name, value)| (OsString::from(name), value)));
    if files.checkpoint().exists() {
        environment.insert("LEDGER_CHECKPOINT".into(), files.checkpoint().into());
    }
    if let Some(traceparent) = &spec.traceparent {
        environment.insert("LEDGER_TRACEPARENT".into(), traceparent.into());
    }
    environment
}

/// Stays with a started handler until nothing of it is alive.
fn attend(
    files: &RunFiles,
    spec: &RunSpec,
    mut child: Child,
    sender: SyncSender<Event>,
    events: &Receiver<Event>,
) -> Result<(Outcome, Captured, Captured, String), WorkerError> {
    let mut leader = Leader::new(child.id()).expect("a child's pid is a positive i32");
    let kept = create_private(&files.stdout()).map_err(WorkerError::io("create", &files.stdout()));
    let kept = kept.and_then(|stdout| {
        let stderr = create_private(&files.stderr()).map_err(WorkerError::io("create", &files.stderr()))?;
        Ok((stdout, stderr))
    });
    let (stdout_file, stderr_file) = match kept {
        Ok(files) => files,
        Err(error) => {
            leader.kill_all();
            return Err(error);
        }
    };
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let (drained_sender, drained) = mpsc::sync_channel(2);
    let bytes_max = spec.output_bytes_max;
    if let Some(stream) = child.stdout.take() {
        drain_aside(stream, stdout_file, bytes_max, &stdout, drained_sender.clone());
    }
    if let Some(stream) = child.stderr.take() {
        drain_aside(stream, stderr_file, bytes_max, &stderr, drained_sender);
    }

    let stopped = wait_for_the_end(spec, &mut leader, sender, events);
    let status = leader.kill_all();
    let outcome = stopped.unwrap_or_else(|| how_it_ended(status));
    let deadline = Instant::now() + DRAIN_WAIT;
    while drained
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .is_ok()
    {}
    let result = capture::lock(&stdout).result();
    let (stdout, stderr) = (
        capture::lock(&stdout).captured(),
        capture::lock(&stderr).captured(),
    );
    Ok((outcome, stdout, stderr, result))
}

fn drain_aside(
    stream: impl Read + Send + 'static,
    file: File,
    bytes_max: u64,
    shared: &Shared,
    done: SyncSender<()>,
) {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        capture::drain(stream, file, bytes_max, &shared);
        done.send(())
    });
}

/// Returns when the leader has ended, with the reason if it was made to.
fn wait_for_the_end(
    spec: &RunSpec,
    leader: &mut Leader,
    sender: SyncSender<Event>,
    events: &Receiver<Event>,
) -> Option<Outcome> {
    let (reaped, go_on) = mpsc::sync_channel::<()>(1);
    std::thread::spawn(move || {
        while processes::wait_for_a_child() && sender.send(Event::ChildEnded).is_ok() && go_on.recv().is_ok()
        {
        }
    });
    let deadline = running_ms().saturating_add(spec.timeout_ms);
    let mut stopped: Option<(Outcome, u64)> = None;
    loop {
        let now = running_ms();
        let stop = |outcome: Outcome| {
            leader.signal_group(Signal::TERM);
            Some((outcome, running_ms().saturating_add(spec.kill_grace_ms)))
        };
        let until = match &stopped {
            None if now >= deadline => {
                stopped = stop(Outcome::TimedOut);
                continue;
            }
            None => deadline,
            Some((_, kill_at)) if now >= *kill_at => {
                leader.signal_group(Signal::KILL);
                now.saturating_add(TICK_MS)
            }
            Some((_, kill_at)) => *kill_at,
        };
        match events.recv_timeout(Duration::from_millis(until.saturating_sub(now).min(TICK_MS))) {
            Ok(Event::ChildEnded) => {
                if leader.has_ended() || !leader.reap() || leader.has_ended() {
                    return stopped.map(|(outcome, _)| outcome);
                }
                // The thread is waiting for exactly this; if it is gone, the leader's end shows at the next tick.
                let _gone = reaped.send(());
            }
            Ok(Event::Stop(outcome)) if stopped.is_none() => stopped = stop(outcome),
            Ok(Event::Stop(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if leader.has_ended() {
                    return stopped.map(|(outcome, _)| outcome);
                }
            }
        }
    }
}

fn how_it_ended(status: Option<WaitStatus>) -> Outcome {
    let code = status.and_then(WaitStatus::exit_status);
    let signal = status.and_then(WaitStatus::terminating_signal);
    match (code, signal) {
        (Some(code), _) => Outcome::Exited { code },
        (None, Some(signal)) => Outcome::Signaled { signal },
        (None, None) => Outcome::SpawnFailed {
            error: "the system has no status of the handler".to_owned(),
        },
    }
}

/// Processor time in milliseconds, and the largest resident memory in bytes, of all reaped descendants.
fn usage() -> (u64, u64) {
    #[cfg(target_os = "macos")]
    const UNIT_BYTES: u64 = 1;
    #[cfg(not(target_os = "macos"))]
    const UNIT_BYTES: u64 = 1024;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return (0, 0);
    };
    let ms = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(micros / 1000)
    };
    let peak = u64::try_from(usage.max_rss())
        .unwrap_or(0)
        .saturating_mul(UNIT_BYTES);
    (
        ms(usage.user_time()).saturating_add(ms(usage.system_time())),
        peak,
    )
}
