//! Why something that was said is no value of a type, with a stable code for each reason.

use crate::error::LedgerError;
use ledger_core::StatementError;

/// Why content is no value of a type. The receipt stands and counts all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// A receipt of another kind.
    #[error("expected a receipt of kind {expected}, found {found}; look at the kind first")]
    Kind {
        /// The type's kind.
        expected: &'static str,
        /// The receipt's.
        found: String,
    },
    /// A receipt that was said without content, so that there is nothing to decode.
    #[error("this receipt of kind {kind} has no payload; whoever said it did not say it as a typed kind")]
    Empty {
        /// The kind.
        kind: String,
    },
    /// A media type that is not one of ours.
    #[error(
        "content of kind {kind} has the media type {media:?}; expected one of a codec, with `schema` a number from 1"
    )]
    Media {
        /// The kind.
        kind: String,
        /// What it says.
        media: String,
    },
    /// A schema that this program has no upcaster for, most often because a newer program said it.
    #[error(
        "content of kind {kind} has schema {schema}, this program knows {newest}; update it, the bytes are kept"
    )]
    Schema {
        /// The kind.
        kind: String,
        /// The schema of the content.
        schema: u16,
        /// The newest schema that the type knows.
        newest: u16,
        /// The bytes as they were said.
        content: Vec<u8>,
    },
    /// Bytes that do not decode as the schema that they name.
    #[error(
        "content of kind {kind} does not decode as its schema {schema}: {why}; whoever said it is at fault"
    )]
    Malformed {
        /// The kind.
        kind: String,
        /// The schema.
        schema: u16,
        /// The decoder's reason.
        why: String,
        /// The bytes as they were said.
        content: Vec<u8>,
    },
    /// A value that its codec cannot encode, such as a map whose keys are no texts in JSON.
    #[error("a value of kind {kind} cannot be encoded: {why}; change its type or its codec")]
    Unencodable {
        /// The kind.
        kind: &'static str,
        /// The encoder's reason.
        why: String,
    },
    /// Past a bound of statements.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The engine.
    #[error(transparent)]
    Ledger(Box<LedgerError>),
}

impl From<LedgerError> for TypedError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Box::new(error))
    }
}

impl TypedError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Kind { .. } => "typed.kind",
            Self::Empty { .. } => "typed.empty",
            Self::Media { .. } => "typed.media",
            Self::Schema { .. } => "typed.schema",
            Self::Malformed { .. } => "typed.malformed",
            Self::Unencodable { .. } => "typed.unencodable",
            Self::Statement(e) => e.code(),
            Self::Ledger(e) => e.code(),
        }
    }

    /// The bytes as they were said, when the fault lies in reading them.
    pub fn content(&self) -> Option<&[u8]> {
        match self {
            Self::Schema { content, .. } | Self::Malformed { content, .. } => Some(content),
            _ => None,
        }
    }
}
