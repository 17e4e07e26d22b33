//! Every committed vector gives the verdict written beside it.

use ledger_core::bundle::BundleCheck;
use ledger_core::chain::verify_signatures;
use ledger_core::checkpoint::Checkpoint;
use ledger_core::kinds::{AnyDetail, CATALOGUE};
use ledger_core::{Chain, LogId, Payload, PublicKey, Record, Salt};
use ledger_fixtures::{AcceptedLog, PayloadView, StatementView, judge, read, unhex};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn vectors<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&read(&format!("vectors/{name}.json"))).unwrap()
}

fn payload(view: &PayloadView) -> Payload {
    Payload {
        salt: Salt(unhex(&view.salt).try_into().unwrap()),
        bytes: unhex(&view.bytes),
    }
}

#[derive(Deserialize)]
struct Detail {
    kind: String,
    schema: u16,
    bytes: String,
    fields: Value,
}

#[test]
fn every_detail_of_the_catalogue_has_a_vector_and_decodes_to_its_fields() {
    let details: Vec<Detail> = vectors("details");
    for row in CATALOGUE {
        for schema in 1..=row.schema {
            assert!(
                details.iter().any(|d| d.kind == row.kind && d.schema == schema),
                "{} {schema} has no vector",
                row.kind
            );
        }
    }
    for vector in details {
        let bytes = unhex(&vector.bytes);
        let detail = AnyDetail::decode(&vector.kind, vector.schema, &bytes).unwrap();
        assert_eq!(
            serde_json::to_value(&detail).unwrap(),
            vector.fields,
            "{}",
            vector.kind
        );
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            AnyDetail::decode(&vector.kind, vector.schema, &longer).is_err(),
            "{}",
            vector.kind
        );
        let shorter = &bytes[..bytes.len() - 1];
        assert!(
            AnyDetail::decode(&vector.kind, vector.schema, shorter).is_err(),
            "{}",
            vector.kind
        );
    }
}

#[test]
fn every_accepted_log_is_accepted_and_says_what_it_said() {
    for name in ["order", "work", "facts", "pulse", "extremes"] {
        let log: AcceptedLog = vectors(&format!("accepted-{name}"));
        let mut chain: Option<Chain> = None;
        for vector in &log.receipts {
            let record = Record::parse(&unhex(&vector.record)).unwrap();
            match &mut chain {
                None => chain = Some(Chain::start(&record).unwrap()),
                Some(chain) => chain.follow(&record).unwrap(),
            }
            verify_signatures(&record, chain.as_ref().unwrap().machine_verifier()).unwrap();
            let statement = record.statement();
            assert_eq!(statement.encode(), record.statement_bytes());
            assert_eq!(StatementView::of(statement), vector.statement);
            assert_eq!(record.seal_digest().to_hex(), vector.seal);
            assert_eq!(record.seal().time.0, vector.time);
            let fields = statement
                .any_detail()
                .ok()
                .map(|detail| serde_json::to_value(detail).unwrap());
            assert_eq!(fields, vector.detail);
            assert_eq!(statement.payload.is_some(), vector.payload.is_some());
            if let (Some(wanted), Some(view)) = (&statement.payload, &vector.payload) {
                assert!(payload(view).matches(wanted));
            }
        }
        let chain = chain.unwrap();
        assert_eq!(chain.fleet().to_hex(), log.fleet);
        assert_eq!(chain.log().to_hex(), log.log);
        assert_eq!(chain.machine_key().to_hex(), log.machine_key);
        assert_eq!(chain.head().root.to_hex(), log.root);
        let key = PublicKey::from_hex(&log.checkpoint_key)
            .unwrap()
            .verifier()
            .unwrap();
        let id = LogId::from_hex(&log.log).unwrap();
        let checkpoint = Checkpoint::open(&log.checkpoint, &id, &key).unwrap();
        assert_eq!(
            (checkpoint.tree_size, checkpoint.root),
            (chain.head().seq + 1, chain.head().root)
        );
    }
}

#[derive(Deserialize)]
struct Rejected {
    name: String,
    code: String,
    before: Vec<String>,
    bytes: String,
    payload: Option<PayloadView>,
}

#[test]
fn every_rejected_record_is_refused_for_its_reason() {
    let cases: Vec<Rejected> = vectors("rejected");
    assert!(cases.len() >= 60);
    for case in cases {
        let before: Vec<_> = case.before.iter().map(|bytes| unhex(bytes)).collect();
        let payload = case.payload.as_ref().map(payload);
        let verdict = judge(&before, &unhex(&case.bytes), payload.as_ref());
        assert_eq!(verdict, Err(case.code.as_str()), "{}", case.name);
    }
}

#[derive(Deserialize)]
struct Damaged {
    name: String,
    offset: usize,
    xor: u8,
    seq: Option<u64>,
    code: String,
}

#[test]
fn the_frozen_sample_log_verifies_for_ever() {
    for (name, records) in [("logs/v1-sample.bundle", 12), ("logs/v1-small.bundle", 2)] {
        let report = BundleCheck::of_bytes(&read(name));
        assert!(report.is_clean(), "{name}: {:?}", report.findings);
        assert_eq!(report.records, records);
    }
}

#[test]
fn every_damaged_copy_is_found_where_it_is_damaged() {
    for (log, name, count) in [("v1-sample", "damaged", 20), ("v2-range", "damaged-range", 14)] {
        let sample = read(&format!("logs/{log}.bundle"));
        assert!(BundleCheck::of_bytes(&sample).is_clean(), "{log}");
        let cases: Vec<Damaged> = vectors(name);
        assert!(cases.len() >= count);
        for case in cases {
            let mut bytes = sample.clone();
            bytes[case.offset] ^= case.xor;
            let report = BundleCheck::of_bytes(&bytes);
            let first = report.findings.first().map(|finding| (finding.seq, finding.code));
            let expected = Some((case.seq, case.code.as_str()));
            assert_eq!(first, expected, "{log}: {}", case.name);
        }
    }
}

#[derive(Deserialize)]
struct Digest {
    what: String,
    input: Vec<String>,
    output: String,
}

#[test]
fn the_digests_are_derive_key_of_their_context_over_their_parts() {
    let cases: Vec<Digest> = vectors("digests");
    assert_eq!(cases.len(), 11);
    for case in cases {
        let parts: Vec<Vec<u8>> = case.input.iter().map(|part| unhex(part)).collect();
        let with_lengths = |parts: &[Vec<u8>]| -> Vec<u8> {
            let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_be_bytes();
            parts
                .iter()
                .flat_map(|part| [&length(part)[..], part].concat())
                .collect()
        };
        let uuid_v8 = |bytes: [u8; 32]| {
            let mut id = bytes[..16].to_vec();
            id[6] = id[6] & 0x0f | 0x80;
            id[8] = id[8] & 0x3f | 0x80;
            id
        };
        let output = match case.what.as_str() {
            "content digest" => blake3::hash(&parts.concat()).as_bytes().to_vec(),
            "derived id" => uuid_v8(blake3::derive_key("ledger v1 derived id", &with_lengths(&parts))),
            "job id" => {
                let parts = [vec![b"job".to_vec()], parts].concat();
                uuid_v8(blake3::derive_key("ledger v1 derived id", &with_lengths(&parts)))
            }
            "outputs manifest" => {
                let input: Vec<u8> = parts
                    .chunks(3)
                    .flat_map(|file| {
                        let length = u16::try_from(file[0].len()).unwrap().to_be_bytes();
                        [&length[..], &file[0], &file[1], &file[2]].concat()
                    })
                    .collect();
                blake3::derive_key("ledger v1 outputs manifest", &input).to_vec()
            }
            plain => blake3::derive_key(&format!("ledger v1 {plain}"), &parts.concat()).to_vec(),
        };
        assert_eq!(ledger_fixtures::hex(&output), case.output, "{}", case.what);
    }
}
