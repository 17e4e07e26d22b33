//! Pauses and limits: what keeps a ready job from being given out though a machine could run it.
//!
//! Rows are folded from the order; whether a claim is within them is decided with the claim, from the claim's own time.

use super::job::Job;
use super::policy::micros;
use super::state::Queue;
use super::table::Phase;
use crate::order::Place;
use ledger::Changes;
use ledger_core::kinds::{HandlerPaused, JobId, LimitScope, QueueLimited, RateLimit};
use ledger_core::{MachineId, ReceiptId};
use serde::{Deserialize, Serialize};

/// A handler of which nothing is given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// Since when, microseconds since 1970.
    pub since: i64,
    /// When it goes on by itself, microseconds since 1970.
    pub until: Option<i64>,
    /// Why.
    pub reason: String,
    /// Where the order says so.
    pub place: Place,
}

/// A limit as it is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// At most so many are claimed at once.
    pub running_max: Option<u32>,
    /// At most so many claims are given in a period.
    pub rate: Option<RateLimit>,
    /// Why.
    pub reason: String,
    /// When the next claim would come if all came evenly, microseconds since 1970: a claim may come as much earlier as the
    /// period holds claims (the generic cell rate algorithm of ITU-T I.371).
    pub next_at: i64,
}

impl Limit {
    /// Whether one more claim is within it.
    pub fn admits(&self, running: u32, now: i64) -> bool {
        self.running_max.is_none_or(|most| running < most) && self.admits_at() <= now
    }

    /// From when on its rate admits one more claim, microseconds since 1970; long ago without a rate.
    pub fn admits_at(&self) -> i64 {
        self.rate.map_or(i64::MIN, |rate| {
            let ahead = i64::from(rate.claims.saturating_sub(1));
            self.next_at.saturating_sub(interval(&rate).saturating_mul(ahead))
        })
    }

    fn claimed(&mut self, at: i64) {
        if let Some(rate) = &self.rate {
            self.next_at = self.next_at.max(at).saturating_add(interval(rate));
        }
    }
}

/// The even distance of two claims, microseconds.
fn interval(rate: &RateLimit) -> i64 {
    (micros(rate.period_ms) / i64::from(rate.claims.max(1))).max(1)
}

/// What limits may count a job by that is claimed on a machine.
pub(super) fn scopes(job: &Job, machine: &MachineId) -> impl Iterator<Item = LimitScope> {
    let handler = LimitScope::Handler(job.spec.handler.clone());
    let machine = LimitScope::Machine(machine.clone());
    let key = job.spec.concurrency_key.clone().map(LimitScope::Key);
    [handler, machine].into_iter().chain(key)
}

impl Queue {
    /// Why nothing of a handler is given out, when that is so.
    pub fn pause(&self, handler: &str) -> Option<&Pause> {
        self.pauses.get(&handler.to_owned())
    }

    /// The handlers of which nothing is given out.
    pub fn pauses(&self) -> impl Iterator<Item = (&String, &Pause)> {
        self.pauses.iter()
    }

    /// The limit that is in force.
    pub fn limit(&self, scope: &LimitScope) -> Option<&Limit> {
        self.limits.get(scope)
    }

    /// The limits that are in force.
    pub fn limits(&self) -> impl Iterator<Item = (&LimitScope, &Limit)> {
        self.limits.iter()
    }

    /// How many jobs are claimed, leased or suspect, of what a limit may count. Costs as much as there are claimed ones,
    /// for a key only a look.
    pub fn running(&self, scope: &LimitScope) -> u32 {
        let count = match scope {
            LimitScope::Key(key) => return self.indexes.keys.get(key).copied().unwrap_or(0),
            LimitScope::Machine(machine) => self.jobs_on(machine).count(),
            LimitScope::Handler(handler) => {
                let claimed = self.jobs_in(Phase::Leased).chain(self.jobs_in(Phase::Suspect));
                claimed.filter(|job| job.spec.handler == *handler).count()
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Ready jobs of a handler in the order in which they are given out, from below a priority on when one is given.
    pub(super) fn ready_below<'a>(
        &'a self,
        handler: &str,
        below: Option<i16>,
    ) -> impl Iterator<Item = &'a Job> + use<'a> {
        let least = below.map_or(i32::MIN, |below| 1 - i32::from(below));
        let first = (handler.to_owned(), least, Place::MIN);
        let last = (handler.to_owned(), i32::MAX, Place::MAX);
        self.indexes
            .ready
            .range(first..=last)
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The unfinished jobs that have a unique key.
    pub fn holders_of<'a>(&'a self, unique_key: &'a str) -> impl Iterator<Item = &'a Job> {
        let first = (unique_key.to_owned(), Place::MIN, JobId(ReceiptId([0; 16])));
        self.indexes
            .by_unique_key
            .range(first..)
            .take_while(move |(key, _, _)| key == unique_key)
            .filter_map(|(_, _, id)| self.jobs.get(id))
    }

    pub(super) fn paused(&mut self, d: HandlerPaused, at: i64, place: Place, changes: &mut Changes) {
        let pause = Pause {
            since: at,
            until: d.until,
            reason: d.reason,
            place,
        };
        self.pauses.set(d.handler, pause, changes);
    }

    /// `false` when it is not paused.
    pub(super) fn unpaused(&mut self, handler: &String, changes: &mut Changes) -> bool {
        let is_paused = self.pauses.get(handler).is_some();
        self.pauses.remove(handler, changes);
        is_paused
    }

    pub(super) fn limited(&mut self, d: QueueLimited, at: i64, changes: &mut Changes) {
        if d.running_max.is_none() && d.rate.is_none() {
            self.limits.remove(&d.scope, changes);
            return;
        }
        // What was given before counts on when only the numbers change, as a burst of the new period at most: that is as far as
        // claims under the new numbers could have come.
        let before = self.limits.get(&d.scope).map_or(i64::MIN, |limit| limit.next_at);
        let period = d.rate.map_or(0, |rate| micros(rate.period_ms));
        let next_at = before.min(at.saturating_add(period));
        let limit = Limit {
            running_max: d.running_max,
            rate: d.rate,
            reason: d.reason,
            next_at,
        };
        self.limits.set(d.scope, limit, changes);
    }

    /// A claim was given: it counts for every rate that it comes under.
    pub(super) fn count_claim(&mut self, id: &JobId, machine: &MachineId, at: i64, changes: &mut Changes) {
        if self.limits.is_empty() {
            return;
        }
        let scopes: Vec<LimitScope> = match self.jobs.get(id) {
            Some(job) => scopes(job, machine).collect(),
            None => return,
        };
        for scope in scopes {
            self.limits.change(&scope, changes, |limit| limit.claimed(at));
        }
    }
}
