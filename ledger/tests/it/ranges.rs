//! A verification of a part spares the signatures outside it, and nothing else.

use crate::forging::{Base, base, codes, forge_small};
use ledger::verify::{Aspect, Options, Range, Report, Verdict, verify_store};

fn of_facts(base: &Base, range: Range) -> Report {
    let options = Options {
        logs: vec![base.facts],
        range: Some(range),
        ..Options::default()
    };
    verify_store(base.path(), &options, &mut |_| {}).unwrap()
}

#[test]
fn a_range_spares_signatures_outside_it_and_nothing_else_and_says_so() {
    let base = base();
    let mut all = base.with_bad_signatures(&[2, 6, 9]);
    let payload = (1..18).find(|seq| all[base.fact_at(*seq)].1.is_some()).unwrap();
    all[base.fact_at(payload)].1.as_mut().unwrap().bytes[0] ^= 1;
    forge_small(base.path(), &all, 9);
    let bad = "chain.log-signature";
    for (first, last, expected) in [
        (6, Some(6), vec![6]),
        (5, Some(8), vec![6]),
        (7, Some(8), vec![]),
        (7, None, vec![9]),
        (0, None, vec![2, 6, 9]),
    ] {
        let report = of_facts(&base, Range::Seqs { first, last });
        let named = codes(&report);
        let signatures: Vec<_> = named.iter().filter(|(code, _)| *code == bad).collect();
        assert_eq!(
            signatures,
            expected
                .iter()
                .map(|seq| (bad, Some(*seq)))
                .collect::<Vec<_>>()
                .iter()
                .collect::<Vec<_>>(),
            "{report}"
        );
        // The payload is outside most of them, and is read all the same.
        assert!(named.contains(&("statement.payload", Some(payload))), "{report}");
        let newest = report.logs[0].seq;
        let count = last.unwrap_or(newest) - first + 1;
        assert_eq!(report.range.unwrap().receipts, count);
        assert_eq!(report.counts.log_signatures, count);
        assert_eq!(report.counts.receipts, newest + 1);
        let told = report
            .not_checked
            .iter()
            .any(|said| said.aspect == Aspect::Signatures);
        assert_eq!(told, count < newest + 1, "{report}");
    }
}

#[test]
fn a_range_that_is_not_here_is_a_finding() {
    let base = base();
    forge_small(base.path(), &base.all, 9);
    let here = of_facts(&base, Range::Seqs { first: 3, last: None });
    assert!(here.is_clean(), "{here}");
    let newest = here.logs[0].seq;
    for (first, last, missing) in [(3, Some(newest + 1), newest + 1), (newest + 5, None, newest + 5)] {
        let report = of_facts(&base, Range::Seqs { first, last });
        assert_eq!(codes(&report), [("range.missing", Some(missing))], "{report}");
        assert_eq!(report.completeness, Verdict::Found);
    }
}

#[test]
fn a_range_of_times_takes_what_was_sealed_then() {
    let base = base();
    forge_small(base.path(), &base.with_bad_signatures(&[2, 6]), 9);
    let time = |seq: u64| {
        let record = ledger::core::Record::parse(&base.all[base.fact_at(seq)].0).unwrap();
        record.seal().time.unix_ms()
    };
    let report = |since_unix_ms, until_unix_ms| {
        of_facts(
            &base,
            Range::Times {
                since_unix_ms,
                until_unix_ms,
            },
        )
    };
    let bad = |report: &Report| {
        report
            .findings
            .iter()
            .filter(|f| f.code == "chain.log-signature")
            .count()
    };
    assert_eq!(bad(&report(0, None)), 2);
    assert_eq!(bad(&report(time(18) + 1, None)), 0);
    assert_eq!(bad(&report(0, Some(time(0)))), 0);
    assert!(bad(&report(time(2), Some(time(2) + 1))) >= 1);
}
