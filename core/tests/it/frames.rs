//! A bundle whose frames are out of order is refused, and a bad one never makes its check grow.

use ledger_core::bundle::{
    Absent, BundleCheck, FINDINGS_MAX, FrameKind, FrameParser, Header, MAGIC_RANGE, encode_absent,
    encode_begin, encode_end, encode_payload, encode_record, encode_rest,
};
use ledger_core::{LogId, Payload, Salt};
use ledger_fixtures::{SampleLog, lone_log};

// Name, frames, and the findings.
type Case<'a> = (&'a str, &'a [&'a [u8]], &'a [(Option<u64>, &'static str)]);

struct Parts {
    begin: Vec<u8>,
    genesis: Vec<u8>,
    note: Vec<u8>,
    payload: Vec<u8>,
    end: Vec<u8>,
}

fn parts() -> Parts {
    let log: SampleLog = lone_log(6, 2);
    let note = &log.receipts()[1];
    Parts {
        begin: encode_begin(&Header::of(log.chain())),
        genesis: encode_record(log.receipts()[0].record.bytes()),
        note: encode_record(note.record.bytes()),
        payload: encode_payload(note.payload.as_ref().unwrap()),
        end: encode_end(&log.signed_checkpoint()),
    }
}

fn found(frames: &[&[u8]]) -> Vec<(Option<u64>, &'static str)> {
    let report = BundleCheck::of_bytes(&frames.concat());
    report
        .findings
        .iter()
        .map(|finding| (finding.seq, finding.code))
        .collect()
}

#[test]
fn frames_out_of_order_are_found() {
    let Parts {
        begin,
        genesis,
        note,
        payload,
        end,
    } = &parts();
    let header = &begin[ledger_core::bundle::MAGIC.len()..];
    let absent = &encode_absent(Absent::NotPresent);
    let erased = &encode_absent(Absent::Erased);
    let cases: [Case<'_>; 11] = [
        ("whole", &[begin, genesis, note, payload, end], &[]),
        ("erased", &[begin, genesis, note, erased, end], &[]),
        (
            "not present",
            &[begin, genesis, note, absent, end],
            &[(Some(1), "bundle.payload-absent")],
        ),
        (
            "payload left out",
            &[begin, genesis, note, end],
            &[(Some(1), "bundle.order")],
        ),
        (
            "payload twice",
            &[begin, genesis, note, payload, payload, end],
            &[(Some(1), "bundle.order")],
        ),
        (
            "payload of none",
            &[begin, genesis, payload, note, payload, end],
            &[(Some(0), "bundle.order")],
        ),
        (
            "payload first",
            &[begin, payload, genesis, note, payload, end],
            &[(None, "bundle.order")],
        ),
        (
            "header twice",
            &[begin, genesis, header, note, payload, end],
            &[(Some(0), "bundle.order")],
        ),
        (
            "no header",
            &[ledger_core::bundle::MAGIC, genesis, note, payload, end],
            &[(None, "bundle.order")],
        ),
        (
            "end twice",
            &[begin, genesis, note, payload, end, end],
            &[(None, "bundle.after-end")],
        ),
        ("no records", &[begin, end], &[(None, "bundle.checkpoint")]),
    ];
    for (name, frames, expected) in cases {
        assert_eq!(found(frames), expected, "{name}");
    }
}

// A bundle's first line, and each of its frames.
fn pieces(bundle: &[u8]) -> (Vec<u8>, Vec<(FrameKind, Vec<u8>)>) {
    let mut parser = FrameParser::new();
    parser.push(bundle);
    let mut frames = Vec::new();
    while let Some(frame) = parser.next_frame().unwrap() {
        let bytes = ledger_core::bundle::frame(frame.kind, &[&frame.bytes]);
        frames.push((frame.kind, bytes));
    }
    (MAGIC_RANGE.to_vec(), frames)
}

#[test]
fn frames_of_a_range_out_of_order_or_of_another_range_are_found() {
    let log = lone_log(6, 12);
    let (line, frames) = pieces(&log.range_bundle(5, 7));
    let (_, others) = pieces(&log.range_bundle(5, 8));
    let (_, earlier) = pieces(&log.range_bundle(6, 7));
    let (_, strangers) = pieces(&lone_log(7, 12).range_bundle(5, 7));
    let kinds: Vec<u8> = frames.iter().map(|(kind, _)| kind.byte()).collect();
    assert_eq!(kinds, [1, 6, 2, 3, 2, 2, 3, 7, 5], "seqs 5 and 7 have payloads");
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut all: Vec<Vec<u8>> = frames.iter().map(|(_, bytes)| bytes.clone()).collect();
        change(&mut all);
        let bytes: Vec<&[u8]> = std::iter::once(&line[..])
            .chain(all.iter().map(Vec::as_slice))
            .collect();
        found(&bytes).first().copied()
    };
    let order = |seq| Some((seq, "bundle.order"));
    assert_eq!(with(&|_| ()), None);
    assert_eq!(with(&|f| drop(f.remove(1))), order(None), "no start");
    assert_eq!(
        with(&|f| f.insert(1, f[1].clone())),
        order(Some(4)),
        "start twice"
    );
    assert_eq!(with(&|f| drop(f.remove(7))), order(Some(7)), "no proof behind it");
    assert_eq!(
        with(&|f| f.insert(7, f[7].clone())),
        order(Some(7)),
        "that proof twice"
    );
    assert_eq!(
        with(&|f| f.swap(7, 4)),
        order(Some(5)),
        "records behind the proof"
    );
    assert_eq!(with(&|f| f.truncate(8)), Some((None, "bundle.truncated")));
    assert_eq!(with(&|f| drop(f.drain(2..7))), order(Some(4)), "no records");
    assert_eq!(with(&|f| f[7] = encode_rest(&[])), Some((None, "bundle.root")));
    assert_eq!(
        with(&|f| f[7].clone_from(&others[8].1)),
        Some((None, "bundle.root"))
    );
    assert_eq!(
        with(&|f| f[1].clone_from(&earlier[1].1)),
        Some((None, "bundle.root")),
        "6, too, has two peaks"
    );
    assert_eq!(
        with(&|f| drop(f.remove(4))),
        Some((Some(6), "chain.seq")),
        "a record left out"
    );
    assert_eq!(
        with(&|f| f.truncate(f.len() - 4)),
        Some((None, "bundle.truncated"))
    );
    assert_eq!(
        with(&|f| f[1].clone_from(&strangers[1].1)),
        Some((Some(0), "bundle.header"))
    );
    let shorter = encode_end(&lone_log(6, 7).signed_checkpoint());
    assert_eq!(
        with(&|f| f[8].clone_from(&shorter)),
        Some((None, "bundle.tree-size"))
    );
    // What version 1 does not know.
    let whole = [ledger_core::bundle::MAGIC, &frames[0].1, &frames[1].1].concat();
    assert_eq!(found(&[&whole])[1], (None, "bundle.frame"));
}

#[test]
fn a_shorter_log_with_the_longer_checkpoint_is_found() {
    let Parts {
        begin, genesis, end, ..
    } = &parts();
    assert_eq!(found(&[begin, genesis, end]), [(None, "bundle.tree-size")]);
}

#[test]
fn a_header_of_another_log_is_found_at_the_genesis() {
    let Parts {
        genesis,
        note,
        payload,
        end,
        ..
    } = &parts();
    let other = Header {
        log: LogId([1; 32]),
        ..Header::of(lone_log(6, 1).chain())
    };
    let begin = encode_begin(&other);
    assert_eq!(
        found(&[&begin, genesis, note, payload, end]),
        [(Some(0), "bundle.header")]
    );
}

#[test]
fn findings_are_kept_up_to_their_bound_and_counted_beyond() {
    let log = lone_log(7, 300);
    let mut bytes = encode_begin(&Header::of(log.chain()));
    for receipt in log.receipts() {
        bytes.extend(encode_record(receipt.record.bytes()));
        if receipt.payload.is_some() {
            bytes.extend(encode_payload(&Payload {
                salt: Salt([0; 32]),
                bytes: vec![],
            }));
        }
    }
    bytes.extend(encode_end(&log.signed_checkpoint()));
    let report = BundleCheck::of_bytes(&bytes);
    assert_eq!(
        (report.findings.len(), report.findings_total),
        (FINDINGS_MAX, 150)
    );
    assert_eq!(report.first_bad_seq(), Some(1));
}
