//! What machines have that Central has not: whether a backlog gets less, or grows although the machine is heard.
//!
//! Memory beside the state. Contract: a machine that brings in what it had is never told of, however much it has; one whose
//! backlog holds what it held a while ago, and has not become less, is. A machine that is not heard is the business of others.

use ledger::core::{LogId, MachineId, Stream};
use ledger_projections::FleetState;
use ledger_projections::notices::{Condition, Standing};
use std::collections::BTreeMap;

/// Logs of one machine that are looked at; it has three.
const LOGS_MAX: usize = 8;

/// Whether a log counts. Heartbeats do not: those that are pruned there and were lost here come never, and nothing waits for them.
pub(super) fn counts(state: &FleetState, log: &LogId) -> bool {
    state.log(log).is_none_or(|row| row.stream != Stream::Pulse)
}

/// One machine's backlog as its hellos tell it.
struct Backlog {
    // When its marks were last noted as a new beginning, microseconds since 1970.
    since: i64,
    // Its own marks then.
    heads: Vec<(LogId, u64)>,
    // How many receipts were missing here then, and at its last hello.
    missing_then: u64,
    missing: u64,
    // When it last said hello, microseconds since 1970.
    heard: i64,
}

/// The backlogs of all machines that said hello.
#[derive(Default)]
pub(crate) struct Backlogs(BTreeMap<MachineId, Backlog>);

impl Backlogs {
    /// A machine says hello: its log, the newest seq that it has, the newest one that is here.
    pub(crate) fn note(&mut self, machine: &MachineId, logs: &[(LogId, u64, Option<u64>)], now: i64) {
        let logs = &logs[..logs.len().min(LOGS_MAX)];
        // What a machine says of itself may be any number.
        let missing = logs.iter().fold(0u64, |sum, (_, theirs, ours)| {
            let here = ours.map_or(0, |seq| seq.saturating_add(1));
            sum.saturating_add(theirs.saturating_add(1).saturating_sub(here))
        });
        let has = |log: &LogId, seq: u64| {
            let here = logs
                .iter()
                .find(|(of, ..)| of == log)
                .and_then(|(.., ours)| *ours);
            here.is_some_and(|here| here >= seq)
        };
        if let Some(before) = self.0.get_mut(machine) {
            let arrived = before.heads.iter().all(|(log, seq)| has(log, *seq));
            if !arrived && missing >= before.missing_then {
                (before.missing, before.heard) = (missing, now);
                return;
            }
        }
        let backlog = Backlog {
            since: now,
            heads: logs.iter().map(|(log, theirs, _)| (*log, *theirs)).collect(),
            missing_then: missing,
            missing,
            heard: now,
        };
        self.0.insert(machine.clone(), backlog);
    }

    /// The machines that were heard within the last `after_us` microseconds, and whose backlog has not become less for as long.
    pub(crate) fn growing(&self, now: i64, after_us: i64) -> Vec<Standing> {
        let grows = |(machine, backlog): (&MachineId, &Backlog)| {
            let stands = backlog.missing > 0
                && now.saturating_sub(backlog.heard) < after_us
                && backlog.heard.saturating_sub(backlog.since) >= after_us;
            stands.then(|| Standing {
                machine: machine.clone(),
                condition: Condition::OutboxGrows {
                    receipts: backlog.missing,
                    since: backlog.since,
                },
            })
        };
        self.0.iter().filter_map(grows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: i64 = 100;

    // Says hello every 10 from 0 until 300, with what the machine has and what is here; when it was found growing.
    fn found(has: impl Fn(i64) -> u64, here: impl Fn(i64) -> Option<u64>) -> Vec<i64> {
        let mini = MachineId::new("mini").expect("a name");
        let (log, mut backlogs) = (LogId([1; 32]), Backlogs::default());
        let looks = (0..30).map(|n| n * 10);
        let grows = looks.filter(|now| {
            backlogs.note(&mini, &[(log, has(*now), here(*now))], *now);
            !backlogs.growing(*now, AFTER).is_empty()
        });
        grows.collect()
    }

    fn seq(of: i64) -> u64 {
        of.try_into().unwrap_or(0)
    }

    #[test]
    fn a_backlog_that_stands_still_or_grows_is_found_after_its_time() {
        assert_eq!(found(|_| 50, |_| Some(7)).first(), Some(&100));
        assert_eq!(found(|now| 50 + seq(now), |_| None).first(), Some(&100));
        // Something comes in, but less than is added.
        let slower = found(|now| 1000 + 3 * seq(now), |now| Some(seq(now)));
        assert_eq!(slower.first(), Some(&100));
    }

    #[test]
    fn a_machine_that_keeps_up_or_catches_up_is_never_found() {
        assert_eq!(found(|now| 50 + seq(now), |now| Some(50 + seq(now))), [0i64; 0]);
        // Always some on their way.
        assert_eq!(
            found(|now| 500 + 10 * seq(now), |now| Some(10 * seq(now))),
            [0i64; 0]
        );
        // A week's backlog, while more is added.
        assert_eq!(
            found(|now| 500_000 + seq(now), |now| Some(100 * seq(now))),
            [0i64; 0]
        );
    }

    #[test]
    fn numbers_that_no_log_has_are_no_harm() {
        let mini = MachineId::new("mini").expect("a name");
        let mut backlogs = Backlogs::default();
        let absurd: Vec<_> = (0..100).map(|n| (LogId([n; 32]), u64::MAX, Some(7))).collect();
        for now in [0, 200] {
            backlogs.note(&mini, &absurd, now);
        }
        assert_eq!(backlogs.growing(201, AFTER).len(), 1);
    }

    #[test]
    fn a_machine_that_is_not_heard_any_more_is_no_backlog() {
        let mini = MachineId::new("mini").expect("a name");
        let (log, mut backlogs) = (LogId([1; 32]), Backlogs::default());
        for now in [0, 60, 120] {
            backlogs.note(&mini, &[(log, 9, None)], now);
        }
        assert_eq!(backlogs.growing(121, AFTER).len(), 1);
        assert!(backlogs.growing(120 + AFTER, AFTER).is_empty());
    }
}
