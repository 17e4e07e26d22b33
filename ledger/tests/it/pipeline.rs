//! Deciding the next batch while the one before is synced: what is on its way counts as said, and what was decided on top
//! of it shares its fate.

use crate::stores::{Counter, Failing, Faults, assert_clean, fact, fact_with, found_with, id, open, temp};
use ledger::core::Stream;
use ledger::{Appended, CommitError, Ledger, LedgerError, OpenOptions, PayloadState, Ticket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

type Said = Ticket<Appended, LedgerError>;

// Commands that are worth waking the committer for while a batch is on its way.
const CROWD: u64 = 16;

fn gated(dir: &Path) -> (Ledger<Counter>, Arc<Faults>) {
    let failing = Failing::default();
    let faults = Arc::clone(&failing.faults);
    let options = OpenOptions::default().storage(failing);
    let ledger = found_with(dir, "studio", false, options);
    // The zeros written ahead are synced with the first append; the syncs that follow are the batches' own.
    ledger.append(fact("kept")).unwrap();
    (ledger, faults)
}

// Two receipts with the ids 1 and 2 in one batch whose sync is held up.
fn one_batch_on_its_way(ledger: &Ledger<Counter>, faults: &Faults) -> [Said; 2] {
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let said = [1, 2].map(|n| ledger.submit(move |tx| tx.append(Stream::Facts, fact("first").id(id(n)))));
    faults.set(Faults::HELD);
    let_go.send(()).unwrap();
    faults.wait_for_a_held_sync();
    drop(holding);
    said
}

// Says once more, on top of what is on its way, and tells when it is decided.
fn crowd(ledger: &Ledger<Counter>, decided: &Sender<u64>) -> Vec<Said> {
    let say = |n: u64| {
        let decided = decided.clone();
        ledger.submit(move |tx| {
            let said = tx.append(Stream::Facts, fact("crowd").id(id(n)));
            decided.send(tx.state().counts["first"]).unwrap();
            said
        })
    };
    (100..100 + CROWD).map(say).collect()
}

#[test]
fn what_is_on_its_way_counts_as_said_for_the_next_batch_and_nobody_is_answered_before_it_is_durable() {
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let log = ledger.own_log(Stream::Facts).unwrap();
    let before = ledger.head(&log).unwrap().seq;
    let first = one_batch_on_its_way(&ledger, &faults);
    let again = ledger.submit(|tx| tx.append(Stream::Facts, fact("first").id(id(1))));
    let other = ledger.submit(|tx| tx.append(Stream::Facts, fact("other").id(id(2))));
    let behind = ledger.submit(move |tx| {
        tx.expect_head(Stream::Facts, before + 2)?;
        tx.append(Stream::Facts, fact("behind"))
    });
    let (decided, seen) = channel();
    let crowd = crowd(&ledger, &decided);
    // All of it is decided while the sync is held up, and sees the two.
    for _ in 0..CROWD {
        assert_eq!(seen.recv().unwrap(), 2);
    }
    assert_eq!(ledger.head(&log).unwrap().seq, before);
    assert!(
        ledger.find(&id(1)).unwrap().is_empty(),
        "nothing is shown before it is durable"
    );
    faults.set(Faults::NONE);
    let first = first.map(|ticket| ticket.wait().unwrap().receipts.remove(0));
    let again = again.wait().unwrap();
    assert!(again.value.is_repetition() && again.receipts.is_empty());
    assert_eq!(ledger.settled(&again).unwrap(), first[0]);
    assert!(matches!(
        other.wait(),
        Err(CommitError::Refused(LedgerError::IdTaken { .. }))
    ));
    assert_eq!(behind.wait().unwrap().receipts[0].seq(), before + 3);
    for ticket in crowd {
        ticket.wait().unwrap();
    }
    assert_eq!(ledger.head(&log).unwrap().seq, before + 3 + CROWD);
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn what_was_decided_on_top_of_a_batch_that_failed_is_definitely_not_there() {
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let first = one_batch_on_its_way(&ledger, &faults);
    // None of these may be told what only the failed batch would have made true.
    let again = ledger.submit(|tx| tx.append(Stream::Facts, fact("first").id(id(1))));
    let refused = ledger.submit(|tx| match tx.state().counts.get("first") {
        Some(_) => Err(LedgerError::NothingToErase(id(0))),
        None => Ok(()),
    });
    let (decided, seen) = channel();
    let crowd = crowd(&ledger, &decided);
    for _ in 0..CROWD {
        seen.recv().unwrap();
    }
    faults.set(Faults::SYNC);
    for ticket in first {
        assert_eq!(code(ticket.wait()), "ledger.unknown");
    }
    assert_eq!(code(again.wait()), "ledger.not-committed");
    assert_eq!(code(refused.wait()), "ledger.not-committed");
    for ticket in crowd {
        assert_eq!(code(ticket.wait()), "ledger.not-committed");
    }
    assert_eq!(ledger.append(fact("later")).unwrap_err().code(), "ledger.closed");
    faults.set(Faults::NONE);
    drop(ledger);
    let ledger = open(dir.path());
    for n in 100..100 + CROWD {
        assert!(
            ledger.find(&id(n)).unwrap().is_empty(),
            "receipt {n} was said not to be there"
        );
    }
    ledger.append(fact("later")).unwrap();
    ledger.close().unwrap();
    assert_clean(dir.path());
}

fn code<T: std::fmt::Debug>(outcome: Result<T, CommitError<LedgerError>>) -> &'static str {
    outcome.unwrap_err().into_ledger().code()
}

#[test]
fn a_repetition_in_a_batch_that_fails_is_not_answered_as_if_it_stood() {
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let said = [1, 1].map(|n| ledger.submit(move |tx| tx.append(Stream::Facts, fact("same").id(id(n)))));
    faults.set(Faults::SYNC);
    let_go.send(()).unwrap();
    for ticket in said {
        assert_eq!(code(ticket.wait()), "ledger.unknown");
    }
    drop(holding);
}

#[test]
fn an_erasure_on_its_way_counts_for_the_next_batch_and_its_bytes_go_before_anything_is_written_behind_it() {
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let target = ledger.append(fact_with("private", b"do not keep this")).unwrap();
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let erase = |said: &'static str| {
        let target = target.clone();
        ledger.submit(move |tx| tx.erase(Stream::Facts, &target, said))
    };
    let (erased, beside) = (
        erase("asked for"),
        ledger.submit(|tx| tx.append(Stream::Facts, fact("first"))),
    );
    faults.set(Faults::HELD);
    let_go.send(()).unwrap();
    faults.wait_for_a_held_sync();
    let again = erase("asked twice");
    let (decided, seen) = channel();
    let crowd = crowd(&ledger, &decided);
    for _ in 0..CROWD {
        seen.recv().unwrap();
    }
    faults.set(Faults::NONE);
    assert!(!erased.wait().unwrap().value.is_repetition());
    assert!(again.wait().unwrap().value.is_repetition());
    for ticket in crowd.into_iter().chain([beside]) {
        ticket.wait().unwrap();
    }
    assert_eq!(ledger.payload(&target).unwrap(), PayloadState::Erased);
    drop(holding);
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn callers_that_block_alone_and_callers_in_a_crowd_get_a_dense_log_in_their_own_order() {
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    let log = ledger.own_log(Stream::Facts).unwrap();
    let before = ledger.head(&log).unwrap().seq;
    std::thread::scope(|scope| {
        for caller in 0..6_u64 {
            let ledger = &ledger;
            scope.spawn(move || {
                let mut last = 0;
                for round in 0..40_u64 {
                    // A blocking call never overtakes what the same caller handed in before.
                    let open = (round % 3 == caller % 3)
                        .then(|| ledger.submit(|tx| tx.append(Stream::Facts, fact("ticket"))));
                    let here = ledger.append(fact("block")).unwrap().seq();
                    let ticket = open.map(|open| open.wait().unwrap().receipts[0].seq());
                    assert!(ticket.is_none_or(|ticket| last < ticket && ticket < here));
                    assert!(last < here);
                    last = here;
                }
            });
        }
    });
    let receipts = ledger.range(&log, before + 1, u64::MAX).map(|r| r.unwrap().seq());
    let wanted = ledger.snapshot().state.counts["block"] + ledger.snapshot().state.counts["ticket"];
    assert_eq!(receipts.count() as u64, wanted);
    ledger.close().unwrap();
    assert_clean(dir.path());
}
