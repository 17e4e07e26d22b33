//! The outbox of a node: its own logs, as far as the gateway is not known to have them. Bounded by the disk, visible in
//! `status` with count, bytes and age, also while the gateway is away.

use crate::exchange::Mark;
use crate::machine::Machine;
use ledger::core::{LogId, Stream};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

/// Records whose bytes are counted in one look at most, so that a long backlog delays nobody; the next look goes on.
const COUNTED_AT_ONCE: u64 = 20_000;
/// Records between two sums that are kept: what is read again when the gateway has some of them.
const SUM_EVERY: u64 = 512;

/// What the gateway last said that it has, and the bytes of what it lacks.
#[derive(Default)]
pub(super) struct Outbox {
    marks: Mutex<Vec<(LogId, Option<Mark>)>>,
    bytes: Mutex<BTreeMap<LogId, Bytes>>,
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
        let (mut receipts, mut bytes, mut oldest) = (0, 0, None::<i64>);
        let mut acknowledged = BTreeMap::new();
        for log in [Stream::Work, Stream::Facts, Stream::Pulse]
            .into_iter()
            .filter_map(|s| machine.ledger.own_log(s))
        {
            let Some(chain) = snapshot.logs.get(&log) else {
                continue;
            };
            let word = marks.iter().find(|(of, _)| *of == log);
            if word.is_none() && chain.genesis().stream == Stream::Pulse {
                continue;
            }
            let said = word.and_then(|(_, mark)| mark.map(|mark| mark.seq));
            // What the order pins, the gateway has, whatever it said since we started.
            let has = said.max(snapshot.state.pin(&log).map(|pin| pin.seq));
            acknowledged.extend(has.map(|seq| (log, seq)));
            let next = has.map_or(0, |seq| seq.saturating_add(1));
            let size = chain.tip().0 + 1;
            receipts += size.saturating_sub(next);
            let mut counts = self.bytes.lock().expect("bytes lock");
            bytes += counts.entry(log).or_default().between(next, size, |first, last| {
                let records = machine.ledger.range(&log, first, last);
                records.map_while(|receipt| receipt.ok().map(|receipt| length(receipt.record.bytes())))
            });
            drop(counts);
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
            view.outbox_bytes = bytes;
            view.outbox_oldest_us = oldest;
            view.acknowledged = acknowledged;
        });
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Tells the outbox as far as the order tells what the gateway has, for a machine that has not heard of it. Heartbeats count as
/// soon as it has told what it has of them.
pub(crate) fn tell_as_ordered(machine: &Machine) {
    Outbox::default().tell(machine);
}

/// The bytes of one log's records from a seq on, by sums that are kept every [`SUM_EVERY`] records: an outbox of any length is
/// counted once, and costs a few numbers.
#[derive(Default)]
struct Bytes {
    // Where counting began, then every so many records: seq and the bytes before it since counting began. In their order.
    sums: VecDeque<(u64, u64)>,
    // How far it is counted: the next seq and the bytes before it.
    counted: (u64, u64),
}

impl Bytes {
    // The bytes of the records `next..size`, as far as they are counted. `read` gives the lengths from a seq to another, both
    // included.
    fn between<I: Iterator<Item = u64>>(
        &mut self,
        next: u64,
        size: u64,
        read: impl Fn(u64, u64) -> I,
    ) -> u64 {
        if next >= size {
            *self = Self::default();
            return 0;
        }
        if self.sums.front().is_none_or(|(first, _)| *first > next) || self.counted.0 < next {
            // Nothing counted here is of use: from the beginning of what is asked.
            self.sums = VecDeque::from([(next, 0)]);
            self.counted = (next, 0);
        }
        while self.sums.get(1).is_some_and(|(seq, _)| *seq <= next) {
            self.sums.pop_front();
        }
        let last = size.min(self.counted.0.saturating_add(COUNTED_AT_ONCE));
        if self.counted.0 < last {
            for bytes in read(self.counted.0, last - 1) {
                self.counted = (self.counted.0 + 1, self.counted.1 + bytes);
                if self.counted.0 % SUM_EVERY == 0 {
                    self.sums.push_back(self.counted);
                }
            }
        }
        let (seq, before) = self.sums.front().copied().unwrap_or(self.counted);
        let gone: u64 = if seq < next { read(seq, next - 1).sum() } else { 0 };
        self.counted.1.saturating_sub(before).saturating_sub(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_bytes_of_an_outbox_are_exact_wherever_the_gateway_is_and_counted_once() {
        let bytes_of = |seq: u64| 100 + seq % 7;
        let read = Cell::new(0);
        let lengths =
            |first: u64, last: u64| (first..=last).map(bytes_of).inspect(|_| read.set(read.get() + 1));
        let sum = |from: u64, until: u64| (from..until).map(bytes_of).sum::<u64>();
        let mut bytes = Bytes::default();
        let size = 30_000;
        assert_eq!(
            bytes.between(10, size, lengths),
            sum(10, 10 + COUNTED_AT_ONCE),
            "bounded"
        );
        assert_eq!(bytes.between(10, size, lengths), sum(10, size));
        for next in [11, 600, 20_479, 20_480, 20_481, 29_999] {
            assert_eq!(bytes.between(next, size, lengths), sum(next, size), "from {next}");
        }
        assert_eq!(bytes.between(29_999, size + 5, lengths), sum(29_999, size + 5));
        assert!(read.get() < size + 7 * SUM_EVERY, "{} were read", read.get());
        assert_eq!(bytes.between(size + 5, size + 5, lengths), 0);
        assert_eq!(
            bytes.between(3, 5, lengths),
            sum(3, 5),
            "the gateway has less than it said"
        );
    }
}
