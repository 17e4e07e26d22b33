//! What people do to the queue by hand: each a receipt with a reason, and nothing twice.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_core::kinds::*;
use ledger_core::{Detail, Draft, Subject};
use ledger_projections::queue::{JobState, Phase, decide};

fn phase(world: &World, job: JobId) -> Phase {
    world.state.job(&job).unwrap().phase()
}

fn fail(world: &mut World, handler: &str) -> JobId {
    let (fence, job) = world.must_claim("studio", handler);
    world.start("studio", fence);
    world.fail("studio", fence, job, ErrorClass::ExitStatus, true);
    world.push("studio");
    job
}

#[test]
fn a_held_job_is_not_given_out_until_it_is_released() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let drafts = decide::hold(&world.state, &job, "not on mondays").unwrap();
    world.decide(drafts);
    assert_eq!(decide::hold(&world.state, &job, "again").unwrap(), []);
    assert!(world.claim("studio", "render").is_none());
    let drafts = decide::release(&world.state, &job, world.now, "tuesday").unwrap();
    world.decide(drafts);
    assert_eq!(world.must_claim("studio", "render").1, job);
    assert_eq!(
        world.story(job),
        [
            "job.accepted",
            "job.ready",
            "job.held",
            "job.released",
            "job.claimed"
        ]
    );
}

#[test]
fn a_release_does_not_skip_what_else_the_job_waits_for() {
    let mut world = World::studio();
    let first = world.submit(spec("render"));
    let job = world.submit(JobSpec {
        depends_on: vec![first],
        not_before: Some(world.now + MINUTE),
        ..spec("render")
    });
    let drafts = decide::hold(&world.state, &job, "wait").unwrap();
    world.decide(drafts);
    let drafts = decide::release(&world.state, &job, world.now, "go").unwrap();
    world.decide(drafts);
    let reason = |world: &World| match world.state.job(&job).unwrap().state {
        JobState::Held { reason } => reason,
        ref other => panic!("held, not {other:?}"),
    };
    assert_eq!(reason(&world), HeldReason::Dependencies);
    let refusal = decide::release(&world.state, &job, world.now, "go").unwrap_err();
    assert_eq!(refusal.code(), "job.state");
    let (fence, _) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.succeed("studio", fence, first, 1);
    world.push("studio");
    assert_eq!(reason(&world), HeldReason::NotBefore);
    world.now += MINUTE;
    world.tick();
    assert_eq!((phase(&world, job), world.inert()), (Phase::Ready, 0));
}

#[test]
fn an_operators_own_release_is_followed_by_what_the_job_still_waits_for() {
    let mut world = World::studio();
    let job = world.submit(JobSpec {
        not_before: Some(world.now + MINUTE),
        ..spec("render")
    });
    let said = |world: &mut World, detail: Draft| {
        let operator = world.nodes["gateway"].actor.clone();
        let receipt = world.seal(world.order, detail, &operator);
        let receipt = world.take(receipt);
        let drafts = decide::steered(&world.state, &receipt, world.now);
        world.decide(drafts)
    };
    let held = JobHeld {
        job,
        reason: HeldReason::ByHand,
        note: "mine".into(),
    };
    assert_eq!(said(&mut world, Draft::of(&held, job.subject())), []);
    assert_eq!(phase(&world, job), Phase::Held);
    let released = JobReleased {
        job,
        note: "mine".into(),
    };
    let followed = said(&mut world, Draft::of(&released, job.subject()));
    assert_eq!((followed.len(), followed[0].kind()), (1, JobHeld::KIND));
    world.now += MINUTE;
    world.tick();
    assert_eq!((phase(&world, job), world.inert()), (Phase::Ready, 0));
}

#[test]
fn nobody_but_an_operator_steers() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let discarded = JobDiscarded {
        job,
        reason: DiscardReason::ByHand,
        retried_as: None,
        note: String::new(),
    };
    // The actor key of a node is an agent's: it asks for work, and decides nothing.
    let agent = world.nodes["studio"].actor.clone();
    let receipt = world.seal(world.order, Draft::of(&discarded, job.subject()), &agent);
    world.take(receipt);
    assert_eq!((phase(&world, job), world.inert()), (Phase::Ready, 1));
}

#[test]
fn what_runs_or_is_over_is_neither_held_nor_discarded() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let (fence, _) = world.must_claim("studio", "render");
    let refused = |world: &World| {
        [
            decide::hold(&world.state, &job, "").unwrap_err().code(),
            decide::discard(&world.state, &job, "").unwrap_err().code(),
            decide::release(&world.state, &job, world.now, "")
                .unwrap_err()
                .code(),
        ]
    };
    assert_eq!(refused(&world), ["job.state"; 3]);
    world.start("studio", fence);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(refused(&world), ["job.final"; 3]);
    let long = "x".repeat(201);
    assert_eq!(
        decide::hold(&world.state, &job, &long).unwrap_err().code(),
        "request.spec"
    );
}

#[test]
fn a_retry_is_a_new_job_linked_to_the_old_one_which_is_tried_again_once() {
    let mut world = World::studio();
    world.submit(JobSpec {
        priority: 7,
        deadline: Some(world.now + 60 * MINUTE),
        ..spec("render")
    });
    let old = fail(&mut world, "render");
    let wanted = decide::retry_spec(&world.state, &old).unwrap();
    assert_eq!(
        (wanted.priority, wanted.deadline, wanted.retry_of),
        (7, None, Some(old))
    );
    let new = world.submit(wanted.clone());
    assert_eq!(
        phase(&world, old),
        Phase::Failed,
        "what is final stays as it ended"
    );
    assert_eq!(world.state.job(&old).unwrap().retried_as, Some(new));
    let refusal = decide::retry_spec(&world.state, &old).unwrap_err();
    assert!(refusal.to_string().contains(&new.to_string()), "{refusal}");
    let second = world.submit(wanted);
    assert_eq!(phase(&world, second), Phase::Cancelled, "and stays visible");
    let (fence, _) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.succeed("studio", fence, new, 1);
    world.push("studio");
    assert_eq!(
        decide::retry_spec(&world.state, &new).unwrap_err().code(),
        "job.no-retry"
    );
}

#[test]
fn a_dead_letter_that_is_tried_again_leaves_the_dead_letters_and_gives_up_its_unique_key() {
    let mut world = World::studio();
    let old = world.submit(JobSpec {
        unique_key: Some("nightly".into()),
        ..spec("dream")
    });
    assert_eq!(phase(&world, old), Phase::Parked);
    let wanted = decide::retry_spec(&world.state, &old).unwrap();
    decide::check_spec(&world.state, &wanted, &world.policy).unwrap();
    let new = world.submit(wanted);
    assert_eq!(
        (phase(&world, old), phase(&world, new)),
        (Phase::Discarded, Phase::Parked)
    );
    assert_eq!(world.story(old).last().unwrap(), "job.discarded");
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_backlog_is_given_up_job_by_job_with_the_reason_and_nothing_else_is_touched() {
    let mut world = World::studio();
    let running = world.submit(spec("render"));
    let claimed = world.must_claim("studio", "render");
    let later = world.submit(JobSpec {
        not_before: Some(world.now + MINUTE),
        ..spec("render")
    });
    let ready = world.submit(spec("render"));
    let held = world.submit(spec("render"));
    let drafts = decide::hold(&world.state, &held, "").unwrap();
    world.decide(drafts);
    let other = world.submit(spec("pay"));
    assert!(
        decide::drain(&world.state, "render", "").is_err(),
        "never without a reason"
    );
    let drafts = decide::drain(&world.state, "render", "the machine was off for a week").unwrap();
    assert_eq!(drafts.len(), 3);
    let receipts = world.decide(drafts);
    for receipt in &receipts {
        let Ok(AnyDetail::JobDiscarded(told)) = receipt.statement().any_detail() else {
            panic!("a discard")
        };
        assert_eq!(
            (told.reason, told.note.as_str()),
            (DiscardReason::Drained, "the machine was off for a week")
        );
    }
    for job in [later, ready, held] {
        assert_eq!(phase(&world, job), Phase::Discarded);
    }
    assert_eq!(
        (phase(&world, running), phase(&world, other)),
        (Phase::Leased, Phase::Ready)
    );
    assert_eq!(decide::drain(&world.state, "render", "again").unwrap(), []);
    world.start("studio", claimed.0);
    world.succeed("studio", claimed.0, running, 1);
    world.push("studio");
    assert_eq!(phase(&world, running), Phase::Succeeded);
    assert!(world.claim("studio", "render").is_none());
}

#[test]
fn a_backlog_that_was_given_up_still_adopts_nothing() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let (fence, _) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.push("studio");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    let drafts = decide::failover(&world.state, &job, world.now, &world.policy, false).unwrap();
    world.decide(drafts);
    let drafts = decide::drain(&world.state, "render", "stale").unwrap();
    world.decide(drafts);
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(ledger_projections::queue::RunVerdict::Late(
            LateVerdict::Discarded
        ))
    );
    assert_eq!(phase(&world, job), Phase::Discarded);
}

#[test]
fn a_name_that_no_subject_can_hold_stops_neither_the_ticker_nor_a_declaration() {
    // Central's own words are bounded before they are sealed; an operator's or a hostile Central's are as they are.
    for name in ["two\nlines".to_owned(), "x".repeat(300), String::new()] {
        let mut world = World::studio();
        let paused = HandlerPaused {
            handler: name.clone(),
            until: Some(world.now + MINUTE),
            reason: String::new(),
        };
        let declared = HandlerDeclared {
            machine: machine("mini"),
            handler: name.clone(),
            class: Class::Light,
            labels: Vec::new(),
            slots: 1,
        };
        let subject = || Subject::new("s").unwrap();
        world.decide(vec![
            Draft::of(&paused, subject()),
            Draft::of(&declared, subject()),
        ]);
        assert!(world.state.queue().pause(&name).is_some());
        world.now += 2 * MINUTE;
        assert_eq!(world.tick().len(), 1, "its end came");
        assert!(world.state.queue().pause(&name).is_none());
        world.declare("mini", &[]);
        assert!(world.state.handler(&machine("mini"), &name).is_none());
        assert_eq!(world.inert(), 0);
    }
}

#[test]
fn a_job_that_somebody_holds_for_a_time_that_it_does_not_have_goes_on_with_the_next_tick() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let held = JobHeld {
        job,
        reason: HeldReason::NotBefore,
        note: String::new(),
    };
    world.decide(vec![Draft::of(&held, job.subject())]);
    assert_eq!(phase(&world, job), Phase::Held);
    world.tick();
    assert_eq!((phase(&world, job), world.inert()), (Phase::Ready, 0));
}
