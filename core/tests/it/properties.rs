//! Laws of the format, over arbitrary statements, records and bundles.

use ledger_core::bundle::BundleCheck;
use ledger_core::statement::{Grade, Trace};
use ledger_core::{Draft, FleetId, Kind, Payload, ReceiptId, Record, Statement, Subject};
use ledger_fixtures::{By, SampleLog, actor_key, judge, lone_log, v1_sample_bundle, v1_small_bundle};
use proptest::prelude::*;
use std::sync::LazyLock;

static SAMPLE: LazyLock<SampleLog> = LazyLock::new(v1_sample_bundle);
static SAMPLE_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| SAMPLE.bundle());

fn draft() -> impl Strategy<Value = Draft> {
    let content = prop::option::of(("[a-z/+.]{0,64}", prop::collection::vec(any::<u8>(), 0..300)));
    let context = (any::<Option<[u8; 16]>>(), any::<Option<[u8; 24]>>(), 0_u8..3);
    (
        "[a-z0-9.-]{1,64}",
        any::<u16>(),
        "\\PC{0,60}",
        context,
        prop::collection::vec(any::<u8>(), 0..4097),
        content,
    )
        .prop_map(
            |(kind, schema, subject, (cause, trace, grade), detail, content)| Draft {
                kind: Kind::new(&kind).unwrap(),
                schema,
                grade: Grade::try_from(grade).unwrap(),
                subject: Subject::new(&subject).unwrap(),
                cause: cause.map(ReceiptId),
                trace: trace.map(Trace),
                detail,
                content,
                id: None,
                salt: None,
            },
        )
}

proptest! {
    #[test]
    fn a_statement_is_decoded_as_it_was_said_and_has_one_encoding(
        draft in draft(), fleet in any::<[u8; 32]>(), at in any::<i64>(), ms in 0_u64..1 << 48,
        flip in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let key = actor_key(1);
        let id = ReceiptId::v7(ms, [3; 10]);
        let authored = draft.into_statement(FleetId(fleet), key.public(), id, at, [5; 32]).unwrap();
        prop_assert_eq!(&Statement::decode(&authored.bytes).unwrap(), &authored.statement);
        let mut changed = authored.bytes.clone();
        changed[flip.index(authored.bytes.len())] ^= 1 << bit;
        if let Ok(other) = Statement::decode(&changed) {
            prop_assert_eq!(other.encode(), changed);
        }
        let signed = authored.sign(&key);
        prop_assert!(signed.clone().verify().is_ok());
        let mut forged = signed;
        let at = flip.index(forged.bytes.len());
        forged.bytes[at] ^= 1 << bit;
        prop_assert!(forged.verify().is_err());
    }

    #[test]
    fn a_record_is_parsed_as_it_was_assembled(drafts in prop::collection::vec((draft(), any::<bool>()), 1..4), at in any::<i64>()) {
        let mut log = SampleLog::lone(3);
        for (draft, signed) in drafts {
            log.append_authored_at(draft, if signed { By::Actor(1) } else { By::Machine }, at);
        }
        for receipt in log.receipts() {
            prop_assert_eq!(&Record::parse(receipt.record.bytes()).unwrap(), &receipt.record);
        }
        let report = BundleCheck::of_bytes(&log.bundle());
        prop_assert!(report.is_clean(), "{:?}", report.findings);
    }

    #[test]
    fn any_flipped_bit_in_a_record_is_refused(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let receipts = SAMPLE.receipts();
        let n = which.index(receipts.len());
        let before: Vec<_> = receipts[..n].iter().map(|receipt| receipt.record.bytes().to_vec()).collect();
        let mut bytes = receipts[n].record.bytes().to_vec();
        prop_assert_eq!(judge(&before, &bytes, receipts[n].payload.as_ref()), Ok(()));
        let i = at.index(bytes.len());
        bytes[i] ^= 1 << bit;
        prop_assert!(judge(&before, &bytes, None).is_err());
    }

    #[test]
    fn any_changed_byte_in_a_bundle_is_found(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = SAMPLE_BYTES.clone();
        let i = at.index(bytes.len());
        bytes[i] ^= 1 << bit;
        prop_assert!(!BundleCheck::of_bytes(&bytes).is_clean(), "byte {i}, bit {bit}");
    }

    #[test]
    fn a_bundle_read_in_any_pieces_gives_the_same_report(sizes in prop::collection::vec(1_usize..700, 1..20), damage in any::<Option<prop::sample::Index>>()) {
        let mut bytes = SAMPLE_BYTES.clone();
        if let Some(at) = damage {
            let i = at.index(bytes.len());
            bytes[i] ^= 0x10;
        }
        let mut check = BundleCheck::new();
        let (mut rest, mut sizes) = (&bytes[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            check.push(piece);
            rest = after;
        }
        prop_assert_eq!(check.finish(), BundleCheck::of_bytes(&bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Record::parse(&bytes).is_err());
        let framed = [ledger_core::bundle::MAGIC, &bytes].concat();
        prop_assert!(!BundleCheck::of_bytes(&framed).is_clean());
    }

    #[test]
    fn a_record_left_out_doubled_or_swapped_is_named(n in 1_usize..29) {
        let log = lone_log(4, 30);
        let end = ledger_core::bundle::encode_end(&log.signed_checkpoint());
        let begin = ledger_core::bundle::encode_begin(&ledger_core::bundle::Header::of(log.chain()));
        let bundle = |order: &[usize]| -> Vec<u8> {
            let frames = order.iter().flat_map(|i| {
                let receipt = &log.receipts()[*i];
                let payload = receipt.payload.as_ref().map(ledger_core::bundle::encode_payload);
                [ledger_core::bundle::encode_record(receipt.record.bytes()), payload.unwrap_or_default()].concat()
            });
            [begin.clone(), frames.collect(), end.clone()].concat()
        };
        let all: Vec<usize> = (0..30).collect();
        prop_assert!(BundleCheck::of_bytes(&bundle(&all)).is_clean());
        let out: Vec<usize> = all.iter().copied().filter(|i| *i != n).collect();
        let doubled: Vec<usize> = all.iter().flat_map(|i| vec![*i; if *i == n { 2 } else { 1 }]).collect();
        let mut swapped = all.clone();
        swapped.swap(n, n - 1 + usize::from(n == 1) * 2);
        for (order, first) in [(out, n), (doubled, n + 1), (swapped, n.min(n - 1 + usize::from(n == 1) * 2))] {
            let report = BundleCheck::of_bytes(&bundle(&order));
            prop_assert_eq!(report.findings[0].code, "chain.seq");
            prop_assert_eq!(report.first_bad_seq(), u64::try_from(first).ok());
        }
    }
}

#[test]
fn every_flipped_bit_of_a_small_bundle_is_found() {
    let bytes = v1_small_bundle().bundle();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[i] ^= 1 << bit;
            assert!(!BundleCheck::of_bytes(&changed).is_clean(), "byte {i}, bit {bit}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_range_is_found_and_every_cut_of_it() {
    let log = lone_log(8, 11);
    // With and without records before and behind it.
    for (first, last) in [(0, 10), (0, 3), (5, 6), (4, 10), (7, 7)] {
        let bytes = log.range_bundle(first, last);
        let report = BundleCheck::of_bytes(&bytes);
        assert!(report.is_clean(), "{first} to {last}: {:?}", report.findings);
        for i in 0..bytes.len() {
            // Every bit of the smallest, and of every byte of the others one.
            for bit in (0..8).filter(|bit| first == last || bit % 8 == i % 8) {
                let mut changed = bytes.clone();
                changed[i] ^= 1 << bit;
                let report = BundleCheck::of_bytes(&changed);
                assert!(!report.is_clean(), "{first} to {last}: byte {i}, bit {bit}");
            }
            let cut = BundleCheck::of_bytes(&bytes[..i]);
            let mut codes = cut.findings.iter().map(|finding| finding.code);
            assert!(codes.any(|code| code == "bundle.truncated"), "{i}");
        }
        let longer = [&bytes[..], b"\n"].concat();
        let longer = BundleCheck::of_bytes(&longer);
        assert_eq!(longer.findings[0].code, "bundle.after-end");
    }
}

#[test]
fn any_range_of_a_log_stands_alone_under_its_checkpoint() {
    let log = lone_log(8, 40);
    let root = log.chain().head().root;
    for first in 0..40 {
        for last in [first, (first + 1).min(39), 38.max(first), 39] {
            let report = BundleCheck::of_bytes(&log.range_bundle(first, last));
            assert!(report.is_clean(), "{first} to {last}: {:?}", report.findings);
            assert_eq!(report.records, (last - first + 1) as u64);
            assert_eq!(report.tree_size, Some(40));
            assert_eq!(report.root == Some(root), last == 39);
        }
    }
}

#[test]
fn a_bundle_cut_at_any_byte_is_found() {
    for length in 0..SAMPLE_BYTES.len() {
        let report = BundleCheck::of_bytes(&SAMPLE_BYTES[..length]);
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.code == "bundle.truncated"),
            "{length}"
        );
    }
    let longer = [&SAMPLE_BYTES[..], b"\n"].concat();
    assert_eq!(
        BundleCheck::of_bytes(&longer).findings[0].code,
        "bundle.after-end"
    );
}

#[test]
fn damage_in_one_receipt_is_told_once_and_the_rest_is_still_checked() {
    let log = lone_log(5, 10);
    let mut bytes = ledger_core::bundle::encode_begin(&ledger_core::bundle::Header::of(log.chain()));
    for (n, receipt) in log.receipts().iter().enumerate() {
        let mut record = receipt.record.bytes().to_vec();
        if n == 3 {
            record[100] ^= 1;
        }
        bytes.extend(ledger_core::bundle::encode_record(&record));
        if let Some(payload) = &receipt.payload {
            let wrong = Payload {
                bytes: b"another".to_vec(),
                ..payload.clone()
            };
            bytes.extend(ledger_core::bundle::encode_payload(if n == 7 {
                &wrong
            } else {
                payload
            }));
        }
    }
    bytes.extend(ledger_core::bundle::encode_end(&log.signed_checkpoint()));
    let report = BundleCheck::of_bytes(&bytes);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.seq, finding.code))
        .collect();
    assert_eq!(
        found,
        [
            (Some(3), "record.statement-mismatch"),
            (Some(7), "statement.payload"),
            (None, "bundle.root")
        ]
    );
    assert_eq!(report.first_bad_seq(), Some(3));
}
