//! The commit path: commands wait in a bounded queue, one thread decides, stamps, chains, signs, writes and syncs a
//! batch of them, and answers when it is durable.
//!
//! What a crash leaves: before the write nothing; after it a batch that recovery keeps whole or sets aside whole; an
//! answer only ever follows a successful sync.

mod batch;
mod committer;
mod signers;
mod ticket;
mod tx;

pub use committer::BatchHook;
pub(crate) use committer::{Call, Committer, Order, start_signers};

pub use ticket::{CommitError, Committed, Ticket};
pub(crate) use ticket::{refused, ticket};
pub use tx::{Appended, Intake, Tx};
