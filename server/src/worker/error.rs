//! What can go wrong while a run is prepared, started, watched, collected or recovered.
//!
//! Owns the one error enum of the worker. A handler that fails is no error: that is an
//! [`Outcome`](super::Outcome) inside a result. Errors here mean that the worker itself could not do its part.

use std::io;
use std::path::{Path, PathBuf};

/// A fault of the worker's own machinery.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The operating system refused an operation on a file of the run.
    #[error("could not {action} {}: {source}; check the folder's permissions and free space", path.display())]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The request for a run holds something that cannot be handed to a process.
    #[error("the run cannot be prepared: {reason}")]
    BadRequest {
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The run directory was used before; a directory serves one run.
    #[error("{} already holds a run ({found}); prepare every run in a directory of its own", run_dir.display())]
    RunDirUsed {
        /// The directory.
        run_dir: PathBuf,
        /// Which trace of the earlier run was found.
        found: &'static str,
    },
    /// The supervisor's binary could not be started.
    #[error("could not start the supervisor {}: {source}; the handler was not started", binary.display())]
    SupervisorSpawn {
        /// The binary that was tried.
        binary: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The supervisor ended without writing a result; nothing of the run is alive any more.
    #[error("the supervisor ended without a result ({reason}); everything that it had started is dead")]
    SupervisorLost {
        /// How it ended, and what it left as explanation.
        reason: String,
    },
    /// Something of the run still lives and could not be killed.
    #[error(
        "the run in {} is still alive after {waited_ms} ms (processes: {pids}); end them by hand and try again",
        run_dir.display()
    )]
    StillAlive {
        /// The directory of the run.
        run_dir: PathBuf,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
        /// The process ids that are known, separated by spaces.
        pids: String,
    },
    /// A file of the run exists but cannot be understood.
    #[error("{} is damaged: {reason}; the run's outcome cannot be known from it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An output pattern cannot be understood.
    #[error("the output pattern {glob:?} is not valid: {reason}")]
    BadGlob {
        /// The pattern.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The outputs folder holds more entries than are looked at.
    #[error(
        "{} holds more than {entries_max} entries; let the handler pack them into fewer files",
        out_dir.display()
    )]
    TooManyEntries {
        /// The outputs folder.
        out_dir: PathBuf,
        /// The bound.
        entries_max: usize,
    },
    /// An output is no longer what was collected.
    #[error("the output {path:?} changed after it was collected; collect the outputs again")]
    OutputChanged {
        /// Its path relative to the outputs folder.
        path: String,
    },
}

impl WorkerError {
    /// The stable code of this error, for logs and machine-readable answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Io { .. } => "worker.io",
            WorkerError::BadRequest { .. } => "worker.bad-request",
            WorkerError::RunDirUsed { .. } => "worker.run-dir-used",
            WorkerError::SupervisorSpawn { .. } => "worker.supervisor-spawn",
            WorkerError::SupervisorLost { .. } => "worker.supervisor-lost",
            WorkerError::StillAlive { .. } => "worker.still-alive",
            WorkerError::Damaged { .. } => "worker.run-file-damaged",
            WorkerError::BadGlob { .. } => "worker.bad-glob",
            WorkerError::TooManyEntries { .. } => "worker.too-many-outputs",
            WorkerError::OutputChanged { .. } => "worker.output-changed",
        }
    }

    /// Attaches the operation and the path to a system error, for use with `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkerError {
        let path = path.to_path_buf();
        move |source| WorkerError::Io { action, path, source }
    }
}
