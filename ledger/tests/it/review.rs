//! Promises that were once broken: faults that a reading of the code found, kept as tests.

use ledger::core::kinds::LogGenesis;
use ledger::core::{
    Draft, Hlc, Kind, MachineId, ReceiptId, Record, Seal, SealDigest, Signature, SigningKey, Stream, Subject,
    digest, signature,
};
use ledger::intake::VerifiedRun;
use ledger::{Fleet, Ledger, LedgerError, NewStore, OpenOptions, Paths};

#[test]
fn a_forged_record_in_a_foreign_log_takes_no_id_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let new = NewStore {
        machine: MachineId::new("central").unwrap(),
        streams: vec![Stream::Facts],
        fleet: Fleet::Lone,
    };
    let ledger: Ledger<()> =
        Ledger::create(&Paths::new(dir.path().join("s")), &new, OpenOptions::default()).unwrap();
    let fleet = ledger.context().fleet;
    let node = SigningKey::from_seed([5; 32]);
    let subject = || Subject::new("node/evil").unwrap();
    let genesis = LogGenesis {
        machine: MachineId::new("evil").unwrap(),
        stream: Stream::Facts,
        incarnation: 1,
        machine_key: node.public(),
        checkpoint_key: SigningKey::from_seed([6; 32]).public(),
        predecessor: None,
        founding: None,
        nonce: [0; 16],
    };
    let said = Draft::of(&genesis, subject())
        .into_statement(fleet, node.public(), ReceiptId::v7(1, [1; 10]), 1000, [0; 32])
        .unwrap();
    let log = digest::log_id(&said.bytes);
    let seal = Seal {
        version: 1,
        log,
        seq: 0,
        prev: SealDigest::ZERO,
        time: Hlc(1 << 16),
        statement: said.digest,
    };
    let signed = signature::sign_seal(&node, &seal.digest());
    let first = Record::assemble(said.statement, &said.bytes, None, seal, signed);
    // The id that the gateway is going to derive, in the name of the gateway's own key, with a signature of nothing.
    let id = digest::derived_id(&[b"notice", b"JobParked"]);
    let victim = ledger.context().machine_key;
    let forged = Draft::custom(Kind::new("x.squat").unwrap(), subject())
        .into_statement(fleet, victim, id, 1000, [0; 32])
        .unwrap();
    let seal = Seal {
        version: 1,
        log,
        seq: 1,
        prev: first.seal_digest(),
        time: Hlc(2 << 16),
        statement: forged.digest,
    };
    let signed = signature::sign_seal(&node, &seal.digest());
    let second = Record::assemble(
        forged.statement,
        &forged.bytes,
        Some(Signature([7; 64])),
        seal,
        signed,
    );
    let raw = vec![(first.bytes().to_vec(), None), (second.bytes().to_vec(), None)];
    let run = VerifiedRun::verify(raw, None).unwrap().unwrap();
    assert_eq!(run.inadmissible(), [1]);
    ledger
        .commit(move |tx| -> Result<(), LedgerError> { tx.intake(&run).map(drop) })
        .unwrap();
    let ours = Draft::custom(Kind::new("x.notice").unwrap(), Subject::new("notice").unwrap()).id(id);
    ledger.append(ours).expect("our own id is ours");
}

#[test]
fn after_a_crash_between_two_batches_every_receipt_is_found_by_its_place() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("s"), dir.path().join("copy"));
    let new = NewStore {
        machine: MachineId::new("m").unwrap(),
        streams: vec![Stream::Facts],
        fleet: Fleet::Lone,
    };
    let ledger: Ledger<()> = Ledger::create(&Paths::new(&live), &new, OpenOptions::default()).unwrap();
    let facts = ledger.own_log(Stream::Facts).unwrap();
    let say = |ledger: &Ledger<()>, count: usize| {
        let call = move |tx: &mut ledger::Tx<'_, ()>| -> Result<(), LedgerError> {
            for _ in 0..count {
                tx.append(
                    Stream::Facts,
                    Draft::custom(Kind::new("x.n").unwrap(), Subject::new("s").unwrap()),
                )?;
            }
            Ok(())
        };
        ledger.commit(call).unwrap();
    };
    let crash = Arc::new(AtomicBool::new(false));
    let (armed, from, to) = (Arc::clone(&crash), live.clone(), copy.clone());
    // The committer is between publishing a batch and telling the housekeeper of it; the housekeeper makes a round; the
    // power goes.
    ledger.on_commit(move |_| {
        if armed.swap(false, Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1300));
            assert!(
                std::process::Command::new("cp")
                    .arg("-a")
                    .arg(&from)
                    .arg(&to)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    });
    say(&ledger, 10); // 1..=10
    say(&ledger, 1); // 11
    std::thread::sleep(Duration::from_millis(1300));
    say(&ledger, 200); // 12..=211
    say(&ledger, 59); // 212..=270
    crash.store(true, Ordering::SeqCst);
    say(&ledger, 1); // 271
    drop(ledger);
    let ledger: Ledger<()> = Ledger::open(&Paths::new(&copy), OpenOptions::default()).unwrap();
    say(&ledger, 100);
    ledger.close().unwrap();
    let ledger: Ledger<()> = Ledger::open(&Paths::new(&copy), OpenOptions::default()).unwrap();
    let tip = ledger.head(&facts).unwrap().seq;
    let missing: Vec<u64> = (0..=tip)
        .filter(|seq| ledger.get(&facts, *seq).unwrap().is_none())
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} receipts are not found: {:?}",
        missing.len(),
        tip + 1,
        missing.first().zip(missing.last())
    );
}
