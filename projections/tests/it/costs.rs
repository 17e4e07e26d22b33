//! Every run costs, whatever became of it, and the sums say of whom, where, when and to what end.

use crate::harness::{MINUTE, World, spec};
use ledger_core::kinds::{Costs, ErrorClass, Fence, JobId, Money, RunCharged};
use ledger_projections::costs::{By, Group, Outcome, day_text};
use ledger_projections::queue::{Phase, decide};
use std::collections::BTreeMap;

const ALL: std::ops::RangeInclusive<i32> = i32::MIN..=i32::MAX;

fn world() -> World {
    let mut world = World::studio();
    world.costs = Costs {
        wall_ms: 100,
        cpu_ms: 40,
        peak_memory_bytes: 1 << 20,
        tokens: 5,
        usd_micros: 1_000,
    };
    world
}

fn groups(world: &World, by: By) -> BTreeMap<String, Group> {
    world.state.costs().groups(by, ALL)
}

/// How many runs had each outcome.
fn runs(group: &Group) -> Vec<(Outcome, u64)> {
    group
        .by_outcome
        .iter()
        .map(|(outcome, sums)| (*outcome, sums.runs))
        .collect()
}

fn begin(world: &mut World, name: &str, handler: &str) -> (Fence, JobId) {
    let (fence, job) = world.must_claim(name, handler);
    world.start(name, fence);
    world.push(name);
    (fence, job)
}

#[test]
fn each_attempt_costs_and_sums_are_by_handler_machine_project_and_day() {
    let mut world = world();
    world.submit_for(spec("tidy"), Some("site"));
    let (fence, job) = begin(&mut world, "gateway", "tidy");
    world.fail("gateway", fence, job, ErrorClass::ExitStatus, false);
    world.push("gateway");
    world.now += 24 * 60 * MINUTE;
    world.tick();
    let (fence, job) = begin(&mut world, "gateway", "tidy");
    world.succeed("gateway", fence, job, 1);
    world.push("gateway");
    world.submit(spec("pay"));
    let (fence, job) = begin(&mut world, "studio", "pay");
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    let handlers = groups(&world, By::Handler);
    let tidy = &handlers["tidy"];
    assert_eq!(runs(tidy), [(Outcome::Succeeded, 1), (Outcome::Failed, 1)]);
    assert_eq!(
        (tidy.all.wall_ms, tidy.all.cpu_ms, tidy.all.tokens),
        (200, 80, 10)
    );
    assert_eq!(tidy.all.peak_memory_bytes, 1 << 20, "a peak is no sum");
    assert_eq!(tidy.all.money["USD"], 2_000);
    let machines = groups(&world, By::Machine);
    assert_eq!(
        (machines["gateway"].all.runs, machines["studio"].all.runs),
        (2, 1)
    );
    let projects = groups(&world, By::Project);
    assert_eq!((projects["site"].all.runs, projects[""].all.runs), (2, 1));
    let today = ledger_projections::costs::day_of(world.now);
    let days = groups(&world, By::Day);
    assert_eq!(days[&day_text(today - 1)].all.runs, 1);
    assert_eq!(days[&day_text(today)].all.runs, 2);
    assert_eq!(world.state.costs().groups(By::Day, today..=today).len(), 1);
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_late_success_is_adopted_a_second_one_is_late_and_both_cost() {
    let mut world = world();
    let job = world.submit(spec("render"));
    let (old, _) = begin(&mut world, "studio", "render");
    world.succeed("studio", old, job, 1);
    world.expire(job, old);
    world.now += 6 * MINUTE;
    world.silence("studio");
    let drafts = decide::failover(&world.state, &job, world.now, &world.policy, false).unwrap();
    world.decide(drafts);
    let (new, _) = begin(&mut world, "mini", "render");
    world.push("studio");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Succeeded);
    world.succeed("mini", new, job, 1);
    world.push("mini");
    let render = &groups(&world, By::Handler)["render"];
    assert_eq!(runs(render), [(Outcome::Adopted, 1), (Outcome::Late, 1)]);
    assert_eq!(groups(&world, By::Machine)["mini"].all.cpu_ms, 40);
}

#[test]
fn a_run_that_was_told_to_stop_costs_too() {
    let mut world = world();
    let job = world.submit(spec("render"));
    let (fence, _) = begin(&mut world, "studio", "render");
    let drafts = decide::cancel(&world.state, &job, false, "no").unwrap();
    world.decide(drafts);
    world.fail("studio", fence, job, ErrorClass::Cancelled, false);
    world.push("studio");
    let render = &groups(&world, By::Handler)["render"];
    assert_eq!(runs(render), [(Outcome::Stopped, 1)]);
}

#[test]
fn money_of_other_currencies_joins_its_run_and_is_never_added_to_dollars() {
    let mut world = world();
    let job = world.submit(spec("tidy"));
    let (fence, _) = begin(&mut world, "gateway", "tidy");
    world.succeed("gateway", fence, job, 1);
    let money = |currency: &str| {
        vec![Money {
            currency: currency.into(),
            micros: 500,
        }]
    };
    for currency in ["EUR", "euro"] {
        let money = money(currency);
        world.work("gateway", &RunCharged { job, fence, money });
    }
    world.push("gateway");
    let tidy = &groups(&world, By::Handler)["tidy"];
    assert_eq!(runs(tidy), [(Outcome::Succeeded, 1)], "one run");
    let kept = BTreeMap::from([("EUR".to_owned(), 500), ("USD".to_owned(), 1_000)]);
    assert_eq!(tidy.all.money, kept, "what is no currency is inadmissible");
}

#[test]
fn a_report_under_a_claim_that_was_never_given_is_not_believed() {
    let mut world = world();
    let job = world.submit(spec("tidy"));
    let (fence, _) = begin(&mut world, "gateway", "tidy");
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert!(groups(&world, By::Handler).is_empty());
}

#[test]
fn a_retry_is_of_the_project_of_what_it_retries() {
    let mut world = world();
    let job = world.submit_for(spec("nobody-declares-this"), Some("site"));
    let again = decide::retry_spec(&world.state, &job).unwrap();
    let again = world.submit(again);
    assert_eq!(world.state.costs().project(&again), Some("site"));
}
