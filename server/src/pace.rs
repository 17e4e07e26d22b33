//! Exchanges that follow each other closely are kept a moment apart, so that what comes meanwhile travels together.

use std::time::Duration;
use tokio::time::Instant;

/// Exchanges that may follow each other at once.
const AT_ONCE: u32 = 4;
/// How many times as long as a run of a copied log took the copying rests, while the machine has jobs to run.
const RESTS: u32 = 12;
/// The same while the log brings more than is copied, at first: a burst of jobs goes first.
const RESTS_IN_A_BURST: u32 = 64;
/// How long a copy may be behind until it takes its share all the same.
const BURST_MAX: Duration = Duration::from_secs(30);
/// The longest such rest.
const REST_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the machine still has work, and how many looks in turn must find none: between two short jobs, and
/// while it waits for the next ones, it has none either.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const IDLE_LOOKS: u32 = 5;

/// How long the copying of a log rests on a machine that runs jobs: live work comes first.
///
/// ```
/// # use ledger_server::pace::Rests;
/// # use std::time::Duration;
/// let mut rests = Rests::default();
/// assert_eq!(rests.after(Duration::from_millis(10), false), Duration::from_millis(120));
/// assert_eq!(rests.after(Duration::from_millis(10), true), Duration::from_millis(640));
/// assert_eq!(rests.after(Duration::from_secs(60), true), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Rests {
    // Since when there is more of the log than was copied.
    behind: Option<Instant>,
}

impl Rests {
    /// How long to rest after a run that took so long, and left more to be copied or not.
    pub fn after(&mut self, worked: Duration, more: bool) -> Duration {
        let since = if more {
            *self.behind.get_or_insert_with(Instant::now)
        } else {
            return worked.saturating_mul(RESTS).min(REST_MAX);
        };
        let times = match since.elapsed() < BURST_MAX {
            true => RESTS_IN_A_BURST,
            false => RESTS,
        };
        worked.saturating_mul(times).min(REST_MAX)
    }

    /// There was no work: the next burst is another one.
    pub fn idle(&mut self) {
        self.behind = None;
    }
}

/// Rests for a time, or until there was no work for half a second, and says whether that was so; not at all where there is none. `works`
/// says whether there is work, or was since it was asked last.
pub async fn rest(time: Duration, mut works: impl FnMut() -> bool) -> bool {
    let (until, mut idle) = (Instant::now() + time, 0);
    if !works() {
        return true;
    }
    while idle < IDLE_LOOKS && Instant::now() < until {
        tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
        idle = if works() { 0 } else { idle + 1 };
    }
    idle == IDLE_LOOKS
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

    #[tokio::test]
    async fn a_copy_that_falls_behind_lets_a_burst_go_first_and_then_takes_its_share() {
        let (mut rests, worked) = (Rests::default(), Duration::from_millis(1));
        assert_eq!(rests.after(worked, true), worked * RESTS_IN_A_BURST);
        rests.behind = rests.behind.and_then(|since| since.checked_sub(BURST_MAX));
        assert_eq!(rests.after(worked, true), worked * RESTS);
        // One that caught up once is in the same burst still, until there was no work.
        assert_eq!(rests.after(worked, false), worked * RESTS);
        assert_eq!(rests.after(worked, true), worked * RESTS);
        rests.idle();
        assert_eq!(rests.after(worked, true), worked * RESTS_IN_A_BURST);
    }

    #[tokio::test]
    async fn a_rest_ends_when_there_was_no_work_for_a_while() {
        let (mut looks, begun) = (0, Instant::now());
        // None at the third look, which is between two jobs, and from the fifth on.
        let works = || {
            looks += 1;
            [1, 2, 4].contains(&looks)
        };
        assert!(rest(Duration::from_secs(3600), works).await);
        assert_eq!(looks, 4 + IDLE_LOOKS);
        assert!(begun.elapsed() >= LOOK_EVERY * (looks - 1));
        assert!(!rest(LOOK_EVERY / 2, || true).await);
        assert!(rest(Duration::from_secs(3600), || false).await);
    }
}
