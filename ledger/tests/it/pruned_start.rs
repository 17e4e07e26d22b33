//! A copy of a pruned log begins where the log goes on, with a proof that needs nobody's word but the log's own.

use crate::forging::codes;
use crate::stores::{assert_clean, subject, temp, verify};
use crate::witness::{beat, follow, pair, store};
use ledger::core::kinds::{Detail, LogPruned};
use ledger::core::{Draft, Kind, LogId, Stream, TreeRoot};
use ledger::sync::{Replica, Source, SyncError};
use ledger::{Fleet, Ledger, OpenOptions, Paths, PrunedStart, Pruning};
use std::path::Path;

fn open(dir: &Path) -> Ledger {
    Ledger::open(&Paths::new(dir), OpenOptions::default().segment_bytes(16 * 1024)).unwrap()
}

pub(crate) fn cosign(witness: &Ledger, owner: &Ledger, log: &LogId) {
    let checkpoint = owner.checkpoint_for_witnesses(log).unwrap();
    witness.cosign(log, &checkpoint).unwrap();
}

/// Everything that a source has behind what is here.
pub(crate) fn catch_up(here: &Ledger, source: &Ledger, log: LogId) -> Result<(), SyncError> {
    let mut replica = Replica::new(here.clone(), log).unwrap();
    let source = Source::new(source.clone());
    while !replica.is_complete() {
        replica.hear(&source.reply(&replica.ask()?).unwrap())?;
    }
    Ok(())
}

#[test]
fn a_copy_begins_behind_what_was_pruned_and_is_a_copy_like_any_other() {
    let (gateway_dir, node_dir, third_dir) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let fleet = gateway.context().fleet;
    let third = store(third_dir.path(), "third", Fleet::Join(fleet), vec![Stream::Facts]);
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 60);
    follow(&gateway, &node, Stream::Pulse);
    assert!(
        gateway.pruned_start(&log).unwrap().is_none(),
        "all of it is there"
    );
    gateway
        .prune(&Pruning::below(log, 40, "30 days"))
        .unwrap()
        .unwrap();
    let unsigned = gateway.pruned_start(&log).unwrap_err();
    assert_eq!(unsigned.code(), "ledger.not-begun", "{unsigned}");
    cosign(&gateway, &node, &log);
    beat(&node, 5);
    follow(&gateway, &node, Stream::Pulse);

    assert_eq!(catch_up(&third, &gateway, log).unwrap_err().code(), "sync.pruned");
    let start = gateway.pruned_start(&log).unwrap().unwrap();
    assert_eq!(start.log().unwrap(), log);
    assert!(third.begin_behind(&start).unwrap());
    assert!(!third.begin_behind(&start).unwrap(), "it is here");
    catch_up(&third, &gateway, log).unwrap();
    assert_eq!(third.head(&log), node.head(&log));
    assert_eq!(third.first_kept(&log), 40);
    assert_eq!(third.get(&log, 39).unwrap_err().code(), "ledger.pruned");
    assert!(third.get(&log, 40).unwrap().is_some() && third.get(&log, 0).unwrap().is_some());
    // What the source pruned and another still has is known here as gone.
    follow(&third, &node, Stream::Pulse);
    let receipts = third.snapshot().receipts;

    // Opened anew, also from the journal alone, and without the file that says what is pruned.
    third.close().unwrap();
    let lost: [&[&str]; 3] = [&[], &["data/derived"], &["data/derived", "data/journal/pruned"]];
    for lost in lost {
        for name in lost {
            let path = third_dir.path().join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        let report = verify(third_dir.path());
        let expected = [("journal.pruned-file", None)];
        let expected = if lost.len() == 2 { &expected[..] } else { &[] };
        assert_eq!(codes(&report), expected, "{lost:?} {report}");
        let third = open(third_dir.path());
        assert_eq!(third.head(&log), node.head(&log), "{lost:?}");
        assert_eq!(third.snapshot().receipts, receipts, "{lost:?}");
        assert_eq!(third.first_kept(&log), 40, "{lost:?}");
        third.close().unwrap();
        assert_clean(third_dir.path());
    }

    // It slept while its source pruned on: its older part goes, too.
    let third = open(third_dir.path());
    beat(&node, 60);
    follow(&gateway, &node, Stream::Pulse);
    cosign(&gateway, &node, &log);
    gateway
        .prune(&Pruning::below(log, 100, "30 days"))
        .unwrap()
        .unwrap();
    assert_eq!(catch_up(&third, &gateway, log).unwrap_err().code(), "sync.pruned");
    let start = gateway.pruned_start(&log).unwrap().unwrap();
    assert!(third.begin_behind(&start).unwrap());
    catch_up(&third, &gateway, log).unwrap();
    assert_eq!((third.first_kept(&log), third.head(&log)), (100, node.head(&log)));
    assert_eq!(third.get(&log, 50).unwrap_err().code(), "ledger.pruned");
    // It prunes, is compared and cosigned as any other copy.
    cosign(&third, &node, &log);
    third
        .prune(&Pruning::below(log, 110, "30 days"))
        .unwrap()
        .unwrap();
    let receipts = third.snapshot().receipts;
    third.close().unwrap();
    std::fs::remove_dir_all(third_dir.path().join("data/derived")).unwrap();
    assert_clean(third_dir.path());
    let third = open(third_dir.path());
    assert_eq!(
        (third.snapshot().receipts, third.head(&log)),
        (receipts, node.head(&log))
    );

    // The machine that writes the log signs a checkpoint for it at any time; a copy of a copy needs no more.
    let fourth_dir = temp();
    let fourth = store(
        fourth_dir.path(),
        "fourth",
        Fleet::Join(fleet),
        vec![Stream::Facts],
    );
    let start = third.pruned_start(&log).unwrap().unwrap();
    assert!(fourth.begin_behind(&start).unwrap());
    catch_up(&fourth, &node, log).unwrap();
    assert_eq!(
        (fourth.first_kept(&log), fourth.head(&log)),
        (110, node.head(&log))
    );
    for (ledger, dir) in [
        (gateway, gateway_dir),
        (node, node_dir),
        (third, third_dir),
        (fourth, fourth_dir),
    ] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}

#[test]
fn whatever_a_start_does_not_show_is_refused_and_nothing_of_it_is_kept() {
    let (gateway_dir, node_dir, third_dir) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let fleet = gateway.context().fleet;
    let third = store(third_dir.path(), "third", Fleet::Join(fleet), vec![Stream::Facts]);
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 60);
    follow(&gateway, &node, Stream::Pulse);
    cosign(&gateway, &node, &log);
    let said = gateway
        .prune(&Pruning::below(log, 40, "30 days"))
        .unwrap()
        .unwrap()
        .said;
    let start = gateway.pruned_start(&log).unwrap().unwrap();
    let truth = LogPruned::decode(&said.statement().detail).unwrap();
    // A receipt of a machine of the fleet, soundly signed, that lies.
    let lie = |said: LogPruned| {
        let draft = Draft::of(&said, subject("log/lie"));
        let said = gateway.append_to(Stream::Facts, draft).unwrap();
        PrunedStart {
            pruned: said.record.bytes().to_vec(),
            ..start.clone()
        }
    };
    let mut peaks = truth.peaks.clone();
    peaks[0] = TreeRoot([9; 32]);
    let later = node.get(&log, 41).unwrap().unwrap().record.bytes().to_vec();
    let other = gateway.own_log(Stream::Facts).unwrap();
    let other = gateway.get(&other, 0).unwrap().unwrap().record.bytes().to_vec();
    let mut tampered = start.first.clone();
    let end = tampered.0.len() - 5;
    tampered.0[end] ^= 1;
    let mut short = start.consistency.clone();
    short.pop();
    let by_stranger = ledger::core::checkpoint::Checkpoint::read_unverified(&start.checkpoint).unwrap();
    let by_stranger = by_stranger.sign(&ledger::core::SigningKey::from_seed([7; 32]));
    let before = third.snapshot().receipts;
    for (what, start) in [
        (
            "other peaks",
            lie(LogPruned {
                peaks,
                ..truth.clone()
            }),
        ),
        (
            "another seal",
            lie(LogPruned {
                seal: ledger::core::SealDigest([9; 32]),
                ..truth.clone()
            }),
        ),
        (
            "a record later",
            PrunedStart {
                first: (later, None),
                ..start.clone()
            },
        ),
        (
            "a changed record",
            PrunedStart {
                first: tampered,
                ..start.clone()
            },
        ),
        (
            "another log",
            PrunedStart {
                genesis: other,
                ..start.clone()
            },
        ),
        (
            "a hash less",
            PrunedStart {
                consistency: short,
                ..start.clone()
            },
        ),
        (
            "a stranger's checkpoint",
            PrunedStart {
                checkpoint: by_stranger,
                ..start.clone()
            },
        ),
        (
            "no receipt about it",
            PrunedStart {
                pruned: start.genesis.clone(),
                ..start.clone()
            },
        ),
    ] {
        let refused = third.begin_behind(&start).unwrap_err();
        println!("{what}: {refused}");
        assert_eq!(third.snapshot().receipts, before, "{what}");
    }
    assert_eq!(
        node.begin_behind(&start).unwrap_err().code(),
        "ledger.not-begun",
        "its own log"
    );
    let elsewhere_dir = temp();
    let founded = Fleet::Found {
        root_key: ledger::core::SigningKey::from_seed([3; 32]).public(),
        recovery_key: ledger::core::SigningKey::from_seed([4; 32]).public(),
    };
    let elsewhere = store(
        elsewhere_dir.path(),
        "elsewhere",
        founded,
        vec![Stream::Facts, Stream::Order],
    );
    assert_eq!(
        elsewhere.begin_behind(&start).unwrap_err().code(),
        "ledger.not-begun",
        "another fleet"
    );
    assert!(third.begin_behind(&start).unwrap());
    for (ledger, dir) in [(node, node_dir), (third, third_dir)] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
    gateway.close().unwrap();
}

#[test]
fn what_was_published_goes_on_behind_a_pruning_and_what_is_not_there_is_told() {
    let (gateway_dir, node_dir, out) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 3);
    // More than one tile, so that the newest one begins behind what goes.
    let pulse = Draft::custom(Kind::new("x.pulse").unwrap(), subject("beat"));
    node.append_batch(Stream::Pulse, vec![pulse; 297]).unwrap();
    follow(&gateway, &node, Stream::Pulse);
    let (before, anew) = (out.path().join("before"), out.path().join("anew"));
    node.publish(&log, &before).unwrap();
    node.prove(&log, 50).unwrap();
    let checkpoint = node.checkpoint_for_witnesses(&log).unwrap();
    let line = gateway.cosign(&log, &checkpoint).unwrap();
    let cosigned = ledger::core::cosignature::add(&checkpoint, &line).unwrap();
    let wish = Pruning::below(log, 40, "30 days").cosigned(&cosigned, &[gateway.witness_pin()]);
    node.prune(&wish).unwrap().unwrap();
    beat(&node, 10);

    // Who had all of it published goes on, and so does what its tiles carry.
    node.publish(&log, &before).unwrap();
    let options = ledger::verify::Options::default();
    let published = ledger::verify::verify_tiles(&before, &options, &mut |_| {}).unwrap();
    assert_eq!(
        (published.is_clean(), published.counts.receipts),
        (true, 311),
        "{published}"
    );
    let mut bundle = Vec::new();
    node.export_range(&log, 45, 50, &mut bundle).unwrap();
    assert!(ledger::core::bundle::BundleCheck::of_bytes(&bundle).is_clean());
    // The rest is told by the code, with the seq at which the log goes on.
    let told = |refused: ledger::LedgerError| {
        assert_eq!(refused.code(), "ledger.pruned", "{refused}");
        assert!(
            refused.to_string().contains("the log begins at seq 40"),
            "{refused}"
        );
    };
    told(node.export(&log, &mut Vec::new()).unwrap_err());
    told(node.export_range(&log, 10, 20, &mut Vec::new()).unwrap_err());
    told(node.publish(&log, &anew).unwrap_err());
    assert!(!anew.join("checkpoint").exists(), "nobody reads half a log");
    std::fs::remove_dir_all(node_dir.path().join("data/tiles")).unwrap();
    told(node.export_range(&log, 45, 50, &mut Vec::new()).unwrap_err());
    // Each receipt that is left is proven by itself all the same.
    let proof = node.prove(&log, 45).unwrap();
    let pin = node.verifier_key(&log).unwrap();
    assert_eq!(
        ledger::core::proof::check(&proof, &[pin])
            .unwrap()
            .record
            .seal()
            .seq,
        45
    );
    for (ledger, dir) in [(gateway, gateway_dir), (node, node_dir)] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}
