//! Leases by the clock of Central, and what follows when they run out: suspicion, failover, a return, a run that is given back.

use crate::harness::{MINUTE, SECOND, World, machine, nothing_held};
use ledger_core::kinds::{
    AnyDetail, Class, ErrorClass, Fence, JobCancelled, JobId, LateVerdict, ParkedReason, RunCheckpointed,
    RunYielded,
};
use ledger_projections::answer_for;
use ledger_projections::central::{self, Due, Heard, Leases};
use ledger_projections::queue::{JobState, Phase, RunVerdict, Standing, decide};

/// A lease as the tests' policy has it, in milliseconds.
const TERM_MS: u64 = 60_000;

fn phase(world: &World, job: JobId) -> Phase {
    world.state.job(&job).unwrap().phase()
}

/// The ticker writes what it found due, `now_ms` by the clock of the leases.
fn tick(world: &mut World, leases: &mut Leases, now_ms: u64) {
    let due = Due {
        over: central::overdue(&world.state, &[], leases, now_ms),
        ..Due::default()
    };
    let policy = world.policy;
    central::tick(
        world,
        &due,
        &nothing_held(),
        |fence| leases.is_over(fence, now_ms),
        &policy,
    )
    .unwrap();
}

/// A beat of a machine that says which claims go on.
fn beat(world: &World, leases: &mut Leases, name: &str, fences: &[Fence], now_ms: u64) -> Vec<Standing> {
    let reply = central::beat(&world.state, &machine(name), fences);
    for fence in &reply.renewed {
        leases.renew(fence, now_ms);
    }
    reply.standing.into_iter().map(|(_, standing)| standing).collect()
}

#[test]
fn a_lease_lasts_a_term_from_each_beat_and_no_longer() {
    let mut world = World::studio();
    let mut leases = Leases::new(TERM_MS);
    let (fence, job) = world.running("studio", "render");
    leases.renew(&fence, 0);
    for now_ms in [15_000, 30_000, 45_000] {
        assert_eq!(
            beat(&world, &mut leases, "studio", &[fence], now_ms),
            [Standing::InForce]
        );
    }
    // Another machine's word for it renews nothing.
    beat(&world, &mut leases, "mini", &[fence], 60_000);
    tick(&mut world, &mut leases, 45_000 + TERM_MS - 1);
    assert_eq!(phase(&world, job), Phase::Leased);
    tick(&mut world, &mut leases, 45_000 + TERM_MS);
    assert_eq!(phase(&world, job), Phase::Suspect);
}

#[test]
fn a_beat_between_the_look_and_the_commit_saves_the_lease() {
    let mut world = World::studio();
    let mut leases = Leases::new(TERM_MS);
    let (fence, job) = world.running("studio", "render");
    leases.renew(&fence, 0);
    let due = Due {
        over: central::overdue(&world.state, &[], &mut leases, TERM_MS),
        ..Due::default()
    };
    assert_eq!(due.over, [fence]);
    beat(&world, &mut leases, "studio", &[fence], TERM_MS);
    let policy = world.policy;
    central::tick(
        &mut world,
        &due,
        &nothing_held(),
        |fence| leases.is_over(fence, TERM_MS),
        &policy,
    )
    .unwrap();
    assert_eq!(phase(&world, job), Phase::Leased);
}

#[test]
fn lease_clocks_stand_still_while_central_cannot_serve_and_begin_anew_after_its_restart() {
    let mut world = World::studio();
    let mut leases = Leases::new(TERM_MS);
    let (fence, job) = world.running("studio", "render");
    leases.renew(&fence, 0);
    leases.slept(3_600_000);
    tick(&mut world, &mut leases, 3_600_000 + TERM_MS - 1);
    assert_eq!(phase(&world, job), Phase::Leased);
    // A new process, or an epoch: the first look gives what it finds a full term.
    let mut leases = Leases::new(TERM_MS);
    let begins = 9_000_000;
    tick(&mut world, &mut leases, begins);
    tick(&mut world, &mut leases, begins + TERM_MS - 1);
    assert_eq!(phase(&world, job), Phase::Leased);
    tick(&mut world, &mut leases, begins + TERM_MS);
    assert_eq!(phase(&world, job), Phase::Suspect);
}

#[test]
fn a_beat_tells_the_machine_what_became_of_each_of_its_claims() {
    let mut world = World::studio();
    let mut leases = Leases::new(TERM_MS);
    let (running, job) = world.running("studio", "render");
    let (over, ended) = world.running("studio", "pay");
    let told = |world: &World, leases: &mut Leases| beat(world, leases, "studio", &[running, over], 1);
    assert_eq!(told(&world, &mut leases), [Standing::InForce; 2]);
    let drafts = decide::cancel(&world.state, &job, false, "no").unwrap();
    world.decide(drafts);
    let drafts = decide::cancel(&world.state, &ended, true, "no").unwrap();
    world.decide(drafts);
    assert_eq!(
        told(&world, &mut leases),
        [Standing::CancelAsked, Standing::Over],
        "whoever missed it in the order hears it with the next beat"
    );
}

#[test]
fn a_machine_is_lost_after_a_minute_of_silence_whatever_else() {
    let world = World::studio();
    let lost = |heard_ms: Option<u64>, now_ms: u64| {
        let heard = |id: &ledger_core::MachineId| {
            let last_ms = if *id == machine("mini") {
                Some(now_ms)
            } else {
                heard_ms
            };
            last_ms.map(|last_ms| Heard {
                first_us: 0,
                last_us: 5,
                last_ms,
            })
        };
        let due = central::silences(&world.state, heard, |_| Some(7), 1_000, now_ms, &world.policy);
        due.lost
    };
    assert_eq!(lost(Some(2_000), 61_999), []);
    assert_eq!(lost(Some(2_000), 62_000), [(machine("studio"), 5)]);
    // Never heard by this process: its silence counts from the start of Central.
    assert_eq!(lost(None, 60_999), []);
    assert_eq!(lost(None, 61_000).len(), 1);
}

#[test]
fn a_backup_gets_the_last_progress_checkpoint_with_its_claim() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    for _ in 0..2 {
        world.work("studio", &RunCheckpointed { job, fence });
    }
    world.push("studio");
    let last = world.state.job(&job).unwrap().progress.unwrap();
    world.silence("studio");
    world.expire(job, fence);
    world.now += 6 * MINUTE;
    world.fail_over(job);
    world.must_claim("mini", "render");
    let Ok(AnyDetail::JobClaimed(claimed)) = world.journal.last().unwrap().statement().any_detail() else {
        panic!("a claim")
    };
    assert_eq!((claimed.machine, claimed.progress), (machine("mini"), Some(last)));
    assert_eq!((last.log, claimed.attempt), (world.nodes["studio"].logs[0], 1));
}

#[test]
fn a_machine_that_is_back_after_a_backup_claimed_is_told_that_its_claim_is_over() {
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    world.back("studio");
    assert_eq!(world.hello("studio"), [], "nothing goes on under the older claim");
    assert_eq!(
        (world.state.standing(&old), world.state.standing(&new)),
        (Standing::Over, Standing::InForce)
    );
    // It stops, and says so: its own verdict, and no charge to the job.
    let stopped = world.fail("studio", old, job, ErrorClass::Cancelled, false);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &stopped.id()),
        Some(RunVerdict::Late(LateVerdict::Stale))
    );
    assert_eq!(phase(&world, job), Phase::Leased);
}

#[test]
fn a_probe_that_answers_stands_for_the_machines_that_are_not_heard() {
    let mut world = World::studio();
    // The gateway itself is the backup, and hears nobody.
    world.declare(
        "gateway",
        &[("render", Class::Heavy, &["backup"]), ("tidy", Class::Light, &[])],
    );
    let (fence, job) = world.running("studio", "render");
    for name in ["studio", "mini"] {
        world.silence(name);
    }
    world.expire(job, fence);
    world.now += 5 * MINUTE;
    let answer = answer_for(&world.state, &job).unwrap().to_string();
    assert!(
        answer.contains("but not yet: no other machine is heard"),
        "it stands still and says so: {answer}"
    );
    assert_eq!(decide::failovers_due(&world.state, world.now, false), []);
    assert_eq!(decide::failovers_due(&world.state, world.now, true), [job]);
    let due = Due {
        outside: true,
        ..Due::default()
    };
    let policy = world.policy;
    assert!(!due.is_quiet(&world.state, world.now, &policy));
    central::tick(&mut world, &due, &nothing_held(), |_| false, &policy).unwrap();
    assert_eq!(world.must_claim("gateway", "render").1, job);
}

#[test]
fn a_suspect_job_that_is_cancelled_ends_when_its_machine_says_so_or_its_failover_comes() {
    for returns in [true, false] {
        let mut world = World::studio();
        let (fence, job) = world.running("studio", "render");
        world.expire(job, fence);
        let drafts = decide::cancel(&world.state, &job, false, "no").unwrap();
        world.decide(drafts);
        assert_eq!(phase(&world, job), Phase::Suspect, "nobody knows that it stopped");
        if returns {
            world.fail("studio", fence, job, ErrorClass::Cancelled, false);
            world.push("studio");
        } else {
            world.silence("studio");
            world.now += 5 * MINUTE;
            world.fail_over(job);
        }
        assert_eq!(phase(&world, job), Phase::Cancelled, "back: {returns}");
        assert!(world.claim("mini", "render").is_none());
    }
}

#[test]
fn a_run_that_is_given_back_is_ready_again_uncharged_unless_it_may_have_taken_effect() {
    for (handler, expected, losses) in [
        ("render", JobState::Ready, 0),
        ("pay", JobState::Parked(ParkedReason::ExclusiveLost), 1),
    ] {
        let mut world = World::studio();
        let (fence, job) = world.running("studio", handler);
        world.work("studio", &RunYielded { job, fence });
        world.push("studio");
        let row = world.state.job(&job).unwrap();
        assert_eq!((&row.state, row.attempts, row.losses), (&expected, 0, losses));
    }
    // Too late it changes nothing, and has its verdict all the same.
    let mut world = World::studio();
    let (old, new, job) = world.failed_over();
    let yielded = world.work("studio", &RunYielded { job, fence: old });
    world.push("studio");
    assert_eq!(
        world.state.verdict(&old, &yielded.id()),
        Some(RunVerdict::Late(LateVerdict::Stale))
    );
    assert_eq!(world.state.standing(&new), Standing::InForce);
}

#[test]
fn a_machine_that_writes_a_decision_itself_decides_nothing() {
    let mut world = World::studio();
    let (fence, job) = world.running("studio", "render");
    world.now += SECOND;
    let decision = JobCancelled {
        job,
        fence: Some(fence),
        evidence: None,
    };
    world.work("studio", &decision);
    assert_eq!(world.push("studio"), [], "nothing of the queue follows from it");
    assert_eq!(
        (phase(&world, job), world.state.standing(&fence)),
        (Phase::Leased, Standing::InForce)
    );
}
