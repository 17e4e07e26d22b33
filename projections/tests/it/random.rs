//! Whatever happens in whatever order: at most one success stands, every end gets one verdict, nothing that Central
//! writes is impossible, and rows hold exactly what folding gives at every prefix.

use crate::harness::{MINUTE, SECOND, World, apply, load, machine, spec};
use ledger::{Changes, State};
use ledger_core::kinds::{Costs, ErrorClass, Fence, JobId, LimitScope, RateLimit};
use ledger_projections::FleetState;
use ledger_projections::costs::By;
use ledger_projections::queue::{Phase, Standing, decide};
use ledger_projections::table::RunningDigest;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NODES: [&str; 3] = ["gateway", "studio", "mini"];
const HANDLERS: [&str; 4] = ["tidy", "render", "pay", "dream"];

/// One thing that happens: what, to whom, and a choice among its objects.
type Step = (u8, u8, u8);

fn pick<T: Clone>(from: &[T], choice: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(choice) % from.len()].clone())
}

fn held(world: &World, name: &str, wanted: impl Fn(&crate::harness::Held) -> bool) -> Vec<(Fence, JobId)> {
    let node = &world.nodes[name];
    node.held
        .iter()
        .filter(|(_, held)| wanted(held))
        .map(|(fence, held)| (*fence, held.job))
        .collect()
}

/// Somebody who has a claim of that kind, and the claim.
fn find(
    world: &World,
    (who, choice): (u8, u8),
    wanted: impl Fn(&crate::harness::Held) -> bool,
) -> Option<(&'static str, Fence, JobId)> {
    let claims: Vec<_> = NODES
        .into_iter()
        .flat_map(|name| {
            held(world, name, &wanted)
                .into_iter()
                .map(move |(fence, job)| (name, fence, job))
        })
        .collect();
    pick(&claims, who.wrapping_add(choice))
}

fn step(world: &mut World, (what, who, choice): Step) {
    let name = NODES[usize::from(who) % NODES.len()];
    let runs = |h: &crate::harness::Held| h.started && h.ended.is_none();
    match what % 36 {
        0..=2 => submit(world, choice),
        3..=9 => {
            let handler = HANDLERS[usize::from(choice) % 3];
            if choice % 9 == 8 {
                lose_an_answer(world, name, handler);
            } else if world.state.machine(&machine(name)).is_some_and(|m| m.is_online()) {
                world.claim(name, handler);
            }
        }
        10..=13 => {
            if let Some((name, fence, _)) = find(world, (who, choice), |h| !h.started) {
                world.start(name, fence);
                if choice.is_multiple_of(2) {
                    world.push(name);
                }
            }
        }
        14..=16 => {
            if let Some((name, fence, job)) = find(world, (who, choice), runs) {
                world.succeed(name, fence, job, choice % 2);
            }
        }
        17 => {
            if let Some((name, fence, job)) = find(world, (who, choice), runs) {
                world.fail(name, fence, job, ErrorClass::ExitStatus, choice.is_multiple_of(4));
            }
        }
        18 => crash(world, name),
        19..=20 => {
            world.push(name);
        }
        21..=22 => greet(world, name),
        23..=25 => expire_some(world, choice),
        26 => {
            if choice.is_multiple_of(2) {
                world.silence(name);
            } else {
                world.back(name);
            }
        }
        27 => cancel_some(world, choice),
        29..=32 => steer(world, choice),
        33 => crate::nominal_times::step(world, choice),
        28 => {
            let drafts = decide::stand_down(&world.state, &machine(name), world.now, &world.policy).unwrap();
            world.decide(drafts);
        }
        _ => {
            world.now += i64::from(choice) * 3 * SECOND;
            tick(world);
        }
    }
}

fn submit(world: &mut World, choice: u8) {
    let handler = if choice % 11 == 10 {
        "dream"
    } else {
        HANDLERS[usize::from(choice) % 3]
    };
    let mut wanted = spec(handler);
    wanted.priority = i16::from(choice % 3);
    if choice.is_multiple_of(13) {
        wanted.deadline = Some(world.now + 20 * MINUTE);
    }
    if choice.is_multiple_of(7) {
        wanted.unique_key = Some("only".into());
    }
    if choice.is_multiple_of(5) {
        wanted.concurrency_key = Some("disk".into());
    }
    if choice.is_multiple_of(9) {
        wanted.not_before = Some(world.now + i64::from(choice) * SECOND);
    }
    if choice % 4 == 3 {
        let jobs: Vec<JobId> = world.state.jobs().map(|job| job.id).collect();
        wanted.depends_on.extend(pick(&jobs, choice / 2));
        wanted.depends_on.extend(pick(&jobs, choice / 5));
        wanted.hold_on_failed_dependency = choice > 128;
    }
    let project = choice.is_multiple_of(3).then_some("site");
    world.submit_for(wanted, project);
}

/// Somebody does something by hand, and may be refused.
fn steer(world: &mut World, choice: u8) {
    let jobs: Vec<JobId> = world.state.jobs().map(|job| job.id).collect();
    let handler = HANDLERS[usize::from(choice / 8) % 3];
    let (state, now) = (&world.state, world.now);
    let scope = match choice / 16 % 3 {
        0 => LimitScope::Handler(handler.into()),
        1 => LimitScope::Machine(machine(NODES[usize::from(choice / 64) % 3])),
        _ => LimitScope::Key("disk".into()),
    };
    let rate = RateLimit {
        claims: 2,
        period_ms: 30_000,
    };
    let Some(job) = pick(&jobs, choice / 8) else {
        return;
    };
    let drafts = match choice % 8 {
        0 => decide::hold(state, &job, "wait"),
        1 => decide::release(state, &job, now, "go"),
        2 => decide::discard(state, &job, "no"),
        3 if choice > 200 => decide::drain(state, handler, "stale"),
        3 => decide::pause(state, handler, Some(now + MINUTE), now, "lunch"),
        4 => decide::unpause(state, handler, "back"),
        5 => decide::limit(state, &scope, Some(2), None, "enough"),
        6 => decide::limit(state, &scope, None, (choice > 128).then_some(rate), "less"),
        _ => {
            if let Ok(mut wanted) = decide::retry_spec(state, &job) {
                wanted.depends_on.extend(pick(&jobs, choice / 3));
                world.submit(wanted);
            }
            return;
        }
    };
    if let Ok(drafts) = drafts {
        world.decide(drafts);
    }
}

fn expire_some(world: &mut World, choice: u8) {
    let leased: Vec<JobId> = world.state.jobs_in(Phase::Leased).map(|job| job.id).collect();
    if let Some(job) = pick(&leased, choice) {
        let fence = world.state.job(&job).unwrap().lease().unwrap().fence;
        world.expire(job, fence);
    }
}

fn cancel_some(world: &mut World, choice: u8) {
    let jobs: Vec<JobId> = world.state.jobs().map(|job| job.id).collect();
    if let Some(job) = pick(&jobs, choice)
        && let Ok(drafts) = decide::cancel(&world.state, &job, choice.is_multiple_of(3), "why not")
    {
        world.decide(drafts);
    }
}

fn tick(world: &mut World) {
    world.tick();
    for job in decide::failovers_due(&world.state, world.now, false) {
        if let Ok(drafts) = decide::failover(&world.state, &job, world.now, &world.policy, false) {
            world.decide(drafts);
        }
    }
    let watch = ledger_projections::notices::Watch {
        now: world.now,
        since: 0,
    };
    let drafts = ledger_projections::notices::notices_due(&world.state, &watch, &world.policy);
    world.decide(drafts);
}

/// The claim is given and its answer never arrives.
fn lose_an_answer(world: &mut World, name: &str, handler: &str) {
    if let Some((fence, _)) = world.claim(name, handler) {
        world.nodes.get_mut(name).unwrap().held.remove(&fence);
    }
}

/// The daemon dies: what had started is proven dead and reported lost, what had not is forgotten.
fn crash(world: &mut World, name: &str) {
    for (fence, job) in held(world, name, |h| h.started && h.ended.is_none()) {
        world.lose(name, fence, job);
    }
    world
        .nodes
        .get_mut(name)
        .unwrap()
        .held
        .retain(|_, held| held.started);
}

/// The node reports, says hello, and lets go of what has its verdict or is over.
fn greet(world: &mut World, name: &str) {
    world.hello(name);
    for (fence, job) in held(world, name, |h| h.started && h.ended.is_none()) {
        if matches!(
            world.state.standing(&fence),
            Standing::Over | Standing::CancelAsked
        ) {
            world.fail(name, fence, job, ErrorClass::Cancelled, false);
        }
    }
    world.push(name);
    let state = world.state.clone();
    world
        .nodes
        .get_mut(name)
        .unwrap()
        .held
        .retain(|fence, held| match held.ended {
            Some(report) => state.verdict(fence, &report).is_none(),
            None => held.started || state.standing(fence) == Standing::InForce,
        });
}

/// Everybody is back, reports, and works off what is left.
fn heal(world: &mut World) {
    world.policy.losses_max = None;
    let handlers: Vec<String> = world
        .state
        .queue()
        .pauses()
        .map(|(name, _)| name.clone())
        .collect();
    for handler in handlers {
        let drafts = decide::unpause(&world.state, &handler, "all is well").unwrap();
        world.decide(drafts);
    }
    let scopes: Vec<LimitScope> = world
        .state
        .queue()
        .limits()
        .map(|(scope, _)| scope.clone())
        .collect();
    for scope in scopes {
        let drafts = decide::limit(&world.state, &scope, None, None, "all is well").unwrap();
        world.decide(drafts);
    }
    for round in 0..60 {
        let waiting: Vec<JobId> = world.state.jobs_in(Phase::Held).map(|job| job.id).collect();
        for job in waiting {
            if let Ok(drafts) = decide::release(&world.state, &job, world.now, "all is well") {
                world.decide(drafts);
            }
        }
        for name in NODES {
            world.back(name);
            greet(world, name);
            for handler in HANDLERS {
                world.claim(name, handler);
            }
            for (fence, _) in held(world, name, |h| !h.started) {
                world.start(name, fence);
            }
            for (fence, job) in held(world, name, |h| h.started && h.ended.is_none()) {
                world.succeed(name, fence, job, 1);
            }
            greet(world, name);
        }
        world.now += MINUTE;
        tick(world);
        if round > 1
            && world.state.jobs().all(|job| {
                job.phase().is_final() || job.phase() == Phase::Parked || waits_for_a_dead_letter(world, job)
            })
        {
            return;
        }
    }
    let open =
        |job: &&ledger_projections::queue::Job| !job.phase().is_final() && job.phase() != Phase::Parked;
    let left: Vec<_> = world.state.jobs().filter(open).collect();
    panic!("not settled: {left:#?}");
}

/// Held for jobs of which one is a dead letter, or is held so itself.
fn waits_for_a_dead_letter(world: &World, job: &ledger_projections::queue::Job) -> bool {
    let newest = |id: &JobId| world.state.queue().newest_try(id);
    job.phase() == Phase::Held
        && job
            .spec
            .depends_on
            .iter()
            .filter_map(newest)
            .any(|on| on.phase() == Phase::Parked || waits_for_a_dead_letter(world, on))
}

/// Every end that a run reported under a claim of this order is in the sums, once.
fn check_costs(world: &World) {
    use ledger_core::kinds::AnyDetail::{RunFailed, RunSucceeded};
    let ends = world.journal.iter().filter_map(|receipt| {
        let (fence, costs) = match receipt.statement().any_detail() {
            Ok(RunSucceeded(d)) => (d.fence, d.costs),
            Ok(RunFailed(d)) => (d.fence, d.costs),
            _ => return None,
        };
        world.state.verdict(&fence, &receipt.id()).map(|_| costs)
    });
    let ends: Vec<_> = ends.filter(|costs| costs.wall_ms > 0).collect();
    let mut all = ledger_projections::costs::Sums::default();
    for group in world
        .state
        .costs()
        .groups(By::Machine, i32::MIN..=i32::MAX)
        .values()
    {
        all.add(&group.all);
    }
    let told = (all.runs, all.wall_ms, all.tokens);
    let wall_ms = ends.iter().map(|costs| costs.wall_ms).sum();
    let tokens = ends.iter().map(|costs| costs.tokens).sum();
    assert_eq!(
        told,
        (u64::try_from(ends.len()).unwrap(), wall_ms, tokens),
        "every run costs, once"
    );
}

/// A world in which every run costs something.
fn costly() -> World {
    let mut world = World::studio();
    world.costs = Costs {
        wall_ms: 7,
        tokens: 3,
        ..Costs::default()
    };
    world
}

fn check(world: &World) {
    assert_eq!(world.inert(), 0, "Central writes nothing impossible");
    for job in world.state.jobs() {
        let story = world.story(job.id);
        let told = |kind: &str| story.iter().filter(|k| *k == kind).count();
        let ends: usize = [
            "job.succeeded",
            "job.failed",
            "job.cancelled",
            "job.expired",
            "job.discarded",
        ]
        .iter()
        .map(|kind| told(kind))
        .sum();
        assert_eq!(
            ends,
            usize::from(job.phase().is_final()),
            "exactly one final state: {story:?}"
        );
        assert!(told("job.succeeded") <= 1);
        assert_eq!(usize::from(job.attempts), told("job.attempt-failed"));
        assert!(job.attempts <= job.spec.attempts_max);
    }
    check_costs(world);
    for receipt in &world.journal {
        if let Ok(detail) = receipt.statement().any_detail() {
            use ledger_core::kinds::AnyDetail::{RunFailed, RunLost, RunSucceeded};
            let fence = match detail {
                RunSucceeded(d) => d.fence,
                RunFailed(d) => d.fence,
                RunLost(d) => d.fence,
                _ => continue,
            };
            assert!(
                world.state.verdict(&fence, &receipt.id()).is_some(),
                "{} without a verdict",
                receipt.kind()
            );
        }
    }
}

fn rebuilt(world: &World) -> (FleetState, RunningDigest) {
    let mut state = FleetState::empty(&world.context);
    let (mut digest, mut rows) = (RunningDigest::default(), BTreeMap::new());
    for receipt in &world.journal {
        let mut changes = Changes::recording();
        state.fold(receipt, &mut changes);
        let changes = changes.take();
        digest.absorb(&changes);
        apply(&mut rows, &changes);
    }
    assert_eq!(rows, world.rows);
    (state, digest)
}

/// What a machine's store knows that has only these logs, in this order.
fn store(world: &World, name: &str, passes: &[&[ledger_core::LogId]]) -> FleetState {
    let (machine, machine_key) = (machine(name), world.nodes[name].key.public());
    let mut state = FleetState::empty(&ledger::StateContext {
        fleet: world.fleet,
        machine,
        machine_key,
    });
    for logs in passes {
        for receipt in world.journal.iter().filter(|r| logs.contains(&r.log())) {
            state.fold(receipt, &mut Changes::discarding());
        }
    }
    state
}

/// Few in the ordinary run; `PROPTEST_CASES=20000 cargo test -p ledger-projections --test it random` for as many as one likes.
fn cases(ordinary: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(ordinary),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..most)
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn at_most_one_success_stands_and_every_end_has_its_verdict(steps in steps(300)) {
        let mut world = costly();
        for one in steps {
            step(&mut world, one);
        }
        check(&world);
        heal(&mut world);
        check(&world);
        prop_assert_eq!(world.state.runs().count(), 0, "the gateway's own runs are all judged");
        let mirror = store(&world, "mini", &[&[world.order]]);
        prop_assert!(mirror.queue() == world.state.queue(), "the order alone has the whole truth about jobs");
        let (order, work) = (world.order, world.nodes["studio"].logs[0]);
        for passes in [vec![&[order, work][..]], vec![&[order][..], &[work][..]], vec![&[work][..], &[order][..]]] {
            let studio = store(&world, "studio", &passes);
            prop_assert_eq!(studio.runs().count(), 0, "a node knows every verdict on its runs");
            prop_assert!(studio.queue() == world.state.queue());
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn rows_of_every_prefix_load_into_the_folded_state_and_rebuilding_equals_folding_along(steps in steps(120)) {
        let mut world = costly();
        world.check_every_prefix = true;
        for one in steps {
            step(&mut world, one);
        }
        let (state, digest) = rebuilt(&world);
        prop_assert_eq!(&state, &world.state);
        prop_assert_eq!(digest, world.digest);
        prop_assert_eq!(load(&world.context, &world.rows), state);
    }
}
