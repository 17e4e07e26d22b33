//! An embedder's own kinds as types: encoded when they are said, decoded and brought up to date when they are read.
//!
//! Owns how content of a type becomes the payload of a custom kind (`x.`) and comes back. The revision of the content, its
//! schema, is a parameter of the media type (`application/json; schema=3`; without one it is 1), since the statement of
//! a custom kind has schema 1 for ever. Decoding and upcasting are pure: the same bytes give the same value on every
//! path, whether they come from a store, a range, a tail or somewhere else ([`Content::parse`]). Does not know what the
//! content means, and never lets it into a [`State`](crate::State): content can be erased, and no fold may depend on what can go.
//!
//! ```
//! use ledger::core::Subject;
//! use ledger::typed::{Content, Typed, TypedError, TypedKind};
//! use ledger::{Ledger, Position};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct ToolCall {
//!     tool: String,
//!     took_us: u64, // schema 1 had milliseconds
//! }
//!
//! #[derive(Deserialize)]
//! struct ToolCallV1 {
//!     tool: String,
//!     took_ms: u64,
//! }
//!
//! impl TypedKind for ToolCall {
//!     const KIND: &'static str = "x.tool.call";
//!     const SCHEMA: u16 = 2;
//!
//!     fn upcast(older: &Content<'_>) -> Result<Self, TypedError> {
//!         match older.schema() {
//!             1 => {
//!                 let v1: ToolCallV1 = older.decode()?;
//!                 Ok(Self { tool: v1.tool, took_us: v1.took_ms * 1000 })
//!             }
//!             _ => Err(older.unknown(Self::SCHEMA)),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let ledger = Ledger::lone(dir.path().join("log"), "my-agent")?;
//! let call = ToolCall { tool: "search".into(), took_us: 1200 };
//! let receipt = ledger.append(call.draft(Subject::new("chat/1")?)?)?;
//! assert_eq!(ledger.typed::<ToolCall>(&receipt)?, Typed::Value(call));
//!
//! // What an older version of the program said reads as today's type.
//! let old = Content::parse("x.tool.call", "application/json", br#"{"tool":"ls","took_ms":3}"#)?;
//! assert_eq!(old.into_value::<ToolCall>()?.took_us, 3000);
//!
//! // Over everything that the store has; other kinds are passed over.
//! let mut total_us = 0;
//! for step in ledger.typed_scan::<ToolCall>(Position::START) {
//!     let (_receipt, call) = step?;
//!     total_us += call.value().map_or(0, |call| call.took_us);
//! }
//! assert_eq!(total_us, 1200);
//! # Ok(()) }
//! ```

mod error;
mod said;

pub use error::TypedError;
pub use said::{Typed, TypedReceipt};

use ledger_core::{Draft, Kind, Subject};
use serde::{Serialize, de::DeserializeOwned};

/// The parameter of the media type that names the revision of the content.
const SCHEMA_PARAMETER: &str = "schema";

/// How content becomes bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Codec {
    /// JSON: for people's eyes, other languages and other programs.
    #[default]
    Json,
    /// [postcard](https://postcard.jamesmunns.com): a fraction of the size; fields have neither names nor defaults, so that
    /// every change of the type is a new schema.
    Postcard,
}

impl Codec {
    /// Its media type, without parameters.
    pub fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Postcard => "application/x-postcard",
        }
    }

    fn of_media(essence: &str) -> Option<Self> {
        [Self::Json, Self::Postcard]
            .into_iter()
            .find(|codec| essence.eq_ignore_ascii_case(codec.media()))
    }

    fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, String> {
        match self {
            Self::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
            Self::Postcard => postcard::to_allocvec(value).map_err(|e| e.to_string()),
        }
    }

    fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
            Self::Postcard => match postcard::take_from_bytes(bytes) {
                Ok((value, [])) => Ok(value),
                Ok((_, rest)) => Err(format!("{} bytes remain", rest.len())),
                Err(e) => Err(e.to_string()),
            },
        }
    }
}

/// Content of one of the embedder's own kinds. See the [module](crate::typed) for an example.
///
/// The name and the number are checked when the program is compiled:
///
/// ```compile_fail
/// # use ledger::{core::Subject, typed::TypedKind};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Stolen;
/// impl TypedKind for Stolen {
///     const KIND: &'static str = "job.succeeded"; // reserved: the embedder's kinds begin with "x."
///     const SCHEMA: u16 = 1;
/// }
/// let _ = Stolen.draft(Subject::new("job/1").unwrap());
/// ```
pub trait TypedKind: Serialize + DeserializeOwned {
    /// The kind's name: `x.` and 1 to 62 characters of `a-z`, `0-9`, `.` and `-`.
    const KIND: &'static str;
    /// The revision of the content that this type is, from 1. A change that older bytes do not decode under is a new one.
    const SCHEMA: u16;
    /// How content of this revision is encoded. Older revisions may have had another one.
    const CODEC: Codec = Codec::Json;

    /// Makes today's value of content of another schema than [`TypedKind::SCHEMA`]. Pure: the same content gives the same
    /// value for ever. Unless it is written, only today's schema is known.
    ///
    /// # Errors
    /// [`Content::unknown`] for a schema that it does not know.
    fn upcast(older: &Content<'_>) -> Result<Self, TypedError> {
        Err(older.unknown(Self::SCHEMA))
    }

    /// A draft that says this. Its cause, id and grade may be set as on every draft.
    ///
    /// Give one value one encoding (a `BTreeMap` and no `HashMap`): content under an id of your own is compared by its bytes.
    ///
    /// # Errors
    /// [`TypedError::Unencodable`]; [`TypedError::Statement`] past 65,536 bytes.
    fn draft(&self, subject: Subject) -> Result<Draft, TypedError> {
        const { assert_valid(Self::KIND, Self::SCHEMA) };
        let bytes = Self::CODEC.encode(self).map_err(|why| TypedError::Unencodable {
            kind: Self::KIND,
            why,
        })?;
        let media = media(Self::CODEC, Self::SCHEMA);
        let kind = Kind::new(Self::KIND)?;
        Ok(Draft::custom(kind, subject).payload(&media, bytes)?)
    }
}

const fn assert_valid(kind: &str, schema: u16) {
    let name = kind.as_bytes();
    assert!(
        name.len() > 2 && name[0] == b'x' && name[1] == b'.',
        "a typed kind begins with `x.`"
    );
    assert!(
        name.len() <= ledger_core::limits::KIND_BYTES_MAX,
        "a kind has at most 64 bytes"
    );
    let mut at = 0;
    while at < name.len() {
        let allowed = name[at].is_ascii_lowercase()
            || name[at].is_ascii_digit()
            || name[at] == b'.'
            || name[at] == b'-';
        assert!(allowed, "a kind is written in `a-z`, `0-9`, `.` and `-`");
        at += 1;
    }
    assert!(schema > 0, "schemas count from 1");
}

// One schema, one spelling.
fn media(codec: Codec, schema: u16) -> String {
    match schema {
        1 => codec.media().to_owned(),
        later => format!("{}; {SCHEMA_PARAMETER}={later}", codec.media()),
    }
}

/// What was said under a kind, with the schema that its media type names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content<'a> {
    kind: &'a str,
    schema: u16,
    codec: Codec,
    bytes: &'a [u8],
}

impl<'a> Content<'a> {
    /// Takes the parts as a receipt has them. Parameters of the media type other than `schema` are passed over.
    ///
    /// # Errors
    /// [`TypedError::Media`] for a media type that no [`Codec`] has, or a schema that is no number from 1 to 65,535.
    pub fn parse(kind: &'a str, media: &str, bytes: &'a [u8]) -> Result<Self, TypedError> {
        let strange = || TypedError::Media {
            kind: kind.to_owned(),
            media: media.to_owned(),
        };
        let mut parts = media.split(';').map(str::trim);
        let codec = parts.next().and_then(Codec::of_media).ok_or_else(strange)?;
        let mut schema = 1;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.trim_end().eq_ignore_ascii_case(SCHEMA_PARAMETER) {
                schema = value.trim().parse().ok().filter(|n| *n > 0).ok_or_else(strange)?;
            }
        }
        Ok(Self {
            kind,
            schema,
            codec,
            bytes,
        })
    }

    /// The kind.
    pub fn kind(&self) -> &'a str {
        self.kind
    }

    /// The revision that it was said in.
    pub fn schema(&self) -> u16 {
        self.schema
    }

    /// How it is encoded.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The value as a type that the caller knows to fit the schema: what an upcaster begins with.
    ///
    /// # Errors
    /// [`TypedError::Malformed`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, TypedError> {
        self.codec
            .decode(self.bytes)
            .map_err(|why| TypedError::Malformed {
                kind: self.kind.to_owned(),
                schema: self.schema,
                why,
                content: self.bytes.to_vec(),
            })
    }

    /// Today's value: decoded, and upcast when it was said in another schema.
    ///
    /// # Errors
    /// [`TypedError::Kind`], [`TypedError::Schema`], [`TypedError::Malformed`].
    pub fn into_value<T: TypedKind>(self) -> Result<T, TypedError> {
        const { assert_valid(T::KIND, T::SCHEMA) };
        if self.kind != T::KIND {
            return Err(TypedError::Kind {
                expected: T::KIND,
                found: self.kind.to_owned(),
            });
        }
        if self.schema == T::SCHEMA {
            self.decode()
        } else {
            T::upcast(&self)
        }
    }

    /// The error of an upcaster that does not know this schema; `newest` is the one that it does know.
    pub fn unknown(&self, newest: u16) -> TypedError {
        TypedError::Schema {
            kind: self.kind.to_owned(),
            schema: self.schema,
            newest,
            content: self.bytes.to_vec(),
        }
    }
}

// A media type with the largest schema is within the bound of media types.
const _: () = assert!("application/x-postcard; schema=65535".len() <= ledger_core::limits::MEDIA_BYTES_MAX);
