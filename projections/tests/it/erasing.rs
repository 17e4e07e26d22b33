//! A statement may be sealed at a node and in the order; what is erased in one of these places is erased in all.

use crate::harness::{World, machine, spec};
use ledger::Receipt;
use ledger_core::kinds::{Erased, Evidence, RequestReceived};
use ledger_core::{Draft, ReceiptId, Stream, Subject};
use ledger_projections::central::{OrderTx, admit};

/// A request of a person at studio, sealed in studio's facts and in the order; the gateway has the latter alone.
fn sealed_twice(world: &mut World) -> (Receipt, Receipt) {
    let node = &world.nodes["studio"];
    let (actor, facts, order) = (node.actor.clone(), node.logs[1], world.order);
    let draft = Draft::of(
        &RequestReceived { spec: spec("render") },
        Subject::new("request").unwrap(),
    );
    let draft = draft.payload("text/plain", b"a name".to_vec()).unwrap();
    let draft = draft.id(ReceiptId::v7(5, [1; 10]));
    let offline = world.seal(facts, draft.clone(), &actor);
    let online = world.seal(order, draft, &actor);
    let online = world.take(online);
    world.accept(&online);
    (online, offline)
}

fn brings(world: &mut World, receipt: Receipt) {
    let receipt = world.take(receipt);
    let policy = world.policy;
    admit(
        world,
        &[receipt],
        &[],
        Stream::Facts,
        None,
        &machine("studio"),
        &policy,
    )
    .unwrap();
}

/// What the order says is erased.
fn erased(world: &World) -> Vec<Evidence> {
    let in_order = world.journal.iter().filter(|r| r.log() == world.order);
    in_order
        .filter_map(ledger::erase::said)
        .map(|said: Erased| said.record)
        .collect()
}

#[test]
fn what_was_erased_where_it_was_sealed_first_is_erased_where_a_machine_brings_it_again() {
    let mut world = World::studio();
    let (online, offline) = sealed_twice(&mut world);
    world.decide(vec![ledger::erase::draft(&online, "they asked for it").unwrap()]);
    let again = offline.evidence();
    brings(&mut world, offline);
    assert_eq!(erased(&world), [online.evidence(), again]);
    assert_eq!(world.inert(), 0);
}

#[test]
fn what_a_person_erases_at_a_node_is_erased_where_it_was_sealed_besides() {
    let mut world = World::studio();
    let (online, offline) = sealed_twice(&mut world);
    let (actor, facts) = (world.nodes["studio"].actor.clone(), world.nodes["studio"].logs[1]);
    let target = offline.evidence();
    brings(&mut world, offline.clone());
    assert_eq!(
        erased(&world),
        [],
        "it is in two places, and nobody asked for anything"
    );
    let said = ledger::erase::draft(&offline, "they asked for it").unwrap();
    let said = world.seal(facts, said, &actor);
    brings(&mut world, said);
    assert_eq!(erased(&world), [target, online.evidence()]);
    assert!(world.is_erased(&target).unwrap());
    assert_eq!(world.inert(), 0);
}
