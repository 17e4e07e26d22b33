//! Receipts of all logs in one order: by (HLC, machine, stream, log, seq), a page at a time.
//!
//! Owns: the merge and its cursor. Contract: whatever is in the store when the first page is asked for comes exactly once,
//! while others append: times rise within a log, so what comes later has a later key. A machine's log that arrives later
//! with older times may fall behind a cursor; the live tail, which goes by arrival, misses nothing. Reads at most
//! [`PAGE_LOOKED_AT_MAX`] receipts for a page. Does not: hold anything between pages.

use super::cursor::ReceiptKey;
use super::limits::PAGE_LOOKED_AT_MAX;
use super::select::{since_us, until_us};
use super::times;
use crate::machine::Machine;
use ledger::core::{Hlc, LogId, MachineId, Stream};
use ledger::{LedgerError, Published, Receipt};
use ledger_projections::FleetState;
use ledger_projections::timeline::Filter;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Some receipts, and the key behind which the next page begins.
pub(crate) struct Merged {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) next: Option<ReceiptKey>,
}

/// One page of the logs of a snapshot.
pub(crate) fn page(
    machine: &Machine,
    snapshot: &Published<FleetState>,
    filter: &Filter,
    after: Option<&ReceiptKey>,
    limit: usize,
) -> Result<Merged, LedgerError> {
    let from = first_time(filter, after);
    let mut sources = BTreeMap::new();
    let mut heap = BinaryHeap::new();
    for (log, chain) in &snapshot.logs {
        let genesis = chain.genesis();
        let wanted = filter
            .machine
            .as_ref()
            .is_none_or(|wanted| *wanted == genesis.machine);
        if !wanted || chain.time() < from {
            continue;
        }
        let (last, _) = chain.tip();
        let first = if from == Hlc::default() {
            0
        } else {
            machine.ledger.seq_at(log, from)?
        };
        let mut range = machine.ledger.range(log, first, last);
        if let Some(receipt) = range.next().transpose()? {
            heap.push(Reverse((
                key(&receipt, &genesis.machine, genesis.stream),
                Unordered(receipt),
            )));
        }
        sources.insert(*log, (range, genesis.machine.clone(), genesis.stream));
    }
    let until = until_us(filter);
    let mut merged = Merged {
        receipts: Vec::new(),
        next: None,
    };
    let mut looked_at = 0;
    while let Some(Reverse((at, Unordered(receipt)))) = heap.pop() {
        if until.is_some_and(|until| times::hlc_us(receipt.time()) >= until) {
            break;
        }
        if let Some((range, of, stream)) = sources.get_mut(&receipt.log())
            && let Some(next) = range.next().transpose()?
        {
            heap.push(Reverse((key(&next, of, *stream), Unordered(next))));
        }
        if after.is_some_and(|after| at <= *after) {
            continue;
        }
        looked_at += 1;
        if filter.matches(&receipt, &snapshot.state) {
            merged.receipts.push(receipt);
        }
        if (merged.receipts.len() == limit || looked_at == PAGE_LOOKED_AT_MAX) && !heap.is_empty() {
            merged.next = Some(at);
            break;
        }
    }
    Ok(merged)
}

/// Sorts what is at hand already, for where an index found it.
pub(crate) fn page_of(
    snapshot: &Published<FleetState>,
    found: Vec<Receipt>,
    filter: &Filter,
    after: Option<&ReceiptKey>,
    limit: usize,
) -> Merged {
    let mut keyed: Vec<(ReceiptKey, Receipt)> = found
        .into_iter()
        .filter(|receipt| filter.matches(receipt, &snapshot.state))
        .filter_map(|receipt| {
            let genesis = snapshot.logs.get(&receipt.log())?.genesis();
            Some((key(&receipt, &genesis.machine, genesis.stream), receipt))
        })
        .filter(|(at, _)| after.is_none_or(|after| at > after))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let more = keyed.len() > limit;
    keyed.truncate(limit);
    let next = keyed.last().filter(|_| more).map(|(at, _)| at.clone());
    Merged {
        receipts: keyed.into_iter().map(|(_, receipt)| receipt).collect(),
        next,
    }
}

fn first_time(filter: &Filter, after: Option<&ReceiptKey>) -> Hlc {
    let since = since_us(filter)
        .and_then(|us| u64::try_from(us.div_euclid(1000)).ok())
        .map(Hlc::from_unix_ms);
    since
        .unwrap_or_default()
        .max(after.map(|after| after.time).unwrap_or_default())
}

fn key(receipt: &Receipt, machine: &MachineId, stream: Stream) -> ReceiptKey {
    let log: LogId = receipt.log();
    ReceiptKey {
        time: receipt.time(),
        machine: machine.clone(),
        stream,
        log,
        seq: receipt.seq(),
    }
}

/// A receipt beside its key, which alone orders.
struct Unordered(Receipt);

impl PartialEq for Unordered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Unordered {}

impl PartialOrd for Unordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Unordered {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
