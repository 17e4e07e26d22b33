//! The files of a run directory: their names, their private JSON, and how they become durable.
//!
//! | file | written by | means |
//! |---|---|---|
//! | `spec.json` | daemon, renamed in last | the run is prepared |
//! | `input.json` | daemon | the handler's input |
//! | `checkpoint` | daemon, when there is one | the last checkpoint of an earlier run |
//! | `report` | handler | progress, checkpoints, costs |
//! | `out/` | handler | its outputs |
//! | `alive.lock` | supervisor holds an exclusive lock | something of the run may be alive; holds the supervisor's pid |
//! | `claimed` | daemon, before it starts the supervisor | nobody may start it again |
//! | `started` | supervisor, synced before the handler exists | the handler may have run |
//! | `stdout`, `stderr` | supervisor | the kept streams |
//! | `result.json` | supervisor, synced and renamed in | the run is over, and how |
//! | `supervisor.error` | supervisor | why it could not do its part |
//! | `abandoned` | recovering daemon | must never start any more |
//!
//! Contract: whoever reads `result.json` reads a whole one. It decides nothing about processes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::capture::Captured;
use super::error::WorkerError;

/// Version of the private JSON files; a daemon refuses others rather than guess.
const FILES_VERSION: u16 = 1;
/// Largest private JSON file that is read, in bytes; a result carries two tails and one result, escaped.
const JSON_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The handler ended by itself with this exit code; 0 is success.
    Exited {
        /// The exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended the handler, and the supervisor had not sent one.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It ran longer than its timeout and was ended.
    TimedOut,
    /// The daemon asked for its end.
    Cancelled,
    /// The daemon vanished (or the supervisor was told to end), so the run was ended.
    DaemonGone,
    /// The handler could not be started.
    SpawnFailed {
        /// The system's answer.
        error: String,
    },
}

impl Outcome {
    /// Whether the handler ended by itself with exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Exited { code: 0 })
    }
}

/// All that is known about a run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// How it ended.
    pub outcome: Outcome,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When nothing of it was alive any more, in milliseconds since 1970.
    pub ended_at_ms: u64,
    /// How long it took in milliseconds, sleep of the machine included.
    pub wall_ms: u64,
    /// Processor time of all its processes, in milliseconds.
    pub cpu_ms: u64,
    /// Largest resident memory of any single process of it, in bytes (never less than a few MiB, which a process
    /// has of the supervisor before it becomes the handler's program).
    pub peak_memory_bytes: u64,
    /// What it wrote to standard output.
    pub stdout: Captured,
    /// What it wrote to standard error.
    pub stderr: Captured,
    /// Its result as JSON text of at most [`RESULT_BYTES_MAX`](super::RESULT_BYTES_MAX) bytes: the last line of its
    /// standard output that is not blank, if that is JSON as a whole, else `{"stdout_tail": "..."}`.
    pub result: String,
}

/// What the supervisor needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunSpec {
    pub(super) job: String,
    pub(super) fence: String,
    pub(super) traceparent: Option<String>,
    pub(super) argv: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<String>,
    pub(super) timeout_ms: u64,
    pub(super) kill_grace_ms: u64,
    pub(super) output_bytes_max: u64,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u16,
    body: T,
}

/// A run directory.
#[derive(Debug, Clone)]
pub(super) struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    /// Creates the directory (mode 0700) and its folder for outputs.
    pub(super) fn create(run_dir: &Path) -> Result<RunFiles, WorkerError> {
        let private = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(WorkerError::io("create the folder", path))
        };
        private(run_dir)?;
        let files = RunFiles::open(run_dir)?;
        private(&files.out_dir())?;
        Ok(files)
    }

    /// Names the files of an existing directory.
    pub(super) fn open(run_dir: &Path) -> Result<RunFiles, WorkerError> {
        let dir = fs::canonicalize(run_dir).map_err(WorkerError::io("find the run directory", run_dir))?;
        Ok(RunFiles { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn out_dir(&self) -> PathBuf {
        self.dir.join("out")
    }

    pub(super) fn input(&self) -> PathBuf {
        self.dir.join("input.json")
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    pub(super) fn report(&self) -> PathBuf {
        self.dir.join("report")
    }

    pub(super) fn stdout(&self) -> PathBuf {
        self.dir.join("stdout")
    }

    pub(super) fn stderr(&self) -> PathBuf {
        self.dir.join("stderr")
    }

    pub(super) fn alive_lock(&self) -> PathBuf {
        self.dir.join("alive.lock")
    }

    fn spec(&self) -> PathBuf {
        self.dir.join("spec.json")
    }

    fn result(&self) -> PathBuf {
        self.dir.join("result.json")
    }

    fn started(&self) -> PathBuf {
        self.dir.join("started")
    }

    fn claimed(&self) -> PathBuf {
        self.dir.join("claimed")
    }

    fn abandoned(&self) -> PathBuf {
        self.dir.join("abandoned")
    }

    fn supervisor_error(&self) -> PathBuf {
        self.dir.join("supervisor.error")
    }

    /// Which trace of an earlier use is there, if any.
    pub(super) fn trace_of_a_run(&self) -> Option<&'static str> {
        [
            (self.result(), "a result"),
            (self.abandoned(), "given up"),
            (self.started(), "started"),
        ]
        .into_iter()
        .find_map(|(path, found)| path.exists().then_some(found))
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.spec().exists()
    }

    pub(super) fn is_started(&self) -> bool {
        self.started().exists()
    }

    pub(super) fn write_spec(&self, spec: &RunSpec) -> Result<(), WorkerError> {
        self.write_json(&self.spec(), spec)
    }

    pub(super) fn read_spec(&self) -> Result<RunSpec, WorkerError> {
        read_json(&self.spec())?.ok_or_else(|| WorkerError::Damaged {
            path: self.spec(),
            reason: "it is missing; the run was never prepared".to_owned(),
        })
    }

    pub(super) fn write_result(&self, result: &RunResult) -> Result<(), WorkerError> {
        self.write_json(&self.result(), result)
    }

    pub(super) fn read_result(&self) -> Result<Option<RunResult>, WorkerError> {
        read_json(&self.result())
    }

    /// Makes this caller the only one who may start the run. Returns whether it is.
    pub(super) fn claim_start(&self) -> Result<bool, WorkerError> {
        let path = self.claimed();
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(WorkerError::io("create", &path)(source)),
        }
    }

    pub(super) fn mark_started(&self) -> Result<(), WorkerError> {
        self.write_durably(&self.started(), b"")
    }

    pub(super) fn mark_abandoned(&self) -> Result<(), WorkerError> {
        self.write_durably(&self.abandoned(), b"")
    }

    /// Writes a file whole: a reader sees the old state or all of the new one, also after a power cut.
    pub(super) fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), WorkerError> {
        let part = path.with_extension("part");
        let write = || -> io::Result<()> {
            let mut file = create_private(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)?;
            sync_dir(&self.dir)
        };
        write().map_err(WorkerError::io("write", path))
    }

    fn write_json(&self, path: &Path, body: &impl Serialize) -> Result<(), WorkerError> {
        let text = serde_json::to_vec(&Versioned {
            version: FILES_VERSION,
            body,
        })
        .map_err(|error| WorkerError::BadRequest {
            reason: error.to_string(),
        })?;
        self.write_durably(path, &text)
    }

    /// Takes the run's lock if nobody holds it.
    pub(super) fn try_lock(&self) -> Result<Option<File>, WorkerError> {
        let path = self.alive_lock();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(WorkerError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(WorkerError::io("lock", &path)(source)),
        }
    }

    /// Notes the supervisor's pid inside the lock that it holds.
    pub(super) fn note_supervisor(&self, mut lock: &File) -> Result<(), WorkerError> {
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(WorkerError::io("write", &self.alive_lock()))
    }

    /// The pid of the supervisor that took the lock last.
    pub(super) fn supervisor_pid(&self) -> Option<i32> {
        fs::read_to_string(self.alive_lock()).ok()?.parse().ok()
    }

    /// Leaves an explanation for the daemon. There is nobody left to tell if even this fails.
    pub(super) fn note_supervisor_error(&self, error: &WorkerError) -> bool {
        fs::write(self.supervisor_error(), format!("{} [{}]", error, error.code())).is_ok()
    }

    pub(super) fn supervisor_error_text(&self) -> Option<String> {
        fs::read_to_string(self.supervisor_error()).ok()
    }
}

/// Creates or empties a file that only its owner may read.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Makes renames and new names inside a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, WorkerError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(WorkerError::io("open", path)(source)),
    };
    let mut bytes = Vec::new();
    file.take(JSON_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(WorkerError::io("read", path))?;
    let damaged = |reason: String| WorkerError::Damaged {
        path: path.to_path_buf(),
        reason,
    };
    let versioned: Versioned<T> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if versioned.version != FILES_VERSION {
        return Err(damaged(format!(
            "expected version {FILES_VERSION}, found {}",
            versioned.version
        )));
    }
    Ok(Some(versioned.body))
}
