//! A machine's clock that is far off: what it says is kept and pinned; what lies in the future is named and inert.

use crate::harness::{MINUTE, World, machine};
use ledger::Receipt;
use ledger_core::kinds::{AnyDetail, InadmissibleReason};
use ledger_core::{Draft, Kind, Stream, Subject};
use ledger_projections::central::admit;

const TWO_DAYS: i64 = 2 * 24 * 60 * MINUTE;

// A note that the studio seals while its clock is off, as Central takes it in: the verdicts on it, and whether it is pinned.
fn noted(world: &mut World, off: i64) -> (Vec<InadmissibleReason>, bool) {
    let right = world.now;
    world.now += off;
    let (key, facts) = (world.nodes["studio"].key.clone(), world.nodes["studio"].logs[1]);
    let note = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("chat/1").unwrap());
    let note = world.seal(facts, note, &key);
    world.now = right;
    let note = world.take(note);
    let before = world.journal.len();
    let policy = world.policy;
    let new = [note.clone()];
    admit(world, &new, &[], Stream::Facts, None, &machine("studio"), &policy).unwrap();
    let verdict = |receipt: &Receipt| match receipt.statement().any_detail() {
        Ok(AnyDetail::ReceiptInadmissible(said)) if said.record == note.evidence() => Some(said.reason),
        _ => None,
    };
    let verdicts = world.journal[before..].iter().filter_map(verdict).collect();
    let pinned = world.state.pin(&facts).is_some_and(|pin| pin.seq == note.seq());
    (verdicts, pinned)
}

#[test]
fn a_fact_from_the_future_is_kept_pinned_and_named_and_the_past_is_no_fault() {
    let mut world = World::studio();
    assert_eq!(noted(&mut world, -TWO_DAYS), (Vec::new(), true));
    assert_eq!(noted(&mut world, MINUTE / 2), (Vec::new(), true));
    let out_of_bounds = vec![InadmissibleReason::ClockOutOfBounds];
    assert_eq!(noted(&mut world, TWO_DAYS), (out_of_bounds.clone(), true));
    // The log's time never runs backwards, so what follows is as far off although the clock is right again.
    assert_eq!(noted(&mut world, 0), (out_of_bounds, true));
    world.now += TWO_DAYS;
    assert_eq!(noted(&mut world, 0), (Vec::new(), true));
}
