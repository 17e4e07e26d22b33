//! A segment's footer: what its records add up to, kept and read again.

use super::super::format::{BATCHES_START, Previous, StoreId};
use super::*;
use ledger_core::{Draft, FleetId, Kind, ReceiptId, Record, SealDigest, Signature, SigningKey, Subject};
use proptest::prelude::*;

const KEY: [u8; 32] = [4; 32];
const AT: Position = Position {
    segment: 1,
    offset: 9000,
};

fn record(log: u8, seq: u64, kind: &str) -> Vec<u8> {
    let key = SigningKey::from_seed([1; 32]);
    let draft = Draft::custom(Kind::new(kind).unwrap(), Subject::new("demo/1").unwrap());
    let id = ReceiptId::v7(1_700_000_000_000, [9; 10]);
    let authored = draft
        .into_statement(FleetId([2; 32]), key.public(), id, 0, [3; 32])
        .unwrap();
    let seal = Seal {
        version: 1,
        log: LogId([log; 32]),
        seq,
        prev: SealDigest::ZERO,
        time: Hlc(seq * 10),
        statement: authored.digest,
    };
    Record::assemble(
        authored.statement,
        &authored.bytes,
        None,
        seal,
        Signature([0; 64]),
    )
    .bytes()
    .to_vec()
}

fn sample() -> Footer {
    let header = SegmentHeader {
        segment: 1,
        store: StoreId([0; 16]),
        key: KEY,
        previous: Previous::NONE,
        first_batch: 0,
    };
    let mut tally = Tally::new(&header);
    for (log, seq, kind) in [(1, 5, "x.a"), (2, 300, "x.b"), (1, 4, "x.a"), (1, 6, "x.c")] {
        tally.note_record(&record(log, seq, kind));
    }
    tally.footer.samples = vec![BATCHES_START, 70_000];
    tally.footer()
}

#[test]
fn the_zone_map_names_logs_seqs_times_and_kinds() {
    let footer = sample();
    assert!(footer.complete);
    let zone = Zone {
        records: 3,
        first_seq: 4,
        last_seq: 6,
        first_time: Hlc(40),
        last_time: Hlc(60),
    };
    assert_eq!(footer.zones[&LogId([1; 32])], zone);
    assert_eq!(footer.zones.len(), 2);
    assert_eq!(
        footer.kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["x.a", "x.b", "x.c"]
    );
    let bytes = footer.encode(&KEY, AT);
    assert_eq!(Footer::decode(&KEY, AT, &bytes), Some((footer, bytes.len())));
}

#[test]
fn a_segment_with_more_than_fits_the_zone_map_says_so() {
    let mut tally = Tally {
        footer: sample(),
        content: blake3::Hasher::new(),
        pruned: false,
    };
    tally.note_record(b"no record");
    assert!(!tally.footer().complete);
    let mut tally = Tally {
        footer: sample(),
        content: blake3::Hasher::new(),
        pruned: false,
    };
    for number in 0..u32::try_from(ZONE_KINDS_MAX).unwrap() {
        assert!(tally.footer.complete || number > 250);
        tally.note_record(&record(1, 1, &format!("x.kind-{number}")));
    }
    assert!(!tally.footer.complete);
    assert!(tally.footer().encode(&KEY, AT).len() <= FOOTER_BYTES_MAX);
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_footer_is_noticed() {
    let bytes = sample().encode(&KEY, AT);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Footer::decode(&KEY, AT, &flipped), None, "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert_eq!(Footer::decode(&KEY, AT, &bytes[..length]), None);
    }
}

proptest! {
    #[test]
    fn no_content_under_a_valid_checksum_makes_decoding_panic(
        flips in prop::collection::vec((12_usize..300, any::<u8>()), 0..6),
        fill in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut body = sample().encode(&KEY, AT);
        body.truncate(body.len() - 32);
        body.extend_from_slice(&fill);
        for (index, value) in flips {
            if let Some(byte) = body.get_mut(index) {
                *byte = value;
            }
        }
        let length = count(body.len() + 32);
        body[8..12].copy_from_slice(&length);
        let digest = checksum(&KEY, AT, &body);
        body.extend_from_slice(&digest);
        let _ = Footer::decode(&KEY, AT, &body);
    }
}
