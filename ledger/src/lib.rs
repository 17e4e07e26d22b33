//! An embeddable, append-only ledger: signed, hash-chained receipts in a journal of plain files.
//!
//! The journal is the truth; everything in fjall beside it can be deleted and is rebuilt. The engine needs no runtime,
//! opens no socket, reads no environment and does not know what a job is.
//!
//! The life of a receipt here: somebody drafts a statement -> [`Ledger::submit`] -> the committer decides, stamps, chains,
//! signs, writes, syncs (`commit/`) -> readers see it ([`Ledger::get`], [`Ledger::tail`]) -> [`verify`] reads it back from
//! disk.

pub mod anchor;
mod append;
pub mod bundle;
mod checkpoint;
pub mod clock;
pub mod commit;
pub mod create;
pub mod derived;
pub mod erase;
pub mod error;
mod housekeeper;
mod index;
pub mod intake;
pub mod journal;
pub mod keyring;
pub mod ledger;
pub mod lock;
mod open;
pub mod options;
pub mod position;
pub mod prove;
pub mod publish;
pub mod read;
pub mod receipt;
pub mod recovery;
mod restore;
pub mod state;
pub mod storage;
pub mod sync;
pub mod tail;
pub mod typed;
pub mod verify;

pub use commit::{Appended, BatchHook, CommitError, Committed, Intake, Ticket, Tx};
pub use create::{Fleet, NewStore};
pub use erase::ErasureReport;
pub use error::LedgerError;
pub use keyring::Keyring;
pub use ledger::{Ledger, OpenOptions, Published};
pub use ledger_core as core;
pub use options::Paths;
pub use position::Position;
pub use read::PayloadState;
pub use receipt::Receipt;
pub use state::{Change, Changes, Erasing, Row, State, StateContext};
pub use tail::Tail;
