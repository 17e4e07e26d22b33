//! Receipts.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A receipt, in a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The author's id for it.
    pub id: String,
    /// What it says.
    pub kind: String,
    /// What it says, as a sentence for a person.
    pub line: String,
    /// What came out of it: paths with the beginning of their digest.
    pub outputs: Vec<String>,
    /// Revision of the kind's detail.
    pub schema: u16,
    /// `first-hand`, `imported` or `telemetry`.
    pub grade: String,
    /// What it is about.
    pub subject: String,
    /// When the log sealed it, in milliseconds' precision.
    pub time: String,
    /// The same by the hybrid clock: 48 bits of milliseconds, 16 of counter, in decimal. Order across machines.
    pub hlc: String,
    /// When the author said it, by the author's clock.
    pub authored_at: String,
    /// Who says it: the key's name, where one is known.
    pub actor: String,
    /// Who says it: the key.
    pub author: String,
    /// The machine whose log it is.
    pub machine: String,
    /// `work`, `facts`, `pulse` or `order`.
    pub stream: String,
    /// The log.
    pub log: String,
    /// Its place in the log.
    pub seq: u64,
    /// The digest of its seal.
    pub seal: String,
    /// The receipt that led here.
    pub cause: Option<String>,
    /// The typed part; for a custom kind the media type; `{"raw": hex}` when this program does not know the kind.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// The free part: what the statement says of it.
    pub payload: Option<PayloadView>,
}

/// What a statement says of its payload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PayloadView {
    /// The commitment: digest of salt and content.
    pub commitment: String,
    /// Size of the content in bytes.
    pub bytes: u32,
    /// Its media type.
    pub media: String,
}

/// A receipt with its payload and its bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptFull {
    /// What a list says of it.
    #[serde(flatten)]
    pub receipt: Receipt,
    /// `none`, `present`, `erased`, `absent` (this store does not have it) or `damaged`.
    pub payload_state: String,
    /// The payload, when it is present.
    pub content: Option<Content>,
    /// Its place in the answering store's journal.
    pub position: String,
    /// The exact bytes of the record, in base64.
    pub record: String,
}

/// Bytes as JSON, text or base64: exactly one of the three is there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Content {
    /// The media type.
    pub media: String,
    /// The value, when the media type is JSON and the bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub json: Option<Value>,
    /// The text, when the bytes are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, in all other cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}
