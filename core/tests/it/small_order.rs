//! Points of small order, in every encoding that decompresses, are refused as keys and as R.

use curve25519_dalek::constants::{ED25519_BASEPOINT_TABLE, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ledger_core::{KeyError, PublicKey, Signature, SigningKey};
use sha2::{Digest, Sha512};

// The eight points of small order as they are encoded canonically, and six other encodings of four of them: y + p, and
// the sign bit where x is 0.
const CANONICAL: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];
const NON_CANONICAL: [&str; 6] = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

fn bytes32(hex: &str) -> [u8; 32] {
    ledger_fixtures::unhex(hex).try_into().unwrap()
}

#[test]
fn the_list_holds_every_point_of_small_order() {
    let torsion: Vec<[u8; 32]> = EIGHT_TORSION
        .iter()
        .map(|point| point.compress().to_bytes())
        .collect();
    assert!(
        torsion
            .iter()
            .all(|point| CANONICAL.iter().any(|hex| bytes32(hex) == *point))
    );
}

#[test]
fn every_encoding_of_a_small_order_point_is_refused_as_key() {
    for hex in CANONICAL {
        assert!(
            matches!(PublicKey(bytes32(hex)).verifier(), Err(KeyError::Weak(_))),
            "{hex}"
        );
    }
    for hex in NON_CANONICAL {
        assert!(
            matches!(PublicKey(bytes32(hex)).verifier(), Err(KeyError::NotAPoint(_))),
            "{hex}"
        );
    }
}

fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(a)
        .chain_update(message)
        .finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

// A dishonest signer's key a B + T, and a signature with R = -k T for the challenge k, which satisfies the bare equation.
fn crafted(r: &EdwardsPoint) -> (ed25519_dalek::VerifyingKey, Vec<u8>, [u8; 64]) {
    let a = Scalar::from(7_u64);
    let torsion = EIGHT_TORSION[1];
    let public = &a * ED25519_BASEPOINT_TABLE + torsion;
    let (public_bytes, r_bytes) = (public.compress().to_bytes(), r.compress().to_bytes());
    let (message, k) = (0_u32..1000)
        .map(|n| {
            let message = n.to_be_bytes().to_vec();
            let k = challenge(&r_bytes, &public_bytes, &message);
            (message, k)
        })
        .find(|(_, k)| -(torsion * k) == *r)
        .unwrap();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r_bytes);
    signature[32..].copy_from_slice((k * a).as_bytes());
    (
        ed25519_dalek::VerifyingKey::from_bytes(&public_bytes).unwrap(),
        message,
        signature,
    )
}

#[test]
fn every_small_order_r_is_refused_even_where_the_equation_holds() {
    for r in EIGHT_TORSION {
        let (key, message, signature) = crafted(&r);
        // The control: without strictness this signature passes.
        let loose = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&key, &message, &loose).is_ok());
        let strict = PublicKey(key.to_bytes()).verifier().unwrap();
        // Often enough for the key to have its table on the way.
        assert!((0..80).all(|_| !strict.verify_http_base(&message, &Signature(signature))));
    }
    let key = SigningKey::from_seed([1; 32]);
    for hex in CANONICAL.iter().chain(&NON_CANONICAL) {
        let mut signature = key.sign_http_base(b"\"x\"").0;
        signature[..32].copy_from_slice(&bytes32(hex));
        assert!(
            !key.verifier().verify_http_base(b"\"x\"", &Signature(signature)),
            "{hex}"
        );
    }
}
