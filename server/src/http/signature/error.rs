//! Why a signed message is refused.
//!
//! Owns: the one error of signing and verifying HTTP messages, with a stable code for the server's own log. Contract:
//! no text of the peer is ever repeated in a message, only names of this profile, numbers and sizes. Outward all of
//! this is [`SignatureError::status`] and nothing more, so that a stranger learns nothing from a refusal.
//! Does not: write the answer; that is the router's.

use http::{HeaderName, StatusCode};

use super::nonce::NonceError;

/// Why a message could not be signed, or was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A header that the profile demands is absent.
    #[error("expected one `{name}` header, found none; add it before signing")]
    HeaderMissing {
        /// The header.
        name: HeaderName,
    },
    /// A header that must stand alone is there more than once.
    #[error("expected one `{name}` header, found several; send one")]
    HeaderRepeated {
        /// The header.
        name: HeaderName,
    },
    /// A header is longer than its bound.
    #[error("expected `{name}` of at most {bytes_max} bytes, found {bytes}; shorten it")]
    HeaderTooLong {
        /// The header.
        name: HeaderName,
        /// Its length, in bytes.
        bytes: usize,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// A header does not have the form that the profile demands.
    #[error("expected `{name}` to be {expected}, found another form; send exactly that form")]
    HeaderMalformed {
        /// The header.
        name: HeaderName,
        /// The form it should have.
        expected: &'static str,
    },
    /// Path and query together are longer than their bound.
    #[error("expected a target of at most {bytes_max} bytes, found {bytes}; shorten path or query")]
    TargetTooLong {
        /// Length of path and query, in bytes.
        bytes: usize,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// The address of the server is unusable, or differs between the target and `Host`.
    #[error(
        "expected one authority `host` or `host:port`, the same in target and `host` header, found another; send one"
    )]
    Authority,
    /// The covered components are not those of the profile, in its order.
    #[error(
        "expected exactly the profile's covered components in its order, found {found} others; cover those and no more"
    )]
    Components {
        /// How many components the message covers.
        found: usize,
    },
    /// The signature parameters are not those of the profile.
    #[error(
        "expected {expected} signature parameters, found {found}; send each of the profile's once and no others"
    )]
    Parameters {
        /// How many the profile has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A signature parameter is absent or has a wrong value.
    #[error("expected signature parameter `{name}` to be {expected}, found something else; send that")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The boot id is not this server's: the server restarted, or the request was meant for another one.
    #[error("expected this server's boot id, found another; fetch GET /v1/boot and sign anew")]
    BootUnknown,
    /// The time of signing is too far from now.
    #[error(
        "expected `created` within {skew_s} s of {now_s}, found {created_s}; set the clock right and sign anew"
    )]
    OutOfWindow {
        /// Time of signing, seconds since 1970.
        created_s: i64,
        /// The verifier's clock, seconds since 1970.
        now_s: i64,
        /// Allowed difference, seconds.
        skew_s: u32,
    },
    /// The message's own end has passed.
    #[error("expected a request that has not ended by {now_s}, found its end at {expires_s}; sign anew")]
    Expired {
        /// The end, seconds since 1970.
        expires_s: i64,
        /// The verifier's clock, seconds since 1970.
        now_s: i64,
    },
    /// Nobody here knows the key; no cryptography was spent on it.
    #[error("expected a key with a grant here, found {key}; join this machine or grant that key")]
    KeyUnknown {
        /// The key that the message names, as hex.
        key: String,
    },
    /// An answer names another key than the server's pinned one.
    #[error("expected an answer signed with the pinned key, found {key}; check the address and the pin")]
    KeyUnexpected {
        /// The key that the answer names, as hex.
        key: String,
    },
    /// The nonce cannot be accepted.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// A body without a covered media type, or a media type without a body.
    #[error(
        "expected a covered `content-type` exactly where there is a body, found one without the other; send both"
    )]
    BodyPresence,
    /// The body is not the one that was signed.
    #[error(
        "expected `content-digest` to be the body's SHA-256 alone, found another; send the body that was signed"
    )]
    DigestMismatch,
    /// The signature does not verify.
    #[error(
        "expected a valid Ed25519 signature over the covered components, found an invalid one; sign anew"
    )]
    SignatureInvalid,
}

impl SignatureError {
    /// The stable name of this refusal, for logs and metrics of the side that refuses; never sent to the peer.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderMissing { .. } => "signature.header_missing",
            Self::HeaderRepeated { .. } => "signature.header_repeated",
            Self::HeaderTooLong { .. } => "signature.header_too_long",
            Self::HeaderMalformed { .. } => "signature.header_malformed",
            Self::TargetTooLong { .. } => "signature.target_too_long",
            Self::Authority => "signature.authority",
            Self::Components { .. } => "signature.components",
            Self::Parameters { .. } => "signature.parameters",
            Self::Parameter { .. } => "signature.parameter",
            Self::BootUnknown => "signature.boot_unknown",
            Self::OutOfWindow { .. } => "signature.out_of_window",
            Self::Expired { .. } => "signature.expired",
            Self::KeyUnknown { .. } => "signature.key_unknown",
            Self::KeyUnexpected { .. } => "signature.key_unexpected",
            Self::Nonce(nonce) => nonce.code(),
            Self::BodyPresence => "signature.body_presence",
            Self::DigestMismatch => "signature.digest_mismatch",
            Self::SignatureInvalid => "signature.invalid",
        }
    }

    /// What a refused request is answered with: 429 when its valid signature met a full nonce cache, else one
    /// uniform 401.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Nonce(NonceError::Full { .. }) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}
