//! The fleet's judge for `verify`: what each key was permitted at the record's place in the order.
//!
//! Folds the order from the journal as the committer does. A record of an order log is judged where it stands; a record of another
//! log where the order pins it; a pulse, which nothing pins, where it was met, unless its key was over by then: a copy that came later
//! does not tell when it was said, and that is counted. What was not permitted and is named by a
//! `receipt.inadmissible` of Central's is known and inert. Memory: the fleet's state, the records that wait for a pin, at most
//! `WAITING_MAX`, and what was not permitted, at most `KEPT_MAX`; those past either are counted as not judged.

use crate::fleet::{FleetState, detail_of, micros_of};
use ledger::verify::{Authority, AuthorityMaker, Judgement, NotPermitted};
use ledger::{Changes, Receipt, State, StateContext};
use ledger_core::kinds::Detail;
use ledger_core::kinds::{InadmissibleReason, LogGenesis, LogPinned, ReceiptInadmissible, RequestReceived};
use ledger_core::{LogId, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Records that wait for a pin at most: some 50 MiB.
const WAITING_MAX: usize = 50_000;
/// Receipts without permission, and verdicts of the order, that are kept at most.
const KEPT_MAX: usize = 20_000;

/// See the module.
#[derive(Default)]
pub struct FleetAuthority {
    state: Option<FleetState>,
    waiting: BTreeMap<LogId, BTreeMap<u64, Receipt>>,
    held: usize,
    // Records that were over that bound.
    dropped: u64,
    // Pulses of a key that was over where they were met.
    unplaced: u64,
    judged: u64,
    said: Said,
}

/// What was not permitted, apart from what the order names as such.
#[derive(Default)]
struct Said {
    found: BTreeMap<(LogId, u64), NotPermitted>,
    // Named before it was found.
    named: BTreeSet<(LogId, u64)>,
    excused: u64,
    // Found past the bound.
    dropped: u64,
}

impl Said {
    fn found(&mut self, said: NotPermitted) {
        let place = (said.log, said.seq);
        if self.named.contains(&place) {
            self.excused += 1;
        } else if self.found.len() < KEPT_MAX {
            self.found.insert(place, said);
        } else {
            self.dropped += 1;
        }
    }

    fn named(&mut self, place: (LogId, u64)) {
        if self.found.remove(&place).is_some() {
            self.excused += 1;
        } else if self.named.len() < KEPT_MAX {
            self.named.insert(place);
        }
    }
}

impl FleetAuthority {
    /// What `ledger::verify::Options::authority` takes.
    pub fn maker() -> AuthorityMaker {
        Arc::new(|| Box::new(Self::default()) as Box<dyn Authority>)
    }

    fn stream_of(&self, log: &LogId) -> Option<Stream> {
        Some(self.state.as_ref()?.log(log)?.stream)
    }

    // Whether the key of a log's machine is over.
    fn is_former(&self, log: &LogId) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let row = state.log(log);
        row.is_some_and(|row| {
            let machine = state.machine(&row.machine);
            machine.is_none_or(|now| now.retired || now.machine_key != row.machine_key)
        })
    }

    // Whether it was permitted. `at`: microseconds since 1970.
    fn judge(&mut self, receipt: &Receipt, stream: Stream, at: i64) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        self.judged += 1;
        // A request gets its verdict from its own decider, in the order.
        if stream != Stream::Order && receipt.kind() == RequestReceived::KIND {
            return true;
        }
        let own_log = receipt.record.author_signature().is_none();
        let verdict = state.authorise(receipt.statement(), stream, own_log, at);
        let Err(reason) = verdict else {
            return true;
        };
        let author = receipt.statement().author.short();
        let kind = receipt.kind().to_owned();
        self.said.found(NotPermitted {
            log: receipt.log(),
            seq: receipt.seq(),
            id: receipt.id(),
            code: code(reason),
            text: format!(
                "key {author} was not permitted to say {kind} in {stream} at this place of the order"
            ),
        });
        false
    }

    fn wait(&mut self, receipt: &Receipt) {
        if self.held == WAITING_MAX {
            self.dropped += 1;
            return;
        }
        let log = self.waiting.entry(receipt.log()).or_default();
        if log.insert(receipt.seq(), receipt.clone()).is_none() {
            self.held += 1;
        }
    }

    // What a pin covers is judged at the pin.
    fn pinned(&mut self, pinned: &LogPinned, at: i64) {
        for range in &pinned.ranges {
            let Some(log) = self.waiting.get_mut(&range.log) else {
                continue;
            };
            let later = range.last.checked_add(1).map(|next| log.split_off(&next));
            let covered = std::mem::replace(log, later.unwrap_or_default());
            self.held -= covered.len();
            let Some(stream) = self.stream_of(&range.log) else {
                continue;
            };
            for receipt in covered.values() {
                self.judge(receipt, stream, at);
            }
        }
    }
}

impl Authority for FleetAuthority {
    fn take(&mut self, receipt: &Receipt) {
        let genesis = (receipt.seq() == 0)
            .then(|| detail_of::<LogGenesis>(receipt))
            .flatten();
        if let (None, Some(genesis)) = (&self.state, &genesis) {
            // The first genesis of a store is its own machine's.
            self.state = Some(FleetState::empty(&StateContext {
                fleet: receipt.statement().fleet,
                machine: genesis.machine.clone(),
                machine_key: genesis.machine_key,
            }));
        }
        let at = micros_of(receipt);
        let stream = self.stream_of(&receipt.log());
        let in_order = self.state.as_ref().is_some_and(|state| {
            let order = state.order();
            order.is_some_and(|order| order.log == receipt.log())
        });
        // A genesis says what a log is, and needs no grant.
        let permitted = match stream.filter(|_| genesis.is_none()) {
            Some(Stream::Order) if in_order => self.judge(receipt, Stream::Order, at),
            Some(Stream::Pulse) if self.is_former(&receipt.log()) => {
                self.unplaced += 1;
                false
            }
            Some(Stream::Pulse) => self.judge(receipt, Stream::Pulse, at),
            Some(Stream::Work | Stream::Facts) => {
                self.wait(receipt);
                false
            }
            // What founds the order or begins an epoch is judged by that fold.
            Some(Stream::Order) | None => false,
        };
        if let Some(state) = &mut self.state {
            state.fold(receipt, &mut Changes::discarding());
        }
        // Whoever was not permitted to say it pins and excuses nothing.
        if !(in_order && permitted) {
            return;
        }
        if let Some(pinned) = detail_of::<LogPinned>(receipt) {
            self.pinned(&pinned, at);
        }
        if let Some(said) = detail_of::<ReceiptInadmissible>(receipt) {
            self.said.named((said.record.log, said.record.seq));
        }
    }

    fn finish(&mut self) -> Judgement {
        let has_order = self.state.as_ref().is_some_and(|state| state.order().is_some());
        if !has_order {
            let why = "the fleet's order is not in this store, and it alone says who may say what";
            return Judgement {
                not_checked: Some(why.to_owned()),
                ..Judgement::default()
            };
        }
        let held = u64::try_from(self.held).unwrap_or(u64::MAX);
        let said = std::mem::take(&mut self.said);
        Judgement {
            judged: self.judged,
            excused: said.excused,
            waiting: [self.dropped, self.unplaced, said.dropped]
                .into_iter()
                .fold(held, u64::saturating_add),
            found: said.found.into_values().collect(),
            not_checked: None,
        }
    }
}

fn code(reason: InadmissibleReason) -> &'static str {
    match reason {
        InadmissibleReason::UnknownAuthor => "authority.unknown-author",
        InadmissibleReason::WrongStream => "authority.wrong-stream",
        _ => "authority.not-permitted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seq: u64) -> NotPermitted {
        NotPermitted {
            log: LogId([1; 32]),
            seq,
            id: ledger_core::ReceiptId([0; 16]),
            code: "authority.not-permitted",
            text: String::new(),
        }
    }

    #[test]
    fn what_the_order_names_makes_room_for_what_it_does_not_and_nothing_past_the_bound_is_forgotten() {
        let most = u64::try_from(KEPT_MAX).unwrap();
        let mut all = Said::default();
        for seq in 0..most {
            all.found(said(seq));
            all.named((LogId([1; 32]), seq));
        }
        assert_eq!((all.excused, all.found.len()), (most, 0));
        for seq in most..2 * most + 3 {
            all.found(said(seq));
        }
        assert_eq!((all.found.len(), all.dropped), (KEPT_MAX, 3));
    }
}
