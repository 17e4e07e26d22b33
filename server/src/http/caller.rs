//! Who asks: worked out by the gate, looked at by the handlers.

use super::problem::Problem;
use ledger::core::PublicKey;
use ledger::core::grant::may_read;
use ledger::core::kinds::Role;
use std::net::SocketAddr;

/// Whoever is behind a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// The machine's own user.
    Local,
    /// The holder of a known key.
    Key(PublicKey, Role),
    /// The bearer of a token in force.
    Token(Role),
    /// Anybody, at a path that is open.
    Anybody,
}

impl Caller {
    /// That they may read receipts of the whole fleet.
    pub(crate) fn may_read(self) -> Result<(), Problem> {
        match self {
            Self::Local => Ok(()),
            Self::Key(_, role) | Self::Token(role) if may_read(role) => Ok(()),
            Self::Key(..) | Self::Token(_) | Self::Anybody => Err(Problem::forbidden()),
        }
    }

    /// That they are a machine of the fleet, by its key.
    pub(crate) fn machine_key(self) -> Result<PublicKey, Problem> {
        match self {
            Self::Key(key, Role::Node | Role::Central) => Ok(key),
            _ => Err(Problem::forbidden()),
        }
    }
}

/// The other end of the connection, for the daemon's own log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// A call within the process.
    Process,
    /// The unix socket, with the user id of the other end where the system tells it.
    Unix(Option<u32>),
    /// A TCP connection.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process => f.write_str("process"),
            Self::Unix(Some(uid)) => write!(f, "uid:{uid}"),
            Self::Unix(None) => f.write_str("unix"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
