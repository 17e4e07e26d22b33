//! Every row of the table of late results, and that a verdict is final and given once.

use crate::harness::{MINUTE, World, machine, nothing_held, spec, success};
use ledger_core::kinds::{Class, ErrorClass, Fence, LateVerdict, ParkedReason, SuccessVerdict};
use ledger_projections::queue::{JobState, Phase, RunVerdict, Standing, decide};

#[test]
fn a_success_under_the_leased_fence_is_on_time() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::OnTime));
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Success(SuccessVerdict::OnTime))
    );
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_success_under_the_suspect_fence_is_on_time() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.expire(job, fence);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Suspect);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::OnTime));
}

#[test]
fn a_success_of_the_last_fence_is_adopted_while_the_job_is_ready() {
    let mut world = World::studio();
    let (fence, job) = world.running("gateway", "tidy");
    world.expire(job, fence);
    assert_eq!(
        world.state.job(&job).unwrap().phase(),
        Phase::Ready,
        "a light job is ready again at once"
    );
    world.succeed("gateway", fence, job, 1);
    world.push("gateway");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::Adopted));
    assert!(world.claim("gateway", "tidy").is_none(), "it does not run again");
}

#[test]
fn a_success_under_an_older_fence_is_adopted_and_the_newer_run_is_told_to_stop() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    world.succeed("studio", old, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (old, SuccessVerdict::Adopted));
    assert_eq!(world.state.standing(&new), Standing::Over);
    let stopped = world.fail("mini", new, job, ErrorClass::Cancelled, false);
    world.push("mini");
    assert_eq!(
        world.state.verdict(&new, &stopped.id()),
        Some(RunVerdict::Late(LateVerdict::Stale))
    );
    assert_eq!(success(&world, job), (old, SuccessVerdict::Adopted));
}

#[test]
fn an_exclusive_success_under_an_older_fence_is_superseded_and_told() {
    let mut world = World::studio();
    world.submit(spec("pay"));
    let (old, job) = world.must_claim("studio", "pay");
    world.expire(job, old);
    // Studio comes back and does not hold it: it never started, as far as Central knows.
    let drafts = decide::resume(&world.state, &machine("studio"), &nothing_held(), world.now).unwrap();
    world.decide(drafts);
    let (new, _) = world.must_claim("mini", "pay");
    let report = world.succeed("studio", old, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Superseded))
    );
    assert_eq!(
        world.state.standing(&new),
        Standing::InForce,
        "the newer run goes on"
    );
    assert_eq!(world.state.notices().count(), 1);
}

#[test]
fn an_exclusive_success_under_an_older_fence_is_superseded_while_the_job_is_ready_too() {
    let mut world = World::studio();
    world.submit(spec("pay"));
    let (old, job) = world.must_claim("studio", "pay");
    let never_started = |world: &mut World, name: &str| {
        let drafts = decide::resume(&world.state, &machine(name), &nothing_held(), world.now).unwrap();
        world.decide(drafts);
    };
    never_started(&mut world, "studio");
    let (last, _) = world.must_claim("mini", "pay");
    never_started(&mut world, "mini");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Ready);
    let report = world.succeed("studio", old, job, 1);
    world.push("studio");
    assert_eq!(
        (
            world.state.verdict(&old, &report.id()),
            world.state.job(&job).unwrap().phase(),
            world.state.notices().count()
        ),
        (Some(RunVerdict::Late(LateVerdict::Superseded)), Phase::Ready, 1)
    );
    // Of the last claim it stands: nobody was given the job since.
    world.succeed("mini", last, job, 2);
    world.push("mini");
    assert_eq!(success(&world, job), (last, SuccessVerdict::Adopted));
}

#[test]
fn an_equal_success_again_is_a_duplicate_that_agrees() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    world.succeed("mini", new, job, 7);
    world.push("mini");
    let report = world.succeed("studio", old, job, 7);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &report.id()),
        Some(RunVerdict::Late(LateVerdict::DuplicateAgrees))
    );
    assert_eq!(success(&world, job), (new, SuccessVerdict::OnTime));
    assert_eq!(world.state.notices().count(), 0);
}

#[test]
fn another_success_again_is_a_conflict_with_a_notice_and_the_first_stands() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    world.succeed("mini", new, job, 7);
    world.push("mini");
    let report = world.succeed("studio", old, job, 8);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &report.id()),
        Some(RunVerdict::Late(LateVerdict::DuplicateDiffers))
    );
    assert_eq!(success(&world, job), (new, SuccessVerdict::OnTime));
    assert_eq!(world.state.job(&job).unwrap().conflicts, 1);
    assert_eq!(world.state.notices().count(), 1);
}

#[test]
fn a_success_of_a_final_job_is_discarded() {
    for end in ["cancelled", "failed", "expired"] {
        let mut world = World::studio();
        let mut wanted = spec("render");
        wanted.deadline = Some(world.now + MINUTE);
        world.submit(wanted);
        let (fence, job) = world.must_claim("studio", "render");
        world.start("studio", fence);
        world.push("studio");
        match end {
            "cancelled" => {
                let drafts = decide::cancel(&world.state, &job, true, "enough").unwrap();
                world.decide(drafts);
            }
            "failed" => {
                world.fail("studio", fence, job, ErrorClass::ExitStatus, true);
                world.push("studio");
            }
            _ => {
                world.now += 2 * MINUTE;
                let drafts = decide::due(&world.state, world.now, &world.policy);
                world.decide(drafts);
            }
        }
        assert_eq!(world.state.job(&job).unwrap().phase().as_str(), end);
        let report = world.succeed("studio", fence, job, 1);
        world.push("studio");
        assert_eq!(
            world.state.verdict(&fence, &report.id()),
            Some(RunVerdict::Late(LateVerdict::Discarded)),
            "{end}"
        );
        assert_eq!(world.inert(), 0);
    }
}

#[test]
fn a_success_of_a_parked_job_is_adopted_unless_it_is_exclusive() {
    for (handler, class) in [("render", Class::Heavy), ("pay", Class::Exclusive)] {
        let mut world = World::studio();
        world.policy.losses_max = Some(0);
        let (fence, job) = world.running("studio", handler);
        world.expire(job, fence);
        let drafts = decide::resume(&world.state, &machine("studio"), &nothing_held(), world.now).unwrap();
        world.decide(drafts);
        let parked = &world.state.job(&job).unwrap().state;
        assert!(
            matches!(
                parked,
                JobState::Parked(ParkedReason::LossesUsedUp | ParkedReason::ExclusiveLost)
            ),
            "{parked:?}"
        );
        let report = world.succeed("studio", fence, job, 1);
        world.push("studio");
        let verdict = world.state.verdict(&fence, &report.id());
        if class == Class::Heavy {
            assert_eq!(success(&world, job), (fence, SuccessVerdict::Adopted));
        } else {
            assert_eq!(
                verdict,
                Some(RunVerdict::Late(LateVerdict::Superseded)),
                "the operator decides"
            );
            assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Parked);
        }
    }
}

#[test]
fn a_success_under_a_fence_that_was_never_given_is_rejected() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let forged = Fence {
        digest: [0xee; 16],
        ..fence
    };
    world.succeed("studio", forged, job, 1);
    let kinds: Vec<String> = world.push("studio").iter().map(|r| r.kind().to_owned()).collect();
    assert_eq!(kinds, ["job.late-result"]);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Leased);
    // Another machine's claim is not its own either.
    world.succeed("mini", fence, job, 1);
    world.push("mini");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Leased);
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_late_failure_charges_nothing_and_is_stale() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    let report = world.fail("studio", old, job, ErrorClass::ExitStatus, true);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Stale))
    );
    assert_eq!(world.state.standing(&new), Standing::InForce);
    assert_eq!(world.state.job(&job).unwrap().attempts, 0);
}

#[test]
fn a_report_judged_twice_has_one_verdict_and_one_receipt() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(world.judge("studio", &report), []);
    let told = world
        .story(job)
        .iter()
        .filter(|kind| *kind == "job.succeeded")
        .count();
    assert_eq!(told, 1);
}

#[test]
fn a_report_of_another_machines_log_is_inadmissible() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let report = world.succeed("studio", fence, job, 1);
    let kinds: Vec<String> = world
        .judge("mini", &report)
        .iter()
        .map(|r| r.kind().to_owned())
        .collect();
    assert_eq!(kinds, ["receipt.inadmissible"]);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Leased);
}

#[test]
fn a_failure_is_charged_and_tried_again_until_the_attempts_are_used_up() {
    let mut world = World::studio();
    let (first, job) = world.running("studio", "render");
    world.fail("studio", first, job, ErrorClass::ExitStatus, false);
    world.push("studio");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Backoff);
    world.now += MINUTE;
    world.tick();
    let (second, _) = world.must_claim("studio", "render");
    assert_eq!(world.state.fence(&second).unwrap().attempt, 2);
    world.fail("studio", second, job, ErrorClass::Timeout, false);
    world.push("studio");
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Parked(ParkedReason::AttemptsUsedUp)
    );
    assert_eq!(world.state.job(&job).unwrap().attempts, 2);
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.fail("studio", fence, job, ErrorClass::Input, true);
    world.push("studio");
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Failed(ErrorClass::Input)
    );
}

#[test]
fn a_report_that_cannot_be_read_is_named_and_decides_nothing() {
    use ledger_core::kinds::{AnyDetail, Detail, InadmissibleReason, RunLost};
    use ledger_core::{Draft, Subject};
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    let sound = Draft::of(&RunLost { job, fence }, Subject::new("run").unwrap());
    let mut malformed = sound.clone();
    malformed.detail.push(0);
    let mut newer = sound;
    newer.schema = RunLost::SCHEMA + 1;
    let (key, log) = (world.nodes["studio"].key.clone(), world.nodes["studio"].logs[0]);
    for (draft, reason) in [
        (malformed, InadmissibleReason::MalformedDetail),
        (newer, InadmissibleReason::UnknownSchema),
    ] {
        let receipt = world.seal(log, draft, &key);
        let verdicts = world.push_one("studio", receipt);
        let Ok(AnyDetail::ReceiptInadmissible(named)) = verdicts[0].statement().any_detail() else {
            panic!("a verdict")
        };
        assert_eq!((verdicts.len(), named.reason), (1, reason));
        assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Leased);
    }
}

#[test]
fn a_start_and_a_checkpoint_are_taken_once_and_late_ones_change_nothing() {
    use ledger_core::kinds::RunCheckpointed;
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    let late = world.work("studio", &RunCheckpointed { job, fence: old });
    assert!(world.push("studio").is_empty());
    assert!(world.judge("studio", &late).is_empty());
    let kept = world.work("mini", &RunCheckpointed { job, fence: new });
    assert_eq!(world.push("mini").len(), 1);
    assert!(world.judge("mini", &kept).is_empty());
    assert_eq!(world.state.job(&job).unwrap().progress, Some(kept.evidence()));
    let started = world
        .story(job)
        .iter()
        .filter(|kind| *kind == "job.started")
        .count();
    assert_eq!(started, 2, "one for each claim");
}

#[test]
fn a_success_under_an_older_fence_is_adopted_in_backoff_and_the_job_does_not_run_again() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    world.start("mini", new);
    world.fail("mini", new, job, ErrorClass::Signal, false);
    world.push("mini");
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Backoff);
    world.succeed("studio", old, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (old, SuccessVerdict::Adopted));
    world.now += 60 * MINUTE;
    assert_eq!(world.tick(), []);
    assert!(world.claim("mini", "render").is_none() && world.claim("studio", "render").is_none());
}

#[test]
fn a_success_of_a_job_that_somebody_holds_is_adopted() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    world.fail_over(job);
    let drafts = decide::hold(&world.state, &job, "let me look").unwrap();
    world.decide(drafts);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::Adopted));
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_success_of_a_dead_letter_whose_attempts_are_used_up_is_adopted_and_frees_its_dependants() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    let child = world.submit(ledger_core::kinds::JobSpec {
        depends_on: vec![job],
        ..spec("render")
    });
    let mut fence = new;
    for _ in 0..2 {
        world.start("mini", fence);
        world.fail("mini", fence, job, ErrorClass::Signal, false);
        world.push("mini");
        world.now += MINUTE;
        world.tick();
        if let Some((next, _)) = world.claim("mini", "render") {
            fence = next;
        }
    }
    assert_eq!(
        world.state.job(&job).unwrap().state,
        JobState::Parked(ParkedReason::AttemptsUsedUp)
    );
    world.succeed("studio", old, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (old, SuccessVerdict::Adopted));
    assert_eq!(world.state.job(&child).unwrap().phase(), Phase::Ready);
}
