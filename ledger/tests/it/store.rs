//! An open store keeps its promises: durable answers, one receipt for one id, commands that see each other, replicas that
//! are exact prefixes, and derived data that can be thrown away.

use crate::stores::{
    Counter, Failing, Faults, assert_clean, fact, fact_with, found, found_with, id, open, subject, temp,
};
use ledger::clock::SystemEntropy;
use ledger::core::{Draft, Hlc, Kind, SigningKey, Stream};
use ledger::{
    CommitError, Ledger, LedgerError, OpenOptions, Paths, PayloadState, Position, Receipt, State as _,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn what_was_appended_is_there_after_closing_and_opening_and_the_log_goes_on() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    let first = ledger.append(fact_with("a", b"hello")).unwrap();
    assert_eq!(first.seq(), 1);
    ledger.close().unwrap();
    for round in 0_u64..3 {
        let ledger = open(dir.path());
        assert!(!ledger.recovery().unclean);
        let again = ledger.get(&log, 1).unwrap().unwrap();
        assert_eq!(again.record, first.record);
        assert_eq!(ledger.payload(&again).unwrap().present().unwrap().bytes, b"hello");
        assert_eq!(ledger.append(fact("b")).unwrap().seq(), 2 + round);
        drop(ledger);
    }
    let report = assert_clean(dir.path());
    assert_eq!(report.counts.receipts, 6);
    assert_eq!(report.counts.payloads, 1);
}

#[test]
fn a_second_opener_is_refused_until_the_first_lets_go() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let second = Ledger::<Counter>::open(&Paths::new(dir.path()), OpenOptions::default());
    assert_eq!(second.err().unwrap().code(), "store.locked");
    ledger.close().unwrap();
    open(dir.path());
}

#[test]
fn one_id_stands_for_one_content_also_after_reopening() {
    let dir = temp();
    let said = || fact_with("a", b"one").id(id(1));
    let first = {
        let ledger = found(dir.path(), "studio", false);
        let first = ledger.append(said()).unwrap();
        assert_eq!(ledger.append(said()).unwrap(), first);
        ledger.close().unwrap();
        first
    };
    let ledger = open(dir.path());
    assert_eq!(ledger.append(said()).unwrap().record, first.record);
    for other in [fact_with("a", b"two"), fact_with("b", b"one"), fact("a")] {
        let error = ledger.append(other.id(id(1))).unwrap_err();
        assert_eq!(error.code(), "ledger.id-taken", "{error}");
    }
    // In one batch, too: the second sees the first through the overlay.
    let both = ledger
        .commit(|tx| {
            let first = tx.append(Stream::Facts, fact_with("c", b"x").id(id(2)))?;
            let second = tx.append(Stream::Facts, fact_with("c", b"x").id(id(2)))?;
            Ok::<_, LedgerError>((first.is_repetition(), second.is_repetition()))
        })
        .unwrap();
    assert_eq!(both.value, (false, true));
    assert_eq!(both.receipts.len(), 1);
    // Another author may use the same id.
    let actor = ledger.sign_as_actor(fact("a").id(id(1)), &SystemEntropy).unwrap();
    let other = ledger.append_signed(actor.clone()).unwrap();
    assert_ne!(other.record, first.record);
    assert_eq!(ledger.append_signed(actor).unwrap(), other);
    assert_eq!(ledger.find(&id(1)).unwrap().len(), 2);
}

#[test]
fn expect_head_refuses_who_did_not_see_what_came() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let append = |expected: u64| {
        ledger.commit(move |tx| {
            tx.expect_head(Stream::Facts, expected)?;
            tx.append(Stream::Facts, fact("a"))
        })
    };
    append(0).unwrap();
    match append(0) {
        Err(CommitError::Refused(LedgerError::HeadMoved {
            expected: 0,
            found: 1,
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
    append(1).unwrap();
}

// Takes a thing unless the state says that somebody has it.
fn claim(ledger: &Ledger<Counter>, thing: &'static str) -> ledger::Ticket<u64, String> {
    ledger.submit(move |tx| {
        if tx.state().counts.contains_key(thing) {
            return Err(format!("{thing} is taken"));
        }
        let said = tx.append(Stream::Work, fact(thing)).map_err(|e| e.to_string())?;
        Ok(said.receipt().seq())
    })
}

#[test]
fn conflicting_commands_see_each_other_and_a_refused_one_leaves_nothing() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let receipts = |ledger: &Ledger<Counter>| ledger.snapshot().receipts;
    let before = receipts(&ledger);
    // The committer is held up, so that all that follow come into one batch.
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let holding = ledger.submit(move |_| held.recv().map_err(|e| e.to_string()));
    let tickets: Vec<_> = (0..10).map(|_| claim(&ledger, "thing")).collect();
    let half_way = ledger.submit(|tx| {
        tx.append(Stream::Work, fact("half")).map_err(|e| e.to_string())?;
        Err::<(), String>("changed its mind".into())
    });
    let after = claim(&ledger, "half");
    let_go.send(()).unwrap();
    holding.wait().unwrap();
    let won: Vec<_> = tickets.into_iter().map(ledger::Ticket::wait).collect();
    assert!(won[0].is_ok());
    assert!(
        won[1..]
            .iter()
            .all(|lost| matches!(lost, Err(CommitError::Refused(why)) if why == "thing is taken"))
    );
    assert!(matches!(half_way.wait(), Err(CommitError::Refused(_))));
    assert_eq!(after.wait().unwrap().value, 2);
    assert_eq!(receipts(&ledger), before + 2);
    let state = ledger.snapshot().state.clone();
    assert_eq!((state.counts["thing"], state.counts["half"]), (1, 1));
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn a_failed_batch_leaves_nothing_and_closes_the_store_until_it_is_opened_again() {
    for (fault, outcome, may_be_there) in [
        (Faults::WRITE, "ledger.unknown", false),
        (Faults::SYNC, "ledger.unknown", true),
    ] {
        let dir = temp();
        let failing = Failing::default();
        let faults = Arc::clone(&failing.faults);
        let options = OpenOptions::default().storage(failing);
        let ledger = found_with(dir.path(), "studio", false, options);
        let log = ledger.own_log(Stream::Facts).unwrap();
        ledger.append(fact("kept").id(id(1))).unwrap();
        let before = (ledger.snapshot().end, ledger.snapshot().state.clone());
        faults.set(fault);
        let error = ledger.append(fact("lost").id(id(2))).unwrap_err();
        assert_eq!(error.code(), outcome, "{error}");
        assert_eq!((ledger.snapshot().end, ledger.snapshot().state.clone()), before);
        assert_eq!(ledger.head(&log).unwrap().seq, 1);
        assert!(ledger.find(&id(2)).unwrap().is_empty());
        // Healthy again, but nothing is acknowledged before the store was opened again.
        faults.set(Faults::NONE);
        assert_eq!(ledger.append(fact("no")).unwrap_err().code(), "ledger.closed");
        drop(ledger);
        let ledger = open(dir.path());
        assert_eq!(ledger.find(&id(1)).unwrap().len(), 1);
        let there = ledger.find(&id(2)).unwrap().len();
        assert!(there == 0 || may_be_there && there == 1);
        ledger.append(fact("lost").id(id(2))).unwrap();
        assert_eq!(ledger.find(&id(2)).unwrap().len(), 1);
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}

// The answer to every query.
fn answers(ledger: &Ledger<Counter>) -> Vec<String> {
    let mut answers = Vec::new();
    let all: Vec<Receipt> = ledger.scan(Position::START).map(|r| r.unwrap()).collect();
    for receipt in &all {
        answers.push(format!("{:?}", ledger.find(&receipt.id()).unwrap()));
        answers.push(format!(
            "{:?}",
            ledger.get(&receipt.log(), receipt.seq()).unwrap()
        ));
        answers.push(format!(
            "{:?}",
            ledger.by_subject(&receipt.statement().subject).unwrap()
        ));
        answers.push(format!(
            "{:?}",
            ledger.seq_at(&receipt.log(), receipt.time()).unwrap()
        ));
        let later = Hlc(receipt.time().0 + 1);
        answers.push(format!("{:?}", ledger.seq_at(&receipt.log(), later).unwrap()));
        answers.push(format!("{:?}", ledger.payload(receipt).unwrap()));
    }
    let snapshot = ledger.snapshot();
    for (log, chain) in &snapshot.logs {
        let head = chain.tip().0;
        for (first, last) in [
            (0, head),
            (head / 2, head),
            (1, 2),
            (head, u64::MAX),
            (head + 1, head + 5),
        ] {
            let range: Vec<_> = ledger.range(log, first, last).map(|r| r.unwrap()).collect();
            let wanted: Vec<_> = all
                .iter()
                .filter(|r| r.log() == *log && (first..=last).contains(&r.seq()))
                .cloned()
                .collect();
            assert_eq!(range, wanted, "{first} to {last}");
            answers.push(format!("{range:?}"));
        }
        answers.push(format!("{:?}", chain.head()));
    }
    answers.push(format!("{:?} {}", snapshot.state, snapshot.receipts));
    answers
}

fn assert_same(found: &[String], wanted: &[String]) {
    assert_eq!(found.len(), wanted.len());
    let differs = found
        .iter()
        .zip(wanted)
        .position(|(found, wanted)| found != wanted);
    assert!(differs.is_none(), "answer {differs:?} is another one");
}

fn busy_store(dir: &Path) -> Ledger<Counter> {
    let options = OpenOptions::default().segment_bytes(16 * 1024);
    let ledger = found_with(dir, "studio", false, options);
    for round in 0..40_u64 {
        let committed = ledger.commit(move |tx| {
            for number in 0..round % 5 + 1 {
                let stream = if number % 2 == 0 {
                    Stream::Facts
                } else {
                    Stream::Work
                };
                tx.append(
                    stream,
                    fact_with(&format!("s/{}", number % 3), &round.to_be_bytes()),
                )?;
            }
            Ok::<_, LedgerError>(())
        });
        committed.unwrap();
    }
    ledger
}

#[test]
fn deleting_the_derived_data_changes_no_answer() {
    let dir = temp();
    let ledger = busy_store(dir.path());
    let before = answers(&ledger);
    ledger.close().unwrap();
    let ledger = open(dir.path());
    assert_same(&answers(&ledger), &before);
    ledger.close().unwrap();
    std::fs::remove_dir_all(Paths::new(dir.path()).derived()).unwrap();
    let ledger = open(dir.path());
    assert_same(&answers(&ledger), &before);
    ledger.append(fact("more")).unwrap();
    ledger.close().unwrap();
    assert_clean(dir.path());
}

#[test]
fn state_rows_after_reopening_equal_folding_from_zero() {
    let dir = temp();
    busy_store(dir.path()).close().unwrap();
    let ledger = open(dir.path());
    let mut folded = Counter::empty(ledger.context());
    for receipt in ledger.scan(Position::START) {
        folded.fold(&receipt.unwrap(), &mut ledger::Changes::discarding());
    }
    assert_eq!(ledger.snapshot().state, folded);
}

#[test]
fn a_tail_sees_every_receipt_once_and_in_order_under_concurrent_appends() {
    const THREADS: u64 = 4;
    const EACH: u64 = 50;
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let genesis = ledger.snapshot().receipts;
    let total = genesis + THREADS * EACH;
    let follow = |mut tail: ledger::Tail<Counter>, wanted: u64| {
        let mut seen = Vec::new();
        while (seen.len() as u64) < wanted {
            let receipt = tail.next_within(Duration::from_secs(30)).unwrap();
            seen.push(receipt.expect("receipts come within thirty seconds"));
        }
        (seen, tail)
    };
    let seen = std::thread::scope(|scope| {
        let tail = ledger.tail(Position::START);
        let follower = scope.spawn(move || follow(tail, total));
        for thread in 0..THREADS {
            let ledger = ledger.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    ledger.append(fact(&format!("{thread}/{number}"))).unwrap();
                }
            });
        }
        let (seen, mut tail) = follower.join().unwrap();
        assert_eq!(tail.next_within(Duration::ZERO).unwrap(), None);
        seen
    });
    let all: Vec<Receipt> = ledger.scan(Position::START).map(|r| r.unwrap()).collect();
    assert_eq!(seen, all);
    // From any position on it goes on behind it.
    for at in [0, all.len() / 2, all.len() - 2] {
        let mut tail = ledger.tail(all[at].position);
        let next = tail.next_within(Duration::ZERO).unwrap();
        assert_eq!(next.as_ref(), all.get(at + 1));
    }
}

#[test]
fn sixty_four_threads_append_and_all_of_it_is_durable_and_dense() {
    const THREADS: u64 = 64;
    const EACH: u64 = 10;
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    let seqs: BTreeSet<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let ledger = ledger.clone();
                let one = move |number| ledger.append(fact(&format!("{thread}/{number}"))).unwrap().seq();
                scope.spawn(move || (0..EACH).map(one).collect::<Vec<u64>>())
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(seqs, (1..=THREADS * EACH).collect());
    assert_eq!(ledger.head(&log).unwrap().seq, THREADS * EACH);
    ledger.close().unwrap();
    assert_eq!(assert_clean(dir.path()).counts.receipts, THREADS * EACH + 2);
}

#[test]
fn keys_and_data_that_do_not_belong_together_are_refused() {
    let dirs = [temp(), temp()];
    for (dir, machine) in dirs.iter().zip(["a", "b"]) {
        found(dir.path(), machine, false).close().unwrap();
    }
    let (data, other) = (dirs[0].path().join("data"), dirs[1].path().join("data"));
    std::fs::rename(&data, dirs[0].path().join("aside")).unwrap();
    let code = |dir: &Path| {
        Ledger::<Counter>::open(&Paths::new(dir), OpenOptions::default())
            .err()
            .unwrap()
            .code()
    };
    assert_eq!(code(dirs[0].path()), "ledger.store-lost");
    std::fs::rename(&other, &data).unwrap();
    assert_eq!(code(dirs[0].path()), "journal.other-store");
    std::fs::remove_file(dirs[0].path().join("keys/anchor")).unwrap();
    assert_eq!(code(dirs[0].path()), "ledger.foreign-keys");
    assert_eq!(code(&dirs[0].path().join("nowhere")), "ledger.no-store");
}

#[test]
fn a_store_that_lost_its_acknowledged_tail_does_not_open() {
    let dir = temp();
    found(dir.path(), "studio", false).close().unwrap();
    let old = temp();
    crate::stores::copy(&dir.path().join("data"), &old.path().join("data"));
    let ledger = open(dir.path());
    ledger.append(fact("acknowledged")).unwrap();
    ledger.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    std::fs::rename(old.path().join("data"), dir.path().join("data")).unwrap();
    let error = Ledger::<Counter>::open(&Paths::new(dir.path()), OpenOptions::default())
        .err()
        .unwrap();
    assert!(
        ["journal.corrupt", "ledger.behind-anchor"].contains(&error.code()),
        "{error}"
    );
    assert!(!crate::stores::verify(dir.path()).is_clean());
}

#[test]
fn an_actors_statement_is_sealed_with_its_signature_and_its_payload_is_kept() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let key = SigningKey::from_seed([9; 32]);
    let draft = Draft::custom(Kind::new("x.said").unwrap(), subject("me"))
        .payload("text/plain", b"hi".to_vec())
        .unwrap();
    let fleet = ledger.context().fleet;
    let authored = draft
        .into_statement(fleet, key.public(), id(7), 0, [1; 32])
        .unwrap();
    let said = authored.sign(&key).verify().unwrap();
    let receipt = ledger.append_signed(said).unwrap();
    assert!(receipt.record.author_signature().is_some());
    assert!(matches!(ledger.payload(&receipt).unwrap(), PayloadState::Present(p) if p.bytes == b"hi"));
    ledger.close().unwrap();
    assert_eq!(assert_clean(dir.path()).counts.author_signatures, 1);
}

#[test]
fn a_creation_that_was_interrupted_is_done_again_with_the_keys_that_are_there() {
    let keys = |dir: &Path| {
        let mut keys: Vec<_> = std::fs::read_dir(dir.join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
            .collect();
        keys.sort();
        keys
    };
    for left in 0..=7 {
        let dir = temp();
        found(dir.path(), "studio", false).close().unwrap();
        // No anchor yet, some keys, one of them unfinished, and a half-made store.
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        std::fs::remove_file(dir.path().join("keys/anchor")).unwrap();
        let all = keys(dir.path());
        assert_eq!(all.len(), 7);
        all[left..]
            .iter()
            .for_each(|path| std::fs::remove_file(path).unwrap());
        std::fs::write(dir.path().join("keys/machine.new"), "ledger key v1 mach").unwrap();
        std::fs::create_dir(dir.path().join("data.creating")).unwrap();
        std::fs::write(dir.path().join("data.creating/junk"), "junk").unwrap();
        let kept: Vec<_> = all[..left]
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        let ledger = found(dir.path(), "studio", false);
        ledger.append(fact("n")).unwrap();
        ledger.close().unwrap();
        assert_clean(dir.path());
        let now: Vec<_> = all[..left]
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert_eq!(now, kept, "keys that were there stay");
        assert_eq!(keys(dir.path()).len(), 7);
    }
}
