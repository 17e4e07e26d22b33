//! The judge of a verification says of each record what it was permitted at its place in the order.

use crate::harness::World;
use ledger::Receipt;
use ledger::verify::{Authority, Judgement};
use ledger_core::kinds::{
    Credential, Evidence, InadmissibleReason, KeyRevoked, PinnedRange, ReceiptInadmissible,
};
use ledger_core::{Draft, Kind, SigningKey, Subject};
use ledger_projections::authority::FleetAuthority;
use ledger_projections::order;

fn judge(world: &World) -> Judgement {
    let mut judge = FleetAuthority::default();
    world.journal.iter().for_each(|receipt| judge.take(receipt));
    judge.finish()
}

fn note() -> Draft {
    Draft::custom(Kind::new("x.note").unwrap(), Subject::new("s").unwrap())
}

fn pin(world: &mut World, receipt: &Receipt) {
    let range = PinnedRange {
        log: receipt.log(),
        first: receipt.seq(),
        last: receipt.seq(),
        seal: receipt.seal_digest(),
        root: None,
    };
    world.decide(order::pin(&[range]));
}

#[test]
fn a_fleets_own_history_is_permitted_and_a_strangers_word_is_not() {
    let mut world = World::studio();
    let honest = judge(&world);
    assert_eq!(honest.found, []);
    assert!(honest.judged > 3 && honest.not_checked.is_none());
    let stranger = SigningKey::from_seed([99; 32]);
    let said = world.seal(world.order, note(), &stranger);
    let said = world.take(said);
    let found = judge(&world).found;
    let named: Vec<_> = found.iter().map(|f| (f.code, f.log, f.seq, f.id)).collect();
    let expected = ("authority.unknown-author", said.log(), said.seq(), said.id());
    assert_eq!(named, [expected]);
    // The order knows it and says so: told, and no finding for ever.
    let named = ReceiptInadmissible {
        record: Evidence {
            log: said.log(),
            seq: said.seq(),
            seal: said.seal_digest(),
        },
        id: said.id(),
        reason: InadmissibleReason::UnknownAuthor,
    };
    world.decide(vec![Draft::of(&named, Subject::new("receipt").unwrap())]);
    let judged = judge(&world);
    assert_eq!((judged.found.len(), judged.excused), (0, 1));
}

#[test]
fn a_record_of_another_log_is_judged_where_the_order_pins_it() {
    let mut world = World::studio();
    let node = &world.nodes["studio"];
    let (facts, actor) = (node.logs[1], node.actor.clone());
    let waits = judge(&world).waiting;
    let before = world.seal(facts, note(), &actor);
    let before = world.take(before);
    assert_eq!(judge(&world).waiting, waits + 1);
    pin(&mut world, &before);
    assert_eq!(judge(&world).waiting, 0);
    // Said before the revocation, pinned behind it.
    let after = world.seal(facts, note(), &actor);
    let after = world.take(after);
    world.rooted(&KeyRevoked {
        credential: Credential::Key(actor.public()),
        cut: Vec::new(),
        reason: "left the house".into(),
    });
    assert_eq!(judge(&world).found, []);
    pin(&mut world, &after);
    let judged = judge(&world);
    let named: Vec<_> = judged.found.iter().map(|f| (f.code, f.seq)).collect();
    assert_eq!(named, [("authority.not-permitted", after.seq())]);
}

#[test]
fn without_the_order_nobody_can_say() {
    let world = World::studio();
    let mut judge = FleetAuthority::default();
    let others = world
        .journal
        .iter()
        .filter(|receipt| receipt.log() != world.order);
    others.for_each(|receipt| judge.take(receipt));
    let judged = judge.finish();
    assert!(judged.not_checked.is_some() && judged.found.is_empty());
}

#[test]
fn nobody_but_central_excuses_what_was_not_permitted() {
    let mut world = World::studio();
    let stranger = SigningKey::from_seed([99; 32]);
    let said = world.seal(world.order, note(), &stranger);
    let said = world.take(said);
    let named = ReceiptInadmissible {
        record: said.evidence(),
        id: said.id(),
        reason: InadmissibleReason::UnknownAuthor,
    };
    let named = Draft::of(&named, Subject::new("receipt").unwrap());
    let named = world.seal(world.order, named, &stranger);
    world.take(named);
    let judged = judge(&world);
    assert_eq!((judged.found.len(), judged.excused), (2, 0));
}
