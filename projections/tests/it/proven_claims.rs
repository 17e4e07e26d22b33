//! Results under a claim of an epoch's lost tail: what proves such a claim, and what a success under it is worth.

use crate::harness::{World, spec, success};
use ledger_core::Record;
use ledger_core::kinds::{AnyDetail, ErrorClass, Fence, JobId, LateVerdict, RunLost, SuccessVerdict};
use ledger_projections::queue::{Phase, RunVerdict, Standing, decide};

/// A fleet whose Central lost the order behind the acceptance of a job: what it is now, in the next epoch, and what it was when
/// studio claimed that job in the tail that is lost.
pub(crate) fn restored(handler: &str) -> (World, World, Fence, JobId, Record) {
    let mut now = World::studio();
    let job = now.submit(spec(handler));
    let mut then = now.clone();
    let (fence, _) = then.must_claim("studio", handler);
    let claimed = then.journal.last().unwrap().record.as_ref().clone();
    assert_eq!(claimed.statement().kind.as_str(), "job.claimed");
    // The machines lost nothing: they know what they claimed.
    now.nodes = then.nodes.clone();
    now.next_epoch();
    (now, then, fence, job, claimed)
}

fn prove(world: &mut World, record: &Record) -> Vec<ledger::Receipt> {
    let drafts = decide::prove_claim(&world.state, record).unwrap();
    world.decide(drafts)
}

#[test]
fn a_success_under_a_claim_of_an_epochs_lost_tail_is_adopted_and_the_claim_is_cited() {
    let (mut world, _, fence, job, claimed) = restored("render");
    assert_eq!(world.state.standing(&fence), Standing::Unknown);
    let proven = prove(&mut world, &claimed);
    let Ok(AnyDetail::JobClaimProven(cited)) = proven[0].statement().any_detail() else {
        panic!("a claim that is proven")
    };
    assert_eq!(
        (cited.fence, cited.job, cited.claimed.seq, cited.claimed.seal),
        (fence, job, claimed.seal().seq, claimed.seal_digest())
    );
    assert_eq!(
        (
            world.state.standing(&fence),
            world.state.job(&job).unwrap().phase()
        ),
        (Standing::Released, Phase::Ready),
        "it gives no right to run"
    );
    assert_eq!(prove(&mut world, &claimed), [], "known is known");
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::Adopted));
    assert!(world.claim("studio", "render").is_none(), "it does not run again");
    assert_eq!((world.inert(), world.state.notices().count()), (0, 0));
}

#[test]
fn an_exclusive_or_final_job_of_a_proven_claim_is_the_operators_to_decide() {
    let (mut world, _, fence, job, claimed) = restored("pay");
    prove(&mut world, &claimed);
    assert!(world.claim("studio", "pay").is_none(), "it may have taken effect");
    assert_eq!(world.state.notices().count(), 1);
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        (
            world.state.verdict(&fence, &report.id()),
            world.state.job(&job).unwrap().phase()
        ),
        (Some(RunVerdict::Late(LateVerdict::Superseded)), Phase::Held)
    );
    assert_eq!((world.state.notices().count(), world.inert()), (2, 0));
    // Held by somebody before, who knows nothing of that run.
    let (mut world, _, _, job, claimed) = restored("pay");
    let drafts = decide::hold(&world.state, &job, "the bank is closed").unwrap();
    world.decide(drafts);
    prove(&mut world, &claimed);
    assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Held);
    assert_eq!((world.state.notices().count(), world.inert()), (1, 0));
    // Final since: nobody who ended it could know of that run.
    let (mut world, _, fence, job, claimed) = restored("render");
    let drafts = decide::discard(&world.state, &job, "not wanted").unwrap();
    world.decide(drafts);
    prove(&mut world, &claimed);
    let report = world.succeed("studio", fence, job, 1);
    world.push("studio");
    assert_eq!(
        world.state.verdict(&fence, &report.id()),
        Some(RunVerdict::Late(LateVerdict::Discarded))
    );
    assert_eq!((world.state.notices().count(), world.inert()), (1, 0));
}

#[test]
fn an_exclusive_job_that_is_claimed_is_held_as_soon_as_that_claim_ends_when_a_lost_one_is_proven() {
    let mut now = World::studio();
    let (before, job) = now.running("studio", "pay");
    // What is lost: it failed there, and was given out again and done.
    let mut then = now.clone();
    then.fail("studio", before, job, ErrorClass::ExitStatus, false);
    let nodes = then.nodes.clone();
    then.push("studio");
    then.now += 3_600_000_000;
    then.tick();
    let (fence, _) = then.must_claim("studio", "pay");
    let claimed = then.journal.last().unwrap().record.as_ref().clone();
    assert!(fence > before);
    now.nodes = nodes;
    now.next_epoch();
    prove(&mut now, &claimed);
    assert_eq!(now.state.standing(&before), Standing::InForce);
    now.push("studio");
    now.now += 3_600_000_000;
    now.tick();
    assert_eq!(now.state.job(&job).unwrap().phase(), Phase::Held);
    let last = now.journal.last().unwrap();
    assert_eq!((now.inert(), last.kind()), (0, "notice.raised"));
}

#[test]
fn a_job_of_which_a_lost_order_tells_only_that_it_was_accepted_goes_on() {
    for (handler, ends) in [("render", Phase::Ready), ("nobody-runs-it", Phase::Parked)] {
        let mut then = World::studio();
        let mut now = then.clone();
        let job = then.submit(spec(handler));
        let known = now.journal.len();
        for receipt in &then.journal[known..] {
            now.take(receipt.clone());
            if receipt.kind() == "job.accepted" {
                break;
            }
        }
        assert_eq!(now.state.job(&job).unwrap().phase(), Phase::Accepted);
        now.next_epoch();
        now.tick();
        let row = now.state.job(&job).unwrap();
        assert_eq!((row.phase(), now.inert()), (ends, 0), "{handler}");
    }
}

#[test]
fn a_run_that_was_told_to_stop_by_somebody_whose_word_is_lost_is_charged_to_nobody() {
    for (handler, ends) in [("render", Phase::Ready), ("pay", Phase::Parked)] {
        let mut world = World::studio();
        let (fence, job) = world.running("studio", handler);
        let mut then = world.clone();
        let drafts = decide::cancel(&then.state, &job, false, "not wanted").unwrap();
        then.decide(drafts);
        then.fail("studio", fence, job, ErrorClass::Cancelled, false);
        world.nodes = then.nodes.clone();
        world.next_epoch();
        world.push("studio");
        let row = world.state.job(&job).unwrap();
        assert_eq!(
            (row.phase(), row.attempts, world.inert()),
            (ends, 0, 0),
            "{handler}"
        );
    }
}

#[test]
fn without_the_proof_the_result_is_rejected_and_nothing_else_proves_a_claim() {
    let (mut world, then, fence, job, claimed) = restored("render");
    let code = |world: &World, record: &Record| decide::prove_claim(&world.state, record).unwrap_err().code();
    // What stands in the order as it is here; a record that another key sealed; one that is no claim.
    let stands = then
        .journal
        .iter()
        .rev()
        .find(|r| r.kind() == "job.accepted")
        .unwrap();
    assert_eq!(code(&world, &stands.record), "claim.not-proven");
    let mut forged = claimed.clone();
    forged.set_log_signature(ledger_core::Signature([7; 64]));
    assert_eq!(code(&world, &forged), "claim.not-proven");
    let mut other = then.clone();
    other.expire(job, fence);
    let expired = other.journal.last().unwrap();
    assert_eq!(code(&world, &expired.record), "claim.not-proven");
    let report = world.work("studio", &RunLost { job, fence });
    let decided = world.push("studio");
    let Ok(AnyDetail::JobLateResult(late)) = decided[0].statement().any_detail() else {
        panic!("a verdict")
    };
    assert_eq!(
        (late.verdict, late.evidence),
        (LateVerdict::Rejected, report.evidence())
    );
    // In an epoch that goes on nothing is lost, so nothing is to be proven.
    let (going_on, claimed) = (then, claimed);
    assert_eq!(code(&going_on, &claimed), "claim.not-proven");
}

#[test]
fn a_proven_claim_of_a_job_that_runs_elsewhere_is_adopted_and_stops_the_newer_run() {
    let (mut world, _, fence, job, claimed) = restored("render");
    let (newer, _) = world.must_claim("studio", "render");
    assert!(newer > fence, "fences are ordered by epoch first");
    prove(&mut world, &claimed);
    assert_eq!(
        (world.state.standing(&fence), world.state.standing(&newer)),
        (Standing::Over, Standing::InForce)
    );
    world.succeed("studio", fence, job, 3);
    world.push("studio");
    assert_eq!(success(&world, job), (fence, SuccessVerdict::Adopted));
    assert_eq!(world.state.standing(&newer), Standing::Over);
}
