//! The running deadlines of leases, and what a beat does to them.
//!
//! Deadlines are memory: after a restart every lease has one full term again, and what follows from a deadline is a receipt. All
//! times are milliseconds of a clock that counts sleep.

use crate::FleetState;
use crate::queue::{Job, Phase, Standing};
use ledger_core::MachineId;
use ledger_core::kinds::Fence;
use std::collections::BTreeMap;

/// When each lease ends.
#[derive(Clone, Debug)]
pub struct Leases {
    term_ms: u64,
    ends: BTreeMap<Fence, u64>,
}

impl Leases {
    /// None yet; each lasts a term of so many milliseconds.
    pub fn new(term_ms: u64) -> Self {
        Self {
            term_ms,
            ends: BTreeMap::new(),
        }
    }

    /// Begins or renews a lease for one term from now.
    pub fn renew(&mut self, fence: &Fence, now_ms: u64) {
        self.ends.insert(*fence, now_ms.saturating_add(self.term_ms));
    }

    /// Whether a lease's term is over. One that nobody began here (after a restart) begins now.
    pub fn is_over(&mut self, fence: &Fence, now_ms: u64) -> bool {
        let end = now_ms.saturating_add(self.term_ms);
        now_ms >= *self.ends.entry(*fence).or_insert(end)
    }

    /// Keeps only the deadlines of claims in force.
    pub fn keep(&mut self, state: &FleetState) {
        self.ends.retain(|fence, _| {
            let job = state.fence(fence).and_then(|claim| state.job(&claim.job));
            job.and_then(Job::lease)
                .is_some_and(|lease| lease.fence == *fence)
        });
    }

    /// Moves every deadline by a pause in which Central did not run.
    pub fn slept(&mut self, pause_ms: u64) {
        for end in self.ends.values_mut() {
            *end = end.saturating_add(pause_ms);
        }
    }

    /// Gives every lease a full term: Central itself could not serve meanwhile.
    pub fn clear(&mut self) {
        self.ends.clear();
    }
}

/// What a beat comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeatReply {
    /// What each claim has come to.
    pub standing: Vec<(Fence, Standing)>,
    /// Claims of that very machine: their leases are to be renewed.
    pub renewed: Vec<Fence>,
    /// Whether the machine should say hello: a claim that goes on there was taken for lost meanwhile.
    pub hello: bool,
}

/// A machine says which claims go on.
pub fn beat(state: &FleetState, machine: &MachineId, fences: &[Fence]) -> BeatReply {
    let mut reply = BeatReply {
        standing: Vec::new(),
        renewed: Vec::new(),
        hello: false,
    };
    for fence in fences {
        if let Some(claim) = state.fence(fence).filter(|claim| claim.machine == *machine) {
            reply.renewed.push(*fence);
            let doubted = |job: &Job| {
                matches!(job.phase(), Phase::Suspect | Phase::Ready) && job.last_fence == Some(*fence)
            };
            reply.hello |= state.job(&claim.job).is_some_and(doubted);
        }
        reply.standing.push((*fence, state.standing(fence)));
    }
    reply
}
