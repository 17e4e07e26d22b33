//! An embeddable, append-only ledger: signed, hash-chained receipts in a journal of plain files.
//!
//! The journal is the truth; everything in fjall beside it can be deleted and is rebuilt. The engine needs no runtime,
//! opens no socket, reads no environment and does not know what a job is.
//!
//! The life of a receipt here: somebody drafts a statement -> [`Ledger::submit`] -> the committer decides, stamps, chains,
//! signs, writes, syncs (`commit/`) -> readers see it ([`Ledger::get`], [`Ledger::tail`]) -> [`verify`] reads it back from
//! disk.
//!
//! # Where to begin
//!
//! | to | use |
//! |---|---|
//! | open a log of your own | [`Ledger::lone`]; with options [`Ledger::open_or_create`], [`OpenOptions`], [`NewStore`] |
//! | say something | [`Ledger::append`], [`Ledger::append_batch`], [`Ledger::append_expecting`] |
//! | say it without blocking, under any executor | [`Ledger::append_ticket`]: a [`Ticket`] is a future |
//! | decide inside the commit, by a state of your own | [`Ledger::submit`], [`Tx`], [`State`] |
//! | say it once, however often you try | [`core::Draft::id`] |
//! | give your kinds types, with schemas that grow | [`typed`] |
//! | read | [`Ledger::get`], [`Ledger::find`], [`Ledger::by_subject`], [`Ledger::range`], [`Ledger::payload`] |
//! | follow, and resume | [`Ledger::tail`], [`Position`] |
//! | destroy a payload | [`Ledger::erase`] |
//! | keep a copy elsewhere, over anything | [`sync`] |
//! | give others something to check | [`Ledger::checkpoint`], [`Ledger::prove`], [`Ledger::export`], [`Ledger::publish`] |
//! | check | [`verify`], [`core::proof::check`] |
//! | react to an error | [`LedgerError::code`]; `docs/EMBEDDING.md` has a row for each code |
//!
//! ```
//! use ledger::core::{Draft, Kind, Subject};
//! use ledger::{Ledger, Position};
//! use std::time::Duration;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let ledger = Ledger::lone(dir.path().join("log"), "my-agent")?;
//! let draft = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
//! let receipt = ledger.append(draft.payload("text/plain", b"hello".to_vec())?)?; // durable now
//!
//! let mut tail = ledger.tail(Position::START);
//! while let Some(seen) = tail.next_within(Duration::ZERO)? {
//!     println!("{} {}", seen.seq(), seen.kind()); // 0 log.genesis, 1 x.note
//! }
//! assert_eq!(tail.position(), receipt.position); // keep it, and resume there
//! ledger.close()?;
//!
//! let report = ledger::verify::verify_store(&dir.path().join("log"), &Default::default(), &mut |_| {})?;
//! assert!(report.is_clean());
//! # Ok(()) }
//! ```
//!
//! Modules that are not listed on this page are the engine's own; they are public for its tests and its sister crates and
//! change without notice.

mod append;
mod behind;
mod checkpoint;
pub mod clock;
pub mod derived;
pub mod error;
pub mod evidence;
mod housekeeper;
mod index;
mod open;
mod restore;
mod shared;
pub mod storage;
pub mod sync;
pub mod typed;
pub mod verify;
mod witness;

// The engine's own; what an embedder needs of them is named below.
#[doc(hidden)]
pub mod anchor;
#[doc(hidden)]
pub mod bundle;
#[doc(hidden)]
pub mod commit;
#[doc(hidden)]
pub mod create;
#[doc(hidden)]
pub mod erase;
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod intake;
#[doc(hidden)]
pub mod journal;
#[doc(hidden)]
pub mod keyring;
#[doc(hidden)]
pub mod ledger;
#[doc(hidden)]
pub mod lock;
#[doc(hidden)]
pub mod options;
#[doc(hidden)]
pub mod position;
#[doc(hidden)]
pub mod prove;
#[doc(hidden)]
pub mod prune;
#[doc(hidden)]
pub mod publish;
#[doc(hidden)]
pub mod read;
#[doc(hidden)]
pub mod receipt;
#[doc(hidden)]
pub mod recovery;
#[doc(hidden)]
pub mod state;
#[doc(hidden)]
pub mod tail;

#[doc(inline)]
pub use bundle::ExportReport;
#[doc(inline)]
pub use commit::{Appended, BatchHook, CommitError, Committed, Intake, Ticket, Tx};
#[doc(inline)]
pub use create::{Fleet, NewStore};
#[doc(inline)]
pub use erase::ErasureReport;
#[doc(inline)]
pub use error::LedgerError;
#[doc(inline)]
pub use import::{ImportError, ImportReport};
#[doc(inline)]
pub use intake::{RawRecord, VerifiedRun};
#[doc(inline)]
pub use keyring::Keyring;
#[doc(inline)]
pub use ledger::Ledger;
#[doc(inline)]
pub use ledger_core as core;
#[doc(inline)]
pub use options::{OpenOptions, Paths};
#[doc(inline)]
pub use position::Position;
#[doc(inline)]
pub use prune::{PruneReport, PrunedStart, Pruning};
#[doc(inline)]
pub use publish::PublishReport;
#[doc(inline)]
pub use read::{PayloadState, Range};
#[doc(inline)]
pub use receipt::Receipt;
#[doc(inline)]
pub use recovery::{RecoveryReport, TornTail};
pub use shared::Published;
#[doc(inline)]
pub use state::{Change, Changes, Erasing, Row, State, StateContext};
#[doc(inline)]
pub use tail::Tail;
#[doc(inline)]
pub use witness::Cosigned;

/// The guide's blocks are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/EMBEDDING.md")]
mod guide {}
