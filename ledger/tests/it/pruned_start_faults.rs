//! Beginning a copy behind what its source pruned, killed at any operation: it is begun or it is not, and the next try begins it.

use crate::prune_faults::{Mortal, mortal_options};
use crate::pruned_start::{catch_up, cosign};
use crate::stores::{assert_clean, copy, temp, verify};
use crate::witness::{beat, follow, pair, store};
use ledger::core::chain::Head;
use ledger::core::kinds::{Detail, LogPruned};
use ledger::core::{LogId, Stream};
use ledger::{Fleet, Ledger, Paths, PrunedStart, Pruning};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where the log goes on at its source.
const FIRST: u64 = 40;
/// No beginning has more operations.
const CASES_MAX: u64 = 1000;

/// A source that pruned, what it shows, and what a complete copy must have.
struct Source {
    ledger: Ledger,
    log: LogId,
    start: PrunedStart,
    head: Head,
}

/// One beginning, killed at an operation: whether it came to its end.
fn killed_at(origin: &Path, source: &Source, number: u64, done: bool) -> bool {
    let (dir, log) = (temp(), source.log);
    copy(origin, dir.path());
    let mortal = Arc::new(Mortal::default());
    mortal.last.store(u64::MAX, Ordering::SeqCst);
    mortal.done.store(done, Ordering::SeqCst);
    let here: Ledger = Ledger::open(&Paths::new(dir.path()), mortal_options(&mortal)).unwrap();
    let before = here.head(&log);
    let operations = mortal.operations.load(Ordering::SeqCst);
    mortal
        .last
        .store(operations.saturating_add(number), Ordering::SeqCst);
    let begun = here.begin_behind(&source.start);
    // From here on the process is dead, whether it noticed or not.
    mortal.last.store(0, Ordering::SeqCst);
    drop(here);
    let what = format!("operation {number}, done {done}: {:?}", begun.as_ref().err());

    // From disk, before recovery.
    let report = verify(dir.path());
    assert!(report.is_clean(), "{what}: {report}");
    let alive = Arc::new(Mortal::default());
    alive.last.store(u64::MAX, Ordering::SeqCst);
    let open = || -> Ledger {
        Ledger::open(&Paths::new(dir.path()), mortal_options(&alive))
            .unwrap_or_else(|e| panic!("{what}: {e}"))
    };
    let here = open();
    let first = here.head(&log).filter(|head| head.seq >= FIRST);
    assert!(
        begun.is_err() || first.is_some(),
        "{what}: it said that it is begun"
    );
    if let (None, Some(before)) = (first, before) {
        assert_eq!(here.head(&log), Some(before), "{what}: what was here is here");
    }
    // Whatever is here, the same beginning finishes it, and the copy is one like any other.
    let begins = here
        .begin_behind(&source.start)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(begins, first.is_none(), "{what}");
    catch_up(&here, &source.ledger, log).unwrap_or_else(|e| panic!("{what}: {e}"));
    let judge = |here: &Ledger| {
        assert_eq!(here.head(&log), Some(source.head), "{what}");
        assert_eq!(here.first_kept(&log), FIRST, "{what}");
        let kept = here
            .range(&log, FIRST, u64::MAX)
            .map(|receipt| receipt.unwrap().seq());
        assert!(kept.eq(FIRST..=source.head.seq), "{what}");
        assert_eq!(
            here.get(&log, FIRST - 1).unwrap_err().code(),
            "ledger.pruned",
            "{what}"
        );
        here.snapshot().receipts
    };
    let receipts = judge(&here);
    let facts = here.own_log(Stream::Facts).unwrap();
    let said = here.range(&facts, 0, u64::MAX).map(Result::unwrap);
    let said = said.filter(|said| said.kind() == LogPruned::KIND).count();
    assert_eq!(said, 1, "{what}: said once");
    here.close().unwrap();
    if done {
        // The journal alone tells the same.
        std::fs::remove_dir_all(Paths::new(dir.path()).derived()).unwrap();
        let here = open();
        assert_eq!(judge(&here), receipts, "{what}");
        here.close().unwrap();
    }
    assert_clean(dir.path());
    begun.is_ok()
}

fn killed_at_each(origin: &Path, source: &Source) {
    let (next, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcomes = Mutex::new(Vec::new());
    // Most of the time is waiting for the disk.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Until some runs end clean: the anchor is written beside, now and then.
                while ended.load(Ordering::SeqCst) < 3 {
                    let case = next.fetch_add(1, Ordering::SeqCst);
                    assert!(case < CASES_MAX, "it never ends");
                    let is_begun = killed_at(origin, source, case / 2, case % 2 == 1);
                    ended.fetch_add(u64::from(is_begun), Ordering::SeqCst);
                    outcomes.lock().unwrap().push(is_begun);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let begun = outcomes.iter().filter(|begun| **begun).count();
    println!("{} kills, {begun} times begun", outcomes.len());
    assert!(outcomes.len() - begun >= 20, "{} and {begun}", outcomes.len());
}

#[test]
fn whatever_operation_a_beginning_behind_a_pruned_part_is_killed_at_the_next_one_finishes_it() {
    let (gateway_dir, node_dir) = (temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let fleet = gateway.context().fleet;
    let log = node.own_log(Stream::Pulse).unwrap();
    // One that has nothing of the log, and one that fell asleep over it.
    let origins = [("new", 0), ("asleep", 12)].map(|(name, beats)| {
        let dir = temp();
        let here = store(dir.path(), name, Fleet::Join(fleet), vec![Stream::Facts]);
        beat(&node, beats);
        if beats > 0 {
            follow(&here, &node, Stream::Pulse);
        }
        here.close().unwrap();
        dir
    });
    beat(&node, 45);
    follow(&gateway, &node, Stream::Pulse);
    cosign(&gateway, &node, &log);
    gateway
        .prune(&Pruning::below(log, FIRST, "30 days"))
        .unwrap()
        .unwrap();
    let source = Source {
        log,
        start: gateway.pruned_start(&log).unwrap().unwrap(),
        head: gateway.head(&log).unwrap(),
        ledger: gateway,
    };
    for origin in &origins {
        killed_at_each(origin.path(), &source);
    }
    node.close().unwrap();
    source.ledger.close().unwrap();
}
