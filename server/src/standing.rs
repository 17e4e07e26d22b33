//! `local` or `replicated`: where else what was said here is durable, as far as this machine can prove it.
//!
//! What another machine wrote is at two places when it is here. What this machine wrote is `replicated` when another machine that is
//! not retired told a mark at or past it, and that mark is durable here; on a node also when the order, as it is mirrored
//! here, pins it, since the gateway pins only what it has.

use crate::exchange::Mark;
use crate::machine::Machine;
use crate::marks::{Marks, Standing};
use ledger::core::{LogId, MachineId, Stream};
use ledger::{Published, Receipt};
use ledger_projections::FleetState;
use std::sync::Arc;

/// How far of one log of this store is elsewhere.
fn counts<'a>(state: &'a FleetState, own: &'a MachineId) -> impl Fn(&MachineId) -> bool + 'a {
    move |machine| machine != own && state.machine(machine).is_some_and(|row| !row.retired)
}

impl Machine {
    /// Up to which seq a log that this machine wrote is known to be elsewhere; blocks for a sync when that was heard and
    /// not kept yet.
    pub(crate) fn replicated_until(&self, state: &FleetState, log: &LogId) -> Option<u64> {
        let counts = counts(state, self.id());
        let pinned = state.pin(log).map(|pin| pin.seq).filter(|_| !self.is_gateway());
        if self.marks.heard(log, &counts) > self.marks.written(log, &counts) {
            self.keep_marks();
        }
        self.marks.written(log, &counts).max(pinned)
    }

    /// Where a receipt is. Blocks for a sync at most once for each mark.
    pub(crate) fn standing_at(&self, state: &FleetState, log: &LogId, seq: u64) -> Standing {
        let snapshot = self.ledger.snapshot();
        let Some(chain) = snapshot.logs.get(log) else {
            return Standing::Local;
        };
        let writer = &chain.genesis().machine;
        if writer != self.id() {
            // A machine that joined anew with another key may not have what was written under the one before.
            let row = state.machine(writer);
            let there = row.is_some_and(|row| !row.retired && row.machine_key == chain.machine_key());
            return if there {
                Standing::Replicated
            } else {
                Standing::Local
            };
        }
        let counts = counts(state, self.id());
        let pinned = state.pin(log).map(|pin| pin.seq).filter(|_| !self.is_gateway());
        if pinned.max(self.marks.written(log, &counts)) >= Some(seq) {
            return Standing::Replicated;
        }
        if self.marks.heard(log, &counts) >= Some(seq) {
            self.keep_marks();
        }
        if self.marks.written(log, &counts) >= Some(seq) {
            Standing::Replicated
        } else {
            Standing::Local
        }
    }

    /// Where all of this store's own order is, as a snapshot has it.
    pub(crate) fn standing_of_order(&self, snapshot: &Published<FleetState>) -> Standing {
        let order = self.ledger.own_log(Stream::Order);
        let chain = order.and_then(|log| snapshot.logs.get(&log));
        chain.map_or(Standing::Local, |chain| {
            self.standing_at(&snapshot.state, &chain.log(), chain.tip().0)
        })
    }

    /// Where a receipt is, for who must not block.
    pub(crate) async fn standing_of(&self, receipt: &Receipt) -> &'static str {
        let (log, seq) = (receipt.log(), receipt.seq());
        let snapshot = self.ledger.snapshot();
        let heard = self.marks.heard(&log, counts(&snapshot.state, self.id()));
        if heard >= Some(seq) {
            let marks = Arc::clone(&self.marks);
            let kept = tokio::task::spawn_blocking(move || keep(&marks)).await;
            if kept.is_err() {
                tracing::error!("the thread that keeps marks panicked");
            }
        }
        self.standing_at(&snapshot.state, &log, seq).as_str()
    }

    /// Receipts of this machine's own logs that no other machine is known to have: what is lost with this disk. A gateway's pulses
    /// do not count, since nobody mirrors them.
    pub(crate) fn alone(&self, state: &FleetState) -> u64 {
        let snapshot = self.ledger.snapshot();
        let mut alone = 0;
        for stream in Stream::ALL {
            if stream == Stream::Pulse && self.is_gateway() {
                continue;
            }
            let log = self.ledger.own_log(stream);
            let Some((log, chain)) = log.and_then(|log| snapshot.logs.get(&log).map(|chain| (log, chain)))
            else {
                continue;
            };
            let next = self
                .replicated_until(state, &log)
                .map_or(0, |seq| seq.saturating_add(1));
            alone += (chain.tip().0 + 1).saturating_sub(next);
        }
        alone
    }

    /// Another machine told that it durably has a log up to a place that was checked to be ours. Only of what was written here is
    /// a copy worth knowing.
    pub(crate) fn hear_mark(&self, machine: &MachineId, log: &LogId, mark: Mark) {
        if self.wrote(log) {
            self.marks.note(machine, *log, mark);
        }
    }

    /// The gateway told all that it has of our own logs. A mark that is none of ours says nothing.
    pub(crate) fn heed_marks(&self, gateway: &MachineId, marks: &[(LogId, Option<Mark>)]) {
        for (log, mark) in marks.iter().filter(|(log, _)| self.wrote(log)) {
            let fits = mark.is_none_or(|mark| {
                let ours = self.ledger.get(log, mark.seq);
                ours.is_ok_and(|ours| ours.is_some_and(|receipt| receipt.seal_digest() == mark.seal))
            });
            self.marks.settle(gateway, *log, mark.filter(|_| fits));
        }
    }

    fn wrote(&self, log: &LogId) -> bool {
        let snapshot = self.ledger.snapshot();
        let chain = snapshot.logs.get(log);
        chain.is_some_and(|chain| chain.genesis().machine == *self.id())
    }

    /// Makes what was heard of other machines' marks durable; a disk that refuses leaves less to claim.
    pub(crate) fn keep_marks(&self) {
        keep(&self.marks);
    }
}

fn keep(marks: &Marks) {
    if let Err(error) = marks.keep() {
        tracing::warn!(%error, "marks of other machines could not be kept; answers say `local` meanwhile");
    }
}
