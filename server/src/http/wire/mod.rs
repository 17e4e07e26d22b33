//! What the API says and is told, as types: one file for each resource.
//!
//! Owns: the JSON of every request and answer. Contract: fields are only ever added; ids are UUIDs, digests and keys are
//! lower-case hex, times are RFC 3339 in UTC with microseconds, bytes are base64, and counts that may pass 2^53 are text.
//! Does not: read the store; the handlers fill these, the typed client reads them.

mod cost;
mod envelope;
mod erase;
mod event;
mod export;
mod job;
mod node;
mod notice;
mod problem;
mod proofs;
mod query;
mod receipt;
mod retention;
mod said;
mod schedule;
mod status;
mod steer;
mod vault;

pub use cost::{CostGroup, CostSums, CostsQuery, CostsTold};
pub use envelope::{Answer, AsOf, Page};
pub use erase::{EraseBody, Erased};
pub use event::Event;
pub use export::{ExportBody, Exported, ImportBody, Imported};
pub use job::{AbsentEvidence, Attempt, Costs, Job, JobFull, Output, RawRecord};
pub use node::{
    Away, Gauges, HandlerView, Node, RestBody, RestWhat, Rested, ServiceView, Unwatched, Uptime, WishBody,
    WishSaid, Wished,
};
pub use notice::{Notice, NoticeDelivery, NoticesQuery, Seen, SeenBody, SeenSaid};
pub use problem::Problem;
pub use proofs::{LogKey, ProveBody, Proved, PublishBody, PublishedLog};
pub use query::{EventsQuery, JobQuery, JobsQuery, ReceiptsQuery, UptimeQuery, VaultQuery};
pub use receipt::{Content, PayloadView, Receipt, ReceiptFull};
pub use retention::{Policy, PulseLog, Retention, RetentionBody, RetentionRun, RetentionSaid, RetentionSet};
pub use said::{
    AppendBody, AppendSaid, Appended, CancelBody, CancelSaid, Cancelled, RequestBody, RequestSaid, Requested,
    SaidPayload, SignedBody,
};
pub use schedule::{Schedule, ScheduleBody, ScheduleFull, ScheduleSaid, ScheduleSet, TickView};
pub use status::{
    Boot, Cosignature, Counts, Disk, Health, JobsHere, Link, LogHead, Outbox, ProjectionView, Ready, Status,
    Verification, Warning, Witnessed,
};
pub use steer::{
    Drained, HandlerOn, HandlerRow, HandlerSteered, LimitBody, LimitSaid, LimitView, Limited, PauseBody,
    PauseSaid, PauseView, RateView, RetryBody, RetrySaid, Steered,
};
pub use vault::{Artifact, ScanBody, Scanned};
