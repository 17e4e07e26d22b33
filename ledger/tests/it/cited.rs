//! Heads that an order cites and checkpoints that witnesses cosigned are held against what is here, as pins are.

use crate::forging::codes;
use crate::stores::{assert_clean, subject, temp, verify};
use crate::verify::{CLEAN, FOUND, verdicts};
use crate::witness::{beat, follow, pair};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::kinds::{CitedHead, KeyAnnounced, LogCited};
use ledger::core::{Chain, Draft, Kind, LogId, SealDigest, SigningKey, Stream, TreeRoot, cosignature};
use ledger::sync::{Replica, Source};
use ledger::verify::{Options, verify_store};
use ledger::{Ledger, OpenOptions, Paths, Pruning};
use std::path::Path;

fn open(dir: &Path) -> Ledger {
    let options = OpenOptions::default().segment_bytes(16 * 1024);
    Ledger::open(&Paths::new(dir), options).unwrap()
}

fn cite(ledger: &Ledger, heads: Vec<CitedHead>) {
    let draft = Draft::of(&LogCited { heads }, subject("log/cited"));
    ledger.append_to(Stream::Order, draft).unwrap();
}

// The head of a log when it had so many records.
fn head(ledger: &Ledger, log: LogId, size: u64) -> CitedHead {
    let mut records = ledger.range(&log, 0, size - 1);
    let mut chain = Chain::start(&records.next().unwrap().unwrap().record).unwrap();
    for receipt in records {
        chain.follow(&receipt.unwrap().record).unwrap();
    }
    let head = chain.head();
    CitedHead { log, head }
}

fn mirror_order(node: &Ledger, gateway: &Ledger) {
    let order = gateway.own_log(Stream::Order).unwrap();
    let mut replica = Replica::new(node.clone(), order).unwrap();
    let source = Source::new(gateway.clone());
    while !replica.is_complete() {
        let answer = source.reply(&replica.ask().unwrap()).unwrap();
        replica.hear(&answer).unwrap();
    }
}

#[test]
fn cited_heads_are_compared_with_their_logs_whenever_they_come() {
    let (gateway_dir, node_dir, third_dir) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let third = crate::witness::store(
        third_dir.path(),
        "third",
        ledger::Fleet::Join(gateway.context().fleet),
        vec![Stream::Facts],
    );
    let log = node.own_log(Stream::Pulse).unwrap();
    let before = |dir: &Path| assert_clean(dir).counts.heads_compared;
    beat(&node, 40);
    let truth = [1, 12, 31, 40].map(|size| head(&node, log, size));
    follow(&gateway, &node, Stream::Pulse);
    for told in truth {
        cite(&gateway, vec![told]);
    }
    mirror_order(&node, &gateway);
    mirror_order(&third, &gateway);
    let own = [&gateway_dir, &node_dir].map(|dir| before(dir.path()));
    // An order that came first, before what it cites.
    beat(&node, 5);
    cite(&gateway, vec![head(&node, log, 46)]);
    assert_eq!(
        codes(&verify(gateway_dir.path())),
        [("cited.missing", Some(45))],
        "the order's own machine has what it cites"
    );
    follow(&gateway, &node, Stream::Pulse);
    for ledger in [&gateway, &node, &third] {
        ledger
            .checkpoint(&ledger.own_log(Stream::Facts).unwrap())
            .unwrap();
    }
    for (dir, counted) in [(&gateway_dir, own[0] + 1), (&node_dir, own[1])] {
        let report = assert_clean(dir.path());
        assert_eq!(report.counts.heads_compared, counted, "{report}");
        assert!(counted >= 4, "{report}");
    }
    let report = assert_clean(third_dir.path());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("4 pins and citations")),
        "{report}"
    );

    let [_, _, told, _] = truth;
    let mut lies = [told; 3];
    lies[0].head.root = TreeRoot([1; 32]);
    lies[1].head.seal = SealDigest([1; 32]);
    lies[2].head.seq = 99;
    cite(&gateway, lies.to_vec());
    mirror_order(&node, &gateway);
    for ledger in [gateway, node, third] {
        ledger.close().unwrap();
    }
    for dir in [&gateway_dir, &node_dir] {
        let report = verify(dir.path());
        let expected = [
            ("cited.root", Some(30)),
            ("cited.seal", Some(30)),
            ("cited.missing", Some(99)),
        ];
        assert_eq!(codes(&report), expected, "{report}");
        assert_eq!(verdicts(&report), [FOUND, CLEAN, FOUND]);
    }
}

#[test]
fn cited_heads_in_a_pruned_log_are_compared_where_something_is_left_to_compare() {
    let (gateway_dir, node_dir) = (temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 60);
    follow(&gateway, &node, Stream::Pulse);
    for size in [10, 30, 45] {
        cite(&gateway, vec![head(&node, log, size)]);
    }
    let mut lies = [30, 45].map(|size| head(&node, log, size));
    let late = head(&node, log, 50);
    gateway
        .prune(&Pruning::below(log, 30, "30 days"))
        .unwrap()
        .unwrap();
    gateway.close().unwrap();
    // Many more, so that what is cited late lies far back.
    let pulse = Draft::custom(Kind::new("x.pulse").unwrap(), subject("beat"));
    let more = vec![pulse; 3000];
    node.append_batch(Stream::Pulse, more).unwrap();
    let gateway = open(gateway_dir.path());
    follow(&gateway, &node, Stream::Pulse);
    cite(&gateway, vec![late]);
    gateway.close().unwrap();
    let report = assert_clean(gateway_dir.path());
    assert!(
        report.notes.iter().any(|note| note.contains("1 heads that were")),
        "{report}"
    );

    let gateway = open(gateway_dir.path());
    for lie in &mut lies {
        lie.head.root = TreeRoot([1; 32]);
    }
    cite(&gateway, lies.to_vec());
    gateway.close().unwrap();
    let report = verify(gateway_dir.path());
    let expected = [("cited.root", Some(29)), ("cited.root", Some(44))];
    assert_eq!(codes(&report), expected, "{report}");
    node.close().unwrap();
}

#[test]
fn cosigned_checkpoints_that_are_kept_are_held_to_the_log_and_to_the_witnesses_keys() {
    let (gateway_dir, node_dir) = (temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 40);
    follow(&gateway, &node, Stream::Pulse);
    let checkpoint = node.checkpoint_for_witnesses(&log).unwrap();
    let line = gateway.cosign(&log, &checkpoint).unwrap();
    let note = cosignature::add(&checkpoint, &line).unwrap();
    node.keep_cosignature(&note, &gateway.witness_pin()).unwrap();
    beat(&node, 10);
    follow(&gateway, &node, Stream::Pulse);
    let unknown = assert_clean(node_dir.path());
    assert_eq!(unknown.counts.cosignatures, 0);
    let why = |report: &ledger::verify::Report| format!("{:?}", report.not_checked);
    assert!(why(&unknown).contains("of 1 cosignatures"), "{unknown}");
    let pinned = Options {
        keys: vec![gateway.witness_pin(), node.verifier_key(&log).unwrap()],
        ..Options::default()
    };
    let pinned = verify_store(node_dir.path(), &pinned, &mut |_| {}).unwrap();
    assert_eq!(
        (pinned.counts.cosignatures, pinned.is_clean()),
        (1, true),
        "{pinned}"
    );

    let announced = KeyAnnounced {
        machine: gateway.context().machine.clone(),
        witness_key: gateway.keyring().witness.public(),
    };
    let draft = Draft::of(&announced, subject("node/gateway"));
    gateway.append_to(Stream::Order, draft).unwrap();
    mirror_order(&node, &gateway);
    for dir in [&gateway_dir, &node_dir] {
        let report = assert_clean(dir.path());
        assert_eq!(report.counts.cosignatures, 1, "{report}");
        assert!(!why(&report).contains("cosignatures"), "{report}");
    }

    // Every way in which the file can lie.
    let key = node.keyring().checkpoint(Stream::Pulse);
    let cosigned = |checkpoint: String| {
        let pin = gateway.witness_pin();
        let line = cosignature::line(&checkpoint, pin.name(), &gateway.keyring().witness, 1).unwrap();
        cosignature::add(&checkpoint, &line).unwrap()
    };
    let said = Checkpoint::read_unverified(&checkpoint).unwrap();
    let root = TreeRoot([9; 32]);
    let other_root = Checkpoint { root, ..said };
    let ahead = Checkpoint {
        tree_size: 99,
        ..said
    };
    let other_log = Checkpoint {
        log: node.own_log(Stream::Facts).unwrap(),
        ..said
    };
    let stranger = SigningKey::from_seed([7; 32]);
    let half = note.len() - 40;
    let flipped = if note.as_bytes()[half] == b'A' { "B" } else { "A" };
    let mut tampered = note.clone();
    tampered.replace_range(half..=half, flipped);
    let path = node_dir.path().join("data/cosigned").join(log.to_hex());
    for (lie, expected) in [
        (cosigned(other_root.sign(key)), ("cosigned.root", Some(40))),
        (cosigned(ahead.sign(key)), ("cosigned.missing", Some(98))),
        (cosigned(said.sign(&stranger)), ("cosigned.checkpoint", None)),
        (cosigned(other_log.sign(key)), ("cosigned.checkpoint", None)),
        (tampered, ("cosigned.signature", None)),
        ("nothing of the kind".to_owned(), ("cosigned.checkpoint", None)),
    ] {
        std::fs::write(&path, &lie).unwrap();
        let report = verify(node_dir.path());
        assert_eq!(codes(&report), [expected], "{lie}{report}");
    }
    std::fs::write(&path, &note).unwrap();
    assert_clean(node_dir.path());

    // Below what was pruned nothing is left to compare, but for the signatures.
    node.prune(&Pruning::below(log, 41, "30 days").cosigned(&note, &[gateway.witness_pin()]))
        .unwrap()
        .unwrap();
    let report = assert_clean(node_dir.path());
    assert_eq!(report.counts.cosignatures, 1, "{report}");
    std::fs::write(&path, cosigned(other_root.sign(key))).unwrap();
    let report = verify(node_dir.path());
    assert_eq!(
        codes(&report),
        [("cosigned.root", Some(40))],
        "the receipt says the last root: {report}"
    );
    for ledger in [gateway, node] {
        ledger.close().unwrap();
    }
}

#[test]
fn what_an_earlier_epoch_cited_of_a_nodes_own_heartbeats_is_to_be_there() {
    let (gateway_dir, node_dir) = (temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let (order, pulses) = (
        gateway.own_log(Stream::Order).unwrap(),
        node.own_log(Stream::Pulse).unwrap(),
    );
    beat(&node, 10);
    // More than there ever was.
    let mut ahead = head(&node, pulses, 5);
    ahead.head.seq = 40;
    cite(&gateway, vec![ahead]);
    mirror_order(&node, &gateway);
    gateway.close().unwrap();
    // Central goes on in the next epoch.
    let behind: Ledger =
        Ledger::open_behind(&Paths::new(gateway_dir.path()), OpenOptions::default()).unwrap();
    let next = behind.commit(move |tx| tx.succeed(&order)).unwrap().value;
    for log in behind.written_logs().into_values().filter(|log| *log != next) {
        behind.commit(move |tx| tx.succeed(&log)).unwrap();
    }
    behind.close_restored().unwrap();
    let gateway = open(gateway_dir.path());
    // The node's own machine lost nothing by that; of what others lack it is only counted.
    mirror_order(&node, &gateway);
    node.close().unwrap();
    gateway.close().unwrap();
    assert_eq!(codes(&verify(node_dir.path())), [("cited.missing", Some(40))]);
    let report = assert_clean(gateway_dir.path());
    let counted = |note: &String| note.contains("1 pins and citations");
    assert!(report.notes.iter().any(counted), "{report}");
}

#[test]
fn heads_behind_the_end_of_a_log_that_another_succeeded_are_counted_and_no_finding() {
    let (gateway_dir, node_dir, old_dir) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 10);
    node.close().unwrap();
    crate::stores::copy(node_dir.path(), old_dir.path());
    let node = open(node_dir.path());
    beat(&node, 20);
    follow(&gateway, &node, Stream::Pulse);
    for size in [5, 31] {
        cite(&gateway, vec![head(&node, log, size)]);
    }
    node.close().unwrap();

    // The old data came back, and nobody gives the heartbeats back: its next ones say where these end.
    let behind: Ledger = Ledger::open_behind(&Paths::new(old_dir.path()), OpenOptions::default()).unwrap();
    mirror_order(&behind, &gateway);
    let successor = behind.commit(move |tx| tx.succeed(&log)).unwrap().value;
    behind.close_restored().unwrap();
    let node = open(old_dir.path());
    assert_eq!(node.own_log(Stream::Pulse), Some(successor));
    node.close().unwrap();
    let report = assert_clean(old_dir.path());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("1 pins and citations")),
        "{report}"
    );
    // What lies before that end must be here as before.
    let mut lie = head(&gateway, log, 5);
    lie.head.root = TreeRoot([1; 32]);
    cite(&gateway, vec![lie]);
    let node = open(old_dir.path());
    mirror_order(&node, &gateway);
    node.close().unwrap();
    assert_eq!(codes(&verify(old_dir.path())), [("cited.root", Some(4))]);
    gateway.close().unwrap();
}
