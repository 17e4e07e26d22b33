//! How long a job waits between two attempts. Decided once, when the attempt failed, and written down with it.

use crate::queue::Policy;
use ledger_core::digest::derived_id;
use ledger_core::kinds::JobId;

/// The wait after a failed attempt (from 1), in milliseconds: the first period doubled with each further attempt up to the
/// longest, of which half is certain and half is jitter. The jitter derives from job and attempt, so that deciding again
/// gives the same, and jobs that failed together do not come back together.
///
/// ```
/// use ledger_core::{ReceiptId, kinds::JobId};
/// use ledger_projections::{Policy, queue::decide::retry_after_ms};
/// let policy = Policy { backoff_first_ms: 1000, backoff_max_ms: 60_000, ..Policy::default() };
/// let wait = |attempt| retry_after_ms(&policy, &JobId(ReceiptId([7; 16])), attempt);
/// assert!((500..=1000).contains(&wait(1)) && (2000..=4000).contains(&wait(3)));
/// assert!((30_000..=60_000).contains(&wait(1000)));
/// assert_eq!(wait(2), wait(2));
/// ```
pub fn retry_after_ms(policy: &Policy, job: &JobId, attempt: u16) -> u64 {
    let doublings = u32::from(attempt.saturating_sub(1));
    let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
    let whole = policy
        .backoff_first_ms
        .saturating_mul(factor)
        .min(policy.backoff_max_ms);
    let derived = derived_id(&[b"backoff", &job.0.0, &attempt.to_be_bytes()]).0;
    let dice = derived[..6]
        .iter()
        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let certain = whole / 2;
    certain + dice % (whole - certain + 1)
}
