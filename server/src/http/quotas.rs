//! What one key may have in work at once: requests, long polls, bytes of bodies.
//!
//! Contract: only a verified request takes a share, so that nobody uses up another's; a share is given back when its answer is ready or
//! its caller is gone. Does not: bound all callers together; the doors' semaphores do.

use super::limits::{BYTES_OF_ONE_MAX, POLLS_OF_ONE_MAX, REQUESTS_OF_ONE_MAX};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is in work for each key that has anything in work.
#[derive(Default)]
pub(crate) struct Quotas {
    of: Mutex<HashMap<[u8; 32], Use>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Use {
    requests: usize,
    polls: usize,
    bytes: usize,
}

/// A request's share of its key's quota, given back when dropped.
pub(crate) struct Share {
    quotas: Arc<Quotas>,
    key: [u8; 32],
    taken: Use,
}

impl Quotas {
    /// Takes a share for a request with a body of so many bytes.
    ///
    /// # Errors
    /// What there is too much of, as a sentence.
    pub(crate) fn take(
        self: &Arc<Self>,
        key: [u8; 32],
        is_poll: bool,
        bytes: usize,
    ) -> Result<Share, String> {
        let taken = Use {
            requests: usize::from(!is_poll),
            polls: usize::from(is_poll),
            bytes,
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let before = of.get(&key).copied().unwrap_or_default();
        let after = Use {
            requests: before.requests + taken.requests,
            polls: before.polls + taken.polls,
            bytes: before.bytes.saturating_add(taken.bytes),
        };
        for (what, found, most) in [
            ("requests at once", after.requests, REQUESTS_OF_ONE_MAX),
            ("long polls at once", after.polls, POLLS_OF_ONE_MAX),
            ("bytes in flight", after.bytes, BYTES_OF_ONE_MAX),
        ] {
            if found > most {
                return Err(format!(
                    "expected at most {most} {what} of this key, found {found}"
                ));
            }
        }
        of.insert(key, after);
        drop(of);
        Ok(Share {
            quotas: Arc::clone(self),
            key,
            taken,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of = self.quotas.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = of.get_mut(&self.key) {
            used.requests -= self.taken.requests;
            used.polls -= self.taken.polls;
            used.bytes -= self.taken.bytes;
            if *used == Use::default() {
                of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_has_its_share_and_no_more_and_gets_it_back() {
        let quotas = Arc::new(Quotas::default());
        let (one, other) = ([1; 32], [2; 32]);
        let mut held: Vec<Share> = (0..POLLS_OF_ONE_MAX)
            .map(|_| quotas.take(one, true, 0).unwrap())
            .collect();
        assert!(quotas.take(one, true, 0).is_err(), "one poll too many");
        held.push(quotas.take(one, false, BYTES_OF_ONE_MAX).unwrap());
        assert!(quotas.take(one, false, 1).is_err(), "one byte too many");
        held.push(quotas.take(other, true, BYTES_OF_ONE_MAX).unwrap());
        held.clear();
        assert!(quotas.of.lock().unwrap().is_empty());
        let all: Vec<Share> = (0..REQUESTS_OF_ONE_MAX)
            .map(|_| quotas.take(one, false, 1).unwrap())
            .collect();
        assert!(quotas.take(one, false, 1).is_err() && all.len() == REQUESTS_OF_ONE_MAX);
    }
}
