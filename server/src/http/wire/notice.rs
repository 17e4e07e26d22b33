//! Notices: what a person should know, and who was told.

use super::receipt::Receipt;
use super::said::SignedBody;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A notice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// Its id, which every sink is given with it.
    pub id: String,
    /// About what.
    pub topic: String,
    /// The machine, when it is about one.
    pub machine: Option<String>,
    /// The sentence.
    pub text: String,
    /// When it was raised.
    pub raised_at: String,
    /// Whether somebody is still to be told, or was not told and has not seen it.
    pub open: bool,
    /// When somebody had seen it.
    pub acknowledged_at: Option<String>,
    /// What came of telling each sink.
    pub deliveries: Vec<NoticeDelivery>,
}

/// What came of telling one sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NoticeDelivery {
    /// The sink.
    pub destination: String,
    /// How often it was tried.
    pub attempts: u16,
    /// Whether it took it.
    pub delivered: bool,
    /// What the last try that failed met.
    pub error: Option<String>,
}

/// Which notices.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct NoticesQuery {
    /// `open`: only those that somebody is still to be told, or was not told and has not seen.
    pub only: Option<String>,
    /// At most so many, up to 1,000; 100 if not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// That somebody has seen a notice, at the gateway's local door: signed by the local actor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeenBody {
    /// In words, at most 200 bytes.
    #[serde(default)]
    pub note: String,
}

/// What `POST /v1/notices/{id}/acknowledge` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SeenSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(SeenBody),
}

/// A notice that somebody has seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// The notice as it stands now.
    pub notice: Notice,
    /// The receipt that says so.
    pub receipt: Receipt,
}
