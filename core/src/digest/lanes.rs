//! Many short digests of one use at once: BLAKE3 with one input in each lane of the processor's vectors.
//!
//! The crate `blake3` hashes the chunks of one long input side by side; ours are many short inputs, each of which it must
//! hash block after block. Here a lane holds an input, so that what a processor does for one it does for [`LANES`]. Contract: the
//! values of `blake3::Hasher::new_from_context_key`, to which a property holds it; inputs of more than one chunk are left to that.
//! Section numbers are those of the BLAKE3 paper, 2.

use std::array::from_fn;

/// Inputs at once. Vectors of 128 bits, which every processor of ours has, hold four words; the compiler makes vectors of a
/// loop over the lanes only when it is so long, and the processor then works at several of them at once.
const LANES: usize = 16;
/// So many inputs are worth going together, with empty lanes.
const LANES_MIN: usize = 8;
const BLOCK_BYTES: usize = 64;
const CHUNK_BYTES: usize = 1024;
const CHUNK_BLOCKS: usize = CHUNK_BYTES / BLOCK_BYTES;

// Flags, 2.1.
const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 1 << 1;
const ROOT: u32 = 1 << 3;
const DERIVE_KEY_MATERIAL: u32 = 1 << 6;

// The first half of SHA-2's initial state, 2.2.
const IV: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];

// Which word of the message each of the seven rounds takes where: the permutation of 2.2, applied again and again.
const SCHEDULE: [[usize; 16]; 7] = schedule();

const fn schedule() -> [[usize; 16]; 7] {
    const NEXT: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut all = [[0; 16]; 7];
    let mut word = 0;
    while word < 16 {
        all[0][word] = word;
        word += 1;
    }
    let mut round = 1;
    while round < 7 {
        word = 0;
        while word < 16 {
            all[round][word] = all[round - 1][NEXT[word]];
            word += 1;
        }
        round += 1;
    }
    all
}

/// One word of every lane.
type Words = [u32; LANES];

/// The digests of inputs under a context's key, in their order.
pub(super) fn digests(key: &[u8; 32], inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut out = vec![[0; 32]; inputs.len()];
    // Lanes go through the same number of blocks.
    let mut waiting: [([usize; LANES], usize); CHUNK_BLOCKS] = [([0; LANES], 0); CHUNK_BLOCKS];
    for (index, input) in inputs.iter().enumerate() {
        if input.len() > CHUNK_BYTES {
            out[index] = super::keyed(key, &[input]);
            continue;
        }
        let blocks = input.len().div_ceil(BLOCK_BYTES).max(1);
        let (indexes, count) = &mut waiting[blocks - 1];
        indexes[*count] = index;
        *count += 1;
        if *count == LANES {
            let lanes = indexes.map(|index| inputs[index]);
            for (index, digest) in indexes.iter().zip(together(key, &lanes, blocks)) {
                out[*index] = digest;
            }
            *count = 0;
        }
    }
    for (blocks, (indexes, count)) in waiting.iter().enumerate() {
        let indexes = &indexes[..*count];
        if *count >= LANES_MIN {
            let lanes = from_fn(|lane| inputs[indexes[lane.min(count - 1)]]);
            for (index, digest) in indexes.iter().zip(together(key, &lanes, blocks + 1)) {
                out[*index] = digest;
            }
        } else {
            for index in indexes {
                out[*index] = super::keyed(key, &[inputs[*index]]);
            }
        }
    }
    out
}

// The digests of inputs of so many blocks each.
fn together(key: &[u8; 32], inputs: &[&[u8]; LANES], blocks: usize) -> [[u8; 32]; LANES] {
    let mut chained: [Words; 8] = from_fn(|word| [word_at(key, word); LANES]);
    let mut last = [[0; BLOCK_BYTES]; LANES];
    for block in 0..blocks {
        let mut flags = DERIVE_KEY_MATERIAL;
        if block == 0 {
            flags |= CHUNK_START;
        }
        let from = block * BLOCK_BYTES;
        let mut bytes = [BLOCK_BYTES; LANES];
        let message: [Words; 16] = if block + 1 == blocks {
            flags |= CHUNK_END | ROOT;
            for ((last, input), bytes) in last.iter_mut().zip(inputs).zip(&mut bytes) {
                let rest = &input[from..];
                last[..rest.len()].copy_from_slice(rest);
                *bytes = rest.len();
            }
            from_fn(|word| from_fn(|lane| word_at(&last[lane], word)))
        } else {
            let blocks: [&[u8; BLOCK_BYTES]; LANES] =
                from_fn(|lane| inputs[lane][from..].first_chunk().expect("not the last block"));
            from_fn(|word| from_fn(|lane| word_at(blocks[lane], word)))
        };
        let bytes = bytes.map(|bytes| u32::try_from(bytes).expect("at most a block"));
        chained = compress(&chained, &message, bytes, flags);
    }
    from_fn(|lane| {
        let mut digest = [0; 32];
        for (bytes, words) in digest.chunks_exact_mut(4).zip(&chained) {
            bytes.copy_from_slice(&words[lane].to_le_bytes());
        }
        digest
    })
}

#[inline(always)]
fn word_at<const N: usize>(bytes: &[u8; N], word: usize) -> u32 {
    u32::from_le_bytes(from_fn(|byte| bytes[4 * word + byte]))
}

// The compression function, 2.2; the counter of chunks is 0.
fn compress(chained: &[Words; 8], message: &[Words; 16], bytes: Words, flags: u32) -> [Words; 8] {
    let mut v: [Words; 16] = from_fn(|word| match word {
        0..8 => chained[word],
        8..12 => [IV[word - 8]; LANES],
        14 => bytes,
        15 => [flags; LANES],
        _ => [0; LANES],
    });
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = &mut v;
    for words in &SCHEDULE {
        let word = |at: usize| &message[words[at]];
        mix(a, e, i, m, word(0), word(1));
        mix(b, f, j, n, word(2), word(3));
        mix(c, g, k, o, word(4), word(5));
        mix(d, h, l, p, word(6), word(7));
        mix(a, f, k, p, word(8), word(9));
        mix(b, g, l, m, word(10), word(11));
        mix(c, h, i, n, word(12), word(13));
        mix(d, e, j, o, word(14), word(15));
    }
    from_fn(|word| from_fn(|lane| v[word][lane] ^ v[word + 8][lane]))
}

// The quarter-round G, 2.2. A function of its own, so that it stays a loop, which is made of vectors; unrolled it is not.
#[inline(never)]
fn mix(a: &mut Words, b: &mut Words, c: &mut Words, d: &mut Words, x: &Words, y: &Words) {
    for lane in 0..LANES {
        let (mut p, mut q, mut r, mut s) = (a[lane], b[lane], c[lane], d[lane]);
        p = p.wrapping_add(q).wrapping_add(x[lane]);
        s = (s ^ p).rotate_right(16);
        r = r.wrapping_add(s);
        q = (q ^ r).rotate_right(12);
        p = p.wrapping_add(q).wrapping_add(y[lane]);
        s = (s ^ p).rotate_right(8);
        r = r.wrapping_add(s);
        q = (q ^ r).rotate_right(7);
        (a[lane], b[lane], c[lane], d[lane]) = (p, q, r, s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_around_blocks_and_chunks_has_the_digest_of_the_crate() {
        let bytes: Vec<u8> = (0..2100_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let key = blake3::hazmat::hash_derive_key_context("lanes");
        for length in (0..=200).chain([255, 256, 257, 960, 1023, 1024, 1025, 2048, 2100]) {
            let inputs: Vec<&[u8]> = (0..2 * LANES + 3)
                .map(|n| &bytes[n % 7..(n % 7 + length).min(bytes.len())])
                .collect();
            for (digest, input) in digests(&key, &inputs).iter().zip(&inputs) {
                assert_eq!(*digest, blake3::derive_key("lanes", input), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn digests_together_are_those_of_each_alone(
            key in any::<[u8; 32]>(),
            inputs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..60),
        ) {
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let alone: Vec<_> = inputs.iter().map(|input| super::super::keyed(&key, &[input])).collect();
            prop_assert_eq!(digests(&key, &inputs), alone);
        }
    }
}
