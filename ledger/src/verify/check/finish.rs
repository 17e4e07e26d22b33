//! The end of a run: what the judge says, what the range lacks, what is said of the logs.

use super::Check;
use crate::verify::log::LogState;
use crate::verify::not_pinned;
use crate::verify::report::{Aspect, Finding, LogReport, Report};
use ledger_core::LogId;
use ledger_core::kinds::Verdict;

impl Check<'_> {
    // What the judge says; a log that founded its own fleet needs none.
    fn judge_authority(&mut self) {
        let founded = |state: &LogState| {
            let chain = state.chain();
            chain.is_some_and(|chain| chain.genesis().founding.is_some())
        };
        let judgement = self.judge.as_mut().map(|judge| judge.finish());
        let Some(judgement) = judgement.filter(|said| said.not_checked.is_none() || self.logs.len() > 1)
        else {
            if self.logs.len() == 1 && self.logs.values().all(founded) {
                self.report.authority = Verdict::Clean;
                self.report.counts.judged = self.report.counts.receipts;
            }
            return;
        };
        if let Some(why) = &judgement.not_checked {
            self.report.not_checked(Aspect::Authority, why);
            return;
        }
        judgement.tell(&mut self.report, |log| self.options.wants(log));
    }

    // What of the range is here, and what is left unchecked beside it.
    fn judge_range(&mut self) {
        let Some(range) = self.options.range else {
            return;
        };
        let mut wanted: Vec<LogId> = self.options.logs.clone();
        if wanted.is_empty() {
            wanted.extend(self.logs.keys());
        }
        let newest = |log: &LogId| self.logs.get(log).map(|state| state.expects());
        let newest: Vec<_> = wanted.iter().map(|log| (*log, newest(log))).collect();
        let (receipts, full) = (self.in_range, self.options.full);
        self.report.set_range(range, receipts, full, &newest);
    }

    // What was asked for and is not here, and what could not be checked of what is.
    fn judge_logs(&mut self) {
        let missing = self
            .options
            .logs
            .iter()
            .filter(|log| !self.logs.contains_key(log));
        for log in missing {
            self.report.found(Finding {
                code: "log.missing",
                aspect: Aspect::Completeness,
                log: Some(*log),
                seq: None,
                id: None,
                position: None,
                text: "nothing of the log that was asked for is here".to_owned(),
            });
        }
        let keys = self.logs.iter().filter_map(|(log, state)| {
            let chain = state.chain()?;
            Some((log, &chain.genesis().checkpoint_key))
        });
        if let Some(finding) = not_pinned(self.options, keys) {
            self.report.found(finding);
        }
        let unsigned = self.logs.values().filter(|state| state.key().is_none()).count();
        if unsigned > 0 && self.options.full {
            let why = format!("of {unsigned} logs whose genesis is missing or damaged");
            self.report.not_checked(Aspect::Signatures, &why);
        }
    }

    /// The report, with what is said of the logs.
    pub(in crate::verify) fn finish(mut self) -> Report {
        self.payloads.judge(&mut self.report);
        self.excused.judge(&mut self.report);
        self.judge_authority();
        self.pruned.judge(self.home, &mut self.report);
        self.cosigned
            .judge(&self.logs, &self.options.keys, &mut self.report);
        self.judge_range();
        self.judge_logs();
        self.report.resumed = self.cover.report();
        self.report.counts.logs = u64::try_from(self.logs.len()).unwrap_or(u64::MAX);
        self.report.counts.heads_compared += self.book.compared();
        let mut logs: Vec<_> = self.logs.values().map(|state| state.report(self.home)).collect();
        logs.sort_by(|a, b| {
            let key = |log: &LogReport| (!log.own, log.machine.clone(), log.stream.map(|s| s.to_string()));
            key(a).cmp(&key(b)).then(a.log.cmp(&b.log))
        });
        self.report.logs = logs;
        let newest = self.logs.values().map(LogState::time).max();
        let now_us = self.options.clock.now_us();
        self.report.checkpoints = self.seen.report(now_us, &self.logs);
        self.report.set_freshness(newest, now_us, self.options.max_age_ms);
        self.report.tell_unchecked();
        self.report
    }
}
