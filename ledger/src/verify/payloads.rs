//! Payloads that are not as their statements say, told apart when everything was read: erased as a receipt says, missing, or
//! damaged.
//!
//! `erased` may stand before or behind what it destroys, in any log. Memory is bounded by [`GONE_MAX`]; what goes past it is told as
//! if no receipt said anything.

use super::report::{Aspect, Finding, Report};
use ledger_core::kinds::{Detail, Erased, Evidence};
use ledger_core::{LogId, Record, SealDigest};
use std::collections::{BTreeMap, BTreeSet};

/// Payloads and `erased` receipts that are kept for the end of the run: some 100 MiB.
const GONE_MAX: usize = 1_000_000;

/// How a payload was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadFound {
    None,
    Fits,
    /// Zeros.
    Erased,
    Absent,
    Differs,
    Unexpected,
}

/// Code, aspect and sentence of a finding.
pub(super) type Fault = (&'static str, Aspect, &'static str);

// A payload that is not as its statement says, until it is known whether it was erased.
struct Gone {
    seal: SealDigest,
    payload: PayloadFound,
    finding: Option<Finding>,
}

/// What is known of payloads that are gone.
#[derive(Default)]
pub(super) struct Payloads {
    gone: BTreeMap<(LogId, u64), Gone>,
    erased: BTreeMap<(LogId, u64), BTreeSet<SealDigest>>,
    erased_count: usize,
}

impl Payloads {
    /// Takes the next record's payload; a finding when it is certain already. `own`: whether the log is of the machine that
    /// owns the store, which must have its payloads.
    pub(super) fn take(
        &mut self,
        report: &mut Report,
        record: &Record,
        payload: PayloadFound,
        own: bool,
        judge: impl Fn(Fault) -> Finding,
    ) -> Option<Finding> {
        let finding = fault(payload, own).map(judge);
        match payload {
            PayloadFound::None => None,
            PayloadFound::Fits => {
                report.counts.payloads += 1;
                None
            }
            PayloadFound::Unexpected => finding,
            _ if self.gone.len() < GONE_MAX => {
                let seal = record.seal_digest();
                let place = (record.seal().log, record.seal().seq);
                let gone = Gone {
                    seal,
                    payload,
                    finding,
                };
                self.gone.insert(place, gone);
                None
            }
            _ => finding,
        }
    }

    /// Notes what an `erased` says, wherever it stands. Whether its author had the right to say so, whoever folds the order
    /// tells.
    pub(super) fn hear(&mut self, record: &Record) {
        let statement = record.statement();
        let is_one = statement.kind.as_str() == Erased::KIND && statement.schema == Erased::SCHEMA;
        let said = is_one.then(|| Erased::decode(&statement.detail).ok());
        if let Some(Erased { record, .. }) = said.flatten()
            && self.erased_count < GONE_MAX
        {
            let Evidence { log, seq, seal } = record;
            self.erased_count += usize::from(self.erased.entry((log, seq)).or_default().insert(seal));
        }
    }

    /// Tells erased payloads from those that are missing or damaged.
    pub(super) fn judge(&mut self, report: &mut Report) {
        let mut interrupted = 0_u64;
        for (place, gone) in std::mem::take(&mut self.gone) {
            let said = self
                .erased
                .get(&place)
                .is_some_and(|seals| seals.contains(&gone.seal));
            let counts = &mut report.counts;
            match gone.payload {
                _ if said => counts.erased += 1,
                PayloadFound::Erased => counts.erased += 1,
                PayloadFound::Absent => counts.absent += 1,
                _ => {}
            }
            if !said {
                gone.finding.into_iter().for_each(|finding| report.found(finding));
            } else if gone.payload == PayloadFound::Differs {
                interrupted += 1;
            }
        }
        if interrupted > 0 {
            report.note(format!(
                "{interrupted} payloads are erased by receipt and not yet overwritten to the end; the next opening does it"
            ));
        }
    }
}

fn fault(payload: PayloadFound, own: bool) -> Option<Fault> {
    match payload {
        PayloadFound::None | PayloadFound::Fits => None,
        PayloadFound::Erased => {
            let text = "its payload was erased in place, and no receipt says so";
            Some(("payload.absent", Aspect::Completeness, text))
        }
        PayloadFound::Absent => {
            let text = "its payload is absent, and no receipt says that it was erased";
            own.then_some(("payload.absent", Aspect::Completeness, text))
        }
        PayloadFound::Differs => Some((
            "statement.payload",
            Aspect::Integrity,
            "its payload does not match the commitment",
        )),
        PayloadFound::Unexpected => Some((
            "payload.unexpected",
            Aspect::Integrity,
            "a payload lies beside it, and its statement commits to none",
        )),
    }
}
