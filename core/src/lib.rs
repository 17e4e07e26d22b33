//! The pure heart of the ledger: what a receipt is, byte by byte, and how it is checked.
//!
//! Owns the record format, canonical encoding, digests, signatures, the hybrid logical clock, the chain rule, the
//! RFC 6962 tree, C2SP checkpoints and the catalogue of kinds. It does no I/O, reads no clock, draws no randomness,
//! starts no thread and logs nothing: whatever varies comes in as an argument, so the same input gives the same
//! bytes on every machine.
//!
//! `docs/FORMAT.md` is the normative description of everything encoded here.
//!
//! ```
//! use ledger_core::{Draft, Kind, ReceiptId, SigningKey, Subject};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SigningKey::from_seed([7; 32]);
//! let fleet = ledger_core::FleetId([1; 32]);
//! let draft = Draft::custom(Kind::new("x.greeting")?, Subject::new("demo/1")?)
//!     .payload("text/plain", b"hello".to_vec())?;
//! let statement = draft.into_statement(fleet, key.public(), ReceiptId::v7(1_700_000_000_000, [9; 10]), 0, [3; 32])?;
//! let signed = statement.sign(&key);
//! assert!(signed.verify().is_ok());
//! # Ok(()) }
//! ```

mod batch;
pub mod bundle;
pub mod canonical;
pub mod chain;
pub mod checkpoint;
mod comb;
pub mod cosignature;
pub mod digest;
pub mod error;
pub mod grant;
pub mod hlc;
pub mod id;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod limits;
pub mod note;
pub mod proof;
pub mod record;
mod sign;
pub mod signature;
pub mod statement;
pub mod text;
pub mod tiles;
pub mod tree;
mod wire;

pub use chain::{Chain, ChainSnapshot, Head};
pub use digest::{Commitment, ContentDigest, FleetId, LogId, SealDigest, StatementDigest, TreeRoot};
pub use error::{ChainError, DecodeError, KeyError, NoteError, RecordError, StatementError};
pub use hlc::Hlc;
pub use id::ReceiptId;
pub use key::{PublicKey, SigningKey, VerifyKey};
pub use kind::{Kind, MachineId, Stream, Subject};
pub use kinds::{AnyDetail, Detail};
pub use record::{Payload, Record, Salt, Seal};
pub use signature::Signature;
pub use statement::{Draft, Grade, PayloadRef, SignedStatement, Statement, VerifiedStatement};
