//! Why a call did not bring what was asked for.

use crate::http::signature::SignatureError;
use crate::http::wire::Problem;
use std::time::Duration;

/// An error of a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused, and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Nobody answers.
    #[error("{to} cannot be reached: {why}; check that the daemon runs and the address is right")]
    Unreachable {
        /// Who.
        to: String,
        /// The system's reason.
        why: String,
    },
    /// Somebody answers too slowly.
    #[error(
        "{to} did not answer within {after:?}; what was asked may have been done: ask again with the same id"
    )]
    Timeout {
        /// Who.
        to: String,
        /// How long was waited.
        after: Duration,
    },
    /// An answer that is none of this API.
    #[error("{to} answered what this program does not understand: {why}; check address and versions")]
    Malformed {
        /// Who.
        to: String,
        /// What is wrong.
        why: String,
    },
    /// An answer that is longer than its bound.
    #[error("{to} answered more than {bytes_max} bytes; check the address")]
    TooLong {
        /// Who.
        to: String,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// A request that could not be signed, or an answer that the pinned key did not sign.
    #[error("{to}: {source}")]
    Signature {
        /// Who.
        to: String,
        /// What is wrong.
        source: SignatureError,
    },
    /// An address that is none.
    #[error("{address:?}: {why}; an address like http://studio:7171 is expected")]
    Address {
        /// The address.
        address: String,
        /// What is wrong.
        why: String,
    },
}

impl ClientError {
    /// The stable code: the problem's own, where the server told one.
    pub fn code(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.code,
            Self::Unreachable { .. } => "client.unreachable",
            Self::Timeout { .. } => "client.timeout",
            Self::Malformed { .. } => "client.malformed",
            Self::TooLong { .. } => "client.too-long",
            Self::Signature { source, .. } => source.code(),
            Self::Address { .. } => "client.address",
        }
    }

    /// What the server said.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether nobody is there at all, so that nothing was done.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
