//! Records as they travel between machines: runs of a log, single ones, and those that others cite.

use crate::error::ServerError;
use crate::exchange::{RUN_BYTES_MAX, RUN_RECORDS_MAX, Raw};
use crate::machine::Machine;
use ledger::core::LogId;
use ledger::core::kinds::Evidence;
use ledger::{PayloadState, Receipt};

/// A run of a log from a seq on, bounded in records and bytes, and whether it reaches the end.
pub(crate) fn read_run(machine: &Machine, log: &LogId, next: u64) -> Result<(Vec<Raw>, bool), ServerError> {
    let mut records = Vec::new();
    let mut bytes = 0;
    for receipt in machine.ledger.range(log, next, u64::MAX) {
        let raw = raw_of(machine, &receipt?)?;
        bytes += raw.travels_as();
        records.push(raw);
        if bytes >= RUN_BYTES_MAX || records.len() >= RUN_RECORDS_MAX {
            return Ok((records, false));
        }
    }
    Ok((records, true))
}

/// A record as it travels.
pub(crate) fn raw_of(machine: &Machine, receipt: &Receipt) -> Result<Raw, ServerError> {
    let payload = match machine.ledger.payload(receipt)? {
        PayloadState::Present(payload) => Some(payload),
        _ => None,
    };
    Ok(Raw {
        record: receipt.record.bytes().to_vec(),
        payload,
    })
}

/// The place of evidence as a receipt of this store, when it has it.
pub(crate) fn evidence(machine: &Machine, evidence: &Evidence) -> Result<Option<Receipt>, ServerError> {
    let found = machine.ledger.get(&evidence.log, evidence.seq)?;
    Ok(found.filter(|receipt| receipt.seal_digest() == evidence.seal))
}
