//! A verification of a part, and one that goes on where an earlier one was interrupted, find what the whole finds.

use crate::forging::{Base, Stored, base, codes, forge_small, stored};
use crate::stores::{fact_with, found, temp, verify};
use ledger::core::Stream;
use ledger::journal::{EntryDraft, Journal, JournalOptions, StoreId};
use ledger::storage::DiskStorage;
use ledger::verify::{Options, Range, Report, Resume, verify_store};
use ledger::{LedgerError, Paths};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let all = stored(dir.path());
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
            forge_small(base.path(), stored, 9);
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
    forge_small(base.path(), &base.all[..half], 9);
    assert!(is_interrupted(&stopped_at(&base, 5, 1)));
    let kept = std::fs::read(file(&base)).unwrap();
    // The store has grown.
    forge_small(base.path(), &base.all, 9);
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
        forge_small(base.path(), &changed, 9);
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
    forge_small(base.path(), &base.all, 9);
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
    forge_small(base.path(), &[all, vec![filler; 40]].concat(), 9);
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
    forge_small(base.path(), &base.all, 9);
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
    forge_small(base.path(), &base.all, 8);
    assert_eq!(code(with(Options::default())), "verify.resume-other");
    assert_eq!(std::fs::read(file(&base)).unwrap(), kept);
    forge_small(base.path(), &base.all, 9);
    assert!(to_end(&base).is_clean());
}
