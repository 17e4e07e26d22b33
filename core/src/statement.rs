//! Statements: what an author says, complete and signed before any log has it.
//!
//! Owns the frozen struct `Statement` of version 1, its checks, drafts (a statement in the making) and signed
//! statements. Does not know logs or seals.

use crate::canonical;
use crate::digest::{self, Commitment, FleetId, StatementDigest};
use crate::error::StatementError;
use crate::id::ReceiptId;
use crate::key::{PublicKey, SigningKey};
use crate::kind::{Kind, Subject};
use crate::kinds::{AnyDetail, Detail};
use crate::limits::{DETAIL_BYTES_MAX, MEDIA_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::record::{Payload, Salt};
use crate::signature::{self, Signature};
use crate::wire;
use serde::{Deserialize, Serialize};

/// How the ledger knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Grade {
    /// The author did or saw it.
    #[default]
    FirstHand,
    /// Taken over from another tool's record.
    Imported,
    /// Measured by a program, not evidence of an act.
    Telemetry,
}

impl TryFrom<u8> for Grade {
    type Error = StatementError;
    fn try_from(value: u8) -> Result<Self, StatementError> {
        match value {
            0 => Ok(Self::FirstHand),
            1 => Ok(Self::Imported),
            2 => Ok(Self::Telemetry),
            other => Err(StatementError::Grade(other)),
        }
    }
}

impl From<Grade> for u8 {
    fn from(grade: Grade) -> u8 {
        match grade {
            Grade::FirstHand => 0,
            Grade::Imported => 1,
            Grade::Telemetry => 2,
        }
    }
}

/// W3C trace context: 16 bytes trace-id, 8 bytes span-id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace(pub [u8; 24]);

/// The commitment to a payload, as the statement carries it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayloadRef {
    /// Digest of salt and payload.
    pub commitment: Commitment,
    /// Size of the payload in bytes, at most 65,536.
    pub bytes: u32,
    /// Media type (RFC 6838), at most 64 bytes.
    pub media: String,
}

/// What an author says. The order of the fields is the format (`docs/FORMAT.md`); it never changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// 1.
    pub version: u8,
    /// The fleet it is said in.
    pub fleet: FleetId,
    /// The author's id for it.
    pub id: ReceiptId,
    /// What it says.
    pub kind: Kind,
    /// Revision of this kind's detail.
    pub schema: u16,
    /// How the ledger knows.
    pub grade: Grade,
    /// Who says it.
    pub author: PublicKey,
    /// What it is about.
    pub subject: Subject,
    /// Microseconds since 1970 by the author's clock.
    pub authored_at: i64,
    /// The receipt that led here.
    pub cause: Option<ReceiptId>,
    /// Trace context.
    pub trace: Option<Trace>,
    /// postcard of the detail that (kind, schema) names; for custom kinds the media type of their content.
    pub detail: Vec<u8>,
    /// Commitment to the free part.
    pub payload: Option<PayloadRef>,
}

impl Statement {
    /// Decodes and checks a statement.
    ///
    /// # Errors
    /// [`StatementError`] when the bytes are not canonical or a field breaks its bound. An unknown kind or schema is
    /// no error: it is kept and shown raw.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        // Another version may have other fields, so the first byte is looked at before the rest is read.
        if let Some(version) = bytes.first().filter(|version| **version != 1) {
            return Err(StatementError::Version(*version));
        }
        let statement = match wire::decode_statement(bytes) {
            Some(statement) => statement,
            // Not canonical: the slow way tells why.
            None => canonical::decode("statement", bytes)?,
        };
        statement.check()?;
        Ok(statement)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_statement(self)
    }

    /// The typed detail, when this program knows (kind, schema).
    ///
    /// # Errors
    /// [`crate::kinds::DetailError`] when it does not, or when the detail's bytes are malformed.
    pub fn any_detail(&self) -> Result<AnyDetail, crate::kinds::DetailError> {
        AnyDetail::decode(self.kind.as_str(), self.schema, &self.detail)
    }

    fn check(&self) -> Result<(), StatementError> {
        let payload = self.payload.as_ref().map(|p| (p.bytes, p.media.as_str()));
        check_bounds(&self.id, &self.detail, payload)
    }
}

/// What every statement keeps to, besides being canonical: its id, and the lengths of detail, payload and media type.
pub(crate) fn check_bounds(
    id: &ReceiptId,
    detail: &[u8],
    payload: Option<(u32, &str)>,
) -> Result<(), StatementError> {
    let too_long = |field, bytes, limit| Err(StatementError::TooLong { field, bytes, limit });
    if !id.is_admissible() {
        return Err(StatementError::Id(id.to_string()));
    }
    if detail.len() > DETAIL_BYTES_MAX {
        return too_long("detail", detail.len(), DETAIL_BYTES_MAX);
    }
    if let Some((bytes, media)) = payload {
        if media.len() > MEDIA_BYTES_MAX || media.chars().any(char::is_control) {
            return too_long("media", media.len(), MEDIA_BYTES_MAX);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > PAYLOAD_BYTES_MAX {
            return too_long("payload", bytes, PAYLOAD_BYTES_MAX);
        }
    }
    Ok(())
}

/// A statement in the making: everything but who, when and in which fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// What it says.
    pub kind: Kind,
    /// Revision of the detail.
    pub schema: u16,
    /// How the ledger knows.
    pub grade: Grade,
    /// What it is about.
    pub subject: Subject,
    /// The receipt that led here.
    pub cause: Option<ReceiptId>,
    /// Trace context.
    pub trace: Option<Trace>,
    /// Encoded detail.
    pub detail: Vec<u8>,
    /// Media type and bytes of the free part.
    pub content: Option<(String, Vec<u8>)>,
    /// A fixed id (derived, or the caller's own for idempotency); otherwise a fresh one is drawn.
    pub id: Option<ReceiptId>,
    /// A fixed salt for the payload, where the detail names the commitment; otherwise a fresh one is drawn.
    pub salt: Option<[u8; 32]>,
}

impl Draft {
    /// A draft of a kind in the catalogue.
    ///
    /// ```
    /// use ledger_core::{Draft, Subject, kinds::NodeBooted};
    /// let booted = NodeBooted { nonce: [1; 16], os_boot_id: "b".into(), version: "0.1.0".into() };
    /// assert_eq!(Draft::of(&booted, Subject::new("node/mini").unwrap()).kind.as_str(), "node.booted");
    /// ```
    pub fn of<D: Detail>(detail: &D, subject: Subject) -> Self {
        Self {
            kind: Kind::new(D::KIND).expect("the catalogue's names are valid"),
            schema: D::SCHEMA,
            grade: Grade::FirstHand,
            subject,
            cause: None,
            trace: None,
            detail: canonical::encode(detail),
            content: None,
            id: None,
            salt: None,
        }
    }

    /// A draft of an embedder's own kind (`x.`); its content is the payload.
    pub fn custom(kind: Kind, subject: Subject) -> Self {
        Self {
            kind,
            schema: 1,
            grade: Grade::FirstHand,
            subject,
            cause: None,
            trace: None,
            detail: Vec::new(),
            content: None,
            id: None,
            salt: None,
        }
    }

    /// Adds the free part. For custom kinds the media type is the detail too.
    ///
    /// # Errors
    /// [`StatementError::TooLong`] past 65,536 bytes of payload or 64 bytes of media type.
    pub fn payload(mut self, media: &str, bytes: Vec<u8>) -> Result<Self, StatementError> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(StatementError::TooLong {
                field: "payload",
                bytes: bytes.len(),
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        if media.len() > MEDIA_BYTES_MAX {
            return Err(StatementError::TooLong {
                field: "media",
                bytes: media.len(),
                limit: MEDIA_BYTES_MAX,
            });
        }
        if self.kind.is_custom() {
            self.detail = media.as_bytes().to_vec();
        }
        self.content = Some((media.to_owned(), bytes));
        Ok(self)
    }

    /// Names the receipt that led here.
    #[must_use]
    pub fn cause(mut self, cause: ReceiptId) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Fixes the id, so that saying it twice is saying it once.
    #[must_use]
    pub fn id(mut self, id: ReceiptId) -> Self {
        self.id = Some(id);
        self
    }

    /// Fixes the payload's salt. Who uses one salt for two payloads tells whether they are equal.
    #[must_use]
    pub fn salt(mut self, salt: [u8; 32]) -> Self {
        self.salt = Some(salt);
        self
    }

    /// Sets the grade.
    #[must_use]
    pub fn grade(mut self, grade: Grade) -> Self {
        self.grade = grade;
        self
    }

    /// Sets the trace context.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Completes the statement. `fresh_id` is used unless the draft has its own; `authored_at` is in microseconds since
    /// 1970; `salt` hides the payload's content from whoever sees only the commitment.
    ///
    /// # Errors
    /// [`StatementError`] when a field breaks its bound.
    pub fn into_statement(
        self,
        fleet: FleetId,
        author: PublicKey,
        fresh_id: ReceiptId,
        authored_at: i64,
        salt: [u8; 32],
    ) -> Result<AuthoredStatement, StatementError> {
        let salt = self.salt.unwrap_or(salt);
        let (payload_ref, payload) = match self.content {
            None => (None, None),
            Some((media, bytes)) => {
                let commitment = digest::commitment(&salt, &bytes);
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                (
                    Some(PayloadRef {
                        commitment,
                        bytes: length,
                        media,
                    }),
                    Some(Payload {
                        salt: Salt(salt),
                        bytes,
                    }),
                )
            }
        };
        let statement = Statement {
            version: 1,
            fleet,
            id: self.id.unwrap_or(fresh_id),
            kind: self.kind,
            schema: self.schema,
            grade: self.grade,
            author,
            subject: self.subject,
            authored_at,
            cause: self.cause,
            trace: self.trace,
            detail: self.detail,
            payload: payload_ref,
        };
        statement.check()?;
        let bytes = statement.encode();
        Ok(AuthoredStatement {
            digest: digest::statement_digest(&bytes),
            bytes,
            statement,
            payload,
        })
    }
}

/// A complete statement, not signed by its author (yet, or at all when the author is the log's own machine).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthoredStatement {
    /// The statement.
    pub statement: Statement,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: StatementDigest,
    /// The free part with its salt.
    pub payload: Option<Payload>,
}

impl AuthoredStatement {
    /// Signs it as its author.
    ///
    /// # Panics
    /// When `key` is not the author's: that would be a statement nobody can verify.
    pub fn sign(self, key: &SigningKey) -> SignedStatement {
        assert!(
            key.public() == self.statement.author,
            "a statement is signed by its author's key"
        );
        let signature = signature::sign_statement(key, &self.digest);
        SignedStatement {
            bytes: self.bytes,
            signature,
            payload: self.payload,
        }
    }
}

/// A statement with its author's signature, as it travels to the log that will seal it. Not verified yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedStatement {
    /// The statement's bytes.
    pub bytes: Vec<u8>,
    /// The author's signature over their digest.
    pub signature: Signature,
    /// The free part with its salt, when there is one.
    pub payload: Option<Payload>,
}

impl SignedStatement {
    /// Decodes, checks and strictly verifies it, and matches the payload with its commitment.
    ///
    /// # Errors
    /// [`StatementError`] naming the first fault.
    pub fn verify(self) -> Result<VerifiedStatement, StatementError> {
        let statement = Statement::decode(&self.bytes)?;
        let digest = digest::statement_digest(&self.bytes);
        let key = statement.author.verifier()?;
        if !signature::verify_statement(&key, &digest, &self.signature) {
            return Err(StatementError::Signature {
                id: statement.id.to_string(),
                author: statement.author.to_hex(),
            });
        }
        match (&statement.payload, &self.payload) {
            (None, None) => {}
            (Some(wanted), Some(payload)) if payload.matches(wanted) => {}
            _ => {
                return Err(StatementError::Payload {
                    id: statement.id.to_string(),
                });
            }
        }
        Ok(VerifiedStatement {
            statement,
            digest,
            signed: self,
        })
    }
}

/// A signed statement whose signature and payload were checked; only [`SignedStatement::verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedStatement {
    statement: Statement,
    digest: StatementDigest,
    signed: SignedStatement,
}

impl VerifiedStatement {
    /// What it says.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> StatementDigest {
        self.digest
    }

    /// Its bytes, signature and payload.
    pub fn signed(&self) -> &SignedStatement {
        &self.signed
    }
}
