//! The five verdicts of a verification are told apart, and what the order knows already is no finding for ever.

use crate::stores::{assert_clean, fact, fact_with, found, join, pin_of, raw, subject, temp, verify};
use ledger::clock::SystemEntropy;
use ledger::core::checkpoint::Checkpoint;
use ledger::core::kinds::{Evidence, InadmissibleReason, PinnedRange, ReceiptInadmissible};
use ledger::core::{Draft, Stream};
use ledger::intake::VerifiedRun;
use ledger::journal::{EntryDraft, Journal, JournalOptions, StoreId};
use ledger::storage::DiskStorage;
use ledger::verify::{
    Aspect, Authority, CheckpointFrom, Judgement, NotPermitted, Options, Report, Verdict, verify_store,
};
use ledger::{Ledger, Paths, Receipt};
use std::path::Path;
use std::sync::Arc;

fn with(dir: &Path, options: &Options) -> Report {
    verify_store(dir, options, &mut |_| {}).unwrap()
}

#[test]
fn a_bad_author_signature_is_excused_by_the_orders_word_alone() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    for _ in 0..2 {
        let said = node.sign_as_actor(fact("by an actor"), &SystemEntropy).unwrap();
        node.append_signed(said).unwrap();
    }
    let mut run = raw(&node, &log, 0, 2);
    for (bytes, _) in &mut run[1..] {
        // The author signature stands behind the statement.
        let statement = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        bytes[2 + statement + 1] ^= 1;
    }
    let verified = VerifiedRun::verify(run, None).unwrap().unwrap();
    gateway.commit(move |tx| tx.intake(&verified)).unwrap();
    let receipts: Vec<Receipt> = gateway.range(&log, 1, 2).map(Result::unwrap).collect();
    let say = |stream, receipt: &Receipt, reason| {
        let detail = ReceiptInadmissible {
            record: Evidence {
                log,
                seq: receipt.seq(),
                seal: receipt.seal_digest(),
            },
            id: receipt.id(),
            reason,
        };
        gateway
            .append_to(stream, Draft::of(&detail, subject("receipt")))
            .unwrap();
    };
    say(Stream::Order, &receipts[0], InadmissibleReason::AuthorSignature);
    // Another reason excuses no signature.
    say(Stream::Order, &receipts[1], InadmissibleReason::NotPermitted);
    let last = raw(&gateway, &log, 0, 2).len();
    assert_eq!(last, 3);
    gateway.close().unwrap();
    let report = verify(dirs[0].path());
    let named: Vec<_> = report.findings.iter().map(|f| (f.code, f.log, f.seq)).collect();
    assert_eq!(
        named,
        [("chain.author-signature", Some(log), Some(2))],
        "{report}"
    );
    assert_eq!((report.counts.excused, report.signatures), (1, Verdict::Found));
    assert!(report.notes.iter().any(|note| note.contains("inadmissible")));
}

#[test]
fn the_age_of_the_newest_receipt_is_told_and_judged_only_when_asked_for() {
    let dir = temp();
    let ledger = Ledger::lone(dir.path(), "studio").unwrap();
    ledger.append(fact("n")).unwrap();
    let bundle = dir.path().join("facts.bundle");
    let log = ledger.own_log(Stream::Facts).unwrap();
    ledger
        .export(&log, &mut std::fs::File::create(&bundle).unwrap())
        .unwrap();
    ledger.close().unwrap();
    let told = assert_clean(dir.path());
    assert_eq!(told.freshness.verdict, Verdict::NotChecked);
    assert!(
        told.not_checked
            .iter()
            .any(|said| said.aspect == Aspect::Freshness)
    );
    let aged = |max_age_ms| {
        let options = Options {
            max_age_ms: Some(max_age_ms),
            clock: Arc::new(Later),
            ..Options::default()
        };
        with(dir.path(), &options)
    };
    // An hour passes. A bundle tells it as the store does.
    let old = aged(30 * 60 * 1000);
    let options = Options {
        max_age_ms: Some(30 * 60 * 1000),
        clock: Arc::new(Later),
        ..Options::default()
    };
    let exported = ledger::verify::verify_bundle(&bundle, &options, &mut |_| ()).unwrap();
    let (here, there) = (exported.freshness, &old.freshness);
    assert_eq!(
        (here.verdict, here.newest_unix_ms),
        (there.verdict, there.newest_unix_ms)
    );
    let codes: Vec<_> = old.findings.iter().map(|f| (f.code, f.aspect)).collect();
    assert_eq!(codes, [("freshness.age", Aspect::Freshness)]);
    assert_eq!(old.freshness.verdict, Verdict::Found);
    assert_eq!(old.integrity, Verdict::Clean);
    let young = aged(2 * 3600 * 1000);
    assert!(young.is_clean());
    assert_eq!(young.freshness.verdict, Verdict::Clean);
}

#[derive(Debug)]
struct Later;

impl ledger::clock::Clock for Later {
    fn now_us(&self) -> i64 {
        ledger::clock::SystemClock.now_us() + 3_600_000_000
    }
}

// Permits everything but what has this subject.
struct Picky {
    judged: u64,
    found: Vec<NotPermitted>,
}

impl Authority for Picky {
    fn take(&mut self, receipt: &Receipt) {
        self.judged += 1;
        if receipt.statement().subject.as_str() == "forbidden" {
            self.found.push(NotPermitted {
                log: receipt.log(),
                seq: receipt.seq(),
                id: receipt.id(),
                code: "authority.not-permitted",
                text: "it was not permitted".to_owned(),
            });
        }
    }

    fn finish(&mut self) -> Judgement {
        Judgement {
            judged: self.judged,
            found: std::mem::take(&mut self.found),
            ..Judgement::default()
        }
    }
}

#[test]
fn a_judge_sees_every_receipt_in_order_and_its_verdict_stands_alone() {
    let dir = temp();
    let ledger = found(dir.path(), "gateway", true);
    let say = |number: u64| {
        fact_with(
            if number == 500 { "forbidden" } else { "n" },
            &number.to_be_bytes(),
        )
    };
    ledger
        .append_batch(Stream::Facts, (0..600).map(say).collect())
        .unwrap();
    let log = ledger.own_log(Stream::Facts).unwrap();
    ledger.append(fact("last")).unwrap();
    ledger.close().unwrap();
    let options = Options {
        authority: Some(Arc::new(|| {
            Box::new(Picky {
                judged: 0,
                found: Vec::new(),
            })
        })),
        ..Options::default()
    };
    let report = with(dir.path(), &options);
    let named: Vec<_> = report.findings.iter().map(|f| (f.aspect, f.log, f.seq)).collect();
    assert_eq!(named, [(Aspect::Authority, Some(log), Some(501))], "{report}");
    let others = [report.integrity, report.signatures, report.completeness];
    assert_eq!(others, [Verdict::Clean; 3]);
    assert_eq!(report.authority, Verdict::Found);
    assert_eq!(report.counts.judged, report.counts.receipts);
    // Without a judge nobody says anything of it.
    let silent = assert_clean(dir.path());
    assert_eq!(silent.authority, Verdict::NotChecked);
    assert!(
        silent
            .not_checked
            .iter()
            .any(|said| said.aspect == Aspect::Authority)
    );
}

// A store of many blocks: each flipped byte has the same findings whether the quick way comes upon it or the careful one.
#[test]
fn what_is_damaged_among_many_blocks_is_named_and_the_rest_is_read() {
    let dir = temp();
    let ledger = found(dir.path(), "gateway", true);
    for from in (0..3_000_u64).step_by(100) {
        let say = |number: u64| fact_with("n", &[number.to_be_bytes()[7]; 900]);
        ledger
            .append_batch(Stream::Facts, (from..from + 100).map(say).collect())
            .unwrap();
    }
    let log = ledger.own_log(Stream::Facts).unwrap();
    ledger.append(fact("last")).unwrap();
    ledger.close().unwrap();
    let whole = assert_clean(dir.path());
    assert!(whole.logs[0].root.is_some());
    let path = Paths::new(dir.path()).journal().join("00000001.seg");
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 3 << 20, "several blocks");
    let entries = crate::stores::entries(dir.path());
    for index in [1_400, 2_900] {
        let (position, record, _) = &entries[index];
        let mut damaged = bytes.clone();
        // In the middle of the record, behind the entry's header.
        damaged[position.offset as usize + 14 + record.len() / 2] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        for full in [true, false] {
            let options = Options {
                full,
                ..Options::default()
            };
            let report = with(dir.path(), &options);
            let seq = ledger::core::Record::parse(record).unwrap().seal().seq;
            let named: Vec<_> = report.findings.iter().map(|f| (f.log, f.seq)).collect();
            assert!(named.contains(&(Some(log), Some(seq))), "{report}");
            assert!(
                named.iter().all(|(_, at)| at.is_none_or(|at| at == seq)),
                "{report}"
            );
            assert_eq!(report.counts.receipts, whole.counts.receipts - 1, "{report}");
        }
    }
    // A payload, which no checksum of the journal covers.
    let (position, record, _) = &entries[2_000];
    let seq = ledger::core::Record::parse(record).unwrap().seal().seq;
    let at = bytes
        .windows(64)
        .position(|window| window == [seq.wrapping_sub(1).to_be_bytes()[7]; 64])
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let report = verify(dir.path());
    let codes: Vec<_> = report.findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["statement.payload"], "{report} {position}");
    assert_eq!(report.counts.receipts, whole.counts.receipts);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(assert_clean(dir.path()).logs, whole.logs);
}

#[test]
fn what_a_checkpoint_covers_must_be_here_and_unaltered() {
    let dir = temp();
    let ledger = Ledger::lone(dir.path(), "studio").unwrap();
    let log = ledger.own_log(Stream::Facts).unwrap();
    let mut heads = Vec::new();
    for number in 0..20_u8 {
        ledger.append(fact_with("n", &[number])).unwrap();
        heads.push(ledger.head(&log).unwrap());
    }
    ledger.close().unwrap();
    let given = |tree_size: u64, root| {
        let options = Options {
            checkpoints: vec![Checkpoint { log, tree_size, root }],
            ..Options::default()
        };
        with(dir.path(), &options)
    };
    for head in [heads[0], heads[7], heads[19]] {
        let report = given(head.seq + 1, head.root);
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.counts.heads_compared, 2, "with the anchor's: {report}");
    }
    let cases = [
        (
            heads[7].seq + 1,
            heads[8].root,
            "checkpoint.root",
            Aspect::Integrity,
            heads[7].seq,
        ),
        (30, heads[8].root, "checkpoint.missing", Aspect::Completeness, 29),
    ];
    for (size, root, code, aspect, seq) in cases {
        let report = given(size, root);
        let named: Vec<_> = report
            .findings
            .iter()
            .map(|f| (f.code, f.aspect, f.log, f.seq))
            .collect();
        assert_eq!(named, [(code, aspect, Some(log), Some(seq))], "{report}");
    }
}

// What a block that is checked in place says of others, and the signatures in it, count as in the careful way.
#[test]
fn signatures_pins_and_erasures_are_taken_up_far_from_the_genesis() {
    let dir = temp();
    let ledger = found(dir.path(), "gateway", true);
    let log = ledger.own_log(Stream::Facts).unwrap();
    let say = |from: u64| {
        let drafts = (from..from + 100).map(|number| fact_with("n", &[number.to_be_bytes()[7]; 900]));
        ledger.append_batch(Stream::Facts, drafts.collect()).unwrap()
    };
    let said: Vec<Receipt> = (0..3_000_u64).step_by(100).flat_map(say).collect();
    ledger.erase(&said[2_000], "asked").unwrap();
    let head = ledger.head(&log).unwrap();
    let truth = PinnedRange {
        log,
        first: 0,
        last: head.seq,
        seal: head.seal,
        root: Some(head.root),
    };
    ledger.append_to(Stream::Order, pin_of(truth)).unwrap();
    // So that the last chunk is not the one that the anchor's head waits for.
    (3_000..5_000).step_by(100).for_each(|from| drop(say(from)));
    let compared = {
        ledger.close().unwrap();
        let report = assert_clean(dir.path());
        assert_eq!(report.counts.erased, 1);
        report.counts.heads_compared
    };
    let ledger = crate::stores::open(dir.path());
    let lie = PinnedRange {
        seal: ledger::core::SealDigest([1; 32]),
        ..truth
    };
    ledger.append_to(Stream::Order, pin_of(lie)).unwrap();
    ledger
        .append_batch(Stream::Facts, (0..2_000).map(|_| fact("n")).collect())
        .unwrap();
    ledger.close().unwrap();
    let report = verify(dir.path());
    let codes: Vec<_> = report.findings.iter().map(|f| (f.code, f.seq)).collect();
    assert_eq!(codes, [("pin.seal", Some(head.seq))], "{report}");
    assert_eq!(report.counts.heads_compared, compared + 1);

    // The same records with one log signature broken, under sound checksums.
    let mut entries = crate::stores::entries(dir.path());
    let bad = &said[2_500];
    let at = entries
        .iter()
        .position(|(_, record, _)| record == bad.record.bytes());
    *entries[at.unwrap()].1.last_mut().unwrap() ^= 1;
    let journal = Paths::new(dir.path()).journal();
    std::fs::remove_dir_all(&journal).unwrap();
    let options = JournalOptions::new([3; 32]);
    let (mut forged, _) =
        Journal::create(Arc::new(DiskStorage), &journal, StoreId([9; 16]), options).unwrap();
    for some in entries.chunks(200) {
        let drafts: Vec<_> = some
            .iter()
            .map(|(_, record, payload)| EntryDraft {
                record,
                payload: payload.as_ref(),
            })
            .collect();
        forged.append(&drafts).unwrap();
    }
    forged.close().unwrap();
    // In batches while the anchor tells whose the log is, strictly without.
    for anchored in [true, false] {
        if !anchored {
            std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
        }
        let report = verify(dir.path());
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|f| f.aspect == Aspect::Signatures)
            .map(|f| (f.code, f.log, f.seq, f.id))
            .collect();
        let expected = ("chain.log-signature", Some(log), Some(bad.seq()), Some(bad.id()));
        assert_eq!(found, [expected], "{report}");
    }
}

#[test]
fn the_age_of_a_checkpoint_is_that_of_the_newest_receipt_under_it() {
    let dir = temp();
    let ledger = Ledger::lone(dir.path(), "studio").unwrap();
    for _ in 0..3 {
        ledger.append(fact("n")).unwrap();
    }
    let log = ledger.own_log(Stream::Facts).unwrap();
    let text = ledger.checkpoint(&log).unwrap();
    let given = Checkpoint::read_unverified(&text).unwrap();
    let sealed = ledger
        .range(&log, 3, 3)
        .next()
        .unwrap()
        .unwrap()
        .record
        .seal()
        .time;
    for _ in 0..5 {
        ledger.append(fact("n")).unwrap();
    }
    ledger.close().unwrap();
    let options = Options {
        checkpoints: vec![given],
        clock: Arc::new(Later),
        ..Options::default()
    };
    let report = with(dir.path(), &options);
    assert!(report.is_clean(), "{report}");
    let given = report
        .checkpoints
        .iter()
        .find(|age| age.from == CheckpointFrom::Given);
    let given = given.unwrap();
    assert_eq!((given.tree_size, given.after), (4, Some(5)));
    assert_eq!(given.newest_unix_ms, Some(sealed.unix_ms()));
    // An hour passes.
    assert!(
        given
            .age_ms
            .is_some_and(|age| (3_590_000..3_700_000).contains(&age))
    );
    assert!(report.to_string().contains("checkpoint    given"), "{report}");
    // A checkpoint over more than is here is a finding, and has no age.
    let later = Checkpoint {
        tree_size: 99,
        ..options.checkpoints[0]
    };
    let report = with(
        dir.path(),
        &Options {
            checkpoints: vec![later],
            ..Options::default()
        },
    );
    assert_eq!(report.findings[0].code, "checkpoint.missing");
    let given = report
        .checkpoints
        .iter()
        .find(|age| age.from == CheckpointFrom::Given);
    assert_eq!(given.unwrap().age_ms, None);
}
