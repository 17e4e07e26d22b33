//! What machines say to each other, what wakes them, and what follows when a batch is durable.

use crate::store::Mark;
use ledger::Receipt;
use ledger_core::kinds::{Class, Fence, HandlerDeclared, JobId};
use ledger_core::{LogId, SealDigest};
use ledger_projections::queue::Standing;

/// Simulated microseconds since the simulation began.
pub(crate) type Us = i64;

pub(crate) const MS: Us = 1_000;
pub(crate) const SECOND: Us = 1_000 * MS;
pub(crate) const MINUTE: Us = 60 * SECOND;

/// A machine: 0 is the gateway.
pub(crate) type Who = usize;

/// The loops of a node's link; each has one exchange on its way at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Loop {
    Push,
    Pull,
    Mirror,
    Claim,
    Beat,
}

/// A request of a node.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Hello {
        logs: Vec<(LogId, Option<Mark>)>,
        order: Option<(u64, LogId, Mark)>,
        fences: Vec<Fence>,
        handlers: Vec<HandlerDeclared>,
    },
    Push {
        log: LogId,
        records: Vec<Receipt>,
    },
    Pull {
        log: LogId,
        after: Option<Mark>,
        wait: Us,
    },
    Claim {
        claim: [u8; 16],
        free: Vec<(String, u16)>,
        wait: Us,
    },
    Beat {
        fences: Vec<Fence>,
    },
}

impl Ask {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Push { .. } => "push",
            Self::Pull { .. } => "pull",
            Self::Claim { .. } => "claim",
            Self::Beat { .. } => "beat",
        }
    }
}

/// A claimed job as it travels.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) fence: Fence,
    pub(crate) job: JobId,
    pub(crate) handler: String,
    pub(crate) attempt: u16,
    pub(crate) class: Class,
}

/// The gateway's answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Hello {
        marks: Vec<(LogId, Option<Mark>)>,
        synced: bool,
        healing: bool,
    },
    Push {
        mark: Option<Mark>,
    },
    Pull {
        records: Vec<Receipt>,
        complete: bool,
    },
    Claim {
        jobs: Vec<Given>,
    },
    Beat {
        standing: Vec<(Fence, Standing)>,
        hello: bool,
    },
    /// The gateway does not serve, or what was asked does not fit.
    Refused(&'static str),
}

/// Which request a reply answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) node: Who,
    pub(crate) of: Loop,
    pub(crate) number: u64,
    /// The node's process that asked, and the gateway's that was asked.
    pub(crate) life: u32,
    pub(crate) gateway_life: u32,
}

/// What wakes a machine.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// The next batch is durable.
    Land,
    /// A loop of the link goes on.
    Go(Loop),
    /// A request got no answer.
    Timeout(Request),
    Beat,
    Pulse,
    /// The gateway's ticker.
    Tick,
    /// A long poll at the gateway ends.
    PollEnds(u64),
    /// A run comes to its end.
    RunEnds(Fence),
    /// A run writes a checkpoint.
    Checkpoint(Fence),
    /// What could not be told is told again.
    Tell(Fence),
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Ask(Request, Ask),
    Reply(Request, Reply),
    Wake(Who, u32, Timer),
    /// The workload and the faults go on.
    Client,
    Fault,
    /// A fault ends.
    Restart(Who),
    Heal(u64),
}

/// What follows when a batch is durable.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// The answer to a push: its mark is what is durable then.
    Pushed(Request, LogId),
    /// The answer to a hello that was settled.
    Greeted(Request, Vec<(LogId, Option<Mark>)>),
    /// Claims of a node, or of the gateway itself.
    Gave(Option<Request>, Vec<(Fence, JobId)>),
    /// Somebody was told that this receipt is durable.
    Promise(LogId, u64, SealDigest),
    /// Somebody was told that their request is kept.
    Asked(JobId),
    /// `run.started` is durable: the process may start.
    Begin(Fence),
    /// The end of a run is durable.
    Told(Fence),
    /// A pull was taken in; there may be more.
    Pulled(Loop, bool),
}
