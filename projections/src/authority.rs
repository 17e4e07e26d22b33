//! The fleet's judge for `verify`: what each key was permitted at the record's place in the order.
//!
//! Folds the order from the journal as the committer does. A record of an order log is judged where it stands; a record of another
//! log where the order pins it; a pulse, which nothing pins, where it was met. What was not permitted and is named by a
//! `receipt.inadmissible` of the order is known and inert. Memory: the fleet's state, and the records that wait for a pin, at most
//! `WAITING_MAX`; those past it are counted as not judged.

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
    // Records that were over the bound.
    dropped: u64,
    judged: u64,
    found: Vec<NotPermitted>,
    named: BTreeSet<(LogId, u64)>,
}

impl FleetAuthority {
    /// What `ledger::verify::Options::authority` takes.
    pub fn maker() -> AuthorityMaker {
        Arc::new(|| Box::new(Self::default()) as Box<dyn Authority>)
    }

    fn stream_of(&self, log: &LogId) -> Option<Stream> {
        Some(self.state.as_ref()?.log(log)?.stream)
    }

    // `at`: microseconds since 1970.
    fn judge(&mut self, receipt: &Receipt, stream: Stream, at: i64) {
        let Some(state) = &self.state else {
            return;
        };
        self.judged += 1;
        // A request gets its verdict from its own decider, in the order.
        if stream != Stream::Order && receipt.kind() == RequestReceived::KIND {
            return;
        }
        let own_log = receipt.record.author_signature().is_none();
        let verdict = state.authorise(receipt.statement(), stream, own_log, at);
        if let Err(reason) = verdict
            && self.found.len() < KEPT_MAX
        {
            let author = receipt.statement().author.short();
            let kind = receipt.kind().to_owned();
            self.found.push(NotPermitted {
                log: receipt.log(),
                seq: receipt.seq(),
                id: receipt.id(),
                code: code(reason),
                text: format!(
                    "key {author} was not permitted to say {kind} in {stream} at this place of the order"
                ),
            });
        }
    }

    fn wait(&mut self, receipt: &Receipt) {
        if self.held == WAITING_MAX {
            self.dropped += 1;
            return;
        }
        self.held += 1;
        let log = self.waiting.entry(receipt.log()).or_default();
        log.insert(receipt.seq(), receipt.clone());
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
        match stream {
            // A genesis says what a log is, and needs no grant.
            _ if genesis.is_some() => {}
            Some(Stream::Order) if in_order => self.judge(receipt, Stream::Order, at),
            // What founds the order or begins an epoch is judged by that fold.
            Some(Stream::Order) | None => {}
            Some(Stream::Pulse) => self.judge(receipt, Stream::Pulse, at),
            Some(Stream::Work | Stream::Facts) => self.wait(receipt),
        }
        if let Some(state) = &mut self.state {
            state.fold(receipt, &mut Changes::discarding());
        }
        if !in_order {
            return;
        }
        if let Some(pinned) = detail_of::<LogPinned>(receipt) {
            self.pinned(&pinned, at);
        }
        if let Some(said) = detail_of::<ReceiptInadmissible>(receipt)
            && self.named.len() < KEPT_MAX
        {
            self.named.insert((said.record.log, said.record.seq));
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
        let (excused, found): (Vec<_>, Vec<_>) = std::mem::take(&mut self.found)
            .into_iter()
            .partition(|said| self.named.contains(&(said.log, said.seq)));
        Judgement {
            judged: self.judged,
            excused: u64::try_from(excused.len()).unwrap_or(u64::MAX),
            waiting: held.saturating_add(self.dropped),
            found,
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
