//! Law: a proof file convinces with the pinned key alone, and no byte of it can be other than it is.

use ledger_core::note::{self, VerifierKey};
use ledger_core::proof::{Extra, Proof, ProofError, Proven, check};
use ledger_core::tree;
use ledger_core::{LogId, SigningKey, checkpoint};
use ledger_fixtures::{SampleLog, lone_log};

fn proof_of(log: &SampleLog, seq: usize) -> Proof {
    let receipts = log.receipts();
    let leaves: Vec<_> = receipts
        .iter()
        .map(|r| tree::leaf_hash(r.record.bytes()))
        .collect();
    let extra = Extra {
        genesis: receipts[0].record.bytes().to_vec(),
        record: receipts[seq].record.bytes().to_vec(),
        payload: receipts[seq].payload.clone(),
    };
    Proof {
        extra: Some(extra.encode()),
        index: seq as u64,
        path: tree::inclusion_proof(&leaves, seq).unwrap(),
        checkpoint: log.signed_checkpoint(),
    }
}

fn pin(log: &SampleLog) -> VerifierKey {
    let key = log.chain().genesis().checkpoint_key;
    VerifierKey::parse(&note::verifier_key(&checkpoint::origin(&log.log()), &key)).unwrap()
}

fn code(checked: Result<Proven, ProofError>) -> &'static str {
    checked.map_or_else(|error| error.code(), |_| "fine")
}

#[test]
fn every_receipt_of_a_log_is_proven_to_whoever_pinned_its_key() {
    let log = lone_log(7, 13);
    for (seq, receipt) in log.receipts().iter().enumerate() {
        let text = proof_of(&log, seq).to_text();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{text}");
        assert_eq!(Proof::parse(&text).unwrap().to_text(), text);
        let proven = check(&text, &[pin(&log)]).unwrap();
        assert_eq!(proven.record, receipt.record);
        assert_eq!(proven.payload, receipt.payload);
        assert_eq!(proven.checkpoint.tree_size, 13);
        let entry = Proof::parse(&text).unwrap();
        assert!(entry.verify_entry(receipt.record.bytes(), &[pin(&log)]).is_ok());
        assert!(entry.verify_entry(b"another entry", &[pin(&log)]).is_err());
    }
}

/// The bytes of version 1 for ever; `UPDATE=1` writes them anew.
#[test]
fn the_frozen_proof_of_version_1_is_made_and_checked_as_ever() {
    let logs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/logs");
    let file = logs.join("v1-receipt.tlog-proof");
    let log = lone_log(7, 6);
    let made = proof_of(&log, 3).to_text();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let frozen = std::fs::read_to_string(&file).unwrap();
    assert_eq!(made, frozen);
    let keys = std::fs::read_to_string(logs.join("v1-receipt.key")).unwrap();
    assert_eq!(pin(&log).to_text(), keys.trim_end());
    let proven = check(&frozen, &VerifierKey::parse_lines(&keys).unwrap()).unwrap();
    assert_eq!(proven.record.seal().seq, 3);
    assert_eq!(proven.payload.unwrap().bytes, br#"{"n":3}"#);
}

/// By nothing but other people's code: the note, the hash of the entry, the path.
#[test]
fn other_programs_verify_our_proof_file() {
    let log = lone_log(7, 13);
    for (seq, receipt) in log.receipts().iter().enumerate() {
        let text = proof_of(&log, seq).to_text();
        let (head, note) = text.split_once("\n\n").unwrap();
        let lines: Vec<&str> = head.lines().collect();
        assert_eq!(
            (lines[0], lines[2]),
            ("c2sp.org/tlog-proof@v1", format!("index {seq}").as_str())
        );
        let verifier = signed_note::StandardVerifier::new(&pin(&log).to_text()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let note = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&known).unwrap().0.len(), 1);
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        let path = lines[3..]
            .iter()
            .map(|line| tlog_tiles::Hash::parse_hash(line).unwrap());
        let leaf = tlog_tiles::record_hash(receipt.record.bytes());
        let path = path.collect();
        assert!(
            tlog_tiles::check_record(&path, checkpoint.size(), *checkpoint.hash(), seq as u64, leaf).is_ok()
        );
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_found() {
    let log = lone_log(7, 6);
    // Signed by an actor and with a payload: everything that a proof can carry.
    let text = proof_of(&log, 3).to_text();
    let pins = [pin(&log)];
    assert_eq!(code(check(&text, &pins)), "fine");
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1 << bit;
            if let Ok(flipped) = String::from_utf8(flipped) {
                assert!(check(&flipped, &pins).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
    for at in 0..text.len() {
        if text.is_char_boundary(at) {
            assert!(check(&text[..at], &pins).is_err(), "cut at {at}");
        }
    }
    for excess in ["\n", " ", "x", "\u{2014} other AAAA\n\n"] {
        assert!(check(&format!("{text}{excess}"), &pins).is_err(), "{excess:?}");
    }
}

#[test]
fn every_flipped_bit_of_what_a_proof_carries_is_found() {
    let log = lone_log(9, 6);
    let pins = [pin(&log)];
    for seq in [1, 2, 3] {
        let good = proof_of(&log, seq);
        let extra = good.extra.clone().unwrap();
        for at in 0..extra.len() {
            for bit in 0..8 {
                let mut flipped = extra.clone();
                flipped[at] ^= 1 << bit;
                let bad = Proof {
                    extra: Some(flipped),
                    ..good.clone()
                };
                assert!(
                    check(&bad.to_text(), &pins).is_err(),
                    "seq {seq}: bit {bit} of byte {at}"
                );
            }
        }
    }
}

#[test]
fn parts_of_different_proofs_do_not_go_together() {
    let (log, other) = (lone_log(7, 12), lone_log(8, 12));
    let longer = lone_log(7, 13);
    let good = proof_of(&log, 4);
    let pins = [pin(&log), pin(&other)];
    let with = |change: &dyn Fn(&mut Proof)| {
        let mut proof = good.clone();
        change(&mut proof);
        code(check(&proof.to_text(), &pins))
    };
    assert_eq!(with(&|_| ()), "fine");
    assert_eq!(with(&|p| p.index = 5), "proof.not-included");
    assert_eq!(with(&|p| p.path.swap(0, 1)), "proof.not-included");
    assert_eq!(with(&|p| p.path.truncate(3)), "proof.not-included");
    assert_eq!(with(&|p| p.path.push([0; 32])), "proof.not-included");
    assert_eq!(
        with(&|p| p.checkpoint = longer.signed_checkpoint()),
        "proof.not-included"
    );
    assert_eq!(
        with(&|p| p.checkpoint = other.signed_checkpoint()),
        "proof.not-included"
    );
    assert_eq!(with(&|p| p.extra = proof_of(&log, 5).extra), "proof.not-included");
    assert_eq!(with(&|p| p.extra = None), "proof.no-record");
    let extra_with = |change: &dyn Fn(&mut Extra)| {
        let mut extra = Extra::decode(good.extra.as_ref().unwrap()).unwrap();
        change(&mut extra);
        with(&|p| p.extra = Some(extra.encode()))
    };
    let foreign_genesis = other.receipts()[0].record.bytes().to_vec();
    assert_eq!(
        extra_with(&|e| e.genesis.clone_from(&foreign_genesis)),
        "chain.other-log"
    );
    let note = log.receipts()[1].record.bytes().to_vec();
    assert_eq!(extra_with(&|e| e.genesis.clone_from(&note)), "chain.genesis");
    let payload = proof_of(&log, 5)
        .extra
        .map(|e| Extra::decode(&e).unwrap().payload)
        .unwrap();
    assert_eq!(extra_with(&|e| e.payload.clone_from(&payload)), "proof.payload");
}

#[test]
fn a_payload_may_be_kept_back_and_the_rest_still_proves() {
    let log = lone_log(7, 6);
    let mut proof = proof_of(&log, 1);
    let mut extra = Extra::decode(proof.extra.as_ref().unwrap()).unwrap();
    assert!(extra.payload.take().is_some());
    proof.extra = Some(extra.encode());
    let proven = check(&proof.to_text(), &[pin(&log)]).unwrap();
    assert!(proven.payload.is_none() && proven.record.statement().payload.is_some());
}

#[test]
fn only_pinned_keys_count() {
    let log = lone_log(7, 6);
    let text = proof_of(&log, 2).to_text();
    let stranger = |name: &str| VerifierKey::new(name, SigningKey::from_seed([1; 32]).verifier());
    let named = pin(&log).name().to_owned();
    assert_eq!(code(check(&text, &[])), "proof.not-pinned");
    assert_eq!(code(check(&text, &[stranger("log.example")])), "proof.not-pinned");
    assert_eq!(code(check(&text, &[stranger(&named)])), "note.unsigned");
    assert_eq!(code(check(&text, &[stranger(&named), pin(&log)])), "fine");
    let other_name = checkpoint::origin(&LogId([1; 32]));
    let key = log.chain().genesis().checkpoint_key.verifier().unwrap();
    assert_eq!(
        code(check(&text, &[VerifierKey::new(other_name, key)])),
        "proof.not-pinned"
    );
}

#[test]
fn a_checkpoint_key_that_the_genesis_does_not_name_proves_nothing() {
    let log = lone_log(7, 6);
    let wrong = SigningKey::from_seed([1; 32]);
    let name = checkpoint::origin(&log.log());
    let tree = log.chain().tree();
    let signed = checkpoint::Checkpoint {
        log: log.log(),
        tree_size: tree.size(),
        root: tree.root(),
    };
    let mut proof = proof_of(&log, 2);
    proof.checkpoint = signed.sign(&wrong);
    let pins = [VerifierKey::new(name, wrong.verifier())];
    assert_eq!(code(check(&proof.to_text(), &pins)), "proof.checkpoint-key");
}

#[test]
fn other_spellings_of_a_proof_are_refused() {
    let log = lone_log(7, 6);
    let good = proof_of(&log, 2).to_text();
    let pins = [pin(&log)];
    for (from, to) in [
        ("index 2", "index 02"),
        ("index 2", "index +2"),
        ("index 2", "index  2"),
        ("index 2", "Index 2"),
        ("extra ", "extra  "),
        ("@v1", "@v2"),
        ("\n", "\r\n"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_eq!(code(check(&bad, &pins)), "proof.malformed", "{to:?}");
    }
    // An empty path, and a checkpoint that begins with hashes.
    let bad = good.replacen("index 2\n", "index 2\n\n", 1);
    assert_eq!(code(check(&bad, &pins)), "proof.not-pinned");
}
