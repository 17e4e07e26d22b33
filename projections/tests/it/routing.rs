//! Which machine gets which job, and what a submitter is told.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_core::kinds::Class;
use ledger_projections::answer_for;
use ledger_projections::queue::{Phase, decide};

fn answer(world: &World, job: ledger_core::kinds::JobId) -> String {
    answer_for(&world.state, &job).unwrap().to_string()
}

#[test]
fn a_light_job_runs_on_the_gateway_when_the_gateway_declares_it() {
    let mut world = World::studio();
    let job = world.submit(spec("tidy"));
    assert_eq!(answer(&world, job), "queued, for gateway");
    assert!(world.claim("studio", "tidy").is_none());
    assert_eq!(world.must_claim("gateway", "tidy").1, job);
}

#[test]
fn a_light_job_runs_elsewhere_when_the_gateway_does_not_fit_it() {
    let mut world = World::studio();
    let mut wanted = spec("tidy");
    wanted.machine = Some(machine("studio"));
    let job = world.submit(wanted);
    assert!(world.claim("gateway", "tidy").is_none());
    assert_eq!(world.must_claim("studio", "tidy").1, job);
}

#[test]
fn a_machine_never_gets_a_handler_that_it_does_not_declare() {
    let mut world = World::studio();
    world.submit(spec("tidy"));
    world.declare("gateway", &[]);
    assert!(world.claim("mini", "tidy").is_none());
    assert!(world.claim("gateway", "tidy").is_none());
    assert!(world.claim("studio", "tidy").is_some());
}

#[test]
fn labels_must_all_be_there() {
    let mut world = World::studio();
    let mut wanted = spec("render");
    wanted.labels = vec!["gpu".into()];
    world.submit(wanted);
    assert!(world.claim("mini", "render").is_none());
    assert!(world.claim("studio", "render").is_some());
}

#[test]
fn a_backup_waits_for_the_failover_even_while_the_primary_is_lost() {
    let mut world = World::studio();
    world.silence("studio");
    let job = world.submit(spec("render"));
    assert_eq!(answer(&world, job), "queued, when studio reconnects");
    assert!(world.claim("mini", "render").is_none());
    world.back("studio");
    assert_eq!(answer(&world, job), "queued, for studio");
    assert!(world.claim("studio", "render").is_some());
}

#[test]
fn a_backup_runs_what_nobody_else_declares() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    world.declare("studio", &[]);
    assert_eq!(answer(&world, job), "queued, for mini");
    assert!(world.claim("mini", "render").is_some());
}

#[test]
fn after_the_failover_the_backup_gets_the_job_and_its_machine_does_not() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let (fence, job) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.push("studio");
    world.silence("studio");
    world.expire(job, fence);
    assert!(
        world.claim("mini", "render").is_none(),
        "suspect jobs are nobody's"
    );
    assert_eq!(
        decide::failover(&world.state, &job, world.now, &world.policy, false)
            .unwrap_err()
            .code(),
        "job.no-failover"
    );
    world.now += 5 * MINUTE;
    assert_eq!(decide::failovers_due(&world.state, world.now, false), [job]);
    let drafts = decide::failover(&world.state, &job, world.now, &world.policy, false).unwrap();
    world.decide(drafts);
    world.back("studio");
    assert!(world.claim("studio", "render").is_none());
    world.silence("mini");
    assert_eq!(
        answer(&world, job),
        "queued, for studio",
        "better the machine that lost it than nobody"
    );
    world.back("mini");
    assert_eq!(world.must_claim("mini", "render").1, job);
}

#[test]
fn failover_stands_still_while_central_sees_nobody() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let (fence, job) = world.must_claim("studio", "render");
    world.expire(job, fence);
    world.silence("studio");
    world.silence("mini");
    world.now += 60 * MINUTE;
    let refusal = decide::failover(&world.state, &job, world.now, &world.policy, false).unwrap_err();
    assert!(refusal.to_string().contains("cut off"), "{refusal}");
    assert_eq!(
        decide::failovers_due(&world.state, world.now, false),
        [],
        "nothing to write while it stands still"
    );
    world.back("mini");
    assert_eq!(
        decide::failover(&world.state, &job, world.now, &world.policy, false)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn an_unknown_handler_parks_the_job_and_its_declaration_frees_it() {
    let mut world = World::studio();
    let job = world.submit(spec("dream"));
    assert_eq!(
        answer(&world, job),
        "parked, no machine declares handler \"dream\""
    );
    assert_eq!(world.state.notices().count(), 1);
    world.declare("mini", &[("dream", Class::Heavy, &[])]);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Ready);
    assert_eq!(world.must_claim("mini", "dream").1, job);
}

#[test]
fn declaring_the_same_again_writes_nothing() {
    let mut world = World::studio();
    let before = world.journal.len();
    world.declare(
        "mini",
        &[
            ("pay", Class::Exclusive, &[]),
            ("render", Class::Heavy, &["backup"]),
        ],
    );
    assert_eq!(world.journal.len(), before);
    world.declare("mini", &[("pay", Class::Exclusive, &[])]);
    assert_eq!(world.journal.len(), before + 1, "render is withdrawn");
}

#[test]
fn a_retired_machine_gets_nothing() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let retired = ledger_core::kinds::NodeRetired {
        machine: machine("studio"),
        reason: "sold".into(),
    };
    world.rooted(&retired);
    let command = decide::ClaimCommand {
        machine: machine("studio"),
        incarnation: 1,
        claim: [1; 16],
        free: vec![("render".into(), 1)],
        term_ms: 1000,
        now: 0,
    };
    assert_eq!(
        decide::claim(&world.state, &command, &world.policy)
            .unwrap_err()
            .code(),
        "machine.retired"
    );
    assert!(
        world.claim("mini", "render").is_some(),
        "its backup is the only one left"
    );
}

#[test]
fn a_job_whose_only_machine_drains_or_is_quarantined_says_so() {
    use ledger_core::kinds::{NodeDraining, NodeQuarantined};
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let said = |world: &World| answer_for(&world.state, &job).unwrap().to_string();
    assert_eq!(said(&world), "queued, for studio");
    let (machine, reason) = (machine("studio"), "system update".to_owned());
    world.rooted(&NodeDraining {
        machine: machine.clone(),
        reason,
    });
    assert_eq!(said(&world), "queued, when studio gets work again: system update");
    assert_eq!(answer_for(&world.state, &job).unwrap().code(), "queued");
    let reason = String::new();
    world.rooted(&NodeQuarantined { machine, reason });
    assert_eq!(said(&world), "queued, when studio gets work again");
    world.silence("studio");
    assert_eq!(said(&world), "queued, when studio reconnects");
}
