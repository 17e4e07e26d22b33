//! How long pulses are kept, and what is kept of them for ever: the sums of each day.
//!
//! Contract: no clock and no I/O; days are those of UTC, told by the time of the seal. A day's summary has an id that follows
//! from who writes it, the log and the day, so that a restart says nothing twice. Nothing here decides when a log is pruned.

use crate::FleetState;
use crate::queue::Refusal;
use ledger::Receipt;
use ledger_core::kinds::{AnyDetail, CitedHead, LogCited, NodeDaySummary, NodePulse3};
use ledger_core::limits::NOTE_BYTES_MAX;
use ledger_core::{Draft, LogId, MachineId, PublicKey, ReceiptId, Stream, Subject, digest};
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Microseconds of an hour.
const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// The longest time that a policy may name, in days: a hundred years.
pub const DAYS_MAX: u32 = 36_525;

/// For how long pulses are kept, and who said so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// In days; absent: for ever.
    pub pulse_days: Option<u32>,
    /// Why.
    pub reason: String,
    /// The `retention.set`.
    pub said: ReceiptId,
    /// Who said it.
    pub author: PublicKey,
    /// When it was sealed, microseconds since 1970.
    pub at: i64,
}

/// Whether a policy may stand.
///
/// # Errors
/// [`Refusal::Spec`] for no day at all, more than a hundred years, and a reason of more than 200 bytes.
pub fn check_policy(pulse_days: Option<u32>, reason: &str) -> Result<(), Refusal> {
    if pulse_days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(Refusal::Spec {
            field: "pulse_days",
            why: format!("1 to {DAYS_MAX} days are expected, or none for ever"),
        });
    }
    if reason.len() > NOTE_BYTES_MAX {
        return Err(Refusal::Spec {
            field: "reason",
            why: format!(
                "at most {NOTE_BYTES_MAX} bytes are expected, {} found",
                reason.len()
            ),
        });
    }
    Ok(())
}

/// Which day a time in milliseconds since 1970 is in, counted from 1970-01-01 in UTC.
pub fn day_of(unix_ms: u64) -> u32 {
    u32::try_from(unix_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// When a day begins, milliseconds since 1970.
pub fn day_begins_ms(day: u32) -> u64 {
    u64::from(day) * DAY_MS
}

/// The first day that is kept at a time in milliseconds since 1970; only whole days go.
pub fn first_day_kept(pulse_days: u32, now_unix_ms: u64) -> u32 {
    day_of(now_unix_ms.saturating_sub(u64::from(pulse_days).saturating_mul(DAY_MS)))
}

/// A day as people write it: `2026-12-01`.
pub fn day_text(day: u32) -> String {
    crate::costs::day_text(i32::try_from(day).unwrap_or(i32::MAX))
}

/// The id of the summary that `author` writes of a day of a log.
pub fn summary_id(author: &PublicKey, log: &LogId, day: u32) -> ReceiptId {
    digest::derived_id(&[b"day-summary", &author.0, &log.0, &day.to_be_bytes()])
}

/// The sums of one day of a pulse log while they are being added up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaySums {
    summary: NodeDaySummary,
}

impl DaySums {
    /// Nothing yet; `first` is the first seq of that day.
    pub fn new(log: LogId, day: u32, first: u64) -> Self {
        let summary = NodeDaySummary {
            log,
            day,
            first,
            last: first,
            pulses: 0,
            cpu_per_mille_sum: 0,
            cpu_per_mille_max: 0,
            memory_used_bytes_sum: 0,
            memory_used_bytes_max: 0,
            memory_total_bytes: 0,
            disk_free_bytes_min: None,
            disk_total_bytes: 0,
            load1_centi_max: 0,
            temperature_milli_c_max: None,
            outbox_receipts_max: 0,
            slots_used_max: 0,
        };
        Self { summary }
    }

    /// Adds a receipt of the log; only heartbeats count, but every one is covered.
    pub fn add(&mut self, receipt: &Receipt) {
        self.summary.last = receipt.seq();
        match receipt.statement().any_detail() {
            Ok(AnyDetail::NodePulse(pulse)) => self.add_pulse(&pulse.into()),
            Ok(AnyDetail::NodePulse2(pulse)) => self.add_pulse(&pulse.into()),
            Ok(AnyDetail::NodePulse3(pulse)) => self.add_pulse(&pulse),
            _ => {}
        }
    }

    fn add_pulse(&mut self, pulse: &NodePulse3) {
        let sums = &mut self.summary;
        sums.pulses += 1;
        sums.cpu_per_mille_sum = sums.cpu_per_mille_sum.saturating_add(pulse.cpu_per_mille.into());
        sums.cpu_per_mille_max = sums.cpu_per_mille_max.max(pulse.cpu_per_mille);
        sums.memory_used_bytes_sum = sums.memory_used_bytes_sum.saturating_add(pulse.memory_used_bytes);
        sums.memory_used_bytes_max = sums.memory_used_bytes_max.max(pulse.memory_used_bytes);
        sums.memory_total_bytes = pulse.memory_total_bytes;
        // A total of 0 says that the disk could not be read, and then the free space means nothing.
        if pulse.disk_total_bytes > 0 {
            let least = sums.disk_free_bytes_min.unwrap_or(u64::MAX);
            sums.disk_free_bytes_min = Some(least.min(pulse.disk_free_bytes));
            sums.disk_total_bytes = pulse.disk_total_bytes;
        }
        sums.load1_centi_max = sums.load1_centi_max.max(pulse.load1_centi);
        sums.temperature_milli_c_max = sums.temperature_milli_c_max.max(pulse.temperature_milli_c);
        sums.outbox_receipts_max = sums.outbox_receipts_max.max(pulse.outbox_receipts);
        sums.slots_used_max = sums.slots_used_max.max(pulse.slots_used);
    }

    /// The receipt that keeps them, by its author, about the machine whose log it is.
    pub fn draft(self, author: &PublicKey, machine: &MachineId) -> Draft {
        let subject = Subject::new(&format!("node/{machine}")).expect("short and printable");
        let id = summary_id(author, &self.summary.log, self.summary.day);
        Draft::of(&self.summary, subject).id(id)
    }
}

/// What the order says once an hour of logs that it does not pin: their heads, as Central durably has them. `heads` are those
/// that moved since it was said before; nothing comes of none. `now` is in microseconds since 1970.
pub fn cite(order: &LogId, now: i64, heads: &[CitedHead]) -> Vec<Draft> {
    let hour = hour_of(now);
    let parts = heads.chunks(LogCited::HEADS_MAX).zip(0u32..);
    parts
        .map(|(heads, part)| {
            let subject = Subject::new("central").expect("short and printable");
            let heads = heads.to_vec();
            Draft::of(&LogCited { heads }, subject).id(cited_id(order, hour, part))
        })
        .collect()
}

/// Which hour a time in microseconds since 1970 is in, counted from there.
pub fn hour_of(now: i64) -> i64 {
    now.div_euclid(HOUR_US)
}

/// The id of one part of what the order says of an hour.
pub fn cited_id(order: &LogId, hour: i64, part: u32) -> ReceiptId {
    digest::derived_id(&[b"log-cited", &order.0, &hour.to_be_bytes(), &part.to_be_bytes()])
}

/// The pulse logs of the fleet's machines, each with its machine; those of Central's own stand for themselves, since it joined
/// without naming them.
pub fn pulse_logs<'a>(
    state: &'a FleetState,
    logs: impl Iterator<Item = &'a ledger_core::Chain>,
) -> Vec<(LogId, MachineId)> {
    let known = |chain: &&ledger_core::Chain| {
        chain.genesis().stream == Stream::Pulse && state.machine(&chain.genesis().machine).is_some()
    };
    logs.filter(known)
        .map(|chain| (chain.log(), chain.genesis().machine.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_names_that_people_give_them() {
        for (day, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (20_819, "2027-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(day_text(day), text);
        }
    }

    #[test]
    fn only_whole_days_go() {
        let noon = day_begins_ms(100) + DAY_MS / 2;
        assert_eq!(first_day_kept(30, noon), 70);
        assert_eq!(first_day_kept(30, day_begins_ms(100)), 70);
        assert_eq!(first_day_kept(30, day_begins_ms(100) - 1), 69);
        assert_eq!(first_day_kept(u32::MAX, noon), 0);
    }
}
