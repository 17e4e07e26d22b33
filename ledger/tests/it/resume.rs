//! A verification of a part, and one that goes on where an earlier one was interrupted, find what the whole finds.

use crate::stores::{entries, fact, fact_with, found, pin, temp, verify};
use ledger::clock::SystemEntropy;
use ledger::core::{LogId, Payload, Stream};
use ledger::journal::{EntryDraft, Journal, JournalOptions, StoreId};
use ledger::storage::DiskStorage;
use ledger::verify::{Aspect, Options, Range, Report, Resume, Verdict, verify_store};
use ledger::{LedgerError, Paths};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Stored = (Vec<u8>, Option<Payload>);

// A journal of small segments with sound checksums.
fn forge(dir: &Path, stored: &[Stored], store: u8) {
    let journal = Paths::new(dir).journal();
    if journal.exists() {
        std::fs::remove_dir_all(&journal).unwrap();
    }
    let options = JournalOptions {
        segment_bytes: 4096,
        fill_bytes: 4096,
        entropy: [3; 32],
    };
    let (mut journal, _) =
        Journal::create(Arc::new(DiskStorage), &journal, StoreId([store; 16]), options).unwrap();
    for (record, payload) in stored {
        let payload = payload.as_ref();
        journal.append(&[EntryDraft { record, payload }]).unwrap();
    }
    journal.close().unwrap();
}

struct Base {
    dir: tempfile::TempDir,
    all: Vec<Stored>,
    facts: LogId,
}

// Three logs, pins, payloads, and some facts with a signature of their actor.
fn base() -> Base {
    let dir = temp();
    let ledger = found(dir.path(), "studio", true);
    let facts = ledger.own_log(Stream::Facts).unwrap();
    for number in 0..24_u8 {
        match number % 4 {
            0 => {
                let said = ledger.sign_as_actor(fact("by an actor"), &SystemEntropy).unwrap();
                ledger.append_signed(said).unwrap();
            }
            3 => {
                ledger.append_to(Stream::Order, pin(&ledger, &facts)).unwrap();
            }
            _ => {
                ledger.append(fact_with("n", &[number; 40])).unwrap();
            }
        }
    }
    ledger.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    let all = entries(dir.path())
        .into_iter()
        .map(|(_, record, payload)| (record, payload))
        .collect();
    Base { dir, all, facts }
}

impl Base {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    // Where the record of this seq of the facts stands in the journal.
    fn fact_at(&self, seq: u64) -> usize {
        let is = |(record, _): &Stored| {
            let record = ledger::core::Record::parse(record).unwrap();
            record.seal().log == self.facts && record.seal().seq == seq
        };
        self.all.iter().position(is).unwrap()
    }

    // Without the last byte, which is of the log signature, being what it was.
    fn with_bad_signatures(&self, seqs: &[u64]) -> Vec<Stored> {
        let mut all = self.all.clone();
        for seq in seqs {
            *all[self.fact_at(*seq)].0.last_mut().unwrap() ^= 1;
        }
        all
    }
}

fn of_facts(base: &Base, range: Range) -> Report {
    let options = Options {
        logs: vec![base.facts],
        range: Some(range),
        ..Options::default()
    };
    verify_store(base.path(), &options, &mut |_| {}).unwrap()
}

fn codes(report: &Report) -> Vec<(&'static str, Option<u64>)> {
    report.findings.iter().map(|f| (f.code, f.seq)).collect()
}

#[test]
fn a_range_spares_signatures_outside_it_and_nothing_else_and_says_so() {
    let base = base();
    let mut all = base.with_bad_signatures(&[2, 6, 9]);
    let payload = (1..18).find(|seq| all[base.fact_at(*seq)].1.is_some()).unwrap();
    all[base.fact_at(payload)].1.as_mut().unwrap().bytes[0] ^= 1;
    forge(base.path(), &all, 9);
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
    forge(base.path(), &base.all, 9);
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
    forge(base.path(), &base.with_bad_signatures(&[2, 6]), 9);
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

// Large enough for several blocks and threads.
fn large() -> Base {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let facts = ledger.own_log(Stream::Facts).unwrap();
    let draft = |number: u32| fact_with("n", &number.to_be_bytes().repeat(1500));
    for from in (0..1500_u32).step_by(50) {
        let drafts = (from..from + 50).map(draft).collect();
        ledger.append_batch(Stream::Facts, drafts).unwrap();
    }
    ledger.close().unwrap();
    let all = entries(dir.path())
        .into_iter()
        .map(|(_, record, payload)| (record, payload))
        .collect();
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    Base { dir, all, facts }
}

#[test]
fn several_threads_keep_only_what_is_checked_to_its_end() {
    let base = large();
    let mut all = base.all.clone();
    let bad = [3, 400, 401, 700, 1100, 1499];
    for (record, _) in &mut all {
        let parsed = ledger::core::Record::parse(record).unwrap();
        if parsed.seal().log == base.facts && bad.contains(&parsed.seal().seq) {
            *record.last_mut().unwrap() ^= 1;
        }
    }
    let journal = Paths::new(base.path()).journal();
    std::fs::remove_dir_all(&journal).unwrap();
    let (mut forged, _) = Journal::create(
        Arc::new(DiskStorage),
        &journal,
        StoreId([9; 16]),
        JournalOptions::new([3; 32]),
    )
    .unwrap();
    for some in all.chunks(40) {
        let drafts: Vec<_> = some
            .iter()
            .map(|(record, payload)| EntryDraft {
                record,
                payload: payload.as_ref(),
            })
            .collect();
        forged.append(&drafts).unwrap();
    }
    forged.close().unwrap();
    let whole = verify(base.path());
    assert_eq!(whole.findings_total, bad.len() as u64);
    let (mut covered, mut cuts) = (0, 0);
    for nth in 1..14 {
        let run = stopped_at(&base, nth, 3);
        if let Ok(report) = &run {
            assert_eq!(said(report), said(&whole));
            continue;
        }
        cuts += 1;
        let resumed = stopped_at(&base, usize::MAX, 3).unwrap();
        assert_eq!(said(&resumed), said(&whole), "cut {nth}: {resumed}");
        covered += resumed.resumed.map_or(0, |resumed| resumed.log_signatures);
    }
    assert!(cuts > 3 && covered > 1000, "{cuts} {covered}");
    // Whatever a kill would leave is as good.
    let mut left: Vec<Vec<u8>> = Vec::new();
    let options = Options {
        threads: 1,
        resume: Some(Resume {
            file: file(&base),
            every_bytes: 1,
        }),
        ..Options::default()
    };
    let mut keep = |_| left.extend(std::fs::read(file(&base)));
    verify_store(base.path(), &options, &mut keep).unwrap();
    left.dedup();
    assert!(left.len() > 3, "{}", left.len());
    for kept in left {
        std::fs::write(file(&base), kept).unwrap();
        assert_eq!(said(&stopped_at(&base, usize::MAX, 3).unwrap()), said(&whole));
    }
}

fn file(base: &Base) -> PathBuf {
    base.path().join("how-far")
}

// A run that is asked to stop when it tells progress for the nth time.
fn stopped_at(base: &Base, nth: usize, threads: usize) -> Result<Report, LedgerError> {
    let stop = Arc::new(AtomicBool::new(false));
    let options = Options {
        threads,
        resume: Some(Resume {
            file: file(base),
            every_bytes: 1,
        }),
        stop: Some(Arc::clone(&stop)),
        ..Options::default()
    };
    let mut told = 0;
    verify_store(base.path(), &options, &mut |_| {
        told += 1;
        if told == nth {
            stop.store(true, Ordering::Release);
        }
    })
}

fn to_end(base: &Base) -> Report {
    stopped_at(base, usize::MAX, 1).unwrap()
}

// Everything that a report says, but how long it took and what stood on an earlier run.
fn said(report: &Report) -> Value {
    let mut value = serde_json::to_value(report).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("elapsed_ms");
    object.remove("resumed");
    object.remove("freshness");
    value
}

fn is_interrupted(run: &Result<Report, LedgerError>) -> bool {
    matches!(run, Err(error) if error.code() == "verify.interrupted")
}

#[test]
fn whatever_is_damaged_and_wherever_it_was_interrupted_a_resumed_run_finds_what_a_whole_one_finds() {
    let base = base();
    let author = base.fact_at(1);
    let mut author_signature = base.all.clone();
    let statement = usize::from(u16::from_be_bytes([
        author_signature[author].0[0],
        author_signature[author].0[1],
    ]));
    author_signature[author].0[2 + statement + 1] ^= 1;
    let mut removed = base.with_bad_signatures(&[2, 11]);
    removed.remove(base.fact_at(7));
    let mut doubled = base.with_bad_signatures(&[4]);
    doubled.insert(base.fact_at(9), doubled[base.fact_at(8)].clone());
    let mut swapped = base.all.clone();
    swapped.swap(base.fact_at(5), base.fact_at(6));
    let cases = [
        base.all.clone(),
        base.with_bad_signatures(&[1, 5, 12, 16]),
        author_signature,
        removed,
        doubled,
        swapped,
    ];
    let (mut covered, mut interrupted) = (0, 0);
    for (number, stored) in cases.iter().enumerate() {
        for flipped in [None, Some(3)] {
            forge(base.path(), stored, 9);
            if let Some(segment) = flipped {
                let path = Paths::new(base.path())
                    .journal()
                    .join(format!("{segment:08}.seg"));
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[1000] ^= 4;
                std::fs::write(&path, bytes).unwrap();
            }
            let whole = verify(base.path());
            for nth in (1..).step_by(flipped.map_or(1, |_| 4)) {
                let run = stopped_at(&base, nth, 1);
                if !is_interrupted(&run) {
                    assert_eq!(said(&run.unwrap()), said(&whole));
                    break;
                }
                interrupted += 1;
                let resumed = to_end(&base);
                assert_eq!(
                    said(&resumed),
                    said(&whole),
                    "case {number}, cut {nth}: {resumed}"
                );
                covered += resumed.resumed.map_or(0, |resumed| resumed.log_signatures);
                assert!(!file(&base).exists());
            }
            // Interrupted again and again, each time a little later.
            let mut last = 0;
            for nth in (1..).step_by(3) {
                let run = stopped_at(&base, nth, 2);
                let Err(error) = run else {
                    let resumed = run.unwrap();
                    assert_eq!(said(&resumed), said(&whole), "case {number}: {resumed}");
                    last = resumed.resumed.map_or(last, |resumed| resumed.log_signatures);
                    break;
                };
                assert_eq!(error.code(), "verify.interrupted");
            }
            covered += last;
        }
    }
    assert!(interrupted > 60 && covered > 500, "{interrupted} {covered}");
}

#[test]
fn what_came_after_the_interruption_is_checked_and_what_changed_before_it_is_found() {
    let base = base();
    let half = base.all.len() / 2;
    forge(base.path(), &base.all[..half], 9);
    assert!(is_interrupted(&stopped_at(&base, 5, 1)));
    let kept = std::fs::read(file(&base)).unwrap();
    // The store has grown.
    forge(base.path(), &base.all, 9);
    let grown = to_end(&base);
    assert!(
        grown.resumed.is_some_and(|resumed| resumed.log_signatures > 0),
        "{grown}"
    );
    assert_eq!(said(&grown), said(&verify(base.path())));
    // Records before the place have other bytes, or are fewer.
    let mut fewer = base.all.clone();
    fewer.remove(4);
    let early = ledger::core::Record::parse(&base.all[4].0).unwrap();
    for changed in [
        {
            let mut all = base.all.clone();
            *all[4].0.last_mut().unwrap() ^= 1;
            all
        },
        fewer,
        base.all[..3].to_vec(),
    ] {
        forge(base.path(), &changed, 9);
        std::fs::write(file(&base), &kept).unwrap();
        let report = to_end(&base);
        assert_eq!(report.resumed, None, "{early:?}: {report}");
        let anew = report
            .notes
            .iter()
            .filter(|note| note.contains("checked anew"))
            .count();
        assert_eq!(anew, 1, "{report}");
        let whole = verify(base.path());
        assert_eq!(report.findings, whole.findings);
        assert_eq!(report.counts, whole.counts);
    }
}

#[test]
fn a_run_that_spares_what_it_has_not_met_keeps_nothing_of_it() {
    let base = base();
    forge(base.path(), &base.all, 9);
    assert!(is_interrupted(&stopped_at(&base, 8, 1)));
    // A spared signature is bad now, and the digest that would tell is of more records than are left.
    let gone: Vec<usize> = (4..=18).map(|seq| base.fact_at(seq)).collect();
    let kept = |(index, stored): (usize, Stored)| (!gone.contains(&index)).then_some(stored);
    let all: Vec<Stored> = base
        .with_bad_signatures(&[2])
        .into_iter()
        .enumerate()
        .filter_map(kept)
        .collect();
    // Other records stand behind the place, so that a run gets past it.
    let filler = base.all.last().unwrap().clone();
    forge(base.path(), &[all, vec![filler; 40]].concat(), 9);
    let whole = verify(base.path());
    assert!(
        codes(&whole).contains(&("chain.log-signature", Some(2))),
        "{whole}"
    );
    for nth in 1.. {
        let run = stopped_at(&base, nth, 1);
        if let Ok(report) = run {
            assert_eq!(report.findings, whole.findings, "{report}");
            break;
        }
    }
}

#[test]
fn a_file_that_does_not_fit_is_refused_with_its_code_and_stays() {
    let base = base();
    forge(base.path(), &base.all, 9);
    assert!(is_interrupted(&stopped_at(&base, 8, 1)));
    let kept = std::fs::read(file(&base)).unwrap();
    let code = |options: Options| {
        let run = verify_store(base.path(), &options, &mut |_| {});
        run.unwrap_err().code()
    };
    let with = |options: Options| Options {
        resume: Some(Resume::new(file(&base))),
        ..options
    };
    for other in [
        Options {
            logs: vec![base.facts],
            ..Options::default()
        },
        Options {
            range: Some(Range::Seqs { first: 0, last: None }),
            ..Options::default()
        },
    ] {
        assert_eq!(code(with(other)), "verify.resume-other");
    }
    let fast = Options {
        full: false,
        ..Options::default()
    };
    assert_eq!(code(with(fast)), "verify.resume-useless");
    let inside = Options {
        resume: Some(Resume::new(Paths::new(base.path()).journal().join("how-far"))),
        ..Options::default()
    };
    assert_eq!(code(inside), "verify.resume-useless");
    for at in 0..kept.len() {
        let mut damaged = kept.clone();
        damaged[at] ^= 1 << (at % 7);
        std::fs::write(file(&base), &damaged).unwrap();
        assert_eq!(
            code(with(Options::default())),
            "verify.resume-damaged",
            "byte {at}"
        );
        std::fs::write(file(&base), &kept[..at]).unwrap();
        assert_eq!(
            code(with(Options::default())),
            "verify.resume-damaged",
            "cut at {at}"
        );
    }
    std::fs::write(file(&base), &kept).unwrap();
    forge(base.path(), &base.all, 8);
    assert_eq!(code(with(Options::default())), "verify.resume-other");
    assert_eq!(std::fs::read(file(&base)).unwrap(), kept);
    forge(base.path(), &base.all, 9);
    assert!(to_end(&base).is_clean());
}
