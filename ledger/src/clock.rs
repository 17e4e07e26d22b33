//! Time and randomness as arguments: the engine's only sources of either.

use std::time::{SystemTime, UNIX_EPOCH};

/// A wall clock. It may jump; everything that must rise goes through the hybrid clock.
///
/// ```
/// use ledger::clock::Clock;
/// struct Stopped;
/// impl Clock for Stopped {
///     fn now_us(&self) -> i64 {
///         1_700_000_000_000_000
///     }
/// }
/// let options: ledger::OpenOptions = ledger::OpenOptions::default().clock(Stopped);
/// # drop(options);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970.
    fn now_us(&self) -> i64;
}

/// The operating system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
    }
}

/// Milliseconds since 1970 of a time in microseconds; 0 for times before.
pub fn unix_ms(now_us: i64) -> u64 {
    u64::try_from(now_us / 1000).unwrap_or(0)
}

/// A source of random bytes fit for keys and salts.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's random generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        // Without randomness no key and no salt is safe: stopping is the only right answer.
        getrandom::fill(buffer).expect("the operating system's random generator works");
    }
}

/// Random bytes drawn in larger portions, since each draw is a system call.
pub(crate) struct Pool {
    entropy: std::sync::Arc<dyn Entropy>,
    buffer: Box<[u8; POOL_BYTES]>,
    used: usize,
}

const POOL_BYTES: usize = 4096;

impl Pool {
    pub(crate) fn new(entropy: std::sync::Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            buffer: Box::new([0; POOL_BYTES]),
            used: POOL_BYTES,
        }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > POOL_BYTES {
            self.entropy.fill(&mut self.buffer[..]);
            self.used = 0;
        }
        let mut out = [0; N];
        let range = self.used..self.used + N;
        out.copy_from_slice(&self.buffer[range.clone()]);
        self.buffer[range].fill(0);
        self.used += N;
        out
    }
}
