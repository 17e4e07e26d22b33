//! What is handed in, and what is answered.

use super::{Job, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A statement that its author signed elsewhere. Taken at every door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBody {
    /// The statement's canonical bytes, in base64.
    pub statement: String,
    /// The author's signature, 128 hex characters.
    pub signature: String,
    /// The payload, when the statement commits to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<SaidPayload>,
}

/// A payload beside its statement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaidPayload {
    /// 32 bytes of salt, 64 hex characters.
    pub salt: String,
    /// The content, in base64.
    pub bytes: String,
}

/// A request, at the local door: signed by the machine's local actor.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestBody {
    /// The handler.
    pub handler: String,
    /// The input: any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub input: Option<Value>,
    /// Higher is sooner; 0 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Only this machine may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Only machines whose handler has all these labels may run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How many attempts it may have; 1 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
    /// At most one unfinished job has this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Jobs with one key run one at a time, or as many as the key's limit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// Jobs that must succeed before, by their ids; at most 16, and only such as exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Hold instead of cancel when one of them ends without success.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold_on_failed_dependency: bool,
    /// Not before, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Expired after, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Whose costs the job's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The caller's own id (UUIDv7), so that asking twice is asking once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What became of a request. The receipt is durable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Requested {
    /// The job.
    pub job: String,
    /// The request's receipt.
    pub receipt: String,
    /// Where the job stands, as a sentence.
    pub answer: String,
    /// The stable word for that sentence.
    pub answer_code: String,
    /// `local`: on this disk. `replicated`: also elsewhere.
    pub standing: String,
    /// Whether the same request was here before.
    pub repeated: bool,
}

/// What `POST /v1/requests` takes: plain at the local door, signed at every door.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RequestSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(RequestBody),
}

/// What `POST /v1/receipts` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AppendSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(AppendBody),
}

/// What `POST /v1/jobs/{id}/cancel` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CancelSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(CancelBody),
}

/// A receipt of a custom kind, at the local door: signed by the machine's local actor.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppendBody {
    /// The kind; begins with `x.`.
    pub kind: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The payload's media type. If not said: `application/json` for `payload`, `application/octet-stream` for
    /// `payload_base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
    /// The payload: any JSON; with a media type of `text/*`, a string, taken as its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Value>,
    /// The payload as bytes, in base64; instead of `payload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The receipt that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The caller's own id (UUIDv7), so that saying it twice is saying it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What became of a statement. The receipt is durable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Appended {
    /// The receipt.
    pub receipt: Receipt,
    /// `local`: on this disk. `replicated`: also elsewhere.
    pub standing: String,
    /// Whether the same statement was here before.
    pub repeated: bool,
}

/// To stop a job, at the local door: signed by the machine's local actor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    /// Do not wait for the machine that runs it.
    #[serde(default)]
    pub force: bool,
    /// Why, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// What became of the wish to stop a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cancelled {
    /// The job as it stands now.
    pub job: Job,
    /// The receipt of the wish.
    pub receipt: Receipt,
    /// `local` or `replicated`.
    pub standing: String,
}
