//! The worker's operating-system side: declared handlers run as child processes that leave no orphan.
//!
//! A run lives in a directory of its own. The daemon [`prepare`]s it, records that the job started, and
//! [`start`]s a small *supervisor* process, which starts the handler, bounds its time and output, kills every
//! process of the run when it is told to or when the daemon dies, and leaves one durable result. A daemon that
//! restarts calls [`recover`], which proves that nothing of the run is alive before it says what became of it.
//!
//! Nothing here knows what a receipt is: jobs and fences are plain text, digests are 32 bytes. The files inside a
//! run directory are private to this module; only `out/` and the two captured streams are for others to read.
//!
//! What a crash leaves: see [`supervise`] (supervisor killed) and [`recover`] (daemon killed).

mod capture;
mod error;
mod files;
mod handler;
mod outputs;
mod processes;
mod report;
mod run;
mod supervisor;

pub use capture::{Captured, RESULT_BYTES_MAX, TAIL_BYTES_MAX};
pub use error::WorkerError;
pub use files::{Outcome, RunResult};
pub use handler::{Class, HandlerConfig, HandlerError, HandlerProblem, validate_handlers};
pub use outputs::{
    Collected, ENTRIES_MAX, OUTPUT_PATH_BYTES_MAX, OUTPUTS_MAX, Output, OutputLimits, SkipReason, Skipped,
    collect_outputs, store_outputs,
};
pub use report::{ReportLine, ReportReader};
pub use run::{
    Canceller, INPUT_BYTES_MAX, Recovered, Run, RunRequest, prepare, recover, start, stderr_path, stdout_path,
};
pub use supervisor::{supervise, supervise_main};
