//! Digests, one `blake3::derive_key` context for each use, so that no digest can pass for another.
//!
//! The context strings are part of the format (`docs/FORMAT.md`). [`ContentDigest`] alone is plain BLAKE3, so that
//! `b3sum` gives the same value for a file of the Vault.

use crate::id::ReceiptId;
use blake3::hazmat::{HasherExt, hash_derive_key_context};
use std::sync::LazyLock;

mod lanes;

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Lower-case hex, 64 characters.
            pub fn to_hex(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }
            /// Reads 64 hex characters; `None` for anything else.
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
                Some(Self(bytes.try_into().ok()?))
            }
            /// The first eight hex characters, for a person's eyes.
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..4])
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.serialize_str(&self.to_hex()) } else { self.0.serialize(s) }
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                    Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("64 hex characters expected"))
                } else {
                    <[u8; 32]>::deserialize(d).map(Self)
                }
            }
        }
    };
}
pub(crate) use bytes32;

bytes32! {
    /// Names a fleet: digest of root key, recovery key and 16 random bytes.
    FleetId
}
bytes32! {
    /// Names a log: digest of its genesis statement.
    LogId
}
bytes32! {
    /// Digest of a statement's bytes.
    StatementDigest
}
bytes32! {
    /// Digest of a seal's bytes; the next record's `prev`.
    SealDigest
}
bytes32! {
    /// Salted digest of a payload: digest of (32 bytes of salt, payload).
    Commitment
}
bytes32! {
    /// Plain BLAKE3 of a file's content, as `b3sum` prints it.
    ContentDigest
}
bytes32! {
    /// RFC 6962 root of a log's tree (SHA-256).
    TreeRoot
}

impl SealDigest {
    /// What seq 0 names as its previous seal.
    pub const ZERO: SealDigest = SealDigest([0; 32]);
}

/// Context of [`FleetId`].
pub const CONTEXT_FLEET: &str = "ledger v1 fleet id";
/// Context of [`LogId`].
pub const CONTEXT_LOG: &str = "ledger v1 log id";
/// Context of [`StatementDigest`].
pub const CONTEXT_STATEMENT: &str = "ledger v1 statement digest";
/// Context of [`SealDigest`].
pub const CONTEXT_SEAL: &str = "ledger v1 seal digest";
/// Context of [`Commitment`].
pub const CONTEXT_PAYLOAD: &str = "ledger v1 payload commitment";
/// Context of derived receipt ids (UUIDv8).
pub const CONTEXT_ID: &str = "ledger v1 derived id";
/// Context of secrets that are stored as digests only: bearer tokens and invitation codes.
pub const CONTEXT_SECRET: &str = "ledger v1 secret digest";
/// Context of a run's manifest of outputs.
pub const CONTEXT_MANIFEST: &str = "ledger v1 outputs manifest";
/// Context of a path's digest.
pub const CONTEXT_PATH: &str = "ledger v1 path digest";
/// Context of a fold's running digest (derived data; in no record).
pub const CONTEXT_FOLD: &str = "ledger v1 fold digest";

static KEY_LOG: LazyLock<[u8; 32]> = LazyLock::new(|| hash_derive_key_context(CONTEXT_LOG));
static KEY_STATEMENT: LazyLock<[u8; 32]> = LazyLock::new(|| hash_derive_key_context(CONTEXT_STATEMENT));
static KEY_SEAL: LazyLock<[u8; 32]> = LazyLock::new(|| hash_derive_key_context(CONTEXT_SEAL));
static KEY_PAYLOAD: LazyLock<[u8; 32]> = LazyLock::new(|| hash_derive_key_context(CONTEXT_PAYLOAD));

// The context's key is hashed once for each process: it would be a third of the cost of a short digest.
fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_from_context_key(key);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn derived(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    keyed(&hash_derive_key_context(context), parts)
}

/// The fleet's id from its root key, its recovery key and 16 random bytes.
pub fn fleet_id(root: &[u8; 32], recovery: &[u8; 32], nonce: &[u8; 16]) -> FleetId {
    FleetId(derived(CONTEXT_FLEET, &[root, recovery, nonce]))
}

/// The log's id from the bytes of its genesis statement.
pub fn log_id(genesis_statement: &[u8]) -> LogId {
    LogId(keyed(&KEY_LOG, &[genesis_statement]))
}

/// The digest of a statement's bytes.
pub fn statement_digest(bytes: &[u8]) -> StatementDigest {
    StatementDigest(keyed(&KEY_STATEMENT, &[bytes]))
}

/// The digest of a seal's bytes.
pub fn seal_digest(bytes: &[u8]) -> SealDigest {
    SealDigest(keyed(&KEY_SEAL, &[bytes]))
}

/// The commitment to a payload under its salt.
pub fn commitment(salt: &[u8; 32], payload: &[u8]) -> Commitment {
    Commitment(keyed(&KEY_PAYLOAD, &[salt, payload]))
}

/// [`statement_digest`] of each, several at once.
pub fn statement_digests(statements: &[&[u8]]) -> Vec<StatementDigest> {
    let digests = lanes::digests(&KEY_STATEMENT, statements);
    digests.into_iter().map(StatementDigest).collect()
}

/// [`seal_digest`] of each, several at once.
pub fn seal_digests(seals: &[&[u8]]) -> Vec<SealDigest> {
    let digests = lanes::digests(&KEY_SEAL, seals);
    digests.into_iter().map(SealDigest).collect()
}

/// [`commitment`] of each, several at once; each is 32 bytes of salt and then the payload.
pub fn commitments(salted: &[&[u8]]) -> Vec<Commitment> {
    let digests = lanes::digests(&KEY_PAYLOAD, salted);
    digests.into_iter().map(Commitment).collect()
}

/// Plain BLAKE3 of content.
pub fn content_digest(content: &[u8]) -> ContentDigest {
    ContentDigest(*blake3::hash(content).as_bytes())
}

/// Digest of a secret (bearer token, invitation code); the secret itself is never stored.
pub fn secret_digest(secret: &[u8]) -> [u8; 32] {
    derived(CONTEXT_SECRET, &[secret])
}

/// Digest of a Vault path's bytes.
pub fn path_digest(path: &str) -> [u8; 32] {
    derived(CONTEXT_PATH, &[path.as_bytes()])
}

/// Digest of a run's outputs: for each, in the order of their paths, path length (u16 be), path, content digest, size
/// (u64 be).
///
/// ```
/// let manifest = ledger_core::digest::outputs_manifest([("a.txt", ledger_core::ContentDigest([1; 32]), 5)]);
/// assert_ne!(manifest, ledger_core::digest::outputs_manifest([]));
/// ```
pub fn outputs_manifest<'a>(outputs: impl IntoIterator<Item = (&'a str, ContentDigest, u64)>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_MANIFEST);
    for (path, content, size) in outputs {
        let length = u16::try_from(path.len()).expect("paths are at most 1024 bytes");
        hasher
            .update(&length.to_be_bytes())
            .update(path.as_bytes())
            .update(&content.0)
            .update(&size.to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A fold's running digest: the one before, then parts, each preceded by its length (u64 be).
pub fn fold_digest(previous: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_FOLD);
    hasher.update(previous);
    for part in parts {
        let length = u64::try_from(part.len()).expect("a length fits 64 bits");
        hasher.update(&length.to_be_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A UUIDv8 derived from parts, each preceded by its length (u32 be), so that the same cause gives the same id.
pub fn derived_id(parts: &[&[u8]]) -> ReceiptId {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_ID);
    for part in parts {
        let length = u32::try_from(part.len()).expect("parts of ids are short");
        hasher.update(&length.to_be_bytes()).update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    ReceiptId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_its_own_domain() {
        let digests = [
            log_id(b"x").0,
            statement_digest(b"x").0,
            seal_digest(b"x").0,
            content_digest(b"x").0,
        ];
        for (i, a) in digests.iter().enumerate() {
            assert!(digests[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn the_cached_context_key_equals_derive_key() {
        assert_eq!(
            seal_digest(b"bytes").0,
            blake3::derive_key(CONTEXT_SEAL, b"bytes")
        );
    }

    #[test]
    fn derived_ids_are_uuid_v8_and_separate_their_parts() {
        let id = derived_id(&[b"ab", b"c"]);
        assert_eq!(id.as_uuid().get_version_num(), 8);
        assert_ne!(id, derived_id(&[b"a", b"bc"]));
    }
}
