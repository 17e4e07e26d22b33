//! An embeddable, append-only ledger: signed, hash-chained receipts in a journal of plain files.
//!
//! The journal is the truth; everything in fjall beside it can be deleted and is rebuilt. The engine needs no runtime,
//! opens no socket, reads no environment and does not know what a job is.

pub mod anchor;
pub mod journal;
pub mod lock;
pub mod position;
pub mod receipt;
pub mod recovery;
pub mod state;
pub mod storage;

pub use ledger_core as core;
pub use position::Position;
pub use receipt::Receipt;
pub use state::{Change, Changes, Row, State, StateContext};
