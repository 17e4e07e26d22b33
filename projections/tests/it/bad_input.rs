//! What must not come, and the defined answer to each: rows of "Bad input" that concern the queue.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_core::kinds::{Fence, JobSpec, LateVerdict, SuccessVerdict};
use ledger_core::limits::{LABELS_MAX, PAYLOAD_BYTES_MAX};
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};
use ledger_projections::queue::{Phase, RunVerdict, Standing, answer_for};

#[test]
fn an_unknown_handler_parks_the_job_says_so_at_once_and_raises_one_notice() {
    let mut world = World::studio();
    let job = world.submit(spec("dream"));
    let answer = answer_for(&world.state, &job).unwrap();
    assert_eq!(
        (answer.code(), answer.to_string().as_str()),
        ("parked", "parked, no machine declares handler \"dream\"")
    );
    assert_eq!(world.state.notices().count(), 1);
}

#[test]
fn a_fence_from_nowhere_is_unknown_and_its_result_rejected_once() {
    let mut world = World::studio();
    let (real, job) = world.running("studio", "render");
    let nowhere = Fence {
        digest: [9; 16],
        ..real
    };
    assert_eq!(world.state.standing(&nowhere), Standing::Unknown);
    let report = world.succeed("studio", nowhere, job, 1);
    let decided = world.push("studio");
    assert_eq!(decided.len(), 1);
    assert_eq!(decided[0].kind(), "job.late-result");
    assert_eq!(
        world.state.standing(&real),
        Standing::InForce,
        "the real run is not touched"
    );
    assert_eq!((report.seq() > 0, world.inert()), (true, 0));
}

#[test]
fn another_machines_fence_gives_no_right_to_a_result() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.succeed("mini", fence, job, 1);
    let decided = world.push("mini");
    assert_eq!(decided[0].kind(), "job.late-result");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Leased);
}

#[test]
fn a_result_for_a_finished_job_gets_its_verdict_and_changes_nothing() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    let again = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&fence, &again.id()),
        Some(RunVerdict::Late(LateVerdict::DuplicateAgrees))
    );
    let told = world
        .story(job)
        .iter()
        .filter(|kind| *kind == "job.succeeded")
        .count();
    assert_eq!(told, 1);
}

#[test]
fn a_node_that_claims_twice_under_one_id_gets_one_job() {
    let mut world = World::studio();
    world.submit(spec("render"));
    world.submit(spec("render"));
    let command = ClaimCommand {
        machine: machine("studio"),
        incarnation: 1,
        claim: [5; 16],
        free: vec![("render".into(), 2)],
        term_ms: 60_000,
        now: world.now,
    };
    let decide = |world: &World| decide::claim(&world.state, &command, &world.policy).unwrap();
    let ClaimDecision::Claim(draft) = decide(&world) else {
        panic!("a job")
    };
    world.decide(vec![draft]);
    assert!(matches!(
        decide(&world),
        ClaimDecision::Already {
            standing: Standing::InForce,
            ..
        }
    ));
    assert_eq!(world.state.jobs_in(Phase::Leased).count(), 1);
}

#[test]
fn a_nodes_clock_that_is_two_days_off_moves_no_deadline_and_no_lease() {
    // A report bears its author's time; what is decided goes by Central's alone.
    for off in [-2 * 24 * 60 * MINUTE, 2 * 24 * 60 * MINUTE] {
        let mut world = World::studio();
        let job = world.submit(JobSpec {
            deadline: Some(world.now + 10 * MINUTE),
            attempts_max: 3,
            ..spec("render")
        });
        let (fence, _) = world.must_claim("studio", "render");
        let right = world.now;
        world.now += off;
        let started = world.start("studio", fence);
        let failed = world.fail(
            "studio",
            fence,
            job,
            ledger_core::kinds::ErrorClass::Signal,
            false,
        );
        world.now = right;
        assert!(started.statement().authored_at != right);
        world.push("studio");
        assert_eq!(
            world.state.verdict(&fence, &failed.id()),
            Some(RunVerdict::Failure)
        );
        let row = world.state.job(&job).unwrap();
        assert_eq!(row.phase(), Phase::Backoff);
        world.now += MINUTE;
        world.tick();
        assert_eq!(world.must_claim("studio", "render").1, job, "off by {off}");
    }
}

#[test]
fn an_input_beyond_its_bound_is_refused_by_name_before_anything_is_sealed() {
    let world = World::studio();
    let mut wanted = spec("render");
    wanted.input = Some(ledger_core::kinds::InputRef {
        commitment: ledger_core::Commitment([1; 32]),
        bytes: 10 * 1024 * 1024,
    });
    let refusal = decide::check_spec(&world.state, &wanted, &world.policy).unwrap_err();
    assert_eq!(refusal.code(), "request.spec");
    assert!(refusal.to_string().contains(&PAYLOAD_BYTES_MAX.to_string()));
    wanted.input = None;
    wanted.labels = vec!["x".into(); LABELS_MAX + 1];
    assert!(decide::check_spec(&world.state, &wanted, &world.policy).is_err());
}

#[test]
fn of_a_cancellation_and_a_success_at_the_same_moment_the_first_in_the_order_wins() {
    // The success stands earlier: the cancellation comes to a job that is final.
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        decide::cancel(&world.state, &job, true, "stop")
            .unwrap_err()
            .code(),
        "job.final"
    );
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Succeeded);
    // The cancellation is asked first: the success still wins before the machine confirmed.
    let (fence, job) = world.running("studio", "render");
    let drafts = decide::cancel(&world.state, &job, false, "stop").unwrap();
    world.decide(drafts);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.job(&job).unwrap().success().unwrap().verdict,
        SuccessVerdict::OnTime
    );
    // It is forced first: final, and the success is discarded.
    let (fence, job) = world.running("studio", "render");
    let drafts = decide::cancel(&world.state, &job, true, "stop").unwrap();
    world.decide(drafts);
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Discarded))
    );
    assert_eq!(
        (world.state.job(&job).unwrap().phase(), world.inert()),
        (Phase::Cancelled, 0)
    );
}
