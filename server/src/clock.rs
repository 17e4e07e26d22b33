//! The readings of time that are not the engine's: a clock that counts sleep, and the wall clock of a supervisor.
//!
//! Owns no state. Timeouts count the time that a machine sleeps, which [`std::time::Instant`] does not.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const COUNTS_SLEEP: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const COUNTS_SLEEP: ClockId = ClockId::Monotonic;

/// Milliseconds since some fixed moment of this boot; never runs backwards; sleep counts.
pub(crate) fn running_ms() -> u64 {
    let now = clock_gettime(COUNTS_SLEEP);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// Milliseconds since 1970 by the machine's wall clock; 0 if the clock stands before that.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
