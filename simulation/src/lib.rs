//! A whole fleet in one thread: one seed, one schedule of faults, every invariant after every step.
//!
//! A gateway and three nodes run with clocks that jump and drift, disks that lose what was not synced, messages that are lost,
//! doubled, late and out of order, machines that are killed and that sleep, and people who ask for work of every class and change
//! their minds. Then the faults and the load end, and everything must come to rest: every accepted job final, every log where it
//! belongs, nothing that anybody was told ever lost.
//!
//! What is real: records, seals and chains of `ledger-core` (in one seed of 16 signed and strictly verified, else with empty log
//! signatures, which no fold reads), `FleetState` in every store, every decider, and Central's steps within a commit
//! (`ledger_projections::central`). What is modelled, because it is tasks, files and sockets in the product: the journal (`store`),
//! the loops of a node's link (`link`), what the gateway asks before a commit and when it answers (`gateway`), processes
//! (`runs`). Not here: joining, epochs, restored copies, schedules, erasure.
//!
//! ```
//! let options = ledger_simulation::Options { seed: 7, minutes: 2, ..Default::default() };
//! let report = ledger_simulation::simulate(options).map_err(|failure| failure.to_string())?;
//! assert!(report.steps > 0);
//! # Ok::<(), String>(())
//! ```

mod client;
mod control;
mod effects;
mod faults;
mod founding;
mod gateway;
mod link;
mod oracle;
mod runs;
mod store;
mod world;

pub use control::Control;

use std::fmt;

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Everything that is chance follows from it.
    pub seed: u64,
    /// How long faults and load last, in simulated minutes.
    pub minutes: u64,
    /// Which rule is taken away.
    pub control: Control,
    /// Whether to keep what happened, for [`Failure::trace`].
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            minutes: 20,
            control: Control::None,
            trace: false,
        }
    }
}

/// What a run that held consisted of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Events.
    pub steps: u64,
    /// Receipts in all stores.
    pub receipts: usize,
    /// Jobs that were accepted.
    pub jobs: usize,
    /// Those that succeeded.
    pub succeeded: usize,
    /// Verdicts on late results.
    pub late: u64,
    /// Processes that were started.
    pub runs: usize,
    /// Faults.
    pub faults: u64,
    /// How long the fleet took to come to rest, simulated microseconds.
    pub rest_us: i64,
}

/// A rule that did not hold. Its text ends with the line that replays it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was simulated.
    pub options: Options,
    /// When it broke, simulated microseconds.
    pub at_us: i64,
    /// Which invariant of `docs/ARCHITECTURE.md`.
    pub invariant: u8,
    /// How.
    pub text: String,
    /// What happened, when that was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            seed,
            minutes,
            control,
            ..
        } = self.options;
        let seconds = self.at_us / 1_000_000;
        writeln!(
            f,
            "seed {seed} breaks invariant {} at {}:{:02}: {}",
            self.invariant,
            seconds / 60,
            seconds % 60,
            self.text
        )?;
        write!(
            f,
            "replay: cargo run --release -p ledger-simulation -- --seed {seed} --minutes {minutes}"
        )?;
        if control != Control::None {
            write!(f, " --control {}", control.as_str())?;
        }
        write!(f, " --trace")
    }
}

impl std::error::Error for Failure {}

/// Simulates one seed.
///
/// # Errors
/// [`Failure`]: the first rule that did not hold.
pub fn simulate(options: Options) -> Result<Report, Failure> {
    world::World::new(options).run()
}

/// Simulates the seeds from `first` on, on all cores; each report, or the failure of the least seed that failed.
///
/// # Errors
/// [`Failure`].
pub fn simulate_all(options: Options, seeds: u64) -> Result<Vec<Report>, Failure> {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= seeds {
                break;
            }
            let seed = options.seed.wrapping_add(n);
            let outcome = simulate(Options { seed, ..options });
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.push((n, outcome));
        }
        done
    };
    let mut all: Vec<(u64, Result<Report, Failure>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter();
        joined
            .flat_map(|thread| thread.join().expect("a simulation does not panic"))
            .collect()
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}
