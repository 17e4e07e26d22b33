//! What depends on time passing: deadlines in every state, and the waits between attempts. Time comes from the ticker alone.

use crate::harness::{MINUTE, SECOND, World, spec};
use ledger_core::kinds::{ErrorClass, Fence, JobId, JobSpec, LateVerdict, ParkedReason};
use ledger_projections::Policy;
use ledger_projections::queue::{Event, JobState, Phase, RunVerdict, Standing, decide};

type Make = &'static dyn Fn(&mut World) -> JobId;

fn with_deadline(world: &World, handler: &str) -> JobSpec {
    JobSpec {
        deadline: Some(world.now + 10 * MINUTE),
        ..spec(handler)
    }
}

fn running(world: &mut World, wanted: JobSpec) -> (Fence, JobId) {
    world.submit(wanted);
    let (fence, job) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.push("studio");
    (fence, job)
}

fn phase(world: &World, job: JobId) -> Phase {
    world.state.job(&job).unwrap().phase()
}

#[test]
fn a_deadline_expires_a_job_in_every_state_in_which_nothing_is_known_to_run() {
    let make: [(Phase, Make); 7] = [
        (Phase::Scheduled, &|world| {
            let mut wanted = with_deadline(world, "render");
            wanted.not_before = Some(world.now + 9 * MINUTE);
            world.submit(wanted)
        }),
        (Phase::Ready, &|world| {
            world.submit(with_deadline(world, "render"))
        }),
        (Phase::Held, &|world| {
            let job = world.submit(with_deadline(world, "render"));
            let drafts = decide::hold(&world.state, &job, "wait").unwrap();
            world.decide(drafts);
            job
        }),
        (Phase::Parked, &|world| {
            world.submit(with_deadline(world, "dream"))
        }),
        (Phase::Leased, &|world| {
            world.submit(with_deadline(world, "render"));
            world.must_claim("studio", "render").1
        }),
        (Phase::Suspect, &|world| {
            let wanted = with_deadline(world, "render");
            let (fence, job) = running(world, wanted);
            world.expire(job, fence);
            job
        }),
        (Phase::Backoff, &|world| {
            world.policy.backoff_first_ms = 3_600_000;
            world.policy.backoff_max_ms = 3_600_000;
            let wanted = with_deadline(world, "render");
            let (fence, job) = running(world, wanted);
            world.fail("studio", fence, job, ErrorClass::ExitStatus, false);
            world.push("studio");
            job
        }),
    ];
    for (expected, make) in make {
        let mut world = World::studio();
        let job = make(&mut world);
        assert_eq!(phase(&world, job), expected);
        world.now += 10 * MINUTE - SECOND;
        assert!(world.state.job(&job).unwrap().spec.deadline.unwrap() > world.now);
        let early = decide::due(&world.state, world.now, &world.policy);
        assert!(
            early.iter().all(|draft| draft.kind.as_str() != "job.expired"),
            "{expected}"
        );
        world.now += SECOND;
        world.tick();
        assert_eq!(phase(&world, job), Phase::Expired, "{expected}");
        assert_eq!(world.tick(), [], "{expected}: once");
        assert_eq!(world.inert(), 0);
    }
}

#[test]
fn a_job_past_its_deadline_is_given_to_nobody_even_before_the_ticker_says_so() {
    let mut world = World::studio();
    let wanted = with_deadline(&world, "render");
    world.submit(wanted);
    world.now += 10 * MINUTE;
    assert!(world.claim("studio", "render").is_none());
}

#[test]
fn a_run_is_told_to_stop_at_its_deadline_and_expires_when_the_machine_confirms() {
    let mut world = World::studio();
    let wanted = with_deadline(&world, "render");
    let (fence, job) = running(&mut world, wanted);
    world.now += 10 * MINUTE;
    assert_eq!(kinds(&world.tick()), ["job.cancel-asked"]);
    assert_eq!(
        (phase(&world, job), world.state.standing(&fence)),
        (Phase::Leased, Standing::CancelAsked)
    );
    assert_eq!(world.tick(), [], "told once");
    let report = world.fail("studio", fence, job, ErrorClass::Cancelled, false);
    world.push("studio");
    assert_eq!(phase(&world, job), Phase::Expired);
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Discarded)),
        "the report has its verdict"
    );
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_success_before_the_confirmation_wins_over_the_deadline() {
    let mut world = World::studio();
    let wanted = with_deadline(&world, "render");
    let (fence, job) = running(&mut world, wanted);
    world.now += 10 * MINUTE;
    world.tick();
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(phase(&world, job), Phase::Succeeded);
    world.now += 10 * MINUTE;
    assert_eq!(world.tick(), []);
}

#[test]
fn a_run_that_does_not_confirm_expires_after_the_grace_and_its_late_success_is_discarded() {
    let mut world = World::studio();
    let wanted = with_deadline(&world, "render");
    let (fence, job) = running(&mut world, wanted);
    world.now += 10 * MINUTE;
    world.tick();
    world.now += 59 * SECOND;
    assert_eq!(world.tick(), []);
    world.now += SECOND;
    assert_eq!(kinds(&world.tick()), ["job.expired"]);
    assert_eq!(world.state.standing(&fence), Standing::Over);
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Discarded))
    );
    assert_eq!(phase(&world, job), Phase::Expired);
}

#[test]
fn a_light_job_that_was_told_to_stop_at_its_deadline_and_whose_lease_runs_out_is_expired_and_not_cancelled() {
    let mut world = World::studio();
    let wanted = with_deadline(&world, "tidy");
    world.submit(wanted);
    let (fence, job) = world.must_claim("gateway", "tidy");
    world.start("gateway", fence);
    world.push("gateway");
    world.now += 10 * MINUTE;
    world.tick();
    world.expire(job, fence);
    assert_eq!(phase(&world, job), Phase::Expired);
}

fn kinds(receipts: &[ledger::Receipt]) -> Vec<&str> {
    receipts.iter().map(ledger::Receipt::kind).collect()
}

fn fail_once(world: &mut World, job: JobId, permanent: bool) {
    let (fence, claimed) = world.must_claim("studio", "render");
    assert_eq!(claimed, job);
    world.start("studio", fence);
    world.fail("studio", fence, job, ErrorClass::ExitStatus, permanent);
    world.push("studio");
}

fn retry_at(world: &World, job: JobId) -> i64 {
    match world.state.job(&job).unwrap().state {
        JobState::Backoff {
            retry_at: Some(at), ..
        } => at,
        ref other => panic!("in backoff, not {other:?}"),
    }
}

#[test]
fn waits_between_attempts_double_with_jitter_up_to_the_longest_and_are_written_down() {
    let mut world = World::studio();
    world.policy = Policy {
        backoff_first_ms: 10_000,
        backoff_max_ms: 60_000,
        ..Policy::default()
    };
    let job = world.submit(JobSpec {
        attempts_max: 6,
        ..spec("render")
    });
    for whole in [10, 20, 40, 60, 60] {
        fail_once(&mut world, job, false);
        let at = retry_at(&world, job);
        let wait = at - world.now;
        assert!(
            (whole * SECOND / 2..=whole * SECOND).contains(&wait),
            "{wait} of {whole} s"
        );
        assert!(world.claim("studio", "render").is_none(), "not before its time");
        world.now = at - 1;
        assert_eq!(world.tick(), []);
        world.now = at;
        assert_eq!(kinds(&world.tick()), ["job.ready"]);
    }
    assert_eq!(world.state.job(&job).unwrap().attempts, 5);
}

#[test]
fn jobs_that_failed_together_do_not_come_back_together() {
    let policy = Policy {
        backoff_first_ms: 100_000,
        ..Policy::default()
    };
    let waits: std::collections::BTreeSet<u64> = (0..32u8)
        .map(|n| decide::retry_after_ms(&policy, &JobId(ledger_core::ReceiptId([n; 16])), 1))
        .collect();
    assert!(waits.len() > 16, "{waits:?}");
}

#[test]
fn a_permanent_failure_is_final_whatever_attempts_are_left() {
    let mut world = World::studio();
    let job = world.submit(JobSpec {
        attempts_max: 5,
        ..spec("render")
    });
    fail_once(&mut world, job, true);
    assert_eq!(phase(&world, job), Phase::Failed);
    world.now += 60 * MINUTE;
    assert_eq!(world.tick(), []);
}

#[test]
fn a_job_whose_attempts_are_used_up_is_parked_with_one_notice() {
    let mut world = World::studio();
    let job = world.submit(JobSpec {
        attempts_max: 2,
        ..spec("render")
    });
    fail_once(&mut world, job, false);
    world.now = retry_at(&world, job);
    world.tick();
    fail_once(&mut world, job, false);
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Parked(ParkedReason::AttemptsUsedUp)
    );
    assert_eq!(
        (
            world.state.job(&job).unwrap().losses,
            world.state.notices().count()
        ),
        (0, 1)
    );
}

#[test]
fn every_unfinished_state_may_expire_by_the_table() {
    for phase in Phase::ALL
        .into_iter()
        .filter(|phase| *phase != Phase::Absent && !phase.is_final())
    {
        let expired = ledger_projections::queue::table::outcome(phase, Event::Expired);
        assert_eq!(
            expired,
            ledger_projections::queue::Outcome::To(Phase::Expired),
            "{phase}"
        );
    }
}
