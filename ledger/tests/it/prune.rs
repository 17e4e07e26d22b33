//! Pruning frees the disk, and everything else goes on: reading, proofs, verification, openings, crashes.

use crate::prune_faults::small;
use crate::stores::{assert_clean, copy, fact, temp, verify};
use ledger::core::kinds::{Detail, LogPruned};
use ledger::core::note::{self, VerifierKey};
use ledger::core::{Draft, Kind, LogId, MachineId, SigningKey, Stream, Subject, proof};
use ledger::sync::{Replica, Source, SyncError, Want};
use ledger::{Fleet, Ledger, LedgerError, NewStore, OpenOptions, Paths, Position, Pruning};
use std::path::Path;

/// Small, so that a few receipts fill several.
const SEGMENT_BYTES: u32 = 16 * 1024;

fn options() -> OpenOptions {
    OpenOptions::default().segment_bytes(SEGMENT_BYTES)
}

fn founded(dir: &Path) -> Ledger {
    let new = NewStore {
        machine: MachineId::new("studio").unwrap(),
        streams: vec![Stream::Facts, Stream::Pulse],
        fleet: Fleet::Lone,
    };
    Ledger::create(&Paths::new(dir), &new, options()).unwrap()
}

fn reopened(dir: &Path) -> Ledger {
    Ledger::open(&Paths::new(dir), options()).unwrap()
}

pub(crate) fn pulse(number: u64) -> Draft {
    Draft::custom(
        Kind::new("x.pulse").unwrap(),
        Subject::new(&format!("beat/{number}")).unwrap(),
    )
}

pub(crate) fn pulse_log(ledger: &Ledger) -> LogId {
    ledger.own_log(Stream::Pulse).unwrap()
}

/// Pulses alone, pulses in a batch with facts, pulses with a payload, and facts alone.
pub(crate) fn live(ledger: &Ledger, rounds: std::ops::Range<u64>) {
    for round in rounds {
        ledger.append_to(Stream::Pulse, pulse(round)).unwrap();
        if round % 3 == 0 {
            ledger.append(fact("alone")).unwrap();
        }
        if round % 4 == 0 {
            ledger
                .commit(move |tx| {
                    tx.append(Stream::Pulse, pulse(round).payload("text/plain", vec![7; 300])?)?;
                    tx.append(Stream::Facts, fact("mixed").payload("text/plain", vec![8; 200])?)?;
                    tx.append(Stream::Pulse, pulse(round))?;
                    tx.append(Stream::Pulse, pulse(round))
                })
                .unwrap();
        }
    }
}

fn journal_blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(Paths::new(dir).journal()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks()).sum()
}

#[test]
fn pruning_frees_the_disk_and_everything_else_stays() {
    let dir = temp();
    let ledger = founded(dir.path());
    live(&ledger, 0..200);
    let (log, facts) = (pulse_log(&ledger), ledger.own_log(Stream::Facts).unwrap());
    let tip = ledger.head(&log).unwrap();
    let before: Vec<_> = ledger
        .scan(Position::START)
        .map(Result::unwrap)
        .filter(|receipt| receipt.log() == facts || receipt.seq() == 0 || receipt.seq() >= 300)
        .collect();
    let gone = ledger.get(&log, 120).unwrap().unwrap();
    let blocks = journal_blocks(dir.path());

    let refused = ledger.prune(&Pruning::below(log, 300, "test")).unwrap_err();
    assert_eq!(refused.code(), "ledger.not-prunable", "{refused}");
    ledger.checkpoint(&log).unwrap();
    let pruned = ledger.prune(&Pruning::below(log, 300, "test")).unwrap().unwrap();
    assert_eq!((pruned.first, pruned.last), (1, 299));
    let freed = blocks - journal_blocks(dir.path());
    println!(
        "{} records, {} bytes, {freed} of {blocks} blocks",
        pruned.records, pruned.bytes_freed
    );
    assert!(freed * 512 > 60_000, "{freed} of {blocks} blocks");
    let said = LogPruned::decode(&pruned.said.statement().detail).unwrap();
    assert_eq!(
        (said.seal, said.head.seq),
        (
            ledger.get(&log, 300).unwrap().unwrap().record.seal().prev,
            tip.seq
        )
    );

    let check = |ledger: &Ledger, is_rebuilt: bool| {
        let after: Vec<_> = ledger
            .scan(Position::START)
            .map(Result::unwrap)
            .filter(|receipt| receipt.position < pruned.said.position)
            .collect();
        assert_eq!(after, before);
        for receipt in &before {
            assert_eq!(
                ledger.get(&receipt.log(), receipt.seq()).unwrap().as_ref(),
                Some(receipt)
            );
            assert_eq!(ledger.find(&receipt.id()).unwrap(), std::slice::from_ref(receipt));
            assert!(ledger.payload(receipt).is_ok());
        }
        for seq in [1, 120, 299] {
            let error = ledger.get(&log, seq).unwrap_err();
            assert!(matches!(error, LedgerError::Pruned { first: 300, .. }), "{error}");
        }
        match ledger.find(&gone.id()) {
            Ok(found) => assert!(found.is_empty() && is_rebuilt, "an index made anew never knew it"),
            Err(error) => assert_eq!((error.code(), is_rebuilt), ("ledger.pruned", false)),
        }
        assert!(ledger.by_subject(&gone.statement().subject).unwrap().is_empty());
        let ranged: Vec<u64> = ledger
            .range(&log, 300, u64::MAX)
            .map(|r| r.unwrap().seq())
            .collect();
        assert_eq!(ranged, (300..=ledger.head(&log).unwrap().seq).collect::<Vec<_>>());
        let mut over = ledger.range(&log, 0, u64::MAX);
        assert_eq!(over.next().unwrap().unwrap().seq(), 0);
        assert_eq!(over.next().unwrap().unwrap_err().code(), "ledger.pruned");
        assert!(over.next().is_none());
        let pin = ledger.verifier_key(&log).unwrap();
        for seq in [300, 301, 340, ledger.head(&log).unwrap().seq] {
            let text = ledger.prove(&log, seq).unwrap();
            proof::check(&text, std::slice::from_ref(&pin)).unwrap();
        }
        let other = ledger.verifier_key(&facts).unwrap();
        proof::check(&ledger.prove(&facts, 3).unwrap(), &[other]).unwrap();
        assert_eq!(
            ledger.head(&log).unwrap().root,
            ledger.snapshot().logs[&log].tree().root()
        );
        assert_eq!(ledger.seq_at(&log, ledger::core::Hlc(0)).unwrap(), 300);
    };
    check(&ledger, false);
    let receipts = ledger.snapshot().receipts;
    ledger.close().unwrap();
    let report = assert_clean(dir.path());
    println!("{report}");
    assert_eq!(report.counts.pruned, 299);
    let ledger = reopened(dir.path());
    check(&ledger, false);
    assert_eq!(ledger.head(&log).unwrap(), tip);
    live(&ledger, 200..210);
    drop(ledger);
    std::fs::remove_dir_all(Paths::new(dir.path()).derived()).unwrap();
    let ledger = reopened(dir.path());
    check(&ledger, true);
    assert!(ledger.snapshot().receipts > receipts);
    let rebuilt = ledger.snapshot().receipts;
    assert_eq!(
        ledger
            .prune(&Pruning::below(log, 300, "again"))
            .unwrap()
            .map(|p| p.records),
        None
    );
    drop(ledger);
    assert_eq!(assert_clean(dir.path()).counts.receipts + 299, rebuilt);
}

#[test]
fn what_is_known_of_pruned_logs_is_held_to_the_journal_and_made_again_from_it() {
    let dir = temp();
    let (log, tip) = small(dir.path());
    let before = temp();
    copy(dir.path(), before.path());
    let ledger = reopened(dir.path());
    ledger
        .prune(&Pruning::below(log, tip - 3, "test"))
        .unwrap()
        .unwrap();
    ledger.close().unwrap();
    let file = |dir: &Path| Paths::new(dir).journal().join("pruned");
    let sound = std::fs::read(file(dir.path())).unwrap();
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(file(dir.path()), bytes).unwrap();
        let report = verify(dir.path());
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["journal.pruned-file"], "byte {at}: {report}");
    }
    std::fs::remove_file(file(dir.path())).unwrap();
    assert_eq!(verify(dir.path()).findings[0].code, "journal.pruned-file");
    std::fs::remove_dir_all(Paths::new(dir.path()).derived()).unwrap();
    let ledger = reopened(dir.path());
    assert_eq!(ledger.first_kept(&log), tip - 3);
    assert_eq!(ledger.head(&log).unwrap().seq, tip);
    drop(ledger);
    assert_clean(dir.path());
    // A store that never said it.
    std::fs::write(file(before.path()), sound).unwrap();
    let report = verify(before.path());
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.code == "prune.unsaid"),
        "{report}"
    );
    let opened: Result<Ledger, _> = Ledger::open(&Paths::new(before.path()), options());
    assert_eq!(opened.map(drop).unwrap_err().code(), "ledger.pruned-unsaid");
}

fn joined(dir: &Path, machine: &str, fleet: Fleet, streams: Vec<Stream>) -> Ledger {
    let new = NewStore {
        machine: MachineId::new(machine).unwrap(),
        streams,
        fleet,
    };
    Ledger::create(&Paths::new(dir), &new, options()).unwrap()
}

fn follow(replica: &mut Replica, source: &Source) -> Result<(), SyncError> {
    while !replica.is_complete() {
        let answer = source.reply(&replica.ask()?)?;
        replica.hear(&answer)?;
    }
    Ok(())
}

#[test]
fn a_node_needs_a_cosigned_checkpoint_and_a_copy_may_go_at_any_time() {
    let (gateway_dir, node_dir, third_dir) = (temp(), temp(), temp());
    let key = |seed| SigningKey::from_seed([seed; 32]);
    let fleet = Fleet::Found {
        root_key: key(1).public(),
        recovery_key: key(2).public(),
    };
    let gateway = joined(
        gateway_dir.path(),
        "gateway",
        fleet,
        vec![Stream::Facts, Stream::Order],
    );
    let fleet = || Fleet::Join(gateway.context().fleet);
    let node = joined(
        node_dir.path(),
        "node",
        fleet(),
        vec![Stream::Facts, Stream::Pulse],
    );
    let third = joined(third_dir.path(), "third", fleet(), vec![Stream::Facts]);
    live(&node, 0..60);
    let log = pulse_log(&node);
    let mut replica = Replica::new(gateway.clone(), log).unwrap();
    follow(&mut replica, &Source::new(node.clone())).unwrap();
    let old = Source::new(node.clone())
        .answer(&Want { log, after: None })
        .unwrap();

    // The copy.
    let facts = node.own_log(Stream::Facts).unwrap();
    assert_eq!(
        gateway.prune(&Pruning::below(facts, 1, "no")).unwrap_err().code(),
        "ledger.unknown-log"
    );
    let copied = gateway
        .prune(&Pruning::below(log, 40, "copies"))
        .unwrap()
        .unwrap();
    assert_eq!(
        LogPruned::decode(&copied.said.statement().detail)
            .unwrap()
            .checkpoint,
        0
    );
    assert_eq!(gateway.get(&log, 7).unwrap_err().code(), "ledger.pruned");
    // It goes on as before, also when an old answer comes late.
    live(&node, 60..70);
    let mut replica = Replica::new(gateway.clone(), log).unwrap();
    assert!(replica.take(old).unwrap().known > 50);
    let mut replica = Replica::new(gateway.clone(), log).unwrap();
    follow(&mut replica, &Source::new(node.clone())).unwrap();
    assert_eq!(gateway.head(&log), node.head(&log));
    let mut late = Replica::new(third.clone(), log).unwrap();
    let told = follow(&mut late, &Source::new(gateway.clone())).unwrap_err();
    assert!(matches!(told, SyncError::Pruned { first: 40, .. }), "{told}");
    follow(&mut late, &Source::new(node.clone())).unwrap();
    assert!(
        follow(
            &mut Replica::new(third, log).unwrap(),
            &Source::new(gateway.clone())
        )
        .is_ok()
    );

    // The node's own.
    let checkpoint = node.checkpoint(&log).unwrap();
    let wish = Pruning::below(log, 50, "30 days");
    assert_eq!(node.prune(&wish).unwrap_err().code(), "ledger.not-prunable");
    let witness = VerifierKey::new("gateway.example", key(7).verifier());
    let stranger = VerifierKey::new("stranger.example", key(8).verifier());
    let text = format!("{}\n", checkpoint.split("\n\n").next().unwrap());
    let cosigned = note::sign(&text, "gateway.example", &key(7)).unwrap();
    let cosigned = format!("{checkpoint}{}\n", cosigned.lines().last().unwrap());
    for (note, pin) in [(&checkpoint, &witness), (&cosigned, &stranger)] {
        let wish = wish.clone().cosigned(note, std::slice::from_ref(pin));
        assert_eq!(node.prune(&wish).unwrap_err().code(), "ledger.not-prunable");
    }
    let pins = [witness];
    let pruned = node
        .prune(&wish.clone().cosigned(&cosigned, &pins))
        .unwrap()
        .unwrap();
    let said = LogPruned::decode(&pruned.said.statement().detail).unwrap();
    assert_eq!(
        (pruned.last, said.checkpoint),
        (49, node.head(&log).unwrap().seq + 1)
    );
    live(&node, 70..140);
    let further = Pruning::below(log, node.head(&log).unwrap().seq, "30 days").cosigned(&cosigned, &pins);
    let refused = node.prune(&further).unwrap_err();
    assert_eq!(
        refused.code(),
        "ledger.not-prunable",
        "the old checkpoint does not cover that"
    );
    for ledger in [gateway, node] {
        ledger.close().unwrap();
    }
    assert_clean(gateway_dir.path());
    assert_clean(node_dir.path());
}

#[test]
fn everything_older_goes_again_and_again_and_an_export_says_why_it_cannot_be_whole() {
    let dir = temp();
    let ledger = founded(dir.path());
    let log = pulse_log(&ledger);
    let mut kept = 1;
    for round in 0..4 {
        live(&ledger, round * 40..round * 40 + 40);
        let cutoff = ledger.clock().now_us() / 1000;
        // Clocks tick in milliseconds here.
        std::thread::sleep(std::time::Duration::from_millis(3));
        live(&ledger, 200..203);
        ledger.checkpoint(&log).unwrap();
        let cutoff = u64::try_from(cutoff).unwrap();
        let pruned = ledger
            .prune(&Pruning::older_than(log, cutoff, "old"))
            .unwrap()
            .unwrap();
        assert_eq!(pruned.first, kept);
        kept = ledger.first_kept(&log);
        assert_eq!(pruned.last + 1, kept);
        assert!(ledger.get(&log, kept).unwrap().unwrap().time().unix_ms() >= cutoff);
    }
    let refused = ledger.export(&log, &mut Vec::new()).unwrap_err();
    assert_eq!(refused.code(), "ledger.pruned", "{refused}");
    let facts = ledger.own_log(Stream::Facts).unwrap();
    ledger.export(&facts, &mut Vec::new()).unwrap();
    let refused = ledger.prune(&Pruning::below(facts, 3, "no")).unwrap_err();
    assert_eq!(refused.code(), "ledger.not-prunable");
    ledger.close().unwrap();
    let report = assert_clean(dir.path());
    assert!(report.counts.pruned >= kept - 1 - 60, "{report}");
}

#[test]
fn what_stays_of_a_subject_is_found_behind_very_many_that_went() {
    let dir = temp();
    let new = NewStore {
        machine: MachineId::new("studio").unwrap(),
        streams: vec![Stream::Facts, Stream::Pulse],
        fleet: Fleet::Lone,
    };
    let options = || OpenOptions::default().segment_bytes(256 * 1024);
    let ledger: Ledger = Ledger::create(&Paths::new(dir.path()), &new, options()).unwrap();
    for _ in 0..11 {
        ledger.append_batch(Stream::Pulse, vec![pulse(1); 1000]).unwrap();
    }
    let stays = ledger.append(pulse(1)).unwrap();
    let log = pulse_log(&ledger);
    ledger.close().unwrap();
    let ledger: Ledger = Ledger::open(&Paths::new(dir.path()), options()).unwrap();
    ledger.checkpoint(&log).unwrap();
    let pruned = ledger
        .prune(&Pruning::below(log, 11_000, "test"))
        .unwrap()
        .unwrap();
    println!("{} records, {} bytes freed", pruned.records, pruned.bytes_freed);
    assert!(pruned.records > 10_000 && pruned.bytes_freed > 3_000_000);
    let found = ledger.by_subject(&stays.statement().subject).unwrap();
    assert_eq!(
        found.iter().map(|r| (r.log(), r.seq())).collect::<Vec<_>>(),
        [(log, 11_000), (stays.log(), 1)]
    );
    ledger.close().unwrap();
    assert_clean(dir.path());
}
