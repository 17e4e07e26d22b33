//! The commit path: commands wait in a bounded inbox, one thread decides, stamps, chains and signs a batch of them, another
//! writes, syncs and answers it, while the first is at the next batch.
//!
//! What a crash leaves: before the write nothing; after it a batch that recovery keeps whole or sets aside whole; an
//! answer only ever follows a successful sync. The pipeline is one batch deep (`docs/adr/0018-deciding-during-the-sync.md`).

mod batch;
mod committer;
mod inbox;
mod signers;
mod ticket;
mod tx;
mod writer;

pub(crate) use batch::Tip;
pub use committer::BatchHook;
pub(crate) use committer::{Call, Command, Committer, run};
pub(crate) use inbox::NotTaken;
pub(crate) use signers::{Signers, with_key};
pub(crate) use writer::{Commands, Writer};

pub use ticket::{CommitError, Committed, Ticket};
pub(crate) use ticket::{refused, ticket};
pub use tx::{Appended, Intake, Tx};
