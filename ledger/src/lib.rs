//! An embeddable, append-only ledger: signed, hash-chained receipts in a journal of plain files.
//!
//! The journal is the truth; everything in fjall beside it can be deleted and is rebuilt. The engine needs no runtime,
//! opens no socket, reads no environment and does not know what a job is.

pub mod position;
pub mod receipt;
pub mod state;

pub use ledger_core as core;
pub use position::Position;
pub use receipt::Receipt;
pub use state::{Change, Changes, Row, State, StateContext};
