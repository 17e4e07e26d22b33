//! The outbox of a node: its own logs, as far as the gateway is not known to have them. Bounded by the disk; told exactly, in
//! number, bytes and age, whenever somebody asks, also while the gateway is away.

use crate::machine::Machine;
use ledger::core::{LogId, Stream};
use ledger::{LedgerError, Receipt};
use ledger_projections::FleetState;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Records between two sums that are kept: what is read again when the gateway has some of them.
const SUM_EVERY: u64 = 512;

/// What waits to be sent.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Waiting {
    pub(crate) receipts: u64,
    pub(crate) bytes: u64,
    /// When the oldest was sealed, microseconds since 1970.
    pub(crate) oldest_us: Option<i64>,
    /// The newest record of each log that the gateway is known to have.
    pub(crate) acknowledged: BTreeMap<LogId, u64>,
}

/// The bytes of what the gateway lacks, by log.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Mutex<BTreeMap<LogId, Bytes>>,
}

// What a receipt takes on its way: its record and its payload.
fn bytes_of(receipt: &Receipt) -> u64 {
    let payload = receipt.statement().payload.as_ref();
    let payload = payload.map_or(0, |payload| u64::from(payload.bytes));
    let record = u64::try_from(receipt.record.bytes().len()).unwrap_or(u64::MAX);
    record.saturating_add(payload)
}

impl Outbox {
    /// Counts what the gateway is not known to have. Reads what came since the last time, and all of it the first time: blocks.
    pub(crate) fn waiting(&self, machine: &Machine) -> Result<Waiting, LedgerError> {
        let snapshot = machine.ledger.snapshot();
        let mut counts = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = Waiting::default();
        let own = [Stream::Work, Stream::Facts, Stream::Pulse];
        for log in own.into_iter().filter_map(|s| machine.ledger.own_log(s)) {
            let Some(chain) = snapshot.logs.get(&log) else {
                continue;
            };
            let has = has(machine, &snapshot.state, &log);
            waiting.acknowledged.extend(has.map(|seq| (log, seq)));
            let next = has.map_or(0, |seq| seq.saturating_add(1));
            let size = chain.tip().0.saturating_add(1);
            waiting.receipts += size.saturating_sub(next);
            let read = |first, last| {
                let records = machine.ledger.range(&log, first, last);
                records.map_while(|receipt| receipt.ok().map(|receipt| bytes_of(&receipt)))
            };
            waiting.bytes += counts.entry(log).or_default().between(next, size, read);
            if next < size
                && let Some(receipt) = machine.ledger.get(&log, next)?
            {
                let ms = i64::try_from(receipt.time().unix_ms()).unwrap_or(i64::MAX);
                let at = Some(ms.saturating_mul(1000));
                waiting.oldest_us = [waiting.oldest_us, at].into_iter().flatten().min();
            }
        }
        Ok(waiting)
    }
}

// What the gateway is known to have of a log: by its word, and by what the order pins.
fn has(machine: &Machine, state: &FleetState, log: &LogId) -> Option<u64> {
    let central = state.central();
    let said = machine.marks.heard(log, |of| Some(of) == central);
    said.max(state.pin(log).map(|pin| pin.seq))
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
    // The bytes of the records `next..size`, as far as they can be read. `read` gives the lengths from a seq to another, both
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
        if self.counted.0 < size {
            for bytes in read(self.counted.0, size - 1) {
                self.counted = (self.counted.0 + 1, self.counted.1 + bytes);
                if self.counted.0.is_multiple_of(SUM_EVERY) {
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ledger::core::{Draft, FleetId, Kind, MachineId, Subject};
    use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths};
    use std::cell::Cell;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    fn node(dir: &std::path::Path) -> Arc<Machine> {
        let new = NewStore {
            machine: MachineId::new("studio").unwrap(),
            streams: vec![Stream::Work, Stream::Facts, Stream::Pulse],
            fleet: Fleet::Join(FleetId([7; 32])),
        };
        let made: Ledger<FleetState> =
            Ledger::open_or_create(&Paths::new(dir), &new, OpenOptions::default()).unwrap();
        made.close().unwrap();
        Machine::open(dir, crate::Config::default()).unwrap()
    }

    #[test]
    fn a_long_outbox_is_told_whole_and_delays_nobody_who_asks_for_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let machine = node(&dir.path().join("home"));
        let kind = Kind::new("x.note").unwrap();
        let note = Draft::custom(kind, Subject::new("note").unwrap());
        machine.ledger.append_to(Stream::Facts, note).unwrap();
        let link = machine.link();
        // With each log's genesis.
        assert!(link.outbox_receipts == 4 && link.outbox_bytes > 0, "{link:?}");

        // Somebody counts, and takes long.
        let counting = machine.outbox.bytes.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let asking = Arc::clone(&machine);
        let asked = std::thread::spawn(move || {
            let api = crate::client::Api::in_process(crate::http::router(asking, crate::http::Door::Local));
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let sleeping = crate::http::wire::RestBody {
                what: crate::http::wire::RestWhat::Sleeping,
            };
            let rested = runtime.block_on(api.rest(&sleeping)).unwrap().item;
            let nodes = runtime.block_on(api.nodes()).is_ok();
            tell.send((rested.said, nodes)).unwrap();
        });
        let answer = told.recv_timeout(Duration::from_secs(30));
        drop(counting);
        asked.join().unwrap();
        assert_eq!(answer, Ok((true, true)));
    }

    #[test]
    fn the_bytes_of_an_outbox_are_exact_wherever_the_gateway_is_and_counted_once() {
        let bytes_of = |seq: u64| 100 + seq % 7;
        let read = Cell::new(0);
        let lengths =
            |first: u64, last: u64| (first..=last).map(bytes_of).inspect(|_| read.set(read.get() + 1));
        let sum = |from: u64, until: u64| (from..until).map(bytes_of).sum::<u64>();
        let mut bytes = Bytes::default();
        let size = 30_000;
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
