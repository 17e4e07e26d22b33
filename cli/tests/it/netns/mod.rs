//! The real binary on machines with networks of their own, while cables, processes and packets fail. A checker compares what clients
//! were told with what the logs say ([`fleet::Fleet::settle`]).
//!
//! Needs root, iproute2 and nftables; without them each says loudly that it was skipped, and fails where `CI` is set. Four run always,
//! the others with `LEDGER_NETNS=all`. Times are scaled: a machine is lost after 0.8 s, so that 5 s of silence are like six minutes.

mod fleet;
mod world;

use fleet::Fleet;
use std::time::Duration;

// Time that a fault lasts is part of the fault, not a wait for something.
fn for_a_while(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn is_wanted() -> bool {
    let all = std::env::var("LEDGER_NETNS").as_deref() == Ok("all");
    if !all {
        eprintln!("not run: LEDGER_NETNS=all runs it");
    }
    all
}

#[test]
fn a_machine_that_is_cut_off_both_ways_goes_on_and_catches_up() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    fleet.until_status("studio", "online");
    fleet.world.cut("studio");
    fleet.until_status("studio", "offline");
    let before = fleet.acknowledged();
    for_a_while(3000);
    assert!(
        fleet.acknowledged() > before,
        "every machine takes requests meanwhile"
    );
    fleet.world.heal("studio");
    fleet.until_status("studio", "online");
    fleet.settle();
}

#[test]
fn a_link_that_carries_only_one_way_loses_and_doubles_nothing() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    for _ in 0..2 {
        // What studio says arrives, and it never hears that it did.
        fleet.world.deafen("studio");
        for_a_while(1500);
        fleet.world.heal("studio");
        fleet.until_status("studio", "online");
        // It hears, and nobody hears it.
        fleet.world.mute("studio");
        fleet.until_status("studio", "offline");
        for_a_while(500);
        fleet.world.heal("studio");
        fleet.until_status("studio", "online");
    }
    fleet.settle();
}

#[test]
fn a_gateway_that_is_killed_for_long_finds_everything_that_was_taken_in_meanwhile() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    fleet.until_status("studio", "online");
    for_a_while(500);
    fleet.kill("gateway");
    let before = fleet.acknowledged();
    for_a_while(5000);
    assert!(fleet.acknowledged() > before, "the nodes take requests meanwhile");
    fleet.start("gateway");
    for machine in ["studio", "mini"] {
        fleet.until_status(machine, "online");
    }
    for_a_while(500);
    fleet.settle();
}

#[test]
fn a_node_that_is_killed_in_any_state_of_a_job_neither_loses_nor_doubles_it() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.until_status("studio", "online");

    // Ready: nobody is there to run it.
    fleet.kill("studio");
    let ready = fleet.step();
    fleet.until("gateway", "job.accepted", &ready);
    fleet.let_go(true);
    fleet.start("studio");
    fleet.until("gateway", "job.succeeded", &ready);
    assert_eq!(fleet.runs_count(), 1);

    // Claimed: the answer that gives it the job never arrives. Tried again while its question was not on its way just then.
    let lost = (0..20).any(|_| {
        fleet.until_status("studio", "online");
        for_a_while(300);
        let runs = fleet.runs_count();
        fleet.world.deafen("studio");
        let claimed = fleet.step();
        let lost = fleet.comes_to("gateway", "job.claimed", &claimed, Duration::from_secs(2));
        if lost {
            fleet.kill("studio");
        }
        fleet.world.heal("studio");
        if lost {
            fleet.start("studio");
        }
        fleet.until("gateway", "job.succeeded", &claimed);
        assert_eq!(fleet.runs_count(), runs + 1, "it never started before");
        lost
    });
    assert!(lost, "no answer to a claim was ever lost");

    // Started, and past its first checkpoint.
    for kind in ["job.started", "job.checkpointed"] {
        fleet.let_go(false);
        let runs = fleet.runs_count();
        let job = fleet.step();
        fleet.until("gateway", kind, &job);
        fleet.kill("studio");
        fleet.let_go(true);
        fleet.start("studio");
        fleet.until("gateway", "job.succeeded", &job);
        assert!(
            fleet.runs_count() <= runs + 2,
            "one that was lost, one that succeeded"
        );
    }

    // Reporting: the run is over, and nobody has heard of it.
    fleet.let_go(false);
    let runs = fleet.runs_count();
    let reporting = fleet.step();
    fleet.until("gateway", "job.checkpointed", &reporting);
    fleet.world.cut("studio");
    fleet.let_go(true);
    fleet.until("studio", "run.succeeded", &reporting);
    fleet.kill("studio");
    fleet.until_status("studio", "offline");
    fleet.world.heal("studio");
    fleet.start("studio");
    fleet.until("gateway", "job.succeeded", &reporting);
    assert_eq!(
        fleet.runs_count(),
        runs + 1,
        "its result was taken late, it did not run again"
    );
    fleet.settle();
}

#[test]
fn a_cable_that_flaps_loses_and_doubles_nothing() {
    if !is_wanted() {
        return;
    }
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    for turn in 0..20 {
        fleet.world.plug("studio", false);
        for_a_while(100 + 40 * (turn % 5));
        fleet.world.plug("studio", true);
        for_a_while(300 - 40 * (turn % 5));
    }
    fleet.until_status("studio", "online");
    fleet.settle();
}

#[test]
fn a_slow_link_that_loses_a_tenth_of_all_packets_carries_everything_in_the_end() {
    if !is_wanted() {
        return;
    }
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.world.slow_and_lossy("studio", 10);
    fleet.load();
    for_a_while(15_000);
    fleet.world.heal("studio");
    fleet.settle();
}

#[test]
fn both_nodes_and_the_gateway_fail_one_after_the_other() {
    if !is_wanted() {
        return;
    }
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    for _ in 0..3 {
        fleet.world.cut("mini");
        fleet.kill("studio");
        for_a_while(1200);
        fleet.kill("gateway");
        fleet.start("studio");
        for_a_while(1200);
        fleet.world.heal("mini");
        fleet.start("gateway");
        for machine in ["studio", "mini"] {
            fleet.until_status(machine, "online");
        }
    }
    fleet.settle();
}

#[test]
fn an_old_copy_of_the_gateway_that_is_put_back_decides_nothing_that_the_fleet_has_decided_otherwise() {
    if !is_wanted() {
        return;
    }
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.load();
    fleet.until_status("studio", "online");
    for_a_while(1000);
    fleet.kill("gateway");
    fleet.copy("gateway", "old");
    fleet.start("gateway");
    fleet.until_status("studio", "online");
    for_a_while(1500);
    // What is told as local alone may die with the only disk that has it: everything is elsewhere before the copy comes.
    fleet.pause();
    fleet.until_mirrored();
    fleet.kill("gateway");
    fleet.copy("gateway", "newest");
    fleet.copy("old", "gateway");
    fleet.start("gateway");
    // Clients ask at once: what an old copy acknowledges must stand afterwards.
    fleet.load();
    let is_frozen = fleet.is_frozen_or_serves();
    for_a_while(1500);
    if is_frozen {
        fleet.kill("gateway");
        fleet.copy("newest", "gateway");
        fleet.start("gateway");
    }
    for_a_while(1000);
    for machine in ["studio", "mini"] {
        fleet.until_status(machine, "online");
    }
    fleet.settle();
}
