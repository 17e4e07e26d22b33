//! Claims are given once, in order, and a request is one job however often it is sealed.

use crate::harness::{MINUTE, SECOND, World, machine, spec};
use ledger_core::kinds::{AnyDetail, Fence, InadmissibleReason, JobId, RequestReceived};
use ledger_core::{Draft, Subject};
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};
use ledger_projections::queue::{JobState, Phase, Standing};

fn command(claim: u8) -> ClaimCommand {
    ClaimCommand {
        machine: machine("studio"),
        incarnation: 1,
        claim: [claim; 16],
        free: vec![("pay".into(), 1), ("render".into(), 1)],
        term_ms: 60_000,
        now: 1_750_000_000 * SECOND,
    }
}

#[test]
fn a_claim_id_repeated_returns_the_same_claim_and_its_present_standing() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let ClaimDecision::Claim(draft) = decide::claim(&world.state, &command(1), &world.policy).unwrap() else {
        panic!("a job")
    };
    let receipt = world.decide(vec![draft]).remove(0);
    let fence = Fence::of_claim(1, receipt.seq(), &receipt.seal_digest());
    let job = world.state.fence(&fence).unwrap().job;
    world.submit(spec("render"));
    let again = |world: &World| decide::claim(&world.state, &command(1), &world.policy).unwrap();
    assert_eq!(
        again(&world),
        ClaimDecision::Already {
            fence,
            job,
            standing: Standing::InForce
        }
    );
    let drafts = decide::cancel(&world.state, &job, true, "no").unwrap();
    world.decide(drafts);
    assert_eq!(
        again(&world),
        ClaimDecision::Already {
            fence,
            job,
            standing: Standing::Over
        }
    );
}

#[test]
fn two_claims_in_one_commit_see_each_other() {
    let mut world = World::studio();
    world.submit(spec("render"));
    assert!(world.claim("studio", "render").is_some());
    assert!(world.claim("studio", "render").is_none());
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let mut world = World::studio();
    let mut jobs = Vec::new();
    for (handler, priority) in [("render", 0), ("render", 5), ("pay", 5), ("render", -1)] {
        let mut wanted = spec(handler);
        wanted.priority = priority;
        jobs.push(world.submit(wanted));
    }
    let mut given = Vec::new();
    for n in 0..4 {
        let mut asked = command(1);
        asked.claim = decide::nth_claim_id(&asked.claim, n);
        let ClaimDecision::Claim(draft) = decide::claim(&world.state, &asked, &world.policy).unwrap() else {
            panic!("a job")
        };
        let receipt = world.decide(vec![draft]).remove(0);
        given.push(
            world
                .state
                .fence(&Fence::of_claim(1, receipt.seq(), &receipt.seal_digest()))
                .unwrap()
                .job,
        );
    }
    assert_eq!(given, [jobs[1], jobs[2], jobs[0], jobs[3]]);
}

#[test]
fn a_request_sealed_at_a_node_and_at_central_is_one_job() {
    let mut world = World::studio();
    let (actor, facts) = (world.nodes["studio"].actor.clone(), world.nodes["studio"].logs[1]);
    let id = ledger_core::ReceiptId::v7(5, [1; 10]);
    let draft = Draft::of(
        &RequestReceived { spec: spec("render") },
        Subject::new("r").unwrap(),
    )
    .id(id);
    let offline = world.seal(facts, draft.clone(), &actor);
    let order = world.order;
    let online = world.seal(order, draft, &actor);
    let online = world.take(online);
    assert_eq!(world.accept(&online).len(), 2);
    let offline = world.take(offline);
    assert_eq!(world.accept(&offline), [], "accepted before");
    assert_eq!(world.state.jobs().count(), 1);
    assert!(
        world
            .state
            .job(&JobId::of_request(&actor.public(), &id))
            .is_some()
    );
}

#[test]
fn a_request_of_a_stranger_is_named_inadmissible() {
    let mut world = World::studio();
    let stranger = ledger_core::SigningKey::from_seed([99; 32]);
    let draft = Draft::of(
        &RequestReceived { spec: spec("render") },
        Subject::new("r").unwrap(),
    );
    let order = world.order;
    let receipt = world.seal(order, draft, &stranger);
    let receipt = world.take(receipt);
    let kinds: Vec<String> = world
        .accept(&receipt)
        .iter()
        .map(|r| r.kind().to_owned())
        .collect();
    assert_eq!(kinds, ["receipt.inadmissible"]);
    assert_eq!(world.state.jobs().count(), 0);
}

#[test]
fn a_request_in_a_work_log_is_in_the_wrong_stream() {
    let mut world = World::studio();
    let receipt = world.work("studio", &RequestReceived { spec: spec("render") });
    let receipt = world.take(receipt);
    let verdicts = world.accept(&receipt);
    let Ok(AnyDetail::ReceiptInadmissible(named)) = verdicts[0].statement().any_detail() else {
        panic!("a verdict")
    };
    assert_eq!(named.reason, InadmissibleReason::WrongStream);
    assert_eq!(world.state.jobs().count(), 0);
}

#[test]
fn a_held_unique_key_refuses_the_request_and_cancels_one_that_was_sealed_already() {
    let mut world = World::studio();
    let mut wanted = spec("render");
    wanted.unique_key = Some("nightly".into());
    let first = world.submit(wanted.clone());
    let refusal = decide::check_spec(&world.state, &wanted, &world.policy).unwrap_err();
    assert_eq!(refusal.code(), "request.unique-key");
    let second = world.submit(wanted.clone());
    assert_eq!(world.state.job(&second).unwrap().phase(), Phase::Cancelled);
    let drafts = decide::cancel(&world.state, &first, false, "").unwrap();
    world.decide(drafts);
    decide::check_spec(&world.state, &wanted, &world.policy).expect("the key is free again");
}

#[test]
fn a_request_beyond_its_bounds_is_refused_by_name() {
    let world = World::studio();
    for (field, change) in [
        (
            "handler",
            (|s| s.handler = String::new()) as fn(&mut ledger_core::kinds::JobSpec),
        ),
        ("attempts_max", |s| s.attempts_max = 0),
        ("labels", |s| s.labels = vec!["x".repeat(65)]),
        ("depends_on", |s| {
            s.depends_on = vec![JobId(ledger_core::ReceiptId([7; 16])); 17];
        }),
        ("deadline", |s| (s.not_before, s.deadline) = (Some(5), Some(5))),
    ] {
        let mut wanted = spec("render");
        change(&mut wanted);
        let refusal = decide::check_spec(&world.state, &wanted, &world.policy).unwrap_err();
        assert_eq!(refusal.code(), "request.spec");
        assert!(refusal.to_string().contains(field), "{refusal}");
    }
}

#[test]
fn a_scheduled_job_is_ready_when_its_time_came() {
    let mut world = World::studio();
    let mut wanted = spec("render");
    wanted.not_before = Some(world.now + MINUTE);
    let job = world.submit(wanted);
    assert!(matches!(
        world.state.job(&job).unwrap().state,
        JobState::Scheduled { .. }
    ));
    assert_eq!(decide::due(&world.state, world.now, &world.policy), []);
    world.now += MINUTE;
    let drafts = decide::due(&world.state, world.now, &world.policy);
    world.decide(drafts);
    assert_eq!(world.must_claim("studio", "render").1, job);
    assert_eq!(decide::due(&world.state, world.now + MINUTE, &world.policy), []);
}
