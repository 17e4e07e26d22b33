//! What a run cost: measured by the supervisor, and as the handler's own lines say.
//!
//! `cost tokens N` and `cost CUR_micros N`, where CUR is a currency's three letters in small; repeated amounts add up. US dollars
//! stand in the report itself, other currencies in a receipt beside it.

use crate::worker::{ReportLine, RunResult};
use ledger::core::Draft;
use ledger::core::kinds::{Costs, Fence, JobId, Money, RunCharged};
use ledger::core::limits::CURRENCIES_MAX;
use std::collections::BTreeMap;

/// What a run cost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spent {
    pub(super) costs: Costs,
    money: BTreeMap<String, u64>,
}

impl Spent {
    /// Of a run that is over.
    pub(super) fn of(result: &RunResult, lines: &[ReportLine]) -> Self {
        let mut spent = Self {
            costs: Costs {
                wall_ms: result.wall_ms,
                cpu_ms: result.cpu_ms,
                peak_memory_bytes: result.peak_memory_bytes,
                ..Costs::default()
            },
            money: BTreeMap::new(),
        };
        for line in lines {
            if let ReportLine::Cost { name, amount } = line
                && !spent.add(name, *amount)
            {
                tracing::warn!(%name, amount, "a cost that a handler reports is not understood; expected tokens or CUR_micros");
            }
        }
        spent
    }

    fn add(&mut self, name: &str, amount: u64) -> bool {
        if name == "tokens" {
            self.costs.tokens = self.costs.tokens.saturating_add(amount);
            return true;
        }
        let currency = name.strip_suffix("_micros");
        let letters = |text: &&str| text.len() == 3 && text.bytes().all(|b| b.is_ascii_lowercase());
        match currency.filter(letters) {
            None => false,
            Some("usd") => {
                self.costs.usd_micros = self.costs.usd_micros.saturating_add(amount);
                true
            }
            Some(other) => {
                let room = self.money.len() < CURRENCIES_MAX;
                let sum = match self.money.get_mut(&other.to_ascii_uppercase()) {
                    Some(sum) => sum,
                    None if room => self.money.entry(other.to_ascii_uppercase()).or_default(),
                    None => return false,
                };
                *sum = sum.saturating_add(amount);
                true
            }
        }
    }

    /// The receipt of money in other currencies, for right behind the end.
    pub(super) fn charged(&self, fence: &Fence, job: &JobId) -> Option<Draft> {
        let money = self.money.iter().map(|(currency, micros)| Money {
            currency: currency.clone(),
            micros: *micros,
        });
        let charged = RunCharged {
            job: *job,
            fence: *fence,
            money: money.collect(),
        };
        (!charged.money.is_empty()).then(|| Draft::of(&charged, job.subject()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_each_currency_add_up_and_the_rest_is_not_understood() {
        let mut spent = Spent::default();
        let told = [
            ("tokens", 2, true),
            ("tokens", 3, true),
            ("usd_micros", 4, true),
            ("eur_micros", 5, true),
            ("eur_micros", u64::MAX, true),
            ("euro_micros", 6, false),
            ("usd", 7, false),
        ];
        for (name, amount, understood) in told {
            assert_eq!(spent.add(name, amount), understood, "{name}");
        }
        assert_eq!((spent.costs.tokens, spent.costs.usd_micros), (5, 4));
        assert_eq!(spent.money, BTreeMap::from([("EUR".to_owned(), u64::MAX)]));
    }
}
