//! The nonces that were seen, so that no request is accepted twice.
//!
//! Owns: for each key, its nonces until their requests can no longer be accepted. Contract: an unexpired nonce is
//! never forgotten; where there is no room the new request is refused instead. Time is an argument, and may go back:
//! what ends at or before the newest forgotten end is refused rather than taken for new. A crash loses all of it,
//! which is safe, because requests name the server's boot id and that dies too. Does not: lock, or read a clock.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 16;

/// Unexpired nonces kept of one key. A key's nonces live at most some 90 s, so this carries more than 350 requests a
/// second from one caller without a pause.
pub const NONCES_PER_KEY_MAX: usize = 32_768;

/// Unexpired nonces kept of all keys together: at most some 16 MB.
pub const NONCES_MAX: usize = 131_072;

/// Why a nonce is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// This key has used this nonce.
    #[error("expected a fresh nonce, found one that this key has used; draw a new one and sign anew")]
    Replayed,
    /// The request ends so early that its nonce may have been forgotten.
    #[error("expected a request that ends after {forgotten_s}, found an earlier end; sign anew")]
    TooOld {
        /// Newest end among the nonces that were forgotten, seconds since 1970.
        forgotten_s: i64,
    },
    /// There is no room for another unexpired nonce.
    #[error(
        "expected fewer than {nonces_max} requests in the time that nonces live, found more; slow down and retry"
    )]
    Full {
        /// The bound that is reached.
        nonces_max: usize,
    },
}

impl NonceError {
    /// The stable name of this refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Replayed => "signature.replayed",
            Self::TooOld { .. } => "signature.nonce_too_old",
            Self::Full { .. } => "signature.nonces_full",
        }
    }
}

/// The unexpired nonces of every key, bounded in number and time.
#[derive(Debug)]
pub struct NonceCache {
    per_key_max: usize,
    total_max: usize,
    total: usize,
    seen: HashMap<[u8; 32], HashSet<[u8; NONCE_BYTES]>>,
    /// What to forget, by the last second in which it must be remembered.
    ends: BTreeMap<i64, Vec<Entry>>,
    /// Newest end among the forgotten.
    forgotten_s: i64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: [u8; 32],
    nonce: [u8; NONCE_BYTES],
}

impl Default for NonceCache {
    fn default() -> Self {
        Self::with_bounds(NONCES_PER_KEY_MAX, NONCES_MAX)
    }
}

impl NonceCache {
    /// A cache with bounds of its own: at most `per_key_max` nonces of one key, `total_max` of all.
    #[must_use]
    pub fn with_bounds(per_key_max: usize, total_max: usize) -> Self {
        Self {
            per_key_max,
            total_max,
            total: 0,
            seen: HashMap::new(),
            ends: BTreeMap::new(),
            forgotten_s: i64::MIN,
        }
    }

    /// Whether `nonce` is fresh for `key`; spends no room. Fullness is told by [`Self::insert`] alone, so that only
    /// a caller with a valid signature learns of it.
    ///
    /// # Errors
    /// [`NonceError::Replayed`] when the key used it.
    pub fn check(&self, key: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> Result<(), NonceError> {
        if self.seen.get(key).is_some_and(|nonces| nonces.contains(nonce)) {
            return Err(NonceError::Replayed);
        }
        Ok(())
    }

    /// Remembers `nonce` of `key` up to and including second `until_s`, after forgetting what ended before `now_s`.
    ///
    /// # Errors
    /// [`NonceError::Replayed`] when it is known, [`NonceError::TooOld`] when it may have been known and forgotten,
    /// [`NonceError::Full`] when there is no room. Nothing is remembered then.
    pub fn insert(
        &mut self,
        key: &[u8; 32],
        nonce: &[u8; NONCE_BYTES],
        until_s: i64,
        now_s: i64,
    ) -> Result<(), NonceError> {
        self.forget_before(now_s);
        self.check(key, nonce)?;
        if until_s <= self.forgotten_s {
            return Err(NonceError::TooOld {
                forgotten_s: self.forgotten_s,
            });
        }
        if self.total >= self.total_max {
            return Err(NonceError::Full {
                nonces_max: self.total_max,
            });
        }
        if self.seen.get(key).map_or(0, HashSet::len) >= self.per_key_max {
            return Err(NonceError::Full {
                nonces_max: self.per_key_max,
            });
        }
        self.seen.entry(*key).or_default().insert(*nonce);
        self.ends.entry(until_s).or_default().push(Entry {
            key: *key,
            nonce: *nonce,
        });
        self.total += 1;
        Ok(())
    }

    /// How many nonces are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn forget_before(&mut self, now_s: i64) {
        while let Some(first) = self.ends.first_entry() {
            if *first.key() >= now_s {
                break;
            }
            let (end_s, entries) = first.remove_entry();
            self.forgotten_s = self.forgotten_s.max(end_s);
            for entry in entries {
                if let Some(nonces) = self.seen.get_mut(&entry.key) {
                    nonces.remove(&entry.nonce);
                    if nonces.is_empty() {
                        self.seen.remove(&entry.key);
                    }
                }
                self.total -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: [u8; 32] = [1; 32];
    const BOB: [u8; 32] = [2; 32];

    #[test]
    fn a_nonce_is_refused_again_until_its_end_has_passed() {
        let mut cache = NonceCache::default();
        assert_eq!(cache.insert(&ANN, &[7; 16], 100, 50), Ok(()));
        assert_eq!(cache.check(&ANN, &[7; 16]), Err(NonceError::Replayed));
        assert_eq!(cache.insert(&ANN, &[7; 16], 100, 100), Err(NonceError::Replayed));
        assert_eq!(
            cache.insert(&BOB, &[7; 16], 100, 100),
            Ok(()),
            "nonces are each key's own"
        );
        assert_eq!(cache.insert(&ANN, &[8; 16], 160, 101), Ok(()));
        assert_eq!(cache.len(), 1, "both ended at 100");
    }

    #[test]
    fn a_clock_that_goes_back_revives_no_forgotten_nonce() {
        let mut cache = NonceCache::default();
        cache.insert(&ANN, &[7; 16], 100, 50).expect("fresh");
        cache.insert(&ANN, &[8; 16], 200, 150).expect("fresh");
        assert_eq!(
            cache.insert(&ANN, &[7; 16], 100, 50),
            Err(NonceError::TooOld { forgotten_s: 100 })
        );
        assert_eq!(cache.insert(&ANN, &[9; 16], 101, 50), Ok(()));
    }

    #[test]
    fn a_full_cache_refuses_the_new_and_forgets_nothing() {
        let mut cache = NonceCache::with_bounds(2, 3);
        cache.insert(&ANN, &[1; 16], 100, 50).expect("room");
        cache.insert(&ANN, &[2; 16], 100, 50).expect("room");
        assert_eq!(
            cache.insert(&ANN, &[3; 16], 100, 50),
            Err(NonceError::Full { nonces_max: 2 })
        );
        cache
            .insert(&BOB, &[1; 16], 100, 50)
            .expect("another key has room of its own");
        assert_eq!(
            cache.insert(&BOB, &[2; 16], 100, 50),
            Err(NonceError::Full { nonces_max: 3 })
        );
        assert_eq!(cache.insert(&ANN, &[1; 16], 100, 100), Err(NonceError::Replayed));
        assert_eq!(
            cache.insert(&ANN, &[3; 16], 200, 101),
            Ok(()),
            "room again once the old ended"
        );
        assert_eq!(cache.len(), 1);
    }
}
