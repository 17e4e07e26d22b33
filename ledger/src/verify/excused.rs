//! Author signatures that do not verify, and of which the order says so already.
//!
//! A dense log must never be wedged by one bad record: Central keeps it, and a `receipt.inadmissible` names it. Such a record is
//! inert and known; it is counted and told, and is no finding. The verdict stands behind the record, in another log, so what may be
//! excused is kept for the end of the run. Memory is bounded by [`KEPT_MAX`]; what goes past it is a finding.

use super::report::{Finding, Report};
use ledger_core::kinds::{Detail, Evidence, InadmissibleReason, ReceiptInadmissible};
use ledger_core::{LogId, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Findings and verdicts that are kept for the end of the run: some 10 MiB.
const KEPT_MAX: usize = 20_000;
/// The finding that a verdict excuses.
const CODE: &str = "chain.author-signature";

/// See the module.
#[derive(Default)]
pub(super) struct Excused {
    bad: BTreeMap<(LogId, u64), Finding>,
    named: BTreeSet<(LogId, u64, [u8; 16])>,
}

impl Excused {
    /// Keeps a finding that may be excused; any other one is given back.
    pub(super) fn hold(&mut self, finding: Finding) -> Option<Finding> {
        match (finding.log, finding.seq) {
            (Some(log), Some(seq)) if finding.code == CODE && self.bad.len() < KEPT_MAX => {
                self.bad.insert((log, seq), finding);
                None
            }
            _ => Some(finding),
        }
    }

    /// Notes what an order says of a record. The caller knows that it is one.
    pub(super) fn hear(&mut self, record: &Record) {
        let statement = record.statement();
        let is_one = statement.kind.as_str() == ReceiptInadmissible::KIND
            && statement.schema == ReceiptInadmissible::SCHEMA;
        let said = is_one.then(|| ReceiptInadmissible::decode(&statement.detail).ok());
        if let Some(ReceiptInadmissible {
            record: Evidence { log, seq, .. },
            id,
            reason: InadmissibleReason::AuthorSignature,
        }) = said.flatten()
            && self.named.len() < KEPT_MAX
        {
            self.named.insert((log, seq, id.0));
        }
    }

    /// Tells what is excused from what is found.
    pub(super) fn judge(&mut self, report: &mut Report) {
        let mut excused = 0_u64;
        for ((log, seq), finding) in std::mem::take(&mut self.bad) {
            let id = finding.id.map(|id| id.0);
            if id.is_some_and(|id| self.named.contains(&(log, seq, id))) {
                excused += 1;
            } else {
                report.found(finding);
            }
        }
        report.counts.excused = excused;
        if excused > 0 {
            report.note(format!(
                "{excused} records whose author signature does not verify are named by the order as inadmissible, and are inert"
            ));
        }
    }
}
