//! What a daemon or a command of the server can meet. Each error has a stable code and an HTTP status.

use crate::config::ConfigError;
use crate::worker::WorkerError;
use http::StatusCode;
use ledger::LedgerError;
use ledger::core::error::StatementError;
use ledger_projections::queue::Refusal;
use std::path::PathBuf;

/// An error of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The engine.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A decider refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A statement breaks a rule.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A handler's process.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The heartbeat.
    #[error(transparent)]
    Heartbeat(#[from] crate::heartbeat::HeartbeatError),
    /// A projection.
    #[error(transparent)]
    Projection(#[from] ledger_projections::projection::SourceError),
    /// The operating system refused.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {address}: {source}; name a free port of this machine as `listen` in config.toml, or port 0"
    )]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The address would listen to everybody.
    #[error("listen = {0:?}: name a loopback or tailnet address; the ledger never listens on all of them")]
    ListenAll(String),
    /// Bytes of an exchange that are not one.
    #[error("malformed exchange: {0}")]
    Malformed(String),
    /// The other machine's order or log does not fit ours.
    #[error("{0}")]
    Fork(String),
    /// The caller's copy of the order is another one than this fleet's, and Central's own key sealed both.
    #[error("{0}")]
    OrderForked(String),
    /// Who asks is not who may.
    #[error("{0}")]
    Forbidden(String),
    /// Central does not decide now.
    #[error("Central does not decide now: {0}")]
    NotServing(String),
    /// The disk is down to its reserve: no new work and nothing of other people's is taken.
    #[error(
        "the disk has {free_mib} MiB free, and {reserve_mib} MiB are kept for results and notices; make room, or set disk.reserve"
    )]
    DiskReserve {
        /// Free, in MiB.
        free_mib: u64,
        /// To stay free, in MiB.
        reserve_mib: u64,
    },
    /// This store cannot do that.
    #[error("{0}")]
    WrongRole(String),
    /// An invitation line that is none, or that has ended.
    #[error("{0}")]
    Invitation(String),
    /// The gateway could not be reached or refused.
    #[error("{0}")]
    Gateway(String),
    /// A thing that is not there.
    #[error("{0}")]
    NotFound(String),
}

impl From<ledger_projections::central::StepError> for ServerError {
    fn from(error: ledger_projections::central::StepError) -> Self {
        use ledger_projections::central::StepError;
        match error {
            StepError::Ledger(e) => Self::Ledger(e),
            StepError::Refused(e) => Self::Refused(e),
        }
    }
}

impl ServerError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ledger(e) => e.code(),
            Self::Refused(e) => e.code(),
            Self::Statement(e) => e.code(),
            Self::Config(e) => e.code(),
            Self::Worker(e) => e.code(),
            Self::Heartbeat(_) => "server.heartbeat",
            Self::Projection(_) => "server.projection",
            Self::Io { .. } => "server.io",
            Self::Listen { .. } => "server.listen",
            Self::ListenAll(_) => "server.listen-all",
            Self::Malformed(_) => "exchange.malformed",
            Self::Fork(_) => "exchange.fork",
            Self::OrderForked(_) => "order.forked",
            Self::Forbidden(_) => "auth.forbidden",
            Self::NotServing(_) => "central.not-serving",
            Self::DiskReserve { .. } => "server.disk-reserve",
            Self::WrongRole(_) => "server.wrong-role",
            Self::Invitation(_) => "join.invitation",
            Self::Gateway(_) => "node.gateway",
            Self::NotFound(_) => "server.not-found",
        }
    }

    /// The HTTP status that tells a client whose turn it is.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Ledger(LedgerError::Busy(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::Ledger(
                LedgerError::IdTaken { .. } | LedgerError::HeadMoved { .. } | LedgerError::Fork { .. },
            )
            | Self::Fork(_)
            | Self::OrderForked(_) => StatusCode::CONFLICT,
            Self::Ledger(LedgerError::NotOverwritten(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::DiskReserve { .. }
            | Self::Ledger(LedgerError::Journal(ledger::journal::JournalError::NoSpace { .. })) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Ledger(LedgerError::Pruned { .. } | LedgerError::PrunedId(_)) => StatusCode::GONE,
            Self::Ledger(
                LedgerError::NothingToErase(_) | LedgerError::ErasureReason(_) | LedgerError::NotBegun { .. },
            ) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Ledger(LedgerError::MayNotErase(_)) => StatusCode::FORBIDDEN,
            Self::Ledger(LedgerError::Closed(_) | LedgerError::NotCommitted(_) | LedgerError::Unknown(_))
            | Self::NotServing(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Ledger(LedgerError::OtherFleet(_) | LedgerError::Record(_) | LedgerError::Chain(_))
            | Self::Ledger(LedgerError::Statement(_))
            | Self::Refused(_)
            | Self::Statement(_)
            | Self::Malformed(_)
            | Self::Invitation(_)
            | Self::WrongRole(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_)
            | Self::Ledger(
                LedgerError::UnknownLog(_)
                | LedgerError::UnknownReceipt { .. }
                | LedgerError::NoCheckpointKey { .. },
            ) => StatusCode::NOT_FOUND,
            Self::Gateway(_) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl From<ledger::CommitError<ServerError>> for ServerError {
    fn from(error: ledger::CommitError<ServerError>) -> Self {
        match error {
            ledger::CommitError::Refused(e) => e,
            ledger::CommitError::Ledger(e) => Self::Ledger(e),
        }
    }
}
