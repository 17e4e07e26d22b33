//! Claims are given by points of priority and age, and within every limit and pause.

use crate::harness::{MINUTE, SECOND, World, machine, spec};
use ledger_core::kinds::{JobSpec, LimitScope, RateLimit};
use ledger_projections::queue::{Answer, Phase, Phases, answer_for, decide};

fn prior(priority: i16) -> JobSpec {
    JobSpec {
        priority,
        ..spec("render")
    }
}

fn limit(world: &mut World, scope: &LimitScope, running_max: Option<u32>, rate: Option<RateLimit>) {
    let drafts = decide::limit(&world.state, scope, running_max, rate, "so it is").unwrap();
    world.decide(drafts);
}

fn end(world: &mut World, (fence, job): (ledger_core::kinds::Fence, ledger_core::kinds::JobId)) {
    let name = world.state.fence(&fence).unwrap().machine.as_str().to_owned();
    world.start(&name, fence);
    world.succeed(&name, fence, job, 1);
    world.push(&name);
}

#[test]
fn a_job_of_low_priority_overtakes_in_the_end_because_it_ages() {
    let mut world = World::studio();
    let low = world.submit(prior(0));
    world.now += 9 * MINUTE;
    let high = world.submit(prior(10));
    assert_eq!(
        world.must_claim("studio", "render").1,
        high,
        "9 points of age against 10 of priority"
    );
    let high = world.submit(prior(10));
    world.now += 2 * MINUTE;
    let newer = world.submit(prior(10));
    // 11 points against 12 of the one that waited two minutes, and 10 of the newest.
    assert_eq!(world.must_claim("studio", "render").1, high);
    assert_eq!(world.must_claim("studio", "render").1, low);
    assert_eq!(world.must_claim("studio", "render").1, newer);
}

#[test]
fn age_gives_no_more_than_its_cap_and_equal_points_go_to_the_oldest() {
    let mut world = World::studio();
    world.policy.ageing_points_max = 5;
    let old = world.submit(prior(0));
    world.now += 60 * MINUTE;
    let six = world.submit(prior(6));
    let five = world.submit(prior(5));
    let order: Vec<_> = (0..3).map(|_| world.must_claim("studio", "render").1).collect();
    assert_eq!(order, [six, old, five]);
}

#[test]
fn a_scheduled_job_ages_from_its_own_time_on() {
    let mut world = World::studio();
    let scheduled = world.submit(JobSpec {
        not_before: Some(world.now + 60 * MINUTE),
        ..prior(0)
    });
    world.now += 60 * MINUTE;
    world.tick();
    let fresh = world.submit(prior(1));
    assert_eq!(world.must_claim("studio", "render").1, fresh);
    assert_eq!(world.must_claim("studio", "render").1, scheduled);
}

#[test]
fn nothing_ages_when_the_period_is_zero() {
    let mut world = World::studio();
    world.policy.ageing_every_ms = 0;
    world.submit(prior(0));
    world.now += 6000 * MINUTE;
    let high = world.submit(prior(1));
    assert_eq!(world.must_claim("studio", "render").1, high);
}

#[test]
fn a_unique_key_is_held_in_the_states_that_the_policy_names() {
    let mut world = World::studio();
    let wanted = JobSpec {
        unique_key: Some("nightly".into()),
        ..spec("render")
    };
    let first = world.submit(wanted.clone());
    let second = world.submit(wanted.clone());
    assert_eq!(world.state.job(&second).unwrap().phase(), Phase::Cancelled);
    // Only while it waits: one may run and one wait.
    world.policy.unique_over = Phases::of(&[Phase::Held, Phase::Scheduled, Phase::Ready, Phase::Backoff]);
    assert_eq!(world.must_claim("studio", "render").1, first);
    let third = world.submit(wanted.clone());
    assert_eq!(world.state.job(&third).unwrap().phase(), Phase::Ready);
    let refusal = decide::check_spec(&world.state, &wanted, &world.policy).unwrap_err();
    assert!(refusal.to_string().contains(&third.to_string()), "{refusal}");
}

#[test]
fn a_handlers_limit_counts_all_machines_and_what_is_suspect() {
    let mut world = World::studio();
    limit(&mut world, &LimitScope::Handler("pay".into()), Some(2), None);
    for _ in 0..4 {
        world.submit(spec("pay"));
    }
    let first = world.must_claim("studio", "pay");
    let second = world.must_claim("mini", "pay");
    assert!(world.claim("mini", "pay").is_none() && world.claim("studio", "pay").is_none());
    world.start("mini", second.0);
    world.push("mini");
    world.expire(second.1, second.0);
    assert!(
        world.claim("studio", "pay").is_none(),
        "nobody knows that it stopped"
    );
    end(&mut world, first);
    assert!(world.claim("studio", "pay").is_some());
    assert!(world.claim("studio", "pay").is_none());
}

#[test]
fn a_machines_limit_counts_all_its_handlers() {
    let mut world = World::studio();
    limit(&mut world, &LimitScope::Machine(machine("studio")), Some(1), None);
    world.submit(spec("pay"));
    world.submit(spec("render"));
    let first = world.must_claim("studio", "render");
    assert!(world.claim("studio", "pay").is_none());
    assert!(
        world.claim("mini", "pay").is_some(),
        "other machines are not concerned"
    );
    end(&mut world, first);
    world.submit(spec("pay"));
    assert!(world.claim("studio", "pay").is_some());
}

#[test]
fn one_job_of_a_concurrency_key_runs_at_once_unless_a_limit_says_otherwise() {
    let mut world = World::studio();
    let keyed = JobSpec {
        concurrency_key: Some("disk".into()),
        ..spec("pay")
    };
    for _ in 0..3 {
        world.submit(keyed.clone());
    }
    let free = world.submit(spec("pay"));
    let first = world.must_claim("studio", "pay");
    assert_eq!(
        world.must_claim("mini", "pay").1,
        free,
        "what has no key goes past"
    );
    assert!(world.claim("studio", "pay").is_none());
    limit(&mut world, &LimitScope::Key("disk".into()), Some(2), None);
    assert!(world.claim("studio", "pay").is_some());
    assert!(world.claim("studio", "pay").is_none());
    end(&mut world, first);
    assert!(world.claim("mini", "pay").is_some());
    assert_eq!(world.state.queue().running(&LimitScope::Key("disk".into())), 2);
}

#[test]
fn a_rate_admits_a_burst_of_its_count_and_then_one_by_one_evenly() {
    let mut world = World::studio();
    let rate = RateLimit {
        claims: 3,
        period_ms: 60_000,
    };
    limit(
        &mut world,
        &LimitScope::Handler("render".into()),
        None,
        Some(rate),
    );
    for _ in 0..10 {
        world.submit(spec("render"));
    }
    let burst = (0..10).map_while(|_| world.claim("studio", "render")).count();
    assert_eq!(burst, 3);
    world.now += 19 * SECOND;
    assert!(world.claim("studio", "render").is_none());
    world.now += SECOND;
    assert!(world.claim("studio", "render").is_some());
    assert!(world.claim("studio", "render").is_none());
    world.now += 10 * MINUTE;
    let burst = (0..10).map_while(|_| world.claim("studio", "render")).count();
    assert_eq!(burst, 3, "silence saves up no more than one period");
}

#[test]
fn a_limit_without_bounds_is_lifted_and_nonsense_is_refused() {
    let mut world = World::studio();
    let scope = LimitScope::Handler("render".into());
    limit(&mut world, &scope, Some(1), None);
    assert_eq!(
        decide::limit(&world.state, &scope, Some(1), None, "again").unwrap(),
        []
    );
    for _ in 0..2 {
        world.submit(spec("render"));
    }
    world.must_claim("studio", "render");
    assert!(world.claim("studio", "render").is_none());
    limit(&mut world, &scope, None, None);
    assert!(world.claim("studio", "render").is_some());
    let none = RateLimit {
        claims: 0,
        period_ms: 1,
    };
    for (running_max, rate) in [(Some(0), None), (None, Some(none))] {
        let refusal = decide::limit(&world.state, &scope, running_max, rate, "").unwrap_err();
        assert_eq!(refusal.code(), "queue.steering");
    }
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_paused_handler_gives_nothing_out_until_it_is_resumed_and_what_runs_goes_on() {
    let mut world = World::studio();
    let running = {
        world.submit(spec("render"));
        world.must_claim("studio", "render")
    };
    let drafts = decide::pause(&world.state, "render", None, world.now, "new disk").unwrap();
    world.decide(drafts);
    assert_eq!(
        decide::pause(&world.state, "render", None, world.now, "new disk").unwrap(),
        []
    );
    let job = world.submit(spec("render"));
    assert!(world.claim("studio", "render").is_none());
    let answer = answer_for(&world.state, &job).unwrap();
    assert!(matches!(answer, Answer::Paused { .. }));
    assert_eq!(
        answer.to_string(),
        "queued, while handler \"render\" is paused: new disk"
    );
    end(&mut world, running);
    let drafts = decide::unpause(&world.state, "render", "done").unwrap();
    world.decide(drafts);
    assert!(world.claim("studio", "render").is_some());
    assert_eq!(decide::unpause(&world.state, "render", "done").unwrap(), []);
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_pause_with_an_end_is_ended_by_the_ticker_with_a_receipt() {
    let mut world = World::studio();
    let until = world.now + 5 * MINUTE;
    let drafts = decide::pause(&world.state, "render", Some(until), world.now, "lunch").unwrap();
    world.decide(drafts);
    world.submit(spec("render"));
    world.now = until - 1;
    assert_eq!(world.tick(), []);
    assert!(world.claim("studio", "render").is_none());
    world.now = until;
    let told = world.tick();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind(), "handler.resumed");
    assert!(world.claim("studio", "render").is_some());
    assert!(decide::pause(&world.state, "render", Some(until), world.now, "late").is_err());
    assert!(
        decide::pause(&world.state, "render", None, world.now, "").is_err(),
        "a reason is needed"
    );
}

#[test]
fn a_rate_that_is_corrected_counts_what_was_given_and_keeps_nobody_waiting_for_the_old_one() {
    let mut world = World::studio();
    let scope = LimitScope::Handler("render".into());
    let rate = |claims, period_ms| Some(RateLimit { claims, period_ms });
    // A day was typed where a minute was meant.
    limit(&mut world, &scope, None, rate(1, 24 * 3_600_000));
    for _ in 0..5 {
        world.submit(spec("render"));
    }
    world.must_claim("studio", "render");
    world.now += MINUTE;
    assert!(world.claim("studio", "render").is_none());
    limit(&mut world, &scope, None, rate(1, 60_000));
    assert!(
        world.claim("studio", "render").is_none(),
        "what was given counts on"
    );
    world.now += MINUTE + SECOND;
    assert!(world.claim("studio", "render").is_some());
    assert!(world.claim("studio", "render").is_none());
}

#[test]
fn what_time_alone_lets_through_is_told_to_whoever_waits_for_it() {
    let mut world = World::studio();
    let opens = |world: &World| {
        let handlers = ["render", "tidy"].into_iter();
        decide::opens_at(&world.state, &machine("studio"), handlers, world.now)
    };
    assert_eq!(opens(&world), None);
    let scope = LimitScope::Handler("render".into());
    let rate = RateLimit {
        claims: 1,
        period_ms: 10_000,
    };
    limit(&mut world, &scope, None, Some(rate));
    world.submit(prior(0));
    world.submit(prior(0));
    assert_eq!(opens(&world), None, "the first may be claimed now");
    world.must_claim("studio", "render");
    assert_eq!(opens(&world), Some(world.now + 10 * SECOND));
    // A pause that ends sooner does not count before the rate does; whoever wakes for it asks again.
    let drafts = decide::pause(&world.state, "render", Some(world.now + SECOND), world.now, "x").unwrap();
    world.decide(drafts);
    assert_eq!(opens(&world), Some(world.now + SECOND));
    world.now += 10 * SECOND;
    assert_eq!(opens(&world), None);
    world.must_claim("studio", "render");
    assert_eq!(opens(&world), None, "nothing of it waits any more");
}
