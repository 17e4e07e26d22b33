//! Deciding the next batch while the one before is synced: what is on its way counts as said, and what was decided on top
//! of it shares its fate.

use crate::stores::{Counter, Failing, Faults, assert_clean, fact, fact_with, found_with, id, open, temp};
use ledger::core::Stream;
use ledger::{Appended, CommitError, Ledger, LedgerError, OpenOptions, PayloadState, Ticket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Nothing that a test waits for takes longer, however busy the machine is.
const SOON: Duration = Duration::from_secs(60);

type Said = Ticket<Appended, LedgerError>;

// Commands that are worth waking the committer for while a batch is on its way.
const CROWD: u64 = 32;

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

// Says once more, on top of what is on its way, and tells when it is decided. The first is decided when all have been handed
// in: what the committer leaves behind while it sleeps would wait for the sync, which waits for the test.
fn crowd(ledger: &Ledger<Counter>, decided: &Sender<u64>) -> Vec<Said> {
    let (all_in, first) = channel::<()>();
    let mut first = Some(first);
    let mut say = |n: u64| {
        let (decided, all_in) = (decided.clone(), first.take());
        ledger.submit(move |tx| {
            if let Some(all_in) = all_in {
                all_in.recv_timeout(SOON).unwrap();
            }
            let said = tx.append(Stream::Facts, fact("crowd").id(id(n)));
            decided.send(tx.state().counts["first"]).unwrap();
            said
        })
    };
    let said = (100..100 + CROWD).map(&mut say).collect();
    all_in.send(()).unwrap();
    said
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
        assert_eq!(seen.recv_timeout(SOON).unwrap(), 2);
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
        seen.recv_timeout(SOON).unwrap();
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
        seen.recv_timeout(SOON).unwrap();
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

#[test]
fn a_crowd_of_large_commands_is_spread_over_batches_that_the_journal_takes() {
    const COUNT: u64 = 600;
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let large = |_| ledger.submit(|tx| tx.append(Stream::Facts, fact_with("large", &[7; 65_536])));
    let said: Vec<Said> = (0..COUNT).map(large).collect();
    let_go.send(()).unwrap();
    for ticket in said {
        ticket.wait().unwrap();
    }
    drop(holding);
    assert_eq!(ledger.snapshot().state.counts["large"], COUNT);
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn a_command_over_its_bounds_is_refused_whole_and_takes_nobody_with_it() {
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let many = |count: usize, content: &'static [u8]| {
        ledger.submit(move |tx| {
            for _ in 0..count {
                tx.append(Stream::Facts, fact_with("too much", content))?;
            }
            Ok(())
        })
    };
    let before = ledger.submit(|tx| tx.append(Stream::Facts, fact("before")));
    let (records, bytes) = (many(32_769, b"1"), many(257, &[7; 65_536]));
    let behind = ledger.submit(|tx| tx.append(Stream::Facts, fact("behind")));
    let_go.send(()).unwrap();
    for refused in [records, bytes] {
        let refused = refused.wait().unwrap_err().into_ledger();
        assert_eq!(refused.code(), "journal.batch-too-large", "{refused}");
    }
    let seq = |said: Said| said.wait().unwrap().receipts[0].seq();
    assert_eq!(seq(before) + 1, seq(behind));
    drop(holding);
    assert!(!ledger.snapshot().state.counts.contains_key("too much"));
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn an_operation_that_cannot_read_leaves_nothing_behind_even_if_its_command_goes_on() {
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let target = ledger.append(fact_with("private", b"kept after all")).unwrap();
    let before = ledger.snapshot().state.clone();
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let (switch, erasing) = (Arc::clone(&faults), target.clone());
    let refused = ledger.submit(move |tx| {
        switch.set(Faults::READ);
        let outcome = tx.erase(Stream::Facts, &erasing, "asked for");
        switch.set(Faults::NONE);
        outcome
    });
    let (switch, erasing) = (Arc::clone(&faults), target.clone());
    let goes_on = ledger.submit(move |tx| {
        switch.set(Faults::READ);
        let failed = tx.erase(Stream::Facts, &erasing, "asked for").is_err();
        switch.set(Faults::NONE);
        assert!(failed);
        tx.append(Stream::Facts, fact("all the same"))
    });
    let_go.send(()).unwrap();
    assert!(refused.wait().is_err());
    goes_on.wait().unwrap();
    drop(holding);
    let mut wanted = before;
    wanted.counts.insert("all the same".into(), 1);
    assert_eq!(ledger.snapshot().state, wanted);
    ledger.close().unwrap();
    assert_clean(dir.path());
    let ledger = open(dir.path());
    assert_eq!(ledger.snapshot().state, wanted, "what was refused is in no row");
    assert!(matches!(
        ledger.payload(&target).unwrap(),
        PayloadState::Present(_)
    ));
}

#[test]
fn a_payload_that_cannot_be_overwritten_keeps_none_of_the_others() {
    const SECRET: &[u8] = b"the one that can be overwritten";
    let dir = temp();
    let (ledger, faults) = gated(dir.path());
    let spoiled = ledger.append(fact_with("spoiled", b"whatever this was")).unwrap();
    let whole = ledger.append(fact_with("whole", SECRET)).unwrap();
    ledger.append(fact("behind")).unwrap();
    let (let_go, held) = channel::<()>();
    let holding = ledger.submit(move |_| held.recv());
    let said = [&spoiled, &whole].map(|target| {
        let target = target.clone();
        ledger.submit(move |tx| tx.erase(Stream::Facts, &target, "asked for"))
    });
    faults.set(Faults::HELD);
    let_go.send(()).unwrap();
    faults.wait_for_a_held_sync();
    drop(holding);
    // The record of one becomes garbage under our hands.
    let segment = dir.path().join("data/journal/00000001.seg");
    let at = u64::from(spoiled.position.offset);
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 120], at).unwrap();
    faults.set(Faults::NONE);
    let [lost, done] = said.map(Ticket::wait);
    assert_eq!(code(lost), "ledger.not-overwritten");
    done.unwrap();
    drop(ledger);
    let bytes = std::fs::read(&segment).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET));
}

#[test]
fn a_watcher_that_panics_stops_nobody() {
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    ledger.on_commit(|_| panic!("a watcher of the test"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| drop(ledger.append(fact("watched")).unwrap())));
        }
    });
    assert_eq!(ledger.snapshot().state.counts["watched"], 80);
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn a_command_that_panics_closes_the_store_for_all_and_nobody_waits_for_ever() {
    for alone in [true, false] {
        let dir = temp();
        let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
        ledger.append(fact("kept")).unwrap();
        let panics =
            |_: &mut ledger::Tx<'_, Counter>| -> Result<(), LedgerError> { panic!("a command of the test") };
        if alone {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ledger.commit(panics)));
            assert!(caught.is_err());
            assert!(ledger.closed().is_some());
        } else {
            assert_eq!(code(ledger.submit(panics).wait()), "ledger.unknown");
        }
        assert_eq!(ledger.append(fact("later")).unwrap_err().code(), "ledger.closed");
        assert!(ledger.close().is_err());
        let ledger = open(dir.path());
        assert_eq!(ledger.snapshot().state.counts["kept"], 1);
        ledger.append(fact("later")).unwrap();
    }
}

#[test]
fn closing_ends_while_others_go_on_handing_in_and_a_closed_ledger_decides_nothing() {
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            // Each goes on until it is told that the store is closed.
            scope.spawn(|| {
                loop {
                    let said = ledger.submit(|tx| tx.append(Stream::Facts, fact("streamed")));
                    if ledger.closed().is_some() {
                        drop(said);
                        break;
                    }
                }
            });
        }
        while !ledger.snapshot().state.counts.contains_key("streamed") {
            std::thread::yield_now();
        }
        ledger.clone().close().unwrap();
    });
    // The one that it was is not to be read as the one that is.
    assert_eq!(
        code(ledger.commit(|tx| Ok(tx.state().counts.len()))),
        "ledger.closed"
    );
    let next = open(dir.path());
    next.append(fact("next")).unwrap();
    next.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn the_last_clone_may_go_inside_a_command() {
    let dir = temp();
    let ledger = found_with(dir.path(), "studio", false, OpenOptions::default());
    let clone = ledger.clone();
    let (go, gone) = channel::<()>();
    let said = ledger.submit(move |_| {
        gone.recv().unwrap();
        drop(clone);
        Ok::<_, LedgerError>(())
    });
    drop(ledger);
    go.send(()).unwrap();
    said.wait().unwrap();
    // The lock goes when the store is closed, on a thread of its own.
    let mut next = Ledger::<Counter>::open(&ledger::Paths::new(dir.path()), OpenOptions::default());
    for _ in 0..1_000_000 {
        if next.is_ok() {
            break;
        }
        std::thread::yield_now();
        next = Ledger::open(&ledger::Paths::new(dir.path()), OpenOptions::default());
    }
    next.unwrap().append(fact("next")).unwrap();
}
