//! Exchanges that follow each other closely are kept a moment apart, so that what comes meanwhile travels together.

use std::time::Duration;
use tokio::time::Instant;

/// Exchanges that may follow each other at once.
const AT_ONCE: u32 = 4;
/// How many times as long as a run of a copied log took the copying rests, while the machine has jobs to run.
const RESTS: u32 = 12;
/// The longest such rest.
const REST_MAX: Duration = Duration::from_secs(1);

/// How long the copying of logs rests on a machine that runs jobs, after it worked so long: live work comes first.
///
/// ```
/// # use ledger_server::pace::rest_after;
/// # use std::time::Duration;
/// assert_eq!(rest_after(Duration::from_millis(10)), Duration::from_millis(120));
/// assert_eq!(rest_after(Duration::from_secs(60)), Duration::from_secs(1));
/// ```
pub fn rest_after(worked: Duration) -> Duration {
    worked.saturating_mul(RESTS).min(REST_MAX)
}

/// Lets a few through at once, then one in every so long a time. Nothing that comes alone ever waits.
///
/// ```
/// # use ledger_server::pace::Pace;
/// # use std::time::Duration;
/// # use tokio::time::Instant;
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (mut pace, began) = (Pace::new(Duration::from_millis(10)), Instant::now());
/// for _ in 0..5 {
///     pace.wait().await;
/// }
/// assert!(began.elapsed() >= Duration::from_millis(10)); // the fifth
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Pace {
    apart: Duration,
    // When all that was let through would be over, were each so long apart from the one before.
    until: Option<Instant>,
}

impl Pace {
    /// One in so long a time.
    pub fn new(apart: Duration) -> Self {
        Self { apart, until: None }
    }

    /// When the next may begin, which is counted as begun.
    pub fn begin(&mut self) -> Instant {
        let now = Instant::now();
        let until = self.until.map_or(now, |until| until.max(now)) + self.apart;
        self.until = Some(until);
        until
            .checked_sub(self.apart * AT_ONCE)
            .map_or(now, |at| at.max(now))
    }

    /// Waits until the next may begin.
    pub async fn wait(&mut self) {
        tokio::time::sleep_until(self.begin()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_few_go_at_once_then_one_at_a_time_and_after_a_pause_a_few_again() {
        let mut pace = Pace::new(APART);
        let begun = Instant::now();
        let at: Vec<Instant> = (0..10).map(|_| pace.begin()).collect();
        let took = begun.elapsed();
        assert!(at[..4].iter().all(|at| *at <= begun + took));
        for (n, at) in (1..).zip(&at[4..]) {
            let least = begun + APART * n;
            assert!(*at >= least && *at <= least + took, "{n}");
        }
        pace.until = pace.until.and_then(|until| until.checked_sub(APART * 20));
        let now = Instant::now();
        assert!((0..4).all(|_| pace.begin() <= Instant::now()), "{now:?}");
        assert!(pace.begin() > now);
    }
}
