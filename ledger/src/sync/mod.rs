//! Replication of one log as a state machine without I/O: over HTTP, a pipe, a mail, a stick.
//!
//! A [`Source`] answers what is asked about the logs of a store; a [`Replica`] asks for what its store lacks of one log and
//! takes in what comes, through the committer and never otherwise. Neither opens anything, waits for anybody or starts a
//! thread: the caller carries the [`Message`]s. They may be lost, doubled, delayed, cut short or damaged on the way:
//! each carries a digest of itself, every record is verified strictly before it is kept, and what is here already
//! is skipped. So whoever asks again until [`Replica::is_complete`] ends with a byte-exact copy of what the source had.
//!
//! The digest finds damage, not malice. Somebody who can write to the transport cannot forge a record, since the log's key
//! signs it, but can withhold the newest ones, payloads, and can spoil an author signature (its record is then kept and
//! named in [`Progress::inadmissible`]): compare [`crate::Ledger::head`] or a signed checkpoint where the transport is not
//! trusted. What is erased at the source comes without its payload; whether an `erased` receipt destroys the payload that
//! came earlier is for the replica's [`crate::State::erases`] to say. A crash leaves the replica with a
//! prefix of the log; asking goes on behind it.
//!
//! The copy belongs to the fleet of the log: make its store with [`crate::NewStore::join`].
//!
//! ```
//! use ledger::core::{Draft, Kind, Stream, Subject};
//! use ledger::sync::{Replica, Source};
//! use ledger::{Ledger, NewStore, OpenOptions, Paths};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let agent = Ledger::lone(dir.path().join("agent"), "my-agent")?;
//! agent.append(Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?))?;
//! let log = agent.own_log(Stream::Facts).ok_or("an agent has facts")?;
//!
//! let new = NewStore::join("mirror", agent.context().fleet)?;
//! let mirror: Ledger = Ledger::create(&Paths::new(dir.path().join("mirror")), &new, OpenOptions::default())?;
//!
//! let source = Source::new(agent.clone());
//! let mut replica = Replica::new(mirror.clone(), log)?;
//! while !replica.is_complete() {
//!     let asked = replica.ask()?; // bytes, to be carried over there
//!     let answered = source.reply(&asked)?; // bytes, to be carried back
//!     replica.hear(&answered)?;
//! }
//! assert_eq!(mirror.head(&log), agent.head(&log));
//! # Ok(()) }
//! ```

mod error;
mod message;
mod replica;
mod source;

pub use error::{Fork, SyncError};
pub use message::{
    CHUNK_BYTES, CHUNK_RECORDS_MAX, CONTEXT_MESSAGE, Chunk, MESSAGE_BYTES_MAX, Mark, Message, Reason,
    Refusal, VERSION, Want,
};
pub use replica::{Progress, Replica};
pub use source::Source;
