//! Measuring: wall time and the CPU time of the whole process, side by side; medians.
//!
//! CPU time counts every thread of the process, those of the callers included. It suffers less from busy neighbours than
//! wall time does, so the ratios that matter are ratios of CPU times.

use crate::Failed;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What some operations cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Microseconds of CPU for each, all threads together.
    pub cpu_us: f64,
    /// Operations in a second of wall time.
    pub per_second: f64,
}

// CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// A count as a number to divide by.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]
pub fn number(count: usize) -> f64 {
    count as f64
}

/// Runs `count` operations and tells what each cost.
pub fn cost<T>(count: usize, run: impl FnOnce() -> T) -> (Cost, T) {
    let (wall_before, cpu_before) = (Instant::now(), cpu());
    let result = run();
    let (wall, used) = (wall_before.elapsed(), cpu() - cpu_before);
    let cost = Cost {
        cpu_us: used.as_secs_f64() * 1e6 / number(count),
        per_second: number(count) / wall.as_secs_f64(),
    };
    (cost, result)
}

/// How many operations were done.
pub type Counted = usize;

/// Runs operations that tell only at the end how many they were, and tells what each cost.
///
/// # Errors
/// What the run says; when it did nothing.
pub fn counted(run: impl FnOnce() -> Result<Counted, Failed>) -> Result<Cost, Failed> {
    let (all, count) = cost(1, run);
    match count? {
        0 => Err("nothing was done in the time given".into()),
        count => Ok(Cost {
            cpu_us: all.cpu_us / number(count),
            per_second: all.per_second * number(count),
        }),
    }
}

/// Wall time of one operation, in microseconds.
pub fn wall_us<T>(run: impl FnOnce() -> T) -> (f64, T) {
    let before = Instant::now();
    let result = run();
    (before.elapsed().as_secs_f64() * 1e6, result)
}

/// The middle of some values; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The medians of some costs.
pub fn median_cost(costs: &[Cost]) -> Cost {
    Cost {
        cpu_us: median(costs.iter().map(|c| c.cpu_us).collect()),
        per_second: median(costs.iter().map(|c| c.per_second).collect()),
    }
}

/// The median over the rounds of `this` divided by `that`, each pair measured in the same round.
pub fn median_ratio(this: &[Cost], that: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    median(this.iter().zip(that).map(|(a, b)| of(a) / of(b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn work_costs_cpu_and_waiting_does_not() {
        let (busy, sum) = cost(1, || {
            (0..20_000_000_u64).fold(0, |a, b| std::hint::black_box(a ^ b))
        });
        let (idle, ()) = cost(1, || std::thread::park_timeout(Duration::from_millis(20)));
        assert!(busy.cpu_us > idle.cpu_us, "{busy:?} {idle:?} {sum}");
    }
}
