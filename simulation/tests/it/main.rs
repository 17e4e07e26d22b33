//! The simulation as part of the ordinary tests: some seeds hold, what once failed holds, and it notices a rule that is taken away.
//!
//! The many seeds are the release build's: `.ci/run`, and `docs/ARCHITECTURE.md`, "Larger runs".

use ledger_simulation::{Control, Options, simulate, simulate_all};

/// Seeds that once broke an invariant, each with the fault that it found. They say nothing special any more once the schedule of a
/// seed changes, and cost little.
const REGRESSIONS: [(u64, &str); 2] = [
    (
        18,
        "a hello that was held up on its way took an exclusive job from the machine that ran it",
    ),
    (
        15,
        "a clock a day ahead on a node moved the gateway's hybrid clock (of the simulated engine)",
    ),
];

#[test]
fn seeds_of_every_kind_of_fault_hold() {
    let options = Options {
        minutes: 10,
        ..Options::default()
    };
    let reports = simulate_all(options, 24).unwrap_or_else(|failure| panic!("{failure}"));
    let jobs: usize = reports.iter().map(|report| report.succeeded).sum();
    let faults: u64 = reports.iter().map(|report| report.faults).sum();
    assert!(
        jobs > 300 && faults > 200,
        "{jobs} jobs, {faults} faults: nothing happened"
    );
}

#[test]
fn what_once_failed_holds() {
    for (seed, found) in REGRESSIONS {
        let options = Options {
            seed,
            ..Options::default()
        };
        if let Err(failure) = simulate(options) {
            panic!("{found}: {failure}");
        }
    }
}

#[test]
fn a_seed_is_one_schedule() {
    let options = Options {
        seed: 3,
        minutes: 5,
        ..Options::default()
    };
    let told = |options| simulate(options).map_err(|failure| failure.to_string());
    assert_eq!(told(options), told(options));
}

#[test]
fn a_rule_that_is_taken_away_is_noticed_and_the_seed_tells_how_to_replay_it() {
    for control in [
        Control::AckBeforeSync,
        Control::NoFenceCheck,
        Control::ChargeLosses,
        Control::HastyExclusive,
    ] {
        let options = Options {
            control,
            ..Options::default()
        };
        let failure = simulate_all(options, 60).expect_err(control.as_str());
        assert!(
            failure
                .to_string()
                .contains(&format!("--control {}", control.as_str()))
        );
        let again = simulate(failure.options).expect_err("the same seed fails again");
        assert_eq!((again.at_us, again.text), (failure.at_us, failure.text));
    }
}
