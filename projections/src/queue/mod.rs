//! The job queue: states, the table of what each event does in each state, the fold, and the pure deciders.
//!
//! `state` holds the rows and their indexes, `table` the transitions as data, `fold` applies the order's receipts by it,
//! `decide` answers commands with drafts for the order, `answer` tells a submitter where a job stands.

mod answer;
pub mod decide;
mod fold;
mod policy;
mod refusal;
mod state;
pub mod table;

pub use answer::{Answer, answer_for};
pub(crate) use fold::{At, Folded};
pub use policy::Policy;
pub(crate) use policy::micros;
pub use refusal::Refusal;
pub use state::{
    Claim, Handler, Job, JobState, Judged, LABEL_BACKUP, Lease, Queue, RunVerdict, Standing, Success,
};
pub use table::{Event, Outcome, Phase};
