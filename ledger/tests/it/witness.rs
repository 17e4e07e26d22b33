//! Cosigning: only what is here with exactly that root, never two histories, and proofs carry it.

use crate::stores::{assert_clean, fact, temp};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::{Draft, Kind, MachineId, SigningKey, Stream, Subject, TreeRoot, cosignature, proof};
use ledger::sync::{Replica, Source};
use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths, Pruning};
use std::path::Path;

pub(crate) fn store(dir: &Path, machine: &str, fleet: Fleet, streams: Vec<Stream>) -> Ledger {
    let new = NewStore {
        machine: MachineId::new(machine).unwrap(),
        streams,
        fleet,
    };
    Ledger::create(
        &Paths::new(dir),
        &new,
        OpenOptions::default().segment_bytes(16 * 1024),
    )
    .unwrap()
}

pub(crate) fn pair(gateway: &Path, node: &Path) -> (Ledger, Ledger) {
    let key = |seed| SigningKey::from_seed([seed; 32]).public();
    let founded = Fleet::Found {
        root_key: key(1),
        recovery_key: key(2),
    };
    let gateway = store(gateway, "gateway", founded, vec![Stream::Facts, Stream::Order]);
    let joined = Fleet::Join(gateway.context().fleet);
    let node = store(node, "node", joined, vec![Stream::Facts, Stream::Pulse]);
    (gateway, node)
}

pub(crate) fn beat(ledger: &Ledger, count: usize) {
    for _ in 0..count {
        let draft = Draft::custom(Kind::new("x.pulse").unwrap(), Subject::new("beat").unwrap());
        ledger.append_to(Stream::Pulse, draft).unwrap();
        ledger.append(fact("beside it")).unwrap();
    }
}

pub(crate) fn follow(gateway: &Ledger, node: &Ledger, stream: Stream) {
    let log = node.own_log(stream).unwrap();
    let mut replica = Replica::new(gateway.clone(), log).unwrap();
    let source = Source::new(node.clone());
    while !replica.is_complete() {
        let answer = source.reply(&replica.ask().unwrap()).unwrap();
        replica.hear(&answer).unwrap();
    }
}

#[test]
fn a_checkpoint_is_cosigned_only_when_the_copy_on_disk_has_its_root_and_never_behind_a_later_one() {
    let (gateway_dir, node_dir) = (temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    let log = node.own_log(Stream::Pulse).unwrap();
    beat(&node, 20);
    follow(&gateway, &node, Stream::Pulse);
    let early = node.checkpoint_for_witnesses(&log).unwrap();
    beat(&node, 20);
    let late = node.checkpoint_for_witnesses(&log).unwrap();
    let refused = gateway.cosign(&log, &late).unwrap_err();
    assert_eq!(
        refused.code(),
        "ledger.not-cosigned",
        "the copy is not that long: {refused}"
    );
    gateway.cosign(&log, &early).unwrap();
    follow(&gateway, &node, Stream::Pulse);

    // Another history, signed by the log's own key.
    let forged = |size| {
        let root = TreeRoot([9; 32]);
        let forged = Checkpoint {
            log,
            tree_size: size,
            root,
        };
        forged.sign(node.keyring().checkpoint(Stream::Pulse))
    };
    assert_eq!(
        gateway.cosign(&log, &forged(30)).unwrap_err().code(),
        "ledger.root-differs"
    );
    assert_eq!(
        gateway.cosign(&log, &forged(21)).unwrap_err().code(),
        "ledger.not-cosigned",
        "what was compared is kept"
    );
    let line = gateway.cosign(&log, &late).unwrap();
    assert_eq!(
        gateway.cosign(&log, &early).unwrap_err().code(),
        "ledger.not-cosigned"
    );
    assert_eq!(
        gateway.cosign(&log, &forged(41)).unwrap_err().code(),
        "ledger.root-differs"
    );
    let stranger = SigningKey::from_seed([7; 32]);
    let by_another = Checkpoint::read_unverified(&late).unwrap().sign(&stranger);
    assert_eq!(
        gateway.cosign(&log, &by_another).unwrap_err().code(),
        "ledger.not-cosigned"
    );

    // The same after opening anew, and the same head may be cosigned again.
    gateway.close().unwrap();
    let gateway: Ledger = Ledger::open(&Paths::new(gateway_dir.path()), OpenOptions::default()).unwrap();
    assert_eq!(
        gateway.cosign(&log, &early).unwrap_err().code(),
        "ledger.not-cosigned"
    );
    gateway.cosign(&log, &late).unwrap();
    let kept = gateway.cosigned(&log).unwrap().unwrap();
    assert_eq!(kept.checkpoint.tree_size, 41);
    assert_eq!(kept.by(&[gateway.witness_pin()]).len(), 1);

    let cosigned = cosignature::add(&late, &line).unwrap();
    assert_eq!(
        node.keep_cosignature(&cosigned, &node.witness_pin())
            .unwrap_err()
            .code(),
        "ledger.not-cosigned"
    );
    assert_eq!(
        node.keep_cosignature(&cosigned, &gateway.witness_pin())
            .unwrap()
            .witness,
        "ledger.log/v1/witness/gateway"
    );
    for (ledger, dir) in [(gateway, gateway_dir), (node, node_dir)] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}

#[test]
fn a_node_prunes_under_its_gateways_cosignature_and_its_proofs_carry_it() {
    let (gateway_dir, node_dir, out) = (temp(), temp(), temp());
    let (gateway, node) = pair(gateway_dir.path(), node_dir.path());
    beat(&node, 60);
    let pin = gateway.witness_pin();
    for stream in [Stream::Pulse, Stream::Facts] {
        let log = node.own_log(stream).unwrap();
        follow(&gateway, &node, stream);
        let checkpoint = node.checkpoint_for_witnesses(&log).unwrap();
        let line = gateway.cosign(&log, &checkpoint).unwrap();
        node.keep_cosignature(&cosignature::add(&checkpoint, &line).unwrap(), &pin)
            .unwrap();
    }
    beat(&node, 60);
    let (log, facts) = (
        node.own_log(Stream::Pulse).unwrap(),
        node.own_log(Stream::Facts).unwrap(),
    );
    let note = node.cosigned(&log).unwrap().unwrap().note;
    let wish = |below| Pruning::below(log, below, "30 days").cosigned(&note, std::slice::from_ref(&pin));
    assert_eq!(
        node.prune(&wish(100)).unwrap_err().code(),
        "ledger.not-prunable",
        "nobody saw that much"
    );
    assert_eq!(node.prune(&wish(50)).unwrap().unwrap().last, 49);

    // What the cosigned checkpoint covers is proven under it, before and behind the pruned part; the rest under a new one.
    for (log, seq, witnesses, size) in [
        (facts, 7, 1, 61),
        (facts, 60, 1, 61),
        (log, 55, 1, 61),
        (facts, 100, 0, 122),
        (log, 90, 0, 121),
    ] {
        let text = node.prove(&log, seq).unwrap();
        let proven = proof::check(&text, &[node.verifier_key(&log).unwrap()]).unwrap();
        assert_eq!(proven.checkpoint.tree_size, size, "seq {seq}");
        let checkpoint = proof::Proof::parse(&text).unwrap().checkpoint;
        assert_eq!(
            cosignature::witnesses(&checkpoint, std::slice::from_ref(&pin))
                .unwrap()
                .len(),
            witnesses,
            "seq {seq}"
        );
    }
    follow(&gateway, &node, Stream::Facts);
    let checkpoint = node.checkpoint_for_witnesses(&facts).unwrap();
    let line = gateway.cosign(&facts, &checkpoint).unwrap();
    node.keep_cosignature(&cosignature::add(&checkpoint, &line).unwrap(), &pin)
        .unwrap();
    let published = node.publish(&facts, out.path()).unwrap();
    assert_eq!(
        cosignature::witnesses(&published.checkpoint, std::slice::from_ref(&pin))
            .unwrap()
            .len(),
        1
    );

    // The copy goes on being compared when its oldest records are gone.
    follow(&gateway, &node, Stream::Pulse);
    gateway
        .prune(&Pruning::below(log, 100, "30 days"))
        .unwrap()
        .unwrap();
    beat(&node, 5);
    follow(&gateway, &node, Stream::Pulse);
    let checkpoint = node.checkpoint_for_witnesses(&log).unwrap();
    gateway.cosign(&log, &checkpoint).unwrap();
    for (ledger, dir) in [(gateway, gateway_dir), (node, node_dir)] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}

#[test]
fn a_log_that_grows_keeps_the_checkpoint_that_most_cosigned_until_a_newer_one_has_as_many() {
    let (one_dir, two_dir, owner_dir) = (temp(), temp(), temp());
    let (one, owner) = pair(one_dir.path(), owner_dir.path());
    let fleet = Fleet::Join(one.context().fleet);
    let two = store(two_dir.path(), "two", fleet, vec![Stream::Facts]);
    let log = owner.own_log(Stream::Pulse).unwrap();
    let pins = [one.witness_pin(), two.witness_pin()];
    let checkpoint = || {
        beat(&owner, 5);
        for witness in [&one, &two] {
            follow(witness, &owner, Stream::Pulse);
        }
        owner.checkpoint_for_witnesses(&log).unwrap()
    };
    let cosign = |witness: &Ledger, checkpoint: &str| {
        let line = witness.cosign(&log, checkpoint).unwrap();
        // What stands beside it counts for nothing.
        let junk = cosignature::line(checkpoint, "junk.example", &SigningKey::from_seed([3; 32]), 1).unwrap();
        let note = cosignature::add(&cosignature::add(checkpoint, &line).unwrap(), &junk).unwrap();
        owner.keep_cosignature(&note, &witness.witness_pin()).unwrap();
    };
    let proven = |seq| {
        let text = owner.prove(&log, seq).unwrap();
        let note = proof::Proof::parse(&text).unwrap().checkpoint;
        let size = Checkpoint::read_unverified(&note).unwrap().tree_size;
        assert!(!note.contains("junk"), "{note}");
        (size, cosignature::witnesses(&note, &pins).unwrap().len())
    };
    let first = checkpoint();
    cosign(&one, &first);
    let second = checkpoint();
    cosign(&one, &second);
    assert_eq!(proven(3), (11, 1), "of equals the newest");
    cosign(&two, &second);
    let third = checkpoint();
    cosign(&one, &third);
    assert_eq!(proven(3), (11, 2), "the newest has only one yet");
    assert_eq!(proven(12), (16, 1), "the older does not cover it");
    assert_eq!(owner.cosigned(&log).unwrap().unwrap().checkpoint.tree_size, 16);
    let fourth = checkpoint();
    cosign(&one, &fourth);
    assert_eq!(proven(3), (11, 2), "fewer never take the place of more");
    cosign(&two, &fourth);
    assert_eq!(proven(3), (21, 2));
    let fifth = checkpoint();
    cosign(&one, &fifth);
    assert_eq!(proven(3), (21, 2), "the one before is kept now");

    // A second root for either of both is a fork.
    let key = owner.keyring().checkpoint(Stream::Pulse);
    for size in [21, 26] {
        let root = TreeRoot([9; 32]);
        let other = Checkpoint {
            log,
            tree_size: size,
            root,
        };
        let evidence = owner.two_roots(&log, &other.sign(key)).unwrap().unwrap();
        assert_eq!(evidence.check().unwrap().seq, size - 1);
    }
    for (ledger, dir) in [(one, one_dir), (two, two_dir), (owner, owner_dir)] {
        ledger.close().unwrap();
        assert_clean(dir.path());
    }
}
