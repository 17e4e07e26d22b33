//! A bundle whose frames are out of order is refused, and a bad one never makes its check grow.

use ledger_core::bundle::{
    Absent, BundleCheck, FINDINGS_MAX, Header, encode_absent, encode_begin, encode_end, encode_payload,
    encode_record,
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
