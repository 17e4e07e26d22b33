//! `simulate`: many seeds, or one of them with its story.

use clap::Parser;
use ledger_simulation::{Control, Options, simulate, simulate_all};
use std::process::ExitCode;
use std::time::Instant;

/// Simulates the fleet: a gateway, three nodes, faults. A seed that fails prints the line that replays it.
#[derive(Parser)]
struct Args {
    /// The seed; the first one with --seeds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Simulated minutes of faults and load.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Print what happens in a single seed.
    #[arg(long)]
    trace: bool,
    /// Take a rule away; the simulation must then fail.
    #[arg(long, default_value = "none")]
    control: String,
    /// Take each rule away in turn; fails unless each is noticed within the seeds given.
    #[arg(long)]
    controls: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(control) = Control::parse(&args.control) else {
        let names: Vec<&str> = Control::ALL.into_iter().map(Control::as_str).collect();
        eprintln!("--control {}: one of none, {}", args.control, names.join(", "));
        return ExitCode::from(2);
    };
    let options = Options {
        seed: args.seed,
        minutes: args.minutes,
        control,
        trace: args.trace && args.seeds == 1,
    };
    if args.controls {
        return controls(options, args.seeds);
    }
    let begun = Instant::now();
    let outcome = match args.seeds {
        1 => simulate(options).map(|report| vec![report]),
        seeds => simulate_all(options, seeds),
    };
    let reports = match outcome {
        Ok(reports) => reports,
        Err(failure) => {
            for line in &failure.trace {
                println!("{line}");
            }
            println!("{failure}");
            return ExitCode::FAILURE;
        }
    };
    let sum = |of: fn(&ledger_simulation::Report) -> u64| reports.iter().map(of).sum::<u64>();
    let longest = reports.iter().map(|report| report.rest_us).max().unwrap_or(0);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds of {} minutes held: {} events, {} faults, {} jobs, {} succeeded, {} runs, {} late results, {} receipts",
        reports.len(),
        args.minutes,
        sum(|report| report.steps),
        sum(|report| report.faults),
        sum(|report| u64::try_from(report.jobs).unwrap_or(u64::MAX)),
        sum(|report| u64::try_from(report.succeeded).unwrap_or(u64::MAX)),
        sum(|report| u64::try_from(report.runs).unwrap_or(u64::MAX)),
        sum(|report| report.late),
        sum(|report| u64::try_from(report.receipts).unwrap_or(u64::MAX)),
    );
    println!(
        "longest rest {} s after the last fault; {seconds:.1} s, {:.1} seeds/s",
        longest / 1_000_000,
        f64::from(u32::try_from(reports.len()).unwrap_or(u32::MAX)) / seconds
    );
    ExitCode::SUCCESS
}

fn controls(options: Options, seeds: u64) -> ExitCode {
    let mut noticed = true;
    for control in Control::ALL {
        let options = Options { control, ..options };
        match simulate_all(options, seeds) {
            Err(failure) => println!("noticed {}: {failure}", control.as_str()),
            Ok(_) => {
                noticed = false;
                println!("NOT NOTICED within {seeds} seeds: {}", control.as_str());
            }
        }
    }
    if noticed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
