//! What a machine does with what it claimed, as `server/src/jobs/` does: `run.started` durable before the process is, the end told
//! until it is durable, the truth about what a crash left.

use crate::effects::{Given, MS, SECOND, Then, Timer, Us, Who};
use crate::world::World;
use ledger_core::digest::content_digest;
use ledger_core::kinds::{
    Class, Costs, ErrorClass, Fence, JobId, NodePulse, Outputs, RunCheckpointed, RunFailed, RunLost,
    RunStarted, RunSucceeded,
};
use ledger_core::{Draft, Stream};
use ledger_projections::queue::{Standing, decide};

/// How long a run goes on at most before its handler's timeout ends it.
const TIMEOUT: Us = 240 * SECOND;
/// How soon something that could not be told is told again.
const AGAIN: Us = SECOND;
/// How long a handler takes to stop when it is told to.
const STOPS: Us = SECOND;

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Success { result: u8 },
    Failure { error: ErrorClass, permanent: bool },
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Taken,
    Running(Outcome),
    Ended(Outcome),
}

/// A claim that a process holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    job: JobId,
    handler: String,
    attempt: u16,
    class: Class,
    step: Step,
    stopping: bool,
    telling: bool,
}

impl World {
    /// Free slots of each handler.
    pub(crate) fn free(&self, who: Who) -> Vec<(String, u16)> {
        let machine = &self.machines[who];
        let used = |name: &str| machine.held.values().filter(|held| held.handler == name).count();
        let left = machine.handlers.iter().map(|declared| {
            let used = u16::try_from(used(&declared.handler)).unwrap_or(u16::MAX);
            (declared.handler.clone(), declared.slots.saturating_sub(used))
        });
        left.filter(|(_, free)| *free > 0).collect()
    }

    /// Takes a claimed job, unless it is held already.
    pub(crate) fn take(&mut self, who: Who, given: Given) {
        let machine = &mut self.machines[who];
        let known = machine.store.seen.run(&given.fence).is_some();
        if known || machine.held.contains_key(&given.fence) {
            return;
        }
        let held = Held {
            job: given.job,
            handler: given.handler,
            attempt: given.attempt,
            class: given.class,
            step: Step::Taken,
            stopping: false,
            telling: false,
        };
        machine.held.insert(given.fence, held);
        self.note(|world| {
            format!(
                "{} takes {} as {}",
                world.machines[who].id, given.job, given.fence
            )
        });
        self.tell(who, &given.fence);
    }

    /// Tells the start or the end of a run; again later when it cannot be told now.
    pub(crate) fn tell(&mut self, who: Who, fence: &Fence) {
        let Some(held) = self.machines[who].held.get_mut(fence) else {
            return;
        };
        if held.telling {
            return;
        }
        let (job, fence) = (held.job, *fence);
        let (draft, then) = match held.step {
            Step::Taken => {
                let started = RunStarted {
                    job,
                    fence,
                    handler: held.handler.clone(),
                    attempt: held.attempt,
                };
                (Draft::of(&started, job.subject()), Then::Begin(fence))
            }
            Step::Ended(outcome) => (ended(job, fence, outcome), Then::Told(fence)),
            Step::Running(_) => return,
        };
        held.telling = true;
        if !self.say(who, Stream::Work, draft, vec![then]) {
            if let Some(held) = self.machines[who].held.get_mut(&fence) {
                held.telling = false;
            }
            self.wake(who, AGAIN, Timer::Tell(fence));
        }
    }

    // Says something as a machine; what the gateway says of its own runs is decided in the same commit.
    fn say(&mut self, who: Who, stream: Stream, draft: Draft, then: Vec<Then>) -> bool {
        let judges = who == 0 && stream == Stream::Work;
        if judges && !self.central.decides() {
            return false;
        }
        let (id, policy) = (self.machines[who].id.clone(), self.policy);
        self.commit(who, |tx| {
            let said = tx.append(stream, draft);
            if judges {
                let now = tx.now_us;
                let drafts =
                    decide::report(&tx.store.tip, &said, &id, now, &policy).map_err(|e| e.to_string())?;
                ledger_projections::central::put(tx, drafts).map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(then)
        })
    }

    pub(crate) fn say_pulse(&mut self, who: Who) {
        let pulse = NodePulse {
            slots_used: u16::try_from(self.machines[who].held.len()).unwrap_or(u16::MAX),
            ..idle_pulse()
        };
        let subject = ledger_core::Subject::new("node").expect("short");
        self.say(who, Stream::Pulse, Draft::of(&pulse, subject), Vec::new());
    }

    /// `run.started` is durable: the process starts.
    pub(crate) fn begin(&mut self, who: Who, fence: &Fence) {
        let Some(held) = self.machines[who].held.get(fence) else {
            return;
        };
        if held.step != Step::Taken {
            return;
        }
        let (job, class) = (held.job, held.class);
        let chance = self.rng.u8(0..100);
        let longest = match class {
            Class::Light => 20 * SECOND,
            Class::Heavy => 200 * SECOND,
            Class::Exclusive => 40 * SECOND,
        };
        let mut lasts = self.rng.i64(100 * MS..=longest);
        let outcome = match chance {
            0..75 => Outcome::Success {
                result: u8::from(self.rng.u8(0..10) == 0),
            },
            75..90 => failure(ErrorClass::ExitStatus, chance >= 87),
            90..95 => failure(ErrorClass::Signal, false),
            _ => {
                lasts = TIMEOUT;
                failure(ErrorClass::Timeout, false)
            }
        };
        if let Some(held) = self.machines[who].held.get_mut(fence) {
            held.step = Step::Running(outcome);
            held.telling = false;
        }
        self.started(who, *fence, job, class);
        self.wake(who, lasts, Timer::RunEnds(*fence));
        if class == Class::Heavy {
            self.wake(who, lasts / 2, Timer::Checkpoint(*fence));
        }
        self.heed_one(who, fence);
    }

    pub(crate) fn checkpoint(&mut self, who: Who, fence: &Fence) {
        let Some(held) = self.machines[who].held.get(fence) else {
            return;
        };
        if matches!(held.step, Step::Running(_)) && !held.stopping {
            let job = held.job;
            let said = RunCheckpointed { job, fence: *fence };
            self.say(who, Stream::Work, Draft::of(&said, job.subject()), Vec::new());
        }
    }

    pub(crate) fn run_ends(&mut self, who: Who, fence: &Fence) {
        let machine = &mut self.machines[who];
        let Some(held) = machine.held.get_mut(fence) else {
            return;
        };
        let Step::Running(outcome) = held.step else { return };
        held.step = Step::Ended(outcome);
        held.telling = false;
        machine.leftovers.insert(*fence, outcome);
        self.oracle.ended(fence, Some(outcome));
        self.tell(who, fence);
    }

    /// The end of a run is durable.
    pub(crate) fn told(&mut self, who: Who, fence: &Fence) {
        self.machines[who].leftovers.remove(fence);
        if self.machines[who].held.remove(fence).is_some() {
            self.room(who);
        }
    }

    /// Stops what is wanted no longer.
    pub(crate) fn heed(&mut self, who: Who, fence: &Fence, standing: Standing) {
        if !matches!(standing, Standing::CancelAsked | Standing::Over) {
            return;
        }
        let Some(held) = self.machines[who].held.get_mut(fence) else {
            return;
        };
        if matches!(held.step, Step::Running(_)) && !held.stopping {
            held.stopping = true;
            held.step = Step::Running(failure(ErrorClass::Cancelled, false));
            self.wake(who, STOPS, Timer::RunEnds(*fence));
        }
    }

    fn heed_one(&mut self, who: Who, fence: &Fence) {
        let standing = self.machines[who].store.seen.standing(fence);
        self.heed(who, fence, standing);
    }

    pub(crate) fn heed_all(&mut self, who: Who) {
        let fences: Vec<Fence> = self.machines[who].held.keys().copied().collect();
        for fence in fences {
            self.heed_one(who, &fence);
        }
    }

    /// Says of every run that an earlier process began what became of it.
    pub(crate) fn recover(&mut self, who: Who) {
        let state = &self.machines[who].store.seen;
        let open = state.runs().filter(|(_, run)| run.ended.is_none());
        let open: Vec<(Fence, JobId)> = open.map(|(fence, run)| (*fence, run.job)).collect();
        for (fence, job) in open {
            let left = self.machines[who].leftovers.get(&fence).copied();
            let held = Held {
                job,
                handler: String::new(),
                attempt: 0,
                class: Class::Light,
                step: Step::Ended(left.unwrap_or(Outcome::Lost)),
                stopping: false,
                telling: false,
            };
            self.machines[who].held.insert(fence, held);
            self.tell(who, &fence);
        }
    }

    /// The process of a machine dies, and its handlers with it.
    pub(crate) fn end_runs(&mut self, who: Who) {
        let held = std::mem::take(&mut self.machines[who].held);
        for (fence, held) in held {
            if matches!(held.step, Step::Running(_)) {
                self.oracle.ended(&fence, None);
            }
        }
    }

    /// Whether a machine has anything on its hands.
    pub(crate) fn is_idle(&self, who: Who) -> bool {
        self.machines[who].held.is_empty() && self.machines[who].store.unsynced() == 0
    }
}

fn failure(error: ErrorClass, permanent: bool) -> Outcome {
    Outcome::Failure { error, permanent }
}

fn ended(job: JobId, fence: Fence, outcome: Outcome) -> Draft {
    let costs = Costs::default();
    match outcome {
        Outcome::Success { result } => {
            let said = RunSucceeded {
                job,
                fence,
                result: content_digest(&[result]),
                outputs: Outputs::default(),
                costs,
            };
            Draft::of(&said, job.subject())
        }
        Outcome::Failure { error, permanent } => {
            let said = RunFailed {
                job,
                fence,
                error,
                status: Some(1),
                permanent,
                costs,
            };
            Draft::of(&said, job.subject())
        }
        Outcome::Lost => Draft::of(&RunLost { job, fence }, job.subject()),
    }
}

fn idle_pulse() -> NodePulse {
    NodePulse {
        cpu_per_mille: 10,
        load1_centi: 10,
        memory_used_bytes: 1,
        memory_total_bytes: 2,
        disk_free_bytes: 1,
        disk_total_bytes: 2,
        uptime_s: 1,
        temperature_milli_c: None,
        slots_used: 0,
        slots_total: 5,
        outbox_receipts: 0,
        clock_offset_ms: None,
    }
}
