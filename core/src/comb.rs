//! Strict verification with tables of the key's multiples, a third of the cost (`docs/adr/0023-tables-of-keys.md`).
//!
//! Verification computes `s B - k A`. Nearly all of that is some 250 doublings, which are needed only because nothing is known of A.
//! The same few keys sign again and again, so that the multiples `2^i` of those are worth keeping: a comb (Lim and Lee,
//! CRYPTO '94) with eight teeth and two blocks takes 32 additions for each of both points and shares 15 doublings. The
//! predicate is that of `verify_strict`, signature by signature: nothing is multiplied by the cofactor, nothing is summed up over
//! signatures, R is compared as bytes. Only public values go in, so that none of it runs in constant time.

use crate::key::PublicKey;
use crate::signature::Signature;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use sha2::{Digest, Sha512};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

/// Bits of a scalar that choose one point of a block together; they lie [`COLUMNS`] apart.
const TEETH: usize = 8;
/// Bits of a scalar between two teeth.
const COLUMNS: usize = 32;
/// Tables of one point, each for its share of the columns.
const BLOCKS: usize = 2;
/// Columns of a block, each of which costs a doubling.
const DEPTH: usize = COLUMNS / BLOCKS;
/// Points of a block: a sum for each choice of teeth.
const CHOICES: usize = 1 << TEETH;

/// Keys whose tables are kept: 80 KiB each, 2.5 MiB in all.
const KEPT_MAX: usize = 32;
/// Verifications after which a key's table is made; making one costs what it saves in ten.
const WORTH: usize = 64;
/// Keys without a table whose verifications are counted.
const COUNTED_MAX: usize = 1024;

/// The multiples of one point.
pub(crate) struct Comb {
    // Block after block; within one, the sum of `2^(COLUMNS j + DEPTH b)` times the point over the teeth j chosen.
    sums: Vec<EdwardsPoint>,
}

static BASE: LazyLock<Comb> = LazyLock::new(|| Comb::of(&ED25519_BASEPOINT_POINT));

impl Comb {
    pub(crate) fn of(point: &EdwardsPoint) -> Self {
        let mut powers = Vec::with_capacity(TEETH * COLUMNS);
        let mut power = *point;
        for _ in 0..TEETH * COLUMNS {
            powers.push(power);
            power += power;
        }
        let mut sums = Vec::with_capacity(BLOCKS * CHOICES);
        for block in 0..BLOCKS {
            let begin = sums.len();
            sums.push(EdwardsPoint::identity());
            for choice in 1..CHOICES {
                let tooth = COLUMNS * first_tooth(choice) + DEPTH * block;
                let sum = sums[begin + (choice & (choice - 1))] + powers[tooth];
                sums.push(sum);
            }
        }
        Self { sums }
    }

    // What a scalar chooses of a block in one of its columns.
    fn chosen(&self, teeth: &[u32; TEETH], block: usize, column: usize) -> &EdwardsPoint {
        let bit = block * DEPTH + column;
        let choice = teeth.iter().rev().fold(0, |choice, tooth| {
            choice << 1 | usize::from(tooth >> bit & 1 == 1)
        });
        &self.sums[block * CHOICES + choice]
    }
}

fn first_tooth(choice: usize) -> usize {
    usize::try_from(choice.trailing_zeros()).expect("a choice has as many bits as there are teeth")
}

// The scalar's bits, a word for each tooth.
fn teeth(scalar: &Scalar) -> [u32; TEETH] {
    let bytes = scalar.as_bytes();
    std::array::from_fn(|tooth| {
        let word = &bytes[4 * tooth..4 * tooth + 4];
        u32::from_le_bytes(word.try_into().expect("four bytes"))
    })
}

// The sum of two multiples.
fn sum_of(one: (&Comb, &Scalar), other: (&Comb, &Scalar)) -> EdwardsPoint {
    let parts = [(one.0, teeth(one.1)), (other.0, teeth(other.1))];
    let mut sum = EdwardsPoint::identity();
    for column in (0..DEPTH).rev() {
        if column + 1 < DEPTH {
            sum += sum;
        }
        for (comb, teeth) in &parts {
            for block in 0..BLOCKS {
                sum += comb.chosen(teeth, block, column);
            }
        }
    }
    sum
}

/// What `verify_strict` says of each signature, for the key whose negated point has this table. The key itself is canonical and not
/// weak. One inversion encodes all points.
pub(crate) fn verifies(
    minus_key: &Comb,
    public: &[u8; 32],
    signed: &[(impl AsRef<[u8]>, Signature)],
) -> Vec<bool> {
    let expected = |(message, signature): &(_, Signature)| expected_r(minus_key, public, message, signature);
    let points: Vec<Option<EdwardsPoint>> = signed.iter().map(expected).collect();
    let known: Vec<EdwardsPoint> = points.iter().map(|point| point.unwrap_or_default()).collect();
    let encoded = EdwardsPoint::compress_batch_alloc(&known);
    // Where the bytes are equal, R is this point: it decodes, and it is of small order if this one is.
    let holds = |((point, encoded), (_, signature)): (
        (&Option<EdwardsPoint>, &CompressedEdwardsY),
        &(_, Signature),
    )| {
        point.is_some_and(|point| encoded.as_bytes() == &signature.0[..32] && !point.is_small_order())
    };
    points.iter().zip(&encoded).zip(signed).map(holds).collect()
}

// `s B - k A`; none for an s past the group's order.
fn expected_r(
    minus_key: &Comb,
    public: &[u8; 32],
    message: &impl AsRef<[u8]>,
    signature: &Signature,
) -> Option<EdwardsPoint> {
    let (r, s) = signature.0.split_at(32);
    let s: [u8; 32] = s.try_into().expect("half of 64 bytes");
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s))?;
    let challenge = Sha512::new()
        .chain_update(r)
        .chain_update(public)
        .chain_update(message)
        .finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&challenge.into());
    Some(sum_of((&BASE, &s), (minus_key, &challenge)))
}

struct Kept {
    comb: Arc<Comb>,
    used: AtomicU64,
}

static KEPT: RwLock<BTreeMap<PublicKey, Kept>> = RwLock::new(BTreeMap::new());
static COUNTED: Mutex<BTreeMap<PublicKey, usize>> = Mutex::new(BTreeMap::new());
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// The table of a key's negated point, when the key is used so often that there is one; now so many times more.
pub(crate) fn kept(
    public: &PublicKey,
    times: usize,
    key: impl FnOnce() -> EdwardsPoint,
) -> Option<Arc<Comb>> {
    let now = CLOCK.fetch_add(1, Ordering::Relaxed);
    if let Some(kept) = KEPT.read().unwrap_or_else(PoisonError::into_inner).get(public) {
        kept.used.store(now, Ordering::Relaxed);
        return Some(Arc::clone(&kept.comb));
    }
    if !is_worth_it(public, times) {
        return None;
    }
    let comb = Arc::new(Comb::of(&-key()));
    let mut all = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    let oldest = all
        .iter()
        .min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed));
    if let Some(oldest) = oldest.map(|(key, _)| *key).filter(|_| all.len() >= KEPT_MAX) {
        all.remove(&oldest);
    }
    let (comb, used) = (Arc::clone(&comb), AtomicU64::new(now));
    Some(Arc::clone(
        &all.entry(*public).or_insert(Kept { comb, used }).comb,
    ))
}

// Counts the uses of a key without a table.
fn is_worth_it(public: &PublicKey, times: usize) -> bool {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let uses = counted.get(public).map_or(0, |uses| *uses).saturating_add(times);
    if uses >= WORTH {
        counted.remove(public);
        return true;
    }
    if counted.len() >= COUNTED_MAX {
        counted.clear();
    }
    counted.insert(*public, uses);
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::SigningKey;
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    // A key with a component of small order, and a signature whose R has one as well.
    fn dishonest(key: Scalar, of_key: usize, of_r: usize, message: &[u8]) -> (EdwardsPoint, Signature) {
        let public = EdwardsPoint::mul_base(&key) + EIGHT_TORSION[of_key];
        let nonce = key + Scalar::from(99_u64);
        let r = (EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[of_r])
            .compress()
            .to_bytes();
        let challenge = Sha512::new()
            .chain_update(r)
            .chain_update(public.compress().as_bytes())
            .chain_update(message)
            .finalize();
        let challenge = Scalar::from_bytes_mod_order_wide(&challenge.into());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice((nonce + challenge * key).as_bytes());
        (public, Signature(signature))
    }

    fn both(public: &EdwardsPoint, message: &[u8], signature: &Signature) -> (bool, bool) {
        let bytes = public.compress().to_bytes();
        let dalek = ed25519_dalek::VerifyingKey::from_bytes(&bytes).unwrap();
        let strict = ed25519_dalek::Signature::from_bytes(&signature.0);
        let strict = dalek.verify_strict(message, &strict).is_ok();
        (
            verifies(&Comb::of(&-public), &bytes, &[(message, *signature)]) == [true],
            strict,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_table_multiplies_as_the_group_does(one in any::<[u8; 32]>(), other in any::<[u8; 32]>(), torsion in 0_usize..8) {
            let [one, other] = [one, other].map(Scalar::from_bytes_mod_order);
            let point = EdwardsPoint::mul_base(&(other + Scalar::ONE)) + EIGHT_TORSION[torsion];
            let sum = sum_of((&BASE, &one), (&Comb::of(&point), &other));
            prop_assert_eq!(sum, EdwardsPoint::mul_base(&one) + point * other);
        }

        #[test]
        fn a_table_says_what_strict_verification_says(
            seed in any::<[u8; 32]>(),
            message in prop::collection::vec(any::<u8>(), 0..80),
            flip in prop::option::of(0_usize..64 * 8),
        ) {
            let key = SigningKey::from_seed(seed);
            let mut signature = key.sign_message(&message);
            if let Some(bit) = flip {
                signature.0[bit / 8] ^= 1 << (bit % 8);
            }
            let public = key.verifier().dalek().to_edwards();
            prop_assert_eq!(both(&public, &message, &signature), (flip.is_none(), flip.is_none()));
        }
    }

    #[test]
    fn what_a_dishonest_holder_signs_is_judged_as_strictly() {
        let (mut accepted, mut refused) = (0, 0);
        for n in 0_u32..400 {
            let (of_key, of_r) = (n as usize % 8, n as usize / 8 % 8);
            let message = n.to_be_bytes();
            let key = Scalar::from(u64::from(n) + 5);
            let (public, signature) = dishonest(key, of_key, of_r, &message);
            let (ours, strict) = both(&public, &message, &signature);
            assert_eq!(ours, strict, "component {of_key} of the key, {of_r} of R");
            *(if strict { &mut accepted } else { &mut refused }) += 1;
        }
        assert!(
            accepted >= 40 && refused >= 200,
            "{accepted} accepted, {refused} refused"
        );
    }

    #[test]
    fn several_together_are_judged_one_by_one() {
        let key = SigningKey::from_seed([3; 32]);
        let mut signed: Vec<([u8; 1], Signature)> = (0..9).map(|n| ([n], key.sign_message(&[n]))).collect();
        signed[2].1.0[5] ^= 1; // another R
        signed[4].0 = [77]; // another message
        signed[6].1.0[63] = 0xff; // past the group's order
        signed[8].1.0[40] ^= 1; // another s
        let comb = Comb::of(&-key.verifier().dalek().to_edwards());
        let judged = verifies(&comb, &key.public().0, &signed);
        let right: Vec<bool> = (0..9).map(|n| n % 2 == 1 || n == 0).collect();
        assert_eq!(judged, right);
        assert!(verifies(&comb, &key.public().0, &signed[..0]).is_empty());
    }

    #[test]
    fn scalars_at_the_ends_are_multiplied_too() {
        let comb = Comb::of(&EIGHT_TORSION[1]);
        for scalar in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE] {
            let sum = sum_of((&BASE, &scalar), (&comb, &scalar));
            assert_eq!(sum, (ED25519_BASEPOINT_POINT + EIGHT_TORSION[1]) * scalar);
        }
    }

    #[test]
    fn a_key_gets_its_table_when_it_is_used_often_and_old_ones_go() {
        let point = ED25519_BASEPOINT_POINT;
        let used = |n: u8| (0..WORTH).any(|_| kept(&PublicKey([n; 32]), 1, || point).is_some());
        for n in 0..=u8::try_from(KEPT_MAX).unwrap() {
            assert!(
                !(1..WORTH).any(|_| kept(&PublicKey([n; 32]), 1, || point).is_some()),
                "{n}"
            );
            assert!(used(n), "{n}");
        }
        assert!(KEPT.read().unwrap().len() <= KEPT_MAX);
    }
}
