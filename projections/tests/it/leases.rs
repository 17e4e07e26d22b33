//! Leases end, resume and are lost as the class says; cancellation ends them on demand.

use crate::harness::{MINUTE, World, machine, nothing_held, spec};
use ledger_core::kinds::{ErrorClass, Fence, ParkedReason};
use ledger_projections::queue::{JobState, Phase, RunVerdict, Standing, decide, decide::Holds};

#[test]
fn a_machine_that_is_back_before_a_backup_claimed_goes_on_under_the_same_fence() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    world.fail_over(job);
    assert_eq!(world.state.standing(&fence), Standing::Released);
    world.hello("studio");
    assert_eq!(world.state.standing(&fence), Standing::InForce);
    assert!(world.claim("mini", "render").is_none());
}

#[test]
fn a_machine_that_is_back_resumes_what_is_suspect() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "pay");
    world.expire(job, fence);
    world.hello("studio");
    let lease = world.state.job(&job).unwrap().lease().cloned().unwrap();
    assert!(lease.fence == fence && lease.started);
    assert_eq!(world.hello("studio"), [], "hello again changes nothing");
}

#[test]
fn a_claim_that_is_not_held_and_never_started_is_ready_again_uncharged() {
    let mut world = World::studio();
    world.submit(spec("pay"));
    let (_, job) = world.must_claim("studio", "pay");
    world.nodes.get_mut("studio").unwrap().held.clear();
    world.hello("studio");
    let job = world.state.job(&job).unwrap();
    assert_eq!((job.phase(), job.losses, job.attempts), (Phase::Ready, 0, 0));
}

#[test]
fn a_claim_that_is_not_held_and_had_started_is_a_loss() {
    let mut world = World::studio();
    let (_, job) = world.running("studio", "render");
    world.nodes.get_mut("studio").unwrap().held.clear();
    world.hello("studio");
    let job = world.state.job(&job).unwrap();
    assert_eq!((job.phase(), job.losses, job.attempts), (Phase::Ready, 1, 0));
}

#[test]
fn a_job_that_kills_machines_is_parked_when_its_losses_are_used_up() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    for _ in 0..=3 {
        let (fence, _) = world.must_claim("studio", "render");
        world.start("studio", fence);
        world.lose("studio", fence, job);
        world.push("studio");
    }
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Parked(ParkedReason::LossesUsedUp)
    );
    assert_eq!(world.state.notices().count(), 1);
    assert_eq!(
        world.state.job(&job).unwrap().attempts,
        0,
        "infrastructure is never charged as an attempt"
    );
}

#[test]
fn with_the_cap_lifted_losses_never_park() {
    let mut world = World::studio();
    world.policy.losses_max = None;
    let job = world.submit(spec("render"));
    for _ in 0..20 {
        let (fence, _) = world.must_claim("studio", "render");
        world.start("studio", fence);
        world.lose("studio", fence, job);
        world.push("studio");
    }
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Ready);
}

#[test]
fn an_exclusive_run_that_is_lost_waits_for_a_person() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "pay");
    world.expire(job, fence);
    assert_eq!(decide::failovers_due(&world.state, i64::MAX, false), []);
    let report = world.lose("studio", fence, job);
    world.push("studio");
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Parked(ParkedReason::ExclusiveLost)
    );
    assert_eq!(world.state.verdict(&fence, &report.id()), Some(RunVerdict::Loss));
    assert!(world.claim("mini", "pay").is_none());
}

#[test]
fn a_second_failover_parks_the_job() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    world.fail_over(job);
    let (fence, _) = world.must_claim("mini", "render");
    world.start("mini", fence);
    world.push("mini");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    world.fail_over(job);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Parked);
}

#[test]
fn a_lease_expires_once_and_only_under_the_fence_in_force() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    assert_eq!(
        world.expire(
            job,
            Fence {
                digest: [1; 16],
                ..fence
            }
        ),
        []
    );
    assert_eq!(world.expire(job, fence).len(), 1);
    assert_eq!(world.expire(job, fence), []);
}

#[test]
fn a_machine_that_says_it_sleeps_makes_its_jobs_suspect_uncharged() {
    let mut world = World::studio();
    let (_, light) = world.running("gateway", "tidy");
    let (_, heavy) = world.running("studio", "render");
    for name in ["gateway", "studio"] {
        let drafts = decide::stand_down(&world.state, &machine(name), world.now, &world.policy).unwrap();
        world.decide(drafts);
    }
    let phase = |job| world.state.job(job).unwrap().phase();
    assert_eq!((phase(&light), phase(&heavy)), (Phase::Ready, Phase::Suspect));
    assert_eq!(world.state.job(&light).unwrap().losses, 0);
}

#[test]
fn cancelling_what_has_not_started_is_final_at_once() {
    let mut world = World::studio();
    let ready = world.submit(spec("render"));
    let drafts = decide::cancel(&world.state, &ready, false, "no").unwrap();
    world.decide(drafts);
    assert_eq!(world.state.job(&ready).unwrap().phase(), Phase::Cancelled);
    assert_eq!(
        decide::cancel(&world.state, &ready, false, "no")
            .unwrap_err()
            .code(),
        "job.final"
    );
}

#[test]
fn cancelling_what_runs_waits_for_its_machine_and_is_asked_once() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let drafts = decide::cancel(&world.state, &job, false, "no").unwrap();
    world.decide(drafts);
    assert_eq!(world.state.standing(&fence), Standing::CancelAsked);
    assert_eq!(decide::cancel(&world.state, &job, false, "no").unwrap(), []);
    let report = world.fail("studio", fence, job, ErrorClass::Cancelled, false);
    world.push("studio");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Cancelled);
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Cancelled)
    );
}

#[test]
fn a_success_before_the_confirmation_wins_over_the_cancellation() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let drafts = decide::cancel(&world.state, &job, false, "no").unwrap();
    world.decide(drafts);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Succeeded);
}

#[test]
fn an_actors_cancellation_counts_with_authority_only() {
    use ledger_core::kinds::JobCancelAsked;
    use ledger_core::{Draft, SigningKey};
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let order = world.order;
    let asked = Draft::of(
        &JobCancelAsked {
            job,
            force: false,
            reason: String::new(),
        },
        job.subject(),
    );
    let stranger = SigningKey::from_seed([99; 32]);
    let receipt = world.seal(order, asked.clone(), &stranger);
    let receipt = world.take(receipt);
    assert_eq!(decide::cancel_asked(&world.state, &receipt).unwrap(), []);
    assert_eq!(world.inert(), 1, "kept, inert and counted");
    let operator = world.nodes["gateway"].actor.clone();
    let receipt = world.seal(order, asked, &operator);
    let receipt = world.take(receipt);
    let drafts = decide::cancel_asked(&world.state, &receipt).unwrap();
    world.decide(drafts);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Cancelled);
}

#[test]
fn a_hello_that_was_held_up_says_nothing_about_what_was_claimed_since() {
    let mut world = World::studio();
    world.submit(spec("pay"));
    let seen = world.state.order().unwrap().head();
    // Said before the claim, heard after it: the machine has started an exclusive job meanwhile, which must not start twice.
    let (fence, _) = world.must_claim("studio", "pay");
    world.start("studio", fence);
    let hello = |world: &World, seen| {
        let holds = Holds {
            seen,
            ..nothing_held()
        };
        decide::resume(&world.state, &machine("studio"), &holds, world.now).unwrap()
    };
    assert_eq!(hello(&world, seen), []);
    assert_eq!(world.state.standing(&fence), Standing::InForce);
    // As soon as the machine knows of the claim, not holding it means that it never started.
    let claimed = world.state.order().unwrap().head();
    let drafts = hello(&world, claimed);
    world.decide(drafts);
    assert_eq!(world.state.standing(&fence), Standing::Released);
}

#[test]
fn a_machine_whose_data_was_put_back_does_not_know_whether_an_exclusive_claim_started() {
    for (incarnation, phase) in [(1, Phase::Ready), (2, Phase::Parked)] {
        let mut world = World::studio();
        world.submit(spec("pay"));
        let (_, job) = world.must_claim("studio", "pay");
        // In its first incarnation it would know; in the second, the receipt of the start may be what was lost.
        let holds = Holds {
            incarnation,
            ..nothing_held()
        };
        let drafts = decide::resume(&world.state, &machine("studio"), &holds, world.now).unwrap();
        world.decide(drafts);
        assert_eq!(world.state.job(&job).unwrap().phase(), phase);
    }
}
