//! The job queue: states, the table of what each event does in each state, the fold, and the pure deciders.
//!
//! `state` holds the rows and their indexes, `table` the transitions as data, `fold` applies the order's receipts by it,
//! `decide` answers commands with drafts for the order, `answer` tells a submitter where a job stands.

mod answer;
pub mod decide;
mod dependencies;
mod fold;
mod index;
mod job;
mod limits;
mod policy;
mod refusal;
mod state;
pub mod table;

pub(crate) use answer::counted;
pub use answer::{Answer, answer_for};
pub use dependencies::Dependency;
pub(crate) use fold::{At, Folded};
pub use job::{Claim, Handler, Job, JobState, Judged, LABEL_BACKUP, Lease, RunVerdict, Standing, Success};
pub use limits::{Limit, Pause};
pub(crate) use policy::micros;
pub use policy::{Phases, Policy};
pub use refusal::Refusal;
pub use state::Queue;
pub use table::{Event, Outcome, Phase};
