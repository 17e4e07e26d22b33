//! Other machines' logs are taken in as they are, as exact continuations, or not at all.

use crate::stores::{assert_clean, fact, fact_with, found, join, open, raw, take_in, temp};
use ledger::LedgerError;
use ledger::clock::SystemEntropy;
use ledger::core::Stream;
use ledger::intake::VerifiedRun;

#[test]
fn another_machines_log_is_taken_in_verbatim_and_only_as_its_continuation() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    for number in 0..9 {
        node.append(fact_with("n", &[number])).unwrap();
    }
    let all = raw(&node, &log, 0, 9);
    // Gaps: before its genesis came, and after.
    let code = |result: Result<ledger::Intake, LedgerError>| result.unwrap_err().code();
    assert_eq!(code(take_in(&gateway, &log, all[1..].to_vec())), "chain.seq");
    let taken = take_in(&gateway, &log, all[..4].to_vec()).unwrap();
    assert_eq!((taken.new.len(), taken.known, taken.head_seq), (4, 0, 3));
    assert_eq!(code(take_in(&gateway, &log, all[5..].to_vec())), "chain.seq");
    // Overlap is harmless, in whole and in part.
    let taken = take_in(&gateway, &log, all[..4].to_vec()).unwrap();
    assert_eq!((taken.new.len(), taken.known, taken.head_seq), (0, 4, 3));
    let taken = take_in(&gateway, &log, all[2..7].to_vec()).unwrap();
    assert_eq!((taken.new.len(), taken.known, taken.head_seq), (3, 2, 6));
    // A log signature that is not valid, and a payload that does not fit.
    let mut forged = all[7..8].to_vec();
    let last = forged[0].0.len() - 1;
    forged[0].0[last] ^= 1;
    assert_eq!(code(take_in(&gateway, &log, forged)), "chain.log-signature");
    let mut other = all[7..8].to_vec();
    other[0].1.as_mut().unwrap().bytes[0] ^= 1;
    assert_eq!(code(take_in(&gateway, &log, other)), "statement.payload");
    take_in(&gateway, &log, all[7..].to_vec()).unwrap();
    assert_eq!(gateway.head(&log), node.head(&log));
    assert_eq!(raw(&gateway, &log, 0, 9), all);
    // Nobody else appends to it, and our own is not taken in.
    let own = gateway.own_log(Stream::Facts).unwrap();
    gateway.append(fact("mine")).unwrap();
    let known = take_in(&gateway, &own, raw(&gateway, &own, 0, 1)).unwrap();
    assert_eq!((known.new.len(), known.known), (0, 2));
    for ledger in [gateway, node] {
        ledger.close().unwrap();
    }
    dirs.iter().for_each(|dir| drop(assert_clean(dir.path())));
}

#[test]
fn a_fork_is_refused_whether_it_is_old_or_at_the_head() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    node.append(fact("same")).unwrap();
    node.close().unwrap();
    // A cloned disk: two go on from the same head.
    let clone = temp();
    crate::stores::copy(dirs[1].path(), &clone.path().join("c"));
    let (node, clone) = (open(dirs[1].path()), open(&clone.path().join("c")));
    for number in 0..3 {
        node.append(fact(&format!("node {number}"))).unwrap();
        clone.append(fact(&format!("clone {number}"))).unwrap();
    }
    take_in(&gateway, &log, raw(&node, &log, 0, 4)).unwrap();
    for (first, last, seq) in [(0, 4, 2), (2, 2, 2), (4, 4, 4)] {
        match take_in(&gateway, &log, raw(&clone, &log, first, last)) {
            Err(LedgerError::Fork { seq: found, .. }) => assert_eq!(found, seq),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gateway.head(&log), node.head(&log));
}

#[test]
fn a_record_with_a_bad_author_signature_is_kept_and_named_as_inadmissible() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    let said = node.sign_as_actor(fact("by an actor"), &SystemEntropy).unwrap();
    node.append_signed(said).unwrap();
    // The author signature is not under the seal, so the node can break it without anybody's key.
    let mut run = raw(&node, &log, 0, 1);
    let (bytes, _) = &mut run[1];
    let statement = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    assert_eq!(bytes[2 + statement], 64);
    bytes[2 + statement + 1] ^= 1;
    let verified = VerifiedRun::verify(run, None).unwrap().unwrap();
    assert_eq!(verified.inadmissible(), [1]);
    let taken = gateway.commit(move |tx| tx.intake(&verified)).unwrap();
    assert_eq!(taken.value.head_seq, 1);
    gateway.close().unwrap();
    let report = crate::stores::verify(dirs[0].path());
    let named: Vec<_> = report.findings.iter().map(|f| (f.code, f.log, f.seq)).collect();
    assert_eq!(named, [("chain.author-signature", Some(log), Some(1))]);
}

#[test]
fn a_statement_of_another_fleet_is_refused() {
    let dirs = [temp(), temp()];
    let here = found(dirs[0].path(), "here", true);
    let there = found(dirs[1].path(), "there", true);
    let said = there.sign_as_actor(fact("x"), &SystemEntropy).unwrap();
    assert_eq!(here.append_signed(said).unwrap_err().code(), "ledger.other-fleet");
    let log = there.own_log(Stream::Facts).unwrap();
    let error = take_in(&here, &log, raw(&there, &log, 0, 0)).unwrap_err();
    assert_eq!(error.code(), "ledger.other-fleet");
}
