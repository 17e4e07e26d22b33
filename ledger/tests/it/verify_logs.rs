//! Verification of stores of several logs: pins, mirrors, replicas, and what does not belong there.

use crate::forging::{codes, forge, stored};
use crate::stores::{
    assert_clean, fact, fact_with, found, join, open, pin, pin_of, raw, take_in, temp, verify,
};
use crate::verify::{CLEAN, FOUND, small, verdicts};
use ledger::core::kinds::PinnedRange;
use ledger::core::{SealDigest, Stream, TreeRoot};
use ledger::verify::{Options, verify_store};

#[test]
fn pins_are_compared_with_the_logs_that_they_pin_whenever_they_come() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    let order = gateway.own_log(Stream::Order).unwrap();
    for number in 0..20 {
        node.append(fact_with("n", &[number])).unwrap();
    }
    for (first, last) in [(0, 7), (8, 15), (16, 20)] {
        take_in(&gateway, &log, raw(&node, &log, first, last)).unwrap();
        gateway.append_to(Stream::Order, pin(&gateway, &log)).unwrap();
    }
    // The node learns of its pins long after.
    let mirrored = raw(&gateway, &order, 0, 3);
    take_in(&node, &order, mirrored).unwrap();
    for (ledger, dir) in [(gateway, &dirs[0]), (node, &dirs[1])] {
        ledger.close().unwrap();
        let report = assert_clean(dir.path());
        assert!(report.counts.heads_compared >= 5, "{report}");
    }
    // A pin that lies about root or seal, about what is not there, or twice the same going back.
    let gateway = open(dirs[0].path());
    let head = gateway.head(&log).unwrap();
    let truth = PinnedRange {
        log,
        first: 0,
        last: head.seq,
        seal: head.seal,
        root: Some(head.root),
    };
    let lies = [
        PinnedRange {
            root: Some(TreeRoot([1; 32])),
            ..truth
        },
        PinnedRange {
            seal: SealDigest([1; 32]),
            ..truth
        },
        PinnedRange {
            last: head.seq + 3,
            ..truth
        },
        PinnedRange {
            last: 3,
            root: None,
            ..truth
        },
        truth,
    ];
    for lie in lies {
        gateway.append_to(Stream::Order, pin_of(lie)).unwrap();
    }
    gateway.close().unwrap();
    let report = verify(dirs[0].path());
    let expected = [
        ("pin.root", Some(head.seq)),
        ("pin.seal", Some(head.seq)),
        ("pin.seal", Some(3)),
        ("pin.missing", Some(head.seq + 3)),
    ];
    assert_eq!(codes(&report), expected, "{report}");
    assert_eq!(verdicts(&report), [FOUND, CLEAN, FOUND]);
}

#[test]
fn only_the_logs_that_are_asked_for_are_checked() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    ledger.append(fact("n")).unwrap();
    let (facts, work) = (
        ledger.own_log(Stream::Facts).unwrap(),
        ledger.own_log(Stream::Work).unwrap(),
    );
    ledger.close().unwrap();
    let mut all = stored(dir.path());
    *all.last_mut().unwrap().0.last_mut().unwrap() ^= 1;
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    forge(dir.path(), &all);
    for (log, clean) in [(facts, false), (work, true)] {
        let options = Options {
            logs: vec![log],
            ..Options::default()
        };
        let report = verify_store(dir.path(), &options, &mut |_| {}).unwrap();
        assert_eq!((report.counts.logs, report.is_clean()), (1, clean), "{report}");
    }
}

#[test]
fn a_replica_may_lack_payloads_and_a_mirror_of_the_order_may_be_ahead_and_both_are_told() {
    let dirs = [temp(), temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let fleet = gateway.context().fleet;
    let (node, mirror) = (
        join(dirs[1].path(), "node", fleet),
        join(dirs[2].path(), "mirror", fleet),
    );
    let log = node.own_log(Stream::Facts).unwrap();
    node.append(fact_with("n", b"stays there")).unwrap();
    let mut run = raw(&node, &log, 0, 1);
    run[1].1 = None;
    take_in(&gateway, &log, run).unwrap();
    gateway.append_to(Stream::Order, pin(&gateway, &log)).unwrap();
    let order = gateway.own_log(Stream::Order).unwrap();
    take_in(&mirror, &order, raw(&gateway, &order, 0, 1)).unwrap();
    for ledger in [gateway, node, mirror] {
        ledger.close().unwrap();
    }
    let replica = assert_clean(dirs[0].path());
    assert_eq!((replica.counts.absent, replica.counts.payloads), (1, 0));
    let mirrored = assert_clean(dirs[2].path());
    assert!(
        mirrored.notes.iter().any(|note| note.contains("1 pins")),
        "{mirrored}"
    );
    // Both stores of the pair hold what the anchor and the pin say of the node's log.
    assert_eq!(replica.counts.heads_compared, 4);
}

#[test]
fn a_log_of_another_fleet_in_a_store_is_told() {
    let dirs = [temp(), temp()];
    let mut all = small(dirs[0].path());
    all.extend(small(dirs[1].path()));
    forge(dirs[0].path(), &all);
    let report = verify(dirs[0].path());
    assert_eq!(codes(&report), [("chain.other-fleet", Some(0))], "{report}");
    assert_eq!(report.counts.logs, 2);
}
