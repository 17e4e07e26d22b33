//! Jobs that wait for jobs: only for such as exist, along retries, and never in a circle.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_core::kinds::{ErrorClass, HeldReason, JobId, JobSpec, RequestReceived};
use ledger_core::{Draft, ReceiptId, Stream, Subject};
use ledger_projections::central::admit;
use ledger_projections::queue::{Answer, JobState, Phase, answer_for, decide};

fn after(jobs: &[JobId]) -> JobSpec {
    JobSpec {
        depends_on: jobs.to_vec(),
        ..spec("render")
    }
}

fn phase(world: &World, job: JobId) -> Phase {
    world.state.job(&job).unwrap().phase()
}

fn held(world: &World, job: JobId) -> HeldReason {
    match world.state.job(&job).unwrap().state {
        JobState::Held { reason } => reason,
        ref other => panic!("held, not {other:?}"),
    }
}

fn run(world: &mut World, job: JobId, ends: fn(&mut World, ledger_core::kinds::Fence, JobId)) {
    let (fence, claimed) = world.must_claim("studio", "render");
    assert_eq!(claimed, job);
    world.start("studio", fence);
    ends(world, fence, job);
    world.push("studio");
}

fn succeed(world: &mut World, job: JobId) {
    run(world, job, |world, fence, job| {
        world.succeed("studio", fence, job, 1);
    });
}

fn fail(world: &mut World, job: JobId) {
    run(world, job, |world, fence, job| {
        world.fail("studio", fence, job, ErrorClass::ExitStatus, true);
    });
}

fn retry(world: &mut World, job: JobId) -> JobId {
    let spec = decide::retry_spec(&world.state, &job).unwrap();
    world.submit(spec)
}

#[test]
fn a_job_is_held_until_all_that_it_depends_on_succeeded() {
    let mut world = World::studio();
    let (first, second) = (world.submit(spec("render")), world.submit(spec("render")));
    let job = world.submit(after(&[first, second]));
    assert_eq!(held(&world, job), HeldReason::Dependencies);
    assert!(matches!(
        answer_for(&world.state, &job),
        Some(Answer::Held { .. })
    ));
    succeed(&mut world, first);
    assert_eq!(phase(&world, job), Phase::Held);
    succeed(&mut world, second);
    assert_eq!(phase(&world, job), Phase::Ready);
    assert_eq!(world.story(job), ["job.accepted", "job.held", "job.ready"]);
}

#[test]
fn a_job_that_depends_on_what_succeeded_before_is_ready_at_once() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    succeed(&mut world, first);
    let job = world.submit(after(&[first]));
    assert_eq!(phase(&world, job), Phase::Ready);
}

#[test]
fn a_final_failure_cancels_the_dependants_and_theirs_and_holds_those_that_said_so() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let child = world.submit(after(&[first]));
    let grandchild = world.submit(after(&[child]));
    let patient = world.submit(JobSpec {
        hold_on_failed_dependency: true,
        ..after(&[first])
    });
    fail(&mut world, first);
    assert_eq!(phase(&world, child), Phase::Cancelled);
    assert_eq!(phase(&world, grandchild), Phase::Cancelled);
    assert_eq!(held(&world, patient), HeldReason::DependencyFailed);
    assert_eq!(world.inert(), 0);
    let late = world.submit(after(&[first]));
    assert_eq!(phase(&world, late), Phase::Cancelled, "it failed before");
}

#[test]
fn every_end_without_success_counts_as_failed_for_a_dependant() {
    for ends in ["cancel", "discard", "expire"] {
        let mut world = World::studio();
        let first = world.submit(JobSpec {
            deadline: Some(world.now + MINUTE),
            ..spec("render")
        });
        let child = world.submit(after(&[first]));
        let drafts = match ends {
            "cancel" => decide::cancel(&world.state, &first, false, "no").unwrap(),
            "discard" => decide::discard(&world.state, &first, "no").unwrap(),
            _ => {
                world.now += MINUTE;
                decide::due(&world.state, world.now, &world.policy)
            }
        };
        world.decide(drafts);
        assert_eq!(phase(&world, child), Phase::Cancelled, "{ends}");
    }
}

#[test]
fn a_dead_letter_keeps_its_dependants_waiting_and_its_retry_is_followed() {
    let mut world = World::studio();
    let first = world.submit(JobSpec {
        attempts_max: 1,
        ..spec("render")
    });
    let child = world.submit(after(&[first]));
    run(&mut world, first, |world, fence, job| {
        world.fail("studio", fence, job, ErrorClass::ExitStatus, false);
    });
    assert_eq!(
        (phase(&world, first), held(&world, child)),
        (Phase::Parked, HeldReason::Dependencies)
    );
    let again = retry(&mut world, first);
    assert_eq!(
        phase(&world, first),
        Phase::Discarded,
        "it leaves the dead letters"
    );
    assert_eq!(
        held(&world, child),
        HeldReason::Dependencies,
        "the retry is followed"
    );
    succeed(&mut world, again);
    assert_eq!(phase(&world, child), Phase::Ready);
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_job_held_for_a_failed_dependency_goes_on_when_its_retry_succeeds() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let patient = world.submit(JobSpec {
        hold_on_failed_dependency: true,
        ..after(&[first])
    });
    fail(&mut world, first);
    let second = retry(&mut world, first);
    fail(&mut world, second);
    assert_eq!(held(&world, patient), HeldReason::DependencyFailed);
    let third = retry(&mut world, second);
    succeed(&mut world, third);
    assert_eq!(phase(&world, patient), Phase::Ready, "over two retries");
}

#[test]
fn a_job_with_a_time_and_dependencies_waits_for_both() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let job = world.submit(JobSpec {
        not_before: Some(world.now + 5 * MINUTE),
        ..after(&[first])
    });
    assert_eq!(held(&world, job), HeldReason::Dependencies);
    succeed(&mut world, first);
    assert_eq!(held(&world, job), HeldReason::NotBefore);
    world.now += 5 * MINUTE;
    world.tick();
    assert_eq!(phase(&world, job), Phase::Ready);
}

#[test]
fn a_dead_letter_for_want_of_a_handler_waits_for_its_dependencies_once_the_handler_is_declared() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let job = world.submit(JobSpec {
        handler: "dream".into(),
        ..after(&[first])
    });
    assert_eq!(phase(&world, job), Phase::Parked, "said at once");
    world.declare("mini", &[("dream", ledger_core::kinds::Class::Light, &[])]);
    assert_eq!(held(&world, job), HeldReason::Dependencies);
    succeed(&mut world, first);
    assert_eq!(phase(&world, job), Phase::Ready);
}

#[test]
fn a_dependency_that_does_not_exist_is_refused_and_a_sealed_request_for_it_is_cancelled_visibly() {
    let mut world = World::studio();
    let nobody = JobId(ReceiptId([7; 16]));
    let refusal = decide::check_spec(&world.state, &after(&[nobody]), &world.policy).unwrap_err();
    assert_eq!(refusal.code(), "request.depends-on");
    let job = world.submit(after(&[nobody]));
    assert_eq!(phase(&world, job), Phase::Cancelled);
}

#[test]
fn a_dependency_cycle_cannot_be_made_by_naming_a_request_that_is_yet_to_come() {
    let mut world = World::studio();
    let operator = world.nodes["gateway"].actor.clone();
    // Whoever chooses ids himself knows the second job's before it is there.
    let second_id = ReceiptId::v7(1_750_000_000_000, [9; 10]);
    let second = JobId::of_request(&operator.public(), &second_id);
    let first = world.submit(after(&[second]));
    assert_eq!(
        phase(&world, first),
        Phase::Cancelled,
        "it named nobody when it was accepted"
    );
    let draft = Draft::of(
        &RequestReceived {
            spec: after(&[first]),
        },
        Subject::new("request").unwrap(),
    );
    let receipt = world.seal_as(world.order, draft, &operator, second_id);
    let receipt = world.take(receipt);
    world.accept(&receipt);
    assert_eq!(phase(&world, second), Phase::Cancelled, "the first failed");
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_dependency_cycle_through_a_retry_is_refused() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let patient = world.submit(JobSpec {
        hold_on_failed_dependency: true,
        ..after(&[first])
    });
    fail(&mut world, first);
    // It would wait for the one that waits for it.
    let circle = JobSpec {
        retry_of: Some(first),
        ..after(&[patient])
    };
    let refusal = decide::check_spec(&world.state, &circle, &world.policy).unwrap_err();
    assert_eq!(refusal.code(), "request.depends-on");
    let itself = JobSpec {
        retry_of: Some(first),
        ..after(&[first])
    };
    assert!(decide::check_spec(&world.state, &itself, &world.policy).is_err());
    let job = world.submit(circle);
    assert_eq!(phase(&world, job), Phase::Cancelled);
    assert_eq!(held(&world, patient), HeldReason::DependencyFailed);
}

#[test]
fn a_retry_that_is_refused_leaves_the_job_and_its_dependants_as_they_were() {
    let mut world = World::studio();
    let letter = world.submit(spec("dream"));
    let child = world.submit(after(&[letter]));
    assert_eq!(
        (phase(&world, letter), phase(&world, child)),
        (Phase::Parked, Phase::Held)
    );
    // Sealed already, and impossible: one would wait for itself, one for nobody.
    for wrong in [child, JobId(ReceiptId([7; 16]))] {
        let refused = world.submit(JobSpec {
            retry_of: Some(letter),
            ..after(&[wrong])
        });
        assert_eq!(phase(&world, refused), Phase::Cancelled, "and stays visible");
        assert_eq!(
            (phase(&world, letter), phase(&world, child)),
            (Phase::Parked, Phase::Held)
        );
        assert_eq!(world.state.job(&letter).unwrap().retried_as, None);
    }
    let again = retry(&mut world, letter);
    assert_eq!(world.state.job(&letter).unwrap().retried_as, Some(again));
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_push_that_ends_a_job_on_which_very_many_wait_lets_a_bounded_number_go_on_and_the_ticker_the_rest() {
    const WAITING: usize = 8_500;
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    for _ in 0..WAITING {
        world.submit(after(&[first]));
    }
    let (fence, _) = world.must_claim("studio", "render");
    let mut run = vec![world.start("studio", fence)];
    run.push(world.succeed("studio", fence, first, 1));
    // What follows in the same push leads to decisions as well.
    run.push(world.succeed("studio", fence, first, 2));
    world.nodes.get_mut("studio").unwrap().outbox.clear();
    let run: Vec<_> = run.into_iter().map(|receipt| world.take(receipt)).collect();
    let (before, policy) = (world.journal.len(), world.policy);
    admit(
        &mut world,
        &run,
        &[],
        Stream::Work,
        None,
        &machine("studio"),
        &policy,
    )
    .unwrap();
    let waiting = |world: &World| world.state.jobs_in(Phase::Held).count();
    assert!(waiting(&world) > 0 && waiting(&world) < WAITING);
    assert!(world.journal.len() - before < WAITING, "one commit has a bound");
    world.tick();
    assert_eq!(waiting(&world), 0);
}
