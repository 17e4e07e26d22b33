//! Reading an open store, and opening one.

use crate::Failed;
use crate::measure::{Cost, cost, median, wall_us};
use ledger::core::{LogId, ReceiptId, Stream};
use ledger::{Ledger, Position};
use std::path::Path;

/// Medians in microseconds of wall time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lookups {
    /// One receipt by log and seq.
    pub by_place_us: f64,
    /// One receipt by its id.
    pub by_id_us: f64,
}

// A step that no store's size divides, so that what is asked for lies all over it.
const STRIDE: u64 = 7919;

/// Asks for so many receipts of the store's facts, all over the log, each once to warm up and once measured.
///
/// # Errors
/// What the ledger says; when a receipt is not found.
pub fn lookups(ledger: &Ledger, count: usize) -> Result<Lookups, Failed> {
    let log: LogId = ledger.own_log(Stream::Facts).ok_or("a lone store has facts")?;
    let size = ledger.head(&log).ok_or("the log has a head")?.seq + 1;
    let (mut places, mut by_id) = (Vec::new(), Vec::new());
    for n in 0..u64::try_from(count)? {
        let seq = n * STRIDE % size;
        let first = ledger.get(&log, seq)?.ok_or("every seq is there")?;
        let id: ReceiptId = first.id();
        ledger.find(&id)?;
        let (us, found) = wall_us(|| ledger.get(&log, seq));
        found?.ok_or("it is still there")?;
        places.push(us);
        let (us, found) = wall_us(|| ledger.find(&id));
        if found?.len() != 1 {
            return Err("one receipt has each id".into());
        }
        by_id.push(us);
    }
    Ok(Lookups {
        by_place_us: median(places),
        by_id_us: median(by_id),
    })
}

/// Reads and decodes every receipt in order, on one thread.
///
/// # Errors
/// What the ledger says; when there are not so many.
pub fn scan(ledger: &Ledger, receipts: usize) -> Result<Cost, Failed> {
    let (cost, seen) = cost(receipts, || {
        ledger
            .scan(Position::START)
            .try_fold(0_usize, |seen, receipt| receipt.map(|_| seen + 1))
    });
    let seen = seen?;
    (seen == receipts)
        .then_some(cost)
        .ok_or_else(|| format!("{seen} of {receipts} receipts were read").into())
}

/// Opens a store that was closed cleanly, and closes it again; milliseconds until it was open.
///
/// # Errors
/// What the ledger says.
pub fn open(dir: &Path) -> Result<f64, Failed> {
    let (us, ledger) = wall_us(|| Ledger::lone(dir, "bench"));
    ledger?.close()?;
    Ok(us / 1000.0)
}
