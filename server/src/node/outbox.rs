//! The outbox of a node: its own logs, as far as the gateway is not known to have them. Bounded by the disk, visible in
//! `status` with count and age, also while the gateway is away.

use crate::exchange::Mark;
use crate::machine::Machine;
use ledger::core::{LogId, Stream};
use std::sync::Mutex;

/// What the gateway last said that it has.
#[derive(Default)]
pub(super) struct Outbox {
    marks: Mutex<Vec<(LogId, Option<Mark>)>>,
}

impl Outbox {
    /// Takes the gateway's word, and tells the outbox anew.
    pub(super) fn note(&self, machine: &Machine, marks: &[(LogId, Option<Mark>)]) {
        *self.marks.lock().expect("marks lock") = marks.to_vec();
        self.tell(machine);
    }

    /// Counts what the gateway is not known to have.
    pub(super) fn tell(&self, machine: &Machine) {
        let marks = self.marks.lock().expect("marks lock").clone();
        let snapshot = machine.ledger.snapshot();
        let (mut receipts, mut oldest) = (0, None::<i64>);
        for log in [Stream::Work, Stream::Facts, Stream::Pulse]
            .into_iter()
            .filter_map(|s| machine.ledger.own_log(s))
        {
            let Some(chain) = snapshot.logs.get(&log) else {
                continue;
            };
            let said = marks
                .iter()
                .find(|(of, _)| *of == log)
                .and_then(|(_, mark)| mark.map(|mark| mark.seq));
            // What the order pins, the gateway has, whatever it said since we started.
            let has = said.max(snapshot.state.pin(&log).map(|pin| pin.seq));
            let next = has.map_or(0, |seq| seq.saturating_add(1));
            let size = chain.tip().0 + 1;
            receipts += size.saturating_sub(next);
            if next < size
                && let Ok(Some(receipt)) = machine.ledger.get(&log, next)
            {
                let at = i64::try_from(receipt.time().unix_ms())
                    .unwrap_or(i64::MAX)
                    .saturating_mul(1000);
                oldest = Some(oldest.map_or(at, |before| before.min(at)));
            }
        }
        machine.set_link(|view| {
            view.outbox_receipts = receipts;
            view.outbox_oldest_us = oldest;
        });
    }
}
